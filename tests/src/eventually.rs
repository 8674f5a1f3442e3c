//! Waiting for a state: never for a time, and never without a limit.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks at a state. Short beside every limit, long beside the cost of a look.
const LOOK_EACH: Duration = Duration::from_millis(10);

/// Looks until `probe` gives a value and returns it.
///
/// # Panics
/// When `limit` has passed: with `what` was awaited and with the reason of the last look.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, limit: Duration, probe: impl FnMut() -> Result<T, E>) -> T {
    match within(limit, probe) {
        Ok(value) => value,
        Err(last) => panic!("waited {limit:?} for: {what}; at the last look: {last}"),
    }
}

/// Looks until `probe` gives a value, or gives back the reason of the last look when `limit` has passed.
pub fn within<T, E>(limit: Duration, mut probe: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= end => return Err(reason),
            Err(_) => std::thread::sleep(LOOK_EACH),
        }
    }
}

/// Looks all the time for as long as `time`: what must stay as it is while something is done to it.
///
/// # Panics
/// At the first look that finds it otherwise.
#[track_caller]
pub fn throughout<E: Display>(what: &str, time: Duration, mut probe: impl FnMut() -> Result<(), E>) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if let Err(reason) = probe() {
            panic!("{what} held for {:?} of {time:?}: {reason}", begun.elapsed());
        }
        std::thread::sleep(LOOK_EACH);
    }
}

/// `Ok` when it holds, else the words for what was seen instead.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
