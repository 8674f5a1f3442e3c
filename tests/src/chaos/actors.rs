//! Who carries the script out, each on a thread of its own for a time that the script gives, and never more than a bound at once.
//!
//! An actor's own luck is of no interest: a server that refuses it, ends it or is dead at the moment does what it should. Whether it
//! should is the judge's business.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use media::rtmp::{ClientEvent, Role};
use media::rtp::rfc4571;
use socket2::{Domain, SockRef, Socket, Type};

use super::script::{Attack, Camera, Door, End, Loot};
use crate::away::Away;
use crate::eventually::within;
use crate::hostile::{VALUES, giant, nested, shaken};
use crate::load::{self, Protocol};
use crate::ps_sender::{self, Clip, Options, Transport};
use crate::rtmp::Connection;
use crate::running::Running;
use crate::soak::Random;

/// Actors at once. Most sleep most of the time; the machine is to be left to the server.
const ACTORS_MAX: usize = 32;
/// The last of them ends within the patience of a camera that waits for its receiver's end, 10 s, and is not alone on the machine.
const END: Duration = Duration::from_secs(30);
/// Between two looks of an actor at the clock.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// How long a connection of an actor, or a write that nobody takes, may last.
const PATIENCE: Duration = Duration::from_secs(1);
/// Objects and arrays inside each other.
const DEPTH: usize = 10_000;
/// Of a head that does not end.
const FLOOD_BYTES: usize = 1 << 20;
/// Addresses of this host that crowds come from.
const SOURCES: u16 = 8;
/// Garbage that comes at once.
const GARBAGE_BYTES: usize = 1300;
const GARBAGE_EACH: Duration = Duration::from_millis(30);
const NOISE_BYTES: usize = 20_000;
const NOISE_EACH: Duration = Duration::from_millis(300);
/// Seconds of a clip that are sent byte by byte: a key picture is some 20 000 writes.
const BYTE_WISE_SECONDS: f64 = 0.2;

/// All actors that are there.
pub(super) struct Crew<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    stop: &'scope AtomicBool,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

/// How long an actor is to stay.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    end: Instant,
    stop: &'a AtomicBool,
}

impl<'scope, 'env> Crew<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, stop: &'scope AtomicBool) -> Self {
        Crew { scope, stop, threads: Vec::new() }
    }

    /// Lets one begin, unless there are too many.
    pub(super) fn begin(
        &mut self,
        lasts: Duration,
        act: impl FnOnce(Life<'_>) + Send + 'scope,
    ) -> Result<(), String> {
        self.threads.retain(|thread| !thread.is_finished());
        if self.threads.len() >= ACTORS_MAX {
            return Err("there are too many actors".into());
        }
        let life = Life { end: Instant::now() + lasts, stop: self.stop };
        self.threads.push(self.scope.spawn(move || act(life)));
        Ok(())
    }

    /// Ends all of them.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        within(END, || {
            self.threads.retain(|thread| !thread.is_finished());
            if self.threads.is_empty() { Ok(()) } else { Err(self.threads.len()) }
        })
        .map_err(|left| format!("{left} actors do not end within {END:?}"))
    }
}

impl Life<'_> {
    /// True when it is time to leave.
    pub(super) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Does nothing for a time, or until it is over. An actor keeps its own clock; nothing is waited for here.
    fn idle(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.over() && Instant::now() < end {
            std::thread::sleep(LOOK_EACH.min(time));
        }
    }

    /// Does nothing until it is over.
    pub(super) fn sit_out(&self) {
        self.idle(self.left());
    }
}

/// A connection whose reads and writes end.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Publishes until its life is over; one that falls silent does so at half of it.
pub(super) fn publish(to: SocketAddr, path: &str, end: End, life: Life<'_>) {
    let Ok(mut connection) = Connection::try_publish(to, path) else { return };
    let half = Instant::now() + life.left() / 2;
    let silent = || end == End::Silence && Instant::now() >= half;
    if load::feed(&mut connection, || life.over() || silent()).is_err() {
        return;
    }
    match end {
        End::Politely => drop(connection.stop()),
        End::Reset | End::Killed => drop(connection.reset()),
        End::Silence => life.sit_out(),
    }
}

/// Lets a program of somebody else publish, and kills it.
pub(super) fn kill(mut program: Running, life: Life<'_>) {
    life.sit_out();
    program.kill();
}

