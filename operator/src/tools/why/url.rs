//! What is wrong with a URL that an encoder or a player was given.

use http::Uri;
use operator_core::api::{Endpoint, MediaStreamSpec};

/// A URL's parts, as far as they matter here.
struct Parts {
    scheme: String,
    port: Option<u16>,
    path: String,
    has_token: bool,
}

/// How a URL differs from those that lead to the stream, in words; none: it may well lead there.
pub(super) fn mistakes(url: &str, path: &str, spec: &MediaStreamSpec, endpoints: &[Endpoint]) -> Vec<String> {
    let Some(parts) = Parts::of(url) else {
        return vec![format!("{url} is no URL: write one of those below")];
    };
    let served: Vec<Parts> = endpoints.iter().filter_map(|endpoint| Parts::of(&endpoint.url)).collect();
    let mut mistakes = Vec::new();
    let alike: Vec<&Parts> = served.iter().filter(|served| served.scheme == parts.scheme).collect();
    if alike.is_empty() && !served.is_empty() {
        return vec![format!("the stream is not served over {}", parts.scheme)];
    }
    let is_http = parts.scheme == "http";
    let (given, has_ending) = match parts.path.strip_suffix(".flv").filter(|_| is_http) {
        Some(given) => (given, true),
        None => (&*parts.path, false),
    };
    if given != path {
        mistakes.push(format!("its path is {given}, that of the stream is {path}"));
    }
    if is_http && !has_ending {
        mistakes.push("over HTTP the path ends with .flv".to_owned());
    }
    if !alike.is_empty() && !alike.iter().any(|served| served.port == parts.port) {
        let port = |parts: &Parts| parts.port.map_or("none".to_owned(), |port| format!(":{port}"));
        mistakes.push(format!("its port is {}, that of the stream is {}", port(&parts), port(alike[0])));
    }
    let needs_token = spec.publish.token_secret_ref.is_some() || spec.play.token_secret_ref.is_some();
    if needs_token && !parts.has_token {
        mistakes.push("it has no ?token=, which the stream wants to publish or to play".to_owned());
    }
    mistakes
}

impl Parts {
    fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_owned();
        // What nobody writes.
        let default = match &*scheme {
            "rtmp" => Some(1935),
            "http" => Some(80),
            _ => None,
        };
        let query = uri.query().unwrap_or_default();
        Some(Self {
            port: uri.port_u16().filter(|port| Some(*port) != default),
            path: uri.path().strip_prefix('/').unwrap_or_default().to_owned(),
            has_token: query.split('&').any(|pair| pair.starts_with("token=")),
            scheme,
        })
    }
}
