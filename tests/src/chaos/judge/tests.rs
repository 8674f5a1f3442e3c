use serde_json::json;

use super::*;

/// All is well.
fn well() -> Sight {
    let stream = |name: &str, rtp: u16, rtcp: Option<u16>| json!({ "metadata": { "name": name }, "status": { "ports": { "rtp": rtp, "rtcp": rtcp } } });
    let answer = |page, by_worker| Answer { page, by_worker, took: Duration::ZERO, status: Ok(200) };
    Sight {
        answers: vec![answer("/pools", false), answer("/ports", true), answer("health", true)],
        pools: Some(json!({ "items": [
            { "status": { "capacity": 20, "free": 15, "leased": 3, "cooling": 1, "quarantined": 1, "draining": 4 } },
            { "metadata": { "name": "new" } },
        ] })),
        streams: Some(json!({ "items": [
            stream("a", 20000, Some(20001)),
            stream("b", 20002, None),
            { "metadata": { "name": "pushed" }, "status": {} },
        ] })),
        ports: Some(json!({ "bound": [
            { "port": 20000, "protocol": "UDP", "uid": "a" },
            { "port": 20001, "protocol": "UDP", "uid": "a" },
            { "port": 20002, "protocol": "TCP", "uid": "b" },
        ] })),
        sockets: BTreeSet::from([
            Held::Udp(20000),
            Held::Udp(20001),
            Held::Listening(20002),
            Held::Connected(20002),
        ]),
        worker: Some((2, Expected::Yes)),
        parent: true,
        protected: vec![Protected {
            path: "live/one".into(),
            silent: Duration::ZERO,
            complaints: Vec::new(),
        }],
        ..Sight::default()
    }
}

/// What a sight is judged as at once, and when it has lasted for a minute.
fn check(change: impl Fn(&mut Sight)) -> [Option<Invariant>; 2] {
    let mut sight = well();
    change(&mut sight);
    let mut judge = Judge::default();
    [0, 60].map(|second| judge.judge(Duration::from_secs(second), &sight).err().map(|violation| violation.of))
}

const FINE: [Option<Invariant>; 2] = [None, None];

fn lasting(of: Invariant) -> [Option<Invariant>; 2] {
    [None, Some(of)]
}

fn at_once(of: Invariant) -> [Option<Invariant>; 2] {
    [Some(of), Some(of)]
}

#[test]
fn what_is_well_breaks_nothing() {
    assert_eq!(check(|_| {}), FINE);
}

#[test]
fn numbers_that_do_not_add_up_are_a_violation() {
    let one_less = |sight: &mut Sight| {
        sight.pools.as_mut().expect("it was seen")["items"][0]["status"]["free"] = 14.into();
    };
    assert_eq!(check(one_less), at_once(Invariant::Sum));
}

#[test]
fn a_number_of_two_streams_is_a_double_lease() {
    for (field, port) in [("rtp", 20000), ("rtp", 20001), ("rtcp", 20000)] {
        let twice = |sight: &mut Sight| {
            sight.streams.as_mut().expect("it was seen")["items"][1]["status"]["ports"][field] = port.into();
            sight.sockets.clear();
        };
        assert_eq!(check(twice), lasting(Invariant::DoubleLease), "{field} {port}");
    }
    let bound_twice = |sight: &mut Sight| {
        let other = json!({ "port": 20000, "protocol": "TCP", "uid": "b" });
        sight.ports.as_mut().expect("it was seen")["bound"].as_array_mut().expect("a list").push(other);
    };
    assert_eq!(check(bound_twice), at_once(Invariant::DoubleLease));
}

#[test]
fn a_socket_of_no_stream_is_a_leak_when_it_stays() {
    for socket in [Held::Udp(20004), Held::Listening(20004), Held::Connected(20004)] {
        let open = |sight: &mut Sight| {
            sight.sockets.insert(socket);
        };
        assert_eq!(check(open), lasting(Invariant::Leak), "{socket:?}");
    }
    // A page that did not come says nothing.
    assert_eq!(check(|sight| sight.streams = None), FINE);
}

