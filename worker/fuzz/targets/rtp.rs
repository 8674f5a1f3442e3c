//! RTP, RTCP, their framing, program streams and the bitstreams inside.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use media::dropped::{Counters, Dropped};
use media::frame::{Codec, Frame, Kind};
use media::h26x::{self, Packager};
use media::ps::{Demux, Output};
use media::rtp::limits::DEFRAME_BYTES_MAX;
use media::rtp::packet::Packet;
use media::rtp::packetizer::Packetizer;
use media::rtp::rfc4571::{self, Deframer};
use media::rtp::shared::{Opened, Opening};
use media::rtp::{Config, Event, Receiver, Rtcp, Source, SsrcPolicy, rtcp};

/// Of all seeds.
const SSRC: u32 = 200_000_001;

/// The first byte says into which pieces the rest is cut: 0 is one piece, else pieces of that size.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (size, rest) = data.split_first().map_or((0, data), |(size, rest)| (usize::from(*size), rest));
    rest.chunks(if size == 0 { rest.len().max(1) } else { size })
}

/// What is read and written again is the same packet. Its payload, cut into packets, is whole in them.
pub(super) fn packet(data: &[u8]) {
    if let Ok(packet) = Packet::parse(&Bytes::copy_from_slice(data)) {
        assert!(packet.payload.len() + 12 <= data.len());
        let mut packetizer = Packetizer::new(packet.ssrc, packet.sequence, usize::from(data[1]));
        let packets = packetizer.packets(packet.payload.to_vec(), packet.timestamp);
        let joined: Vec<u8> = packets.iter().flat_map(|packet| packet.payload.clone()).collect();
        assert_eq!(packet.payload, joined);
        for (n, part) in packets.iter().enumerate() {
            assert_eq!(Packet::parse(&part.to_bytes()).as_ref(), Ok(part));
            assert_eq!(part.sequence, packet.sequence.wrapping_add(n as u16));
            assert_eq!(part.marker, n + 1 == packets.len());
        }
        assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
    }
}

/// A compound packet has no more parts than its bytes have room for, and none behind a broken one.
pub(super) fn compound(data: &[u8]) {
    let parts: Vec<_> = rtcp::parse(data).collect();
    assert!(parts.len() <= data.len() / 4 + 1);
    for part in &parts {
        match part {
            Ok(rtcp::Rtcp::Bye { ssrcs }) => assert!(ssrcs.len() <= 31),
            Ok(rtcp::Rtcp::SenderReport { ssrc, ntp_middle }) => {
                // What a receiver would answer, and a sender at its end.
                let block = rtcp::ReportBlock {
                    ssrc: *ssrc,
                    fraction_lost: 1,
                    lost: *ntp_middle as i32,
                    highest: 2,
                    jitter: 3,
                    last_report: *ntp_middle,
                    since_last_report: 4,
                };
                let report: Vec<_> = rtcp::parse(&rtcp::receiver_report(7, &block)).collect();
                assert_eq!(report, [201, 202].map(|kind| Ok(rtcp::Rtcp::Other { kind })));
                let bye = rtcp::Rtcp::Bye { ssrcs: vec![*ssrc] };
                assert_eq!(rtcp::parse(&rtcp::goodbye(*ssrc)).last(), Some(Ok(bye)));
            }
            Ok(rtcp::Rtcp::Other { .. }) | Err(_) => {}
        }
    }
}

