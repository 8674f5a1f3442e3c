//! The shared rtp port: one number of TCP and UDP for all streams that lease none. They are told apart by their SSRC, here on front's
//! thread, and what is theirs is handed to their shards: a stuck shard swallows nobody else's.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::budget::{Budget, Permit};
use media::rtp::shared::{Opened, Opening, ssrc_of};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::convert::canonical;
use crate::counters::{Counters, DropReason};
use crate::front;
use crate::limits::{
    ACCEPT_RETRY, DATAGRAMS_PER_TURN, OPENING_DEADLINE, OPENING_READ_BYTES, OPENINGS_BYTES_MAX, OPENINGS_MAX,
    OPENINGS_PER_ADDRESS_MAX, SHARED_DATAGRAM_BUFFER, UNKNOWN_SAID_AGAIN,
};
use crate::routes::{Routes, Undelivered};
use crate::scan::Protocol;
use crate::seats::{Full, Seat, Seats};

/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Its sockets, bound.
#[derive(Debug)]
pub struct SharedPort {
    tcp: std::net::TcpListener,
    udp: std::net::UdpSocket,
    routes: Routes,
}

/// What both sockets share.
struct Door {
    routes: Routes,
    clock: Clock,
    counters: Arc<Counters>,
    /// Of connections that are nobody's yet, and of all.
    seats: [Seats; 2],
    /// Of connections that are nobody's yet.
    held: Budget,
    /// What is read with, between two awaits.
    buffer: RefCell<Box<[u8]>>,
    /// When it was last said that somebody sends what nobody has.
    said: Cell<Option<Duration>>,
}

impl SharedPort {
    /// Binds one number in both protocols. With port 0 in `address` it is of the kernel's choice.
    pub fn bind(address: SocketAddr, routes: Routes) -> io::Result<SharedPort> {
        let tcp = front::bind(address)?;
        let address = SocketAddr::from((address.ip(), tcp.local_addr()?.port()));
        let udp = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
        if address.is_ipv6() {
            udp.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
        }
        // A smaller one than asked for is what a host without the sysctl gives; media still flows.
        drop(udp.set_recv_buffer_size(SHARED_DATAGRAM_BUFFER));
        udp.bind(&address.into())?;
        Ok(SharedPort { tcp, udp: udp.into(), routes })
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.tcp.local_addr().map_or(0, |address| address.port())
    }

    /// Serves it on the runtime of the calling thread, for ever.
    pub(crate) fn serve(
        self,
        tasks: &mut JoinSet<()>,
        clock: Clock,
        counters: Arc<Counters>,
        connections: Seats,
    ) -> io::Result<()> {
        let SharedPort { tcp, udp, routes } = self;
        let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
        let door = Rc::new(Door {
            routes,
            clock,
            counters,
            seats: [
                Seats::new("openings at the shared rtp port", OPENINGS_MAX, OPENINGS_PER_ADDRESS_MAX),
                connections,
            ],
            held: Budget::new(OPENINGS_BYTES_MAX),
            buffer: RefCell::new(vec![0; DATAGRAM_BYTES_MAX].into()),
            said: Cell::new(None),
        });
        tasks.spawn_local(accept(door.clone(), tcp));
        tasks.spawn_local(take_datagrams(door, udp));
        Ok(())
    }
}

async fn take_datagrams(door: Rc<Door>, socket: UdpSocket) {
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "datagrams of the shared rtp port");
            tokio::time::sleep(ACCEPT_RETRY).await;
        }
        for _ in 0..DATAGRAMS_PER_TURN {
            let mut buffer = door.buffer.borrow_mut();
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => door.datagram(&buffer[..length], from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Of something that was sent from here, if ever anything was.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn accept(door: Rc<Door>, listener: TcpListener) {
    let mut openings = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, remote)) => {
                    door.counters.accepted.add(1);
                    match door.seats(remote) {
                        Ok(seats) => drop(openings.spawn_local(open(door.clone(), seats, socket, remote))),
                        Err(full) => door.counters.drop_one(full.reason()),
                    }
                }
                Err(error) => {
                    // Out of descriptors, or memory: the connection stays in the backlog, and trying at once would spin.
                    tracing::warn!(%error, "accept at the shared rtp port");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = openings.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a connection to the shared rtp port panicked before its stream was known; it alone is ended");
                    door.counters.session_panics.add(1);
                }
            }
        }
    }
}

