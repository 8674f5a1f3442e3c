//! Compares what was played with what was published, picture by picture.
//!
//! A picture is known by the hash of its VCL NAL units: muxers differ in parameter sets, SEI and delimiters, and may not
//! differ in anything else.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use media::frame::{Codec, Frame, Kind, Track};

use crate::flv::{self, Audio, TagKind, Video, VideoCodec};
use crate::ps_sender;

/// A picture or a sound, with its place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Decoding time, as the file has it.
    pub dts_ms: i64,
    /// Presentation less decoding time.
    pub cts_ms: i32,
    /// What it is known by.
    pub hash: u64,
    /// A key frame by its NAL types (IDR, IRAP); false for sounds.
    pub key: bool,
}

/// The units of a file in their order.
#[derive(Clone, Debug, Default)]
pub struct Media {
    /// Pictures.
    pub video: Vec<Unit>,
    /// Sounds.
    pub audio: Vec<Unit>,
    /// How the pictures are coded.
    pub video_codec: Option<VideoCodec>,
    /// SoundFormat of the sounds.
    pub sound_format: Option<u8>,
    /// Tags that carried decoder configuration, video's and audio's.
    pub configs: usize,
    /// What the header said.
    pub header: Option<flv::Header>,
}

/// How exactly times are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Each dts is the original's plus one constant.
    Exact,
    /// Each within this many milliseconds of that: clocks of another unit are rounded.
    Within(i64),
}

