//! The planning core in a simulated world: two operators, three workers, an API server and links between them, all of
//! which fail. A seed gives the same run each time.
//!
//! `PENSTOCK_SEEDS=10000` runs that many; `PENSTOCK_SEED=17` runs one and prints what happened;
//! `PENSTOCK_FROM=5000` begins there; `PENSTOCK_FAILURES=1` stops at the first that fails; `PENSTOCK_LINES=4000` prints
//! more of it; `PENSTOCK_COVERAGE=1` prints what met what.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

mod api;
mod cases;
mod coverage;
mod faults;
mod invariants;
mod link;
mod model;
mod objects;
mod poke;
mod replica;
mod rng;
mod trace;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use operator_core::Config;
use operator_core::config::PathGrants;

use coverage::Coverage;
use world::{Item, World};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 150;
/// Things that people and misfortune do in a run.
const CHAOS: Duration = Duration::from_secs(24);
/// Once faults have stopped: the last thief goes after 12 s, the last paused process ends after 8 s, then two scans 5 s
/// apart see a number free.
const SETTLE: Duration = Duration::from_secs(45);
/// Then nothing is written this long.
const STEADY: Duration = Duration::from_secs(12);
/// What each pair of event and state must be hit in a full run.
const HITS: u64 = 100;
const FULL: u64 = 10_000;
const STEPS: u64 = 500;
/// A run stops when this many seeds have failed.
const FAILURES_MAX: u64 = 20;

/// What a run was like.
struct Run {
    steps: u64,
    coverage: Coverage,
}

#[test]
fn no_seed_breaks_an_invariant() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PENSTOCK_SEED") {
        println!("{}", replay(seed));
        return;
    }
    let seeds = number("PENSTOCK_SEEDS").unwrap_or(SEEDS);
    let from = number("PENSTOCK_FROM").unwrap_or(0);
    let failures_max = number("PENSTOCK_FAILURES").unwrap_or(FAILURES_MAX) as usize;
    let next = AtomicU64::new(from);
    let done = Mutex::new((Coverage::default(), 0_u64, Vec::<(u64, String)>::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || done.lock().unwrap().2.len() >= failures_max {
                        return;
                    }
                    let run = run_caught(seed);
                    let mut done = done.lock().unwrap();
                    match run {
                        Ok(run) => {
                            done.0.add(&run.coverage);
                            done.1 += run.steps;
                        }
                        Err(text) => {
                            println!(
                                "seed {seed} fails: {}",
                                text.lines().take(3).collect::<Vec<_>>().join(" ")
                            );
                            done.2.push((seed, text));
                        }
                    }
                }
            });
        }
    });
    let (coverage, steps, mut failures) = done.into_inner().unwrap();
    println!("{seeds} seeds from {from}, {steps} steps");
    failures.sort();
    if let Some((seed, _)) = failures.first() {
        let all: Vec<String> = failures.iter().map(|(seed, text)| format!("seed {seed}: {text}")).collect();
        panic!("{}\nthe last steps of seed {seed}:\n{}", all.join("\n"), replay(*seed));
    }
    let least = if seeds >= FULL { HITS } else { 0 };
    let wrong = coverage.judge(include_str!("unreachable.txt"), least);
    if std::env::var_os("PENSTOCK_COVERAGE").is_some() || !wrong.is_empty() {
        println!("{}", coverage.table());
    }
    assert!(wrong.is_empty(), "coverage:\n{}", wrong.join("\n"));
}

fn run_caught(seed: u64) -> Result<Run, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = make(seed);
        play(&mut world).map(|()| Run { steps: world.steps, coverage: world.coverage })
    }))
    .unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The same seed again, with its last steps as text.
fn replay(seed: u64) -> String {
    let mut world = make(seed);
    world.log = Some(Default::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    let last = std::env::var("PENSTOCK_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let log = world.log.take().unwrap_or_default();
    let skipped = log.len().saturating_sub(last);
    let mut text: Vec<String> = log.into_iter().skip(skipped).collect();
    text.push(format!("seed {seed}: {outcome:?} after {} steps", world.steps));
    text.join("\n")
}

fn make(seed: u64) -> World {
    let config = match seed % 4 {
        3 => Config::standalone(),
        0 => Config {
            path_grants: PathGrants::Namespaces([("east".into(), vec!["live/".into()])].into()),
            ..Config::cluster()
        },
        _ => Config { path_grants: PathGrants::All, ..Config::cluster() },
    };
    let mut world = World::new(seed, config, 2 + usize::from(seed % 5 == 4));
    let hosts = 3 + usize::from(seed % 7 == 6);
    world.furnish(hosts);
    world
}

fn play(world: &mut World) -> Result<(), String> {
    // Half of the runs begin with everything in place.
    world.after(0, 4000, Item::Chaos);
    world.run(CHAOS)?;
    world.heal();
    world.run(CHAOS + SETTLE)?;
    let wrong = world.judge_end();
    if !wrong.is_empty() {
        return Err(format!("at the end:\n  {}", wrong.join("\n  ")));
    }
    let writes = world.writes;
    world.run(CHAOS + SETTLE + STEADY)?;
    if world.writes != writes {
        return Err(format!("{} writes in {STEADY:?} in which nothing happened", world.writes - writes));
    }
    let wrong = world.judge_end();
    if !wrong.is_empty() {
        return Err(format!("at the very end:\n  {}", wrong.join("\n  ")));
    }
    if world.steps < STEPS {
        return Err(format!("only {} steps", world.steps));
    }
    Ok(())
}
