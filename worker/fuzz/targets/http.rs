//! Requests: those of HTTP-FLV, and those of the health port.

use media::http::{
    Asked, HEAD_BYTES_MAX, HEALTH_BYTES_MAX, HealthAsked, Status, answer, flv_begins, not_found, parse,
    parse_health,
};

/// What is understood is a path that can be looked up, more bytes never make a whole head incomplete again, and what a peer
/// sent stands in the body of its answer only.
pub(crate) fn request(data: &[u8]) {
    let asked = parse(data);
    match &asked {
        Asked::Flv { path, token, head_only: _ } => {
            assert!(!path.is_empty() && !path.starts_with('/') && !path.ends_with('/'), "{path:?}");
            assert!(!path.contains("//") && !path.contains(char::is_control), "{path:?}");
            assert!(path.len() + token.as_ref().map_or(0, String::len) < data.len());
            STATUSES.iter().for_each(|status| check_answer(&answer(*status, path), path));
            check_answer(&not_found(path), path);
            check_answer(&flv_begins(), "");
        }
        Asked::Incomplete => assert!(data.len() < HEAD_BYTES_MAX),
        Asked::Preflight => {}
        Asked::Refused(status) => check_answer(&answer(*status, "no"), "no"),
    }
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        if parse(&data[..cut]) != Asked::Incomplete {
            assert_ne!(asked, Asked::Incomplete, "cut at {cut}");
        }
    }
    health(data);
}

fn health(data: &[u8]) {
    let asked = parse_health(data);
    match asked {
        HealthAsked::Incomplete => assert!(data.len() <= HEALTH_BYTES_MAX),
        HealthAsked::Health => assert!(data.windows(8).any(|window| window == b"/healthz")),
        HealthAsked::Life => assert!(data.windows(6).any(|window| window == b"/livez")),
        HealthAsked::Else | HealthAsked::Refused => {}
    }
    let before = parse_health(&data[..data.len() / 2]);
    if before != HealthAsked::Incomplete && data.len() <= HEALTH_BYTES_MAX {
        assert_eq!(before, asked, "more bytes change what was asked");
    }
}

const STATUSES: [Status; 10] = [
    Status::Ok,
    Status::NoContent,
    Status::BadRequest,
    Status::Unauthorized,
    Status::Forbidden,
    Status::NotFound,
    Status::MethodNotAllowed,
    Status::RequestTimeout,
    Status::HeaderTooLarge,
    Status::Unavailable,
];

fn check_answer(answer: &[u8], words: &str) {
    let text = std::str::from_utf8(answer).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
    let mut lines = head.split("\r\n");
    assert!(lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 ")), "{head}");
    assert!(lines.all(|line| line.contains(": ") && !line.contains(char::is_control)), "{head}");
    match head.split_once("Content-Length: ") {
        Some((_, length)) => {
            let length = length.split("\r\n").next().map(str::parse);
            assert_eq!((length, body), (Some(Ok(body.len())), format!("{words}\n").as_str()));
        }
        None => assert_eq!(body, ""),
    }
}
