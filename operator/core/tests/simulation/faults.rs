//! What people and misfortune do: edits, thieves, crashes, pauses, cuts, outages, restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator_core::event::Report;
use operator_core::ids::{ObjectName, PoolName, Protocol, StreamRef, WorkerName};
use operator_core::reason::Reason;
use operator_core::spec::{PoolObject, PoolSpec, Refusal, RtpTransport, Shrink, StreamObject, StreamSpec};
use operator_core::status::Phase;
use operator_core::{Event, LeaseState};

use crate::api::Kind;
use crate::objects;
use crate::poke::Target;
use crate::worker::Worker;
use crate::world::{Fate, Item, Mend, World};

/// The state of misfortune.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Nothing goes wrong any more.
    pub(crate) calm: bool,
    /// Host and replica that can't open a session, and until when.
    pub(crate) partitions: BTreeMap<(usize, usize), Duration>,
    /// What comes for a paused worker.
    pub(crate) worker_backlog: BTreeMap<usize, Vec<Item>>,
    /// What becomes of the next write of a claim; then it is left to chance.
    pub(crate) next_claim: Option<Fate>,
    /// How far the API's log was told to watches: timeline and version.
    pub(crate) pumped: (u64, u64),
    /// The one that all pools have; absent: each has its own.
    pub(crate) cooldown: Option<Duration>,
    /// The API answers, but late.
    pub(crate) slow_until: Duration,
    /// Objects made so far, for UIDs.
    made: u64,
    pub(crate) restores: u64,
    backups: u64,
    /// There is one backup only.
    pub(crate) keeps_backup: bool,
    /// This run is about restores.
    pub(crate) relapsing: bool,
    /// The API is down until then.
    down_until: Duration,
    /// A worker that nobody can reach since the API was restored.
    pub(crate) away: Option<usize>,
    /// Another one, which nobody could reach before that, and which knows a term between.
    early: Option<usize>,
    /// A stream that is taken off its worker when the leader is to change.
    pub(crate) midway: Option<operator_core::ids::Uid>,
    /// How often something happened to streams in each state.
    pub(crate) poked: BTreeMap<(LeaseState, Phase), u32>,
    /// How often a moment of such a stream was crowded, and whether it is that now.
    pub(crate) crowded: BTreeMap<(LeaseState, Phase), u32>,
    pub(crate) crowding: bool,
    /// Fewer processes end and the API is seldom down.
    milder: bool,
    /// Little else happens until then, and no moment is crowded.
    pub(crate) quiet_until: Duration,
    pub(crate) uncrowded_until: Duration,
    /// What is done before the worker that is away comes back, and when.
    pub(crate) raise: crate::raise::Stage,
    /// How the next leader is to be frozen.
    pub(crate) nap: Option<crate::nap::Plan>,
    /// The one that is, and its stream as it has it.
    pub(crate) napping: Option<(crate::nap::Nap, Target)>,
    /// A stream that rests before its claim is on record, and is read.
    pub(crate) resting: Option<operator_core::ids::Uid>,
    /// What the next list of streams lacks.
    pub(crate) lacks: Option<operator_core::ids::Uid>,
}

/// The end of faults is not to bring the API back before a leader of before has given up.
const RESTORES_END: Duration = Duration::from_secs(35);

const NAMES: [&str; 8] = ["cam-0", "cam-1", "cam-2", "cam-3", "cam-4", "cam-5", "cam-6", "cam-7"];
const SPACES: [&str; 2] = ["east", "west"];
const POOLS: [&str; 3] = ["main", "spare", "extra"];

/// Ranges that pools get: small ones, so that they run out; some of them meet.
const RANGES: [&[(u16, u16)]; 6] = [
    &[(20000, 20007)],
    &[(20000, 20003), (20010, 20014)],
    &[(20000, 20019)],
    &[(20101, 20108)],
    &[(20006, 20012)],
    &[(20200, 20201)],
];

impl World {
    /// Nodes, workers, a pool and a few streams.
    pub(crate) fn furnish(&mut self, hosts: usize) {
        for index in 0..hosts {
            self.add_host(index);
        }
        // In most runs they are equal, so that it can be seen whether they are kept.
        self.faults.cooldown =
            [None, Some(100), Some(1000), Some(2500)][self.rng.below(4)].map(Duration::from_millis);
        self.make_pool("main");
        if self.rng.chance(25) {
            // Nothing is led to, but that a little is lost in a restore: what chance brings.
            self.faults.keeps_backup = self.rng.chance(50);
            if self.faults.keeps_backup {
                let at = self.rng.ms(4000, 25_000);
                self.at(at, Item::Mend(Mend::BackUp));
                let at = at + self.rng.ms(1000, 4000);
                self.at(at, Item::Mend(Mend::Restore));
            }
        } else if self.rng.chance(36) {
            self.relapse_run();
        } else if self.rng.chance(31) {
            // Leaders change a few times between the only backup and its restore.
            self.faults.keeps_backup = true;
            for (low, high, mend) in [
                (500, 700, Mend::Tidy),
                (900, 1100, Mend::RestSome),
                (1500, 1800, Mend::BackUp),
                (1900, 2500, Mend::ChangeLeader),
                (2600, 3500, Mend::ChangeLeader),
                (3600, 4500, Mend::ChangeLeader),
                (4600, 5500, Mend::ChangeLeader),
            ] {
                self.after(low, high, Item::Mend(mend));
            }
            self.after(5600, 7500, Item::Mend(Mend::BlackOut));
            if self.rng.chance(92) {
                self.after(1900, 2300, Item::Mend(Mend::MoveAll));
                self.after(2700, 3300, Item::Mend(Mend::PartEarly));
            }
        } else if self.rng.chance(82) {
            self.faults.keeps_backup = true;
            self.nap_later(1000, 2500);
        } else if self.rng.chance(80) {
            // All that runs is moved between a backup and its restore.
            self.faults.milder = true;
            self.faults.keeps_backup = true;
            for (low, high) in [(1000, 3000), (10_000, 12_000)] {
                let at = self.rng.ms(low, high);
                self.at(at, Item::Mend(Mend::RestSome));
                for (low, high, mend) in [
                    (500, 600, Mend::BackUp),
                    (610, 800, Mend::MoveAll),
                    (1050, 1150, Mend::SlowDials),
                    (1200, 1350, Mend::MoveAgain),
                    (1500, 1900, Mend::Restore),
                ] {
                    let at = at + self.rng.ms(low, high);
                    self.at(at, Item::Mend(mend));
                }
            }
        }
        for _ in 0..4 {
            self.make_stream();
        }
    }

