//! What happened on a worker.

use std::sync::Arc;
use std::time::Duration;

use crate::action::{Action, ObjectRef, Severity};
use crate::claim::{Claim, ClaimPhase};
use crate::event::{Closed, Holder, HostPorts, Now, Report};
use crate::ids::{NodeName, Ports, Protocol, SessionId, StreamRef};
use crate::ledger::{Held, Owner, QuarantineCause};
use crate::limits;
use crate::reason::Reason;
use crate::state::{After, State};
use crate::status::{Failover, ProblemSource, Publisher};
use crate::stream::Heard;
use crate::timers::Timer;

/// A number that could not be bound, as reported.
struct Failure {
    stream: StreamRef,
    port: u16,
    protocol: Protocol,
    error: Arc<str>,
    holder: Option<Holder>,
}

impl State {
    /// Something happened on a worker.
    pub(crate) fn note_report(&mut self, session: SessionId, report: Report, now: Now) {
        let Some(node) = self.hear(session, now) else { return };
        if !self.is_recovered() {
            return;
        }
        match report {
            Report::Assigned { stream, ports, next } => {
                self.note_assigned(&node, &stream, ports, now);
                if self.claim_on(&node, &stream) {
                    self.note_opened(&stream, next, now);
                }
            }
            Report::BindFailed { stream, port, protocol, error, holder, own } => {
                let failure = Failure { stream, port, protocol, error, holder };
                if own {
                    self.note_own_clash(&node, failure, now)
                } else {
                    self.note_conflict(&node, failure, now)
                }
            }
            Report::Closed(Closed { stream, ports: _, ago: _ }) => self.note_closed(&node, &stream, now),
            Report::PortsClosed { stream, ports } => self.note_ports_closed(&node, &stream, &ports, now),
            Report::Arrived { stream, port, settled } => self.note_arrived(&node, &stream, port, settled),
            Report::Publisher { stream, publisher, reason } => {
                self.note_publisher(&node, &stream, publisher, reason)
            }
            Report::Media { stream, live } => self.note_media(&node, &stream, live, now),
            Report::Scan { holders, host } => {
                self.note_holders(&node, holders, host);
                self.judge_scan(&node, now);
            }
            Report::ShardStuck { shard: _, verdict: _, streams } => self.note_stuck(&node, &streams, now),
        }
    }

    /// The claim that `stream` has on this node. Word of other nodes' claims frees nothing.
    pub(crate) fn claim_on(&self, node: &NodeName, stream: &StreamRef) -> bool {
        self.claims.get(stream).is_some_and(|claim| claim.node == *node)
    }

    fn note_assigned(&mut self, node: &NodeName, key: &StreamRef, ports: Option<Ports>, now: Now) {
        if !self.claim_on(node, key) {
            return;
        }
        let Some(claim) = self.claims.get(key) else { return };
        if claim.phase != ClaimPhase::Told {
            return;
        }
        if claim.ports() != ports {
            // Not what was asked for: the inventory will show what it has.
            self.ask_again(node);
            return;
        }
        self.acknowledge(key, now);
    }

