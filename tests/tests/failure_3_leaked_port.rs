//! F3: no port leaks, whoever ends a stream and whenever; a port that somebody else holds costs the user nothing.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use media::rtp::rfc4571;
use serde_json::Value;
use tests::eventually::{ensure, eventually, throughout};
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use tests::soak::{Random, size};
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool};
use tests::{census, clips};

/// What holds the port.
#[derive(Clone, Copy, Debug)]
enum Thief {
    Tcp,
    Udp,
    Both,
}

fn rtp_port(stream: &Value) -> u16 {
    u16::try_from(stream["status"]["ports"]["rtp"].as_u64().expect("a leased stream shows its port"))
        .expect("a port")
}

fn a_held_port_is_gone_around(thief: Thief, transport: &str) {
    let ports = Block::take(20);
    // Least recently released first: on a fresh pool that is the first number.
    let taken = ports.first();
    let _tcp = matches!(thief, Thief::Tcp | Thief::Both)
        .then(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, taken)).expect("the port is free"));
    let _udp = matches!(thief, Thief::Udp | Thief::Both)
        .then(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, taken)).expect("the port is free"));
    let rtp = format!("transport: {transport}, ssrc: \"0200000001\"");
    let standalone =
        Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("cam.yaml", &over_rtp("cam", &rtp, ""))]);
    let stream = standalone.wait_ready("live/cam");
    assert_ne!(rtp_port(&stream), taken, "{thief:?}, {transport}");
    assert!(ports.range().contains(&rtp_port(&stream)));
    let pool = standalone.wait_pool("pool", "the problem told", SOON, |pool| {
        pool["status"]["quarantined"].as_u64() > Some(0)
            && pool["status"]["problems"]
                .as_array()
                .is_some_and(|problems| problems.iter().any(|problem| problem["port"] == taken))
    });
    sums(&pool);
    eventually("an event about the port", SOON, || {
        let events = standalone.page("/events")?.to_string();
        ensure(events.contains(&taken.to_string()), || events.clone())
    });
}

#[test]
fn a_port_held_in_tcp_is_gone_around() {
    a_held_port_is_gone_around(Thief::Tcp, "TCPPassive");
}

#[test]
fn a_port_held_in_udp_is_gone_around() {
    a_held_port_is_gone_around(Thief::Udp, "UDP");
}

#[test]
fn a_port_held_in_the_leases_other_protocol_is_gone_around() {
    a_held_port_is_gone_around(Thief::Udp, "TCPPassive");
    a_held_port_is_gone_around(Thief::Tcp, "UDP");
}

#[test]
fn a_port_held_in_both_is_gone_around() {
    a_held_port_is_gone_around(Thief::Both, "UDP");
    a_held_port_is_gone_around(Thief::Both, "TCPPassive");
}

#[test]
fn quarantine_ends_when_the_holder_is_gone() {
    let ports = Block::take(20);
    let thief = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ports.first())).expect("the port is free");
    let rtp = "transport: TCPPassive, ssrc: \"0200000001\"";
    let standalone =
        Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("cam.yaml", &over_rtp("cam", rtp, ""))]);
    standalone.wait_ready("live/cam");
    standalone
        .wait_pool("pool", "in quarantine", SOON, |pool| pool["status"]["quarantined"].as_u64() > Some(0));
    drop(thief);
    let limit = Duration::from_secs(60);
    let pool =
        standalone.wait_pool("pool", "out of quarantine", limit, |pool| pool["status"]["quarantined"] == 0);
    sums(&pool);
}

#[track_caller]
fn sums(pool: &Value) {
    let of = |field: &str| pool["status"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {pool}"));
    let sum = of("free") + of("leased") + of("cooling") + of("quarantined");
    assert_eq!(sum, of("capacity"), "{}", pool["status"]);
}

/// How a round's streams end, while their cameras send.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The camera is gone first: its kernel closes the connection.
    Sender,
    /// The server closes first, since the stream is paused: TIME_WAIT is on the port of the pool.
    Server,
    /// The object is deleted.
    Object,
    /// The worker process is killed.
    Crash,
}

/// Streams over a pool of 20 pairs.
struct Rounds {
    standalone: Standalone,
    ports: Block,
    random: Random,
    clip: ps_sender::Clip,
}

