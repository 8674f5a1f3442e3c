//! Streams that come, go and change on the shared port, and what is delivered to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::assignment::{RtpPorts, RtpTransport, SsrcPolicy};
use crate::seats::Peers;

fn source(transport: RtpTransport, ssrc: u32) -> RtpSource {
    let (ssrc, ssrc_policy) = (Some(ssrc), SsrcPolicy::Enforce);
    RtpSource { transport, ssrc, ssrc_policy, ports: RtpPorts::Shared, remote: None }
}

fn peer() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9).into()
}

/// The bytes of all that waits.
fn waiting(lease: &mut SharedLease) -> Vec<Bytes> {
    let datagram = |delivered| match delivered {
        Delivered::Datagram { bytes, .. } => bytes,
        Delivered::Connection { .. } => panic!("nobody connected"),
    };
    std::iter::from_fn(|| lease.take().map(datagram)).collect()
}

#[test]
fn a_datagram_goes_to_the_stream_of_its_ssrc_and_else_nowhere() {
    let routes = Routes::default();
    let mut one = routes.lease(&source(RtpTransport::Udp, 1));
    let mut two = routes.lease(&source(RtpTransport::Udp, 2));
    let tcp = routes.lease(&source(RtpTransport::TcpPassive, 3));
    for ssrc in [1, 2, 1] {
        assert_eq!(routes.deliver_datagram(ssrc, peer(), &[ssrc as u8]), Ok(()));
    }
    for ssrc in [3, 4] {
        assert_eq!(routes.deliver_datagram(ssrc, peer(), &[0]), Err(Undelivered::Unknown), "{ssrc}");
    }
    assert_eq!(
        (waiting(&mut one), waiting(&mut two)),
        (vec![Bytes::from_static(&[1]); 2], vec![Bytes::from_static(&[2])])
    );
    assert!(routes.knows(Protocol::Tcp, 3) && !routes.knows(Protocol::Udp, 3));
    drop((one, two, tcp));
    assert!(!routes.knows(Protocol::Tcp, 3));
    assert_eq!(routes.deliver_datagram(1, peer(), &[0]), Err(Undelivered::Unknown));
}

#[test]
fn what_finds_no_room_is_refused_and_what_is_taken_makes_room() {
    let routes = Routes::default();
    let mut lease = routes.lease(&source(RtpTransport::Udp, 1));
    let datagram = vec![0; 60_000];
    let fits = (QUEUED_BYTES_MAX / 60_000) as usize;
    for _ in 0..fits {
        assert_eq!(routes.deliver_datagram(1, peer(), &datagram), Ok(()));
    }
    assert_eq!(routes.deliver_datagram(1, peer(), &datagram), Err(Undelivered::Full));
    assert_eq!(routes.waiting.used(), 60_000 * fits as u64);
    drop(lease.take());
    assert_eq!(routes.deliver_datagram(1, peer(), &datagram), Ok(()));
    assert_eq!(waiting(&mut lease).len(), fits);
    for _ in 0..QUEUED_MAX {
        assert_eq!(routes.deliver_datagram(1, peer(), &[0]), Ok(()));
    }
    assert_eq!(routes.deliver_datagram(1, peer(), &[0]), Err(Undelivered::Full));
    drop(lease);
    assert_eq!(routes.waiting.used(), 0, "what nobody took is given back");
}

#[test]
fn an_edit_takes_the_stream_along_and_frees_its_former_ssrc() {
    let routes = Routes::default();
    let mut lease = routes.lease(&source(RtpTransport::Udp, 1));
    lease.follow(&source(RtpTransport::Udp, 2));
    assert_eq!(routes.deliver_datagram(1, peer(), &[0]), Err(Undelivered::Unknown));
    assert_eq!(routes.deliver_datagram(2, peer(), &[2]), Ok(()));
    lease.follow(&source(RtpTransport::TcpPassive, 2));
    assert!(routes.knows(Protocol::Tcp, 2) && !routes.knows(Protocol::Udp, 2));
    assert_eq!(waiting(&mut lease).len(), 1, "what waited still waits");
}

#[test]
fn of_two_with_one_ssrc_the_later_has_it_and_the_end_of_the_former_changes_nothing() {
    let routes = Routes::default();
    let former = routes.lease(&source(RtpTransport::Udp, 1));
    let mut later = routes.lease(&source(RtpTransport::Udp, 1));
    drop(former);
    assert_eq!(routes.deliver_datagram(1, peer(), &[1]), Ok(()));
    assert_eq!(waiting(&mut later).len(), 1);
}

#[test]
fn a_connection_goes_to_its_stream_and_few_may_wait() {
    let routes = Routes::default();
    let mut lease = routes.lease(&source(RtpTransport::TcpPassive, 1));
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let deliver = |ssrc| {
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let seat = Peers::default().connections.take(peer().ip(), Duration::ZERO).unwrap();
        routes.deliver_connection(ssrc, socket, peer(), Bytes::from_static(b"pack"), seat)
    };
    assert_eq!(deliver(2), Err(Undelivered::Unknown));
    let fits = QUEUED_BYTES_MAX as usize / QUEUED_CONNECTION_BYTES;
    for _ in 0..fits {
        assert_eq!(deliver(1), Ok(()));
    }
    assert_eq!(deliver(1), Err(Undelivered::Full));
    let Some(Delivered::Connection { bytes, .. }) = lease.take() else { panic!("a connection waits") };
    assert_eq!(bytes, "pack");
    assert_eq!(deliver(1), Ok(()));
}
