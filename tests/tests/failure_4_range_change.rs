//! F4: a pool is edited while streams play: growth serves who waits, shrink waits for who is there or has them come over, nobody
//! loses a frame.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tests::census::{self, Held};
use tests::clips::{self, Clip, Pictures, Sound, h264_aac};
use tests::eventually::{ensure, eventually};
use tests::nal::{Media, Times, same_from_first_key};
use tests::player::Viewer;
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::publisher;
use tests::running::Running;
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool, pushed, reason};

const STREAMS: usize = 10;

#[test]
fn growth_and_shrink_disturb_nobody() {
    let ports = Block::take(40);
    // Two numbers at first: the third stream waits.
    let (first, last) = (ports.first(), ports.last());
    let mut files = vec![("pool.yaml".to_owned(), pool(&(first..=first + 1)))];
    for nth in 0..STREAMS {
        files.push((
            format!("cam{nth}.yaml"),
            pushed(&format!("cam{nth}"), "  publish: {resumeWindow: 1s}\n"),
        ));
    }
    let rtp = |nth: usize| {
        over_rtp(&format!("rtp{nth}"), &format!("transport: TCPPassive, ssrc: \"020000000{nth}\""), "")
    };
    files.extend((0..2).map(|nth| (format!("rtp{nth}.yaml"), rtp(nth))));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let standalone = Standalone::start(&files);
    let pids = (standalone.pid(), standalone.worker_pid());
    let held: Vec<Value> = (0..2).map(|nth| standalone.wait_ready(&format!("live/rtp{nth}"))).collect();

    let clip = h264_aac(30);
    let file = standalone.folder.file("original.flv");
    clips::as_flv(clip, &file);
    let original = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    let mut publishers: Vec<Running> = (0..STREAMS)
        .map(|nth| {
            let path = format!("live/cam{nth}");
            standalone.wait_ready(&path);
            let url = standalone.rtmp_url(&path);
            publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, &url)
        })
        .collect();
    let viewers: Vec<Viewer> = (0..STREAMS)
        .map(|nth| {
            standalone.wait_live(&format!("live/cam{nth}"));
            Viewer::open(standalone.http, &format!("/live/cam{nth}.flv"))
        })
        .collect();
    let epochs = |standalone: &Standalone| -> Vec<Value> {
        let epoch = |nth: usize| {
            standalone
                .object("/streams", &format!("live/cam{nth}"))
                .map(|stream| stream["status"]["epoch"].clone())
        };
        (0..STREAMS).map(|nth| epoch(nth).expect("it is there")).collect()
    };
    let before = epochs(&standalone);

    standalone.write("rtp2.yaml", &rtp(2));
    let waiting = standalone
        .wait_stream("live/rtp2", "to wait", SOON, |stream| condition(stream, "PortsAllocated") == "False");
    assert_eq!(reason(&waiting, "PortsAllocated"), "PoolExhausted");
    standalone.wait_pool("pool", "Exhausted", SOON, |pool| condition(pool, "Exhausted") == "True");
    standalone.write("pool.yaml", &pool(&(first..=last)));
    standalone.wait_ready("live/rtp2");
    let grown = standalone.wait_pool("pool", "grown", SOON, |pool| pool["status"]["capacity"] == 40);
    assert_ne!(condition(&grown, "Exhausted"), "True");

    // Shrunk away from under the first two, which stay where they are until they end by themselves.
    standalone.write("pool.yaml", &pool(&(first + 2..=last)));
    let draining = standalone.wait_pool("pool", "draining", SOON, |pool| pool["status"]["draining"] == 2);
    assert_eq!(condition(&draining, "Draining"), "True");
    assert_eq!(draining["status"]["capacity"], 38);
    for (nth, held) in held.iter().enumerate() {
        let now = standalone.object("/streams", &format!("live/rtp{nth}")).expect("it is there");
        assert_eq!(now["status"]["ports"], held["status"]["ports"]);
        assert_eq!(now["status"]["epoch"], held["status"]["epoch"]);
    }
    standalone.remove("rtp0.yaml");
    standalone.remove("rtp1.yaml");
    let drained = standalone.wait_pool("pool", "drained", SOON, |pool| pool["status"]["draining"] == 0);
    assert_ne!(condition(&drained, "Draining"), "True");

    for publisher in &mut publishers {
        publisher.wait_success(Duration::from_secs(90));
    }
    assert_eq!(epochs(&standalone), before, "no stream was moved");
    for (nth, viewer) in viewers.iter().enumerate() {
        viewer.wait_end(SOON);
        if let Err(wrong) = same_from_first_key(&original, &viewer.media(), Times::Exact) {
            panic!("viewer of cam{nth}: {wrong}");
        }
    }
    assert_eq!((standalone.pid(), standalone.worker_pid()), pids, "no process was started again");
    assert!(census::runs(pids.0) && census::runs(pids.1));
}

