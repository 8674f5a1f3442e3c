//! The demultiplexer: payloads of RTP packets in, frames out.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::audio::{Audio, End};
use super::limits::{MAP_BYTES_MAX, PICTURE_WAIT, STEP_BYTES};
use super::map::{Map, Stated};
use super::unit::{self, Head, Pes};
use super::video::{AccessUnit, Mark, Sign, Video};
use super::{Stamp, is_pack_header};
use crate::clock::Unwrap;
use crate::dropped::{Counters, Dropped};
use crate::frame::{Frame, Kind};
use crate::h26x::Packager;

/// What came out of a program stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A frame.
    Frame(Frame),
    /// The stream carries this, which penstock doesn't. Once a name.
    Refused(&'static str),
}

/// Takes one program stream apart. Whatever it is fed, it holds no more than [`super::limits::DEMUX_BYTES_MAX`] beside the
/// output that was not polled.
#[derive(Debug, Default)]
pub struct Demux {
    state: State,
    /// The unit's head so far.
    head: Vec<u8>,
    map: Option<Map>,
    video_id: Option<u8>,
    audio_id: Option<u8>,
    video: Video,
    audio: Audio,
    packager: Option<Packager>,
    /// A picture without which the next ones can't be decoded has been seen.
    begun: bool,
    clock: Clock,
    /// When the open picture is taken as whole.
    patience: Option<Duration>,
    /// The open picture got bytes since that was set.
    fresh: bool,
    refused: BTreeSet<&'static str>,
    outputs: VecDeque<Output>,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Anything: the first pack is looked for.
    #[default]
    Noise,
    /// Anything: bytes were lost, the next unit is looked for.
    Lost,
    /// The head of a unit.
    Head,
    /// Payload of a PES packet of video, `None` for up to the next unit.
    Video(Option<usize>),
    /// The same of audio.
    Audio(Option<usize>),
    /// The inside of a unit without interest.
    Skip(usize),
}

/// Turns times of PES packets, and of RTP where they have none, into one endless clock.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    ps: Unwrap<33>,
    /// PS time less RTP time, at the last PES packet that had both.
    ahead: i64,
}

impl Clock {
    fn mark(&mut self, pes: &Pes, rtp: i64) -> Mark {
        let Some(pts) = pes.pts else {
            let time = rtp.wrapping_add(self.ahead);
            return Mark { stamp: Stamp { pts: time, dts: time }, stated: false };
        };
        let dts = self.ps.next(pes.dts.unwrap_or(pts));
        let pts = self.ps.peek(pts);
        self.ahead = dts.wrapping_sub(rtp);
        Mark { stamp: Stamp { pts, dts }, stated: true }
    }
}

impl Demux {
    /// A demultiplexer that waits for the first pack.
    pub fn new() -> Demux {
        Demux::default()
    }

    /// Takes the payload of the next RTP packet, its time on the endless 90 kHz clock and its marker bit. Bytes may be cut
    /// between packets anywhere.
    pub fn push(&mut self, payload: &[u8], rtp: i64, marker: bool, now: Duration, counters: &mut Counters) {
        self.take(payload, rtp, counters);
        if marker {
            self.sign(Sign::Marker, counters);
            if self.state == State::Audio(None) {
                self.end_audio(counters);
            }
        }
        self.be_patient(now);
    }

    /// A picture waits from its last byte on; one that is surely not whole waits for its bytes.
    fn be_patient(&mut self, now: Duration) {
        let fresh = std::mem::take(&mut self.fresh);
        if !self.video.is_open() || self.is_in_picture() {
            self.patience = None;
        } else if fresh || self.patience.is_none() {
            self.patience = Some(now + PICTURE_WAIT);
        }
    }

    fn is_in_picture(&self) -> bool {
        matches!(self.state, State::Video(Some(_)))
    }

