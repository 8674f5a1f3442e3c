//! How often each kind of event met each pair of lease state and stream phase in a leader.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use operator_core::event::{Closed, Listed, Report, WriteOutcome};
use operator_core::ids::{SessionId, StreamRef, Uid};
use operator_core::status::Phase;
use operator_core::{Event, LeaseState, State};

/// Kinds of events, told apart as finely as the core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StreamSeen,
    StreamGone,
    PoolSeen,
    PoolGone,
    NodeSeen,
    NodeGone,
    SecretSeen,
    SecretGone,
    ServiceCidrSeen,
    ServiceCidrGone,
    ListedStreams,
    ListedPools,
    ListedNodes,
    ListedSecrets,
    ListedServiceCidrs,
    ConfirmedFound,
    ConfirmedNotFound,
    AbsenceConfirmed,
    Written,
    Conflict,
    Refused,
    NotFound,
    Unknown,
    Hello,
    Inventory,
    Beat,
    Assigned,
    BindFailed,
    Closed,
    Publisher,
    Media,
    Scan,
    ShardStuck,
    SessionClosed,
    WorkerDegraded,
    WorkerLost,
    Lead,
    TermRecorded,
    Demoted,
    Tick,
}

/// All of them.
pub(crate) const KINDS: [Kind; 40] = [
    Kind::StreamSeen,
    Kind::StreamGone,
    Kind::PoolSeen,
    Kind::PoolGone,
    Kind::NodeSeen,
    Kind::NodeGone,
    Kind::SecretSeen,
    Kind::SecretGone,
    Kind::ServiceCidrSeen,
    Kind::ServiceCidrGone,
    Kind::ListedStreams,
    Kind::ListedPools,
    Kind::ListedNodes,
    Kind::ListedSecrets,
    Kind::ListedServiceCidrs,
    Kind::ConfirmedFound,
    Kind::ConfirmedNotFound,
    Kind::AbsenceConfirmed,
    Kind::Written,
    Kind::Conflict,
    Kind::Refused,
    Kind::NotFound,
    Kind::Unknown,
    Kind::Hello,
    Kind::Inventory,
    Kind::Beat,
    Kind::Assigned,
    Kind::BindFailed,
    Kind::Closed,
    Kind::Publisher,
    Kind::Media,
    Kind::Scan,
    Kind::ShardStuck,
    Kind::SessionClosed,
    Kind::WorkerDegraded,
    Kind::WorkerLost,
    Kind::Lead,
    Kind::TermRecorded,
    Kind::Demoted,
    Kind::Tick,
];

const PHASES: usize = Phase::ALL.len();
const LEASES: usize = LeaseState::ALL.len();

/// An event of a kind that meets a stream in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) kind: Kind,
    pub(crate) lease: LeaseState,
    pub(crate) phase: Phase,
}

/// Counts by kind, lease state and phase.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; KINDS.len() * LEASES * PHASES] }
    }
}

impl Coverage {
    /// Counts an event that is about to be observed by a leader. `write_of` is the stream of a write that it follows.
    pub(crate) fn count(&mut self, event: &Event, core: &State, write_of: Option<&Uid>) {
        let (kind, about) = kind(event, write_of);
        match about {
            // What is not known as a stream is a new one, or a claim that outlived it.
            About::Stream(uid) => {
                if let Some((lease, phase)) = core.stream_state(uid) {
                    self.hit(kind, lease, phase);
                }
            }
            // Of a stream that has moved, its former worker speaks of the former lease.
            About::Lease(session, stream) => {
                if let Some((lease, phase)) = core.reported_state(session, stream) {
                    self.hit(kind, lease, phase);
                }
            }
            About::All => {
                for (lease, phase) in core.stream_states() {
                    self.hit(kind, lease, phase);
                }
            }
            About::Nothing => {}
        }
    }

    /// How often such an event has met such a stream.
    pub(crate) fn hits(&self, kind: Kind, lease: LeaseState, phase: Phase) -> u64 {
        self.counts[index(kind, lease, phase)]
    }

    fn hit(&mut self, kind: Kind, lease: LeaseState, phase: Phase) {
        self.counts[index(kind, lease, phase)] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (here, there) in self.counts.iter_mut().zip(&other.counts) {
            *here += there;
        }
    }

