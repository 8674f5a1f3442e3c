//! A leader that is frozen. Others lead meanwhile and go on with its streams; when it wakes it hears what was said to it
//! before it learns that it leads no more. Between workers, and between those and the API, no order is kept.

use std::time::Duration;

use operator_core::event::WriteOutcome;
use operator_core::ids::Uid;
use operator_core::spec::Source;
use operator_core::status::Phase;
use operator_core::{Event, LeaseState};

use crate::api::{Kind, Write};
use crate::link::Up;
use crate::poke::Target;
use crate::replica::Replica;
use crate::world::{Item, Mend, World};

/// Later ones would wake when faults have ended.
const NAPS_END: Duration = Duration::from_secs(33);
/// Streams are made to run this long before.
const SETTLING: Duration = Duration::from_millis(300);
/// How long a stream is waited for that is where it is wished to be; then any will do.
const CHOOSY: Duration = Duration::from_millis(3000);

/// What a leader that is to be frozen is about then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    nap: Nap,
    /// Where the stream is wished to be.
    phase: Phase,
    from: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nap {
    /// The write of a claim, which is lost: the next leader makes the same claim.
    Claiming,
    /// A claim that is in force.
    Holding,
    /// A stream that is not wanted, which is read and written: for the next leader it is.
    Resting,
}

/// What happens to the stream while its leader sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stir {
    Move,
    Dial,
    Tell,
    End,
    Wake,
}

impl World {
    /// The next leader that fits is frozen, some time from here.
    pub(crate) fn nap_later(&mut self, low: u64, high: u64) {
        const UNWANTED: [Phase; 5] = [Phase::Paused, Phase::Idle, Phase::Idle, Phase::Idle, Phase::Refused];
        let (nap, phases): (Nap, &[Phase]) = match self.rng.below(12) {
            0..3 => (Nap::Claiming, &[Phase::Pending]),
            3..6 => (Nap::Claiming, &UNWANTED),
            6..9 => (Nap::Holding, &[Phase::Live, Phase::Live, Phase::Ready]),
            _ => (Nap::Resting, &UNWANTED),
        };
        let phase = phases[self.rng.below(phases.len())];
        let from = self.now + self.rng.ms(low, high);
        self.at(from.saturating_sub(SETTLING), Item::Mend(Mend::Tidy));
        self.faults.nap = Some(Plan { nap, phase, from });
    }

    /// Little else happens then.
    pub(crate) fn is_napping(&self) -> bool {
        let is_due = |plan: Plan| plan.from <= self.now && self.now < plan.from + CHOOSY;
        self.faults.napping.is_some() || self.faults.nap.is_some_and(is_due)
    }

    /// After a plan of a leader: whether it is frozen now.
    pub(crate) fn nap(&mut self, replica: usize) -> bool {
        let Some(plan) = self.faults.nap.filter(|plan| plan.from <= self.now) else { return false };
        let runs = |it: &Replica| it.alive && !it.paused;
        if self.now > NAPS_END || !self.api.up || !self.replicas.iter().all(runs) {
            return false;
        }
        if !self.replicas[replica].core.is_active() {
            return false;
        }
        let choosy = self.now < plan.from + CHOOSY;
        let all = self.targets_of(replica);
        let mut fitting = all.clone();
        fitting.retain(|target| self.fits(plan.nap, target) && (target.phase == plan.phase || !choosy));
        if plan.nap == Nap::Claiming && self.rng.chance(70) {
            // Others can't fail to be bound.
            let has_ports = |target: &Target| matches!(self.holder_of(target), Some((_, Some(_))));
            let all = std::mem::take(&mut fitting);
            let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(has_ports);
            fitting = if with.is_empty() { without } else { with };
        }
        let Some(target) = self.rng.pick(&fitting).cloned() else {
            if self.rng.chance(60) {
                self.prepare(plan, &all);
            }
            return false;
        };
        self.faults.nap = None;
        self.fall_asleep(plan.nap, target);
        true
    }

