//! GB28181 media on one port of TCP and UDP for all streams, told apart by SSRC.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use media::frame::Codec;
use serde_json::Value;
use tests::census;
use tests::clips::{Clip, Pictures, Sound};
use tests::eventually::{ensure, eventually};
use tests::nal::Media;
use tests::player::Viewer;
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::running::signal_pid;
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool, reason};

const SSRC: u32 = 200_000_000;
/// Of the streams here, so that a sender's end is known soon.
const PUBLISH: &str = "  publish: {stallTimeout: 2s, resumeWindow: 1s}\n";

/// One GOP, so that a viewer who comes late has all of it.
fn clip() -> Clip {
    Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 4, gop_seconds: 4 }
}

fn stream(name: &str, transport: Transport, ssrc: u32, publish: &str) -> String {
    let transport = match transport {
        Transport::Tcp => "TCPPassive",
        Transport::Udp => "UDP",
    };
    over_rtp(name, &format!("transport: {transport}, ssrc: \"{ssrc:010}\", shared: true"), publish)
}

struct Site {
    standalone: Standalone,
    /// Where all send to.
    shared: SocketAddr,
    clip: ps_sender::Clip,
    _ports: Block,
}

impl Site {
    fn new(files: &[(String, String)]) -> Site {
        let ports = Block::take(2);
        let shared = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first()));
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        let standalone = Standalone::start_with(&["--rtp-shared", &shared.to_string()], &files);
        let clip = ps_sender::read(&clip().file(), VideoChoice::Auto, AudioChoice::Auto);
        Site { standalone, shared, clip: clip.expect("ffmpeg reads its own"), _ports: ports }
    }

    /// With one stream, `live/cam`.
    fn with_one(transport: Transport, publish: &str) -> Site {
        let site = Site::new(&[("cam.yaml".to_owned(), stream("cam", transport, SSRC, publish))]);
        site.standalone.wait_ready("live/cam");
        site
    }

    fn options(&self, transport: Transport, ssrc: u32) -> Options {
        Options::new(clip().file(), self.shared, transport, ssrc)
    }

    /// The clip with sounds of its own for each SSRC, so that media of another stream is seen.
    fn clip_of(&self, ssrc: u32) -> ps_sender::Clip {
        let mut clip = self.clip.clone();
        let mark = ssrc.to_be_bytes();
        for unit in clip.units.iter_mut().filter(|unit| matches!(unit.codec, Codec::PcmA(_))) {
            unit.bytes.iter_mut().zip(mark.iter().cycle()).for_each(|(byte, mark)| *byte ^= mark);
        }
        clip
    }

    fn send(&self, options: Options) -> JoinHandle<Result<Sent, String>> {
        let clip = self.clip_of(options.ssrc);
        std::thread::spawn(move || ps_sender::send(&options, &clip))
    }

    /// Sends the clip of `live/cam` while a viewer has it, and compares.
    fn arrives(&self, transport: Transport) {
        let viewer = Viewer::waiting(self.standalone.http, "/live/cam.flv");
        let sender = self.send(self.options(transport, SSRC));
        let viewer = viewer.join().expect("it plays");
        sender.join().expect("the sender does not panic").expect("the clip is sent");
        viewer.wait_whole(&Media::of_camera(&self.clip_of(SSRC)), SOON);
    }

    fn unknown(&self, transport: &str) -> f64 {
        let label = format!("transport=\"{transport}\"");
        self.standalone.metric("penstock_rtp_shared_unknown_total", &[&label]).expect("it is counted")
    }

    fn wait_dropped(&self, reason: &str) {
        let label = format!("reason=\"{reason}\"");
        eventually(reason, SOON, || {
            let dropped = self.standalone.metric("penstock_dropped_total", &[&label])?;
            ensure(dropped > 0.0, || format!("{dropped}"))
        });
    }
}