impl Rounds {
    fn new() -> Rounds {
        let ports = Block::take(40);
        let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range()))]);
        standalone.wait_pool("pool", "counted", SOON, |pool| pool["status"]["capacity"] == 40);
        let file = clips::h264_aac(2).file();
        let clip = ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto);
        let clip = clip.expect("ffmpeg reads its own");
        Rounds { standalone, ports, random: Random::from_environment(), clip }
    }

    /// Makes up to four streams, sends to most of them, and ends them all by one of `ends`.
    fn round(&mut self, round: u64, ends: &[End]) {
        let Rounds { standalone, random, clip, .. } = self;
        let mut streams = Vec::new();
        for nth in 0..1 + random.next(4) {
            let (name, ssrc) = (format!("r{round}-{nth}"), 100_000 + random.next(800_000) as u32);
            let transport = if random.next(2) == 0 { "UDP" } else { "TCPPassive" };
            let yaml = over_rtp(&name, &format!("transport: {transport}, ssrc: \"{ssrc:010}\""), "");
            standalone.write(&format!("{name}.yaml"), &yaml);
            streams.push((name, ssrc, yaml));
        }
        let end = ends[random.next(ends.len() as u64) as usize];
        let mut senders = Vec::new();
        for (name, ssrc, _) in &streams {
            // At a random moment: before it is Ready, or after some packets.
            if random.next(4) > 0 {
                let stream = standalone.wait_ready(&format!("live/{name}"));
                senders.push(Sender::start(&stream, *ssrc, clip, random.next(250) as usize));
            }
        }
        match end {
            End::Sender => drop(senders),
            End::Server => {
                for (name, _, yaml) in &streams {
                    standalone.write(&format!("{name}.yaml"), &format!("{yaml}  paused: true\n"));
                }
                for (name, _, _) in &streams {
                    standalone.wait_stream(&format!("live/{name}"), "without ports", SOON, |stream| {
                        stream["status"]["ports"].is_null()
                    });
                }
            }
            End::Object => {}
            End::Crash => {
                tests::running::signal_pid(standalone.worker_pid(), rustix::process::Signal::KILL);
            }
        }
        for (name, _, _) in &streams {
            standalone.remove(&format!("{name}.yaml"));
        }
    }

    /// Waits until nothing of the rounds is left.
    fn wait_quiet(&self) {
        let pool = self.standalone.wait_pool("pool", "free again", Duration::from_secs(30), |pool| {
            let of = |field: &str| pool["status"][field].as_u64().unwrap_or(u64::MAX);
            of("free").saturating_add(of("cooling")) == 40
        });
        sums(&pool);
        eventually("no port of the pool held", SOON, || {
            let held = census::held(self.ports.range());
            let ours = held.iter().filter(|held| !matches!(held, census::Held::Connected(_))).count();
            ensure(ours == 0, || format!("{held:?}"))
        });
        eventually("an empty budget", SOON, || {
            let used = self.standalone.metric("penstock_budget_bytes", &[])?;
            ensure(used == 0.0, || format!("{used} bytes"))
        });
    }

    /// Both processes: the parent, then the worker.
    fn pids(&self) -> [u32; 2] {
        [self.standalone.pid(), self.standalone.worker_pid()]
    }
}

#[test]
fn rounds_of_make_send_end_leak_nothing() {
    let rounds = size("PENSTOCK_ROUNDS", 60);
    let mut run = Rounds::new();
    // What the first rounds open for good (a log, a timer) is there before the count.
    let (mut descriptors, mut rss) = (None, None);
    for round in 0..rounds {
        run.round(round, &[End::Sender, End::Server, End::Object]);
        if round == 9 {
            run.wait_quiet();
            descriptors = Some(run.pids().map(census::descriptors));
        }
        if round == 99 {
            run.wait_quiet();
            rss = Some(run.pids().map(census::rss_bytes));
        }
    }
    run.wait_quiet();
    let before = descriptors.expect("there were ten rounds");
    eventually("descriptors as at the start", SOON, || {
        let now = run.pids().map(census::descriptors);
        ensure(now[0] <= before[0] && now[1] <= before[1], || format!("{now:?}, at the start {before:?}"))
    });
    if let Some(before) = rss {
        // The allocator gives back what nobody uses after a second.
        eventually("memory as after round 100", SOON, || {
            let now = run.pids().map(census::rss_bytes);
            let told = format!(
                "KiB after round 100 and {rounds}: {:?}, {:?}",
                before.map(|b| b >> 10),
                now.map(|b| b >> 10)
            );
            ensure((0..2).all(|nth| now[nth] <= before[nth] + (2 << 20)), || told.clone())?;
            eprintln!("{told}");
            Ok::<(), String>(())
        });
    }
}

#[test]
fn rounds_with_crashes_of_the_worker_leak_nothing() {
    let rounds = size("PENSTOCK_ROUNDS", 60) / 4;
    let mut run = Rounds::new();
    let mut before = None;
    for round in 0..rounds {
        run.round(round, &[End::Sender, End::Server, End::Object, End::Crash]);
        if round == 9 {
            run.wait_quiet();
            before = Some(census::descriptors(run.standalone.pid()));
        }
    }
    run.wait_quiet();
    let before = before.expect("there were ten rounds");
    eventually("the parent's descriptors as at the start", SOON, || {
        let now = census::descriptors(run.standalone.pid());
        ensure(now <= before, || format!("{now}, at the start {before}"))
    });
}