/// Why a connection was not handed to a stream.
enum Closed {
    /// By its peer.
    Left,
    /// Nobody has its SSRC.
    Unknown(u32),
    Dropped(DropReason),
}

/// Finds out whose a connection is, and hands it over.
async fn open(door: Rc<Door>, seats: [Seat; 2], socket: TcpStream, remote: SocketAddr) {
    let decided = tokio::time::timeout(OPENING_DEADLINE, door.decide(&socket)).await;
    let [opening, connection] = seats;
    let handed = match decided {
        Ok(Ok((ssrc, bytes))) => door.hand_over(ssrc, socket, remote, bytes, connection),
        Ok(Err(closed)) => Err(closed),
        Err(_) => Err(Closed::Dropped(DropReason::Deadline)),
    };
    drop(opening);
    match handed {
        Ok(()) | Err(Closed::Left) => {}
        Err(Closed::Unknown(ssrc)) => door.unknown(Protocol::Tcp, ssrc, remote),
        Err(Closed::Dropped(reason)) => {
            door.counters.drop_one(reason);
            tracing::debug!(%remote, reason = reason.as_str(), "a connection to the shared rtp port is closed");
        }
    }
}

impl Door {
    fn seats(&self, remote: SocketAddr) -> Result<[Seat; 2], Full> {
        let [openings, connections] = &self.seats;
        let (address, now) = (remote.ip(), self.clock.now());
        Ok([openings.take(address, now)?, connections.take(address, now)?])
    }

    /// Listens to a connection until it has shown its SSRC. What is held meanwhile is of the one budget.
    async fn decide(&self, socket: &TcpStream) -> Result<(u32, Bytes), Closed> {
        let (mut opening, mut permit) = (Opening::default(), None::<Permit>);
        loop {
            socket.readable().await.map_err(|_| Closed::Left)?;
            let opened = {
                let mut buffer = self.buffer.borrow_mut();
                let length = match socket.try_read(&mut buffer[..OPENING_READ_BYTES]) {
                    Ok(0) => return Err(Closed::Left),
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => return Err(Closed::Left),
                };
                opening.receive(&buffer[..length], |ssrc| self.routes.knows(Protocol::Tcp, ssrc))
            };
            match opened {
                Opened::Undecided => {}
                Opened::Stream { ssrc, bytes } => return Ok((ssrc, bytes)),
                Opened::Unknown { ssrc } => return Err(Closed::Unknown(ssrc)),
                Opened::Noise => return Err(Closed::Dropped(DropReason::Protocol)),
            }
            drop(permit.take());
            permit = self.held.take(opening.held() as u64);
            if permit.is_none() {
                return Err(Closed::Dropped(DropReason::ConnectionLimit));
            }
            // One that always has more to read would keep this thread from all others.
            tokio::task::yield_now().await;
        }
    }

    fn hand_over(
        &self,
        ssrc: u32,
        socket: TcpStream,
        remote: SocketAddr,
        bytes: Bytes,
        seat: Seat,
    ) -> Result<(), Closed> {
        let socket = socket.into_std().map_err(|_| Closed::Left)?;
        self.routes.deliver_connection(ssrc, socket, remote, bytes, seat).map_err(|why| match why {
            // Revoked since its first bytes came.
            Undelivered::Unknown => Closed::Unknown(ssrc),
            Undelivered::Full => Closed::Dropped(DropReason::ShardBusy),
        })
    }

    fn datagram(&self, bytes: &[u8], from: SocketAddr) {
        let Some(ssrc) = ssrc_of(bytes) else { return self.counters.drop_one(DropReason::Protocol) };
        match self.routes.deliver_datagram(ssrc, from, bytes) {
            Ok(()) => {}
            Err(Undelivered::Unknown) => self.unknown(Protocol::Udp, ssrc, from),
            Err(Undelivered::Full) => self.counters.drop_one(DropReason::QueueFull),
        }
    }

    /// Counts what nobody has, and says now and then who sends it. Nothing else is kept.
    fn unknown(&self, protocol: Protocol, ssrc: u32, remote: SocketAddr) {
        self.routes.count_unknown(protocol);
        let now = self.clock.now();
        if self.said.get().is_none_or(|said| said + UNKNOWN_SAID_AGAIN <= now) {
            self.said.set(Some(now));
            let remote = canonical(remote);
            tracing::info!(ssrc = format!("{ssrc:010}"), %remote, ?protocol, "an SSRC that no stream here has came to the shared rtp port");
        }
    }
}
