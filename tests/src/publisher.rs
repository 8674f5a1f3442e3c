//! Real publishers.

use std::path::Path;
use std::process::Command;

use crate::clips::{Clip, Pictures};
use crate::running::{Folder, Running};
use crate::tools::{self, need};

/// How often a clip is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Once, then the publisher leaves properly.
    Once,
    /// Until it is ended.
    ForEver,
}

/// ffmpeg pushes a clip over RTMP at its own speed.
pub fn ffmpeg(folder: &Folder, clip: Clip, times: Times, url: &str) -> Running {
    let program = match clip.pictures {
        Pictures::H264 => need("ffmpeg"),
        Pictures::H265 => tools::ffmpeg9(),
    };
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "info", "-nostats", "-nostdin", "-re"]);
    if times == Times::ForEver {
        command.args(["-stream_loop", "-1"]);
    }
    command.arg("-i").arg(clip.file()).args(["-c", "copy", "-f", "flv", url]);
    Running::start("ffmpeg, publishing", command, log(folder, "publish"))
}

/// GStreamer's rtmp2sink pushes the H.264 and AAC of an FLV file at its own speed.
pub fn gstreamer(folder: &Folder, flv: &Path, url: &str) -> Running {
    let sink = format!("rtmp2sink sync=true location={url}");
    Running::start("GStreamer, publishing", gstreamer_pipeline(flv, &sink), log(folder, "gst-publish"))
}

/// The FLV that the pipeline of [`gstreamer`] makes, as a file.
pub fn gstreamer_file(folder: &Folder, flv: &Path, to: &Path) {
    let sink = format!("filesink location={}", to.display());
    let mut running =
        Running::start("GStreamer, to a file", gstreamer_pipeline(flv, &sink), log(folder, "gst-file"));
    running.wait_success(std::time::Duration::from_secs(60));
}

fn gstreamer_pipeline(flv: &Path, sink: &str) -> Command {
    let mut command = Command::new(need("gst-launch-1.0"));
    let pipeline = format!(
        "filesrc location={} ! flvdemux name=in flvmux name=out streamable=true ! {sink} \
         in.video ! queue ! h264parse ! out.video in.audio ! queue ! aacparse ! out.audio",
        flv.display()
    );
    command.arg("--quiet").args(pipeline.split_whitespace());
    command
}

fn log(folder: &Folder, name: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    folder.file(&format!("{name}-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)))
}
