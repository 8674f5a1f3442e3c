//! The body of an audio or video message, classic or enhanced, as a frame.

use bytes::Bytes;

use crate::frame::Frame;

/// Why a body is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body ends inside its own header.
    #[error("the tag's header ends after {length} bytes")]
    Truncated {
        /// Bytes that were there.
        length: usize,
    },
    /// A codec that penstock does not carry.
    #[error("{codec} is not carried: send H.264 or H.265 video, AAC, MP3 or G.711 audio")]
    Codec {
        /// Its name or FourCC.
        codec: String,
    },
}

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A frame.
    Frame(Frame),
    /// A track of Enhanced RTMP multitrack.
    Multitrack,
    /// Nothing that a player needs: end of sequence, colour information, a command of the player's.
    Nothing,
}

/// Reads the body of a video message (type 9).
pub fn parse_video(body: Bytes, dts_ms: i64) -> Result<Parsed, Error> {
    let _ = (body, dts_ms);
    Ok(Parsed::Nothing)
}

/// Reads the body of an audio message (type 8).
pub fn parse_audio(body: Bytes, dts_ms: i64) -> Result<Parsed, Error> {
    let _ = (body, dts_ms);
    Ok(Parsed::Nothing)
}
