//! `cargo xtask soak chaos`: everything that is done to a media server by the world, at random and at once, against the real product,
//! while somebody looks on from outside.
//!
//! ```text
//!  script.rs (seed) ─→ Step ─→ the run ─→ actors.rs: encoders, viewers, cameras, hostile clients, thieves
//!                                │                      ↓
//!                                └─ faults, edits ─→ world.rs: standalone or a cluster ←─ protected.rs: real streams that lose nothing
//!                                                       ↓                                     │
//!                                                    watcher.rs: pages, /proc, metrics ←──────┘
//!                                                       ↓
//!                                                    judge.rs: what must hold all the time
//! ```
//!
//! A run is told by its seed. How threads meet is not repeated by it, so a failure tells what was done last, too.

mod actors;
mod judge;
mod protected;
mod run;
mod script;
mod watcher;
mod world;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, fmt, fs};

use serde_json::{Value, json};

pub use judge::{Invariant, Violation};
pub use run::{Failure, run};
use watcher::Worst;

use crate::soak::size;
use crate::tools::target;

/// What the product runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// `penstock standalone`.
    Standalone,
    /// A cluster of two nodes.
    Cluster,
}

/// What is broken on purpose, so that the run must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The worker keeps a socket open whose lease is over.
    Leak,
    /// The shard of a protected stream does not come back.
    Hang,
    /// The worker opens a number of one lease for another stream, too.
    DoubleLease,
}

/// A run.
pub struct Options<'a> {
    /// On what.
    pub ground: Ground,
    /// Of all that is random.
    pub seed: u64,
    /// For how long things are done.
    pub length: Duration,
    /// Steps that were made before.
    pub from: u64,
    /// What is broken on purpose.
    pub plant: Option<Plant>,
    /// Somebody wants it to end.
    pub stop: &'a AtomicBool,
}

/// A run in which nothing was broken.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Steps that were made.
    pub steps: u64,
    /// Such as came to nothing.
    pub idle: u64,
    /// Faults that were done and put right.
    pub faults: u64,
    worst: Worst,
}

impl Options<'_> {
    /// As the environment has it: PENSTOCK_SEED, PENSTOCK_SECONDS or PENSTOCK_MINUTES, and PENSTOCK_RESUME to go on with what was stopped.
    ///
    /// # Panics
    /// When one of them is not understood, or nothing was stopped.
    pub fn from_environment(ground: Ground, stop: &AtomicBool) -> Options<'_> {
        let seconds = size("PENSTOCK_MINUTES", 0) * 60;
        let length = Duration::from_secs(if seconds > 0 { seconds } else { size("PENSTOCK_SECONDS", 20) });
        let options = Options { ground, seed: size("PENSTOCK_SEED", 1), length, from: 0, plant: None, stop };
        if env::var_os("PENSTOCK_RESUME").is_none() {
            return options;
        }
        let file = stopped_file(ground);
        let told = fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("nothing was stopped: {}: {e}", file.display()));
        options.resumed(&told).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    }

    /// What goes on where this was stopped.
    fn stopped(&self, steps: u64, left: Duration) -> String {
        json!({"seed": self.seed, "steps": steps, "secondsLeft": left.as_secs()}).to_string()
    }

    fn resumed(self, told: &str) -> Result<Self, String> {
        let told: Value = serde_json::from_str(told).map_err(|e| e.to_string())?;
        let number = |field: &str| told[field].as_u64().ok_or_else(|| format!("no {field} in {told}"));
        let (seed, from) = (number("seed")?, number("steps")?);
        Ok(Options { seed, from, length: Duration::from_secs(number("secondsLeft")?), ..self })
    }
}

/// Where a run that was stopped leaves how to go on.
fn stopped_file(ground: Ground) -> PathBuf {
    target().join(format!("chaos-{ground:?}.stopped").to_lowercase())
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { steps, idle, faults, worst } = self;
        write!(out, "{steps} steps, {idle} of them came to nothing, {faults} faults; {worst}")
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Worst { looks, answer: (page, took), silence, rss, late, back } = self;
        write!(
            out,
            "{looks} looks; the slowest answer was {page} after {took:.0?}; a protected viewer waited {silence:.0?} at most, and {back:.1?} \
             for all to be back after a fault; {} MiB; the machine was {late:.0?} late",
            rss >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::{Ground, Options};

    #[test]
    fn a_run_that_was_stopped_goes_on_where_it_was() {
        let stop = AtomicBool::new(false);
        let length = Duration::from_secs(60);
        let run = |seed| Options { ground: Ground::Cluster, seed, length, from: 0, plant: None, stop: &stop };
        let told = run(7).stopped(123, Duration::from_secs(20));
        let resumed = run(1).resumed(&told).unwrap();
        assert_eq!((resumed.seed, resumed.from, resumed.length), (7, 123, Duration::from_secs(20)));
        assert!(run(1).resumed("{}").is_err());
    }
}
