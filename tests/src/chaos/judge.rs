//! What must hold all the time, as pure code over what was seen from outside.
//!
//! Two sights are never of one instant, and a machine under load is late: so what could be a moment's truth must last for a stated
//! time before it counts, and what is measured in time has the machine's own lateness added, several times, since an answer goes
//! through several threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::census::Held;

/// An admin page and the health port answer within this time.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Threads that an answer goes through: front of the parent, its planner, the worker's control, two shards.
const HOPS: u32 = 5;
/// How long a socket may be open that no stream has: from the write that frees a number to the `Closed` of its worker, or the other
/// way round.
const LEAK_AFTER: Duration = Duration::from_secs(3);
/// How long two streams may show one number. A status is written behind the claim that it tells of.
const DOUBLE_AFTER: Duration = Duration::from_millis(500);
/// How long health may say 503: a shard that waits for a CPU is stuck in its eyes for a moment.
const UNHEALTHY_AFTER: Duration = Duration::from_millis(700);
/// How long a protected viewer may wait for its next frame; one comes each 23 ms. The script stops the worker for 0.9 s at most.
const STALL_AFTER: Duration = Duration::from_secs(3);
/// From a kill of the worker to all protected streams playing again: 12 s by design §5, and what the streams' clients need.
const BACK_AFTER: Duration = Duration::from_secs(20);
/// The worker at most: rings of 15 streams (12 s of 2 Mbit/s, 3 MiB; 12 MiB in the worst case) are 180 MiB, 4096 handshakes are
/// 48 MiB, and the allocator keeps what it freed in the last second.
const WORKER_RSS_MAX: u64 = 384 << 20;
/// The parent at most: some dozens of objects, 1000 events of 300 bytes, pages.
const PARENT_RSS_MAX: u64 = 128 << 20;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// free + leased + cooling + quarantined = capacity.
    Sum,
    /// No number belongs to two streams.
    DoubleLease,
    /// The operator's own list of invariants.
    Audit,
    /// A socket of the worker inside the pool belongs to a lease.
    Leak,
    /// The admin pages and the health port answer in time.
    Late,
    /// The health port says that all threads tick.
    Health,
    /// A protected viewer gets each frame.
    Loss,
    /// And gets them in time.
    Stall,
    /// The worker is replaced only when it was killed, and the parent never.
    Died,
    /// After a kill everything is back in time.
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
            Invariant::Leak => "a leak: the worker holds a socket of the pool for no stream",
            Invariant::Late => "a page came late",
            Invariant::Health => "a hang: the health port is not content",
            Invariant::Loss => "a protected viewer lost frames",
            Invariant::Stall => "a protected viewer got no frames",
            Invariant::Died => "a process ended that nobody killed",
            Invariant::Back => "not all is back after a kill",
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
    /// `/pools`, or `health`.
    pub(super) page: &'static str,
    /// It is answered by the worker, which may be dead for a moment.
    pub(super) by_worker: bool,
    /// How long it took, without the time for which the worker was stopped.
    pub(super) took: Duration,
    /// Its status, or why there is none.
    pub(super) status: Result<u16, String>,
}

/// A protected viewer, as it is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Protected {
    /// Its path.
    pub(super) path: String,
    /// Since its last frame.
    pub(super) silent: Duration,
    /// What it missed since the last look.
    pub(super) complaints: Vec<String>,
}

/// What was seen in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// All that was asked.
    pub(super) answers: Vec<Answer>,
    /// The page of this name.
    pub(super) pools: Option<Value>,
    /// The page of this name.
    pub(super) streams: Option<Value>,
    /// The page of this name.
    pub(super) ports: Option<Value>,
    /// `penstock_operator_invariant_violations_total`.
    pub(super) audit: f64,
    /// `penstock_session_panics_total`.
    pub(super) panics: f64,
    /// Of the worker, inside the pool.
    pub(super) sockets: BTreeSet<Held>,
    /// The worker, and whether it is the one that was there before or takes the place of one that was killed.
    pub(super) worker: Option<(u32, Expected)>,
    /// Whether the parent runs.
    pub(super) parent: bool,
    /// Of the parent and the worker.
    pub(super) rss: [u64; 2],
    /// The protected viewers.
    pub(super) protected: Vec<Protected>,
    /// Since the worker was killed, or the machine itself stood still, while not all is back.
    pub(super) mending: Option<Duration>,
    /// How late this machine woke a thread up at worst in this round.
    pub(super) late: Duration,
}

