//! Leased ports: an assignment's numbers become bound sockets, and are closed when the lease is dropped (design §4).
//!
//! Nothing here picks a number. A lease takes its number in both transports; the one that the media doesn't use is tried
//! once and closed again, and the host scan watches it from then on.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpSocket;

use crate::assignment::{Ports, RtpTransport, StreamRef};
use crate::scan::Protocol;

/// Connections that the kernel keeps for a media listener until they are accepted. Four may become candidates, but all cameras behind one
/// address may come at once after a power cut, to numbers that they were told before.
const BACKLOG: i32 = 128;

/// Asked of the kernel for datagrams; it gives at most `net.core.rmem_max` without a word. A key picture of 1 MiB is 750
/// packets at once, and each costs the kernel about 2 KiB.
pub const DATAGRAM_BUFFER: usize = 4 << 20;

/// Sockets of a lease. Dropping it closes them and takes them off the table, in this order.
#[derive(Debug)]
pub struct PortLease {
    /// Whose they are.
    pub stream: StreamRef,
    /// Its numbers.
    pub ports: Ports,
    /// The RTP number.
    pub media: Media,
    /// The RTCP number, where there is one.
    pub rtcp: Option<Media>,
}

/// A leased socket of either transport.
#[derive(Debug)]
pub enum Media {
    /// Datagrams come in here.
    Udp(Leased<UdpSocket>),
    /// Connections are accepted here.
    Tcp(Leased<TcpListener>),
    /// Connections are opened from here.
    Reserved(Leased<Reserved>),
}

/// A number of TCP that is bound for connections that we open, and not listened on: from a number that listens none can be opened.
#[derive(Debug)]
pub struct Reserved {
    port: u16,
    // Whoever binds without SO_REUSEADDR is kept out by it; whoever listens all the same is met by the next connection's bind.
    socket: Socket,
}

impl Reserved {
    /// The number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A socket with its line in the table of bound ports.
#[derive(Debug)]
pub struct Leased<S> {
    // Before `entry`: fields are dropped in this order, so the table never lacks a socket that is open.
    socket: S,
    entry: Entry,
}

impl<S> Leased<S> {
    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The same lease around another form of the socket.
    pub fn try_map<T, E>(self, form: impl FnOnce(S) -> Result<T, E>) -> Result<Leased<T>, E> {
        Ok(Leased { socket: form(self.socket)?, entry: self.entry })
    }
}

/// Every media socket of this process that is open.
#[derive(Clone, Debug, Default)]
pub struct BoundPorts {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    bound: BTreeMap<(u16, Protocol), StreamRef>,
    /// Counts changes.
    version: u64,
    /// Of the next lease.
    flaw: Option<Flaw>,
    /// What flaws hold open.
    flawed: Vec<OwnedFd>,
}

/// What is wrong with a lease on purpose (`--test-hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Somebody has kept a descriptor of its socket: that stays open when the lease is dropped.
    Leaks,
    /// It has a number of another stream, too, in the transport that its owner doesn't use, and doesn't give it back.
    Shares,
}

/// A line of the table, gone on drop.
#[derive(Debug)]
struct Entry {
    ports: BoundPorts,
    key: (u16, Protocol),
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.ports.lock();
        table.bound.remove(&self.key);
        table.version += 1;
    }
}

/// A lease's number could not be had. None of the lease's numbers is held afterwards.
#[derive(Debug, thiserror::Error)]
#[error("port {port}/{} of stream {}: {source}", self.transport(), stream.uid)]
pub struct BindError {
    /// Whose lease.
    pub stream: StreamRef,
    /// Which number.
    pub port: u16,
    /// In which transport; the lease may be for the other one.
    pub protocol: Protocol,
    /// The stream of this very worker that holds it, if it is one.
    pub own: Option<StreamRef>,
    /// The operating system's words.
    pub source: io::Error,
}

