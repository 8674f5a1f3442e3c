//! Moves that are not urgent, a few at once. Workers that are to be emptied, for a person has cordoned the node, or the process is to
//! end, serve until others do. Of a worker that was held for want of witnesses it is known at last that its node is down.

use crate::action::{Action, ObjectRef, Severity};
use crate::claim::ClaimPhase;
use crate::event::Now;
use crate::ids::{StreamRef, Uid};
use crate::limits;
use crate::node::Node;
use crate::reason::Reason;
use crate::state::State;
use crate::timers::Timer;

impl State {
    /// A stream is to leave its worker when it is its turn.
    pub(super) fn queue_to_leave(&mut self, uid: &Uid) {
        let live = self.streams.get(uid).is_some_and(|stream| stream.live);
        self.to_leave.insert((!live, uid.clone()));
    }

    /// Those that have left make room for those that wait; what flows goes first.
    pub(super) fn next_to_leave(&mut self) -> Option<Uid> {
        if self.to_leave.is_empty() {
            return None;
        }
        let Self { leaving, streams, .. } = self;
        leaving.retain(|uid| {
            streams.get(uid).is_some_and(|stream| stream.claim.is_some() && stream.moving.is_some())
        });
        if leaving.len() >= limits::MOVES_MAX {
            return None;
        }
        self.to_leave.pop_first().map(|(_, uid)| uid)
    }

    /// Another worker takes the stream, as soon as one has room.
    pub(super) fn leave(&mut self, uid: &Uid, now: Now) {
        let Some(key) = self.current_claim(uid).filter(|_| self.wish(uid).is_ok()) else { return };
        let Some(claim) = self.claims.get(&key).filter(|claim| claim.is_written()) else { return };
        let (node, acknowledged) = (claim.node.clone(), claim.phase == ClaimPhase::Acknowledged);
        if self.is_lost(&node) {
            self.fail_over(uid, &key, &node, now);
        } else if acknowledged && self.nodes.get(&node).is_some_and(Node::is_draining) {
            self.move_away(uid, &key, now);
        } else {
            return;
        }
        if self.streams.get(uid).is_some_and(|stream| stream.moving.is_some()) {
            self.leaving.insert(uid.clone());
        }
    }

    fn move_away(&mut self, uid: &Uid, key: &StreamRef, now: Now) {
        // A sender to leased ports must be invited to the new ones, and is heard on the old ones until then. One that we connect to is
        // found by the new worker, and may take one connection only.
        let has_sender = self.streams.get(uid).is_some_and(|stream| {
            let comes = stream.rtp().is_some() && !stream.is_dialled();
            comes && (stream.live || stream.publisher.is_some())
        });
        if !self.relocate(uid, key, Reason::Drained, now.mono, now) {
            return self.strand(uid);
        }
        self.stranded.remove(uid);
        if has_sender {
            self.timers.set(Timer::Handover(key.clone()), now.mono + limits::HANDOVER);
        }
    }

    /// The old ports are closed, whether or not anybody has found the new ones.
    pub(super) fn end_handover(&mut self, key: &StreamRef) {
        self.dirty.tell.insert(key.clone());
        let Some(stream) = self.streams.get(&key.uid).filter(|stream| !stream.live) else { return };
        let object = ObjectRef::Stream { uid: key.uid.clone(), name: stream.name.clone() };
        let note = "no media has come on the ports that it has moved to, and the former ones are closed now: invite its sender to the \
                    address in status.endpoints"
            .to_owned();
        self.outbox.push(Action::Emit { object, reason: Reason::Drained, severity: Severity::Warning, note });
    }

    /// Media flows on the new ports: the old ones are closed soon.
    pub(crate) fn hurry_handover(&mut self, uid: &Uid, now: Now) {
        let due = now.mono + limits::HANDOVER_OVERLAP;
        for key in self.claims_of(uid).map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.timers.advance(Timer::Handover(key), due);
        }
    }
}
