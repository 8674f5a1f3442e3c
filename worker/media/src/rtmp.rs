//! RTMP both ways: Adobe's RTMP 1.0 with the parts of Enhanced RTMP v2 that real encoders and players use.
//!
//! ```text
//! socket ─ Bytes ─▶ handshake ─▶ chunk::Reader ─▶ command (AMF0) ─┐
//!                                                └▶ flv::parse ───┴▶ Session ─▶ Event
//! Frame ─▶ pack() once a stream ─▶ the same Bytes to each viewer's socket
//! ```
//!
//! [`Session`] is the server's side of one connection until it is known what the peer wants, and on for a publisher. A player's
//! becomes a [`Viewer`], which is small. [`Client`] is the other end, for the canary, tests and load.

pub mod amf0;
pub mod chunk;
mod client;
mod clock;
mod command;
mod error;
pub mod handshake;
pub mod limits;
mod link;
mod pack;
mod request;
mod session;
mod status;
mod viewer;

pub use client::{Client, ClientConfig, ClientEvent, Role};
pub use clock::Clock;
pub use error::Error;
pub use pack::{CHUNK_SIZE, pack};
pub use request::{Capabilities, Request, Token};
pub use session::{Config, Event, Leave, Session};
pub use status::{PlayEnd, PlayRefusal, PublishEnd, PublishRefusal};
pub use viewer::{Viewer, ViewerEvent};
