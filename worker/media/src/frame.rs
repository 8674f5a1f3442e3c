//! A frame: what every ingest makes and every wire form is packed from.

use bytes::Bytes;

/// One access unit of one track, or the configuration its decoder needs first.
///
/// The payload is in the form that ISO/IEC 14496-15 and FLV share, so that RTMP in → RTMP out moves bytes and converts
/// nothing; other ingests (PS, later RTSP) convert once, here, never per viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is a picture or a sound of.
    pub codec: Codec,
    /// Its place in decoding.
    pub kind: Kind,
    /// Decoding time on the source's own clock, unwrapped to 64 bits, in milliseconds.
    pub dts_ms: i64,
    /// Presentation time less decoding time, in milliseconds. Not below zero except from sources that send it so; 0 for audio.
    pub cts_ms: i32,
    /// The coded bytes, by codec and kind:
    ///
    /// | codec | `Config` | `Key`, `Inter` |
    /// |---|---|---|
    /// | H264 | AVCDecoderConfigurationRecord | NAL units, each behind its length in the width that the record states (4 bytes when we made it) |
    /// | H265 | HEVCDecoderConfigurationRecord | the same |
    /// | Aac | AudioSpecificConfig | one raw_data_block, no ADTS |
    /// | Mp3 | - | one frame with its header |
    /// | PcmA, PcmU | - | G.711 samples |
    /// | Script | - | AMF0: the string `onMetaData`, then its value |
    pub payload: Bytes,
}

/// The codecs that penstock carries. Anything else is refused at ingest by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
    /// MPEG-4 AAC.
    Aac,
    /// MPEG-1 audio layer III.
    Mp3(Sound),
    /// G.711 A-law.
    PcmA(Sound),
    /// G.711 µ-law.
    PcmU(Sound),
    /// Metadata of an RTMP publisher.
    Script,
}

/// What an FLV audio tag header says of sounds whose frames don't say it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sound {
    /// Samples a second.
    pub rate_hz: u32,
    /// 1 or 2.
    pub channels: u8,
}

/// A frame's place in decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Decoder configuration; replaces the former one of this track.
    Config,
    /// Decodable by itself: a key frame (IDR or IRAP), and every audio frame.
    Key,
    /// Needs frames before it.
    Inter,
}

/// The tracks of a stream: at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Metadata.
    Data,
}

impl Track {
    /// The timestamp that a message or tag of this track carries when the stream stands at `timestamp`.
    ///
    /// Metadata is about the stream as a whole and always stands at 0: ffmpeg takes a later one for a subtitle track.
    pub fn wire_timestamp(self, timestamp: u32) -> u32 {
        match self {
            Track::Video | Track::Audio => timestamp,
            Track::Data => 0,
        }
    }
}

impl Codec {
    /// The track this codec belongs to.
    pub fn track(self) -> Track {
        match self {
            Codec::H264 | Codec::H265 => Track::Video,
            Codec::Aac | Codec::Mp3(_) | Codec::PcmA(_) | Codec::PcmU(_) => Track::Audio,
            Codec::Script => Track::Data,
        }
    }

    /// The family's name as status and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Aac => "AAC",
            Codec::Mp3(_) => "MP3",
            Codec::PcmA(_) => "PCMA",
            Codec::PcmU(_) => "PCMU",
            Codec::Script => "Script",
        }
    }
}

impl Frame {
    /// True where a viewer may begin with this frame: a video key frame.
    pub fn is_key_picture(&self) -> bool {
        self.kind == Kind::Key && self.codec.track() == Track::Video
    }
}
