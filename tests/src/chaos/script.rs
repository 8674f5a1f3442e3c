//! What happens, decided beforehand: a pure function of the seed, so that a run can be stopped, gone on with and repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Ground;
use crate::load::Protocol;
use crate::ps_sender::Transport;
use crate::soak::Random;
use crate::standalone::{over_rtp, pushed};

/// Streams that encoders push.
const PUSHED: u64 = 4;
/// Streams that cameras send over leased ports.
const CAMERAS: u64 = 8;
/// Of the first camera's stream; the others follow.
const SSRC: u32 = 200_000_100;

/// The numbers of the pool at most: a pair for half of the cameras, one for the others, and as many again for thieves.
pub(super) const NUMBERS: u16 = 24;
/// And at least: some cameras must wait.
const NUMBERS_MIN: u16 = 8;

/// A stream of the chaos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// An encoder pushes it.
    Pushed(u8),
    /// A camera sends it: over UDP where the number is even, else over TCP.
    Camera(u8),
}

/// What is declared of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// It is as at the start.
    Plain,
    /// A second publisher takes over.
    Takeover,
    /// Its publisher may be silent for less.
    Hasty,
    /// It serves nobody for the time being.
    Paused,
    /// It is no YAML.
    Broken,
    /// It is not there.
    Gone,
}

/// How a publisher ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It says so.
    Politely,
    /// With a reset.
    Reset,
    /// It sends nothing any more, and stays.
    Silence,
    /// It is an ffmpeg, and is killed.
    Killed,
}

/// What a camera does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Camera {
    /// What it should.
    Good,
    /// It has another stream's SSRC.
    WrongSsrc,
    /// Each byte is a write of its own.
    ByteWise,
    /// Nothing that it sends is a packet.
    Noise,
    /// It stops in the middle of a packet, and stays.
    HalfOpen,
}

/// Where hostile clients come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Publishers and players.
    Rtmp,
    /// Players.
    Http,
    /// The watchdog's.
    Health,
    /// A leased port of a protected camera, in TCP.
    Tcp,
    /// The same in UDP.
    Udp,
}

/// What they do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Random bytes.
    Garbage,
    /// A handshake, then random bytes.
    GarbageInside,
    /// Values inside each other without end, and such as claim 2^32 elements.
    AmfBomb,
    /// Chunks of 2 GiB, messages of 16 MiB.
    GiantChunks,
    /// A request whose head does not end.
    HeaderFlood,
    /// A byte a second.
    Drip,
    /// They ask for a protected stream, and never read.
    NeverRead,
    /// Hundreds connect and reset.
    Crowd,
}

/// What a thief binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loot {
    Tcp,
    Udp,
    Both,
}

/// What the product is broken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A worker is killed.
    Kill,
    /// It is stopped for longer than it may be silent.
    Stop,
    /// Its node's cable is pulled.
    Cut,
    /// Its pod is deleted.
    Delete,
    /// The leading operator is killed.
    Leader,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// An encoder comes.
    Publish(Slot, End),
    /// Two come for one path.
    Duel(Slot),
    /// One comes for the path of a protected encoder.
    Usurp,
    /// Some viewers come and leave.
    Watch(Slot, Protocol, u8),
    /// A camera comes.
    Send(Slot, Camera),
    /// Hostile clients come.
    Assail(Door, Attack, u16),
    /// An encoder and a viewer vanish behind a cable that is cut.
    Vanish(Slot),
    /// Somebody takes the n-th number of all pools.
    Steal(u16, Loot),
    /// The pool has so many numbers from now on.
    Pool(u16),
    /// A stream is declared or deleted.
    Declare(Slot, Object),
    /// A worker is stopped for a moment that nobody may notice.
    Freeze,
    /// The product is broken.
    Break(Fault),
}

/// One step of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What is done.
    pub(super) act: Act,
    /// For how long.
    pub(super) lasts: Duration,
    /// Which node is meant, modulo those that there are.
    pub(super) node: u8,
    /// Of what the actor says at random.
    pub(super) seed: u64,
    /// Rest behind it.
    pub(super) pause: Duration,
}

type Make = fn(&mut Random) -> Act;