#[test]
fn who_waits_longest_is_served_first() {
    let ports = Block::take(10);
    let rtp = |name: &str| over_rtp(name, "transport: TCPPassive, ssrcPolicy: Learn", "");
    let standalone =
        Standalone::start(&[("pool.yaml", &pool(&(ports.first()..=ports.first()))), ("a.yaml", &rtp("a"))]);
    standalone.wait_ready("live/a");
    for name in ["b", "c"] {
        standalone.write(&format!("{name}.yaml"), &rtp(name));
        standalone.wait_stream(&format!("live/{name}"), "to wait", SOON, |stream| {
            reason(stream, "PortsAllocated") == "PoolExhausted"
        });
    }
    standalone.remove("a.yaml");
    standalone.wait_ready("live/b");
    let c = standalone.object("/streams", "live/c").expect("it is there");
    assert_eq!(reason(&c, "PortsAllocated"), "PoolExhausted");
    standalone.write("pool.yaml", &pool(&(ports.first()..=ports.first() + 1)));
    standalone.wait_ready("live/c");
}

const SSRC: u32 = 200_000_001;

/// A camera whose pool shrinks away from under it.
struct Camera {
    standalone: Standalone,
    transport: Transport,
    clip: ps_sender::Clip,
    file: std::path::PathBuf,
    ports: Block,
    before: Value,
}

impl Camera {
    fn new(transport: Transport) -> Camera {
        let ports = Block::take(20);
        let kind = match transport {
            Transport::Tcp => "TCPPassive",
            Transport::Udp => "UDP",
        };
        let rtp = format!("transport: {kind}, ssrc: \"{SSRC:010}\"");
        let cam = over_rtp("cam", &rtp, "  publish: {resumeWindow: 5s}\n");
        let numbers = ports.first()..=ports.first() + 9;
        let standalone = Standalone::start(&[("pool.yaml", &pool(&numbers)), ("cam.yaml", &cam)]);
        let file = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 16, gop_seconds: 2 }.file();
        let clip =
            ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
        let before = standalone.wait_ready("live/cam");
        Camera { standalone, transport, clip, file, ports, before }
    }

    /// The pool keeps none of the numbers that it had.
    fn shrink(&self, shrink: &str) {
        let numbers = self.ports.first() + 10..=self.ports.last();
        self.standalone.write("pool.yaml", &format!("{}  shrink: {shrink}\n", pool(&numbers)));
    }

    /// Waits until another number is shown beside the former.
    fn wait_two_ports(&self) -> Value {
        let old = rtp_port(&self.before);
        self.standalone.wait_stream("live/cam", "two ports", SOON, |stream| {
            let published = stream["status"]["endpoints"]
                .as_array()
                .map(|endpoints| endpoints.iter().filter(|endpoint| endpoint["use"] == "Publish").count());
            stream["status"]["ports"]["previous"]["rtp"] == old && published == Some(2)
        })
    }

    /// Waits until the former number is closed, in the status and on this host.
    fn wait_one_port(&self, new: u16) {
        let moved = self.standalone.wait_stream("live/cam", "one port", SOON, |stream| {
            stream["status"]["ports"]["previous"].is_null()
        });
        assert_eq!(moved["status"]["ports"]["rtp"], new);
        assert_eq!(moved["status"]["epoch"], self.before["status"]["epoch"], "it is the same assignment");
        let old = rtp_port(&self.before);
        eventually("the former port to be free", SOON, || {
            let held = census::held(old..=old + 1);
            ensure(!held.iter().any(|held| matches!(held, Held::Listening(_) | Held::Udp(_))), || {
                format!("{held:?}")
            })
        });
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        UdpSocket::bind(any(old)).expect("nobody has its number over UDP");
        TcpListener::bind(any(old)).expect("nobody has its number over TCP");
    }

    fn send(&self, port: u16, clip: &ps_sender::Clip) -> JoinHandle<Result<Sent, String>> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut options = Options::new(self.file.clone(), to, self.transport, SSRC);
        // A camera that is told to go says so: over TCP by closing.
        options.bye = self.transport == Transport::Udp;
        let clip = clip.clone();
        std::thread::spawn(move || ps_sender::send(&options, &clip))
    }

    /// The clip up to a key frame after about so many seconds, and from there on.
    fn halves(&self, seconds: i64) -> (ps_sender::Clip, ps_sender::Clip) {
        let at = |unit: &ps_sender::Unit| {
            unit.key && unit.dts >= seconds * 90_000 && Some(unit.codec) == self.clip.video
        };
        let cut = self.clip.units.iter().position(at).expect("there is a key frame each 2 s");
        let part = |units: &[ps_sender::Unit]| ps_sender::Clip { units: units.to_vec(), ..self.clip.clone() };
        (part(&self.clip.units[..cut]), part(&self.clip.units[cut..]))
    }

    fn said(&self, reason: &str) -> String {
        eventually(&format!("the event {reason}"), SOON, || {
            let events = self.standalone.page("/events")?;
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let found = items.into_iter().find(|event| event["reason"] == reason);
            found.map(|event| event.to_string()).ok_or_else(|| events.to_string())
        })
    }
}

