//! Claims begin and end here, and with them the ledger, the path and every index that knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::claim::{Claim, ClaimPhase, Lease, Second};
use crate::event::{Holder, Now};
use crate::ids::{NodeName, PoolName, Ports, StreamRef, Uid, UnixTime};
use crate::ledger::{Held, Owner, Quarantine, QuarantineCause, Shape};
use crate::limits;
use crate::reason::Reason;
use crate::spec::Selector;
use crate::state::State;
use crate::status::ProblemSource;
use crate::stream::{Arrival, Queue};
use crate::timers::Timer;

/// What becomes of the numbers of a claim that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// They rest; the same path may have them back.
    Cooling,
    /// They are what they were before: nobody was ever told of them.
    Unused,
}

impl State {
    /// Takes `claim` and its numbers. Whoever holds them already is contested.
    pub(crate) fn begin_claim(&mut self, claim: Claim) {
        let key = claim.stream.clone();
        let node = self.nodes.entry(claim.node.clone()).or_default();
        node.claims.insert(key.clone());
        if let Some(worker) = &mut node.worker {
            worker.digest = None;
        }
        let namespace = claim.name.as_ref().map(|name| &name.namespace);
        for lease in claim.leases() {
            self.hold_lease(&claim.node, &key, lease, namespace);
        }
        if claim.second.is_some() {
            self.seconds.insert(key.clone());
        }
        if let Some(path) = &claim.path {
            self.paths.entry(path.clone()).or_default().claims.insert(key.clone());
            self.dirty.paths.insert(path.clone());
        }
        self.claims.insert(key, claim);
    }

    fn hold_lease(
        &mut self,
        node_name: &NodeName,
        key: &StreamRef,
        (pool, ports): (&PoolName, Ports),
        namespace: Option<&Arc<str>>,
    ) {
        let node = self.nodes.entry(node_name.clone()).or_default();
        for port in ports.numbers() {
            node.ledger.lease(port, key.clone(), pool);
        }
        if let Some(namespace) = namespace {
            let users = node.users.entry(pool.clone()).or_default();
            *users.entry(namespace.clone()).or_default() += numbers(ports);
        }
        self.dirty.pools.insert(pool.clone());
        self.touch_pools(node_name, ports);
    }

