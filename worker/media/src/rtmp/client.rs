//! The other end: a client that publishes or plays, for the worker's canary, tests and load.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::amf0::Value;
use super::chunk::{Bounds, Message};
use super::command::{Command, amf0_body, kind, user_control};
use super::handshake::{Handshake, Progress};
use super::limits::ACK_WINDOW_BYTES;
use super::link::{Link, user_event};
use super::pack::MESSAGE_STREAM;
use super::{Clock, Error, limits};
use crate::flv::{self, Parsed};
use crate::frame::{Codec, Frame, Kind};

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
    /// Fills the random part of the handshake; any number.
    pub seed: u64,
}

/// What the server's bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// NetStream.Publish.Start or NetStream.Play.Start came.
    Started,
    /// Media (role `Play`).
    Frame(Frame),
    /// An audio or video message (role `Count`).
    Message {
        /// Its timestamp as on the wire.
        timestamp: u32,
        /// Its bytes without chunk headers.
        bytes: usize,
    },
    /// Any other onStatus of level `status`. Those of level `error` are [`Error::Refused`].
    Status {
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
    config: ClientConfig,
    /// None when it is over.
    handshake: Option<Handshake>,
    link: Link,
    clock: Clock,
    events: VecDeque<ClientEvent>,
}

/// Transactions, in the order of the calls.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH_OR_PLAY: f64 = 5.0;
const FC_UNPUBLISH: f64 = 6.0;

impl Client {
    /// A client that has its first bytes ready in `poll_transmit`.
    pub fn new(config: ClientConfig) -> Client {
        let (handshake, hello) = Handshake::client(config.seed);
        let mut link = Link::new(Bounds::MEDIA);
        link.send(&hello);
        Client { config, handshake: Some(handshake), link, clock: Clock::default(), events: VecDeque::new() }
    }

    /// Takes what the server sent. A refusal is an error.
    pub fn receive(&mut self, mut input: Bytes, now: Duration) -> Result<(), Error> {
        let _ = now;
        if let Some(handshake) = &mut self.handshake {
            let (progress, answer) = handshake.receive(&mut input)?;
            if let Some(answer) = answer {
                self.link.send(&answer);
            }
            match progress {
                Progress::NeedMore => return Ok(()),
                Progress::Done => {
                    self.handshake = None;
                    self.connect();
                }
            }
        }
        while let Some(message) = self.link.read(&mut input)? {
            self.take_message(message)?;
            if self.events.len() > limits::EVENTS_MAX {
                return Err(Error::TooManyMessages { max: limits::EVENTS_MAX });
            }
        }
        Ok(())
    }

