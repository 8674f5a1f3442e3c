//! Everything that is known. `observe` takes note of what happened, `plan` decides; both keep the indexes by the
//! methods here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::action::{Action, ClusterNetworks, DirectoryEntry};
use crate::claim::Claim;
use crate::config::Config;
use crate::counters::Counters;
use crate::digest::DirectoryDigest;
use crate::event::Listed;
use crate::ids::{
    Epoch, NodeName, ObjectName, Path, PoolName, ResourceVersion, ServiceCidrName, SessionId, StreamRef,
    Term, Uid, WriteId,
};
use crate::limits;
use crate::node::Node;
use crate::pool::Pool;
use crate::status::{PoolStatus, StreamStatus};
use crate::stream::{Arrival, Cramped, Queue, Stream};
use crate::timers::Timers;
use crate::window::Window;

mod holding;
mod indexes;
mod lease_state;
mod shelves;
mod view;

pub use lease_state::LeaseState;
pub use view::{ClaimView, NodeView, PoolPorts, StreamView, WorkerView};

pub(crate) use holding::{After, unix};
pub(crate) use indexes::shared_ssrc;

/// Everything that is known.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) lead: Option<Lead>,
    /// The highest term seen anywhere.
    pub(crate) term_seen: Term,
    /// The highest version seen anywhere, and whether a later list was older.
    pub(crate) version_seen: ResourceVersion,
    pub(crate) went_back: bool,
    /// The highest version since the last list of streams: an API of an older one was put back since.
    pub(crate) version_heard: ResourceVersion,
    /// A consistent read has brought an older version of a stream than is known: the API's versions may have overtaken those of
    /// before its restore by now, but it has forgotten.
    pub(crate) regressed: bool,
    /// A list has been older once: records may lack epochs that were used, so none is taken below `epoch_floor` any more.
    pub(crate) restored: bool,
    /// The highest epoch of streams that are gone and of what workers tell of.
    pub(crate) epoch_floor: Epoch,
    /// The highest epoch of any hello: no new one is as low, whatever the records say.
    pub(crate) epoch_heard: Epoch,
    /// The highest epoch that a worker told of, for streams that were not seen yet, and of those that a read did not find.
    pub(crate) epochs_told: BTreeMap<Uid, Epoch>,
    pub(crate) streams: BTreeMap<Uid, Stream>,
    pub(crate) pools: BTreeMap<PoolName, Pool>,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    /// What the process that started last was made from: in a rollout streams go there, since all others are to end.
    pub(crate) newest_template: Arc<str>,
    pub(crate) sessions: BTreeMap<SessionId, NodeName>,
    pub(crate) claims: BTreeMap<StreamRef, Claim>,
    pub(crate) paths: BTreeMap<Path, PathEntry>,
    /// By whom each SSRC of shared ports is declared, by age: the first one wins.
    pub(crate) ssrcs: BTreeMap<u32, BTreeSet<(u64, Uid)>>,
    pub(crate) secrets: BTreeMap<ObjectName, Arc<[[u8; 32]]>>,
    pub(crate) secret_users: BTreeMap<ObjectName, BTreeSet<Uid>>,
    pub(crate) service_cidrs: BTreeMap<ServiceCidrName, Vec<IpNet>>,
    /// What workers are told of these and of nodes.
    pub(crate) networks: Arc<ClusterNetworks>,
    /// Streams that wait for a port, in the order of arrival.
    pub(crate) queues: BTreeMap<Queue, BTreeSet<(Arrival, Uid)>>,
    /// Streams on numbers that their pool has no longer, for which no other number is free.
    pub(crate) cramped: BTreeMap<Cramped, BTreeSet<Uid>>,
    /// Claims with two leases.
    pub(crate) seconds: BTreeSet<StreamRef>,
    /// Streams that wait for a worker or a pool.
    pub(crate) unplaced: BTreeSet<(Arrival, Uid)>,
    /// Streams whose worker is gone and which could not be moved.
    pub(crate) stranded: BTreeSet<Uid>,
    /// Streams that move away from draining workers or from nodes that are down, and those that are to follow: what is live first.
    pub(crate) leaving: BTreeSet<Uid>,
    pub(crate) to_leave: BTreeSet<(bool, Uid)>,
    /// Streams that a list lacked and that a person must confirm.
    pub(crate) held_absent: BTreeSet<Uid>,
    pub(crate) writes: BTreeMap<WriteId, Write>,
    /// How many of them there may be.
    pub(crate) window: Window,
    /// Streams that are being read, and whether one was seen to go meanwhile: its answer may be older than that.
    pub(crate) reads: BTreeMap<Uid, bool>,
    pub(crate) timers: Timers,
    pub(crate) dirty: Dirty,
    /// Actions that an observation calls for by itself: reads and events.
    pub(crate) outbox: Vec<Action>,
    /// What workers were told that paths lead to.
    pub(crate) directory: BTreeMap<Path, DirectoryEntry>,
    pub(crate) directory_version: u64,
    /// Of `directory`.
    pub(crate) directory_digest: DirectoryDigest,
    pub(crate) counters: Counters,
    /// Streams or claims, at most since `compact` last did something.
    pub(crate) streams_most: usize,
    /// The last rank given: order of arrival, age of claims.
    pub(crate) rank: u64,
    pub(crate) last_write: WriteId,
}

