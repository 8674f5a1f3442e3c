//! What one pool has on one node, in the order it is to be leased.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Held;
use crate::port_set::PortSet;

/// What one pool has on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shelf {
    numbers: Arc<PortSet>,
    capacity: u32,
    /// Free numbers that were held before, least recently released first.
    singles: BTreeSet<(u64, u16)>,
    /// Even numbers that are free with the odd one above, by the later release of the two. A pair of which neither was
    /// ever held is not here: the set of touched numbers shows it.
    pairs: BTreeSet<(u64, u16)>,
    tally: Tally,
}

/// Numbers that are not free, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) leased: u32,
    pub(crate) cooling: u32,
    pub(crate) quarantined: u32,
}

impl Shelf {
    /// A shelf with `numbers`, of which those in `held` are taken.
    pub(crate) fn new(
        numbers: Arc<PortSet>,
        held: &BTreeMap<u16, Held>,
        released: &BTreeMap<u16, u64>,
    ) -> Self {
        let mut shelf = Self { capacity: numbers.len(), numbers, ..Self::default() };
        for (&port, held) in held {
            shelf.count(port, held);
        }
        for &port in released.keys() {
            shelf.give(port, released, |partner| !held.contains_key(&partner));
        }
        shelf
    }

    pub(crate) fn numbers(&self) -> &Arc<PortSet> {
        &self.numbers
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// What can be leased: computed, never counted.
    pub(crate) fn free(&self) -> u32 {
        let Tally { leased, cooling, quarantined } = self.tally;
        self.capacity - leased - cooling - quarantined
    }

    pub(crate) fn oldest_single(&self) -> Option<u16> {
        self.singles.first().map(|&(_, port)| port)
    }

    pub(crate) fn oldest_pair(&self) -> Option<u16> {
        self.pairs.first().map(|&(_, port)| port)
    }

    /// `port` is free: `released` ranks it.
    pub(super) fn give(&mut self, port: u16, released: &BTreeMap<u16, u64>, is_free: impl Fn(u16) -> bool) {
        if !self.numbers.contains(port) {
            return;
        }
        let rank = |port: u16| released.get(&port).copied().unwrap_or(0);
        self.singles.insert((rank(port), port));
        let partner = port ^ 1;
        if self.numbers.contains(partner) && is_free(partner) {
            self.pairs.insert((rank(port).max(rank(partner)), port & !1));
        }
    }

    /// `port`, of that rank, is free no longer; `released` still has it.
    pub(super) fn take(&mut self, port: u16, rank: u64, released: &BTreeMap<u16, u64>) {
        self.singles.remove(&(rank, port));
        let partner = released.get(&(port ^ 1)).copied().unwrap_or(0);
        self.pairs.remove(&(rank.max(partner), port & !1));
    }

    /// `port`, never held before, is free no longer.
    pub(super) fn take_fresh(&mut self, port: u16, released: &BTreeMap<u16, u64>) {
        if let Some(&partner) = released.get(&(port ^ 1)) {
            self.pairs.remove(&(partner, port & !1));
        }
    }

    pub(super) fn count(&mut self, port: u16, held: &Held) {
        if self.numbers.contains(port) {
            *self.tally.of(held) += 1;
        }
    }

    pub(super) fn uncount(&mut self, port: u16, held: &Held) {
        if self.numbers.contains(port) {
            *self.tally.of(held) -= 1;
        }
    }
}

impl Tally {
    fn of(&mut self, held: &Held) -> &mut u32 {
        match held {
            Held::Leased { .. } => &mut self.leased,
            Held::Cooling { .. } => &mut self.cooling,
            Held::Quarantined(_) => &mut self.quarantined,
        }
    }
}