    /// Takes a second lease for a claim.
    pub(crate) fn begin_second(&mut self, key: &StreamRef, second: Second) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(pool) = claim.lease.as_ref().map(|first| first.pool.clone()) else { return };
        let (node, namespace) = (claim.node.clone(), claim.name.as_ref().map(|name| name.namespace.clone()));
        let ports = second.ports;
        claim.second = Some(second);
        self.seconds.insert(key.clone());
        self.hold_lease(&node, key, (&pool, ports), namespace.as_ref());
    }

    /// The second lease of a claim is over: its worker said so, or was never told of it.
    pub(crate) fn end_second(&mut self, key: &StreamRef, after: After, now: Now) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(pool) = claim.lease.as_ref().map(|first| first.pool.clone()) else { return };
        let Some(Second { ports, stage, since: _, arrived: _ }) = claim.second.take() else { return };
        let after = if stage.is_told() { after } else { After::Unused };
        self.seconds.remove(key);
        self.timers.cancel(&Timer::MoveDue(key.clone()));
        self.release_lease(key, (&pool, ports), after, now);
        self.mark(&key.uid);
    }

    /// The claim is over: its worker said so, or nobody ever knew of it.
    pub(crate) fn end_claim(&mut self, key: &StreamRef, after: After, now: Now) {
        // Of two leases, media may have come to either.
        self.end_second(key, After::Cooling, now);
        self.drop_lease(key, after, now);
        let Some(claim) = self.claims.remove(key) else { return };
        if let Some(node) = self.nodes.get_mut(&claim.node) {
            node.claims.remove(key);
            if node.claims.is_empty() {
                // As a ledger gives back what it kept.
                node.claims = BTreeSet::new();
            }
            if let Some(worker) = &mut node.worker {
                worker.digest = None;
            }
        }
        self.timers.cancel(&Timer::AnswerDue(key.clone()));
        self.timers.cancel(&Timer::Handover(key.clone()));
        self.timers.cancel(&Timer::Return(key.clone()));
        self.dirty.returns.remove(key);
        self.dirty.tell.remove(key);
        self.dirty.claims.remove(&(claim.rank, key.clone()));
        if let Some(path) = &claim.path {
            if let Some(entry) = self.paths.get_mut(path) {
                entry.claims.remove(key);
                if let Some((_, winner)) = entry.declared.first() {
                    self.dirty.streams.insert(winner.clone());
                }
            }
            self.forget_path(path);
        }
        self.part(key, now);
    }

    /// Its stream, if it lived by this claim, does so no longer: what flowed there is over.
    fn part(&mut self, key: &StreamRef, now: Now) {
        let Some(stream) = self.streams.get_mut(&key.uid) else { return };
        if stream.claim == Some(key.epoch) {
            stream.claim = None;
            stream.lose_media(now.mono);
            self.cramp(&key.uid, None);
            self.stranded.remove(&key.uid);
            self.arm_quiet(&key.uid, now);
            // What it was to take over from waits for no record any more.
            self.tell_revoked(&key.uid);
        }
        self.mark(&key.uid);
    }

    /// Takes the numbers off a claim, which goes on without, or with those of a second lease that its worker was told of.
    pub(crate) fn drop_lease(&mut self, key: &StreamRef, after: After, now: Now) {
        let second = self.claims.get(key).and_then(|claim| claim.second.as_ref());
        if second.is_some_and(|second| !second.stage.is_told()) {
            self.end_second(key, After::Unused, now);
        }
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(lease) = claim.lease.take() else { return };
        let (pool, former) = (lease.pool.clone(), lease.ports);
        if let Some(Second { ports, stage: _, since: _, arrived: _ }) = claim.second.take() {
            claim.lease = Some(Lease { ports, ..lease });
            self.seconds.remove(key);
            self.timers.cancel(&Timer::MoveDue(key.clone()));
        }
        self.release_lease(key, (&pool, former), after, now);
    }

    fn release_lease(&mut self, key: &StreamRef, (pool, ports): (&PoolName, Ports), after: After, now: Now) {
        let Some(claim) = self.claims.get(key) else { return };
        let owner = claim.owner();
        let (node_name, namespace) =
            (claim.node.clone(), claim.name.as_ref().map(|name| name.namespace.clone()));
        let cooldown = self.pools.get(pool).and_then(|pool| pool.spec.as_ref()).map(|spec| spec.cooldown);
        let until = now.mono + cooldown.unwrap_or(limits::COOLDOWN_DEFAULT);
        let Some(node) = self.nodes.get_mut(&node_name) else { return };
        if let Some(worker) = &mut node.worker {
            worker.digest = None;
        }
        if let Some(namespace) = namespace
            && let Some(users) = node.users.get_mut(pool)
            && let Some(count) = users.get_mut(&namespace)
        {
            *count = count.saturating_sub(numbers(ports));
            if *count == 0 {
                users.remove(&namespace);
            }
            if users.is_empty() {
                node.users.remove(pool);
            }
        }
        for port in ports.numbers() {
            match after {
                After::Cooling => {
                    let node = self.nodes.get_mut(&node_name).expect("looked up above");
                    // What rested for somebody else when an old record gave it to this one is nobody's to have back at once.
                    let owner = match node.ledger.beneath(port, now.mono) {
                        Some(Held::Cooling { until: _, owner: before, pool: _ }) if before != owner => None,
                        Some(Held::Cooling { .. } | Held::Leased { .. } | Held::Quarantined(_)) | None => {
                            owner.clone()
                        }
                    };
                    let cooling = Held::Cooling { until, owner: owner.clone(), pool: pool.clone() };
                    if !node.ledger.unlease(port, key, Some(cooling)) {
                        continue;
                    }
                    match node.holder(port).map(Holder::describe) {
                        None => self.timers.set(Timer::Cooled(node_name.clone(), port), until),
                        // It would not bind: not for its own stream either.
                        Some(holder) => {
                            let cause = QuarantineCause::Foreign(ProblemSource::HostScan);
                            self.quarantine(&node_name, port, cause, holder, owner.clone(), now);
                        }
                    }
                }
                After::Unused => {
                    let node = self.nodes.get_mut(&node_name).expect("looked up above");
                    let before = node.ledger.beneath(port, now.mono);
                    if node.ledger.unlease(port, key, before.clone()) {
                        self.resume(&node_name, port, before, now);
                    }
                }
            }
        }
        self.dirty.pools.insert(pool.clone());
        self.touch_pools(&node_name, ports);
    }

    /// `port` is again what it was before a lease that nobody was told of; what waits for its end goes on waiting.
    fn resume(&mut self, node: &NodeName, port: u16, before: Option<Held>, now: Now) {
        match before {
            Some(Held::Cooling { until, .. }) => self.timers.set(Timer::Cooled(node.clone(), port), until),
            Some(Held::Quarantined(_)) => {
                let due = now.mono + limits::SCAN_AGAIN_MIN;
                self.timers.set_if_unset(Timer::ScanDue(node.clone()), due);
            }
            Some(Held::Leased { .. }) | None => self.settle_free(node, port, now),
        }
    }

    /// `port` has just become free: whoever waits gets it, unless the last scan showed a foreign socket on it.
    pub(crate) fn settle_free(&mut self, node: &NodeName, port: u16, now: Now) {
        let Some(entry) = self.nodes.get_mut(node) else { return };
        if let Some(holder) = entry.holder(port) {
            let owner = holder.describe();
            let cause = QuarantineCause::Foreign(ProblemSource::HostScan);
            self.quarantine(node, port, cause, owner, None, now);
            return;
        }
        for (pool, shelf) in entry.ledger.shelves() {
            if shelf.numbers().contains(port) {
                self.dirty.wake.insert(pool.clone());
                self.dirty.pools.insert(pool.clone());
            }
        }
    }

    /// Sets `port` aside: somebody else holds it.
    pub(crate) fn quarantine(
        &mut self,
        node: &NodeName,
        port: u16,
        cause: QuarantineCause,
        owner: String,
        lost_by: Option<Owner>,
        now: Now,
    ) {
        self.timers.cancel(&Timer::Cooled(node.clone(), port));
        let since = unix(now);
        let entry = self.nodes.entry(node.clone()).or_default();
        let rests_until = match entry.ledger.held(port) {
            Some(Held::Cooling { until, owner: _, pool: _ }) => *until,
            Some(Held::Quarantined(before)) => before.rests_until,
            Some(Held::Leased { .. }) | None => Duration::ZERO,
        };
        let quarantine = Quarantine { cause, owner, lost_by, since, rests_until, clean_since: None };
        entry.ledger.set(port, Some(Held::Quarantined(quarantine)));
        self.timers.set_if_unset(Timer::ScanDue(node.clone()), now.mono + limits::SCAN_AGAIN_MIN);
        self.touch_pools(node, Ports { rtp: port, rtcp: None });
    }

    /// The stream lives by this claim no longer. Its worker is to close it, unless nobody ever knew of it.
    pub(crate) fn revoke(&mut self, key: &StreamRef, reason: Reason, now: Now) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        if !claim.may_be_known() {
            self.end_claim(key, After::Unused, now);
            return;
        }
        claim.phase = ClaimPhase::Revoking(reason);
        claim.told = None;
        if let Some(path) = claim.path.clone() {
            self.dirty.paths.insert(path);
        }
        self.dirty.tell.insert(key.clone());
        self.part(key, now);
    }

    /// Pools whose numbers are among `ports` have another status, and whoever waits for just these another reason to.
    pub(crate) fn touch_pools(&mut self, node: &NodeName, ports: Ports) {
        let Some(node) = self.nodes.get(node) else { return };
        for (pool, shelf) in node.ledger.shelves() {
            if ports.numbers().any(|port| shelf.numbers().contains(port)) {
                self.dirty.pools.insert(pool.clone());
                if waits_for(&self.queues, pool, ports.rtp) {
                    self.dirty.wake.insert(pool.clone());
                }
            }
        }
    }
}

/// Whether somebody waits for `port`, or the one that makes a pair of it, and no other.
fn waits_for(queues: &BTreeMap<Queue, BTreeSet<(Arrival, Uid)>>, pool: &PoolName, port: u16) -> bool {
    let exact = |rtp, rtcp| Queue {
        pool: pool.clone(),
        shape: Shape::Exact(Ports { rtp, rtcp }),
        node_selector: Selector::new(),
    };
    queues.range(exact(port & !1, None)..=exact(port | 1, Some(u16::MAX))).next().is_some()
}

/// How many numbers.
fn numbers(ports: Ports) -> u32 {
    1 + u32::from(ports.rtcp.is_some())
}

/// The wall clock as the API writes it.
pub(crate) fn unix(now: Now) -> UnixTime {
    UnixTime(Duration::from_millis(now.wall_unix_ms).as_secs())
}