/// Each byte that goes in comes out in one packet at most, what comes out is RTP or RTCP of version 2, and it doesn't matter how
/// the bytes were cut. Framed again, the same comes out. Nor does it matter to whose a connection to a shared port is.
pub(super) fn framing(data: &[u8]) {
    let opened = open([data.get(1..).unwrap_or_default()]);
    assert_eq!(open(pieces(data)), opened);
    if !opened.1.is_empty() {
        let first = deframe(Some(SSRC), [&opened.1[..]]).0.into_iter().next();
        assert!(first.is_some_and(|first| Packet::parse(&first).is_ok_and(|packet| packet.ssrc == SSRC)));
    }
    for ssrc in [None, Some(SSRC)] {
        let whole = deframe(ssrc, [data.get(1..).unwrap_or_default()]);
        assert_eq!(deframe(ssrc, pieces(data)), whole);
        let again: Vec<u8> = whole.0.iter().flat_map(|packet| rfc4571::frame(packet)).collect();
        let is_known = |first: &Bytes| Packet::parse(first).is_ok_and(|packet| packet.ssrc == SSRC);
        if again.len() >= 18 && whole.0.first().is_some_and(is_known) {
            assert_eq!(deframe(Some(SSRC), [&again[..]]).0, whole.0);
        }
    }
}

/// What a connection to a shared port comes to, and what its stream gets of it.
fn open<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u32>, Vec<u8>) {
    let (mut opening, mut handed) = (Some(Opening::default()), None);
    for piece in pieces {
        let Some(undecided) = &mut opening else {
            handed.iter_mut().for_each(|(_, bytes): &mut (_, Vec<u8>)| bytes.extend_from_slice(piece));
            continue;
        };
        match undecided.receive(piece, |ssrc| ssrc == SSRC) {
            Opened::Undecided => assert!(undecided.held() <= DEFRAME_BYTES_MAX + piece.len()),
            Opened::Stream { ssrc, bytes } => {
                assert_eq!(ssrc, SSRC);
                (opening, handed) = (None, Some((ssrc, bytes.to_vec())));
            }
            Opened::Unknown { ssrc } => {
                assert_ne!(ssrc, SSRC);
                return (Some(ssrc), Vec::new());
            }
            Opened::Noise => return (None, Vec::new()),
        }
    }
    handed.map_or((None, Vec::new()), |(ssrc, bytes)| (Some(ssrc), bytes))
}

fn deframe<'a>(ssrc: Option<u32>, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Counters) {
    let (mut deframer, mut counters, mut packets) = (Deframer::new(ssrc), Counters::default(), Vec::new());
    let (mut pushed, mut taken) = (0, 0);
    for piece in pieces {
        deframer.push(piece);
        pushed += piece.len();
        while let Some(packet) = deframer.poll(&mut counters) {
            assert!(packet.len() >= 8 && packet[0] >> 6 == 2);
            taken += 2 + packet.len();
            packets.push(packet);
        }
        assert!(taken + counters.dropped(Dropped::Noise) as usize <= pushed);
    }
    (packets, counters)
}

/// The same comes out of one piece and of many, and the same is counted; each frame is whole. The first byte says how it is cut,
/// the second what happens between: after so many times 32 bytes there is a marker bit, and by its upper two bits a pause or
/// a loss.
pub(super) fn program_stream(data: &[u8]) {
    let [size, between, rest @ ..] = data else { return };
    let whole = demux(rest, 0, *between);
    assert_eq!(demux(rest, usize::from(*size), *between), whole);
    for output in &whole.0 {
        match output {
            Output::Frame(frame) => check(frame),
            Output::Refused(name) => assert!(!name.is_empty()),
        }
    }
}

fn demux(data: &[u8], size: usize, between: u8) -> (Vec<Output>, Counters) {
    let (mut demux, mut counters) = (Demux::new(), Counters::default());
    let mut now = Duration::ZERO;
    let marked = between & 0x3f != 0;
    let span = if marked { usize::from(between & 0x3f) * 32 } else { data.len().max(1) };
    for (n, span) in data.chunks(span).enumerate() {
        let size = if size == 0 { span.len() } else { size };
        let last = span.len().div_ceil(size) - 1;
        for (m, piece) in span.chunks(size).enumerate() {
            demux.push(piece, 3600 * n as i64, marked && m == last, now, &mut counters);
        }
        if between & 0x40 != 0 {
            now += Duration::from_secs(1);
            demux.timeout(now, &mut counters);
        }
        if between & 0x80 != 0 && n % 4 == 3 {
            demux.gap(&mut counters);
        }
    }
    demux.finish(&mut counters);
    (std::iter::from_fn(|| demux.poll()).collect(), counters)
}

