//! What is known of a stream's tracks, and the opening that each viewer is sent before its first frame.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::flv;
use crate::frame::{Codec, Frame, Kind, Track};
use crate::packed::Form;
use crate::rtmp;

/// The tracks of a stream at one point of it. Cheap to clone: payloads are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// The codec of the pictures, once any were seen.
    pub video: Option<Codec>,
    /// The codec of the sound, once any was heard.
    pub audio: Option<Codec>,
    video_config: Option<Frame>,
    audio_config: Option<Frame>,
    metadata: Option<Frame>,
}

/// What an opening is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A viewer's first frame comes next.
    First,
    /// A viewer has left something out, maybe a change of configuration.
    Again,
}

impl Tracks {
    /// Notes what a frame tells. True where it changed anything that viewers must know.
    pub fn learn(self: &mut Arc<Self>, frame: &Frame) -> bool {
        let (codec, config) = match frame.codec.track() {
            Track::Video => (self.video, &self.video_config),
            Track::Audio => (self.audio, &self.audio_config),
            Track::Data => (Some(Codec::Script), &self.metadata),
        };
        let is_config = frame.kind == Kind::Config || frame.codec == Codec::Script;
        let same_codec = codec == Some(frame.codec);
        let same_config = config.as_ref().is_some_and(|held| held.payload == frame.payload);
        if same_codec && (same_config || !is_config) {
            return false;
        }
        // Kept for long: a slice would hold the whole buffer that it was read into. Without one, the configuration of another
        // codec goes: it says nothing of this one.
        let config =
            is_config.then(|| Frame { payload: Bytes::copy_from_slice(&frame.payload), ..frame.clone() });
        let tracks = Arc::make_mut(self);
        match frame.codec.track() {
            Track::Video => (tracks.video, tracks.video_config) = (Some(frame.codec), config),
            Track::Audio => (tracks.audio, tracks.audio_config) = (Some(frame.codec), config),
            Track::Data => tracks.metadata = config,
        }
        true
    }

    /// What a viewer needs before a frame at `timestamp`, to which these are the tracks: FLV's header (at first), metadata,
    /// configurations. Header and metadata speak of the whole, so they are the `latest`'s; a configuration that came after the frame
    /// stands in the ring after it.
    pub fn opening(&self, form: Form, opening: Opening, timestamp: u32, latest: &Tracks) -> Bytes {
        let mut out = BytesMut::new();
        match (form, opening) {
            (Form::Flv, Opening::First) => {
                out.extend_from_slice(&flv::header(latest.video.is_some(), latest.audio.is_some()));
            }
            (Form::Flv, Opening::Again) | (Form::Rtmp, _) => {}
        }
        let mut put = |frame: &Frame| match form {
            Form::Rtmp => out.extend_from_slice(&rtmp::pack(frame, timestamp)),
            Form::Flv => out.extend_from_slice(&flv::pack_tag(frame, timestamp)),
        };
        if let (Some(metadata), Opening::First) = (&latest.metadata, opening) {
            let payload = flv::for_tracks(&metadata.payload, latest.video, latest.audio);
            put(&Frame { payload, ..metadata.clone() });
        }
        self.video_config.iter().for_each(&mut put);
        self.audio_config.iter().for_each(&mut put);
        out.freeze()
    }

    /// Names of the codecs, video first.
    pub fn names(&self) -> Vec<&'static str> {
        [self.video, self.audio].into_iter().flatten().map(Codec::name).collect()
    }

    /// Whether nothing more is to be waited for before viewers begin: both tracks are known, or the metadata says that there is
    /// only one. `None` where that can't be told.
    pub fn complete(&self) -> Option<bool> {
        let mentions = |key: &str| {
            let metadata = self.metadata.as_ref()?;
            Some(metadata.payload.windows(key.len()).any(|window| window == key.as_bytes()))
        };
        match (self.video, self.audio) {
            (Some(_), Some(_)) => Some(true),
            (Some(_), None) => mentions("audiocodecid").map(|mentioned| !mentioned),
            (None, Some(_)) => mentions("videocodecid").map(|mentioned| !mentioned),
            (None, None) => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(codec: Codec, kind: Kind, payload: &'static str) -> Frame {
        Frame { codec, kind, dts_ms: 0, cts_ms: 0, payload: payload.into() }
    }

    #[test]
    fn only_news_are_news() {
        let mut tracks = Arc::new(Tracks::default());
        let cases = [
            (Codec::Script, Kind::Config, "meta", true),
            (Codec::Script, Kind::Config, "meta", false),
            (Codec::H264, Kind::Config, "sps1", true),
            (Codec::H264, Kind::Config, "sps1", false),
            (Codec::H264, Kind::Key, "picture", false),
            (Codec::H264, Kind::Config, "sps2", true),
            (Codec::Aac, Kind::Key, "sound", true),
            (Codec::Aac, Kind::Key, "sound", false),
            (Codec::Aac, Kind::Config, "asc", true),
            (Codec::H265, Kind::Key, "picture", true),
            (Codec::H265, Kind::Config, "sps2", true),
        ];
        for (codec, kind, payload, news) in cases {
            assert_eq!(tracks.learn(&frame(codec, kind, payload)), news, "{codec:?} {kind:?} {payload}");
        }
        assert_eq!(tracks.names(), ["H265", "AAC"]);
    }

    #[test]
    fn an_opening_claims_no_track_that_is_not_there() {
        let mut tracks = Arc::new(Tracks::default());
        tracks.learn(&frame(Codec::H264, Kind::Config, "sps"));
        let video_only = tracks.opening(Form::Flv, Opening::First, 0, &tracks);
        assert_eq!(video_only[..5], *b"FLV\x01\x01");
        tracks.learn(&frame(Codec::Aac, Kind::Config, "asc"));
        let both = tracks.opening(Form::Flv, Opening::First, 0, &tracks);
        assert_eq!(both[..5], *b"FLV\x01\x05");
        let again = tracks.opening(Form::Flv, Opening::Again, 7, &tracks);
        assert!(!again.starts_with(b"FLV"));
        let configs = [
            flv::pack_tag(&frame(Codec::H264, Kind::Config, "sps"), 7),
            flv::pack_tag(&frame(Codec::Aac, Kind::Config, "asc"), 7),
        ];
        assert_eq!(again, configs.concat());
    }
}