impl Media {
    /// Reads an FLV file.
    pub fn of_file(path: &Path) -> Result<Media, String> {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Media::of_flv(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Reads FLV bytes.
    pub fn of_flv(bytes: &[u8]) -> Result<Media, String> {
        let (header, tags) = flv::read(bytes)?;
        let mut media = Media { header: Some(header), ..Media::default() };
        for tag in &tags {
            media.add(tag)?;
        }
        Ok(media)
    }

    /// Takes the access units that a GB28181 camera sends; times are rounded down to milliseconds.
    pub fn of_camera(clip: &ps_sender::Clip) -> Media {
        let mut media = Media::default();
        for unit in &clip.units {
            let dts_ms = unit.dts / 90;
            let video = match unit.codec {
                Codec::H264 => Some(VideoCodec::H264),
                Codec::H265 => Some(VideoCodec::Hvc1),
                Codec::Aac | Codec::Mp3(_) | Codec::PcmA(_) | Codec::PcmU(_) | Codec::Script => None,
            };
            if let Some(codec) = video {
                let (hash, key) = hash_vcl(codec, annex_b(&unit.bytes));
                let cts_ms = i32::try_from((unit.pts - unit.dts) / 90).expect("a picture is shown soon");
                media.video_codec = Some(codec);
                media.video.push(Unit {
                    dts_ms,
                    cts_ms,
                    hash: hash.expect("an access unit has a picture"),
                    key,
                });
            } else {
                // AAC travels behind ADTS headers: 7 bytes, and 2 more where a CRC is announced.
                let header = match unit.codec {
                    Codec::Aac => {
                        if unit.bytes[1] & 1 == 1 {
                            7
                        } else {
                            9
                        }
                    }
                    _ => 0,
                };
                let hash = hash([&unit.bytes[header..]]);
                media.audio.push(Unit { dts_ms, cts_ms: 0, hash, key: false });
            }
        }
        media
    }

    /// Takes one more tag in.
    pub fn add(&mut self, tag: &flv::Tag) -> Result<(), String> {
        let dts_ms = i64::from(tag.dts_ms);
        match tag.kind {
            TagKind::Script => {}
            TagKind::Video => match flv::video(&tag.body)? {
                Video::Other => {}
                Video::Config(codec, _) => {
                    self.video_codec = Some(codec);
                    self.configs += 1;
                }
                Video::Picture { codec, key, cts_ms, nals } => {
                    let (hash, idr) = picture(codec, nals)?;
                    if key != idr {
                        return Err(format!(
                            "the tag at {dts_ms} ms says key {key}, its NAL units say {idr}"
                        ));
                    }
                    self.video.push(Unit { dts_ms, cts_ms, hash, key });
                }
            },
            TagKind::Audio => match flv::audio(&tag.body)? {
                Audio::Config(_) => self.configs += 1,
                Audio::Frame(format, bytes) => {
                    self.sound_format = Some(format);
                    self.audio.push(Unit { dts_ms, cts_ms: 0, hash: hash([bytes]), key: false });
                }
            },
        }
        Ok(())
    }

    /// Takes one more frame in that came over RTMP.
    pub fn add_frame(&mut self, frame: &Frame) -> Result<(), String> {
        let Frame { codec, kind, dts_ms, cts_ms, ref payload } = *frame;
        match (codec.track(), kind) {
            (Track::Data, _) => {}
            (Track::Video | Track::Audio, Kind::Config) => self.configs += 1,
            (Track::Video, _) => {
                let coded = if codec == Codec::H265 { VideoCodec::Hvc1 } else { VideoCodec::H264 };
                let (hash, key) = picture(coded, payload)?;
                self.video_codec = Some(coded);
                self.video.push(Unit { dts_ms, cts_ms, hash, key });
            }
            (Track::Audio, _) => {
                let hash = hash([&payload[..]]);
                self.audio.push(Unit { dts_ms, cts_ms: 0, hash, key: false });
            }
        }
        Ok(())
    }

    /// The end of the last unit is at this dts.
    pub fn last_dts_ms(&self) -> Option<i64> {
        self.video.iter().chain(&self.audio).map(|unit| unit.dts_ms).max()
    }
}

/// Checks that `played` is `clip` from `played`'s first key frame on: every picture and sound in order, none lost, none
/// repeated, each dts the clip's plus one constant. Returns the constant.
///
/// `played` may begin late, never end early.
pub fn same_from_first_key(clip: &Media, played: &Media, times: Times) -> Result<i64, String> {
    let first_key = played.video.iter().position(|unit| unit.key).ok_or("no key frame was played")?;
    let shift = same_to_the_end("picture", &clip.video, &played.video[first_key..], None, times)?;
    if clip.audio.is_empty() != played.audio.is_empty() {
        return Err(format!("{} sounds published, {} played", clip.audio.len(), played.audio.len()));
    }
    if !clip.audio.is_empty() {
        same_to_the_end("sound", &clip.audio, &played.audio, Some(shift), times)?;
    }
    Ok(shift)
}

/// The same for one track that begins with `played`'s first unit.
fn same_to_the_end(
    what: &str,
    clip: &[Unit],
    played: &[Unit],
    shift: Option<i64>,
    times: Times,
) -> Result<i64, String> {
    let shift = same_run(what, clip, played, shift, times)?;
    let last = played.last().ok_or_else(|| format!("no {what} was played"))?;
    let clip_last = clip.last().ok_or_else(|| format!("the clip has no {what}"))?;
    if last.hash != clip_last.hash {
        let missing = clip.iter().rev().take_while(|unit| unit.hash != last.hash).count();
        return Err(format!("the last {missing} {what}s were not played"));
    }
    Ok(shift)
}

/// Checks that `played` is a run of `clip` without a gap, wherever it begins and ends. Returns the constant of its times.
pub fn same_run(
    what: &str,
    clip: &[Unit],
    played: &[Unit],
    shift: Option<i64>,
    times: Times,
) -> Result<i64, String> {
    let first = played.first().ok_or_else(|| format!("no {what} was played"))?;
    let begin = clip
        .iter()
        .position(|unit| unit.hash == first.hash)
        .ok_or_else(|| format!("the first {what}, at {} ms, is not the clip's", first.dts_ms))?;
    let shift = shift.unwrap_or(first.dts_ms - clip[begin].dts_ms);
    for (nth, unit) in played.iter().enumerate() {
        let Some(wanted) = clip.get(begin + nth) else {
            return Err(format!("{} {what}s more than the clip has", played.len() - nth));
        };
        if unit.hash != wanted.hash {
            let seen = clip.iter().position(|other| other.hash == unit.hash);
            return Err(format!(
                "{what} {nth} at {} ms should be the clip's {}, at {} ms; it is {}",
                unit.dts_ms,
                begin + nth,
                wanted.dts_ms,
                seen.map_or("not the clip's".to_owned(), |index| format!("the clip's {index}")),
            ));
        }
        let off = unit.dts_ms - wanted.dts_ms - shift;
        let allowed = match times {
            Times::Exact => 0,
            Times::Within(ms) => ms,
        };
        if off.abs() > allowed {
            return Err(format!(
                "{what} {nth}: dts {} ms, published at {} ms, so {off} ms away from the constant {shift}",
                unit.dts_ms, wanted.dts_ms
            ));
        }
        if times == Times::Exact && unit.cts_ms != wanted.cts_ms {
            return Err(format!("{what} {nth}: cts {} ms, published with {} ms", unit.cts_ms, wanted.cts_ms));
        }
    }
    Ok(shift)
}

/// The hash of a picture's VCL NAL units, and whether they are a random access point.
fn picture(codec: VideoCodec, nals: &[u8]) -> Result<(u64, bool), String> {
    let (hash, key) = hash_vcl(codec, lengths(nals)?);
    Ok((hash.ok_or("a picture without a VCL NAL unit")?, key))
}

fn hash_vcl(codec: VideoCodec, nals: Vec<&[u8]>) -> (Option<u64>, bool) {
    let mut hasher = DefaultHasher::new();
    let (mut any, mut key) = (false, false);
    for nal in nals {
        let Some(&first) = nal.first() else { continue };
        let (vcl, idr) = match codec {
            VideoCodec::H264 => (matches!(first & 31, 1..=5), first & 31 == 5),
            VideoCodec::Hvc1 => (first >> 1 & 63 < 32, matches!(first >> 1 & 63, 16..=23)),
        };
        if vcl {
            any = true;
            key |= idr;
            hasher.write(nal);
            hasher.write_usize(nal.len());
        }
    }
    (any.then(|| hasher.finish()), key)
}

/// NAL units behind 4-byte lengths.
fn lengths(mut bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut nals = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.get(..4).map(|l| u32::from_be_bytes([l[0], l[1], l[2], l[3]]) as usize);
        let nal = length.and_then(|length| bytes.get(4..4 + length)).ok_or("a NAL unit is cut off")?;
        bytes = &bytes[4 + nal.len()..];
        nals.push(nal);
    }
    Ok(nals)
}

/// NAL units behind start codes; zeros before a start code belong to it (ITU-T H.264 annex B).
fn annex_b(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, three)| *three == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let nals = starts.iter().zip(ends).map(|(start, end)| &bytes[start + 3..end]);
    nals.map(|nal| &nal[..nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]).collect()
}

fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for piece in pieces {
        hasher.write(piece);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Media, Times, Unit, same_from_first_key};

    fn media(units: &[(u64, i64)]) -> Media {
        let unit = |&(hash, dts_ms): &(u64, i64)| Unit { dts_ms, cts_ms: 0, hash, key: hash % 10 == 0 };
        Media { video: units.iter().map(unit).collect(), ..Media::default() }
    }

    #[test]
    fn the_comparison_finds_what_is_wrong() {
        let clip = media(&[(10, 0), (11, 40), (12, 80), (20, 120), (21, 160)]);
        let check = |played: &[(u64, i64)]| same_from_first_key(&clip, &media(played), Times::Exact);
        assert_eq!(check(&[(10, 5), (11, 45), (12, 85), (20, 125), (21, 165)]), Ok(5));
        assert_eq!(check(&[(20, 0), (21, 40)]), Ok(-120), "joined at the second key frame");
        assert_eq!(
            check(&[(12, 0), (20, 40), (21, 80)]),
            Ok(-80),
            "what precedes the first key frame is left out"
        );
        let wrong = |played: &[(u64, i64)], words: &str| {
            let told = check(played).expect_err("it must be found");
            assert!(told.contains(words), "{told}");
        };
        wrong(&[(10, 0), (12, 80), (20, 120), (21, 160)], "it is the clip's 2");
        wrong(&[(10, 0), (11, 40), (11, 80), (20, 120), (21, 160)], "it is the clip's 1");
        wrong(&[(10, 0), (11, 40), (12, 80), (20, 120)], "the last 1 pictures");
        wrong(&[(10, 0), (11, 41), (12, 80), (20, 120), (21, 160)], "1 ms away");
        wrong(&[(11, 40), (12, 80)], "no key frame");
        wrong(&[(30, 0)], "not the clip's");
    }
}
