//! The API server: objects with versions, preconditioned status writes, a log that watches follow, lists that may be
//! stale, and restores from backup.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use operator_core::Event;
use operator_core::event::{Listed, NodeObject, WriteOutcome};
use operator_core::ids::{NodeName, ObjectName, PoolName, ResourceVersion, ServiceCidrName, Uid};
use operator_core::spec::{PoolObject, StreamObject};
use operator_core::status::{PoolStatus, StreamStatus};

/// Old states that a stale list may show.
const HISTORY_MAX: usize = 12;

/// What is watched by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Streams,
    Pools,
    Nodes,
    Secrets,
    ServiceCidrs,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Streams, Self::Pools, Self::Nodes, Self::Secrets, Self::ServiceCidrs];
}

/// All objects at one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) version: u64,
    pub(crate) streams: BTreeMap<ObjectName, StreamObject>,
    pub(crate) pools: BTreeMap<PoolName, PoolObject>,
    pub(crate) nodes: BTreeMap<NodeName, NodeObject>,
    pub(crate) secrets: BTreeMap<ObjectName, Arc<[[u8; 32]]>>,
    pub(crate) service_cidrs: BTreeMap<ServiceCidrName, Vec<IpNet>>,
}

/// The Lease of the operators.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    /// Replica and incarnation.
    pub(crate) holder: Option<(usize, u64)>,
    pub(crate) renewed: Duration,
    pub(crate) term: u64,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) event: Event,
}

/// A status write on its way.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Stream { uid: Uid, name: ObjectName, version: ResourceVersion, status: Box<StreamStatus> },
    Pool { uid: Uid, name: PoolName, version: ResourceVersion, status: Box<PoolStatus> },
    Delete { uid: Uid, name: ObjectName, version: ResourceVersion },
}

/// The API server.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) objects: Objects,
    pub(crate) lease: Lease,
    pub(crate) log: Vec<Change>,
    history: VecDeque<Objects>,
    backup: Option<(Objects, Lease)>,
    /// Rises with each restore.
    pub(crate) timeline: u64,
    pub(crate) up: bool,
}

impl Api {
    /// An empty one that answers.
    pub(crate) fn running() -> Self {
        Self { up: true, ..Self::default() }
    }

    fn next_version(&mut self) -> ResourceVersion {
        // After a restore, versions are given out anew. Those of two timelines are kept apart in their last digit: a
        // write with a version of before must not fit by accident, which no client could tell.
        self.objects.version = (self.objects.version / 10 + 1) * 10 + self.timeline % 10;
        ResourceVersion(self.objects.version)
    }

    fn commit(&mut self, kind: Kind, event: Event) {
        self.log.push(Change { version: self.objects.version, kind, event });
        if self.log.len().is_multiple_of(6) {
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(self.objects.clone());
        }
    }

    /// Creates or replaces a stream.
    pub(crate) fn put_stream(&mut self, mut object: StreamObject) -> ResourceVersion {
        object.resource_version = self.next_version();
        self.objects.streams.insert(object.name.clone(), object.clone());
        let version = object.resource_version;
        self.commit(Kind::Streams, Event::StreamSeen(Box::new(object)));
        version
    }

    /// Deletes a stream.
    pub(crate) fn remove_stream(&mut self, name: &ObjectName) -> Option<Uid> {
        let uid = self.objects.streams.remove(name)?.uid;
        self.next_version();
        self.commit(Kind::Streams, Event::StreamGone { uid: uid.clone() });
        Some(uid)
    }

    /// Creates or replaces a pool.
    pub(crate) fn put_pool(&mut self, mut object: PoolObject) -> ResourceVersion {
        object.resource_version = self.next_version();
        self.objects.pools.insert(object.name.clone(), object.clone());
        let version = object.resource_version;
        self.commit(Kind::Pools, Event::PoolSeen(Box::new(object)));
        version
    }

    /// Deletes a pool.
    pub(crate) fn remove_pool(&mut self, name: &PoolName) {
        if let Some(pool) = self.objects.pools.remove(name) {
            self.next_version();
            self.commit(Kind::Pools, Event::PoolGone { name: pool.name, uid: pool.uid });
        }
    }

    /// Creates or replaces a node.
    pub(crate) fn put_node(&mut self, object: NodeObject) {
        self.next_version();
        self.objects.nodes.insert(object.name.clone(), object.clone());
        self.commit(Kind::Nodes, Event::NodeSeen(object));
    }

    /// Deletes a node.
    pub(crate) fn remove_node(&mut self, name: &NodeName) {
        if let Some(node) = self.objects.nodes.remove(name) {
            self.next_version();
            self.commit(Kind::Nodes, Event::NodeGone { name: node.name });
        }
    }

    /// Creates or replaces a Secret.
    pub(crate) fn put_secret(&mut self, name: ObjectName, token_sha256: Arc<[[u8; 32]]>) {
        self.next_version();
        self.objects.secrets.insert(name.clone(), token_sha256.clone());
        self.commit(Kind::Secrets, Event::SecretSeen { name, token_sha256 });
    }

    /// Deletes a Secret.
    pub(crate) fn remove_secret(&mut self, name: &ObjectName) {
        if self.objects.secrets.remove(name).is_some() {
            self.next_version();
            self.commit(Kind::Secrets, Event::SecretGone { name: name.clone() });
        }
    }

    /// Creates or replaces a ServiceCIDR.
    pub(crate) fn put_service_cidr(&mut self, name: ServiceCidrName, networks: Vec<IpNet>) {
        self.next_version();
        self.objects.service_cidrs.insert(name.clone(), networks.clone());
        self.commit(Kind::ServiceCidrs, Event::ServiceCidrSeen { name, networks });
    }

