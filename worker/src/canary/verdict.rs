//! Which canary fails: the watchdog's judgement of rounds, as pure code over what it sees at each wake.
//!
//! A round that was late on a machine that had no time for it says nothing. So one that was missed counts only where all was well
//! from its begin on: the watchdog woke on time, and front and all shards ticked. A thread that doesn't tick is not this judge's
//! business but the watchdog's own. A verdict costs readiness and no more.

use std::time::Duration;

use super::{Canary, Listener, Outcome, Round, Steps};
use crate::limits::{CANARY_MISSES_MAX, CANARY_SILENT_MAX, CANARY_TICK_MAX, CANARY_WAKE_MAX};

/// The judgement over time. One a process.
#[derive(Debug, Default)]
pub struct Judge {
    woke: Option<Duration>,
    /// Since when all has been well.
    clear_since: Duration,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    canary: Canary,
    /// Number of the last round that was looked at.
    number: u64,
    /// When a round was heard of last.
    heard: Duration,
    /// Rounds missed in a row, of those that count.
    misses: u32,
    /// When the first of them began.
    missed_since: Duration,
    /// What did not come in them.
    missing: Steps,
    failing: bool,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A canary fails.
    Failing {
        /// Which.
        canary: Canary,
        /// Since when its media has not come.
        since: Duration,
        /// What did not come; nothing where it is the canary's thread that does nothing.
        missing: Steps,
    },
    /// Its media comes again.
    Recovered {
        /// Which.
        canary: Canary,
    },
}

impl Judge {
    /// Looks at the last round of each canary, at time `now` of the process's clock. `tick_age` is that of the slowest of front and
    /// shards. Call it at each wake.
    pub fn look(
        &mut self,
        now: Duration,
        tick_age: Duration,
        rounds: &[(Canary, Option<Round>)],
    ) -> Vec<Finding> {
        let on_time = self.woke.is_none_or(|woke| now.saturating_sub(woke) <= CANARY_WAKE_MAX);
        if !on_time || tick_age > CANARY_TICK_MAX || self.woke.is_none() {
            self.clear_since = now;
        }
        self.woke = Some(now);
        let clear_since = self.clear_since;
        let judged = rounds.iter().filter_map(|&(canary, round)| {
            let watched = self.watched(canary, now);
            match round.filter(|round| round.number != watched.number) {
                Some(round) => watched.judge(round, now, clear_since),
                None => watched.listen(now, clear_since),
            }
        });
        judged.collect()
    }

    /// True while no canary fails.
    pub fn all_pass(&self) -> bool {
        self.watched.iter().all(|watched| !watched.failing)
    }

    fn watched(&mut self, canary: Canary, now: Duration) -> &mut Watched {
        let at = self.watched.iter().position(|watched| watched.canary == canary).unwrap_or_else(|| {
            self.watched.push(Watched {
                canary,
                number: 0,
                heard: now,
                misses: 0,
                missed_since: now,
                missing: Steps::default(),
                failing: false,
            });
            self.watched.len() - 1
        });
        &mut self.watched[at]
    }
}

impl Watched {
    /// Takes note of a round that has ended.
    fn judge(&mut self, round: Round, now: Duration, clear_since: Duration) -> Option<Finding> {
        self.number = round.number;
        self.heard = now;
        match round.outcome {
            Outcome::Passed(_) => {
                (self.misses, self.missing) = (0, Steps::default());
                std::mem::take(&mut self.failing).then_some(Finding::Recovered { canary: self.canary })
            }
            Outcome::NotTried => None,
            // It neither convicts nor acquits.
            Outcome::Missed(_) if round.began < clear_since => None,
            Outcome::Missed(step) => {
                if self.misses == 0 {
                    self.missed_since = round.began;
                }
                self.misses = self.misses.saturating_add(1);
                self.missing.add(step);
                (self.misses >= CANARY_MISSES_MAX).then(|| self.fail()).flatten()
            }
        }
    }

    /// Takes note that there is no news.
    fn listen(&mut self, now: Duration, clear_since: Duration) -> Option<Finding> {
        // Visits are as rare as there are shards; whoever makes them keeps the private ones too.
        let is_due = self.canary.listener == Listener::Private;
        let silent = now.saturating_sub(self.heard.max(clear_since)) > CANARY_SILENT_MAX;
        if !is_due || !silent {
            return None;
        }
        if self.misses == 0 {
            self.missed_since = self.heard;
        }
        self.fail()
    }

    fn fail(&mut self) -> Option<Finding> {
        let news = !std::mem::replace(&mut self.failing, true);
        let (canary, since, missing) = (self.canary, self.missed_since, self.missing);
        news.then_some(Finding::Failing { canary, since, missing })
    }
}

#[cfg(test)]
mod tests;