    /// What is wrong with it: pairs hit less than `least` times that are not in the table of the unreachable, and pairs
    /// in that table which were hit.
    pub(crate) fn judge(&self, unreachable: &str, least: u64) -> Vec<String> {
        let unreachable = parse(unreachable);
        let mut wrong = Vec::new();
        for (name, count) in self.all() {
            match unreachable.iter().find(|pattern| pattern.matches(&name)) {
                Some(_) if count > 0 => {
                    wrong.push(format!("{}: listed as unreachable, hit {count} times", name.join(" ")))
                }
                None if count < least => wrong.push(format!("{}: hit {count} times", name.join(" "))),
                Some(_) | None => {}
            }
        }
        wrong
    }

    /// Pairs that were hit less than `least` times, and that are not said to be unreachable.
    pub(crate) fn below(&self, unreachable: &str, least: u64) -> Vec<Pair> {
        let unreachable = parse(unreachable);
        let is_reachable = |pair: &Pair| !unreachable.iter().any(|pattern| pattern.matches(&pair.name()));
        Pair::all()
            .filter(|pair| self.hits(pair.kind, pair.lease, pair.phase) < least)
            .filter(is_reachable)
            .collect()
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ([kind, lease, phase], count) in self.all() {
            rows.entry(format!("{lease:9} {phase:11}")).or_default().push(format!("{kind}={count}"));
        }
        let mut text = String::new();
        for (state, counts) in rows {
            let _ = writeln!(text, "{state} {}", counts.join(" "));
        }
        text
    }

    fn all(&self) -> impl Iterator<Item = ([String; 3], u64)> + '_ {
        Pair::all().map(|pair| (pair.name(), self.hits(pair.kind, pair.lease, pair.phase)))
    }
}

impl Pair {
    fn all() -> impl Iterator<Item = Pair> {
        KINDS.into_iter().flat_map(|kind| {
            LeaseState::ALL
                .into_iter()
                .flat_map(move |lease| Phase::ALL.into_iter().map(move |phase| Pair { kind, lease, phase }))
        })
    }

    pub(crate) fn name(&self) -> [String; 3] {
        [format!("{:?}", self.kind), format!("{:?}", self.lease), format!("{:?}", self.phase)]
    }

    /// As it was printed: its three names.
    pub(crate) fn parse(text: &str) -> Option<Pair> {
        Pair::all().find(|pair| pair.name().join(" ") == text)
    }
}

/// A line of the table of the unreachable: kind, lease state and phase, each `*` or names with `|` between them, then why.
struct Pattern<'a>([&'a str; 3]);

impl Pattern<'_> {
    fn matches(&self, name: &[String; 3]) -> bool {
        self.0.iter().zip(name).all(|(pattern, name)| {
            *pattern == "*" || pattern.split('|').any(|alternative| alternative == name)
        })
    }
}

fn parse(table: &str) -> Vec<Pattern<'_>> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(4).collect();
            let [kind, lease, phase, _why] = words[..] else { panic!("no reason given: {line}") };
            Pattern([kind, lease, phase])
        })
        .collect()
}

fn index(kind: Kind, lease: LeaseState, phase: Phase) -> usize {
    let lease = LeaseState::ALL.iter().position(|known| *known == lease).expect("ALL has all of them");
    let phase = Phase::ALL.iter().position(|known| *known == phase).expect("ALL has all of them");
    (kind as usize * LEASES + lease) * PHASES + phase
}

