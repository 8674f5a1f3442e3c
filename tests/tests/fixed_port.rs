//! `spec.source.rtp.port`: this port and no other, however long it takes.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, over_rtp, pool, reason};

fn fixed(name: &str, port: u16) -> String {
    over_rtp(name, &format!("transport: TCPPassive, ssrcPolicy: Learn, port: {port}"), "")
}

fn port_of(stream: &Value) -> u64 {
    stream["status"]["ports"]["rtp"].as_u64().expect("a leased port is in the status")
}

#[test]
fn a_stolen_port_is_waited_for_and_then_had() {
    let ports = Block::take(4);
    let port = ports.first() + 2;
    let thief = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the number is ours");
    let standalone =
        Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("cam.yaml", &fixed("cam", port))]);
    let waiting = standalone
        .wait_stream("live/cam", "to wait", SOON, |stream| reason(stream, "PortsAllocated") == "PortTaken");
    let said = waiting["status"]["conditions"].to_string();
    assert!(said.contains(&format!("port {port} on node local is held by fixed_port")), "{said}");
    drop(thief);
    let ready = standalone.wait_ready("live/cam");
    assert_eq!(port_of(&ready), u64::from(port));
    assert_eq!(ready["status"]["ports"]["rtcp"], Value::Null);
}

#[test]
fn a_leased_port_goes_to_whoever_must_have_it_when_it_is_given_back() {
    let ports = Block::take(4);
    let port = ports.first();
    let any = over_rtp("any", "transport: TCPPassive, ssrcPolicy: Learn", "");
    let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("any.yaml", &any)]);
    assert_eq!(port_of(&standalone.wait_ready("live/any")), u64::from(port));
    standalone.write("cam.yaml", &fixed("cam", port));
    let waiting = standalone
        .wait_stream("live/cam", "to wait", SOON, |stream| reason(stream, "PortsAllocated") == "PortTaken");
    let said = waiting["status"]["conditions"].to_string();
    assert!(said.contains("is leased to stream live/any"), "{said}");
    standalone.remove("any.yaml");
    assert_eq!(port_of(&standalone.wait_ready("live/cam")), u64::from(port));
}
