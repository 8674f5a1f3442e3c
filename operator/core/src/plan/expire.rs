//! Deadlines that have come.

use crate::action::Action;
use crate::event::Now;
use crate::ids::{NodeName, StreamRef, Uid};
use crate::ledger::Held;
use crate::limits;
use crate::node::{Informed, Liveness};
use crate::reason::Reason;
use crate::state::{State, Write};
use crate::timers::Timer;

impl State {
    /// Does what each deadline that has come is for.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::Cooled(node, port) => self.end_cooling(&node, port, now),
                Timer::Silent(node) => self.judge_silence(&node, now),
                Timer::Unheard(node) => self.judge_unheard(&node),
                Timer::InventoryDue(node) => self.miss_inventory(&node, now),
                Timer::MediaDue(node) => self.end_unsaid_media(&node, now),
                Timer::ScanDue(node) => self.scan_again(&node, now),
                Timer::AnswerDue(claim) => self.miss_answer(&claim),
                // Nobody has come back with it.
                Timer::Return(claim) => {
                    self.dirty.tell.insert(claim);
                }
                Timer::Handover(claim) => self.end_handover(&claim),
                Timer::MoveDue(claim) => self.end_overdue_move(&claim),
                Timer::Quiet(uid) => self.judge_quiet(&uid, now),
                Timer::Retry(uid) => {
                    self.mark(&uid);
                    self.requeue(&uid);
                }
                Timer::PoolStatus(pool) => {
                    self.dirty.pools.insert(pool);
                }
                Timer::LeadWindow => self.end_lead_window(),
                // What changed meanwhile is sent by this plan.
                Timer::Directory | Timer::Networks => {}
            }
        }
    }

    fn end_cooling(&mut self, node: &NodeName, port: u16, now: Now) {
        let Some(entry) = self.nodes.get_mut(node) else { return };
        let Some(Held::Cooling { until, owner: _, pool }) = entry.ledger.held(port) else { return };
        let (until, pool) = (*until, pool.clone());
        if until > now.mono {
            return;
        }
        entry.ledger.set(port, None);
        self.dirty.pools.insert(pool);
        self.settle_free(node, port, now);
    }

    fn judge_silence(&mut self, name: &NodeName, now: Now) {
        let after = self.config.suspect_after;
        let Some(worker) = self.worker(name) else { return };
        let due = worker.last_heard + after;
        if due > now.mono {
            self.timers.set(Timer::Silent(name.clone()), due);
        } else {
            self.suspect(name, now);
        }
    }

    /// Its streams say that it is not heard; they move only if it is known to be gone.
    fn judge_unheard(&mut self, name: &NodeName) {
        let Some(worker) = self.worker_mut(name) else { return };
        if matches!(worker.liveness, Liveness::Suspect | Liveness::Degraded) {
            worker.liveness = Liveness::Unheard;
            self.mark_claims(name);
        }
    }

    fn miss_inventory(&mut self, name: &NodeName, now: Now) {
        let again = now.mono + self.config.answer_after;
        let Some(session) = self.session_mut(name) else { return };
        session.awaiting = false;
        session.compared = false;
        if session.directory == Informed::Unknown {
            // It is to know who has which path, though it can't say what it has.
            session.directory = Informed::Has(None);
        }
        self.dirty.nodes.insert(name.clone());
        self.timers.set(Timer::InventoryDue(name.clone()), again);
    }

    /// While numbers are in quarantine their host is scanned again each cooldown.
    fn scan_again(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        let cooldown = node.ledger.quarantined().iter().map(|&port| self.cooldown_of(name, port)).min();
        let Some(cooldown) = cooldown else { return };
        self.ask_again(name);
        self.timers.set(Timer::ScanDue(name.clone()), now.mono + cooldown.max(limits::SCAN_AGAIN_MIN));
    }

    /// A worker did not answer a command: its inventory shows what became of it.
    fn miss_answer(&mut self, key: &StreamRef) {
        let Some(node) = self.claims.get(key).map(|claim| claim.node.clone()) else { return };
        self.ask_again(&node);
    }

    /// Without media too long: the ports go back, or the object goes.
    fn judge_quiet(&mut self, uid: &Uid, now: Now) {
        if !self.is_active() {
            self.timers.set(Timer::Quiet(uid.clone()), now.mono + self.config.answer_after);
            return;
        }
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let Some(spec) = stream.spec.clone().filter(|_| !stream.live) else { return };
        let quiet = now.mono.saturating_sub(stream.quiet_since);
        let is_rtp = stream.rtp().is_some();
        if is_rtp && !stream.idle && spec.release_after_idle.is_some_and(|after| quiet >= after) {
            stream.idle = true;
            self.mark(uid);
        }
        self.expire_stream(uid, spec.ttl_after_idle.is_some_and(|after| quiet >= after));
        self.arm_quiet(uid, now);
    }

    fn expire_stream(&mut self, uid: &Uid, over: bool) {
        let Some(stream) = self.streams.get_mut(uid).filter(|stream| over && !stream.expiring) else {
            return;
        };
        if stream.deleting || stream.absent.is_some() {
            return;
        }
        stream.expiring = true;
        let (name, resource_version) = (stream.name.clone(), stream.resource_version);
        let id = self.next_write();
        self.writes.insert(id, Write::Delete { uid: uid.clone() });
        let object = crate::action::ObjectRef::Stream { uid: uid.clone(), name: name.clone() };
        let note = "no media for spec.ttlAfterIdle: the object is deleted".to_owned();
        let severity = crate::action::Severity::Normal;
        self.outbox.push(Action::Emit { object, reason: Reason::TtlExpired, severity, note });
        self.outbox.push(Action::DeleteStream { id, uid: uid.clone(), name, resource_version });
    }

    /// From here on a worker that was never heard says something.
    fn end_lead_window(&mut self) {
        // What waited for inventories waits no longer.
        self.dirty.placement = true;
        let silent: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.worker.is_none() && !node.claims.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in silent {
            self.mark_claims(&name);
        }
    }
}
