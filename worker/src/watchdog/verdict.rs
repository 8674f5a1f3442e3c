//! Which thread is stuck, and when the process must end for it: the watchdog's judgement, as pure code over samples.
//!
//! A thread that doesn't tick is not always at fault. Where the watchdog's own wakes come late, the whole process was
//! paused; where a thread waits for a CPU, the host is overloaded. Neither is cured by a restart, so neither aborts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::pulse::{TICK, Thread};

/// Without a tick for this long a thread counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_millis(700);

/// Samples of CPU time are taken of a thread whose tick is this late.
pub const SAMPLE_AFTER: Duration = Duration::from_millis(200);

/// A stuck thread ends the process at the latest then.
pub const ABORT_AFTER: Duration = Duration::from_secs(10);

/// A stuck thread ends the process at the earliest then, so that a hiccup costs no restart and others hear of it first.
const ABORT_NEVER_BEFORE: Duration = Duration::from_secs(2);

/// A stuck control ends a process that has streams only then: they play on without it, but nothing else would cure it.
const ABORT_CONTROL_AFTER: Duration = Duration::from_secs(60);

/// A wake of the watchdog later than this after the last one says that the process itself did not run.
const WAKE_LATE: Duration = Duration::from_millis(150);

/// On-time wakes that a verdict needs.
const WAKES_ON_TIME: u32 = 6;

/// CPU time without a tick that convicts a thread however little of the CPU it gets. A loop that goes round ticks within
/// milliseconds of its own time; together with what passes before the first sample it is `STUCK_AFTER`.
const SPUN: Duration = Duration::from_millis(500);

/// Over how long CPU time is looked at.
const WINDOW: Duration = Duration::from_secs(1);

/// What the watchdog sees of one thread at one wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which thread.
    pub thread: Thread,
    /// Time since its last tick.
    pub tick_age: Duration,
    /// Streams it owns.
    pub streams: usize,
    /// It panicked or returned.
    pub ended: bool,
    /// CPU time, taken once the tick is `SAMPLE_AFTER` late; `None` where it cannot be read.
    pub usage: Option<Usage>,
}

/// What the kernel counts of a thread, since the thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On a CPU.
    pub run: Duration,
    /// Ready, and waiting for a CPU.
    pub delay: Duration,
    /// Ready or running at this instant.
    pub runnable: bool,
}

/// Why a thread doesn't tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits in the kernel.
    Blocked,
    /// It computes and doesn't come back.
    Spinning,
    /// It gets no CPU.
    Starved,
    /// It is gone.
    Ended,
}

impl Verdict {
    /// The word of the contract and of logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Blocked => "blocked",
            Verdict::Spinning => "spinning",
            Verdict::Starved => "starved",
            Verdict::Ended => "ended",
        }
    }
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A thread got stuck, or is stuck for another cause than before.
    Stuck {
        /// Which thread.
        thread: Thread,
        /// Why.
        verdict: Verdict,
        /// Time since its last tick.
        age: Duration,
    },
    /// A stuck thread ticks again.
    Recovered {
        /// Which thread.
        thread: Thread,
    },
    /// The process must end, with a dump of its state.
    Abort {
        /// The thread that is at fault.
        thread: Thread,
        /// Why.
        verdict: Verdict,
        /// Time since its last tick.
        age: Duration,
    },
}

/// The judgement over time. One a process.
#[derive(Debug, Default)]
pub struct Judge {
    woke: Option<Duration>,
    on_time: u32,
    threads: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    thread: Thread,
    /// Samples of the last second, oldest first; emptied by a tick.
    usage: VecDeque<(Duration, Usage)>,
    /// The first sample since the last tick.
    since: Option<Usage>,
    verdict: Option<Verdict>,
}

