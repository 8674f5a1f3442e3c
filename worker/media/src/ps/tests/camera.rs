//! A camera that is made of numbers: seeded access units, and the frames that must come of them.

use bytes::Bytes;

use crate::frame::{Codec, Frame, Kind, Sound};
use crate::ps::{MapPlace, Muxer, Program, Unit};

pub(crate) const G711: Sound = Sound { rate_hz: 8000, channels: 1 };

/// SPS and PPS of x264 at 320 × 240, and the record that ffmpeg makes of them.
pub(crate) const H264_SETS: [&str; 2] =
    ["6764000dacd94141fb011000000300100000030320f1429960", "68ebe3cb22c0"];
pub(crate) const H264_RECORD: &str = "0164000dffe100196764000dacd94141fb011000000300100000030320f14299\
    6001000668ebe3cb22c0fdf8f800";
/// VPS, SPS and PPS of x265 at 320 × 240, and the record that ffmpeg makes of them, with its arrays called complete.
pub(crate) const H265_SETS: [&str; 3] = [
    "40010c01ffff01600000030090000003000003003c959809",
    "42010101600000030090000003000003003ca00a080f165959a4932bc05a020000030002000003003210",
    "4401c172b46240",
];
pub(crate) const H265_RECORD: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01\
    ffff01600000030090000003000003003c959809a10001002a42010101600000030090000003000003003ca00a080f165959a4932bc05a\
    020000030002000003003210a2000100074401c172b46240";

/// A linear congruential generator (Knuth's constants): the seed is all of its state.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// The items in an order in which each is at most `by` places from its own.
    pub(crate) fn mix<T>(&mut self, items: Vec<T>, by: usize) -> Vec<T> {
        let mut keyed: Vec<(usize, T)> =
            items.into_iter().enumerate().map(|(n, item)| (n + self.below(by + 1), item)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, item)| item).collect()
    }
}

/// What the camera films.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) video: Option<Codec>,
    pub(crate) audio: Option<Codec>,
    pub(crate) pictures: usize,
    pub(crate) slices: usize,
    pub(crate) b_frames: bool,
    pub(crate) key_bytes: usize,
    pub(crate) inter_bytes: usize,
    /// First decoding time in 90 kHz.
    pub(crate) start: i64,
    pub(crate) map: MapPlace,
    pub(crate) pes_bytes: Option<u16>,
    pub(crate) seed: u64,
}

impl Scene {
    pub(crate) const PLAIN: Scene = Scene {
        video: Some(Codec::H264),
        audio: Some(Codec::PcmA(G711)),
        pictures: 30,
        slices: 1,
        b_frames: false,
        key_bytes: 9000,
        inter_bytes: 1800,
        start: 0,
        map: MapPlace::Keys,
        pes_bytes: Some(65_000),
        seed: 1,
    };

    pub(crate) fn program(&self) -> Program {
        Program { video: self.video, audio: self.audio, map: self.map, pes_bytes: self.pes_bytes }
    }

    /// The access units in the order of decoding.
    pub(crate) fn shoot(&self) -> Vec<Shot> {
        let mut random = Random(self.seed);
        let mut shots = Vec::new();
        for n in 0..self.pictures {
            let dts = self.start + 3600 * n as i64;
            if let Some(codec) = self.video {
                shots.push(self.picture(codec, n, dts, &mut random));
            }
            if let Some(codec) = self.audio {
                shots.push(sound(codec, dts + 900, &mut random));
            }
        }
        shots
    }

    fn picture(&self, codec: Codec, n: usize, dts: i64, random: &mut Random) -> Shot {
        let key = n.is_multiple_of(10);
        let is_b = self.b_frames && !key && n % 3 != 1;
        let pts = if self.b_frames && !is_b { dts + 3 * 3600 } else { dts };
        let mut bytes = Vec::new();
        let mut payload = Vec::new();
        if key {
            let sets: &[&str] = if codec == Codec::H264 { &H264_SETS } else { &H265_SETS };
            for set in sets {
                put_nal(&mut bytes, &unhex(set));
            }
        }
        let size = if key { self.key_bytes } else { self.inter_bytes };
        for slice in 0..self.slices {
            let nal = slice_nal(codec, key, slice == 0, size / self.slices, random);
            put_nal(&mut bytes, &nal);
            payload.extend_from_slice(&(nal.len() as u32).to_be_bytes());
            payload.extend_from_slice(&nal);
        }
        let kind = if key { Kind::Key } else { Kind::Inter };
        Shot { codec, key, pts, dts, bytes, frame: frame(codec, kind, dts, pts, payload) }
    }
}

