//! F5 under connections that come to nothing: reset, closed or left silent at each step of what a peer says. They leave nothing behind, and
//! real viewers lose nothing. `cargo xtask soak vanish` has 200 000 of them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tests::census;
use tests::eventually::{ensure, eventually};
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::soak::{Random, bounds, size};
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};
use tests::synthetic::gapless;

/// Connections that are open at one time.
const OPEN_MAX: usize = 5000;
/// Addresses that they come from, 127.0.0.2 and following: one has 28 000 ports, which rest for a minute each.
const ADDRESSES: u64 = 40;
/// A silent one is hung up on by then (limits.rs of the worker), and so is the last of them.
const SILENT: Duration = Duration::from_secs(12);
/// The allocator gives back what nobody uses after a second, and its own tables stay.
const BAND: u64 = 4 << 20;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Reset,
    Closed,
    /// It stays until room is needed for others, and is then closed.
    Silent,
}

/// What of the server is to be afterwards as it was before.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    held: usize,
    rss: u64,
}

impl Holdings {
    fn of(standalone: &Standalone, ports: &Block) -> Holdings {
        Holdings {
            descriptors: standalone.descriptors_at_rest(),
            held: census::held(ports.range()).len(),
            rss: census::rss_bytes(standalone.worker_pid()),
        }
    }
}

#[test]
fn connections_that_come_to_nothing_leave_nothing_and_cost_no_viewer_a_frame() {
    let connections = size("PENSTOCK_CONNECTIONS", 4000);
    let mut random = Random::from_environment();
    let ports = Block::take(4);
    let rtp = over_rtp("rtp", "transport: TCPPassive, ssrc: \"0200000001\"", "");
    let cam = pushed("cam", "");
    let files = [("pool.yaml", pool(&ports.range())), ("rtp.yaml", rtp), ("cam.yaml", cam)];
    let standalone = Standalone::start(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let stream = standalone.wait_ready("live/rtp");
    standalone.wait_ready("live/cam");
    let rtp = stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status");
    let rtp = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(rtp).expect("a port")));
    let source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    let viewers = [(); 3].map(|()| Viewer::open(standalone.http, "/live/cam.flv"));

    let targets = [(standalone.rtmp, rtmp_words()), (standalone.http, http_words()), (rtp, vec![0x55; 400])];
    // What a crowd opens for good (tables, buffers of threads) is there before the count.
    crowd(connections / 10, &targets, &mut random);
    wait_gone(&standalone);
    let before = Holdings::of(&standalone, &ports);
    let begun = Instant::now();
    crowd(connections, &targets, &mut random);
    eprintln!("{connections} connections in {:?}", begun.elapsed());
    wait_gone(&standalone);

    let pictures = viewers[0].media().video.len();
    for viewer in &viewers {
        viewer.wait_pictures(pictures + 30, SOON);
        assert_eq!(gapless(&viewer.media()), Ok(()));
    }
    assert!(source.runs());
    let after = Holdings::of(&standalone, &ports);
    eprintln!("before {before:?}, after {after:?}");
    assert!(after.descriptors <= before.descriptors, "{after:?}, {before:?} before");
    assert!(after.held <= before.held, "{after:?}, {before:?} before");
    if bounds() {
        eventually("memory as before", Duration::from_secs(60), || {
            let now = census::rss_bytes(standalone.worker_pid());
            ensure(now <= before.rss + BAND, || format!("{} KiB, {} before", now >> 10, before.rss >> 10))
        });
    }
    assert_eq!(standalone.metric("penstock_session_panics_total", &[]), Ok(0.0));
}

/// Waits until the server has none of them, but the viewers.
fn wait_gone(standalone: &Standalone) {
    eventually("all connections to be gone", SILENT + SOON, || {
        let viewers = standalone.metric("penstock_viewers", &[])?;
        let publishers = standalone.metric("penstock_publishers", &[])?;
        ensure((viewers, publishers) == (3.0, 1.0), || format!("{viewers} viewers, {publishers} publishers"))
    });
}

/// What an RTMP client says first, whole; some say a part of it.
fn rtmp_words() -> Vec<u8> {
    let mut words = vec![3];
    words.resize(1 + 2 * 1536, 0);
    words
}

fn http_words() -> Vec<u8> {
    b"GET /live/cam.flv HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()
}

/// Connections that say a part of their words, or all, and vanish.
fn crowd(count: usize, targets: &[(SocketAddr, Vec<u8>); 3], random: &mut Random) {
    let mut silent: VecDeque<TcpStream> = VecDeque::new();
    for _ in 0..count {
        // One in ten to a camera's port: where the few that wait there are not accepted yet, the kernel has one more come a second later.
        let (to, words) = &targets[[0, 1, 0, 1, 0, 1, 0, 1, 0, 2][random.next(10) as usize]];
        let from = Ipv4Addr::new(127, 0, 0, 2 + random.next(ADDRESSES) as u8);
        let mut socket = connect(from, *to);
        let said = random.next(words.len() as u64 + 1) as usize;
        // The server may have hung up: it is at its limit, or the words were enough for it.
        let _ = socket.write(&words[..said]);
        let end = [End::Reset, End::Closed, End::Silent][random.next(3) as usize];
        match end {
            End::Reset => {
                SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
            }
            End::Closed => {
                // Some read what there is first, so that it is no reset.
                let _ = socket.set_nonblocking(true).and_then(|()| socket.read(&mut [0; 4096]));
            }
            End::Silent => silent.push_back(socket),
        }
        if silent.len() >= OPEN_MAX {
            silent.drain(..OPEN_MAX / 10);
        }
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an ephemeral port");
    // Longer than the kernel asks again for, where the backlog is full.
    socket.connect_timeout(&to.into(), SOON).unwrap_or_else(|e| panic!("connecting to {to}: {e}"));
    socket.set_tcp_nodelay(true).expect("a socket takes options");
    TcpStream::from(socket)
}
