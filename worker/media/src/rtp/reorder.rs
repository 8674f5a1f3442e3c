//! Datagrams in the order of their sequence numbers: a buffer bounded in packets, bytes and time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::limits::{
    AHEAD_MAX, BACK_MAX, LOST_MAX, REORDER_BYTES_MAX, REORDER_PACKETS_MAX, REORDER_WAIT, RESTART_PACKETS,
    SETTLE_PACKETS,
};
use super::packet::Packet;
use crate::clock::Unwrap;
use crate::dropped::{Counters, Dropped};

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// The next packet.
    Packet(Packet),
    /// So many packets were given up here.
    Gap(u64),
    /// The sender began anew.
    Restart,
}

/// The buffer.
#[derive(Debug, Default)]
pub struct Reorder {
    numbers: Unwrap<16>,
    /// The next number to hand out; `None` until the beginning has settled.
    next: Option<i64>,
    highest: i64,
    held: BTreeMap<i64, Packet>,
    bytes: usize,
    /// When packets came, the oldest first. The first is held; others may have been handed out.
    arrivals: VecDeque<(Duration, i64)>,
    /// Numbers that were given up.
    lost: Lost,
    /// Packets far from the others that follow each other.
    strays: Vec<(Packet, Duration)>,
    ready: VecDeque<Ordered>,
}

impl Reorder {
    /// Takes a packet.
    pub fn push(&mut self, packet: Packet, now: Duration, counters: &mut Counters) {
        let number = self.numbers.peek(u64::from(packet.sequence));
        // What is waited for is never far: the oldest packet that could still be used.
        let oldest = self.next.or_else(|| self.held.keys().next().copied());
        let step = number.wrapping_sub(self.highest);
        let is_far = oldest.is_some_and(|oldest| number < oldest - BACK_MAX) || step > AHEAD_MAX;
        if oldest.is_some() && is_far && !self.lost.contains(number) {
            self.stray(packet, now, counters);
            return;
        }
        self.clear_strays(counters);
        if self.next.is_some_and(|next| number < next) {
            let reason = if self.lost.remove(number) { Dropped::Late } else { Dropped::Duplicate };
            counters.drop(reason, 1);
            return;
        }
        if oldest.is_none() || step > 0 {
            self.highest = number;
            self.numbers.next(u64::from(packet.sequence));
        }
        self.hold(number, packet, now, counters);
        self.release(now, counters);
    }

    /// What is in order, one a call, until `None`.
    pub fn poll(&mut self) -> Option<Ordered> {
        self.ready.pop_front()
    }

    /// When a packet is given up.
    pub fn deadline(&self) -> Option<Duration> {
        self.arrivals.front().map(|&(came, _)| came + REORDER_WAIT)
    }

    /// Gives up what was waited for long enough.
    pub fn timeout(&mut self, now: Duration, counters: &mut Counters) {
        self.release(now, counters);
    }

    /// Hands out all that is held.
    pub fn flush(&mut self, counters: &mut Counters) {
        while self.skip(counters) {}
    }

    fn hold(&mut self, number: i64, packet: Packet, now: Duration, counters: &mut Counters) {
        let bytes = packet.payload.len();
        if self.held.contains_key(&number) {
            counters.drop(Dropped::Duplicate, 1);
            return;
        }
        self.bytes += bytes;
        self.held.insert(number, packet);
        // At the end, but for a candidate's packets, which come in order and with the times at which they came.
        let at = self.arrivals.partition_point(|&(came, _)| came <= now);
        self.arrivals.insert(at, (now, number));
        if self.arrivals.len() > 2 * REORDER_PACKETS_MAX {
            self.arrivals.retain(|(_, number)| self.held.contains_key(number));
        }
        while self.held.len() > REORDER_PACKETS_MAX || self.bytes > REORDER_BYTES_MAX {
            self.skip(counters);
        }
    }

