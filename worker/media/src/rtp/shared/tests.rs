//! Connections and datagrams of senders that nobody has announced, each to be told by its SSRC.

use bytes::Bytes;

use super::{Opened, Opening, ssrc_of};
use crate::frame::{Codec, Sound};
use crate::ps::tests::camera::{Random, unhex};
use crate::ps::{MapPlace, Muxer, Program, Unit};
use crate::rtp::limits::{DEFRAME_BYTES_MAX, OPENING_BYTES_MAX};
use crate::rtp::packetizer::Packetizer;
use crate::rtp::rfc4571::{Deframer, frame};
use crate::rtp::rtcp;

const SSRC: u32 = 200_000_001;
const G711: Codec = Codec::PcmA(Sound { rate_hz: 8000, channels: 1 });

fn knows(ssrc: u32) -> bool {
    ssrc == SSRC
}

/// The packets of one sound after the other, each a pack of its own.
fn packets(ssrc: u32, sounds: u8, payload_bytes: usize) -> Vec<Bytes> {
    let program = Program { video: None, audio: Some(G711), map: MapPlace::Keys, pes_bytes: None };
    let (mut muxer, mut packetizer) = (Muxer::new(program), Packetizer::new(ssrc, 65_534, payload_bytes));
    (0..sounds)
        .flat_map(|n| {
            let time = i64::from(n) * 3600;
            let sound = Unit { codec: G711, key: true, pts: time, dts: time, bytes: &[n; 320] };
            packetizer.packets(muxer.pack(&sound), time as u32)
        })
        .map(|packet| packet.to_bytes())
        .collect()
}

fn framed(packets: &[Bytes], interleaved: bool) -> Vec<u8> {
    let prefix: &[u8] = if interleaved { b"$\0" } else { b"" };
    packets.iter().flat_map(|packet| [prefix, &frame(packet)].concat()).collect()
}

/// Feeds a connection in pieces until it is decided, and what it comes to with the bytes that were not fed to it.
fn open(stream: &[u8], piece: usize) -> (Opened, Vec<u8>) {
    let (mut opening, mut fed) = (Opening::default(), 0);
    for piece in stream.chunks(piece) {
        fed += piece.len();
        match opening.receive(piece, knows) {
            Opened::Undecided => assert!(opening.held() < DEFRAME_BYTES_MAX, "{} bytes", opening.held()),
            decided => return (decided, stream[fed..].to_vec()),
        }
    }
    (Opened::Undecided, Vec::new())
}

/// What the receiver of the stream makes of it.
fn deframe(bytes: &[u8]) -> Vec<Bytes> {
    let (mut deframer, mut counters) = (Deframer::new(Some(SSRC)), Default::default());
    deframer.push(bytes);
    std::iter::from_fn(|| deframer.poll(&mut counters)).collect()
}

#[test]
fn a_stream_gets_each_packet_from_its_first_pack_on_in_all_pieces_and_both_framings() {
    let sent = packets(SSRC, 5, 200);
    for interleaved in [false, true] {
        let stream = framed(&sent, interleaved);
        for piece in [1, 2, 3, 7, 100, 333, 1_000_000] {
            let (opened, rest) = open(&stream, piece);
            let Opened::Stream { ssrc, bytes } = opened else { panic!("{opened:?} in pieces of {piece}") };
            assert_eq!((ssrc, deframe(&[&bytes[..], &rest].concat())), (SSRC, sent.clone()), "{piece}");
        }
    }
}

#[test]
fn what_precedes_the_first_pack_is_borne_and_not_handed_on() {
    let sent = packets(SSRC, 4, 200);
    // In the middle of a pack, behind RTCP and a keep-alive.
    let middle = sent.iter().position(|packet| !packet[12..].starts_with(&[0, 0, 1, 0xba])).unwrap();
    let noise = Random(9).bytes(3000);
    let before =
        [&noise[..], &framed(&sent[middle..=middle], false), &frame(&rtcp::goodbye(SSRC)), &[0, 0]].concat();
    for piece in [1, 50, 1_000_000] {
        let (opened, rest) = open(&[&before[..], &framed(&sent, false)].concat(), piece);
        let Opened::Stream { ssrc: SSRC, bytes } = opened else { panic!("{opened:?} in pieces of {piece}") };
        assert_eq!(deframe(&[&bytes[..], &rest].concat()), sent, "{piece}");
    }
}

#[test]
fn an_ssrc_that_nobody_has_is_told_with_its_first_whole_packet() {
    let stream = framed(&packets(7, 3, 200), false);
    for piece in [1, 100, 1_000_000] {
        assert_eq!(open(&stream, piece).0, Opened::Unknown { ssrc: 7 }, "{piece}");
    }
    assert_eq!(open(&stream[..100], 100).0, Opened::Undecided, "a part of a packet says nothing");
}

#[test]
fn media_that_is_no_program_stream_belongs_to_nobody() {
    let mut packetizer = Packetizer::new(SSRC, 1, 1000);
    let packets: Vec<Bytes> =
        packetizer.packets(vec![0x55; 20_000], 0).iter().map(|packet| packet.to_bytes()).collect();
    assert_eq!(open(&framed(&packets, false), 1400).0, Opened::Undecided);
}

#[test]
fn noise_ends_at_the_bound_and_holds_little_until_then() {
    let (mut random, mut opening, mut fed) = (Random(4), Opening::default(), 0);
    loop {
        let bytes = random.bytes(60_000);
        fed += bytes.len();
        match opening.receive(&bytes, |_| true) {
            Opened::Undecided => assert!(opening.held() < DEFRAME_BYTES_MAX, "{} bytes", opening.held()),
            Opened::Noise => break,
            other => panic!("{other:?} after {fed} bytes"),
        }
    }
    assert!((OPENING_BYTES_MAX..OPENING_BYTES_MAX + 60_000).contains(&fed), "{fed}");
}

#[test]
fn datagrams_are_told_by_the_ssrc_of_their_sender() {
    for (bytes, ssrc) in [
        ("8060 0001 00000002 0bebc201 aa", Some(200_000_001)),
        ("8060 0001 00000002 0bebc201", Some(200_000_001)),
        // A sender report and a goodbye.
        ("80c8 0006 0bebc201 00000000 00000000 00000000 00000000 00000000", Some(200_000_001)),
        ("81cb 0001 0bebc201", Some(200_000_001)),
        ("81cb 0001 0bebc2", None),
        ("8060 0001 00000002 0bebc2", None),
        ("4060 0001 00000002 0bebc201 aa", None),
        ("", None),
    ] {
        assert_eq!(ssrc_of(&unhex(bytes)), ssrc, "{bytes}");
    }
}