impl BindError {
    fn transport(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl BoundPorts {
    /// Binds all numbers of a lease, or none.
    pub fn lease(
        &self,
        stream: &StreamRef,
        transport: RtpTransport,
        ports: Ports,
    ) -> Result<PortLease, BindError> {
        let media = self.number(stream, ports.rtp, transport)?;
        let rtcp = ports.rtcp.map(|port| self.number(stream, port, transport)).transpose()?;
        self.spoil(stream, &media);
        Ok(PortLease { stream: stream.clone(), ports, media, rtcp })
    }

    /// Has the next lease spoilt.
    pub fn spoil_next(&self, flaw: Flaw) {
        self.lock().flaw = Some(flaw);
    }

    fn spoil(&self, stream: &StreamRef, media: &Media) {
        let mut table = self.lock();
        match table.flaw.take() {
            None => {}
            Some(Flaw::Leaks) => {
                let socket = match media {
                    Media::Udp(leased) => leased.socket.as_fd(),
                    Media::Tcp(leased) => leased.socket.as_fd(),
                    Media::Reserved(leased) => leased.socket.socket.as_fd(),
                };
                // One that cannot be cloned does not leak.
                table.flawed.extend(socket.try_clone_to_owned());
            }
            Some(Flaw::Shares) => {
                let other = table.bound.iter().find(|(_, owner)| *owner != stream).map(|(key, _)| *key);
                let Some((port, protocol)) = other else { return };
                let opened = match protocol {
                    Protocol::Udp => listen(port).map(|socket| (Protocol::Tcp, socket.into())),
                    Protocol::Tcp => datagrams(port).map(|socket| (Protocol::Udp, socket.into())),
                };
                let Ok((protocol, socket)) = opened else { return };
                table.bound.insert((port, protocol), stream.clone());
                table.version += 1;
                table.flawed.push(socket);
            }
        }
    }

    /// One number: opened in the transport of the media, tried in the other.
    fn number(&self, stream: &StreamRef, port: u16, transport: RtpTransport) -> Result<Media, BindError> {
        let failed = |protocol| move |source| self.failed(stream, port, protocol, source);
        match transport {
            RtpTransport::Udp => {
                drop(listen(port).map_err(failed(Protocol::Tcp))?);
                let socket = datagrams(port).map_err(failed(Protocol::Udp))?;
                Ok(Media::Udp(Leased { socket, entry: self.enter(stream, port, Protocol::Udp) }))
            }
            RtpTransport::TcpPassive => {
                drop(datagrams(port).map_err(failed(Protocol::Udp))?);
                let socket = listen(port).map_err(failed(Protocol::Tcp))?;
                Ok(Media::Tcp(Leased { socket, entry: self.enter(stream, port, Protocol::Tcp) }))
            }
            RtpTransport::TcpActive => {
                drop(datagrams(port).map_err(failed(Protocol::Udp))?);
                drop(listen(port).map_err(failed(Protocol::Tcp))?);
                let socket = open(Type::STREAM, port, |socket| socket.set_reuse_address(true))
                    .map_err(failed(Protocol::Tcp))?;
                let socket = Reserved { port, socket };
                Ok(Media::Reserved(Leased { socket, entry: self.enter(stream, port, Protocol::Tcp) }))
            }
        }
    }

    fn failed(&self, stream: &StreamRef, port: u16, protocol: Protocol, source: io::Error) -> BindError {
        let own = self.lock().bound.get(&(port, protocol)).cloned();
        BindError { stream: stream.clone(), port, protocol, own, source }
    }

    fn enter(&self, stream: &StreamRef, port: u16, protocol: Protocol) -> Entry {
        let mut table = self.lock();
        let former = table.bound.insert((port, protocol), stream.clone());
        assert!(former.is_none(), "the kernel bound {port} twice, for {former:?} and {stream:?}");
        table.version += 1;
        Entry { ports: self.clone(), key: (port, protocol) }
    }

    /// What is bound, ascending by port.
    pub fn all(&self) -> Vec<(u16, Protocol, StreamRef)> {
        self.lock().bound.iter().map(|(&(port, protocol), stream)| (port, protocol, stream.clone())).collect()
    }

    /// Whose socket this is.
    pub fn owner(&self, port: u16, protocol: Protocol) -> Option<StreamRef> {
        self.lock().bound.get(&(port, protocol)).cloned()
    }

    /// The numbers that are bound for a stream, ascending.
    pub fn of(&self, stream: &StreamRef) -> Vec<u16> {
        self.lock().bound.iter().filter(|(_, owner)| *owner == stream).map(|(&(port, _), _)| port).collect()
    }

    /// Rises with each change of the table.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The digest that a beat carries; see `Beat.digest` of the contract.
    pub fn digest(&self) -> u64 {
        digest(self.lock().bound.iter().map(|(&(port, _), stream)| (port, stream)))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Whoever panicked with it had either made its one change or not.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// FNV-1a 64 over (port u16 be, uid bytes, 0, epoch u64 be), ascending by port.
pub fn digest<'a>(bound: impl Iterator<Item = (u16, &'a StreamRef)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (port, stream) in bound {
        add(&port.to_be_bytes());
        add(stream.uid.as_bytes());
        add(&[0]);
        add(&stream.epoch.to_be_bytes());
    }
    hash
}

/// A listener on all addresses. SO_REUSEADDR, else connections in TIME_WAIT keep the number for a minute; with it the test
/// of the number is listen(), not bind().
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = open(Type::STREAM, port, |socket| socket.set_reuse_address(true))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket to connect to `peer` with, from a number that is ours by a [`Reserved`].
pub fn outgoing(port: u16, peer: SocketAddr) -> io::Result<TcpSocket> {
    let (domain, any): (_, IpAddr) = match peer {
        SocketAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    // A reset at its end, not a minute in TIME_WAIT, in which the same two ports could not be connected again. Nothing is lost by it:
    // we are the one who receives.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((any, port)).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A socket for datagrams on all addresses. Never with SO_REUSEADDR: two could then share the number unnoticed.
fn datagrams(port: u16) -> io::Result<UdpSocket> {
    open(Type::DGRAM, port, |socket| {
        // A smaller buffer than asked for is what a host without the sysctl gives; media still flows.
        drop(socket.set_recv_buffer_size(DATAGRAM_BUFFER));
        Ok(())
    })
    .map(Into::into)
}

/// A non-blocking socket bound to all addresses: dual stack, or IPv4 alone where the kernel has no IPv6.
fn open(kind: Type, port: u16, prepare: impl Fn(&Socket) -> io::Result<()>) -> io::Result<Socket> {
    let bind = |domain: Domain, address: SocketAddr| {
        let socket = Socket::new(domain, kind.nonblocking(), None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        prepare(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match bind(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if lacks_ipv6(&error) => bind(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        outcome => outcome,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests;