/// An access unit, and the frame that must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) codec: Codec,
    pub(crate) key: bool,
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frame: Frame,
}

impl Shot {
    pub(crate) fn unit(&self) -> Unit<'_> {
        Unit { codec: self.codec, key: self.key, pts: self.pts, dts: self.dts, bytes: &self.bytes }
    }
}

/// One pack per access unit, with its decoding time.
pub(crate) fn packs(scene: &Scene, shots: &[Shot]) -> Vec<(i64, Vec<u8>)> {
    let mut muxer = Muxer::new(scene.program());
    shots.iter().map(|shot| (shot.dts, muxer.pack(&shot.unit()))).collect()
}

/// The frames that must come of these access units: configurations first.
pub(crate) fn expected<'a>(shots: impl IntoIterator<Item = &'a Shot>) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for shot in shots {
        let is_first = !frames.iter().any(|frame| frame.codec == shot.codec);
        let record = match shot.codec {
            Codec::H264 => Some(unhex(H264_RECORD)),
            Codec::H265 => Some(unhex(H265_RECORD)),
            Codec::Aac => Some(vec![0x12, 0x10]),
            Codec::Mp3(_) | Codec::PcmA(_) | Codec::PcmU(_) | Codec::Script => None,
        };
        if let Some(record) = record.filter(|_| is_first) {
            frames.push(frame(shot.codec, Kind::Config, shot.dts, shot.dts, record));
        }
        frames.push(shot.frame.clone());
    }
    frames
}

/// The same, by track: two tracks have no order between each other.
pub(crate) fn by_track(frames: impl IntoIterator<Item = Frame>) -> [Vec<Frame>; 2] {
    let mut tracks = [Vec::new(), Vec::new()];
    for frame in frames {
        let is_audio = frame.codec.track() == crate::frame::Track::Audio;
        tracks[usize::from(is_audio)].push(frame);
    }
    tracks
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn put_nal(bytes: &mut Vec<u8>, nal: &[u8]) {
    bytes.extend_from_slice(&[0, 0, 0, 1]);
    bytes.extend_from_slice(nal);
}

fn slice_nal(codec: Codec, key: bool, first: bool, size: usize, random: &mut Random) -> Vec<u8> {
    let mut nal = match (codec, key) {
        (Codec::H264, true) => vec![0x65],
        (Codec::H264, false) => vec![0x41],
        (_, true) => vec![0x26, 0x01],
        (_, false) => vec![0x02, 0x01],
    };
    // first_mb_in_slice 0, or first_slice_segment_in_pic_flag.
    nal.push(if first { 0x88 } else { 0x48 });
    // No zeros: a byte stream has start codes and emulation prevention where an encoder puts them.
    nal.extend(random.bytes(size.max(8)).into_iter().map(|byte| byte | 1));
    nal
}

fn sound(codec: Codec, dts: i64, random: &mut Random) -> Shot {
    let (bytes, payload) = if codec == Codec::Aac {
        let raw = random.bytes(180);
        let length = raw.len() + 7;
        // AAC LC, 44.1 kHz, two channels, no CRC.
        let mut adts = vec![0xff, 0xf1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8];
        adts.extend_from_slice(&[(length << 5) as u8 | 0x1f, 0xfc]);
        adts.extend_from_slice(&raw);
        (adts, raw)
    } else {
        // A soft noise: the smallest values of A-law, or of µ-law.
        let middle = if codec == Codec::PcmA(G711) { 0xd5 } else { 0xff };
        let samples: Vec<u8> = (0..320).map(|_| middle ^ (random.next() as u8 & 0x83)).collect();
        (samples.clone(), samples)
    };
    Shot { codec, key: true, pts: dts, dts, bytes, frame: frame(codec, Kind::Key, dts, dts, payload) }
}

fn frame(codec: Codec, kind: Kind, dts: i64, pts: i64, payload: Vec<u8>) -> Frame {
    let ms = |time: i64| (time + 45).div_euclid(90);
    Frame { codec, kind, dts_ms: ms(dts), cts_ms: (ms(pts) - ms(dts)) as i32, payload: Bytes::from(payload) }
}
