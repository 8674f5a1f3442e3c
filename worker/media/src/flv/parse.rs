//! The body of an audio or video message, classic (Adobe FLV 10.1 annex E.4.2, E.4.3) or enhanced (Enhanced RTMP v2), as a frame.

use bytes::{Buf, Bytes};

use crate::frame::{Codec, Frame, Kind, Sound};

/// Bytes of a decoder configuration. Parameter sets of real encoders are under 1 KiB. It is kept beside the ring and sent to each viewer
/// by itself, so what it may be is far less than what a picture may.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// Why a body is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body ends inside its own header.
    #[error("{what} tag of {length} bytes ends inside its header")]
    Truncated {
        /// `audio` or `video`.
        what: &'static str,
        /// Bytes that were there.
        length: usize,
    },
    /// A decoder configuration that no decoder has.
    #[error("a decoder configuration of {length} bytes: the most is {max}", max = CONFIG_BYTES_MAX)]
    Configuration {
        /// Its bytes.
        length: usize,
    },
    /// A video codec that penstock does not carry.
    #[error("video codec {codec} is not carried: send H.264 or H.265")]
    VideoCodec {
        /// Its name or FourCC.
        codec: String,
    },
    /// An audio codec that penstock does not carry.
    #[error("audio codec {codec} is not carried: send AAC, MP3 or G.711")]
    AudioCodec {
        /// Its name or FourCC.
        codec: String,
    },
}

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A frame. Its `dts_ms` is 0: the message knows it.
    Frame(Frame),
    /// A track of Enhanced RTMP multitrack. Encoders send the first track without it.
    Multitrack,
    /// A data message that is not carried.
    Data,
    /// No content where some belongs.
    Empty,
    /// Nothing that a player needs: end of sequence, colour information, a command to the player.
    Nothing,
}

/// Reads the body of a video message (type 9).
pub fn parse_video(body: Bytes) -> Result<Parsed, Error> {
    let mut rest = Rest { what: "video", length: body.len(), bytes: body };
    if rest.bytes.is_empty() {
        return Ok(Parsed::Empty);
    }
    let [first] = rest.take()?;
    let frame_type = first >> 4 & 7;
    if first & 0x80 != 0 {
        return parse_enhanced_video(frame_type, first & 0xf, rest);
    }
    // 5 is a command to the player, such as "seeking begins".
    if frame_type == 5 {
        return Ok(Parsed::Nothing);
    }
    let codec = match first & 0xf {
        7 => Codec::H264,
        // Never standardised, but sent by many cameras and older encoders.
        12 => Codec::H265,
        other => return Err(Error::VideoCodec { codec: classic_video_name(other) }),
    };
    let [packet] = rest.take()?;
    let cts_ms = rest.composition()?;
    Ok(match packet {
        0 => config(codec, rest.bytes)?,
        1 => video(codec, coded_kind(frame_type), cts_ms, rest.bytes),
        _ => Parsed::Nothing,
    })
}

fn parse_enhanced_video(frame_type: u8, packet: u8, mut rest: Rest) -> Result<Parsed, Error> {
    let packet = rest.skip_mod_ex(packet)?;
    // The frame type means nothing with metadata, and a command has no FourCC.
    if packet == 4 || frame_type == 5 {
        return Ok(Parsed::Nothing);
    }
    if packet == 6 {
        return Ok(Parsed::Multitrack);
    }
    let codec = match &rest.take()? {
        b"avc1" => Codec::H264,
        b"hvc1" => Codec::H265,
        other => return Err(Error::VideoCodec { codec: four_cc(other) }),
    };
    Ok(match packet {
        0 => config(codec, rest.bytes)?,
        1 => {
            let cts_ms = rest.composition()?;
            video(codec, coded_kind(frame_type), cts_ms, rest.bytes)
        }
        3 => video(codec, coded_kind(frame_type), 0, rest.bytes),
        _ => Parsed::Nothing,
    })
}

/// Reads the body of an audio message (type 8).
pub fn parse_audio(body: Bytes) -> Result<Parsed, Error> {
    let mut rest = Rest { what: "audio", length: body.len(), bytes: body };
    // An empty audio message says "silence from here".
    if rest.bytes.is_empty() {
        return Ok(Parsed::Empty);
    }
    let [first] = rest.take()?;
    let channels = 1 + (first & 1);
    let codec = match first >> 4 {
        2 => Codec::Mp3(Sound {
            rate_hz: [5_512, 11_025, 22_050, 44_100][usize::from(first >> 2 & 3)],
            channels,
        }),
        14 => Codec::Mp3(Sound { rate_hz: 8_000, channels }),
        // G.711 in FLV is of 8 kHz, whatever the two bits say; encoders fill in anything.
        7 => Codec::PcmA(Sound { rate_hz: 8_000, channels }),
        8 => Codec::PcmU(Sound { rate_hz: 8_000, channels }),
        9 => return parse_enhanced_audio(first & 0xf, rest),
        10 => {
            let [packet] = rest.take()?;
            return Ok(match packet {
                0 => config(Codec::Aac, rest.bytes)?,
                1 => audio(Codec::Aac, Kind::Key, rest.bytes),
                _ => Parsed::Nothing,
            });
        }
        other => return Err(Error::AudioCodec { codec: classic_audio_name(other) }),
    };
    Ok(audio(codec, Kind::Key, rest.bytes))
}

