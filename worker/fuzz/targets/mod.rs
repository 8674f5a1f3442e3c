//! The fuzz targets: each takes bytes as a peer could send them, and checks what must hold whatever they are.
//!
//! Built twice: by `worker/fuzz` under libFuzzer, and by `worker/media/tests/corpus.rs`, which replays the corpus on the stable
//! toolchain. A target is a line here and a folder in `worker/fuzz/corpus`.

mod http;
mod rtmp;
mod rtp;

/// Name, which is also the corpus' folder, and function.
type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    ("rtmp_handshake", rtmp::handshake),
    ("rtmp_chunk", rtmp::chunk),
    ("rtmp_amf0", rtmp::amf0),
    ("rtmp_session", rtmp::session),
    ("rtmp_client", rtmp::client),
    ("flv_body", rtmp::flv_body),
    ("flv_metadata", rtmp::flv_metadata),
    ("flv_tags", rtmp::flv_tags),
    ("rtp_packet", rtp::packet),
    ("rtp_rtcp", rtp::compound),
    ("rtp_rfc4571", rtp::framing),
    ("rtp_receiver", rtp::receiver),
    ("ps_demux", rtp::program_stream),
    ("h26x", rtp::access_unit),
    ("http_request", http::request),
];
