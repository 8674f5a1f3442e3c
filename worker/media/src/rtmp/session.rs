//! The server's side of one RTMP connection, from the handshake to the end of a publish.
//!
//! ```text
//! new ─ receive… ─▶ Event::Publish ─ accept_publish ─▶ Event::Frame… ─▶ Event::Unpublish
//!              └──▶ Event::Play ─ accept_play ─ into_viewer ─▶ Viewer
//! ```
//!
//! The caller closes the connection after `receive` or `timeout` failed, after a refusal, after `end_publish`, and after
//! `Event::Unpublish` or `Event::Leave`; in each case it first sends what `poll_transmit` still holds, if the socket takes it.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, Request, Viewer};
use crate::frame::Frame;

/// What a session is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Fills the random part of the handshake; any number.
    pub seed: u64,
    /// How long the peer may take to say publish or play; default [`START_DEADLINE`](super::limits::START_DEADLINE).
    pub start_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { seed: 0x70656e73746f636b, start_deadline: super::limits::START_DEADLINE }
    }
}

/// What a peer's bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer wants to publish: answer with `accept_publish` or `refuse_publish`.
    Publish(Request),
    /// The peer wants to play: answer with `accept_play` or `refuse_play`.
    Play(Request),
    /// Media of an accepted publish.
    Frame(Frame),
    /// Media that was left out on purpose; count it.
    Leave(Leave),
    /// The peer ended its publish or withdrew its play request (closeStream, deleteStream, FCUnpublish).
    Unpublish,
}

/// Why a message of an accepted publisher became no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leave {
    /// A second track of Enhanced RTMP multitrack; the first is carried.
    Multitrack,
    /// A data message other than onMetaData, or one that is not well formed.
    Data,
    /// An audio or video message without content.
    Empty,
}

/// Why a publish request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishRefusal {
    /// `NetStream.Publish.BadName`: the path has a live publisher, or no stream declares it.
    BadName,
    /// `NetStream.Publish.Denied`: token, address or policy.
    Denied,
}

/// Why an accepted publish is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishEnd {
    /// `NetStream.Publish.BadName`: another publisher took over.
    TakenOver,
    /// `NetStream.Publish.Idle`: no media for startTimeout or stallTimeout.
    Idle,
    /// `NetStream.Publish.Rejected`: the media can't be carried.
    Rejected,
    /// `NetStream.Unpublish.Success`: the stream was stopped, moved or deleted.
    Stopped,
}

/// Why a play request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlayRefusal {
    /// `NetStream.Play.StreamNotFound`: not declared, or no media within startTimeout.
    StreamNotFound,
    /// `NetStream.Play.Failed`: token, address, or a limit.
    Denied,
}

/// Why an accepted play is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlayEnd {
    /// Stream EOF, `NetStream.Play.UnpublishNotify` and `NetStream.Play.Stop`: the publisher is gone for good.
    Unpublished,
    /// `NetStream.Play.InsufficientBW`, an error: the viewer is too slow and the policy says disconnect.
    TooSlow,
    /// `NetStream.Play.Failed`, an error: the stream was stopped, moved or deleted.
    Stopped,
}

/// One connection on the server's side. Sans-IO; see the module's picture.
#[derive(Debug)]
pub struct Session {
    start: Option<Duration>,
}

impl Session {
    /// A session of a connection accepted at `now`.
    pub fn new(config: Config, now: Duration) -> Session {
        Session { start: Some(now + config.start_deadline) }
    }

    /// Takes what the peer sent, in pieces of any size. Frames share the memory of `input` where a message lies whole in it.
    pub fn receive(&mut self, input: Bytes, now: Duration) -> Result<(), Error> {
        let _ = (input, now);
        Ok(())
    }

    /// What the bytes meant, one a call.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Bytes for the peer.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        None
    }

    /// When `timeout` must be called. None once publish or play was asked for: from there the hub's own limits hold.
    pub fn deadline(&self) -> Option<Duration> {
        self.start
    }

    /// Fails if the deadline has passed.
    pub fn timeout(&mut self, now: Duration) -> Result<(), Error> {
        let _ = now;
        Ok(())
    }

    /// Answers `Event::Publish`; frames follow.
    pub fn accept_publish(&mut self) {}

    /// Answers `Event::Publish` with an error that names the remedy; close the connection after it.
    pub fn refuse_publish(&mut self, refusal: PublishRefusal, description: &str) {
        let _ = (refusal, description);
    }

    /// Tells an accepted publisher that it is ended, and why; close the connection after it.
    pub fn end_publish(&mut self, end: PublishEnd, description: &str) {
        let _ = (end, description);
    }

    /// Answers `Event::Play`: call it when there is media. What `pack` made may follow what `poll_transmit` then holds.
    pub fn accept_play(&mut self) {}

    /// Answers `Event::Play` with an error that names the remedy; close the connection after it.
    pub fn refuse_play(&mut self, refusal: PlayRefusal, description: &str) {
        let _ = (refusal, description);
    }

    /// The small form for the rest of a play. Take `poll_transmit` empty first, or take it from the viewer: nothing is lost.
    pub fn into_viewer(self) -> Viewer {
        Viewer {}
    }
}
