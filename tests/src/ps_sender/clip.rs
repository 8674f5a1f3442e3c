//! The access units of a clip, with their times: ffmpeg reads whatever file it is and writes a transport stream, which is small to
//! read; sound as G.711 comes beside it, since a transport stream has no place for it.

use std::path::Path;
use std::process::{Command, Stdio};

use media::frame::{Codec, Sound};

use crate::tools::{find, succeed};

const G711: Sound = Sound { rate_hz: 8000, channels: 1 };
/// 40 ms, as cameras have it.
const G711_BYTES: usize = 320;
const TS_BYTES: usize = 188;

/// What the pictures are sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoChoice {
    /// As they are, if they are H.264 or H.265; else H.264.
    Auto,
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// Left out.
    None,
}

/// What the sound is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioChoice {
    /// As it is, if it is AAC or G.711; else G.711 A-law.
    Auto,
    /// AAC.
    Aac,
    /// G.711 A-law.
    PcmA,
    /// G.711 µ-law.
    PcmU,
    /// Left out.
    None,
}

/// An access unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its codec.
    pub codec: Codec,
    /// A key frame, or any sound.
    pub key: bool,
    /// Presentation time in 90 kHz.
    pub pts: i64,
    /// Decoding time in 90 kHz.
    pub dts: i64,
    /// Annex B, ADTS or G.711.
    pub bytes: Vec<u8>,
}

/// A whole clip.
#[derive(Clone, Debug, Default)]
pub struct Clip {
    /// Codec of the pictures.
    pub video: Option<Codec>,
    /// Codec of the sound.
    pub audio: Option<Codec>,
    /// In the order of decoding.
    pub units: Vec<Unit>,
    /// What a second round is later, in 90 kHz.
    pub length: i64,
}

impl VideoChoice {
    pub(super) fn parse(value: &str) -> Result<VideoChoice, String> {
        match value {
            "auto" => Ok(VideoChoice::Auto),
            "h264" => Ok(VideoChoice::H264),
            "h265" => Ok(VideoChoice::H265),
            "none" => Ok(VideoChoice::None),
            _ => Err(format!("--video {value}: is auto, h264, h265 or none")),
        }
    }
}

impl AudioChoice {
    pub(super) fn parse(value: &str) -> Result<AudioChoice, String> {
        match value {
            "auto" => Ok(AudioChoice::Auto),
            "aac" => Ok(AudioChoice::Aac),
            "pcma" => Ok(AudioChoice::PcmA),
            "pcmu" => Ok(AudioChoice::PcmU),
            "none" => Ok(AudioChoice::None),
            _ => Err(format!("--audio {value}: is auto, aac, pcma, pcmu or none")),
        }
    }
}

/// Reads a clip. What is coded already as it is to be sent is not coded again.
pub fn read(file: &Path, video: VideoChoice, audio: AudioChoice) -> Result<Clip, String> {
    let has = |kind: &str| codec_of(file, kind);
    let (pictures, sound) = (has("v:0")?, has("a:0")?);
    let video = match (video, pictures.as_str()) {
        (VideoChoice::None, _) | (_, "") => None,
        (VideoChoice::Auto | VideoChoice::H265, "hevc") => Some((Codec::H265, "copy")),
        (VideoChoice::Auto | VideoChoice::H264, "h264") => Some((Codec::H264, "copy")),
        (VideoChoice::H265, _) => Some((Codec::H265, "libx265")),
        (VideoChoice::Auto | VideoChoice::H264, _) => Some((Codec::H264, "libx264")),
    };
    let audio = match (audio, sound.as_str()) {
        (AudioChoice::None, _) | (_, "") => None,
        (AudioChoice::Auto | AudioChoice::Aac, "aac") => Some((Codec::Aac, "copy")),
        (AudioChoice::Aac, _) => Some((Codec::Aac, "aac")),
        (AudioChoice::PcmU, _) | (AudioChoice::Auto, "pcm_mulaw") => Some((Codec::PcmU(G711), "mulaw")),
        (AudioChoice::Auto | AudioChoice::PcmA, _) => Some((Codec::PcmA(G711), "alaw")),
    };
    let mut units = Vec::new();
    let in_ts = audio.filter(|&(codec, _)| codec == Codec::Aac);
    if video.is_some() || in_ts.is_some() {
        units = read_ts(&transport_stream(file, video, in_ts)?, video.map(|(codec, _)| codec))?;
    }
    if let Some((codec, law)) = audio.filter(|_| in_ts.is_none()) {
        units.extend(read_g711(&samples(file, law)?, codec));
    }
    units.sort_by_key(|unit| unit.dts);
    let first = units.first().ok_or_else(|| format!("{}: has nothing to send", file.display()))?.dts;
    // The last access unit lasts as long as the one before: good enough for a loop's seam.
    let last = units.last().map_or(first, |unit| unit.dts);
    let length = last - first + 3600;
    Ok(Clip { video: video.map(|(codec, _)| codec), audio: audio.map(|(codec, _)| codec), units, length })
}

fn ffmpeg(program: &str) -> Result<Command, String> {
    let path =
        find(program).ok_or_else(|| format!("{program} is not installed; Debian's package ffmpeg has it"))?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    Ok(command)
}

