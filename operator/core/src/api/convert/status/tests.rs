//! A status that is written and read back is the same: a new leader has nothing else.

use super::*;

fn kept(ports: status::LeasedPorts) {
    let status = status::StreamStatus { ports: Some(ports), ..Default::default() };
    assert_eq!(stream_status(&api_stream_status(&status)), status);
}

#[test]
fn a_lease_is_read_back_whatever_its_transport() {
    for transport in [RtpTransport::Udp, RtpTransport::TcpPassive, RtpTransport::TcpActive] {
        kept(status::LeasedPorts { pool: "media".into(), rtp: 20_000, rtcp: Some(20_001), transport });
    }
}
