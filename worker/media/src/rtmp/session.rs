//! The server's side of one RTMP connection, from the handshake to the end of a publish.
//!
//! ```text
//! new ─ receive… ─▶ Event::Publish ─ accept_publish ─▶ Event::Frame… ─▶ Event::Unpublish
//!              └──▶ Event::Play ─ accept_play ─ into_viewer ─▶ Viewer
//! ```
//!
//! The caller closes the connection after `receive` or `timeout` failed, after a refusal, after `end_publish`, and after
//! `Event::Unpublish` or `Event::Leave`; in each case it first sends what `poll_transmit` still holds, if the socket takes it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::chunk::{Bounds, Message};
use super::command::{Command, amf0_body, kind, user_control};
use super::handshake::{Handshake, Progress};
use super::link::{Link, Replies, announce, status};
use super::pack::MESSAGE_STREAM;
use super::request::Connected;
use super::status::{PlayRefusal, PublishEnd, PublishRefusal};
use super::{Clock, Error, Request, Viewer, ViewerEvent, limits};
use crate::flv::{self, Parsed};
use crate::frame::{Codec, Frame, Kind};

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

/// One connection on the server's side. Sans-IO; see the module's picture.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    link: Link,
    /// From the request to play on.
    replies: Replies,
    connected: Connected,
    clock: Clock,
    events: VecDeque<Event>,
    start_deadline: Duration,
    deadline: Duration,
}

/// How far the connection has come.
#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    /// The next command must be `connect`.
    Connect,
    /// The next command of weight is `publish` or `play`.
    Connected,
    /// `Event::Publish` waits for its answer; media may be on its way already.
    PublishAsked,
    Publishing,
    /// `Event::Play` waits for its answer.
    PlayAsked,
    Playing,
    /// Nothing is read any more.
    Ended,
}

impl Session {
    /// A session of a connection accepted at `now`.
    pub fn new(config: Config, now: Duration) -> Session {
        Session {
            phase: Phase::Handshake(Handshake::server(config.seed)),
            link: Link::new(Bounds::COMMANDS),
            replies: Replies::default(),
            connected: Connected::default(),
            clock: Clock::default(),
            events: VecDeque::new(),
            start_deadline: config.start_deadline,
            deadline: now.saturating_add(config.start_deadline),
        }
    }

    /// Takes all that the peer sent, in pieces of any size. Frames share the memory of `input` where a message lies whole in it.
    ///
    /// Stop reading from the socket between `Event::Publish` and its answer: frames that come before it are kept as events.
    pub fn receive(&mut self, mut input: Bytes, now: Duration) -> Result<(), Error> {
        self.timeout(now)?;
        if let Phase::Handshake(handshake) = &mut self.phase {
            let (progress, answer) = handshake.receive(&mut input)?;
            if let Some(answer) = answer {
                self.link.send(&answer);
            }
            match progress {
                Progress::NeedMore => return Ok(()),
                Progress::Done => self.phase = Phase::Connect,
            }
        }
        while !matches!(self.phase, Phase::Ended)
            && let Some(message) = self.link.read(&mut input)?
        {
            self.take_message(message)?;
            self.check_replies(now)?;
        }
        self.check_replies(now)
    }

