//! What a receiver report says of a source (RFC 3550 §6.4.1, A.3, A.8).

use std::time::Duration;

use super::rtcp::ReportBlock;
use crate::clock::Unwrap;

/// Statistics of one source.
#[derive(Debug, Default)]
pub(super) struct Reception {
    numbers: Unwrap<16>,
    first: Option<i64>,
    highest: i64,
    received: i64,
    /// Expected and received at the last report.
    before: (i64, i64),
    transit: Option<u32>,
    /// In sixteenths.
    jitter: u64,
    sender_report: Option<(u32, Duration)>,
}

impl Reception {
    /// A packet came.
    pub(super) fn packet(&mut self, sequence: u16, timestamp: u32, now: Duration) {
        let number = self.numbers.peek(u64::from(sequence));
        let first = *self.first.get_or_insert(number);
        if number >= self.highest || number == first {
            self.highest = number;
            self.numbers.next(u64::from(sequence));
        }
        self.received += 1;
        // Arrival in 90 kHz; the difference comes round with the timestamp.
        let transit = ((now.as_micros() * 9 / 100) as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let step = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter = self.jitter + step - (self.jitter + 8) / 16;
        }
    }

    /// A sender report came.
    pub(super) fn sender_report(&mut self, ntp_middle: u32, now: Duration) {
        self.sender_report = Some((ntp_middle, now));
    }

    /// The block of the next receiver report.
    pub(super) fn report(&mut self, ssrc: u32, now: Duration) -> ReportBlock {
        let expected = self.first.map_or(0, |first| self.highest - first + 1);
        let fresh = (expected - self.before.0, self.received - self.before.1);
        self.before = (expected, self.received);
        let lost = fresh.0 - fresh.1;
        let fraction_lost = if lost > 0 { (lost * 256 / fresh.0.max(1)).min(255) as u8 } else { 0 };
        let (last_report, since_last_report) = match self.sender_report {
            Some((ntp, at)) => (ntp, (now.saturating_sub(at).as_micros() * 65_536 / 1_000_000) as u32),
            None => (0, 0),
        };
        ReportBlock {
            ssrc,
            fraction_lost,
            lost: (expected - self.received).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            highest: self.highest as u32,
            jitter: (self.jitter / 16) as u32,
            last_report,
            since_last_report,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Reception;

    #[test]
    fn losses_are_told_since_the_last_report_and_in_all() {
        let mut reception = Reception::default();
        let now = |n: u64| Duration::from_millis(40 * n);
        for n in (0..100u64).filter(|n| n % 4 != 3) {
            reception.packet(65_500u16.wrapping_add(n as u16), 3600 * n as u32, now(n));
        }
        let report = reception.report(7, now(100));
        // 98 came after 65 500 + 98 is the highest: 99 were expected, 75 came.
        assert_eq!((report.ssrc, report.fraction_lost, report.lost, report.highest), (7, 62, 24, 65_598));
        assert_eq!((report.jitter, report.last_report, report.since_last_report), (0, 0, 0));
        reception.sender_report(0x1122_3344, now(100));
        for n in 99..200 {
            reception.packet(65_500u16.wrapping_add(n as u16), 3600 * n as u32, now(n));
        }
        let report = reception.report(7, now(125));
        assert_eq!((report.fraction_lost, report.lost, report.highest), (0, 24, 65_699));
        assert_eq!((report.last_report, report.since_last_report), (0x1122_3344, 65_536));
    }

    #[test]
    fn jitter_is_that_of_arrivals() {
        let mut reception = Reception::default();
        for n in 0..1000u64 {
            let late = if n % 2 == 0 { 0 } else { 10 };
            reception.packet(n as u16, 3600 * n as u32, Duration::from_millis(40 * n + late));
        }
        let jitter = reception.report(1, Duration::from_secs(40)).jitter;
        assert!((880..=900).contains(&jitter), "10 ms are 900: {jitter}");
    }
}
