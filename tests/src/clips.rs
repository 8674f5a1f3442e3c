//! The clips that tests publish: made once by ffmpeg, kept in the cache folder.
//!
//! Sounds are noise, so that no two frames are alike and a repeated one is seen.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::tools::{self, need, succeed};

/// How the pictures are coded. All have B-frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// x264.
    H264,
    /// x265.
    H265,
}

/// How the sound is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// AAC-LC, 44.1 kHz, stereo.
    Aac,
    /// G.711 A-law, 8 kHz, mono.
    PcmA,
    /// No sound at all.
    None,
}

/// A clip: 25 pictures a second, 640×360, about 1 Mbit/s.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// Coding of the pictures.
    pub pictures: Pictures,
    /// Coding of the sound.
    pub sound: Sound,
    /// Its length.
    pub seconds: u32,
    /// A key frame each so many seconds.
    pub gop_seconds: u32,
}

/// H.264 with B-frames and AAC, two seconds a GOP.
pub fn h264_aac(seconds: u32) -> Clip {
    Clip { pictures: Pictures::H264, sound: Sound::Aac, seconds, gop_seconds: 2 }
}

impl Clip {
    /// The file, in Matroska, made if it is not there.
    ///
    /// # Panics
    /// When ffmpeg fails.
    pub fn file(self) -> PathBuf {
        let arguments = self.arguments();
        let mut hasher = DefaultHasher::new();
        arguments.iter().for_each(|argument| hasher.write(argument.as_bytes()));
        let Clip { pictures, sound, seconds, .. } = self;
        let name =
            format!("{pictures:?}-{sound:?}-{seconds}s-{:08x}.mkv", hasher.finish() as u32).to_lowercase();
        let made: Result<PathBuf, Error> = cache::file("clips", &name, |to| {
            let mut ffmpeg = Command::new(need("ffmpeg"));
            succeed(ffmpeg.args(&arguments).arg(to)).map_err(Error).map(|_| ())
        });
        made.unwrap_or_else(|e| panic!("cannot make the clip {name}: {}", e.0))
    }

    fn arguments(self) -> Vec<String> {
        let gop = 25 * self.gop_seconds;
        let video = match self.pictures {
            Pictures::H264 => format!(
                "-c:v libx264 -preset veryfast -bf 2 -g {gop} -keyint_min {gop} -sc_threshold 0 -b:v 1M -pix_fmt yuv420p"
            ),
            Pictures::H265 => format!(
                "-c:v libx265 -preset ultrafast -b:v 1M -pix_fmt yuv420p \
                 -x265-params bframes=2:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:log-level=error"
            ),
        };
        let audio = match self.sound {
            Sound::Aac => "-f lavfi -i anoisesrc=r=44100:c=pink:a=0.3:seed=7 | -c:a aac -b:a 96k -ac 2",
            Sound::PcmA => "-f lavfi -i anoisesrc=r=8000:c=pink:a=0.3:seed=7 | -c:a pcm_alaw -ac 1",
            Sound::None => "| -an",
        };
        let (input, output) = audio.split_once('|').expect("each has a bar");
        let seconds = self.seconds;
        format!(
            "-hide_banner -loglevel error -nostdin -y -f lavfi -i testsrc2=size=640x360:rate=25 {input} \
             {video} {output} -t {seconds}"
        )
        .split_whitespace()
        .map(str::to_owned)
        .collect()
    }
}

struct Error(String);

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Error {
        Error(e.to_string())
    }
}

/// Writes the FLV that `ffmpeg -c copy` makes of a clip: what the pushing client sends, into a file.
///
/// HEVC takes ffmpeg 9; Debian's has no HEVC in FLV.
pub fn as_flv(clip: Clip, to: &Path) {
    let ffmpeg = match clip.pictures {
        Pictures::H264 => need("ffmpeg"),
        Pictures::H265 => tools::ffmpeg9(),
    };
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i"]).arg(clip.file());
    command.args(["-c", "copy", "-f", "flv"]).arg(to);
    succeed(&mut command).unwrap_or_else(|e| panic!("cannot write {}: {e}", to.display()));
}
