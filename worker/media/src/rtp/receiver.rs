//! The receiver of one stream: from datagrams and connections to frames.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::policy::source_of;

use super::candidates::Candidates;
use super::limits::{BYE_WAIT, CANDIDATE_WAIT, CANDIDATES_MAX, HOLDER_SILENCE};
use super::live::Live;
use super::packet::{Packet, is_rtcp};
use super::rfc4571::Deframer;
use super::rtcp::{self, Rtcp};
use super::{
    Close, Config, ConnectionId, Counters, Destination, Dropped, Event, Holder, Released, Source, SsrcPolicy,
    Transmit,
};

/// Takes the packets of all who may send one stream, and hands out the frames of the one that does.
///
/// `now` is time since any fixed moment; it never goes back. Between two polls it queues what the bytes fed since then gave, and
/// holds [`super::limits::RECEIVER_BYTES_MAX`] and [`crate::ps::limits::DEMUX_BYTES_MAX`] at most beside that. A datagram's
/// `Bytes` may be held for the time of reordering: give each its own allocation, not a slice of a large buffer.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    counters: Counters,
    live: Option<Live>,
    candidates: Candidates,
    connections: BTreeMap<ConnectionId, Connection>,
    last_connection: u64,
    /// Who said goodbye, and until when nothing is heard of it.
    barred: Option<(Source, u32, Duration)>,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

#[derive(Debug)]
struct Connection {
    from: SocketAddr,
    deframer: Deframer,
    /// When it is closed, unless a valid pack comes or it is the holder.
    patience: Duration,
}

/// Reports that wait to be polled. One is due each 5 s.
const TRANSMITS_MAX: usize = 4;

