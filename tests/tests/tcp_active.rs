//! GB28181 media over TCP active: the worker connects to the device from the leased port, again and again until media flows.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::census::{self, Held};
use tests::clips::{Clip, Pictures, Sound};
use tests::eventually::{ensure, eventually};
use tests::nal::Media;
use tests::player::Viewer;
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool};

const SSRC: u32 = 200_000_001;
/// Of the streams here, so that a silent device is found out soon.
const STALL: Duration = Duration::from_secs(2);

/// A device that is connected to, and the server that does.
struct World {
    standalone: Standalone,
    device: SocketAddr,
    options: Options,
    clip: ps_sender::Clip,
    ports: Block,
}

impl World {
    /// The device has a number, but does not listen on it yet.
    fn new(host: &str) -> World {
        // The pool's numbers, and the device's.
        let ports = Block::take(8);
        let device = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.last()));
        let rtp = format!(
            "transport: TCPActive, remote: {{host: {host}, port: {}}}, ssrc: \"{SSRC:010}\"",
            device.port()
        );
        let publish = format!("  publish: {{stallTimeout: {}s, resumeWindow: 1s}}\n", STALL.as_secs());
        let cam = over_rtp("cam", &rtp, &publish);
        let numbers = ports.first()..=ports.first() + 3;
        let standalone = Standalone::start(&[("pool.yaml", &pool(&numbers)), ("cam.yaml", &cam)]);
        let file = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 12, gop_seconds: 2 }.file();
        let clip =
            ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
        World { standalone, device, options: Options::new(file, device, Transport::Tcp, SSRC), clip, ports }
    }

    fn numbers(&self) -> RangeInclusive<u16> {
        self.ports.first()..=self.ports.first() + 3
    }

    fn listen(&self) -> TcpListener {
        let listener = TcpListener::bind(self.device).expect("the device's number is ours");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        listener
    }

    /// The port that is leased by the status.
    fn leased(&self) -> u16 {
        let stream = self.standalone.wait_ready("live/cam");
        let port = stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status");
        u16::try_from(port).expect("a port")
    }

    fn send(&self, on: TcpStream) -> JoinHandle<Result<Sent, String>> {
        let (options, clip) = (self.options.clone(), self.clip.clone());
        std::thread::spawn(move || ps_sender::send_on(on, &options, &clip))
    }

    /// Waits until the condition Live says this.
    fn wait_said(&self, words: &str) {
        self.standalone.wait_stream("live/cam", words, SOON, |stream| live_message(stream).contains(words));
    }

    fn failures(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.standalone.metric("penstock_dial_failures_total", &[&label]).expect("it is counted")
    }
}

