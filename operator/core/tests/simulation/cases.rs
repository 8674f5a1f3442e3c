//! Named cases of design §4 and §5, each played by hand in the same world, with its invariants judged all the while.

use std::sync::Arc;
use std::time::Duration;

use operator_core::ids::{ObjectName, PoolName, SessionId, Term, Uid, WorkerName};
use operator_core::reason::Reason;
use operator_core::spec::{PoolSpec, RtpTransport, Shrink};
use operator_core::status::{ConditionType, Phase, StreamStatus};
use operator_core::{Action, Config, Event, Now, State, plan};

use crate::objects;
use crate::worker::{Host, Worker};
use crate::world::{Fate, Item, Mend, World};

/// Operators and hosts with a worker each, one pool of `ports`; nothing goes wrong by itself.
fn quiet(replicas: usize, hosts: usize, ports: (u16, u16)) -> World {
    let mut world = World::new(1, Config::standalone(), replicas);
    world.log = Some(Default::default());
    world.faults.calm = true;
    for host in 0..hosts {
        world.add_host(host);
    }
    set_pool(&mut world, ports);
    world
}

fn set_pool(world: &mut World, ports: (u16, u16)) {
    set_pool_that(world, ports, Shrink::Wait);
}

fn set_pool_that(world: &mut World, ports: (u16, u16), shrink: Shrink) {
    let name = PoolName::from("main");
    let spec = PoolSpec { shrink, ..objects::pool_spec(&[ports], &[], Duration::from_millis(100)) };
    let pool = match world.api.objects.pools.get(&name).cloned() {
        Some(mut pool) => {
            pool.generation += 1;
            pool.spec = Ok(Arc::new(spec));
            pool
        }
        None => objects::pool("pool", "main", 0, spec),
    };
    world.api.put_pool(pool);
}

/// A stream on one leased port; its name is its UID.
fn make(world: &mut World, uid: &str) {
    let spec = objects::spec(&format!("live/{uid}"), objects::rtp(RtpTransport::TcpPassive, false));
    let created = world.now.as_secs() * 1000;
    world.api.put_stream(objects::stream(uid, "live", uid, created, spec));
}

fn delete(world: &mut World, uid: &str) {
    world.truth.user_deleted.insert(Uid::from(uid));
    world.api.remove_stream(&ObjectName::new("live", uid));
}

fn status<'a>(world: &'a World, uid: &str) -> Option<&'a StreamStatus> {
    world.api.objects.streams.get(&ObjectName::new("live", uid)).map(|object| &*object.status)
}

fn phase(world: &World, uid: &str) -> Option<Phase> {
    status(world, uid).map(|status| status.phase)
}

fn port(world: &World, uid: &str) -> Option<u16> {
    status(world, uid)?.ports.as_ref().map(|ports| ports.rtp)
}

fn reason(world: &World, uid: &str, kind: ConditionType) -> Option<Reason> {
    status(world, uid)?.conditions.get(&kind).map(|condition| condition.reason)
}

/// The epoch that runs on some worker.
fn running(world: &World, uid: &str) -> Option<u64> {
    let uid = Uid::from(uid);
    world
        .workers
        .iter()
        .filter(|worker| worker.alive)
        .find_map(|worker| Some(worker.running.get(&uid)?.epoch.0))
}

fn leader(world: &World) -> Option<usize> {
    let alive = |index: &usize| world.replicas[*index].alive && !world.replicas[*index].paused;
    (0..world.replicas.len()).filter(alive).find(|&index| world.replicas[index].core.is_active())
}

fn wait(world: &mut World, secs: u64) {
    let until = world.now + Duration::from_secs(secs);
    if let Err(text) = world.run(until) {
        fail(world, &text);
    }
}

fn until(world: &mut World, what: &str, is_so: impl Fn(&World) -> bool) {
    let limit = world.now + Duration::from_secs(30);
    while !is_so(world) {
        if world.now > limit {
            fail(world, &format!("never: {what}"));
        }
        let next = world.now + Duration::from_millis(5);
        if let Err(text) = world.run(next) {
            fail(world, &text);
        }
    }
}

