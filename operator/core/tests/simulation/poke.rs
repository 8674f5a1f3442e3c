//! Things that happen just when a stream is where streams seldom are: misfortune left to chance would not meet those.

use operator_core::ids::{BootId, ObjectName, Uid, WorkerName};
use operator_core::status::Phase;
use operator_core::{Event, LeaseState};

use crate::api::Kind;
use crate::world::{Item, World};

/// Of a hundred plans with a stream in such a state, how many something happens after.
fn chance(lease: LeaseState, phase: Phase) -> u64 {
    match (lease, phase) {
        (LeaseState::Adopted, _) => 60,
        (LeaseState::Quarantined, Phase::Pending) => 8,
        (LeaseState::Quarantined, _) => 30,
        (LeaseState::Free | LeaseState::Revoking | LeaseState::Cooling, Phase::Live) => 40,
        (LeaseState::Claimed, Phase::Live | Phase::Idle | Phase::Paused | Phase::Refused) => 40,
        (LeaseState::Revoking | LeaseState::Cooling, Phase::Pending) => 2,
        (LeaseState::Revoking | LeaseState::Cooling, _) => 8,
        (LeaseState::Claimed | LeaseState::Free, _) | (LeaseState::Leased, _) => 0,
    }
}

impl World {
    /// After a plan of a leader.
    pub(crate) fn poke(&mut self, replica: usize) {
        let target = &self.replicas[replica];
        if self.faults.calm || !target.leading || !self.rng.chance(30) {
            return;
        }
        let states = target.core.streams().filter_map(|stream| {
            let (lease, phase) = target.core.stream_state(stream.uid)?;
            Some((chance(lease, phase), stream.uid, stream.name))
        });
        let Some((chance, uid, name)) = states.max() else { return };
        let (uid, name) = (uid.clone(), name.clone());
        if self.rng.chance(chance) {
            self.happen(replica, &uid, &name);
        }
    }

    fn happen(&mut self, replica: usize, uid: &Uid, name: &ObjectName) {
        let incarnation = self.replicas[replica].incarnation;
        match self.rng.below(24) {
            kind @ 0..4 => self.relist(replica, Kind::ALL[kind], None),
            4 => {
                let event = Event::AbsenceConfirmed;
                self.after(0, 3, Item::Feed { replica, incarnation, event });
            }
            5 => {
                let (worker, boot) = (WorkerName::from("nobody"), BootId::from("never"));
                let event = Event::WorkerLost { worker, boot };
                self.after(0, 3, Item::Feed { replica, incarnation, event });
            }
            6 => self.after(0, 3, Item::Demote { replica, incarnation }),
            7 | 8 => self.change_secret(),
            9 => self.make_or_delete_pool(),
            10 => self.change_node(),
            11 => self.break_a_link(),
            12 => self.tell_stuck(),
            13 => self.look_again(),
            14..17 => self.touch(name),
            17..19 => self.remove(uid, name),
            19..21 => self.change_publisher_of(uid),
            _ => self.faults.slow_until = self.now + self.rng.ms(200, 1500),
        }
    }

    /// Each worker looks at its host, where something has changed.
    fn look_again(&mut self) {
        self.thieve();
        for worker in 0..self.workers.len() {
            if self.workers[worker].alive && !self.workers[worker].paused {
                let host = self.workers[worker].host;
                if let Some(report) = self.workers[worker].scan(&self.hosts[host]) {
                    self.report(worker, vec![report]);
                }
            }
        }
    }

    fn touch(&mut self, name: &ObjectName) {
        if let Some(object) = self.api.objects.streams.get(name).filter(|_| self.api.up).cloned() {
            // Somebody's label, which says nothing to us: a new version of the same.
            self.api.put_stream(object);
        }
    }

    fn remove(&mut self, uid: &Uid, name: &ObjectName) {
        if self.api.up && self.api.objects.streams.get(name).is_some_and(|object| object.uid == *uid) {
            self.truth.user_deleted.insert(uid.clone());
            self.api.remove_stream(name);
        }
    }

    fn change_publisher_of(&mut self, uid: &Uid) {
        let running = self.workers.iter().find(|worker| worker.alive && worker.running.contains_key(uid));
        let Some(worker) = running.filter(|worker| !worker.paused).map(|worker| worker.index) else { return };
        let here = self.workers[worker].running[uid].publisher.is_none();
        let now = self.now;
        let reports = self.workers[worker].set_publisher(uid, here, now);
        self.report(worker, reports);
    }
}
