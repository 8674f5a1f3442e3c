//! One stream at a time: does it have the claim that it should have? A claim is taken here before anybody is told.

use std::time::Duration;

use crate::claim::{Claim, ClaimPhase, Lease};
use crate::event::Now;
use crate::ids::{Epoch, NodeName, StreamRef, Uid};
use crate::node::Node;
use crate::plan::place::Place;
use crate::reason::Reason;
use crate::state::{State, unix};
use crate::status::Failover;
use crate::stream::{Blocked, Moving};
use crate::timers::Timer;

impl State {
    /// Looks at one stream: takes a claim, ends one, or leaves things as they are.
    pub(super) fn settle(&mut self, uid: &Uid, now: Now) {
        if !self.streams.contains_key(uid) {
            return;
        }
        let current = self.current_claim(uid);
        match (self.wish(uid), current) {
            (Err(reason), current) => {
                self.block(uid, None, now);
                if let Some(key) = current {
                    self.stop(&key, reason, now);
                }
            }
            (Ok(()), Some(key)) => {
                self.block(uid, None, now);
                self.keep(uid, &key, now);
            }
            (Ok(()), None) => self.start(uid, now),
        }
    }

    /// Whether a pool has given up the numbers of a claim. One that nobody was told of is made again.
    pub(crate) fn is_stale(&self, claim: &Claim) -> bool {
        claim.lease.as_ref().is_some_and(|lease| self.is_outside(&claim.node, &lease.pool, lease.ports))
    }

    /// Takes a stream off its worker. A claim whose write is under way waits for its outcome.
    fn stop(&mut self, key: &StreamRef, reason: Reason, now: Now) {
        let Some(claim) = self.claims.get(key) else { return };
        match claim.phase {
            ClaimPhase::Writing(_) | ClaimPhase::Reading => {}
            ClaimPhase::Reserved
            | ClaimPhase::Written
            | ClaimPhase::Told
            | ClaimPhase::Acknowledged
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => {
                if let Some(stream) = self.streams.get_mut(&key.uid) {
                    stream.ended = None;
                    stream.moving = None;
                }
                self.revoke(key, reason, now);
            }
        }
    }

    /// A stream with a claim: is it still the right one, and does its worker know what it should?
    fn keep(&mut self, uid: &Uid, key: &StreamRef, now: Now) {
        let (Some(stream), Some(claim)) = (self.streams.get(uid), self.claims.get(key)) else { return };
        if !self.fits(stream, claim) {
            self.stop(key, Reason::SpecChanged, now);
            return;
        }
        let node = claim.node.clone();
        match claim.phase {
            ClaimPhase::Reserved => {
                if !self.can_take(&node) {
                    self.revoke(key, Reason::WorkerLost, now);
                    return;
                }
                self.dirty.claims.insert((claim.rank, key.clone()));
            }
            ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged => {
                if self.is_given_up(&node) {
                    self.fail_over(uid, key, &node, now);
                    return;
                }
                if self.is_lost(&node) {
                    self.undo_senseless_move(key, now);
                    self.queue_to_leave(uid);
                    return;
                }
                let draining = self.nodes.get(&node).is_some_and(Node::is_draining);
                let leaves = draining && claim.phase == ClaimPhase::Acknowledged;
                if leaves {
                    self.queue_to_leave(uid);
                } else {
                    self.shrink(uid, key, now);
                }
                if self.assign_of(key).map(Box::new) != self.claims[key].assign {
                    self.dirty.tell.insert(key.clone());
                }
                if leaves {
                    return;
                }
            }
            ClaimPhase::Writing(_)
            | ClaimPhase::Reading
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => {}
        }
        self.stranded.remove(uid);
    }

    /// Its worker is gone: another one takes it, and the old numbers are held until their node says that they are closed.
    pub(super) fn fail_over(&mut self, uid: &Uid, key: &StreamRef, from_node: &NodeName, now: Now) {
        if !self.has_candidates(uid) {
            // With one worker nothing moves.
            self.strand(uid);
            return;
        }
        let last_heard = self.worker(from_node).map_or(now.mono, |worker| worker.last_heard);
        if !self.relocate(uid, key, Reason::WorkerLost, last_heard, now) {
            // It keeps what it has; the worker may come back.
            self.strand(uid);
        }
    }

    /// Has another worker take a stream, if one has room.
    pub(super) fn relocate(
        &mut self,
        uid: &Uid,
        key: &StreamRef,
        reason: Reason,
        last_heard: Duration,
        now: Now,
    ) -> bool {
        let (Some(claim), Some(stream)) = (self.claims.get(key), self.streams.get_mut(uid)) else {
            return false;
        };
        let first = stream.moving.is_none();
        // Where it comes from decides what it is given.
        stream.moving.get_or_insert_with(|| Moving {
            from: claim.worker.clone(),
            from_node: claim.node.clone(),
            reason,
            last_heard,
            at: unix(now),
        });
        let place = self.place(uid, now);
        let Some(stream) = self.streams.get_mut(uid) else { return false };
        let Ok(place) = place else {
            if first {
                stream.moving = None;
            }
            return false;
        };
        if first {
            stream.failovers += 1;
            self.counters.failovers += 1;
        }
        self.revoke(key, reason, now);
        self.take(uid, place, now);
        true
    }

