//! Things that happen just when a stream is where streams seldom are: misfortune left to chance would not meet those.
//! Whatever happens here could happen by itself; only its moment is chosen.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use operator_core::event::WriteOutcome;
use operator_core::ids::{BootId, NodeName, ObjectName, Ports, Protocol, ServiceCidrName, Uid, WorkerName};
use operator_core::status::Phase;
use operator_core::{Event, LeaseState};

use crate::api::{Kind, Write};
use crate::world::{Item, Mend, World};

/// How often each state of a stream is poked in a run.
const SELDOM_MAX: u32 = 24;
const OFTEN_MAX: u32 = 10;

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Written,
    Conflict,
    Refused,
    NotFound,
    Unknown,
}

/// The stream that something happens to, as a leader knows it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) replica: usize,
    pub(crate) uid: Uid,
    pub(crate) name: ObjectName,
    pub(crate) lease: LeaseState,
    pub(crate) phase: Phase,
}

/// Of a hundred plans with a stream in such a state, how many something happens after, and how often in a run at most.
fn chance(lease: LeaseState, phase: Phase, active: bool) -> (u64, u32) {
    let wanted = matches!(phase, Phase::Pending | Phase::Ready | Phase::Live);
    match lease {
        LeaseState::Adopted => (90, SELDOM_MAX),
        LeaseState::Leased if !wanted => (80, SELDOM_MAX),
        // Nothing is settled until the term is on record.
        LeaseState::Leased if !active => (50, SELDOM_MAX),
        LeaseState::Claimed if !wanted => (60, SELDOM_MAX),
        LeaseState::Quarantined if !wanted => (40, SELDOM_MAX),
        LeaseState::Quarantined => (20, OFTEN_MAX),
        LeaseState::Revoking | LeaseState::Cooling if !wanted => (20, SELDOM_MAX),
        LeaseState::Revoking | LeaseState::Cooling => (8, OFTEN_MAX),
        LeaseState::Claimed => (8, OFTEN_MAX),
        LeaseState::Leased if phase == Phase::Pending => (15, OFTEN_MAX),
        LeaseState::Leased => (4, OFTEN_MAX),
        LeaseState::Free if !wanted => (5, OFTEN_MAX),
        LeaseState::Free => (1, OFTEN_MAX),
    }
}

impl World {
    /// After a plan of a leader.
    pub(crate) fn poke(&mut self, replica: usize) {
        if self.faults.calm || !self.replicas[replica].leading {
            return;
        }
        if self.faults.napping.is_some() {
            return self.steal_from_sleepers(replica);
        }
        if self.nap(replica) {
            return;
        }
        self.raise(replica);
        if self.is_raising() || !self.rng.chance(35) {
            return;
        }
        let leader = &self.replicas[replica];
        let active = leader.core.is_active();
        let mut best: Vec<Target> = Vec::new();
        let mut highest = 0;
        for stream in leader.core.streams() {
            let Some((lease, phase)) = leader.core.stream_state(stream.uid) else { continue };
            let (chance, most) = chance(lease, phase, active);
            if chance < highest || self.faults.poked.get(&(lease, phase)).is_some_and(|times| *times >= most)
            {
                continue;
            }
            if chance > highest {
                (highest, best) = (chance, Vec::new());
            }
            let (uid, name) = (stream.uid.clone(), stream.name.clone());
            best.push(Target { replica, uid, name, lease, phase });
        }
        let Some(target) = self.rng.pick(&best).cloned() else { return };
        if self.rng.chance(highest) {
            *self.faults.poked.entry((target.lease, target.phase)).or_default() += 1;
            self.happen(&target, active);
        }
    }

    fn happen(&mut self, target: &Target, active: bool) {
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        if !active {
            self.hold_term(target.replica);
        }
        match target.lease {
            LeaseState::Leased if wanted && !active => match self.rng.below(8) {
                0..6 => self.unwish(target),
                _ => self.befall(target),
            },
            LeaseState::Leased if target.phase == Phase::Pending => self.unsettle_early(target),
            LeaseState::Leased if wanted => self.unsettle(target),
            LeaseState::Claimed if wanted => {
                self.hold_calls(target);
                match self.rng.below(10) {
                    0..4 => {
                        let deleted = self.rng.chance(50);
                        self.rest(target, deleted);
                    }
                    4..8 => self.unwish(target),
                    _ => self.befall(target),
                }
            }
            LeaseState::Revoking if self.faults.midway.as_ref() == Some(&target.uid) => {
                self.faults.midway = None;
                self.change_leader_midway(target);
            }
            LeaseState::Revoking => match self.rng.below(12) {
                0..3 => self.change_leader_midway(target),
                3..7 if self.faults.restores > 0 => self.sever(target),
                _ => {
                    self.hold_calls(target);
                    self.befall(target);
                }
            },
            LeaseState::Adopted
            | LeaseState::Quarantined
            | LeaseState::Cooling
            | LeaseState::Free
            | LeaseState::Claimed
            | LeaseState::Leased => {
                self.hold_calls(target);
                self.befall(target);
            }
        }
    }

