//! Leases on real sockets of this host.

use std::net::TcpStream;

use super::*;

const DIGEST_OF_TWO: u64 = 0x6bd0_be36_782a_8b14;

fn stream(uid: &str) -> StreamRef {
    StreamRef { uid: uid.into(), epoch: 1 }
}

fn one(rtp: u16) -> Ports {
    Ports { rtp, rtcp: None }
}

fn pair(rtp: u16) -> Ports {
    Ports { rtp, rtcp: Some(rtp + 1) }
}

/// An even number, free in both transports together with the odd one after it. Tests run side by side, so a number is
/// never handed out twice; below the ephemeral range, so that no client's socket lands on it.
fn free_pair() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(2, Ordering::Relaxed);
        assert!(port < 30_000, "no free pair of ports on this host");
        let free = |port| listen(port).is_ok() && datagrams(port).is_ok();
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

#[test]
fn a_lease_opens_the_media_transport_alone_and_closes_on_drop() {
    for (transport, opened, tried) in [
        (RtpTransport::Udp, Protocol::Udp, Protocol::Tcp),
        (RtpTransport::TcpPassive, Protocol::Tcp, Protocol::Udp),
    ] {
        let ports = BoundPorts::default();
        let port = free_pair();
        let lease = ports.lease(&stream("a"), transport, pair(port)).unwrap();
        let expected = [(port, opened, stream("a")), (port + 1, opened, stream("a"))];
        assert_eq!(ports.all(), expected);
        assert_eq!(ports.owner(port, tried), None);
        assert_eq!(listen(port).is_ok(), opened == Protocol::Udp);
        assert_eq!(datagrams(port).is_ok(), opened == Protocol::Tcp);

        drop(lease);
        assert_eq!(ports.all(), []);
        assert!(listen(port).is_ok() && datagrams(port).is_ok());
        assert!(listen(port + 1).is_ok() && datagrams(port + 1).is_ok());
    }
}

#[test]
fn a_lease_that_leaks_stays_open_and_one_that_shares_opens_what_is_anothers() {
    let ports = BoundPorts::default();
    let (first, second) = (free_pair(), free_pair());
    ports.spoil_next(Flaw::Leaks);
    for leased in [first, first + 1] {
        drop(ports.lease(&stream("a"), RtpTransport::TcpPassive, one(leased)).unwrap());
    }
    assert_eq!(ports.all(), []);
    assert!(listen(first).is_err() && listen(first + 1).is_ok());
    let owner = ports.lease(&stream("a"), RtpTransport::Udp, one(second)).unwrap();
    ports.spoil_next(Flaw::Shares);
    drop(ports.lease(&stream("b"), RtpTransport::Udp, one(second + 1)).unwrap());
    let both = [(second, Protocol::Tcp, stream("b")), (second, Protocol::Udp, stream("a"))];
    assert_eq!(ports.all(), both);
    drop(owner);
}

#[test]
fn a_pair_is_bound_whole_or_not_at_all_and_the_error_names_the_number() {
    for transport in [RtpTransport::Udp, RtpTransport::TcpPassive] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = BoundPorts::default();
            let port = free_pair();
            let thief: Box<dyn std::any::Any> = match protocol {
                Protocol::Tcp => Box::new(TcpListener::bind(("127.0.0.1", port + 1)).unwrap()),
                Protocol::Udp => Box::new(UdpSocket::bind(("127.0.0.1", port + 1)).unwrap()),
            };
            let error = ports.lease(&stream("a"), transport, pair(port)).unwrap_err();
            assert_eq!((error.port, error.protocol, &error.own), (port + 1, protocol, &None));
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
            assert_eq!(ports.all(), []);
            assert!(listen(port).is_ok() && datagrams(port).is_ok());

            drop(thief);
            ports.lease(&stream("a"), transport, pair(port)).unwrap();
        }
    }
}