    fn fits(&self, nap: Nap, target: &Target) -> bool {
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        match nap {
            Nap::Claiming => target.lease == LeaseState::Claimed && target.phase != Phase::Terminating,
            Nap::Holding => target.lease == LeaseState::Leased && wanted,
            Nap::Resting => is_at_rest(target) && self.is_read(target),
        }
    }

    pub(crate) fn is_read(&self, target: &Target) -> bool {
        let of = |item: &Item| matches!(item, Item::Get { replica, uid, .. } if *replica == target.replica && *uid == target.uid);
        self.find(|item| of(item).then_some(())).is_some()
    }

    fn is_written(&self, target: &Target) -> bool {
        let of = |item: &Item| match item {
            Item::Write { replica, write: Write::Stream { uid, .. }, answered: true, .. } => {
                *replica == target.replica && *uid == target.uid
            }
            _ => false,
        };
        self.find(|item| of(item).then_some(())).is_some()
    }

    /// Some stream is led to where it is wished to be.
    fn prepare(&mut self, plan: Plan, all: &[Target]) {
        let mut near = all.to_vec();
        match plan.nap {
            Nap::Claiming => {
                near.retain(|it| it.lease == LeaseState::Claimed && it.phase == Phase::Pending);
                if near.is_empty() && self.rng.chance(30) {
                    for _ in 0..4 {
                        self.make_stream();
                    }
                }
            }
            Nap::Holding => return,
            Nap::Resting => {
                let mut there = near.clone();
                there.retain(|it| is_at_rest(it) && it.phase == plan.phase);
                let written = there.iter().find(|it| self.is_written(it));
                if let Some(target) = written.cloned() {
                    self.hold_calls(&target);
                    return self.lack(&target);
                }
                if let Some(target) = self.rng.pick(&there).cloned().filter(|_| self.rng.chance(50)) {
                    let late = plan.from + CHOOSY < self.now;
                    return if late { self.lack(&target) } else { self.edit(&target) };
                }
                near.retain(|it| it.lease == LeaseState::Leased && it.phase == Phase::Ready);
            }
        }
        if plan.nap == Nap::Claiming && plan.phase != Phase::Refused {
            near.retain(|target| !self.is_led(target, plan.phase));
        } else {
            near = self.rng.pick(&near).cloned().into_iter().collect();
        }
        for target in near {
            self.hold_calls(&target);
            match plan.phase {
                Phase::Idle => {
                    let deleted = self.rng.chance(50);
                    self.rest(&target, deleted);
                }
                Phase::Refused => {
                    self.contest_path(&target);
                    self.tell_soon(target.replica, Kind::Streams);
                }
                _ => self.change_spec(&target, |spec| spec.paused = true),
            }
        }
    }

    /// Whether its spec is already what leads it there.
    fn is_led(&self, target: &Target, phase: Phase) -> bool {
        let spec = self.api.objects.streams.get(&target.name).and_then(|object| object.spec.as_ref().ok());
        let Some(spec) = spec else { return true };
        match phase {
            Phase::Idle => spec.release_after_idle.is_some_and(|rest| rest < Duration::from_millis(200)),
            _ => spec.paused,
        }
    }

    /// A list lacks the stream, and a person believes it: it is read.
    pub(crate) fn lack(&mut self, target: &Target) {
        self.faults.crowding = true;
        self.faults.lacks = Some(target.uid.clone());
        self.hear_list(target.replica, Kind::Streams);
        self.faults.lacks = None;
        self.feed(target.replica, Event::AbsenceConfirmed);
        self.faults.crowding = false;
        let (replica, incarnation) = (target.replica, self.replicas[target.replica].incarnation);
        self.after(1, 4, Item::Plan { replica, incarnation });
    }

