//! Places for connections of which it is not known yet what they want: bounded in total and for each source address.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// So many places. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    room: Rc<Room>,
}

#[derive(Debug)]
struct Room {
    max: usize,
    per_address_max: usize,
    taken: RefCell<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A place, given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Rc<Room>,
    address: IpAddr,
}

impl Seats {
    /// As many in all, and as many for one address (an IPv6 /64).
    pub(crate) fn new(max: usize, per_address_max: usize) -> Seats {
        Seats { room: Rc::new(Room { max, per_address_max, taken: RefCell::default() }) }
    }

    /// A place for whoever comes from `address`, if there is one.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Seat> {
        let Room { max, per_address_max, taken } = &*self.room;
        let address = network_of(address);
        let mut taken = taken.borrow_mut();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.total >= *max || here >= *per_address_max {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, here + 1);
        Some(Seat { room: self.room.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken.borrow_mut();
        taken.total -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Whom a limit counts: an IPv4 address, or the /64 that a site has of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_total_and_for_each_address_and_come_back() {
        let (seats, address) = (Seats::new(3, 2), |text: &str| text.parse::<IpAddr>().unwrap());
        let first = seats.take(address("2001:db8::1"));
        let second = seats.take(address("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(seats.take(address("2001:db8::3")).is_none(), "one /64 is one address");
        let third = seats.take(address("192.0.2.1"));
        assert!(third.is_some());
        assert!(seats.take(address("192.0.2.2")).is_none(), "three are all");
        drop(first);
        assert!(seats.take(address("::ffff:192.0.2.1")).is_some());
        drop((second, third));
        assert_eq!((seats.room.taken.borrow().total, seats.room.taken.borrow().by_address.len()), (0, 0));
    }
}