    /// A node with its worker.
    pub(crate) fn add_host(&mut self, index: usize) {
        let node = objects::node(index);
        self.hosts.push(crate::worker::Host { name: node.name.clone(), sockets: BTreeMap::new() });
        self.api.put_node(node);
        self.start_worker(index, &format!("worker-{index}-a"), &format!("pod-{index}-a"));
    }

    pub(crate) fn start_worker(&mut self, host: usize, name: &str, pod_uid: &str) -> usize {
        let index = self.workers.len();
        let node = self.hosts[host].name.clone();
        let mut worker = Worker::new(index, host, &node, WorkerName::from(name), pod_uid.into());
        worker.started = self.now;
        self.note(|| format!("worker {index} starts: {name} on host {host}"));
        self.workers.push(worker);
        // Nobody asks the one before it any more.
        self.truth.worker_ended(&self.hosts[host].name);
        for replica in 0..self.replicas.len() {
            self.after(1, 200, Item::Dial { worker: index, replica });
        }
        self.after(0, 250, Item::Beat { worker: index });
        self.after(0, 5000, Item::Scan { worker: index });
        index
    }

    /// One thing at random.
    pub(crate) fn chaos(&mut self) {
        if self.faults.calm {
            return;
        }
        self.after(5, 110, Item::Chaos);
        let what = self.rng.below(100);
        // Where all is to be moved and restored, enough must run.
        let harsh = self.faults.milder && matches!(what, 24..34 | 72..80 | 84..96) && self.rng.chance(70);
        let quiet = self.now < self.faults.quiet_until && self.rng.chance(85);
        if harsh || quiet || self.is_napping() || self.is_raising() {
            return;
        }
        match what {
            0..12 => self.make_stream(),
            12..24 => self.edit_stream(),
            24..34 => self.delete_stream(),
            34..46 => self.change_publisher(),
            46..53 => self.edit_pool(),
            53..55 => self.make_or_delete_pool(),
            55..59 => self.change_node(),
            59..61 => self.change_secret(),
            61..66 => self.thieve(),
            66..72 => self.break_a_link(),
            72..75 => self.partition(),
            75..78 => self.break_a_watch(),
            78..79 => self.outage(),
            79..80 => self.slow_down(),
            80..84 => self.back_up_or_restore(),
            84..85 => self.pause_replica(),
            85..87 => self.crash_replica(),
            87..91 => self.pause_worker(),
            91..95 => self.crash_worker(),
            95..96 => self.replace_worker(),
            96..97 => self.tell_stuck(),
            97..98 => self.leak(),
            98..99 => self.confirm_absence(),
            _ => self.declare_lost(),
        }
    }

    // ------------------------------------------------------------------------------------------------- streams

    fn uid(&mut self) -> String {
        self.faults.made += 1;
        format!("u{}", self.faults.made)
    }

    pub(crate) fn make_stream(&mut self) {
        let (space, name) = (SPACES[self.rng.below(2)], NAMES[self.rng.below(NAMES.len())]);
        if self.api.up && !self.api.objects.streams.contains_key(&ObjectName::new(space, name)) {
            self.make_stream_named(space, name);
        }
    }

    fn make_stream_named(&mut self, space: &str, name: &str) {
        let path = if self.rng.chance(15) { "live/shared".to_owned() } else { format!("{space}/{name}") };
        let source = self.source_or_fixed();
        let mut spec = objects::spec(&path, source);
        self.decorate(&mut spec);
        let uid = self.uid();
        self.truth.paths.insert(operator_core::ids::Uid::from(uid.as_str()), path);
        // Whole seconds, as the API has them: streams of one second are told apart by their UIDs.
        let created = self.now.as_secs() * 1000;
        self.api.put_stream(objects::stream(&uid, space, name, created, spec));
    }

    /// A stream of the same path, made by an API server whose clock is behind. It does not stay.
    pub(crate) fn make_older_stream(&mut self, like: &ObjectName, path: &str, created_unix_ms: u64) {
        let names = ["old-0", "old-1", "old-2"].map(|name| ObjectName::new(like.namespace.clone(), name));
        let free = names.into_iter().find(|name| !self.api.objects.streams.contains_key(name));
        let Some(name) = free.filter(|_| self.api.up) else { return };
        let source = self.source();
        let spec = objects::spec(path, source);
        // Of one second, the lower UID.
        let uid = format!("o{}", self.uid());
        self.truth.paths.insert(operator_core::ids::Uid::from(uid.as_str()), path.to_owned());
        let created = created_unix_ms.saturating_sub(1000);
        self.api.put_stream(objects::stream(&uid, &like.namespace, &name.name, created, spec));
        self.after(100, 2500, Item::Mend(Mend::Finalizer(name, uid.as_str().into())));
    }

