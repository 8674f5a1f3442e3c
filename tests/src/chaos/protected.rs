//! Streams that nobody attacks: a steady publisher and a viewer each, who counts what is missing.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use media::frame::{Kind, Track};
use media::rtmp::{ClientEvent, Role};

use super::judge::Protected;
use crate::flv::{self, Audio, TagKind, Video};
use crate::http;
use crate::load;
use crate::rtmp::Connection;

/// How long a read waits before the thread looks whether it is to end.
const LOOK_EACH: Duration = Duration::from_millis(200);
/// Between two attempts to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The synthetic stream has a picture each 33 or 34 ms and a sound each 23 or 24 ms. More between two is a frame that is missing.
const PICTURE_MS_MAX: i64 = 40;
const SOUND_MS_MAX: i64 = 30;
/// Complaints that are kept between two looks of the watcher.
const COMPLAINTS_MAX: usize = 100;

/// How a protected viewer watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Rtmp(SocketAddr),
    Http(SocketAddr),
}

/// A protected stream, until it is dropped.
pub(super) struct Control {
    pub(super) path: String,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What its viewer has seen.
struct Seen {
    frames: u64,
    last: Instant,
    worst: Duration,
    complaints: Vec<String>,
    continuity: Continuity,
}

impl Control {
    /// Publishes `path` to `rtmp`, and watches it.
    pub(super) fn start(path: &str, rtmp: SocketAddr, over: Over) -> Control {
        let seen = Arc::new(Mutex::new(Seen {
            frames: 0,
            last: Instant::now(),
            worst: Duration::ZERO,
            complaints: Vec::new(),
            continuity: Continuity::default(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = {
            let (stop, path) = (stop.clone(), path.to_owned());
            std::thread::spawn(move || publish(rtmp, &path, &stop))
        };
        let viewer = {
            let (stop, path, seen) = (stop.clone(), path.to_owned(), seen.clone());
            std::thread::spawn(move || watch(over, &path, &stop, &seen))
        };
        Control { path: path.to_owned(), seen, stop, threads: vec![publisher, viewer] }
    }

    /// What its viewer says since the last call.
    pub(super) fn take(&self) -> Protected {
        let mut seen = lock(&self.seen);
        let complaints = std::mem::take(&mut seen.complaints);
        Protected { path: self.path.clone(), silent: seen.last.elapsed(), complaints }
    }

    /// Frames that its viewer has got in all.
    pub(super) fn frames(&self) -> u64 {
        lock(&self.seen).frames
    }

    /// The longest that its viewer waited for a frame since [`Control::calm`].
    pub(super) fn worst(&self) -> Duration {
        lock(&self.seen).worst
    }

    /// Forgets the longest wait, which had its reason.
    pub(super) fn calm(&self) {
        lock(&self.seen).worst = Duration::ZERO;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("chaos: a thread of {} panicked", self.path);
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Whoever panicked with it had counted a frame or not.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Comes back for as long as it is not to end.
fn publish(rtmp: SocketAddr, path: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let published = Connection::try_publish(rtmp, path)
            .and_then(|connection| load::stream(connection, stop).map_err(|e| e.to_string()));
        // What it means is seen by the viewer.
        if published.is_err() {
            std::thread::sleep(AGAIN_AFTER);
        }
    }
}

fn watch(over: Over, path: &str, stop: &AtomicBool, seen: &Mutex<Seen>) {
    while !stop.load(Ordering::Relaxed) {
        let end = match over {
            Over::Rtmp(to) => watch_rtmp(to, path, stop, seen),
            Over::Http(to) => watch_http(to, path, stop, seen),
        };
        if let Err(error) = end {
            let mut seen = lock(seen);
            // One that never came to play has lost nothing; its silence is seen.
            if std::mem::take(&mut seen.continuity).plays() {
                seen.complain(format!("the viewer was ended: {error}"));
            }
            drop(seen);
            std::thread::sleep(AGAIN_AFTER);
        }
    }
}

fn watch_rtmp(to: SocketAddr, path: &str, stop: &AtomicBool, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut connection = Connection::open(Role::Play, to, path)?;
    while !stop.load(Ordering::Relaxed) {
        let waited = connection.wait(LOOK_EACH, |event| {
            if let ClientEvent::Frame(frame) = event
                && frame.kind != Kind::Config
            {
                lock(seen).frame(frame.codec.track(), frame.dts_ms);
            }
            None::<()>
        });
        match waited {
            Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {}
            Err(e) => return Err(e),
            Ok(()) => unreachable!("nothing is picked"),
        }
    }
    Ok(())
}

fn watch_http(to: SocketAddr, path: &str, stop: &AtomicBool, seen: &Mutex<Seen>) -> io::Result<()> {
    let (response, mut got, mut socket) = http::open(to, &format!("/{path}.flv"))?;
    if response.status != 200 {
        return Err(io::Error::other(format!("status {}", response.status)));
    }
    socket.set_read_timeout(Some(LOOK_EACH))?;
    let mut reader = flv::Reader::default();
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let mut wrong = None;
        let pushed = reader.push(&got, |tag| match frame_of(&tag) {
            Ok(Some(track)) => lock(seen).frame(track, tag.dts_ms.into()),
            Ok(None) => {}
            Err(error) => wrong = Some(error),
        });
        pushed.and(wrong.map_or(Ok(()), Err)).map_err(io::Error::other)?;
        got = read(&mut socket, &mut buffer)?;
    }
    // An error says that the server was first.
    let _ = socket.shutdown(Shutdown::Both);
    Ok(())
}

/// The track of a tag that is a picture or a sound.
fn frame_of(tag: &flv::Tag) -> Result<Option<Track>, String> {
    Ok(match tag.kind {
        TagKind::Video => match flv::video(&tag.body)? {
            Video::Picture { .. } => Some(Track::Video),
            Video::Config(..) | Video::Other => None,
        },
        TagKind::Audio => match flv::audio(&tag.body)? {
            Audio::Frame(..) => Some(Track::Audio),
            Audio::Config(_) => None,
        },
        TagKind::Script => None,
    })
}

/// What has come, or nothing when nothing came for a moment.
fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
    match socket.read(buffer) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")),
        Ok(n) => Ok(buffer[..n].to_vec()),
        Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

impl Seen {
    fn frame(&mut self, track: Track, dts_ms: i64) {
        self.frames += 1;
        self.worst = self.worst.max(self.last.elapsed());
        self.last = Instant::now();
        if let Some(complaint) = self.continuity.frame(track, dts_ms) {
            self.complain(complaint);
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}

/// The times of the last picture and the last sound of one connection.
#[derive(Debug, Default)]
struct Continuity {
    video: Option<i64>,
    audio: Option<i64>,
}

impl Continuity {
    /// Notes a frame, and says what is missing before it.
    fn frame(&mut self, track: Track, dts_ms: i64) -> Option<String> {
        let (last, max) = match track {
            Track::Video => (&mut self.video, PICTURE_MS_MAX),
            Track::Audio => (&mut self.audio, SOUND_MS_MAX),
            Track::Data => return None,
        };
        let before = last.replace(dts_ms)?;
        match dts_ms - before {
            step if step <= 0 => Some(format!("{track:?} at {dts_ms} ms behind {before} ms")),
            step if step > max => Some(format!("{track:?} between {before} ms and {dts_ms} ms")),
            _ => None,
        }
    }

    fn plays(&self) -> bool {
        self.video.is_some() || self.audio.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Continuity;
    use crate::synthetic::Synthetic;

    /// How many complaints there are when the frames of these places are left out.
    fn complaints(left_out: &[usize]) -> usize {
        let (mut stream, mut continuity) = (Synthetic::default(), Continuity::default());
        (0..1000)
            .filter(|nth| {
                let frame = stream.next_frame();
                !left_out.contains(nth) && continuity.frame(frame.codec.track(), frame.dts_ms).is_some()
            })
            .count()
    }

    #[test]
    fn each_single_frame_is_missed() {
        assert_eq!(complaints(&[]), 0);
        for nth in 2..900 {
            assert_eq!(complaints(&[nth]), 1, "frame {nth}");
        }
    }

    #[test]
    fn a_frame_that_comes_twice_is_told() {
        let mut continuity = Continuity::default();
        assert_eq!(continuity.frame(media::frame::Track::Video, 100), None);
        assert!(continuity.frame(media::frame::Track::Video, 100).is_some());
    }
}
