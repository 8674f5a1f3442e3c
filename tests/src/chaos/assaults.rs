//! What was done to the worker process itself: noted before it is done, so that whoever sees an effect finds its cause.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::running::signal_pid;

/// Kills and stops so far.
#[derive(Debug, Default)]
pub(super) struct Assaults(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    kills: Vec<(Instant, u32)>,
    stops: Vec<Stop>,
}

#[derive(Debug)]
struct Stop {
    from: Instant,
    to: Option<Instant>,
}

/// A stopped process, until this is dropped.
#[derive(Debug)]
pub(super) struct Stopped<'a> {
    assaults: &'a Assaults,
    nth: usize,
    pid: u32,
}

impl Assaults {
    /// Kills a process.
    pub(super) fn kill(&self, pid: u32) {
        self.lock().kills.push((Instant::now(), pid));
        signal_pid(pid, Signal::KILL);
    }

    /// Stops a process.
    pub(super) fn stop(&self, pid: u32) -> Stopped<'_> {
        let mut known = self.lock();
        known.stops.push(Stop { from: Instant::now(), to: None });
        let nth = known.stops.len() - 1;
        drop(known);
        signal_pid(pid, Signal::STOP);
        Stopped { assaults: self, nth, pid }
    }

    /// How many were killed, and when the last was.
    pub(super) fn kills(&self) -> (usize, Option<Instant>) {
        let known = self.lock();
        (known.kills.len(), known.kills.last().map(|(at, _)| *at))
    }

    /// Whether this one was killed.
    pub(super) fn killed(&self, pid: u32) -> bool {
        self.lock().kills.iter().any(|(_, killed)| *killed == pid)
    }

    /// For how long of this time a process was stopped.
    pub(super) fn stopped(&self, from: Instant, to: Instant) -> Duration {
        let overlap = |stop: &Stop| {
            let end = stop.to.unwrap_or(to).min(to);
            end.saturating_duration_since(stop.from.max(from))
        };
        self.lock().stops.iter().map(overlap).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Whoever panicked with it had made its note or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal_pid(self.pid, Signal::CONT);
        self.assaults.lock().stops[self.nth].to = Some(Instant::now());
    }
}