/// This replica leads, or is about to.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) listed: BTreeSet<Kind>,
    /// Claims have been rebuilt from the lists.
    pub(crate) recovered: bool,
    /// 0 until it is chosen.
    pub(crate) term: Term,
    /// It is in the Lease: commands may go out.
    pub(crate) recorded: bool,
    /// Known streams that the list lacked, to be judged when claims are rebuilt.
    pub(crate) absent: BTreeSet<Uid>,
}

/// Kinds that a new leader lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Streams,
    Pools,
    Nodes,
    Secrets,
    ServiceCidrs,
}

/// Who declares a path, and who may have it open.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathEntry {
    /// By age: the first one wins.
    pub(crate) declared: BTreeSet<(u64, Uid)>,
    /// Claims that were made for it and have not ended.
    pub(crate) claims: BTreeSet<StreamRef>,
}

/// A write under way.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Of a stream's status.
    Stream {
        uid: Uid,
        /// The version that it replaces: whoever knows an older one does not know all of what is there after it.
        replaces: ResourceVersion,
        status: Box<StreamStatus>,
        /// What is to be said once it is there.
        news: Vec<Action>,
        /// The claim that it records.
        claim: Option<StreamRef>,
    },
    /// Of a pool's status.
    Pool {
        name: PoolName,
        uid: Uid,
        /// The version that it replaces.
        replaces: ResourceVersion,
        status: Box<PoolStatus>,
        /// What is to be said once it is there.
        news: Vec<Action>,
    },
    /// A deletion.
    Delete { uid: Uid },
}

/// What the next plan looks at: an event costs what it touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// Streams whose claim may be wrong.
    pub(crate) streams: BTreeSet<Uid>,
    /// Streams whose status may be wrong.
    pub(crate) statuses: BTreeSet<Uid>,
    /// Claims to be written.
    pub(crate) claims: BTreeSet<(u64, StreamRef)>,
    /// Claims whose worker is to be told.
    pub(crate) tell: BTreeSet<StreamRef>,
    /// Former claims whose workers are back with the publisher.
    pub(crate) returns: BTreeSet<StreamRef>,
    /// Sockets to be closed.
    pub(crate) leaks: BTreeSet<(NodeName, u16, Option<StreamRef>)>,
    /// Epochs that run on a node and were given to another one as well.
    pub(crate) doubles: BTreeSet<(NodeName, StreamRef)>,
    /// Pools with numbers that became free.
    pub(crate) wake: BTreeSet<PoolName>,
    /// Pools whose status may be wrong.
    pub(crate) pools: BTreeSet<PoolName>,
    /// Pools, nodes or listeners changed: what lies on which shelf must be looked at.
    pub(crate) shelves: bool,
    /// Nodes whose session may want something.
    pub(crate) nodes: BTreeSet<NodeName>,
    /// Paths whose directory entry only their owners have as it is now.
    pub(crate) unspread: BTreeSet<Path>,
    /// Paths whose directory entry may be wrong.
    pub(crate) paths: BTreeSet<Path>,
    /// Some worker can take streams that could not before, or pools changed.
    pub(crate) placement: bool,
    /// The cluster's own networks may be others than workers were told.
    pub(crate) networks: bool,
}

