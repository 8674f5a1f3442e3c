//! Publishers and viewers on real sockets of a media plane in this process.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Plane, play_policy, publish_policy};
use media::frame::{Codec, Frame, Kind};
use media::policy::{Access, Latency, OnDuplicate, PlayPolicy, PublishPolicy, SlowViewer};
use media::rtmp::{ClientEvent, Role};
use tests::flv::{self, TagKind};
use tests::rtmp::Connection;
use worker::counters::DropReason;
use worker::shard::{EndReason, Fault, ShardCommand, ShardReport, StreamSnapshot};

/// The limit of each wait. What is waited for comes in milliseconds.
const SOON: Duration = Duration::from_secs(20);

impl Plane {
    /// Loopback, ports of the kernel's choice, one shard.
    fn on_loopback() -> Plane {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Plane::start(1, any, any)
    }

    /// Waits until a stream is in some state.
    fn wait_until(&self, path: &str, what: &str, wanted: impl Fn(&StreamSnapshot) -> bool) -> StreamSnapshot {
        let begin = Instant::now();
        loop {
            let snapshot = self.snapshot(path);
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{path} never: {what}; it is {snapshot:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn frame(codec: Codec, kind: Kind, dts_ms: i64, payload: impl Into<Bytes>) -> Frame {
    Frame { codec, kind, dts_ms, cts_ms: 0, payload: payload.into() }
}

/// A publisher with a clock of its own: 25 pictures a second, a key frame each 10, sound beside each.
struct Encoder {
    connection: Connection,
    pictures: i64,
    size: usize,
}

impl Encoder {
    fn begin(to: SocketAddr, path: &str) -> Encoder {
        let mut connection = Connection::publish(to, path);
        for config in tests::synthetic::configs() {
            connection.send(&config, 0).unwrap();
        }
        Encoder { connection, pictures: 0, size: 1000 }
    }

    /// Sends pictures with their sound; the first byte of each picture's payload is its number.
    fn send(&mut self, pictures: i64) {
        for _ in 0..pictures {
            self.try_send().expect("the server takes what is sent");
        }
    }

    fn try_send(&mut self) -> io::Result<()> {
        let kind = if self.pictures % 10 == 0 { Kind::Key } else { Kind::Inter };
        let mut payload = vec![0; self.size];
        payload[0] = self.pictures as u8;
        let dts_ms = self.pictures * 40;
        self.pictures += 1;
        self.connection.send(&frame(Codec::H264, kind, dts_ms, payload), dts_ms as u32)?;
        self.connection.send(&frame(Codec::Aac, Kind::Key, dts_ms + 11, vec![7; 100]), dts_ms as u32 + 11)
    }
}

/// What came to a player: time and first byte of each picture.
type Picture = (i64, u8);

struct RtmpPlayer(Connection);

impl RtmpPlayer {
    fn open(to: SocketAddr, path: &str) -> RtmpPlayer {
        RtmpPlayer(Connection::open(Role::Play, to, path).unwrap())
    }

    fn started(mut self) -> RtmpPlayer {
        self.0.wait(SOON, |event| (event == ClientEvent::Started).then_some(())).expect("play begins");
        self
    }

    fn next(&mut self) -> (Kind, Picture) {
        let found = self.0.wait(SOON, |event| match event {
            ClientEvent::Frame(frame) if frame.codec == Codec::H264 && frame.kind != Kind::Config => {
                Some((frame.kind, (frame.dts_ms, frame.payload[0])))
            }
            _ => None,
        });
        found.expect("pictures come")
    }

    fn pictures(&mut self, count: usize) -> Vec<Picture> {
        (0..count).map(|_| self.next().1).collect()
    }
}

struct FlvPlayer {
    socket: TcpStream,
    head: String,
    reader: flv::Reader,
    tags: std::collections::VecDeque<flv::Tag>,
}

impl FlvPlayer {
    fn open(to: SocketAddr, path: &str) -> FlvPlayer {
        let socket = get(to, &format!("GET /{path}.flv HTTP/1.1\r\nHost: x\r\n\r\n"));
        FlvPlayer { socket, head: String::new(), reader: flv::Reader::default(), tags: Default::default() }
    }

    fn started(mut self) -> FlvPlayer {
        self.socket.set_read_timeout(Some(SOON)).unwrap();
        let mut byte = [0];
        while !self.head.ends_with("\r\n\r\n") {
            self.socket.read_exact(&mut byte).expect("the head comes");
            self.head.push(byte[0].into());
        }
        self
    }

    fn pictures(&mut self, count: usize) -> Vec<Picture> {
        let mut out = vec![];
        let mut buffer = [0; 4096];
        while out.len() < count {
            while let Some(tag) = self.tags.pop_front() {
                if let (TagKind::Video, 1) = (tag.kind, tag.body[1]) {
                    out.push((i64::from(tag.dts_ms), tag.body[5]));
                    if out.len() == count {
                        return out;
                    }
                }
            }
            let length = self.socket.read(&mut buffer).expect("pictures come");
            assert!(length > 0, "closed after {} pictures", out.len());
            let tags = &mut self.tags;
            self.reader.push(&buffer[..length], |tag| tags.push_back(tag)).unwrap();
        }
        out
    }
}

fn get(to: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// The whole answer to a request.
fn answer(to: SocketAddr, request: &str) -> String {
    let mut out = String::new();
    get(to, request).read_to_string(&mut out).unwrap();
    out
}

/// Each picture is at the publisher's time plus one constant.
fn assert_in_order(pictures: &[Picture]) {
    for pair in pictures.windows(2) {
        assert_eq!(pair[1].1, pair[0].1.wrapping_add(1), "{pictures:?}");
        assert_eq!(pair[1].0, pair[0].0 + 40, "{pictures:?}");
    }
}

/// The code that a peer is refused with. The server closes then.
fn refused(role: Role, to: SocketAddr, path: &str) -> String {
    let mut connection = Connection::open(role, to, path).unwrap();
    let code = connection.wait_status(SOON).unwrap_or_else(|error| error.to_string());
    wait_closed(&mut connection);
    code
}

/// Waits until the server closes, whatever it says before.
fn wait_closed(connection: &mut Connection) {
    let begin = Instant::now();
    while connection.wait_close(SOON).is_err() {
        assert!(begin.elapsed() < SOON, "it is not closed");
    }
}

#[test]
fn what_is_published_is_played_over_rtmp_and_http_flv() {
    let mut plane = Plane::on_loopback();
    plane.declare("live/a", publish_policy(), play_policy());
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(15);
    plane.wait_until("live/a", "15 pictures", |stream| stream.frames_in >= 30);
    let mut rtmp = RtmpPlayer::open(plane.rtmp, "live/a").started();
    let mut http = FlvPlayer::open(plane.http, "live/a").started();
    assert!(http.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", http.head);
    assert!(http.head.contains("Access-Control-Allow-Origin: *\r\n"), "{}", http.head);
    plane.wait_until("live/a", "both play", |stream| stream.viewer_count == 2);
    encoder.send(10);
    // Both begin with the newest key frame, and each picture is at the publisher's time plus one constant.
    let (over_rtmp, over_http) = (rtmp.pictures(15), http.pictures(15));
    assert_eq!(over_rtmp[0].1, 10);
    assert_in_order(&over_rtmp);
    assert_eq!(over_rtmp, over_http);
    assert_eq!(http.reader.header.map(|header| (header.video, header.audio)), Some((true, true)));
    drop((rtmp, http));
    plane.wait_until("live/a", "both are gone", |stream| stream.viewer_count == 0);
}

#[test]
fn a_viewer_may_come_first_and_waits_no_longer_than_it_is_told() {
    let mut plane = Plane::on_loopback();
    plane.declare("live/a", publish_policy(), play_policy());
    let short = PlayPolicy { start_timeout: Duration::from_millis(300), ..play_policy() };
    plane.declare("live/b", publish_policy(), short);
    let to = plane.rtmp;
    let rtmp = std::thread::spawn(move || RtmpPlayer::open(to, "live/a").started());
    let http = FlvPlayer::open(plane.http, "live/a");
    plane.wait_until("live/a", "both wait", |stream| stream.viewer_count == 2);
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(3);
    assert_in_order(&rtmp.join().unwrap().pictures(3));
    assert_in_order(&http.started().pictures(3));

    assert_eq!(refused(Role::Play, plane.rtmp, "live/b"), "NetStream.Play.StreamNotFound");
    let not_found = answer(plane.http, "GET /live/b.flv HTTP/1.1\r\n\r\n");
    assert!(not_found.starts_with("HTTP/1.1 404") && not_found.contains("play.startTimeout"), "{not_found}");
}

#[test]
fn a_worker_that_has_just_started_holds_requests_until_it_knows_its_streams() {
    let mut plane = Plane::on_loopback();
    let unknown = answer(plane.http, "GET /live/a.flv HTTP/1.1\r\n\r\n");
    assert!(unknown.starts_with("HTTP/1.1 503"), "{unknown}");
    let to = plane.rtmp;
    let player = std::thread::spawn(move || RtmpPlayer::open(to, "live/a").started());
    let begin = Instant::now();
    while plane.front.counters.accepted.value() < 2 {
        assert!(begin.elapsed() < SOON, "the player is not accepted");
        std::thread::sleep(Duration::from_millis(2));
    }
    plane.declare("live/a", publish_policy(), play_policy());
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(3);
    assert_in_order(&player.join().unwrap().pictures(3));
}

#[test]
fn who_may_not_come_is_told_why() {
    let mut plane = Plane::on_loopback();
    let token = Access {
        tokens: vec![worker::front::digest_of(b"secret")],
        token_required: true,
        ..Access::default()
    };
    let lan = Access { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..Access::default() };
    plane.declare(
        "live/token",
        PublishPolicy { access: token.clone(), ..publish_policy() },
        PlayPolicy { access: token, ..play_policy() },
    );
    plane.declare(
        "live/lan",
        PublishPolicy { access: lan.clone(), rtmp: true, ..publish_policy() },
        PlayPolicy { access: lan, ..play_policy() },
    );
    plane.declare(
        "live/none",
        PublishPolicy { rtmp: false, ..publish_policy() },
        PlayPolicy { rtmp: false, http_flv: false, ..play_policy() },
    );
    let (rtmp, http) = (plane.rtmp, plane.http);
    assert_eq!(refused(Role::Publish, rtmp, "live/undeclared"), "NetStream.Publish.BadName");
    assert_eq!(refused(Role::Play, rtmp, "live/undeclared"), "NetStream.Play.StreamNotFound");
    for path in ["live/token", "live/token?token=wrong", "live/lan", "live/none"] {
        assert_eq!(refused(Role::Publish, rtmp, path), "NetStream.Publish.Denied", "{path}");
        assert_eq!(refused(Role::Play, rtmp, path), "NetStream.Play.Failed", "{path}");
    }
    let asked = [
        ("GET /live/undeclared.flv", "404"),
        ("GET /live/token.flv", "401"),
        ("GET /live/token.flv?token=wrong", "401"),
        ("GET /live/lan.flv", "403"),
        ("GET /live/none.flv", "403"),
        ("POST /live/token.flv", "405"),
        ("OPTIONS /live/token.flv", "204"),
        ("HEAD /live/token.flv?token=secret", "200"),
        ("GET /live/token", "404"),
    ];
    for (request, status) in asked {
        let answer = answer(http, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    let mut encoder = Encoder::begin(rtmp, "live/token?token=secret");
    encoder.send(3);
    assert_in_order(&RtmpPlayer::open(rtmp, "live/token?token=secret").started().pictures(3));
    let bearer = "GET /live/token.flv HTTP/1.1\r\nAuthorization: Bearer secret\r\n\r\n";
    let player = FlvPlayer {
        socket: get(http, bearer),
        head: String::new(),
        reader: flv::Reader::default(),
        tags: Default::default(),
    };
    assert_in_order(&player.started().pictures(3));
}

/// `live/a` with a viewer by RTMP and one by HTTP-FLV, who have seen the same five pictures.
fn watched(plane: &mut Plane, resume_window: Duration) -> (Encoder, RtmpPlayer, FlvPlayer, Vec<Picture>) {
    plane.declare("live/a", PublishPolicy { resume_window, ..publish_policy() }, play_policy());
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(5);
    let mut rtmp = RtmpPlayer::open(plane.rtmp, "live/a").started();
    let mut http = FlvPlayer::open(plane.http, "live/a").started();
    let pictures = rtmp.pictures(5);
    assert_eq!(http.pictures(5), pictures);
    (encoder, rtmp, http, pictures)
}

#[test]
fn viewers_stay_while_their_publisher_comes_back_and_time_rises() {
    let mut plane = Plane::on_loopback();
    let (encoder, mut rtmp, mut http, before) = watched(&mut plane, Duration::from_secs(15));
    // As a kill does it: the socket just closes.
    drop(encoder);
    let gone = |report: &ShardReport| matches!(report, ShardReport::Publisher { publisher: None, .. });
    let report = plane.wait_report(gone);
    assert!(matches!(report, ShardReport::Publisher { reason: Some(EndReason::Left), .. }), "{report:?}");
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(5);
    let after = rtmp.pictures(5);
    assert_eq!(http.pictures(5), after);
    assert_in_order(&after);
    assert!(after[0].0 > before[4].0, "{before:?} {after:?}");
    assert_eq!(plane.snapshot("live/a").viewer_count, 2);
}

#[test]
fn viewers_are_ended_when_nobody_comes_back() {
    let mut plane = Plane::on_loopback();
    let (mut encoder, mut rtmp, mut http, _) = watched(&mut plane, Duration::from_millis(300));
    encoder.connection.stop().unwrap();
    let mut heard = vec![];
    let end = rtmp.0.wait(SOON, |event| {
        match event {
            ClientEvent::StreamEof => heard.push("eof".to_owned()),
            ClientEvent::Status { code, .. } => heard.push(code),
            _ => {}
        }
        None::<()>
    });
    assert!(end.is_err());
    assert_eq!(heard, ["eof", "NetStream.Play.UnpublishNotify", "NetStream.Play.Stop"]);
    let mut rest = vec![];
    http.socket.read_to_end(&mut rest).unwrap();
    plane.wait_until("live/a", "nobody watches", |stream| stream.viewer_count == 0);
    assert_eq!(plane.budget.used(), 0);
}

#[test]
fn a_path_has_one_publisher() {
    let mut plane = Plane::on_loopback();
    plane.declare("live/reject", publish_policy(), play_policy());
    let takeover = PublishPolicy { on_duplicate: OnDuplicate::Takeover, ..publish_policy() };
    plane.declare("live/takeover", takeover, play_policy());

    let mut first = Encoder::begin(plane.rtmp, "live/reject");
    first.send(3);
    assert_eq!(refused(Role::Publish, plane.rtmp, "live/reject"), "NetStream.Publish.BadName");
    first.send(3);
    // One that is silent for 2 s is taken over from; until then each newcomer is refused.
    let silent = Instant::now();
    let mut second = loop {
        let mut newcomer = Connection::open(Role::Publish, plane.rtmp, "live/reject").unwrap();
        let taken = newcomer.wait(SOON, |event| match event {
            ClientEvent::Started => Some(true),
            ClientEvent::Status { .. } => Some(false),
            _ => None,
        });
        if matches!(taken, Ok(true)) {
            break newcomer;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(silent.elapsed() > Duration::from_millis(1900), "{:?}", silent.elapsed());
    wait_closed(&mut first.connection);
    second.stop().unwrap();

    let mut first = Encoder::begin(plane.rtmp, "live/takeover");
    first.send(3);
    let mut second = Encoder::begin(plane.rtmp, "live/takeover");
    second.send(3);
    wait_closed(&mut first.connection);
    assert_in_order(&RtmpPlayer::open(plane.rtmp, "live/takeover").started().pictures(3));
}

#[test]
fn a_silent_publisher_is_ended_and_its_path_is_free() {
    let mut plane = Plane::on_loopback();
    let short = Duration::from_millis(300);
    let publish = PublishPolicy { start_timeout: short, stall_timeout: short, ..publish_policy() };
    plane.declare("live/a", publish, play_policy());
    let ended = |why: EndReason| move |report: &ShardReport| matches!(report, ShardReport::Publisher { reason: Some(reason), .. } if *reason == why);
    let mut never = Connection::publish(plane.rtmp, "live/a");
    plane.wait_report(ended(EndReason::NeverStarted));
    wait_closed(&mut never);
    let mut stalled = Encoder::begin(plane.rtmp, "live/a");
    stalled.send(2);
    plane.wait_report(|report| matches!(report, ShardReport::Media { live: true, .. }));
    plane.wait_report(ended(EndReason::Stalled));
    plane.wait_report(|report| matches!(report, ShardReport::Media { live: false, .. }));
    wait_closed(&mut stalled.connection);
    Encoder::begin(plane.rtmp, "live/a").send(2);
}

#[test]
fn one_that_stops_reading_skips_or_is_ended_and_nobody_else_notices() {
    let mut plane = Plane::on_loopback();
    plane.declare("live/skip", publish_policy(), play_policy());
    let strict = PlayPolicy { slow_viewer: SlowViewer::Disconnect, ..play_policy() };
    plane.declare("live/strict", publish_policy(), strict);
    for path in ["live/skip", "live/strict"] {
        let mut encoder = Encoder::begin(plane.rtmp, path);
        encoder.send(1);
        let mut reader = FlvPlayer::open(plane.http, path).started();
        let mut slow = FlvPlayer::open(plane.http, path).started();
        plane.wait_until(path, "both play", |stream| stream.viewer_count == 2);
        // More than the ring and the sockets hold.
        encoder.size = 200_000;
        let mut seen = reader.pictures(1);
        for _ in 0..250 {
            encoder.send(1);
            seen.extend(reader.pictures(1));
        }
        assert_in_order(&seen);
        let stream = plane.snapshot(path);
        assert!(stream.ring_bytes <= media::limits::RING_BYTES_MAX, "{stream:?}");
        // One frame that is cut and the ring are all that is held.
        assert!(plane.budget.used() < media::limits::RING_BYTES_MAX + 300_000);
        if path == "live/skip" {
            let mut last = slow.pictures(1)[0];
            let mut skipped = false;
            while last.1 != 250 {
                let next = slow.pictures(1)[0];
                assert!(next.0 > last.0);
                if next.1 != last.1.wrapping_add(1) {
                    skipped = true;
                    assert_eq!(next.1 % 10, 0, "it goes on at a key frame");
                }
                last = next;
            }
            assert!(skipped);
            assert!(plane.shards[0].counters.dropped(DropReason::ViewerSkipped) > 0);
        } else {
            let mut rest = vec![];
            slow.socket.read_to_end(&mut rest).expect("it is ended");
            assert!(plane.shards[0].counters.dropped(DropReason::ViewerSlow) > 0);
        }
        let stream = plane.snapshot(path).assignment.stream.clone();
        plane.command(path, ShardCommand::Revoke { stream, reason: "Test".into() });
        plane.wait_report(|report| matches!(report, ShardReport::Closed(_)));
        drop((encoder, reader, slow));
    }
    let begin = Instant::now();
    while plane.budget.used() > 0 || plane.shards[0].counters.viewers.value() > 0 {
        assert!(begin.elapsed() < SOON, "{} bytes are not given back", plane.budget.used());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_merge_window_gathers_frames_into_one_write() {
    let mut plane = Plane::on_loopback();
    let bulk = PlayPolicy { latency: Latency::Bulk, ..play_policy() };
    plane.declare("live/a", publish_policy(), bulk);
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(1);
    let mut player = FlvPlayer::open(plane.http, "live/a").started();
    let mut seen = player.pictures(1);
    let (begin, sends) = (Instant::now(), plane.shards[0].counters.sends.value());
    encoder.send(100);
    seen.extend(player.pictures(100));
    assert_in_order(&seen);
    // 200 frames, one write a window; the one that was open at the beginning, and a rest, come on top. A window with more
    // pieces than one write takes (a tag has three) needs another.
    let further = (200 * 3 / media::limits::WRITE_PIECES_MAX) as u64;
    let windows = begin.elapsed().as_millis() as u64 / 350 + 2;
    let sends = plane.shards[0].counters.sends.value() - sends;
    assert!(sends <= windows + further, "{sends} writes in {windows} windows");
}

#[test]
fn a_panic_in_one_session_ends_that_session_alone() {
    let mut plane = Plane::on_loopback();
    plane.declare("live/a", publish_policy(), play_policy());
    plane.declare("live/b", publish_policy(), play_policy());
    let mut a = Encoder::begin(plane.rtmp, "live/a");
    let mut b = Encoder::begin(plane.rtmp, "live/b");
    a.send(3);
    b.send(3);
    let mut player_a = RtmpPlayer::open(plane.rtmp, "live/a").started();
    let mut player_b = RtmpPlayer::open(plane.rtmp, "live/b").started();
    player_a.pictures(3);
    player_b.pictures(3);
    plane.command("live/a", ShardCommand::Fault(Fault::PanicSession("live/a".into())));
    plane.snapshot("live/a");
    let _ = a.try_send();
    let ended = plane.wait_report(|report| matches!(report, ShardReport::Publisher { reason: Some(_), .. }));
    assert!(matches!(ended, ShardReport::Publisher { reason: Some(EndReason::Panicked), .. }), "{ended:?}");
    wait_closed(&mut a.connection);
    // The session goes first, and is counted then.
    let panics = plane.shards[0].counters.clone();
    plane.wait_until("live/b", "a panic that is counted", |_| panics.session_panics.value() == 1);
    b.send(3);
    assert_in_order(&player_b.pictures(3));
    // And its path is free, its viewers still there.
    let mut a = Encoder::begin(plane.rtmp, "live/a");
    a.send(3);
    assert_in_order(&player_a.pictures(3));
}

#[test]
fn a_revoked_stream_ends_all_its_sessions_and_another_epoch_keeps_them() {
    let mut plane = Plane::on_loopback();
    let stream = plane.declare("live/a", publish_policy(), play_policy());
    let mut encoder = Encoder::begin(plane.rtmp, "live/a");
    encoder.send(3);
    let mut player = RtmpPlayer::open(plane.rtmp, "live/a").started();
    player.pictures(3);
    let mut assignment = (*plane.snapshot("live/a").assignment).clone();
    assignment.stream.epoch = 2;
    let second = assignment.stream.clone();
    plane.command(
        "live/a",
        ShardCommand::Assign { assignment: std::sync::Arc::new(assignment), ingress: None },
    );
    plane.wait_report(|report| *report == ShardReport::Closed(stream.clone()));
    plane.wait_report(|report| *report == ShardReport::Assigned(second.clone()));
    encoder.send(3);
    assert_in_order(&player.pictures(3));
    // A revoke of the former epoch comes late and stops nothing, but is answered.
    plane.command("live/a", ShardCommand::Revoke { stream: stream.clone(), reason: "Test".into() });
    plane.wait_report(|report| *report == ShardReport::Closed(stream.clone()));
    encoder.send(3);
    assert_in_order(&player.pictures(3));
    plane.command("live/a", ShardCommand::Revoke { stream: second.clone(), reason: "Test".into() });
    plane.wait_report(|report| *report == ShardReport::Closed(second.clone()));
    wait_closed(&mut encoder.connection);
    wait_closed(&mut player.0);
}