/// Publishes and watches from elsewhere, and vanishes without a word.
pub(super) fn vanish(rtmp: u16, http: u16, path: &str, life: Life<'_>) {
    let away = Away::make();
    let there = away.go(|| {
        let mut publisher = Connection::try_publish((away.here(), rtmp).into(), path)?;
        let viewer = ask(Protocol::HttpFlv, (away.here(), http).into(), path).map_err(|e| e.to_string())?;
        let half = Instant::now() + life.left() / 2;
        load::feed(&mut publisher, || life.over() || Instant::now() >= half).map_err(|e| e.to_string())?;
        Ok::<_, String>((publisher, viewer))
    });
    away.cut();
    // Kept until nobody speaks to them any more; the place goes last.
    life.sit_out();
    drop(there);
}

/// Some viewers watch until their life is over. Then they are gone without a word, as players are.
pub(super) fn watch(protocol: Protocol, to: SocketAddr, path: &str, viewers: u8, life: Life<'_>) {
    let mut viewers: Vec<TcpStream> = (0..viewers).map_while(|_| ask(protocol, to, path).ok()).collect();
    let mut buffer = [0; 64 * 1024];
    while !life.over() && !viewers.is_empty() {
        viewers.retain_mut(|viewer| match viewer.read(&mut buffer) {
            Ok(n) => n > 0,
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        });
        life.idle(LOOK_EACH);
    }
}

