//! Whole streams through a receiver: what is sent comes out, whoever sends beside it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Receiver;
use crate::dropped::Dropped;
use crate::frame::{Codec, Frame, Kind};
use crate::ps::tests::camera::{G711, Random, Scene, Shot, by_track, expected, packs};
use crate::rtp::limits::{BYE_WAIT, CANDIDATE_WAIT, CANDIDATES_MAX, HOLDER_SILENCE, REORDER_WAIT};
use crate::rtp::packet::Packet;
use crate::rtp::packetizer::Packetizer;
use crate::rtp::rfc4571;
use crate::rtp::{
    Close, Config, ConnectionId, Destination, Event, Holder, Released, Rtcp, Source, SsrcPolicy, rtcp,
};

const SSRC: u32 = 200_000_001;
const NOW: Duration = Duration::ZERO;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

fn config(policy: SsrcPolicy) -> Config {
    Config { ssrc: Some(SSRC), policy, rtcp: Rtcp::Off }
}

/// A receiver and what came of it.
struct Run {
    receiver: Receiver,
    frames: Vec<Frame>,
    others: Vec<Event>,
}

impl Run {
    fn new(config: Config) -> Run {
        Run { receiver: Receiver::new(config, NOW), frames: Vec::new(), others: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::Frame(frame) => self.frames.push(frame),
                other => self.others.push(other),
            }
        }
    }

    fn datagram(&mut self, from: SocketAddr, packet: &Packet, now: Duration) {
        self.receiver.receive_datagram(from, packet.to_bytes(), now);
        self.drain();
    }

    fn stream(&mut self, id: ConnectionId, bytes: &[u8], now: Duration) {
        self.receiver.receive_stream(id, bytes, now);
        self.drain();
    }

    fn timeout(&mut self, now: Duration) {
        self.receiver.timeout(now);
        self.drain();
    }

    fn connect(&mut self, port: u16, now: Duration) -> ConnectionId {
        let id = self.receiver.connect(address(port), now);
        self.drain();
        id
    }

    fn dropped(&self) -> Vec<(Dropped, u64)> {
        let count = |&reason: &Dropped| (reason, self.receiver.counters().dropped(reason));
        Dropped::ALL.iter().map(count).filter(|&(_, count)| count > 0).collect()
    }

    fn others(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.others)
    }
}

/// The packets of a scene, with their decoding times from the first on.
fn film(scene: &Scene, shots: &[Shot], ssrc: u32, sequence: u16) -> Vec<(Duration, Packet)> {
    let mut packetizer = Packetizer::new(ssrc, sequence, 1400);
    let mut all = Vec::new();
    for (dts, pack) in packs(scene, shots) {
        let due = Duration::from_micros(((dts - scene.start) * 100 / 9) as u64);
        all.extend(packetizer.packets(pack, dts as u32).into_iter().map(|packet| (due, packet)));
    }
    all
}

fn held(source: Source, port: u16, ssrc: u32, from: Option<Holder>) -> Event {
    Event::Held { by: Holder { source, address: address(port), ssrc }, from }
}

#[track_caller]
fn assert_tracks(got: &[Frame], expected: Vec<Frame>, what: &str) {
    let [got, expected] = [by_track(got.to_vec()), by_track(expected)];
    for (got, expected) in got.iter().zip(&expected) {
        let brief = |frames: &[Frame]| -> Vec<(Kind, i64, i32)> {
            frames.iter().map(|frame| (frame.kind, frame.dts_ms, frame.cts_ms)).collect()
        };
        assert_eq!(brief(got), brief(expected), "{what}");
        assert!(got == expected, "{what}: payloads differ");
    }
}

/// Scenes for both transports: all codecs, both clocks coming round, big pictures.
fn scenes() -> Vec<Scene> {
    let plain = Scene::PLAIN;
    vec![
        plain,
        Scene { video: Some(Codec::H265), b_frames: true, ..plain },
        Scene { audio: Some(Codec::Aac), pes_bytes: None, ..plain },
        Scene { video: None, audio: Some(Codec::PcmU(G711)), ..plain },
        Scene { audio: None, slices: 3, ..plain },
        // RTP's 32 bits come round in the third picture, PS's 33 bits too.
        Scene { start: (1 << 32) - 2 * 3600, b_frames: true, ..plain },
        Scene { start: (1 << 33) - 2 * 3600, b_frames: true, ..plain },
        Scene { key_bytes: 1 << 20, pictures: 11, ..plain },
    ]
}

