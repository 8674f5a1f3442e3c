//! The ingress of an rtp stream: runs on the stream's shard, drives the pure receiver, and publishes what it hands out.
//!
//! No socket error and no panic of the receiver ends the stream: its ports stay open as long as it is assigned here.

pub mod arrival;
pub mod dial;
pub mod edits;
pub mod sockets;
pub mod stats;

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use media::frame::Frame;
use media::rtp::{Config, ConnectionId, Destination, Event, Receiver, Rtcp, Source, Transmit};
use tokio::net::TcpStream;

use crate::assignment::{Assignment, Ports, Remote, RtpPorts, RtpSource, RtpTransport, SsrcPolicy};
use crate::clock::Clock;
use crate::convert::canonical;
use crate::hub::{Ended, HubStream, Ingress, Publisher, Refusal};
use crate::routes::Delivered;
use crate::seats::{Seat, Seats};
use crate::shard::EndReason;
use crate::targets::Targets;
use arrival::Arrival;
use dial::{DialError, Told};
use edits::Edited;
use sockets::{Entrance, Ready, Sockets};
use stats::Line;
pub use stats::RtpStats;

/// Datagrams in a row before other streams of the shard have their turn.
const BATCH: usize = 64;

/// The same for reads from a connection, each of up to `BUFFER_BYTES`.
const READS: usize = 4;

/// The largest datagram, and what is read from a connection at once.
const BUFFER_BYTES: usize = 65_536;

/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After a panic of the receiver, so that input that always ends it costs little.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    /// One for all streams of a shard: a buffer each would be 64 KiB each.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into());
}

/// Builds the ingress around where its media comes in.
pub fn ingress(
    entrance: Entrance,
    mut edits: Edited,
    targets: Targets,
    seats: Seats,
    stats: RtpStats,
    clock: Clock,
) -> Ingress {
    Box::new(move |stream| {
        Box::pin(async move {
            let line = stats.line(&edits.assignment().stream);
            match Sockets::new(entrance, targets) {
                Ok(sockets) => run(stream, sockets, edits, seats, line, clock).await,
                // Out of memory in the kernel's poll set; the operator sees the ports gone by the digest.
                Err(error) => tracing::error!(%error, "leased sockets are refused by the runtime and closed"),
            }
        })
    })
}

/// Runs one receiver after the other, each until an edit or a panic ends it.
async fn run(
    stream: HubStream,
    mut sockets: Sockets,
    mut edits: Edited,
    seats: Seats,
    mut line: Line,
    clock: Clock,
) {
    loop {
        let assigned = edits.assignment();
        let Some(source) = assigned.rtp.clone() else { return };
        let receiver = Receiver::new(config(&source), clock.now());
        sockets.follow(&source);
        line.rename(&assigned.stream);
        let mut ingress = RtpIngress {
            stream: &stream,
            sockets: &mut sockets,
            seats: &seats,
            line: &mut line,
            clock,
            receiver,
            heard: 0,
            publisher: None,
            quiet_since: clock.now(),
            told: Told::default(),
            media_on: source.ports.lease().map(|lease| lease.rtp),
            arrival: Arrival::default(),
            assigned,
        };
        let outcome = caught(ingress.serve(&source, &mut edits)).await;
        let counters = *ingress.receiver.counters();
        let assigned = ingress.assigned.clone();
        drop(ingress);
        if let Err(panic) = &outcome {
            line.panicked();
            let what = text_of(panic.as_ref());
            tracing::error!(stream = %assigned, epoch = assigned.stream.epoch, what, "rtp session panicked; the next one begins");
        }
        line.show(&counters);
        line.turn(&counters);
        sockets.close_all();
        match outcome {
            Ok(Turn::Edited) => {}
            Ok(Turn::Over) => return,
            Err(_) => tokio::time::sleep(PANIC_PAUSE).await,
        }
    }
}

/// Why a receiver ended.
enum Turn {
    /// Its configuration was edited.
    Edited,
    /// The stream is being stopped.
    Over,
}

