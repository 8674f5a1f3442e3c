//! What must hold all the time, as pure code over what was seen from outside.
//!
//! Two sights are never of one instant, and a machine under load is late. So what could be a moment's truth must last for a stated time
//! before it counts, and each time has the machine's own lateness added, once for each thread that an answer goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Ground;
use crate::census::Held;

/// A page answers within this time: 200 ms on an idle machine, which this one is not.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Threads that an answer goes through: front of the parent, its planner, the worker's control, two shards.
const HOPS: u32 = 5;
/// How long a socket may be open that no stream shows: from the write that gives or frees a number to its worker, or the other way round.
const LEAK_AFTER: Duration = Duration::from_secs(10);
/// How long two streams may show one number: a status is written behind the claim that it tells of.
const DOUBLE_AFTER: Duration = Duration::from_secs(3);
/// How long health may say 503.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(4);
/// How long a protected viewer may wait for its next frame; one comes each 23 ms. A worker is frozen for half a second at most.
const STALL_AFTER: Duration = Duration::from_secs(6);
/// A fault is felt within this.
const FELT: Duration = Duration::from_millis(1500);
/// A viewer whose last frame is not older plays.
const FRESH: Duration = Duration::from_secs(1);
/// A worker at most: rings of 15 streams are 180 MiB in the worst case, 4096 handshakes 48 MiB, and the allocator keeps what it freed
/// in the last second.
const WORKER_RSS_MAX: u64 = 384 << 20;
/// An operator, or the parent, at most: some dozens of objects, 1000 events of 300 bytes, pages.
const OPERATOR_RSS_MAX: u64 = 192 << 20;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// free + leased + cooling + quarantined = capacity.
    Sum,
    /// No number belongs to two streams.
    DoubleLease,
    /// The operator's own list of invariants.
    Audit,
    /// A socket of a worker inside the pools belongs to a lease.
    Leak,
    /// The pages answer in time.
    Late,
    /// The health port says that all threads tick and media passes.
    Hang,
    /// A protected viewer gets each frame.
    Loss,
    /// And gets them in time.
    Stall,
    /// A process ends only when the script ends it.
    Died,
    /// After a fault everything is back in time.
    Back,
    /// No session panics.
    Panic,
    /// Memory stays in its bounds.
    Memory,
    /// When all is over, nothing is left.
    Rest,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub of: Invariant,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.of {
            Invariant::Sum => "free + leased + cooling + quarantined is not the capacity",
            Invariant::DoubleLease => "a double lease: one number, two streams",
            Invariant::Audit => "the operator found an invariant broken",
            Invariant::Leak => "a leak: a worker holds a socket of the pools for no stream",
            Invariant::Late => "a page came late",
            Invariant::Hang => "a hang: the health port is not content",
            Invariant::Loss => "a protected viewer lost frames",
            Invariant::Stall => "a hang: a protected viewer got no frames",
            Invariant::Died => "a process ended that nobody had ended",
            Invariant::Back => "not all is back after a fault",
            Invariant::Panic => "a session panicked",
            Invariant::Memory => "memory is out of bounds",
            Invariant::Rest => "something is left when all is over",
        };
        write!(out, "{rule}: {}", self.seen)
    }
}

/// A page that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// `/pools`, or `health`, with the node that it is of.
    pub(super) page: String,
    /// By a process that faults of the script may end.
    pub(super) mortal: bool,
    /// How long it took.
    pub(super) took: Duration,
    /// Its status, or why there is none.
    pub(super) status: Result<u16, String>,
}

/// A process of the product.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// `worker of node1`.
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) rss: u64,
    pub(super) worker: bool,
}

/// A number of a node, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) node: String,
    pub(super) port: u16,
    /// Of a status: the stream's name. Of a worker's table: its UID.
    pub(super) stream: String,
}

/// What was seen of the product in one look.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// All pages that were asked for.
    pub(super) answers: Vec<Answer>,
    /// Streams and pools as their status says; none where they could not be had.
    pub(super) objects: Option<Vec<Value>>,
    /// By the workers' own tables.
    pub(super) bound: Vec<Lease>,
    /// Of the workers' processes, inside the pools: by `/proc`.
    pub(super) sockets: Vec<(String, Held)>,
    pub(super) processes: Vec<Process>,
    /// `penstock_operator_invariant_violations_total`, `penstock_session_panics_total`, `penstock_viewers`, `penstock_publishers`.
    pub(super) audit: f64,
    pub(super) panics: f64,
    pub(super) viewers: f64,
    pub(super) publishers: f64,
}

