//! Streams of real publishers that nothing may cost a frame but a fault of the script: an ffmpeg over RTMP, a camera over UDP and one over
//! TCP, and for each a viewer over RTMP and one over HTTP-FLV that know which frame comes next.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use media::rtmp::{ClientEvent, Role};

use super::judge;
use super::world::{Place, Places};
use crate::clips::{self, h264_aac};
use crate::load::Protocol;
use crate::nal::{Media, Unit};
use crate::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use crate::publisher::{self, Times};
use crate::rtmp::Connection;
use crate::running::Folder;
use crate::standalone::{over_rtp, pushed};
use crate::{flv, http};

/// How long a read waits before the thread looks whether it is to end.
const LOOK_EACH: Duration = Duration::from_millis(100);
/// Between two attempts to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long an answer may take before a viewer asks anew, perhaps elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);
/// Complaints that are kept between two looks of the watcher.
const COMPLAINTS_MAX: usize = 20;
/// Of the first camera's stream.
const SSRC: u32 = 200_000_001;

/// How a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// By an ffmpeg.
    Push,
    /// By a camera.
    Rtp(Transport),
}

/// Names in the namespace `live`, and what sends them.
pub(super) const STREAMS: [(&str, Source); 3] = [
    ("steady-push", Source::Push),
    ("steady-udp", Source::Rtp(Transport::Udp)),
    ("steady-tcp", Source::Rtp(Transport::Tcp)),
];

/// The numbers of their pool: three that they need, and as many again for each that a thief has at the time of a fault.
pub(super) const NUMBERS: u16 = 12;

/// The texts of their objects.
pub(super) fn objects() -> impl Iterator<Item = (&'static str, String)> {
    STREAMS.iter().zip(SSRC..).map(|((name, source), ssrc)| {
        let of_pool = "  portPoolRef: {name: steady}\n";
        let text = match source {
            Source::Push => pushed(name, ""),
            Source::Rtp(Transport::Udp) => {
                over_rtp(name, &format!("transport: UDP, ssrc: \"{ssrc:010}\""), of_pool)
            }
            Source::Rtp(Transport::Tcp) => {
                over_rtp(name, &format!("transport: TCPPassive, ssrc: \"{ssrc:010}\""), of_pool)
            }
        };
        (*name, text)
    })
}

/// All of them, with their publishers and viewers, until `stop` says so.
pub(super) struct Protected {
    folder: Folder,
    camera: ps_sender::Clip,
    /// What is published of each stream.
    originals: [Original; 3],
    viewers: Vec<Viewer>,
    pub(super) stop: AtomicBool,
}

struct Viewer {
    stream: usize,
    protocol: Protocol,
    seen: Mutex<Seen>,
}

/// What a viewer has seen.
struct Seen {
    frames: u64,
    last: Instant,
    complaints: Vec<String>,
    next: Next,
}

impl Protected {
    pub(super) fn new() -> Protected {
        let folder = Folder::new("chaos");
        let clip = h264_aac(10);
        let camera = ps_sender::read(&clip.file(), VideoChoice::Auto, AudioChoice::Auto);
        let camera = camera.expect("ffmpeg reads its own");
        let flv = folder.file("original.flv");
        clips::as_flv(clip, &flv);
        let originals = STREAMS.map(|(_, source)| match source {
            Source::Push => Original::of(&Media::of_file(&flv).expect("ffmpeg writes valid FLV")),
            Source::Rtp(_) => Original::of(&Media::of_camera(&camera)),
        });
        let viewer = |nth: usize| {
            let protocol = if nth.is_multiple_of(2) { Protocol::Rtmp } else { Protocol::HttpFlv };
            let seen =
                Seen { frames: 0, last: Instant::now(), complaints: Vec::new(), next: Next::default() };
            Viewer { stream: nth / 2, protocol, seen: Mutex::new(seen) }
        };
        let viewers = (0..2 * STREAMS.len()).map(viewer).collect();
        Protected { folder, camera, originals, viewers, stop: AtomicBool::new(false) }
    }

