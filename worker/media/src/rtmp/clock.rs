//! RTMP's clock of 32 bits, which comes round each 49.7 days, unrolled to 64.

use crate::clock::Unwrap;

/// Unrolls the timestamps of one connection: by the shorter way round, so that a small step back is a step back and not a wrap
/// (RTMP 1.0 §5.1 asks for serial number arithmetic, RFC 1982).
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    unwrap: Unwrap<32>,
    last: Option<(u32, i64)>,
    /// Added to each timestamp of a peer that came round at 31 bits an odd number of times.
    lead: u32,
}

/// ffmpeg masks its timestamps to 31 bits; a fall from this close below 2^31 to this close above 0 is its wrap, not a step of 24 days.
const WRAP_31_WINDOW_MS: u32 = 60_000;

impl Clock {
    /// The last timestamp in 64 bits, if there was one.
    pub fn latest(&self) -> Option<i64> {
        self.last.map(|(_, unrolled)| unrolled)
    }

    /// The timestamp in 64 bits. The first is taken as it is.
    pub fn unroll(&mut self, timestamp: u32) -> i64 {
        let near_31_bits = (1 << 31) - WRAP_31_WINDOW_MS..1 << 31;
        if self.last.is_some_and(|(last, _)| near_31_bits.contains(&last)) && timestamp < WRAP_31_WINDOW_MS {
            self.lead = self.lead.wrapping_add(1 << 31);
        }
        let unrolled = self.unwrap.next(timestamp.wrapping_add(self.lead).into());
        self.last = Some((timestamp, unrolled));
        unrolled
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    fn check(timestamps: &[u32], expected: &[i64]) {
        let mut clock = Clock::default();
        assert_eq!(clock.latest(), None);
        let got: Vec<i64> = timestamps.iter().map(|timestamp| clock.unroll(*timestamp)).collect();
        assert_eq!(got, expected);
        assert_eq!(clock.latest(), expected.last().copied());
    }

    #[test]
    fn the_clock_runs_on_where_32_bits_come_round() {
        check(&[u32::MAX - 9, 10, 30], &[4_294_967_286, 4_294_967_306, 4_294_967_326]);
    }

    #[test]
    fn a_small_step_back_is_a_step_back() {
        check(&[1000, 960, 1040], &[1000, 960, 1040]);
        check(&[10, u32::MAX - 9, 20], &[10, -10, 20]);
    }

    #[test]
    fn ffmpeg_comes_round_at_31_bits() {
        check(&[0x7fff_fff0, 4, 24], &[0x7fff_fff0, 0x8000_0004, 0x8000_0018]);
        // Others go on, or begin again from a quite different place.
        check(&[0x7fff_fff0, 0x8000_0004], &[0x7fff_fff0, 0x8000_0004]);
        check(&[0x7000_0000, 4], &[0x7000_0000, 4]);
    }
}
