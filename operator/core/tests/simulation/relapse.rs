//! The API falls back to the same backup time and again, in which streams rest that run: the next leader, which begins
//! with nothing, finds them all on workers, and while it reads them back they are where streams seldom are.

use std::time::Duration;

use operator_core::status::Phase;

use crate::objects;
use crate::poke::Target;
use crate::world::{Item, Mend, World};

/// The backup's Lease is over by the first restore.
const LEASE_OVER: Duration = Duration::from_millis(6400);
/// Later ones would be amid the end of faults.
const RELAPSES_END: Duration = Duration::from_secs(37);
const STREAMS: usize = 9;

/// What happens, in this order; the last four again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything is there, and runs.
    Gather,
    /// Streams are put to rest.
    Rest,
    BackUp,
    /// All run again, at epochs that the backup does not know.
    Wake,
    /// Those who have most can be reached by nobody, and terms rise which they don't hear of.
    Part,
    /// Workers are told something, which comes late.
    Tell,
    /// The API is restored, and operators are started again.
    Fall,
    /// People edit what is back.
    Edit,
}

impl World {
    /// This run is about restores.
    pub(crate) fn relapse_run(&mut self) {
        self.faults.keeps_backup = true;
        self.faults.relapsing = true;
        for (low, high, step) in [
            (300, 500, Step::Gather),
            (1300, 1500, Step::Rest),
            (2000, 2200, Step::BackUp),
            (5600, 5800, Step::Wake),
        ] {
            self.after(low, high, Item::Mend(Mend::Relapse(step)));
        }
    }

    pub(crate) fn relapse(&mut self, step: Step) {
        if self.faults.calm {
            return;
        }
        self.faults.quiet_until = self.now + Duration::from_millis(1500);
        match step {
            Step::Gather => {
                self.tidy();
                for _ in 0..4 * STREAMS {
                    if self.api.objects.streams.len() < STREAMS {
                        self.make_stream();
                    }
                }
            }
            Step::Rest => {
                self.faults.uncrowded_until = self.now + Duration::from_millis(800);
                self.put_to_rest();
            }
            Step::BackUp => self.api.back_up(),
            Step::Wake => self.wake_all(),
            Step::Part => self.part_the_busiest(),
            Step::Tell => self.tell_all(),
            Step::Fall => self.fall(),
            Step::Edit => self.edit_the_restored(),
        }
    }

    fn put_to_rest(&mut self) {
        for target in self.targets() {
            match self.rng.below(20) {
                0..7 => self.rest(&target, false),
                7..10 => self.change_spec(&target, |spec| spec.paused = true),
                10..12 => self.contest_path(&target),
                12..14 => self.publish(&target.uid),
                _ => {}
            }
        }
    }

    fn wake_all(&mut self) {
        self.faults.away = None;
        self.faults.partitions.clear();
        self.tidy();
        for mut object in self.api.objects.streams.values().cloned().collect::<Vec<_>>() {
            if object.name.name.starts_with("old") {
                self.remove(&object.uid, &object.name);
                continue;
            }
            let Ok(spec) = &object.spec else { continue };
            let mut spec = (**spec).clone();
            spec.paused = false;
            spec.release_after_idle = None;
            spec.ttl_after_idle = None;
            if let operator_core::spec::Source::Rtp(source) = &mut spec.source {
                source.rtcp = !source.rtcp;
            }
            // What ran goes elsewhere.
            spec.preferred_node = Some(objects::node_name(self.rng.below(self.hosts.len())));
            object.generation += 1;
            object.spec = Ok(std::sync::Arc::new(spec));
            self.api.put_stream(object);
        }
        if self.now < LEASE_OVER - Duration::from_millis(900) || self.rng.chance(60) {
            self.after(450, 700, Item::Mend(Mend::Relapse(Step::Tell)));
        } else {
            self.after(400, 500, Item::Mend(Mend::Relapse(Step::Part)));
            self.after(600, 650, Item::Mend(Mend::ChangeLeader));
            self.after(1250, 1350, Item::Mend(Mend::ChangeLeader));
            self.after(1950, 2150, Item::Mend(Mend::Relapse(Step::Tell)));
        }
    }

    /// All but one that has least.
    fn part_the_busiest(&mut self) {
        let alive = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let mut busiest: Vec<(usize, usize)> =
            alive.map(|worker| (worker.running.len(), worker.index)).collect();
        busiest.sort_unstable();
        for (_, worker) in busiest.into_iter().skip(1) {
            self.part(worker, 3000, 4000);
        }
    }

