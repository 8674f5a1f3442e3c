//! How writes end. A claim is on record only when its write is known to be.

use crate::action::{Action, ObjectRef, Severity};
use crate::claim::ClaimPhase;
use crate::event::{Now, WriteOutcome};
use crate::ids::{Epoch, PoolName, ResourceVersion, StreamRef, Uid, WriteId};
use crate::limits;
use crate::observe::objects::Source;
use crate::reason::Reason;
use crate::spec::StreamObject;
use crate::state::{After, State, Write};
use crate::status::{PoolStatus, StreamStatus};
use crate::stream::{Absence, Reading};
use crate::timers::Timer;

/// What a write was to bring, and what it was made from.
struct Written<Status> {
    /// The version that it replaces.
    replaces: ResourceVersion,
    status: Status,
    /// What is to be said once it is there.
    news: Vec<Action>,
}

impl State {
    /// A write ended.
    pub(crate) fn note_write(&mut self, id: WriteId, outcome: WriteOutcome, now: Now) {
        // Writes of an earlier lead are not ours to follow any more.
        let Some(write) = self.writes.remove(&id) else { return };
        match &outcome {
            WriteOutcome::Written { resource_version } => {
                self.note_version(*resource_version);
            }
            WriteOutcome::Conflict => self.counters.write_conflicts += 1,
            WriteOutcome::Refused { .. } => self.counters.write_refusals += 1,
            WriteOutcome::Unknown => self.counters.writes_unknown += 1,
            WriteOutcome::NotFound => {}
        }
        match &outcome {
            WriteOutcome::Written { .. }
            | WriteOutcome::Conflict
            | WriteOutcome::Refused { .. }
            | WriteOutcome::NotFound => self.window.answered(),
            WriteOutcome::Unknown => self.window.unanswered(),
        }
        match write {
            Write::Stream { uid, replaces, status, news, claim } => self.note_stream_write(
                &uid,
                id,
                Written { replaces, status: *status, news },
                claim,
                outcome,
                now,
            ),
            Write::Pool { name, uid, replaces, status, news } => {
                self.note_pool_write(&name, &uid, Written { replaces, status: *status, news }, outcome, now)
            }
            Write::Delete { uid } => match outcome {
                // The watch says when it is gone.
                WriteOutcome::Written { .. } => {}
                // It went before: maybe before the list that the watch begins with, which then never speaks of it.
                WriteOutcome::NotFound => self.read(&uid),
                WriteOutcome::Conflict | WriteOutcome::Refused { .. } | WriteOutcome::Unknown => {
                    if let Some(stream) = self.streams.get_mut(&uid) {
                        stream.expiring = false;
                        self.timers.set(Timer::Quiet(uid), now.mono + limits::RETRY_AFTER);
                    }
                }
            },
        }
    }

