//! Load: one publisher and hundreds of viewers, cheap enough to leave the machine to the server that is measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::rtmp::{Client, ClientEvent, Role};
use rustix::event::epoll;
use rustix::fs::Timespec;
use socket2::{Domain, Socket, Type};

use crate::eventually::eventually;
use crate::flv;
use crate::rtmp::{self, Connection};
use crate::synthetic::{Synthetic, age, configs};

/// What an Ethernet path has. The loopback's 64 KiB would merge what no network merges.
const MSS: u32 = 1448;
/// One viewer of so many takes its pictures apart to see how old they are.
const SAMPLE_EACH: usize = 25;

/// How viewers watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// HTTP-FLV.
    HttpFlv,
}

/// A publisher on its own thread, until it is dropped.
pub struct Source {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Source {
    /// Publishes the synthetic stream at its own speed.
    pub fn start(to: SocketAddr, path: &str) -> Source {
        let connection = Connection::publish(to, path);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || stream(connection, &stopped));
        Source { stop, thread: Some(thread) }
    }

    /// True while it publishes.
    pub fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Ok(Err(e))) = ended {
            eprintln!("the load's publisher ended: {e}");
        }
    }
}

/// Publishes this much media at once and returns, with the publisher there and silent.
///
/// # Panics
/// When it is not taken.
#[track_caller]
pub fn publish_some(to: SocketAddr, path: &str, media: Duration) -> Connection {
    let mut connection = Connection::publish(to, path);
    for config in configs() {
        connection.send(&config, 0).expect("it is taken");
    }
    let mut stream = Synthetic::default();
    while stream.due() < media {
        let frame = stream.next_frame();
        connection.send(&frame, frame.dts_ms as u32).expect("it is taken");
    }
    connection
}

/// Sends the synthetic stream at its own speed until it is stopped, or the server ends it.
pub fn stream(mut connection: Connection, stopped: &AtomicBool) -> io::Result<()> {
    feed(&mut connection, || stopped.load(Ordering::Relaxed))?;
    connection.stop()
}

/// The same, and leaves the end to the caller.
pub fn feed(connection: &mut Connection, over: impl Fn() -> bool) -> io::Result<()> {
    let mut stream = Synthetic::default();
    let begun = Instant::now();
    for config in configs() {
        connection.send(&config, 0)?;
    }
    while !over() {
        // A source of load keeps its own clock; nothing is waited for here.
        std::thread::sleep(stream.due().saturating_sub(begun.elapsed()));
        let frame = stream.next_frame();
        connection.send(&frame, frame.dts_ms as u32)?;
        connection.poll()?;
    }
    Ok(())
}

/// Viewers, all on one thread, until they are dropped.
pub struct Viewers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    playing: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
    ages: Mutex<Vec<Duration>>,
}

impl Viewers {
    /// Connects `n` viewers of `path`.
    pub fn start(protocol: Protocol, to: SocketAddr, path: &str, n: usize) -> io::Result<Viewers> {
        let viewers = (0..n)
            .map(|nth| Viewer::connect(protocol, to, path, nth.is_multiple_of(SAMPLE_EACH)))
            .collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared::default());
        let with = shared.clone();
        let thread = std::thread::spawn(move || watch(viewers, &with));
        Ok(Viewers { shared, thread: Some(thread) })
    }

    /// Waits until media has come to each of `n`.
    #[track_caller]
    pub fn wait_playing(&self, n: usize, limit: Duration) {
        eventually(&format!("{n} viewers with media"), limit, || {
            let playing = self.shared.playing.load(Ordering::Relaxed);
            let ended = self.shared.ended.load(Ordering::Relaxed);
            if playing >= n as u64 { Ok(()) } else { Err(format!("{playing} have it, {ended} were ended")) }
        });
    }

    /// Bytes that have come to all of them.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Viewers whose connection has ended.
    pub fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Takes the ages that pictures had when they came, since the last call.
    pub fn take_ages(&self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.ages.lock().expect("nobody panics with the lock"))
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(e))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the load's viewers ended: {e}");
        }
    }
}