    fn source(&mut self) -> operator_core::spec::Source {
        match self.rng.below(4) {
            0 if self.rng.chance(40) => {
                let transport = [RtpTransport::Udp, RtpTransport::TcpPassive][self.rng.below(2)];
                objects::shared(transport, self.rng.below(4) as u32)
            }
            0 => objects::push(),
            1 if self.rng.chance(30) => objects::rtp(RtpTransport::TcpActive, false),
            1 => objects::rtp(RtpTransport::TcpPassive, false),
            2 => objects::rtp(RtpTransport::TcpPassive, true),
            _ => objects::rtp(RtpTransport::Udp, true),
        }
    }

    /// Now and then one number and no other: the pools have it now and then.
    fn source_or_fixed(&mut self) -> operator_core::spec::Source {
        let source = self.source();
        if self.rng.chance(8) {
            return objects::fixed(source, 20000 + 2 * self.rng.below(5) as u16);
        }
        source
    }

    /// Fields that may be edited.
    fn decorate(&mut self, spec: &mut StreamSpec) {
        spec.pool = self.rng.chance(15).then(|| PoolName::from(POOLS[self.rng.below(3)]));
        spec.release_after_idle = match self.rng.below(20) {
            0..3 => Some(Duration::from_millis(1500)),
            3 => Some(self.rng.ms(30, 150)),
            _ => None,
        };
        spec.ttl_after_idle = self.rng.chance(4).then(|| Duration::from_secs(4));
        if self.rng.chance(10) {
            let zone = format!("z{}", self.rng.below(3));
            spec.node_selector = BTreeMap::from([("zone".into(), zone.into())]);
        }
        spec.preferred_node = self.rng.chance(15).then(|| objects::node_name(self.rng.below(4)));
        spec.paused = self.rng.chance(8);
        let secret = self.rng.chance(15).then_some("token");
        spec.publish = objects::publish(secret, [10, 3][self.rng.below(2)]);
    }

    fn any_stream(&mut self) -> Option<StreamObject> {
        let streams: Vec<&StreamObject> = self.api.objects.streams.values().collect();
        self.rng.pick(&streams).map(|object| (*object).clone())
    }

    pub(crate) fn edit_stream(&mut self) {
        if !self.api.up {
            return;
        }
        let Some(mut object) = self.any_stream() else { return };
        if self.rng.chance(15) {
            object.touch = Some(format!("{}", self.now.as_millis()).into());
        } else if self.rng.chance(10) {
            object.generation += 1;
            object.spec =
                Err(Refusal { reason: Reason::InvalidSpec, message: "spec.source is wrong".into() });
        } else {
            object.generation += 1;
            let mut spec = match &object.spec {
                Ok(spec) => (**spec).clone(),
                Err(_) => objects::spec(&self.truth.paths[&object.uid], objects::push()),
            };
            self.decorate(&mut spec);
            if let operator_core::spec::Source::Rtp(_) = spec.source
                && self.rng.chance(20)
            {
                let other = self.source_or_fixed();
                if let operator_core::spec::Source::Rtp(_) = other {
                    spec.source = other;
                }
            }
            object.spec = Ok(Arc::new(spec));
        }
        self.api.put_stream(object);
    }

    fn delete_stream(&mut self) {
        if !self.api.up {
            return;
        }
        let Some(mut object) = self.any_stream() else { return };
        self.truth.user_deleted.insert(object.uid.clone());
        if self.rng.chance(20) && !object.deleting {
            object.deleting = true;
            let name = object.name.clone();
            let uid = object.uid.clone();
            self.api.put_stream(object);
            return self.after(50, 5000, Item::Mend(Mend::Finalizer(name, uid)));
        }
        self.api.remove_stream(&object.name);
        if self.rng.chance(40) {
            self.make_stream_named(&object.name.namespace.clone(), &object.name.name.clone());
        }
    }

    fn change_publisher(&mut self) {
        let mut running: Vec<(usize, operator_core::ids::Uid)> = Vec::new();
        for worker in self.workers.iter().filter(|worker| worker.alive && !worker.paused) {
            running.extend(worker.running.keys().map(|uid| (worker.index, uid.clone())));
        }
        let Some((worker, uid)) = self.rng.pick(&running).cloned() else { return };
        let here = self.workers[worker].running.get(&uid).is_some_and(|run| run.publisher.is_none());
        let now = self.now;
        let reports = self.workers[worker].set_publisher(&uid, here, now);
        self.report(worker, reports);
    }

    // ------------------------------------------------------------------------------------------------- pools, nodes

    fn pool_spec(&mut self) -> PoolSpec {
        let ranges = RANGES[self.rng.below(RANGES.len())];
        let reserved: &[u16] = if self.rng.chance(30) { &[20002] } else { &[] };
        let cooldown = self
            .faults
            .cooldown
            .unwrap_or_else(|| Duration::from_millis([100, 1000, 2500][self.rng.below(3)]));
        self.truth.cooldown_min = Some(self.truth.cooldown_min.map_or(cooldown, |min| min.min(cooldown)));
        let mut spec = objects::pool_spec(ranges, reserved, cooldown);
        if self.rng.chance(12) {
            spec.node_selector = BTreeMap::from([("zone".into(), "z0".into())]);
        }
        if self.rng.chance(8) {
            spec.allowed_namespaces = vec!["east".into()];
        }
        spec.default = self.rng.chance(85);
        spec.shrink = self.shrink();
        spec
    }

    /// Some pools have streams move, in less time than the world lasts.
    fn shrink(&mut self) -> Shrink {
        if self.rng.chance(60) {
            Shrink::Move { deadline: Duration::from_secs(self.rng.below(20) as u64 + 1) }
        } else {
            Shrink::Wait
        }
    }

    pub(crate) fn make_pool(&mut self, name: &str) {
        let (uid, spec) = (self.uid(), self.pool_spec());
        let created = self.now.as_secs() * 1000;
        self.api.put_pool(objects::pool(&uid, name, created, spec));
    }

