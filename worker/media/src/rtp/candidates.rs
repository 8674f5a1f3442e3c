//! Who may become the holder of a stream: senders that were heard beside the one that holds it.
//!
//! A few packets of each are kept, so that a new holder is heard from its first pack on, in whatever order its packets came.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Source;
use super::limits::{CANDIDATE_BYTES_MAX, CANDIDATE_PACKETS_MAX, CANDIDATES_MAX};
use super::packet::Packet;
use crate::clock::Unwrap;
use crate::ps::is_pack_header;

/// The candidates of one stream.
#[derive(Debug, Default)]
pub struct Candidates {
    seats: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    source: Source,
    ssrc: u32,
    heard: Duration,
    numbers: Unwrap<16>,
    /// By sequence number, or by arrival on a connection.
    packets: BTreeMap<i64, (Packet, Duration)>,
    arrivals: i64,
    bytes: usize,
}

/// What a packet said of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// A valid PS pack header begins in this packet, or is completed by it.
    pub is_valid: bool,
    /// Bytes of older packets that were dropped for it.
    pub forgotten: usize,
}

/// Bytes of a pack header that may be in other packets than its first.
const PACK_REST: usize = 13;

impl Candidates {
    /// Takes a packet of somebody who is not the holder. When all seats are taken, the one that was silent longest is displaced.
    pub fn offer(&mut self, source: Source, packet: Packet, now: Duration) -> Offer {
        let mut forgotten = 0;
        let ssrc = packet.ssrc;
        let known = self.seats.iter().position(|seat| seat.source == source && seat.ssrc == ssrc);
        let at = known.unwrap_or_else(|| {
            if self.seats.len() >= CANDIDATES_MAX {
                let oldest = (0..self.seats.len()).min_by_key(|&at| self.seats[at].heard).unwrap_or(0);
                forgotten += self.seats.swap_remove(oldest).bytes;
            }
            self.seats.push(Candidate::new(source, ssrc));
            self.seats.len() - 1
        });
        let seat = &mut self.seats[at];
        seat.heard = now;
        let number = seat.put(packet, now);
        forgotten += seat.keep_bounds();
        Offer { is_valid: seat.has_pack_at(number), forgotten }
    }

    /// The packets of one that becomes the holder, in order, with their times of arrival.
    pub fn take(&mut self, source: Source, ssrc: u32) -> Vec<(Packet, Duration)> {
        let Some(at) = self.seats.iter().position(|seat| seat.source == source && seat.ssrc == ssrc) else {
            return Vec::new();
        };
        self.seats.swap_remove(at).packets.into_values().collect()
    }

    /// Forgets a sender. Returns the bytes that it had sent.
    pub fn forget(&mut self, source: Source) -> usize {
        let bytes = self.seats.iter().filter(|seat| seat.source == source).map(|seat| seat.bytes).sum();
        self.seats.retain(|seat| seat.source != source);
        bytes
    }
}

impl Candidate {
    fn new(source: Source, ssrc: u32) -> Candidate {
        Candidate {
            source,
            ssrc,
            heard: Duration::ZERO,
            numbers: Unwrap::default(),
            packets: BTreeMap::new(),
            arrivals: 0,
            bytes: 0,
        }
    }

    fn put(&mut self, mut packet: Packet, now: Duration) -> i64 {
        // A slice would hold all that it was read with, which is not counted.
        packet.payload = Bytes::copy_from_slice(&packet.payload);
        let number = match self.source {
            Source::Datagrams(_) => self.numbers.next(u64::from(packet.sequence)),
            Source::Connection(_) => {
                self.arrivals += 1;
                self.arrivals
            }
        };
        self.bytes += packet.payload.len();
        if let Some((repeated, _)) = self.packets.insert(number, (packet, now)) {
            self.bytes -= repeated.payload.len();
        }
        number
    }

    fn keep_bounds(&mut self) -> usize {
        let before = self.bytes;
        while self.packets.len() > CANDIDATE_PACKETS_MAX || self.bytes > CANDIDATE_BYTES_MAX {
            let Some((_, (packet, _))) = self.packets.pop_first() else { break };
            self.bytes -= packet.payload.len();
        }
        before - self.bytes
    }

    /// Whether a pack header has a byte in the packet of this number.
    fn has_pack_at(&self, number: i64) -> bool {
        let Some((packet, _)) = self.packets.get(&number) else { return false };
        // What stands before and behind it without a gap, as far as a header can reach.
        let mut before = Vec::new();
        let neighbours = |mut at: i64, step: i64| {
            std::iter::from_fn(move || {
                at += step;
                self.packets.get(&at).map(|(packet, _)| &packet.payload)
            })
        };
        for payload in neighbours(number, -1) {
            let missing = PACK_REST - before.len();
            let tail = &payload[payload.len() - payload.len().min(missing)..];
            before.splice(0..0, tail.iter().copied());
            if before.len() >= PACK_REST {
                break;
            }
        }
        let mut joined = before;
        joined.extend_from_slice(&packet.payload);
        let end = joined.len() + PACK_REST;
        for payload in neighbours(number, 1) {
            let missing = end - joined.len();
            joined.extend_from_slice(&payload[..payload.len().min(missing)]);
            if joined.len() >= end {
                break;
            }
        }
        joined.windows(PACK_REST + 1).any(is_pack_header)
    }
}

#[cfg(test)]
#[path = "candidates/tests.rs"]
mod tests;