/// What an event may change.
enum About<'a> {
    /// A stream.
    Stream(&'a Uid),
    /// A lease, by the word of a worker.
    Lease(SessionId, &'a StreamRef),
    /// Any stream.
    All,
    /// The end of a pool's write, or of a write of an earlier lead: of no stream.
    Nothing,
}

/// Its kind, and what it is about.
fn kind<'a>(event: &'a Event, write_of: Option<&'a Uid>) -> (Kind, About<'a>) {
    match event {
        Event::StreamSeen(object) => (Kind::StreamSeen, About::Stream(&object.uid)),
        Event::StreamGone { uid } => (Kind::StreamGone, About::Stream(uid)),
        Event::PoolSeen(_) => (Kind::PoolSeen, About::All),
        Event::PoolGone { .. } => (Kind::PoolGone, About::All),
        Event::NodeSeen(_) => (Kind::NodeSeen, About::All),
        Event::NodeGone { .. } => (Kind::NodeGone, About::All),
        Event::SecretSeen { .. } => (Kind::SecretSeen, About::All),
        Event::SecretGone { .. } => (Kind::SecretGone, About::All),
        Event::ServiceCidrSeen { .. } => (Kind::ServiceCidrSeen, About::All),
        Event::ServiceCidrGone { .. } => (Kind::ServiceCidrGone, About::All),
        Event::Listed(Listed::Streams { .. }) => (Kind::ListedStreams, About::All),
        Event::Listed(Listed::Pools { .. }) => (Kind::ListedPools, About::All),
        Event::Listed(Listed::Nodes { .. }) => (Kind::ListedNodes, About::All),
        Event::Listed(Listed::Secrets { .. }) => (Kind::ListedSecrets, About::All),
        Event::Listed(Listed::ServiceCidrs { .. }) => (Kind::ListedServiceCidrs, About::All),
        Event::Confirmed { uid, found: Some(_) } => (Kind::ConfirmedFound, About::Stream(uid)),
        Event::Confirmed { uid, found: None } => (Kind::ConfirmedNotFound, About::Stream(uid)),
        // A list that went back, which follows, does the same to all.
        Event::Forgotten { uid: _ } => (Kind::ConfirmedNotFound, About::Nothing),
        Event::AbsenceConfirmed => (Kind::AbsenceConfirmed, About::All),
        Event::Write { id: _, outcome } => {
            (outcome_kind(outcome), write_of.map_or(About::Nothing, About::Stream))
        }
        Event::Hello { .. } => (Kind::Hello, About::All),
        Event::Inventory { .. } => (Kind::Inventory, About::All),
        Event::Beat { .. } => (Kind::Beat, About::All),
        Event::Report { session, report } => {
            let about = match report {
                Report::Assigned { stream, .. }
                | Report::BindFailed { stream, .. }
                | Report::Closed(Closed { stream, .. })
                | Report::PortsClosed { stream, .. }
                | Report::Arrived { stream, .. }
                | Report::Publisher { stream, .. }
                | Report::Media { stream, .. } => About::Lease(*session, stream),
                Report::Scan { .. } | Report::ShardStuck { .. } => About::All,
            };
            (report_kind(report), about)
        }
        Event::SessionClosed { .. } => (Kind::SessionClosed, About::All),
        Event::WorkerDegraded { .. } => (Kind::WorkerDegraded, About::All),
        Event::WorkerLost { .. } => (Kind::WorkerLost, About::All),
        Event::Lead { .. } => (Kind::Lead, About::All),
        Event::TermRecorded { .. } => (Kind::TermRecorded, About::All),
        Event::Demoted => (Kind::Demoted, About::All),
        Event::Tick => (Kind::Tick, About::All),
    }
}

/// The kind of the end of a write.
pub(crate) fn outcome_kind(outcome: &WriteOutcome) -> Kind {
    match outcome {
        WriteOutcome::Written { .. } => Kind::Written,
        WriteOutcome::Conflict => Kind::Conflict,
        WriteOutcome::Refused { .. } => Kind::Refused,
        WriteOutcome::NotFound => Kind::NotFound,
        WriteOutcome::Unknown => Kind::Unknown,
    }
}

/// The kind of a worker's word.
pub(crate) fn report_kind(report: &Report) -> Kind {
    match report {
        Report::Assigned { .. } => Kind::Assigned,
        Report::BindFailed { .. } => Kind::BindFailed,
        // Of numbers beside a stream's own, which changes nothing of where it stands.
        Report::Closed(_) | Report::PortsClosed { .. } => Kind::Closed,
        Report::Publisher { .. } => Kind::Publisher,
        Report::Media { .. } | Report::Arrived { .. } => Kind::Media,
        Report::Scan { .. } => Kind::Scan,
        Report::ShardStuck { .. } => Kind::ShardStuck,
    }
}
