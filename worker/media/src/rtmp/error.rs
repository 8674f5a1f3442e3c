//! Why an RTMP session ended.

use std::time::Duration;

/// What was being done when the peer's bytes could not be followed. Each ends this session and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte of a connection is not RTMP version 3 (RTMP 1.0 §5.2.2).
    #[error("handshake: version {version} is not RTMP 3; is another protocol spoken to the RTMP port?")]
    HandshakeVersion {
        /// The byte that came.
        version: u8,
    },
    /// The peer did not say publish or play in time.
    #[error("no publish or play within {0:?} of connecting")]
    StartDeadline(Duration),
    /// More chunk streams than a client needs.
    #[error("chunk stream {chunk_stream}: more than {max} chunk streams in use")]
    ChunkStreams {
        /// The one too many.
        chunk_stream: u32,
        /// The bound.
        max: usize,
    },
    /// A header that leans on an earlier one which never came (RTMP 1.0 §5.3.1.2).
    #[error("chunk stream {chunk_stream}: its first chunk has a header of format {format} instead of 0")]
    ChunkWithoutHeader {
        /// The chunk stream.
        chunk_stream: u32,
        /// Header format, 1 to 3.
        format: u8,
    },
    /// Set Chunk Size out of bounds.
    #[error("set chunk size {size}: allowed are {min} to 2147483647", min = super::limits::CHUNK_SIZE_MIN)]
    ChunkSize {
        /// What the peer asked for.
        size: u32,
    },
    /// A message longer than the bound of this phase.
    #[error("message of {length} bytes on chunk stream {chunk_stream}: the most is {max}")]
    MessageSize {
        /// The chunk stream.
        chunk_stream: u32,
        /// The length its header announced.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// Too much half-received on all chunk streams together.
    #[error("half-received messages would hold {held} bytes: the most is {max}")]
    PartialMessages {
        /// The bytes with this one.
        held: usize,
        /// The bound.
        max: usize,
    },
    /// A protocol control message of the wrong length.
    #[error("control message of type {kind} has {length} bytes")]
    ControlMessage {
        /// Message type id.
        kind: u8,
        /// Its length.
        length: usize,
    },
    /// A command that is not AMF0, or nested too deep, or too large.
    #[error("command: {0}")]
    Command(#[from] super::amf0::Error),
    /// A command with a missing or wrong argument.
    #[error("command {command}: {reason}")]
    Argument {
        /// The command's name.
        command: &'static str,
        /// What is wrong with it and what would be right.
        reason: &'static str,
    },
    /// A command at a time when it makes no sense.
    #[error("command {command} {when}")]
    OutOfOrder {
        /// The command's name.
        command: &'static str,
        /// What it came before or after.
        when: &'static str,
    },
    /// An audio or video message that could not be read, or whose codec is not carried.
    #[error("media: {0}")]
    Media(#[from] crate::flv::Error),
    /// The peer asks and asks and reads no answers.
    #[error("{pending} bytes of replies are not read by the peer")]
    RepliesUnread {
        /// Bytes waiting.
        pending: usize,
    },
    /// One read held more messages than real media can.
    #[error("more than {max} messages in one read")]
    TooManyMessages {
        /// The bound.
        max: usize,
    },
    /// [`Client`](super::Client) only: the server refused.
    #[error("the server answered {code}: {description}")]
    Refused {
        /// `NetConnection…` or `NetStream…`.
        code: String,
        /// The server's words.
        description: String,
    },
}
