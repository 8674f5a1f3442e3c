//! What both ends do below commands and media: chunks, control messages, acknowledgements, and the bytes to be sent.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::amf0::Writer;
use super::chunk::{Bounds, Message, Reader};
use super::command::{kind, user_control};
use super::limits::{ACK_WINDOW_BYTES, PLAYER_REPLIES_TIME, TRANSMIT_BYTES_MAX};
use super::pack::{Header, put_frame, put_message};
use super::{CHUNK_SIZE, Error};
use crate::frame::Frame;

/// One connection after its handshake.
#[derive(Debug)]
pub(super) struct Link {
    reader: Reader,
    out: BytesMut,
    /// The chunk size of what we send.
    chunk_size: u32,
    /// Bytes received, modulo 2^32, and how many of them the peer knows of.
    received: u32,
    acknowledged: u32,
    /// After so many bytes the peer wants to hear of them; 0: never.
    window: u32,
}

impl Link {
    pub(super) fn new(bounds: Bounds) -> Self {
        Link {
            reader: Reader::new(bounds),
            out: BytesMut::new(),
            chunk_size: 128,
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW_BYTES,
        }
    }

    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.reader.set_bounds(bounds);
    }

    /// The next message that is neither control nor acknowledgement; those are dealt with here (RTMP 1.0 §5.4, §7.1.7).
    pub(super) fn read(&mut self, input: &mut Bytes) -> Result<Option<Message>, Error> {
        loop {
            let before = input.len();
            let message = self.reader.read(input)?;
            self.received = self.received.wrapping_add((before - input.len()) as u32);
            let Some(message) = message else {
                self.acknowledge();
                return Ok(None);
            };
            match message.kind {
                kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(number(&message)?)?,
                kind::ABORT => self.reader.abort(number(&message)?),
                kind::ACKNOWLEDGEMENT => {
                    number(&message)?;
                }
                kind::WINDOW_ACK_SIZE => self.window = number(&message)?,
                kind::SET_PEER_BANDWIDTH => {
                    number(&message)?;
                    self.control(kind::WINDOW_ACK_SIZE, ACK_WINDOW_BYTES);
                }
                kind::USER_CONTROL => {
                    let Some((event, number)) = user_event(&message)? else { return Ok(Some(message)) };
                    if event == user_control::PING_REQUEST {
                        self.user_control(user_control::PING_RESPONSE, number);
                    } else {
                        return Ok(Some(message));
                    }
                }
                _ => return Ok(Some(message)),
            }
            self.check_waiting()?;
        }
    }

    /// Fails when the peer makes us answer more than it reads.
    pub(super) fn check_waiting(&self) -> Result<(), Error> {
        let pending = self.waiting();
        if pending > TRANSMIT_BYTES_MAX { Err(Error::RepliesUnread { pending }) } else { Ok(()) }
    }

    fn acknowledge(&mut self) {
        if self.window > 0 && self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.control(kind::ACKNOWLEDGEMENT, self.received);
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// All bytes that wait to be sent.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        // The buffer goes along: an idle connection holds none.
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
    }

    /// Bytes as they are: of the handshake.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Announces the chunk size and sends by it from there on.
    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.control(kind::SET_CHUNK_SIZE, size);
        self.chunk_size = size;
    }

    /// A control message of one number.
    pub(super) fn control(&mut self, kind: u8, number: u32) {
        self.message(2, kind, 0, &number.to_be_bytes());
    }

    /// Set Peer Bandwidth with the limit type "dynamic" (§5.4.5).
    pub(super) fn set_peer_bandwidth(&mut self, bytes: u32) {
        let [a, b, c, d] = bytes.to_be_bytes();
        self.message(2, kind::SET_PEER_BANDWIDTH, 0, &[a, b, c, d, 2]);
    }

    /// A user control message of one number.
    pub(super) fn user_control(&mut self, event: u16, number: u32) {
        let mut body = [0; 6];
        body[..2].copy_from_slice(&event.to_be_bytes());
        body[2..].copy_from_slice(&number.to_be_bytes());
        self.message(2, kind::USER_CONTROL, 0, &body);
    }

    /// A command with its name, transaction and what `fill` adds.
    pub(super) fn command(
        &mut self,
        message_stream: u32,
        name: &str,
        transaction: f64,
        fill: impl FnOnce(&mut Writer),
    ) {
        let mut body = Writer::new();
        body.string(name).number(transaction);
        fill(&mut body);
        self.message(3, kind::COMMAND_AMF0, message_stream, &body.finish());
    }

    /// `onStatus` (§7.2.2).
    pub(super) fn on_status(&mut self, message_stream: u32, level: &str, code: &str, description: &str) {
        self.command(message_stream, "onStatus", 0.0, |body| {
            body.null();
            status(body, level, code, description);
        });
    }

    /// A data message.
    pub(super) fn data(&mut self, message_stream: u32, fill: impl FnOnce(&mut Writer)) {
        let mut body = Writer::new();
        fill(&mut body);
        self.message(5, kind::DATA_AMF0, message_stream, &body.finish());
    }

    /// Media.
    pub(super) fn frame(&mut self, frame: &Frame, timestamp: u32) {
        put_frame(&mut self.out, frame, timestamp, self.chunk_size);
    }

    fn message(&mut self, chunk_stream: u8, kind: u8, message_stream: u32, body: &[u8]) {
        let header = Header { chunk_stream, kind, message_stream, timestamp: 0 };
        put_message(&mut self.out, header, [body, &[]], self.chunk_size);
    }
}

/// What a player was answered of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replies {
    since: Duration,
    bytes: usize,
}

impl Replies {
    /// These were handed out.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Fails when a player asks for more than one does.
    pub(super) fn check(&mut self, link: &Link, now: Duration) -> Result<(), Error> {
        if now.saturating_sub(self.since) >= PLAYER_REPLIES_TIME {
            *self = Replies { since: now, bytes: 0 };
        }
        let pending = self.bytes.saturating_add(link.waiting());
        if pending > TRANSMIT_BYTES_MAX { Err(Error::RepliesUnread { pending }) } else { Ok(()) }
    }
}

/// The object of a status: level, code and description.
pub(super) fn status(body: &mut Writer, level: &str, code: &str, description: &str) {
    body.object(|info| {
        info.name("level").string(level);
        info.name("code").string(code);
        info.name("description").string(description);
    });
}

/// The number that a control message begins with.
fn number(message: &Message) -> Result<u32, Error> {
    match message.payload.first_chunk() {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(Error::ControlMessage { kind: message.kind, length: message.payload.len() }),
    }
}

/// A user control's event, with its number where it has one.
pub(super) fn user_event(message: &Message) -> Result<Option<(u16, u32)>, Error> {
    let (event, rest) = message
        .payload
        .split_first_chunk()
        .ok_or(Error::ControlMessage { kind: message.kind, length: message.payload.len() })?;
    Ok(rest.first_chunk().map(|number| (u16::from_be_bytes(*event), u32::from_be_bytes(*number))))
}

/// The chunk size that a server announces.
pub(super) fn announce(link: &mut Link) {
    link.control(kind::WINDOW_ACK_SIZE, ACK_WINDOW_BYTES);
    link.set_peer_bandwidth(ACK_WINDOW_BYTES);
    link.set_chunk_size(CHUNK_SIZE);
}
