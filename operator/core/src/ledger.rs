//! The port ledger of one node: who holds which number. What is free is what nobody holds; nothing counts up and down
//! but `set`, and `check` counts again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Path, PoolName, Ports, StreamRef, UnixTime};
use crate::port_set::PortSet;
use crate::status::ProblemSource;

mod released;
pub(crate) mod shelf;

pub(crate) use shelf::Shelf;

use released::Released;

/// Who holds a number that is not free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A claim; more than one until it is known which of them is bound.
    Leased {
        /// In the order they came.
        claims: Vec<StreamRef>,
        /// Where it was leased from.
        pool: PoolName,
        /// What it was before, and is again if nobody is told of the lease.
        beneath: Option<Box<Held>>,
    },
    /// Nobody, for late packets of the last owner.
    Cooling {
        /// Until then.
        until: Duration,
        /// Who may have it back at once.
        owner: Option<Owner>,
        /// Where it was leased from.
        pool: PoolName,
    },
    /// Somebody else.
    Quarantined(Quarantine),
}

/// Who may have a cooling number back: the same path of the same namespace, whatever the object's UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) namespace: Arc<str>,
    pub(crate) path: Path,
}

/// A number that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantine {
    /// How it became known.
    pub(crate) cause: QuarantineCause,
    /// Who, in words.
    pub(crate) owner: String,
    /// Whose lease it was when it was set aside.
    pub(crate) lost_by: Option<Owner>,
    /// Since when, for people.
    pub(crate) since: UnixTime,
    /// The end of the rest that it had begun: until then nobody tries it, though its foreign socket may be gone.
    pub(crate) rests_until: Duration,
    /// The first of the scans in a row that did not see it.
    pub(crate) clean_since: Option<Duration>,
}

/// How it became known that a number is not ours to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuarantineCause {
    /// A bind failed or a scan shows a foreign socket.
    Foreign(ProblemSource),
    /// Our worker has it open for no stream; it was told to close it.
    Leak,
}

/// Which numbers a stream needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// One.
    Single,
    /// An even one and the odd one above it.
    Pair,
    /// These and no others.
    Exact(Ports),
}

impl Shape {
    /// Whether a stream that needs numbers of this shape is served by `ports`.
    pub(crate) fn takes(self, ports: Ports) -> bool {
        match self {
            Self::Single => ports.rtcp.is_none(),
            Self::Pair => ports.rtcp.is_some(),
            Self::Exact(wanted) => wanted == ports,
        }
    }
}

/// The ports of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    held: BTreeMap<u16, Held>,
    /// Numbers that are free and were held before.
    released: Released,
    /// Every number that was ever held: those outside have never been used here.
    touched: PortSet,
    own: BTreeMap<Owner, BTreeSet<u16>>,
    quarantined: BTreeSet<u16>,
    contested: BTreeSet<u16>,
    shelves: BTreeMap<PoolName, Shelf>,
    /// Leased or cooling numbers by the pool they came from, where that pool has them no longer.
    draining: BTreeMap<PoolName, BTreeSet<u16>>,
}

impl Ledger {
    /// Who holds `port`; absent: nobody.
    pub(crate) fn held(&self, port: u16) -> Option<&Held> {
        self.held.get(&port)
    }

    /// Whether `port` is or was held since this operator leads.
    pub(crate) fn was_held(&self, port: u16) -> bool {
        self.touched.contains(port)
    }

    /// All numbers that are not free.
    pub(crate) fn all_held(&self) -> &BTreeMap<u16, Held> {
        &self.held
    }

    /// Numbers in quarantine.
    pub(crate) fn quarantined(&self) -> &BTreeSet<u16> {
        &self.quarantined
    }

    /// Numbers with more than one claim.
    pub(crate) fn contested(&self) -> &BTreeSet<u16> {
        &self.contested
    }

    /// What `pool` has on this node.
    pub(crate) fn shelf(&self, pool: &PoolName) -> Option<&Shelf> {
        self.shelves.get(pool)
    }

    /// All pools on this node.
    pub(crate) fn shelves(&self) -> &BTreeMap<PoolName, Shelf> {
        &self.shelves
    }

    /// Numbers of leases that came from `pool` and lie outside its ranges.
    pub(crate) fn draining(&self, pool: &PoolName) -> Option<&BTreeSet<u16>> {
        self.draining.get(pool)
    }

    /// The same of each pool.
    pub(crate) fn all_draining(&self) -> impl Iterator<Item = (&PoolName, &BTreeSet<u16>)> {
        self.draining.iter()
    }

    /// The one place where a number changes hands.
    pub(crate) fn set(&mut self, port: u16, next: Option<Held>) {
        let before = self.held.remove(&port);
        if let Some(before) = &before {
            self.forget(port, before);
        } else if self.touched.contains(port) {
            self.released.remove(port);
        }
        self.touched.insert(port);
        match next {
            Some(next) => {
                self.note(port, &next);
                self.held.insert(port, next);
            }
            None => {
                self.released.push(port);
                if self.held.is_empty() {
                    self.give_back();
                }
            }
        }
    }

