//! The multiplexer: what a camera does (GB/T 28181 annex C), for the sender of tour and tests.

use crate::frame::Codec;

/// What a muxed program holds and how it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The codec of the pictures: `H264` or `H265`.
    pub video: Option<Codec>,
    /// The codec of the sound: `Aac`, `PcmA` or `PcmU`.
    pub audio: Option<Codec>,
    /// Before which packs of video a program stream map stands.
    pub map: MapPlace,
    /// Payload bytes of a PES packet of video at most; `None` states no length and makes one of each picture.
    pub pes_bytes: Option<u16>,
}

/// Where program stream maps stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapPlace {
    /// Before each key frame, and before each sound where there is no video.
    Keys,
    /// As `Keys`, but not before the first so many.
    KeysAfter(u32),
    /// Nowhere.
    Never,
}

/// One access unit for the muxer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// `H264` and `H265` as Annex B byte streams, `Aac` as ADTS, G.711 as it is.
    pub codec: Codec,
    /// A key frame.
    pub key: bool,
    /// Presentation time in 90 kHz; 33 bits of it are sent.
    pub pts: i64,
    /// Decoding time in 90 kHz; 33 bits of it are sent.
    pub dts: i64,
    /// The coded bytes.
    pub bytes: &'a [u8],
}

/// Makes packs.
#[derive(Clone, Debug)]
pub struct Muxer {
    program: Program,
    keys: u32,
}

const VIDEO_ID: u8 = 0xe0;
const AUDIO_ID: u8 = 0xc0;
/// What fits a PES packet whose head has both times: 65 535 less flags and times.
const PES_BYTES_MAX: usize = 65_535 - 3 - 10;

impl Muxer {
    /// A muxer at its beginning.
    pub fn new(program: Program) -> Muxer {
        Muxer { program, keys: 0 }
    }

    /// The pack that carries one access unit.
    pub fn pack(&mut self, unit: &Unit<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(unit.bytes.len() + 256);
        put_pack_header(&mut out, unit.dts);
        let is_video = unit.codec == Codec::H264 || unit.codec == Codec::H265;
        if unit.key && (is_video || self.program.video.is_none()) {
            self.put_maps(&mut out);
        }
        let id = if is_video { VIDEO_ID } else { AUDIO_ID };
        match self.program.pes_bytes {
            None if is_video => {
                put_pes(&mut out, id, Some((unit.pts, unit.dts)), unit.bytes, Length::Unstated)
            }
            pes_bytes => {
                let most = pes_bytes.map_or(PES_BYTES_MAX, usize::from).clamp(1, PES_BYTES_MAX);
                for (n, part) in unit.bytes.chunks(most).enumerate() {
                    let times = (n == 0).then_some((unit.pts, unit.dts));
                    put_pes(&mut out, id, times, part, Length::Stated);
                }
            }
        }
        out
    }

    fn put_maps(&mut self, out: &mut Vec<u8>) {
        self.keys += 1;
        put_system_header(out);
        let wanted = match self.program.map {
            MapPlace::Keys => true,
            MapPlace::KeysAfter(count) => self.keys > count,
            MapPlace::Never => false,
        };
        if wanted {
            put_map(out, &self.program);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Stated,
    Unstated,
}

/// pack_header(), §2.5.3.3: the SCR is the decoding time, the mux rate a constant.
fn put_pack_header(out: &mut Vec<u8>, scr: i64) {
    let scr = scr as u64 & 0x1_ffff_ffff;
    let bits = 0b01 << 46
        | (scr >> 30 & 7) << 43
        | 1 << 42
        | (scr >> 15 & 0x7fff) << 27
        | 1 << 26
        | (scr & 0x7fff) << 11
        | 1 << 10
        | 1;
    out.extend_from_slice(&[0, 0, 1, 0xba]);
    out.extend_from_slice(&bits.to_be_bytes()[2..]);
    let mux_rate: u32 = 50_000;
    out.extend_from_slice(&(mux_rate << 2 | 3).to_be_bytes()[1..]);
    out.push(0xf8);
}

/// system_header(), §2.5.3.5.
fn put_system_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 1, 0xbb, 0, 12, 0x80, 0xc3, 0x51, 0x04, 0xe1, 0x7f]);
    for id in [VIDEO_ID, AUDIO_ID] {
        out.extend_from_slice(&[id, 0xe0, 0x80]);
    }
}

/// program_stream_map(), §2.5.4.1.
fn put_map(out: &mut Vec<u8>, program: &Program) {
    let mut streams = Vec::new();
    for (codec, id) in [(program.video, VIDEO_ID), (program.audio, AUDIO_ID)] {
        if let Some(kind) = codec.and_then(stream_type) {
            streams.extend_from_slice(&[kind, id, 0, 0]);
        }
    }
    let begin = out.len();
    out.extend_from_slice(&[
        0,
        0,
        1,
        0xbc,
        0,
        (10 + streams.len()) as u8,
        0xe0,
        0xff,
        0,
        0,
        0,
        streams.len() as u8,
    ]);
    out.extend_from_slice(&streams);
    let crc = crc32(&out[begin..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

fn stream_type(codec: Codec) -> Option<u8> {
    match codec {
        Codec::H264 => Some(0x1b),
        Codec::H265 => Some(0x24),
        Codec::Aac => Some(0x0f),
        Codec::PcmA(_) => Some(0x90),
        Codec::PcmU(_) => Some(0x91),
        Codec::Mp3(_) | Codec::Script => None,
    }
}

/// PES_packet(), §2.4.3.6.
fn put_pes(out: &mut Vec<u8>, id: u8, times: Option<(i64, i64)>, payload: &[u8], length: Length) {
    out.extend_from_slice(&[0, 0, 1, id]);
    let mut fields = Vec::with_capacity(10);
    let flags = match times {
        None => 0x00,
        Some((pts, dts)) if pts == dts => {
            put_time(&mut fields, 2, pts);
            0x80
        }
        Some((pts, dts)) => {
            put_time(&mut fields, 3, pts);
            put_time(&mut fields, 1, dts);
            0xc0
        }
    };
    let bytes = match length {
        // At most 65 535: the payload is cut to fit.
        Length::Stated => (3 + fields.len() + payload.len()) as u16,
        Length::Unstated => 0,
    };
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(&[0x8c, flags, fields.len() as u8]);
    out.extend_from_slice(&fields);
    out.extend_from_slice(payload);
}

/// A PTS or DTS behind its four bits of prefix.
fn put_time(out: &mut Vec<u8>, prefix: u8, time: i64) {
    let time = time as u64;
    let part = |shift: u32| ((time >> shift) as u16 & 0x7fff) << 1 | 1;
    out.push((prefix << 4) | ((time >> 30 & 7) as u8 * 2) | 1);
    out.extend_from_slice(&part(15).to_be_bytes());
    out.extend_from_slice(&part(0).to_be_bytes());
}

/// CRC_32 of ISO/IEC 13818-1 annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}
