//! F1: a pool of 30 000 ports costs what one of 100 costs. Only leased ports are opened.

use std::time::Duration;

use tests::census::{self, Held};
use tests::eventually::{ensure, eventually};
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};

/// 16 MiB for the worker, 28 for both, in the release build.
const WORKER_RSS_MAX: u64 = 16 << 20;
const BOTH_RSS_MAX: u64 = 28 << 20;

#[test]
fn a_large_pool_costs_nothing_until_it_is_leased() {
    let counted = [100, 29_000].map(|ports: u16| {
        let standalone = Standalone::start(&[
            ("pool.yaml", &pool(&(1_000..=999 + ports))),
            ("cam.yaml", &pushed("cam", "")),
        ]);
        standalone.wait_ready("live/cam");
        let worker = standalone.worker_pid();
        eventually("idle memory within its bound", Duration::from_secs(15), || {
            let (of_worker, of_parent) = (census::rss_bytes(worker), census::rss_bytes(standalone.pid()));
            ensure(of_worker < WORKER_RSS_MAX && of_worker + of_parent < BOTH_RSS_MAX, || {
                format!("worker {} KiB, parent {} KiB", of_worker >> 10, of_parent >> 10)
            })
        });
        standalone.descriptors_at_rest()
    });
    assert_eq!(counted[0], counted[1], "descriptors of the worker");
}

#[test]
fn only_leased_ports_are_opened_and_only_in_their_protocol() {
    let ports = Block::take(100);
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("udp.yaml", &over_rtp("udp", "transport: UDP, ssrc: \"0200000001\"", "")),
        ("tcp.yaml", &over_rtp("tcp", "transport: TCPPassive, ssrc: \"0200000002\"", "")),
    ]);
    let udp = standalone.wait_ready("live/udp");
    let tcp = standalone.wait_ready("live/tcp");
    let port = |stream: &serde_json::Value, which: &str| {
        u16::try_from(stream["status"]["ports"][which].as_u64().expect("a number")).expect("a port")
    };
    let (rtp, rtcp) = (port(&udp, "rtp"), port(&udp, "rtcp"));
    assert_eq!((rtp % 2, rtcp), (0, rtp + 1), "a pair is even and odd");
    let wanted = [Held::Listening(port(&tcp, "rtp")), Held::Udp(rtp), Held::Udp(rtcp)];
    assert_eq!(census::held(ports.range()).into_iter().collect::<Vec<_>>(), wanted);
    let status =
        &standalone.wait_pool("pool", "counted", SOON, |pool| pool["status"]["leased"] == 3)["status"];
    assert_eq!(status["capacity"], 100);
    assert_eq!(status["free"], 97);
}