impl State {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        Self {
            window: Window::new(config.writes_in_flight_max),
            config,
            lead: None,
            term_seen: Term(0),
            version_seen: ResourceVersion(0),
            went_back: false,
            version_heard: ResourceVersion(0),
            regressed: false,
            restored: false,
            epoch_floor: Epoch(0),
            epoch_heard: Epoch(0),
            epochs_told: BTreeMap::new(),
            streams: BTreeMap::new(),
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            newest_template: "".into(),
            sessions: BTreeMap::new(),
            claims: BTreeMap::new(),
            paths: BTreeMap::new(),
            ssrcs: BTreeMap::new(),
            secrets: BTreeMap::new(),
            secret_users: BTreeMap::new(),
            service_cidrs: BTreeMap::new(),
            networks: Arc::default(),
            queues: BTreeMap::new(),
            cramped: BTreeMap::new(),
            seconds: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            stranded: BTreeSet::new(),
            leaving: BTreeSet::new(),
            to_leave: BTreeSet::new(),
            held_absent: BTreeSet::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            timers: Timers::default(),
            dirty: Dirty::default(),
            outbox: Vec::new(),
            directory: BTreeMap::new(),
            directory_version: 0,
            directory_digest: DirectoryDigest::default(),
            counters: Counters::default(),
            streams_most: 0,
            rank: 0,
            last_write: WriteId(0),
        }
    }

    /// When `plan` wants to be called again though nothing happens; absent: never.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether this replica may claim and command.
    pub fn is_active(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.recovered && lead.recorded)
    }

    /// The term of this leader; 0 when it does not lead.
    pub fn term(&self) -> Term {
        self.lead.as_ref().map_or(Term(0), |lead| lead.term)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// After a plan: goes on with a copy of itself when so many streams have gone since it last did that this is worth it, and says so. What is
    /// left lies scattered over pages that the others had filled; its copy lies on few of them.
    pub fn compact(&mut self) -> bool {
        // A claim lives on until its ports are closed.
        let left = self.streams.len().max(self.claims.len());
        self.streams_most = self.streams_most.max(left);
        let shrunk = self.streams_most >= limits::COMPACTED_FROM && left <= self.streams_most / 4;
        if shrunk {
            self.streams_most = left;
            *self = self.clone();
        }
        shrunk
    }

    /// The API has had this version.
    pub(crate) fn note_version(&mut self, version: ResourceVersion) {
        self.version_seen = self.version_seen.max(version);
        self.version_heard = self.version_heard.max(version);
    }

    pub(crate) fn next_rank(&mut self) -> u64 {
        self.rank += 1;
        self.rank
    }

    pub(crate) fn next_write(&mut self) -> WriteId {
        self.last_write.0 += 1;
        self.last_write
    }
}

impl Lead {
    pub(crate) fn new() -> Self {
        Self {
            listed: BTreeSet::new(),
            recovered: false,
            term: Term(0),
            recorded: false,
            absent: BTreeSet::new(),
        }
    }

    /// Whether each kind has been listed.
    pub(crate) fn has_listed_all(&self) -> bool {
        self.listed.len() == 5
    }
}

impl Kind {
    pub(crate) fn of(listed: &Listed) -> Self {
        match listed {
            Listed::Streams { .. } => Self::Streams,
            Listed::Pools { .. } => Self::Pools,
            Listed::Nodes { .. } => Self::Nodes,
            Listed::Secrets { .. } => Self::Secrets,
            Listed::ServiceCidrs { .. } => Self::ServiceCidrs,
        }
    }
}

#[cfg(test)]
mod tests;
