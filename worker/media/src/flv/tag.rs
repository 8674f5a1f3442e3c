//! FLV's file header and tags (Adobe FLV 10.1 annex E.2 to E.4.1), as HTTP-FLV sends them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::body_head;
use crate::frame::{Frame, Track};

/// Bytes before a tag's body.
const TAG_HEADER_BYTES: usize = 11;
/// PreviousTagSize, behind it.
const TRAILER_BYTES: usize = 4;
/// The file header with PreviousTagSize0.
const FILE_HEADER_BYTES: usize = 13;

/// The file header and PreviousTagSize0, saying which tracks are there and no others.
pub fn header(has_video: bool, has_audio: bool) -> Bytes {
    let flags = u8::from(has_audio) << 2 | u8::from(has_video);
    Bytes::copy_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0])
}

/// A frame as an FLV tag with the PreviousTagSize that follows it. `timestamp` is in milliseconds.
pub fn pack_tag(frame: &Frame, timestamp: u32) -> Bytes {
    let kind = match frame.codec.track() {
        Track::Audio => 8,
        Track::Video => 9,
        Track::Data => 18,
    };
    let timestamp = frame.codec.track().wire_timestamp(timestamp);
    let head = body_head(frame);
    let length = head.as_slice().len() + frame.payload.len();
    let mut out = BytesMut::with_capacity(TAG_HEADER_BYTES + length + TRAILER_BYTES);
    out.put_u8(kind);
    out.put_uint(length as u64, 3);
    out.put_uint((timestamp & 0xff_ffff).into(), 3);
    out.put_u8((timestamp >> 24) as u8);
    out.put_uint(0, 3);
    out.put_slice(head.as_slice());
    out.put_slice(&frame.payload);
    out.put_u32((TAG_HEADER_BYTES + length) as u32);
    out.freeze()
}

/// A tag as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script.
    pub kind: u8,
    /// In milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// For [`parse_audio`](super::parse_audio), [`parse_video`](super::parse_video) or [`sanitise`](super::sanitise).
    pub body: Bytes,
}

/// Takes the file header from the front: whether it announces video and audio. None until it has all come, or if it is none.
pub fn split_header(input: &mut Bytes) -> Option<(bool, bool)> {
    let header: [u8; FILE_HEADER_BYTES] = *input.first_chunk()?;
    if !header.starts_with(b"FLV") {
        return None;
    }
    input.advance(FILE_HEADER_BYTES);
    Some((header[4] & 1 != 0, header[4] & 4 != 0))
}

/// Takes the next tag with its PreviousTagSize from the front. None until all of it has come.
pub fn split_tag(input: &mut Bytes) -> Option<Tag> {
    let [kind, l0, l1, l2, t1, t2, t3, t0, _, _, _]: [u8; TAG_HEADER_BYTES] = *input.first_chunk()?;
    let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
    if input.len() < TAG_HEADER_BYTES + length + TRAILER_BYTES {
        return None;
    }
    input.advance(TAG_HEADER_BYTES);
    let body = input.split_to(length);
    input.advance(TRAILER_BYTES);
    // The two top bits of the type are filter flags (E.4.1).
    Some(Tag { kind: kind & 0x1f, timestamp: u32::from_be_bytes([t0, t1, t2, t3]), body })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Tag, header, pack_tag, split_header, split_tag};
    use crate::flv::hex::hex;
    use crate::frame::{Codec, Frame, Kind};

    #[test]
    fn the_header_says_which_tracks_are_there() {
        assert_eq!(header(true, true), hex("464c56 01 05 00000009 00000000"));
        for tracks in [(false, false), (true, false), (false, true), (true, true)] {
            assert_eq!(split_header(&mut header(tracks.0, tracks.1)), Some(tracks));
        }
        assert_eq!(split_header(&mut header(true, true).slice(..12)), None);
        assert_eq!(split_header(&mut Bytes::from_static(b"HTTP/1.1 404")), None);
        assert_eq!(split_header(&mut Bytes::from_static(b"HTTP/1.1 404 Not Found")), None);
    }

    #[test]
    fn a_tag_is_packed_with_its_size_behind_it_and_read_again() {
        let payload = Bytes::from_static(&[0x55, 0x66]);
        let frame = Frame { codec: Codec::Aac, kind: Kind::Key, dts_ms: 0, cts_ms: 0, payload };
        let packed = pack_tag(&frame, 0x1234_5678);
        assert_eq!(packed, hex("08 000004 345678 12 000000 af015566 0000000f"));
        for length in 0..packed.len() {
            assert_eq!(split_tag(&mut packed.slice(..length)), None, "{length} bytes are not a tag");
        }
        let mut input = packed;
        let body = Bytes::from(hex("af015566"));
        assert_eq!(split_tag(&mut input), Some(Tag { kind: 8, timestamp: 0x1234_5678, body }));
        assert!(input.is_empty());
    }
}
