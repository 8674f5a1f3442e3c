//! A player after play began: only its few messages are read, so that a thousand of them cost little.

use std::time::Duration;

use bytes::Bytes;

use super::chunk::Bounds;
use super::command::{Command, kind, user_control};
use super::link::{Link, Replies};
use super::pack::MESSAGE_STREAM;
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
pub struct Viewer {
    link: Link,
    replies: Replies,
    /// The last thing it asked for. Who asks twice before anybody looked means the second.
    event: Option<ViewerEvent>,
}

impl Viewer {
    pub(super) fn new(mut link: Link, replies: Replies, event: Option<ViewerEvent>) -> Self {
        link.set_bounds(Bounds::VIEWER);
        Viewer { link, replies, event }
    }

    /// Takes what the peer sent, in pieces of any size.
    pub fn receive(&mut self, mut input: Bytes, now: Duration) -> Result<(), Error> {
        // A player owes us nothing, so there is no deadline of its own: a dead one shows when media can't be sent.
        while let Some(message) = self.link.read(&mut input)? {
            match message.kind {
                kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => {
                    self.take_command(&Command::parse(message.kind, &message.payload)?);
                }
                _ => {}
            }
            self.replies.check(&self.link, now)?;
        }
        self.replies.check(&self.link, now)
    }

    /// What the bytes meant, one a call.
    pub fn poll_event(&mut self) -> Option<ViewerEvent> {
        self.event.take()
    }

    /// Bytes for the peer. Put them between packed frames, never inside one.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.link.take().inspect(|bytes| self.replies.count(bytes.len()))
    }

    /// Tells the player that it is over, and why; then close the connection.
    pub fn end_play(&mut self, end: PlayEnd, description: &str) {
        match end {
            PlayEnd::Unpublished => {
                self.link.user_control(user_control::STREAM_EOF, MESSAGE_STREAM);
                self.on_status("status", "NetStream.Play.UnpublishNotify", description);
                self.on_status("status", "NetStream.Play.Stop", description);
            }
            PlayEnd::TooSlow => self.on_status("error", "NetStream.Play.InsufficientBW", description),
            PlayEnd::Stopped => self.on_status("error", "NetStream.Play.Failed", description),
        }
    }

    fn take_command(&mut self, command: &Command) {
        match command.name.as_str() {
            "closeStream" | "deleteStream" => self.event = Some(ViewerEvent::Stop),
            "pause" => {
                let pauses = matches!(command.arguments.first(), Some(super::amf0::Value::Boolean(true)));
                let (event, code) = if pauses {
                    (ViewerEvent::Pause, "NetStream.Pause.Notify")
                } else {
                    (ViewerEvent::Resume, "NetStream.Unpause.Notify")
                };
                if self.event != Some(ViewerEvent::Stop) {
                    self.event = Some(event);
                }
                self.on_status("status", code, "");
            }
            // A player that calls methods in the middle of a play gets no answer: it doesn't wait for one.
            _ => {}
        }
    }

    fn on_status(&mut self, level: &str, code: &str, description: &str) {
        self.link.on_status(MESSAGE_STREAM, level, code, description);
    }
}
