//! The sockets of one rtp stream: its lease on the shard's runtime, and the connections that came in on it.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use media::rtp::ConnectionId;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::dial::{DialError, Dialer};
use crate::assignment::{Assignment, Ports, Remote, RtpSource};
use crate::listeners::{Leased, Media, PortLease};
use crate::routes::{Delivered, SharedLease};
use crate::seats::Seat;
use crate::targets::Targets;

/// A peer that is gone without a word is found out after a minute, though nobody else asks for its place.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Connections on an RTCP port of TCP; they are read and not answered.
const RTCP_CONNECTIONS_MAX: usize = 4;

/// Where media of a stream comes in at first.
#[derive(Debug)]
pub enum Entrance {
    /// Sockets of its own.
    Leased(PortLease),
    /// What comes to the worker's one port with the stream's SSRC.
    Shared(SharedLease),
}

impl Entrance {
    /// The numbers that are the stream's alone.
    pub fn ports(&self) -> Option<Ports> {
        match self {
            Entrance::Leased(lease) => Some(lease.ports),
            Entrance::Shared(_) => None,
        }
    }
}

/// All sockets of a stream.
#[derive(Debug)]
pub struct Sockets {
    /// One a lease. The last is the one that media is to come to in the end.
    doors: Vec<Door>,
    /// In their place: no socket of its own.
    shared: Option<SharedLease>,
    targets: Targets,
    connections: Vec<Connection>,
    /// Of several doors, which is asked first, in turn.
    turn: usize,
    /// Where we connect to the device: from which door.
    dials_from: Option<u16>,
}

/// The sockets of one lease.
#[derive(Debug)]
struct Door {
    ports: Ports,
    media: Socket,
    rtcp: Option<Socket>,
    rtcp_connections: Vec<TcpStream>,
}

#[derive(Debug)]
enum Socket {
    Udp(Leased<UdpSocket>),
    Tcp(Leased<TcpListener>),
    Dial(Dialer),
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    /// The leased RTP port that it came to, or comes from; absent: it came to the one that many share.
    port: Option<u16>,
    socket: TcpStream,
    /// The rest of a report that the peer has not taken yet.
    unsent: Bytes,
    /// Among the connections of its address; one that we opened has none.
    _seat: Option<Seat>,
}

/// A socket that has something. Doors go by their RTP ports.
#[derive(Debug)]
pub enum Ready {
    /// Datagrams on the RTP port.
    Datagrams(u16),
    /// Datagrams on the RTCP port.
    Rtcp(u16),
    /// A connection came in.
    Accepted(TcpStream, SocketAddr, u16),
    /// Bytes, or the end, of a connection, with the leased port that it came to.
    Connection(ConnectionId, Option<u16>),
    /// No connection could be accepted, for want of descriptors or memory.
    Failed(io::Error),
    /// Something for this stream came to the port that many share.
    Delivered(Delivered),
    /// The device was connected to.
    Dialled(TcpStream, SocketAddr, u16),
    /// It was not. The next attempt is waited for.
    NotDialled(DialError),
}

impl Sockets {
    /// Puts what was bound on the runtime of the calling thread.
    pub fn new(entrance: Entrance, targets: Targets) -> io::Result<Sockets> {
        let (doors, connections) = (Vec::new(), Vec::new());
        let mut sockets = Sockets { doors, shared: None, targets, connections, turn: 0, dials_from: None };
        match entrance {
            Entrance::Leased(lease) => sockets.add(lease)?,
            Entrance::Shared(lease) => sockets.shared = Some(lease),
        }
        Ok(sockets)
    }

    /// Puts another lease beside those that are there.
    pub fn add(&mut self, lease: PortLease) -> io::Result<()> {
        let door = Door::new(lease, &self.targets)?;
        self.dials_from = Some(door.ports.rtp);
        self.doors.push(door);
        Ok(())
    }

    /// Closes the leases that are not among these, and says which connections came by them.
    pub fn keep_leases(&mut self, wanted: impl Fn(Ports) -> bool) -> Vec<ConnectionId> {
        let before = self.doors.len();
        self.doors.retain(|door| wanted(door.ports));
        if self.doors.len() < before
            && let Some(last) = self.doors.last()
        {
            self.dials_from = Some(last.ports.rtp);
        }
        let doors = &self.doors;
        let lost = |connection: &&Connection| {
            connection.port.is_some_and(|port| doors.iter().all(|door| door.ports.rtp != port))
        };
        self.connections.iter().filter(lost).map(|connection| connection.id).collect()
    }

    /// How many leases there are.
    pub fn leases(&self) -> usize {
        self.doors.len()
    }