#[test]
fn datagrams_mixed_by_five_lose_nothing() {
    for (n, scene) in scenes().into_iter().enumerate() {
        for policy in [SsrcPolicy::Enforce, SsrcPolicy::Learn] {
            let shots = scene.shoot();
            let (times, packets): (Vec<Duration>, Vec<Packet>) =
                film(&scene, &shots, SSRC, 65_500).into_iter().unzip();
            let packets = Random(n as u64).mix(packets, 5);
            let mut run = Run::new(config(policy));
            for (now, packet) in times.iter().zip(&packets) {
                run.timeout(*now);
                run.datagram(address(5000), packet, *now);
            }
            run.timeout(Duration::from_secs(60));
            assert_tracks(&run.frames, expected(&shots), &format!("scene {n}"));
            assert_eq!(run.dropped(), [], "scene {n}");
            assert_eq!(run.others(), [held(Source::Datagrams(address(5000)), 5000, SSRC, None)]);
            assert_eq!(run.receiver.counters().packets, packets.len() as u64);
        }
    }
}

#[test]
fn a_connection_loses_nothing_in_whatever_pieces() {
    for (n, scene) in scenes().into_iter().enumerate() {
        let shots = scene.shoot();
        let stream: Vec<u8> = film(&scene, &shots, SSRC, 65_500)
            .iter()
            .flat_map(|(_, packet)| rfc4571::frame(&packet.to_bytes()).to_vec())
            .collect();
        for (piece, policy) in
            [(1, SsrcPolicy::Enforce), (1 + n * 37, SsrcPolicy::Learn), (70_000, SsrcPolicy::Enforce)]
        {
            let mut run = Run::new(config(policy));
            let id = run.connect(5000, NOW);
            for bytes in stream.chunks(piece) {
                run.stream(id, bytes, NOW);
            }
            run.receiver.disconnect(id, NOW);
            run.drain();
            assert_tracks(&run.frames, expected(&shots), &format!("scene {n} in {piece}"));
            assert_eq!(run.dropped(), [], "scene {n} in {piece}");
            let holder = Holder { source: Source::Connection(id), address: address(5000), ssrc: SSRC };
            let released = Event::Released { holder, reason: Released::Disconnected };
            assert_eq!(run.others(), [held(holder.source, 5000, SSRC, None), released]);
        }
    }
}

#[test]
fn a_wrong_ssrc_is_dropped_and_counted() {
    let shots = Scene::PLAIN.shoot();
    let film = film(&Scene::PLAIN, &shots, 7, 0);
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let id = run.connect(6000, NOW);
    for (now, packet) in &film {
        run.datagram(address(5000), packet, *now);
        run.stream(id, &rfc4571::frame(&packet.to_bytes()), *now);
    }
    assert_eq!(run.dropped(), [(Dropped::WrongSsrc, 2 * film.len() as u64)]);
    assert_eq!((run.frames.len(), run.others()), (0, vec![]));
    let mut run = Run::new(config(SsrcPolicy::Learn));
    film.iter().for_each(|(now, packet)| run.datagram(address(5000), packet, *now));
    assert_eq!(run.others(), [held(Source::Datagrams(address(5000)), 5000, 7, None)]);
}

#[test]
fn a_lost_packet_costs_its_pictures_and_a_bounded_time() {
    let scene = Scene { audio: None, ..Scene::PLAIN };
    let shots = scene.shoot();
    let packets = film(&scene, &shots, SSRC, 0);
    // One of the sixth picture's.
    let lost = packets.iter().position(|(now, _)| *now == Duration::from_millis(200)).expect("a packet") + 1;
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    for (now, packet) in packets.iter().enumerate().filter(|&(n, _)| n != lost).map(|(_, one)| one) {
        run.timeout(*now);
        run.datagram(address(5000), packet, *now);
        if let Some(last) = run.frames.last() {
            let age = now.as_millis() as i64 - last.dts_ms;
            assert!(age <= REORDER_WAIT.as_millis() as i64 + 80, "{age} ms at {now:?}");
        }
    }
    run.timeout(Duration::from_secs(9));
    let rest = shots.iter().enumerate().filter(|&(n, _)| n != 5).map(|(_, shot)| shot);
    assert_tracks(&run.frames, expected(rest), "the others");
    assert_eq!(run.dropped(), [(Dropped::Lost, 1), (Dropped::Damaged, 1)]);
}

