//! What a peer asks for: a path to publish or play, with its token and what it can do.

use std::fmt;

use super::amf0::Value;
use super::limits::{PATH_BYTES_MAX, TOKEN_BYTES_MAX};

/// A publish or play request as the hub needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `app/key` of any depth: segments without empty ones, joined by `/`, query taken off. Never empty, at most
    /// [`PATH_BYTES_MAX`] bytes.
    pub path: String,
    /// `?token=` of the key, else of the app, else of tcUrl; as it was sent, without percent-decoding.
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

/// What `connect` said, kept until publish or play.
#[derive(Clone, Debug, Default)]
pub(super) struct Connected {
    app: String,
    token: Option<Token>,
    capabilities: Capabilities,
}

/// Why an app and key make no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    Empty,
    TooLong,
    ControlCharacter,
    TokenTooLong,
}

impl PathError {
    /// What is wrong, and what would be right.
    pub(super) fn reason(self) -> &'static str {
        match self {
            PathError::Empty => "app and stream key are both empty: use rtmp://HOST/app/key",
            PathError::TooLong => "app and stream key are longer than 1024 bytes together",
            PathError::ControlCharacter => "app or stream key has a control character",
            PathError::TokenTooLong => "the token is longer than 2048 bytes",
        }
    }
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

impl Connected {
    /// Reads the command object of `connect`.
    pub(super) fn new(object: &Value) -> Self {
        let string = |name| object.property(name).and_then(Value::string).unwrap_or_default();
        let (app, query) = split_query(string("app"));
        let (_, url_query) = split_query(string("tcUrl"));
        let names_hevc = |name: &str| matches!(name, "hvc1" | "*");
        let listed = match object.property("fourCcList") {
            Some(Value::Array(codecs)) => codecs.iter().filter_map(Value::string).any(names_hevc),
            _ => false,
        };
        let mapped = object
            .property("videoFourCcInfoMap")
            .is_some_and(|map| map.properties().iter().any(|(name, _)| names_hevc(name)));
        Connected {
            app: app.to_owned(),
            token: token(query).or_else(|| token(url_query)),
            capabilities: Capabilities {
                hevc: listed || mapped,
                caps_ex: object.property("capsEx").and_then(Value::number).unwrap_or_default() as u8,
                flash_ver: string("flashVer").chars().filter(|c| !c.is_control()).take(64).collect(),
            },
        }
    }

    /// The request for a stream key of this app.
    pub(super) fn request(&self, key: &str) -> Result<Request, PathError> {
        let (key, query) = split_query(key);
        let segments = self.app.split('/').chain(key.split('/')).filter(|segment| !segment.is_empty());
        let mut path = String::new();
        for segment in segments {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(segment);
        }
        let token = token(query).or_else(|| self.token.clone());
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if path.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter);
        }
        if token.as_ref().is_some_and(|token| token.0.len() > TOKEN_BYTES_MAX) {
            return Err(PathError::TokenTooLong);
        }
        Ok(Request { path, token, capabilities: self.capabilities.clone() })
    }
}

/// What stands before the `?`, and what behind.
fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The first `token` of a query that is not empty.
fn token(query: &str) -> Option<Token> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
        .filter(|token| !token.is_empty())
        .map(Token::new)
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Connected, Token};
    use crate::rtmp::amf0::{Reader, Writer};

    fn connected(fill: impl FnOnce(&mut Writer)) -> Connected {
        let mut out = Writer::new();
        out.object(fill);
        Connected::new(&Reader::new(&out.finish()).value().unwrap())
    }

    fn check(app: &str, tc_url: &str, key: &str, path: &str, token: Option<&str>) {
        let connected = connected(|object| _ = object.name("app").string(app).name("tcUrl").string(tc_url));
        let request = connected.request(key).unwrap();
        assert_eq!((request.path.as_str(), request.token), (path, token.map(Token::new)), "{app} {key}");
    }

    #[test]
    fn a_path_is_app_and_key_without_empty_segments() {
        check("live", "", "cam", "live/cam", None);
        check("/live/", "", "//cam/", "live/cam", None);
        check("a/b/c", "", "d/e", "a/b/c/d/e", None);
        check("", "", "cam", "cam", None);
        check("live", "", "", "live", None);
    }

    #[test]
    fn a_token_is_of_the_key_else_of_the_app_else_of_the_url() {
        let url = "rtmp://h/live?token=u";
        check("live?token=a", url, "cam?x=1&token=k", "live/cam", Some("k"));
        check("live?token=a", url, "cam?x=1", "live/cam", Some("a"));
        check("live", url, "cam?token=", "live/cam", Some("u"));
        check("live", "rtmp://h/live", "cam?tokens=x", "live/cam", None);
        check("live", "", "cam?token=a=b%20c", "live/cam", Some("a=b%20c"));
    }

    #[test]
    fn a_path_that_cannot_be_one_says_why() {
        let empty = connected(|_| {});
        let long = "x".repeat(3000);
        for (key, reason) in [
            ("", "app and stream key are both empty: use rtmp://HOST/app/key"),
            ("?token=a", "app and stream key are both empty: use rtmp://HOST/app/key"),
            (&long, "app and stream key are longer than 1024 bytes together"),
            ("a\nb", "app or stream key has a control character"),
            (&format!("a?token={long}"), "the token is longer than 2048 bytes"),
        ] {
            assert_eq!(empty.request(key).map_err(|error| error.reason()), Err(reason));
        }
    }

    #[test]
    fn capabilities_are_those_of_connect() {
        let listed = connected(|object| {
            object.name("fourCcList").strings(&["av01", "hvc1"]).name("capsEx").number(5.0);
            object.name("flashVer").string(&format!("LNX\n{}", "9".repeat(100)));
        });
        let flash_ver = format!("LNX{}", "9".repeat(61));
        let expected = Capabilities { hevc: true, caps_ex: 5, flash_ver };
        assert_eq!(listed.request("a").unwrap().capabilities, expected);
        let hevc = |fill: fn(&mut Writer)| connected(fill).request("a").unwrap().capabilities.hevc;
        assert!(hevc(|object| _ = object.name("fourCcList").strings(&["*"])));
        assert!(hevc(|object| {
            object.name("videoFourCcInfoMap").object(|map| _ = map.name("hvc1").number(1.0));
        }));
        assert!(!hevc(|object| _ = object.name("fourCcList").strings(&["av01"])));
        assert!(!hevc(|object| _ = object.name("fourCcList").string("hvc1")));
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Token::new("secret"))), "Some(Token(…))");
        assert_eq!(Token::new("secret").as_bytes(), b"secret");
    }
}