impl Receiver {
    /// A receiver that has heard nobody yet.
    pub fn new(config: Config, _now: Duration) -> Receiver {
        Receiver {
            config,
            counters: Counters::default(),
            live: None,
            candidates: Candidates::default(),
            connections: BTreeMap::new(),
            last_connection: 0,
            barred: None,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// Takes a datagram that came to the RTP port; RTCP on it is told by its packet type (RFC 5761).
    pub fn receive_datagram(&mut self, from: SocketAddr, datagram: Bytes, now: Duration) {
        let source = Source::Datagrams(from);
        if is_rtcp(&datagram) {
            self.rtcp(from, &datagram, Destination::Rtp(from), now);
            return;
        }
        match Packet::parse(&datagram) {
            Ok(packet) => self.packet(source, from, packet, now),
            Err(_) => self.counters.drop(Dropped::Malformed, 1),
        }
    }

    /// Takes a datagram that came to the RTCP port.
    pub fn receive_rtcp(&mut self, from: SocketAddr, datagram: &[u8], now: Duration) {
        self.rtcp(from, datagram, Destination::Rtcp(from), now);
    }

    /// Names a connection that was accepted. It may displace another candidate, by [`Event::Close`].
    pub fn connect(&mut self, from: SocketAddr, now: Duration) -> ConnectionId {
        let waiting = self.connections.iter().filter(|(id, _)| !self.is_held_by(**id));
        if waiting.clone().count() >= CANDIDATES_MAX {
            // Whoever comes again and again takes its own places, and not that of another who has just come.
            let elsewhere = |connection: &Connection| source_of(connection.from.ip()) != source_of(from.ip());
            let oldest = waiting.min_by_key(|(_, it)| (elsewhere(it), it.patience)).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.close(id, Close::Crowded));
        }
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let ssrc = if self.config.policy == SsrcPolicy::Enforce { self.config.ssrc } else { None };
        let connection = Connection { from, deframer: Deframer::new(ssrc), patience: now + CANDIDATE_WAIT };
        self.connections.insert(id, connection);
        id
    }

    /// Takes what came on a connection, in pieces of any size. Unknown connections are ignored.
    pub fn receive_stream(&mut self, connection: ConnectionId, bytes: &[u8], now: Duration) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.deframer.push(bytes);
        }
        // What a packet brings about may close the connection.
        while let Some(known) = self.connections.get_mut(&connection) {
            let from = known.from;
            let Some(bytes) = known.deframer.poll(&mut self.counters) else { break };
            if is_rtcp(&bytes) {
                if self.is_held_by(connection) {
                    self.rtcp(from, &bytes, Destination::Connection(connection), now);
                }
                continue;
            }
            match Packet::parse(&bytes) {
                Ok(packet) => self.packet(Source::Connection(connection), from, packet, now),
                Err(_) => self.counters.drop(Dropped::Malformed, 1),
            }
        }
    }

    /// Forgets a connection that ended or failed.
    pub fn disconnect(&mut self, connection: ConnectionId, _now: Duration) {
        self.connections.remove(&connection);
        self.candidates.forget(Source::Connection(connection));
        if self.is_held_by(connection)
            && let Some(holder) = self.release()
        {
            self.events.push_back(Event::Released { holder, reason: Released::Disconnected });
        }
    }

    /// Ends the holder from our side: it stalled, or its publishing was ended. It is a candidate like any other from here on, and
    /// when it comes back, it is held anew and its frames begin with their configurations.
    pub fn evict(&mut self, now: Duration) {
        let Some(holder) = self.release() else { return };
        if let Source::Connection(id) = holder.source
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.patience = now + CANDIDATE_WAIT;
        }
    }

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
        let waiting = self.connections.iter().filter(|(id, _)| !self.is_held_by(**id));
        let patience = waiting.map(|(_, connection)| connection.patience).min();
        let live = self.live.as_ref().and_then(Live::deadline);
        patience.into_iter().chain(live).min()
    }

    /// Lets time pass: gives up lost packets, ends waiting, makes reports.
    pub fn timeout(&mut self, now: Duration) {
        let weary: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(id, connection)| connection.patience <= now && !self.is_held_by(**id))
            .map(|(id, _)| *id)
            .collect();
        weary.into_iter().for_each(|id| self.close(id, Close::NoMedia));
        if let Some(live) = &mut self.live {
            live.timeout(now, &mut self.counters, &mut self.events);
            if let Some(transmit) = live.report(now) {
                self.transmits.push_back(transmit);
                while self.transmits.len() > TRANSMITS_MAX {
                    self.transmits.pop_front();
                }
            }
        }
    }

    /// Who sends the stream.
    pub fn holder(&self) -> Option<Holder> {
        self.live.as_ref().map(Live::holder)
    }

    /// When the holder's last packet came.
    pub fn last_heard(&self) -> Option<Duration> {
        self.live.as_ref().map(Live::heard)
    }

    /// What was taken and dropped.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the receiver was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn is_held_by(&self, connection: ConnectionId) -> bool {
        self.holder().is_some_and(|holder| holder.source == Source::Connection(connection))
    }

    fn close(&mut self, connection: ConnectionId, reason: Close) {
        self.connections.remove(&connection);
        self.candidates.forget(Source::Connection(connection));
        self.events.push_back(Event::Close { connection, reason });
    }

    fn packet(&mut self, source: Source, from: SocketAddr, packet: Packet, now: Duration) {
        let enforced = self.config.ssrc.filter(|_| self.config.policy == SsrcPolicy::Enforce);
        if enforced.is_some_and(|ssrc| ssrc != packet.ssrc) {
            self.counters.drop(Dropped::WrongSsrc, 1);
            return;
        }
        match &mut self.live {
            Some(live) if live.is_from(source, packet.ssrc) => {
                live.receive(packet, now, &mut self.counters, &mut self.events);
            }
            Some(_) | None => self.offer(source, from, packet, now),
        }
    }

    /// A packet of somebody who is not the holder.
    fn offer(&mut self, source: Source, from: SocketAddr, packet: Packet, now: Duration) {
        let ssrc = packet.ssrc;
        if self.barred.is_some_and(|(who, its, until)| who == source && its == ssrc && now < until) {
            self.counters.drop(Dropped::Late, 1);
            return;
        }
        let is_silent = self.live.as_ref().is_none_or(|live| live.heard() + HOLDER_SILENCE <= now);
        let offer = self.candidates.offer(source, packet, now);
        if offer.is_valid
            && let Source::Connection(id) = source
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.patience = now + CANDIDATE_WAIT;
        }
        if is_silent && offer.is_valid {
            self.take_over(Holder { source, address: from, ssrc }, now);
        } else if let Some(live) = &self.live {
            let other = if live.holder().source == source { Dropped::WrongSsrc } else { Dropped::NotHolder };
            self.counters.drop(other, 1);
        } else {
            self.counters.drop(Dropped::Noise, offer.forgotten as u64);
        }
    }

    fn take_over(&mut self, by: Holder, now: Duration) {
        let from = self.holder();
        if let Some(mut live) = self.live.take() {
            live.finish(&mut self.counters, &mut self.events);
        }
        self.events.push_back(Event::Held { by, from });
        let mut live = Live::new(by, self.config.rtcp, now);
        for (packet, since) in self.candidates.take(by.source, by.ssrc) {
            live.receive(packet, since, &mut self.counters, &mut self.events);
        }
        // Packets that waited as a candidate's don't wait again.
        live.timeout(now, &mut self.counters, &mut self.events);
        self.live = Some(live);
        if let Some(Source::Connection(id)) =
            from.map(|holder| holder.source).filter(|&source| source != by.source)
        {
            self.close(id, Close::TakenOver);
        }
    }

    /// Nobody is the holder any more; what was whole is handed out.
    fn release(&mut self) -> Option<Holder> {
        let mut live = self.live.take()?;
        live.finish(&mut self.counters, &mut self.events);
        Some(live.holder())
    }

    fn rtcp(&mut self, from: SocketAddr, bytes: &[u8], back: Destination, now: Duration) {
        // Who may send RTCP is who sends the stream: its address, though not its port.
        let Some(live) = self.live.as_mut().filter(|live| live.holder().address.ip() == from.ip()) else {
            self.counters.drop(Dropped::NotHolder, 1);
            return;
        };
        let mut goodbye = false;
        for packet in rtcp::parse(bytes) {
            match packet {
                Ok(Rtcp::SenderReport { ssrc, ntp_middle }) if ssrc == live.holder().ssrc => {
                    live.sender_report(ntp_middle, back, now);
                }
                Ok(Rtcp::Bye { ssrcs }) => goodbye |= ssrcs.contains(&live.holder().ssrc),
                Ok(Rtcp::SenderReport { .. }) => self.counters.drop(Dropped::WrongSsrc, 1),
                Ok(Rtcp::Other { .. }) => {}
                Err(_) => self.counters.drop(Dropped::Malformed, 1),
            }
        }
        if goodbye && let Some(holder) = self.release() {
            self.barred = Some((holder.source, holder.ssrc, now + BYE_WAIT));
            self.events.push_back(Event::Released { holder, reason: Released::Bye });
        }
    }
}

#[cfg(test)]
#[path = "receiver/tests.rs"]
mod tests;
