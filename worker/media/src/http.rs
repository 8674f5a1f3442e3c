//! HTTP as far as HTTP-FLV needs it: one GET, and an answer that goes on until somebody leaves.

use std::fmt::Write;

use bytes::Bytes;

/// The head of a request. Browsers send under 2 KiB; a token may be 2 KiB more.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The head of a request of the health port. Probes send some 150 bytes.
pub const HEALTH_BYTES_MAX: usize = 2 * 1024;

/// Headers of a request. Browsers send 15.
pub const HEADERS_MAX: usize = 64;

/// What a request's head asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The head isn't whole yet.
    Incomplete,
    /// `GET` or `HEAD` of `/<path>.flv`.
    Flv {
        /// The path, without slashes at its ends and without `.flv`.
        path: String,
        /// `?token=` or `Authorization: Bearer`.
        token: Option<String>,
        /// `HEAD`: no body is wanted.
        head_only: bool,
    },
    /// A browser asks what it may ask.
    Preflight,
    /// Something to refuse.
    Refused(Status),
}

/// Answers other than the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The request is fine, and no body is wanted.
    Ok,
    /// The answer to a preflight.
    NoContent,
    /// Not HTTP/1.1, or a path that can't be one.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// Not from this address, or not over HTTP-FLV.
    Forbidden,
    /// No such stream.
    NotFound,
    /// Neither GET, HEAD nor OPTIONS.
    MethodNotAllowed,
    /// The head did not come in time.
    RequestTimeout,
    /// The head is larger than [`HEAD_BYTES_MAX`].
    HeaderTooLarge,
    /// Come again in a moment.
    Unavailable,
}

/// What somebody asked the health port for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthAsked {
    /// The head isn't whole yet.
    Incomplete,
    /// `GET` of `/healthz`: is it ready?
    Health,
    /// `GET` of `/livez`: would a restart be of use?
    Life,
    /// Something that is not served there.
    Else,
    /// More than [`HEALTH_BYTES_MAX`], or no HTTP/1: it is not answered.
    Refused,
}

/// Reads the head of a request to the health port as far as it came.
pub fn parse_health(received: &[u8]) -> HealthAsked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Ok(httparse::Status::Complete(length)) if length <= HEALTH_BYTES_MAX => {}
        Ok(httparse::Status::Partial) if received.len() <= HEALTH_BYTES_MAX => {
            return HealthAsked::Incomplete;
        }
        Ok(_) | Err(_) => return HealthAsked::Refused,
    }
    let path = request.path.unwrap_or_default();
    match (request.method, path.split_once('?').map_or(path, |(path, _)| path)) {
        (Some("GET"), "/healthz") => HealthAsked::Health,
        (Some("GET"), "/livez") => HealthAsked::Life,
        _ => HealthAsked::Else,
    }
}

/// Reads the head of a request as far as it came.
pub fn parse(received: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if received.len() < HEAD_BYTES_MAX => return Asked::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Asked::Refused(Status::HeaderTooLarge);
        }
        Err(_) => return Asked::Refused(Status::BadRequest),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        Some("OPTIONS") => return Asked::Preflight,
        _ => return Asked::Refused(Status::MethodNotAllowed),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // A path with a control character is none over RTMP either, and would be unreadable in a log.
    let Some(path) = decode(path).filter(|path| !path.chars().any(char::is_control)) else {
        return Asked::Refused(Status::BadRequest);
    };
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let path = segments.join("/");
    let Some(path) = path.strip_suffix(".flv").filter(|path| !path.is_empty() && !path.ends_with('/')) else {
        return Asked::Refused(Status::NotFound);
    };
    let in_query = query.split('&').find_map(|pair| pair.strip_prefix("token=")).and_then(decode);
    let in_header = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("authorization"))
        .and_then(|header| std::str::from_utf8(header.value).ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim().to_owned());
    Asked::Flv { path: path.to_owned(), token: in_query.or(in_header), head_only }
}

/// The head of the stream's answer. Its length isn't known, and its end is the connection's: no chunks, which would cost
/// each viewer a head a write.
pub fn flv_begins() -> Bytes {
    Bytes::from_static(
        b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\nCache-Control: no-store\r\n\
          Access-Control-Allow-Origin: *\r\n\r\n",
    )
}

/// The answer to a player for whom no media came.
pub fn not_found(why: &str) -> Bytes {
    answer(Status::NotFound, why)
}

