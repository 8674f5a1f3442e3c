//! What people and misfortune do: edits, thieves, crashes, pauses, cuts, outages, restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator_core::Event;
use operator_core::event::Report;
use operator_core::ids::{ObjectName, PoolName, Protocol, StreamRef, WorkerName};
use operator_core::reason::Reason;
use operator_core::spec::{PoolObject, PoolSpec, Refusal, RtpTransport, StreamObject, StreamSpec};

use crate::api::Kind;
use crate::objects;
use crate::worker::{Socket, Worker};
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
}

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
        let worker =
            Worker::new(index, host, &self.hosts[host].name.clone(), WorkerName::from(name), pod_uid.into());
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
        match self.rng.below(100) {
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
            80..82 => self.back_up_or_restore(),
            82..85 => self.pause_replica(),
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

    fn make_stream(&mut self) {
        let (space, name) = (SPACES[self.rng.below(2)], NAMES[self.rng.below(NAMES.len())]);
        if self.api.up && !self.api.objects.streams.contains_key(&ObjectName::new(space, name)) {
            self.make_stream_named(space, name);
        }
    }

    fn make_stream_named(&mut self, space: &str, name: &str) {
        let path = if self.rng.chance(15) { "live/shared".to_owned() } else { format!("{space}/{name}") };
        let source = self.source();
        let mut spec = objects::spec(&path, source);
        self.decorate(&mut spec);
        let uid = self.uid();
        self.truth.paths.insert(operator_core::ids::Uid::from(uid.as_str()), path);
        // Whole seconds, as the API has them: streams of one second are told apart by their UIDs.
        let created = self.now.as_secs() * 1000;
        self.api.put_stream(objects::stream(&uid, space, name, created, spec));
    }

    fn source(&mut self) -> operator_core::spec::Source {
        match self.rng.below(4) {
            0 => objects::push(),
            1 => objects::rtp(RtpTransport::TcpPassive, false),
            2 => objects::rtp(RtpTransport::TcpPassive, true),
            _ => objects::rtp(RtpTransport::Udp, true),
        }
    }

    /// Fields that may be edited.
    fn decorate(&mut self, spec: &mut StreamSpec) {
        spec.pool = self.rng.chance(15).then(|| PoolName::from(POOLS[self.rng.below(3)]));
        spec.release_after_idle = self.rng.chance(15).then(|| Duration::from_millis(1500));
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
                let other = self.source();
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
        spec
    }

    fn make_pool(&mut self, name: &str) {
        let (uid, spec) = (self.uid(), self.pool_spec());
        let created = self.now.as_secs() * 1000;
        self.api.put_pool(objects::pool(&uid, name, created, spec));
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
        let protocols: &[Protocol] = match self.rng.below(3) {
            0 => &[Protocol::Tcp],
            1 => &[Protocol::Udp],
            _ => &[Protocol::Tcp, Protocol::Udp],
        };
        for &protocol in protocols {
            self.hosts[host].sockets.entry((port, protocol)).or_insert(Socket::Thief);
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
        let kind = Kind::ALL[self.rng.below(4)];
        let stale = self.rng.chance(30).then(|| self.rng.below(100));
        if self.replicas[replica].alive {
            self.relist(replica, kind, stale);
        }
    }

    fn outage(&mut self) {
        self.api.up = false;
        self.note(|| "api is down".into());
        self.after(100, 6000, Item::Mend(Mend::ApiUp));
    }

    fn slow_down(&mut self) {
        self.faults.slow_until = self.now + self.rng.ms(500, 4000);
    }

    fn back_up_or_restore(&mut self) {
        if self.rng.chance(70) {
            return self.api.back_up();
        }
        // The API server is away longer than a leader holds on to a Lease that it can't renew.
        if self.rng.chance(70) || self.replicas.iter().any(|replica| replica.paused) {
            return;
        }
        self.restore();
    }

    /// The API goes back to its backup.
    pub(crate) fn restore(&mut self) {
        if let Some(lost) = self.api.restore() {
            self.note(|| format!("api is restored from backup, without {lost:?}"));
            self.faults.restores += 1;
            self.truth.restored(&lost);
            self.api.up = false;
            self.after(5000, 6000, Item::Mend(Mend::ApiUp));
            // Every connection to it broke.
            for replica in 0..self.replicas.len() {
                for kind in Kind::ALL {
                    self.relist(replica, kind, None);
                }
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
        if !self.replicas[replica].alive {
            return;
        }
        self.note(|| format!("operator {replica} crashes"));
        self.replicas[replica].alive = false;
        for link in 0..self.links.len() {
            if self.links[link].replica == replica && self.links[link].worker_open {
                self.after(0, 300, Item::WorkerClose { link });
            }
        }
        self.after(100, 5000, Item::Mend(Mend::StartReplica(replica)));
    }

    fn any_worker(&mut self) -> Option<usize> {
        let alive: Vec<usize> =
            self.workers.iter().filter(|worker| worker.alive && !worker.paused).map(|w| w.index).collect();
        self.rng.pick(&alive).copied()
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
        self.kill_worker(worker);
        let host = self.workers[worker].host;
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

    fn tell_lost(&mut self, worker: usize) {
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
            Mend::ApiUp => self.api.up = true,
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
                if !self.workers.iter().any(|worker| worker.alive && !worker.paused && worker.host == host) {
                    self.start_worker(host, &name, &pod_uid);
                }
            }
            Mend::Thief { host, port } => {
                self.hosts[host]
                    .sockets
                    .retain(|(number, _), socket| *number != port || *socket != Socket::Thief);
            }
            Mend::Finalizer(name, uid) => {
                if self.api.objects.streams.get(&name).is_some_and(|object| object.uid == uid) {
                    self.api.remove_stream(&name);
                }
            }
            Mend::Drop => self.drop_silently(),
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
