//! F2: a shard that hangs is seen, told and replaced; a session that panics ends alone; a machine under load aborts nothing; media that
//! does not pass is seen though each thread ticks.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::census;
use tests::eventually::{ensure, eventually, throughout};
use tests::http;
use tests::load::Source;
use tests::player::Viewer;
use tests::running::{Running, signal_pid};
use tests::standalone::{SOON, Standalone, condition, pushed};

const HOOKS: &[&str] = &["--test-hooks"];
/// A stuck shard is seen within 1 s (design §5: no tick for 700 ms).
const SEEN: Duration = Duration::from_secs(1);
/// And its streams are back within 12 s.
const BACK: Duration = Duration::from_secs(12);

/// A shard that moves no media is known within 10 s, a public listener that takes nobody within 12 (limits.rs of the worker); and as
/// much again for a busy machine, where what was late doesn't count.
const KNOWN: Duration = Duration::from_secs(24);
/// One round that passes is enough: a second to the next, three for one that is under way.
const PASSES: Duration = Duration::from_secs(10);

/// How long the machine is loaded, and the process stopped.
const ASSAULT: Duration = Duration::from_secs(10);

fn same_worker(standalone: &Standalone, worker: u32) -> Result<(), String> {
    let now = standalone.worker_pid();
    ensure(now == worker, || format!("the worker was {worker}, it is {now}:\n{}", standalone.log()))
}

fn fault(standalone: &Standalone, body: &str) {
    let answer = http::post(standalone.admin, "/debug/fault", body).expect("the admin page answers");
    assert!(matches!(answer.status, 200 | 202 | 204), "{body}: {} {}", answer.status, answer.body);
}

/// What the health port says, whatever its status.
fn health(standalone: &Standalone) -> Result<http::Response, String> {
    http::get(standalone.health, "/healthz").map_err(|e| e.to_string())
}

/// The old worker's Ready is there for a moment still; the new one's has a higher epoch.
fn wait_ready_again(standalone: &Standalone, before: &Value) {
    standalone.wait_stream("live/cam", "Ready at a higher epoch", BACK, |stream| {
        condition(stream, "Ready") == "True" && epoch(stream) > epoch(before)
    });
}

fn epoch(stream: &Value) -> i64 {
    stream["status"]["epoch"].as_i64().unwrap_or(0)
}

fn a_stuck_shard_is_seen_dumped_and_replaced(kind: &str) {
    let standalone = Standalone::start_with(HOOKS, &[("cam.yaml", &pushed("cam", ""))]);
    let before = standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    assert_eq!(health(&standalone).map(|answer| answer.status), Ok(200));
    fault(&standalone, &format!("{{\"kind\": \"{kind}\", \"path\": \"live/cam\"}}"));
    eventually("the health port to say so", SEEN, || {
        let status = health(&standalone)?.status;
        ensure(status == 503, || format!("status {status}"))
    });
    eventually("another worker", BACK, || {
        ensure(standalone.worker_pid() != worker, || format!("pid {worker}"))
    });
    wait_ready_again(&standalone, &before);
    let log = standalone.log();
    assert!(log.contains("shard"), "no word about the shard in the log:\n{log}");
    let _source = Source::start(standalone.rtmp, "live/cam");
    Viewer::open(standalone.http, "/live/cam.flv").wait_pictures(10, SOON);
}

#[test]
fn a_blocked_shard_is_seen_dumped_and_replaced() {
    a_stuck_shard_is_seen_dumped_and_replaced("block");
}

#[test]
fn a_spinning_shard_is_seen_dumped_and_replaced() {
    a_stuck_shard_is_seen_dumped_and_replaced("spin");
}

#[test]
fn a_shard_that_panics_is_replaced() {
    let standalone = Standalone::start_with(HOOKS, &[("cam.yaml", &pushed("cam", ""))]);
    let before = standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    fault(&standalone, "{\"kind\": \"panic\", \"path\": \"live/cam\"}");
    eventually("another worker", BACK, || {
        ensure(standalone.worker_pid() != worker, || format!("pid {worker}"))
    });
    wait_ready_again(&standalone, &before);
    let _source = Source::start(standalone.rtmp, "live/cam");
    Viewer::open(standalone.http, "/live/cam.flv").wait_pictures(10, SOON);
}

#[test]
fn a_panic_in_a_session_ends_that_session_alone() {
    let standalone =
        Standalone::start_with(HOOKS, &[("cam.yaml", &pushed("cam", "")), ("two.yaml", &pushed("two", ""))]);
    standalone.wait_ready("live/cam");
    standalone.wait_ready("live/two");
    let worker = standalone.worker_pid();
    let source = Source::start(standalone.rtmp, "live/cam");
    let _other = Source::start(standalone.rtmp, "live/two");
    let viewers = ["/live/cam.flv", "/live/two.flv"].map(|path| Viewer::open(standalone.http, path));
    viewers.iter().for_each(|viewer| viewer.wait_pictures(10, SOON));
    fault(&standalone, "{\"kind\": \"panic-session\", \"path\": \"live/cam\"}");
    eventually("the publisher's end", SOON, || ensure(!source.runs(), || "it publishes".to_owned()));
    viewers[1].wait_pictures(viewers[1].media().video.len() + 30, SOON);
    assert_eq!(standalone.worker_pid(), worker);
    // The stream itself is whole: its next publisher reaches the viewer that stayed.
    let _again = Source::start(standalone.rtmp, "live/cam");
    viewers[0].wait_pictures(viewers[0].media().video.len() + 30, SOON);
}

