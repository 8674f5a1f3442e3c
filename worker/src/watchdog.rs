//! The watchdog: a plain thread that owns nothing but the health port, and looks at all others from outside (design §5).
//!
//! It takes no lock that another thread may hold for long, logs through a queue that never blocks, and writes its dump
//! straight to standard error. A thread that is stuck may cost the process its life; a canary that fails, no more than its readiness.

pub mod dump;
pub mod verdict;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::canary::{self, Board};
use crate::clock::Clock;
use crate::control::Status;
use crate::health::{Answers, HealthPort};
use crate::pulse::{Pulse, Thread};
use verdict::{Finding, Judge, SAMPLE_AFTER, Sample, Usage, WAKE};

/// Findings that wait for control; a control that is itself stuck finds the newest state in the pulses.
pub const FINDINGS_MAX: usize = 64;

/// What the watchdog is given.
#[derive(Debug)]
pub struct Watchdog {
    /// The threads it looks at.
    pub pulses: Vec<Arc<Pulse>>,
    /// Answered between two looks.
    pub port: HealthPort,
    /// Random for each start of the process.
    pub boot_id: Arc<str>,
    /// What is found, for control to report.
    pub findings: mpsc::Sender<Finding>,
    /// What the canaries' rounds came to.
    pub board: Arc<Board>,
    /// The clock of the board.
    pub clock: Clock,
    /// What control has told operators. Until one knows this process it is not ready: a rollout that went on before would have streams
    /// move to workers whose turn is still to come.
    pub control: Arc<Status>,
    /// False while a thread is stuck or a canary fails.
    pub ready: Arc<AtomicBool>,
    /// The process was told to end: it is not ready, and its streams are better off elsewhere at once.
    pub ending: Arc<AtomicBool>,
}

impl Watchdog {
    /// Starts the thread. It runs as long as the process.
    pub fn start(self) -> io::Result<()> {
        std::thread::Builder::new().name(String::from("watchdog")).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        let (mut judge, mut canaries) = (Judge::default(), canary::verdict::Judge::default());
        loop {
            let (until, now) = (Instant::now() + WAKE, self.clock.now());
            let samples: Vec<_> = self.pulses.iter().map(|pulse| sample(pulse)).collect();
            for finding in judge.look(now, &samples) {
                self.act(finding);
            }
            for finding in canaries.look(now, slowest(&samples), &self.board.rounds()) {
                self.tell(finding, now);
            }
            let all_pass = canaries.all_pass();
            self.ready.store(judge.all_tick() && all_pass, Ordering::Relaxed);
            let (ending, board, control) = (&self.ending, &self.board, &self.control);
            self.port.serve(until, || {
                let (known, ending) = (control.is_known(), ending.load(Ordering::Relaxed));
                let state = State { judge: &judge, all_pass, board, known, ending };
                answers(&self.boot_id, &self.pulses, &state)
            });
        }
    }

    fn act(&self, finding: Finding) {
        match &finding {
            Finding::Stuck { thread, verdict, age } => {
                tracing::error!(%thread, verdict = verdict.as_str(), tick_age_ms = age.as_millis() as u64, "thread is stuck");
                tracing::error!("{}", dump::state(&self.pulses));
            }
            Finding::Recovered { thread } => tracing::warn!(%thread, "thread ticks again"),
            Finding::Abort { thread, verdict, age } => {
                dump::write(&format!(
                    "penstock worker {} ends itself: {thread} is {} since {} ms\n{}",
                    self.boot_id,
                    verdict.as_str(),
                    age.as_millis(),
                    dump::state(&self.pulses)
                ));
                std::process::abort();
            }
        }
        // Full: control is behind, and what it is told next says the same.
        drop(self.findings.try_send(finding));
    }

    fn tell(&self, finding: canary::verdict::Finding, now: Duration) {
        use canary::verdict::Finding::{Failing, Recovered};
        match finding {
            Failing { canary, since, missing } => {
                tracing::error!(
                    shard = canary.shard,
                    listener = canary.listener.as_str(),
                    %missing,
                    since_ms = now.saturating_sub(since).as_millis() as u64,
                    "a canary fails: media does not pass; the worker is not ready"
                );
                self.board.set_failing(canary, Some(since));
            }
            Recovered { canary } => {
                tracing::warn!(
                    shard = canary.shard,
                    listener = canary.listener.as_str(),
                    "a canary's media passes again"
                );
                self.board.set_failing(canary, None);
            }
        }
    }
}

/// The oldest tick of those that media passes through.
fn slowest(samples: &[Sample]) -> Duration {
    let carries_media = |sample: &&Sample| match sample.thread {
        Thread::Front | Thread::Shard(_) => true,
        Thread::Control => false,
    };
    samples.iter().filter(carries_media).map(|sample| sample.tick_age).max().unwrap_or_default()
}

fn sample(pulse: &Pulse) -> Sample {
    let tick_age = pulse.age();
    let late = tick_age >= SAMPLE_AFTER;
    let usage = pulse
        .tid()
        .filter(|_| late)
        .and_then(|tid| usage(&Path::new("/proc/self/task").join(tid.to_string())));
    Sample { thread: pulse.thread(), tick_age, streams: pulse.streams(), ended: pulse.ended(), usage }
}

/// CPU time of a thread: `schedstat`, or the coarser `stat` of a kernel that keeps none.
fn usage(task: &Path) -> Option<Usage> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let schedstat = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    parse_usage(&stat, &schedstat)
}

fn parse_usage(stat: &str, schedstat: &str) -> Option<Usage> {
    // The name stands in brackets and may hold anything; state is the field after it, utime and stime 11 and 12 further.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let runnable = fields.next()? == "R";
    let mut counted = schedstat.split_ascii_whitespace().map_while(|number| number.parse().ok());
    let (run, delay) = match (counted.next(), counted.next()) {
        (Some(run), Some(delay)) => (Duration::from_nanos(run), Duration::from_nanos(delay)),
        _ => {
            let mut ticks = fields.skip(10).map_while(|number| number.parse::<u64>().ok());
            // USER_HZ is 100 on all that Rust builds for.
            (Duration::from_millis(10 * (ticks.next()? + ticks.next()?)), Duration::ZERO)
        }
    };
    Some(Usage { run, delay, runnable })
}

/// What the pages tell.
struct State<'a> {
    judge: &'a Judge,
    all_pass: bool,
    board: &'a Board,
    known: bool,
    ending: bool,
}

fn answers(boot_id: &str, pulses: &[Arc<Pulse>], state: &State<'_>) -> Answers {
    let &State { judge, all_pass, board, known, ending } = state;
    let ready = judge.all_tick() && all_pass && known && !ending;
    let threads: Vec<_> = pulses
        .iter()
        .map(|pulse| {
            serde_json::json!({
                "name": pulse.thread().to_string(),
                "tickAgeMs": pulse.age().as_millis() as u64,
                "streams": pulse.streams(),
                "state": judge.verdict(pulse.thread()).map_or("ok", |verdict| verdict.as_str()),
            })
        })
        .collect();
    let body = serde_json::json!({
        "ready": ready,
        "knownToOperator": known,
        "ending": ending,
        "bootId": boot_id,
        "threads": threads,
        "canary": board.page(),
    });
    Answers { ready, alive: judge.all_tick(), body: body.to_string() }
}

#[cfg(test)]
mod tests;
