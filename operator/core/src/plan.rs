//! From what is known to what is to be done. Each decision is recorded in the state before it is returned, so no two
//! plans take the same port.

use crate::action::{Action, Command};
use crate::event::Now;
use crate::ids::{NodeName, StreamRef, Term};
use crate::state::{Dirty, State};

mod assign;
mod claim;
mod directory;
mod drain;
mod expire;
mod greet;
mod networks;
mod place;
mod pool_status;
mod release;
mod shrink;
mod status;
mod write;

/// What is to be done by now.
pub fn plan(state: &mut State, now: Now) -> Vec<Action> {
    state.choose_term();
    state.expire(now);
    if state.is_active() {
        if state.dirty.shelves {
            state.restock(now);
        }
        state.update_networks(now);
        state.greet_workers(now);
        state.settle_streams(now);
        state.tell_workers(now);
        state.write_statuses(now);
        state.write_pools(now);
        state.update_directory(now);
    } else if state.lead.is_none() {
        // Who comes to lead looks at everything. Until then marks would pile up, one for each stream that ever was.
        state.dirty = Dirty::default();
    }
    std::mem::take(&mut state.outbox)
}

impl State {
    /// A leader's term is above every other that was ever heard of.
    fn choose_term(&mut self) {
        let seen = self.term_seen;
        let Some(lead) = &mut self.lead else { return };
        if !lead.recovered || (lead.term > Term(0) && lead.term >= seen) {
            return;
        }
        lead.term = Term(seen.0 + 1);
        lead.recorded = false;
        self.term_seen = lead.term;
        self.outbox.push(Action::RecordTerm { term: lead.term });
    }

    /// Looks at each stream that something happened to. Those that wait are served first, in their order.
    fn settle_streams(&mut self, now: Now) {
        if std::mem::take(&mut self.dirty.placement) {
            let waiting: Vec<_> = self.unplaced.iter().map(|(_, uid)| uid.clone()).collect();
            self.dirty.streams.extend(waiting);
            self.mark_stranded();
            let pools = self.queues.keys().map(|queue| &queue.pool);
            let pools: Vec<_> =
                pools.chain(self.cramped.keys().map(|cramped| &cramped.pool)).cloned().collect();
            self.dirty.wake.extend(pools);
        }
        for former in std::mem::take(&mut self.dirty.returns) {
            self.give_back(&former, now);
        }
        loop {
            if let Some(pool) = self.dirty.wake.pop_first() {
                self.serve_waiting(&pool, now);
                self.serve_cramped(&pool, now);
            } else if let Some(uid) = self.dirty.streams.pop_first() {
                self.settle(&uid, now);
            } else if let Some(uid) = self.next_to_leave() {
                self.leave(&uid, now);
            } else {
                return;
            }
        }
    }

    /// Tells the worker of `node` something; its sequence, unless it has no session.
    fn command(&mut self, node: &NodeName, command: Command) -> Option<u64> {
        let term = self.term();
        let worker = self.worker_mut(node)?;
        let session = worker.session.as_mut()?;
        worker.commanded = term;
        session.sequence += 1;
        let (session, sequence) = (session.id, session.sequence);
        self.outbox.push(Action::Command { session, term, sequence, command });
        Some(sequence)
    }

    /// The claim that a stream lives by.
    pub(crate) fn current_claim(&self, uid: &crate::ids::Uid) -> Option<StreamRef> {
        let epoch = self.streams.get(uid)?.claim?;
        Some(StreamRef::new(uid.clone(), epoch))
    }
}