fn publish_urls(stream: &Value) -> Vec<&str> {
    let endpoints = stream["status"]["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let publish = endpoints.iter().filter(|endpoint| endpoint["use"] == "Publish");
    publish.filter_map(|endpoint| endpoint["url"].as_str()).collect()
}

#[test]
fn two_hundred_devices_on_one_tcp_and_one_udp_port_arrive_whole() {
    const DEVICES: u32 = 200;
    let transport = |n: u32| if n.is_multiple_of(2) { Transport::Udp } else { Transport::Tcp };
    let file = |n| (format!("{n}.yaml"), stream(&format!("cam-{n}"), transport(n), SSRC + n, PUBLISH));
    let site = Site::new(&(0..DEVICES).map(file).collect::<Vec<_>>());
    eventually("all of them Ready", SOON, || {
        let list = site.standalone.page("/streams")?;
        let streams = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = streams.iter().filter(|stream| condition(stream, "Ready") == "True").count();
        ensure(ready == DEVICES as usize, || format!("{ready} of {DEVICES}"))
    });
    let mut players = Vec::new();
    // Not all key pictures in one moment: the next begin when these are heard.
    for first in (0..DEVICES).step_by(20) {
        let begun: Vec<_> = (first..first + 20)
            .map(|n| {
                let viewer = Viewer::waiting(site.standalone.http, &format!("/live/cam-{n}.flv"));
                (n, viewer, site.send(site.options(transport(n), SSRC + n)))
            })
            .collect();
        for (n, viewer, sender) in begun {
            let viewer = viewer.join().unwrap_or_else(|_| panic!("cam-{n} does not play"));
            players.push((n, viewer, sender));
        }
    }
    for (n, viewer, sender) in players {
        let sent = sender.join().expect("the sender does not panic");
        sent.unwrap_or_else(|error| panic!("cam-{n}: {error}"));
        eprintln!("cam-{n}");
        viewer.wait_whole(&Media::of_camera(&site.clip_of(SSRC + n)), SOON);
    }
    let held = census::held(site.shared.port()..=site.shared.port());
    assert_eq!(held.len(), 2, "one listens, one takes datagrams: {held:?}");
    let leased = site.standalone.page("/ports").expect("the page is there");
    assert_eq!(
        leased["bound"].as_array().map(Vec::len).unwrap_or_default(),
        0,
        "nothing is leased: {leased}"
    );
    assert_eq!((site.unknown("tcp"), site.unknown("udp")), (0.0, 0.0));
}

#[test]
fn the_status_says_where_to_send_and_no_pool_is_needed() {
    for (transport, scheme, source) in
        [(Transport::Tcp, "tcp", "RTP/TCPPassive"), (Transport::Udp, "udp", "RTP/UDP")]
    {
        let site = Site::with_one(transport, PUBLISH);
        let stream = site.standalone.object("/streams", "live/cam").expect("it is there");
        let (status, port) = (&stream["status"], site.shared.port());
        assert_eq!((&status["ports"]["rtp"], &status["ports"]["pool"]), (&port.into(), &Value::Null));
        assert_eq!(
            (condition(&stream, "PortsAllocated"), reason(&stream, "PortsAllocated")),
            ("True", "Shared")
        );
        assert_eq!(status["source"], source);
        assert_eq!(publish_urls(&stream), [format!("{scheme}://127.0.0.1:{port}")]);
    }
}

#[test]
fn an_ssrc_that_nobody_has_is_counted_and_costs_nothing() {
    let site = Site::with_one(Transport::Tcp, PUBLISH);
    let (worker, before) = (site.standalone.worker_pid(), site.standalone.descriptors_at_rest());
    // Of no stream, and of a stream that is not sent to this way.
    let strangers = [(Transport::Tcp, SSRC + 7), (Transport::Udp, SSRC + 7), (Transport::Udp, SSRC)];
    let strangers = strangers.map(|(transport, ssrc)| site.send(site.options(transport, ssrc)));
    eventually("the strangers counted", SOON, || {
        let (tcp, udp) = (site.unknown("tcp"), site.unknown("udp"));
        ensure(tcp > 0.0 && udp > 100.0, || format!("{tcp} of TCP, {udp} of UDP"))
    });
    site.arrives(Transport::Tcp);
    for stranger in strangers {
        // Over TCP it was hung up on: an error of its own.
        let _ = stranger.join().expect("the sender does not panic");
    }
    assert_eq!(site.unknown("tcp"), 1.0, "a connection is closed at its first packet");
    assert_eq!(site.standalone.descriptors_at_rest(), before, "of the worker {worker}");
    let log = site.standalone.log();
    assert_eq!(log.matches("an SSRC that no stream here has").count(), 1, "it is said once in a while");
}

#[test]
fn a_second_sender_of_the_same_ssrc_disturbs_nobody_and_takes_over_from_a_silent_one() {
    for transport in [Transport::Tcp, Transport::Udp] {
        // The first is silent for longer than a takeover takes, and for less than the stall that ends it.
        let site = Site::with_one(transport, "  publish: {stallTimeout: 5s, resumeWindow: 1s}\n");
        let mut rival = site.options(transport, SSRC);
        rival.rounds = 2;
        let viewer = Viewer::waiting(site.standalone.http, "/live/cam.flv");
        let first = site.send(site.options(transport, SSRC));
        site.standalone.wait_live("live/cam");
        let publisher = |stream: &Value| stream["status"]["publisher"]["remote"].clone();
        let holder = publisher(&site.standalone.object("/streams", "live/cam").expect("it is there"));
        let second = site.send(rival);
        site.wait_dropped("NotHolder");
        let stream = site.standalone.object("/streams", "live/cam").expect("it is there");
        assert_eq!(publisher(&stream), holder, "who holds it is heard");
        first.join().expect("the sender does not panic").expect("the clip is sent");
        site.standalone.wait_stream("live/cam", "held by the second", SOON, |stream| {
            condition(stream, "Live") == "True" && !publisher(stream).is_null() && publisher(stream) != holder
        });
        drop(viewer.join().expect("it plays"));
        // It is of no interest how it ends.
        let _ = second.join().expect("the sender does not panic");
    }
}

#[test]
fn networks_that_may_not_publish_are_refused() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let site = Site::with_one(transport, "  publish: {allowedCIDRs: [192.0.2.0/24]}\n");
        let sender = site.send(site.options(transport, SSRC));
        site.wait_dropped("Denied");
        // Over TCP it is hung up on.
        let _ = sender.join().expect("the sender does not panic");
        let stream = site.standalone.object("/streams", "live/cam").expect("it is there");
        assert_eq!((condition(&stream, "Live"), &stream["status"]["publisher"]), ("False", &Value::Null));
    }
}