    /// People see to it that streams can run: nodes are fit and have workers, there is one large pool, and more streams.
    pub(crate) fn tidy(&mut self) {
        if !self.api.up {
            return;
        }
        let spared = [self.faults.away, self.faults.early].into_iter().flatten();
        let spared: Vec<usize> = spared.map(|worker| self.workers[worker].host).collect();
        for replica in 0..self.replicas.len() {
            self.mend(Mend::StartReplica(replica));
            self.mend(Mend::ResumeReplica(replica));
        }
        self.faults.partitions.retain(|(host, _), _| spared.contains(host));
        for host in 0..self.hosts.len() {
            self.api.put_node(objects::node(host));
            let here = self.workers.iter().rev().find(|worker| worker.alive && worker.host == host);
            match here.map(|worker| (worker.index, worker.paused)) {
                Some((worker, true)) => self.mend(Mend::ResumeWorker(worker)),
                Some((_, false)) => {}
                None => {
                    let name = format!("worker-{host}-{}", self.workers.len());
                    let pod_uid = format!("pod-{host}-{}", self.workers.len());
                    self.start_worker(host, &name, &pod_uid);
                }
            }
        }
        let name = PoolName::from("main");
        for other in
            self.api.objects.pools.keys().filter(|other| **other != name).cloned().collect::<Vec<_>>()
        {
            self.api.remove_pool(&other);
        }
        if !self.api.objects.pools.contains_key(&name) {
            self.make_pool("main");
        }
        let PoolSpec { cooldown, shrink, .. } = self.pool_spec();
        let mut pool = self.api.objects.pools[&name].clone();
        pool.generation += 1;
        let spec = PoolSpec { shrink, ..objects::pool_spec(RANGES[2], &[], cooldown) };
        pool.spec = Ok(Arc::new(spec));
        self.api.put_pool(pool);
        for _ in 0..4 {
            self.make_stream();
        }
        for mut object in self.api.objects.streams.values().cloned().collect::<Vec<_>>() {
            let Ok(spec) = &object.spec else { continue };
            let mut spec = (**spec).clone();
            spec.pool = None;
            spec.node_selector = BTreeMap::new();
            object.generation += 1;
            object.spec = Ok(Arc::new(spec));
            self.api.put_stream(object);
        }
    }

    fn edit_pool(&mut self) {
        let pools: Vec<PoolObject> = self.api.objects.pools.values().cloned().collect();
        let Some(pool) = self.rng.pick(&pools).filter(|_| self.api.up) else { return };
        let mut pool = pool.clone();
        pool.generation += 1;
        pool.spec = if self.rng.chance(6) {
            Err(Refusal { reason: Reason::InvalidSpec, message: "spec.ranges is empty".into() })
        } else {
            Ok(Arc::new(self.pool_spec()))
        };
        self.api.put_pool(pool);
    }

    pub(crate) fn make_or_delete_pool(&mut self) {
        let name = POOLS[self.rng.below(POOLS.len())];
        if !self.api.up {
            return;
        }
        if self.api.objects.pools.contains_key(&PoolName::from(name)) {
            self.api.remove_pool(&PoolName::from(name));
            if self.rng.chance(50) {
                self.make_pool(name);
            }
        } else {
            self.make_pool(name);
        }
    }

    pub(crate) fn change_node(&mut self) {
        if !self.api.up {
            return;
        }
        let host = self.rng.below(self.hosts.len());
        let name = objects::node_name(host);
        let mut node = self.api.objects.nodes.get(&name).cloned().unwrap_or_else(|| objects::node(host));
        match self.rng.below(4) {
            0 => node.unschedulable = !node.unschedulable,
            1 => node.ready = !node.ready,
            2 => {
                let zone = format!("z{}", self.rng.below(2));
                node.labels = BTreeMap::from([("zone".into(), zone.into())]);
            }
            _ => return self.api.remove_node(&name),
        }
        self.api.put_node(node);
    }

    pub(crate) fn change_secret(&mut self) {
        let name = ObjectName::new(SPACES[self.rng.below(2)], "token");
        if !self.api.up {
            return;
        }
        if self.rng.chance(60) {
            let byte = self.rng.below(250) as u8;
            self.api.put_secret(name, Arc::new([[byte; 32]]));
        } else {
            self.api.remove_secret(&name);
        }
    }

    pub(crate) fn thieve(&mut self) {
        let host = self.rng.below(self.hosts.len());
        let port = 20000 + self.rng.below(16) as u16;
        self.thieve_from(host, port);
    }

    fn thieve_from(&mut self, host: usize, port: u16) {
        let protocols: &[Protocol] = match self.rng.below(3) {
            0 => &[Protocol::Tcp],
            1 => &[Protocol::Udp],
            _ => &[Protocol::Tcp, Protocol::Udp],
        };
        for &protocol in protocols {
            self.hosts[host].thieve(port, protocol, self.now);
        }
        self.after(500, 12_000, Item::Mend(Mend::Thief { host, port }));
    }

    // ------------------------------------------------------------------------------------------------- network, API

    pub(crate) fn break_a_link(&mut self) {
        let open: Vec<usize> = (0..self.links.len())
            .filter(|&link| self.links[link].worker_open && self.links[link].operator_open)
            .collect();
        let Some(&link) = self.rng.pick(&open) else { return };
        if self.rng.chance(50) {
            self.links[link].stalled_until = self.now + self.rng.ms(200, 4000);
        } else {
            self.cut(link);
        }
    }

    fn partition(&mut self) {
        let (host, replica) = (self.rng.below(self.hosts.len()), self.rng.below(self.replicas.len()));
        let until = self.now + self.rng.ms(300, 5000);
        self.faults.partitions.insert((host, replica), until);
        for link in 0..self.links.len() {
            let it = &self.links[link];
            if it.replica == replica && self.workers[it.worker].host == host && it.worker_open {
                self.links[link].stalled_until = until;
                if self.rng.chance(50) {
                    self.cut(link);
                }
            }
        }
    }