    fn fall_asleep(&mut self, nap: Nap, target: Target) {
        let replica = target.replica;
        self.note(|| format!("operator {replica} is frozen, {nap:?} {} ({:?})", target.uid, target.phase));
        for target in self.targets_of(replica) {
            if target.lease == LeaseState::Claimed {
                self.lose_write(&target);
                let core = &self.replicas[replica].core;
                let node = core.claims().find(|claim| claim.stream.uid == target.uid).map(|claim| claim.node);
                self.change_spec(&target, |spec| spec.preferred_node = node);
            } else {
                self.decide_write(&target);
            }
            self.answer_read(&target);
            match target.phase {
                Phase::Paused => self.change_spec(&target, |spec| spec.paused = false),
                Phase::Idle => self.change_spec(&target, |spec| spec.release_after_idle = None),
                _ => {}
            }
        }
        self.replicas[replica].paused = true;
        for (low, high, stir) in [
            (5000, 5400, Stir::Move),
            (5800, 5900, Stir::Dial),
            (5950, 6200, Stir::Tell),
            (6250, 6500, Stir::End),
            (6700, 7200, Stir::Wake),
        ] {
            self.after(low, high, Item::Mend(Mend::Stir(stir)));
        }
        if nap != Nap::Holding {
            for (low, high) in [(4800, 4850), (5450, 5500), (5600, 5650)] {
                self.after(low, high, Item::Mend(Mend::Stir(Stir::Move)));
            }
        }
        self.faults.napping = Some((nap, target));
    }

    /// Somebody takes what the next leader claims for a sleeper's stream, at the epoch that the sleeper has given, too.
    pub(crate) fn steal_from_sleepers(&mut self, replica: usize) {
        let Some((Nap::Claiming, sleeping)) = self.faults.napping.clone() else { return };
        if sleeping.replica == replica {
            return;
        }
        let claimed = |it: &Target| it.lease == LeaseState::Claimed && it.uid == sleeping.uid;
        if let Some(target) = self.targets_of(replica).into_iter().find(claimed)
            && self.rng.chance(35)
        {
            self.steal(&target);
            if !self.lags(Nap::Claiming, &sleeping, &target) && self.rng.chance(60) {
                // It is deleted when its worker has said that it could not bind, and its leader has not heard it.
                self.stall(&target, 300, 600);
                self.after(80, 300, Item::Mend(Mend::Delete(target.uid, target.name)));
            }
        }
    }

    fn pull_write(&mut self, target: &Target) -> Option<Item> {
        let of = |item: &Item| match item {
            Item::Write { replica, write: Write::Stream { uid, .. }, answered: true, .. } => {
                *replica == target.replica && *uid == target.uid
            }
            _ => false,
        };
        self.pull(of).map(|(_, item)| item)
    }

    /// It never arrives.
    fn lose_write(&mut self, target: &Target) {
        let Some(Item::Write { replica, incarnation, id, .. }) = self.pull_write(target) else { return };
        let event = Event::Write { id, outcome: WriteOutcome::Unknown };
        self.after(1000, 1000, Item::Feed { replica, incarnation, event });
    }

    /// It arrives, whatever its end is to be.
    fn decide_write(&mut self, target: &Target) {
        let Some(Item::Write { replica, incarnation, id, write, .. }) = self.pull_write(target) else {
            return;
        };
        let end = self.rng.below(8);
        match end {
            0 => {
                let event = Event::Write { id, outcome: WriteOutcome::Unknown };
                return self.after(1000, 1000, Item::Feed { replica, incarnation, event });
            }
            1 => self.touch(&target.name),
            _ => {}
        }
        // A request may be on its way for as long as nobody looks at the clock.
        let at = if end < 5 { self.now } else { self.now + self.rng.ms(6350, 6600) };
        self.at(
            at,
            Item::Write { replica, incarnation, id, write, answered: true, refused: end == 2 || end == 4 },
        );
    }

