//! Workers that come, beat, fall silent and go.

use crate::action::Action;
use crate::claim::ClaimPhase;
use crate::digest::Digest;
use crate::event::{Beat, Hello, Now};
use crate::ids::{BootId, NodeName, SessionId, Term, Uid, WorkerName};
use crate::ledger::Held;
use crate::limits;
use crate::node::{Liveness, Session, Worker};
use crate::state::State;
use crate::timers::Timer;

impl State {
    /// A worker opened a session.
    pub(crate) fn greet(&mut self, session: SessionId, hello: Hello, now: Now) {
        self.note_term_seen(hello.term);
        self.note_term_shared(&hello);
        self.epoch_heard = self.epoch_heard.max(hello.epoch);
        let name = hello.node.clone();
        let node = self.nodes.entry(name.clone()).or_default();
        let current = node.worker.as_ref().map(|worker| worker.boot.clone());
        // Hellos of two sessions may come in the wrong order: the later process is the one that goes on being heard.
        let is_heard = node.worker.as_ref().is_some_and(|worker| {
            worker.session.is_some() || now.mono < worker.last_heard + limits::UNHEARD_AFTER
        });
        if is_heard && current.as_ref() != Some(&hello.boot) && node.is_retired(&hello.boot) {
            let why = "a later process of this node has said hello";
            self.outbox.push(Action::CloseSession { session, why });
            return;
        }
        let former =
            node.worker.as_ref().and_then(|worker| worker.session.as_ref()).map(|session| session.id);
        match node.worker.as_mut().filter(|worker| worker.boot == hello.boot) {
            Some(worker) => {
                let (heard, Worker { known, commanded, draining, before, .. }) = (worker.liveness, &*worker);
                // The same process: what was learnt of it in this term holds.
                *worker = Worker {
                    known: *known,
                    commanded: *commanded,
                    draining: *draining,
                    before: *before,
                    ..Worker::new(hello, session, now.mono)
                };
                let back = heard != Liveness::Alive;
                self.dirty.placement |= back;
                if heard == Liveness::Unheard {
                    self.mark_claims(&name);
                }
            }
            None => {
                let before = node.worker.as_ref().map(|worker| worker.last_heard);
                node.retired.retain(|boot| *boot != hello.boot);
                if let Some(boot) = current {
                    node.retire(boot);
                }
                self.newest_template = hello.template.clone();
                node.worker = Some(Worker { before, ..Worker::new(hello, session, now.mono) });
                node.holders.clear();
            }
        }
        self.sessions.insert(session, name.clone());
        self.forget_told(&name);
        if let Some(former) = former {
            self.sessions.remove(&former);
            let why = "the worker has opened another session";
            self.outbox.push(Action::CloseSession { session: former, why });
        }
        self.dirty.shelves = true;
        self.dirty.nodes.insert(name.clone());
        self.timers.set(Timer::Silent(name.clone()), now.mono + self.config.suspect_after);
        self.timers.set(Timer::InventoryDue(name), now.mono + self.config.answer_after);
    }

    /// A worker that knows this leader's term, though it was told nothing in it, has heard another one: a restored Lease has
    /// had the same term given twice.
    fn note_term_shared(&mut self, hello: &Hello) {
        if self.lead.is_none() || self.term() == Term(0) || self.term() != hello.term {
            return;
        }
        let known = self.worker(&hello.node).filter(|worker| worker.boot == hello.boot);
        if known.is_none_or(|worker| worker.commanded != hello.term) {
            self.note_term_seen(Term(hello.term.0 + 1));
        }
    }

    /// A sign of life, with what the worker holds in one number.
    pub(crate) fn note_beat(&mut self, session: SessionId, beat: Beat, now: Now) {
        self.note_term_seen(beat.term);
        let Some(name) = self.hear(session, now) else { return };
        if self
            .worker_mut(&name)
            .is_some_and(|worker| std::mem::replace(&mut worker.draining, beat.draining) != beat.draining)
        {
            self.dirty.placement = true;
            self.mark_claims(&name);
        }
        if !self.is_active() {
            return;
        }
        let Some(worker) = self.worker(&name) else { return };
        let Some(current) = &worker.session else { return };
        if !current.compared || current.awaiting || beat.sequence != current.sequence {
            return;
        }
        let expected = self.expected_digest(&name);
        if expected != beat.digest {
            self.counters.digest_mismatches += 1;
            self.ask_again(&name);
        }
    }

    /// A session spoke. Says for which node, unless another session has taken over.
    pub(crate) fn hear(&mut self, session: SessionId, now: Now) -> Option<NodeName> {
        let Some(name) = self.speaker(session) else {
            self.counters.stale_messages += 1;
            return None;
        };
        let worker = self.worker_mut(&name)?;
        worker.last_heard = now.mono;
        match std::mem::replace(&mut worker.liveness, Liveness::Alive) {
            Liveness::Alive => {}
            Liveness::Suspect | Liveness::Degraded => self.welcome_back(&name, now),
            Liveness::Unheard | Liveness::Lost => {
                self.welcome_back(&name, now);
                self.mark_claims(&name);
                // What it still has, and who publishes there, decides what it is told of streams that have moved.
                self.ask_again(&name);
            }
        }
        Some(name)
    }

