//! What rtp ingresses count, for metrics and admin: a line a stream, gone with it, and the sum of those that are gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::rtp::{Counters, Dropped};

use super::dial::DialFailure;
use crate::assignment::StreamRef;

/// All rtp ingresses of the process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RtpStats {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    present: BTreeMap<StreamRef, RtpCounters>,
    gone: RtpCounters,
}

/// What one ingress counted, or several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtpCounters {
    /// Packets of holders.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets of addresses outside allowedCIDRs, and connections from there.
    pub denied: u64,
    /// Panics that ended a receiver; the next one began at once.
    pub panics: u64,
    dropped: [u64; Dropped::ALL.len()],
    dial_failures: [u64; DialFailure::ALL.len()],
}

impl RtpCounters {
    /// How often a device was not connected to, or to no use, for this reason.
    pub fn dial_failures(&self, reason: DialFailure) -> u64 {
        self.dial_failures[reason as usize]
    }

    /// How many were dropped for this reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize]
    }

    fn add(&mut self, other: &RtpCounters) {
        let RtpCounters { packets, bytes, denied, panics, dropped, dial_failures } = other;
        self.packets += packets;
        self.bytes += bytes;
        self.denied += denied;
        self.panics += panics;
        let sums = self.dropped.iter_mut().chain(&mut self.dial_failures);
        for (sum, more) in sums.zip(dropped.iter().chain(dial_failures)) {
            *sum += more;
        }
    }
}

impl RtpStats {
    /// A stream's line.
    pub fn line(&self, stream: &StreamRef) -> Line {
        self.lock().present.insert(stream.clone(), RtpCounters::default());
        Line {
            stats: self.clone(),
            stream: stream.clone(),
            past: RtpCounters::default(),
            denied: 0,
            panics: 0,
            dial_failures: Default::default(),
        }
    }

    /// Each present stream's.
    pub fn present(&self) -> BTreeMap<StreamRef, RtpCounters> {
        self.lock().present.clone()
    }

    /// Of all streams since the process started.
    pub fn total(&self) -> RtpCounters {
        let table = self.lock();
        let mut total = table.gone.clone();
        table.present.values().for_each(|counters| total.add(counters));
        total
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Numbers are whole whenever the lock is free.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's line; gone on drop, its numbers stay in the total.
#[derive(Debug)]
pub struct Line {
    stats: RtpStats,
    stream: StreamRef,
    /// Of receivers before the present one.
    past: RtpCounters,
    /// Counted here, not in the receiver.
    denied: u64,
    panics: u64,
    dial_failures: [u64; DialFailure::ALL.len()],
}

impl Line {
    /// A device was not connected to, or to no use.
    pub fn dial_failed(&mut self, reason: DialFailure) {
        self.dial_failures[reason as usize] += 1;
    }

    /// Somebody from outside allowedCIDRs.
    pub fn deny(&mut self) {
        self.denied += 1;
    }

    /// The receiver panicked.
    pub fn panicked(&mut self) {
        self.panics += 1;
    }

    /// The stream goes on at another epoch.
    pub fn rename(&mut self, stream: &StreamRef) {
        if self.stream != *stream {
            let mut table = self.stats.lock();
            if let Some(counters) = table.present.remove(&self.stream) {
                table.present.insert(stream.clone(), counters);
            }
            drop(table);
            self.stream = stream.clone();
        }
    }

    /// Shows what the present receiver has counted.
    pub fn show(&self, present: &Counters) {
        let sum = self.sum(present);
        self.stats.lock().present.insert(self.stream.clone(), sum);
    }

    /// The present receiver ends here; another begins at 0.
    pub fn turn(&mut self, present: &Counters) {
        self.past = self.sum(present);
        (self.denied, self.panics, self.dial_failures) = (0, 0, Default::default());
    }

    fn sum(&self, present: &Counters) -> RtpCounters {
        let dropped = Dropped::ALL.map(|reason| present.dropped(reason));
        let mut sum = self.past.clone();
        sum.add(&RtpCounters {
            packets: present.packets,
            bytes: present.bytes,
            denied: self.denied,
            panics: self.panics,
            dropped,
            dial_failures: self.dial_failures,
        });
        sum
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut table = self.stats.lock();
        if let Some(last) = table.present.remove(&self.stream) {
            table.gone.add(&last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_with_its_stream_and_its_numbers_stay_in_the_total() {
        let (stats, stream) = (RtpStats::default(), StreamRef { uid: "u".into(), epoch: 1 });
        let mut line = stats.line(&stream);
        let counted = |packets, bytes| {
            let mut counters = Counters::default();
            (counters.packets, counters.bytes) = (packets, bytes);
            counters
        };
        let counters = counted(3, 30);
        line.deny();
        line.show(&counters);
        assert_eq!((stats.total().packets, stats.present()[&stream].denied), (3, 1));
        line.turn(&counters);
        line.panicked();
        line.show(&counted(2, 0));
        let later = StreamRef { epoch: 2, ..stream.clone() };
        line.rename(&later);
        assert_eq!(stats.present().keys().collect::<Vec<_>>(), [&later]);
        assert_eq!((stats.total().packets, stats.total().denied, stats.total().panics), (5, 1, 1));
        drop(line);
        assert!(stats.present().is_empty());
        assert_eq!((stats.total().packets, stats.total().bytes), (5, 30));
    }
}
