//! onMetaData: what a publisher claims of its stream, made safe and true.

use bytes::Bytes;

use crate::frame::Codec;
use crate::rtmp::amf0::{Reader, Value, Writer};

/// Bytes of metadata that are sent on. What ffmpeg and OBS send is under 600.
pub const METADATA_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a data message that are looked at. A file's index of 2 000 key frames is 36 KB.
const DATA_BYTES_MAX: usize = 64 * 1024;

/// Properties that are looked at, so that comparing each with all costs little.
const PROPERTIES_MAX: usize = 512;

/// Bytes of a text in metadata: names of encoders and the like.
const TEXT_BYTES_MAX: usize = 256;

/// What is said of a file and is wrong of a live stream.
const OF_FILES: [&str; 9] = [
    "duration",
    "filesize",
    "datasize",
    "keyframes",
    "hasKeyframes",
    "lasttimestamp",
    "lastkeyframetimestamp",
    "lastkeyframelocation",
    "canSeekToEnd",
];

/// What is said of the pictures, besides `videocodecid`.
const OF_VIDEO: [&str; 7] =
    ["width", "height", "framerate", "fps", "videodatarate", "displayWidth", "displayHeight"];

/// What is said of the sound, besides `audiocodecid`.
const OF_AUDIO: [&str; 6] =
    ["audiodatarate", "audiosamplerate", "audiosamplesize", "audiochannels", "stereo", "audiodelay"];

/// The payload of a `Script` frame from the body of a data message: `onMetaData` and its numbers, booleans and short texts, without what
/// is true of files only. None if it is another data message or not well formed.
pub fn sanitise(body: &[u8]) -> Option<Bytes> {
    let mut reader = Reader::new(body.get(..body.len().min(DATA_BYTES_MAX))?);
    let mut name = reader.value().ok()?;
    if name.string() == Some("@setDataFrame") {
        name = reader.value().ok()?;
    }
    if name.string() != Some("onMetaData") {
        return None;
    }
    let Ok(Value::Object(properties)) = reader.value() else { return None };
    Some(write(properties.iter().filter(|(name, _)| !OF_FILES.contains(&name.as_str()))))
}

/// The same metadata for a stream with these tracks: what it says of a track that is not there is taken out, and the codec ids are
/// those of the wire (`hvc1` as a number for H.265). `payload` is what [`sanitise`] made; without any, pass an empty one.
pub fn for_tracks(payload: &[u8], video: Option<Codec>, audio: Option<Codec>) -> Bytes {
    let mut reader = Reader::new(payload);
    let properties = match (reader.value(), reader.value()) {
        (Ok(_), Ok(Value::Object(properties))) => properties,
        _ => Vec::new(),
    };
    let has = |name: &str| {
        let claims_video = OF_VIDEO.contains(&name);
        let claims_audio = OF_AUDIO.contains(&name);
        let rewritten = matches!(name, "videocodecid" | "audiocodecid" | "hasVideo" | "hasAudio");
        !rewritten && (video.is_some() || !claims_video) && (audio.is_some() || !claims_audio)
    };
    let ids = [("videocodecid", video.and_then(codec_id)), ("audiocodecid", audio.and_then(codec_id))];
    let ids = ids.map(|(name, id)| id.map(|id| (name.to_owned(), Value::Number(id))));
    write(ids.iter().flatten().chain(properties.iter().filter(|(name, _)| has(name))))
}

/// The number that onMetaData calls a codec by (FLV 10.1 annex E.5; Enhanced RTMP v2, "Enhancing onMetaData").
fn codec_id(codec: Codec) -> Option<f64> {
    match codec {
        Codec::H264 => Some(7.0),
        Codec::H265 => Some(u32::from_be_bytes(*b"hvc1").into()),
        Codec::Aac => Some(10.0),
        Codec::Mp3(sound) if sound.rate_hz == 8_000 => Some(14.0),
        Codec::Mp3(_) => Some(2.0),
        Codec::PcmA(_) => Some(7.0),
        Codec::PcmU(_) => Some(8.0),
        Codec::Script => None,
    }
}

/// onMetaData with the plain ones of these properties, as many as fit.
fn write<'a>(properties: impl Iterator<Item = &'a (String, Value)>) -> Bytes {
    let mut kept: Vec<&(String, Value)> = Vec::new();
    let mut bytes = 0;
    for property in properties.take(PROPERTIES_MAX) {
        let (name, value) = property;
        let length = match value {
            Value::Number(_) => 9,
            Value::Boolean(_) => 2,
            Value::String(text) if text.len() <= TEXT_BYTES_MAX => 3 + text.len(),
            Value::String(_) | Value::Object(_) | Value::Array(_) | Value::Null | Value::Omitted => continue,
        };
        if name.is_empty() || kept.iter().any(|(kept, _)| kept == name) {
            continue;
        }
        bytes += 2 + name.len() + length;
        if bytes > METADATA_BYTES_MAX {
            break;
        }
        kept.push(property);
    }
    let mut out = Writer::new();
    out.string("onMetaData").ecma_array(kept.len() as u32, |array| {
        for (name, value) in kept {
            array.name(name);
            match value {
                Value::Number(number) => array.number(*number),
                Value::Boolean(boolean) => array.boolean(*boolean),
                Value::String(text) => array.string(text),
                Value::Object(_) | Value::Array(_) | Value::Null | Value::Omitted => array.null(),
            };
        }
    });
    out.finish().freeze()
}

#[cfg(test)]
mod tests;