/// The codec's name of the first such stream, or nothing.
fn codec_of(file: &Path, stream: &str) -> Result<String, String> {
    let mut probe = ffmpeg("ffprobe")?;
    probe.args([
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
    ]);
    let answer = succeed(probe.arg(file))?;
    Ok(answer.lines().next().unwrap_or("").trim_matches([',', ' ']).to_owned())
}

fn transport_stream(
    file: &Path,
    video: Option<(Codec, &str)>,
    audio: Option<(Codec, &str)>,
) -> Result<Vec<u8>, String> {
    let mut command = ffmpeg("ffmpeg")?;
    command.args(["-v", "error", "-i"]).arg(file);
    if let Some((_, coder)) = video {
        command.args(["-map", "0:v:0", "-c:v", coder]);
    }
    if let Some((_, coder)) = audio {
        command.args(["-map", "0:a:0", "-c:a", coder]);
    }
    // One sound a PES packet; times as the file has them.
    command.args([
        "-pes_payload_size",
        "0",
        "-muxdelay",
        "0",
        "-muxpreload",
        "0",
        "-avoid_negative_ts",
        "disabled",
    ]);
    output(command.args(["-f", "mpegts", "pipe:1"]))
}

fn samples(file: &Path, law: &str) -> Result<Vec<u8>, String> {
    let mut command = ffmpeg("ffmpeg")?;
    command.args(["-v", "error", "-i"]).arg(file);
    // Silence where the sound begins later than the file.
    command.args(["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ar", "8000", "-ac", "1"]);
    output(command.args(["-c:a", &format!("pcm_{law}"), "-f", law, "pipe:1"]))
}

fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn read_g711(samples: &[u8], codec: Codec) -> impl Iterator<Item = Unit> {
    samples.chunks(G711_BYTES).enumerate().map(move |(n, bytes)| {
        let time = (n * G711_BYTES) as i64 * 90_000 / 8000;
        Unit { codec, key: true, pts: time, dts: time, bytes: bytes.to_vec() }
    })
}

/// Takes ffmpeg's transport stream apart: packets of 188 bytes, each PES packet one access unit (ISO/IEC 13818-1 §2.4.3).
fn read_ts(stream: &[u8], video: Option<Codec>) -> Result<Vec<Unit>, String> {
    let mut units: Vec<Unit> = Vec::new();
    // The PES packets that are open, by PID: whether it is a key frame, and its bytes.
    let mut open: Vec<(u16, bool, Vec<u8>)> = Vec::new();
    let finish = |(_, key, pes): (u16, bool, Vec<u8>), units: &mut Vec<Unit>| -> Result<(), String> {
        units.extend(read_pes(&pes, key, video)?);
        Ok(())
    };
    for packet in stream.chunks_exact(TS_BYTES) {
        let &[sync, flags, low, control, ..] = packet else { continue };
        if sync != 0x47 {
            return Err("ffmpeg's transport stream is out of step".to_owned());
        }
        let pid = u16::from(flags & 0x1f) << 8 | u16::from(low);
        let adaptation = if control & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
        let key = adaptation > 1 && packet[5] & 0x40 != 0;
        let Some(payload) = packet.get(4 + adaptation..).filter(|_| control & 0x10 != 0) else { continue };
        let known = open.iter().position(|(of, _, _)| *of == pid);
        if flags & 0x40 != 0 {
            if let Some(at) = known {
                finish(open.swap_remove(at), &mut units)?;
            }
            // Tables have no start code.
            if payload.starts_with(&[0, 0, 1]) {
                open.push((pid, key, payload.to_vec()));
            }
        } else if let Some(at) = known {
            open[at].2.extend_from_slice(payload);
        }
    }
    for pes in open {
        finish(pes, &mut units)?;
    }
    Ok(units)
}

fn read_pes(pes: &[u8], key: bool, video: Option<Codec>) -> Result<Option<Unit>, String> {
    let cut = || "ffmpeg's PES packet is cut".to_owned();
    let &[_, _, _, id, l0, l1, _, flags, more, ..] = pes else { return Err(cut()) };
    let codec = match id {
        0xe0..=0xef => video,
        0xc0..=0xdf => Some(Codec::Aac),
        _ => None,
    };
    let Some(codec) = codec else { return Ok(None) };
    let fields = pes.get(9..9 + usize::from(more)).ok_or_else(cut)?;
    let time = |at: usize| -> Result<i64, String> {
        let &[a, b, c, d, e] =
            fields.get(at..at + 5).and_then(|field| field.first_chunk()).ok_or_else(cut)?;
        let [a, b, c, d, e] = [a, b, c, d, e].map(i64::from);
        let time = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
        // Times before the file's beginning came round.
        Ok(if time >= 1 << 32 { time - (1 << 33) } else { time })
    };
    let pts = time(0)?;
    let dts = if flags & 0x40 != 0 { time(5)? } else { pts };
    // A stated length leaves out the stuffing of the last packet.
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let end = if length == 0 { pes.len() } else { pes.len().min(6 + length) };
    let bytes = pes.get(9 + usize::from(more)..end).ok_or_else(cut)?.to_vec();
    Ok(Some(Unit { codec, key: key || codec == Codec::Aac, pts, dts, bytes }))
}