fn config(source: &RtpSource) -> Config {
    let policy = match source.ssrc_policy {
        SsrcPolicy::Enforce => media::rtp::SsrcPolicy::Enforce,
        SsrcPolicy::Learn => media::rtp::SsrcPolicy::Learn,
    };
    // Over TCP, RTCP comes and goes on the media's own connection.
    let rtcp = match (source.transport, source.ports) {
        (RtpTransport::Udp, RtpPorts::Shared | RtpPorts::Leased { lease: Ports { rtcp: None, .. }, .. }) => {
            Rtcp::Off
        }
        (RtpTransport::Udp, RtpPorts::Leased { lease: Ports { rtcp: Some(_), .. }, .. })
        | (RtpTransport::TcpPassive | RtpTransport::TcpActive, _) => Rtcp::On { local_ssrc: random() },
    };
    Config { ssrc: source.ssrc, policy, rtcp }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Any number will do, and this one where the system has no randomness.
    let _ = getrandom::fill(&mut bytes);
    u32::from_be_bytes(bytes)
}

/// One receiver at work.
struct RtpIngress<'a> {
    stream: &'a HubStream,
    sockets: &'a mut Sockets,
    seats: &'a Seats,
    line: &'a mut Line,
    clock: Clock,
    receiver: Receiver,
    /// Bytes of the holder that the publisher was told of.
    heard: u64,
    publisher: Option<Publisher>,
    /// Of a device that was connected to: since when nobody publishes.
    quiet_since: Duration,
    /// What was last said of a device that does not send.
    told: Told,
    /// The leased RTP port that media came to last, where there is any.
    media_on: Option<u16>,
    arrival: Arrival,
    assigned: Arc<Assignment>,
}

