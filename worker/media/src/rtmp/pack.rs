//! A frame as one RTMP message in chunks: made once, sent to each viewer.

use bytes::{BufMut, Bytes, BytesMut};

use crate::flv;
use crate::frame::{Frame, Track};

/// The chunk size that the server sets, once. Most pictures fit, and the 16 bits of some clients' counters hold it.
pub const CHUNK_SIZE: u32 = 60_000;

/// The message stream that a session gives out, so that one packed frame fits all viewers.
pub(super) const MESSAGE_STREAM: u32 = 1;

/// Serialises a frame with `timestamp` on the wire: a whole message with a full header (format 0), chunks of [`CHUNK_SIZE`], message
/// stream 1. It leans on nothing sent before, so a viewer may begin at any of them.
pub fn pack(frame: &Frame, timestamp: u32) -> Bytes {
    pack_media(frame, timestamp, CHUNK_SIZE)
}

/// The same with another chunk size: for the client.
pub(super) fn pack_media(frame: &Frame, timestamp: u32, chunk_size: u32) -> Bytes {
    let (chunk_stream, kind) = match frame.codec.track() {
        Track::Audio => (4, super::command::AUDIO),
        Track::Video => (6, super::command::VIDEO),
        Track::Data => (5, super::command::DATA_AMF0),
    };
    let head = flv::body_head(frame);
    pack_message(
        Header { chunk_stream, kind, message_stream: MESSAGE_STREAM, timestamp },
        [head.as_slice(), &frame.payload],
        chunk_size,
    )
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

/// One message in chunks (RTMP 1.0 §5.3.1). The extended timestamp is repeated in each chunk, as Adobe's own peers do it.
pub(super) fn pack_message(header: Header, parts: [&[u8]; 2], chunk_size: u32) -> Bytes {
    let chunk_size = chunk_size as usize;
    let length = parts[0].len() + parts[1].len();
    let chunks = length.div_ceil(chunk_size).max(1);
    let extended = header.timestamp >= 0xff_ffff;
    let continuation = if extended { 5 } else { 1 };
    let mut out = BytesMut::with_capacity(length + 12 + 4 + (chunks - 1) * continuation);
    out.put_u8(header.chunk_stream & 0x3f);
    out.put_uint(u64::from(header.timestamp.min(0xff_ffff)), 3);
    out.put_uint(length as u64, 3);
    out.put_u8(header.kind);
    out.put_u32_le(header.message_stream);
    if extended {
        out.put_u32(header.timestamp);
    }
    let mut room = chunk_size;
    for mut part in parts {
        while !part.is_empty() {
            if room == 0 {
                out.put_u8(0xc0 | header.chunk_stream & 0x3f);
                if extended {
                    out.put_u32(header.timestamp);
                }
                room = chunk_size;
            }
            let (now, later) = part.split_at(part.len().min(room));
            out.put_slice(now);
            room -= now.len();
            part = later;
        }
    }
    out.freeze()
}
