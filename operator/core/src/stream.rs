//! A stream as the planner knows it.

use std::sync::Arc;
use std::time::Duration;

use crate::action::Action;
use crate::ids::{
    BootId, Epoch, NodeName, ObjectName, Path, PoolName, Ports, ResourceVersion, UnixTime, WorkerName,
    WriteId,
};
use crate::ledger::Shape;
use crate::reason::Reason;
use crate::spec::{Refusal, RtpSource, RtpTransport, Selector, Source, StreamObject, StreamSpec};
use crate::status::{ConditionType, Failover, Phase, Publisher, StreamStatus};

/// A stream as the planner knows it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: ObjectName,
    pub(crate) resource_version: ResourceVersion,
    pub(crate) generation: i64,
    pub(crate) created_unix_ms: u64,
    pub(crate) deleting: bool,
    pub(crate) touch: Option<Arc<str>>,
    /// The last good one.
    pub(crate) spec: Option<Arc<StreamSpec>>,
    /// Why the present one is not taken.
    pub(crate) refusal: Option<Refusal>,
    /// The status as stored, as far as is known.
    pub(crate) stored: Box<StreamStatus>,
    /// The highest epoch ever used or heard of.
    pub(crate) epoch: Epoch,
    /// The highest epoch that a worker, or a record passed over for its age, told of.
    pub(crate) epoch_told: Epoch,
    /// The highest epoch that it was given in this term.
    pub(crate) epoch_given: Epoch,
    /// What this replica has claimed last, in whichever term: the write may have been lost.
    pub(crate) taken: Option<(Epoch, NodeName)>,
    /// First seen at a version below one seen before: a restored backup may have brought it back, its used epochs forgotten.
    pub(crate) from_the_past: bool,
    /// The claim that it lives by.
    pub(crate) claim: Option<Epoch>,
    /// When it began to wait for a number, in seconds of the wall clock, and its rank among those of one second.
    pub(crate) arrival: Arrival,
    /// It has waited for a number since then.
    pub(crate) waits: bool,
    /// Why it has no claim although it should.
    pub(crate) blocked: Option<Blocked>,
    /// The status write under way.
    pub(crate) write: Option<WriteId>,
    /// The last write whose outcome is not known, and what is to be said if it is there.
    pub(crate) unsaid: Option<Box<(StreamStatus, Vec<Action>)>>,
    /// A GET is under way: nothing is written until it answers.
    pub(crate) reading: Option<Reading>,
    /// After a refused write: nothing is claimed before this.
    pub(crate) retry_at: Option<Duration>,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) live: bool,
    /// What of these two its worker has said since the last inventory.
    pub(crate) heard: Heard,
    /// Why the last publisher ended, in the worker's word.
    pub(crate) ended: Option<Arc<str>>,
    /// Since when there has been no media.
    pub(crate) quiet_since: Duration,
    /// Its ports went back for want of media.
    pub(crate) idle: bool,
    /// It sat on a stuck shard in two aborts.
    pub(crate) suspect: bool,
    /// Processes in which it sat on a stuck shard, and when.
    pub(crate) stuck: Vec<(Duration, BootId)>,
    /// A move that awaits the new worker's acknowledgement.
    pub(crate) moving: Option<Moving>,
    /// Its pool has its number no longer, and no other one for it.
    pub(crate) cramped: Option<Cramped>,
    pub(crate) failovers: u32,
    pub(crate) last_failover: Option<Failover>,
    /// A list lacked it.
    pub(crate) absent: Option<Absence>,
    /// ttlAfterIdle is over and its deletion is asked for.
    pub(crate) expiring: bool,
    /// A watch event was passed over for being older than what is known.
    pub(crate) passed_over: bool,
}

/// The order of waiting.
pub(crate) type Arrival = (UnixTime, u64);

/// A move that awaits the new worker's acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Moving {
    pub(crate) from: WorkerName,
    pub(crate) from_node: NodeName,
    pub(crate) reason: Reason,
    /// The last sign of the old worker.
    pub(crate) last_heard: Duration,
    pub(crate) at: UnixTime,
}

/// A GET under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It shows everything that we have written.
    AfterWrites,
    /// Something was written, or seen, since it began: it may show what was before.
    BesideWrite,
}

/// A list lacked a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A GET is to say whether it is gone.
    Confirming,
    /// Too many are lacking to believe it, or the list is older than one seen: a person must confirm.
    Held(Reason),
}

/// Why a stream that should have a claim has none, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// A worker that may take it.
    Worker {
        /// Whether there is none, or one that can't be used yet.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// A free number.
    Ports {
        /// Where it is queued.
        queue: Queue,
        /// Whether there is none, or the one that it must have is not to be had.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// A pool that it may use.
    Pool {
        /// Which, or the default one.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// The end of an earlier claim on its path.
    Closing,
    /// A while after a refused write.
    Retry {
        /// For people.
        message: String,
    },
}

impl Blocked {
    /// Where it waits for a number.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        match self {
            Self::Ports { queue, reason: _, message: _ } => Some(queue),
            Self::Worker { .. } | Self::Pool { .. } | Self::Closing | Self::Retry { .. } => None,
        }
    }
}

