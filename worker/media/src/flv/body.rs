//! A frame as the body of an RTMP message or FLV tag.

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{Codec, Frame, Kind, Sound};

/// The bytes that stand before a frame's payload in a body: at most 8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    bytes: [u8; 8],
    length: usize,
}

impl Head {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn of(parts: &[&[u8]]) -> Head {
        let mut head = Head::default();
        for part in parts {
            head.bytes[head.length..head.length + part.len()].copy_from_slice(part);
            head.length += part.len();
        }
        head
    }
}

/// The whole body: [`body_head`] and the payload.
pub fn body(frame: &Frame) -> Bytes {
    let head = body_head(frame);
    let mut out = BytesMut::with_capacity(head.length + frame.payload.len());
    out.put_slice(head.as_slice());
    out.put_slice(&frame.payload);
    out.freeze()
}

/// What the body of a frame begins with (Adobe FLV 10.1 annex E.4.2, E.4.3; Enhanced RTMP v2).
pub fn body_head(frame: &Frame) -> Head {
    let key = match frame.kind {
        Kind::Config | Kind::Key => 1,
        Kind::Inter => 2,
    };
    match frame.codec {
        Codec::H264 => {
            let packet = match frame.kind {
                Kind::Config => 0,
                Kind::Key | Kind::Inter => 1,
            };
            Head::of(&[&[key << 4 | 7, packet], &composition(frame)])
        }
        Codec::H265 => match frame.kind {
            Kind::Config => Head::of(&[&[0x80 | key << 4], b"hvc1"]),
            // CodedFramesX leaves out a composition time of 0, CodedFrames has one.
            Kind::Key | Kind::Inter if frame.cts_ms == 0 => Head::of(&[&[0x80 | key << 4 | 3], b"hvc1"]),
            Kind::Key | Kind::Inter => Head::of(&[&[0x80 | key << 4 | 1], b"hvc1", &composition(frame)]),
        },
        // FLV says of AAC: always "44 kHz, 16 bit, stereo"; the AudioSpecificConfig tells the truth.
        Codec::Aac => match frame.kind {
            Kind::Config => Head::of(&[&[0xaf, 0]]),
            Kind::Key | Kind::Inter => Head::of(&[&[0xaf, 1]]),
        },
        // Format 14 is MP3 of 8 kHz, which the two bits of the rate can't say.
        Codec::Mp3(sound) if sound.rate_hz == 8_000 => Head::of(&[&[sound_byte(14, sound)]]),
        Codec::Mp3(sound) => Head::of(&[&[sound_byte(2, sound)]]),
        Codec::PcmA(sound) => Head::of(&[&[sound_byte(7, sound)]]),
        Codec::PcmU(sound) => Head::of(&[&[sound_byte(8, sound)]]),
        Codec::Script => Head::default(),
    }
}

/// SI24, clamped to what it holds: 2.3 hours either way.
fn composition(frame: &Frame) -> [u8; 3] {
    let cts = match frame.kind {
        Kind::Config => 0,
        Kind::Key | Kind::Inter => frame.cts_ms.clamp(-0x80_0000, 0x7f_ffff),
    };
    let [_, bytes @ ..] = cts.to_be_bytes();
    bytes
}

/// SoundFormat, SoundRate, SoundSize (always 16 bit: compressed) and SoundType in one byte.
fn sound_byte(format: u8, sound: Sound) -> u8 {
    let rate = match sound.rate_hz {
        0..=8_000 => 0,
        8_001..=16_000 => 1,
        16_001..=32_000 => 2,
        _ => 3,
    };
    format << 4 | rate << 2 | 2 | u8::from(sound.channels > 1)
}