impl Judge {
    /// Looks at all threads, at time `now` on any monotonic clock. Call it at each wake.
    pub fn look(&mut self, now: Duration, samples: &[Sample]) -> Vec<Finding> {
        let on_time = self.woke.is_none_or(|woke| now.saturating_sub(woke) <= WAKE_LATE);
        self.on_time = if on_time { self.on_time.saturating_add(1) } else { 0 };
        self.woke = Some(now);
        let trusted = self.on_time >= WAKES_ON_TIME;

        let mut findings = Vec::new();
        for sample in samples {
            let watched = self.watched(sample.thread);
            watched.record(now, sample);
            let verdict = match sample.ended || sample.tick_age >= STUCK_AFTER {
                false => None,
                true if sample.ended => Some(Verdict::Ended),
                // An untrusted look neither convicts nor acquits.
                true if !trusted => continue,
                true => Some(watched.cause()),
            };
            findings.extend(watched.turn(verdict, sample));
        }
        if trusted {
            findings.extend(self.abort(samples));
        }
        findings
    }

    /// True while no thread is stuck.
    pub fn all_tick(&self) -> bool {
        self.threads.iter().all(|watched| watched.verdict.is_none())
    }

    /// What is known to be wrong with a thread.
    pub fn verdict(&self, thread: Thread) -> Option<Verdict> {
        self.threads.iter().find(|watched| watched.thread == thread)?.verdict
    }

    fn abort(&self, samples: &[Sample]) -> Option<Finding> {
        let streams: usize = samples.iter().map(|sample| sample.streams).sum();
        samples.iter().find_map(|sample| {
            let verdict = self.verdict(sample.thread)?;
            let age = sample.tick_age;
            let hopeless = verdict == Verdict::Ended;
            let patience = match (sample.thread, verdict) {
                (_, Verdict::Starved) => return None,
                (Thread::Shard(_), _) if streams == sample.streams && hopeless => Duration::ZERO,
                (Thread::Shard(_), _) if streams == sample.streams => ABORT_NEVER_BEFORE,
                (Thread::Shard(_) | Thread::Front, _) => ABORT_AFTER,
                (Thread::Control, _) if streams == 0 => ABORT_AFTER,
                (Thread::Control, _) => ABORT_CONTROL_AFTER,
            };
            (age >= patience).then_some(Finding::Abort { thread: sample.thread, verdict, age })
        })
    }

    fn watched(&mut self, thread: Thread) -> &mut Watched {
        let at = self.threads.iter().position(|watched| watched.thread == thread).unwrap_or_else(|| {
            self.threads.push(Watched { thread, usage: VecDeque::new(), since: None, verdict: None });
            self.threads.len() - 1
        });
        &mut self.threads[at]
    }
}

impl Watched {
    fn record(&mut self, now: Duration, sample: &Sample) {
        if sample.tick_age < SAMPLE_AFTER {
            self.usage.clear();
            self.since = None;
        }
        if let Some(usage) = sample.usage {
            self.since.get_or_insert(usage);
            self.usage.push_back((now, usage));
        }
        while self.usage.len() > 2 && now.saturating_sub(self.usage[1].0) >= WINDOW {
            self.usage.pop_front();
        }
    }

    /// Why the thread doesn't tick, from its CPU time over the last second.
    fn cause(&self) -> Verdict {
        let (Some((from, first)), Some((to, last))) = (self.usage.front(), self.usage.back()) else {
            return Verdict::Blocked;
        };
        let (run, delay) = (last.run.saturating_sub(first.run), last.delay.saturating_sub(first.delay));
        let wanted = run + delay >= (*to - *from) / 2 && !(run + delay).is_zero();
        let spun = self.since.is_some_and(|since| last.run.saturating_sub(since.run) >= SPUN);
        if spun || (wanted && run >= delay) {
            Verdict::Spinning
        } else if wanted || self.usage.iter().all(|(_, usage)| usage.runnable) {
            // A wait for a CPU is counted when it ends; one that lasts longer shows only as being ready all the time.
            Verdict::Starved
        } else {
            Verdict::Blocked
        }
    }

    fn turn(&mut self, verdict: Option<Verdict>, sample: &Sample) -> Option<Finding> {
        let former = std::mem::replace(&mut self.verdict, verdict);
        let thread = self.thread;
        match verdict {
            Some(_) if verdict == former => None,
            Some(verdict) => Some(Finding::Stuck { thread, verdict, age: sample.tick_age }),
            None => former.map(|_| Finding::Recovered { thread }),
        }
    }
}

/// How long the watchdog sleeps between two looks.
pub const WAKE: Duration = TICK;

#[cfg(test)]
mod tests;
