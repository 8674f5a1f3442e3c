//! What a worker's media ports come to in one number: FNV-1a 64 over port (u16 be), uid bytes, 0, epoch (u64 be) of
//! each, ascending by port. Both ends compute it; they compare only at an equal sequence.

use crate::ids::StreamRef;

/// FNV-1a's offset basis and prime for 64 bits (RFC 9923 section 5).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Digest {
    /// Adds one bound port; ports must come ascending.
    pub fn add(&mut self, port: u16, stream: &StreamRef) {
        self.write(&port.to_be_bytes());
        self.write(stream.uid.as_str().as_bytes());
        self.write(&[0]);
        self.write(&stream.epoch.0.to_be_bytes());
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Uid};

    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(Digest::default().value(), OFFSET);
        let mut digest = Digest::default();
        digest.write(b"foobar");
        assert_eq!(digest.value(), 0x8594_4171_f739_67e8, "test vector of draft-eastlake-fnv");
    }

    #[test]
    fn another_epoch_is_another_digest() {
        let of = |epoch| {
            let mut digest = Digest::default();
            digest.add(20000, &StreamRef::new(Uid::from("u"), Epoch(epoch)));
            digest.value()
        };
        assert_ne!(of(1), of(2));
    }
}