    /// What it meant.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Bytes for the server.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.link.take()
    }

    /// Queues a frame of an accepted publish, at `timestamp` on the wire. Metadata goes as `@setDataFrame`.
    pub fn send(&mut self, frame: &Frame, timestamp: u32) {
        match frame.codec {
            Codec::Script => {
                let mut body = super::amf0::Writer::new();
                body.string("@setDataFrame");
                let mut payload = body.finish();
                payload.extend_from_slice(&frame.payload);
                self.link.frame(&Frame { payload: payload.freeze(), ..frame.clone() }, timestamp);
            }
            Codec::H264 | Codec::H265 | Codec::Aac | Codec::Mp3(_) | Codec::PcmA(_) | Codec::PcmU(_) => {
                self.link.frame(frame, timestamp);
            }
        }
    }

    /// Ends the publish or play politely.
    pub fn stop(&mut self) {
        if self.config.role == Role::Publish {
            let key = self.config.key.clone();
            self.link.command(0, "FCUnpublish", FC_UNPUBLISH, |body| _ = body.null().string(&key));
        }
        self.link.command(0, "deleteStream", 0.0, |body| _ = body.null().number(MESSAGE_STREAM.into()));
    }

    /// Asks for a pause of a play, or for its end.
    pub fn pause(&mut self, pause: bool) {
        self.link.command(MESSAGE_STREAM, "pause", 0.0, |body| _ = body.null().boolean(pause).number(0.0));
    }

    fn connect(&mut self) {
        let ClientConfig { host, app, chunk_size, .. } = &self.config;
        self.link.set_chunk_size(*chunk_size);
        self.link.command(0, "connect", CONNECT, |body| {
            body.object(|object| {
                object.name("app").string(app);
                object.name("type").string("nonprivate");
                object.name("flashVer").string("FMLE/3.0 (compatible; penstock)");
                object.name("tcUrl").string(&format!("rtmp://{host}/{app}"));
                object.name("fourCcList").strings(&["avc1", "hvc1", "mp4a", ".mp3"]);
                object.name("capsEx").number(4.0);
            });
        });
    }

    fn take_message(&mut self, message: Message) -> Result<(), Error> {
        let Message { chunk_stream: _, kind, message_stream: _, timestamp, ref payload } = message;
        match kind {
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => self.take_command(&Command::parse(kind, payload)?),
            kind::USER_CONTROL => {
                let event = user_event(&message)?.map(|(event, _)| event);
                if event == Some(user_control::STREAM_EOF) {
                    self.events.push_back(ClientEvent::StreamEof);
                }
                Ok(())
            }
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 => match self.config.role {
                Role::Publish => Ok(()),
                Role::Count if kind == kind::AUDIO || kind == kind::VIDEO => {
                    self.events.push_back(ClientEvent::Message { timestamp, bytes: payload.len() });
                    Ok(())
                }
                Role::Count => Ok(()),
                Role::Play => self.take_media(kind, timestamp, payload.clone()),
            },
            _ => Ok(()),
        }
    }

    fn take_media(&mut self, kind: u8, timestamp: u32, body: Bytes) -> Result<(), Error> {
        let parsed = match kind {
            kind::AUDIO => flv::parse_audio(body)?,
            kind::VIDEO => flv::parse_video(body)?,
            _ => match flv::sanitise(amf0_body(kind, &body)) {
                Some(payload) => Parsed::Frame(Frame {
                    codec: Codec::Script,
                    kind: Kind::Config,
                    dts_ms: 0,
                    cts_ms: 0,
                    payload,
                }),
                None => Parsed::Data,
            },
        };
        match parsed {
            Parsed::Frame(frame) => {
                let dts_ms = self.clock.unroll(timestamp);
                self.events.push_back(ClientEvent::Frame(Frame { dts_ms, ..frame }));
            }
            Parsed::Multitrack | Parsed::Data | Parsed::Empty | Parsed::Nothing => {}
        }
        Ok(())
    }

    fn take_command(&mut self, command: &Command) -> Result<(), Error> {
        match command.name.as_str() {
            "_result" if command.transaction == CONNECT => {
                let key = self.config.key.clone();
                self.link.control(kind::WINDOW_ACK_SIZE, ACK_WINDOW_BYTES);
                if self.config.role == Role::Publish {
                    let call = |link: &mut Link, name, transaction| {
                        link.command(0, name, transaction, |body| _ = body.null().string(&key));
                    };
                    call(&mut self.link, "releaseStream", RELEASE_STREAM);
                    call(&mut self.link, "FCPublish", FC_PUBLISH);
                }
                self.link.command(0, "createStream", CREATE_STREAM, |body| _ = body.null());
                Ok(())
            }
            "_result" if command.transaction == CREATE_STREAM => {
                let stream = command.arguments.first().and_then(Value::number).unwrap_or(1.0) as u32;
                let key = &self.config.key;
                match self.config.role {
                    Role::Publish => self.link.command(stream, "publish", PUBLISH_OR_PLAY, |body| {
                        body.null().string(key).string("live");
                    }),
                    Role::Play | Role::Count => {
                        self.link.command(stream, "play", PUBLISH_OR_PLAY, |body| {
                            body.null().string(key).number(-2000.0);
                        });
                    }
                }
                Ok(())
            }
            "onStatus" | "_error" => self.take_status(command),
            _ => Ok(()),
        }
    }

    fn take_status(&mut self, command: &Command) -> Result<(), Error> {
        let info = command.arguments.iter().find(|value| !value.properties().is_empty());
        let text = |name| {
            info.and_then(|info| info.property(name)).and_then(Value::string).unwrap_or_default().to_owned()
        };
        let (code, description) = (text("code"), text("description"));
        if command.name == "_error" || text("level") == "error" {
            return Err(Error::Refused { code, description });
        }
        self.events.push_back(match code.as_str() {
            "NetStream.Publish.Start" | "NetStream.Play.Start" => ClientEvent::Started,
            _ => ClientEvent::Status { code, description },
        });
        Ok(())
    }
}