/// Whether there was a reason for this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Yes,
    No,
}

/// Remembers since when something lasts.
#[derive(Debug, Default)]
pub(super) struct Judge {
    since: BTreeMap<Doubt, Duration>,
}

/// What is a violation if it lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Leak(Held),
    Double(u64, String, String),
    Unhealthy,
}

impl Judge {
    /// Judges what was seen at `now`, on any clock that rises. The first violation is enough.
    pub(super) fn judge(&mut self, now: Duration, sight: &Sight) -> Result<(), Violation> {
        let broken = |of, seen| Err(Violation { of, seen });
        if !sight.parent {
            return broken(Invariant::Died, "penstock standalone".into());
        }
        if let Some((pid, Expected::No)) = sight.worker {
            if self.since.contains_key(&Doubt::Unhealthy) {
                // The watchdog was faster than our patience.
                return broken(Invariant::Health, format!("then the worker before {pid} ended"));
            }
            return broken(Invariant::Died, format!("the worker before {pid}"));
        }
        if let Some(mending) = sight.mending.filter(|mending| *mending > limit(BACK_AFTER, sight)) {
            return broken(Invariant::Back, format!("for {mending:?}: {}", missing(sight)));
        }
        sight.pools.iter().try_for_each(sums)?;
        if sight.audit > 0.0 {
            return broken(Invariant::Audit, format!("{} times", sight.audit));
        }
        if sight.panics > 0.0 {
            return broken(Invariant::Panic, format!("{} of them", sight.panics));
        }
        for ((what, now), max) in [("the parent", sight.rss[0]), ("the worker", sight.rss[1])]
            .into_iter()
            .zip([PARENT_RSS_MAX, WORKER_RSS_MAX])
        {
            if now > max {
                return broken(Invariant::Memory, format!("{what} has {} KiB of {}", now >> 10, max >> 10));
            }
        }
        self.answers(sight)?;
        self.lasting(now, sight)?;
        if sight.mending.is_some() {
            return Ok(());
        }
        for Protected { path, silent, complaints } in &sight.protected {
            if let Some(complaint) = complaints.first() {
                return broken(Invariant::Loss, format!("{path}: {complaint} ({} in all)", complaints.len()));
            }
            if *silent > limit(STALL_AFTER, sight) {
                return broken(Invariant::Stall, format!("{path}: for {silent:?}"));
            }
        }
        Ok(())
    }

    fn answers(&self, sight: &Sight) -> Result<(), Violation> {
        for Answer { page, by_worker, took, status } in &sight.answers {
            if *by_worker && sight.mending.is_some() {
                continue;
            }
            let late = *took > limit(ANSWER_MAX, sight);
            let seen = match status {
                Ok(status) if late => {
                    format!("{page}: {status} after {took:?}; the machine was {:?} late", sight.late)
                }
                // Whether the worker is well is another question.
                Ok(200 | 503) => continue,
                Ok(status) => format!("{page}: {status}"),
                Err(error) => {
                    format!("{page}: {error} after {took:?}; the machine was {:?} late", sight.late)
                }
            };
            return Err(Violation { of: Invariant::Late, seen });
        }
        Ok(())
    }

