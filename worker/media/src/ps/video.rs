//! Pictures of a program stream: where one access unit ends and the next begins.
//!
//! Only the bitstream and the times of PES packets are sure to tell, and both do so when the *next* picture begins. RTP's marker
//! bit and the next pack tell at once, but not every camera keeps to them: some mark each packet, some cut a picture in packs.
//! So each of these signs is watched, and believed once it has been right twice without ever being wrong.

use super::limits::ACCESS_UNIT_BYTES_MAX;
use super::{Stamp, unit};
use crate::dropped::{Counters, Dropped};
use crate::h26x::{Class, Codec, classify, start_code, starts_picture};

/// A sign that a picture is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The marker bit of the RTP packet that ended with it.
    Marker,
    /// A pack header behind it.
    Pack,
}

/// When a PES packet says its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its PTS and DTS, or what the RTP time gives in their place.
    pub(super) stamp: Stamp,
    /// Whether the stamp was in the packet itself.
    pub(super) stated: bool,
}

/// A whole access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessUnit {
    pub(super) codec: Codec,
    pub(super) stamp: Stamp,
    /// As a byte stream, beginning with a start code.
    pub(super) bytes: Vec<u8>,
}

/// Collects the PES payloads of one video stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Video {
    codec: Option<Codec>,
    /// The access unit so far.
    bytes: Vec<u8>,
    /// Where the search for the next start code goes on.
    scanned: usize,
    /// Its time, from the first mark on.
    stamp: Option<Stamp>,
    /// Whether it has a slice yet, and how many first ones.
    pictures: u8,
    /// The mark of the newest PES packet and where that begins, until a NAL unit begins behind it.
    mark: Option<(usize, Mark)>,
    state: State,
    signs: [Trust; 2],
}

/// How the bytes are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// They are the access unit's.
    #[default]
    Open,
    /// The access unit was handed out on a sign: they should be the next one's.
    Closed,
    /// The access unit lost a part: they are dropped up to the next one.
    Damaged,
}

/// How far a sign is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trust {
    /// How often it has been right since it was wrong.
    right: u16,
    /// How often it must have been.
    needed: u16,
    /// The length of the access unit when the sign was last seen.
    seen: Option<usize>,
}

/// So often must a sign have been right at first.
const RIGHT_ENOUGH: u16 = 2;
/// So often once it was wrong: some ten seconds.
const RIGHT_AGAIN: u16 = 250;
/// First slices of one access unit: two fields.
const FIELDS_MAX: u8 = 2;

impl Default for Trust {
    fn default() -> Trust {
        Trust { right: 0, needed: RIGHT_ENOUGH, seen: None }
    }
}

impl Trust {
    fn was_right(&mut self) {
        self.right = self.right.saturating_add(1);
    }

    fn was_wrong(&mut self) {
        self.right = 0;
        self.needed = RIGHT_AGAIN;
    }
}

impl Video {
    /// Forgets the codec: the map names another one.
    pub(super) fn change_codec(&mut self) {
        *self = Video { signs: self.signs, ..Video::default() };
    }

    /// A PES packet begins.
    pub(super) fn begin(&mut self, mark: Mark) {
        // A stated time is not given up for a guessed one before it was used.
        if mark.stated || !self.mark.is_some_and(|(_, old)| old.stated) {
            self.mark = Some((self.bytes.len(), mark));
        }
    }

