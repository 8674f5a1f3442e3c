//! Which pool has which numbers on which node, and which pools get in each other's way.

use std::collections::BTreeMap;

use crate::config::NodeMatch;
use crate::event::Now;
use crate::ids::{NodeName, PoolName};
use crate::ledger::Held;
use crate::node::Node;
use crate::port_set::PortSet;
use crate::spec::{Selector, Shrink};
use crate::state::State;

impl State {
    /// Puts on each node's shelves what the pools say now. Waiting streams are looked at where that changed something.
    pub(crate) fn restock(&mut self, now: Now) {
        self.dirty.shelves = false;
        self.find_overlaps();
        let nodes: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for name in nodes {
            let wanted = self.wanted_shelves(&name);
            let node = self.nodes.get_mut(&name).expect("the name was just listed");
            let gone: Vec<PoolName> =
                node.ledger.shelves().keys().filter(|pool| !wanted.contains_key(*pool)).cloned().collect();
            for pool in gone {
                node.ledger.unstock(&pool);
                self.dirty.pools.insert(pool);
            }
            let mut other = false;
            for (pool, numbers) in wanted {
                if node.ledger.shelf(&pool).is_some_and(|shelf| **shelf.numbers() == numbers) {
                    continue;
                }
                node.ledger.stock(&pool, numbers);
                self.dirty.pools.insert(pool.clone());
                self.dirty.wake.insert(pool);
                other = true;
            }
            if other {
                // The last scan may have met strangers on numbers that were reserved until now.
                self.quarantine_seen(&name, now);
            }
            self.dirty.nodes.insert(name);
        }
        self.mark_outside();
    }

    /// Streams that are to move from numbers that their pool has no longer, or are about to, are looked at.
    fn mark_outside(&mut self) {
        let moves = |pool: &PoolName| {
            let spec = self.pools.get(pool).and_then(|pool| pool.spec.as_ref());
            spec.is_some_and(|spec| matches!(spec.shrink, Shrink::Move { deadline: _ }))
        };
        let outside = self.nodes.values().flat_map(|node| {
            let ports = node.ledger.all_draining().filter(|(pool, _)| moves(pool));
            ports.flat_map(|(_, ports)| ports).filter_map(|port| node.ledger.held(*port))
        });
        let claims = outside.flat_map(|held| match held {
            Held::Leased { claims, pool: _, beneath: _ } => claims.as_slice(),
            Held::Cooling { .. } | Held::Quarantined(_) => &[],
        });
        for key in claims.chain(&self.seconds).cloned().collect::<Vec<_>>() {
            self.mark(&key.uid);
        }
    }

    fn wanted_shelves(&self, name: &NodeName) -> BTreeMap<PoolName, PortSet> {
        let node = &self.nodes[name];
        // A node without a worker needs no free ports.
        if node.worker.is_none() && node.claims.is_empty() {
            return BTreeMap::new();
        }
        let specs = self.pools.iter().filter_map(|(pool, known)| Some((pool, known.spec.as_ref()?)));
        let here = specs.filter(|(_, spec)| self.matches(node, &spec.node_selector));
        here.map(|(pool, spec)| {
            let mut numbers = spec.numbers.clone();
            for port in node.worker.iter().flat_map(|worker| &worker.listener_ports) {
                numbers.remove(*port);
            }
            (pool.clone(), numbers)
        })
        .collect()
    }

    /// Whether `node` carries all labels of `selector`.
    pub(crate) fn matches(&self, node: &Node, selector: &Selector) -> bool {
        match (self.config.node_match, &node.object) {
            (NodeMatch::All, _) => true,
            (NodeMatch::Labels, Some(object)) => {
                selector.iter().all(|(label, value)| object.labels.get(label) == Some(value))
            }
            (NodeMatch::Labels, None) => false,
        }
    }

    /// Of two pools with a number in common on some node, the younger one leases nothing.
    fn find_overlaps(&mut self) {
        let mut by_age: Vec<_> = self
            .pools
            .iter()
            .map(|(name, pool)| ((pool.created_unix_ms, pool.uid.clone()), name.clone()))
            .collect();
        by_age.sort();
        let mut accepted: Vec<PoolName> = Vec::new();
        for (_, name) in by_age {
            let overlap = accepted.iter().find_map(|older| self.overlap(older, &name));
            if overlap.is_none() {
                accepted.push(name.clone());
            }
            let pool = self.pools.get_mut(&name).expect("the name was just listed");
            if pool.overlap != overlap {
                pool.overlap = overlap;
                self.dirty.placement = true;
                self.dirty.wake.insert(name.clone());
                self.dirty.pools.insert(name);
            }
        }
    }

    /// Where and how `younger` overlaps `older`, in words.
    fn overlap(&self, older: &PoolName, younger: &PoolName) -> Option<String> {
        let (a, b) = (self.pools.get(older)?.spec.as_ref()?, self.pools.get(younger)?.spec.as_ref()?);
        if !a.numbers.intersects(&b.numbers) {
            return None;
        }
        let place = match self.config.node_match {
            NodeMatch::All => String::new(),
            NodeMatch::Labels => {
                let both = |node: &Node| {
                    node.object.is_some()
                        && self.matches(node, &a.node_selector)
                        && self.matches(node, &b.node_selector)
                };
                let (name, _) = self.nodes.iter().find(|(_, node)| both(node))?;
                format!(" on node {name}")
            }
        };
        let port = b.numbers.iter().find(|port| a.numbers.contains(*port))?;
        Some(format!(
            "port {port}{place} belongs to the older pool {older}; take it out of spec.ranges, or add it to spec.reserved, \
             of one of the two"
        ))
    }
}
