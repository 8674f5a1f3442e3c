//! The world against a real server, for some seconds; and that the judge names what is planted. `cargo xtask soak chaos` is the long run.

mod stopped;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tests::chaos::{self, Failure, Ground, Invariant, Options, Plant};

/// One run after the other: each is load enough.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_full_mix_breaks_no_invariant() {
    let _turn = turn();
    let options = Options::from_environment(Ground::Standalone, stopped::when_told());
    eprintln!("chaos: seed {} from step {} for {:?}", options.seed, options.from, options.length);
    match chaos::run(&options) {
        Ok(summary) => eprintln!("chaos: nothing was broken: {summary}"),
        Err(failure) => panic!("{failure}"),
    }
}

fn planted(plant: Plant) -> Box<Failure> {
    let _turn = turn();
    let stop = AtomicBool::new(false);
    let length = Duration::from_secs(90);
    let options =
        Options { ground: Ground::Standalone, seed: 1, length, from: 0, plant: Some(plant), stop: &stop };
    let failure = match chaos::run(&options) {
        Ok(summary) => panic!("{plant:?} was not seen: {summary}"),
        Err(failure) => failure,
    };
    eprintln!("{failure}");
    for words in ["seed 1", "step ", "commit ", "the last steps", "the last events"] {
        assert!(failure.report.contains(words), "no {words:?} in:\n{failure}");
    }
    failure
}

#[test]
fn a_planted_leak_is_named() {
    let failure = planted(Plant::Leak);
    assert_eq!(failure.violation.of, Invariant::Leak, "{failure}");
}

#[test]
fn a_planted_hang_is_named() {
    let failure = planted(Plant::Hang);
    // Health says so, or the viewer that waits, whichever is seen first.
    assert!(matches!(failure.violation.of, Invariant::Hang | Invariant::Stall), "{failure}");
}

#[test]
fn a_planted_double_lease_is_named() {
    let failure = planted(Plant::DoubleLease);
    assert_eq!(failure.violation.of, Invariant::DoubleLease, "{failure}");
}
