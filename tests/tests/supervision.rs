//! Two processes that stand and fall as they should: a worker that dies is back, a parent that dies takes it along.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::census;
use tests::eventually::{ensure, eventually};
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::running::signal_pid;
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool, pushed};

/// Long beside what is promised (under a second), short beside what would be a hang.
const END: Duration = Duration::from_secs(1);

#[test]
fn a_killed_worker_is_back_with_the_same_streams_and_ports() {
    let ports = Block::take(40);
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("cam.yaml", &pushed("cam", "")),
        ("udp.yaml", &over_rtp("udp", "transport: UDP, ssrc: \"0200000001\"", "")),
        ("tcp.yaml", &over_rtp("tcp", "transport: TCPPassive, ssrc: \"0200000002\"", "")),
    ]);
    let names = ["live/cam", "live/udp", "live/tcp"];
    let before = names.map(|name| standalone.wait_ready(name));
    let bound = census::held(ports.range());
    assert_eq!(bound.len(), 3, "UDP has two, TCP passive one: {bound:?}");
    let worker = standalone.worker_pid();
    let log = standalone.log();
    assert!(log.contains(&format!(" pid={worker} ")), "a person finds the process by the log: {log}");
    signal_pid(worker, Signal::KILL);
    for (name, before) in names.iter().zip(&before) {
        let after = standalone.wait_stream(name, "Ready at a higher epoch", SOON, |stream| {
            condition(stream, "Ready") == "True" && epoch(stream) > epoch(before)
        });
        assert_eq!(after["status"]["ports"], before["status"]["ports"], "{name} has its own numbers back");
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    }
    assert_ne!(standalone.worker_pid(), worker);
    assert_eq!(census::held(ports.range()), bound);
    // It is not only said: it works.
    let _source = Source::start(standalone.rtmp, "live/cam");
    Viewer::open(standalone.http, "/live/cam.flv").wait_pictures(10, SOON);
}

#[test]
fn the_parents_death_ends_the_worker() {
    let mut standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    standalone.process().kill();
    eventually("the worker's end", END, || ensure(!census::runs(worker), || format!("pid {worker} runs")));
}

#[test]
fn ctrl_c_ends_both_in_under_a_second() {
    let ports = Block::take(10);
    let mut standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("cam.yaml", &pushed("cam", "")),
        ("udp.yaml", &over_rtp("udp", "transport: UDP, ssrc: \"0200000001\"", "")),
    ]);
    standalone.wait_ready("live/cam");
    standalone.wait_ready("live/udp");
    let source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    let worker = standalone.worker_pid();
    // Ctrl-C at a terminal reaches the whole process group.
    signal_pid(worker, Signal::INT);
    standalone.stop(END);
    assert!(!census::runs(worker), "the worker {worker} outlived the parent");
    assert!(census::held(ports.range()).is_empty());
    drop(source);
}

#[test]
fn sigterm_to_the_parent_alone_ends_both_in_under_a_second() {
    let mut standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    standalone.process().signal(Signal::TERM);
    let status = standalone.process().wait_end(END);
    assert!(status.success(), "{status}");
    assert!(!census::runs(worker), "the worker {worker} outlived the parent");
}

#[test]
fn it_starts_again_on_the_same_folder_and_ports_at_once() {
    let ports = Block::take(10);
    let mut standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("tcp.yaml", &over_rtp("tcp", "transport: TCPPassive, ssrc: \"0200000002\"", "")),
    ]);
    standalone.wait_ready("live/tcp");
    standalone.stop(END);
    standalone.run(&[]);
    standalone.wait_ready("live/tcp");
}

fn epoch(stream: &Value) -> i64 {
    stream["status"]["epoch"].as_i64().unwrap_or(0)
}
