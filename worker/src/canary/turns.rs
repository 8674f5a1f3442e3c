//! Whose turn it is to be visited through a public listener: each shard by each listener, and sooner who was missed.

use std::collections::VecDeque;

use super::{Canary, Listener, Outcome};
use crate::limits::CANARY_MISSES_MAX;

/// The queue of those to be visited.
#[derive(Debug)]
pub(super) struct Turns {
    /// With how often each was missed in a row. Who is being visited is not in it.
    queue: VecDeque<(Canary, u32)>,
    visited: Option<u32>,
}

impl Turns {
    /// Each shard by RTMP, then by HTTP.
    pub(super) fn new(shards: usize) -> Turns {
        let by = [Listener::Rtmp, Listener::Http];
        let all = (0..shards).flat_map(|shard| by.map(|listener| (Canary { shard, listener }, 0)));
        Turns { queue: all.collect(), visited: None }
    }

    /// The next.
    pub(super) fn take(&mut self) -> Option<Canary> {
        let (canary, misses) = self.queue.pop_front()?;
        self.visited = Some(misses);
        Some(canary)
    }

    /// Puts one back that was visited. One that was missed comes again at once, until it is known to fail; from there on it takes
    /// turns with the others, so that another failure is found too.
    pub(super) fn give_back(&mut self, canary: Canary, outcome: Outcome) {
        let misses = self.visited.take().unwrap_or_default();
        match outcome {
            Outcome::Passed(_) => self.queue.push_back((canary, 0)),
            Outcome::NotTried => self.queue.push_back((canary, misses)),
            Outcome::Missed(_) => {
                let misses = misses.saturating_add(1);
                let failing = |&&(_, misses): &&(Canary, u32)| misses >= CANARY_MISSES_MAX;
                let place = match misses < CANARY_MISSES_MAX {
                    true => 0,
                    false => 1 + self.queue.iter().filter(failing).count(),
                };
                self.queue.insert(place.min(self.queue.len()), (canary, misses));
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
            let canary = turns.take().unwrap();
            let letter = if canary.listener == Listener::Rtmp { 'r' } else { 'h' };
            let name = format!("{letter}{}", canary.shard);
            let outcome = match dead.split(' ').any(|dead| dead == name) {
                true => Outcome::Missed(Step::Publish),
                false => Outcome::Passed(Duration::ZERO),
            };
            turns.give_back(canary, outcome);
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
    fn without_a_shard_nobody_is_visited() {
        assert_eq!(Turns::new(0).take(), None);
    }
}
