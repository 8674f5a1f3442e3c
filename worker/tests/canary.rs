//! The canary on real sockets: it passes by each listener on each shard, nobody sees it, and nobody else comes by its ways.
#![allow(clippy::unwrap_used, reason = "a test stops where its world is not as it set it up")]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{Plane, play_policy, publish_policy};
use media::rtmp::{ClientEvent, Role};
use tests::eventually::{ensure, eventually, throughout};
use tests::http;
use tests::rtmp::Connection;
use worker::canary::{self, Canary, Last, Listener, Outcome, Step};
use worker::counters::Counters;
use worker::shard::{Fault, ShardCommand};

/// The limit of each wait. Two shards are visited by two listeners in 4 s.
const SOON: Duration = Duration::from_secs(20);

fn plane(shards: usize) -> Plane {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut plane = Plane::start(shards, any, any);
    // So that front knows which paths there are.
    plane.declare("live/cam", publish_policy(), play_policy());
    plane
}

/// What the last round of a canary came to.
fn outcome(plane: &Plane, canary: Canary) -> Option<Outcome> {
    let last = plane.canary.board.all().into_iter().find(|(of, _)| *of == canary).unwrap().1;
    last.round.map(|round| round.outcome)
}

fn passes(plane: &Plane, canary: Canary) -> Result<(), String> {
    let outcome = outcome(plane, canary);
    ensure(matches!(outcome, Some(Outcome::Passed(_))), || format!("{canary:?}: {outcome:?}"))
}

fn all(shards: usize) -> Vec<Canary> {
    let of = |shard| Listener::ALL.map(|listener| Canary { shard, listener });
    (0..shards).flat_map(of).collect()
}

/// What users' metrics are made from.
fn counted(counters: &Counters) -> [u64; 9] {
    [
        counters.frames_in.value(),
        counters.bytes_in.value(),
        counters.bytes_out.value(),
        counters.sends.value(),
        counters.accepted.value(),
        counters.session_panics.value(),
        counters.viewers.value(),
        counters.streams.value(),
        worker::counters::DropReason::ALL.iter().map(|reason| counters.dropped(*reason)).sum(),
    ]
}

#[test]
fn media_passes_by_each_listener_and_shard_and_no_user_sees_it() {
    let mut plane = plane(2);
    let before: Vec<_> = plane.shards.iter().map(|shard| counted(&shard.counters)).collect();
    canary::spawn(plane.canary.clone()).unwrap();
    for canary in all(2) {
        eventually("each canary", SOON, || passes(&plane, canary));
    }
    // Through a renewal of the kept sessions, too.
    eventually("twenty rounds", Duration::from_secs(40), || {
        let all = plane.canary.board.all();
        let number = |(_, last): &(Canary, Last)| last.round.map_or(0, |round| round.number);
        let most = all.iter().map(number).max().unwrap();
        ensure(most >= 20, || format!("{most} rounds"))
    });
    for canary in all(2) {
        eventually("each canary still", SOON, || passes(&plane, canary));
    }
    assert_eq!(plane.shards.iter().map(|shard| counted(&shard.counters)).collect::<Vec<_>>(), before);
    assert_eq!(counted(&plane.front.counters), [0; 9]);
    assert_eq!(plane.budget.used(), 0);
    assert!(plane.canary.cage.budget().used() > 0, "their media is held somewhere");
    let snapshot = plane.snapshot("live/cam");
    assert_eq!((snapshot.viewer_count, snapshot.frames_in), (0, 0));
    assert!(plane.reports.try_recv().is_err(), "nobody is told of canaries");
}

#[test]
fn a_stranger_has_no_way_to_a_canarys_stream() {
    let plane = plane(1);
    canary::spawn(plane.canary.clone()).unwrap();
    for canary in all(1) {
        eventually("each canary", SOON, || passes(&plane, canary));
    }
    // The private listener doesn't listen to it.
    let mut stranger = TcpStream::connect(plane.canary.private).unwrap();
    stranger.set_read_timeout(Some(SOON)).unwrap();
    match stranger.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
    // Even one who knows the path is refused at the public ones.
    let path = plane.canary.cage.streams(0)[0].path.clone();
    let refused = Connection::try_publish(plane.rtmp, &path);
    assert!(refused.err().unwrap().contains("no MediaStream declares this path"));
    let mut player = Connection::open(Role::Play, plane.rtmp, &path).unwrap();
    assert_eq!(player.wait_status(SOON).unwrap(), "NetStream.Play.StreamNotFound");
    assert_eq!(http::get(plane.http, &format!("/{path}.flv")).unwrap().status, 404);
    passes(&plane, all(1)[0]).unwrap();
}

#[test]
fn a_shard_that_writes_nothing_is_missed_and_a_front_that_accepts_nobody() {
    let plane = plane(2);
    canary::spawn(plane.canary.clone()).unwrap();
    for canary in all(2) {
        eventually("each canary", SOON, || passes(&plane, canary));
    }
    let mute = |mute| {
        plane.shards[1].commands.try_send(ShardCommand::Fault(Fault::Mute(mute))).unwrap();
    };
    mute(true);
    for listener in [Listener::Private, Listener::Rtmp] {
        let canary = Canary { shard: 1, listener };
        eventually("a mute shard to be missed", SOON, || match outcome(&plane, canary) {
            Some(Outcome::Missed(Step::Media | Step::Play)) => Ok(()),
            other => Err(format!("{canary:?}: {other:?}")),
        });
    }
    throughout("the other shard", Duration::from_secs(2), || {
        passes(&plane, Canary { shard: 0, listener: Listener::Private })
    });
    mute(false);
    for canary in all(2) {
        eventually("each canary again", SOON, || passes(&plane, canary));
    }
    plane.front.deaf.send_replace(true);
    let by_rtmp = Canary { shard: 0, listener: Listener::Rtmp };
    eventually("a deaf front to be missed", SOON, || match outcome(&plane, by_rtmp) {
        Some(Outcome::Missed(Step::Publish | Step::Play)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    passes(&plane, Canary { shard: 0, listener: Listener::Private }).unwrap();
    plane.front.deaf.send_replace(false);
    eventually("front again", SOON, || passes(&plane, by_rtmp));
}

#[test]
fn canaries_take_nobodys_place() {
    let mut plane = plane(1);
    canary::spawn(plane.canary.clone()).unwrap();
    eventually("the canary", SOON, || passes(&plane, all(1)[0]));
    // A user's publisher and player beside it are counted as alone.
    let mut publisher = Connection::publish(plane.rtmp, "live/cam");
    for config in tests::synthetic::configs() {
        publisher.send(&config, 0).unwrap();
    }
    let mut synthetic = tests::synthetic::Synthetic::default();
    let frame = synthetic.next_frame();
    publisher.send(&frame, 0).unwrap();
    let mut player = Connection::open(Role::Play, plane.rtmp, "live/cam").unwrap();
    player.wait(SOON, |event| matches!(event, ClientEvent::Frame(_)).then_some(())).unwrap();
    let begin = Instant::now();
    let accepted = plane.front.counters.accepted.value();
    assert_eq!((accepted, plane.shards[0].counters.viewers.value()), (2, 1));
    drop((publisher, player));
    eventually("no viewers", SOON, || {
        let viewers = plane.shards[0].counters.viewers.value();
        ensure(viewers == 0, || format!("{viewers} after {:?}", begin.elapsed()))
    });
    plane.wait_report(|report| matches!(report, worker::shard::ShardReport::Publisher { .. }));
}