#[test]
fn a_number_held_by_a_stream_of_this_worker_is_known_as_own() {
    let ports = BoundPorts::default();
    let port = free_pair();
    let _held = ports.lease(&stream("a"), RtpTransport::Udp, one(port)).unwrap();
    let error = ports.lease(&stream("b"), RtpTransport::TcpPassive, one(port)).unwrap_err();
    assert_eq!((error.protocol, error.own.clone()), (Protocol::Udp, Some(stream("a"))));
    assert!(error.to_string().starts_with(&format!("port {port}/udp of stream b: ")), "{error}");
}

#[test]
fn a_listener_that_closed_first_is_bound_again_at_once() {
    let ports = BoundPorts::default();
    let port = free_pair();
    let lease = ports.lease(&stream("a"), RtpTransport::TcpPassive, one(port)).unwrap();
    let Media::Tcp(listener) = &lease.media else { panic!("a TCP lease") };
    let peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    listener.socket().set_nonblocking(false).unwrap();
    let (accepted, _) = listener.socket().accept().unwrap();
    // Our side closes first, so that it is ours that stays in TIME_WAIT.
    drop(accepted);
    drop(lease);
    drop(peer);
    ports.lease(&stream("b"), RtpTransport::TcpPassive, one(port)).unwrap();
}

#[test]
fn a_number_to_connect_from_is_ours_and_is_connected_from_again_and_again() {
    let ports = BoundPorts::default();
    let port = free_pair();
    let lease = ports.lease(&stream("a"), RtpTransport::TcpActive, one(port)).unwrap();
    assert_eq!(ports.all(), [(port, Protocol::Tcp, stream("a"))]);
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let bound = plain.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    assert_eq!(bound.unwrap_err().kind(), io::ErrorKind::AddrInUse);

    let device = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = device.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    for _ in 0..3 {
        let socket = runtime.block_on(outgoing(port, address).unwrap().connect(address)).unwrap();
        let (accepted, from) = device.accept().unwrap();
        assert_eq!(from.port(), port);
        // Ours closes first: without the reset the two ports would be in TIME_WAIT.
        drop(socket);
        drop(accepted);
    }

    // Whoever listens there all the same is met by the next one.
    let thief = listen(port).unwrap();
    assert_eq!(outgoing(port, address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(thief);
    drop(lease);
    assert_eq!(ports.all(), []);
    let thief = listen(port).unwrap();
    let error = ports.lease(&stream("a"), RtpTransport::TcpActive, one(port)).unwrap_err();
    assert_eq!((error.port, error.protocol), (port, Protocol::Tcp));
    drop(thief);
}

#[test]
fn datagrams_reach_a_lease_over_both_families() {
    let ports = BoundPorts::default();
    let port = free_pair();
    let lease = ports.lease(&stream("a"), RtpTransport::Udp, one(port)).unwrap();
    let Media::Udp(leased) = &lease.media else { panic!("a UDP lease") };
    leased.socket().set_nonblocking(false).unwrap();
    leased.socket().set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut senders = vec![("127.0.0.1", UdpSocket::bind("127.0.0.1:0").unwrap())];
    if let Ok(sender) = UdpSocket::bind("[::1]:0") {
        senders.push(("::1", sender));
    }
    for (host, sender) in senders {
        sender.send_to(host.as_bytes(), (host, port)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = leased.socket().recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], host.as_bytes());
        assert_eq!(from.ip().to_canonical().to_string(), host);
    }
}

#[test]
fn the_digest_is_fnv_1a_over_the_contracts_fields() {
    assert_eq!(digest(std::iter::empty()), 0xcbf2_9ce4_8422_2325);
    let (a, b) = (stream("a"), StreamRef { uid: "b".into(), epoch: 258 });
    // Worked out by hand with another implementation of FNV-1a 64 over 4e20 61 00 0000000000000001, 4e22 62 00 0000000000000102.
    assert_eq!(digest([(20000, &a), (20002, &b)].into_iter()), DIGEST_OF_TWO);
    assert_ne!(digest([(20000, &b), (20002, &a)].into_iter()), DIGEST_OF_TWO);
}
