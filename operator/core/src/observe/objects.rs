//! Objects that are there, have changed or are gone.

use std::sync::Arc;

use ipnet::IpNet;

use crate::event::{NodeObject, Now};
use crate::ids::{Epoch, NodeName, ObjectName, PoolName, ServiceCidrName, StreamRef, Term, Uid, WriteId};
use crate::pool::Pool;
use crate::reason::Reason;
use crate::spec::{PoolObject, StreamObject};
use crate::state::{Kind, State, Write};
use crate::stream::{Reading, Stream};
use crate::timers::Timer;

/// How an object came to be seen, and with it whether an older version is old news or shows that the API went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A watch or a list: may be older than our own last write.
    Watch,
    /// A consistent read that was begun after our last write ended, or the list that a new leader begins with.
    Read,
}

impl State {
    /// A stream is there or has changed.
    pub(crate) fn see_stream(&mut self, object: StreamObject, source: Source, now: Now) {
        let from_the_past = object.resource_version < self.version_seen;
        self.note_version(object.resource_version);
        self.note_term_seen(Term(object.status.term));
        let uid = object.uid.clone();
        let Some(stream) = self.streams.get_mut(&uid) else {
            self.meet_stream(object, now);
            if let Some(stream) = self.streams.get_mut(&uid) {
                stream.from_the_past = from_the_past;
            }
            return;
        };
        // The version that is known already brings nothing, an older one would undo our own write.
        if source == Source::Watch && object.resource_version <= stream.resource_version {
            let older = object.resource_version < stream.resource_version;
            stream.passed_over = older;
            // Whatever became of it, an epoch that was on record has been used.
            stream.epoch_told = stream.epoch_told.max(Epoch(object.status.epoch));
            self.counters.stale_events += u64::from(older);
            return;
        }
        let older = object.resource_version < stream.resource_version;
        self.restored |= older;
        self.regressed |= older;
        if source == Source::Watch && stream.reading.is_some() {
            // The answer may be older than this.
            stream.reading = Some(Reading::BesideWrite);
        }
        self.update_stream(uid, object, now);
    }

    /// What an event of this kind is worth: until a new leader has listed it, it is of the list, which is consistent.
    pub(crate) fn source_of(&self, kind: Kind) -> Source {
        match &self.lead {
            Some(lead) if !lead.listed.contains(&kind) => Source::Read,
            Some(_) | None => Source::Watch,
        }
    }

    fn meet_stream(&mut self, object: StreamObject, now: Now) {
        let uid = object.uid.clone();
        let arrival = self.next_rank();
        let mut stream = Stream::new(object, arrival, now.mono);
        stream.take_record();
        stream.write = self.write_under_way(&uid);
        stream.epoch_told = self.epochs_told.remove(&uid).unwrap_or_default();
        // It may have been here before: a restored backup has what was deleted, and its claims may not have ended.
        if let Some((claimed, _)) = self.claims_of(&uid).next_back() {
            stream.epoch = stream.epoch.max(claimed.epoch);
        }
        (stream.idle, stream.suspect) = stream.recorded_rest();
        if let Some(spec) = stream.spec.clone().filter(|_| !stream.deleting) {
            self.declare(&uid, stream.created_unix_ms, &stream.name.namespace.clone(), &spec);
        }
        self.streams.insert(uid.clone(), stream);
        self.arm_quiet(&uid, now);
        self.mark(&uid);
        if self.is_recovered() {
            self.recover_claim(&uid, now);
            self.settle_adopted(&uid, now);
        }
    }

    /// The write of a status that was under way when its stream was seen to go.
    fn write_under_way(&self, uid: &Uid) -> Option<WriteId> {
        let mut writes = self.writes.iter();
        writes.find_map(|(id, write)| match write {
            Write::Stream { uid: of, .. } if of == uid => Some(*id),
            Write::Stream { .. } | Write::Pool { .. } | Write::Delete { .. } => None,
        })
    }

