//! `spec.source`, and how long a stream lives.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use tests::clips::{Clip, Pictures, Sound};
use tests::eventually::{ensure, eventually};
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool, pushed, reason};

use crate::effect::{CAM, Edit, Effect, unseen};
use crate::{Row, Seen};

const SSRC: u32 = 200_000_001;

pub(crate) const ROWS: &[Row] = &[
    Row { field: "mediastreams spec.path", seen: Seen::Here(path) },
    Row { field: "mediastreams spec.source.pull.url", seen: Seen::Here(pull_url) },
    Row { field: "mediastreams spec.source.pull.transport", seen: Seen::Here(pull_transport) },
    Row {
        field: "mediastreams spec.source.pull.credentialsSecretRef.name",
        seen: Seen::Here(pull_credentials),
    },
    Row { field: "mediastreams spec.source.pull.onDemand", seen: Seen::Here(pull_on_demand) },
    Row { field: "mediastreams spec.source.pull.idleTimeout", seen: Seen::Here(pull_idle_timeout) },
    Row { field: "mediastreams spec.source.rtp.transport", seen: Seen::Here(transport) },
    Row { field: "mediastreams spec.source.rtp.payload", seen: Seen::OneValue },
    Row { field: "mediastreams spec.source.rtp.ssrc", seen: Seen::Here(ssrc) },
    Row { field: "mediastreams spec.source.rtp.ssrcPolicy", seen: Seen::Here(ssrc_policy) },
    Row { field: "mediastreams spec.source.rtp.rtcp", seen: Seen::Here(rtcp) },
    Row { field: "mediastreams spec.source.rtp.port", seen: Seen::Here(port) },
    Row { field: "mediastreams spec.source.rtp.shared", seen: Seen::Here(shared) },
    Row { field: "mediastreams spec.source.rtp.remote.host", seen: Seen::Here(remote_host) },
    Row { field: "mediastreams spec.source.rtp.remote.port", seen: Seen::Here(remote_port) },
    Row { field: "mediastreams spec.portPoolRef.name", seen: Seen::Here(pool_ref) },
    Row { field: "mediastreams spec.releaseAfterIdle", seen: Seen::Here(release_after_idle) },
    Row { field: "mediastreams spec.ttlAfterIdle", seen: Seen::Here(ttl_after_idle) },
    Row { field: "mediastreams spec.placement.nodeSelector", seen: Seen::Scenario("placement_edits.txt") },
    Row { field: "mediastreams spec.placement.preferredNode", seen: Seen::Scenario("placement_edits.txt") },
    Row { field: "mediastreams spec.paused", seen: Seen::Here(paused) },
];

/// A pushed stream that plays.
fn push_edited(
    to: &str,
    effect: Effect,
    now: impl Fn(&Standalone, &Viewer) -> Result<(), String>,
) -> Result<(), String> {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready(CAM);
    let _source = Source::start(standalone.rtmp, CAM);
    standalone.wait_live(CAM);
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    let files = vec![("cam.yaml", to.to_owned())];
    let edit =
        Edit { standalone: &standalone, files, now: &mut || now(&standalone, &viewer), next: &mut unseen };
    edit.takes_effect(effect)?;
    if let Effect::Unchangeable | Effect::NotYet = effect {
        let before = viewer.media().video.len();
        viewer.wait_pictures(before + 30, SOON);
    }
    Ok(())
}

fn path(effect: Effect) -> Result<(), String> {
    push_edited(&pushed("cam", "  path: live/other\n"), effect, |_, _| unseen())
}

fn pulled(more: &str, effect: Effect) -> Result<(), String> {
    let source = format!("source: {{pull: {{url: \"rtsp://192.0.2.7/a\"{more}}}}}");
    let pulled = pushed("cam", "").replace("source: {push: {protocols: [RTMP]}}", &source);
    push_edited(&pulled, effect, |_, _| unseen())
}

fn pull_url(effect: Effect) -> Result<(), String> {
    pulled("", effect)
}

fn pull_transport(effect: Effect) -> Result<(), String> {
    pulled(", transport: TCP", effect)
}

fn pull_credentials(effect: Effect) -> Result<(), String> {
    pulled(", credentialsSecretRef: {name: keys}", effect)
}