    /// What the bytes meant, one a call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for the peer.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.link.take()?;
        if self.plays() {
            self.replies.count(bytes.len());
        }
        Some(bytes)
    }

    /// When `timeout` must be called. None once publish or play was asked for: from there the hub's own limits hold.
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Handshake(_) | Phase::Connect | Phase::Connected => Some(self.deadline),
            Phase::PublishAsked | Phase::Publishing | Phase::PlayAsked | Phase::Playing | Phase::Ended => {
                None
            }
        }
    }

    /// Fails if the deadline has passed.
    pub fn timeout(&mut self, now: Duration) -> Result<(), Error> {
        match self.deadline() {
            Some(deadline) if now >= deadline => Err(Error::StartDeadline(self.start_deadline)),
            Some(_) | None => Ok(()),
        }
    }

    /// Answers `Event::Publish`; frames follow.
    pub fn accept_publish(&mut self) {
        if let Phase::PublishAsked = self.phase {
            self.phase = Phase::Publishing;
            self.link.user_control(user_control::STREAM_BEGIN, MESSAGE_STREAM);
            self.on_status("status", "NetStream.Publish.Start", "publishing");
        }
    }

    /// Answers `Event::Publish` with an error that names the remedy; close the connection after it.
    pub fn refuse_publish(&mut self, refusal: PublishRefusal, description: &str) {
        self.end(refusal.code(), description);
    }

    /// Tells an accepted publisher that it is ended, and why; close the connection after it.
    pub fn end_publish(&mut self, end: PublishEnd, description: &str) {
        self.end(end.code(), description);
    }

    /// Answers `Event::Play`: call it when there is media. What `pack` made may follow what `poll_transmit` then holds.
    pub fn accept_play(&mut self) {
        if let Phase::PlayAsked = self.phase {
            self.phase = Phase::Playing;
            self.link.user_control(user_control::STREAM_BEGIN, MESSAGE_STREAM);
            self.on_status("status", "NetStream.Play.Reset", "playing from here");
            self.on_status("status", "NetStream.Play.Start", "playing");
            // Flash lets a page read pictures and sound only with this.
            self.link.data(MESSAGE_STREAM, |body| {
                body.string("|RtmpSampleAccess").boolean(true).boolean(true);
            });
        }
    }

    /// Answers `Event::Play` with an error that names the remedy; close the connection after it.
    pub fn refuse_play(&mut self, refusal: PlayRefusal, description: &str) {
        self.end(refusal.code(), description);
    }

    /// The small form for the rest of a play. What `poll_transmit` has not handed out yet, the viewer's will.
    pub fn into_viewer(self) -> Viewer {
        let stopped = matches!(self.phase, Phase::Ended);
        Viewer::new(self.link, self.replies, stopped.then_some(ViewerEvent::Stop))
    }

    fn end(&mut self, code: &str, description: &str) {
        self.on_status("error", code, description);
        self.phase = Phase::Ended;
    }

    fn on_status(&mut self, level: &str, code: &str, description: &str) {
        self.link.on_status(MESSAGE_STREAM, level, code, description);
    }

    fn take_message(&mut self, message: Message) -> Result<(), Error> {
        match message.kind {
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => {
                // A publisher's media may be longer, its commands not.
                let (length, max) = (message.payload.len(), limits::COMMAND_BYTES_MAX);
                if length > max {
                    return Err(Error::MessageSize { chunk_stream: message.chunk_stream, length, max });
                }
                self.take_command(Command::parse(message.kind, &message.payload)?)
            }
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 if self.publishes() => {
                let held = message.payload.len();
                self.take_media(message.kind, message.timestamp, message.payload, held)
            }
            kind::AGGREGATE if self.publishes() => self.take_aggregate(message),
            // Media of one who may not publish, shared objects, set buffer length: nothing that a server answers.
            _ => Ok(()),
        }
    }

    /// A publisher's replies wait in the link until the caller has sent those before; a player's are taken at once.
    fn check_replies(&mut self, now: Duration) -> Result<(), Error> {
        if self.plays() { self.replies.check(&self.link, now) } else { self.link.check_waiting() }
    }

    fn plays(&self) -> bool {
        match self.phase {
            Phase::PlayAsked | Phase::Playing => true,
            Phase::Handshake(_)
            | Phase::Connect
            | Phase::Connected
            | Phase::PublishAsked
            | Phase::Publishing
            | Phase::Ended => false,
        }
    }

    fn publishes(&self) -> bool {
        match self.phase {
            Phase::PublishAsked | Phase::Publishing => true,
            Phase::Handshake(_)
            | Phase::Connect
            | Phase::Connected
            | Phase::PlayAsked
            | Phase::Playing
            | Phase::Ended => false,
        }
    }

    /// Several FLV tags in one message (§7.1.6); their timestamps count from the message's.
    fn take_aggregate(&mut self, message: Message) -> Result<(), Error> {
        let mut payload = message.payload;
        let held = payload.len();
        let mut first = None;
        while let Some(tag) = flv::split_tag(&mut payload) {
            let first = *first.get_or_insert(tag.timestamp);
            let timestamp = message.timestamp.wrapping_add(tag.timestamp.wrapping_sub(first));
            self.take_media(tag.kind, timestamp, tag.body, held)?;
        }
        Ok(())
    }

    /// Takes a body that is a part of a message of `held` bytes.
    fn take_media(&mut self, kind: u8, timestamp: u32, body: Bytes, held: usize) -> Result<(), Error> {
        let parsed = match kind {
            kind::AUDIO => flv::parse_audio(body),
            kind::VIDEO => flv::parse_video(body),
            kind::DATA_AMF0 | kind::DATA_AMF3 => Ok(match flv::sanitise(amf0_body(kind, &body)) {
                Some(payload) => Parsed::Frame(Frame {
                    codec: Codec::Script,
                    kind: Kind::Config,
                    dts_ms: 0,
                    cts_ms: 0,
                    payload,
                }),
                None => Parsed::Data,
            }),
            _ => return Ok(()),
        };
        let event = match parsed {
            Ok(Parsed::Frame(mut frame)) => {
                // Encoders stamp metadata and a new configuration with 0 in the middle of a stream: not a step of the clock.
                frame.dts_ms = match frame.kind {
                    Kind::Config => self.clock.latest().unwrap_or(timestamp.into()),
                    Kind::Key | Kind::Inter => self.clock.unroll(timestamp),
                };
                // A small part would hold the whole for as long as it is in a ring, and be counted as a small part.
                if frame.payload.len() < held / 2 {
                    frame.payload = Bytes::copy_from_slice(&frame.payload);
                }
                Event::Frame(frame)
            }
            Ok(Parsed::Multitrack) => Event::Leave(Leave::Multitrack),
            Ok(Parsed::Data) => Event::Leave(Leave::Data),
            Ok(Parsed::Empty) => Event::Leave(Leave::Empty),
            Ok(Parsed::Nothing) => return Ok(()),
            Err(error) => {
                self.end("NetStream.Publish.Rejected", &error.to_string());
                return Err(error.into());
            }
        };
        // Checked here: one aggregate may hold half a million tags.
        if self.events.len() >= limits::EVENTS_MAX {
            return Err(Error::TooManyMessages { max: limits::EVENTS_MAX });
        }
        self.events.push_back(event);
        Ok(())
    }

    fn take_command(&mut self, command: Command) -> Result<(), Error> {
        let transaction = command.transaction;
        match (command.name.as_str(), &self.phase) {
            ("connect", Phase::Connect) => self.connect(&command),
            ("connect", _) => return Err(Error::OutOfOrder { command: "connect", when: "came twice" }),
            ("publish", Phase::Connected) => return self.ask(Asked::Publish, &command),
            ("publish", _) => {
                return Err(Error::OutOfOrder {
                    command: "publish",
                    when: "before connect, or on a connection that publishes or plays already",
                });
            }
            ("play", Phase::Connected) => return self.ask(Asked::Play, &command),
            ("play", _) => {
                return Err(Error::OutOfOrder {
                    command: "play",
                    when: "before connect, or on a connection that publishes or plays already",
                });
            }
            ("createStream", _) => {
                self.result(transaction, |body| _ = body.null().number(MESSAGE_STREAM.into()));
            }
            // No `_result`: the crate `rtmp` numbers these calls like its `connect` and would take it for that one's.
            ("releaseStream", _) => {}
            ("FCPublish", _) => {
                self.on_fc("onFCPublish", "NetStream.Publish.Start", command.string(0));
            }
            ("FCUnpublish" | "closeStream" | "deleteStream", _) => self.stop(&command),
            ("getStreamLength", _) => self.result(transaction, |body| _ = body.null().number(0.0)),
            ("FCSubscribe" | "_checkbw", _) => {
                self.result(transaction, |body| _ = body.null());
            }
            // A live stream knows no position, and what is not wanted of it the player drops.
            ("_result" | "_error" | "onStatus" | "seek" | "pause" | "receiveAudio" | "receiveVideo", _) => {}
            (_, _) if transaction == 0.0 => {}
            (_, _) => self.link.command(0, "_error", transaction, |body| {
                body.null();
                status(body, "error", "NetConnection.Call.Failed", "no such method");
            }),
        }
        Ok(())
    }

    fn connect(&mut self, command: &Command) {
        self.connected = Connected::new(&command.object);
        self.phase = Phase::Connected;
        let encoding =
            command.object.property("objectEncoding").and_then(|value| value.number()).unwrap_or(0.0);
        announce(&mut self.link);
        self.result(command.transaction, |body| {
            body.object(|properties| {
                // Flash Media Server 3.5's words: some clients look at the number.
                properties.name("fmsVer").string("FMS/3,5,7,7009");
                properties.name("capabilities").number(31.0);
                properties.name("mode").number(1.0);
                // Enhanced RTMP v2, "Enhancing NetConnection connect Command": 4 is "can forward", and of capsEx "reads ModEx".
                properties.name("fourCcList").strings(&["avc1", "hvc1", "mp4a", ".mp3"]);
                properties.name("videoFourCcInfoMap").object(|map| {
                    map.name("avc1").number(4.0).name("hvc1").number(4.0);
                });
                properties.name("audioFourCcInfoMap").object(|map| {
                    map.name("mp4a").number(4.0).name(".mp3").number(4.0);
                });
                properties.name("capsEx").number(4.0);
            });
            body.object(|info| {
                info.name("level").string("status");
                info.name("code").string("NetConnection.Connect.Success");
                info.name("description").string("connected");
                info.name("objectEncoding").number(encoding);
            });
        });
    }

    fn ask(&mut self, asked: Asked, command: &Command) -> Result<(), Error> {
        let (name, code) = match asked {
            Asked::Publish => ("publish", "NetStream.Publish.BadName"),
            Asked::Play => ("play", "NetStream.Play.StreamNotFound"),
        };
        let request = match command.string(0) {
            Some(key) => self.connected.request(key).map_err(|error| error.reason()),
            None => Err("the stream key is not a string"),
        };
        match request {
            Ok(request) => {
                let (phase, bounds, event) = match asked {
                    Asked::Publish => (Phase::PublishAsked, Bounds::MEDIA, Event::Publish(request)),
                    Asked::Play => (Phase::PlayAsked, Bounds::COMMANDS, Event::Play(request)),
                };
                self.phase = phase;
                self.link.set_bounds(bounds);
                self.events.push_back(event);
                Ok(())
            }
            Err(reason) => {
                self.end(code, reason);
                Err(Error::Argument { command: name, reason })
            }
        }
    }

    /// The peer ends what it began. Before publish and play these commands are a habit without meaning.
    fn stop(&mut self, command: &Command) {
        if command.name == "FCUnpublish" {
            self.on_fc("onFCUnpublish", "NetStream.Unpublish.Success", command.string(0));
        }
        match self.phase {
            Phase::Publishing => self.on_status("status", "NetStream.Unpublish.Success", "unpublished"),
            Phase::PublishAsked | Phase::PlayAsked | Phase::Playing => {}
            Phase::Handshake(_) | Phase::Connect | Phase::Connected | Phase::Ended => return,
        }
        self.phase = Phase::Ended;
        self.events.push_back(Event::Unpublish);
    }

    /// Answers a call, if an answer is wanted.
    fn result(&mut self, transaction: f64, fill: impl FnOnce(&mut super::amf0::Writer)) {
        if transaction != 0.0 {
            self.link.command(0, "_result", transaction, fill);
        }
    }

    /// Flash Media Live Encoder waits for these.
    fn on_fc(&mut self, name: &str, code: &str, key: Option<&str>) {
        let key = key.map_or("", |key| key.split('?').next().unwrap_or_default());
        self.link.command(0, name, 0.0, |body| {
            body.null();
            status(body, "status", code, key);
        });
    }
}

/// What a command asks for.
#[derive(Clone, Copy)]
enum Asked {
    Publish,
    Play,
}