    /// One thing, whatever the stream's state.
    fn befall(&mut self, target: &Target) {
        let Target { replica, ref uid, ref name, .. } = *target;
        let incarnation = self.replicas[replica].incarnation;
        if self.is_one_away(replica) && self.rng.chance(25) {
            return self.bring_back_the_away(replica);
        }
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        if !wanted && self.rng.chance(12) {
            return self.end_write(target, End::NotFound);
        }
        let resting =
            matches!(target.lease, LeaseState::Revoking | LeaseState::Cooling | LeaseState::Quarantined);
        if resting && target.phase == Phase::Pending && self.rng.chance(15) {
            return if self.rng.chance(60) {
                self.end_write(target, End::NotFound)
            } else {
                self.end_read(target, false)
            };
        }
        if target.lease != LeaseState::Free && self.rng.chance(15) {
            self.lack(target);
            return self.hold_calls(target);
        }
        match self.rng.below(46) {
            kind @ 0..4 => self.relist_soon(replica, Kind::ALL[kind]),
            4 => self.after(0, 2, Item::Feed { replica, incarnation, event: Event::AbsenceConfirmed }),
            5 => {
                let (worker, boot) = (WorkerName::from("nobody"), BootId::from("never"));
                let lost = Event::WorkerLost { worker, boot };
                let event = if self.rng.chance(50) { self.a_word_for_a_worker() } else { lost };
                self.after(0, 2, Item::Feed { replica, incarnation, event });
            }
            6 => self.after(0, 2, Item::Demote { replica, incarnation }),
            7..10 => {
                self.change_secret_of(name);
                self.tell_soon(replica, Kind::Secrets);
            }
            10 | 11 => {
                self.delete_a_pool();
                self.tell_soon(replica, Kind::Pools);
            }
            12 | 13 => {
                self.delete_a_node();
                self.tell_soon(replica, Kind::Nodes);
            }
            14 => self.break_soon(replica),
            15 => self.tell_stuck(),
            16 => self.look_again(),
            17 | 18 => {
                self.remove(uid, name);
                self.tell_soon(replica, Kind::Streams);
            }
            19 => {
                self.touch(name);
                self.tell_soon(replica, Kind::Streams);
            }
            20 | 21 => self.change_publisher_of(uid),
            22..25 => self.hear_soon(target),
            25 | 26 => self.end_read(target, true),
            27..31 => self.end_read(target, false),
            31 => self.end_write(target, End::Written),
            32..34 => self.end_write(target, End::Conflict),
            34..38 => self.end_write(target, End::Refused),
            38..42 => self.end_write(target, End::NotFound),
            42 => self.relist_soon(replica, Kind::ServiceCidrs),
            43 => {
                self.change_service_cidr();
                self.tell_soon(replica, Kind::ServiceCidrs);
            }
            _ => self.end_write(target, End::Unknown),
        }
    }

    /// What leads a stream that has its lease to where streams seldom are.
    fn unsettle(&mut self, target: &Target) {
        match self.rng.below(12) {
            0 => {
                self.hold_calls(target);
                self.bring_back_the_away(target.replica);
            }
            1 | 2 => self.rebind(target),
            3..6 => self.lose_for_a_while(target),
            6 => {
                // It is paused, and not any more when the next leader looks.
                self.faults.midway = Some(target.uid.clone());
                self.change_spec(target, |spec| spec.paused = true);
            }
            7..9 => self.unwish(target),
            9 => self.change_publisher_of(&target.uid),
            _ => self.edit(target),
        }
    }

