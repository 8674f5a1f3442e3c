//! onMetaData: what a publisher claims of its stream, made safe and true.

use bytes::Bytes;

use crate::frame::Codec;

/// The payload of a `Script` frame from the body of a data message: `onMetaData` and its numbers, booleans and short strings. None if
/// it is another data message or not well formed.
pub fn sanitise(body: &[u8]) -> Option<Bytes> {
    let _ = body;
    None
}

/// The same metadata for a stream with these tracks: what it says of a track that is not there is taken out, and the codec ids are
/// those of the wire (`hvc1` as a FourCC for H.265).
pub fn for_tracks(payload: &Bytes, video: Option<Codec>, audio: Option<Codec>) -> Bytes {
    let _ = (video, audio);
    payload.clone()
}
