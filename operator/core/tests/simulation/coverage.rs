//! How often each kind of event met each pair of lease state and stream phase in a leader.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use operator_core::event::{Listed, Report, WriteOutcome};
use operator_core::ids::Uid;
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
    ListedStreams,
    ListedPools,
    ListedNodes,
    ListedSecrets,
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
    WorkerLost,
    Lead,
    TermRecorded,
    Demoted,
    Tick,
}

const KINDS: [Kind; 36] = [
    Kind::StreamSeen,
    Kind::StreamGone,
    Kind::PoolSeen,
    Kind::PoolGone,
    Kind::NodeSeen,
    Kind::NodeGone,
    Kind::SecretSeen,
    Kind::SecretGone,
    Kind::ListedStreams,
    Kind::ListedPools,
    Kind::ListedNodes,
    Kind::ListedSecrets,
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
    Kind::WorkerLost,
    Kind::Lead,
    Kind::TermRecorded,
    Kind::Demoted,
    Kind::Tick,
];

const PHASES: usize = Phase::ALL.len();
const LEASES: usize = LeaseState::ALL.len();

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
    /// Counts an event that is about to be observed by a leader.
    pub(crate) fn count(&mut self, event: &Event, core: &State, write_of: Option<&Uid>) {
        let (kind, uid) = kind(event, write_of);
        match uid {
            Some(uid) => {
                // What is not known as a stream is a new one, or a claim that outlived it.
                if let Some((lease, phase)) = core.stream_state(uid) {
                    self.hit(kind, lease, phase);
                }
            }
            None => {
                for (lease, phase) in core.stream_states() {
                    self.hit(kind, lease, phase);
                }
            }
        }
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
        KINDS.into_iter().flat_map(move |kind| {
            LeaseState::ALL.into_iter().flat_map(move |lease| {
                Phase::ALL.into_iter().map(move |phase| {
                    let name = [format!("{kind:?}"), format!("{lease:?}"), format!("{phase:?}")];
                    (name, self.counts[index(kind, lease, phase)])
                })
            })
        })
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

/// Its kind, and the stream that it is about if it is about one.
fn kind<'a>(event: &'a Event, write_of: Option<&'a Uid>) -> (Kind, Option<&'a Uid>) {
    match event {
        Event::StreamSeen(object) => (Kind::StreamSeen, Some(&object.uid)),
        Event::StreamGone { uid } => (Kind::StreamGone, Some(uid)),
        Event::PoolSeen(_) => (Kind::PoolSeen, None),
        Event::PoolGone { .. } => (Kind::PoolGone, None),
        Event::NodeSeen(_) => (Kind::NodeSeen, None),
        Event::NodeGone { .. } => (Kind::NodeGone, None),
        Event::SecretSeen { .. } => (Kind::SecretSeen, None),
        Event::SecretGone { .. } => (Kind::SecretGone, None),
        Event::Listed(Listed::Streams { .. }) => (Kind::ListedStreams, None),
        Event::Listed(Listed::Pools { .. }) => (Kind::ListedPools, None),
        Event::Listed(Listed::Nodes { .. }) => (Kind::ListedNodes, None),
        Event::Listed(Listed::Secrets { .. }) => (Kind::ListedSecrets, None),
        Event::Confirmed { uid, found: Some(_) } => (Kind::ConfirmedFound, Some(uid)),
        Event::Confirmed { uid, found: None } => (Kind::ConfirmedNotFound, Some(uid)),
        Event::AbsenceConfirmed => (Kind::AbsenceConfirmed, None),
        Event::Write { id: _, outcome } => {
            let kind = match outcome {
                WriteOutcome::Written { .. } => Kind::Written,
                WriteOutcome::Conflict => Kind::Conflict,
                WriteOutcome::Refused { .. } => Kind::Refused,
                WriteOutcome::NotFound => Kind::NotFound,
                WriteOutcome::Unknown => Kind::Unknown,
            };
            (kind, write_of)
        }
        Event::Hello { .. } => (Kind::Hello, None),
        Event::Inventory { .. } => (Kind::Inventory, None),
        Event::Beat { .. } => (Kind::Beat, None),
        Event::Report { session: _, report } => match report {
            Report::Assigned { stream, .. } => (Kind::Assigned, Some(&stream.uid)),
            Report::BindFailed { stream, .. } => (Kind::BindFailed, Some(&stream.uid)),
            Report::Closed(closed) => (Kind::Closed, Some(&closed.stream.uid)),
            Report::Publisher { stream, .. } => (Kind::Publisher, Some(&stream.uid)),
            Report::Media { stream, .. } => (Kind::Media, Some(&stream.uid)),
            Report::Scan { .. } => (Kind::Scan, None),
            Report::ShardStuck { .. } => (Kind::ShardStuck, None),
        },
        Event::SessionClosed { .. } => (Kind::SessionClosed, None),
        Event::WorkerLost { .. } => (Kind::WorkerLost, None),
        Event::Lead { .. } => (Kind::Lead, None),
        Event::TermRecorded { .. } => (Kind::TermRecorded, None),
        Event::Demoted => (Kind::Demoted, None),
        Event::Tick => (Kind::Tick, None),
    }
}