/// Asks for a stream, and leaves what comes to the caller.
fn ask(protocol: Protocol, to: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let mut socket = match protocol {
        Protocol::Rtmp => {
            let mut viewer = Connection::open(Role::Count, to, path)?;
            viewer.wait(PATIENCE, |event| matches!(event, ClientEvent::Started).then_some(()))?;
            viewer.into_socket()
        }
        Protocol::HttpFlv => connect(to)?,
    };
    if protocol == Protocol::HttpFlv {
        socket.write_all(format!("GET /{path}.flv HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where a camera sends, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) to: SocketAddr,
    pub(super) transport: Transport,
    pub(super) ssrc: u32,
}

/// A camera sends until its life is over. An error is the network's, or the port is another's by now.
pub(super) fn send(target: Target, camera: Camera, clip: &Clip, life: Life<'_>) {
    let Target { to, transport, ssrc } = target;
    // Order is as networks have it.
    let options = Options { rounds: 0, reorder: 2, ..Options::new(PathBuf::new(), to, transport, ssrc) };
    let goes = || !life.over();
    let _ = match camera {
        Camera::Good => ps_sender::send_while(&options, clip, goes).map(drop),
        Camera::WrongSsrc => {
            ps_sender::send_while(&Options { ssrc: ssrc + 1_000_000, ..options }, clip, goes).map(drop)
        }
        Camera::ByteWise => {
            let seconds = Some(BYTE_WISE_SECONDS);
            ps_sender::send_while(&Options { byte_wise: true, seconds, ..options }, clip, goes).map(drop)
        }
        Camera::Noise => noise(&options, clip, life),
        Camera::HalfOpen => half_open(&options, clip, life).map_err(|e| e.to_string()),
    };
}

/// What is no packet, a burst that a socket's buffer has room for beside a camera's picture, again and again.
fn noise(options: &Options, clip: &Clip, life: Life<'_>) -> Result<(), String> {
    while !life.over() {
        ps_sender::send_while(&Options { noise: NOISE_BYTES, ..options.clone() }, clip, || false)?;
        life.idle(NOISE_EACH);
    }
    Ok(())
}

/// A packet, a part of the next in TCP, and nothing more.
fn half_open(options: &Options, clip: &Clip, life: Life<'_>) -> io::Result<()> {
    let packets = ps_sender::packets(options, clip);
    let (whole, next) = (&packets[0], &packets[1]);
    match options.transport {
        Transport::Tcp => {
            let mut socket = connect(options.to)?;
            socket.write_all(&rfc4571::frame(whole))?;
            socket.write_all(&rfc4571::frame(next)[..100])?;
            life.sit_out();
        }
        Transport::Udp => {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(whole, options.to)?;
        }
    }
    Ok(())
}

/// Some clients attack until their life is over. Being hung up on is what they deserve.
pub(super) fn assail(
    (door, to): (Door, SocketAddr),
    attack: Attack,
    clients: u16,
    path: &str,
    clip: &Clip,
    seed: u64,
    life: Life<'_>,
) {
    let mut random = Random::new(seed);
    let open = || (0..clients).map_while(|_| connect(to).ok()).collect::<Vec<_>>();
    let inside = || (0..clients).map_while(|_| shaken(to, PATIENCE).ok()).collect::<Vec<_>>();
    let _ = match (attack, door) {
        (Attack::Garbage, Door::Udp) => {
            let options = Options::new(PathBuf::new(), to, Transport::Udp, 0);
            noise(&options, clip, life).map_err(io::Error::other)
        }
        (Attack::Garbage, _) => garbage(open(), &mut random, life),
        (Attack::GarbageInside, _) => garbage(inside(), &mut random, life),
        (Attack::AmfBomb, _) => {
            let value = VALUES[random.next(VALUES.len() as u64) as usize];
            words(inside(), &nested(value, DEPTH), life)
        }
        (Attack::GiantChunks, _) => {
            // A command, a picture, an aggregate.
            words(inside(), &giant([20, 9, 22][random.next(3) as usize]), life)
        }
        (Attack::HeaderFlood, _) => flood(open(), life),
        (Attack::Drip, _) => drip(door, open(), life),
        (Attack::NeverRead, _) => {
            let protocol = if door == Door::Http { Protocol::HttpFlv } else { Protocol::Rtmp };
            let _deaf: Vec<_> = (0..clients).map_while(|_| ask(protocol, to, path).ok()).collect();
            life.sit_out();
            Ok(())
        }
        (Attack::Crowd, _) => crowd(to, clients, life),
    };
}

fn garbage(mut sockets: Vec<TcpStream>, random: &mut Random, life: Life<'_>) -> io::Result<()> {
    while !life.over() && !sockets.is_empty() {
        sockets.retain_mut(|socket| socket.write_all(&random.bytes(GARBAGE_BYTES)).is_ok());
        life.idle(GARBAGE_EACH);
    }
    Ok(())
}

/// Each client says the same, and stays.
fn words(mut sockets: Vec<TcpStream>, words: &[u8], life: Life<'_>) -> io::Result<()> {
    sockets.retain_mut(|socket| socket.write_all(words).is_ok());
    life.sit_out();
    Ok(())
}

fn flood(mut sockets: Vec<TcpStream>, life: Life<'_>) -> io::Result<()> {
    sockets.retain_mut(|socket| socket.write_all(b"GET /live/steady-push.flv HTTP/1.1\r\n").is_ok());
    let line = [&b"X-Flood: "[..], &[b'a'; 1000], b"\r\n"].concat();
    for _ in 0..FLOOD_BYTES / line.len() {
        sockets.retain_mut(|socket| socket.write_all(&line).is_ok());
        if life.over() || sockets.is_empty() {
            return Ok(());
        }
    }
    life.sit_out();
    Ok(())
}

/// The beginning of what is right, a byte a second.
fn drip(door: Door, mut sockets: Vec<TcpStream>, life: Life<'_>) -> io::Result<()> {
    let words: &[u8] = match door {
        Door::Rtmp => &[3, 0, 0, 0, 0, 0, 0, 0, 0],
        Door::Http | Door::Health => b"GET /healthz HTTP/1.1\r\n",
        // The length of a packet, and its head.
        Door::Tcp | Door::Udp => &[5, 100, 0x80, 96, 0, 1],
    };
    for byte in words {
        if life.over() {
            break;
        }
        sockets.retain_mut(|socket| socket.write_all(&[*byte]).is_ok());
        life.idle(Duration::from_secs(1));
    }
    life.sit_out();
    Ok(())
}

fn crowd(to: SocketAddr, clients: u16, life: Life<'_>) -> io::Result<()> {
    for client in 0..clients {
        if life.over() {
            break;
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if to.ip().is_loopback() {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (client % SOURCES) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        // A full backlog is theirs, too.
        if socket.connect_timeout(&to.into(), PATIENCE).is_ok() {
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// Takes a number of this network, if it is to be had; it is held until what is returned is dropped.
pub(super) fn steal(port: u16, loot: Loot) -> Vec<OwnedFd> {
    let tcp = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok().map(OwnedFd::from);
    let udp = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok().map(OwnedFd::from);
    let held = match loot {
        Loot::Tcp => [tcp(), None],
        Loot::Udp => [None, udp()],
        Loot::Both => [tcp(), udp()],
    };
    held.into_iter().flatten().collect()
}
