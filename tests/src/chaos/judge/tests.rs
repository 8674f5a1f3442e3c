use std::time::Duration;

use serde_json::json;

use super::{Answer, Invariant, Judge, Lease, Look, Process, Protected, Sight};
use crate::census::Held;
use crate::chaos::Ground;

/// What is otherwise than when all is well.
type Change = fn(&mut Sight);

const SECOND: Duration = Duration::from_secs(1);

/// All is well: a camera with two numbers, their sockets, a viewer, pages.
fn good() -> Sight {
    let objects = vec![
        json!({"kind": "PortPool", "status": {"capacity": 10, "free": 6, "leased": 2, "cooling": 1, "quarantined": 1}}),
        json!({"kind": "MediaStream", "metadata": {"name": "cam"},
               "status": {"assignment": {"node": "local"}, "ports": {"rtp": 20000, "rtcp": 20001}}}),
    ];
    let answer = |page: &str, mortal| Answer {
        page: page.into(),
        mortal,
        took: Duration::from_millis(10),
        status: Ok(200),
    };
    let lease = |port| Lease { node: "local".into(), port, stream: "uid".into() };
    let look = Look {
        answers: vec![answer("/pools", false), answer("health", true)],
        objects: Some(objects),
        bound: vec![lease(20000), lease(20001)],
        sockets: [20000, 20001].map(|port| ("local".into(), Held::Udp(port))).into(),
        processes: vec![Process { name: "worker".into(), pid: 7, rss: 20 << 20, worker: true }],
        ..Look::default()
    };
    let protected =
        vec![Protected { name: "live/push".into(), silent: Duration::ZERO, complaints: Vec::new() }];
    Sight { look, protected, ..Sight::default() }
}

/// What a judge says who sees the same for so many seconds, with a look each second.
fn after(seconds: u32, change: impl Fn(u32, &mut Sight)) -> Option<Invariant> {
    let mut judge = Judge::new(Ground::Standalone);
    for second in 0..=seconds {
        let mut sight = good();
        change(second, &mut sight);
        if let Err(violation) = judge.judge(second * SECOND, &sight) {
            return Some(violation.of);
        }
    }
    None
}

fn always(change: impl Fn(&mut Sight)) -> Option<Invariant> {
    after(60, |_, sight| change(sight))
}

#[test]
fn what_is_well_is_no_violation() {
    assert_eq!(always(|_| {}), None);
}

#[test]
fn what_is_false_at_any_instant_is_told_at_once() {
    let at_once = |change: Change| after(0, |_, sight| change(sight));
    let cases: [(Change, Invariant); 7] = [
        (|sight| sight.look.objects.as_mut().unwrap()[0]["status"]["free"] = json!(7), Invariant::Sum),
        (|sight| sight.look.audit = 1.0, Invariant::Audit),
        (|sight| sight.look.panics = 1.0, Invariant::Panic),
        (|sight| sight.died.push("worker".into()), Invariant::Died),
        (|sight| sight.look.processes[0].rss = 1 << 30, Invariant::Memory),
        (
            |sight| sight.look.bound.push(Lease { node: "local".into(), port: 20000, stream: "twin".into() }),
            Invariant::DoubleLease,
        ),
        (|sight| sight.protected[0].complaints.push("a gap".into()), Invariant::Loss),
    ];
    for (change, invariant) in cases {
        assert_eq!(at_once(change), Some(invariant));
    }
}

#[test]
fn what_may_be_a_moments_truth_is_told_when_it_lasts() {
    let leak = |sight: &mut Sight| sight.look.sockets.push(("local".into(), Held::Listening(20004)));
    let twin = |sight: &mut Sight| {
        let objects = sight.look.objects.as_mut().unwrap();
        let mut twin = objects[1].clone();
        twin["metadata"]["name"] = json!("twin");
        objects.push(twin);
    };
    let unhealthy = |sight: &mut Sight| sight.look.answers[1].status = Ok(503);
    let cases: [(Change, Invariant); 3] =
        [(leak, Invariant::Leak), (twin, Invariant::DoubleLease), (unhealthy, Invariant::Hang)];
    for (change, invariant) in cases {
        assert_eq!(always(change), Some(invariant));
        let for_moments = |second: u32, sight: &mut Sight| {
            if second.is_multiple_of(2) {
                change(sight);
            }
        };
        assert_eq!(after(60, for_moments), None, "{invariant:?}");
    }
    // On another node the same number is another.
    let elsewhere = |sight: &mut Sight| {
        twin(sight);
        sight.look.objects.as_mut().unwrap()[2]["status"]["assignment"]["node"] = json!("node2");
    };
    assert_eq!(always(elsewhere), None);
}

#[test]
fn silence_and_late_pages_are_told_beyond_their_limits_on_a_machine_that_is_not_late() {
    let silent = |sight: &mut Sight| sight.protected[0].silent = 7 * SECOND;
    assert_eq!(always(silent), Some(Invariant::Stall));
    let slow = |sight: &mut Sight| sight.look.answers[0].took = 6 * SECOND;
    assert_eq!(always(slow), Some(Invariant::Late));
    for change in [&silent as &dyn Fn(&mut Sight), &slow] {
        let on_a_late_machine = |sight: &mut Sight| {
            change(sight);
            sight.late = SECOND;
        };
        assert_eq!(always(on_a_late_machine), None);
    }
    assert_eq!(always(|sight| sight.look.answers[0].status = Err("reset".into())), Some(Invariant::Late));
}

#[test]
fn a_fault_excuses_what_is_lost_until_all_play_again_and_no_longer() {
    let fault = |second: u32, back: u32, lossy: bool| {
        move |now: u32, sight: &mut Sight| {
            let Some(since) = now.checked_sub(second) else { return };
            if since < back {
                sight.protected[0].silent = (1 + since) * SECOND;
                sight.protected[0].complaints.push("ended".into());
                sight.look.answers[1].status = Err("refused".into());
            } else if lossy && since > back + 2 {
                sight.protected[0].complaints.push("a gap".into());
            }
            // Whoever knows of faults forgets one when the judge is content; that is a look later.
            if since <= back {
                sight.fault = Some((since * SECOND, since == 0));
            }
        }
    };
    assert_eq!(after(60, fault(5, 10, false)), None);
    assert_eq!(after(60, fault(5, 10, true)), Some(Invariant::Loss));
    assert_eq!(after(60, fault(5, 40, false)), Some(Invariant::Back));
    // The parent is not mortal.
    let parent = |now: u32, sight: &mut Sight| {
        fault(5, 10, false)(now, sight);
        if now == 7 {
            sight.look.answers[0].status = Err("refused".into());
        }
    };
    assert_eq!(after(60, parent), Some(Invariant::Late));
}