fn pull_on_demand(effect: Effect) -> Result<(), String> {
    pulled(", onDemand: true", effect)
}

fn pull_idle_timeout(effect: Effect) -> Result<(), String> {
    pulled(", onDemand: true, idleTimeout: 10s", effect)
}

fn paused(effect: Effect) -> Result<(), String> {
    push_edited(&pushed("cam", "  paused: true\n"), effect, |standalone, viewer| {
        let stream = standalone.object("/streams", CAM)?;
        ensure(stream["status"]["phase"] == "Paused" && !viewer.plays(), || stream["status"].to_string())
    })
}

fn ttl_after_idle(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: TCPPassive", "");
    let gone = |_: &Site| match site.standalone.object("/streams", CAM) {
        Ok(_) => Err("it is there".to_owned()),
        Err(_) => Ok(()),
    };
    site.edited("transport: TCPPassive", "  ttlAfterIdle: 1s\n", effect, gone)
}

fn release_after_idle(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: TCPPassive", "");
    site.edited("transport: TCPPassive", "  releaseAfterIdle: 100ms\n", effect, |site| {
        let stream = site.standalone.object("/streams", CAM)?;
        ensure(reason(&stream, "Ready") == "Idle", || stream["status"].to_string())
    })
}

/// A stream over RTP, with a pool of eight numbers and another of two.
struct Site {
    standalone: Standalone,
    ports: Block,
    clip: ps_sender::Clip,
}

impl Site {
    fn new(rtp: &str, more: &str) -> Site {
        let ports = Block::take(12);
        let (first, shared) = (ports.first(), SocketAddr::from((Ipv4Addr::LOCALHOST, ports.last())));
        let other = pool(&(first + 8..=first + 9))
            .replace("name: pool", "name: other")
            .replace("default: true", "default: false");
        let standalone = Standalone::start_with(
            &["--rtp-shared", &shared.to_string()],
            &[
                ("pool.yaml", &pool(&(first..=first + 7))),
                ("other.yaml", &other),
                ("cam.yaml", &declared(rtp, more)),
            ],
        );
        standalone.wait_ready(CAM);
        let clip = ps_sender::read(&clip().file(), VideoChoice::Auto, AudioChoice::Auto);
        Site { standalone, ports, clip: clip.expect("ffmpeg reads its own") }
    }

    fn edited(
        &self,
        rtp: &str,
        more: &str,
        effect: Effect,
        now: impl Fn(&Site) -> Result<(), String>,
    ) -> Result<(), String> {
        let files = vec![("cam.yaml", declared(rtp, more))];
        Edit { standalone: &self.standalone, files, now: &mut || now(self), next: &mut unseen }
            .takes_effect(effect)
    }

    fn leased(&self) -> SocketAddr {
        let stream = self.standalone.wait_ready(CAM);
        let port = stream["status"]["ports"]["rtp"].as_u64().expect("it has a port");
        (Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")).into()
    }

    fn options(&self, transport: Transport, ssrc: u32) -> Options {
        Options::new(clip().file(), self.leased(), transport, ssrc)
    }

    fn send(&self, options: Options) -> JoinHandle<Result<Sent, String>> {
        let clip = self.clip.clone();
        std::thread::spawn(move || ps_sender::send(&options, &clip))
    }
}

fn clip() -> Clip {
    Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 12, gop_seconds: 2 }
}

fn declared(rtp: &str, more: &str) -> String {
    let ssrc = if rtp.contains("ssrc: ") { String::new() } else { format!(", ssrc: \"{SSRC:010}\"") };
    over_rtp("cam", &format!("{rtp}{ssrc}"), more)
}

fn transport(effect: Effect) -> Result<(), String> {
    Site::new("transport: UDP, rtcp: false", "").edited("transport: TCPPassive", "", effect, |_| unseen())
}

fn rtcp(effect: Effect) -> Result<(), String> {
    Site::new("transport: UDP, rtcp: false", "")
        .edited("transport: UDP, rtcp: true", "", effect, |_| unseen())
}

fn port(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: TCPPassive", "");
    let leased = site.leased().port();
    let other = if leased == site.ports.first() { leased + 1 } else { site.ports.first() };
    site.edited(&format!("transport: TCPPassive, port: {other}"), "", effect, |_| unseen())
}