    fn note_stream_write(
        &mut self,
        uid: &Uid,
        id: WriteId,
        written: Written<StreamStatus>,
        claim: Option<StreamRef>,
        outcome: WriteOutcome,
        now: Now,
    ) {
        let claim = claim
            .filter(|key| self.claims.get(key).is_some_and(|claim| claim.phase == ClaimPhase::Writing(id)));
        if let Some(stream) = self.streams.get_mut(uid) {
            stream.write = None;
        }
        self.requeue(uid);
        match outcome {
            WriteOutcome::Written { resource_version } => {
                let was_on_record = self.current_claim(uid).is_none_or(|key| self.is_on_record(&key));
                self.note_written(uid, resource_version, written);
                if !was_on_record && let Some(key) = self.current_claim(uid) {
                    self.dirty.tell.insert(key);
                }
                if let Some(key) = claim {
                    self.set_phase(&key, ClaimPhase::Written);
                    self.dirty.tell.insert(key.clone());
                    // It has taken over: what it takes over from may be closed now.
                    self.tell_revoked(uid);
                    // What changed while the write was under way is looked at now.
                    self.mark(uid);
                }
            }
            // What it met may be an earlier write of this very claim, whose outcome was unknown and which came late.
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                if let Some(key) = claim {
                    self.set_phase(&key, ClaimPhase::Reading);
                }
                if let Some(stream) = self.streams.get_mut(uid) {
                    stream.unsaid = Some(Box::new((written.status, written.news)));
                }
                self.read(uid);
            }
            WriteOutcome::Refused { message } => {
                if let Some(key) = claim {
                    self.end_claim(&key, After::Unused, now);
                }
                self.note_refused(uid, message, now);
            }
            // Gone, or another object has its name: the watch, or the read, tells.
            WriteOutcome::NotFound => {
                if let Some(key) = claim {
                    self.set_phase(&key, ClaimPhase::Reserved);
                }
                self.read(uid);
            }
        }
    }

    fn note_written(
        &mut self,
        uid: &Uid,
        resource_version: ResourceVersion,
        Written { replaces, status, news }: Written<StreamStatus>,
    ) {
        let Some(stream) = self.streams.get_mut(uid) else { return };
        // The watch may have been faster than the answer. An older version than it replaced is known where the stream was
        // lost meanwhile and met again in an old list: its spec is not the one that is there.
        if (replaces..=resource_version).contains(&stream.resource_version) {
            stream.resource_version = resource_version;
            *stream.stored = status;
        }
        stream.unsaid = None;
        self.outbox.extend(news);
    }

    /// A read shows what a write of unknown outcome has come to: if it is there, its news is told.
    fn say_unsaid(&mut self, uid: &Uid) {
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let Some(unsaid) = stream.unsaid.take() else { return };
        let (status, news) = *unsaid;
        if *stream.stored == status {
            self.outbox.extend(news);
        }
    }

    fn note_refused(&mut self, uid: &Uid, message: String, now: Now) {
        let Some(stream) = self.streams.get_mut(uid) else { return };
        stream.retry_at = Some(now.mono + limits::RETRY_AFTER);
        let object = ObjectRef::Stream { uid: uid.clone(), name: stream.name.clone() };
        let note = format!("the API refused the status: {message}");
        self.outbox.push(Action::Emit {
            object,
            reason: Reason::WriteRefused,
            severity: Severity::Warning,
            note,
        });
        self.timers.set(Timer::Retry(uid.clone()), now.mono + limits::RETRY_AFTER);
        self.read(uid);
        self.mark(uid);
    }

    fn note_pool_write(
        &mut self,
        name: &PoolName,
        uid: &Uid,
        Written { replaces, status, news }: Written<PoolStatus>,
        outcome: WriteOutcome,
        now: Now,
    ) {
        let Some(pool) = self.pools.get_mut(name).filter(|pool| pool.uid == *uid) else { return };
        pool.write = None;
        match outcome {
            WriteOutcome::Written { resource_version } => {
                pool.conflicts = 0;
                if replaces == pool.resource_version {
                    pool.passed_over = None;
                }
                self.outbox.extend(news);
                if (replaces..=resource_version).contains(&pool.resource_version) {
                    pool.resource_version = resource_version;
                    *pool.stored = status;
                }
                self.dirty.pools.insert(name.clone());
            }
            WriteOutcome::Conflict => {
                pool.conflicts += 1;
                let disowned = pool.conflicts >= limits::POOL_CONFLICTS_MAX && pool.passed_over.is_some();
                self.timers.set(Timer::PoolStatus(name.clone()), now.mono + self.config.pool_status_every);
                if disowned {
                    // No watch lags for so long: what it brought is what a restored API has.
                    self.restored = true;
                    self.take_passed_over_pools();
                }
            }
            // Nothing depends on it: the watch brings what is there, then it is written again.
            WriteOutcome::Refused { .. } | WriteOutcome::NotFound | WriteOutcome::Unknown => {
                self.timers.set(Timer::PoolStatus(name.clone()), now.mono + self.config.pool_status_every);
            }
        }
    }

    /// A read was answered.
    pub(crate) fn note_confirmed(&mut self, uid: &Uid, found: Option<StreamObject>, now: Now) {
        let Some((gone, reading)) = self.end_read(uid) else { return };
        let found = found.filter(|_| !gone);
        // An answer that may be older than our own write is no better than the watch.
        let source = if reading == Some(Reading::BesideWrite) { Source::Watch } else { Source::Read };
        match found.filter(|object| object.uid == *uid) {
            // Only a person can say that a stream is gone when too many are lacking.
            // Its claim, if it was being read, is not on record: it is written when the stream is back.
            None if self.held_absent.contains(uid) => self.settle_read_claim(uid),
            None => {
                // A watch that is behind may bring it once more before it tells of its end.
                if let Some(epoch) = self.streams.get(uid).map(|stream| stream.epoch) {
                    self.remember_epoch(uid, epoch);
                }
                self.lose_stream(uid, now);
                self.settle_adopted(uid, now);
            }
            Some(object) => {
                self.end_absence(uid, now);
                self.see_stream(object, source, now);
                self.say_unsaid(uid);
                self.settle_read_claim(uid);
                self.settle_adopted(uid, now);
            }
        }
    }

    /// A read was answered by an API that was put back. The list that comes next tells what else it has forgotten; until then the stream
    /// goes on, and only a person can say that it is gone.
    pub(crate) fn note_forgotten(&mut self, uid: &Uid, now: Now) {
        if self.end_read(uid).is_none() {
            return;
        }
        // Its versions may have overtaken those of before by the time of the list.
        self.regressed = true;
        self.restored = true;
        self.hold_adopted();
        if let Some(stream) = self.streams.get_mut(uid) {
            stream.absent = Some(Absence::Held(Reason::ListWentBack));
            self.held_absent.insert(uid.clone());
            self.dirty.statuses.remove(uid);
        }
        self.settle_read_claim(uid);
        self.settle_adopted(uid, now);
    }

    /// A read is over: what waited for it goes on. Says whether the stream was seen to go meanwhile, and what its answer is worth. Absent: it
    /// was of an earlier lead, and is not ours to follow any more.
    fn end_read(&mut self, uid: &Uid) -> Option<(bool, Option<Reading>)> {
        let gone = self.reads.remove(uid)?;
        let reading = self.streams.get_mut(uid).and_then(|stream| stream.reading.take());
        self.requeue(uid);
        Some((gone, reading))
    }

    /// Claims of a stream that are to be closed: their workers are told, if they can be.
    pub(crate) fn tell_revoked(&mut self, uid: &Uid) {
        let to_close = self
            .claims_of(uid)
            .filter(|(_, claim)| claim.told.is_none() && matches!(claim.phase, ClaimPhase::Revoking(_)));
        let to_close: Vec<StreamRef> = to_close.map(|(key, _)| key.clone()).collect();
        self.dirty.tell.extend(to_close);
    }

    /// What waited for the end of a write or a read goes on.
    pub(crate) fn requeue(&mut self, uid: &Uid) {
        let Some(stream) = self.streams.get(uid) else { return };
        self.dirty.statuses.insert(uid.clone());
        let Some(epoch) = stream.claim else { return };
        let key = StreamRef::new(uid.clone(), epoch);
        let Some(claim) = self.claims.get(&key) else { return };
        if claim.phase == ClaimPhase::Reserved {
            self.dirty.claims.insert((claim.rank, key));
        } else if claim.second.is_some() {
            // Its worker may be told of the second lease, or that is not wanted by now.
            self.dirty.streams.insert(uid.clone());
        }
    }

    /// The claim whose write had an unknown outcome: it is on record, or is written again.
    fn settle_read_claim(&mut self, uid: &Uid) {
        let Some(stream) = self.streams.get(uid) else { return };
        let Some(epoch) = stream.claim else { return };
        let key = StreamRef::new(uid.clone(), epoch);
        let Some(claim) = self.claims.get(&key).filter(|claim| claim.phase == ClaimPhase::Reading) else {
            return;
        };
        // Not by its term: ours may have had to rise since it was written.
        let recorded = Epoch(stream.stored.epoch) == epoch
            && stream
                .stored
                .assignment
                .as_ref()
                .is_some_and(|recorded| recorded.pod_uid == claim.pod_uid && recorded.node == claim.node);
        if recorded {
            self.set_phase(&key, ClaimPhase::Written);
            self.dirty.tell.insert(key.clone());
        } else {
            self.set_phase(&key, ClaimPhase::Reserved);
        }
        self.mark(uid);
    }

    /// A claim has come further. Those to be written are queued.
    pub(crate) fn set_phase(&mut self, key: &StreamRef, phase: ClaimPhase) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let queued = phase == ClaimPhase::Reserved;
        claim.phase = phase;
        if let Some(path) = claim.path.clone() {
            self.dirty.paths.insert(path);
        }
        if queued {
            self.dirty.claims.insert((claim.rank, key.clone()));
        }
        if let Some(worker) = self.nodes.get_mut(&claim.node).and_then(|node| node.worker.as_mut()) {
            worker.digest = None;
        }
        self.mark(&key.uid.clone());
    }
}
