//! Rounds of what happens to workers and streams in weeks, over 20 pairs a node: after each, what is held is what is leased, and
//! nobody is left without. `PENSTOCK_ROUNDS=100000` plays that many.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use operator_core::Config;
use operator_core::ids::{ObjectName, Uid};
use operator_core::spec::RtpTransport;

use crate::objects;
use crate::world::{Item, Mend, World};
use crate::{number, on_each_core};

/// Rounds of a plain `cargo test`.
const ROUNDS: u64 = 200;
/// Of one world, so that what a world remembers of its past stays small.
const ROUNDS_A_WORLD: u64 = 25;
const HOSTS: usize = 2;
/// One node alone has room for all.
const STREAMS: usize = 20;
const RANGE: (u16, u16) = (20000, 20039);
/// A worker that stands still does so for 8 s, then a cooldown and two scans.
const QUIET: Duration = Duration::from_secs(90);

/// What a round does.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A worker is killed and started again.
    Kill,
    /// It stands still for a while, and wakes.
    Stop,
    /// Nobody reaches it for a while.
    Part,
    /// Streams are deleted and made anew, under the same names.
    Delete,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Stop, Fault::Part, Fault::Delete];

#[test]
fn rounds_of_kill_stop_partition_and_delete_leak_no_pair_and_starve_nobody() {
    let (rounds, from) = (number("PENSTOCK_ROUNDS").unwrap_or(ROUNDS), number("PENSTOCK_FROM").unwrap_or(0));
    let (next, wrong) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    on_each_core(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + rounds.div_ceil(ROUNDS_A_WORLD) || !wrong.lock().unwrap().is_empty() {
                return;
            }
            if let Err(text) = play(&mut world(seed)) {
                wrong.lock().unwrap().push((seed, text));
            }
        }
    });
    let wrong = wrong.into_inner().unwrap();
    if let Some((seed, text)) = wrong.first() {
        let mut world = world(*seed);
        world.log = Some(Default::default());
        let _ = play(&mut world);
        let log: Vec<String> = world.log.take().into_iter().flatten().collect();
        let skipped = log.len().saturating_sub(200);
        panic!("world {seed} (PENSTOCK_FROM={seed}): {text}\n{}", log[skipped..].join("\n"));
    }
    println!("{} rounds in worlds from {from}", rounds.div_ceil(ROUNDS_A_WORLD) * ROUNDS_A_WORLD);
}

fn world(seed: u64) -> World {
    World::new(seed, Config::standalone(), 2)
}

/// A world's rounds.
fn play(world: &mut World) -> Result<(), String> {
    world.faults.calm = true;
    for host in 0..HOSTS {
        world.add_host(host);
    }
    let spec = objects::pool_spec(&[RANGE], &[], Duration::from_secs(1));
    world.api.put_pool(objects::pool("pool", "main", 0, spec));
    for number in 0..STREAMS {
        make(world, number, 0);
    }
    let mut made = [0; STREAMS];
    settle(world, "the beginning")?;
    for round in 1..=ROUNDS_A_WORLD {
        let fault = FAULTS[world.rng.below(FAULTS.len())];
        suffer(world, fault, &mut made);
        // Some come while the one before is not over.
        if world.rng.chance(30) {
            let between = world.rng.ms(0, 3000);
            world.run(world.now + between)?;
            let second = FAULTS[world.rng.below(FAULTS.len())];
            suffer(world, second, &mut made);
        }
        settle(world, &format!("round {round}, {fault:?}"))?;
    }
    Ok(())
}

fn suffer(world: &mut World, fault: Fault, made: &mut [u64; STREAMS]) {
    let running: Vec<usize> =
        world.workers.iter().filter(|worker| worker.alive && !worker.paused).map(|it| it.index).collect();
    let worker = world.rng.pick(&running).copied();
    match (fault, worker) {
        (Fault::Kill, Some(worker)) => {
            let (host, name) = (world.workers[worker].host, world.workers[worker].name.to_string());
            let pod_uid = world.workers[worker].pod_uid.to_string();
            world.kill_worker(worker);
            world.after(100, 4000, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
        }
        (Fault::Stop, Some(worker)) => {
            world.workers[worker].paused = true;
            // Witnesses know it of some.
            if world.rng.chance(50) {
                world.tell_lost(worker);
            }
            world.after(200, 8000, Item::Mend(Mend::ResumeWorker(worker)));
        }
        (Fault::Part, Some(worker)) => {
            world.part(worker, 200, 8000);
            if world.rng.chance(50) {
                world.tell_lost(worker);
            }
        }
        (Fault::Delete, _) => {
            for _ in 0..1 + world.rng.below(STREAMS) {
                let number = world.rng.below(STREAMS);
                let uid = uid(number, made[number]);
                world.truth.user_deleted.insert(Uid::from(&*uid));
                world.api.remove_stream(&name(number));
                made[number] += 1;
                make(world, number, made[number]);
            }
        }
        (Fault::Kill | Fault::Stop | Fault::Part, None) => {}
    }
}

/// Runs until what is bound is what is claimed, all is Ready and the books say the same.
fn settle(world: &mut World, what: &str) -> Result<(), String> {
    let limit = world.now + QUIET;
    loop {
        let next = world.now + Duration::from_millis(500);
        world.run(next).map_err(|text| format!("{what}: {text}"))?;
        let wrong = world.judge_end();
        let streams = world.api.objects.streams.values();
        let bound = streams.filter(|object| object.status.ports.is_some()).count();
        if wrong.is_empty() && bound == STREAMS {
            return Ok(());
        }
        if world.now > limit {
            return Err(format!(
                "{what}: after {QUIET:?} {bound} of {STREAMS} have ports\n  {}",
                wrong.join("\n  ")
            ));
        }
    }
}

/// A pair each.
fn make(world: &mut World, number: usize, made: u64) {
    let path: Arc<str> = format!("live/cam-{number}").into();
    let spec = objects::spec(&path, objects::rtp(RtpTransport::Udp, true));
    let created = world.now.as_secs() * 1000;
    let uid = uid(number, made);
    world.api.put_stream(objects::stream(&uid, "live", &format!("cam-{number}"), created, spec));
}

fn uid(number: usize, made: u64) -> String {
    format!("{number}-{made}")
}

fn name(number: usize) -> ObjectName {
    ObjectName::new("live", format!("cam-{number}"))
}
