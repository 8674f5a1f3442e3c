//! Chunks back into messages (RTMP 1.0 §5.3), whatever the peer interleaves and wherever a read ends.

use bytes::{Buf, Bytes, BytesMut};

use super::Error;
use super::limits::{
    CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, CHUNK_STREAMS_MAX, COMMAND_BYTES_MAX, COMMAND_PARTIAL_BYTES_MAX,
    MESSAGE_BYTES_MAX, PARTIAL_BYTES_MAX, VIEWER_CHUNK_STREAMS_MAX,
};

/// Basic header of 3 bytes, message header of 11, extended timestamp of 4.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;

/// In the 24 bits of a timestamp: "see the extended timestamp".
const EXTENDED: u32 = 0xff_ffff;

/// A buffer grows by this at least, and by no more than doubling: what is held is never far from what came.
const GROWTH_BYTES: usize = 4 * 1024;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chunk stream that it came on.
    pub chunk_stream: u32,
    /// Message type id.
    pub kind: u8,
    /// Message stream id.
    pub message_stream: u32,
    /// Absolute, in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Its body.
    pub payload: Bytes,
}

/// What a reader may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of one message.
    pub message_bytes: usize,
    /// Of all half-received messages.
    pub partial_bytes: usize,
    /// Chunk streams in use.
    pub chunk_streams: usize,
}

impl Bounds {
    /// Before publish or play.
    pub const COMMANDS: Bounds = Bounds {
        message_bytes: COMMAND_BYTES_MAX,
        partial_bytes: COMMAND_PARTIAL_BYTES_MAX,
        chunk_streams: CHUNK_STREAMS_MAX,
    };
    /// From a player.
    pub const VIEWER: Bounds = Bounds { chunk_streams: VIEWER_CHUNK_STREAMS_MAX, ..Bounds::COMMANDS };
    /// From a publisher.
    pub const MEDIA: Bounds = Bounds {
        message_bytes: MESSAGE_BYTES_MAX,
        partial_bytes: PARTIAL_BYTES_MAX,
        chunk_streams: CHUNK_STREAMS_MAX,
    };
}

/// Puts one direction's chunks together.
#[derive(Debug)]
pub struct Reader {
    bounds: Bounds,
    chunk_size: usize,
    /// The first bytes of a header of which the rest has not come.
    carry: Carry,
    streams: Vec<Stream>,
    /// The chunk that is being read: index into `streams` and bytes still missing.
    current: Option<(usize, usize)>,
    /// Set when a peer was seen to leave the extended timestamp out of its format 3 headers.
    omits_extended: bool,
}

/// One chunk stream: the last header, and the message it has begun.
#[derive(Debug)]
struct Stream {
    id: u32,
    timestamp: u32,
    /// The last header's timestamp field: absolute for format 0, else a step.
    field: u32,
    extended: bool,
    length: usize,
    kind: u8,
    message_stream: u32,
    /// Bytes of the message so far; None between messages.
    partial: Option<BytesMut>,
}

/// A chunk header, read but not yet applied.
struct Header {
    format: u8,
    id: u32,
    timestamp: u32,
    length: usize,
    kind: u8,
    message_stream: u32,
    extended: bool,
    /// Format 3 without the extended timestamp that the standard asks for.
    omits_extended: bool,
    bytes: usize,
}

impl Reader {
    /// A reader with the chunk size that each connection begins with, 128.
    pub fn new(bounds: Bounds) -> Self {
        Reader {
            bounds,
            chunk_size: 128,
            carry: Carry::default(),
            streams: Vec::new(),
            current: None,
            omits_extended: false,
        }
    }