/// What holds for each frame, whatever it was made of.
fn check(frame: &Frame) {
    assert!(!frame.payload.is_empty());
    match (frame.codec, frame.kind) {
        (Codec::H264 | Codec::H265, Kind::Key | Kind::Inter) => {
            let mut rest = &frame.payload[..];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                assert!(length > 0 && length <= after.len(), "a NAL unit beyond its frame");
                rest = &after[length..];
            }
            assert!(rest.is_empty());
        }
        (Codec::H264 | Codec::H265, Kind::Config) => assert_eq!(frame.payload[0], 1),
        (Codec::Aac, Kind::Config) => assert_eq!(frame.payload.len(), 2),
        (Codec::Aac | Codec::PcmA(_) | Codec::PcmU(_), kind) => assert_eq!(kind, Kind::Key),
        (Codec::Mp3(_) | Codec::Script, _) => panic!("no program stream gives {:?}", frame.codec),
    }
}

/// An access unit: the first byte says which codec. Packaging it twice gives the picture twice, and no new record.
pub(super) fn access_unit(data: &[u8]) {
    let Some((codec, unit)) = data.split_first() else { return };
    let codec = if codec & 1 == 0 { h26x::Codec::H264 } else { h26x::Codec::H265 };
    let mut packager = Packager::new(codec);
    let first = packager.package(unit);
    let again = packager.package(unit);
    if first.sets.is_ok() {
        assert_eq!(again.config, None);
    }
    assert_eq!(again.picture, first.picture);
    if let Some((kind, payload)) = first.picture {
        check(&Frame { codec: codec.of_frames(), kind, dts_ms: 0, cts_ms: 0, payload });
    }
}

/// A script of what peers and time do: each step is a byte of what, a byte of how long it waited, a byte of length, and bytes.
pub(super) fn receiver(mut data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    data = rest;
    let policy = if first & 1 == 0 { SsrcPolicy::Enforce } else { SsrcPolicy::Learn };
    let rtcp = if first & 2 == 0 { Rtcp::Off } else { Rtcp::On { local_ssrc: 7 } };
    let mut now = Duration::ZERO;
    let mut receiver = Receiver::new(Config { ssrc: Some(SSRC), policy, rtcp }, now);
    let from = |port: u8| SocketAddr::from(([192, 0, 2, 1], 5000 + u16::from(port)));
    let mut connections = vec![receiver.connect(from(0), now)];
    while let [what, wait, length, rest @ ..] = data {
        let (bytes, after) = rest.split_at(usize::from(*length).min(rest.len()));
        data = after;
        now += Duration::from_millis(u64::from(*wait) * 8);
        let who = what >> 4;
        let connection = connections[usize::from(who) % connections.len()];
        match what & 7 {
            0 => connections.push(receiver.connect(from(who), now)),
            1 => receiver.disconnect(connection, now),
            2 => receiver.receive_rtcp(from(who), bytes, now),
            3 | 4 => receiver.receive_datagram(from(who), Bytes::copy_from_slice(bytes), now),
            5 => receiver.timeout(now),
            6 if bytes.is_empty() => receiver.evict(now),
            _ => receiver.receive_stream(connection, bytes, now),
        }
        if receiver.deadline().is_some_and(|deadline| deadline <= now) {
            receiver.timeout(now);
            assert!(
                receiver.deadline().is_none_or(|deadline| deadline > now),
                "a deadline that time does not move"
            );
        }
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Frame(frame) => check(&frame),
                Event::Held { by, from } => {
                    assert!(policy == SsrcPolicy::Learn || by.ssrc == SSRC);
                    assert_ne!(Some(by), from);
                }
                Event::Close { connection, .. } => {
                    let holder = receiver.holder().map(|holder| holder.source);
                    assert_ne!(holder, Some(Source::Connection(connection)));
                }
                Event::Restarted | Event::Refused { .. } | Event::Released { .. } => {}
            }
        }
        while receiver.poll_transmit().is_some() {}
    }
}