/// Waits until the health port tells of a canary that fails by `listener`, while all threads tick and the process lives on.
fn wait_failing(standalone: &Standalone, listener: &str) -> Value {
    eventually(&format!("a canary by {listener} to fail"), KNOWN, || {
        let answer = health(standalone)?;
        let page: Value = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {}", answer.body))?;
        let first = page["canary"]["first"].as_array().cloned().unwrap_or_default();
        let named = first.into_iter().find(|canary| canary["listener"] == listener);
        let ticks = page["threads"].as_array().is_some_and(|all| all.iter().all(|it| it["state"] == "ok"));
        ensure(answer.status == 503 && ticks, || format!("{} {}", answer.status, answer.body))?;
        let alive = http::get(standalone.health, "/livez").map_err(|e| e.to_string())?.status;
        ensure(alive == 200, || format!("/livez says {alive}"))?;
        named.ok_or(answer.body)
    })
}

fn wait_passing(standalone: &Standalone) {
    eventually("all canaries to pass again", PASSES, || {
        let answer = health(standalone)?;
        ensure(answer.status == 200, || format!("{} {}", answer.status, answer.body))
    });
}

#[test]
fn a_shard_that_ticks_and_sends_nothing_is_not_ready_until_it_does() {
    let standalone = Standalone::start_with(HOOKS, &[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    let _source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    fault(&standalone, "{\"kind\": \"mute\", \"path\": \"live/cam\"}");
    let named = wait_failing(&standalone, "private");
    // First media did not come by the kept sessions; those that came anew were not even answered.
    assert_eq!(named["missing"], "play, media", "{named}");
    assert!(named["sinceUnixMs"].as_u64().is_some_and(|since| since > 0), "{named}");
    let shard = format!("shard=\"{}\"", named["shard"]);
    assert_eq!(standalone.metric("penstock_canary_failing", &[&shard, "private"]), Ok(1.0));
    let age = standalone.metric("penstock_canary_age_seconds", &[&shard, "private"]);
    assert!(age.as_ref().is_ok_and(|age| *age > 3.0), "{age:?}");
    assert_eq!(http::get(standalone.admin, "/healthz").expect("it answers").status, 503);
    let seen = viewer.media().video.len();
    fault(&standalone, "{\"kind\": \"unmute\", \"path\": \"live/cam\"}");
    wait_passing(&standalone);
    viewer.wait_pictures(seen + 10, SOON);
    assert_eq!(standalone.metric("penstock_canary_failing", &[]), Ok(0.0));
    assert_eq!(standalone.worker_pid(), worker, "nothing was restarted for it:\n{}", standalone.log());
}

#[test]
fn a_public_listener_that_accepts_nobody_is_not_ready_until_it_does() {
    let standalone = Standalone::start_with(HOOKS, &[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    fault(&standalone, "{\"kind\": \"deafen\"}");
    wait_failing(&standalone, "rtmp");
    for listener in ["private", "http"] {
        let failing = standalone.metric("penstock_canary_failing", &[&format!("listener=\"{listener}\"")]);
        assert_eq!(failing, Ok(0.0), "{listener}");
    }
    fault(&standalone, "{\"kind\": \"undeafen\"}");
    wait_passing(&standalone);
    let _source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    assert_eq!(standalone.worker_pid(), worker, "nothing was restarted for it:\n{}", standalone.log());
}

#[test]
fn a_canary_that_does_nothing_is_not_ready_until_it_does() {
    let standalone = Standalone::start_with(HOOKS, &[]);
    wait_passing(&standalone);
    let worker = standalone.worker_pid();
    fault(&standalone, "{\"kind\": \"still\"}");
    let named = wait_failing(&standalone, "private");
    assert_eq!(named["missing"], "round", "{named}");
    fault(&standalone, "{\"kind\": \"unstill\"}");
    wait_passing(&standalone);
    assert_eq!(standalone.worker_pid(), worker, "nothing was restarted for it:\n{}", standalone.log());
}

#[test]
fn without_the_flag_there_are_no_hooks() {
    let standalone = Standalone::start(&[]);
    let answer = http::post(standalone.admin, "/debug/fault", "{\"kind\": \"block\"}").expect("it answers");
    assert_eq!(answer.status, 404);
}

#[test]
fn sixteen_burners_and_a_stopped_process_abort_nothing() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let (parent, worker) = (standalone.pid(), standalone.worker_pid());
    let _source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    let burners: Vec<Running> = (0..16)
        .map(|nth| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            Running::start("a burner", command, standalone.folder.file(&format!("burner-{nth}.log")))
        })
        .collect();
    throughout("the worker under load", ASSAULT, || same_worker(&standalone, worker));
    drop(burners);
    for pid in [worker, parent] {
        signal_pid(pid, Signal::STOP);
        throughout("a stopped process", ASSAULT, || ensure(census::runs(pid), || format!("pid {pid} ended")));
        signal_pid(pid, Signal::CONT);
        standalone.wait_stream("live/cam", "Ready", SOON, |stream| condition(stream, "Ready") == "True");
        // An abort would come now, when the watchdog wakes up and looks.
        throughout("the worker afterwards", Duration::from_secs(3), || same_worker(&standalone, worker));
    }
    assert_eq!(standalone.worker_pid(), worker, "the worker was replaced:\n{}", standalone.log());
    assert!(census::runs(parent));
    // Media was late at times, and so was all else: that is no media path that is dead.
    let log = standalone.log();
    assert!(!log.contains("a canary fails"), "a canary failed for want of CPU:\n{log}");
}
