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
use crate::assignment::{Remote, RtpSource};
use crate::listeners::{Leased, Media, PortLease};
use crate::routes::{Delivered, SharedLease};
use crate::targets::Targets;

/// A peer that is gone without a word is found out after a minute, though nobody else asks for its place.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Connections on an RTCP port of TCP; they are read and not answered.
const RTCP_CONNECTIONS_MAX: usize = 4;

/// All sockets of a stream.
#[derive(Debug)]
pub struct Sockets {
    media: Socket,
    rtcp: Option<Socket>,
    connections: Vec<Connection>,
    rtcp_connections: Vec<TcpStream>,
}

#[derive(Debug)]
enum Socket {
    Udp(Leased<UdpSocket>),
    Tcp(Leased<TcpListener>),
    Dial(Dialer),
    Shared(SharedLease),
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    socket: TcpStream,
    /// The rest of a report that the peer has not taken yet.
    unsent: Bytes,
}

/// A socket that has something.
#[derive(Debug)]
pub enum Ready {
    /// Datagrams on the RTP port.
    Datagrams,
    /// Datagrams on the RTCP port.
    Rtcp,
    /// A connection came in.
    Accepted(TcpStream, SocketAddr),
    /// Bytes, or the end, of a connection.
    Connection(ConnectionId),
    /// No connection could be accepted, for want of descriptors or memory.
    Failed(io::Error),
    /// Something for this stream came to the port that many share.
    Delivered(Delivered),
    /// The device was connected to.
    Dialled(TcpStream, SocketAddr),
    /// It was not. The next attempt is waited for.
    NotDialled(DialError),
}

impl Sockets {
    /// Puts a lease on the runtime of the calling thread.
    pub fn new(lease: PortLease, targets: Targets) -> io::Result<Sockets> {
        let PortLease { stream: _, media, rtcp } = lease;
        let media = Socket::new(media, &targets)?;
        let rtcp = rtcp.map(|rtcp| Socket::new(rtcp, &targets)).transpose()?;
        Ok(Sockets { media, rtcp, connections: Vec::new(), rtcp_connections: Vec::new() })
    }

    /// The next socket that has something. Cancel-safe.
    pub async fn ready(&mut self) -> Ready {
        std::future::poll_fn(|context| self.poll_ready(context)).await
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Ready> {
        match &mut self.media {
            Socket::Udp(socket) => {
                if socket.socket().poll_recv_ready(context).is_ready() {
                    return Poll::Ready(Ready::Datagrams);
                }
            }
            Socket::Tcp(listener) => match listener.socket().poll_accept(context) {
                Poll::Ready(Ok((socket, from))) => return Poll::Ready(Ready::Accepted(socket, from)),
                Poll::Ready(Err(error)) => return Poll::Ready(Ready::Failed(error)),
                Poll::Pending => {}
            },
            Socket::Dial(dialer) if self.connections.is_empty() => match dialer.poll(context) {
                Poll::Ready(Ok((socket, peer))) => return Poll::Ready(Ready::Dialled(socket, peer)),
                Poll::Ready(Err(error)) => return Poll::Ready(Ready::NotDialled(error)),
                Poll::Pending => {}
            },
            Socket::Dial(_) => {}
            Socket::Shared(lease) => {
                if let Poll::Ready(delivered) = lease.poll(context) {
                    return Poll::Ready(Ready::Delivered(delivered));
                }
            }
        }
        for connection in &self.connections {
            if connection.socket.poll_read_ready(context).is_ready() {
                return Poll::Ready(Ready::Connection(connection.id));
            }
        }
        match &self.rtcp {
            Some(Socket::Udp(socket)) => socket.socket().poll_recv_ready(context).map(|_| Ready::Rtcp),
            Some(Socket::Tcp(listener)) => {
                poll_rtcp(listener.socket(), &mut self.rtcp_connections, context);
                Poll::Pending
            }
            Some(Socket::Dial(_) | Socket::Shared(_)) | None => Poll::Pending,
        }
    }

    /// A datagram from the RTP port, if one waits.
    pub fn datagram(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let Socket::Udp(socket) = &self.media else { return None };
        receive(socket.socket(), buffer)
    }

    /// What else came to the port that many share, if anything waits.
    pub fn delivered(&mut self) -> Option<Delivered> {
        match &mut self.media {
            Socket::Shared(lease) => lease.take(),
            Socket::Udp(_) | Socket::Tcp(_) | Socket::Dial(_) => None,
        }
    }

    /// Follows an edit of the source, as far as that is not the lease's.
    pub fn follow(&mut self, source: &RtpSource) {
        if let Socket::Shared(lease) = &mut self.media {
            lease.follow(source);
        }
    }

    /// A datagram from the RTCP port, if one waits.
    pub fn rtcp_datagram(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let Some(Socket::Udp(socket)) = &self.rtcp else { return None };
        receive(socket.socket(), buffer)
    }

    /// Sends from the RTP port. What the host doesn't take is lost, as on any network.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) {
        if let Socket::Udp(socket) = &self.media {
            drop(socket.socket().try_send_to(bytes, to));
        }
    }

    /// Sends from the RTCP port, or from the RTP port where there is no other.
    pub fn send_rtcp(&self, bytes: &[u8], to: SocketAddr) {
        match &self.rtcp {
            Some(Socket::Udp(socket)) => drop(socket.socket().try_send_to(bytes, to)),
            Some(Socket::Tcp(_) | Socket::Dial(_) | Socket::Shared(_)) | None => self.send(bytes, to),
        }
    }

    /// Keeps a connection under the name that the receiver gave it.
    pub fn keep(&mut self, id: ConnectionId, socket: TcpStream) {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        drop(SockRef::from(&socket).set_tcp_keepalive(&keepalive));
        self.connections.push(Connection { id, socket, unsent: Bytes::new() });
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

    /// What connects to the device, where that is how media comes.
    pub fn dialer(&mut self) -> Option<&mut Dialer> {
        match &mut self.media {
            Socket::Dial(dialer) => Some(dialer),
            Socket::Udp(_) | Socket::Tcp(_) | Socket::Shared(_) => None,
        }
    }

    /// The device that is connected to at the moment, and by which connection.
    pub fn dialled(&self) -> Option<(ConnectionId, Remote)> {
        let Socket::Dial(dialer) = &self.media else { return None };
        self.connections.first().map(|connection| connection.id).zip(dialer.remote().cloned())
    }
}

impl Socket {
    fn new(media: Media, targets: &Targets) -> io::Result<Socket> {
        Ok(match media {
            Media::Shared(lease) => Socket::Shared(lease),
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
