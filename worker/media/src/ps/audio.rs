//! Sound of a program stream: PES packets of ADTS or G.711 become frames.

use bytes::Bytes;

use super::g711::{self, Law};
use super::limits::SOUND_BYTES_MAX;
use super::map::Stated;
use super::{Stamp, unit};
use crate::dropped::{Counters, Dropped};
use crate::frame::{Codec, Frame, Kind, Sound};
use crate::h26x::start_code;

/// G.711 in GB/T 28181 is 8 kHz, one channel.
const G711: Sound = Sound { rate_hz: 8000, channels: 1 };
/// ADTS header without CRC (ISO/IEC 13818-7 §6.2).
const ADTS_BYTES: usize = 7;

/// Collects the PES packets of one audio stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Audio {
    /// The packet so far, behind what was left of the one before (a cut ADTS frame).
    bytes: Vec<u8>,
    /// Where the packet begins in `bytes`.
    begin: usize,
    stamp: Option<Stamp>,
    /// The packet is beyond the bound: the rest of it is only searched for its end.
    is_too_big: bool,
    form: Option<Form>,
    /// The time of the ADTS frame that `bytes` begin with, where it is cut.
    carried: Option<Stamp>,
    /// AudioSpecificConfig in force.
    config: Option<[u8; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Adts,
    G711(Law),
}

/// The head of an ADTS frame.
struct Adts {
    bytes: usize,
    head: usize,
    config: [u8; 2],
    rate_hz: u32,
    blocks: u8,
}

impl Audio {
    /// A PES packet begins.
    pub(super) fn begin(&mut self, stamp: Stamp) {
        self.begin = self.bytes.len();
        self.stamp = Some(stamp);
        self.is_too_big = false;
    }

    /// True between [`Audio::begin`] and [`Audio::finish`].
    pub(super) fn is_open(&self) -> bool {
        self.stamp.is_some()
    }

    /// Bytes of the packet. Where its length is unstated, a start code of the system layer ends it: the number of bytes at the
    /// end that are not the packet's is returned.
    pub(super) fn push(&mut self, bytes: &[u8], end: End, counters: &mut Counters) -> usize {
        let from = self.bytes.len().saturating_sub(3).max(self.begin);
        self.bytes.extend_from_slice(bytes);
        let foreign = match end {
            End::Counted => 0,
            End::Unstated => self.cut_at_unit(from),
        };
        self.keep_bounds(counters);
        foreign
    }

    /// Drops a packet that is too big, but for a cut start code at its end.
    fn keep_bounds(&mut self, counters: &mut Counters) {
        let packet = &self.bytes[self.begin..];
        let cut = (1..=3).rev().find(|&cut| packet.ends_with(&[0, 0, 1][..cut])).unwrap_or(0);
        let sure = packet.len() - cut;
        if sure > SOUND_BYTES_MAX && !self.is_too_big {
            counters.drop(Dropped::Overflow, 1);
            self.is_too_big = true;
        }
        if self.is_too_big {
            self.bytes.drain(..self.begin + sure);
            (self.begin, self.carried) = (0, None);
        }
    }

    fn cut_at_unit(&mut self, from: usize) -> usize {
        let mut at = from;
        while let Some(found) = start_code(&self.bytes, at) {
            if unit::is_start(&self.bytes[found..]) {
                let foreign = self.bytes.len() - found;
                self.bytes.truncate(found);
                return foreign;
            }
            at = found + 1;
        }
        0
    }

    /// A part of the packet is missing: it is dropped. The codec stays.
    pub(super) fn damage(&mut self) {
        self.bytes.clear();
        self.begin = 0;
        self.stamp = None;
        self.is_too_big = false;
        self.carried = None;
    }

    /// The PES packet is whole.
    pub(super) fn finish(&mut self, stated: Stated, counters: &mut Counters, mut emit: impl FnMut(Frame)) {
        let Some(stamp) = self.stamp.take() else { return };
        if self.is_too_big {
            return self.damage();
        }
        let fresh = &self.bytes[self.begin..];
        let form = match (self.form, stated) {
            // An ADTS chain is no accident, whatever the map says.
            _ if is_adts_chain(fresh) => Form::Adts,
            (Some(Form::Adts), Stated::Nothing | Stated::Aac) | (None, Stated::Aac) => Form::Adts,
            (_, Stated::PcmA) => Form::G711(Law::A),
            (_, Stated::PcmU) => Form::G711(Law::Mu),
            (Some(Form::G711(law)), _) => Form::G711(law),
            (None | Some(Form::Adts), _) => Form::G711(g711::guess(fresh)),
        };
        if self.form != Some(form) {
            self.bytes.drain(..self.begin);
            self.begin = 0;
            self.carried = None;
            self.form = Some(form);
        }
        match form {
            Form::Adts => self.adts(stamp, counters, emit),
            Form::G711(law) => {
                let payload = Bytes::from(std::mem::take(&mut self.bytes));
                self.begin = 0;
                let codec = match law {
                    Law::A => Codec::PcmA(G711),
                    Law::Mu => Codec::PcmU(G711),
                };
                if !payload.is_empty() {
                    emit(frame(codec, Kind::Key, stamp, payload));
                }
            }
        }
    }

