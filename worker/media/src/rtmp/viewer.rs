//! A player after play began: only its few messages are read, so that a thousand of them cost little.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, PlayEnd};

/// What a player says while it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewerEvent {
    /// It stopped (closeStream, deleteStream): close the connection.
    Stop,
    /// It asked to pause; the answer is already in `poll_transmit`.
    Pause,
    /// It asked to go on: begin with the newest key frame.
    Resume,
}

/// The server's side of a connection that plays. Less than 1 KiB with its buffers.
#[derive(Debug)]
pub struct Viewer {}

impl Viewer {
    /// Takes what the peer sent, in pieces of any size.
    pub fn receive(&mut self, input: Bytes, now: Duration) -> Result<(), Error> {
        let _ = (input, now);
        Ok(())
    }

    /// What the bytes meant, one a call.
    pub fn poll_event(&mut self) -> Option<ViewerEvent> {
        None
    }

    /// Bytes for the peer. Put them between packed frames, never inside one.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }

    /// Tells the player that it is over, and why; then close the connection.
    pub fn end_play(&mut self, end: PlayEnd, description: &str) {
        let _ = (end, description);
    }
}
