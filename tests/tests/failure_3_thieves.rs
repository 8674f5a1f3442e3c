//! F3 under thieves: others take and free a tenth of the pool at random while streams come and go. No stream is kept from being Ready, no
//! good number from use, and each theft is told. `cargo xtask soak thieves` has it last 10 minutes and judges the times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::ports::Block;
use tests::soak::{Random, StopOnDrop, bounds, size};
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool};

/// Numbers of the pool.
const NUMBERS: u16 = 60;
/// Of which others have so many.
const STOLEN: usize = 6;
/// Streams at one time.
const STREAMS: usize = 12;
/// A stream comes or goes, and a theft begins or ends, each time this has passed.
const STEP: Duration = Duration::from_millis(50);

/// What a stream may be not Ready for.
const NOT_READY: Duration = Duration::from_secs(1);
/// Of the pool of the harness.
const COOLDOWN: Duration = Duration::from_millis(100);
/// While numbers are in quarantine: each cooldown, and not oftener than this (limits.rs of the core).
const SCAN: Duration = Duration::from_secs(1);
/// A worker looks by itself this often (control.rs of the worker).
const LOOK: Duration = Duration::from_secs(5);
/// From what a scan finds to the pool's status, which is written once a second at most (config.rs of the core), and to a look at it.
const TOLD: Duration = Duration::from_millis(1200);

/// A number that somebody else has.
struct Theft {
    since: Instant,
    until: Instant,
    _tcp: Option<TcpListener>,
    _udp: Option<UdpSocket>,
}

/// Who has what, and who had it until when.
#[derive(Default)]
struct Loot {
    held: BTreeMap<u16, Theft>,
    freed: BTreeMap<u16, Instant>,
}

struct World {
    standalone: Standalone,
    ports: Block,
    loot: Mutex<Loot>,
    stop: AtomicBool,
    thefts: AtomicU64,
}

/// The longest that was seen of each.
#[derive(Debug, Default)]
struct Longest {
    not_ready: Duration,
    kept: Duration,
    untold: Duration,
    /// Problems that a bind met, told in the pool's status.
    told_of_binds: usize,
}

