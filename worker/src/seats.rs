//! Places for connections, bounded in total and for each source address: one address at its limit keeps nobody else out.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::policy::source_of;

use crate::counters::DropReason;
use crate::limits::{
    ADDRESSES_SAID_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, CROWD_SAID_AGAIN, HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS,
};

/// The places of whoever comes to the public listeners. Clones are the same.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Connections of all kinds, also to leased rtp ports.
    pub connections: Seats,
    /// Those of them that have not said yet what they want.
    pub handshakes: Seats,
}

impl Peers {
    /// As many of each from one source address.
    pub fn new(connections_per_address: u32, handshakes_per_address: u32) -> Peers {
        let seats =
            |what, max, per_address| Seats::new(what, max, usize::try_from(per_address).unwrap_or(max));
        Peers {
            connections: seats("connections", CONNECTIONS_MAX, connections_per_address),
            handshakes: seats("unfinished handshakes", HANDSHAKES_MAX, handshakes_per_address),
        }
    }
}

impl Default for Peers {
    fn default() -> Peers {
        Peers::new(CONNECTIONS_PER_ADDRESS, HANDSHAKES_PER_ADDRESS)
    }
}

/// So many places. Clones are the same.
#[derive(Clone, Debug)]
pub struct Seats {
    room: Arc<Room>,
}

#[derive(Debug)]
struct Room {
    /// Of what there are so many, for the log.
    what: &'static str,
    max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
    /// Of whom it was said lately that no more is taken, and when.
    said: VecDeque<(Duration, IpAddr)>,
}

/// A place, given back on drop.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    source: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// The address has as many as one may have.
    Address,
}

impl Full {
    /// The label of what is turned away.
    pub fn reason(self) -> DropReason {
        match self {
            Full::All => DropReason::ConnectionLimit,
            Full::Address => DropReason::AddressLimit,
        }
    }
}

impl Seats {
    /// As many in all, and as many for one source address.
    pub fn new(what: &'static str, max: usize, per_address_max: usize) -> Seats {
        Seats { room: Arc::new(Room { what, max, per_address_max, taken: Mutex::default() }) }
    }

    /// A place for whoever comes from `address`, if there is one. An address that is at its limit is named in the log now and then.
    pub fn take(&self, address: IpAddr, now: Duration) -> Result<Seat, Full> {
        let source = source_of(address);
        let Room { what, max, per_address_max, taken: _ } = &*self.room;
        let mut taken = self.room.lock();
        let here = taken.by_address.get(&source).copied().unwrap_or(0);
        if here >= *per_address_max {
            let news = taken.is_news(source, now);
            // Whoever gives a place back does not wait for the log.
            drop(taken);
            if news {
                tracing::warn!(address = %source, limit = per_address_max, "an address has its limit of {what}; no more is taken of it");
            }
            return Err(Full::Address);
        }
        if taken.total >= *max {
            return Err(Full::All);
        }
        taken.total += 1;
        taken.by_address.insert(source, here + 1);
        Ok(Seat { room: self.room.clone(), source })
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Counts are changed together, and nothing between them can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Whether it is to be said of an address. Who changes its address all the time is not followed for ever.
    fn is_news(&mut self, source: IpAddr, now: Duration) -> bool {
        while self.said.front().is_some_and(|(at, _)| *at + CROWD_SAID_AGAIN <= now) {
            self.said.pop_front();
        }
        let news = self.said.len() < ADDRESSES_SAID_MAX && self.said.iter().all(|(_, said)| *said != source);
        if news {
            self.said.push_back((now, source));
        }
        news
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.total -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_in_total_and_for_each_address_and_come_back() {
        let seats = Seats::new("tests", 3, 2);
        let take = |text| seats.take(address(text), Duration::ZERO);
        let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(take("2001:db8::3").err(), Some(Full::Address), "one /64 is one address");
        let third = take("192.0.2.1");
        assert!(third.is_ok());
        assert_eq!(take("192.0.2.2").err(), Some(Full::All), "three are all");
        drop(first);
        assert!(take("::ffff:192.0.2.1").is_ok());
        drop((second, third));
        let taken = seats.room.lock();
        assert_eq!((taken.total, taken.by_address.len()), (0, 0));
    }

    #[test]
    fn an_address_is_named_once_in_a_while_and_not_more_than_so_many() {
        let mut taken = Taken::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(taken.is_news(one, Duration::ZERO));
        assert!(!taken.is_news(one, CROWD_SAID_AGAIN / 2));
        assert!(taken.is_news(other, CROWD_SAID_AGAIN / 2));
        assert!(taken.is_news(one, CROWD_SAID_AGAIN));
        let many = (0..1000u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        assert_eq!(many.filter(|it| taken.is_news(*it, CROWD_SAID_AGAIN)).count(), ADDRESSES_SAID_MAX - 2);
    }
}