    fn break_a_watch(&mut self) {
        let replica = self.rng.below(self.replicas.len());
        let kind = Kind::ALL[self.rng.below(Kind::ALL.len())];
        let stale = self.rng.chance(30).then(|| self.rng.below(100));
        if self.replicas[replica].alive {
            self.relist(replica, kind, stale);
        }
    }

    fn outage(&mut self) {
        self.note(|| "api is down".into());
        self.take_down(100, 6000);
    }

    fn take_down(&mut self, low: u64, high: u64) {
        self.api.up = false;
        let until = (self.now + self.rng.ms(low, high)).max(self.faults.down_until);
        self.faults.down_until = until;
        self.at(until, Item::Mend(Mend::ApiUp));
    }

    fn slow_down(&mut self) {
        self.faults.slow_until = self.now + self.rng.ms(500, 4000);
    }

    fn back_up_or_restore(&mut self) {
        if self.rng.chance(70) {
            // Seldom enough that leaders change in between.
            if !self.faults.keeps_backup && (self.faults.backups == 0 || self.rng.chance(40)) {
                self.faults.backups += 1;
                self.api.back_up();
            }
            return;
        }
        // The API server is away longer than a leader holds on to a Lease that it can't renew.
        if self.now > RESTORES_END
            || self.faults.keeps_backup
            || self.faults.restores >= 2
            || self.replicas.iter().any(|replica| replica.paused)
        {
            return;
        }
        self.restore();
    }

    /// The API goes back to its backup.
    pub(crate) fn restore(&mut self) {
        self.restore_for(5000, 6000);
    }

    /// As long as it is down, a leader of before gives up.
    pub(crate) fn restore_for(&mut self, low: u64, high: u64) {
        if let Some(lost) = self.api.restore() {
            self.note(|| format!("api is restored from backup, without {lost:?}"));
            self.faults.restores += 1;
            self.truth.restored(&lost);
            self.take_down(low, high);
            // Every connection to it broke.
            for replica in 0..self.replicas.len() {
                for kind in Kind::ALL {
                    self.relist(replica, kind, None);
                }
            }
        }
    }

    /// The API is restored while one worker can be reached by nobody.
    fn restore_the_moved(&mut self) {
        if self.now > RESTORES_END || self.replicas.iter().any(|replica| replica.paused) {
            return;
        }
        let alive = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let away = alive.min_by_key(|worker| (worker.running.len(), worker.index)).map(|worker| worker.index);
        if let Some(worker) = away {
            self.part(worker, 8000, 12_000);
        }
        self.faults.away = away;
        if self.rng.chance(50) {
            self.restore_for(300, 800);
            for replica in 0..self.replicas.len() {
                self.crash(replica, 400, 1300);
            }
        } else {
            self.restore_for(3300, 3900);
        }
        // All that is read and written anew takes its time.
        self.faults.slow_until = self.faults.down_until + Duration::from_millis(2500);
        self.faults.quiet_until = self.faults.slow_until;
        self.at(self.faults.down_until, Item::Mend(Mend::EditTheAway));
    }

    fn part_early(&mut self) {
        let alive = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let early =
            alive.max_by_key(|worker| (worker.running.len(), worker.index)).map(|worker| worker.index);
        if let Some(early) = early {
            self.note(|| format!("worker {early} can't be reached"));
            self.faults.early = Some(early);
            self.part(early, 15_000, 20_000);
        }
    }

    /// A worker can be reached by nobody for a while.
    pub(crate) fn part(&mut self, worker: usize, low: u64, high: u64) {
        for replica in 0..self.replicas.len() {
            let until = self.now + self.rng.ms(low, high);
            self.faults.partitions.insert((self.workers[worker].host, replica), until);
            if let Some(&link) = self.workers[worker].links.get(&replica) {
                self.cut(link);
            }
        }
    }

    /// Workers open new sessions with those who don't lead: the hello is heard, what follows is on its way for long.
    fn dial_all_slowly(&mut self) {
        let running: Vec<usize> =
            self.workers.iter().filter(|worker| worker.alive && !worker.paused).map(|w| w.index).collect();
        for worker in running {
            for replica in 0..self.replicas.len() {
                let waiting = self.replicas[replica].alive && !self.replicas[replica].leading;
                let link = self.workers[worker].links.get(&replica).copied();
                let Some(link) = link.filter(|_| waiting && self.rng.chance(60)) else { continue };
                self.links[link].worker_open = false;
                self.workers[worker].links.remove(&replica);
                self.after(0, 200, Item::OperatorClose { link });
                self.dial_slowly(worker, replica);
            }
        }
    }

    /// Some streams rest or are paused.
    fn rest_some(&mut self) {
        self.faults.uncrowded_until = self.now + Duration::from_millis(1900);
        self.faults.quiet_until = self.now + Duration::from_millis(1900);
        for _ in 0..4 {
            self.make_stream();
        }
        for target in self.targets() {
            match self.rng.below(10) {
                0..5 => self.rest(&target, false),
                5 => self.change_spec(&target, |spec| spec.paused = true),
                _ => {}
            }
        }
    }

    /// What runs is told again at the same epoch, stopped, or loses its sockets.
    fn move_again(&mut self) {
        for target in self.targets() {
            match self.rng.below(9) {
                0..3 => self.change_spec(&target, |spec| spec.publish = objects::publish(None, 8)),
                3 => self.unwish(&target),
                4 => self.rebind(&target),
                _ => {}
            }
        }
    }

