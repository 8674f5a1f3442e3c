//! A worker comes back that knows a later term than the leader's: that rises, and nothing is settled until it is on record.
//! Just then many streams are where streams seldom are.

use std::time::Duration;

use operator_core::LeaseState;
use operator_core::spec::Source;
use operator_core::status::Phase;

use crate::api::Kind;
use crate::coverage;
use crate::link::Up;
use crate::poke::Target;
use crate::world::{Item, World};

/// A leader is given so long to find what the others have.
const FIRST: Duration = Duration::from_millis(1000);
/// And so long until enough streams run.
const RUNNING: Duration = Duration::from_millis(2500);
const ENOUGH: usize = 5;
/// A term is on record by then.
const RECORDED: Duration = Duration::from_millis(650);
/// New streams are made this long before.
const CLAIMING: Duration = Duration::from_millis(120);

/// What is done before the worker that is away comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    None,
    /// Streams are made to run, until then at most.
    Tidied(Duration),
    /// They go where streams seldom are; then it comes back.
    Unsettled(Duration),
    /// The term is soon on record.
    Raised(Duration),
}

impl World {
    /// After a plan of a leader.
    pub(crate) fn raise(&mut self, replica: usize) {
        let leader = &self.replicas[replica];
        if !self.is_one_away(replica) || !leader.core.is_active() || self.now < leader.leads_since + FIRST {
            return;
        }
        match self.faults.raise {
            Stage::Raised(until) if self.now < until => {}
            Stage::None | Stage::Raised(_) => {
                self.tidy();
                self.faults.raise = Stage::Tidied(self.now + RUNNING);
            }
            Stage::Tidied(until) => {
                let targets = self.targets_of(replica);
                let runs = |it: &&Target| matches!(it.phase, Phase::Ready | Phase::Live);
                if until <= self.now || targets.iter().filter(runs).count() >= ENOUGH {
                    self.unsettle_all(replica);
                    self.faults.raise = Stage::Unsettled(self.now + self.rng.ms(150, 350));
                }
            }
            Stage::Unsettled(at) if at <= self.now => self.raise_now(replica),
            Stage::Unsettled(at) if at <= self.now + CLAIMING => self.claim_some(replica),
            Stage::Unsettled(_) => {}
        }
    }

    /// Little else happens then.
    pub(crate) fn is_raising(&self) -> bool {
        match self.faults.raise {
            Stage::None => false,
            Stage::Tidied(until) | Stage::Unsettled(until) => self.now < until + FIRST,
            Stage::Raised(until) => self.now < until,
        }
    }

    /// Some claims are on their way then.
    fn claim_some(&mut self, replica: usize) {
        if self.rng.chance(60) {
            self.make_stream();
        }
        for target in self.targets_of(replica) {
            if target.lease == LeaseState::Claimed {
                self.hold_calls(&target);
                let known =
                    self.api.objects.streams.get(&target.name).and_then(|object| object.spec.as_ref().ok());
                let rests = known.is_none_or(|spec| spec.release_after_idle.is_some());
                if !rests && self.rng.chance(30) {
                    self.rest(&target, false);
                }
            }
        }
    }

    /// Streams go where streams seldom are.
    fn unsettle_all(&mut self, replica: usize) {
        for target in self.targets_of(replica) {
            if self.rng.chance(30) {
                self.steal_seen(&target);
            }
            if self.rng.chance(40) {
                self.stall(&target, 300, 600);
            }
            match self.rng.below(8) {
                0..3 => self.rest(&target, false),
                3..5 => self.unwish(&target),
                5 => self.change_spec(&target, |spec| {
                    if let Source::Rtp(source) = &mut spec.source {
                        source.rtcp = !source.rtcp;
                    }
                }),
                6 => self.contest_path(&target),
                _ => {}
            }
        }
    }

    /// Somebody takes a stream's number in the other protocol, too, and a scan shows it.
    fn steal_seen(&mut self, target: &Target) {
        let Some((worker, Some(_))) = self.holder_of(target) else { return };
        if self.workers[worker].paused {
            return;
        }
        self.steal(target);
        let host = self.workers[worker].host;
        if let Some(report) = self.workers[worker].scan(&self.hosts[host]) {
            self.report(worker, vec![report]);
        }
    }

    /// The hello is heard, and some of what people do just then.
    pub(crate) fn raise_now(&mut self, replica: usize) {
        self.faults.raise = Stage::Raised(self.now + RECORDED);
        let targets = self.targets_of(replica);
        for target in &targets {
            self.hold_calls(target);
        }
        self.bring_back_the_away(replica);
        let dialed = self.pull(|item| matches!(item, Item::Dial { replica: of, .. } if *of == replica));
        let Some((_, Item::Dial { worker, .. })) = dialed else { return };
        if self.workers[worker].links.contains_key(&replica) {
            return;
        }
        self.dial(worker, replica);
        let before = std::mem::replace(&mut self.faults.crowding, true);
        self.hear_up(replica, |up| matches!(up, Up::Hello(_)));
        for target in &targets {
            if (target.lease, target.phase) == (LeaseState::Claimed, Phase::Idle) && self.rng.chance(40) {
                self.hear_write(target, coverage::Kind::Written);
            } else {
                self.turn_about(target);
            }
        }
        self.faults.crowding = before;
        let incarnation = self.replicas[replica].incarnation;
        self.at(self.now, Item::Plan { replica, incarnation });
    }

    /// Who was wanted is not, who was paused is.
    fn turn_about(&mut self, target: &Target) {
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        if wanted && target.lease == LeaseState::Adopted {
            self.hear_change(target.replica, Kind::Streams, |world| match world.rng.below(5) {
                0 => {}
                1 | 2 => world.change_spec(target, |spec| spec.paused = true),
                3 => world.delete_softly(target),
                _ => world.contest_path(target),
            });
            return;
        }
        let kept = match target.lease {
            LeaseState::Leased => 80,
            _ => 50,
        };
        if self.rng.chance(kept) {
            return;
        }
        if wanted {
            self.turn(target);
        } else if target.phase == Phase::Paused {
            self.hear_change(target.replica, Kind::Streams, |world| {
                world.change_spec(target, |spec| spec.paused = false);
            });
        }
    }
}
