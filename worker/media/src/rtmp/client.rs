//! The other end: a client that publishes or plays, for tests and for load. Not used by the product.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, Session};
use crate::frame::Frame;

/// What the client is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publish.
    Publish,
    /// Play, and make frames of what comes.
    Play,
    /// Play, and only count what comes: for load.
    Count,
}

/// What a client is made with.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What to do.
    pub role: Role,
    /// `HOST[:PORT]`, for tcUrl only.
    pub host: String,
    /// The application: all of the path but its last segment.
    pub app: String,
    /// The last segment, with `?token=` where one is needed.
    pub key: String,
    /// The chunk size that the client sets for what it sends.
    pub chunk_size: u32,
}

/// What the server's bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// NetStream.Publish.Start or NetStream.Play.Start came.
    Started,
    /// Media (role `Play`).
    Frame(Frame),
    /// A media message (role `Count`).
    Message {
        /// Its timestamp as on the wire.
        timestamp: u32,
        /// Its bytes without chunk headers.
        bytes: usize,
    },
    /// Any other onStatus.
    Status {
        /// `status` or `error`.
        level: String,
        /// `NetStream.…`.
        code: String,
        /// The server's words.
        description: String,
    },
    /// User control Stream EOF.
    StreamEof,
}

/// The client's side of one connection.
#[derive(Debug)]
pub struct Client {
    role: Role,
}

impl Client {
    /// A client that has its first bytes ready in `poll_transmit`.
    pub fn new(config: ClientConfig) -> Client {
        let _ = std::any::type_name::<Session>();
        Client { role: config.role }
    }

    /// Takes what the server sent.
    pub fn receive(&mut self, input: Bytes, now: Duration) -> Result<(), Error> {
        let _ = (input, now, self.role);
        Ok(())
    }

    /// What it meant.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        None
    }

    /// Bytes for the server.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }

    /// Queues a frame of an accepted publish, at `timestamp` on the wire.
    pub fn send(&mut self, frame: &Frame, timestamp: u32) {
        let _ = (frame, timestamp);
    }

    /// Ends the publish or play politely (FCUnpublish, deleteStream).
    pub fn stop(&mut self) {}
}