    /// All streams, as the leader has them.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let leader = self.replicas.iter().position(|replica| replica.leading);
        leader.map(|leader| self.targets_of(leader)).unwrap_or_default()
    }

    /// All streams, as one who leads has them.
    pub(crate) fn targets_of(&self, replica: usize) -> Vec<Target> {
        let core = &self.replicas[replica].core;
        let target = |stream: operator_core::StreamView<'_>| {
            let (lease, phase) = core.stream_state(stream.uid)?;
            Some(Target { replica, uid: stream.uid.clone(), name: stream.name.clone(), lease, phase })
        };
        core.streams().filter_map(target).collect()
    }

    /// Everybody's ports or rules are made anew, and what rests is woken.
    fn move_all(&mut self) {
        if !self.api.up {
            return;
        }
        // What is made now is lost in the restore.
        for _ in 0..2 {
            self.make_stream();
        }
        let streams: Vec<StreamObject> = self.api.objects.streams.values().cloned().collect();
        for mut object in streams.into_iter().filter(|object| !object.deleting) {
            let Ok(spec) = &object.spec else { continue };
            let mut spec = (**spec).clone();
            spec.paused = false;
            spec.release_after_idle = None;
            if let operator_core::spec::Source::Rtp(source) = &mut spec.source {
                source.rtcp = !source.rtcp;
            } else if self.rng.chance(50) {
                spec.node_selector = BTreeMap::from([("zone".into(), "z1".into())]);
            }
            object.generation += 1;
            object.spec = Ok(Arc::new(spec));
            self.api.put_stream(object);
        }
    }

    /// The API is restored, and all that was up is started again but one worker: it runs on, can't be reached for a while,
    /// and knows a later term than those that begin.
    fn black_out(&mut self) {
        let alive = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let away = alive.max_by_key(|worker| (worker.term, worker.index)).map(|worker| worker.index);
        let floor = self.api.backup_term().unwrap_or(u64::MAX - 2);
        let Some(away) = away.filter(|&away| self.workers[away].term.0 >= floor + 2) else {
            return self.after(300, 900, Item::Mend(Mend::BlackOut));
        };
        if self.now > RESTORES_END {
            return;
        }
        let lost = self.api.restore().unwrap_or_default();
        self.note(|| format!("all is started again but worker {away}; the API lost {lost:?}"));
        self.faults.restores += 1;
        self.faults.away = Some(away);
        self.faults.poked.clear();
        self.truth.restored(&lost);
        self.take_down(300, 800);
        self.at(self.faults.down_until, Item::Mend(Mend::EditTheAway));
        for worker in 0..self.workers.len() {
            if self.workers[worker].alive && worker != away && self.faults.early != Some(worker) {
                let host = self.workers[worker].host;
                let (name, pod_uid) =
                    (self.workers[worker].name.to_string(), self.workers[worker].pod_uid.to_string());
                self.workers[worker].paused = false;
                self.kill_worker(worker);
                let (low, high) = if self.faults.early.is_some() { (1500, 4000) } else { (300, 1500) };
                self.after(low, high, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
            }
        }
        self.faults.slow_until = self.faults.down_until + Duration::from_millis(2500);
        if let Some(early) = self.faults.early.take() {
            let until = self.now + self.rng.ms(600, 1500);
            for replica in 0..self.replicas.len() {
                self.faults.partitions.insert((self.workers[early].host, replica), until);
            }
        }
        let host = self.workers[away].host;
        let until = self.now + self.rng.ms(8000, 14_000);
        for replica in 0..self.replicas.len() {
            self.faults.partitions.insert((host, replica), until);
            self.crash(replica, 400, 1300);
        }
        self.after(7000, 9000, Item::Mend(Mend::BlackOut));
    }

    /// People change streams that a worker runs which nobody can reach.
    fn edit_the_away(&mut self) {
        let Some(away) = self.faults.away else { return };
        let running: Vec<_> = self.workers[away].running.keys().cloned().collect();
        for uid in running {
            let name = self.api.objects.streams.values().find(|object| object.uid == uid);
            let Some(name) = name.map(|object| object.name.clone()) else { continue };
            if self.rng.chance(70) {
                self.unwish(&self.target_of(&uid, &name));
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- processes

    fn pause_replica(&mut self) {
        let replica = self.rng.below(self.replicas.len());
        if self.replicas[replica].alive && !self.replicas[replica].paused {
            self.note(|| format!("operator {replica} is paused"));
            self.replicas[replica].paused = true;
            self.after(200, 9000, Item::Mend(Mend::ResumeReplica(replica)));
        }
    }

    fn crash_replica(&mut self) {
        let replica = self.rng.below(self.replicas.len());
        self.crash(replica, 100, 5000);
    }

    fn crash(&mut self, replica: usize, low: u64, high: u64) {
        self.crash_slowly(replica, (0, 300), (low, high));
    }

    /// Workers notice it some time after; then it starts again.
    pub(crate) fn crash_slowly(&mut self, replica: usize, noticed: (u64, u64), started: (u64, u64)) {
        if !self.replicas[replica].alive {
            return;
        }
        self.note(|| format!("operator {replica} crashes"));
        self.replicas[replica].alive = false;
        for link in 0..self.links.len() {
            if self.links[link].replica == replica && self.links[link].worker_open {
                self.after(noticed.0, noticed.1, Item::WorkerClose { link });
            }
        }
        self.after(started.0, started.1, Item::Mend(Mend::StartReplica(replica)));
    }

    fn any_worker(&mut self) -> Option<usize> {
        let running = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let alive: Vec<usize> =
            running.map(|worker| worker.index).filter(|worker| !self.is_spared(*worker)).collect();
        self.rng.pick(&alive).copied()
    }

    /// It is to come back later.
    fn is_spared(&self, worker: usize) -> bool {
        [self.faults.away, self.faults.early].contains(&Some(worker))
    }

    fn pause_worker(&mut self) {
        let Some(worker) = self.any_worker() else { return };
        self.note(|| format!("worker {worker} is paused"));
        self.workers[worker].paused = true;
        self.after(200, 8000, Item::Mend(Mend::ResumeWorker(worker)));
    }

    /// A worker process ends; the same pod or another one follows.
    fn crash_worker(&mut self) {
        let Some(worker) = self.any_worker() else { return };
        let host = self.workers[worker].host;
        let closed = self.truth.closed_last(&self.hosts[host].name);
        self.kill_worker(worker);
        if let Some(port) = closed.filter(|_| self.rng.chance(50)) {
            // Nobody else knows who has it now.
            self.thieve_from(host, port);
        }
        let (mut name, mut pod_uid) =
            (self.workers[worker].name.to_string(), self.workers[worker].pod_uid.to_string());
        if self.rng.chance(30) {
            name = format!("worker-{host}-{}", self.workers.len());
            pod_uid = format!("pod-{host}-{}", self.workers.len());
        }
        self.after(20, 4000, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
    }

    pub(crate) fn kill_worker(&mut self, worker: usize) {
        if !self.workers[worker].alive {
            return;
        }
        self.note(|| format!("worker {worker} ends"));
        let host = self.workers[worker].host;
        self.workers[worker].die(&mut self.hosts[host]);
        self.truth.worker_ended(&self.hosts[host].name);
        self.faults.worker_backlog.remove(&worker);
        for link in 0..self.links.len() {
            if self.links[link].worker == worker && self.links[link].operator_open {
                self.after(0, 2000, Item::OperatorClose { link });
            }
        }
        if self.rng.chance(50) {
            self.tell_lost(worker);
        }
    }

    /// A second process on the node while the first, which does not run, still has its sockets.
    fn replace_worker(&mut self) {
        let Some(worker) = self.any_worker() else { return };
        let host = self.workers[worker].host;
        self.workers[worker].paused = true;
        self.note(|| format!("worker {worker} is paused and replaced"));
        let name = format!("worker-{host}-{}", self.workers.len());
        let pod_uid = format!("pod-{host}-{}", self.workers.len());
        self.after(20, 2000, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
        self.after(2500, 8000, Item::Mend(Mend::Kill(worker)));
        if self.rng.chance(50) {
            self.after(2000, 7000, Item::Mend(Mend::ResumeWorker(worker)));
        }
    }

    pub(crate) fn tell_lost(&mut self, worker: usize) {
        for replica in 0..self.replicas.len() {
            let incarnation = self.replicas[replica].incarnation;
            let (worker, boot) = (self.workers[worker].name.clone(), self.workers[worker].boot.clone());
            self.after(
                0,
                1200,
                Item::Feed { replica, incarnation, event: Event::WorkerLost { worker, boot } },
            );
        }
    }

    /// The witnesses are wrong: it is only paused, or nobody can reach it.
    fn declare_lost(&mut self) {
        let candidates: Vec<usize> =
            self.workers.iter().filter(|worker| worker.alive && worker.paused).map(|w| w.index).collect();
        if let Some(&worker) = self.rng.pick(&candidates) {
            self.tell_lost(worker);
        }
    }

    pub(crate) fn tell_stuck(&mut self) {
        let Some(worker) = self.any_worker() else { return };
        let streams: Vec<StreamRef> = self.workers[worker]
            .running
            .iter()
            .map(|(uid, run)| StreamRef::new(uid.clone(), run.epoch))
            .collect();
        let report = Report::ShardStuck { shard: 0, verdict: "blocked".into(), streams };
        self.report(worker, vec![report]);
    }

    fn leak(&mut self) {
        if let Some(worker) = self.any_worker() {
            self.workers[worker].leaks = !self.workers[worker].leaks;
        }
    }

    pub(crate) fn confirm_absence(&mut self) {
        self.confirm_absence_after(0);
    }

    /// A person looks at what lists lack, and says that it is gone.
    fn confirm_absence_after(&mut self, ms: u64) {
        for replica in 0..self.replicas.len() {
            let incarnation = self.replicas[replica].incarnation;
            self.after(ms, ms + 100, Item::Feed { replica, incarnation, event: Event::AbsenceConfirmed });
        }
    }

    // ------------------------------------------------------------------------------------------------- ends

    pub(crate) fn mend(&mut self, mend: Mend) {
        self.note(|| format!("{mend:?}"));
        match mend {
            // The end of one outage may fall into another.
            Mend::ApiUp => self.api.up |= self.now >= self.faults.down_until,
            Mend::ResumeReplica(replica) => {
                self.replicas[replica].paused = false;
                for item in std::mem::take(&mut self.replicas[replica].backlog) {
                    self.at(self.now, item);
                }
            }
            Mend::StartReplica(replica) => {
                if !self.replicas[replica].alive {
                    self.start_replica(Some(replica));
                }
            }
            Mend::ResumeWorker(worker) => {
                self.workers[worker].paused = false;
                for item in self.faults.worker_backlog.remove(&worker).unwrap_or_default() {
                    self.at(self.now, item);
                }
            }
            Mend::StartWorker { host, name, pod_uid } => {
                // A container is started again when its process is gone, be it by force.
                let former = self.workers.iter().filter(|it| it.alive && it.pod_uid[..] == *pod_uid);
                for worker in former.map(|it| it.index).collect::<Vec<_>>() {
                    self.kill_worker(worker);
                }
                if !self.workers.iter().any(|worker| worker.alive && !worker.paused && worker.host == host) {
                    self.start_worker(host, &name, &pod_uid);
                }
            }
            Mend::Thief { host, port } => {
                self.hosts[host].give_back(port);
            }
            Mend::Finalizer(name, uid) => {
                if self.api.objects.streams.get(&name).is_some_and(|object| object.uid == uid) {
                    self.truth.user_deleted.insert(uid);
                    self.api.remove_stream(&name);
                }
            }
            Mend::Publish(uid) => self.publish(&uid),
            Mend::Blurt(worker, uid) => self.blurt(worker, &uid),
            Mend::Unwish(uid, name) => {
                if !self.faults.calm {
                    self.unwish(&self.target_of(&uid, &name));
                }
            }
            Mend::Delete(uid, name) => {
                if !self.faults.calm {
                    self.delete_slowly(&self.target_of(&uid, &name), 3000);
                }
            }
            Mend::ChangeLeader => {
                let leader = self.replicas.iter().position(|replica| replica.leading && !replica.paused);
                if let Some(replica) = leader.filter(|_| !self.faults.calm) {
                    let incarnation = self.replicas[replica].incarnation;
                    self.at(self.now, Item::Demote { replica, incarnation });
                }
            }
            Mend::RestSome => self.rest_some(),
            Mend::MoveAll => self.move_all(),
            Mend::PartEarly => self.part_early(),
            Mend::SlowDials => self.dial_all_slowly(),
            Mend::MoveAgain => self.move_again(),
            Mend::Restore => {
                if !self.faults.calm {
                    self.restore_the_moved();
                }
            }
            Mend::BackUp => {
                self.faults.backups += 1;
                self.api.back_up();
            }
            Mend::BlackOut => {
                if !self.faults.calm {
                    self.black_out();
                }
            }
            Mend::TouchSuspects => self.touch_suspects(),
            Mend::EditTheAway => self.edit_the_away(),
            Mend::Drop => self.drop_silently(),
            Mend::Stir(stir) => self.stir(stir),
            Mend::Relapse(step) => self.relapse(step),
            Mend::Tidy => {
                if !self.faults.calm {
                    self.tidy();
                }
            }
            Mend::Kill(worker) => {
                self.kill_worker(worker);
                let host = self.workers[worker].host;
                if !self.workers.iter().any(|worker| worker.alive && worker.host == host) {
                    let (name, pod_uid) = (format!("worker-{host}-z"), format!("pod-{host}-z{worker}"));
                    self.after(20, 500, Item::Mend(Mend::StartWorker { host, name, pod_uid }));
                }
            }
        }
    }

    /// A worker's kernel takes the sockets of a stream away: nothing but the digest tells of it.
    fn drop_silently(&mut self) {
        for worker in self.workers.iter_mut().filter(|worker| worker.alive) {
            let leased = worker.running.iter().find(|(_, run)| run.ports.is_some());
            if let Some(uid) = leased.map(|(uid, _)| uid.clone()) {
                worker.drop_silently(&mut self.hosts[worker.host], &uid);
            }
        }
    }

    /// What sat on a stuck shard twice is tried again.
    fn touch_suspects(&mut self) {
        let is_suspect = |object: &&StreamObject| {
            object.status.conditions.values().any(|condition| condition.reason == Reason::Suspect)
        };
        let suspects: Vec<StreamObject> =
            self.api.objects.streams.values().filter(is_suspect).cloned().collect();
        for mut object in suspects {
            object.touch = Some(format!("again {}", self.now.as_secs()).into());
            self.api.put_stream(object);
        }
    }

    /// All faults end: everything runs again, and a person confirms what the lists lack.
    pub(crate) fn heal(&mut self) {
        self.note(|| "faults end".into());
        self.faults.calm = true;
        self.faults.partitions.clear();
        self.api.up = true;
        for link in &mut self.links {
            link.stalled_until = self.now;
        }
        for replica in 0..self.replicas.len() {
            self.mend(Mend::StartReplica(replica));
            self.mend(Mend::ResumeReplica(replica));
            // A list may have had a hole where a stream was that this replica had not heard of.
            self.relist(replica, Kind::Streams, None);
        }
        for worker in 0..self.workers.len() {
            self.workers[worker].leaks = false;
            self.mend(Mend::ResumeWorker(worker));
        }
        // The last processes that end with the faults may have had one.
        self.after(15_000, 16_000, Item::Mend(Mend::TouchSuspects));
        self.confirm_absence_after(12_000);
        self.confirm_absence_after(22_000);
        // When nothing else asks for an inventory any more.
        self.after(24_000, 26_000, Item::Mend(Mend::Drop));
        for host in 0..self.hosts.len() {
            // A process that was replaced does not come back for good: the lock on its node would have seen to that.
            let here: Vec<usize> = self.workers.iter().filter(|w| w.host == host).map(|w| w.index).collect();
            let (&newest, old) = here.split_last().expect("each host had a worker");
            for &worker in old {
                self.kill_worker(worker);
            }
            if !self.workers[newest].alive {
                self.start_worker(host, &format!("worker-{host}-end"), &format!("pod-{host}-end"));
            }
            let mut node = objects::node(host);
            if let Some(known) = self.api.objects.nodes.get(&node.name) {
                node.labels.clone_from(&known.labels);
            }
            if self.api.objects.nodes.get(&node.name) != Some(&node) {
                self.api.put_node(node);
            }
        }
        let streams: Vec<StreamObject> = self.api.objects.streams.values().cloned().collect();
        for mut object in streams {
            let suspect =
                object.status.conditions.values().any(|condition| condition.reason == Reason::Suspect);
            if object.spec.is_err() {
                let path = self.truth.paths[&object.uid].clone();
                object.generation += 1;
                object.spec = Ok(Arc::new(objects::spec(&path, objects::push())));
                self.api.put_stream(object);
            } else if suspect {
                object.touch = Some("again".into());
                self.api.put_stream(object);
            }
        }
        let pools: Vec<PoolObject> =
            self.api.objects.pools.values().filter(|pool| pool.spec.is_err()).cloned().collect();
        for mut pool in pools {
            pool.generation += 1;
            pool.spec = Ok(Arc::new(self.pool_spec()));
            self.api.put_pool(pool);
        }
        let deleting: Vec<ObjectName> = self
            .api
            .objects
            .streams
            .values()
            .filter(|object| object.deleting)
            .map(|object| object.name.clone())
            .collect();
        for name in deleting {
            self.api.remove_stream(&name);
        }
    }
}
