//! F3: no port leaks, whoever ends a stream and whenever; a port that somebody else holds costs the user nothing.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use tests::census;
use tests::eventually::{ensure, eventually};
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool};

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

/// How a round's stream ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The sender is gone, then the object.
    Sender,
    /// The object is deleted while the sender sends.
    Object,
    /// The server's worker is killed while the sender sends, then the object is deleted.
    Server,
}

/// A plain generator, so that a run can be repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn rounds_of_make_send_end_leak_nothing() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
    };
    let (rounds, seed) = (number("PENSTOCK_ROUNDS", 60), number("PENSTOCK_SEED", 1));
    eprintln!("PENSTOCK_ROUNDS={rounds} PENSTOCK_SEED={seed}");
    let mut random = Random(seed);
    let pairs = 20;
    let ports = Block::take(2 * pairs);
    let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range()))]);
    let capacity = u64::from(2 * pairs);
    standalone.wait_pool("pool", "counted", SOON, |pool| pool["status"]["capacity"] == capacity);
    // What one round opens for good (a log, a timer) is there before the count.
    let mut warm = None;
    let mut rss_at_100 = None;
    for round in 0..rounds {
        let names: Vec<String> = (0..1 + random.next(4)).map(|nth| format!("r{round}-{nth}")).collect();
        for name in &names {
            let transport = if random.next(2) == 0 { "UDP" } else { "TCPPassive" };
            let rtp = format!("transport: {transport}, ssrc: \"{:010}\"", 100_000 + random.next(800_000));
            standalone.write(&format!("{name}.yaml"), &over_rtp(name, &rtp, ""));
        }
        let kind = match random.next(8) {
            0 => End::Server,
            1..4 => End::Sender,
            _ => End::Object,
        };
        let senders: Vec<Sender> = names
            .iter()
            .filter_map(|name| {
                // At a random moment: before it is Ready, or behind.
                if random.next(4) == 0 {
                    return None;
                }
                let stream = standalone.wait_ready(&format!("live/{name}"));
                Some(Sender::to(&stream, random.next(200) as usize))
            })
            .collect();
        match kind {
            End::Sender => drop(senders),
            End::Object => {}
            End::Server => {
                tests::running::signal_pid(standalone.worker_pid(), rustix::process::Signal::KILL);
            }
        }
        for name in &names {
            standalone.remove(&format!("{name}.yaml"));
        }
        if round == 0 {
            quiet(&standalone, &ports, capacity);
            warm = Some(census::descriptors(standalone.pid()));
        }
        if round == 99 {
            quiet(&standalone, &ports, capacity);
            rss_at_100 = Some(census::rss_bytes(standalone.pid()));
        }
    }
    quiet(&standalone, &ports, capacity);
    let warm = warm.expect("there was a round");
    eventually("descriptors as at the start", SOON, || {
        let now = census::descriptors(standalone.pid());
        ensure(now <= warm, || format!("{now}, at the start {warm}"))
    });
    if let Some(at_100) = rss_at_100 {
        let now = census::rss_bytes(standalone.pid());
        assert!(
            now <= at_100 + (2 << 20),
            "RSS of round 100: {} KiB, at the end {} KiB",
            at_100 >> 10,
            now >> 10
        );
    }
}

/// Waits until nothing of a round is left.
fn quiet(standalone: &Standalone, ports: &Block, capacity: u64) {
    let pool = standalone.wait_pool("pool", "free again", Duration::from_secs(30), |pool| {
        let of = |field: &str| pool["status"][field].as_u64().unwrap_or(u64::MAX);
        of("free").saturating_add(of("cooling")) == capacity
    });
    sums(&pool);
    eventually("no port of the pool held", SOON, || {
        let held = census::held(ports.range());
        let ours = held.iter().filter(|held| !matches!(held, census::Held::Connected(_))).count();
        ensure(ours == 0, || format!("{held:?}"))
    });
    eventually("an empty budget", SOON, || {
        let used = standalone.metric("penstock_budget_bytes", &[])?;
        ensure(used == 0.0, || format!("{used} bytes"))
    });
}

/// Sends what is noise to the product; the ledger does not care what comes.
enum Sender {
    #[expect(dead_code, reason = "held to keep the connection open")]
    Tcp(TcpStream),
    #[expect(dead_code, reason = "held to keep the socket open")]
    Udp(UdpSocket),
}

impl Sender {
    fn to(stream: &Value, packets: usize) -> Sender {
        let to = (Ipv4Addr::LOCALHOST, rtp_port(stream));
        // An RTP header, payload type 96, without PS behind it.
        let packet = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        if stream["status"]["ports"]["transport"] == "UDP" {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("an ephemeral port");
            for _ in 0..packets {
                // Refused once the stream has ended.
                let _ = socket.send_to(&packet, to);
            }
            return Sender::Udp(socket);
        }
        let mut socket = TcpStream::connect(to).expect("a Ready stream accepts");
        for _ in 0..packets {
            let _ = socket.write_all(&[&[0, packet.len() as u8][..], &packet].concat());
        }
        Sender::Tcp(socket)
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