    /// It is answered before anything else happens.
    fn answer_read(&mut self, target: &Target) {
        let of = |item: &Item| matches!(item, Item::Get { replica, uid, .. } if *replica == target.replica && *uid == target.uid);
        let Some((_, Item::Get { replica, incarnation, uid, name, since })) = self.pull(of) else { return };
        let event = self.api.read(uid, name.as_ref(), since);
        self.after(1, 20, Item::Feed { replica, incarnation, event });
    }

    /// Something happens to the stream of a leader that sleeps.
    pub(crate) fn stir(&mut self, stir: Stir) {
        if stir == Stir::Wake {
            return self.wake_up();
        }
        let Some((nap, target)) = self.faults.napping.clone().filter(|_| !self.faults.calm) else { return };
        let leader = self.replicas.iter().position(|it| it.leading && it.alive && !it.paused);
        let Some(leader) = leader else { return };
        if stir == Stir::Dial && nap != Nap::Claiming {
            self.dial_anew(target.replica);
        }
        // What was ready and no more is to stay so: its former worker would say that it is live.
        let silent = nap == Nap::Holding && target.phase == Phase::Ready;
        let given_up = stir == Stir::Move && nap == Nap::Holding && self.rng.chance(50);
        if given_up {
            if !silent {
                self.publish(&target.uid);
            }
            self.lose_for_long(&target);
        }
        // As the one who leads has them.
        for present in self.targets_of(leader) {
            match stir {
                Stir::Move if nap == Nap::Holding && !given_up => self.move_one(&present, silent),
                Stir::Move if nap != Nap::Holding && self.lags(nap, &target, &present) => {
                    self.reshape(&present);
                }
                Stir::Move | Stir::Dial if silent => {}
                Stir::Move | Stir::Dial => self.publish(&present.uid),
                Stir::Tell => {
                    self.change_spec(&present, |spec| spec.publish = crate::objects::publish(None, 9));
                    if !silent {
                        self.publish(&present.uid);
                    }
                }
                // What its leader wrote is still on its way.
                Stir::End if self.is_written(&Target { replica: target.replica, ..present.clone() }) => {
                    if self.rng.chance(60) {
                        self.remove(&present.uid, &present.name);
                    }
                }
                Stir::End => self.end_one(&present),
                Stir::Wake => {}
            }
        }
    }

    /// It loses its port, or is not wanted any more, or both.
    fn end_one(&mut self, target: &Target) {
        let what = self.rng.below(24);
        if matches!(what, ..10 | 22..) {
            self.rebind(target);
        }
        match what {
            20.. => self.delete_softly(target),
            6..15 => self.unwish(target),
            15..18 => self.rest(target, false),
            _ => {}
        }
    }

    /// Whether its epochs are still below those that its sleeping leader has given, of which no record tells.
    fn lags(&self, nap: Nap, target: &Target, present: &Target) -> bool {
        let given = |replica: usize| {
            let replica = &self.replicas[replica];
            let claims = replica.core.claims().map(|claim| claim.stream);
            let all = claims.chain(replica.seen.granted.keys().cloned());
            all.filter(|stream| stream.uid == present.uid).map(|stream| stream.epoch).max()
        };
        match nap {
            Nap::Claiming => given(present.replica) < given(target.replica),
            Nap::Holding => false,
            Nap::Resting => given(present.replica) <= given(target.replica),
        }
    }

    /// It needs other numbers, and with them another epoch.
    fn reshape(&mut self, target: &Target) {
        self.change_spec(target, |spec| {
            if let Source::Rtp(source) = &mut spec.source {
                source.rtcp = !source.rtcp;
            }
        });
    }

    /// It gets another epoch.
    fn move_one(&mut self, target: &Target, silent: bool) {
        if !silent {
            self.publish(&target.uid);
        }
        match self.rng.below(10) {
            0..4 => self.reshape(target),
            4..6 => self.rebind(target),
            _ => {}
        }
    }