    fn update_stream(&mut self, uid: Uid, object: StreamObject, now: Now) {
        let StreamObject {
            uid: _,
            name,
            resource_version,
            generation,
            created_unix_ms: _,
            deleting,
            touch,
            spec,
            status,
        } = object;
        let decides = self.is_recovered();
        let stream = self.streams.get_mut(&uid).expect("the caller has looked it up");
        let declared = stream.spec.clone().filter(|_| !stream.deleting);
        let rest_before = stream.recorded_rest();
        let edited = stream.generation != generation || stream.touch != touch;
        if edited {
            stream.idle = false;
            stream.suspect = false;
            stream.stuck.clear();
            stream.retry_at = None;
            stream.expiring = false;
            stream.quiet_since = now.mono;
        }
        stream.name = name;
        stream.resource_version = resource_version;
        stream.generation = generation;
        stream.deleting = deleting;
        stream.touch = touch;
        match spec {
            Ok(spec) => {
                stream.spec = Some(spec);
                stream.refusal = None;
            }
            Err(refusal) => stream.refusal = Some(refusal),
        }
        let recorded_before = Epoch(stream.stored.epoch);
        stream.epoch = stream.epoch.max(Epoch(status.epoch));
        stream.stored = status;
        // Who leads has put it to rest, or has woken it.
        let rest = stream.recorded_rest();
        if !decides && !edited && rest != rest_before {
            (stream.idle, stream.suspect) = rest;
        }
        stream.absent = None;
        stream.passed_over = false;
        let declares = stream.spec.clone().filter(|_| !stream.deleting);
        let (created, namespace) = (stream.created_unix_ms, stream.name.namespace.clone());
        self.held_absent.remove(&uid);
        if declared != declares {
            if let Some(spec) = declared {
                self.undeclare(&uid, created, &namespace, &spec);
            }
            if let Some(spec) = declares {
                self.declare(&uid, created, &namespace, &spec);
            }
        }
        self.arm_quiet(&uid, now);
        self.mark(&uid);
        if self.is_recovered() {
            self.compare_record(&uid, recorded_before, now);
        }
    }

    /// A stream was deleted. Its claims go on until their workers have closed them.
    pub(crate) fn lose_stream(&mut self, uid: &Uid, now: Now) {
        self.block(uid, None, now);
        if let Some(gone) = self.reads.get_mut(uid) {
            *gone = true;
        }
        let Some(stream) = self.streams.get(uid) else { return };
        if let Some(spec) = stream.spec.clone().filter(|_| !stream.deleting) {
            let (created, namespace) = (stream.created_unix_ms, stream.name.namespace.clone());
            self.undeclare(uid, created, &namespace, &spec);
        }
        if let Some(epoch) = self.streams.get(uid).and_then(|stream| stream.claim) {
            self.revoke(&StreamRef::new(uid.clone(), epoch), Reason::Deleted, now);
        }
        if let Some(stream) = self.streams.remove(uid) {
            self.epoch_floor = self.epoch_floor.max(stream.epoch);
        }
        self.stranded.remove(uid);
        self.held_absent.remove(uid);
        self.dirty.streams.remove(uid);
        self.dirty.statuses.remove(uid);
        self.timers.cancel(&Timer::Quiet(uid.clone()));
        self.timers.cancel(&Timer::Retry(uid.clone()));
    }

    /// A pool is there or has changed.
    pub(crate) fn see_pool(&mut self, object: PoolObject, source: Source) {
        self.note_version(object.resource_version);
        let name = object.name.clone();
        match self.pools.get_mut(&name).filter(|pool| pool.uid == object.uid) {
            None => {
                self.pools.insert(name.clone(), Pool::new(object));
            }
            Some(pool) if source == Source::Watch && object.resource_version <= pool.resource_version => {
                if object.resource_version < pool.resource_version {
                    self.counters.stale_events += 1;
                    pool.passed_over = Some(Box::new(object));
                    // Which of the two is there, the next write tells.
                    self.dirty.pools.insert(name);
                } else {
                    pool.passed_over = None;
                }
                return;
            }
            Some(pool) => {
                let PoolObject {
                    uid: _,
                    name: _,
                    resource_version,
                    generation,
                    created_unix_ms: _,
                    spec,
                    status,
                } = object;
                pool.passed_over = None;
                pool.conflicts = 0;
                pool.resource_version = resource_version;
                pool.stored = status;
                let before = (pool.generation, pool.spec.clone(), pool.refusal.clone());
                pool.generation = generation;
                match spec {
                    Ok(spec) => {
                        pool.spec = Some(spec);
                        pool.refusal = None;
                    }
                    Err(refusal) => pool.refusal = Some(refusal),
                }
                // An echo of our own write changes nothing that a stream could notice. A restore may bring another spec of
                // the same generation.
                let same = before == (pool.generation, pool.spec.clone(), pool.refusal.clone());
                self.dirty.pools.insert(name.clone());
                if same {
                    return;
                }
            }
        }
        self.dirty.pools.insert(name);
        self.dirty.shelves = true;
        self.dirty.placement = true;
    }

