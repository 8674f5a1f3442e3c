//! RTCP (RFC 3550 §6): sender reports and goodbyes in, receiver reports out.

use bytes::{BufMut, Bytes};

/// A packet of a compound one, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// Sender report (§6.4.1).
    SenderReport {
        /// Whose it is.
        ssrc: u32,
        /// The middle 32 bits of its NTP time, which a receiver report gives back.
        ntp_middle: u32,
    },
    /// Goodbye (§6.6).
    Bye {
        /// Who leaves: at most 31.
        ssrcs: Vec<u32>,
    },
    /// Anything else.
    Other {
        /// Packet type.
        kind: u8,
    },
}

/// Bytes that are no compound packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RTCP packet of version 2, or shorter than its lengths say")]
pub struct NotRtcp;

/// Reads a compound packet. What stands before a broken part is handed out.
pub fn parse(mut bytes: &[u8]) -> impl Iterator<Item = Result<Rtcp, NotRtcp>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((one, rest)) = split(bytes) else {
            bytes = &[];
            return Some(Err(NotRtcp));
        };
        bytes = rest;
        Some(read(one))
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[flags, _, high, low] = bytes.first_chunk::<4>()?;
    let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    if flags >> 6 != 2 { None } else { bytes.split_at_checked(length) }
}

fn read(one: &[u8]) -> Result<Rtcp, NotRtcp> {
    let word = |n: usize| -> Result<u32, NotRtcp> {
        let bytes = one.get(4 * n..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(NotRtcp)
    };
    match one[1] {
        200 => {
            // NTP seconds and fraction.
            let ntp_middle = word(2)? << 16 | word(3)? >> 16;
            word(6)?;
            Ok(Rtcp::SenderReport { ssrc: word(1)?, ntp_middle })
        }
        203 => {
            let count = usize::from(one[0] & 0x1f);
            let ssrcs = (1..=count).map(word).collect::<Result<Vec<u32>, NotRtcp>>()?;
            Ok(Rtcp::Bye { ssrcs })
        }
        kind => Ok(Rtcp::Other { kind }),
    }
}

/// A reception report block (§6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whose packets it reports on.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; 24 bits with a sign are sent.
    pub lost: i32,
    /// Highest sequence number, with the number of times that it came round above it.
    pub highest: u32,
    /// Jitter between arrivals in 90 kHz.
    pub jitter: u32,
    /// From the last sender report.
    pub last_report: u32,
    /// Time since that came, in 65 536ths of a second.
    pub since_last_report: u32,
}

/// A compound packet of a receiver report and the source description that each must have (§6.1).
pub fn receiver_report(local_ssrc: u32, block: &ReportBlock) -> Bytes {
    const CNAME: &[u8] = b"penstock";
    let mut bytes = Vec::with_capacity(32 + 20);
    bytes.extend_from_slice(&[0x81, 201, 0, 7]);
    bytes.put_u32(local_ssrc);
    bytes.put_u32(block.ssrc);
    let lost = block.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
    bytes.put_u32(u32::from(block.fraction_lost) << 24 | lost);
    bytes.put_u32(block.highest);
    bytes.put_u32(block.jitter);
    bytes.put_u32(block.last_report);
    bytes.put_u32(block.since_last_report);
    // One chunk: SSRC, CNAME item, and zeros to the next word: 4 + 2 + 8 + 2.
    bytes.extend_from_slice(&[0x81, 202, 0, 4]);
    bytes.put_u32(local_ssrc);
    bytes.extend_from_slice(&[1, CNAME.len() as u8]);
    bytes.extend_from_slice(CNAME);
    bytes.extend_from_slice(&[0, 0]);
    bytes.into()
}

/// A compound packet that says goodbye, for senders: an empty receiver report before it (§6.1).
pub fn goodbye(ssrc: u32) -> Bytes {
    let mut bytes = Vec::with_capacity(16);
    for head in [[0x80, 201, 0, 1], [0x81, 203, 0, 1]] {
        bytes.extend_from_slice(&head);
        bytes.put_u32(ssrc);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::{NotRtcp, ReportBlock, Rtcp, goodbye, parse, receiver_report};
    use crate::ps::tests::camera::{Random, unhex};

    #[track_caller]
    fn check(bytes: &str, expected: &[Result<Rtcp, NotRtcp>]) {
        assert_eq!(parse(&unhex(bytes)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn compound_packets_are_read_part_by_part() {
        let report = "80c80006 00000007 11223344 55667788 00000000 00000001 00000002";
        let read = Ok(Rtcp::SenderReport { ssrc: 7, ntp_middle: 0x3344_5566 });
        check("", &[]);
        check(report, std::slice::from_ref(&read));
        let rest = "81ca0001 00000007 82cb0002 00000007 00000008";
        let bye = Ok(Rtcp::Bye { ssrcs: vec![7, 8] });
        check(&format!("{report} {rest}"), &[read, Ok(Rtcp::Other { kind: 202 }), bye]);
        check("80cb0000", &[Ok(Rtcp::Bye { ssrcs: vec![] })]);
    }

    #[test]
    fn lengths_that_lie_are_told() {
        for bytes in ["80", "80c8ffff", "40c90001 00000007", "80c80001 00000007", "9fcb0001 00000007"] {
            check(bytes, &[Err(NotRtcp)]);
        }
        check("80c90001 00000007 80", &[Ok(Rtcp::Other { kind: 201 }), Err(NotRtcp)]);
    }

    #[test]
    fn a_receiver_report_is_as_the_standard_draws_it() {
        let block = ReportBlock {
            ssrc: 0x0beb_c201,
            fraction_lost: 0x40,
            lost: -2,
            highest: 0x0001_ffff,
            jitter: 3,
            last_report: 0x3344_5566,
            since_last_report: 0x0001_0000,
        };
        let expected = "81c90007 0000002a 0bebc201 40fffffe 0001ffff 00000003 33445566 00010000 \
            81ca0004 0000002a 0108 70656e73746f636b 0000";
        assert_eq!(receiver_report(42, &block)[..], unhex(expected));
    }

    #[test]
    fn a_goodbye_is_understood() {
        let expected = [Ok(Rtcp::Other { kind: 201 }), Ok(Rtcp::Bye { ssrcs: vec![9] })];
        assert_eq!(parse(&goodbye(9)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = Random(5);
        for _ in 0..20_000 {
            let length = random.below(60);
            let mut bytes = random.bytes(length);
            for (at, value) in [(0, 0x81), (1, 200 + (length % 4) as u8), (2, 0)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            assert!(parse(&bytes).count() <= 16);
        }
    }
}
