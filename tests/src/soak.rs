//! What long runs share: sizes that the environment gives, and numbers that a seed gives.

use std::env;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number in a variable of the environment, or `default`: small for `cargo xtask test`, whole for `cargo xtask soak`.
///
/// # Panics
/// When the variable is no number.
#[track_caller]
pub fn size<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e:?}")),
        Err(_) => default,
    }
}

/// Whether times and memory are judged, which takes the release binary on an idle machine.
pub fn bounds() -> bool {
    env::var_os("PENSTOCK_BOUNDS").is_some()
}

/// Tells threads of a scope to stop when the one who drops it leaves, however it does.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A plain generator, so that a run can be repeated by its seed: a linear congruential one with Knuth's constants.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that begins with the seed in PENSTOCK_SEED, or 1, and tells it.
    pub fn from_environment() -> Random {
        let seed = size("PENSTOCK_SEED", 1);
        eprintln!("PENSTOCK_SEED={seed}");
        Random(seed)
    }

    /// One that begins with `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from 0 on, below `below`.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// So many bytes of no meaning.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next(256) as u8).collect()
    }
}
