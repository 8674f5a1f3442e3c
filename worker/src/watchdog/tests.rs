//! What the watchdog reads of a thread and tells of it.

use proto::control::v1 as wire;

use super::*;
use crate::assignment::Assignment;
use crate::convert;
use crate::pulse::Thread;

/// Of Linux 6.18; the name holds a bracket and a blank.
const STAT: &str =
    "811 (a) R b) S 1 811 811 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 5 0 12345 1 1 18446744073709551615";

#[test]
fn cpu_time_comes_from_schedstat_or_else_from_stat() {
    let ns = Duration::from_nanos;
    let usage = parse_usage(STAT, "123456789 987654 33\n").unwrap();
    assert_eq!(usage, Usage { run: ns(123_456_789), delay: ns(987_654), runnable: false });
    let usage = parse_usage(&STAT.replace(") S", ") R"), "").unwrap();
    assert_eq!(usage, Usage { run: Duration::from_secs(3), delay: Duration::ZERO, runnable: true });
    assert_eq!(parse_usage("", ""), None);
    let own = Path::new("/proc/self/task").join(rustix::thread::gettid().as_raw_nonzero().to_string());
    assert!(super::usage(&own).unwrap().runnable);
}

fn assignment() -> Arc<Assignment> {
    let assign = wire::Assign {
        stream: Some(wire::StreamRef { uid: "uid".into(), epoch: 1 }),
        path: "live/s3cret".into(),
        namespace: "live".into(),
        name: "cam-1".into(),
        publish: Some(wire::PublishPolicy::default()),
        play: Some(wire::PlayPolicy::default()),
        ..wire::Assign::default()
    };
    Arc::new(convert::assignment(assign).unwrap())
}

#[test]
fn the_page_and_the_dump_name_thread_and_stream() {
    let pulse = Pulse::new(Thread::Shard(3));
    pulse.set_streams(2);
    pulse.doing("ingress", &assignment());
    let pulses = [pulse];
    let (judge, board) = (Judge::default(), Board::new(Clock::start(), 1));
    let state = State { judge: &judge, all_pass: true, board: &board, known: true, ending: false };
    let told = answers("b00t", &pulses, &state);
    let body: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!((told.ready, &body["bootId"], &body["ready"]), (true, &"b00t".into(), &true.into()));
    let told = answers("b00t", &pulses, &State { ending: true, ..state });
    assert_eq!((told.ready, told.alive), (false, true));
    let told = answers("b00t", &pulses, &State { known: false, ..state });
    assert_eq!((told.ready, told.alive), (false, true));
    let thread = &body["threads"][0];
    assert_eq!(
        (&thread["name"], &thread["streams"], &thread["state"]),
        (&"shard-3".into(), &2.into(), &"ok".into())
    );
    let dump = dump::state(&pulses);
    assert!(!dump.contains("s3cret"), "a path may be a key: {dump}");
    assert!(dump.contains("shard-3 (tid 0)") && dump.contains("2 streams, ingress of live/cam-1"), "{dump}");
}

#[test]
fn a_canary_that_fails_costs_readiness_and_no_life() {
    let (judge, board) = (Judge::default(), Board::new(Clock::start(), 1));
    let canary = canary::Canary { shard: 0, listener: canary::Listener::Rtmp };
    board.set_failing(canary, Some(Duration::ZERO));
    let told = answers(
        "b00t",
        &[],
        &State { judge: &judge, all_pass: false, board: &board, known: true, ending: false },
    );
    assert_eq!((told.ready, told.alive), (false, true));
    let body: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    let first = &body["canary"]["first"][0];
    assert_eq!((&first["shard"], &first["listener"]), (&0.into(), &"rtmp".into()));
}