#[test]
fn noise_before_the_first_pack_and_pieces_of_one_byte_are_borne() {
    let site = Site::with_one(Transport::Tcp, PUBLISH);
    let viewer = Viewer::waiting(site.standalone.http, "/live/cam.flv");
    let mut options = site.options(Transport::Tcp, SSRC);
    (options.noise, options.byte_wise) = (3000, true);
    let sender = site.send(options);
    let viewer = viewer.join().expect("it plays");
    sender.join().expect("the sender does not panic").expect("the clip is sent");
    viewer.wait_whole(&Media::of_camera(&site.clip_of(SSRC)), SOON);
}

#[test]
fn an_edit_of_ssrc_and_transport_is_followed_in_place() {
    let site = Site::with_one(Transport::Udp, PUBLISH);
    let epoch = |stream: &Value| stream["status"]["epoch"].clone();
    let before = epoch(&site.standalone.object("/streams", "live/cam").expect("it is there"));
    site.standalone.write("cam.yaml", &stream("cam", Transport::Tcp, SSRC + 1, PUBLISH));
    site.standalone.wait_stream("live/cam", "told by TCP", SOON, |stream| {
        publish_urls(stream).iter().all(|url| url.starts_with("tcp")) && condition(stream, "Ready") == "True"
    });
    site.standalone.write("cam.yaml", &stream("cam", Transport::Tcp, SSRC, PUBLISH));
    let generation = |stream: &Value| stream["status"]["observedGeneration"].as_i64();
    let stream = site.standalone.wait_stream("live/cam", "as it was edited last", SOON, |stream| {
        generation(stream) == Some(3) && condition(stream, "Ready") == "True"
    });
    assert_eq!(epoch(&stream), before, "nothing was bound anew");
    site.arrives(Transport::Tcp);
}

#[test]
fn of_two_streams_with_one_ssrc_the_older_has_it_and_the_other_follows() {
    let site = Site::with_one(Transport::Tcp, PUBLISH);
    let minute = Duration::from_secs(60);
    site.standalone.write_aged("twin.yaml", &stream("twin", Transport::Tcp, SSRC, PUBLISH), minute);
    let refused = |stream: &Value| reason(stream, "Accepted") == "SsrcConflict";
    site.standalone.wait_stream("live/cam", "refused", SOON, refused);
    site.standalone.wait_ready("live/twin");
    site.standalone.remove("twin.yaml");
    site.standalone.wait_ready("live/cam");
    site.arrives(Transport::Tcp);
}

#[test]
fn a_worker_that_was_killed_has_its_streams_and_their_senders_again() {
    let site = Site::with_one(Transport::Udp, PUBLISH);
    let mut options = site.options(Transport::Udp, SSRC);
    options.rounds = 5;
    let sender = site.send(options);
    site.standalone.wait_live("live/cam");
    let worker = site.standalone.worker_pid();
    signal_pid(worker, rustix::process::Signal::KILL);
    site.standalone.wait_stream("live/cam", "live on another process", SOON, |stream| {
        stream["status"]["failovers"] == 1 && condition(stream, "Live") == "True"
    });
    let stream = site.standalone.object("/streams", "live/cam").expect("it is there");
    assert_eq!(stream["status"]["ports"]["rtp"], site.shared.port());
    sender.join().expect("the sender does not panic").expect("the clip is sent");
}

#[test]
fn without_a_shared_port_a_stream_says_what_it_lacks_and_others_run() {
    let ports = Block::take(2);
    let leased = over_rtp("leased", &format!("ssrc: \"{SSRC:010}\", rtcp: false"), "");
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("shared.yaml", &stream("shared", Transport::Tcp, SSRC, "")),
        ("leased.yaml", &leased),
    ]);
    standalone.wait_stream("live/shared", "NoSharedPort", SOON, |stream| {
        ["Ready", "PortsAllocated"].iter().all(|kind| reason(stream, kind) == "NoSharedPort")
    });
    standalone.wait_ready("live/leased");
}

#[test]
fn the_shared_port_is_nobodys_lease() {
    let ports = Block::take(4);
    let shared = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first() + 1));
    let pool = pool(&(ports.first()..=ports.first() + 2));
    let standalone = Standalone::start_with(&["--rtp-shared", &shared.to_string()], &[("pool.yaml", &pool)]);
    standalone.wait_pool("pool", "two numbers of three", SOON, |pool| {
        (pool["status"]["capacity"].as_i64(), pool["status"]["free"].as_i64()) == (Some(2), Some(2))
    });
}
