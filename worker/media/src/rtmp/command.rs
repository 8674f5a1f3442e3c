//! Message types, and the commands of NetConnection and NetStream (RTMP 1.0 §7.2).

use super::Error;
use super::amf0::{Reader, Value};

/// Message type ids (RTMP 1.0 §5.4, §7.1).
pub(super) mod kind {
    pub(in crate::rtmp) const SET_CHUNK_SIZE: u8 = 1;
    pub(in crate::rtmp) const ABORT: u8 = 2;
    pub(in crate::rtmp) const ACKNOWLEDGEMENT: u8 = 3;
    pub(in crate::rtmp) const USER_CONTROL: u8 = 4;
    pub(in crate::rtmp) const WINDOW_ACK_SIZE: u8 = 5;
    pub(in crate::rtmp) const SET_PEER_BANDWIDTH: u8 = 6;
    pub(in crate::rtmp) const AUDIO: u8 = 8;
    pub(in crate::rtmp) const VIDEO: u8 = 9;
    pub(in crate::rtmp) const DATA_AMF3: u8 = 15;
    pub(in crate::rtmp) const COMMAND_AMF3: u8 = 17;
    pub(in crate::rtmp) const DATA_AMF0: u8 = 18;
    pub(in crate::rtmp) const COMMAND_AMF0: u8 = 20;
    pub(in crate::rtmp) const AGGREGATE: u8 = 22;
}

/// Events of user control messages (§7.1.7).
pub(super) mod user_control {
    pub(in crate::rtmp) const STREAM_BEGIN: u16 = 0;
    pub(in crate::rtmp) const STREAM_EOF: u16 = 1;
    pub(in crate::rtmp) const PING_REQUEST: u16 = 6;
    pub(in crate::rtmp) const PING_RESPONSE: u16 = 7;
}

/// A command as it came.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: String,
    /// 0 where no answer is wanted.
    pub(super) transaction: f64,
    /// The command object: of `connect`, else Null.
    pub(super) object: Value,
    /// What follows the command object.
    pub(super) arguments: Vec<Value>,
}

impl Command {
    /// Reads the body of a command message. In the AMF3 form (type 17) a byte 0 stands before values that are AMF0 all the same.
    pub(super) fn parse(kind: u8, payload: &[u8]) -> Result<Command, Error> {
        let mut reader = Reader::new(amf0_body(kind, payload));
        let Value::String(name) = reader.value()? else {
            return Err(Error::Argument { command: "(unnamed)", reason: "its name is not a string" });
        };
        let mut value = || if reader.is_empty() { Ok(Value::Null) } else { reader.value() };
        let transaction = value()?.number().unwrap_or(0.0);
        let object = value()?;
        let mut arguments = Vec::new();
        while !reader.is_empty() {
            arguments.push(reader.value()?);
        }
        Ok(Command { name, transaction, object, arguments })
    }

    /// An argument that has to be a string.
    pub(super) fn string(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).and_then(Value::string)
    }
}

/// The AMF0 values of a command or data message, also where it is of the AMF3 type.
pub(super) fn amf0_body(kind: u8, payload: &[u8]) -> &[u8] {
    match payload {
        [0, body @ ..] if kind == kind::COMMAND_AMF3 || kind == kind::DATA_AMF3 => body,
        body => body,
    }
}