    /// The worker has it in force.
    pub(crate) fn acknowledge(&mut self, key: &StreamRef, now: Now) {
        self.set_phase(key, ClaimPhase::Acknowledged);
        // What it takes over from may be closed now.
        self.tell_revoked(&key.uid);
        self.timers.cancel(&Timer::AnswerDue(key.clone()));
        let to = self.claims.get(key).map(|claim| claim.worker.clone());
        let Some(stream) = self.streams.get_mut(&key.uid).filter(|stream| stream.claim == Some(key.epoch))
        else {
            return;
        };
        if let (Some(moving), Some(to)) = (stream.moving.take(), to) {
            let gap = now.mono.saturating_sub(moving.last_heard);
            stream.last_failover = Some(Failover {
                at: moving.at,
                from: moving.from,
                to,
                reason: moving.reason,
                gap_ms: Some(u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)),
            });
        }
        if !stream.live {
            stream.quiet_since = now.mono;
        }
        self.arm_quiet(&key.uid, now);
    }

    /// The worker has closed it, or had it not.
    pub(crate) fn note_closed(&mut self, node: &NodeName, key: &StreamRef, now: Now) {
        if self.claim_on(node, key) && self.claims.get(key).is_some_and(|claim| claim.may_be_known()) {
            self.end_claim(key, After::Cooling, now);
        }
    }

    /// Somebody else holds a number: it is set aside, and the next one leased in this plan.
    fn note_conflict(&mut self, node: &NodeName, failure: Failure, now: Now) {
        let Failure { stream: key, port, protocol, error, holder } = failure;
        self.counters.bind_failures += 1;
        let claim = self.claims.get(&key).filter(|claim| claim.node == *node);
        if claim.is_none_or(|claim| claim.numbers().all(|number| number != port)) {
            return;
        }
        // One that let go of it before the worker looked, a moment later.
        let unseen = || format!("somebody who is not seen ({error})");
        let owner = holder.map_or_else(unseen, |holder| holder.describe());
        if let Some((object, pool)) = self.stream_ref(&key).zip(self.pool_of(&key)) {
            let stream = self.streams.get(&key.uid);
            let is_fixed = stream.and_then(|stream| stream.rtp()).is_some_and(|rtp| rtp.port.is_some());
            let what_now = if is_fixed {
                "no other number will do, so the stream waits for it. End that process, or write another spec.source.rtp.port"
            } else {
                "another number is leased. End that process, or list the port in the pool's spec.reserved"
            };
            let note = format!(
                "port {port}/{protocol} of pool {pool} on node {node} is held by {owner}; {what_now}"
            );
            self.outbox.push(Action::Emit {
                object,
                reason: Reason::BindFailed,
                severity: Severity::Warning,
                note,
            });
        }
        let lost_by = self.claims.get(&key).and_then(Claim::owner);
        // Nothing was ever received on them: the other number of a pair is what it was before.
        if self.claims.get(&key).is_some_and(|claim| claim.second_with(port).is_some()) {
            self.end_second(&key, After::Unused, now);
        } else {
            self.end_claim(&key, After::Unused, now);
        }
        let held = self.nodes.get(node).and_then(|node| node.ledger.held(port));
        if !matches!(held, Some(Held::Leased { .. })) {
            let cause = QuarantineCause::Foreign(ProblemSource::BindFailed);
            self.quarantine(node, port, cause, owner, lost_by, now);
        }
    }

    /// Another stream of the same worker has the number: no cause for quarantine.
    fn note_own_clash(&mut self, node: &NodeName, failure: Failure, now: Now) {
        self.counters.bind_failures += 1;
        self.counters.own_clashes += 1;
        if self.claim_on(node, &failure.stream) {
            // Who has it is not known here, or it would not have been leased: it rests until the inventory says.
            let claim = self.claims.get(&failure.stream);
            if claim.is_some_and(|claim| claim.second_with(failure.port).is_some()) {
                self.end_second(&failure.stream, After::Cooling, now);
            } else {
                self.end_claim(&failure.stream, After::Cooling, now);
            }
            self.forget_owner(node, failure.port);
            self.ask_again(node);
        }
    }

    /// Nobody takes a cooling number back.
    pub(crate) fn forget_owner(&mut self, node: &NodeName, port: u16) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        if let Some(Held::Cooling { until, owner: _, pool }) = node.ledger.held(port).cloned() {
            node.ledger.set(port, Some(Held::Cooling { until, owner: None, pool }));
        }
    }

    fn note_publisher(
        &mut self,
        node: &NodeName,
        key: &StreamRef,
        publisher: Option<Publisher>,
        reason: Arc<str>,
    ) {
        if !self.claim_on(node, key) {
            return;
        }
        if self.timers.is_set(&Timer::Return(key.clone())) {
            // Somebody still publishes where it was given up, or nobody does, and it is closed there.
            self.timers.cancel(&Timer::Return(key.clone()));
            let wanted = publisher.is_some() && self.may_return(key);
            let to_do = if wanted { &mut self.dirty.returns } else { &mut self.dirty.tell };
            to_do.insert(key.clone());
            return;
        }
        let Some(stream) = self.streams.get_mut(&key.uid).filter(|stream| stream.claim == Some(key.epoch))
        else {
            return;
        };
        stream.ended = if publisher.is_none() && !reason.is_empty() { Some(reason) } else { None };
        stream.publisher = publisher;
        stream.heard.publisher = true;
        self.dirty.statuses.insert(key.uid.clone());
    }

    /// Whether a stream that was taken away from a worker may go back there: it was not told yet to close it, and nobody
    /// publishes where the stream is now. Senders to leased ports can't: their numbers are another lease by then.
    pub(crate) fn may_return(&self, key: &StreamRef) -> bool {
        let Some(claim) = self.claims.get(key) else { return false };
        let given_up = claim.phase == ClaimPhase::Revoking(Reason::WorkerLost) && claim.told.is_none();
        let elsewhere = self.current_claim(&key.uid).and_then(|current| self.claims.get(&current));
        given_up
            && elsewhere.is_some_and(|it| it.is_written() && it.node != claim.node && it.lease.is_none())
            && claim.lease.is_none()
            && self.streams.get(&key.uid).is_some_and(|stream| stream.publisher.is_none() && !stream.live)
    }

    fn note_media(&mut self, node: &NodeName, key: &StreamRef, live: bool, now: Now) {
        if !self.claim_on(node, key) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&key.uid).filter(|stream| stream.claim == Some(key.epoch))
        else {
            return;
        };
        if stream.live && !live {
            stream.quiet_since = now.mono;
        }
        let begins = live && !stream.live;
        stream.live = live;
        stream.heard.media = true;
        if begins {
            self.hurry_handover(&key.uid, now);
        }
        self.arm_quiet(&key.uid, now);
        self.dirty.statuses.insert(key.uid.clone());
    }

    /// After an inventory a worker says what is live there. What it does not name has ended unheard.
    pub(crate) fn await_media(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        let mut unsaid = false;
        for key in &node.claims {
            let Some(stream) =
                self.streams.get_mut(&key.uid).filter(|stream| stream.claim == Some(key.epoch))
            else {
                continue;
            };
            stream.heard = Heard { publisher: stream.publisher.is_none(), media: !stream.live };
            unsaid |= stream.heard != Heard::ALL;
        }
        if unsaid {
            self.timers.set(Timer::MediaDue(name.clone()), now.mono + self.config.answer_after);
        }
    }

    /// Ends what a worker did not say after its inventory. One that is not heard by now says it in its next session.
    pub(crate) fn end_unsaid_media(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        if node.worker.as_ref().is_none_or(|worker| worker.session.is_none()) {
            return;
        }
        for key in node.claims.clone() {
            let Some(stream) = self.streams.get_mut(&key.uid) else { continue };
            let heard = std::mem::replace(&mut stream.heard, Heard::ALL);
            if heard == Heard::ALL || stream.claim != Some(key.epoch) {
                continue;
            }
            if !heard.media {
                stream.end_media(now.mono);
            }
            if !heard.publisher {
                stream.publisher = None;
            }
            self.arm_quiet(&key.uid, now);
            self.dirty.statuses.insert(key.uid.clone());
        }
    }

    /// The next time that this stream may have been without media too long.
    pub(crate) fn arm_quiet(&mut self, uid: &crate::ids::Uid, now: Now) {
        let timer = Timer::Quiet(uid.clone());
        let Some(stream) = self.streams.get(uid) else { return };
        let Some(spec) = stream.spec.as_ref().filter(|spec| !stream.live && !spec.paused) else {
            self.timers.cancel(&timer);
            return;
        };
        let release = spec.release_after_idle.filter(|_| stream.rtp().is_some() && !stream.idle);
        // Whoever is going, or may be gone, is looked at again when that is known: a deadline that has come and can't be
        // met would come again at once.
        let stays = !stream.expiring && !stream.deleting && stream.absent.is_none();
        let delete = spec.ttl_after_idle.filter(|_| stays);
        let due = release.into_iter().chain(delete).map(|after| stream.quiet_since + after).min();
        match due {
            Some(due) => self.timers.set(timer, due.max(now.mono)),
            None => self.timers.cancel(&timer),
        }
    }

    /// The foreign sockets of a host, complete.
    pub(crate) fn note_holders(&mut self, name: &NodeName, holders: Vec<Holder>, host: HostPorts) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.holders = holders.into_iter().map(|holder| ((holder.port, holder.protocol), holder)).collect();
        if node.host != host {
            node.host = host;
            let pools: Vec<_> = node.ledger.shelves().keys().cloned().collect();
            self.dirty.pools.extend(pools);
        }
    }

    /// What a complete scan means for numbers that are free or in quarantine.
    pub(crate) fn judge_scan(&mut self, name: &NodeName, now: Now) {
        self.quarantine_seen(name, now);
        self.judge_quarantined(name, now);
    }

    /// Numbers that are free or rest, and on which the scan shows a foreign socket, are not given to anybody: not to their last
    /// owner either.
    pub(crate) fn quarantine_seen(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        let mut seen: Vec<(u16, String, Option<Owner>)> = Vec::new();
        for ((port, _), holder) in &node.holders {
            let ours = node.ledger.shelves().values().any(|shelf| shelf.numbers().contains(*port));
            let known = seen.last().is_some_and(|(last, ..)| last == port);
            if !ours || known {
                continue;
            }
            match node.ledger.held(*port) {
                None => seen.push((*port, holder.describe(), None)),
                Some(Held::Cooling { until: _, owner, pool: _ }) => {
                    seen.push((*port, holder.describe(), owner.clone()));
                }
                Some(Held::Leased { .. } | Held::Quarantined(_)) => {}
            }
        }
        let pools: Vec<_> = node.ledger.shelves().keys().cloned().collect();
        self.dirty.pools.extend(pools);
        for (port, owner, lost_by) in seen {
            let cause = QuarantineCause::Foreign(ProblemSource::HostScan);
            self.quarantine(name, port, cause, owner, lost_by, now);
        }
    }

    /// Quarantine ends when two scans, a cooldown apart, see the number free.
    fn judge_quarantined(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        let quarantined: Vec<u16> = node.ledger.quarantined().iter().copied().collect();
        for port in quarantined {
            let cooldown = self.cooldown_of(name, port);
            let Some(node) = self.nodes.get_mut(name) else { return };
            let Some(Held::Quarantined(quarantine)) = node.ledger.held(port).cloned() else { continue };
            match quarantine.cause {
                QuarantineCause::Leak => continue,
                QuarantineCause::Foreign(_) => {}
            }
            let seen = node.holder(port).map(Holder::describe);
            let clean_since = match (seen.is_some(), quarantine.clean_since) {
                (true, _) => None,
                (false, since) => Some(since.unwrap_or(now.mono)),
            };
            if clean_since.is_some_and(|since| since < now.mono && now.mono >= since + cooldown) {
                node.ledger.set(port, None);
                self.settle_free(name, port, now);
                continue;
            }
            if clean_since.is_some() && quarantine.clean_since.is_none() {
                // It may be tried now where nothing else is free.
                self.dirty.wake.extend(self.pools_with(name, port));
            }
            let owner = seen.unwrap_or(quarantine.owner.clone());
            if clean_since != quarantine.clean_since || owner != quarantine.owner {
                let next = crate::ledger::Quarantine { clean_since, owner, ..quarantine };
                if let Some(node) = self.nodes.get_mut(name) {
                    node.ledger.set(port, Some(Held::Quarantined(next)));
                }
            }
        }
    }

    /// How long a number of this node rests.
    pub(crate) fn cooldown_of(&self, name: &NodeName, port: u16) -> Duration {
        let pools = self.pools_with(name, port);
        let cooldown =
            pools.iter().find_map(|pool| self.pools.get(pool)?.spec.as_ref().map(|spec| spec.cooldown));
        cooldown.unwrap_or(limits::COOLDOWN_DEFAULT)
    }

    /// Pools that have this number on this node.
    pub(crate) fn pools_with(&self, name: &NodeName, port: u16) -> Vec<crate::ids::PoolName> {
        let Some(node) = self.nodes.get(name) else { return Vec::new() };
        let with = node.ledger.shelves().iter().filter(|(_, shelf)| shelf.numbers().contains(port));
        with.map(|(pool, _)| pool.clone()).collect()
    }

    /// A shard stopped ticking: what sat on it is remembered, for the case that its process aborts.
    fn note_stuck(&mut self, node: &NodeName, streams: &[StreamRef], now: Now) {
        let Some(boot) = self.worker(node).map(|worker| worker.boot.clone()) else { return };
        for key in streams {
            if !self.claim_on(node, key) {
                continue;
            }
            let Some(stream) = self.streams.get_mut(&key.uid) else { continue };
            stream.stuck.retain(|(at, _)| now.mono < *at + limits::SUSPECT_WINDOW);
            if stream.stuck.iter().all(|(_, before)| *before != boot) {
                stream.stuck.push((now.mono, boot.clone()));
            }
        }
    }

    fn pool_of(&self, key: &StreamRef) -> Option<crate::ids::PoolName> {
        self.claims.get(key)?.lease.as_ref().map(|lease| lease.pool.clone())
    }

    fn stream_ref(&self, key: &StreamRef) -> Option<ObjectRef> {
        self.stream_name(&key.uid).map(|name| ObjectRef::Stream { uid: key.uid.clone(), name })
    }
}
