//! What a peer asks for: a path to publish or play, with its token and what it can do.

use std::fmt;

/// A publish or play request as the hub needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `app/key` of any depth: segments without empty ones, joined by `/`, query taken off. Never empty, at most
    /// [`PATH_BYTES_MAX`](super::limits::PATH_BYTES_MAX) bytes.
    pub path: String,
    /// `?token=` of the key, else of the app, else of tcUrl.
    pub token: Option<Token>,
    /// What the peer said in `connect`.
    pub capabilities: Capabilities,
}

/// A publish or play token. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What the peer announced in `connect` (Enhanced RTMP v2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// True when `fourCcList` or `videoFourCcInfoMap` names `hvc1` or `*`.
    pub hevc: bool,
    /// `capsEx`: bit 0 reconnect, bit 1 multitrack, bit 2 ModEx, bit 3 nanosecond offset.
    pub caps_ex: u8,
    /// `flashVer`, cut to 64 characters: names the client in logs.
    pub flash_ver: String,
}

impl Token {
    /// Takes a token over.
    pub fn new(token: impl Into<String>) -> Self {
        Token(token.into())
    }

    /// The bytes to hash and compare.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
