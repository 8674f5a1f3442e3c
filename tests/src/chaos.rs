//! `cargo xtask soak chaos`: everything that is done to a media server by the world, at random and at once, against a real
//! `penstock standalone`, while somebody looks on from outside.
//!
//! ```text
//!  script.rs (seed, step) → Action ─→ world.rs ─→ actors: encoders, viewers, cameras, strangers, thieves
//!                                        │                      ↓
//!                                        │              penstock standalone ←─ protected.rs: streams that nobody attacks
//!                                        ↓                      ↑                           │
//!                                   assaults.rs ─────→ watcher.rs: pages, /proc, metrics ←──┘
//!                                                               ↓
//!                                                      judge.rs: what must hold all the time
//! ```
//!
//! A run is told by its seed and a step. How threads meet is not repeated by it, so a failure tells what was done last, too.

mod actors;
mod assaults;
mod judge;
mod protected;
mod script;
mod watcher;
mod world;

use std::fmt::{self, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

pub use judge::{Invariant, Violation};
use watcher::Worst;
use world::World;

use crate::tools;

/// The seed of the gate's run; its first steps have each kind of action.
pub const SEED: u64 = 1;
/// How long the gate's run is.
pub const LENGTH: Duration = Duration::from_secs(20);

/// Between two lines about how it goes.
const TELL_EACH: Duration = Duration::from_secs(30);
/// Events and lines of the log that a failure tells.
const EVENTS: usize = 20;
const LINES: usize = 40;
/// Steps before the one that failed which a repetition begins with.
const RUN_UP: u64 = 50;

/// What is broken on purpose, so that the run must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The worker keeps a socket open whose lease is over.
    Leak,
    /// A shard of a protected stream does not come back.
    Hang,
    /// Two streams show one number. The product's own pages never do, so the watcher is shown a page that does.
    DoubleLease,
}

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of all that is random.
    pub seed: u64,
    /// For how long things are done.
    pub length: Duration,
    /// The first step.
    pub from: u64,
    /// What is broken on purpose.
    pub plant: Option<Plant>,
}

impl Options {
    /// As the environment has it: PENSTOCK_SEED, PENSTOCK_MINUTES, PENSTOCK_FROM, PENSTOCK_PLANT.
    ///
    /// # Panics
    /// When one of them is not understood.
    pub fn from_environment() -> Options {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
        };
        let plant = std::env::var("PENSTOCK_PLANT").ok().map(|name| match name.as_str() {
            "leak" => Plant::Leak,
            "hang" => Plant::Hang,
            "double-lease" => Plant::DoubleLease,
            _ => panic!("PENSTOCK_PLANT={name}: is leak, hang or double-lease"),
        });
        Options {
            seed: number("PENSTOCK_SEED").unwrap_or(SEED),
            length: number("PENSTOCK_MINUTES").map_or(LENGTH, |minutes| Duration::from_secs(60 * minutes)),
            from: number("PENSTOCK_FROM").unwrap_or(0),
            plant,
        }
    }
}

/// A run in which nothing was broken.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Steps that were made.
    pub steps: u64,
    worst: Worst,
}

/// A run in which something was.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What.
    pub violation: Violation,
    /// With it, how it came about.
    pub report: String,
}

/// Runs it; the first broken invariant ends it.
pub fn run(options: &Options) -> Result<Summary, Box<Failure>> {
    let mut world = World::start(options);
    let watcher = world.watch(options.plant);
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut step = options.from;
    while begun.elapsed() < options.length && watcher.violation().is_none() {
        world.step(step);
        // The script has a pace of its own; nothing is waited for here.
        std::thread::sleep(script::pause(options.seed, step));
        step += 1;
        if told.elapsed() >= TELL_EACH {
            told = Instant::now();
            eprintln!("chaos: step {step}; {}", watcher.worst());
        }
    }
    let outcome = match watcher.violation() {
        Some(violation) => Err(violation),
        None => world.rest(&watcher),
    };
    let worst = watcher.worst();
    match outcome {
        Ok(()) => Ok(Summary { steps: step - options.from, worst }),
        Err(violation) => {
            let report = report(options, step, &violation, &world, &worst);
            Err(Box::new(Failure { violation, report }))
        }
    }
}

/// All that helps to find the cause.
fn report(options: &Options, step: u64, violation: &Violation, world: &World, worst: &Worst) -> String {
    let (log, events) = world.last_words();
    let kept = std::env::temp_dir().join(format!("penstock-chaos-{}-{step}.log", options.seed));
    let kept = match std::fs::write(&kept, &log) {
        Ok(()) => format!("the whole log is in {}", kept.display()),
        Err(error) => format!("the whole log is lost: {error}"),
    };
    let mut text = format!("{violation}\n");
    let again = step.saturating_sub(RUN_UP).max(options.from);
    let mut line = |words: &dyn fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(&format_args!("  seed {}, step {step}, commit {}; {kept}", options.seed, commit()));
    line(&format_args!(
        "  nearly the same again: cargo xtask soak chaos --seed {} --from {again}",
        options.seed
    ));
    line(&format_args!("  the worst before: {worst}"));
    line(&"  the last actions:");
    world.history().for_each(|action| line(&format_args!("    {action}")));
    line(&"  the last events:");
    last(&events, EVENTS).iter().for_each(|event| line(&format_args!("    {event}")));
    line(&"  the last lines of its log:");
    let lines: Vec<&str> = log.lines().collect();
    last(&lines, LINES).iter().for_each(|words| line(&format_args!("    {words}")));
    text
}

fn last<T>(of: &[T], count: usize) -> &[T] {
    &of[of.len().saturating_sub(count)..]
}

fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(tools::root()).args(["describe", "--always", "--dirty", "--abbrev=12"]);
    tools::succeed(&mut git).map_or_else(|_| "unknown".into(), |commit| commit.trim().to_owned())
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} steps; {}", self.steps, self.worst)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.report)
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Worst { rounds, answers, gap, rss: [parent, worker], late, back, standstills } = self;
        write!(out, "{rounds} looks; slowest answers:")?;
        for (page, took) in answers {
            write!(out, " {page} {took:.0?}")?;
        }
        let (parent, worker) = (parent >> 20, worker >> 20);
        write!(
            out,
            "; a protected viewer waited {gap:.0?} at most; all was back {back:.1?} after a kill; {parent} and {worker} MiB; the machine \
             was {late:.0?} late, and stood still {standstills} times"
        )
    }
}
