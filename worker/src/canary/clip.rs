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
const DIGITS: usize = 16;
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
    [
        frame(Codec::H264, Kind::Key, dts_ms, picture(number)),
        frame(Codec::Aac, Kind::Key, dts_ms, Bytes::from_static(SOUND)),
    ]
}

/// Whether these bytes hold a picture of this number or a later one, whole and as it was sent.
pub(super) fn is_in(bytes: &[u8], since: u64) -> bool {
    last_number(bytes).filter(|&number| number >= since).is_some_and(|number| {
        let picture = picture(number);
        bytes.windows(picture.len()).any(|window| window == picture)
    })
}

/// The number of the last picture in these bytes, whatever frames are around it. The message lies in one piece.
fn last_number(bytes: &[u8]) -> Option<u64> {
    let message = |at: usize| bytes[at..].strip_prefix(SEI_UUID)?.first_chunk::<DIGITS>();
    let digits = (0..bytes.len()).rev().find_map(message)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn picture(number: u64) -> Bytes {
    let sei = SEI_HEAD.len() + SEI_UUID.len() + DIGITS + 1;
    let mut picture = BytesMut::with_capacity(4 + sei + 4 + IDR.len());
    picture.put_u32(sei as u32);
    picture.put_slice(SEI_HEAD);
    picture.put_slice(SEI_UUID);
    picture.put_slice(format!("{number:016}").as_bytes());
    picture.put_u8(SEI_END);
    picture.put_u32(IDR.len() as u32);
    picture.put_slice(IDR);
    picture.freeze()
}

fn frame(codec: Codec, kind: Kind, dts_ms: i64, payload: Bytes) -> Frame {
    Frame { codec, kind, dts_ms, cts_ms: 0, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_seen_among_other_bytes_once_it_is_whole() {
        let [seven, sound] = frames(7, 0).map(|frame| frame.payload);
        let [eight, _] = frames(8, 0).map(|frame| frame.payload);
        let first = [b"FLV", &seven[..], &sound].concat();
        assert!(is_in(&first, 7) && is_in(&first, 6) && !is_in(&first, 8));
        let both = [&first[..], &eight].concat();
        assert!(is_in(&both, 8) && is_in(&both, 7));
        assert!(!is_in(&both[..both.len() - 1], 8));
        let mut changed = eight.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert!(!is_in(&changed, 8));
        assert!(!is_in(&sound, 0) && !is_in(b"", 0));
    }
}