fn parse_enhanced_audio(packet: u8, mut rest: Rest) -> Result<Parsed, Error> {
    let packet = rest.skip_mod_ex(packet)?;
    if packet == 5 {
        return Ok(Parsed::Multitrack);
    }
    let four_cc_bytes = rest.take()?;
    Ok(match (&four_cc_bytes, packet) {
        (b"mp4a", 0) => config(Codec::Aac, rest.bytes)?,
        (b"mp4a", 1) => audio(Codec::Aac, Kind::Key, rest.bytes),
        (b".mp3", 1) => match mp3_sound(&rest.bytes) {
            Some(sound) => audio(Codec::Mp3(sound), Kind::Key, rest.bytes),
            None => Parsed::Empty,
        },
        (b"mp4a" | b".mp3", _) => Parsed::Nothing,
        (other, _) => return Err(Error::AudioCodec { codec: four_cc(other) }),
    })
}

fn config(codec: Codec, payload: Bytes) -> Result<Parsed, Error> {
    let length = payload.len();
    if length > CONFIG_BYTES_MAX {
        return Err(Error::Configuration { length });
    }
    Ok(video(codec, Kind::Config, 0, payload))
}

fn video(codec: Codec, kind: Kind, cts_ms: i32, payload: Bytes) -> Parsed {
    if payload.is_empty() {
        Parsed::Empty
    } else {
        Parsed::Frame(Frame { codec, kind, dts_ms: 0, cts_ms, payload })
    }
}

fn audio(codec: Codec, kind: Kind, payload: Bytes) -> Parsed {
    video(codec, kind, 0, payload)
}

/// 1 is a key frame, 4 one that a server generated.
fn coded_kind(frame_type: u8) -> Kind {
    match frame_type {
        1 | 4 => Kind::Key,
        _ => Kind::Inter,
    }
}

/// The rate and channels in an MPEG audio frame header (ISO/IEC 11172-3 §2.4.1.3), for the classic tag that players get.
fn mp3_sound(frame: &[u8]) -> Option<Sound> {
    let [0xff, second @ 0xe0..=0xff, third, fourth] = *frame.first_chunk()? else { return None };
    let of_mpeg1 = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))?;
    let rate_hz = match second >> 3 & 3 {
        3 => *of_mpeg1,
        2 => of_mpeg1 / 2,
        0 => of_mpeg1 / 4,
        _ => return None,
    };
    Some(Sound { rate_hz, channels: if fourth >> 6 == 3 { 1 } else { 2 } })
}

fn classic_video_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen Video".to_owned(),
        4 | 5 => "On2 VP6".to_owned(),
        13 => "AV1 (codec id 13)".to_owned(),
        other => format!("id {other}"),
    }
}

fn classic_audio_name(id: u8) -> String {
    match id {
        0 | 3 => "linear PCM".to_owned(),
        1 => "ADPCM".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        11 => "Speex".to_owned(),
        13 => "Opus (format 13)".to_owned(),
        other => format!("format {other}"),
    }
}

/// A FourCC as text; what can't be printed as an escape.
fn four_cc(bytes: &[u8; 4]) -> String {
    bytes.escape_ascii().to_string()
}

/// What is left of a body, and how to say that it is too short.
struct Rest {
    what: &'static str,
    length: usize,
    bytes: Bytes,
}

impl Rest {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.bytes.first_chunk() {
            Some(taken) => {
                let taken = *taken;
                self.bytes.advance(N);
                Ok(taken)
            }
            None => Err(Error::Truncated { what: self.what, length: self.length }),
        }
    }

    /// SI24.
    fn composition(&mut self) -> Result<i32, Error> {
        let [a, b, c] = self.take()?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// Reads over the ModEx packets that stand before the real one: finer time than players of FLV have use for.
    fn skip_mod_ex(&mut self, mut packet: u8) -> Result<u8, Error> {
        while packet == 7 {
            let [short] = self.take()?;
            let mut size = usize::from(short) + 1;
            if size == 256 {
                size = usize::from(u16::from_be_bytes(self.take()?)) + 1;
            }
            if self.bytes.len() < size {
                return Err(Error::Truncated { what: self.what, length: self.length });
            }
            self.bytes.advance(size);
            let [kinds] = self.take()?;
            packet = kinds & 0xf;
        }
        Ok(packet)
    }
}

#[cfg(test)]
mod tests;
