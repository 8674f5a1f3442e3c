//! A frame as one RTMP message in chunks: made once, sent to each viewer.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::kind;
use crate::flv;
use crate::frame::{Frame, Track};

/// The chunk size that the server sets, once. Most pictures fit, and so do clients that count in 16 bits.
pub const CHUNK_SIZE: u32 = 60_000;

/// The message stream that a session gives out, so that one packed frame fits all viewers.
pub(super) const MESSAGE_STREAM: u32 = 1;

/// In the 24 bits of a timestamp: "see the extended timestamp".
const EXTENDED: u32 = 0xff_ffff;

/// Serialises a frame with `timestamp` on the wire: a whole message with a full header (format 0), chunks of [`CHUNK_SIZE`], message
/// stream 1. It leans on nothing sent before, so a viewer may begin at any of them.
pub fn pack(frame: &Frame, timestamp: u32) -> Bytes {
    let mut out = BytesMut::new();
    put_frame(&mut out, frame, timestamp, CHUNK_SIZE);
    out.freeze()
}

/// The same behind what `out` has, with another chunk size.
pub(super) fn put_frame(out: &mut BytesMut, frame: &Frame, timestamp: u32, chunk_size: u32) {
    let (chunk_stream, kind) = match frame.codec.track() {
        Track::Audio => (4, kind::AUDIO),
        Track::Data => (5, kind::DATA_AMF0),
        Track::Video => (6, kind::VIDEO),
    };
    let timestamp = frame.codec.track().wire_timestamp(timestamp);
    let header = Header { chunk_stream, kind, message_stream: MESSAGE_STREAM, timestamp };
    put_message(out, header, [flv::body_head(frame).as_slice(), &frame.payload], chunk_size);
}

/// What a message header says besides the length.
pub(super) struct Header {
    /// 2 to 63: the basic header is one byte.
    pub(super) chunk_stream: u8,
    /// Message type id.
    pub(super) kind: u8,
    /// Message stream id.
    pub(super) message_stream: u32,
    /// Absolute, in milliseconds.
    pub(super) timestamp: u32,
}

/// One message in chunks (RTMP 1.0 §5.3.1). The extended timestamp is repeated in each chunk, as ffmpeg, librtmp and GStreamer expect.
pub(super) fn put_message(out: &mut BytesMut, header: Header, parts: [&[u8]; 2], chunk_size: u32) {
    let Header { chunk_stream, kind, message_stream, timestamp } = header;
    let chunk_size = chunk_size as usize;
    let length = parts[0].len() + parts[1].len();
    let extended = timestamp >= EXTENDED;
    let continuation = if extended { 5 } else { 1 };
    out.reserve(12 + 4 + length + length / chunk_size * continuation);
    out.put_u8(chunk_stream);
    out.put_uint(timestamp.min(EXTENDED).into(), 3);
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u32_le(message_stream);
    if extended {
        out.put_u32(timestamp);
    }
    let mut room = chunk_size;
    for mut part in parts {
        while !part.is_empty() {
            if room == 0 {
                out.put_u8(0xc0 | chunk_stream);
                if extended {
                    out.put_u32(timestamp);
                }
                room = chunk_size;
            }
            let (taken, rest) = part.split_at(part.len().min(room));
            out.put_slice(taken);
            room -= taken.len();
            part = rest;
        }
    }
}

#[cfg(test)]
mod tests;
