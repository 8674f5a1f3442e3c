//! Real players, and one of our own for HTTP-FLV that keeps the bytes as they came.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::eventually::eventually;
use crate::flv;
use crate::http;
use crate::nal::{Media, Times, same_from_first_key};
use crate::running::{Folder, Running};
use crate::tools::need;

/// ffmpeg plays a URL into an FLV file until the stream ends.
///
/// `program` is Debian's or, for HEVC over RTMP, ffmpeg 9, which must be told to say what it understands.
pub fn ffmpeg(folder: &Folder, program: &Path, url: &str, to: &Path) -> Running {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "info", "-nostats", "-nostdin", "-y"]);
    if url.starts_with("rtmp") && program != need("ffmpeg") {
        command.args(["-rtmp_enhanced_codecs", "hvc1,av01,vp09,Opus,ac-3"]);
    }
    // -copyinkf: ffmpeg would hide a start that is no key frame.
    command.args(["-i", url, "-c", "copy", "-copyinkf", "-f", "flv"]).arg(to);
    let name = to.file_stem().expect("an FLV file has a name").to_string_lossy();
    Running::start("ffmpeg, playing", command, folder.file(&format!("{name}.log")))
}

/// GStreamer's rtmp2src plays a URL; the bytes are written as they come.
pub fn gstreamer(folder: &Folder, url: &str, to: &Path) -> Running {
    let mut command = Command::new(need("gst-launch-1.0"));
    let pipeline = format!("rtmp2src location={url} ! filesink location={}", to.display());
    command.arg("--quiet").arg("-e").args(pipeline.split_whitespace());
    let name = to.file_stem().expect("an FLV file has a name").to_string_lossy();
    Running::start("GStreamer, playing", command, folder.file(&format!("{name}.log")))
}

/// rtmpdump, which is librtmp's own player, plays a URL into an FLV file.
pub fn rtmpdump(folder: &Folder, url: &str, to: &Path) -> Running {
    let mut command = Command::new(need("rtmpdump"));
    command.args(["--live", "--quiet", "--rtmp", url, "--flv"]).arg(to);
    let name = to.file_stem().expect("an FLV file has a name").to_string_lossy();
    Running::start("rtmpdump, playing", command, folder.file(&format!("{name}.log")))
}

/// A viewer over HTTP-FLV that keeps each tag with the moment it came.
pub struct Viewer {
    seen: Arc<Mutex<Seen>>,
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Viewer`] has got so far.
#[derive(Clone, Default)]
pub struct Seen {
    /// Each tag, with its arrival.
    pub tags: Vec<(Instant, flv::Tag)>,
    /// What the FLV header said.
    pub header: Option<flv::Header>,
    /// How it ended; none while it plays.
    pub end: Option<String>,
}

impl Viewer {
    /// Asks for `path` and begins to read.
    ///
    /// # Panics
    /// When the answer is not 200.
    #[track_caller]
    pub fn open(http: SocketAddr, path: &str) -> Viewer {
        let (response, first, socket) = http::open(http, path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
        assert_eq!(response.status, 200, "GET {path}: {}", response.head);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let reading = socket.try_clone().expect("a socket's descriptor can be cloned");
        reading.set_read_timeout(None).expect("a timeout can be taken away");
        let shared = seen.clone();
        let thread = std::thread::spawn(move || read(&reading, first, &shared));
        Viewer { seen, socket, thread: Some(thread) }
    }

    /// Asks for `path` before there is media: the server answers when there is.
    pub fn waiting(http: SocketAddr, path: &str) -> JoinHandle<Viewer> {
        let path = path.to_owned();
        std::thread::spawn(move || Viewer::open(http, &path))
    }

    /// What has come so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no reader panics with the lock").clone()
    }

    /// The pictures and sounds that have come so far.
    ///
    /// # Panics
    /// When they are no valid FLV.
    pub fn media(&self) -> Media {
        let seen = self.seen();
        let mut media = Media { header: seen.header, ..Media::default() };
        for (_, tag) in &seen.tags {
            media.add(tag).expect("what is played is valid FLV");
        }
        media
    }

    /// Waits until `n` pictures have come.
    #[track_caller]
    pub fn wait_pictures(&self, n: usize, limit: Duration) {
        eventually(&format!("{n} pictures at a viewer"), limit, || {
            let (now, end) = (self.media().video.len(), self.seen().end);
            if now >= n { Ok(()) } else { Err(format!("{now}, end: {end:?}")) }
        });
    }

    /// Waits until nothing has come for as long as `time`.
    #[track_caller]
    pub fn wait_silence(&self, time: Duration, limit: Duration) {
        eventually(&format!("{time:?} without media at a viewer"), limit, || {
            let last = self.seen().tags.last().map(|(came, _)| came.elapsed()).unwrap_or_default();
            if last >= time { Ok(()) } else { Err(format!("{last:?} since the last tag")) }
        });
    }

    /// Waits until the server ends it.
    #[track_caller]
    pub fn wait_end(&self, limit: Duration) {
        eventually("the end of a viewer", limit, || self.seen().end.ok_or("it plays"));
    }

    /// Waits for its end, and compares: a viewer that was there from the start has all that the camera sent.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn wait_whole(&self, original: &Media, limit: Duration) {
        // The end of the last picture is known when the stream stalls or leaves, at the latest.
        self.wait_end(limit);
        let played = self.media();
        if let Err(wrong) = same_from_first_key(original, &played, Times::Within(1)) {
            panic!("{wrong}\n{} of {} pictures", played.video.len(), original.video.len());
        }
        assert_eq!(played.video.len(), original.video.len(), "it was there from the start");
    }

    /// True while the connection is there.
    pub fn plays(&self) -> bool {
        self.seen().end.is_none()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // An error says that the server was first.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(mut socket: &TcpStream, first: Vec<u8>, shared: &Mutex<Seen>) {
    let mut reader = flv::Reader::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut got = first;
    let end = loop {
        let now = Instant::now();
        let mut seen = shared.lock().expect("no other reader panics with the lock");
        let pushed = reader.push(&got, |tag| seen.tags.push((now, tag)));
        seen.header = reader.header;
        drop(seen);
        if let Err(wrong) = pushed {
            break wrong;
        }
        match socket.read(&mut buffer) {
            Ok(0) => break "closed by the server".to_owned(),
            Ok(n) => got = buffer[..n].to_vec(),
            Err(e) => break e.to_string(),
        }
    };
    shared.lock().expect("no other reader panics with the lock").end = Some(end);
}
