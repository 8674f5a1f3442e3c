//! Shrink with the policy Move: a stream on numbers that its pool has no longer gets others beside them, and gives up the first
//! once media has come on the second, or at the deadline.

use std::time::Duration;

use crate::action::{Action, ObjectRef, Severity};
use crate::claim::{Claim, ClaimPhase, Lease, Second, Stage};
use crate::event::Now;
use crate::ids::{NodeName, PoolName, Ports, StreamRef, Uid, UnixTime};
use crate::ledger::Shape;
use crate::reason::Reason;
use crate::spec::Shrink;
use crate::state::{After, State};
use crate::stream::{Cramped, Stream};
use crate::timers::Timer;

impl State {
    /// Looks at the numbers of a stream that its worker has in force: begins a move, takes one back, or lets it go on.
    pub(super) fn shrink(&mut self, uid: &Uid, key: &StreamRef, now: Now) {
        self.undo_senseless_move(key, now);
        self.arm_deadline(key, now);
        let cramped = self.where_to_move(key);
        let free = cramped.as_ref().and_then(|cramped| self.room_for(cramped));
        match free {
            Some(ports) => {
                self.cramp(uid, None);
                // Both are held for what the stream asks for now: it may have asked for the first by its number.
                let source = self.streams.get(uid).and_then(Stream::rtp).cloned();
                if let Some(lease) = self.claims.get_mut(key).and_then(|claim| claim.lease.as_mut()) {
                    lease.source = source;
                }
                self.begin_second(key, Second { ports, stage: Stage::Reserved, since: None, arrived: false });
                self.dirty.statuses.insert(uid.clone());
            }
            None => self.cramp(uid, cramped),
        }
    }

    /// Where a stream is to have another number, if its pool wants it to.
    fn where_to_move(&self, key: &StreamRef) -> Option<Cramped> {
        let (stream, claim) = (self.streams.get(&key.uid)?, self.claims.get(key)?);
        if claim.phase != ClaimPhase::Acknowledged || claim.second.is_some() || !self.is_stale(claim) {
            return None;
        }
        if !self.worker(&claim.node)?.changes_leases {
            return None;
        }
        let pool = claim.lease.as_ref()?.pool.clone();
        let spec = self.pools.get(&pool)?.accepted()?;
        let (Shrink::Move { deadline: _ }, true) = (spec.shrink, spec.allows(stream.namespace())) else {
            return None;
        };
        match stream.shape()? {
            shape @ (Shape::Single | Shape::Pair) => Some(Cramped { pool, node: claim.node.clone(), shape }),
            // No other number will do.
            Shape::Exact(_) => None,
        }
    }

    /// The numbers that who waits there would get. Not those that rest for it: word of their end may be on its way.
    pub(crate) fn room_for(&self, Cramped { pool, node, shape }: &Cramped) -> Option<Ports> {
        let node = self.nodes.get(node).filter(|node| self.may_take(node) && !node.is_looked_at())?;
        node.ledger.choose(pool, *shape)
    }

    /// Where streams wait for a number, and there is none. A node that is being looked at may have one.
    pub(super) fn has_no_room(&self, Cramped { pool: _, node, shape: _ }: &Cramped) -> bool {
        self.nodes.get(node).is_some_and(|node| !node.is_looked_at())
    }

    /// Those who wait for a number beside their own are served after those who have none.
    pub(super) fn serve_cramped(&mut self, pool: &PoolName, now: Now) {
        let of_pool = self.cramped.keys().filter(|cramped| cramped.pool == *pool);
        for cramped in of_pool.cloned().collect::<Vec<_>>() {
            while self.room_for(&cramped).is_some()
                && let Some(uid) = self.cramped.get(&cramped).and_then(|waiting| waiting.first()).cloned()
            {
                self.cramp(&uid, None);
                self.settle(&uid, now);
            }
        }
    }

    /// Why the second lease of a claim has no sense any more, if it has none. Where media comes on it, it has.
    fn why_undone(&self, key: &StreamRef) -> Option<String> {
        let claim = self.claims.get(key)?;
        let second = claim.successor().filter(|second| !second.arrived)?;
        let Lease { pool, ports: old, .. } = claim.lease.as_ref()?;
        let new = second.ports;
        // Of a pool that is gone nothing is known.
        self.pools.get(pool)?;
        let rtp = self.streams.get(&key.uid).and_then(Stream::rtp);
        if rtp.is_some_and(|rtp| rtp.port.is_some()) {
            Some(format!("spec.source.rtp.port asks for {old}: {new} is closed"))
        } else if !self.is_stale(claim) {
            Some(format!("{old} is in spec.ranges of the PortPool {pool} again and stays: {new} is closed"))
        } else if self.is_outside(&claim.node, pool, new) {
            Some(format!("{new} is outside spec.ranges of the PortPool {pool} as well, and is closed"))
        } else {
            None
        }
    }