    fn welcome_back(&mut self, name: &NodeName, now: Now) {
        self.dirty.placement = true;
        self.timers.cancel(&Timer::Unheard(name.clone()));
        self.timers.set(Timer::Silent(name.clone()), now.mono + self.config.suspect_after);
    }

    /// A session ended. Its worker may be well, but it can be told nothing.
    pub(crate) fn close_session(&mut self, session: SessionId, now: Now) {
        let speaker = self.speaker(session);
        self.sessions.remove(&session);
        let Some(name) = speaker else { return };
        self.timers.cancel(&Timer::InventoryDue(name.clone()));
        if let Some(worker) = self.worker_mut(&name) {
            worker.session = None;
            worker.digest = None;
        }
        self.suspect(&name, now);
    }

    /// A worker is silent or has no session: it gets nothing new.
    pub(crate) fn suspect(&mut self, name: &NodeName, now: Now) {
        let Some(worker) = self.worker_mut(name) else { return };
        if worker.liveness != Liveness::Alive {
            return;
        }
        worker.liveness = Liveness::Suspect;
        let unheard = worker.last_heard + crate::limits::UNHEARD_AFTER;
        self.timers.set(Timer::Unheard(name.clone()), unheard.max(now.mono));
        self.timers.cancel(&Timer::Silent(name.clone()));
    }

    /// The witnesses say that a process runs which is not heard here: until they say it no more, its streams are believed to be
    /// served.
    pub(crate) fn vouch_for(&mut self, worker: &WorkerName, boot: &BootId, now: Now) {
        let Some(name) = self.node_running(worker, boot) else { return };
        let Some(worker) = self.worker_mut(&name) else { return };
        match worker.liveness {
            Liveness::Alive | Liveness::Lost => return,
            Liveness::Suspect | Liveness::Degraded => worker.liveness = Liveness::Degraded,
            Liveness::Unheard => {
                worker.liveness = Liveness::Degraded;
                self.mark_claims(&name);
            }
        }
        self.timers.set(Timer::Unheard(name), now.mono + limits::VOUCHED_FOR);
    }

    /// Where this process runs.
    fn node_running(&self, worker: &WorkerName, boot: &BootId) -> Option<NodeName> {
        let mut nodes = self.nodes.iter();
        let is_it = |known: &Worker| known.name == *worker && known.boot == *boot;
        nodes.find(|(_, node)| node.worker.as_ref().is_some_and(is_it)).map(|(name, _)| name.clone())
    }

    /// The witnesses say that a process is gone.
    pub(crate) fn lose_worker(&mut self, worker: &WorkerName, boot: &BootId) {
        let Some(name) = self.node_running(worker, boot) else { return };
        if let Some(worker) = self.worker_mut(&name) {
            worker.liveness = Liveness::Lost;
        }
        self.timers.cancel(&Timer::Silent(name.clone()));
        self.timers.cancel(&Timer::Unheard(name.clone()));
        self.mark_claims(&name);
    }

    /// Streams that could not be moved are looked at again.
    pub(crate) fn mark_stranded(&mut self) {
        let stranded: Vec<Uid> = self.stranded.iter().cloned().collect();
        for uid in stranded {
            self.mark(&uid);
        }
    }

    /// Sequences are those of a session: what an earlier one was told may not have arrived.
    pub(crate) fn forget_told(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        for key in &node.claims {
            if let Some(claim) = self.claims.get_mut(key) {
                claim.told = None;
            }
            self.timers.cancel(&Timer::AnswerDue(key.clone()));
        }
    }

    /// The next session of a worker begins with nothing told.
    pub(crate) fn session_mut(&mut self, name: &NodeName) -> Option<&mut Session> {
        self.worker_mut(name)?.session.as_mut()
    }
}

impl State {
    /// The digest that a worker's beat should have once it has applied all commands. Computed anew after a change only, at
    /// the cost of its ports, never of all streams.
    fn expected_digest(&mut self, name: &NodeName) -> u64 {
        let Some(node) = self.nodes.get(name) else { return 0 };
        if let Some(digest) = node.worker.as_ref().and_then(|worker| worker.digest) {
            return digest;
        }
        let mut digest = Digest::default();
        for (port, held) in node.ledger.all_held() {
            let Held::Leased { claims, pool: _, beneath: _ } = held else { continue };
            for key in claims {
                let open = self.claims.get(key).is_some_and(|claim| match claim.phase {
                    ClaimPhase::Told
                    | ClaimPhase::Acknowledged
                    | ClaimPhase::Revoking(_)
                    | ClaimPhase::Adopted { held: _ } => true,
                    ClaimPhase::Reserved
                    | ClaimPhase::Writing(_)
                    | ClaimPhase::Reading
                    | ClaimPhase::Written => false,
                });
                let second = self.claims.get(key).and_then(|claim| claim.second_with(*port));
                if open && second.is_none_or(|second| second.stage.is_told()) {
                    digest.add(*port, key);
                }
            }
        }
        let digest = digest.value();
        if let Some(worker) = self.worker_mut(name) {
            worker.digest = Some(digest);
        }
        digest
    }
}
