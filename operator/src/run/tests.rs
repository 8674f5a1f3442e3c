//! What is told of a write besides its outcome.

use operator_core::{ids::UnixTime, status::Failover};

use operator_core::ids::WorkerName;

use super::*;

fn status(gap_ms: Option<u64>) -> StreamStatus {
    let failover = Failover {
        at: UnixTime(7),
        from: WorkerName::from("one"),
        to: WorkerName::from("other"),
        reason: Reason::WorkerLost,
        gap_ms,
    };
    StreamStatus { last_failover: Some(failover), ..StreamStatus::default() }
}

#[test]
fn a_failover_is_measured_once_when_it_ends() {
    let (none, begun, ended) = (StreamStatus::default(), status(None), status(Some(1200)));
    let took = Some(Duration::from_millis(1200));
    for (before, after, told) in [
        (Some(&none), &none, None),
        (Some(&none), &begun, None),
        (Some(&begun), &ended, took),
        // Claim and acknowledgement may meet in one write.
        (Some(&none), &ended, took),
        (None, &ended, took),
        (Some(&ended), &ended, None),
    ] {
        assert_eq!(failover_ended(before, after), told, "{before:?}");
    }
}