#[test]
fn thieves_keep_no_stream_from_being_ready_and_no_good_number_from_use() {
    let time = Duration::from_secs(size("PENSTOCK_SECONDS", 10));
    let mut random = Random::from_environment();
    let ports = Block::take(NUMBERS);
    let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range()))]);
    standalone.wait_pool("pool", "counted", SOON, |pool| pool["status"]["capacity"] == u64::from(NUMBERS));
    let world = World { standalone, ports, loot: Mutex::default(), stop: false.into(), thefts: 0.into() };
    let thieves = Random::new(random.next(u64::MAX >> 33));
    let longest = std::thread::scope(|scope| {
        let _stops = StopOnDrop(&world.stop);
        scope.spawn(|| steal(&world, thieves));
        let watcher = scope.spawn(|| watch(&world));
        come_and_go(&world, &mut random, time);
        world.stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let thefts = world.thefts.load(Ordering::Relaxed);
    let met = met(&world);
    eprintln!("{thefts} thefts, {met} met by a bind; at the longest {longest:?}");
    world.loot.lock().expect("nobody panics with the lock").held.clear();
    let pool = world.standalone.wait_pool("pool", "free again", 2 * SCAN + COOLDOWN + SOON, |pool| {
        pool["status"]["free"] == u64::from(NUMBERS)
    });
    sums(&pool);
    assert_eq!(pool["status"]["problems"].as_array().map_or(0, Vec::len), 0, "{pool}");
    let incidents = world.standalone.metric("penstock_operator_incidents_total", &["\"bind_failure\""]);
    assert_eq!(incidents, Ok(met), "each theft that was met is counted");
    assert!(longest.told_of_binds as f64 <= met, "{longest:?}, {met} met");
    if bounds() {
        assert!(longest.not_ready <= NOT_READY, "{longest:?}");
        assert!(longest.kept <= 2 * SCAN + COOLDOWN + TOLD, "{longest:?}");
        assert!(longest.untold <= LOOK + TOLD, "{longest:?}");
    }
}

/// Thefts that a bind met.
fn met(world: &World) -> f64 {
    world.standalone.metric("penstock_bind_failures_total", &[]).expect("it is exported")
}

/// Takes numbers and frees them, each after up to 6 s.
fn steal(world: &World, mut random: Random) {
    while !world.stop.load(Ordering::Relaxed) {
        let mut loot = world.loot.lock().expect("nobody panics with the lock");
        let now = Instant::now();
        let Loot { held, freed } = &mut *loot;
        held.retain(|port, theft| {
            let stays = theft.until > now;
            if !stays {
                freed.insert(*port, now);
            }
            stays
        });
        while held.len() < STOLEN {
            let port = world.ports.first() + random.next(NUMBERS.into()) as u16;
            let what = random.next(3);
            if held.contains_key(&port) {
                continue;
            }
            // What is leased cannot be had, and another is taken.
            let tcp = (what != 1).then(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok());
            let udp = (what != 0).then(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok());
            let (Some(tcp), Some(udp)) =
                (tcp.map_or(Some(None), |tcp| tcp.map(Some)), udp.map_or(Some(None), |udp| udp.map(Some)))
            else {
                continue;
            };
            let until = now + Duration::from_millis(100 + random.next(6_000));
            freed.remove(&port);
            held.insert(port, Theft { since: now, until, _tcp: tcp, _udp: udp });
            world.thefts.fetch_add(1, Ordering::Relaxed);
        }
        drop(loot);
        // The pace of the thieves; nothing is waited for.
        std::thread::sleep(STEP);
    }
}

/// Makes streams and deletes them, so that leases turn over.
fn come_and_go(world: &World, random: &mut Random, time: Duration) {
    let begun = Instant::now();
    let mut names: Vec<String> = Vec::new();
    let mut made = 0;
    while begun.elapsed() < time || met(world) == 0.0 {
        assert!(begun.elapsed() < time + 6 * SOON, "no stream met a thief");
        if names.len() < STREAMS {
            let name = format!("s{made}");
            let transport = if random.next(2) == 0 { "UDP" } else { "TCPPassive" };
            let rtp = format!("transport: {transport}, ssrc: \"{:010}\"", 100_000 + made);
            world.standalone.write(&format!("{name}.yaml"), &over_rtp(&name, &rtp, ""));
            names.push(name);
            made += 1;
        } else {
            let name = names.swap_remove(random.next(names.len() as u64) as usize);
            world.standalone.remove(&format!("{name}.yaml"));
        }
        // The pace at which streams come and go; nothing is waited for.
        std::thread::sleep(STEP);
    }
    eprintln!("{made} streams");
    for name in &names {
        world.standalone.wait_ready(&format!("live/{name}"));
        world.standalone.remove(&format!("{name}.yaml"));
    }
}

/// Looks at streams and pool all the time.
fn watch(world: &World) -> Longest {
    let mut longest = Longest::default();
    let mut not_ready: BTreeMap<String, Instant> = BTreeMap::new();
    // By number: since when a problem is told that is none, and a theft is not told with who has it that is one.
    let (mut kept, mut untold): (BTreeMap<u16, Instant>, BTreeMap<u16, Instant>) = Default::default();
    let mut binds = BTreeSet::new();
    while !world.stop.load(Ordering::Relaxed) {
        let streams = world.standalone.page("/streams").expect("the page answers");
        let now = Instant::now();
        let waiting = streams["items"].as_array().expect("a List").iter();
        let waiting = waiting.filter(|stream| condition(stream, "Ready") != "True");
        let waiting = waiting.map(|stream| stream["metadata"]["name"].to_string()).collect::<Vec<_>>();
        longest.not_ready = longest.not_ready.max(age(&mut not_ready, waiting, now));
        assert!(longest.not_ready < SOON, "a stream is not Ready for {:?}: {streams}", longest.not_ready);

        let pool = world.standalone.object("/pools", "pool").expect("the page answers");
        sums(&pool);
        let problems = pool["status"]["problems"].as_array().cloned().unwrap_or_default();
        let names_us =
            |problem: &Value| problem["owner"].as_str().is_some_and(|owner| owner.contains(PROCESS));
        let told = |port: u16| problems.iter().any(|problem| problem["port"] == port && names_us(problem));
        let loot = world.loot.lock().expect("nobody panics with the lock");
        let now = Instant::now();
        let good = problems.iter().filter_map(|problem| u16::try_from(problem["port"].as_u64()?).ok());
        let good: Vec<u16> = good.filter(|port| !loot.held.contains_key(port)).collect();
        for port in &good {
            // From its end on, not from the first look that saw it.
            kept.entry(*port).or_insert_with(|| loot.freed.get(port).copied().unwrap_or(now));
        }
        longest.kept = longest.kept.max(age(&mut kept, good, now));
        let secret: Vec<u16> = loot.held.keys().copied().filter(|port| !told(*port)).collect();
        for port in &secret {
            untold.entry(*port).or_insert(loot.held[port].since);
        }
        longest.untold = longest.untold.max(age(&mut untold, secret, now));
        for problem in &problems {
            if problem["source"] == "BindFailed" {
                binds.insert((problem["port"].to_string(), problem["since"].to_string()));
            }
        }
        drop(loot);
        // Short beside each bound, long beside what a look costs.
        std::thread::sleep(Duration::from_millis(20));
    }
    longest.told_of_binds = binds.len();
    longest
}

/// What the kernel calls this process: 15 characters.
const PROCESS: &str = "failure_3_thiev";

/// Keeps since when each of `present` has been there, and returns the longest.
fn age<K: Ord + Clone>(since: &mut BTreeMap<K, Instant>, present: Vec<K>, now: Instant) -> Duration {
    since.retain(|key, _| present.contains(key));
    for key in present {
        since.entry(key).or_insert(now);
    }
    since.values().map(|since| now.duration_since(*since)).max().unwrap_or_default()
}

#[track_caller]
fn sums(pool: &Value) {
    let of = |field: &str| pool["status"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {pool}"));
    let sum = of("free") + of("leased") + of("cooling") + of("quarantined");
    assert_eq!(sum, of("capacity"), "{}", pool["status"]);
}