/// A camera in the middle of its clip, with its socket open.
#[expect(dead_code, reason = "held to keep the socket open")]
enum Sender {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Sender {
    fn start(stream: &Value, ssrc: u32, clip: &ps_sender::Clip, packets: usize) -> Sender {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, rtp_port(stream)));
        let udp = stream["status"]["ports"]["transport"] == "UDP";
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let options = Options::new(PathBuf::new(), to, transport, ssrc);
        let packets = ps_sender::packets(&options, clip).into_iter().take(packets);
        if udp {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("an ephemeral port");
            for packet in packets {
                socket.send_to(&packet, to).expect("a Ready stream has its port open");
            }
            return Sender::Udp(socket);
        }
        let mut socket = TcpStream::connect(to).expect("a Ready stream accepts");
        for packet in packets {
            socket.write_all(&rfc4571::frame(&packet)).expect("a Ready stream reads");
        }
        Sender::Tcp(socket)
    }
}

/// The worker keeps a descriptor of a lease that is over: its table lacks it, and so do its beats.
#[test]
fn a_socket_that_the_worker_forgot_is_set_aside_and_counted() {
    let ports = Block::take(4);
    let standalone = Standalone::start_with(&["--test-hooks"], &[("pool.yaml", &pool(&ports.range()))]);
    standalone.wait_pool("pool", "counted", SOON, |pool| pool["status"]["capacity"] == 4);
    let answer = tests::http::post(standalone.admin, "/debug/fault", "{\"kind\": \"leak-port\"}");
    assert_eq!(answer.expect("the admin page answers").status, 202);
    let rtp = "transport: TCPPassive, ssrc: \"0200000001\"";
    standalone.write("cam.yaml", &over_rtp("cam", rtp, ""));
    let leaked = rtp_port(&standalone.wait_ready("live/cam"));
    standalone.remove("cam.yaml");
    // One of four meets the leak before anybody knows of it.
    for name in ["a", "b", "c", "d"] {
        standalone.write(&format!("{name}.yaml"), &over_rtp(name, rtp, ""));
    }
    let limit = Duration::from_secs(60);
    eventually("the leak counted", limit, || {
        let counted = standalone.metric("penstock_operator_incidents_total", &["kind=\"leak_repaired\""])?;
        ensure(counted == 1.0, || format!("{counted}"))
    });
    let worker = standalone.worker_pid();
    let sockets = census::held_by(worker, ports.range());
    assert!(sockets.len() == 4 && sockets.contains(&census::Held::Listening(leaked)), "{sockets:?}");
    assert!(
        standalone.log().contains("a leak: a socket is open that no stream has"),
        "a person is told what to do"
    );
    standalone.wait_pool("pool", "the leak told, and no other process blamed", SOON, |pool| {
        let problem = &pool["status"]["problems"][0];
        let is_told = problem["source"] == "Leak" && problem["port"] == leaked;
        is_told && condition(pool, "Conflicted") != "True"
    });
    // It is set aside, and nobody tries it or asks for it to be closed all the time.
    let asked = || standalone.log().lines().filter(|line| line.contains("leak that is to be closed")).count();
    let tried = || standalone.metric("penstock_bind_failures_total", &[]).unwrap_or(0.0);
    let (before, begun) = ((asked(), tried()), Instant::now());
    throughout("the leak", Duration::from_secs(5), || {
        let pool = standalone.object("/pools", "pool")?;
        sums(&pool);
        let leased = (&pool["status"]["quarantined"], &pool["status"]["leased"]);
        ensure(leased == (&1.into(), &3.into()), || pool["status"].to_string())
    });
    let often = (asked() - before.0) as f64 / begun.elapsed().as_secs_f64();
    assert!(often <= 2.0, "{often} times a second");
    assert_eq!(tried(), before.1);
    // The process that has it takes it along.
    tests::running::signal_pid(worker, rustix::process::Signal::KILL);
    for name in ["a", "b", "c", "d"] {
        standalone
            .wait_stream(&format!("live/{name}"), "Ready", limit, |it| condition(it, "Ready") == "True");
    }
}

#[test]
fn a_deleted_stream_made_again_has_its_own_number_back() {
    let ports = Block::take(20);
    let rtp = "transport: TCPPassive, ssrc: \"0200000001\"";
    let cam = over_rtp("cam", rtp, "");
    // A long cooldown: only its own path may have it back.
    let pool = pool(&ports.range()).replace("100ms", "60s");
    let standalone = Standalone::start(&[("pool.yaml", &pool), ("cam.yaml", &cam)]);
    let before = rtp_port(&standalone.wait_ready("live/cam"));
    standalone.remove("cam.yaml");
    standalone.wait_pool("pool", "cooling", SOON, |pool| pool["status"]["cooling"] == 1);
    standalone.write("other.yaml", &over_rtp("other", rtp, ""));
    assert_ne!(rtp_port(&standalone.wait_ready("live/other")), before);
    standalone.write("cam.yaml", &cam);
    let again = standalone.wait_ready("live/cam");
    assert_eq!(rtp_port(&again), before);
    assert_eq!(condition(&again, "PortsAllocated"), "True");
}