    /// Adds `claim` to those that hold `port`, which may be contested then.
    pub(crate) fn lease(&mut self, port: u16, claim: StreamRef, pool: &PoolName) {
        let next = match self.held.get(&port).cloned() {
            Some(Held::Leased { mut claims, pool, beneath }) => {
                if !claims.contains(&claim) {
                    claims.push(claim);
                }
                Held::Leased { claims, pool, beneath }
            }
            beneath @ (Some(Held::Cooling { .. } | Held::Quarantined(_)) | None) => {
                Held::Leased { claims: vec![claim], pool: pool.clone(), beneath: beneath.map(Box::new) }
            }
        };
        self.set(port, Some(next));
    }

    /// Takes `claim` off `port`; then nobody holds it, or another claim does. Says whether it is free to be given away.
    pub(crate) fn unlease(&mut self, port: u16, claim: &StreamRef, after: Option<Held>) -> bool {
        let Some(Held::Leased { claims, pool, beneath: _ }) = self.held.get(&port) else { return false };
        if !claims.contains(claim) {
            return false;
        }
        let rest: Vec<_> = claims.iter().filter(|other| *other != claim).cloned().collect();
        let alone = rest.is_empty();
        let next = if alone {
            after
        } else {
            Some(Held::Leased { claims: rest, pool: pool.clone(), beneath: after.map(Box::new) })
        };
        self.set(port, next);
        alone
    }

    /// What a leased number was before, unless that is over by now.
    pub(crate) fn beneath(&self, port: u16, now: Duration) -> Option<Held> {
        let Some(Held::Leased { claims: _, pool: _, beneath }) = self.held.get(&port) else { return None };
        beneath.as_deref().cloned().filter(|held| match held {
            Held::Cooling { until, .. } => *until > now,
            Held::Leased { .. } | Held::Quarantined(_) => true,
        })
    }

    /// Puts a pool's numbers on the shelf, or other numbers than before. Costs what the pool has.
    pub(crate) fn stock(&mut self, pool: &PoolName, numbers: PortSet) {
        let shelf = Shelf::new(Arc::new(numbers), &self.held);
        self.shelves.insert(pool.clone(), shelf);
        self.redrain(pool);
    }

    /// Takes a pool off this node.
    pub(crate) fn unstock(&mut self, pool: &PoolName) {
        self.shelves.remove(pool);
        self.redrain(pool);
    }

    /// The numbers that `owner` may have back at once.
    pub(crate) fn own(&self, pool: &PoolName, shape: Shape, owner: &Owner) -> Option<Ports> {
        let shelf = self.shelves.get(pool)?;
        let own = self.own.get(owner)?;
        let has = |port: u16| own.contains(&port) && shelf.numbers().contains(port);
        match shape {
            Shape::Single => own.iter().copied().find(|&port| has(port)).map(single),
            Shape::Pair => {
                own.iter().copied().find(|&port| port % 2 == 0 && has(port) && has(port + 1)).map(pair)
            }
            Shape::Exact(ports) => {
                let is_free = |port: u16| shelf.numbers().contains(port) && !self.held.contains_key(&port);
                let all = ports.numbers().all(|port| has(port) || is_free(port));
                (all && ports.numbers().any(has)).then_some(ports)
            }
        }
    }

    /// Whether some number rests that `owner` may have back.
    pub(crate) fn has_cooling(&self, owner: &Owner) -> bool {
        self.own.contains_key(owner)
    }

    /// Whether some number was taken from `owner` into quarantine.
    pub(crate) fn has_lost(&self, owner: &Owner) -> bool {
        self.quarantined.iter().any(|port| match self.held.get(port) {
            Some(Held::Quarantined(quarantine)) => quarantine.lost_by.as_ref() == Some(owner),
            Some(Held::Leased { .. } | Held::Cooling { .. }) | None => false,
        })
    }

    /// Whether exactly these numbers are free in `pool`.
    pub(crate) fn is_free(&self, pool: &PoolName, ports: Ports) -> bool {
        self.shelves.get(pool).is_some_and(|shelf| {
            ports.numbers().all(|port| shelf.numbers().contains(port) && !self.held.contains_key(&port))
        })
    }

    /// The numbers to lease next: never used first, then least recently released.
    pub(crate) fn choose(&self, pool: &PoolName, shape: Shape) -> Option<Ports> {
        let shelf = self.shelves.get(pool)?;
        match shape {
            Shape::Single => {
                let fresh = shelf.numbers().first_without(&self.touched);
                fresh.or_else(|| self.released.oldest(shelf.numbers())).map(single)
            }
            Shape::Pair => {
                let fresh = shelf.numbers().first_pair_without(&self.touched);
                let oldest = || self.released.oldest_pair(shelf.numbers(), &self.touched);
                fresh.or_else(oldest).map(pair)
            }
            Shape::Exact(ports) => self.is_free(pool, ports).then_some(ports),
        }
    }

