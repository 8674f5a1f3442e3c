//! What happens at each step: a pure function of the seed and the step, so that a run can be stopped, gone on with and repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::Protocol;
use crate::standalone::{over_rtp, pushed};

/// Streams that encoders push.
const PUSHED: u8 = 4;
/// Streams that cameras send over leased ports.
const CAMERAS: u8 = 8;
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

/// What the watched folder has of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// It is as at the start.
    Plain,
    /// Other rules for its publisher.
    Edited(u8),
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
    /// It connects and resets, some times.
    Vanish,
    /// It stops in the middle of a packet, and stays.
    HalfOpen,
}

/// A port that strangers reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// For publishers and players.
    Rtmp,
    /// For players.
    Http,
    /// The watchdog's.
    Health,
}

/// What a stranger does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Random bytes.
    Garbage,
    /// A handshake, then random bytes.
    GarbageInside,
    /// Ten thousand objects, each inside the one before, and arrays that claim 2^32 elements.
    AmfBomb,
    /// Chunks of 2 GiB, messages of 16 MiB.
    GiantChunks,
    /// A request whose head does not end.
    HeaderFlood,
    /// A byte a second.
    SlowLoris,
    /// Hundreds connect and reset, from several addresses.
    Vanish,
}

/// What a thief binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loot {
    Tcp,
    Udp,
    Both,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// An encoder comes.
    Publish { slot: Slot, end: End, millis: u16 },
    /// Two come for one path.
    Duel { slot: Slot, millis: u16 },
    /// Viewers come and leave.
    Watch { slot: Slot, protocol: Protocol, viewers: u8, millis: u16 },
    /// A viewer asks, and never reads.
    NeverRead { slot: Slot, protocol: Protocol, millis: u16 },
    /// A camera comes.
    Send { slot: Slot, camera: Camera, millis: u16 },
    /// Strangers come.
    Assail { door: Door, attack: Attack, clients: u16, millis: u16 },
    /// Somebody takes the n-th number of the pool.
    Steal { nth: u16, loot: Loot, millis: u16 },
    /// The pool has so many numbers from now on.
    Pool { numbers: u16 },
    /// A stream's file is written or removed.
    Declare { slot: Slot, file: File },
    /// The worker is stopped for less than a second.
    Stop { millis: u16 },
    /// The worker is killed.
    Kill,
}

/// Kinds of action, and how often in 400 steps each comes.
const MIX: &[(u64, fn(&mut Random) -> Action)] = &[
    (60, |random| Action::Publish {
        slot: random.pushed(),
        end: random.pick(&[End::Politely, End::Reset, End::Silence, End::Killed]),
        millis: random.millis(300, 3000),
    }),
    (12, |random| Action::Duel { slot: random.pushed(), millis: random.millis(300, 2000) }),
    (48, |random| Action::Watch {
        slot: random.slot(),
        protocol: random.pick(&[Protocol::Rtmp, Protocol::HttpFlv]),
        viewers: 5 + random.below(16) as u8,
        millis: random.millis(300, 2000),
    }),
    (20, |random| Action::NeverRead {
        slot: random.slot(),
        protocol: random.pick(&[Protocol::Rtmp, Protocol::HttpFlv]),
        millis: random.millis(500, 4000),
    }),
    (80, |random| Action::Send {
        slot: random.camera(),
        camera: random.pick(&[
            Camera::Good,
            Camera::Good,
            Camera::WrongSsrc,
            Camera::ByteWise,
            Camera::Noise,
            Camera::Vanish,
            Camera::HalfOpen,
        ]),
        millis: random.millis(300, 3000),
    }),
    (72, |random| {
        let (door, attack) = random.pick(ATTACKS);
        let clients = match attack {
            Attack::Vanish => 50 + random.below(350) as u16,
            Attack::SlowLoris => 1 + random.below(16) as u16,
            Attack::Garbage
            | Attack::GarbageInside
            | Attack::AmfBomb
            | Attack::GiantChunks
            | Attack::HeaderFlood => 1 + random.below(4) as u16,
        };
        Action::Assail { door, attack, clients, millis: random.millis(500, 4000) }
    }),
    (36, |random| Action::Steal {
        nth: random.below(NUMBERS.into()) as u16,
        loot: random.pick(&[Loot::Tcp, Loot::Udp, Loot::Both]),
        millis: random.millis(200, 3000),
    }),
    (16, |random| {
        let steps = u64::from(NUMBERS - NUMBERS_MIN) / 2 + 1;
        Action::Pool { numbers: NUMBERS_MIN + 2 * random.below(steps) as u16 }
    }),
    (48, |random| {
        let edit = random.below(3) as u8;
        let file = random.pick(&[
            File::Plain,
            File::Plain,
            File::Edited(edit),
            File::Paused,
            File::Broken,
            File::Gone,
        ]);
        Action::Declare { slot: random.slot(), file }
    }),
    (6, |random| Action::Stop { millis: random.millis(100, 900) }),
    (2, |_| Action::Kill),
];