    /// Begins to publish and to play all of them.
    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, places: &'scope Places) {
        for ((name, source), ssrc) in STREAMS.into_iter().zip(SSRC..) {
            scope.spawn(move || self.publish(name, source, ssrc, places));
        }
        for viewer in &self.viewers {
            scope.spawn(move || self.watch(viewer, places));
        }
    }

    /// What the viewers say since the last call.
    pub(super) fn take(&self) -> Vec<judge::Protected> {
        let told = |viewer: &Viewer| {
            let mut seen = viewer.lock();
            judge::Protected {
                name: format!("{} over {:?}", STREAMS[viewer.stream].0, viewer.protocol),
                silent: seen.last.elapsed(),
                complaints: std::mem::take(&mut seen.complaints),
            }
        };
        self.viewers.iter().map(told).collect()
    }

    /// How many there are.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// What the one has got that has got least.
    pub(super) fn fewest_frames(&self) -> u64 {
        self.viewers.iter().map(|viewer| viewer.lock().frames).min().unwrap_or(0)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Comes back, where its stream is then, for as long as it is not to end.
    fn publish(&self, name: &str, source: Source, ssrc: u32, places: &Places) {
        while !self.stopped() {
            if let Some(place) = places.of(name) {
                let stays = || !self.stopped() && places.of(name).is_none_or(|now| now == place);
                match source {
                    Source::Push => self.push(name, place, stays),
                    Source::Rtp(transport) => self.send(transport, place, ssrc, stays),
                }
            }
            // A publisher's own pace; what its end means is seen by the viewers.
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    fn push(&self, name: &str, place: Place, stays: impl Fn() -> bool) {
        let url = format!("rtmp://{}/live/{name}", place.rtmp);
        let mut ffmpeg = publisher::ffmpeg(&self.folder, h264_aac(10), Times::ForEver, &url);
        while ffmpeg.ended().is_none() && stays() {
            std::thread::sleep(LOOK_EACH);
        }
    }

    fn send(&self, transport: Transport, place: Place, ssrc: u32, stays: impl Fn() -> bool) {
        let Some(to) = place.rtp else { return };
        let options = Options { rounds: 0, ..Options::new(PathBuf::new(), to, transport, ssrc) };
        let _ = ps_sender::send_while(&options, &self.camera, stays);
    }

    fn watch(&self, viewer: &Viewer, places: &Places) {
        let name = STREAMS[viewer.stream].0;
        while !self.stopped() {
            if let Some(place) = places.of(name) {
                let stays = || !self.stopped() && places.of(name).is_none_or(|now| now == place);
                let path = format!("live/{name}");
                let end = match viewer.protocol {
                    Protocol::Rtmp => self.watch_rtmp(viewer, place.rtmp, &path, stays),
                    Protocol::HttpFlv => self.watch_http(viewer, place.http, &path, stays),
                };
                let mut seen = viewer.lock();
                // One that never came to play has lost nothing; its silence is seen.
                if std::mem::take(&mut seen.next).plays()
                    && let Err(error) = end
                {
                    seen.complain(format!("it was ended: {error}"));
                }
            }
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    fn watch_rtmp(
        &self,
        viewer: &Viewer,
        to: SocketAddr,
        path: &str,
        stays: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut connection = Connection::open(Role::Play, to, path)?;
        let begun = Instant::now();
        while stays() {
            let waited = connection.wait(LOOK_EACH, |event| match event {
                ClientEvent::Frame(frame) => {
                    let mut one = Media::default();
                    let added = one.add_frame(&frame);
                    viewer.lock().take(added.map(|()| one), &self.originals[viewer.stream]);
                    None
                }
                ClientEvent::Status { code, description, .. } if code.contains("NotFound") => {
                    Some(format!("{code}: {description}"))
                }
                _ => None,
            });
            match waited {
                Ok(refused) => return Err(io::Error::other(refused)),
                Err(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
            if !viewer.lock().next.plays() && begun.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn watch_http(
        &self,
        viewer: &Viewer,
        to: SocketAddr,
        path: &str,
        stays: impl Fn() -> bool,
    ) -> io::Result<()> {
        let (response, mut got, mut socket) = http::open_within(PATIENCE, to, &format!("/{path}.flv"))?;
        if response.status != 200 {
            return Err(io::Error::other(format!("status {}", response.status)));
        }
        socket.set_read_timeout(Some(LOOK_EACH))?;
        let mut reader = flv::Reader::default();
        let mut buffer = vec![0; 64 * 1024];
        while stays() {
            let mut seen = viewer.lock();
            let pushed = reader.push(&got, |tag| {
                let mut one = Media::default();
                let added = one.add(&tag);
                seen.take(added.map(|()| one), &self.originals[viewer.stream]);
            });
            drop(seen);
            pushed.map_err(io::Error::other)?;
            got = read(&mut socket, &mut buffer)?;
        }
        // An error says that the server was first.
        let _ = socket.shutdown(Shutdown::Both);
        Ok(())
    }
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

impl Viewer {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked with it had counted a frame or not.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Takes what one tag or frame had in it.
    fn take(&mut self, media: Result<Media, String>, original: &Original) {
        let Ok(media) = media.map_err(|wrong| self.complain(wrong)) else { return };
        for (track, units) in [(Track::Pictures, &media.video), (Track::Sounds, &media.audio)] {
            for unit in units {
                match self.next.take(original, track, unit) {
                    Ok(()) => {}
                    Err(Wrong::Order(complaint)) => self.complain(complaint),
                    // Somebody else's: it is no sign of life of this stream.
                    Err(Wrong::Foreign(complaint)) => return self.complain(complaint),
                }
                self.frames += 1;
                self.last = Instant::now();
            }
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Track {
    Pictures,
    Sounds,
}

/// The places of all frames of a clip, by what they are known by.
struct Original {
    pictures: HashMap<u64, usize>,
    sounds: HashMap<u64, usize>,
}

impl Original {
    fn of(media: &Media) -> Original {
        let places = |units: &[Unit]| {
            let places: HashMap<u64, usize> =
                units.iter().enumerate().map(|(place, unit)| (unit.hash, place)).collect();
            assert_eq!(places.len(), units.len(), "two frames of the clip are alike");
            places
        };
        Original { pictures: places(&media.video), sounds: places(&media.audio) }
    }
}

/// The places that the next frames of one connection have in a clip that is sent round and round.
#[derive(Debug, Default)]
struct Next {
    picture: Option<usize>,
    sound: Option<usize>,
}

enum Wrong {
    Order(String),
    Foreign(String),
}

impl Next {
    /// Notes a frame, and says if it is another than the next.
    fn take(&mut self, original: &Original, track: Track, unit: &Unit) -> Result<(), Wrong> {
        let (places, next) = match track {
            Track::Pictures => (&original.pictures, &mut self.picture),
            Track::Sounds => (&original.sounds, &mut self.sound),
        };
        let Some(place) = places.get(&unit.hash) else {
            return Err(Wrong::Foreign(format!(
                "{track:?}: what is at {} ms is not the clip's",
                unit.dts_ms
            )));
        };
        let wanted = next.replace((place + 1) % places.len());
        match wanted {
            Some(wanted) if wanted != *place => Err(Wrong::Order(format!(
                "{track:?}: at {} ms is {place} of the clip's {}, {wanted} was to come",
                unit.dts_ms,
                places.len()
            ))),
            _ => Ok(()),
        }
    }

    fn plays(&self) -> bool {
        self.picture.is_some() || self.sound.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Original, Track, Wrong};
    use crate::nal::{Media, Unit};

    fn unit(hash: u64) -> Unit {
        Unit { dts_ms: 40 * hash as i64, cts_ms: 0, hash, key: false }
    }

    #[test]
    fn each_frame_that_is_missing_comes_twice_or_is_not_the_clips_is_told() {
        let clip = Media { video: (0..5).map(unit).collect(), ..Media::default() };
        let original = Original::of(&clip);
        let complaints = |played: &[u64]| {
            let mut next = Next::default();
            let took = played.iter().map(|hash| next.take(&original, Track::Pictures, &unit(*hash)));
            took.filter_map(Result::err)
                .map(|wrong| if matches!(wrong, Wrong::Foreign(_)) { 'f' } else { 'o' })
                .collect::<String>()
        };
        assert_eq!(complaints(&[3, 4, 0, 1, 2, 3, 4, 0]), "", "it may begin anywhere, and goes round");
        assert_eq!(complaints(&[0, 1, 3, 4]), "o");
        assert_eq!(complaints(&[0, 1, 1, 2]), "o");
        assert_eq!(complaints(&[3, 4, 1]), "o");
        assert_eq!(complaints(&[0, 9, 1]), "f");
    }
}
