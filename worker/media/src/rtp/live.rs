//! The holder's packets: put in order, taken apart, reported on.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::limits::REPORT_INTERVAL;
use super::packet::Packet;
use super::reception::Reception;
use super::reorder::{Ordered, Reorder};
use super::{Counters, Destination, Event, Holder, Rtcp, Source, Transmit, rfc4571, rtcp};
use crate::clock::Unwrap;
use crate::ps::{Demux, Output};

/// One holder and all that is known of its stream.
#[derive(Debug)]
pub(super) struct Live {
    holder: Holder,
    heard: Duration,
    order: Order,
    clock: Unwrap<32>,
    demux: Demux,
    reception: Reception,
    reports: Option<Reports>,
}

/// How packets come.
#[derive(Debug)]
enum Order {
    /// In any order.
    Datagrams(Box<Reorder>),
    /// In theirs. A number that is left out is a packet that the sender dropped, if the sender counts at all: `counted` is how
    /// many have followed each other.
    Connection { last: Option<u16>, counted: u32 },
}

#[derive(Debug)]
struct Reports {
    local_ssrc: u32,
    next: Duration,
    to: Option<Destination>,
    random: u32,
}

/// A sender that counted so far counts.
const COUNTED_ENOUGH: u32 = 16;

impl Live {
    pub(super) fn new(holder: Holder, config: Rtcp, now: Duration) -> Live {
        let (order, to) = match holder.source {
            Source::Datagrams(_) => {
                let mut address = holder.address;
                // RTCP is one above, until it shows from where it comes.
                let port = address.port().checked_add(1);
                let to = port.map(|port| {
                    address.set_port(port);
                    Destination::Rtcp(address)
                });
                (Order::Datagrams(Box::default()), to)
            }
            Source::Connection(id) => {
                (Order::Connection { last: None, counted: 0 }, Some(Destination::Connection(id)))
            }
        };
        let reports = match config {
            Rtcp::Off => None,
            Rtcp::On { local_ssrc } => {
                let mut reports = Reports { local_ssrc, next: now, to, random: local_ssrc };
                reports.plan(now);
                Some(reports)
            }
        };
        Live {
            holder,
            heard: now,
            order,
            clock: Unwrap::default(),
            demux: Demux::new(),
            reception: Reception::default(),
            reports,
        }
    }

    pub(super) fn holder(&self) -> Holder {
        self.holder
    }

    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    pub(super) fn is_from(&self, source: Source, ssrc: u32) -> bool {
        self.holder.source == source && self.holder.ssrc == ssrc
    }

    /// Takes a packet.
    pub(super) fn receive(
        &mut self,
        packet: Packet,
        now: Duration,
        counters: &mut Counters,
        events: &mut VecDeque<Event>,
    ) {
        self.heard = self.heard.max(now);
        counters.packets += 1;
        counters.bytes += packet.payload.len() as u64;
        self.reception.packet(packet.sequence, packet.timestamp, now);
        match &mut self.order {
            Order::Datagrams(reorder) => {
                reorder.push(packet, now, counters);
                self.drain_order(now, counters, events);
            }
            Order::Connection { last, counted } => {
                let follows = last.is_none_or(|last| packet.sequence == last.wrapping_add(1));
                *last = Some(packet.sequence);
                if !follows && *counted >= COUNTED_ENOUGH {
                    counters.drop(super::Dropped::Lost, 1);
                    self.demux.gap(counters);
                }
                *counted = if follows { counted.saturating_add(1) } else { 0 };
                self.demux(&packet, now, counters, events);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let order = match &self.order {
            Order::Datagrams(reorder) => reorder.deadline(),
            Order::Connection { .. } => None,
        };
        let reports = self.reports.as_ref().map(|reports| reports.next);
        [order, self.demux.deadline(), reports].into_iter().flatten().min()
    }

    pub(super) fn timeout(&mut self, now: Duration, counters: &mut Counters, events: &mut VecDeque<Event>) {
        if let Order::Datagrams(reorder) = &mut self.order {
            reorder.timeout(now, counters);
            self.drain_order(now, counters, events);
        }
        self.demux.timeout(now, counters);
        self.drain_demux(counters, events);
    }

    /// Nothing more comes: hands out what is whole.
    pub(super) fn finish(&mut self, counters: &mut Counters, events: &mut VecDeque<Event>) {
        if let Order::Datagrams(reorder) = &mut self.order {
            reorder.flush(counters);
            self.drain_order(self.heard, counters, events);
        }
        self.demux.finish(counters);
        self.drain_demux(counters, events);
    }

    pub(super) fn sender_report(&mut self, ntp_middle: u32, back: Destination, now: Duration) {
        self.reception.sender_report(ntp_middle, now);
        if let Some(reports) = &mut self.reports {
            reports.to = Some(back);
        }
    }

    /// The receiver report that is due.
    pub(super) fn report(&mut self, now: Duration) -> Option<Transmit> {
        let reports = self.reports.as_mut().filter(|reports| reports.next <= now)?;
        reports.plan(now);
        let block = self.reception.report(self.holder.ssrc, now);
        let bytes = rtcp::receiver_report(reports.local_ssrc, &block);
        reports.to.map(|to| Transmit { to, bytes: framed(to, bytes) })
    }

    fn drain_order(&mut self, now: Duration, counters: &mut Counters, events: &mut VecDeque<Event>) {
        loop {
            let Order::Datagrams(reorder) = &mut self.order else { return };
            match reorder.poll() {
                Some(Ordered::Packet(packet)) => self.demux(&packet, now, counters, events),
                Some(Ordered::Gap(_)) => self.demux.gap(counters),
                Some(Ordered::Restart) => {
                    self.demux.finish(counters);
                    self.drain_demux(counters, events);
                    self.demux = Demux::new();
                    self.clock = Unwrap::default();
                    self.reception = Reception::default();
                    events.push_back(Event::Restarted);
                }
                None => return,
            }
        }
    }

    fn demux(
        &mut self,
        packet: &Packet,
        now: Duration,
        counters: &mut Counters,
        events: &mut VecDeque<Event>,
    ) {
        let time = self.clock.next(u64::from(packet.timestamp));
        self.demux.push(&packet.payload, time, packet.marker, now, counters);
        self.drain_demux(counters, events);
    }

    fn drain_demux(&mut self, counters: &mut Counters, events: &mut VecDeque<Event>) {
        while let Some(output) = self.demux.poll() {
            events.push_back(match output {
                Output::Frame(frame) => {
                    counters.frames += 1;
                    Event::Frame(frame)
                }
                Output::Refused(name) => Event::Refused { name },
            });
        }
    }
}

impl Reports {
    /// Between half and one and a half intervals from now, so that receivers don't fall into step (RFC 3550 §6.2).
    fn plan(&mut self, now: Duration) {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.next = now + REPORT_INTERVAL / 2 + REPORT_INTERVAL * (self.random >> 16) / 65_536;
    }
}

fn framed(to: Destination, bytes: Bytes) -> Bytes {
    match to {
        Destination::Connection(_) => rfc4571::frame(&bytes),
        Destination::Rtcp(_) | Destination::Rtp(_) => bytes,
    }
}