    /// Hands out what is in order, and gives up gaps that are older than the wait.
    fn release(&mut self, now: Duration, counters: &mut Counters) {
        if self.next.is_none() && self.held.len() >= SETTLE_PACKETS {
            self.next = self.held.keys().next().copied();
        }
        self.hand_out();
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.skip(counters);
        }
    }

    /// Gives up the packets before the first that is held; false if none is.
    fn skip(&mut self, counters: &mut Counters) -> bool {
        let Some((&first, _)) = self.held.first_key_value() else { return false };
        if let Some(next) = self.next {
            let missing = first.wrapping_sub(next);
            counters.drop(Dropped::Lost, missing as u64);
            self.ready.push_back(Ordered::Gap(missing as u64));
            self.lost.push(next..first);
        }
        self.next = Some(first);
        self.hand_out();
        true
    }

    fn hand_out(&mut self) {
        while let Some(next) = self.next {
            let Some(packet) = self.held.remove(&next) else { break };
            self.bytes -= packet.payload.len();
            self.ready.push_back(Ordered::Packet(packet));
            self.next = Some(next + 1);
        }
        while self.arrivals.front().is_some_and(|(_, number)| !self.held.contains_key(number)) {
            self.arrivals.pop_front();
        }
    }

    /// A packet far from the others: noise, until enough of them follow each other.
    fn stray(&mut self, packet: Packet, now: Duration, counters: &mut Counters) {
        let follows = |(last, _): &(Packet, Duration)| packet.sequence == last.sequence.wrapping_add(1);
        if !self.strays.last().is_none_or(follows) {
            self.clear_strays(counters);
        }
        self.strays.push((packet, now));
        if self.strays.len() < RESTART_PACKETS {
            return;
        }
        let strays = std::mem::take(&mut self.strays);
        self.flush(counters);
        let ready = std::mem::take(&mut self.ready);
        *self = Reorder { ready, ..Reorder::default() };
        self.ready.push_back(Ordered::Restart);
        // They follow each other, so nothing has to settle.
        if let Some((first, _)) = strays.first() {
            let number = self.numbers.next(u64::from(first.sequence));
            self.highest = number;
            self.next = Some(number);
        }
        for (packet, since) in strays {
            self.push(packet, since, counters);
        }
    }

    fn clear_strays(&mut self, counters: &mut Counters) {
        counters.drop(Dropped::Late, self.strays.len() as u64);
        self.strays.clear();
    }
}

/// Numbers that were given up, the newest [`LOST_MAX`] of them. As ranges: a sender that leaves out 3000 numbers with each packet
/// would make its packets cost as much.
#[derive(Debug, Default)]
struct Lost {
    /// Rising, without empty ones.
    ranges: VecDeque<Range<i64>>,
    count: i64,
}

impl Lost {
    /// Adds numbers above all others.
    fn push(&mut self, numbers: Range<i64>) {
        if numbers.is_empty() {
            return;
        }
        self.count += numbers.end - numbers.start;
        self.ranges.push_back(numbers);
        while self.count > LOST_MAX
            && let Some(oldest) = self.ranges.front_mut()
        {
            let forgotten = (self.count - LOST_MAX).min(oldest.end - oldest.start);
            oldest.start += forgotten;
            self.count -= forgotten;
            if oldest.is_empty() {
                self.ranges.pop_front();
            }
        }
    }

    fn position(&self, number: i64) -> Option<usize> {
        let at = self.ranges.partition_point(|range| range.end <= number);
        self.ranges.get(at).filter(|range| range.contains(&number)).map(|_| at)
    }

    fn contains(&self, number: i64) -> bool {
        self.position(number).is_some()
    }

    /// Takes a number out; false where it wasn't there.
    fn remove(&mut self, number: i64) -> bool {
        let Some(at) = self.position(number) else { return false };
        let above = number + 1..self.ranges[at].end;
        self.ranges[at].end = number;
        if !above.is_empty() {
            self.ranges.insert(at + 1, above);
        }
        if self.ranges[at].is_empty() {
            self.ranges.remove(at);
        }
        self.count -= 1;
        true
    }
}

#[cfg(test)]
#[path = "reorder/tests.rs"]
mod tests;
