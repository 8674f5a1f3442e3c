//! What the canaries' rounds came to: written by their thread, read by the watchdog, the health pages and metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Canary, Listener};
use crate::clock::Clock;
use crate::limits::CANARIES_TOLD_MAX;

/// One place for each canary.
#[derive(Debug)]
pub struct Board {
    clock: Clock,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    canary: Canary,
    last: Mutex<Last>,
    /// Milliseconds of the clock, and one more so that 0 can mean: it passes.
    failing_since_ms: AtomicU64,
}

/// What is known of one canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// The round that ended last.
    pub round: Option<Round>,
    /// When one passed last.
    pub passed: Option<Duration>,
    /// How long its media took.
    pub latency: Option<Duration>,
    /// What has not come since.
    pub missing: Steps,
}

/// One try of a canary. Times are the process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Rises by one with each of a canary's.
    pub number: u64,
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The media came as it went, and took this long: kept sessions from publisher to player, a visit from its connect on.
    Passed(Duration),
    /// It did not come in time. This was waited for.
    Missed(Step),
    /// The canary has no socket to try with, which says nothing of the media path.
    NotTried,
}

/// How far a round came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A connection to the listener.
    Connect,
    /// Leave to publish.
    Publish,
    /// Leave to play.
    Play,
    /// The media that was published.
    Media,
}

impl Step {
    /// All of them, as they follow each other.
    pub const ALL: [Step; 4] = [Step::Connect, Step::Publish, Step::Play, Step::Media];

    /// The word of pages and logs for what did not come.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Connect => "connect",
            Step::Publish => "publish",
            Step::Play => "play",
            Step::Media => "media",
        }
    }
}

/// What did not come, of rounds in a row. None of it where there was no round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps([bool; Step::ALL.len()]);

impl Steps {
    /// Adds one.
    pub fn add(&mut self, step: Step) {
        self.0[step as usize] = true;
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = Step::ALL.into_iter().filter(|step| self.0[*step as usize]).map(Step::as_str);
        let missing = missing.collect::<Vec<_>>().join(", ");
        f.write_str(if missing.is_empty() { "round" } else { &missing })
    }
}

impl Board {
    /// Places for the canaries of so many shards.
    pub fn new(clock: Clock, shards: usize) -> Board {
        let canary = |shard| Listener::ALL.map(|listener| Canary { shard, listener });
        let place = |canary| Place { canary, last: Mutex::default(), failing_since_ms: AtomicU64::new(0) };
        Board { clock, places: (0..shards).flat_map(canary).map(place).collect() }
    }

    /// Notes that a round has ended.
    pub(super) fn note(&self, canary: Canary, began: Duration, ended: Duration, outcome: Outcome) {
        let Some(place) = self.place(canary) else { return };
        let mut last = place.last.lock().unwrap_or_else(PoisonError::into_inner);
        let number = last.round.map_or(1, |round| round.number + 1);
        last.round = Some(Round { number, began, ended, outcome });
        match outcome {
            Outcome::Passed(latency) => {
                (last.passed, last.latency, last.missing) = (Some(ended), Some(latency), Steps::default());
            }
            Outcome::Missed(step) => last.missing.add(step),
            Outcome::NotTried => {}
        }
    }

    /// The last round of each canary; absent where there is none yet, or where it is being noted at this instant: the watchdog
    /// waits for nobody.
    pub fn rounds(&self) -> Vec<(Canary, Option<Round>)> {
        let round = |place: &Place| place.last.try_lock().ok().and_then(|last| last.round);
        self.places.iter().map(|place| (place.canary, round(place))).collect()
    }

    /// All that is known of each canary.
    pub fn all(&self) -> Vec<(Canary, Last)> {
        let last = |place: &Place| *place.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.places.iter().map(|place| (place.canary, last(place))).collect()
    }

    /// Time since media of this canary came, or since the start of the process where none has.
    pub fn age(&self, last: &Last) -> Duration {
        self.clock.now().saturating_sub(last.passed.unwrap_or_default())
    }