impl RtpIngress<'_> {
    async fn serve(&mut self, source: &RtpSource, edits: &mut Edited) -> Turn {
        self.change_leases(edits);
        loop {
            if self.sockets.is_closed() {
                // The operator sees it by the digest, and asks for it once more.
                return Turn::Over;
            }
            let wake = self.receiver.deadline().map(|at| self.clock.instant(at));
            let silence = self.silence().map(|at| self.clock.instant(at));
            tokio::select! {
                ready = self.sockets.ready() => {
                    let lost = match &ready {
                        Ready::NotDialled(DialError::NumberTaken { port }) => Some(*port),
                        _ => None,
                    };
                    self.receive(ready).await;
                    if let Some(port) = lost {
                        // Without its socket the lease is seen to be lost: the operator asks for it once more, and is told who has it.
                        self.keep_leases(|lease| lease.rtp != port);
                    }
                }
                () = until(wake) => self.receiver.timeout(self.clock.now()),
                () = until(silence) => self.hang_up(Some(DialError::Silent)),
                Ended(reason) = lost(self.publisher.as_ref()) => {
                    self.let_go(reason);
                    match reason {
                        EndReason::Revoked | EndReason::Drained => return Turn::Over,
                        // The next frame publishes anew.
                        EndReason::Left
                        | EndReason::NeverStarted
                        | EndReason::Stalled
                        | EndReason::TakenOver
                        | EndReason::Protocol
                        | EndReason::Panicked
                        // A device that we connect to is connected to anew.
                        | EndReason::Kicked => self.hang_up(None),
                    }
                }
                // Without control the stream plays on as it is.
                true = edits.changed() => {
                    self.assigned = edits.assignment();
                    self.line.rename(&self.assigned.stream);
                    let same = |it: &RtpSource| RtpSource { ports: it.ports, ..source.clone() } == *it;
                    if !self.assigned.rtp.as_ref().is_some_and(same) {
                        return Turn::Edited;
                    }
                    self.change_leases(edits);
                }
            }
            if self.settle() == Publishing::Stopped {
                return Turn::Over;
            }
        }
    }

    /// Opens and closes what an edit has brought and taken; whoever sends to what stays notices nothing.
    fn change_leases(&mut self, edits: &mut Edited) {
        if let Some(lease) = edits.take_lease() {
            match self.sockets.add(lease) {
                // The device is connected to from there; it may take one connection only.
                Ok(()) => self.hang_up(None),
                Err(error) => tracing::error!(%error, "leased sockets are refused by the runtime and closed"),
            }
            // This one may be, and one that it came in place of.
            self.stream.leases_closed();
        }
        let wanted: Vec<Ports> = self.assigned.rtp.iter().flat_map(|rtp| rtp.ports.leases()).collect();
        self.keep_leases(|lease| wanted.contains(&lease));
        self.sockets.aim(&self.assigned);
    }

    fn keep_leases(&mut self, wanted: impl Fn(Ports) -> bool) {
        let before = self.sockets.leases();
        for id in self.sockets.keep_leases(wanted) {
            self.receiver.disconnect(id, self.clock.now());
            self.sockets.close(id);
        }
        if self.sockets.leases() < before {
            self.stream.leases_closed();
        }
    }

    /// The publisher lost its token. When its source is heard again, it is held anew and begins with its configurations, which a new
    /// publisher needs.
    fn let_go(&mut self, reason: EndReason) {
        self.publisher = None;
        let now = self.clock.now();
        let holder = self.receiver.holder();
        self.receiver.evict(now);
        // Who was kicked dials again, if it can; one that sends datagrams cannot be kept from it.
        if let (EndReason::Kicked, Some(Source::Connection(id))) =
            (reason, holder.map(|holder| holder.source))
        {
            self.receiver.disconnect(id, now);
            self.sockets.close(id);
        }
    }

    async fn receive(&mut self, ready: Ready) {
        let now = self.clock.now();
        match ready {
            Ready::Datagrams(port) => {
                BUFFER.with_borrow_mut(|buffer| self.datagrams(port, buffer, now));
                self.note_media(port, now);
            }
            Ready::Rtcp(port) => BUFFER.with_borrow_mut(|buffer| self.rtcp_datagrams(port, buffer, now)),
            Ready::Connection(id, port) => {
                BUFFER.with_borrow_mut(|buffer| self.connection(id, buffer, now));
                if let Some(port) = port {
                    self.note_media(port, now);
                }
            }
            Ready::Accepted(socket, from, port) => match self.seats.take(from.ip(), now) {
                Ok(seat) => drop(self.connected(socket, from, Some(port), seat, now)),
                Err(full) => self.stream.counters().drop_one(full.reason()),
            },
            Ready::Delivered(first) => {
                self.delivered(first, now);
                for _ in 1..BATCH {
                    let Some(delivered) = self.sockets.delivered() else { return };
                    self.delivered(delivered, now);
                }
            }
            Ready::Failed(error) => {
                tracing::warn!(stream = %self.assigned, %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Ready::Dialled(socket, device, port) => {
                tracing::info!(stream = %self.assigned, remote = %canonical(device), port, "connected to the device");
                let id = self.receiver.connect(device, now);
                self.sockets.keep(id, socket, Some(port), None);
                self.quiet_since = now;
            }
            Ready::NotDialled(error) => self.note_useless(&error),
        }
    }

    /// Something that came to the port that many share.
    fn delivered(&mut self, delivered: Delivered, now: Duration) {
        match delivered {
            Delivered::Datagram { from, bytes, _waits: _ } => {
                if self.takes(from) {
                    self.receiver.receive_datagram(from, bytes, now);
                }
            }
            Delivered::Connection { socket, from, bytes, seat, _waits: _ } => {
                match TcpStream::from_std(socket) {
                    Ok(socket) => {
                        if let Some(id) = self.connected(socket, from, None, seat, now) {
                            self.receiver.receive_stream(id, &bytes, now);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(stream = %self.assigned, %error, "a connection was lost on its way from the shared port");
                    }
                }
            }
        }
    }

    /// Somebody has connected, to a leased RTP port or to the port that many share.
    fn connected(
        &mut self,
        socket: TcpStream,
        from: SocketAddr,
        port: Option<u16>,
        seat: Seat,
        now: Duration,
    ) -> Option<ConnectionId> {
        if !self.allows(from) {
            return None;
        }
        let id = self.receiver.connect(from, now);
        self.sockets.keep(id, socket, port, Some(seat));
        Some(id)
    }

    /// What was read from a door may have been the stream's media.
    fn note_media(&mut self, port: u16, now: Duration) {
        if self.receiver.counters().bytes == self.heard {
            return;
        }
        self.media_on = Some(port);
        let next = self.assigned.rtp.as_ref().and_then(|rtp| rtp.ports.next());
        if let Some((port, settled)) = self.arrival.note(port, next.map(|next| next.rtp), now) {
            tracing::info!(stream = %self.assigned, port, settled, "media comes on one of two ports");
            self.stream.media_arrived(port, settled);
        }
    }

    /// When a device that was connected to has sent nothing of use for too long.
    fn silence(&self) -> Option<Duration> {
        let waits = self.publisher.is_none() && self.sockets.dialled().is_some();
        waits.then(|| self.quiet_since + self.assigned.publish.stall_timeout)
    }

    /// Ends the connection to the device, if there is one; the next attempt follows.
    fn hang_up(&mut self, why: Option<fn(Remote) -> DialError>) {
        let Some((id, remote)) = self.sockets.dialled() else { return };
        self.receiver.disconnect(id, self.clock.now());
        self.sockets.close(id);
        if let Some(why) = why {
            self.note_useless(&why(remote));
        }
    }

    /// The device was not connected to, or to no use.
    fn note_useless(&mut self, error: &DialError) {
        self.line.dial_failed(error.reason());
        if self.told.is_news(error.reason(), self.clock.now()) {
            let text = error.to_string();
            self.stream.dial_failed(&text);
            tracing::warn!(stream = %self.assigned, error = text, "the device does not send; it is tried again and again");
        }
    }

    fn datagrams(&mut self, port: u16, buffer: &mut [u8], now: Duration) {
        for _ in 0..BATCH {
            let Some((length, from)) = self.sockets.datagram(port, buffer) else { return };
            if self.takes(from) {
                self.receiver.receive_datagram(from, Bytes::copy_from_slice(&buffer[..length]), now);
            }
        }
    }

    fn rtcp_datagrams(&mut self, port: u16, buffer: &mut [u8], now: Duration) {
        for _ in 0..BATCH {
            let Some((length, from)) = self.sockets.rtcp_datagram(port, buffer) else { return };
            if self.takes(from) {
                self.receiver.receive_rtcp(from, &buffer[..length], now);
            }
        }
    }

    fn connection(&mut self, id: ConnectionId, buffer: &mut [u8], now: Duration) {
        for _ in 0..READS {
            match self.sockets.read(id, buffer) {
                Some(0) => return,
                Some(length) => self.receiver.receive_stream(id, &buffer[..length], now),
                None => {
                    let useless = self.sockets.dialled().filter(|_| self.receiver.holder().is_none());
                    self.receiver.disconnect(id, now);
                    self.sockets.close(id);
                    if let Some((_, remote)) = useless {
                        self.note_useless(&DialError::Closed(remote));
                    }
                    return;
                }
            }
        }
    }

    /// Whether datagrams of a peer are listened to: who publishes goes on, whatever publish.allowedCIDRs has become.
    fn takes(&mut self, from: SocketAddr) -> bool {
        self.receiver.holder().is_some_and(|holder| holder.address.ip() == from.ip()) || self.allows(from)
    }

    /// Whether publish.allowedCIDRs has the peer in it. Tokens there are none in RTP.
    fn allows(&mut self, from: SocketAddr) -> bool {
        let allowed = &self.assigned.publish.access.allowed;
        let ip = from.ip().to_canonical();
        let allows = allowed.is_empty() || allowed.iter().any(|network| network.contains(&ip));
        if !allows {
            self.line.deny();
        }
        allows
    }

    /// Does what the receiver asks for.
    fn settle(&mut self) -> Publishing {
        let mut publishing = Publishing::Goes;
        while let Some(event) = self.receiver.poll_event() {
            publishing = publishing.max(self.event(event));
        }
        while let Some(Transmit { to, bytes }) = self.receiver.poll_transmit() {
            match (to, self.media_on) {
                (Destination::Rtcp(peer), Some(port)) => self.sockets.send_rtcp(port, &bytes, peer),
                (Destination::Rtp(peer), Some(port)) => self.sockets.send(port, &bytes, peer),
                (Destination::Connection(id), _) => self.sockets.write(id, bytes),
                // The port that many share only receives.
                (Destination::Rtcp(_) | Destination::Rtp(_), None) => {}
            }
        }
        let counters = self.receiver.counters();
        self.line.show(counters);
        let bytes = counters.bytes;
        if let Some(publisher) = self.publisher.as_ref().filter(|_| bytes > self.heard) {
            publisher.heard((bytes - self.heard) as usize);
        }
        self.heard = bytes;
        if self.publisher.is_some() {
            self.quiet_since = self.clock.now();
        }
        publishing
    }

    fn event(&mut self, event: Event) -> Publishing {
        let assigned = &self.assigned;
        match event {
            Event::Held { by, from } => {
                tracing::info!(stream = %assigned, remote = %canonical(by.address), ssrc = by.ssrc, takeover = from.is_some(), "rtp source");
                if let (Some(publisher), Some(_)) = (self.publisher.take(), from) {
                    publisher.give_up(EndReason::TakenOver);
                }
                self.told = Told::default();
                self.sockets.media_came();
                self.publish(by.address)
            }
            Event::Frame(frame) => {
                self.push(frame);
                Publishing::Goes
            }
            Event::Restarted => {
                tracing::info!(stream = %assigned, "the rtp source's clock began anew");
                // A clock of its own: to the stream it is another source.
                if let Some(publisher) = self.publisher.take() {
                    publisher.give_up(EndReason::TakenOver);
                }
                self.receiver.holder().map_or(Publishing::Goes, |holder| self.publish(holder.address))
            }
            Event::Refused { name } => {
                tracing::warn!(stream = %assigned, codec = name, "the rtp source sends what cannot be carried; that track is left out");
                Publishing::Goes
            }
            Event::Released { holder, reason } => {
                tracing::info!(stream = %assigned, remote = %canonical(holder.address), ?reason, "the rtp source left");
                self.publisher = None;
                Publishing::Goes
            }
            Event::Close { connection, reason } => {
                let remote = self.sockets.peer(connection).map(canonical);
                tracing::info!(stream = %assigned, ?remote, ?reason, "a connection of an rtp source is closed");
                match self.sockets.dialled() {
                    Some(_) => self.hang_up(Some(DialError::Silent)),
                    None => self.sockets.close(connection),
                }
                Publishing::Goes
            }
        }
    }

    fn push(&mut self, frame: Frame) {
        if let Some(Err(Ended(reason))) = self.publisher.as_ref().map(|publisher| publisher.push(frame)) {
            self.let_go(reason);
        }
    }

    fn publish(&mut self, remote: SocketAddr) -> Publishing {
        match self.stream.publish(canonical(remote), "RTP") {
            Ok(publisher) => self.publisher = Some(publisher),
            Err(Refusal::Stopped) => return Publishing::Stopped,
            // Nobody else publishes an rtp stream; should it be so, the source is held again when it is heard.
            Err(refusal @ Refusal::Duplicate) => {
                self.receiver.evict(self.clock.now());
                tracing::warn!(stream = %self.assigned, %refusal, "rtp source not published");
            }
        }
        Publishing::Goes
    }
}

/// Whether the stream still takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Publishing {
    Goes,
    Stopped,
}

async fn until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn lost(publisher: Option<&Publisher>) -> Ended {
    match publisher {
        Some(publisher) => publisher.ended().await,
        None => std::future::pending().await,
    }
}

/// Runs a future; a panic in it ends it alone.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // What a panic leaves behind is thrown away with the receiver.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