impl Look {
    /// The objects of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().flatten().filter(move |object| object["kind"] == kind)
    }

    /// The numbers that statuses of streams show.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let mut leases = Vec::new();
        for stream in self.of_kind("MediaStream") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (status, name) = (&stream["status"], text(&stream["metadata"]["name"]));
            let node = text(&status["assignment"]["node"]);
            for port in ["rtp", "rtcp"].iter().filter_map(|field| status["ports"][field].as_u64()) {
                let port = u16::try_from(port).unwrap_or(0);
                leases.push(Lease { node: node.clone(), port, stream: name.clone() });
            }
        }
        leases
    }
}

/// A protected viewer, as it is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Protected {
    /// Its path and protocol.
    pub(super) name: String,
    /// Since its last frame.
    pub(super) silent: Duration,
    /// What it missed since the last look.
    pub(super) complaints: Vec<String>,
}

/// All that the judge sees in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    pub(super) look: Look,
    pub(super) protected: Vec<Protected>,
    /// Processes that are gone though the script has not ended them.
    pub(super) died: Vec<String>,
    /// Since the script's last fault began, and whether it has not been put right yet.
    pub(super) fault: Option<(Duration, bool)>,
    /// How late this machine woke a thread up at worst in these seconds.
    pub(super) late: Duration,
}

/// Remembers since when something lasts.
pub(super) struct Judge {
    ground: Ground,
    since: BTreeMap<Doubt, Duration>,
    mending: Option<Mending>,
    /// The longest that anything took to be back.
    pub(super) worst_back: Duration,
}

/// A fault excuses what the protected ones lose until all of them play.
#[derive(Clone, Copy, Debug)]
struct Mending {
    begun: Duration,
    back: bool,
}

/// What is a violation if it lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Leak(String, Held),
    Double(String, u16),
    Unhealthy(String),
}

impl Judge {
    pub(super) fn new(ground: Ground) -> Judge {
        Judge { ground, since: BTreeMap::new(), mending: None, worst_back: Duration::ZERO }
    }

    /// Whether all is back since the last fault, which has been put right.
    pub(super) fn content(&self) -> bool {
        self.mending.is_none()
    }

    /// Judges what was seen at `now`, on any clock that rises. The first violation is enough.
    pub(super) fn judge(&mut self, now: Duration, sight: &Sight) -> Result<(), Violation> {
        // What was lost up to the look that sees all play is excused, too.
        let excused = self.mending.is_some() || sight.fault.is_some();
        self.mend(now, sight)?;
        if let Some(died) = sight.died.first() {
            return broken(Invariant::Died, died.clone());
        }
        sight.look.of_kind("PortPool").try_for_each(sums)?;
        if sight.look.audit > 0.0 {
            return broken(Invariant::Audit, format!("{} times", sight.look.audit));
        }
        if sight.look.panics > 0.0 {
            return broken(Invariant::Panic, format!("{} of them", sight.look.panics));
        }
        for Process { name, rss, worker, pid: _ } in &sight.look.processes {
            let max = if *worker { WORKER_RSS_MAX } else { OPERATOR_RSS_MAX };
            if *rss > max {
                return broken(Invariant::Memory, format!("{name} has {} KiB of {}", rss >> 10, max >> 10));
            }
        }
        self.answers(sight)?;
        self.lasting(now, sight)?;
        if excused {
            return Ok(());
        }
        for Protected { name, silent, complaints } in &sight.protected {
            if let Some(complaint) = complaints.first() {
                return broken(Invariant::Loss, format!("{name}: {complaint} ({} in all)", complaints.len()));
            }
            if *silent > limit(STALL_AFTER, sight) {
                return broken(Invariant::Stall, format!("{name}: for {silent:?}"));
            }
        }
        Ok(())
    }

    /// Begins and ends the time in which a fault excuses what is lost.
    fn mend(&mut self, now: Duration, sight: &Sight) -> Result<(), Violation> {
        let Some((since, under_way)) = sight.fault else { return Ok(()) };
        let begun = now.saturating_sub(since);
        let mending = self.mending.get_or_insert(Mending { begun, back: false });
        let plays = since > FELT && sight.protected.iter().all(|it| it.silent < FRESH);
        let taken = now.saturating_sub(mending.begun);
        if plays && !mending.back {
            mending.back = true;
            self.worst_back = self.worst_back.max(taken);
        }
        // From the fault to the publishers' acceptance (design §5), and what their clients and a busy machine need.
        let back_after = match self.ground {
            Ground::Standalone => Duration::from_secs(20),
            Ground::Cluster => Duration::from_secs(45),
        };
        if !mending.back && taken > limit(back_after, sight) {
            let silent = sight.protected.iter().filter(|it| it.silent >= FRESH);
            let silent: Vec<_> = silent.map(|it| format!("{} silent for {:?}", it.name, it.silent)).collect();
            return broken(Invariant::Back, format!("for {taken:?}: {}", silent.join(", ")));
        }
        let answer = |answer: &Answer| answer.status == Ok(200);
        if plays && !under_way && sight.look.answers.iter().all(answer) {
            self.mending = None;
        }
        Ok(())
    }

