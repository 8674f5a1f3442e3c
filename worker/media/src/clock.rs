//! Clocks that come round, made to run on: 16-bit sequence numbers, 32-bit RTP and RTMP time, 33-bit PS time.

/// Turns a counter of `BITS` bits into one of 64 that doesn't come round: each value is taken as the one nearest to its
/// predecessor, so steps back and steps of less than half the range are kept as they are.
///
/// `BITS` is 1 to 62.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwrap<const BITS: u32> {
    last: Option<i64>,
}

impl<const BITS: u32> Unwrap<BITS> {
    const RANGE: i64 = 1 << BITS;

    /// The value on the endless clock; later values are near to this one.
    pub fn next(&mut self, value: u64) -> i64 {
        let near = self.peek(value);
        self.last = Some(near);
        near
    }

    /// As [`Unwrap::next`], but later values stay near to the one before.
    pub fn peek(&self, value: u64) -> i64 {
        // Only the low bits are the counter's.
        let value = (value & (Self::RANGE as u64 - 1)) as i64;
        let Some(last) = self.last else { return value };
        let ahead = value.wrapping_sub(last) & (Self::RANGE - 1);
        // A peer that leaps by half the range for years would meet the end of i64; it gets what it asked for.
        last.wrapping_add(if ahead >= Self::RANGE / 2 { ahead - Self::RANGE } else { ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::Unwrap;

    fn check<const BITS: u32>(values: &[u64], expected: &[i64]) {
        let mut unwrap = Unwrap::<BITS>::default();
        let got: Vec<i64> = values.iter().map(|&value| unwrap.next(value)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_clock_runs_on_where_its_counter_comes_round() {
        check::<16>(&[65_534, 65_535, 0, 1], &[65_534, 65_535, 65_536, 65_537]);
        check::<32>(&[0xffff_ff00, 0x100], &[0xffff_ff00, 0x1_0000_0100]);
        check::<33>(&[(1 << 33) - 1, 0], &[(1 << 33) - 1, 1 << 33]);
    }

    #[test]
    fn a_small_step_back_stays_one_also_across_the_end() {
        check::<16>(&[10, 8, 9], &[10, 8, 9]);
        check::<16>(&[0, 65_535, 1], &[0, -1, 1]);
        check::<33>(&[0, (1 << 33) - 3600], &[0, -3600]);
    }

    #[test]
    fn bits_above_the_counter_are_not_looked_at() {
        check::<16>(&[0x1_0005], &[5]);
    }

    #[test]
    fn peeking_moves_nothing() {
        let mut unwrap = Unwrap::<16>::default();
        unwrap.next(65_535);
        assert_eq!(unwrap.peek(3), 65_539);
        assert_eq!(unwrap.next(65_533), 65_533);
    }
}
