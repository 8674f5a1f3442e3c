//! FLV: the body that RTMP messages and FLV tags share, classic and enhanced, and the tags of HTTP-FLV.
//!
//! In: [`parse_audio`], [`parse_video`], [`sanitise`]. Out: [`header`], [`pack_tag`] and, for RTMP, the same body. HEVC leaves as
//! enhanced FLV (`hvc1`) only: codec id 12 is a private extension that players agree on no more.

mod body;
#[cfg(test)]
pub(crate) mod hex;
mod metadata;
mod parse;
mod tag;

pub use body::{Head, body, body_head};
pub use metadata::{METADATA_BYTES_MAX, for_tracks, sanitise};
pub use parse::{CONFIG_BYTES_MAX, Error, Parsed, parse_audio, parse_video};
pub use tag::{Tag, header, pack_tag, split_header, split_tag};