#[test]
fn a_newcomer_takes_over_only_from_a_silent_holder() {
    let shots = Scene::PLAIN.shoot();
    let packets = film(&Scene::PLAIN, &shots, SSRC, 0);
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let [old, new] = [5000, 5001].map(|port| run.connect(port, NOW));
    let framed: Vec<Bytes> = packets.iter().map(|(_, packet)| rfc4571::frame(&packet.to_bytes())).collect();
    let (first, rest) = framed.split_at(9);
    first.iter().for_each(|bytes| run.stream(old, bytes, NOW));
    // The newcomer is heard while the holder was not silent long enough.
    let almost = HOLDER_SILENCE - Duration::from_nanos(1);
    first.iter().for_each(|bytes| run.stream(new, bytes, almost));
    assert_eq!(run.others(), [held(Source::Connection(old), 5000, SSRC, None)]);
    assert_eq!(run.dropped(), [(Dropped::NotHolder, 9)]);
    // Silence alone is not enough: a packet without a pack in it changes nothing.
    let plain = Packet { payload: Bytes::from_static(&[7; 50]), ..packets[1].1.clone() };
    run.stream(new, &rfc4571::frame(&plain.to_bytes()), HOLDER_SILENCE);
    assert_eq!(run.others(), []);
    rest.iter().for_each(|bytes| run.stream(new, bytes, HOLDER_SILENCE));
    let before = Holder { source: Source::Connection(old), address: address(5000), ssrc: SSRC };
    let expected = [
        held(Source::Connection(new), 5001, SSRC, Some(before)),
        Event::Close { connection: old, reason: Close::TakenOver },
    ];
    assert_eq!(run.others(), expected);
    // What the old one still sends is nobody's.
    run.stream(old, &framed[0], HOLDER_SILENCE);
    assert_eq!(run.receiver.holder().map(|holder| holder.source), Some(Source::Connection(new)));
}

#[test]
fn a_source_of_datagrams_is_pinned_and_pinned_anew() {
    let shots = Scene::PLAIN.shoot();
    let packets = film(&Scene::PLAIN, &shots, SSRC, 0);
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let play = |run: &mut Run, port: u16, since: Duration| {
        for (now, packet) in &packets {
            run.datagram(address(port), packet, since + *now);
        }
        let end = since + packets.last().map_or(NOW, |(now, _)| *now);
        run.timeout(end + REORDER_WAIT);
        end
    };
    let end = play(&mut run, 5000, NOW);
    assert_eq!(run.others().len(), 1);
    for (now, packet) in &packets[..20] {
        run.datagram(address(6000), packet, end + *now / 100);
    }
    assert_eq!(run.others(), []);
    let frames = run.frames.len();
    play(&mut run, 6000, end + HOLDER_SILENCE);
    let before = Holder { source: Source::Datagrams(address(5000)), address: address(5000), ssrc: SSRC };
    assert_eq!(run.others(), [held(Source::Datagrams(address(6000)), 6000, SSRC, Some(before))]);
    assert!(run.frames.len() >= 2 * frames - 2);
}

