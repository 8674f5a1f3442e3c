//! A status that is written and read back is the same: a new leader has nothing else.

use super::*;

fn kept(ports: status::RtpPorts) {
    let status = status::StreamStatus { ports: Some(ports), ..Default::default() };
    assert_eq!(stream_status(&api_stream_status(&status)), status);
}

#[test]
fn what_a_record_says_of_ports_is_read_back_whatever_their_transport_and_whose_they_are() {
    for transport in [RtpTransport::Udp, RtpTransport::TcpPassive, RtpTransport::TcpActive] {
        kept(status::RtpPorts {
            pool: Some("media".into()),
            rtp: 20_000,
            rtcp: Some(20_001),
            transport,
            previous: None,
        });
        kept(status::RtpPorts { pool: None, rtp: 10_000, rtcp: None, transport, previous: None });
    }
}

#[test]
fn numbers_that_others_take_the_place_of_are_read_back() {
    let (transport, rtp, rtcp) = (RtpTransport::Udp, 20_000, Some(20_001));
    for since in [None, Some(UnixTime(1_700_000_000))] {
        let closes_at = since.map(|UnixTime(since)| UnixTime(since + 3600));
        let previous = Some(status::PreviousPorts { rtp: 20_100, rtcp: Some(20_101), since, closes_at });
        kept(status::RtpPorts { pool: Some("media".into()), rtp, rtcp, transport, previous });
    }
}
