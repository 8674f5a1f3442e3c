//! Reads FLV files: an own reader, so that the product's writer is not checked by itself.
//!
//! Adobe Flash Video File Format 10.1, annex E; enhanced RTMP v1 for the FourCC form of video tags.

/// What a tag is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// Type 8.
    Audio,
    /// Type 9.
    Video,
    /// Type 18.
    Script,
}

/// One tag.
#[derive(Clone, Debug)]
pub struct Tag {
    /// What it is about.
    pub kind: TagKind,
    /// Its 32-bit time in milliseconds: the decoding time.
    pub dts_ms: u32,
    /// What follows the tag's header.
    pub body: Vec<u8>,
}

/// The header's flags: what the file says that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Audio tags follow.
    pub audio: bool,
    /// Video tags follow.
    pub video: bool,
}

/// Reads a whole file. A tag that is cut off at the end is left out: a player that is ended leaves one.
pub fn read(bytes: &[u8]) -> Result<(Header, Vec<Tag>), String> {
    let mut reader = Reader::default();
    let mut tags = Vec::new();
    reader.push(bytes, |tag| tags.push(tag))?;
    let header = reader.header.ok_or("no FLV header")?;
    Ok((header, tags))
}

/// Reads FLV as it comes, in pieces of any size.
#[derive(Default)]
pub struct Reader {
    /// The header, once it is complete.
    pub header: Option<Header>,
    rest: Vec<u8>,
}

impl Reader {
    /// Takes the next bytes and hands each complete tag to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Tag)) -> Result<(), String> {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        if self.header.is_none() {
            if self.rest.len() < 13 {
                return Ok(());
            }
            if &self.rest[..3] != b"FLV" || self.rest[3] != 1 {
                return Err(format!("no FLV header: {:02x?}", &self.rest[..13]));
            }
            let flags = self.rest[4];
            self.header = Some(Header { audio: flags & 4 != 0, video: flags & 1 != 0 });
            at = 13;
        }
        while let Some(head) = self.rest.get(at..at + 11) {
            let size = be24(&head[1..]) as usize;
            let Some(body) = self.rest.get(at + 11..at + 11 + size) else { break };
            let Some(back) = self.rest.get(at + 11 + size..at + 15 + size) else { break };
            let back = u32::from_be_bytes([back[0], back[1], back[2], back[3]]);
            if back as usize != size + 11 {
                return Err(format!("PreviousTagSize is {back} behind a tag of {}", size + 11));
            }
            let kind = match head[0] & 0x1f {
                8 => TagKind::Audio,
                9 => TagKind::Video,
                18 => TagKind::Script,
                other => return Err(format!("tag type {other}")),
            };
            let dts_ms = be24(&head[4..]) | u32::from(head[7]) << 24;
            each(Tag { kind, dts_ms, body: body.to_vec() });
            at += 15 + size;
        }
        self.rest.drain(..at);
        Ok(())
    }
}

/// What a video tag carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// Codec id 7.
    H264,
    /// FourCC `hvc1`.
    Hvc1,
}

/// A video tag, taken apart.
#[derive(Debug)]
pub enum Video<'a> {
    /// Decoder configuration.
    Config(VideoCodec, &'a [u8]),
    /// One picture.
    Picture {
        /// What it is coded with.
        codec: VideoCodec,
        /// Whether the tag says that it is a key frame.
        key: bool,
        /// Presentation less decoding time.
        cts_ms: i32,
        /// NAL units behind 4-byte lengths.
        nals: &'a [u8],
    },
    /// End of sequence, metadata, and the like.
    Other,
}

/// Takes the body of a video tag apart.
pub fn video(body: &[u8]) -> Result<Video<'_>, String> {
    let cut = || format!("a video tag of {} bytes", body.len());
    let first = *body.first().ok_or_else(cut)?;
    let key = (first >> 4) & 7 == 1;
    if first & 0x80 == 0 {
        if first & 15 != 7 {
            return Err(format!("video codec id {}", first & 15));
        }
        let head = body.get(..5).ok_or_else(cut)?;
        return Ok(match head[1] {
            0 => Video::Config(VideoCodec::H264, &body[5..]),
            1 => Video::Picture {
                codec: VideoCodec::H264,
                key,
                cts_ms: signed24(&head[2..]),
                nals: &body[5..],
            },
            _ => Video::Other,
        });
    }
    let four_cc = body.get(1..5).ok_or_else(cut)?;
    if four_cc != b"hvc1" {
        return Err(format!("video FourCC {:?}", String::from_utf8_lossy(four_cc)));
    }
    let codec = VideoCodec::Hvc1;
    Ok(match first & 15 {
        0 => Video::Config(codec, &body[5..]),
        1 => {
            let cts = body.get(5..8).ok_or_else(cut)?;
            Video::Picture { codec, key, cts_ms: signed24(cts), nals: &body[8..] }
        }
        3 => Video::Picture { codec, key, cts_ms: 0, nals: &body[5..] },
        _ => Video::Other,
    })
}

/// An audio tag, taken apart.
#[derive(Debug)]
pub enum Audio<'a> {
    /// AudioSpecificConfig.
    Config(&'a [u8]),
    /// One frame, with the tag's SoundFormat: 2 MP3, 7 A-law, 8 µ-law, 10 AAC.
    Frame(u8, &'a [u8]),
}

/// Takes the body of an audio tag apart.
pub fn audio(body: &[u8]) -> Result<Audio<'_>, String> {
    let cut = || format!("an audio tag of {} bytes", body.len());
    let format = *body.first().ok_or_else(cut)? >> 4;
    if format != 10 {
        return Ok(Audio::Frame(format, &body[1..]));
    }
    Ok(match body.get(1).ok_or_else(cut)? {
        0 => Audio::Config(&body[2..]),
        _ => Audio::Frame(format, &body[2..]),
    })
}

fn be24(bytes: &[u8]) -> u32 {
    u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2])
}

fn signed24(bytes: &[u8]) -> i32 {
    ((be24(bytes) << 8) as i32) >> 8
}