#[test]
fn connections_without_media_are_closed_and_do_not_crowd_out_a_camera() {
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let ids: Vec<ConnectionId> =
        (0..6).map(|n| run.connect(5000 + n, Duration::from_millis(u64::from(n)))).collect();
    let crowded = |n: usize| Event::Close { connection: ids[n], reason: Close::Crowded };
    assert_eq!(run.others(), [crowded(0), crowded(1)]);
    let first = CANDIDATE_WAIT + Duration::from_millis(2);
    assert_eq!(run.receiver.deadline(), Some(first));
    run.timeout(first);
    assert_eq!(run.others(), [Event::Close { connection: ids[2], reason: Close::NoMedia }]);
    run.timeout(2 * first);
    assert_eq!(run.others().len(), CANDIDATES_MAX - 1);
    assert_eq!(run.receiver.deadline(), None);
    // The holder may be silent as long as the caller bears it.
    let shots = Scene::PLAIN.shoot();
    let id = run.connect(7000, NOW);
    for (_, packet) in film(&Scene::PLAIN, &shots, SSRC, 0) {
        run.stream(id, &rfc4571::frame(&packet.to_bytes()), NOW);
    }
    run.timeout(10 * first);
    assert_eq!(run.others(), [held(Source::Connection(id), 7000, SSRC, None)]);
}

#[test]
fn who_connects_again_and_again_displaces_its_own_connections_alone() {
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let ms = Duration::from_millis;
    let crowd: Vec<ConnectionId> = (0..4).map(|n| run.connect(5000 + n, ms(n.into()))).collect();
    let camera = run.receiver.connect(SocketAddr::from(([192, 0, 2, 8], 9000)), ms(4));
    for n in 5..20 {
        run.connect(5000 + n, ms(n.into()));
    }
    let closed = run.others();
    let crowded = |connection| Event::Close { connection, reason: Close::Crowded };
    assert_eq!(closed.len(), 16);
    assert!(crowd.into_iter().all(|id| closed.contains(&crowded(id))) && !closed.contains(&crowded(camera)));
}

#[test]
fn a_holder_that_was_ended_comes_back_with_its_configurations_or_is_closed() {
    let shots = Scene::PLAIN.shoot();
    let packets = film(&Scene::PLAIN, &shots, SSRC, 0);
    let framed: Vec<Bytes> = packets.iter().map(|(_, packet)| rfc4571::frame(&packet.to_bytes())).collect();
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    let id = run.connect(5000, NOW);
    framed.iter().for_each(|bytes| run.stream(id, bytes, NOW));
    run.receiver.evict(NOW);
    run.drain();
    assert_eq!(run.receiver.holder(), None);
    assert_tracks(&run.frames, expected(&shots), "all that came");
    run.others();
    run.frames.clear();
    framed.iter().for_each(|bytes| run.stream(id, bytes, NOW));
    run.receiver.evict(NOW);
    run.drain();
    assert_eq!(run.others(), [held(Source::Connection(id), 5000, SSRC, None)]);
    assert_tracks(&run.frames, expected(&shots), "all of it again");
    run.timeout(CANDIDATE_WAIT);
    assert_eq!(run.others(), [Event::Close { connection: id, reason: Close::NoMedia }]);
}

#[test]
fn a_goodbye_of_the_holder_ends_it_and_stragglers_do_not_bring_it_back() {
    let shots = Scene::PLAIN.shoot();
    let packets = film(&Scene::PLAIN, &shots, SSRC, 0);
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    packets.iter().for_each(|(now, packet)| run.datagram(address(5000), packet, *now));
    let now = packets.last().expect("packets").0;
    run.others();
    let stranger = SocketAddr::from(([192, 0, 2, 8], 5001));
    run.receiver.receive_rtcp(stranger, &rtcp::goodbye(SSRC), now);
    run.receiver.receive_rtcp(address(5001), &rtcp::goodbye(SSRC + 1), now);
    run.drain();
    assert_eq!(run.others(), []);
    run.receiver.receive_rtcp(address(5001), &rtcp::goodbye(SSRC), now);
    run.drain();
    let holder = Holder { source: Source::Datagrams(address(5000)), address: address(5000), ssrc: SSRC };
    assert_eq!(run.others(), [Event::Released { holder, reason: Released::Bye }]);
    assert_tracks(&run.frames, expected(&shots), "all of it");
    run.datagram(address(5000), &packets[0].1, now);
    assert_eq!(run.others(), []);
    run.datagram(address(5000), &packets[0].1, now + BYE_WAIT);
    assert_eq!(run.others(), [held(holder.source, 5000, SSRC, None)]);
}