fn live_message(stream: &Value) -> String {
    let conditions = stream["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let live = conditions.into_iter().find(|condition| condition["type"] == "Live");
    live.and_then(|live| live["message"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// The next connection, with the port that it comes from.
#[track_caller]
fn accept(listener: &TcpListener) -> (TcpStream, u16) {
    let (stream, from) =
        eventually("a connection to the device", SOON, || listener.accept().map_err(|e| e.to_string()));
    stream.set_nonblocking(false).expect("a connection can be waited for");
    (stream, from.port())
}

#[test]
fn the_device_is_connected_to_from_the_leased_port_and_plays_whole() {
    let world = World::new("127.0.0.1");
    let listener = world.listen();
    let viewer = Viewer::waiting(world.standalone.http, "/live/cam.flv");
    let (connection, from) = accept(&listener);
    assert_eq!(from, world.leased(), "it comes from the port that is in the status");
    assert_eq!(census::held(world.numbers()), [Held::Connected(from)].into(), "nothing listens there");
    let stream = world.standalone.object("/streams", "live/cam").expect("it is there");
    assert_eq!(stream["status"]["ports"]["transport"], "TCPActive");
    assert_eq!(stream["status"]["source"], "RTP/TCPActive");
    let endpoints = stream["status"]["endpoints"].as_array().expect("it can be played");
    assert!(
        endpoints.iter().all(|endpoint| endpoint["use"] == "Play"),
        "nobody comes to publish: {endpoints:?}"
    );
    let sender = world.send(connection);
    let viewer = viewer.join().expect("it plays");
    sender.join().expect("the sender does not panic").expect("the clip is sent");
    viewer.wait_whole(&Media::of_camera(&world.clip), SOON);
}

#[test]
fn a_device_that_refuses_is_connected_to_when_it_listens() {
    // Of the two addresses that the name has where there is IPv6, only one is ever listened on.
    let world = World::new("localhost");
    let port = world.leased();
    world.wait_said(&format!("connection refused by localhost:{}", world.device.port()));
    assert!(world.failures("Refused") >= 1.0);
    let listener = world.listen();
    let (connection, from) = accept(&listener);
    assert_eq!(from, port);
    let sender = world.send(connection);
    let stream = world.standalone.wait_live("live/cam");
    assert_eq!(stream["status"]["epoch"], 1, "all of it was one lease");
    assert_eq!(stream["status"]["publisher"]["remote"], world.device.to_string());
    // Its end is of no interest.
    drop(world);
    let _ = sender.join().expect("the sender does not panic");
}

#[test]
fn a_device_that_says_nothing_is_hung_up_on_and_connected_to_again() {
    let world = World::new("127.0.0.1");
    let listener = world.listen();
    let (mut silent, _) = accept(&listener);
    silent.set_read_timeout(Some(SOON)).expect("a limit can be set");
    // An end, or a reset.
    assert!(matches!(silent.read(&mut [0; 16]), Ok(0) | Err(_)), "nothing is said to it");
    world.wait_said(&format!("no media from {}", world.device));
    let (connection, from) = accept(&listener);
    assert_eq!(from, world.leased());
    assert!(world.failures("Silent") >= 1.0);
    let sender = world.send(connection);
    world.standalone.wait_live("live/cam");
    drop(world);
    let _ = sender.join().expect("the sender does not panic");
}

#[test]
fn a_device_that_hangs_up_or_falls_silent_is_connected_to_again_and_its_viewers_stay() {
    let mut world = World::new("127.0.0.1");
    let patient = over_rtp(
        "cam",
        &format!(
            "transport: TCPActive, remote: {{host: 127.0.0.1, port: {}}}, ssrc: \"{SSRC:010}\"",
            world.device.port()
        ),
        &format!("  publish: {{stallTimeout: {}s, resumeWindow: 30s}}\n", STALL.as_secs()),
    );
    world.standalone.write("cam.yaml", &patient);
    let listener = world.listen();
    let viewer = Viewer::waiting(world.standalone.http, "/live/cam.flv");
    world.options.seconds = Some(3.0);
    let (first, _) = accept(&listener);
    world.send(first).join().expect("the sender does not panic").expect("it is sent and closed");
    let viewer = viewer.join().expect("it plays");

    let (second, from) = accept(&listener);
    assert_eq!(from, world.leased(), "from the same port as before");
    let before = viewer.media().video.len();
    world.options.rate = 2.0;
    // Sent, and then neither closed nor gone on with.
    let kept = second.try_clone().expect("a socket's descriptor can be cloned");
    let sent = ps_sender::send_some(second, &world.options, &world.clip).expect("it is sent");
    viewer.wait_pictures(before + 50, SOON);
    let (third, _) = accept(&listener);
    drop((sent, kept));
    let before = viewer.media().video.len();
    let sender = world.send(third);
    viewer.wait_pictures(before + 50, SOON);
    assert!(viewer.plays());
    drop(world);
    let _ = sender.join().expect("the sender does not panic");
}

#[test]
fn a_device_that_accepts_and_closes_is_tried_ever_less_often() {
    let world = World::new("127.0.0.1");
    let listener = world.listen();
    let connection = accept(&listener);
    let first = Instant::now();
    drop(connection);
    drop(accept(&listener));
    drop(accept(&listener));
    // 250 and 500 ms, a quarter less at most; before the first there may have been attempts while nobody listened.
    assert!(first.elapsed() >= Duration::from_millis(562), "{:?} for two attempts", first.elapsed());
    world.wait_said(&format!("{} closed the connection before any media", world.device));
    let epoch =
        world.standalone.object("/streams", "live/cam").expect("it is there")["status"]["epoch"].clone();
    assert_eq!(epoch, 1);
}

#[test]
fn a_pool_that_shrinks_has_the_device_connected_to_from_another_port() {
    let mut world = World::new("127.0.0.1");
    let listener = world.listen();
    let (first, old) = accept(&listener);
    world.options.rounds = 0;
    let (options, clip) = (world.options.clone(), world.clip.clone());
    let sender = world.send(first);
    let before = world.standalone.wait_live("live/cam");
    let viewer = Viewer::open(world.standalone.http, "/live/cam.flv");
    viewer.wait_pictures(25, SOON);

    let numbers = world.ports.first() + 4..=world.ports.first() + 5;
    world.standalone.write("pool.yaml", &format!("{}  shrink: {{policy: Move}}\n", pool(&numbers)));
    let (second, new) = accept(&listener);
    assert!(numbers.contains(&new), "{new}");
    let _ = sender.join().expect("the sender does not panic").expect_err("its connection was ended");
    let sender = std::thread::spawn(move || ps_sender::send_on(second, &options, &clip));
    let moved = world.standalone.wait_stream("live/cam", "the other port alone", SOON, |stream| {
        let ports = &stream["status"]["ports"];
        ports["rtp"] == new && ports["previous"].is_null()
    });
    assert_eq!(moved["status"]["epoch"], before["status"]["epoch"]);
    let seen = viewer.media().video.len();
    viewer.wait_pictures(seen + 25, SOON);
    assert!(viewer.plays(), "it has stayed");
    assert_eq!(census::held(old..=old), [].into(), "the former port is free");
    drop(world);
    let _ = sender.join().expect("the sender does not panic");
}

#[test]
fn whoever_listens_on_the_leased_port_costs_the_stream_another_one() {
    let world = World::new("127.0.0.1");
    let port = world.leased();
    // As most servers do, with SO_REUSEADDR: where nothing listens, that is let in.
    let _thief = eventually("a moment between two attempts", SOON, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|e| e.to_string())
    });
    let moved = world.standalone.wait_stream("live/cam", "another port", SOON, |stream| {
        condition(stream, "Ready") == "True" && stream["status"]["ports"]["rtp"] != port
    });
    let listener = world.listen();
    let (_, from) = accept(&listener);
    assert_eq!(moved["status"]["ports"]["rtp"], from);
    eventually("the thief in the pool's status", SOON, || {
        let pool = world.standalone.object("/pools", "pool")?;
        let problems = pool["status"]["problems"].as_array().cloned().unwrap_or_default();
        ensure(problems.iter().any(|problem| problem["port"] == port), || format!("{problems:?}"))
    });
}
