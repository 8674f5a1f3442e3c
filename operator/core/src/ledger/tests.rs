//! The order of leasing, against small pools.

use super::*;
use crate::ids::{Epoch, Uid};
use crate::spec::PortRange;

fn pool() -> PoolName {
    "media".into()
}

fn ledger(start: u16, end: u16) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.stock(&pool(), PortSet::from_ranges([PortRange { start, end }]));
    ledger
}

fn claim() -> StreamRef {
    StreamRef::new(Uid::from("u"), Epoch(1))
}

/// Leases the next of that shape and says which.
fn next(ledger: &mut Ledger, shape: Shape) -> Option<Ports> {
    let ports = ledger.choose(&pool(), shape)?;
    for port in ports.numbers() {
        ledger.lease(port, claim(), &pool());
    }
    assert_eq!(ledger.recounted(), *ledger.shelves(), "kept by changes and counted afresh");
    Some(ports)
}

fn free(ledger: &mut Ledger, port: u16) {
    ledger.unlease(port, &claim(), None);
    assert_eq!(ledger.recounted(), *ledger.shelves(), "kept by changes and counted afresh");
}

#[test]
fn never_used_goes_before_least_recently_released() {
    let mut ledger = ledger(10, 12);
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(10)));
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(11)));
    free(&mut ledger, 11);
    free(&mut ledger, 10);
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(12)));
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(11)));
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(10)));
    assert_eq!(next(&mut ledger, Shape::Single), None);
}

#[test]
fn a_pair_is_both_or_neither() {
    let mut ledger = ledger(11, 15);
    assert_eq!(next(&mut ledger, Shape::Pair), Some(pair(12)));
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(11)));
    assert_eq!(next(&mut ledger, Shape::Single), Some(single(14)));
    assert_eq!(next(&mut ledger, Shape::Pair), None);
    free(&mut ledger, 13);
    assert_eq!(next(&mut ledger, Shape::Pair), None);
    free(&mut ledger, 14);
    assert_eq!(next(&mut ledger, Shape::Pair), Some(pair(14)), "one of it was never used");
    free(&mut ledger, 12);
    assert_eq!(next(&mut ledger, Shape::Pair), Some(pair(12)));
}

#[test]
fn a_second_claim_contests_and_the_first_may_leave() {
    let mut ledger = ledger(10, 11);
    let other = StreamRef::new(Uid::from("v"), Epoch(1));
    ledger.lease(10, claim(), &pool());
    ledger.lease(10, other.clone(), &pool());
    assert!(ledger.contested().contains(&10));
    assert!(!ledger.unlease(10, &claim(), None));
    assert!(ledger.contested().is_empty());
    assert!(ledger.unlease(10, &other, None));
    assert_eq!(ledger.shelf(&pool()).map(Shelf::free), Some(2));
}

#[test]
fn what_lies_outside_after_an_edit_drains() {
    let mut ledger = ledger(10, 13);
    ledger.lease(13, claim(), &pool());
    ledger.stock(&pool(), PortSet::from_ranges([PortRange { start: 10, end: 11 }]));
    assert_eq!(ledger.draining(&pool()), Some(&BTreeSet::from([13])));
    assert_eq!(ledger.shelf(&pool()).map(Shelf::free), Some(2));
    free(&mut ledger, 13);
    assert_eq!(ledger.draining(&pool()), None);
}

#[test]
fn exact_numbers_are_these_or_none() {
    let mut ledger = ledger(10, 13);
    assert_eq!(next(&mut ledger, Shape::Exact(pair(12))), Some(pair(12)));
    assert_eq!(next(&mut ledger, Shape::Exact(pair(12))), None);
    assert_eq!(next(&mut ledger, Shape::Exact(single(13))), None, "half of the pair");
    free(&mut ledger, 13);
    assert_eq!(next(&mut ledger, Shape::Exact(single(13))), Some(single(13)));
    assert_eq!(next(&mut ledger, Shape::Exact(single(14))), None, "outside the pool");
}