fn fail(world: &mut World, text: &str) -> ! {
    let log: Vec<String> = world.log.take().into_iter().flatten().collect();
    let skipped = log.len().saturating_sub(200);
    panic!("{text}\n{}", log[skipped..].join("\n"));
}

#[test]
fn double_lease_the_claim_that_is_really_bound_stays_and_the_other_moves() {
    let mut world = quiet(2, 1, (20000, 20000));
    make(&mut world, "a");
    until(&mut world, "a is ready", |world| phase(world, "a") == Some(Phase::Ready));
    make(&mut world, "b");
    until(&mut world, "b waits", |world| {
        reason(world, "b", ConditionType::PortsAllocated) == Some(Reason::PoolExhausted)
    });
    world.api.back_up();
    delete(&mut world, "a");
    until(&mut world, "b has the number of a", |world| phase(world, "b") == Some(Phase::Ready));
    assert_eq!((port(&world, "b"), running(&world, "b")), (Some(20000), Some(1)));

    // Now a is back with its claim on 20000, and b's claim on it is not on record any more.
    world.restore();
    assert_eq!((port(&world, "a"), port(&world, "b")), (Some(20000), None));
    until(&mut world, "b is on record again", |world| phase(world, "b") == Some(Phase::Ready));
    until(&mut world, "a waits", |world| {
        reason(world, "a", ConditionType::PortsAllocated) == Some(Reason::PoolExhausted)
    });
    let where_they_are = (port(&world, "b"), running(&world, "b"), running(&world, "a"));
    if where_they_are != (Some(20000), Some(1), None) {
        fail(&mut world, &format!("b does not stay on 20000 at epoch 1: {where_they_are:?}"));
    }

    set_pool(&mut world, (20000, 20001));
    until(&mut world, "a is ready on another number", |world| phase(world, "a") == Some(Phase::Ready));
    assert_eq!(port(&world, "a"), Some(20001));
    assert!(running(&world, "a") > Some(1), "its epoch 1 was over");
    assert_eq!(running(&world, "b"), Some(1), "b was never touched");
}

#[test]
fn term_a_leader_that_was_frozen_commands_nobody_when_it_wakes() {
    let mut world = quiet(2, 2, (20000, 20009));
    make(&mut world, "a");
    make(&mut world, "b");
    until(&mut world, "both are ready", |world| {
        phase(world, "a") == Some(Phase::Ready) && phase(world, "b") == Some(Phase::Ready)
    });
    // It has written all that it had to say: its successor has nothing to write, which would tell of the new term.
    wait(&mut world, 1);
    let old = leader(&world).unwrap();
    let former = world.replicas[old].core.term();
    world.replicas[old].paused = true;
    until(&mut world, "the other one leads", |world| leader(world).is_some_and(|leader| leader != old));
    wait(&mut world, 2);
    let new = leader(&world).unwrap();
    let term = world.replicas[new].core.term();
    assert!(term > former);
    assert!(world.workers.iter().all(|worker| worker.term == term));

    // What waits for it makes it command at once: a deletion, seen before it asks for the Lease again.
    delete(&mut world, "a");
    make(&mut world, "c");
    wait(&mut world, 1);
    let dropped = world.dropped;
    // Beats would tell it of the new term.
    world.replicas[old].backlog.sort_by_key(|item| !matches!(item, Item::Watch { .. }));
    world.mend(Mend::ResumeReplica(old));
    wait(&mut world, 5);
    if world.dropped == dropped {
        fail(&mut world, "it commanded nothing");
    }
    assert!(world.workers.iter().all(|worker| worker.term == term));
    assert_eq!((running(&world, "a"), running(&world, "b"), running(&world, "c")), (None, Some(1), Some(1)));
    assert_eq!(leader(&world), Some(new));
    assert!(world.judge_end().is_empty(), "{:?}", world.judge_end());
}