    /// What the peer may send from now on. What is already held stays held.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.streams.shrink_to_fit();
    }

    /// Applies the peer's Set Chunk Size (§5.4.1).
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if !(CHUNK_SIZE_MIN..=0x7fff_ffff).contains(&size) {
            return Err(Error::ChunkSize { size });
        }
        self.chunk_size = size.min(CHUNK_SIZE_MAX) as usize;
        Ok(())
    }

    /// Applies the peer's Abort (§5.4.2): drops what has come of a message.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == chunk_stream) {
            stream.partial = None;
        }
    }

    /// Bytes that half-received messages hold.
    pub fn held(&self) -> usize {
        self.streams.iter().filter_map(|stream| stream.partial.as_ref()).map(BytesMut::capacity).sum()
    }

    /// Takes bytes from the front of `input` up to the end of the next message. None when all is taken and more is needed.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Message>, Error> {
        loop {
            let (index, missing) = match self.current {
                Some(current) => current,
                None => match self.read_header(input)? {
                    Some(current) => current,
                    None => return Ok(None),
                },
            };
            if let Some(payload) = self.whole_message(index, missing, input) {
                self.current = None;
                return Ok(Some(self.message(index, payload)));
            }
            let available = self.carry.length + input.len();
            let taken = available.min(missing);
            self.append(index, taken, input)?;
            if taken < missing {
                self.current = Some((index, missing - taken));
                return Ok(None);
            }
            self.current = None;
            let stream = &mut self.streams[index];
            if stream.partial.as_ref().is_some_and(|partial| partial.len() == stream.length) {
                let payload = stream.partial.take().unwrap_or_default().freeze();
                return Ok(Some(self.message(index, payload)));
            }
        }
    }

    /// The message without a copy, where all of it lies in `input`.
    fn whole_message(&mut self, index: usize, missing: usize, input: &mut Bytes) -> Option<Bytes> {
        let stream = &mut self.streams[index];
        let untouched = stream.partial.as_ref().is_some_and(BytesMut::is_empty);
        if untouched && missing == stream.length && self.carry.length == 0 && input.len() >= missing {
            stream.partial = None;
            return Some(input.split_to(missing));
        }
        None
    }

    fn append(&mut self, index: usize, bytes: usize, input: &mut Bytes) -> Result<(), Error> {
        let held = self.held();
        let stream = &mut self.streams[index];
        let partial = stream.partial.get_or_insert_default();
        let needed = partial.len() + bytes;
        if needed > partial.capacity() {
            let grown = needed.max(2 * partial.capacity()).max(GROWTH_BYTES).min(stream.length);
            let held = held + grown - partial.capacity();
            if held > self.bounds.partial_bytes {
                return Err(Error::PartialMessages { held, max: self.bounds.partial_bytes });
            }
            // `reserve` would take twice what is asked for.
            let mut larger = BytesMut::with_capacity(grown);
            larger.extend_from_slice(partial);
            *partial = larger;
        }
        let from_carry = self.carry.length.min(bytes);
        partial.extend_from_slice(self.carry.take(from_carry).as_slice());
        partial.extend_from_slice(&input.split_to(bytes - from_carry));
        Ok(())
    }

    fn message(&self, index: usize, payload: Bytes) -> Message {
        let stream = &self.streams[index];
        Message {
            chunk_stream: stream.id,
            kind: stream.kind,
            message_stream: stream.message_stream,
            timestamp: stream.timestamp,
            payload,
        }
    }

    /// Reads the next chunk's header. None when it has not all come.
    fn read_header(&mut self, input: &mut Bytes) -> Result<Option<(usize, usize)>, Error> {
        let (view, length) = self.carry.view(input);
        let Some(header) = self.parse_header(&view[..length])? else {
            self.carry.fill(input);
            return Ok(None);
        };
        let from_carry = self.carry.length.min(header.bytes);
        self.carry.take(from_carry);
        input.advance(header.bytes - from_carry);
        let index = self.apply(header)?;
        let stream = &self.streams[index];
        let begun = stream.partial.as_ref().map_or(0, BytesMut::len);
        Ok(Some((index, (stream.length - begun).min(self.chunk_size))))
    }

    fn parse_header(&self, view: &[u8]) -> Result<Option<Header>, Error> {
        let mut rest = Cursor(view);
        let Some([first]) = rest.take() else { return Ok(None) };
        let format = first >> 6;
        let id = match first & 0x3f {
            0 => match rest.take() {
                Some([low]) => 64 + u32::from(low),
                None => return Ok(None),
            },
            1 => match rest.take() {
                Some([low, high]) => 64 + u32::from(low) + 256 * u32::from(high),
                None => return Ok(None),
            },
            id => u32::from(id),
        };
        let known = self.streams.iter().find(|stream| stream.id == id);
        let Some(known) = known.or((format == 0).then_some(&Stream::NEW)) else {
            return Err(Error::ChunkWithoutHeader { chunk_stream: id, format });
        };
        let mut header = Header {
            format,
            id,
            timestamp: known.field,
            length: known.length,
            kind: known.kind,
            message_stream: known.message_stream,
            extended: known.extended,
            omits_extended: false,
            bytes: 0,
        };
        if format < 3 {
            let Some(field) = rest.u24() else { return Ok(None) };
            header.timestamp = field;
            header.extended = field == EXTENDED;
        }
        if format < 2 {
            let (Some(length), Some([kind])) = (rest.u24(), rest.take()) else { return Ok(None) };
            header.length = length as usize;
            header.kind = kind;
        }
        if format == 0 {
            let Some(id) = rest.take() else { return Ok(None) };
            header.message_stream = u32::from_le_bytes(id);
        }
        if header.extended && !(format == 3 && self.omits_extended) {
            let before = rest.0;
            let Some(extended) = rest.take() else { return Ok(None) };
            let extended = u32::from_be_bytes(extended);
            let repeats = extended == known.field || extended == known.timestamp;
            if format == 3 && known.partial.is_some() && !repeats {
                rest.0 = before;
                header.omits_extended = true;
            } else {
                header.timestamp = extended;
            }
        }
        header.bytes = view.len() - rest.0.len();
        Ok(Some(header))
    }

    /// Makes the header the chunk stream's last one, and begins a message where it begins one.
    fn apply(&mut self, header: Header) -> Result<usize, Error> {
        let Header {
            format,
            id,
            timestamp,
            length,
            kind,
            message_stream,
            extended,
            omits_extended,
            bytes: _,
        } = header;
        let index = match self.streams.iter().position(|stream| stream.id == id) {
            Some(index) => index,
            None if self.streams.len() >= self.bounds.chunk_streams => {
                let max = self.bounds.chunk_streams;
                return Err(Error::ChunkStreams { chunk_stream: id, max });
            }
            None => {
                self.streams.push(Stream { id, ..Stream::NEW });
                self.streams.len() - 1
            }
        };
        self.omits_extended |= omits_extended;
        let stream = &mut self.streams[index];
        // A message is to be continued by format 3. Some peers repeat the header in full; the same length tells them from peers that
        // gave the message up and began another (ffmpeg reads it so, too).
        let continues =
            stream.partial.is_some() && (format == 3 || length == stream.length && kind == stream.kind);
        if continues {
            return Ok(index);
        }
        if length > self.bounds.message_bytes {
            return Err(Error::MessageSize { chunk_stream: id, length, max: self.bounds.message_bytes });
        }
        // A format 3 that begins a message steps by the field of the last header, also where that was absolute (§5.3.1.2.4).
        let step_from = if format == 0 { 0 } else { stream.timestamp };
        *stream = Stream {
            id,
            timestamp: step_from.wrapping_add(timestamp),
            field: timestamp,
            extended,
            length,
            kind,
            message_stream,
            partial: Some(BytesMut::new()),
        };
        Ok(index)
    }
}

