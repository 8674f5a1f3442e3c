//! The world against a real server, for some seconds; and that the watcher sees what is planted. `cargo xtask soak chaos` is the long run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tests::chaos::{self, Failure, Invariant, Options, Plant};

/// One run after the other: each is load enough.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_full_mix_breaks_no_invariant() {
    let _turn = turn();
    let options = Options::from_environment();
    eprintln!("chaos: {options:?}");
    match chaos::run(&options) {
        Ok(summary) => eprintln!("chaos: nothing was broken: {summary}"),
        Err(failure) => panic!("{failure}"),
    }
}

fn planted(plant: Plant) -> Box<Failure> {
    let _turn = turn();
    let options = Options { seed: chaos::SEED, length: Duration::from_secs(60), from: 0, plant: Some(plant) };
    let failure = match chaos::run(&options) {
        Ok(summary) => panic!("{plant:?} was not seen: {summary}"),
        Err(failure) => failure,
    };
    for words in
        [format!("seed {}", chaos::SEED), "step ".into(), "commit ".into(), "the last actions".into()]
    {
        assert!(failure.report.contains(&words), "no {words:?} in:\n{failure}");
    }
    failure
}

#[test]
fn a_planted_leak_is_named() {
    let failure = planted(Plant::Leak);
    assert_eq!(failure.violation.of, Invariant::Leak, "{failure}");
    assert!(failure.violation.to_string().contains("Listening("), "{failure}");
}

#[test]
fn a_planted_hang_is_named() {
    let failure = planted(Plant::Hang);
    assert_eq!(failure.violation.of, Invariant::Health, "{failure}");
}

#[test]
fn a_planted_double_lease_is_named() {
    let failure = planted(Plant::DoubleLease);
    assert_eq!(failure.violation.of, Invariant::DoubleLease, "{failure}");
    assert!(failure.violation.to_string().contains("twin"), "{failure}");
}