#[test]
fn receiver_reports_go_to_where_the_sender_listens() {
    let shots = Scene::PLAIN.shoot();
    let packets = film(&Scene::PLAIN, &shots, SSRC, 0);
    let with_rtcp = Config { rtcp: Rtcp::On { local_ssrc: 42 }, ..config(SsrcPolicy::Enforce) };
    let mut run = Run::new(with_rtcp);
    packets.iter().for_each(|(now, packet)| run.datagram(address(5000), packet, *now));
    run.timeout(Duration::from_secs(2));
    assert_eq!(run.receiver.poll_transmit(), None);
    let next = |run: &mut Run| {
        let due = run.receiver.deadline().expect("a report is due");
        run.timeout(due);
        let transmit = run.receiver.poll_transmit().expect("a report");
        assert_eq!(run.receiver.poll_transmit(), None);
        let report: Vec<_> = rtcp::parse(&transmit.bytes).collect();
        assert!(matches!(
            report[..],
            [Ok(rtcp::Rtcp::Other { kind: 201 }), Ok(rtcp::Rtcp::Other { kind: 202 })]
        ));
        (due, transmit.to)
    };
    let (first, to) = next(&mut run);
    assert!((2_500..=7_500).contains(&first.as_millis()));
    assert_eq!(to, Destination::Rtcp(address(5001)));
    let report = [&[0x80, 200, 0, 6][..], &SSRC.to_be_bytes(), &[0; 20]].concat();
    run.receiver.receive_datagram(address(5000), report.into(), first);
    let (second, to) = next(&mut run);
    assert!((2_500..=7_500).contains(&(second - first).as_millis()));
    assert_eq!(to, Destination::Rtp(address(5000)));
    // On a connection they are framed.
    let mut run = Run::new(with_rtcp);
    let id = run.connect(5000, NOW);
    for (now, packet) in &packets {
        run.stream(id, &rfc4571::frame(&packet.to_bytes()), *now);
    }
    run.timeout(Duration::from_secs(8));
    let transmit = run.receiver.poll_transmit().expect("a report");
    assert_eq!(transmit.to, Destination::Connection(id));
    assert_eq!(transmit.bytes[..4], [0, 52, 0x81, 201]);
}

#[test]
fn a_sender_that_begins_anew_goes_on_with_a_clock_of_its_own() {
    let first = Scene::PLAIN;
    let second = Scene { start: 1_000_000, ..first };
    let (one, two) = (first.shoot(), second.shoot());
    let mut run = Run::new(config(SsrcPolicy::Enforce));
    for (_, packet) in film(&first, &one, SSRC, 100).into_iter().chain(film(&second, &two, SSRC, 40_000)) {
        run.datagram(address(5000), &packet, NOW);
    }
    run.timeout(Duration::from_secs(1));
    assert_eq!(run.others().last(), Some(&Event::Restarted));
    assert_tracks(&run.frames, [expected(&one), expected(&two)].concat(), "both");
    assert_eq!(run.dropped(), []);
}

#[test]
fn no_bytes_make_it_panic() {
    let shots = Scene::PLAIN.shoot();
    let film = film(&Scene::PLAIN, &shots, SSRC, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut run = Run::new(Config { rtcp: Rtcp::On { local_ssrc: 1 }, ..config(SsrcPolicy::Learn) });
        let mut ids = vec![run.connect(1, NOW)];
        for (n, (now, packet)) in film.iter().enumerate() {
            let now = *now + Duration::from_millis(n as u64 * seed);
            let mut bytes = packet.to_bytes().to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len().min(60));
                bytes[at] = random.next() as u8;
            }
            bytes.truncate(1 + random.below(4 * bytes.len()));
            match random.below(6) {
                0 => ids.push(run.connect(random.next() as u16, now)),
                1 => run.receiver.disconnect(ids[random.below(ids.len())], now),
                2 => run.receiver.receive_rtcp(address(5001), &bytes, now),
                3 => run.receiver.receive_datagram(address(5000 + random.below(7) as u16), bytes.into(), now),
                _ => run.stream(ids[random.below(ids.len())], &rfc4571::frame(&bytes), now),
            }
            run.timeout(now);
        }
    }
}