    /// Hands out the whole ADTS frames and keeps the cut one at the end.
    fn adts(&mut self, stamp: Stamp, counters: &mut Counters, mut emit: impl FnMut(Frame)) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut at = 0;
        // The PES packet's time is that of the first frame that begins in it.
        let mut time = if self.begin > 0 { self.carried.unwrap_or(stamp) } else { stamp };
        let mut began = self.begin == 0;
        while let Some(head) = bytes.get(at..at + ADTS_BYTES) {
            let Some(adts) = Adts::parse(head) else {
                counters.drop(Dropped::Noise, 1);
                at += 1;
                continue;
            };
            if !began && at >= self.begin {
                (time, began) = (stamp, true);
            }
            let Some(whole) = bytes.get(at..at + adts.bytes) else { break };
            at += adts.bytes;
            if adts.blocks > 1 {
                counters.drop(Dropped::Malformed, 1);
            } else {
                if self.config != Some(adts.config) {
                    self.config = Some(adts.config);
                    emit(frame(Codec::Aac, Kind::Config, time, Bytes::copy_from_slice(&adts.config)));
                }
                emit(frame(Codec::Aac, Kind::Key, time, Bytes::copy_from_slice(&whole[adts.head..])));
            }
            let step = i64::from(adts.blocks) * 1024 * 90_000 / i64::from(adts.rate_hz);
            time = Stamp { pts: time.pts.wrapping_add(step), dts: time.dts.wrapping_add(step) };
        }
        if !began && at >= self.begin {
            time = stamp;
        }
        self.carried = Some(time);
        // Less than one ADTS frame, which is at most 8191 bytes.
        self.bytes = bytes[at..].to_vec();
    }
}

/// How the end of a PES packet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By its length.
    Counted,
    /// By the next unit.
    Unstated,
}

impl Adts {
    /// Reads the 7 bytes of a header.
    fn parse(head: &[u8]) -> Option<Adts> {
        // Sample rates by sampling_frequency_index (ISO/IEC 14496-3 table 1.18).
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
            7_350,
        ];
        let &[sync, b, c, d, e, f, g] = head.first_chunk::<7>()?;
        // syncword, layer 0.
        if sync != 0xff || b & 0xf6 != 0xf0 {
            return None;
        }
        let rate = c >> 2 & 0x0f;
        let rate_hz = *RATES.get(usize::from(rate))?;
        let channels = (c & 1) << 2 | d >> 6;
        let bytes = usize::from(d & 3) << 11 | usize::from(e) << 3 | usize::from(f >> 5);
        let head = if b & 1 == 1 { ADTS_BYTES } else { ADTS_BYTES + 2 };
        if bytes <= head {
            return None;
        }
        // AudioSpecificConfig: object type (5), rate (4), channels (4), three flags of 0.
        let object = (c >> 6) + 1;
        let config = [object << 3 | rate >> 1, rate << 7 | channels << 3];
        Some(Adts { bytes, head, config, rate_hz, blocks: (g & 3) + 1 })
    }
}

/// True where the bytes are one ADTS frame behind another from the first to the last byte, or two and a cut one.
fn is_adts_chain(mut bytes: &[u8]) -> bool {
    let mut whole = 0;
    while let Some(adts) = Adts::parse(bytes) {
        let Some(rest) = bytes.get(adts.bytes..) else { return whole >= 2 };
        whole += 1;
        if rest.is_empty() {
            return true;
        }
        bytes = rest;
    }
    whole >= 2
}

fn frame(codec: Codec, kind: Kind, stamp: Stamp, payload: Bytes) -> Frame {
    let (dts_ms, _) = stamp.to_ms();
    Frame { codec, kind, dts_ms, cts_ms: 0, payload }
}