/// Kinds of action, and how often each comes.
const MIX: &[(u64, Make)] = &[
    (60, |random| {
        Act::Publish(
            pushed_slot(random),
            pick(random, &[End::Politely, End::Reset, End::Silence, End::Killed]),
        )
    }),
    (12, |random| Act::Duel(pushed_slot(random))),
    (12, |_| Act::Usurp),
    (40, |random| {
        let protocol = pick(random, &[Protocol::Rtmp, Protocol::HttpFlv]);
        Act::Watch(slot(random), protocol, 3 + random.next(10) as u8)
    }),
    (80, |random| {
        const MANNERS: &[Camera] = &[
            Camera::Good,
            Camera::Good,
            Camera::WrongSsrc,
            Camera::ByteWise,
            Camera::Noise,
            Camera::HalfOpen,
        ];
        Act::Send(camera_slot(random), pick(random, MANNERS))
    }),
    (90, |random| {
        let (door, attack) = pick(random, ATTACKS);
        let clients = match attack {
            Attack::Crowd => 50 + random.next(250) as u16,
            _ => 1 + random.next(4) as u16,
        };
        Act::Assail(door, attack, clients)
    }),
    (36, |random| {
        Act::Steal(random.next(u64::MAX >> 33) as u16, pick(random, &[Loot::Tcp, Loot::Udp, Loot::Both]))
    }),
    (16, |random| Act::Pool(NUMBERS_MIN + 2 * random.next(u64::from(NUMBERS - NUMBERS_MIN) / 2 + 1) as u16)),
    (48, |random| {
        const OBJECTS: &[Object] = &[
            Object::Plain,
            Object::Plain,
            Object::Takeover,
            Object::Hasty,
            Object::Paused,
            Object::Broken,
            Object::Gone,
        ];
        Act::Declare(slot(random), pick(random, OBJECTS))
    }),
    (6, |_| Act::Freeze),
];

/// Those of one machine alone.
const STANDALONE: &[(u64, Make)] =
    &[(4, |random| Act::Vanish(pushed_slot(random))), (3, |_| Act::Break(Fault::Kill))];

/// Those of a cluster alone.
const CLUSTER: &[(u64, Make)] = &[
    (4, |_| Act::Break(Fault::Kill)),
    (3, |_| Act::Break(Fault::Stop)),
    (3, |_| Act::Break(Fault::Cut)),
    (3, |_| Act::Break(Fault::Delete)),
    (3, |_| Act::Break(Fault::Leader)),
];

const ATTACKS: &[(Door, Attack)] = &[
    (Door::Rtmp, Attack::Garbage),
    (Door::Rtmp, Attack::GarbageInside),
    (Door::Rtmp, Attack::AmfBomb),
    (Door::Rtmp, Attack::GiantChunks),
    (Door::Rtmp, Attack::Drip),
    (Door::Rtmp, Attack::NeverRead),
    (Door::Rtmp, Attack::Crowd),
    (Door::Http, Attack::Garbage),
    (Door::Http, Attack::HeaderFlood),
    (Door::Http, Attack::Drip),
    (Door::Http, Attack::NeverRead),
    (Door::Http, Attack::Crowd),
    (Door::Health, Attack::Garbage),
    (Door::Health, Attack::HeaderFlood),
    (Door::Health, Attack::Drip),
    (Door::Tcp, Attack::Garbage),
    (Door::Tcp, Attack::Drip),
    (Door::Tcp, Attack::Crowd),
    (Door::Udp, Attack::Garbage),
];

/// The script of a seed, step by step.
pub(super) struct Script {
    random: Random,
    mix: Vec<(u64, Make)>,
    /// Kinds that have not come yet: one of each comes first, so that a short run has all.
    first: Vec<Make>,
}

impl Script {
    pub(super) fn new(seed: u64, ground: Ground) -> Script {
        let own = match ground {
            Ground::Standalone => STANDALONE,
            Ground::Cluster => CLUSTER,
        };
        let mut random = Random::new(seed);
        let mix = [MIX, own].concat();
        let mut first: Vec<Make> = mix.iter().map(|(_, make)| *make).collect();
        for nth in 1..first.len() {
            first.swap(nth, random.next(nth as u64 + 1) as usize);
        }
        Script { random, mix, first }
    }

    fn make(&mut self) -> Act {
        if let Some(make) = self.first.pop() {
            return make(&mut self.random);
        }
        let mut roll = self.random.next(self.mix.iter().map(|(weight, _)| weight).sum());
        for (weight, make) in &self.mix {
            match roll.checked_sub(*weight) {
                Some(rest) => roll = rest,
                None => return make(&mut self.random),
            }
        }
        unreachable!("the roll is below the sum of the weights")
    }
}

impl Iterator for Script {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let act = self.make();
        let random = &mut self.random;
        Some(Step {
            act,
            lasts: Duration::from_millis(300 + random.next(3000)),
            node: random.next(256) as u8,
            seed: random.next(u64::MAX >> 33),
            pause: Duration::from_millis(50 + random.next(150)),
        })
    }
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.next(of.len() as u64) as usize]
}

fn pushed_slot(random: &mut Random) -> Slot {
    Slot::Pushed(random.next(PUSHED) as u8)
}

fn camera_slot(random: &mut Random) -> Slot {
    Slot::Camera(random.next(CAMERAS) as u8)
}

