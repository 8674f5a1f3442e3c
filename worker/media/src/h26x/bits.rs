//! Bits of a NAL unit: emulation prevention bytes left out, fixed and Exp-Golomb fields (H.264 §7.4.1, §9.1).

/// Reads the bits of a NAL unit from its first byte on; `None` past the end.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    next: usize,
    zeros: u8,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, next: 0, zeros: 0, byte: 0, left: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.load()?;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left) & 1)
    }

    /// Up to 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// ue(v), up to 2^32 − 2.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1u32 << zeros) - 1).wrapping_add(self.bits(zeros)?))
    }

    fn load(&mut self) -> Option<()> {
        let mut byte = *self.bytes.get(self.next)?;
        self.next += 1;
        if self.zeros >= 2 && byte == 3 {
            byte = *self.bytes.get(self.next)?;
            self.next += 1;
            self.zeros = 0;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.byte = byte;
        self.left = 8;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn exp_golomb_fields_follow_each_other() {
        // 1 | 010 | 011 | 00100 | 00101 | padding
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()], [0, 1, 2, 3, 4].map(Some));
    }

    #[test]
    fn emulation_prevention_bytes_are_not_data() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(24), Some(1));
        assert_eq!(bits.bits(16), Some(0));
        assert_eq!(bits.bit(), None);
    }

    #[test]
    fn too_many_leading_zeros_are_no_number() {
        let mut bits = Bits::new(&[0, 1, 0, 1, 0, 0, 1]);
        assert_eq!(bits.ue(), Some((1 << 15) - 1));
        let mut bits = Bits::new(&[0xff; 4]);
        assert_eq!(bits.bits(32), Some(u32::MAX));
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0, 1]).ue(), None);
        assert_eq!(Bits::new(&[]).ue(), None);
    }
}
