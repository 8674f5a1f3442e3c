//! Both clocks, read together: the planner is given the time and never looks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use operator_core::Now;

/// The clocks of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), wall_unix_ms: unix_ms(SystemTime::now()) }
    }

    /// The instant of a planner's deadline.
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}

/// Milliseconds since 1970; 0 for a time before.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
