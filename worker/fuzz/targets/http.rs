//! HTTP-FLV's requests.

use media::http::{Asked, HEAD_BYTES_MAX, parse};

/// What is understood is a path that can be looked up, and more bytes never make a whole head incomplete again.
pub(crate) fn request(data: &[u8]) {
    let asked = parse(data);
    match &asked {
        Asked::Flv { path, .. } => {
            assert!(!path.is_empty() && !path.starts_with('/') && !path.ends_with('/'), "{path:?}");
            assert!(!path.contains("//"), "{path:?}");
        }
        Asked::Incomplete => assert!(data.len() < HEAD_BYTES_MAX),
        Asked::Preflight | Asked::Refused(_) => {}
    }
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        if parse(&data[..cut]) != Asked::Incomplete {
            assert_ne!(asked, Asked::Incomplete, "cut at {cut}");
        }
    }
}