    /// Takes back a second lease that has no sense any more.
    pub(super) fn undo_senseless_move(&mut self, key: &StreamRef, now: Now) {
        let Some(why) = self.why_undone(key) else { return };
        let Some(second) = self.claims.get(key).and_then(|claim| claim.second.as_ref()) else { return };
        if second.stage.is_told() {
            self.say_of_move(key, Reason::PortsMoved, Severity::Normal, why);
            self.set_stage(key, Stage::Closing);
            return;
        }
        let stream = self.streams.get(&key.uid);
        // A write that is under way may put it on record: its end brings this back.
        if stream.is_none_or(|stream| stream.write.is_none() && stream.reading.is_none()) {
            self.end_second(key, After::Unused, now);
        }
    }

    /// Media has come on the second lease for long enough: the first is to be closed.
    pub(crate) fn end_move(&mut self, key: &StreamRef) {
        let Some(claim) = self.claims.get(key) else { return };
        let (Some(first), Some(second)) = (&claim.lease, &claim.second) else { return };
        let Lease { pool, ports: old, .. } = first;
        let new = second.ports;
        let note = format!("media comes on {new}: {old} of the PortPool {pool} is closed");
        self.say_of_move(key, Reason::PortsMoved, Severity::Normal, note);
        self.give_up_first(key);
    }

    /// The deadline of a move has come: the first lease is to be closed all the same.
    pub(super) fn end_overdue_move(&mut self, key: &StreamRef) {
        // One that is revoked is closed as a whole.
        let Some(claim) = self.claims.get(key).filter(|claim| claim.is_written()) else { return };
        let (Some(first), Some(second)) = (&claim.lease, &claim.second) else { return };
        match second.stage {
            Stage::Open if second.arrived => return self.end_move(key),
            Stage::Open => {}
            Stage::Reserved | Stage::Opening | Stage::Closing => return,
        }
        let dialled = self.streams.get(&key.uid).is_some_and(Stream::is_dialled);
        let what_now = if dialled {
            "the device is connected to from the former alone"
        } else {
            "invite its sender to the address in status.endpoints"
        };
        let Lease { pool, ports: old, .. } = first;
        let new = second.ports;
        let note = format!(
            "no media has come on {new} within spec.shrink.deadline of the PortPool {pool}, and {old} is closed now; {what_now}"
        );
        self.say_of_move(key, Reason::DeadlineExceeded, Severity::Warning, note);
        self.give_up_first(key);
    }

    fn say_of_move(&mut self, key: &StreamRef, reason: Reason, severity: Severity, note: String) {
        let Some(name) = self.stream_name(&key.uid) else { return };
        let object = ObjectRef::Stream { uid: key.uid.clone(), name };
        self.outbox.push(Action::Emit { object, reason, severity, note });
    }

    /// When the first of two open leases is closed at the latest, as the pool says now.
    pub(crate) fn move_closes_at(&self, claim: &Claim) -> Option<UnixTime> {
        let second = claim.successor()?;
        let UnixTime(since) = second.since?;
        match self.pools.get(&claim.lease.as_ref()?.pool)?.spec.as_ref()?.shrink {
            Shrink::Wait => None,
            Shrink::Move { deadline } => Some(UnixTime(since + deadline.as_secs())),
        }
    }

    fn arm_deadline(&mut self, key: &StreamRef, now: Now) {
        let Some(claim) = self.claims.get(key) else { return };
        let timer = Timer::MoveDue(key.clone());
        match self.move_closes_at(claim) {
            Some(UnixTime(at)) => {
                let left = Duration::from_secs(at).saturating_sub(Duration::from_millis(now.wall_unix_ms));
                self.timers.set(timer, now.mono + left);
            }
            None => self.timers.cancel(&timer),
        }
    }

    /// Whether a lease has numbers that its pool has not, or not on this node.
    pub(crate) fn is_outside(&self, node: &NodeName, pool: &PoolName, ports: Ports) -> bool {
        let shelf = self.nodes.get(node).and_then(|node| node.ledger.shelf(pool));
        !shelf.is_some_and(|shelf| ports.numbers().all(|port| shelf.numbers().contains(port)))
    }

    /// Puts a stream where a number that becomes free will find it, or takes it from there.
    pub(crate) fn cramp(&mut self, uid: &Uid, cramped: Option<Cramped>) {
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let before = std::mem::replace(&mut stream.cramped, cramped.clone());
        if before == cramped {
            return;
        }
        if let Some(before) = before
            && let Some(waiting) = self.cramped.get_mut(&before)
        {
            waiting.remove(uid);
            if waiting.is_empty() {
                self.cramped.remove(&before);
            }
            self.dirty.pools.insert(before.pool);
        }
        if let Some(cramped) = cramped {
            self.dirty.pools.insert(cramped.pool.clone());
            self.cramped.entry(cramped).or_default().insert(uid.clone());
        }
        self.dirty.statuses.insert(uid.clone());
    }
}