    fn take(&mut self, mut input: &[u8], rtp: i64, counters: &mut Counters) {
        while !input.is_empty() {
            input = match self.state {
                State::Noise | State::Lost => self.search(input, counters),
                State::Head => self.head(input, rtp, counters),
                State::Video(left) => self.video(input, left, counters),
                State::Audio(left) => self.audio(input, left, counters),
                State::Skip(left) => {
                    let (_, rest) = input.split_at(left.min(input.len()));
                    self.state = after(left, input.len() - rest.len(), State::Skip);
                    rest
                }
            };
        }
    }

    /// Bytes are missing here.
    pub fn gap(&mut self, counters: &mut Counters) {
        self.video.damage(counters);
        if self.audio.is_open() {
            counters.drop(Dropped::Damaged, 1);
        }
        self.audio.damage();
        self.head.clear();
        if self.state != State::Noise {
            self.state = State::Lost;
        }
    }

    /// Nothing more comes: hands out what is whole.
    pub fn finish(&mut self, counters: &mut Counters) {
        if !self.is_in_picture() {
            let unit = self.video.close();
            self.package(unit, counters);
        }
        self.patience = None;
    }

    /// When [`Demux::timeout`] is to be called.
    pub fn deadline(&self) -> Option<Duration> {
        self.patience
    }

    /// Lets time pass.
    pub fn timeout(&mut self, now: Duration, counters: &mut Counters) {
        if self.patience.is_some_and(|patience| patience <= now) {
            self.finish(counters);
        }
    }

    /// What came out, one a call, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// True where a picture may end: between units, or in a PES packet of unstated length.
    fn is_between(&self) -> bool {
        match self.state {
            State::Head => self.head.is_empty(),
            State::Video(None) | State::Audio(None) => true,
            State::Noise | State::Lost | State::Video(Some(_)) | State::Audio(Some(_)) | State::Skip(_) => {
                false
            }
        }
    }

