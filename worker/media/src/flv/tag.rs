//! FLV's file header and tags, as HTTP-FLV sends them.

use bytes::{BufMut, Bytes, BytesMut};

use super::body_head;
use crate::frame::{Frame, Track};

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
    let head = body_head(frame);
    let length = head.as_slice().len() + frame.payload.len();
    let mut out = BytesMut::with_capacity(11 + length + 4);
    out.put_u8(kind);
    out.put_uint(length as u64 & 0xff_ffff, 3);
    out.put_uint(u64::from(timestamp & 0xff_ffff), 3);
    out.put_u8((timestamp >> 24) as u8);
    out.put_uint(0, 3);
    out.put_slice(head.as_slice());
    out.put_slice(&frame.payload);
    out.put_u32(length as u32 + 11);
    out.freeze()
}