struct Viewer {
    socket: TcpStream,
    wire: Wire,
    begun: Instant,
    sample: bool,
    plays: bool,
}

enum Wire {
    Rtmp(Box<Client>),
    /// Taken apart.
    Flv {
        head: bool,
        reader: flv::Reader,
    },
    /// Only counted.
    Bytes,
}

impl Viewer {
    fn connect(protocol: Protocol, to: SocketAddr, path: &str, sample: bool) -> io::Result<Viewer> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_tcp_mss(MSS)?;
        socket.connect_timeout(&to.into(), Duration::from_secs(10))?;
        let mut socket = TcpStream::from(socket);
        let wire = match protocol {
            Protocol::Rtmp => {
                let role = if sample { Role::Play } else { Role::Count };
                let mut client = rtmp::client(role, to, path);
                while let Some(bytes) = client.poll_transmit() {
                    socket.write_all(&bytes)?;
                }
                Wire::Rtmp(Box::new(client))
            }
            Protocol::HttpFlv => {
                socket.write_all(format!("GET /{path}.flv HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
                if sample { Wire::Flv { head: true, reader: flv::Reader::default() } } else { Wire::Bytes }
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Viewer { socket, wire, begun: Instant::now(), sample, plays: false })
    }

    /// Reads once. `Ok(false)` when the connection has ended.
    fn read(&mut self, buffer: &mut [u8], shared: &Shared) -> io::Result<bool> {
        let n = match self.socket.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        };
        shared.bytes.fetch_add(n as u64, Ordering::Relaxed);
        let mut media = matches!(self.wire, Wire::Bytes) && n > 1024;
        let mut see = |payload: &[u8]| {
            media = true;
            if let Some(age) = age(payload) {
                shared.ages.lock().expect("nobody panics with the lock").push(age);
            }
        };
        match &mut self.wire {
            Wire::Bytes => {}
            Wire::Flv { head, reader } => {
                let mut bytes = &buffer[..n];
                if std::mem::take(head) {
                    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
                    // The head of an answer on loopback comes whole, in front of the media.
                    let end =
                        end.ok_or_else(|| io::Error::other("no end of the HTTP head in the first bytes"))?;
                    bytes = &bytes[end + 4..];
                }
                reader.push(bytes, |tag| see(&tag.body)).map_err(io::Error::other)?;
            }
            Wire::Rtmp(client) => {
                let bytes = Bytes::copy_from_slice(&buffer[..n]);
                client.receive(bytes, self.begun.elapsed()).map_err(io::Error::other)?;
                while let Some(event) = client.poll_event() {
                    match event {
                        ClientEvent::Frame(frame) => see(&frame.payload),
                        ClientEvent::Message { .. } => see(&[]),
                        ClientEvent::Started | ClientEvent::Status { .. } | ClientEvent::StreamEof => {}
                    }
                }
                while let Some(bytes) = client.poll_transmit() {
                    // Acknowledgements: a dozen bytes, into an empty send buffer.
                    self.socket.write_all(&bytes)?;
                }
            }
        }
        if media && !self.plays {
            self.plays = true;
            if !self.sample {
                // To be cheap it acknowledges nothing from here on, as many players do.
                self.wire = Wire::Bytes;
            }
            shared.playing.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }
}

fn watch(mut viewers: Vec<Viewer>, shared: &Shared) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (nth, viewer) in viewers.iter().enumerate() {
        let data = epoll::EventData::new_u64(nth as u64);
        epoll::add(&poll, viewer.socket.as_fd(), data, epoll::EventFlags::IN)?;
    }
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Vec::with_capacity(512);
    let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while !shared.stop.load(Ordering::Relaxed) {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&tenth))?;
        for event in &events {
            let viewer = &mut viewers[event.data.u64() as usize];
            if !viewer.read(&mut buffer, shared)? {
                epoll::delete(&poll, viewer.socket.as_fd())?;
                shared.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