    fn tell_all(&mut self) {
        for target in self.targets() {
            self.publish(&target.uid);
            match self.rng.below(10) {
                0..3 => self.change_spec(&target, |spec| spec.publish = objects::publish(None, 5)),
                3..5 => self.rebind(&target),
                _ => self.unwish(&target),
            }
        }
        self.after(5, 9, Item::Mend(Mend::Relapse(Step::Fall)));
    }

    fn fall(&mut self) {
        let old = self.replicas.iter().position(|replica| replica.leading && replica.alive);
        let Some(old) = old.filter(|_| self.now >= LEASE_OVER && self.api.up) else {
            return self.after(100, 200, Item::Mend(Mend::Relapse(Step::Fall)));
        };
        let now = self.now;
        // What the old leader said last comes late.
        self.hold_commands(old);
        for replica in 0..self.replicas.len() {
            let is_old = replica == old;
            let (low, high) = if is_old { (1900, 2300) } else { (100, 500) };
            self.crash_slowly(replica, (low, high), if is_old { (1700, 2000) } else { (10, 40) });
        }
        let most = self.workers.iter().filter(|worker| worker.alive).map(|worker| worker.term).max();
        let least = self.workers.iter().filter(|worker| worker.alive).map(|worker| worker.term).min();
        if let (Some(most), Some(least)) = (most, least)
            && most.0 > least.0 + 1
        {
            // Those that know a later term come after those that have the most.
            let away = self.workers.iter().find(|worker| worker.alive && worker.term == most);
            let away = away.map(|worker| worker.index);
            self.faults.partitions.clear();
            for worker in 0..self.workers.len() {
                if self.workers[worker].alive && self.workers[worker].term == most {
                    self.part(worker, 6000, 7000);
                }
            }
            self.faults.away = away;
        }
        self.restore_for(40, 90);
        self.faults.crowded.clear();
        self.faults.slow_until = now + Duration::from_millis(2300);
        self.after(100, 110, Item::Mend(Mend::Relapse(Step::Edit)));
        if now < RELAPSES_END {
            self.after(1900, 2300, Item::Mend(Mend::Relapse(Step::Wake)));
        }
    }

    fn edit_the_restored(&mut self) {
        let objects: Vec<_> = self.api.objects.streams.values().cloned().collect();
        for object in objects {
            let (uid, name) = (object.uid.clone(), object.name.clone());
            let lease = operator_core::LeaseState::Free;
            let target = Target { replica: 0, uid, name, lease, phase: object.status.phase };
            match object.status.phase {
                Phase::Paused if self.rng.chance(30) => self.delete_softly(&target),
                Phase::Idle if self.rng.chance(15) => self.delete_softly(&target),
                Phase::Paused | Phase::Refused if self.rng.chance(60) => {
                    self.change_spec(&target, |spec| spec.publish = objects::publish(None, 4));
                }
                Phase::Idle if self.rng.chance(60) => {
                    // It is woken, and rests again.
                    self.rest(&target, false);
                }
                _ => {}
            }
        }
    }

    /// A worker has told another leader what it has. What a dead one said is on its way until that one has been heard.
    pub(crate) fn obey_the_dead(&mut self, worker: usize, but: usize) {
        if self.faults.calm || !self.faults.relapsing || !self.rng.chance(70) {
            return;
        }
        let is_late = |world: &Self, link: usize| {
            let it = &world.links[link];
            link != but && it.worker == worker && it.worker_open && !world.replicas[it.replica].leading
        };
        loop {
            let link = self.find(|item| match item {
                Item::Down { link, .. } if is_late(self, *link) => Some(*link),
                _ => None,
            });
            let Some(link) = link else { return };
            let item = self.pull(|item| matches!(item, Item::Down { link: of, .. } if *of == link));
            let Some((_, Item::Down { term, sequence, command, .. })) = item else { return };
            self.obey(link, term, sequence, &command);
        }
    }

    fn hold_commands(&mut self, replica: usize) {
        let mut held = Vec::new();
        let of = |world: &Self| {
            world.find(|item| match item {
                Item::Down { link, .. } if world.links[*link].replica == replica => Some(*link),
                _ => None,
            })
        };
        while let Some(link) = of(self) {
            held.extend(self.pull(|item| matches!(item, Item::Down { link: of, .. } if *of == link)));
        }
        for (_, item) in held {
            let Item::Down { link, term, .. } = item else { continue };
            if self.workers[self.links[link].worker].term < term {
                // What would tell of its term is lost with it: the next one may choose the same.
                continue;
            }
            let at = self.now + self.rng.ms(1300, 1900);
            let at = self.links[link].down(at);
            self.at(at, item);
        }
    }
}