const ATTACKS: &[(Door, Attack)] = &[
    (Door::Rtmp, Attack::Garbage),
    (Door::Rtmp, Attack::GarbageInside),
    (Door::Rtmp, Attack::AmfBomb),
    (Door::Rtmp, Attack::GiantChunks),
    (Door::Rtmp, Attack::SlowLoris),
    (Door::Rtmp, Attack::Vanish),
    (Door::Http, Attack::Garbage),
    (Door::Http, Attack::HeaderFlood),
    (Door::Http, Attack::SlowLoris),
    (Door::Http, Attack::Vanish),
    (Door::Health, Attack::Garbage),
    (Door::Health, Attack::HeaderFlood),
    (Door::Health, Attack::SlowLoris),
    (Door::Health, Attack::Vanish),
];

/// What is done at a step.
pub(super) fn action(seed: u64, step: u64) -> Action {
    let mut random = Random::of(seed, step);
    let mut roll = random.below(MIX.iter().map(|(weight, _)| weight).sum());
    for (weight, make) in MIX {
        match roll.checked_sub(*weight) {
            Some(rest) => roll = rest,
            None => return make(&mut random),
        }
    }
    unreachable!("the roll is below the sum of the weights")
}

/// How long the script rests behind a step.
pub(super) fn pause(seed: u64, step: u64) -> Duration {
    // Of another sequence than the action's, which takes as many numbers as it needs.
    Duration::from_millis(20 + Random::of(!seed, step).below(100))
}

/// What the folder should have: the sum of the steps before, so that a run that goes on begins where it was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Each stream's file.
    pub(super) files: BTreeMap<Slot, File>,
    /// The pool's size.
    pub(super) numbers: u16,
}

impl Declared {
    /// At the first step.
    pub(super) fn first() -> Declared {
        let pushed = (0..PUSHED).map(Slot::Pushed);
        let slots = pushed.chain((0..CAMERAS).map(Slot::Camera));
        Declared { files: slots.map(|slot| (slot, File::Plain)).collect(), numbers: NUMBERS }
    }

    /// At a later one.
    pub(super) fn before(seed: u64, step: u64) -> Declared {
        let mut declared = Declared::first();
        (0..step).for_each(|step| declared.take(action(seed, step)));
        declared
    }

    /// Notes what a step does to it.
    pub(super) fn take(&mut self, action: Action) {
        match action {
            Action::Declare { slot, file } => {
                self.files.insert(slot, file);
            }
            Action::Pool { numbers } => self.numbers = numbers,
            Action::Publish { .. }
            | Action::Duel { .. }
            | Action::Watch { .. }
            | Action::NeverRead { .. }
            | Action::Send { .. }
            | Action::Assail { .. }
            | Action::Steal { .. }
            | Action::Stop { .. }
            | Action::Kill => {}
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

    /// Where it is played.
    pub(super) fn path(self) -> String {
        format!("live/{}", self.name())
    }

    /// Of its file.
    pub(super) fn file_name(self) -> String {
        format!("{}.yaml", self.name())
    }

    /// Its SSRC; a pushed stream has none.
    pub(super) fn ssrc(self) -> Option<u32> {
        match self {
            Slot::Pushed(_) => None,
            Slot::Camera(nth) => Some(SSRC + u32::from(nth)),
        }
    }

    /// The text of its file; none where there is to be no file.
    pub(super) fn yaml(self, file: File) -> Option<String> {
        let (publish, more) = match file {
            File::Plain => ("stallTimeout: 3s", ""),
            File::Edited(0) => ("stallTimeout: 2s", ""),
            File::Edited(1) => ("stallTimeout: 3s, onDuplicate: Takeover", ""),
            File::Edited(_) => ("stallTimeout: 4s", ""),
            File::Paused => ("stallTimeout: 3s", "  paused: true\n"),
            File::Broken => return Some(format!("kind: [{}", self.name())),
            File::Gone => return None,
        };
        let more = format!(
            "  publish: {{startTimeout: 3s, resumeWindow: 1s, {publish}}}\n  play: {{startTimeout: 2s}}\n{more}"
        );
        Some(match self {
            Slot::Pushed(_) => pushed(&self.name(), &more),
            Slot::Camera(nth) => {
                let transport = if nth.is_multiple_of(2) { "UDP" } else { "TCPPassive" };
                let ssrc = SSRC + u32::from(nth);
                over_rtp(&self.name(), &format!("transport: {transport}, ssrc: \"{ssrc:010}\""), &more)
            }
        })
    }
}

/// SplitMix64, begun anew at each step: no step depends on how many numbers another took.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// For a step of a run.
    pub(super) fn of(seed: u64, step: u64) -> Random {
        let mut random = Random(seed);
        let seed = random.next();
        Random(seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes that mean nothing.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn millis(&mut self, from: u64, to: u64) -> u16 {
        (from + self.below(to - from)) as u16
    }

    fn pushed(&mut self) -> Slot {
        Slot::Pushed(self.below(PUSHED.into()) as u8)
    }

    fn camera(&mut self) -> Slot {
        Slot::Camera(self.below(CAMERAS.into()) as u8)
    }

    fn slot(&mut self) -> Slot {
        if self.below(3) == 0 { self.pushed() } else { self.camera() }
    }
}

#[cfg(test)]
mod tests;