    /// Looks for a unit, byte by byte over the few that can be its head.
    fn search<'a>(&mut self, input: &'a [u8], counters: &mut Counters) -> &'a [u8] {
        // A pack alone begins a stream: its head is long enough not to come about by accident.
        let wanted = if self.state == State::Noise { 14 } else { 4 };
        let missing = wanted - self.head.len().min(wanted);
        let (more, rest) = input.split_at(missing.min(input.len()));
        self.head.extend_from_slice(more);
        self.trim(counters);
        if self.head.len() >= wanted {
            self.state = State::Head;
        }
        rest
    }

    /// Drops bytes of the head until it may be that of a unit which is looked for.
    fn trim(&mut self, counters: &mut Counters) {
        let length = self.head.len();
        while !self.head.is_empty() && !self.may_begin() {
            self.head.remove(0);
        }
        counters.drop(Dropped::Noise, (length - self.head.len()) as u64);
    }

    /// Whether the head so far is that of a unit which is looked for.
    fn may_begin(&self) -> bool {
        let short = self.head.len().min(4);
        match self.state {
            State::Noise if self.head.len() >= 14 => is_pack_header(&self.head),
            State::Noise => self.head[..short] == [0, 0, 1, 0xba][..short],
            _ if short < 4 => self.head[..short] == [0, 0, 1][..short],
            // Private and padding streams are not looked for: their ids are the likeliest accidents.
            _ => matches!(self.head[..4], [0, 0, 1, 0xba..=0xbc | 0xc0..=0xef]),
        }
    }

    /// Collects the head of a unit, and not a byte more, and acts on it.
    fn head<'a>(&mut self, mut input: &'a [u8], rtp: i64, counters: &mut Counters) -> &'a [u8] {
        loop {
            match unit::head(&self.head) {
                Head::Short(wanted) => {
                    if input.is_empty() {
                        return input;
                    }
                    let missing = wanted.saturating_sub(self.head.len()).clamp(1, MAP_BYTES_MAX);
                    let (more, rest) = input.split_at(missing.min(input.len()));
                    self.head.extend_from_slice(more);
                    input = rest;
                }
                head => {
                    self.act(head, rtp, counters);
                    return input;
                }
            }
        }
    }

    fn act(&mut self, head: Head, rtp: i64, counters: &mut Counters) {
        let bytes = std::mem::take(&mut self.head);
        self.state = State::Head;
        match head {
            Head::Short(_) => {}
            Head::None => self.overrun(&bytes, rtp, counters),
            Head::Broken => self.search_in(&bytes[1..], rtp, counters),
            Head::Mpeg1 => {
                self.refuse("MPEG-1 system stream");
                self.search_in(&bytes[1..], rtp, counters);
            }
            Head::Pack { bytes: length } => {
                debug_assert_eq!(bytes.len(), length);
                self.sign(Sign::Pack, counters);
            }
            Head::Map { bytes: length } => {
                debug_assert_eq!(bytes.len(), length);
                self.take_map(&bytes);
            }
            Head::Skip { bytes: length, body } => {
                debug_assert_eq!(bytes.len(), length);
                self.state = after(body, 0, State::Skip);
            }
            Head::Pes(pes) => {
                debug_assert_eq!(bytes.len(), pes.bytes);
                self.begin_pes(&pes, rtp, counters);
            }
        }
    }

    /// No unit stands where the last one ended: its length was too short, or bytes are missing. If it was video, what follows
    /// may well be the rest of it, up to the next unit, which can't be mistaken.
    fn overrun(&mut self, bytes: &[u8], rtp: i64, counters: &mut Counters) {
        if self.video.is_open() {
            counters.drop(Dropped::Malformed, 1);
            // Four bytes at most: a unit's head that begins among them takes of them only what it needs.
            let rest = self.video(bytes, None, counters);
            self.take(rest, rtp, counters);
        } else {
            self.search_in(bytes, rtp, counters);
        }
    }

    /// Looks for a unit in bytes that were taken for a head, and on. They are 14 at most, so this goes no deeper than that.
    fn search_in(&mut self, bytes: &[u8], rtp: i64, counters: &mut Counters) {
        counters.drop(Dropped::Malformed, 1);
        self.state = State::Lost;
        self.take(bytes, rtp, counters);
    }

    fn take_map(&mut self, unit: &[u8]) {
        let Some(map) = Map::parse(unit) else { return };
        let kind = |map: &Map| self.video_id.and_then(|id| map.type_of(id));
        let (old, new) = (self.map.as_ref().and_then(kind), kind(&map));
        if old.is_some() && new.is_some() && old != new {
            self.video.change_codec();
        }
        self.map = Some(map);
    }

    fn begin_pes(&mut self, pes: &Pes, rtp: i64, counters: &mut Counters) {
        let is_video = pes.id >= 0xe0;
        let chosen = if is_video { &mut self.video_id } else { &mut self.audio_id };
        let stated = self.map.as_ref().map_or(Stated::Nothing, |map| map.stated(pes.id));
        let skip = match stated {
            _ if *chosen.get_or_insert(pes.id) != pes.id => Some(Dropped::ExtraTrack),
            Stated::Refused(name) => {
                self.refuse(name);
                Some(Dropped::UnsupportedCodec)
            }
            Stated::Nothing | Stated::Pictures | Stated::Aac | Stated::PcmA | Stated::PcmU => None,
        };
        if let Some(reason) = skip {
            counters.drop(reason, 1);
            // Without a length, the next unit is looked for.
            self.state = pes.payload.map_or(State::Lost, |payload| after(payload, 0, State::Skip));
            return;
        }
        let mark = self.clock.mark(pes, rtp);
        if is_video {
            self.video.begin(mark);
            self.state = begun(pes.payload, State::Video);
        } else {
            self.audio.begin(mark.stamp);
            self.state = begun(pes.payload, State::Audio);
        }
    }

    fn video<'a>(&mut self, input: &'a [u8], left: Option<usize>, counters: &mut Counters) -> &'a [u8] {
        let (payload, rest) = input.split_at(left.unwrap_or(input.len()).min(input.len()).min(STEP_BYTES));
        let mut whole = Vec::new();
        self.fresh = true;
        let foreign = self.video.push(payload, counters, &mut whole);
        for unit in whole {
            self.package(Some(unit), counters);
        }
        if foreign > 0 {
            // A unit begins where the length, if there was one, promised payload.
            if left.is_some() {
                counters.drop(Dropped::Malformed, 1);
            }
            return self.rewind(input, payload.len(), foreign);
        }
        self.state = left
            .map_or(State::Video(None), |left| after(left, payload.len(), |left| State::Video(Some(left))));
        rest
    }

    fn audio<'a>(&mut self, input: &'a [u8], left: Option<usize>, counters: &mut Counters) -> &'a [u8] {
        let (payload, rest) = input.split_at(left.unwrap_or(input.len()).min(input.len()).min(STEP_BYTES));
        let end = if left.is_some() { End::Counted } else { End::Unstated };
        let foreign = self.audio.push(payload, end, counters);
        if foreign > 0 {
            self.end_audio(counters);
            return self.rewind(input, payload.len(), foreign);
        }
        match left {
            Some(left) if payload.len() == left => self.end_audio(counters),
            Some(left) => self.state = State::Audio(Some(left - payload.len())),
            None => self.state = State::Audio(None),
        }
        rest
    }

    fn end_audio(&mut self, counters: &mut Counters) {
        self.state = State::Head;
        let stated = match (&self.map, self.audio_id) {
            (Some(map), Some(id)) => map.stated(id),
            _ => Stated::Nothing,
        };
        let outputs = &mut self.outputs;
        self.audio.finish(stated, counters, |frame| outputs.push_back(Output::Frame(frame)));
    }

    /// Goes back to the start code of a unit that was found `foreign` bytes before the end of the first `taken`. Up to three of
    /// its bytes may be of an earlier input; they are known.
    fn rewind<'a>(&mut self, input: &'a [u8], taken: usize, foreign: usize) -> &'a [u8] {
        self.state = State::Head;
        let earlier = foreign.saturating_sub(taken).min(3);
        self.head.extend_from_slice(&[0, 0, 1][..earlier]);
        &input[taken.saturating_sub(foreign)..]
    }

    fn sign(&mut self, sign: Sign, counters: &mut Counters) {
        if self.is_between() {
            let unit = self.video.sign(sign);
            self.package(unit, counters);
        }
    }

    fn package(&mut self, unit: Option<AccessUnit>, counters: &mut Counters) {
        let Some(AccessUnit { codec, stamp, bytes }) = unit else { return };
        if self.packager.as_ref().map(Packager::codec) != Some(codec) {
            self.packager = None;
            self.begun = false;
        }
        let packager = self.packager.get_or_insert_with(|| Packager::new(codec));
        let packaged = packager.package(&bytes);
        if packaged.sets.is_err() {
            counters.drop(Dropped::Malformed, 1);
        }
        let (dts_ms, cts_ms) = stamp.to_ms();
        let codec = codec.of_frames();
        if let Some(payload) = packaged.config {
            let frame = Frame { codec, kind: Kind::Config, dts_ms, cts_ms: 0, payload };
            self.outputs.push_back(Output::Frame(frame));
        }
        let Some((kind, payload)) = packaged.picture else { return };
        self.begun |= kind == Kind::Key && packager.is_configured();
        if self.begun {
            self.outputs.push_back(Output::Frame(Frame { codec, kind, dts_ms, cts_ms, payload }));
        } else {
            counters.drop(Dropped::BeforeKey, 1);
        }
    }

    fn refuse(&mut self, name: &'static str) {
        if self.refused.insert(name) {
            self.outputs.push_back(Output::Refused(name));
        }
    }
}

/// The state with `left - taken` bytes of a unit to come.
fn after(left: usize, taken: usize, state: impl FnOnce(usize) -> State) -> State {
    match left.saturating_sub(taken) {
        0 => State::Head,
        left => state(left),
    }
}

fn begun(payload: Option<usize>, state: impl FnOnce(Option<usize>) -> State) -> State {
    match payload {
        Some(0) => State::Head,
        payload => state(payload),
    }
}