    /// The worker that a stream was taken from is back, with its publisher, whom nobody has seen elsewhere: it goes on there, at
    /// another epoch.
    pub(super) fn give_back(&mut self, former: &StreamRef, now: Now) {
        self.dirty.tell.insert(former.clone());
        let uid = &former.uid;
        let Some(current) = self.current_claim(uid).filter(|_| self.may_return(former)) else { return };
        let (Some(from), Some(to)) = (self.claims.get(&current), self.claims.get(former)) else { return };
        let node = to.node.clone();
        let (from_node, from) = (from.node.clone(), from.worker.clone());
        let open = self.nodes.get(&node).is_some_and(|entry| self.may_take(entry));
        let fits = self.streams.get(uid).is_some_and(|stream| self.fits(stream, to));
        if !open || !fits || self.wish(uid).is_err() {
            return;
        }
        let last_heard = self.worker(&from_node).map_or(now.mono, |worker| worker.last_heard);
        let moving = Moving { from, from_node, reason: Reason::Returned, last_heard, at: unix(now) };
        if let Some(stream) = self.streams.get_mut(uid) {
            stream.moving = Some(moving);
            stream.failovers += 1;
        }
        self.counters.failovers += 1;
        self.revoke(&current, Reason::Returned, now);
        self.take(uid, Place { node, lease: None }, now);
    }

    pub(super) fn strand(&mut self, uid: &Uid) {
        self.stranded.insert(uid.clone());
        self.dirty.statuses.insert(uid.clone());
    }

    /// A stream without a claim gets one, or waits for what it lacks.
    fn start(&mut self, uid: &Uid, now: Now) {
        let Some(stream) = self.streams.get(uid) else { return };
        if stream.absent.is_some() {
            self.block(uid, None, now);
            return;
        }
        if stream.retry_at.is_some_and(|at| at > now.mono) {
            let message = "the API refused the last write; it is tried again in a few seconds".to_owned();
            self.block(uid, Some(Blocked::Retry { message }), now);
            return;
        }
        if self.is_closing(uid) {
            self.block(uid, Some(Blocked::Closing), now);
            return;
        }
        if self.restored && self.awaits_inventories() {
            let reason = Reason::AwaitingInventory;
            let message = "the API has forgotten things; workers are asked what they have".to_owned();
            self.block(uid, Some(Blocked::Worker { reason, message }), now);
            return;
        }
        match self.place(uid, now) {
            Ok(place) => {
                self.block(uid, None, now);
                self.take(uid, place, now);
            }
            Err(blocked) => self.block(uid, Some(blocked), now),
        }
    }

    /// Whether a worker may still say that it has what the records don't know, for as long as a new leader waits for anything.
    fn awaits_inventories(&self) -> bool {
        let owes = |node: &Node| node.worker.as_ref().is_some_and(|it| it.session.is_some() && !it.known);
        self.timers.is_set(&Timer::LeadWindow) && self.nodes.values().any(owes)
    }

    /// Whether an earlier claim on the stream or its path may still be open on a worker that can close it.
    fn is_closing(&self, uid: &Uid) -> bool {
        let open = |key: &StreamRef| self.claims.get(key).is_some_and(|claim| !self.is_lost(&claim.node));
        let path =
            self.streams.get(uid).and_then(|stream| stream.path()).and_then(|path| self.paths.get(path));
        self.claims_of(uid).any(|(key, _)| open(key))
            || path.is_some_and(|entry| entry.claims.iter().any(open))
    }

    /// Takes the claim: from here on its numbers are nobody else's.
    pub(super) fn take(&mut self, uid: &Uid, place: Place, now: Now) {
        let rank = self.next_rank();
        let Place { node, lease } = place;
        let Some(worker) = self.worker(&node) else { return };
        let (worker, pod_uid, boot) = (worker.name.clone(), worker.pod_uid.clone(), worker.boot.clone());
        let (restored, floor, heard) = (self.restored, self.epoch_floor, self.epoch_heard);
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let floor = if restored || stream.from_the_past { floor.max(heard) } else { heard };
        stream.epoch = Epoch(stream.epoch.max(stream.epoch_told).max(floor).0 + 1);
        stream.epoch_given = stream.epoch;
        stream.taken = Some((stream.epoch, node.clone()));
        stream.claim = Some(stream.epoch);
        if let Some(moving) = &stream.moving {
            stream.last_failover = Some(Failover {
                at: moving.at,
                from: moving.from.clone(),
                to: worker.clone(),
                reason: moving.reason,
                gap_ms: None,
            });
        }
        let key = StreamRef::new(uid.clone(), stream.epoch);
        let source = stream.rtp().cloned();
        let claim = Claim {
            stream: key.clone(),
            name: Some(stream.name.clone()),
            path: stream.path().cloned(),
            node,
            worker,
            pod_uid,
            boot: Some(boot),
            since: unix(now),
            rank,
            lease: lease.map(|(pool, ports)| Lease {
                pool,
                ports,
                transport: source.as_ref().map(|source| source.transport),
                source,
            }),
            second: None,
            phase: ClaimPhase::Reserved,
            told: None,
            assign: None,
        };
        self.begin_claim(claim);
        self.dirty.claims.insert((rank, key));
        self.dirty.statuses.insert(uid.clone());
    }
}