    /// What counts only when it lasts.
    fn lasting(&mut self, now: Duration, sight: &Sight) -> Result<(), Violation> {
        let mut doubts = BTreeMap::new();
        if let Some(streams) = &sight.streams {
            let leased = leases(streams);
            for (port, streams) in &leased {
                if let [one, other, ..] = streams.as_slice() {
                    let seen = format!("{port} is leased to {one} and to {other}");
                    doubts.insert(
                        Doubt::Double(*port, one.clone(), other.clone()),
                        (Invariant::DoubleLease, DOUBLE_AFTER, seen),
                    );
                }
            }
            for socket in &sight.sockets {
                let (Held::Listening(port) | Held::Connected(port) | Held::Udp(port)) = socket;
                if !leased.contains_key(&u64::from(*port)) {
                    doubts.insert(Doubt::Leak(*socket), (Invariant::Leak, LEAK_AFTER, format!("{socket:?}")));
                }
            }
        }
        if let Some(ports) = &sight.ports {
            for (port, owners) in bound(ports) {
                if let [one, other, ..] = owners.iter().collect::<Vec<_>>().as_slice() {
                    // The table of the worker is of one instant.
                    let seen = format!("{port} is bound for {one} and for {other}");
                    return Err(Violation { of: Invariant::DoubleLease, seen });
                }
            }
        }
        let health = sight.answers.iter().find(|answer| answer.page == "health");
        if let Some(Answer { status: Ok(status), .. }) = health.filter(|_| sight.mending.is_none())
            && *status != 200
        {
            doubts.insert(Doubt::Unhealthy, (Invariant::Health, UNHEALTHY_AFTER, format!("status {status}")));
        }
        self.since.retain(|doubt, _| doubts.contains_key(doubt));
        for (doubt, (of, after, seen)) in doubts {
            let since = *self.since.entry(doubt).or_insert(now);
            let lasted = now.saturating_sub(since);
            if lasted > limit(after, sight) {
                return Err(Violation { of, seen: format!("{seen}, for {lasted:?}") });
            }
        }
        Ok(())
    }
}

/// A limit of time, on a machine that is as late as it was in this round.
fn limit(limit: Duration, sight: &Sight) -> Duration {
    limit + HOPS * sight.late
}

/// What is not back.
fn missing(sight: &Sight) -> String {
    let health = sight.answers.iter().find(|answer| answer.page == "health").map(|answer| &answer.status);
    let silent: Vec<_> =
        sight.protected.iter().map(|p| format!("{} silent for {:?}", p.path, p.silent)).collect();
    format!("worker {:?}, health {health:?}, {}", sight.worker, silent.join(", "))
}

fn sums(pools: &Value) -> Result<(), Violation> {
    for pool in pools["items"].as_array().into_iter().flatten() {
        let of = |field: &str| pool["status"][field].as_u64();
        // A new pool has no status yet.
        let Some(capacity) = of("capacity") else { continue };
        let sum: u64 =
            ["free", "leased", "cooling", "quarantined"].iter().filter_map(|field| of(field)).sum();
        if sum != capacity {
            return Err(Violation { of: Invariant::Sum, seen: pool["status"].to_string() });
        }
    }
    Ok(())
}

/// The streams that show a number, by number.
pub(super) fn leases(streams: &Value) -> BTreeMap<u64, Vec<String>> {
    let mut leases: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for stream in streams["items"].as_array().into_iter().flatten() {
        let name = stream["metadata"]["name"].as_str().unwrap_or("a stream without a name");
        for field in ["rtp", "rtcp"] {
            if let Some(port) = stream["status"]["ports"][field].as_u64() {
                leases.entry(port).or_default().push(name.to_owned());
            }
        }
    }
    leases
}

/// The UIDs for which a number is bound, in either transport.
fn bound(ports: &Value) -> BTreeMap<u64, BTreeSet<String>> {
    let mut bound: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for binding in ports["bound"].as_array().into_iter().flatten() {
        if let (Some(port), Some(uid)) = (binding["port"].as_u64(), binding["uid"].as_str()) {
            bound.entry(port).or_default().insert(uid.to_owned());
        }
    }
    bound
}

#[cfg(test)]
mod tests;
