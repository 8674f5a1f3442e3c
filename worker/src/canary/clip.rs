//! The media of a canary: one real picture of 16×16 and one sound a second, each picture with its number.
//!
//! Both were made by encoders (x264, baseline; FFmpeg's AAC-LC at 8 kHz, of silence), so that whatever looks into media finds what it
//! looks for. The number stands in an SEI message of user data, in digits: so it holds no start code.

use bytes::{BufMut, Bytes, BytesMut};
use media::frame::{Codec, Frame, Kind};

/// AVCDecoderConfigurationRecord.
const AVC_CONFIG: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0x00, 0x15, 0x67, 0x42, 0xc0, 0x0a, 0xdd, 0xec, 0x04, 0x40, 0x00,
    0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x03, 0x00, 0x83, 0xc4, 0x89, 0xe0, 0x01, 0x00, 0x05, 0x68, 0xce,
    0x0f, 0x2c, 0x80,
];
/// A black IDR picture.
const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x04, 0xbc, 0x98, 0xa0, 0x00, 0x38, 0xa3, 0x80];
/// Kind and payload type of the SEI message, and its length: a UUID and 16 digits.
const SEI_HEAD: &[u8] = &[0x06, 0x05, 0x20];
const SEI_UUID: &[u8; 16] = b"penstock canary\xa7";
const SEI_END: u8 = 0x80;
/// AudioSpecificConfig: AAC-LC, 8 kHz, mono.
const AAC_CONFIG: &[u8] = &[0x15, 0x88];
/// A frame of silence.
const SOUND: &[u8] = &[0x01, 0x18, 0x20, 0x07];

/// The configurations of both tracks.
pub(super) fn configs() -> [Frame; 2] {
    let config = |codec, payload: &'static [u8]| frame(codec, Kind::Config, 0, Bytes::from_static(payload));
    [config(Codec::H264, AVC_CONFIG), config(Codec::Aac, AAC_CONFIG)]
}

/// A picture with its number, and the sound beside it. The picture is first: it is what sends both on at once.
pub(super) fn frames(number: u64, dts_ms: i64) -> [Frame; 2] {
    let sei = SEI_HEAD.len() + SEI_UUID.len() + 16 + 1;
    let mut picture = BytesMut::with_capacity(4 + sei + 4 + IDR.len());
    picture.put_u32(sei as u32);
    picture.put_slice(SEI_HEAD);
    picture.put_slice(SEI_UUID);
    picture.put_slice(format!("{number:016}").as_bytes());
    picture.put_u8(SEI_END);
    picture.put_u32(IDR.len() as u32);
    picture.put_slice(IDR);
    [
        frame(Codec::H264, Kind::Key, dts_ms, picture.freeze()),
        frame(Codec::Aac, Kind::Key, dts_ms, Bytes::from_static(SOUND)),
    ]
}

fn frame(codec: Codec, kind: Kind, dts_ms: i64, payload: Bytes) -> Frame {
    Frame { codec, kind, dts_ms, cts_ms: 0, payload }
}