#[test]
fn unknown_write_keeps_the_claim_tells_nobody_and_reads_back() {
    for fate in [Fate::Lost, Fate::Unanswered, Fate::Late] {
        let mut world = quiet(2, 1, (20000, 20009));
        wait(&mut world, 3);
        world.faults.next_claim = Some(fate);
        make(&mut world, "a");
        until(&mut world, "its claim is being written", |world| world.faults.next_claim.is_none());
        let begun = world.now;
        // The claim's outcome is unknown for a second: its number is kept, and nobody hears of it.
        while world.now < begun + Duration::from_millis(900) {
            let next = world.now + Duration::from_millis(50);
            world.run(next).unwrap();
            assert_eq!(running(&world, "a"), None, "{fate:?}");
        }
        until(&mut world, "a is ready", |world| phase(world, "a") == Some(Phase::Ready));
        wait(&mut world, 8);
        assert_eq!(
            (status(&world, "a").map(|status| status.epoch), running(&world, "a")),
            (Some(1), Some(1)),
            "{fate:?}"
        );
        assert_eq!(port(&world, "a"), Some(20000), "{fate:?}: it keeps its number");
        assert!(world.judge_end().is_empty(), "{fate:?}: {:?}", world.judge_end());
    }
}

#[test]
fn restored_backup_stops_nothing_until_a_person_confirms_and_no_epoch_is_used_again() {
    let mut world = quiet(2, 2, (20000, 20009));
    make(&mut world, "a");
    until(&mut world, "a is ready", |world| phase(world, "a") == Some(Phase::Ready));
    wait(&mut world, 1);
    world.api.back_up();
    make(&mut world, "b");
    until(&mut world, "b is ready", |world| phase(world, "b") == Some(Phase::Ready));
    // The worker of a is started again: epoch 2, of which the backup knows nothing.
    let worker = world.workers.iter().find(|worker| worker.running.contains_key(&Uid::from("a"))).unwrap();
    let (index, host) = (worker.index, worker.host);
    let (name, pod_uid) = (worker.name.to_string(), worker.pod_uid.to_string());
    world.kill_worker(index);
    world.after(100, 101, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
    until(&mut world, "a is ready again", |world| {
        phase(world, "a") == Some(Phase::Ready) && running(world, "a") == Some(2)
    });
    let on_b = running(&world, "b");
    wait(&mut world, 1);

    world.restore();
    assert_eq!(status(&world, "a").map(|status| status.epoch), Some(1));
    wait(&mut world, 12);
    assert_eq!(running(&world, "b"), on_b, "what the backup lacks goes on");
    assert_eq!(running(&world, "a"), Some(2), "and so does what it has as it was");
    assert_eq!(status(&world, "a").map(|status| status.epoch), Some(2), "the record is put right");

    world.confirm_absence();
    until(&mut world, "b ends", |world| running(world, "b").is_none());
    assert_eq!(running(&world, "a"), Some(2));
    wait(&mut world, 5);
    assert!(world.judge_end().is_empty(), "{:?}", world.judge_end());
}

#[test]
fn inventory_comes_before_the_first_grant_of_a_term() {
    let mut world = quiet(2, 1, (20000, 20001));
    make(&mut world, "a");
    until(&mut world, "a is ready", |world| phase(world, "a") == Some(Phase::Ready));
    let old = leader(&world).unwrap();
    let new = 1 - old;
    // The next leader will not hear of the worker for a while.
    let until_then = world.now + Duration::from_secs(15);
    world.faults.partitions.insert((0, new), until_then);
    for link in 0..world.links.len() {
        if world.links[link].replica == new && world.links[link].worker_open {
            world.cut(link);
        }
    }
    world.replicas[old].paused = true;
    until(&mut world, "the other one leads", |world| leader(world) == Some(new));
    make(&mut world, "b");
    wait(&mut world, 3);
    assert_eq!(
        (port(&world, "b"), phase(&world, "b")),
        (None, Some(Phase::Pending)),
        "no grant without an inventory"
    );
    assert!(world.now < until_then);
    assert_eq!(running(&world, "a"), Some(1), "silence stops nothing");
    until(&mut world, "b is ready once the inventory is here", |world| {
        phase(world, "b") == Some(Phase::Ready)
    });
    assert_eq!((port(&world, "a"), port(&world, "b")), (Some(20000), Some(20001)));
    assert_eq!(running(&world, "a"), Some(1));
}

#[test]
fn idle_stream_rests_under_the_next_leader_too_and_one_that_was_woken_does_not() {
    let mut world = quiet(2, 1, (20000, 20009));
    let mut spec = objects::spec("live/a", objects::rtp(RtpTransport::TcpPassive, false));
    spec.release_after_idle = Some(Duration::from_millis(1500));
    world.api.put_stream(objects::stream("a", "live", "a", 0, spec));
    until(&mut world, "a is ready", |world| phase(world, "a") == Some(Phase::Ready));
    until(&mut world, "a rests", |world| phase(world, "a") == Some(Phase::Idle));
    wait(&mut world, 1);
    let lead_the_other = |world: &mut World| {
        let old = leader(world).unwrap();
        world.replicas[old].paused = true;
        until(world, "the other one leads", |world| leader(world).is_some_and(|leader| leader != old));
        world.mend(Mend::ResumeReplica(old));
        wait(world, 3);
    };
    // The other one met it when it did not rest.
    lead_the_other(&mut world);
    assert_eq!((phase(&world, "a"), status(&world, "a").unwrap().epoch), (Some(Phase::Idle), 1));

    // It is woken under this leader, and the first one remembers that it put it to rest.
    let mut object = world.api.objects.streams[&ObjectName::new("live", "a")].clone();
    object.touch = Some("wake".into());
    world.api.put_stream(object);
    until(&mut world, "a is ready again", |world| phase(world, "a") == Some(Phase::Ready));
    world.change_publisher_of(&Uid::from("a"));
    until(&mut world, "a is live", |world| phase(world, "a") == Some(Phase::Live));
    lead_the_other(&mut world);
    assert_eq!((phase(&world, "a"), running(&world, "a")), (Some(Phase::Live), Some(2)));
}

#[test]
fn session_that_is_refused_is_closed_though_the_lead_changes_before_the_next_plan() {
    let mut core = State::new(Config::standalone());
    let now = Now { mono: Duration::from_secs(1), wall_unix_ms: 1_790_000_000_000 };
    let host = Host { name: objects::node_name(0), sockets: Default::default() };
    let hello =
        |boot: usize| Worker::new(boot, 0, &host.name, WorkerName::from("worker"), "pod".into()).hello(&host);
    // The hello of the process before comes again, late.
    for (session, boot) in [(1, 0), (2, 1), (3, 0)] {
        core.observe(Event::Hello { session: SessionId(session), hello: hello(boot) }, now);
    }
    core.observe(Event::Lead { floor: Term(0) }, now);
    let closed: Vec<u64> = plan(&mut core, now)
        .into_iter()
        .filter_map(|action| match action {
            Action::CloseSession { session, why: _ } => Some(session.0),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [1, 3]);
}

#[test]
fn move_opens_another_number_beside_and_the_first_is_closed_at_the_deadline() {
    let mut world = quiet(2, 2, (20000, 20003));
    for uid in ["a", "b", "c"] {
        make(&mut world, uid);
    }
    until(&mut world, "all are served", |world| phase(world, "c") == Some(Phase::Ready));
    set_pool_that(&mut world, (20020, 20029), Shrink::Move { deadline: Duration::from_secs(3) });
    let both = |world: &World, uid: &str| {
        let previous = status(world, uid).and_then(|status| status.ports.as_ref()?.previous);
        previous.is_some_and(|previous| previous.since.is_some())
    };
    until(&mut world, "all have two numbers", |world| ["a", "b", "c"].iter().all(|uid| both(world, uid)));
    let open = |world: &World| world.hosts.iter().map(|host| host.sockets.len()).sum::<usize>();
    assert_eq!(open(&world), 6);
    let leads = leader(&world).expect("somebody leads");
    world.crash_slowly(leads, (1, 200), (2000, 3000));
    until(&mut world, "the first is closed", |world| open(world) == 3);
    until(&mut world, "it is said", |world| !["a", "b", "c"].iter().any(|uid| both(world, uid)));
    for uid in ["a", "b", "c"] {
        assert!((20020..=20029).contains(&port(&world, uid).expect("it has a number")), "{uid}");
        assert_eq!(running(&world, uid), Some(1), "it is the same assignment");
    }
}
