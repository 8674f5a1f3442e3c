//! Peers that are silent, send garbage or never read, and what RTMP publishers get wrong: each ends by its own deadline, which the log
//! names, and nobody else loses a frame.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::frame::{Codec, Frame, Kind};
use tests::clips;
use tests::eventually::{ensure, eventually};
use tests::flv::TagKind;
use tests::hostile::{VALUES, nested, shaken};
use tests::load::{Source, publish_some};
use tests::player::Viewer;
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use tests::rtmp::Connection;
use tests::soak::Random;
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};
use tests::synthetic::{Synthetic, configs, gapless};

/// What a viewer may take nothing for (limits.rs of the worker), and as long as its buffers take to be full.
const STUCK: Duration = Duration::from_secs(30 + 10);
/// How long the other track of a stream may be waited for: 1 s for pictures (limits.rs of media), and as much again for a busy machine.
const OTHER_TRACK: Duration = Duration::from_secs(2);
/// How long a connection to an rtp port may be without media (limits.rs of rtp).
const CANDIDATE: Duration = Duration::from_secs(10);

/// Waits for a line of the log that has all these words.
#[track_caller]
fn wait_line(standalone: &Standalone, words: &[&str], limit: Duration) {
    eventually(&format!("a line with {words:?}"), limit, || {
        let log = standalone.log();
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure(found, || log.lines().rev().take(30).collect::<Vec<_>>().join("\n"))
    });
}

fn rtp_address(standalone: &Standalone, name: &str) -> SocketAddr {
    let stream = standalone.wait_ready(name);
    let port = stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status");
    SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")))
}

/// Bytes of no meaning.
fn garbage(length: usize) -> Vec<u8> {
    Random::new(1).bytes(length)
}

/// Reads until the peer closes.
#[track_caller]
fn wait_closed(mut socket: &TcpStream, limit: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    socket.set_read_timeout(Some(limit)).expect("a timeout");
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return,
            Err(e) => panic!("waited {limit:?} for the server to close: {e}"),
        }
    }
}

