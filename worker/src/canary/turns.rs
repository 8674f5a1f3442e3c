//! Whose turn it is to be visited through a public listener, and how: each shard by each listener, and sooner who was missed.

use std::collections::VecDeque;

use super::{Canary, Listener, Outcome};
use crate::limits::{CANARY_MISSES_MAX, CANARY_PUBLISH};

/// The queue of those to be visited.
#[derive(Debug)]
pub(super) struct Turns {
    /// Who is being visited is not in it.
    queue: VecDeque<Turn>,
}

/// A visit that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Who is visited.
    pub(super) canary: Canary,
    /// Visits that passed.
    passed: u32,
    /// How often it was missed in a row.
    misses: u32,
}

impl Turn {
    /// Whether this visit publishes too, rather than only play what a kept publisher sends. One that was missed so is visited so again.
    pub(super) fn publishes(&self) -> bool {
        self.canary.listener == Listener::Rtmp && self.passed.is_multiple_of(CANARY_PUBLISH)
    }
}

impl Turns {
    /// Each shard by RTMP, then by HTTP.
    pub(super) fn new(shards: usize) -> Turns {
        let by = [Listener::Rtmp, Listener::Http];
        let turn = |canary| Turn { canary, passed: 0, misses: 0 };
        let all = (0..shards).flat_map(|shard| by.map(|listener| turn(Canary { shard, listener })));
        Turns { queue: all.collect() }
    }

    /// The next. Give it back.
    pub(super) fn take(&mut self) -> Option<Turn> {
        self.queue.pop_front()
    }

    /// Puts one back that was visited. One that was missed comes again at once, until it is known to fail; from there on it takes
    /// turns with the others, so that another failure is found too.
    pub(super) fn give_back(&mut self, mut turn: Turn, outcome: Outcome) {
        match outcome {
            Outcome::Passed(_) => {
                (turn.passed, turn.misses) = (turn.passed.wrapping_add(1), 0);
                self.queue.push_back(turn);
            }
            Outcome::NotTried => self.queue.push_back(turn),
            Outcome::Missed(_) => {
                turn.misses = turn.misses.saturating_add(1);
                let fails = |turn: &&Turn| turn.misses >= CANARY_MISSES_MAX;
                let place = match fails(&&turn) {
                    false => 0,
                    true => 1 + self.queue.iter().filter(fails).count(),
                };
                self.queue.insert(place.min(self.queue.len()), turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::canary::Step;

    /// Visits `count` times where those of `dead` are missed, and tells who was visited: `r` by RTMP, `h` by HTTP.
    fn visits(turns: &mut Turns, dead: &str, count: usize) -> String {
        let visit = |_| {
            let turn = turns.take().unwrap();
            let canary = turn.canary;
            let letter = if canary.listener == Listener::Rtmp { 'r' } else { 'h' };
            let name = format!("{letter}{}", canary.shard);
            let outcome = match dead.split(' ').any(|dead| dead == name) {
                true => Outcome::Missed(Step::Publish),
                false => Outcome::Passed(Duration::ZERO),
            };
            turns.give_back(turn, outcome);
            name
        };
        (0..count).map(visit).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_is_missed_is_visited_again_and_starves_nobody() {
        let mut turns = Turns::new(2);
        assert_eq!(visits(&mut turns, "", 6), "r0 h0 r1 h1 r0 h0");
        assert_eq!(visits(&mut turns, "r1", 9), "r1 r1 r1 h1 r1 r0 r1 h0 r1");
        assert_eq!(visits(&mut turns, "r0 r1", 11), "h1 r1 r0 r0 r0 r1 h0 r0 r1 h1 r0");
        assert_eq!(visits(&mut turns, "r0 r1 h0 h1", 16).split(' ').filter(|name| *name == "r1").count(), 4);
        assert_eq!(visits(&mut turns, "", 8).split(' ').filter(|name| *name == "h0").count(), 2);
    }

    #[test]
    fn by_rtmp_some_visits_publish_and_one_that_was_missed_publishes_again() {
        let mut turns = Turns::new(1);
        let mut visit = |outcome| {
            let turn = turns.take().unwrap();
            turns.give_back(turn, outcome);
            (turn.canary.listener, turn.publishes())
        };
        let passed = Outcome::Passed(Duration::ZERO);
        assert_eq!(visit(Outcome::Missed(Step::Publish)), (Listener::Rtmp, true));
        assert_eq!(visit(passed), (Listener::Rtmp, true));
        for _ in 1..CANARY_PUBLISH {
            assert_eq!([visit(passed), visit(passed)], [(Listener::Http, false), (Listener::Rtmp, false)]);
        }
        assert_eq!([visit(passed), visit(passed)], [(Listener::Http, false), (Listener::Rtmp, true)]);
    }

    #[test]
    fn without_a_shard_nobody_is_visited() {
        assert_eq!(Turns::new(0).take(), None);
    }
}