    /// The like while its worker has yet to say that it has it in force.
    fn unsettle_early(&mut self, target: &Target) {
        match self.rng.below(12) {
            0..3 => self.lose_for_a_while(target),
            3..5 => {
                if self.rng.chance(60) {
                    self.steal(target);
                }
                self.change_leader_midway(target);
            }
            5..9 => {
                // The bind fails, and the stream is not wanted any more when that is heard.
                if self.rng.chance(70) {
                    self.steal(target);
                }
                self.stall(target, 60, 400);
                if self.rng.chance(30) {
                    self.contest_path(target);
                } else {
                    self.unwish(target);
                }
            }
            _ => {
                self.steal(target);
                let (uid, name) = (target.uid.clone(), target.name.clone());
                self.after(200, 1500, Item::Mend(Mend::Unwish(uid, name)));
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- the API

    /// The next change of a kind is told at once.
    pub(crate) fn tell_soon(&mut self, replica: usize, kind: Kind) {
        let incarnation = self.replicas[replica].incarnation;
        let generation = self.replicas[replica].watches[kind as usize].generation;
        self.after(0, 2, Item::Watch { replica, incarnation, kind, generation });
    }

    /// The API takes its time for what this leader asks of a stream.
    pub(crate) fn hold_calls(&mut self, target: &Target) {
        let until = self.rng.ms(300, 800);
        let of = |item: &Item| match item {
            Item::Write { replica, write: Write::Stream { uid, .. }, answered: true, .. }
            | Item::Get { replica, uid, .. } => *replica == target.replica && *uid == target.uid,
            _ => false,
        };
        if let Some((at, item)) = self.pull(of) {
            // Not twice: a call takes a second at most.
            let at = if at > self.now + std::time::Duration::from_millis(60) { at } else { self.now + until };
            self.at(at, item);
        }
    }

    /// The term is not on record for a while yet.
    fn hold_term(&mut self, leader: usize) {
        if !self.rng.chance(40) {
            return;
        }
        let of = |item: &Item| matches!(item, Item::RecordTerm { replica, .. } if *replica == leader);
        if let Some((at, item)) = self.pull(of) {
            let at = at + self.rng.ms(50, 500);
            self.at(at, item);
        }
    }

    /// A write that is under way ends, or there is one next.
    fn end_write(&mut self, target: &Target, end: End) {
        let of = |item: &Item| match item {
            Item::Write { replica, write: Write::Stream { uid, .. }, answered: true, .. } => {
                *replica == target.replica && *uid == target.uid
            }
            _ => false,
        };
        let Some((_, item)) = self.pull(of) else { return self.edit(target) };
        let Item::Write { replica, incarnation, id, write, .. } = item else { return };
        match end {
            End::Written | End::Refused => {}
            End::Conflict => self.touch(&target.name),
            End::NotFound => self.remove(&target.uid, &target.name),
            // The connection breaks, before it arrives or after.
            End::Unknown => {
                let event = Event::Write { id, outcome: WriteOutcome::Unknown };
                self.after(1, 3, Item::Feed { replica, incarnation, event });
                if self.rng.chance(50) {
                    return;
                }
            }
        }
        let (answered, refused) = (end != End::Unknown, end == End::Refused);
        self.at(self.now, Item::Write { replica, incarnation, id, write, answered, refused });
    }

    /// A read that is under way ends, or there is one next.
    fn end_read(&mut self, target: &Target, found: bool) {
        let of = |item: &Item| matches!(item, Item::Get { replica, uid, .. } if *replica == target.replica && *uid == target.uid);
        let Some((_, item)) = self.pull(of) else {
            // What a write meets is read.
            let end = if self.rng.chance(50) { End::Conflict } else { End::Unknown };
            return self.end_write(target, end);
        };
        if !found {
            self.remove(&target.uid, &target.name);
        }
        self.at(self.now, item);
    }

    pub(crate) fn touch(&mut self, name: &ObjectName) {
        if let Some(object) = self.api.objects.streams.get(name).filter(|_| self.api.up).cloned() {
            // Somebody's label, which says nothing to us: a new version of the same.
            self.api.put_stream(object);
        }
    }

    pub(crate) fn remove(&mut self, uid: &Uid, name: &ObjectName) {
        if self.api.up && self.api.objects.streams.get(name).is_some_and(|object| object.uid == *uid) {
            self.truth.user_deleted.insert(uid.clone());
            self.api.remove_stream(name);
        }
    }

    /// A new generation, which is observed: its status is written. One that rests would wake.
    pub(crate) fn edit(&mut self, target: &Target) {
        if target.phase != Phase::Idle {
            self.change_spec(target, |spec| spec.publish = crate::objects::publish(None, 10));
        }
    }

    fn delete_a_pool(&mut self) {
        let pools: Vec<_> = self.api.objects.pools.keys().cloned().collect();
        match self.rng.pick(&pools) {
            Some(name) if self.api.up && self.rng.chance(60) => self.api.remove_pool(name),
            Some(_) | None => self.make_or_delete_pool(),
        }
    }

    fn delete_a_node(&mut self) {
        let nodes: Vec<_> = self.api.objects.nodes.keys().cloned().collect();
        match self.rng.pick(&nodes) {
            Some(name) if self.api.up && self.rng.chance(60) => self.api.remove_node(name),
            Some(_) | None => self.change_node(),
        }
    }

    /// The Secret of a namespace comes and goes.
    fn change_secret_of(&mut self, name: &ObjectName) {
        let secret = ObjectName::new(name.namespace.clone(), "token");
        if !self.api.up {
            return;
        }
        if self.api.objects.secrets.contains_key(&secret) {
            self.api.remove_secret(&secret);
        } else {
            let byte = self.rng.below(250) as u8;
            self.api.put_secret(secret, std::sync::Arc::new([[byte; 32]]));
        }
    }

    /// One of the networks of Services comes and goes.
    fn change_service_cidr(&mut self) {
        if !self.api.up {
            return;
        }
        let names: Vec<_> = self.api.objects.service_cidrs.keys().cloned().collect();
        match self.rng.pick(&names) {
            Some(name) if self.rng.chance(50) => self.api.remove_service_cidr(name),
            Some(_) | None => {
                self.put_service_cidr();
            }
        }
    }

    /// One of them comes, or becomes another.
    pub(crate) fn put_service_cidr(&mut self) -> ServiceCidrName {
        let name = ServiceCidrName::from(format!("services-{}", self.rng.below(3)));
        let third = u8::try_from(self.rng.below(200)).expect("it is below 200");
        let network = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, third, 0), 24);
        self.api.put_service_cidr(name.clone(), vec![network.into()]);
        name
    }

    pub(crate) fn change_spec(
        &mut self,
        target: &Target,
        change: impl FnOnce(&mut operator_core::spec::StreamSpec),
    ) {
        let object = self.api.objects.streams.get(&target.name).filter(|object| object.uid == target.uid);
        let Some(mut object) = object.filter(|_| self.api.up).cloned() else { return };
        let Ok(spec) = &object.spec else { return };
        let mut spec = (**spec).clone();
        change(&mut spec);
        object.generation += 1;
        object.spec = Ok(std::sync::Arc::new(spec));
        self.api.put_stream(object);
        self.tell_soon(target.replica, Kind::Streams);
    }

    /// For what happens some time after: as whoever leads by then may have it.
    pub(crate) fn target_of(&self, uid: &Uid, name: &ObjectName) -> Target {
        let replica = self.replicas.iter().position(|replica| replica.leading).unwrap_or_default();
        let (uid, name) = (uid.clone(), name.clone());
        Target { replica, uid, name, lease: LeaseState::Leased, phase: Phase::Ready }
    }

    /// A stream is not to have its lease any more: it is paused, rests for want of media, or is deleted.
    pub(crate) fn unwish(&mut self, target: &Target) {
        let found = self.api.objects.streams.get(&target.name).filter(|object| object.uid == target.uid);
        if found.is_none_or(|object| !self.api.up || object.deleting) {
            return;
        }
        match self.rng.below(3) {
            0 => self.change_spec(target, |spec| spec.paused = true),
            1 => {
                let deleted = self.rng.chance(30);
                self.rest(target, deleted);
            }
            _ => self.delete_softly(target),
        }
        self.tell_soon(target.replica, Kind::Streams);
    }

    /// It is being deleted, and somebody's finalizer takes its time.
    pub(crate) fn delete_softly(&mut self, target: &Target) {
        self.delete_slowly(target, 500);
    }

    /// The same, with a finalizer that takes at least so many milliseconds.
    pub(crate) fn delete_slowly(&mut self, target: &Target, low: u64) {
        let found = self.api.objects.streams.get(&target.name).filter(|object| object.uid == target.uid);
        let Some(mut object) = found.filter(|object| self.api.up && !object.deleting).cloned() else {
            return;
        };
        self.truth.user_deleted.insert(target.uid.clone());
        object.deleting = true;
        self.api.put_stream(object);
        self.after(low, 5000, Item::Mend(Mend::Finalizer(target.name.clone(), target.uid.clone())));
    }

    /// A stream is to rest as soon as it has no media, at times to be deleted as well.
    pub(crate) fn rest(&mut self, target: &Target, deleted: bool) {
        let rest = self.rng.ms(30, 150);
        let later = if self.rng.chance(50) { self.rng.ms(50, 400) } else { std::time::Duration::ZERO };
        self.change_spec(target, |spec| {
            spec.release_after_idle = Some(rest);
            spec.ttl_after_idle = deleted.then_some(rest + later);
        });
    }

    fn relist_soon(&mut self, replica: usize, kind: Kind) {
        self.relist(replica, kind, None);
        let of = |item: &Item| matches!(item, Item::List { replica: of, kind: listed, .. } if *of == replica && *listed == kind);
        if let Some((_, item)) = self.pull(of) {
            self.after(0, 3, item);
        }
    }

    // ------------------------------------------------------------------------------------------------- workers

    /// The node that the leader's newest claim on a stream is on, its worker, and the claim's numbers.
    pub(crate) fn holder_of(&self, target: &Target) -> Option<(usize, Option<Ports>)> {
        let core = &self.replicas[target.replica].core;
        let claim = core.claims().filter(|claim| claim.stream.uid == target.uid).last()?;
        Some((self.worker_on(&claim.node)?, claim.ports))
    }

    fn worker_on(&self, node: &NodeName) -> Option<usize> {
        let on = |worker: &&crate::worker::Worker| worker.alive && self.hosts[worker.host].name == *node;
        self.workers.iter().rev().find(on).map(|worker| worker.index)
    }

    /// What a stream's worker says to the leader comes late.
    pub(crate) fn stall(&mut self, target: &Target, low: u64, high: u64) {
        let Some((worker, _)) = self.holder_of(target) else { return };
        if let Some(&link) = self.workers[worker].links.get(&target.replica) {
            let until = self.now + self.rng.ms(low, high);
            self.links[link].hold_up(until);
        }
    }

    /// Somebody takes the number that a stream's worker is about to bind.
    pub(crate) fn steal(&mut self, target: &Target) {
        let Some((worker, Some(ports))) = self.holder_of(target) else { return };
        self.take(self.workers[worker].host, ports);
    }

    /// Somebody takes numbers of a host, for a while.
    pub(crate) fn take(&mut self, host: usize, ports: Ports) {
        let port = ports.rtp;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.hosts[host].thieve(port, protocol, self.now);
        }
        self.after(3000, 12_000, Item::Mend(Mend::Thief { host, port }));
    }