#[test]
fn silent_cameras_garbage_and_a_viewer_that_never_reads_end_by_their_deadlines_and_cost_nobody_a_frame() {
    let ports = Block::take(20);
    let files = [
        ("pool.yaml", pool(&ports.range())),
        ("good.yaml", pushed("good", "")),
        ("mute.yaml", pushed("mute", "  publish: {startTimeout: 2s}\n")),
        ("stalled.yaml", pushed("stalled", "  publish: {stallTimeout: 3s}\n")),
        ("broken.yaml", pushed("broken", "")),
        (
            "camera.yaml",
            over_rtp(
                "camera",
                "transport: TCPPassive, ssrc: \"0200000001\"",
                "  publish: {stallTimeout: 3s}\n",
            ),
        ),
        ("noise.yaml", over_rtp("noise", "transport: TCPPassive, ssrc: \"0200000002\"", "")),
        ("datagrams.yaml", over_rtp("datagrams", "transport: UDP, ssrc: \"0200000003\"", "")),
    ];
    let standalone = Standalone::start(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    for name in ["good", "mute", "stalled", "broken"] {
        standalone.wait_ready(&format!("live/{name}"));
    }
    let source = Source::start(standalone.rtmp, "live/good");
    let good: Vec<Viewer> = (0..3).map(|_| Viewer::open(standalone.http, "/live/good.flv")).collect();

    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // So that it is full at once.
    deaf.set_recv_buffer_size(4096).expect("a size");
    deaf.connect(&standalone.http.into()).expect("the listener accepts");
    let mut deaf = TcpStream::from(deaf);
    write!(deaf, "GET /live/good.flv HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request fits");
    let deaf_remote = deaf.local_addr().expect("it is connected").to_string();

    // Over RTMP: one that publishes and says nothing, one that falls silent, one that goes mad.
    let mut mute = Connection::publish(standalone.rtmp, "live/mute");
    let mut stalled = publish_some(standalone.rtmp, "live/stalled", Duration::from_secs(1));
    let mut broken = publish_some(standalone.rtmp, "live/broken", Duration::from_secs(1));
    broken.send_raw(&garbage(256 * 1024)).expect("some of it is taken");

    // Over RTP: one that falls silent, one that says nothing from the start, noise over TCP and over UDP.
    let (camera, noise) = (rtp_address(&standalone, "live/camera"), rtp_address(&standalone, "live/noise"));
    let clip = ps_sender::read(&clips::h264_aac(2).file(), VideoChoice::Auto, AudioChoice::Auto);
    let clip = clip.expect("ffmpeg reads its own");
    let silent = TcpStream::connect(camera).expect("a Ready stream accepts");
    let options = Options::new(clips::h264_aac(2).file(), camera, Transport::Tcp, 200_000_001);
    let sending = silent.try_clone().expect("a socket's descriptor can be cloned");
    ps_sender::send_some(sending, &options, &clip).expect("the clip is sent");
    let never = TcpStream::connect(noise).expect("a Ready stream accepts");
    let mut mad = TcpStream::connect(noise).expect("a Ready stream accepts");
    mad.write_all(&garbage(256 * 1024)).expect("noise before the first pack is borne");
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("an ephemeral port");
    let to = rtp_address(&standalone, "live/datagrams");
    for datagram in garbage(64 * 1024).chunks(1000) {
        datagrams.send_to(datagram, to).expect("a Ready stream has its port open");
    }

    wait_line(&standalone, &["publisher ended", "live/mute", "PublisherNeverStarted"], SOON);
    mute.wait_close(SOON).expect("the mute one is ended");
    wait_line(&standalone, &["publisher ended", "live/stalled", "PublisherStalled"], SOON);
    stalled.wait_close(SOON).expect("the silent one is ended");
    wait_line(&standalone, &["publisher broke its protocol", "live/broken"], SOON);
    wait_line(&standalone, &["publisher ended", "live/broken", "ProtocolError"], SOON);
    broken.wait_close(SOON).expect("the mad one is ended");
    wait_line(&standalone, &["publisher ended", "live/camera", "PublisherStalled"], SOON);
    for (socket, stream) in [(&silent, "live/camera"), (&never, "live/noise"), (&mad, "live/noise")] {
        let remote = socket.local_addr().expect("it is connected").to_string();
        let closed = "a connection of an rtp source is closed";
        wait_line(&standalone, &[closed, stream, &remote, "NoMedia"], CANDIDATE + SOON);
        wait_closed(socket, SOON);
    }
    let dropped = standalone.metric("penstock_dropped_total", &["reason=\"Malformed\""]);
    assert!(dropped.as_ref().is_ok_and(|dropped| *dropped > 0.0), "noise over UDP is counted: {dropped:?}");
    wait_line(&standalone, &["viewer ended", "live/good", &deaf_remote, "took nothing for 30s"], STUCK);
    assert_eq!(standalone.metric("penstock_dropped_total", &["reason=\"ViewerSlow\""]), Ok(1.0));

    let pictures = good[0].media().video.len();
    for viewer in &good {
        viewer.wait_pictures(pictures + 30, SOON);
        assert_eq!(gapless(&viewer.media()), Ok(()));
        assert!(viewer.media().video.len() > 30 * 30, "media flowed all the time");
    }
    assert!(source.runs());
}

/// A publisher at its own speed, whose clock begins anywhere.
struct Paced {
    connection: Connection,
    stream: Synthetic,
    begun: Instant,
    clock_offset: u32,
}

impl Paced {
    fn start(standalone: &Standalone, clock_offset: u32) -> Paced {
        let connection = Connection::publish(standalone.rtmp, "live/cam");
        Paced { connection, stream: Synthetic::default(), begun: Instant::now(), clock_offset }
    }

    fn configure(&mut self, only: fn(Codec) -> bool) {
        for config in configs().iter().filter(|config| only(config.codec)) {
            self.connection.send(config, self.clock_offset).expect("it is taken");
        }
    }

    /// Sends what `only` lets through, up to this time of the stream.
    fn send_until(&mut self, until: Duration, only: fn(Codec) -> bool) {
        while self.stream.due() < until {
            std::thread::sleep(self.stream.due().saturating_sub(self.begun.elapsed()));
            let frame = self.stream.next_frame();
            if only(frame.codec) {
                let timestamp = (frame.dts_ms as u32).wrapping_add(self.clock_offset);
                self.connection.send(&frame, timestamp).expect("it is taken");
            }
        }
    }
}

fn cam() -> Standalone {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    standalone
}

#[test]
fn a_publishers_clock_that_comes_round_is_one_clock_to_players() {
    let standalone = cam();
    let viewer = Viewer::waiting(standalone.http, "/live/cam.flv");
    // Three seconds before the wrap.
    let mut publisher = Paced::start(&standalone, u32::MAX - 3000);
    publisher.configure(|_| true);
    publisher.send_until(Duration::from_secs(6), |_| true);
    let viewer = viewer.join().expect("it plays");
    viewer.wait_pictures(180, SOON);
    assert_eq!(gapless(&viewer.media()), Ok(()));
}

/// onMetaData that announces both tracks.
fn metadata() -> Frame {
    let mut payload = vec![2, 0, 10];
    payload.extend_from_slice(b"onMetaData");
    payload.extend_from_slice(&[8, 0, 0, 0, 2]);
    for (name, id) in [("videocodecid", 7.0_f64), ("audiocodecid", 10.0)] {
        payload.extend_from_slice(&(name.len() as u16).to_be_bytes());
        payload.extend_from_slice(name.as_bytes());
        payload.push(0);
        payload.extend_from_slice(&id.to_be_bytes());
    }
    payload.extend_from_slice(&[0, 0, 9]);
    Frame { codec: Codec::Script, kind: Kind::Config, dts_ms: 0, cts_ms: 0, payload: Bytes::from(payload) }
}

#[test]
fn a_track_that_metadata_announces_and_that_never_comes_is_not_announced_to_players() {
    for (only, pictures) in
        [((|codec| codec == Codec::H264) as fn(Codec) -> bool, true), (|codec| codec == Codec::Aac, false)]
    {
        let standalone = cam();
        let viewer = Viewer::waiting(standalone.http, "/live/cam.flv");
        let mut publisher = Paced::start(&standalone, 0);
        publisher.connection.send(&metadata(), 0).expect("it is taken");
        publisher.configure(only);
        publisher.send_until(Duration::from_secs(3), only);
        let viewer = viewer.join().expect("it plays");
        eventually("media of one track", SOON, || {
            let media = viewer.media();
            ensure(media.video.len() + media.audio.len() >= 60, || format!("{media:?}"))
        });
        let header = viewer.media().header.expect("media came behind a header");
        assert_eq!((header.video, header.audio), (pictures, !pictures));
        assert_eq!(gapless(&viewer.media()), Ok(()));
        let waited = viewer.seen().tags[0].0.duration_since(publisher.begun);
        assert!(waited < OTHER_TRACK, "it began after {waited:?}");
    }
}

#[test]
fn late_metadata_disturbs_no_player() {
    let standalone = cam();
    let viewer = Viewer::waiting(standalone.http, "/live/cam.flv");
    let mut publisher = Paced::start(&standalone, 0);
    publisher.configure(|_| true);
    publisher.send_until(Duration::from_secs(2), |_| true);
    publisher.connection.send(&metadata(), 2000).expect("it is taken");
    publisher.send_until(Duration::from_secs(4), |_| true);
    let viewer = viewer.join().expect("it plays");
    viewer.wait_pictures(118, SOON);
    assert_eq!(gapless(&viewer.media()), Ok(()));
    let tags = viewer.seen().tags;
    let first = tags.iter().position(|(_, tag)| tag.kind != TagKind::Script).expect("media came");
    assert!(tags[first..].iter().all(|(_, tag)| tag.kind != TagKind::Script), "it came to a player that ran");
}

#[test]
fn pictures_of_a_mebibyte_travel_over_rtmp() {
    let standalone = cam();
    let viewer = Viewer::waiting(standalone.http, "/live/cam.flv");
    let mut publisher = Paced::start(&standalone, 0);
    publisher.configure(|_| true);
    for nth in 0..12_u32 {
        // A slice of 0x55, longer by one byte each time, so that each is known by its length.
        let length = (1 << 20) + nth;
        let mut payload = length.to_be_bytes().to_vec();
        payload.push(0x65);
        payload.resize(4 + length as usize, 0x55);
        let dts_ms = i64::from(nth) * 40;
        let frame = Frame { codec: Codec::H264, kind: Kind::Key, dts_ms, cts_ms: 0, payload: payload.into() };
        publisher.connection.send(&frame, nth * 40).expect("it is taken");
        let sound = Bytes::from_static(&[0x55; 300]);
        let sound = Frame { codec: Codec::Aac, kind: Kind::Key, dts_ms, cts_ms: 0, payload: sound };
        publisher.connection.send(&sound, nth * 40).expect("it is taken");
    }
    let viewer = viewer.join().expect("it plays");
    let last = 4 + 5 + (1 << 20) + 11;
    eventually("the last picture, whole", SOON, || {
        let seen = viewer.seen();
        let pictures =
            seen.tags.iter().filter(|(_, tag)| tag.kind == TagKind::Video && tag.body.len() > 1 << 20);
        let lengths: Vec<usize> = pictures.map(|(_, tag)| tag.body.len()).collect();
        ensure(lengths.last() == Some(&last) && lengths.is_sorted_by(|a, b| a + 1 == *b), || {
            format!("{lengths:?}, end: {:?}", seen.end)
        })
    });
}

#[test]
fn garbage_and_values_nested_without_end_cost_the_server_nothing() {
    let standalone = cam();
    let worker = standalone.worker_pid();
    let _source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    for to in [standalone.rtmp, standalone.http] {
        let mut socket = TcpStream::connect(to).expect("the listener accepts");
        // It may be hung up on before all of it is taken.
        let _ = socket.write_all(&garbage(256 * 1024));
        wait_closed(&socket, SOON * 2);
    }
    // 200 000 kill three of five peers by their stack; 4000 fit what a command may have.
    for depth in [4000, 200_000] {
        for value in &VALUES[..2] {
            let mut socket = shaken(standalone.rtmp, SOON).expect("the listener shakes hands");
            let _ = socket.write_all(&nested(value, depth));
            wait_closed(&socket, SOON * 2);
        }
    }
    let pictures = viewer.media().video.len();
    viewer.wait_pictures(pictures + 30, SOON);
    assert_eq!(gapless(&viewer.media()), Ok(()));
    assert_eq!(standalone.worker_pid(), worker, "it was restarted:\n{}", standalone.log());
    assert_eq!(standalone.metric("penstock_session_panics_total", &[]), Ok(0.0));
}