/// A whole answer: a status and why, in words.
pub fn answer(status: Status, why: &str) -> Bytes {
    let (line, more) = match status {
        Status::Ok => ("200 OK", "Content-Type: video/x-flv\r\n"),
        Status::NoContent => (
            "204 No Content",
            "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
             Access-Control-Allow-Headers: Authorization, Range\r\nAccess-Control-Max-Age: 86400\r\n",
        ),
        Status::BadRequest => ("400 Bad Request", ""),
        Status::Unauthorized => ("401 Unauthorized", "WWW-Authenticate: Bearer\r\n"),
        Status::Forbidden => ("403 Forbidden", ""),
        Status::NotFound => ("404 Not Found", ""),
        Status::MethodNotAllowed => ("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n"),
        Status::RequestTimeout => ("408 Request Timeout", ""),
        Status::HeaderTooLarge => ("431 Request Header Fields Too Large", ""),
        Status::Unavailable => ("503 Service Unavailable", "Retry-After: 1\r\n"),
    };
    let mut out = format!(
        "HTTP/1.1 {line}\r\n{more}Connection: close\r\nCache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\n"
    );
    match status {
        Status::Ok | Status::NoContent => out.push_str("\r\n"),
        Status::BadRequest
        | Status::Unauthorized
        | Status::Forbidden
        | Status::NotFound
        | Status::MethodNotAllowed
        | Status::RequestTimeout
        | Status::HeaderTooLarge
        | Status::Unavailable => {
            write!(
                out,
                "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{why}\n",
                why.len() + 1
            )
            .expect("a String takes all that is written");
        }
    }
    out.into()
}

/// Percent-decodes; `None` where it isn't UTF-8 or an escape is cut.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flv(path: &str, token: Option<&str>) -> Asked {
        Asked::Flv { path: path.into(), token: token.map(Into::into), head_only: false }
    }

    #[test]
    fn the_health_port_knows_one_page() {
        let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(HEALTH_BYTES_MAX));
        for (request, asked) in [
            ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", HealthAsked::Health),
            ("GET /healthz?verbose HTTP/1.0\r\n\r\n", HealthAsked::Health),
            ("GET /livez HTTP/1.1\r\n\r\n", HealthAsked::Life),
            ("POST /healthz HTTP/1.1\r\n\r\n", HealthAsked::Else),
            ("GET / HTTP/1.1\r\n\r\n", HealthAsked::Else),
            ("GET /healthz HTT", HealthAsked::Incomplete),
            ("\0\r\n\r\n", HealthAsked::Refused),
            (&long[..HEALTH_BYTES_MAX], HealthAsked::Incomplete),
            (&long, HealthAsked::Refused),
        ] {
            assert_eq!(parse_health(request.as_bytes()), asked, "{:.60}", request);
        }
    }

    #[test]
    fn a_request_is_a_path_and_a_token_or_a_refusal_that_says_why() {
        let many = format!("GET /a.flv HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
        let long = format!("GET /a.flv HTTP/1.1\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        let cases: &[(&str, Asked)] = &[
            ("GET /live/cam-1.flv HTTP/1.1\r\nHost: a\r\n\r\n", flv("live/cam-1", None)),
            ("GET //live//a/b.flv?x=1&token=s%20t HTTP/1.0\r\n\r\n", flv("live/a/b", Some("s t"))),
            (
                "GET /live/%63am.flv HTTP/1.1\r\nauthorization: bearer  abc \r\n\r\n",
                flv("live/cam", Some("abc")),
            ),
            ("GET /a.flv?token=q HTTP/1.1\r\nAuthorization: Bearer h\r\n\r\n", flv("a", Some("q"))),
            ("GET /a.flv HTTP/1.1\r\nAuthorization: Basic h\r\n\r\n", flv("a", None)),
            ("HEAD /a.flv HTTP/1.1\r\n\r\n", Asked::Flv { path: "a".into(), token: None, head_only: true }),
            ("OPTIONS /a.flv HTTP/1.1\r\n\r\n", Asked::Preflight),
            ("GET /a.flv HTT", Asked::Incomplete),
            ("", Asked::Incomplete),
            ("GET /a HTTP/1.1\r\n\r\n", Asked::Refused(Status::NotFound)),
            ("GET /.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::NotFound)),
            ("GET /live/.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::NotFound)),
            ("GET /%f HTTP/1.1\r\n\r\n", Asked::Refused(Status::BadRequest)),
            ("GET /%ff.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::BadRequest)),
            ("GET /a%0ab.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::BadRequest)),
            ("GET /a%c2%85b.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::BadRequest)),
            ("POST /a.flv HTTP/1.1\r\n\r\n", Asked::Refused(Status::MethodNotAllowed)),
            ("\x16\x03\x01\x02", Asked::Refused(Status::BadRequest)),
            (&many, Asked::Refused(Status::HeaderTooLarge)),
            (&long, Asked::Refused(Status::HeaderTooLarge)),
        ];
        for (request, want) in cases {
            assert_eq!(parse(request.as_bytes()), *want, "{request:?}");
        }
    }

    #[test]
    fn a_refusal_has_its_length_and_words() {
        let answer = answer(Status::NotFound, "no such stream");
        let text = std::str::from_utf8(&answer).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.ends_with("\r\n\r\nno such stream\n"),
            "{text}"
        );
        assert!(text.contains("Content-Length: 15\r\n"), "{text}");
    }
}
