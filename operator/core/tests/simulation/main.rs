//! The planning core in a simulated world: two operators, three workers, an API server and links between them, all of
//! which fail. A seed gives the same run each time.
//!
//! `PENSTOCK_SEEDS=10000` runs that many; `PENSTOCK_SEED=17` runs one and prints what happened;
//! `PENSTOCK_FROM=5000` begins there; `PENSTOCK_FAILURES=1` stops at the first that fails; `PENSTOCK_LINES=4000` prints
//! more of it; `PENSTOCK_COVERAGE=1` prints what met what; `PENSTOCK_HITS=10` asks of each pair of event and state that it was
//! met so often, as a full run does with 100. Where chance alone did not see to that, moments are gone to again (`revisit`);
//! `PENSTOCK_DETOUR` with `PENSTOCK_SEED` shows such a run, in the words that its failure printed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

mod api;
mod cases;
mod coverage;
mod crowd;
mod faults;
mod invariants;
mod link;
mod model;
mod nap;
mod objects;
mod poke;
mod raise;
mod relapse;
mod replica;
mod revisit;
mod rng;
mod rounds;
mod trace;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use operator_core::config::PathGrants;
use operator_core::status::Phase;
use operator_core::{Config, LeaseState};

use coverage::{Coverage, Pair};
use revisit::{Detour, Visit, Visits, Way};
use world::{Item, World};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 150;
/// Things that people and misfortune do in a run.
const CHAOS: Duration = Duration::from_secs(42);
/// Once faults have stopped: the last thief goes after 12 s, the last paused process ends after 8 s, then two scans 5 s
/// apart see a number free.
const SETTLE: Duration = Duration::from_secs(45);
/// Then nothing is written this long.
const STEADY: Duration = Duration::from_secs(12);
/// What each pair of event and state must be hit in a full run.
const HITS: u64 = 100;
const FULL: u64 = 10_000;
/// For each pair that chance alone did not meet often enough.
const VISITS_MAX: usize = 4000;
/// To the same moment, for the same pair.
const TURNS_MAX: usize = 8;
const STEPS: u64 = 500;
/// A run stops when this many seeds have failed.
const FAILURES_MAX: u64 = 20;

/// What a run was like.
struct Run {
    steps: u64,
    coverage: Coverage,
    visits: Option<Visits>,
    /// Whether it took the other turn that was asked for.
    turned: bool,
}

/// What runs have come to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    steps: u64,
    detours: u64,
    visits: BTreeMap<(LeaseState, Phase, Way), Vec<(u64, Visit)>>,
    failures: Vec<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    seed: u64,
    detour: Option<Detour>,
    text: String,
}

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(seed) = number("PENSTOCK_SEED") {
        let detour = std::env::var("PENSTOCK_DETOUR").ok();
        let detour = detour.map(|text| Detour::parse(&text).expect("MOMENT UID TURN KIND LEASE PHASE"));
        println!("{}", replay(seed, detour));
        return;
    }
    let seeds = number("PENSTOCK_SEEDS").unwrap_or(SEEDS);
    let from = number("PENSTOCK_FROM").unwrap_or(0);
    let failures_max = number("PENSTOCK_FAILURES").unwrap_or(FAILURES_MAX) as usize;
    let least = number("PENSTOCK_HITS").unwrap_or(if seeds >= FULL { HITS } else { 0 });
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    on_each_core(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds || sum.lock().unwrap().failures.len() >= failures_max {
                return;
            }
            let run = run_caught(seed, None, least > 0);
            sum.lock().unwrap().add(seed, None, run);
        }
    });
    let unreachable = include_str!("unreachable.txt");
    let rare = sum.lock().unwrap().coverage.below(unreachable, least);
    for pair in rare {
        revisit(pair, least, failures_max, &sum);
    }
    let Sum { coverage, steps, detours, mut failures, .. } = sum.into_inner().unwrap();
    println!("{seeds} seeds from {from}, {detours} of their moments gone to again, {steps} steps");
    let wrong = coverage.judge(unreachable, least);
    if std::env::var_os("PENSTOCK_COVERAGE").is_some() || !wrong.is_empty() {
        println!("{}", coverage.table());
    }
    failures.sort_by_key(|failure| failure.seed);
    if let Some(first) = failures.first() {
        let all: Vec<String> = failures.iter().map(Failure::told).collect();
        let last = replay(first.seed, first.detour.clone());
        panic!("{}\nthe last steps of seed {}:\n{last}", all.join("\n"), first.seed);
    }
    assert!(wrong.is_empty(), "coverage:\n{}", wrong.join("\n"));
}

