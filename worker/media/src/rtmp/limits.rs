//! Each bound of an RTMP session, with the sum that gave it.
//!
//! What one connection can hold: a publisher at worst [`PARTIAL_BYTES_MAX`] of half-received messages, plus the one buffer
//! that the caller read into, plus [`TRANSMIT_BYTES_MAX`] of replies. Before publish or play is accepted it is
//! [`COMMAND_BYTES_MAX`] instead of the first, and so it stays for a player.

use std::time::Duration;

/// From the first byte until the peer says publish or play. A handshake and six commands are 5 round trips at most; on a bad link
/// of 1 s a trip that is half of this.
pub const START_DEADLINE: Duration = Duration::from_secs(10);

/// The largest message of a publisher. An intra picture at 400 Mbit/s and 30 pictures a second, four times the mean size, is 6.7 MB,
/// and a ring holds 12 MB. The field in the header would allow 16.7 MB.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Half-received messages of a publisher in total: one of the largest size, and half as much for the other tracks beside it.
pub const PARTIAL_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2 * 3;

/// The largest message before publish or play, and from a player at any time. `connect` of the most talkative client seen is under
/// 1 KiB; a stream key with a token in it may be a few more.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// Half-received commands in total, before publish or play and from a player.
pub const COMMAND_PARTIAL_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;

/// Chunk streams a peer may have used. Clients use 4 to 8; the state of one is 64 bytes, so this is 4 KiB.
pub const CHUNK_STREAMS_MAX: usize = 64;

/// The same for a player, which uses 2 or 3.
pub const VIEWER_CHUNK_STREAMS_MAX: usize = 8;

/// The smallest chunk size that a peer may set. The standard says 1, but then each byte of media costs a header; real ones use 128 up.
pub const CHUNK_SIZE_MIN: u32 = 64;

/// A chunk cannot be longer than a message. Peers that set 2^31 - 1, as Flash did, mean "whole messages".
pub const CHUNK_SIZE_MAX: u32 = 0xff_ffff;

/// Replies waiting to be sent. All replies to a client's start are under 1 KiB; a peer that asks for this much and reads nothing is
/// not a client.
pub const TRANSMIT_BYTES_MAX: usize = 64 * 1024;

/// A player may ask for [`TRANSMIT_BYTES_MAX`] of replies in this time, whether it reads them or not: they wait behind media, where
/// nobody knows whose they are. Pings and pauses of a person at the keys are a hundredth of it.
pub const PLAYER_REPLIES_TIME: Duration = Duration::from_secs(60);

/// Events waiting to be polled after one `receive`. 64 KiB of the shortest real media, G.711 in 20 ms pieces, is 400 frames.
pub const EVENTS_MAX: usize = 8 * 1024;

/// Values inside values of AMF0. Metadata of real encoders is two deep.
pub const AMF_DEPTH_MAX: usize = 16;

/// Values of one AMF0 message in total. `connect` has about 20; metadata with a key-frame index has been seen with 2 000.
pub const AMF_VALUES_MAX: usize = 16 * 1024;

/// Characters of one AMF0 string that is kept. Longer ones are read over and refused by name where they matter.
pub const STRING_BYTES_MAX: usize = 4 * 1024;

/// Bytes of `app/key` without the query.
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 2 * 1024;

/// The window of bytes after which each side acknowledges, as we announce it.
pub const ACK_WINDOW_BYTES: u32 = 2_500_000;
