//! What one pool has on one node, and how many of them are not free.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Held;
use crate::port_set::PortSet;

/// What one pool has on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shelf {
    numbers: Arc<PortSet>,
    capacity: u32,
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
    pub(crate) fn new(numbers: Arc<PortSet>, held: &BTreeMap<u16, Held>) -> Self {
        let mut shelf = Self { capacity: numbers.len(), numbers, ..Self::default() };
        for (&port, held) in held {
            shelf.count(port, held);
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
