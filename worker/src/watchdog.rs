//! The watchdog: a plain thread that owns nothing but the health port, and looks at all others from outside (design §5).
//!
//! It takes no lock that another thread may hold for long, logs through a queue that never blocks, and writes its dump
//! straight to standard error.

pub mod dump;
pub mod verdict;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::health::{HealthPort, Page};
use crate::pulse::Pulse;
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
    /// False while a thread is stuck.
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
        let (start, mut judge) = (Instant::now(), Judge::default());
        loop {
            let now = Instant::now();
            let samples: Vec<_> = self.pulses.iter().map(|pulse| sample(pulse)).collect();
            for finding in judge.look(now.duration_since(start), &samples) {
                self.act(finding);
            }
            self.ready.store(judge.all_tick(), Ordering::Relaxed);
            let ending = &self.ending;
            self.port.serve(now + WAKE, || {
                page(&self.boot_id, &self.pulses, &judge, ending.load(Ordering::Relaxed))
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

fn page(boot_id: &str, pulses: &[Arc<Pulse>], judge: &Judge, ending: bool) -> Page {
    let ready = judge.all_tick() && !ending;
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
    let body = serde_json::json!({ "ready": ready, "ending": ending, "bootId": boot_id, "threads": threads });
    let body = body.to_string();
    Page { ready, body }
}

#[cfg(test)]
mod tests;