    /// Its worker does not run for a while, and is given up by all.
    fn lose_for_long(&mut self, target: &Target) {
        let running = self.running(&target.uid);
        let Some(&worker) = running.first() else { return };
        self.workers[worker].paused = true;
        self.note(|| format!("worker {worker} is paused and given up"));
        self.after(2500, 4000, Item::Mend(Mend::ResumeWorker(worker)));
        self.tell_lost(worker);
        for (low, high) in [(900, 1000), (1300, 1400)] {
            self.after(low, high, Item::Mend(Mend::Stir(Stir::Dial)));
        }
    }

    /// Where a stream runs.
    fn running(&self, uid: &Uid) -> Vec<usize> {
        let runs = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        runs.filter(|worker| worker.running.contains_key(uid)).map(|worker| worker.index).collect()
    }

    /// Somebody publishes where it runs.
    pub(crate) fn publish(&mut self, uid: &Uid) {
        for worker in self.running(uid) {
            let reports = self.workers[worker].set_publisher(uid, true, self.now);
            self.report(worker, reports);
        }
    }

    fn is_being_deleted(&self, target: &Target) -> bool {
        let found = self.api.objects.streams.get(&target.name).filter(|object| object.uid == target.uid);
        found.is_some_and(|object| object.deleting)
    }

    /// Workers open other sessions with one that sleeps.
    fn dial_anew(&mut self, replica: usize) {
        let awake = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let awake: Vec<usize> = awake.map(|worker| worker.index).collect();
        for worker in awake {
            if self.is_cut_off(worker, replica) {
                continue;
            }
            if let Some(link) = self.workers[worker].links.remove(&replica) {
                self.links[link].worker_open = false;
                self.after(0, 200, Item::OperatorClose { link });
            }
            self.dial(worker, replica);
        }
    }

    /// It runs again, and hears what workers said.
    fn wake_up(&mut self) {
        let Some((_, target)) = self.faults.napping.take() else { return };
        let replica = target.replica;
        let is_up = |item: &&Item| matches!(item, Item::Up { .. });
        let said = self.replicas[replica].backlog.iter().filter(is_up).count();
        self.mend(Mend::ResumeReplica(replica));
        if self.faults.calm || !self.replicas[replica].alive || !self.replicas[replica].leading {
            return;
        }
        self.faults.crowding = true;
        // The API may be heard first. Of what is where it is wished to be it says nothing new.
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        match self.rng.below(20) {
            0..6 if !wanted => {}
            // It may be deleted.
            6 if !wanted => {
                self.hear_list(replica, Kind::Streams);
            }
            _ if !wanted => {}
            // That it is being deleted matters where nothing else was heard before.
            _ if self.is_being_deleted(&target) && self.rng.chance(80) => {
                self.hear_list(replica, Kind::Streams);
            }
            0..6 => {}
            6..13 => {
                self.hear_list(replica, Kind::Streams);
            }
            13..15 => {
                self.hear_change(replica, Kind::Streams, |_| {});
            }
            _ => self.turn(&target),
        }
        let by_link = self.rng.chance(50);
        let mut links: Vec<usize> = self.replicas[replica].sessions.values().copied().collect();
        let mut link = None;
        for _ in 0..said {
            while by_link && self.next_up(replica, link).is_none() && !links.is_empty() {
                link = Some(links.swap_remove(self.rng.below(links.len())));
            }
            let Some((of, up)) = self.pull_up(replica, link) else { break };
            let (shows, about) = (matches!(up, Up::Inventory(_)), up.streams());
            let session = self.links[of].session;
            self.feed(replica, up.event(session));
            for uid in about {
                self.hear_more(replica, &uid, shows);
            }
            if !self.replicas[replica].leading {
                break;
            }
        }
        if self.replicas[replica].leading && self.rng.chance(15) {
            self.demote(replica);
        }
        self.faults.crowding = false;
        let incarnation = self.replicas[replica].incarnation;
        self.at(self.now, Item::Plan { replica, incarnation });
        if self.now < NAPS_END {
            self.nap_later(300, 1000);
        }
    }