#[test]
fn a_doubt_that_ends_begins_anew() {
    let (mut judge, well, mut leaks) = (Judge::default(), well(), well());
    leaks.sockets.insert(Held::Udp(20004));
    for (second, sight) in [(0, &leaks), (2, &well), (4, &leaks), (6, &leaks)] {
        assert_eq!(judge.judge(Duration::from_secs(second), sight), Ok(()), "{second} s");
    }
    let violation = judge.judge(Duration::from_secs(8), &leaks).expect_err("it has lasted for 4 s");
    assert!(
        violation.to_string().contains("a leak") && violation.to_string().contains("20004"),
        "{violation}"
    );
}

#[test]
fn pages_are_late_by_more_than_the_machine() {
    let took = |seconds: u64| move |sight: &mut Sight| sight.answers[0].took = Duration::from_secs(seconds);
    assert_eq!(check(took(2)), at_once(Invariant::Late));
    let late = |sight: &mut Sight| {
        took(2)(sight);
        sight.late = Duration::from_millis(300);
    };
    assert_eq!(check(late), FINE);
    assert_eq!(check(|sight| sight.answers[2].status = Err("refused".into())), at_once(Invariant::Late));
    assert_eq!(check(|sight| sight.answers[1].status = Ok(404)), at_once(Invariant::Late));
}

#[test]
fn a_thread_that_hangs_is_seen_by_health_and_by_viewers() {
    assert_eq!(check(|sight| sight.answers[2].status = Ok(503)), lasting(Invariant::Health));
    let (mut judge, mut hangs, mut aborted) = (Judge::default(), well(), well());
    hangs.answers[2].status = Ok(503);
    aborted.worker = Some((3, Expected::No));
    assert_eq!(judge.judge(Duration::ZERO, &hangs), Ok(()));
    let violation = judge.judge(Duration::from_millis(500), &aborted).expect_err("nobody killed it");
    assert_eq!(violation.of, Invariant::Health);
    assert_eq!(check(|sight| sight.protected[0].silent = Duration::from_secs(4)), at_once(Invariant::Stall));
    assert_eq!(
        check(|sight| sight.protected[0].complaints.push("one is missing".into())),
        at_once(Invariant::Loss)
    );
}

#[test]
fn a_kill_excuses_what_the_worker_does_for_a_while_and_nothing_of_the_operator() {
    let killed = |sight: &mut Sight| {
        sight.mending = Some(Duration::from_secs(1));
        sight.answers[1].status = Ok(503);
        sight.answers[2].status = Err("refused".into());
        sight.protected[0].silent = Duration::from_secs(10);
        sight.protected[0].complaints.push("closed".into());
        sight.sockets.clear();
    };
    assert_eq!(check(killed), FINE);
    let page = |sight: &mut Sight| {
        killed(sight);
        sight.answers[0].took = Duration::from_secs(2);
    };
    assert_eq!(check(page), at_once(Invariant::Late));
    assert_eq!(check(|sight| sight.mending = Some(Duration::from_secs(21))), at_once(Invariant::Back));
}

#[test]
fn the_rest_of_the_list_is_looked_at_too() {
    assert_eq!(check(|sight| sight.parent = false), at_once(Invariant::Died));
    assert_eq!(check(|sight| sight.worker = Some((3, Expected::No))), at_once(Invariant::Died));
    assert_eq!(check(|sight| sight.audit = 1.0), at_once(Invariant::Audit));
    assert_eq!(check(|sight| sight.panics = 1.0), at_once(Invariant::Panic));
    assert_eq!(check(|sight| sight.rss[0] = 1 << 30), at_once(Invariant::Memory));
    assert_eq!(check(|sight| sight.rss[1] = 1 << 30), at_once(Invariant::Memory));
}
