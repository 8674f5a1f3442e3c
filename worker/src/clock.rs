//! The process's clock: time since its start, as pure code wants it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the start of the process. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts here.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Monotonic time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The instant at which [`now`](Self::now) is `at`.
    pub fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }

    /// Wall clock, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
