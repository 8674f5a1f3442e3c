//! How what happened changes what is known. Decides nothing; marks what `plan` has to look at.

use std::collections::BTreeSet;

use crate::action::Action;
use crate::digest::DirectoryDigest;
use crate::event::{Event, Now};
use crate::ids::{Epoch, Term};
use crate::ledger::Ledger;
use crate::node::Liveness;
use crate::state::{Dirty, Kind, Lead, State};
use crate::timers::{Timer, Timers};

mod inventory;
mod lists;
mod objects;
mod recover;
mod reports;
mod second;
mod sessions;
mod writes;

impl State {
    /// Takes note of what happened.
    pub fn observe(&mut self, event: Event, now: Now) {
        match event {
            Event::StreamSeen(object) => self.see_stream(*object, self.source_of(Kind::Streams), now),
            Event::StreamGone { uid } => self.lose_stream(&uid, now),
            Event::PoolSeen(object) => self.see_pool(*object, self.source_of(Kind::Pools)),
            Event::PoolGone { name, uid } => self.lose_pool(&name, &uid),
            Event::NodeSeen(object) => self.see_node(object),
            Event::NodeGone { name } => self.lose_node(&name),
            Event::SecretSeen { name, token_sha256 } => self.see_secret(name, Some(token_sha256)),
            Event::SecretGone { name } => self.see_secret(name, None),
            Event::ServiceCidrSeen { name, networks } => self.see_service_cidr(name, networks),
            Event::ServiceCidrGone { name } => self.lose_service_cidr(&name),
            Event::Listed(listed) => self.note_list(listed, now),
            Event::Confirmed { uid, found } => self.note_confirmed(&uid, found.map(|object| *object), now),
            Event::Forgotten { uid } => self.note_forgotten(&uid, now),
            Event::AbsenceConfirmed => self.believe_absences(),
            Event::Write { id, outcome } => self.note_write(id, outcome, now),
            Event::Hello { session, hello } => self.greet(session, hello, now),
            Event::Inventory { session, inventory } => self.note_inventory(session, inventory, now),
            Event::Beat { session, beat } => self.note_beat(session, beat, now),
            Event::Report { session, report } => self.note_report(session, report, now),
            Event::SessionClosed { session } => self.close_session(session, now),
            Event::WorkerDegraded { worker, boot } => self.vouch_for(&worker, &boot, now),
            Event::WorkerLost { worker, boot } => self.lose_worker(&worker, &boot),
            Event::Lead { floor } => self.lead(floor, now),
            Event::TermRecorded { term } => self.note_term(term),
            Event::Demoted => self.demote(),
            Event::Tick => {}
        }
    }

    fn lead(&mut self, floor: Term, now: Now) {
        self.demote();
        self.note_term_seen(floor);
        self.lead = Some(Lead::new());
        self.timers.set(Timer::LeadWindow, now.mono + self.config.lead_window);
        for (name, node) in &self.nodes {
            let timer = match node.worker.as_ref().map(|worker| worker.liveness) {
                Some(Liveness::Alive) => Timer::Silent(name.clone()),
                Some(Liveness::Suspect | Liveness::Degraded) => Timer::Unheard(name.clone()),
                Some(Liveness::Unheard | Liveness::Lost) | None => continue,
            };
            self.timers.set(timer, now.mono + self.config.lead_window);
        }
    }

    fn note_term(&mut self, term: Term) {
        let Some(lead) = &mut self.lead else { return };
        if lead.term != term {
            return;
        }
        lead.recorded = true;
        self.assume_nothing_of_workers();
    }

    /// A new term: each worker's inventory must be seen again before anything is granted.
    fn assume_nothing_of_workers(&mut self) {
        for (name, node) in &mut self.nodes {
            let Some(worker) = &mut node.worker else { continue };
            worker.known = false;
            worker.digest = None;
            if let Some(session) = &mut worker.session {
                // It may have heard of a later term, and dropped what this one was told in the one before.
                session.forget();
                session.fence = session.sequence + 1;
            }
            self.dirty.nodes.insert(name.clone());
        }
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.forget_told(&name);
        }
    }

    /// Some term was heard of; a leader's own must be above those of all others.
    pub(crate) fn note_term_seen(&mut self, term: Term) {
        self.term_seen = self.term_seen.max(term);
    }

    /// Forgets what only a leader knows. Objects, sessions and what workers are stay.
    fn demote(&mut self) {
        self.lead = None;
        self.claims.clear();
        self.queues.clear();
        self.cramped.clear();
        self.seconds.clear();
        self.unplaced.clear();
        self.stranded.clear();
        self.leaving.clear();
        self.to_leave.clear();
        self.held_absent.clear();
        self.writes.clear();
        self.reads.clear();
        // A session that is not listened to ends whoever leads.
        self.outbox.retain(|action| matches!(action, Action::CloseSession { .. }));
        self.directory.clear();
        self.directory_digest = DirectoryDigest::default();
        self.timers = Timers::default();
        self.dirty = Dirty::default();
        for entry in self.paths.values_mut() {
            entry.claims = BTreeSet::new();
        }
        self.paths.retain(|_, entry| !entry.declared.is_empty());
        for pool in self.pools.values_mut() {
            pool.write = None;
        }
        for stream in self.streams.values_mut() {
            stream.claim = None;
            stream.epoch_given = Epoch(0);
            stream.blocked = None;
            stream.waits = false;
            stream.write = None;
            stream.reading = None;
            stream.retry_at = None;
            stream.moving = None;
            stream.cramped = None;
            stream.absent = None;
            stream.expiring = false;
        }
        for node in self.nodes.values_mut() {
            node.ledger = Ledger::default();
            node.claims.clear();
            node.users.clear();
            if let Some(worker) = &mut node.worker {
                worker.known = false;
                worker.digest = None;
                if let Some(session) = &mut worker.session {
                    session.forget();
                }
            }
        }
    }
}