    /// When nothing is free: quarantined numbers that the last scan did not see, the longest clean first.
    pub(crate) fn choose_clean(&self, pool: &PoolName, shape: Shape, now: Duration) -> Option<Ports> {
        let shelf = self.shelves.get(pool)?;
        // A free partner is as good as one that was clean from the start.
        let clean = |port: u16| match self.held.get(&port) {
            _ if !shelf.numbers().contains(port) => None,
            None => Some(Duration::ZERO),
            Some(Held::Quarantined(quarantine)) => match quarantine.cause {
                QuarantineCause::Foreign(_) => {
                    quarantine.clean_since.filter(|_| quarantine.rests_until <= now)
                }
                QuarantineCause::Leak => None,
            },
            Some(Held::Leased { .. } | Held::Cooling { .. }) => None,
        };
        let candidates = self.quarantined.iter().filter_map(|&port| match shape {
            Shape::Single => clean(port).map(|since| (since, single(port))),
            Shape::Pair => {
                let even = port & !1;
                Some((clean(even)?.max(clean(even + 1)?), pair(even)))
            }
            Shape::Exact(ports) => {
                ports.numbers().all(|port| clean(port).is_some()).then_some((Duration::ZERO, ports))
            }
        });
        candidates.min().map(|(_, ports)| ports)
    }

    /// Nothing is held: what maps keep for their next entry (a leaf of up to a KiB each) goes back, for it lies in pages with what came and
    /// went beside it, and there are as many ledgers as nodes.
    fn give_back(&mut self) {
        self.held = BTreeMap::new();
        self.own = BTreeMap::new();
        self.quarantined = BTreeSet::new();
        self.contested = BTreeSet::new();
        self.draining = BTreeMap::new();
    }

    fn forget(&mut self, port: u16, before: &Held) {
        for shelf in self.shelves.values_mut() {
            shelf.uncount(port, before);
        }
        match before {
            Held::Leased { claims: _, pool, beneath: _ } => {
                self.contested.remove(&port);
                undrain(&mut self.draining, pool, port);
            }
            Held::Cooling { until: _, owner, pool } => {
                undrain(&mut self.draining, pool, port);
                if let Some(owner) = owner
                    && let Some(ports) = self.own.get_mut(owner)
                {
                    ports.remove(&port);
                    if ports.is_empty() {
                        self.own.remove(owner);
                    }
                }
            }
            Held::Quarantined(_) => {
                self.quarantined.remove(&port);
            }
        }
    }

    fn note(&mut self, port: u16, next: &Held) {
        for shelf in self.shelves.values_mut() {
            shelf.count(port, next);
        }
        match next {
            Held::Leased { claims, pool, beneath: _ } => {
                if claims.len() > 1 {
                    self.contested.insert(port);
                }
                self.drain(pool, port);
            }
            Held::Cooling { until: _, owner, pool } => {
                self.drain(pool, port);
                if let Some(owner) = owner {
                    self.own.entry(owner.clone()).or_default().insert(port);
                }
            }
            Held::Quarantined(_) => {
                self.quarantined.insert(port);
            }
        }
    }

    fn drain(&mut self, pool: &PoolName, port: u16) {
        if !self.shelves.get(pool).is_some_and(|shelf| shelf.numbers().contains(port)) {
            self.draining.entry(pool.clone()).or_default().insert(port);
        }
    }

    fn redrain(&mut self, pool: &PoolName) {
        self.draining.remove(pool);
        let outside: Vec<u16> = self
            .held
            .iter()
            .filter(|(_, held)| match held {
                Held::Leased { claims: _, pool: from, beneath: _ }
                | Held::Cooling { until: _, owner: _, pool: from } => from == pool,
                Held::Quarantined(_) => false,
            })
            .map(|(&port, _)| port)
            .collect();
        for port in outside {
            self.drain(pool, port);
        }
    }

    /// Recounts everything that is kept by changes, for `check`.
    pub(crate) fn recounted(&self) -> BTreeMap<PoolName, Shelf> {
        let recount = |shelf: &Shelf| Shelf::new(shelf.numbers().clone(), &self.held);
        self.shelves.iter().map(|(pool, shelf)| (pool.clone(), recount(shelf))).collect()
    }

    /// Whether the numbers that were released are those that were held and are not, each once, for `check`.
    pub(crate) fn is_in_order(&self) -> bool {
        let mut released: Vec<u16> = self.released.iter().collect();
        released.sort_unstable();
        released.into_iter().eq(self.touched.iter().filter(|port| !self.held.contains_key(port)))
    }
}

fn undrain(draining: &mut BTreeMap<PoolName, BTreeSet<u16>>, pool: &PoolName, port: u16) {
    if let Some(ports) = draining.get_mut(pool) {
        ports.remove(&port);
        if ports.is_empty() {
            draining.remove(pool);
        }
    }
}

fn single(port: u16) -> Ports {
    Ports { rtp: port, rtcp: None }
}

fn pair(even: u16) -> Ports {
    Ports { rtp: even, rtcp: Some(even + 1) }
}

#[cfg(test)]
mod tests;