    /// Its sockets are taken away, somebody else has them, and then its rules change.
    pub(crate) fn rebind(&mut self, target: &Target) {
        let Some((worker, Some(_))) = self.holder_of(target) else { return };
        if self.workers[worker].paused {
            return;
        }
        let host = self.workers[worker].host;
        self.workers[worker].drop_silently(&mut self.hosts[host], &target.uid);
        self.steal(target);
        self.change_spec(target, |spec| spec.publish = crate::objects::publish(None, 7));
    }

    /// Its worker is given up, and comes back when another one has the stream.
    fn lose_for_a_while(&mut self, target: &Target) {
        let Some((worker, _)) = self.holder_of(target) else { return };
        if self.workers[worker].paused {
            return;
        }
        if self.rng.chance(40) {
            self.steal(target);
        }
        // It is told once more what it has.
        self.change_spec(target, |spec| spec.publish = crate::objects::publish(None, 6));
        self.workers[worker].paused = true;
        self.note(|| format!("worker {worker} is paused and given up"));
        let (name, boot) = (self.workers[worker].name.clone(), self.workers[worker].boot.clone());
        let (replica, incarnation) = (target.replica, self.replicas[target.replica].incarnation);
        let event = Event::WorkerLost { worker: name, boot };
        self.after(5, 60, Item::Feed { replica, incarnation, event });
        self.after(300, 1500, Item::Mend(Mend::Blurt(worker, target.uid.clone())));
        for (low, high) in [(100, 200), (200, 300), (300, 1500)] {
            self.after(low, high, Item::Mend(Mend::Publish(target.uid.clone())));
        }
    }