    fn answers(&self, sight: &Sight) -> Result<(), Violation> {
        for Answer { page, mortal, took, status } in &sight.look.answers {
            if *mortal && self.mending.is_some() {
                continue;
            }
            let seen = match status {
                Ok(status) if *took > limit(ANSWER_MAX, sight) => format!("{page}: {status} after {took:?}"),
                // Whether the worker is well is another question.
                Ok(200 | 503) => continue,
                Ok(status) => format!("{page}: {status}"),
                Err(error) => format!("{page}: {error} after {took:?}"),
            };
            return broken(Invariant::Late, format!("{seen}; the machine was {:?} late", sight.late));
        }
        Ok(())
    }

    /// What counts only when it lasts.
    fn lasting(&mut self, now: Duration, sight: &Sight) -> Result<(), Violation> {
        let mut doubts = BTreeMap::new();
        let leases = sight.look.leases();
        for (node, port, streams) in twice(&leases) {
            let seen = format!("{port} of {node} is leased to {}", streams.join(" and to "));
            doubts.insert(Doubt::Double(node, port), (Invariant::DoubleLease, DOUBLE_AFTER, seen));
        }
        // The table of a worker is of one instant.
        if let Some((node, port, streams)) = twice(&sight.look.bound).into_iter().next() {
            let seen = format!("{port} of {node} is bound for {}", streams.join(" and for "));
            return broken(Invariant::DoubleLease, seen);
        }
        if sight.look.objects.is_some() {
            for (node, socket) in &sight.look.sockets {
                let (Held::Listening(port) | Held::Connected(port) | Held::Udp(port)) = *socket;
                if !leases.iter().any(|lease| lease.node == *node && lease.port == port) {
                    let seen = format!("{socket:?} of {node}");
                    doubts.insert(Doubt::Leak(node.clone(), *socket), (Invariant::Leak, LEAK_AFTER, seen));
                }
            }
        }
        for Answer { page, status, .. } in &sight.look.answers {
            if *status == Ok(503) && self.mending.is_none() {
                let seen = format!("{page} says 503");
                doubts.insert(Doubt::Unhealthy(page.clone()), (Invariant::Hang, UNHEALTHY_AFTER, seen));
            }
        }
        if sight.look.objects.is_some() {
            self.since.retain(|doubt, _| doubts.contains_key(doubt));
        }
        for (doubt, (of, after, seen)) in doubts {
            let since = *self.since.entry(doubt).or_insert(now);
            let lasted = now.saturating_sub(since);
            if lasted > limit(after, sight) {
                return broken(of, format!("{seen}, for {lasted:?}"));
            }
        }
        Ok(())
    }
}

fn broken(of: Invariant, seen: String) -> Result<(), Violation> {
    Err(Violation { of, seen })
}

/// A limit of time, on a machine that is as late as it was in these seconds.
fn limit(limit: Duration, sight: &Sight) -> Duration {
    limit + HOPS * sight.late
}

fn sums(pool: &Value) -> Result<(), Violation> {
    let of = |field: &str| pool["status"][field].as_u64();
    // A new pool has no status yet.
    let Some(capacity) = of("capacity") else { return Ok(()) };
    let sum: u64 = ["free", "leased", "cooling", "quarantined"].iter().filter_map(|field| of(field)).sum();
    if sum == capacity { Ok(()) } else { broken(Invariant::Sum, pool["status"].to_string()) }
}

/// The numbers that more than one stream has.
fn twice(leases: &[Lease]) -> Vec<(String, u16, Vec<String>)> {
    let mut owners: BTreeMap<(&str, u16), BTreeSet<&str>> = BTreeMap::new();
    for Lease { node, port, stream } in leases {
        owners.entry((node, *port)).or_default().insert(stream);
    }
    let twice = owners.into_iter().filter(|(_, streams)| streams.len() > 1);
    twice
        .map(|((node, port), of)| (node.to_owned(), port, of.into_iter().map(str::to_owned).collect()))
        .collect()
}

#[cfg(test)]
mod tests;
