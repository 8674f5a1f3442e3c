//! Everything that is known, and how an event changes it.

use std::time::Duration;

use crate::config::Config;
use crate::event::{Event, Now};

/// Everything that is known.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
}

impl State {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes note of what happened. Decides nothing; `plan` does.
    pub fn observe(&mut self, event: Event, now: Now) {
        let _ = (event, now);
    }

    /// When `plan` wants to be called again though nothing happens; absent: never.
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }
}