    /// Whether nothing can come in any more.
    pub fn is_closed(&self) -> bool {
        self.doors.is_empty() && self.shared.is_none()
    }

    /// The next socket that has something. Cancel-safe.
    pub async fn ready(&mut self) -> Ready {
        std::future::poll_fn(|context| self.poll_ready(context)).await
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Ready> {
        self.turn = self.turn.wrapping_add(1);
        let (count, turn) = (self.doors.len(), self.turn);
        let (connected, dials_from) = (!self.connections.is_empty(), self.dials_from);
        for nth in 0..count {
            let door = &mut self.doors[(turn + nth) % count];
            let dials = !connected && Some(door.ports.rtp) == dials_from;
            if let Poll::Ready(ready) = door.poll_media(dials, context) {
                return Poll::Ready(self.note_dial(ready));
            }
        }
        if let Some(lease) = &mut self.shared
            && let Poll::Ready(delivered) = lease.poll(context)
        {
            return Poll::Ready(Ready::Delivered(delivered));
        }
        for connection in &self.connections {
            if connection.socket.poll_read_ready(context).is_ready() {
                return Poll::Ready(Ready::Connection(connection.id, connection.port));
            }
        }
        for door in &mut self.doors {
            if door.poll_rtcp(context).is_ready() {
                return Poll::Ready(Ready::Rtcp(door.ports.rtp));
            }
        }
        Poll::Pending
    }

    /// A device that was not reached from one door is tried from the other one next.
    fn note_dial(&mut self, ready: Ready) -> Ready {
        if let Ready::NotDialled(_) = ready
            && let Some(other) = self.doors.iter().find(|door| Some(door.ports.rtp) != self.dials_from)
        {
            self.dials_from = Some(other.ports.rtp);
        }
        ready
    }

    /// A datagram from an RTP port, if one waits.
    pub fn datagram(&self, port: u16, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let Socket::Udp(socket) = &self.door(port)?.media else { return None };
        receive(socket.socket(), buffer)
    }

    /// What else came to the port that many share, if anything waits.
    pub fn delivered(&mut self) -> Option<Delivered> {
        self.shared.as_mut()?.take()
    }

    /// Follows an edit of the source, where its media comes to the port that many share.
    pub fn follow(&mut self, source: &RtpSource) {
        if let Some(lease) = &mut self.shared {
            lease.follow(source);
        }
    }

    /// A datagram from the RTCP port beside an RTP port, if one waits.
    pub fn rtcp_datagram(&self, port: u16, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let Some(Socket::Udp(socket)) = &self.door(port)?.rtcp else { return None };
        receive(socket.socket(), buffer)
    }

    /// Sends from an RTP port. What the host doesn't take is lost, as on any network.
    pub fn send(&self, port: u16, bytes: &[u8], to: SocketAddr) {
        if let Some(Socket::Udp(socket)) = self.door(port).map(|door| &door.media) {
            drop(socket.socket().try_send_to(bytes, to));
        }
    }

    /// Sends from the RTCP port beside an RTP port, or from the RTP port where there is no other.
    pub fn send_rtcp(&self, port: u16, bytes: &[u8], to: SocketAddr) {
        match self.door(port).and_then(|door| door.rtcp.as_ref()) {
            Some(Socket::Udp(socket)) => drop(socket.socket().try_send_to(bytes, to)),
            Some(Socket::Tcp(_) | Socket::Dial(_)) | None => self.send(port, bytes, to),
        }
    }

    fn door(&self, port: u16) -> Option<&Door> {
        self.doors.iter().find(|door| door.ports.rtp == port)
    }

    /// Keeps a connection of an RTP port, of which a leased one is named, under the name that the receiver gave it.
    pub fn keep(&mut self, id: ConnectionId, socket: TcpStream, port: Option<u16>, seat: Option<Seat>) {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        drop(SockRef::from(&socket).set_tcp_keepalive(&keepalive));
        self.connections.push(Connection { id, port, socket, unsent: Bytes::new(), _seat: seat });
    }

    /// Reads what a connection has; `None` once it has ended or failed, `Some(0)` while it has nothing.
    pub fn read(&self, id: ConnectionId, buffer: &mut [u8]) -> Option<usize> {
        let connection = self.connections.iter().find(|connection| connection.id == id)?;
        match connection.socket.try_read(buffer) {
            Ok(0) => None,
            Ok(length) => Some(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    /// Writes a report to a connection. Senders that never read take none; they are asked no more of.
    pub fn write(&mut self, id: ConnectionId, bytes: Bytes) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        if connection.unsent.is_empty() {
            connection.unsent = bytes;
            let started = connection.flush();
            if !started {
                // Dropped whole: half a frame would be worse than none.
                connection.unsent.clear();
            }
        } else {
            connection.flush();
        }
    }

    /// Who is at the other end of a connection, while it is there.
    pub fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.connections.iter().find(|connection| connection.id == id)?.socket.peer_addr().ok()
    }

    /// Closes a connection.
    pub fn close(&mut self, id: ConnectionId) {
        self.connections.retain(|connection| connection.id != id);
    }

    /// Closes all connections; the leased ports stay open.
    pub fn close_all(&mut self) {
        self.connections.clear();
    }

    /// Connects to what is assigned from here on, where that is how media comes.
    pub fn aim(&mut self, assigned: &Assignment) {
        self.dialers().for_each(|dialer| dialer.aim(assigned));
    }

    /// Media came.
    pub fn media_came(&mut self) {
        self.dialers().for_each(Dialer::media_came);
    }

    fn dialers(&mut self) -> impl Iterator<Item = &mut Dialer> {
        self.doors.iter_mut().filter_map(|door| match &mut door.media {
            Socket::Dial(dialer) => Some(dialer),
            Socket::Udp(_) | Socket::Tcp(_) => None,
        })
    }

    /// The device that is connected to at the moment, and by which connection.
    pub fn dialled(&self) -> Option<(ConnectionId, Remote)> {
        let Socket::Dial(dialer) = &self.doors.first()?.media else { return None };
        self.connections.first().map(|connection| connection.id).zip(dialer.remote().cloned())
    }
}

impl Door {
    fn new(lease: PortLease, targets: &Targets) -> io::Result<Door> {
        let PortLease { stream: _, ports, media, rtcp } = lease;
        let media = Socket::new(media, targets)?;
        let rtcp = rtcp.map(|rtcp| Socket::new(rtcp, targets)).transpose()?;
        Ok(Door { ports, media, rtcp, rtcp_connections: Vec::new() })
    }

    /// What its RTP port has. The device is connected to only where that is asked for.
    fn poll_media(&mut self, dials: bool, context: &mut Context<'_>) -> Poll<Ready> {
        let port = self.ports.rtp;
        match &mut self.media {
            Socket::Udp(socket) => socket.socket().poll_recv_ready(context).map(|_| Ready::Datagrams(port)),
            Socket::Tcp(listener) => listener.socket().poll_accept(context).map(|accepted| match accepted {
                Ok((socket, from)) => Ready::Accepted(socket, from, port),
                Err(error) => Ready::Failed(error),
            }),
            Socket::Dial(dialer) if dials => dialer.poll(context).map(|outcome| match outcome {
                Ok((socket, peer)) => Ready::Dialled(socket, peer, port),
                Err(error) => Ready::NotDialled(error),
            }),
            Socket::Dial(dialer) => {
                dialer.rest();
                Poll::Pending
            }
        }
    }

    fn poll_rtcp(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &self.rtcp {
            Some(Socket::Udp(socket)) => socket.socket().poll_recv_ready(context).map(|_| ()),
            Some(Socket::Tcp(listener)) => {
                poll_rtcp(listener.socket(), &mut self.rtcp_connections, context);
                Poll::Pending
            }
            Some(Socket::Dial(_)) | None => Poll::Pending,
        }
    }
}

impl Socket {
    fn new(media: Media, targets: &Targets) -> io::Result<Socket> {
        Ok(match media {
            Media::Reserved(leased) => Socket::Dial(Dialer::new(leased, targets.clone())),
            Media::Udp(leased) => Socket::Udp(leased.try_map(UdpSocket::from_std)?),
            Media::Tcp(leased) => Socket::Tcp(leased.try_map(TcpListener::from_std)?),
        })
    }
}

impl Connection {
    /// Writes what is unsent; false if the peer took nothing.
    fn flush(&mut self) -> bool {
        match self.socket.try_write(&self.unsent) {
            Ok(length) => {
                self.unsent.advance(length);
                true
            }
            Err(_) => false,
        }
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.try_recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // An ICMP error of something that was sent: it concerns nothing that comes in.
            Err(_) => {}
        }
    }
}

/// Takes and reads connections to an RTCP port, so that their peers are content. The oldest makes room.
fn poll_rtcp(listener: &TcpListener, connections: &mut Vec<TcpStream>, context: &mut Context<'_>) {
    while let Poll::Ready(Ok((socket, _))) = listener.poll_accept(context) {
        if connections.len() == RTCP_CONNECTIONS_MAX {
            connections.remove(0);
        }
        connections.push(socket);
    }
    let mut buffer = [0; 512];
    connections.retain(|socket| {
        while socket.poll_read_ready(context).is_ready() {
            match socket.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    });
}
