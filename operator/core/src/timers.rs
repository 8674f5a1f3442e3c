//! Deadlines: each thing to look at again has at most one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{NodeName, PoolName, StreamRef, Uid};

/// What is to be looked at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A number has rested long enough.
    Cooled(NodeName, u16),
    /// A worker may have been silent too long to get anything new.
    Silent(NodeName),
    /// A worker may have been silent so long that its streams must say so.
    Unheard(NodeName),
    /// A worker owes the inventory that was asked for.
    InventoryDue(NodeName),
    /// A worker has had time to say, after an inventory, what is live.
    MediaDue(NodeName),
    /// A host with quarantined numbers is to be scanned again.
    ScanDue(NodeName),
    /// A worker owes the answer to a command about this claim.
    AnswerDue(StreamRef),
    /// A worker that was given up is back, and has had time to say that it has the stream's publisher.
    Return(StreamRef),
    /// The sender of a stream has had time to find its new ports: the old ones are closed.
    Handover(StreamRef),
    /// A stream's former number, which its pool has no longer, is closed though no media has come on the one beside it.
    MoveDue(StreamRef),
    /// A stream may have been without media too long.
    Quiet(Uid),
    /// A write that was refused is tried again.
    Retry(Uid),
    /// A pool's status may be written again.
    PoolStatus(PoolName),
    /// A new leader may call workers unheard.
    LeadWindow,
    /// The directory may be sent to all again.
    Directory,
    /// The cluster's own networks may be sent to all again.
    Networks,
}

/// All deadlines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    by_timer: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets the one deadline of `timer`.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.cancel(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }

    /// Sets it unless it has one.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Duration) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Brings it forward to `at`, if it has one that is later.
    pub(crate) fn advance(&mut self, timer: Timer, at: Duration) {
        if self.by_timer.get(&timer).is_some_and(|due| *due > at) {
            self.set(timer, at);
        }
    }

    /// Takes it off.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// The next one that is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Whether `timer` has a deadline.
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }
}