/// What the environment asks for.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn on_each_core(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// Goes to moments again at which such a stream could hear such an event, until that was met often enough.
fn revisit(pair: Pair, least: u64, failures_max: usize, sum: &Mutex<Sum>) {
    let state = (pair.lease, pair.phase, Way::of(pair.kind));
    let visits = sum.lock().unwrap().visits.get(&state).cloned().unwrap_or_default();
    println!("{}: {} moments of such streams", pair.name().join(" "), visits.len());
    let next = AtomicU64::new(0);
    on_each_core(|| {
        loop {
            {
                let sum = sum.lock().unwrap();
                let hits = sum.coverage.hits(pair.kind, pair.lease, pair.phase);
                if hits >= least || sum.failures.len() >= failures_max {
                    return;
                }
            }
            let nth = next.fetch_add(1, Ordering::Relaxed) as usize;
            if nth >= VISITS_MAX.min(visits.len() * TURNS_MAX) {
                return;
            }
            let (seed, visit) = &visits[nth % visits.len()];
            let detour = Detour { visit: visit.clone(), turn: (nth / visits.len()) as u64, pair };
            let run = run_caught(*seed, Some(detour.clone()), false);
            sum.lock().unwrap().add(*seed, Some(detour), run);
        }
    });
}

impl Sum {
    fn add(&mut self, seed: u64, detour: Option<Detour>, run: Result<Run, String>) {
        match run {
            Ok(run) => {
                self.coverage.add(&run.coverage);
                self.steps += run.steps;
                self.detours += u64::from(run.turned);
                for (state, visits) in run.visits.into_iter().flat_map(Visits::all) {
                    let visits = visits.into_iter().map(|visit| (seed, visit));
                    self.visits.entry(state).or_default().extend(visits);
                }
            }
            Err(text) => {
                let failure = Failure { seed, detour, text };
                println!(
                    "{} fails: {}",
                    failure.named(),
                    failure.text.lines().take(3).collect::<Vec<_>>().join(" ")
                );
                self.failures.push(failure);
            }
        }
    }
}

impl Failure {
    fn named(&self) -> String {
        let detour = self.detour.as_ref().map(|detour| format!(" (PENSTOCK_DETOUR={:?})", detour.told()));
        format!("seed {}{}", self.seed, detour.unwrap_or_default())
    }

    fn told(&self) -> String {
        format!("{}: {}", self.named(), self.text)
    }
}

fn run_caught(seed: u64, detour: Option<Detour>, noted: bool) -> Result<Run, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = make(seed, detour);
        world.visits = noted.then(|| Visits::of(seed));
        let played = play(&mut world);
        let turned = world.turned == Some(true);
        played.map(|()| Run { steps: world.steps, coverage: world.coverage, visits: world.visits, turned })
    }))
    .unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The same seed again, with its last steps as text.
fn replay(seed: u64, detour: Option<Detour>) -> String {
    let mut world = make(seed, detour);
    world.log = Some(Default::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    let last = number("PENSTOCK_LINES").unwrap_or(150) as usize;
    let log = world.log.take().unwrap_or_default();
    let skipped = log.len().saturating_sub(last);
    let mut text: Vec<String> = log.into_iter().skip(skipped).collect();
    text.push(format!("seed {seed}: {outcome:?} after {} steps", world.steps));
    text.join("\n")
}

fn make(seed: u64, detour: Option<Detour>) -> World {
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
    world.detour = detour;
    world
}

fn play(world: &mut World) -> Result<(), String> {
    // Half of the runs begin with everything in place.
    world.after(0, 4000, Item::Chaos);
    world.run(CHAOS)?;
    if world.turned == Some(false) {
        // It is the run of before up to there, and that was judged.
        world.coverage = Coverage::default();
        return Ok(());
    }
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