    /// It runs again, and says something of a stream before it hears that another one has that.
    pub(crate) fn blurt(&mut self, worker: usize, uid: &Uid) {
        if self.workers[worker].alive && self.workers[worker].running.contains_key(uid) {
            let (host, now) = (self.workers[worker].host, self.now);
            let here = self.workers[worker].running[uid].publisher.is_none();
            let reports = self.workers[worker].set_publisher(uid, here, now);
            self.report(worker, reports);
            let ports = self.workers[worker].running[uid].ports;
            // What has no socket of its own loses none.
            if !self.faults.calm && ports.is_some() && self.rng.chance(70) {
                for port in ports.into_iter().flat_map(Ports::numbers) {
                    self.after(3000, 12_000, Item::Mend(Mend::Thief { host, port }));
                }
                self.workers[worker].snatch(&mut self.hosts[host], uid, now);
            }
        }
        self.mend(Mend::ResumeWorker(worker));
    }

    /// What was held up of a worker's words on a stream is heard, with all that it said before in that session.
    fn hear_soon(&mut self, target: &Target) {
        let speaks = |item: &Item| match item {
            Item::Up { link, up } if self.links[*link].replica == target.replica && up.is_of(&target.uid) => {
                Some(*link)
            }
            _ => None,
        };
        let Some(link) = self.find(speaks) else { return self.change_publisher_of(&target.uid) };
        let mut heard = Vec::new();
        while let Some((_, item)) = self.pull(|item| matches!(item, Item::Up { link: of, .. } if *of == link))
        {
            let last = matches!(&item, Item::Up { up, .. } if up.is_of(&target.uid));
            heard.push(item);
            if last {
                break;
            }
        }
        for item in heard {
            self.at(self.now, item);
        }
    }