impl Stream {
    const NEW: Stream = Stream {
        id: 0,
        timestamp: 0,
        field: 0,
        extended: false,
        length: 0,
        kind: 0,
        message_stream: 0,
        partial: None,
    };
}

/// Up to a header's worth of bytes between two reads.
#[derive(Debug, Default)]
struct Carry {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
}

impl Carry {
    /// The next bytes, as many as a header can have, as if carry and input were one.
    fn view(&self, input: &Bytes) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut view = self.bytes;
        let more = input.len().min(HEADER_BYTES_MAX - self.length);
        view[self.length..self.length + more].copy_from_slice(&input[..more]);
        (view, self.length + more)
    }

    /// Takes all of `input`: called when it does not complete a header, so it fits.
    fn fill(&mut self, input: &mut Bytes) {
        let taken = input.split_to(input.len().min(HEADER_BYTES_MAX - self.length));
        self.bytes[self.length..self.length + taken.len()].copy_from_slice(&taken);
        self.length += taken.len();
    }

    /// Takes bytes from the front.
    fn take(&mut self, length: usize) -> Carry {
        let mut taken = Carry { bytes: [0; HEADER_BYTES_MAX], length };
        taken.bytes[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes.copy_within(length..self.length, 0);
        self.length -= length;
        taken
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads big-endian numbers from the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u24(&mut self) -> Option<u32> {
        self.take().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }
}

#[cfg(test)]
mod tests;