    /// Payload. Returns how many bytes at its end are none, because a unit of the system layer begins there; up to three of
    /// them may have come before.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        counters: &mut Counters,
        whole: &mut Vec<AccessUnit>,
    ) -> usize {
        self.bytes.extend_from_slice(bytes);
        loop {
            let found = start_code(&self.bytes, self.scanned);
            // A start code may be cut: the last two bytes are looked at again.
            let open = || self.scanned.max(self.bytes.len().saturating_sub(2));
            self.scanned = found.unwrap_or_else(open);
            // Before the next NAL unit, so that it doesn't matter with how many others that came.
            self.keep_bounds(counters);
            if found.is_none() {
                return 0;
            }
            let at = self.scanned;
            if unit::is_start(&self.bytes[at..]) {
                let foreign = self.bytes.len() - at;
                self.bytes.truncate(at);
                if let Some((begin, _)) = &mut self.mark {
                    *begin = at.min(*begin);
                }
                return foreign;
            }
            if !self.nal(at, counters, whole) {
                return 0;
            }
        }
    }

    /// True when there is a picture that could be whole.
    pub(super) fn is_open(&self) -> bool {
        self.pictures > 0 && self.state == State::Open
    }

    /// A sign was seen with no PES packet open: hands out the picture if the sign is believed.
    pub(super) fn sign(&mut self, sign: Sign) -> Option<AccessUnit> {
        if !self.is_open() {
            return None;
        }
        let trust = &mut self.signs[sign as usize];
        // Twice in one picture is once too often.
        if trust.seen.is_some_and(|seen| seen != self.bytes.len()) {
            trust.was_wrong();
        }
        trust.seen = Some(self.bytes.len());
        if trust.right < trust.needed { None } else { self.close() }
    }

    /// Hands out the picture because nothing more came, or nothing more will.
    pub(super) fn close(&mut self) -> Option<AccessUnit> {
        if !self.is_open() {
            return None;
        }
        let unit = self.take(self.bytes.len());
        self.state = State::Closed;
        unit
    }

    /// Bytes are missing here: the picture is dropped, and what follows up to the next one.
    pub(super) fn damage(&mut self, counters: &mut Counters) {
        if self.state == State::Open && !self.bytes.is_empty() {
            counters.drop(Dropped::Damaged, 1);
        }
        // The newest time is that of the picture which lost a part.
        if let Some((_, mark)) = self.mark.take() {
            self.stamp = Some(mark.stamp);
        }
        self.state = State::Damaged;
        self.bytes.clear();
        self.scanned = 0;
        self.pictures = 0;
        // What was seen of this picture says nothing of its signs.
        self.signs.iter_mut().for_each(|trust| trust.seen = None);
    }

    /// Looks at the NAL unit whose start code is at `at`; false if more bytes are needed for that.
    fn nal(&mut self, at: usize, counters: &mut Counters, whole: &mut Vec<AccessUnit>) -> bool {
        let nal = &self.bytes[at + 3..];
        if nal.len() < 2 {
            return false;
        }
        let Some(codec) = self.codec.or_else(|| Codec::of_parameter_set(nal)) else {
            // Nothing can be decoded before the first parameter set.
            self.drain(at + 3);
            return true;
        };
        let Some(class) = classify(codec, nal) else { return false };
        if self.codec.is_none() {
            self.codec = Some(codec);
            self.drain(at);
        }
        let at = self.scanned;
        let mark = self.mark.filter(|&(begin, _)| begin <= at).map(|(_, mark)| mark);
        let begins = self.begins_picture(class, mark);
        if begins {
            whole.extend(self.turn(at, counters));
        } else if self.state == State::Closed {
            self.distrust(counters);
        }
        if begins || self.pictures == 0 {
            self.stamp = mark.map(|mark| mark.stamp).or(self.stamp);
            self.mark = self.mark.filter(|_| mark.is_none());
        } else if mark.is_some_and(|mark| Some(mark.stamp) == self.stamp) {
            self.mark = None;
        }
        if self.state == State::Open && matches!(class, Class::FirstSlice | Class::Slice) {
            self.pictures = self.pictures.saturating_add(u8::from(class == Class::FirstSlice)).max(1);
        }
        self.scanned += 3;
        true
    }

    /// Whether a NAL unit is the first of a new access unit.
    fn begins_picture(&self, class: Class, mark: Option<Mark>) -> bool {
        // What can't be first isn't, whatever the times say: in a PES packet that begins in the middle of a picture, the time is
        // that of the next one (ISO/IEC 13818-1 §2.4.3.7).
        if !starts_picture(class) || (self.state == State::Open && self.pictures == 0) {
            return false;
        }
        match mark {
            Some(mark) if Some(mark.stamp) != self.stamp => true,
            Some(_) | None => match class {
                Class::Delimiter | Class::ParameterSet => true,
                Class::FirstSlice => self.pictures >= FIELDS_MAX,
                Class::Prefix | Class::Slice | Class::Suffix | Class::Foreign => false,
            },
        }
    }

    /// The access unit ends at `end`, where the next one begins.
    fn turn(&mut self, end: usize, counters: &mut Counters) -> Option<AccessUnit> {
        let unit = match self.state {
            State::Open => {
                for trust in &mut self.signs {
                    match trust.seen {
                        // The next start code may have a zero before it.
                        Some(seen) if end.abs_diff(seen) <= 1 => trust.was_right(),
                        Some(_) => trust.was_wrong(),
                        None => {}
                    }
                }
                self.take(end)
            }
            State::Closed => {
                self.drop_rest(end, counters);
                None
            }
            State::Damaged => {
                self.drain(end);
                None
            }
        };
        self.state = State::Open;
        unit
    }

    /// Takes the first `end` bytes as an access unit and keeps the rest as the next.
    fn take(&mut self, end: usize) -> Option<AccessUnit> {
        let rest = self.bytes.split_off(end);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        self.rebase(end);
        self.pictures = 0;
        self.signs.iter_mut().for_each(|trust| trust.seen = None);
        Some(AccessUnit { codec: self.codec?, stamp: self.stamp?, bytes })
    }

    /// Drops what came behind a picture that was handed out. If it was more than zeros, the picture was not whole.
    fn drop_rest(&mut self, end: usize, counters: &mut Counters) {
        let more = self.bytes[..end].iter().any(|&byte| byte != 0);
        self.drain(end);
        if more {
            self.distrust(counters);
        }
    }

    /// A picture was handed out on a sign that was wrong.
    fn distrust(&mut self, counters: &mut Counters) {
        self.signs.iter_mut().for_each(Trust::was_wrong);
        counters.drop(Dropped::Damaged, 1);
        self.state = State::Damaged;
    }

    fn drain(&mut self, end: usize) {
        self.bytes.drain(..end);
        self.rebase(end);
    }

    fn rebase(&mut self, end: usize) {
        self.scanned = self.scanned.saturating_sub(end);
        if let Some((begin, _)) = &mut self.mark {
            *begin = begin.saturating_sub(end);
        }
    }

    /// Drops what no picture needs of the bytes before `scanned`; drops a picture that is too big.
    fn keep_bounds(&mut self, counters: &mut Counters) {
        match self.state {
            State::Open if self.codec.is_some() => {
                if self.scanned > ACCESS_UNIT_BYTES_MAX {
                    counters.drop(Dropped::Overflow, 1);
                    let rest = self.bytes.split_off(self.scanned);
                    self.bytes.clear();
                    self.damage(counters);
                    self.bytes = rest;
                }
            }
            State::Closed => self.drop_rest(self.scanned, counters),
            State::Open | State::Damaged => self.drain(self.scanned),
        }
    }
}