fn slot(random: &mut Random) -> Slot {
    if random.next(3) == 0 { pushed_slot(random) } else { camera_slot(random) }
}

/// What is declared: the sum of the steps before, so that a run that goes on begins where it was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Each stream.
    pub(super) objects: BTreeMap<Slot, Object>,
    /// The pool's size.
    pub(super) numbers: u16,
}

impl Declared {
    /// Before the first step.
    pub(super) fn first() -> Declared {
        let pushed = (0..PUSHED as u8).map(Slot::Pushed);
        let slots = pushed.chain((0..CAMERAS as u8).map(Slot::Camera));
        Declared { objects: slots.map(|slot| (slot, Object::Plain)).collect(), numbers: NUMBERS }
    }

    /// Notes what a step does to it.
    pub(super) fn take(&mut self, act: Act) {
        match act {
            Act::Declare(slot, object) => {
                self.objects.insert(slot, object);
            }
            Act::Pool(numbers) => self.numbers = numbers,
            Act::Publish(..)
            | Act::Duel(_)
            | Act::Usurp
            | Act::Watch(..)
            | Act::Send(..)
            | Act::Assail(..)
            | Act::Vanish(_)
            | Act::Steal(..)
            | Act::Freeze
            | Act::Break(_) => {}
        }
    }
}

impl Slot {
    /// Of the object.
    pub(super) fn name(self) -> String {
        match self {
            Slot::Pushed(nth) => format!("pushed{nth}"),
            Slot::Camera(nth) => format!("camera{nth}"),
        }
    }

    /// Its SSRC; a pushed stream has none.
    pub(super) fn ssrc(self) -> Option<u32> {
        match self {
            Slot::Pushed(_) => None,
            Slot::Camera(nth) => Some(SSRC + u32::from(nth)),
        }
    }

    /// How its camera sends.
    pub(super) fn transport(self) -> Transport {
        match self {
            Slot::Camera(nth) if nth.is_multiple_of(2) => Transport::Udp,
            Slot::Camera(_) | Slot::Pushed(_) => Transport::Tcp,
        }
    }

    /// The text of its object; none where there is to be none.
    pub(super) fn yaml(self, object: Object) -> Option<String> {
        let (publish, more) = match object {
            Object::Plain => ("stallTimeout: 3s", ""),
            Object::Takeover => ("stallTimeout: 3s, onDuplicate: Takeover", ""),
            Object::Hasty => ("stallTimeout: 2s", ""),
            Object::Paused => ("stallTimeout: 3s", "  paused: true\n"),
            Object::Broken => return Some(format!("kind: [{}", self.name())),
            Object::Gone => return None,
        };
        let more = format!(
            "  publish: {{startTimeout: 3s, resumeWindow: 1s, {publish}}}\n  play: {{startTimeout: 2s}}\n{more}"
        );
        Some(match self {
            Slot::Pushed(_) => pushed(&self.name(), &more),
            Slot::Camera(nth) => {
                let transport = if self.transport() == Transport::Udp { "UDP" } else { "TCPPassive" };
                let ssrc = SSRC + u32::from(nth);
                over_rtp(&self.name(), &format!("transport: {transport}, ssrc: \"{ssrc:010}\""), &more)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::{Act, Declared, Object, Script, Slot};
    use crate::chaos::Ground;

    #[test]
    fn a_seed_tells_all_of_a_script_and_another_seed_another() {
        for ground in [Ground::Standalone, Ground::Cluster] {
            let steps = |seed| Script::new(seed, ground).take(1000).collect::<Vec<_>>();
            assert_eq!(steps(1), steps(1));
            assert_ne!(steps(1), steps(2));
            // One that goes on is the same as one that was not stopped.
            assert_eq!(Script::new(1, ground).skip(500).take(500).collect::<Vec<_>>(), steps(1)[500..]);
        }
    }

    #[test]
    fn one_of_each_kind_comes_first_whatever_the_seed() {
        for ground in [Ground::Standalone, Ground::Cluster] {
            for seed in 0..20 {
                let kinds = |count| {
                    let steps = Script::new(seed, ground).take(count);
                    steps.map(|step| format!("{:?}", discriminant(&step.act))).collect::<BTreeSet<_>>()
                };
                assert_eq!(kinds(17), kinds(5000), "seed {seed}, {ground:?}");
            }
        }
    }

    #[test]
    fn what_is_declared_is_the_sum_of_the_steps() {
        let mut declared = Declared::first();
        declared.take(Act::Declare(Slot::Camera(3), Object::Gone));
        declared.take(Act::Pool(10));
        declared.take(Act::Usurp);
        assert_eq!(declared.objects[&Slot::Camera(3)], Object::Gone);
        assert_eq!(declared.numbers, 10);
        assert_eq!(declared.objects.len(), Declared::first().objects.len());
    }
}