    /// The API went back: what was passed over for its age is what it has.
    pub(crate) fn take_passed_over_pools(&mut self) {
        let passed_over: Vec<PoolObject> =
            self.pools.values_mut().filter_map(|pool| pool.passed_over.take()).map(|pool| *pool).collect();
        for object in passed_over {
            self.see_pool(object, Source::Read);
        }
    }

    /// A pool was deleted. Its leases go on.
    pub(crate) fn lose_pool(&mut self, name: &PoolName, uid: &Uid) {
        if self.pools.get(name).is_none_or(|pool| pool.uid != *uid) {
            return;
        }
        self.pools.remove(name);
        self.timers.cancel(&Timer::PoolStatus(name.clone()));
        self.dirty.pools.remove(name);
        self.dirty.shelves = true;
        self.dirty.placement = true;
        let waiting: Vec<Uid> = self
            .queues
            .iter()
            .filter(|(queue, _)| queue.pool == *name)
            .flat_map(|(_, waiting)| waiting.iter().map(|(_, uid)| uid.clone()))
            .collect();
        for uid in waiting {
            self.mark(&uid);
        }
    }

    /// A node is there or has changed.
    pub(crate) fn see_node(&mut self, object: NodeObject) {
        let name = object.name.clone();
        let node = self.nodes.entry(name.clone()).or_default();
        if node.object.as_ref() == Some(&object) {
            return;
        }
        let relabelled = node.object.as_ref().is_none_or(|before| before.labels != object.labels);
        let networks = |object: &NodeObject| (object.own.clone(), object.pods.clone());
        self.dirty.networks |= node.object.as_ref().map(networks) != Some(networks(&object));
        node.object = Some(object);
        self.dirty.shelves |= relabelled;
        self.dirty.placement = true;
        self.mark_claims(&name);
    }

    /// A node was deleted. Frees nothing; ends a hold on its worker.
    pub(crate) fn lose_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.object = None;
        self.dirty.networks = true;
        self.dirty.shelves = true;
        self.dirty.placement = true;
        self.mark_claims(name);
    }

    /// Streams on this node are to be looked at.
    pub(crate) fn mark_claims(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        let uids: Vec<Uid> = node.claims.iter().map(|claim| claim.uid.clone()).collect();
        for uid in uids {
            self.mark(&uid);
        }
    }

    /// Services get addresses from these networks.
    pub(crate) fn see_service_cidr(&mut self, name: ServiceCidrName, networks: Vec<IpNet>) {
        let known = self.service_cidrs.get(&name);
        self.dirty.networks |= known != Some(&networks);
        self.service_cidrs.insert(name, networks);
    }

    /// Services get no addresses from there any more.
    pub(crate) fn lose_service_cidr(&mut self, name: &ServiceCidrName) {
        self.dirty.networks |= self.service_cidrs.remove(name).is_some();
    }

    /// A token Secret has these hashes, or is gone.
    pub(crate) fn see_secret(&mut self, name: ObjectName, token_sha256: Option<Arc<[[u8; 32]]>>) {
        if self.secrets.get(&name) == token_sha256.as_ref() {
            return;
        }
        match token_sha256 {
            Some(hashes) => self.secrets.insert(name.clone(), hashes),
            None => self.secrets.remove(&name),
        };
        for uid in self.secret_users.get(&name).cloned().unwrap_or_default() {
            if let Some(path) = self.streams.get(&uid).and_then(|stream| stream.path()).cloned() {
                self.dirty.paths.insert(path);
            }
            self.mark(&uid);
        }
    }
}