    /// A worker has spoken of a stream.
    fn hear_more(&mut self, replica: usize, uid: &Uid, shows: bool) {
        let core = &self.replicas[replica].core;
        let Some((lease, phase)) = core.stream_state(uid).filter(|_| self.replicas[replica].leading) else {
            return;
        };
        let Some(name) = core.stream(uid).map(|stream| stream.name.clone()) else { return };
        let target = Target { replica, uid: uid.clone(), name, lease, phase };
        if shows {
            self.hear_answers(&target);
        }
        self.hear_seldom(&target);
    }

    /// An inventory has shown what was not known of the stream: what the API answered about it may be heard by now.
    fn hear_answers(&mut self, target: &Target) {
        let Some((LeaseState::Adopted, phase)) = self.replicas[target.replica].core.stream_state(&target.uid)
        else {
            return;
        };
        let seldom = if phase == Phase::Idle { 40 } else { 0 };
        if self.rng.chance(15) {
            self.hear_change(target.replica, Kind::Streams, |_| {});
        }
        if self.rng.chance(40) {
            self.hear_own_write(target);
        }
        if self.rng.chance(40 + seldom) {
            self.hear_read(target, true);
        }
        if self.rng.chance(40 + seldom) {
            self.hear_own_write(target);
        }
    }

    fn hear_own_write(&mut self, target: &Target) {
        let writes = &self.replicas[target.replica].seen.writes;
        let notes = writes.iter().filter(|(_, note)| !note.former && note.uid == target.uid);
        let ids: Vec<_> = notes.map(|(id, _)| *id).collect();
        let ours = |item: &Item| match item {
            Item::Feed { replica, event: Event::Write { id, .. }, .. } => {
                *replica == target.replica && ids.contains(id)
            }
            _ => false,
        };
        if let Some((_, Item::Feed { replica, event, .. })) = self.pull(ours) {
            self.feed(replica, event);
        }
    }

    /// Some of what seldom meets such a stream is heard, if it is where streams seldom are.
    fn hear_seldom(&mut self, target: &Target) {
        while self.replicas[target.replica].leading {
            let chance = match self.replicas[target.replica].core.stream_state(&target.uid) {
                Some((LeaseState::Adopted, _)) => 35,
                Some((LeaseState::Leased, Phase::Idle)) => 60,
                _ => 0,
            };
            if !self.rng.chance(chance) || !self.hear_least(target) {
                return;
            }
        }
    }

    /// The link that is heard next.
    fn next_up(&self, replica: usize, link: Option<usize>) -> Option<usize> {
        self.find(|item| match item {
            Item::Up { link: of, .. } => {
                let it = &self.links[*of];
                let ours = it.replica == replica
                    && it.incarnation == self.replicas[replica].incarnation
                    && it.operator_open;
                (ours && link.is_none_or(|link| link == *of)).then_some(*of)
            }
            _ => None,
        })
    }

    fn pull_up(&mut self, replica: usize, link: Option<usize>) -> Option<(usize, Up)> {
        let link = self.next_up(replica, link)?;
        match self.pull(|item| matches!(item, Item::Up { link: of, .. } if *of == link))? {
            (_, Item::Up { link, up }) => Some((link, up)),
            _ => None,
        }
    }
}

/// Not wanted, and without a claim that is in force or on its way.
fn is_at_rest(target: &Target) -> bool {
    let at_rest = match target.lease {
        LeaseState::Free | LeaseState::Cooling | LeaseState::Quarantined | LeaseState::Revoking => true,
        LeaseState::Claimed | LeaseState::Leased | LeaseState::Adopted => false,
    };
    at_rest && matches!(target.phase, Phase::Paused | Phase::Idle | Phase::Refused)
}
