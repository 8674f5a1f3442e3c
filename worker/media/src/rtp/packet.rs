//! The RTP packet (RFC 3550 §5.1).

use std::ops::Range;

use bytes::Bytes;

/// A packet's head, and its payload without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The last packet of a picture, if the sender keeps to it.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Time in 90 kHz.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// What it carries.
    pub payload: Bytes,
}

/// Bytes of the head without contributing sources and extension.
pub const HEAD_BYTES: usize = 12;

/// What is wrong with bytes that should be a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RTP packet of version 2, or shorter than its head says")]
pub struct NotRtp;

impl Packet {
    /// Reads a datagram or a framed packet. The payload shares its bytes where it is most of them.
    pub fn parse(bytes: &Bytes) -> Result<Packet, NotRtp> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(NotRtp)?;
        let &[flags, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = head;
        if flags >> 6 != 2 {
            return Err(NotRtp);
        }
        let mut begin = HEAD_BYTES + 4 * usize::from(flags & 0x0f);
        if flags & 0x10 != 0 {
            let words = bytes.get(begin + 2..begin + 4).ok_or(NotRtp)?;
            begin += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        let padding = if flags & 0x20 != 0 { bytes.last().map_or(0, |&last| usize::from(last)) } else { 0 };
        let end = bytes.len().checked_sub(padding).filter(|&end| end >= begin).ok_or(NotRtp)?;
        Ok(Packet {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            payload: part(bytes, begin..end),
        })
    }

    /// The packet's bytes, for senders.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.payload.len());
        bytes.extend_from_slice(&[0x80, u8::from(self.marker) << 7 | self.payload_type]);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes.into()
    }
}

/// A part of a packet that counts as its own length: one much smaller than the packet would hold all of it.
fn part(bytes: &Bytes, range: Range<usize>) -> Bytes {
    if range.len() < bytes.len() / 2 { Bytes::copy_from_slice(&bytes[range]) } else { bytes.slice(range) }
}

/// True where RTCP came to a port of RTP (RFC 5761 §4): its packet types are 192 to 223.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [flags, 192..=223, ..] if flags >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{NotRtp, Packet, is_rtcp};
    use crate::ps::tests::camera::{Random, unhex};

    #[track_caller]
    fn check(bytes: &str, payload: Result<&str, NotRtp>) {
        let parsed = Packet::parse(&Bytes::from(unhex(bytes)));
        assert_eq!(parsed.map(|packet| packet.payload), payload.map(|payload| Bytes::from(unhex(payload))));
    }

    #[test]
    fn the_payload_is_what_stands_between_head_and_padding() {
        check("8060 0001 00000002 0bebc201 aabbcc", Ok("aabbcc"));
        check("80e0 0001 00000002 0bebc201", Ok(""));
        // Two contributing sources; an extension of one word; padding of two bytes; all of them.
        check("8260 0001 00000002 0bebc201 11111111 22222222 aa", Ok("aa"));
        check("9060 0001 00000002 0bebc201 bede0001 33333333 aa", Ok("aa"));
        check("a060 0001 00000002 0bebc201 aabb 0002", Ok("aabb"));
        check("b160 0001 00000002 0bebc201 11111111 bede0001 33333333 aa 01", Ok("aa"));
    }

    #[test]
    fn lengths_that_lie_are_told() {
        for bytes in [
            "",
            "80",
            "8060 0001 00000002 0bebc2",
            "4060 0001 00000002 0bebc201 aa",
            "8160 0001 00000002 0bebc201 aa",
            "9060 0001 00000002 0bebc201 bede",
            "9060 0001 00000002 0bebc201 bede ffff 00",
            "a060 0001 00000002 0bebc201 aa 03",
            "a060 0001 00000002 0bebc201 ff",
        ] {
            check(bytes, Err(NotRtp));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let packet = Packet {
            marker: true,
            payload_type: 96,
            sequence: 65_535,
            timestamp: 0xffff_fff0,
            ssrc: 200_000_001,
            payload: Bytes::from_static(b"PS"),
        };
        assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
    }

    #[test]
    fn a_small_payload_does_not_hold_its_packet() {
        // An extension of 300 words, or padding of 255 bytes.
        let extended = [&unhex("9060 0001 00000002 0bebc201 bede012c")[..], &[0; 1200], b"media"].concat();
        let padded = [&unhex("a060 0001 00000002 0bebc201")[..], b"media", &[255; 255]].concat();
        for bytes in [extended, padded] {
            let bytes = Bytes::from(bytes);
            let packet = Packet::parse(&bytes).expect("a packet");
            assert_eq!(packet.payload, "media");
            assert!(bytes.is_unique());
        }
        let whole = Bytes::from(unhex("8060 0001 00000002 0bebc201 000001ba 000001ba 000001ba"));
        let packet = Packet::parse(&whole).expect("a packet");
        assert!(!whole.is_unique() && packet.payload.len() == 12, "what is most of it is shared");
    }

    #[test]
    fn rtcp_is_told_by_its_packet_type() {
        for (bytes, expected) in
            [("80c8", true), ("81cb", true), ("8060", false), ("80e0", false), ("40c8", false)]
        {
            assert_eq!(is_rtcp(&unhex(bytes)), expected, "{bytes}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = Random(3);
        for _ in 0..20_000 {
            let length = random.below(40);
            let mut bytes = random.bytes(length);
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            let _ = Packet::parse(&Bytes::from(bytes));
        }
    }
}
