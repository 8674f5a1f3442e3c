//! The network of a sender: faultless, or with seeded loss, order and pieces.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use media::rtp::rfc4571;

use super::{Options, Transport};
use crate::census;
use crate::eventually::{ensure, within};
use crate::soak::Random;

/// What a receiver on this machine may have in its kernel's buffer. A burst beyond its size would be lost, which is no network's doing;
/// and the smallest that a host gives, `net.core.rmem_default`, holds 90 packets.
const UNREAD_BYTES_MAX: u64 = 100_000;
/// Datagrams between two looks at it.
const LOOK_EACH: u64 = 16;

/// How long a connection may take, and a write that the receiver doesn't read.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Link {
    wire: Wire,
    to: SocketAddr,
    byte_wise: bool,
    loss: f64,
    reorder: u64,
    /// Packets that are sent late, by the place where they are.
    late: BinaryHeap<Reverse<(u64, u64, Bytes)>>,
    count: u64,
    random: Random,
    pub(super) sent: u64,
    pub(super) lost: u64,
}

enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Link {
    pub(super) fn open(options: &Options) -> Result<Link, String> {
        let to = options.to;
        match options.transport {
            Transport::Tcp if options.listen => {
                let listener = TcpListener::bind(to).map_err(|e| format!("listen on {to}: {e}"))?;
                let (stream, _) = listener.accept().map_err(|e| format!("accept on {to}: {e}"))?;
                Link::on(stream, options)
            }
            Transport::Tcp => {
                let stream =
                    TcpStream::connect_timeout(&to, PATIENCE).map_err(|e| format!("connect to {to}: {e}"))?;
                Link::on(stream, options)
            }
            Transport::Udp => {
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                Ok(Link::new(
                    Wire::Udp(UdpSocket::bind(any).map_err(|e| format!("bind {any}: {e}"))?),
                    options,
                ))
            }
        }
    }

    /// Over a connection that is there.
    pub(super) fn on(stream: TcpStream, options: &Options) -> Result<Link, String> {
        stream.set_nodelay(options.byte_wise).map_err(|e| format!("TCP_NODELAY: {e}"))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|e| format!("write timeout: {e}"))?;
        Ok(Link::new(Wire::Tcp(stream), options))
    }

    fn new(wire: Wire, options: &Options) -> Link {
        let faults = options.transport == Transport::Udp;
        Link {
            wire,
            to: options.to,
            byte_wise: options.byte_wise,
            loss: if faults { options.loss } else { 0.0 },
            reorder: if faults { options.reorder as u64 } else { 0 },
            late: BinaryHeap::new(),
            count: 0,
            random: Random::new(options.seed),
            sent: 0,
            lost: 0,
        }
    }

    /// Sends a packet, at once or some places later.
    pub(super) fn send(&mut self, packet: Bytes) -> Result<(), String> {
        if self.loss > 0.0 && self.random.next(1_000_000) as f64 / 10_000.0 < self.loss {
            self.lost += 1;
            return Ok(());
        }
        let place = self.count + self.random.next(self.reorder + 1);
        self.late.push(Reverse((place, self.count, packet)));
        // What comes later has a place behind this one's number.
        self.release(self.count)?;
        self.count += 1;
        Ok(())
    }

    /// Sends all that is late.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.release(u64::MAX)
    }

    /// Says over TCP that no more comes, and waits until the receiver has closed. A plain close would reset the connection when
    /// receiver reports lie unread, and take what the receiver has not read yet with it.
    pub(super) fn close(self) {
        if let Wire::Tcp(mut stream) = self.wire {
            // The receiver may have closed first; it is over in each case.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }

    fn release(&mut self, up_to: u64) -> Result<(), String> {
        while let Some(Reverse((place, _, _))) = self.late.peek()
            && *place <= up_to
            && let Some(Reverse((_, _, packet))) = self.late.pop()
        {
            self.wait_read()?;
            self.write(&packet)?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Over UDP on this machine: waits until what was sent is read.
    fn wait_read(&self) -> Result<(), String> {
        let here = matches!(self.wire, Wire::Udp(_)) && self.to.ip().is_loopback();
        if !here || !self.sent.is_multiple_of(LOOK_EACH) {
            return Ok(());
        }
        within(PATIENCE, || {
            let unread = census::unread_udp(self.to.port());
            ensure(unread <= UNREAD_BYTES_MAX, || format!("{} does not read: {unread} bytes wait", self.to))
        })
    }

    /// Bytes that are no packet, ahead of the first.
    pub(super) fn noise(&mut self, count: usize) -> Result<(), String> {
        let noise = self.random.bytes(count);
        for bytes in noise.chunks(1000) {
            let result = match &mut self.wire {
                Wire::Tcp(stream) => stream.write_all(bytes),
                Wire::Udp(socket) => socket.send_to(bytes, self.to).map(drop),
            };
            result.map_err(|e| format!("send to {}: {e}", self.to))?;
        }
        Ok(())
    }

    /// Sends RTCP: on the connection, or to the port above.
    pub(super) fn rtcp(&mut self, packet: &[u8]) -> Result<(), String> {
        if let Wire::Udp(socket) = &self.wire {
            let mut to = self.to;
            to.set_port(to.port().saturating_add(1));
            return socket.send_to(packet, to).map(drop).map_err(|e| format!("send to {to}: {e}"));
        }
        self.write(packet)
    }

    fn write(&mut self, packet: &[u8]) -> Result<(), String> {
        let result = match &mut self.wire {
            Wire::Tcp(stream) => {
                let framed = rfc4571::frame(packet);
                let pieces = if self.byte_wise { 1 } else { framed.len() };
                framed.chunks(pieces).try_for_each(|piece| stream.write_all(piece))
            }
            Wire::Udp(socket) => match socket.send_to(packet, self.to) {
                // A port that is closed at the moment: a camera doesn't mind.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                result => result.map(drop),
            },
        };
        result.map_err(|e| format!("send to {}: {e}", self.to))
    }
}