    /// Keeps the watchdog's verdict: failing since then, or passing.
    pub fn set_failing(&self, canary: Canary, since: Option<Duration>) {
        if let Some(place) = self.place(canary) {
            place.failing_since_ms.store(since.map_or(0, |at| at.as_millis() as u64 + 1), Relaxed);
        }
    }

    /// Whether the watchdog holds a canary for failing.
    pub fn is_failing(&self, canary: Canary) -> bool {
        self.place(canary).is_some_and(|place| place.failing_since().is_some())
    }

    /// For the health pages: how many fail, and of the first of them which, since when, and what did not come.
    pub fn page(&self) -> Value {
        let (now, unix_ms) = (self.clock.now(), self.clock.unix_ms());
        let failing: Vec<_> =
            self.places.iter().filter_map(|place| Some((place, place.failing_since()?))).collect();
        let tell = |&(place, since): &(&Place, Duration)| {
            let missing = place.last.try_lock().map(|last| last.missing).unwrap_or_default();
            json!({
                "shard": place.canary.shard,
                "listener": place.canary.listener.as_str(),
                "sinceUnixMs": unix_ms.saturating_sub(now.saturating_sub(since).as_millis() as u64),
                "missing": missing.to_string(),
            })
        };
        let first: Vec<Value> = failing.iter().take(CANARIES_TOLD_MAX).map(tell).collect();
        json!({ "failing": failing.len(), "first": first })
    }

    fn place(&self, canary: Canary) -> Option<&Place> {
        self.places.get(canary.shard * Listener::ALL.len() + canary.listener as usize)
    }
}

impl Place {
    fn failing_since(&self) -> Option<Duration> {
        self.failing_since_ms.load(Relaxed).checked_sub(1).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_board_keeps_each_canarys_last_round_and_the_last_that_passed() {
        let board = Board::new(Clock::start(), 2);
        let canary = Canary { shard: 1, listener: Listener::Http };
        let ms = Duration::from_millis;
        board.note(canary, SECOND, SECOND + ms(7), Outcome::Passed(ms(7)));
        board.note(canary, 2 * SECOND, 4 * SECOND, Outcome::Missed(Step::Media));
        let round =
            Round { number: 2, began: 2 * SECOND, ended: 4 * SECOND, outcome: Outcome::Missed(Step::Media) };
        let rounds: Vec<_> =
            board.rounds().into_iter().filter_map(|(of, round)| Some((of, round?))).collect();
        assert_eq!(rounds, [(canary, round)]);
        let last = board.all().into_iter().find(|(of, _)| *of == canary).unwrap().1;
        assert_eq!((last.passed, last.latency), (Some(SECOND + ms(7)), Some(ms(7))));
        assert_eq!(board.all().len(), 6);
    }

    #[test]
    fn the_page_names_those_that_fail_and_is_bounded() {
        let board = Board::new(Clock::start(), 256);
        assert_eq!(board.page(), json!({ "failing": 0, "first": [] }));
        let canary = Canary { shard: 3, listener: Listener::Rtmp };
        board.note(canary, SECOND, 2 * SECOND, Outcome::Missed(Step::Media));
        board.note(canary, 2 * SECOND, 3 * SECOND, Outcome::Missed(Step::Publish));
        board.set_failing(canary, Some(Duration::ZERO));
        assert!(board.is_failing(canary));
        let first = &board.page()["first"][0];
        assert_eq!(
            (&first["shard"], &first["listener"], &first["missing"]),
            (&3.into(), &"rtmp".into(), &"publish, media".into())
        );
        for (canary, _) in board.all() {
            board.set_failing(canary, Some(SECOND));
        }
        assert_eq!(board.page()["failing"], 768);
        assert!(board.page().to_string().len() < 2048, "witnesses read no more than 64 KiB of a page");
        board.set_failing(canary, None);
        assert!(!board.is_failing(canary));
    }
}
