//! Streams of framed packets, behind and between all sorts of noise.

use bytes::Bytes;

use super::{Deframer, frame};
use crate::dropped::{Counters, Dropped};
use crate::ps::tests::camera::Random;
use crate::rtp::limits::DEFRAME_BYTES_MAX;
use crate::rtp::packet::Packet;

const SSRC: u32 = 200_000_001;

fn packets(first: u16, count: u16, pack_at_first: bool) -> Vec<Bytes> {
    (0..count)
        .map(|n| {
            let mut payload = vec![n as u8; 30 + 40 * usize::from(n % 7)];
            if pack_at_first && n == 0 {
                payload[..4].copy_from_slice(&[0, 0, 1, 0xba]);
            }
            let packet = Packet {
                marker: n % 3 == 0,
                payload_type: 96,
                sequence: first.wrapping_add(n),
                timestamp: 0,
                ssrc: SSRC,
                payload: payload.into(),
            };
            packet.to_bytes()
        })
        .collect()
}

fn framed(packets: &[Bytes], interleaved: bool) -> Vec<u8> {
    packets
        .iter()
        .flat_map(|packet| {
            let prefix: &[u8] = if interleaved { b"$\0" } else { b"" };
            [prefix, &frame(packet)].concat()
        })
        .collect()
}

/// Feeds the stream in pieces of some size and returns the packets, with the bytes of noise and the breaks.
fn deframe(ssrc: Option<u32>, stream: &[u8], piece: usize) -> (Vec<Bytes>, [u64; 2]) {
    let (mut deframer, mut counters, mut got) = (Deframer::new(ssrc), Counters::default(), Vec::new());
    for piece in stream.chunks(piece) {
        deframer.push(piece);
        while let Some(packet) = deframer.poll(&mut counters) {
            got.push(packet);
        }
        assert!(deframer.buffer.len() < DEFRAME_BYTES_MAX);
    }
    (got, [Dropped::Noise, Dropped::Malformed].map(|reason| counters.dropped(reason)))
}

#[test]
fn packets_come_out_whole_in_all_pieces_and_both_framings() {
    for interleaved in [false, true] {
        for (ssrc, pack) in [(Some(SSRC), false), (Some(7), false), (None, false), (None, true)] {
            for piece in [1, 2, 3, 7, 100, 1_000_000] {
                let packets = packets(65_530, 20, pack);
                let (got, dropped) = deframe(ssrc, &framed(&packets, interleaved), piece);
                assert_eq!(got, packets, "{interleaved} {ssrc:?} {piece}");
                assert_eq!(dropped, [0, 0]);
            }
        }
    }
}

#[test]
fn noise_before_the_first_packet_is_borne() {
    let packets = packets(7, 20, true);
    for interleaved in [false, true] {
        for seed in 0..40 {
            let mut random = Random(seed);
            let length = random.below(3000);
            let noise = match seed {
                0 => b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n".to_vec(),
                1 => vec![0x80; 500],
                2 => vec![0xff; 70_000],
                3 => vec![0; 200_000],
                _ => random.bytes(length),
            };
            let stream = [&noise[..], &framed(&packets, interleaved)].concat();
            for ssrc in [Some(SSRC), None] {
                let (got, [dropped, _]) = deframe(ssrc, &stream, 1 + random.below(500));
                // A byte before the prefix may look like interleaving; the packets are what counts.
                assert_eq!(got, packets, "{interleaved}, seed {seed}, {ssrc:?}");
                assert!(dropped.abs_diff(noise.len() as u64) <= 2, "seed {seed}");
            }
        }
    }
}

#[test]
fn noise_between_packets_costs_no_more_than_what_it_hides() {
    let packets = packets(7, 40, false);
    for seed in 0..40 {
        let mut random = Random(seed);
        let (before, after) = packets.split_at(20);
        let length = 1 + random.below(300);
        let noise = random.bytes(length).into_iter().map(|byte| byte & 0x7f).collect::<Vec<u8>>();
        let stream = [&framed(before, false)[..], &noise, &framed(after, false)].concat();
        let (got, [_, breaks]) = deframe(Some(SSRC), &stream, 100);
        assert_eq!(got[..20], *before);
        assert_eq!(got[20..], *after, "seed {seed}");
        assert!(breaks <= 1);
    }
}

#[test]
fn empty_frames_and_rtcp_pass() {
    let packets = packets(7, 2, false);
    let report = Bytes::from_static(&[0x80, 201, 0, 1, 0, 0, 0, 9]);
    let stream =
        [&frame(&packets[0])[..], &[0, 0], &frame(&report), &[0, 0, 0, 0], &frame(&packets[1])].concat();
    for piece in [1, 1000] {
        let (got, dropped) = deframe(Some(SSRC), &stream, piece);
        assert_eq!(got, [&packets[0], &report, &packets[1]]);
        assert_eq!(dropped, [0, 0]);
    }
}

#[test]
fn a_length_that_lies_is_found_out_at_the_next_packet() {
    let packets = packets(7, 30, false);
    for lie in [0u16, 5, 11, 12, 40, 2000] {
        let mut stream = framed(&packets, false);
        let third = packets[..2].iter().map(|packet| packet.len() + 2).sum::<usize>();
        stream[third..third + 2].copy_from_slice(&lie.to_be_bytes());
        let (got, _) = deframe(Some(SSRC), &stream, 50);
        assert_eq!(got[..2], packets[..2], "{lie}");
        assert_eq!(got.last(), packets.last(), "{lie}");
    }
}

#[test]
fn noise_full_of_what_may_be_packets_hides_none_however_it_is_cut() {
    let packets = packets(7, 40, false);
    for flood in [0, 100, 600, 70_000, 200_000] {
        // A possible packet of 24 672 or 32 864 bytes at each second one.
        let stream = [&[0x80, 0x60].repeat(flood / 2)[..], &framed(&packets, false)].concat();
        let whole = deframe(None, &stream, stream.len());
        assert_eq!(whole.0, packets, "{flood} bytes before");
        assert_eq!(whole.1, [flood as u64, 0]);
        for piece in [1, 2, 3, 17, 1000, 65_000] {
            assert_eq!(deframe(None, &stream, piece), whole, "{flood} bytes before, in pieces of {piece}");
        }
    }
}

#[test]
fn no_bytes_make_it_panic_or_grow() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut stream = framed(&packets(1, 30, false), seed % 2 == 0);
        for _ in 0..random.below(40) {
            let at = random.below(stream.len());
            stream[at] = [random.next() as u8, 0x80, 0x24, 0xff][random.below(4)];
        }
        let length = random.below(100_000);
        stream.extend(
            random.bytes(length).iter().map(|byte| if seed % 3 == 0 { 0x80 | byte & 0x60 } else { *byte }),
        );
        deframe([None, Some(SSRC)][random.below(2)], &stream, 1 + random.below(9000));
    }
}