    /// Deletes a ServiceCIDR.
    pub(crate) fn remove_service_cidr(&mut self, name: &ServiceCidrName) {
        if self.objects.service_cidrs.remove(name).is_some() {
            self.next_version();
            self.commit(Kind::ServiceCidrs, Event::ServiceCidrGone { name: name.clone() });
        }
    }

    /// Does what a write asks for, or says why not. The CRD's rules on status (CEL): term and epoch never go back.
    pub(crate) fn write(&mut self, write: Write) -> WriteOutcome {
        match write {
            Write::Stream { uid, name, version, status } => {
                let Some(object) = self.objects.streams.get(&name).filter(|object| object.uid == uid) else {
                    return WriteOutcome::NotFound;
                };
                if object.resource_version != version {
                    return WriteOutcome::Conflict;
                }
                if status.term < object.status.term || status.epoch < object.status.epoch {
                    return WriteOutcome::Refused { message: "term and epoch never go back".into() };
                }
                let object = StreamObject { status, ..object.clone() };
                WriteOutcome::Written { resource_version: self.put_stream(object) }
            }
            Write::Pool { uid, name, version, status } => {
                let Some(object) = self.objects.pools.get(&name).filter(|object| object.uid == uid) else {
                    return WriteOutcome::NotFound;
                };
                if object.resource_version != version {
                    return WriteOutcome::Conflict;
                }
                let object = PoolObject { status, ..object.clone() };
                WriteOutcome::Written { resource_version: self.put_pool(object) }
            }
            Write::Delete { uid, name, version } => {
                let Some(object) = self.objects.streams.get(&name).filter(|object| object.uid == uid) else {
                    return WriteOutcome::NotFound;
                };
                if object.resource_version != version {
                    return WriteOutcome::Conflict;
                }
                self.remove_stream(&name);
                WriteOutcome::Written { resource_version: ResourceVersion(self.objects.version) }
            }
        }
    }

    /// One object, read from the server itself.
    pub(crate) fn get(&self, uid: &Uid, name: Option<&ObjectName>) -> Option<Box<StreamObject>> {
        let found = match name {
            Some(name) => self.objects.streams.get(name),
            None => self.objects.streams.values().find(|object| object.uid == *uid),
        };
        found.filter(|object| object.uid == *uid).cloned().map(Box::new)
    }

    /// What a driver answers who reads a stream.
    pub(crate) fn read(&self, uid: Uid, name: Option<&ObjectName>, since: ResourceVersion) -> Event {
        match self.get(&uid, name) {
            None if self.objects.version < since.0 => Event::Forgotten { uid },
            found => Event::Confirmed { uid, found },
        }
    }

    /// An older state of this timeline, as a lagging cache would serve it.
    pub(crate) fn stale(&self, index: usize) -> &Objects {
        if self.history.is_empty() { &self.objects } else { &self.history[index % self.history.len()] }
    }

    /// The first change of a kind after a version.
    pub(crate) fn after(&self, kind: Kind, version: u64) -> impl Iterator<Item = &Change> {
        let from = self.log.partition_point(|change| change.version <= version);
        self.log[from..].iter().filter(move |change| change.kind == kind)
    }

    /// Puts everything aside.
    pub(crate) fn back_up(&mut self) {
        self.backup = Some((self.objects.clone(), self.lease.clone()));
    }

    /// The term in the Lease that was put aside.
    pub(crate) fn backup_term(&self) -> Option<u64> {
        self.backup.as_ref().map(|(_, lease)| lease.term)
    }

    /// Goes back to what was put aside. Says what is lost by that.
    pub(crate) fn restore(&mut self) -> Option<Vec<Uid>> {
        let (objects, lease) = self.backup.clone()?;
        let is_kept = |uid: &Uid| objects.streams.values().any(|kept| kept.uid == *uid);
        let lost = self.objects.streams.values().map(|object| object.uid.clone()).filter(|uid| !is_kept(uid));
        let lost = lost.collect();
        self.objects = objects;
        self.lease = lease;
        self.log.clear();
        self.history.clear();
        self.timeline += 1;
        Some(lost)
    }
}

impl Objects {
    /// A whole list as a driver tells it: what there is, then that this was all.
    pub(crate) fn list(&self, kind: Kind) -> Vec<Event> {
        match kind {
            Kind::Streams => {
                let seen = self.streams.values().cloned().map(|object| Event::StreamSeen(Box::new(object)));
                let uids = self.streams.values().map(|object| object.uid.clone()).collect();
                let resource_version = ResourceVersion(self.version);
                seen.chain([Event::Listed(Listed::Streams { resource_version, uids })]).collect()
            }
            Kind::Pools => {
                let seen = self.pools.values().cloned().map(|object| Event::PoolSeen(Box::new(object)));
                let names = self.pools.keys().cloned().collect();
                seen.chain([Event::Listed(Listed::Pools { names })]).collect()
            }
            Kind::Nodes => {
                let seen = self.nodes.values().cloned().map(Event::NodeSeen);
                let names = self.nodes.keys().cloned().collect();
                seen.chain([Event::Listed(Listed::Nodes { names })]).collect()
            }
            Kind::Secrets => {
                let secrets = self.secrets.clone().into_iter();
                let seen = secrets.map(|(name, token_sha256)| Event::SecretSeen { name, token_sha256 });
                let names = self.secrets.keys().cloned().collect();
                seen.chain([Event::Listed(Listed::Secrets { names })]).collect()
            }
            Kind::ServiceCidrs => {
                let all = self.service_cidrs.clone().into_iter();
                let seen = all.map(|(name, networks)| Event::ServiceCidrSeen { name, networks });
                let names = Some(self.service_cidrs.keys().cloned().collect());
                seen.chain([Event::Listed(Listed::ServiceCidrs { names })]).collect()
            }
        }
    }
}