/// Streams that wait for the same thing: if the first can't have it, none can.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queue {
    pub(crate) pool: PoolName,
    pub(crate) shape: Shape,
    pub(crate) node_selector: Selector,
}

/// Where a stream waits for a number beside its own: if one can't have it, none can.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cramped {
    pub(crate) pool: PoolName,
    pub(crate) node: NodeName,
    pub(crate) shape: Shape,
}

impl Queue {
    /// The numbers that are waited for, where no others will do.
    pub(crate) fn exact(&self) -> Option<Ports> {
        match self.shape {
            Shape::Exact(ports) => Some(ports),
            Shape::Single | Shape::Pair => None,
        }
    }
}

/// What a worker has said since its last inventory: that nobody publishes any more does not tell whether media is still waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) publisher: bool,
    pub(crate) media: bool,
}

impl Heard {
    pub(crate) const ALL: Self = Self { publisher: true, media: true };
}

impl Stream {
    /// A stream seen for the first time.
    pub(crate) fn new(object: StreamObject, rank: u64, now: Duration) -> Self {
        let StreamObject {
            uid: _,
            name,
            resource_version,
            generation,
            created_unix_ms,
            deleting,
            touch,
            spec,
            status,
        } = object;
        let (spec, refusal) = match spec {
            Ok(spec) => (Some(spec), None),
            Err(refusal) => (None, Some(refusal)),
        };
        Self {
            name,
            resource_version,
            generation,
            created_unix_ms,
            deleting,
            touch,
            spec,
            refusal,
            epoch: Epoch(status.epoch),
            epoch_told: Epoch(0),
            epoch_given: Epoch(0),
            taken: None,
            from_the_past: false,
            claim: None,
            arrival: (UnixTime::default(), rank),
            waits: false,
            blocked: None,
            write: None,
            unsaid: None,
            reading: None,
            retry_at: None,
            publisher: None,
            live: false,
            heard: Heard::default(),
            ended: None,
            quiet_since: now,
            idle: false,
            suspect: false,
            stuck: Vec::new(),
            moving: None,
            cramped: None,
            failovers: 0,
            last_failover: None,
            absent: None,
            expiring: false,
            passed_over: false,
            stored: status,
        }
    }

    /// Takes over what its record says of media and failovers: another leader may have written it. Its worker says so
    /// again, or that it is otherwise.
    pub(crate) fn take_record(&mut self) {
        let status = &self.stored;
        let live = status.conditions.get(&ConditionType::Live).is_some_and(|condition| condition.status);
        self.live = live && status.assignment.is_some();
        self.publisher = status.publisher.clone();
        self.heard = Heard::default();
        self.failovers = self.failovers.max(status.failovers);
        self.last_failover = status.last_failover.clone().or(self.last_failover.take());
    }

    /// Whether by its record it rests for want of media, and whether it is suspect. An edit that the record does not speak
    /// of has ended both.
    pub(crate) fn recorded_rest(&self) -> (bool, bool) {
        let status = &self.stored;
        let same_spec = status.observed_generation == self.generation;
        let suspect = status.conditions.values().any(|condition| condition.reason == Reason::Suspect);
        (same_spec && status.phase == Phase::Idle, same_spec && suspect)
    }

    /// What flowed was of a claim that is over.
    pub(crate) fn lose_media(&mut self, now: Duration) {
        self.end_media(now);
        self.publisher = None;
    }

    /// It is not live any more, if it was.
    pub(crate) fn end_media(&mut self, now: Duration) {
        if std::mem::replace(&mut self.live, false) {
            self.quiet_since = now;
        }
    }

    /// Its rtp source, where it has one.
    pub(crate) fn rtp(&self) -> Option<&RtpSource> {
        match &self.spec.as_ref()?.source {
            Source::Rtp(rtp) => Some(rtp),
            Source::Push { .. } => None,
        }
    }

    /// The numbers that it needs of a pool, if it needs any.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let rtp = self.rtp().filter(|rtp| !rtp.shared)?;
        let any = if rtp.rtcp { Shape::Pair } else { Shape::Single };
        Some(rtp.fixed().map_or(any, Shape::Exact))
    }

    /// Whether it comes on the port that its worker has for all.
    pub(crate) fn is_shared(&self) -> bool {
        self.rtp().is_some_and(|rtp| rtp.shared)
    }

    /// Whether we connect to its sender.
    pub(crate) fn is_dialled(&self) -> bool {
        self.rtp().is_some_and(|rtp| rtp.transport == RtpTransport::TcpActive)
    }

    /// The path that it declares.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.spec.as_ref().map(|spec| &spec.path)
    }
}