    /// The leader changes while what it told a stream's worker is on its way, and what it wrote is lost.
    fn change_leader_midway(&mut self, target: &Target) {
        self.stall(target, 400, 1500);
        let (replica, incarnation) = (target.replica, self.replicas[target.replica].incarnation);
        if self.rng.chance(70) {
            let of = |item: &Item| matches!(item, Item::Write { replica: of, write: Write::Stream { uid, .. }, .. } if *of == replica && *uid == target.uid);
            self.pull(of);
            if target.phase == Phase::Paused && self.rng.chance(60) {
                self.change_spec(target, |spec| spec.paused = false);
            }
        }
        self.after(0, 4, Item::Demote { replica, incarnation });
    }

    /// The session with a stream's worker ends before it hears that it is to close it, and then the leader changes.
    fn sever(&mut self, target: &Target) {
        let Some((worker, _)) = self.holder_of(target) else { return };
        let (replica, incarnation) = (target.replica, self.replicas[target.replica].incarnation);
        let Some(link) = self.workers[worker].links.remove(&replica) else { return };
        self.note(|| format!("link {link} is severed"));
        self.links[link].worker_open = false;
        self.after(0, 20, Item::OperatorClose { link });
        self.after(20, 200, Item::Dial { worker, replica });
        self.after(40, 150, Item::Demote { replica, incarnation });
    }

    fn break_soon(&mut self, replica: usize) {
        let open = |link: &usize| {
            let it = &self.links[*link];
            let current = it.incarnation == self.replicas[replica].incarnation;
            it.replica == replica && current && it.operator_open && it.worker_open
        };
        let open: Vec<usize> = (0..self.links.len()).filter(open).collect();
        if let Some(&link) = self.rng.pick(&open) {
            self.after(0, 3, Item::OperatorClose { link });
            self.after(0, 100, Item::WorkerClose { link });
        }
    }

    pub(crate) fn is_one_away(&self, replica: usize) -> bool {
        self.faults.away.is_some_and(|worker| {
            let worker = &self.workers[worker];
            worker.alive && !worker.paused && worker.term > self.replicas[replica].core.term()
        })
    }

    /// A worker that nobody has heard since the API was restored comes back, and knows a later term.
    pub(crate) fn bring_back_the_away(&mut self, replica: usize) {
        let Some(worker) = self.faults.away.filter(|_| self.is_one_away(replica)) else { return };
        self.faults.away = None;
        let host = self.workers[worker].host;
        self.note(|| format!("worker {worker} can be reached again"));
        self.faults.partitions.retain(|(of, _), _| *of != host);
        self.after(0, 2, Item::Dial { worker, replica });
    }

    /// Each worker looks at its host, where something has changed.
    pub(crate) fn look_again(&mut self) {
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

    pub(crate) fn change_publisher_of(&mut self, uid: &Uid) {
        let running = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let running: Vec<usize> =
            running.filter(|worker| worker.running.contains_key(uid)).map(|worker| worker.index).collect();
        let Some(&worker) = self.rng.pick(&running) else { return };
        let here = self.workers[worker].running[uid].publisher.is_none();
        let now = self.now;
        let reports = self.workers[worker].set_publisher(uid, here, now);
        self.report(worker, reports);
    }
}
