//! The pure media plane: protocols in, frames, rings and cursors, protocols out. No socket, no clock, no task.
//!
//! A protocol session is a value that is driven from outside:
//!
//! - `receive(bytes, now)` takes what the peer sent, in pieces of any size;
//! - `poll_event()` hands out what that meant, one event a call, until `None`;
//! - `poll_transmit()` hands out bytes for the peer, until `None`;
//! - `deadline()` is when `timeout(now)` must be called next, if nothing came before.
//!
//! An error ends the session, never the process: whatever a peer sends, no session panics, and none holds more memory
//! than the sums in `limits` say.

pub mod budget;
pub mod clock;
pub mod cursor;
pub mod dropped;
pub mod flv;
pub mod frame;
pub mod h26x;
pub mod http;
pub mod limits;
pub mod packed;
pub mod policy;
pub mod ps;
pub mod ring;
pub mod rtmp;
pub mod rtp;
pub mod stream;
pub mod timeline;
pub mod tracks;
