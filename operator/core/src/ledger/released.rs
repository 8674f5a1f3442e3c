//! Free numbers of a node that were held before, in the order they were released.

use std::collections::VecDeque;

use crate::port_set::PortSet;

/// Free numbers that were held before, least recently released first. Two bytes each and one piece of memory: a node that has leased a
/// thousand numbers keeps them in 2 KiB when its streams are gone. What is leased next is mostly the first; the rest is looked
/// through, at most 64 Ki numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Released(VecDeque<u16>);

impl Released {
    /// `port`, which is not in it, is free from now on.
    pub(super) fn push(&mut self, port: u16) {
        self.0.push_back(port);
    }

    /// `port` is free no longer.
    pub(super) fn remove(&mut self, port: u16) {
        let at = self.iter().position(|each| each == port);
        if let Some(at) = at {
            self.0.remove(at);
        }
    }

    /// Its numbers, least recently released first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().copied()
    }

    /// The first that is in `numbers`.
    pub(super) fn oldest(&self, numbers: &PortSet) -> Option<u16> {
        self.iter().find(|&port| numbers.contains(port))
    }

    /// The even number of the pair in `numbers` whose later release is the first. `touched` are all numbers that were ever held: the
    /// partner of one is free if it is not there, or here as well.
    pub(super) fn oldest_pair(&self, numbers: &PortSet, touched: &PortSet) -> Option<u16> {
        let mut seen = PortSet::default();
        let later = self.iter().find(|&port| {
            let partner = port ^ 1;
            seen.insert(port);
            let partner_is_free = seen.contains(partner) || !touched.contains(partner);
            partner_is_free && numbers.contains(port) && numbers.contains(partner)
        });
        later.map(|port| port & !1)
    }
}
