//! A stream without a coder: valid in its framing, of a constant rate, each picture with the moment it was sent.
//!
//! 30 pictures and 43 sounds a second, a key frame each 2 s: 1.9 Mbit/s of pictures, 96 kbit/s of sound, as in the
//! figures that peers were measured with.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use media::frame::{Codec, Frame, Kind};

use crate::nal::Media;

/// Pictures a second.
pub const PICTURES: u64 = 30;
const GOP: u64 = 60;
const KEY_BYTES: usize = 60_000;
const INTER_BYTES: usize = 7_033;
const SOUND_BYTES: usize = 279;
/// Found at the start of each picture, before the moment in nanoseconds.
const MARK: &[u8; 8] = b"\xf3penstk\xf3";

/// 1280×720, baseline, made by x264.
const AVC_CONFIG: &[u8] = &[
    0x01, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb,
    0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x24, 0x80, 0x01,
    0x00, 0x05, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];
/// AAC-LC, 44.1 kHz, stereo.
const AAC_CONFIG: &[u8] = &[0x12, 0x10];

/// Makes the frames one after the other.
#[derive(Default)]
pub struct Synthetic {
    pictures: u64,
    sounds: u64,
}

/// The configurations of both tracks.
pub fn configs() -> [Frame; 2] {
    let config = |codec, payload: &'static [u8]| Frame {
        codec,
        kind: Kind::Config,
        dts_ms: 0,
        cts_ms: 0,
        payload: Bytes::from_static(payload),
    };
    [config(Codec::H264, AVC_CONFIG), config(Codec::Aac, AAC_CONFIG)]
}

impl Synthetic {
    /// When the next frame is due, on the stream's clock.
    pub fn due(&self) -> Duration {
        self.picture_due().min(self.sound_due())
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Frame {
        let due = self.due();
        let dts_ms = i64::try_from(due.as_millis()).expect("a run is short");
        if self.sound_due() < self.picture_due() {
            self.sounds += 1;
            let payload = Bytes::from(vec![0x55; SOUND_BYTES]);
            return Frame { codec: Codec::Aac, kind: Kind::Key, dts_ms, cts_ms: 0, payload };
        }
        let key = self.pictures.is_multiple_of(GOP);
        self.pictures += 1;
        let size = if key { KEY_BYTES } else { INTER_BYTES };
        let mut payload = BytesMut::with_capacity(size);
        payload.put_u32(u32::try_from(size - 4).expect("a picture is small"));
        payload.put_u8(if key { 0x65 } else { 0x41 });
        payload.put_slice(MARK);
        payload.put_u64(now_nanos());
        payload.resize(size, 0x55);
        let kind = if key { Kind::Key } else { Kind::Inter };
        Frame { codec: Codec::H264, kind, dts_ms, cts_ms: 0, payload: payload.freeze() }
    }

    fn picture_due(&self) -> Duration {
        Duration::from_nanos(self.pictures * 1_000_000_000 / PICTURES)
    }

    fn sound_due(&self) -> Duration {
        Duration::from_nanos(self.sounds * 1024 * 1_000_000_000 / 44_100)
    }
}

/// Whether what came of a synthetic stream has neither a gap nor a step of its clock in it, wherever it begins and ends.
pub fn gapless(media: &Media) -> Result<(), String> {
    for (what, units, step) in [("picture", &media.video, 33..=34), ("sound", &media.audio, 23..=24)] {
        for two in units.windows(2) {
            let (before, next) = (two[0].dts_ms, two[1].dts_ms);
            if !step.contains(&(next - before)) {
                return Err(format!("the {what} behind {before} ms is at {next}"));
            }
        }
    }
    Ok(())
}

/// How long ago the picture in these bytes was made; none where there is no mark in their first bytes.
pub fn age(bytes: &[u8]) -> Option<Duration> {
    let head = &bytes[..bytes.len().min(64)];
    let at = head.windows(MARK.len()).position(|window| window == MARK)?;
    let nanos = head.get(at + 8..at + 16)?;
    let made = u64::from_be_bytes(nanos.try_into().expect("eight bytes were taken"));
    Some(Duration::from_nanos(now_nanos().saturating_sub(made)))
}

/// The clock of the machine, the same in all processes.
fn now_nanos() -> u64 {
    // Instant has no number of its own: its distance to the first look, plus that look's wall clock.
    static FIRST: OnceLock<(Instant, u64)> = OnceLock::new();
    let (instant, wall) = FIRST.get_or_init(|| {
        let wall = std::time::UNIX_EPOCH.elapsed().expect("the wall clock is past 1970");
        (Instant::now(), wall.as_nanos() as u64)
    });
    wall + instant.elapsed().as_nanos() as u64
}