fn rtp_port(stream: &Value) -> u16 {
    let port = stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status");
    u16::try_from(port).expect("a port")
}

fn a_camera_comes_over(transport: Transport) {
    let camera = Camera::new(transport);
    let standalone = &camera.standalone;
    let pids = (standalone.pid(), standalone.worker_pid());
    let old = rtp_port(&camera.before);
    let (first, rest) = camera.halves(6);
    let viewer = Viewer::waiting(standalone.http, "/live/cam.flv");
    let sender = camera.send(old, &first);
    standalone.wait_live("live/cam");
    camera.shrink("{policy: Move}");

    let both = camera.wait_two_ports();
    let new = rtp_port(&both);
    assert!((camera.ports.first() + 10..=camera.ports.last()).contains(&new));
    let draining =
        standalone.wait_pool("pool", "draining", SOON, |pool| condition(pool, "Draining") == "True");
    assert_eq!(draining["status"]["blockedBy"][0], "live/cam");
    let open = |port| match transport {
        Transport::Tcp => Held::Listening(port),
        Transport::Udp => Held::Udp(port),
    };
    for port in [old, new] {
        assert!(census::held(port..=port).contains(&open(port)), "{port} is open");
    }
    assert!(camera.said("PortsMoving").contains(&new.to_string()), "it says where to");

    sender.join().expect("the sender does not panic").expect("the first part is sent");
    let sender = camera.send(new, &rest);
    camera.wait_one_port(new);
    standalone.wait_pool("pool", "drained", SOON, |pool| pool["status"]["draining"] == 0);
    camera.said("PortsMoved");
    let viewer = viewer.join().expect("it plays");
    sender.join().expect("the sender does not panic").expect("the rest is sent");
    viewer.wait_end(SOON);

    let (sent, played) = (Media::of_camera(&camera.clip), viewer.media());
    let hashes = |media: &Media| media.video.iter().map(|unit| unit.hash).collect::<Vec<_>>();
    assert_eq!(played.video.len(), sent.video.len(), "no picture is lost, none is shown twice");
    assert!(hashes(&sent) == hashes(&played), "they are the same");
    let back = played.video.windows(2).find(|two| two[1].dts_ms <= two[0].dts_ms);
    assert!(back.is_none(), "time goes on: {back:?}");
    assert_eq!((standalone.pid(), standalone.worker_pid()), pids, "no process was started again");
}

#[test]
fn a_camera_over_tcp_comes_over_to_the_other_port_and_its_viewer_loses_nothing() {
    a_camera_comes_over(Transport::Tcp);
}

#[test]
fn a_camera_over_udp_comes_over_to_the_other_port_and_its_viewer_loses_nothing() {
    a_camera_comes_over(Transport::Udp);
}

#[test]
fn a_camera_that_nobody_invites_anew_loses_its_port_at_the_deadline() {
    let camera = Camera::new(Transport::Tcp);
    let standalone = &camera.standalone;
    let sender = camera.send(rtp_port(&camera.before), &camera.clip);
    standalone.wait_live("live/cam");
    camera.shrink("{policy: Move, deadline: 2s}");
    let both = camera.wait_two_ports();
    assert!(both["status"]["ports"]["previous"]["closesAt"].is_string(), "{both}");
    let new = rtp_port(&both);
    camera.wait_one_port(new);
    assert!(camera.said("DeadlineExceeded").contains(&new.to_string()));
    // Its connection is ended.
    sender.join().expect("the sender does not panic").expect_err("it was sending");
    standalone
        .wait_stream("live/cam", "no publisher", SOON, |stream| stream["status"]["publisher"].is_null());
    let sender = camera.send(new, &camera.clip);
    standalone.wait_live("live/cam");
    // The clip's end is of no interest.
    drop(camera);
    let _ = sender.join().expect("the sender does not panic");
}

#[test]
fn a_range_that_is_given_back_lets_a_camera_stay() {
    let camera = Camera::new(Transport::Udp);
    let standalone = &camera.standalone;
    let sender = camera.send(rtp_port(&camera.before), &camera.clip);
    standalone.wait_live("live/cam");
    camera.shrink("{policy: Move}");
    let both = camera.wait_two_ports();
    let (new, publisher) = (rtp_port(&both), both["status"]["publisher"].clone());
    standalone.write("pool.yaml", &pool(&camera.ports.range()));
    standalone.wait_stream("live/cam", "its port alone", SOON, |stream| {
        stream["status"]["ports"] == camera.before["status"]["ports"]
    });
    eventually("the other port to be closed", SOON, || {
        let held = census::held(new..=new + 1);
        ensure(held.is_empty(), || format!("{held:?}"))
    });
    let now = standalone.object("/streams", "live/cam").expect("it is there");
    assert_eq!(now["status"]["publisher"], publisher, "nobody noticed");
    assert_eq!(condition(&now, "Live"), "True");
    drop(camera);
    let _ = sender.join().expect("the sender does not panic");
}
