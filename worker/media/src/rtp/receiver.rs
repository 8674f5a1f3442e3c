//! The receiver of one stream: from datagrams and connections to frames.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Config, ConnectionId, Counters, Event, Holder, Transmit};

/// Takes the packets of all who may send one stream, and hands out the frames of the one that does.
///
/// `now` is time since any fixed moment; it never goes back.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    counters: Counters,
    holder: Option<Holder>,
    connections: u64,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

impl Receiver {
    /// A receiver that has heard nobody yet.
    pub fn new(config: Config, _now: Duration) -> Receiver {
        Receiver {
            config,
            counters: Counters::default(),
            holder: None,
            connections: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// Takes a datagram that came to the RTP port; RTCP on it is told by its packet type (RFC 5761).
    pub fn receive_datagram(&mut self, _from: SocketAddr, _datagram: Bytes, _now: Duration) {}

    /// Takes a datagram that came to the RTCP port.
    pub fn receive_rtcp(&mut self, _from: SocketAddr, _datagram: &[u8], _now: Duration) {}

    /// Names a connection that was accepted. It may displace another candidate, by [`Event::Close`].
    pub fn connect(&mut self, _from: SocketAddr, _now: Duration) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// Takes what came on a connection, in pieces of any size. Unknown connections are ignored.
    pub fn receive_stream(&mut self, _connection: ConnectionId, _bytes: &[u8], _now: Duration) {}

    /// Forgets a connection that ended or failed.
    pub fn disconnect(&mut self, _connection: ConnectionId, _now: Duration) {}

    /// What happened, one a call, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for a peer, until `None`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`Receiver::timeout`] is to be called, if nothing came before.
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Lets time pass: gives up lost packets, ends waiting, makes reports.
    pub fn timeout(&mut self, _now: Duration) {}

    /// Who sends the stream.
    pub fn holder(&self) -> Option<Holder> {
        self.holder
    }

    /// What was taken and dropped.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the receiver was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
