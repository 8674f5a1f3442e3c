//! Senders beside each other.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Candidates, Offer};
use crate::ps::tests::camera::{Random, unhex};
use crate::rtp::limits::{CANDIDATE_BYTES_MAX, CANDIDATE_PACKETS_MAX, CANDIDATES_MAX};
use crate::rtp::packet::Packet;
use crate::rtp::{ConnectionId, Source};

const PACK: &str = "000001ba 44000400 0401030d 43f8";
const NOW: Duration = Duration::ZERO;

fn packet(sequence: u16, payload: &[u8]) -> Packet {
    let payload = Bytes::copy_from_slice(payload);
    Packet { marker: false, payload_type: 96, sequence, timestamp: 0, ssrc: 1, payload }
}

fn datagrams(port: u16) -> Source {
    Source::Datagrams(SocketAddr::from(([192, 0, 2, 1], port)))
}

#[test]
fn a_pack_is_seen_however_it_is_cut_and_in_whatever_order_it_comes() {
    let stream = [&[7; 20][..], &unhex(PACK), &[9; 20]].concat();
    for cut in 0..stream.len() {
        for other in cut..stream.len() {
            let parts = [&stream[..cut], &stream[cut..other], &stream[other..]];
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
                let mut candidates = Candidates::default();
                let seen = order.map(|n: usize| {
                    candidates
                        .offer(datagrams(5), packet(65_535u16.wrapping_add(n as u16), parts[n]), NOW)
                        .is_valid
                });
                assert!(seen[2] || seen[1] || seen[0], "{cut} {other} {order:?}");
                let kept = candidates.take(datagrams(5), 1);
                let joined: Vec<u8> = kept.iter().flat_map(|(packet, _)| packet.payload.to_vec()).collect();
                assert_eq!(joined, stream);
            }
        }
    }
}

#[test]
fn a_pack_in_single_bytes_on_a_connection_is_seen_at_its_last() {
    let source = Source::Connection(ConnectionId(1));
    let mut candidates = Candidates::default();
    let stream = unhex(PACK);
    for (n, byte) in stream.iter().enumerate() {
        // Its sender counts nothing.
        let offer = candidates.offer(source, packet(0, &[*byte]), NOW);
        assert_eq!(offer.is_valid, n + 1 == stream.len(), "byte {n}");
    }
    assert_eq!(candidates.take(source, 1).len(), 14);
    assert_eq!(candidates.take(source, 1).len(), 0);
}

#[test]
fn what_is_no_pack_is_not_valid() {
    for pack in [
        "000001ba 04000400 0401030d 43f8",
        "000001ba 44000000 0401030d 43f8",
        "000001bb 44000400 0401030d 43f8",
        "000001ba 44000400 0401030d 43",
    ] {
        let offer = Candidates::default().offer(datagrams(1), packet(0, &unhex(pack)), NOW);
        assert_eq!(offer, Offer { is_valid: false, forgotten: 0 }, "{pack}");
    }
}

#[test]
fn what_is_kept_does_not_hold_what_it_was_read_with() {
    let read = Bytes::from(vec![7; 65_536]);
    let small = Packet { payload: read.slice(100..120), ..packet(0, &[]) };
    let mut candidates = Candidates::default();
    candidates.offer(Source::Connection(ConnectionId(1)), small, NOW);
    assert!(read.is_unique());
    assert_eq!(candidates.take(Source::Connection(ConnectionId(1)), 1)[0].0.payload, [7; 20][..]);
}

#[test]
fn what_is_kept_is_bounded_in_packets_bytes_and_senders() {
    let mut candidates = Candidates::default();
    let mut random = Random(1);
    let (mut sent, mut forgotten) = (0, 0);
    for n in 0..2000u16 {
        let length = random.below(9000);
        let now = Duration::from_millis(u64::from(n));
        let offer =
            candidates.offer(datagrams(n % 9), packet(random.next() as u16, &random.bytes(length)), now);
        sent += length;
        forgotten += offer.forgotten;
        assert!(candidates.seats.len() <= CANDIDATES_MAX);
        for seat in &candidates.seats {
            assert!(seat.packets.len() <= CANDIDATE_PACKETS_MAX && seat.bytes <= CANDIDATE_BYTES_MAX);
            assert_eq!(
                seat.bytes,
                seat.packets.values().map(|(packet, _)| packet.payload.len()).sum::<usize>()
            );
        }
    }
    let kept: usize = (0..9).map(|port| candidates.forget(datagrams(port))).sum();
    // A repeated number replaces its packet, so a little more was sent.
    assert!(kept + forgotten <= sent && kept > 0);
}
