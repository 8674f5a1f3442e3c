//! Which statuses are written, in which order: claims first, no more at once than the API is to bear, nothing that
//! would change nothing.

use crate::action::{Action, ObjectRef};
use crate::claim::ClaimPhase;
use crate::event::Now;
use crate::ids::{StreamRef, Uid};
use crate::news;
use crate::reason::Reason;
use crate::state::{State, Write};

impl State {
    /// Writes claims, then what only informs.
    pub(super) fn write_statuses(&mut self, now: Now) {
        while self.writes.len() < self.window.size() {
            let Some((_, key)) = self.dirty.claims.pop_first() else { break };
            let reserved = self.claims.get(&key).is_some_and(|claim| claim.phase == ClaimPhase::Reserved);
            if reserved && self.current_claim(&key.uid).as_ref() == Some(&key) {
                self.write_stream(&key.uid, Some(&key), now);
            }
        }
        while self.writes.len() < self.window.size() {
            let Some(uid) = self.dirty.statuses.pop_first() else { break };
            let current = self.current_claim(&uid);
            let reserved = current.as_ref().and_then(|key| self.claims.get(key));
            if reserved.is_some_and(|claim| claim.phase == ClaimPhase::Reserved) {
                self.write_stream(&uid, current.as_ref(), now);
            } else {
                self.write_stream(&uid, None, now);
            }
        }
    }

    /// Writes one status, unless one is under way: its end brings this one back.
    fn write_stream(&mut self, uid: &Uid, claim: Option<&StreamRef>, now: Now) {
        let Some(stream) = self.streams.get(uid) else { return };
        let waits = stream.retry_at.is_some_and(|at| at > now.mono);
        if stream.write.is_some() || stream.reading.is_some() || stream.absent.is_some() || waits {
            return;
        }
        if let Some(key) = claim
            && self.claims.get(key).is_some_and(|claim| self.is_stale(claim))
        {
            self.revoke(key, Reason::SpecChanged, now);
            self.settle(uid, now);
            return;
        }
        let status = Box::new(self.status_of(uid, now));
        let stream = &self.streams[uid];
        if status == stream.stored {
            self.counters.writes_dropped += 1;
            return;
        }
        let (name, resource_version) = (stream.name.clone(), stream.resource_version);
        let object = ObjectRef::Stream { uid: uid.clone(), name: name.clone() };
        let news = news::of_stream(&object, &stream.stored, &status);
        let id = self.next_write();
        if let Some(key) = claim {
            self.set_phase(key, ClaimPhase::Writing(id));
            self.dirty.streams.remove(uid);
            self.dirty.statuses.remove(uid);
        }
        let write = Write::Stream {
            uid: uid.clone(),
            replaces: resource_version,
            status: status.clone(),
            news,
            claim: claim.cloned(),
        };
        self.writes.insert(id, write);
        if let Some(stream) = self.streams.get_mut(uid) {
            stream.write = Some(id);
        }
        let claim = claim.is_some();
        self.outbox.push(Action::WriteStream { id, uid: uid.clone(), name, resource_version, status, claim });
    }
}
