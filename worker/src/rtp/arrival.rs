//! On which of two leases the media of a stream comes, for the operator, which closes the other one then.

use std::time::Duration;

use media::rtp::limits::HOLDER_SILENCE;

use crate::limits::ARRIVED_AFTER;

/// Where media comes, and what was said of that.
#[derive(Debug, Default)]
pub struct Arrival {
    /// The RTP port that media came to last; since when without a pause; when the last of it came.
    on: Option<(u16, Duration, Duration)>,
    said: Option<(u16, bool)>,
}

impl Arrival {
    /// Media came to `port` at time `now`, where `next` is the port that it is to come to in the end. What is to be told: the port,
    /// and whether media is there for good.
    pub fn note(&mut self, port: u16, next: Option<u16>, now: Duration) -> Option<(u16, bool)> {
        let Some(next) = next else {
            *self = Arrival::default();
            return None;
        };
        let since = match self.on {
            Some((on, since, last)) if on == port && now.saturating_sub(last) < HOLDER_SILENCE => since,
            Some(_) | None => now,
        };
        self.on = Some((port, since, now));
        let word = (port, port == next && now.saturating_sub(since) >= ARRIVED_AFTER);
        // That it comes where it always came is no news.
        let is_news = match self.said {
            None => port == next,
            Some(said) => said != word && said != (port, true),
        };
        if is_news {
            self.said = Some(word);
        }
        is_news.then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: u16 = 20_000;
    const NEW: u16 = 20_002;

    /// Media comes to each of these ports for a while; what is told, and after how many milliseconds.
    fn told(comes: &[(u16, u64)]) -> Vec<(u64, u16, bool)> {
        let (mut arrival, mut now, mut told) = (Arrival::default(), 0, Vec::new());
        for &(port, for_ms) in comes {
            let end = now + for_ms;
            while now < end {
                let word = arrival.note(port, Some(NEW), Duration::from_millis(now));
                told.extend(word.map(|(port, settled)| (now, port, settled)));
                now += 40;
            }
        }
        told
    }

    #[test]
    fn media_that_comes_to_the_new_port_is_told_at_once_and_when_it_stays() {
        assert_eq!(told(&[(OLD, 4000), (NEW, 4000)]), [(4000, NEW, false), (6000, NEW, true)]);
    }

    #[test]
    fn media_that_goes_back_is_told_and_has_not_stayed() {
        let expected = [(0, NEW, false), (1000, OLD, false), (2000, NEW, false), (4000, NEW, true)];
        assert_eq!(told(&[(NEW, 1000), (OLD, 1000), (NEW, 2040)]), expected);
    }

    #[test]
    fn a_pause_begins_the_count_anew() {
        let mut arrival = Arrival::default();
        let mut at = |ms| arrival.note(NEW, Some(NEW), Duration::from_millis(ms));
        assert_eq!(at(0), Some((NEW, false)));
        assert_eq!((at(900), at(1899), at(2900)), (None, None, None));
        assert_eq!((at(3800), at(4700), at(4900)), (None, None, Some((NEW, true))));
        assert_eq!(at(9000), None, "it is said once");
    }

    #[test]
    fn with_one_lease_nothing_is_told() {
        let mut arrival = Arrival::default();
        assert_eq!(arrival.note(NEW, Some(NEW), Duration::ZERO), Some((NEW, false)));
        assert_eq!(arrival.note(NEW, None, Duration::from_secs(3)), None);
        assert_eq!(arrival.note(NEW, Some(OLD), Duration::from_secs(4)), None, "it is another move");
    }
}