fn shared(effect: Effect) -> Result<(), String> {
    Site::new("transport: TCPPassive", "")
        .edited("transport: TCPPassive, shared: true", "", effect, |_| unseen())
}

fn pool_ref(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: TCPPassive", "  portPoolRef: {name: pool}\n");
    site.edited("transport: TCPPassive", "  portPoolRef: {name: other}\n", effect, |_| unseen())
}

fn ssrc(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: TCPPassive", "");
    let mut options = site.options(Transport::Tcp, SSRC);
    options.rounds = 0;
    let sender = site.send(options);
    site.standalone.wait_live(CAM);
    let viewer = Viewer::open(site.standalone.http, "/live/cam.flv");
    let invited = format!("transport: TCPPassive, ssrc: \"{:010}\"", SSRC + 1);
    site.edited(&invited, "", effect, |_| ensure(sender.is_finished(), || "its sender goes on".to_owned()))?;
    let before = viewer.media().video.len();
    let mut options = site.options(Transport::Tcp, SSRC + 1);
    options.seconds = Some(3.0);
    site.send(options).join().expect("it does not panic")?;
    viewer.wait_pictures(before + 50, SOON);
    // It was hung up on.
    let _ = sender.join().expect("it does not panic");
    Ok(())
}

fn ssrc_policy(effect: Effect) -> Result<(), String> {
    let site = Site::new("transport: UDP, rtcp: false", "");
    let send_some = |site: &Site| {
        let mut options = site.options(Transport::Udp, SSRC + 1);
        options.seconds = Some(1.0);
        site.send(options).join().expect("it does not panic").map(drop)
    };
    send_some(&site)?;
    let live = |site: &Site| {
        condition(&site.standalone.object("/streams", CAM)?, "Live")
            .eq("True")
            .then_some(())
            .ok_or("not Live".to_owned())
    };
    ensure(live(&site).is_err(), || "another SSRC is taken before".to_owned())?;
    site.edited("transport: UDP, rtcp: false, ssrcPolicy: Learn", "", effect, |site| {
        send_some(site)?;
        live(site)
    })
}

/// A device of TCP active.
fn device(at: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(at).expect("the number is ours");
    listener.set_nonblocking(true).expect("a listener can be asked without waiting");
    listener
}

fn accept(listener: &TcpListener) -> Result<TcpStream, String> {
    let (connection, _) = listener.accept().map_err(|e| e.to_string())?;
    connection.set_nonblocking(false).map_err(|e| e.to_string())?;
    Ok(connection)
}

/// The device that is connected to plays, and another one is named.
fn another_device(other: fn(SocketAddr, u16) -> SocketAddr, effect: Effect) -> Result<(), String> {
    let numbers = Block::take(2);
    let first = SocketAddr::from((Ipv4Addr::LOCALHOST, numbers.first()));
    let second = other(first, numbers.last());
    let rtp =
        |at: SocketAddr| format!("transport: TCPActive, remote: {{host: {}, port: {}}}", at.ip(), at.port());
    let listener = device(first);
    let site = Site::new(&rtp(first), "");
    let connection = eventually("a connection to the device", SOON, || accept(&listener));
    let (mut options, clip) = (site.options(Transport::Tcp, SSRC), site.clip.clone());
    options.rounds = 0;
    let sender = std::thread::spawn(move || ps_sender::send_on(connection, &options, &clip));
    site.standalone.wait_live(CAM);
    let listener = device(second);
    site.edited(&rtp(second), "", effect, |_| {
        accept(&listener)?;
        eventually("the end of the former connection", SOON, || {
            ensure(sender.is_finished(), || "it is there".to_owned())
        });
        Ok(())
    })?;
    // It was hung up on.
    let _ = sender.join().expect("it does not panic");
    Ok(())
}

fn remote_host(effect: Effect) -> Result<(), String> {
    another_device(|first, _| (Ipv4Addr::new(127, 0, 0, 2), first.port()).into(), effect)
}

fn remote_port(effect: Effect) -> Result<(), String> {
    another_device(|first, other| (first.ip(), other).into(), effect)
}
