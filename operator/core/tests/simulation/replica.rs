//! An operator replica: the core, and a small driver around it that does what `operator` does: sessions, watches,
//! writes, leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use operator_core::event::WriteOutcome;
use operator_core::ids::{Epoch, NodeName, ObjectName, PoolName, SessionId, StreamRef, Term, Uid, WriteId};
use operator_core::spec::PoolObject;
use operator_core::status::{RtpPorts, StreamStatus};
use operator_core::{Config, Event, Now, State};

use crate::api::Kind;
use crate::world::Item;

/// What a status says about an assignment: pod, node and the numbers of its one or two leases.
pub(crate) type Recorded = (String, String, Vec<u16>);

/// One replica. After a crash its core is new and its incarnation the next one.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    pub(crate) incarnation: u64,
    pub(crate) core: State,
    clock_offset: Duration,
    pub(crate) leading: bool,
    /// When the Lease was last renewed, by the time of asking.
    pub(crate) renewed: Duration,
    pub(crate) leads_since: Duration,
    /// The term that the Lease holds for it.
    pub(crate) term: Option<Term>,
    /// What comes while it is paused.
    pub(crate) backlog: Vec<Item>,
    pub(crate) sessions: BTreeMap<SessionId, usize>,
    last_session: u64,
    pub(crate) watches: [Watch; Kind::ALL.len()],
    /// The deadline that a wake-up is under way for.
    pub(crate) wake: Option<Duration>,
    /// An event was taken note of, and the plan is yet to be made.
    pub(crate) unplanned: bool,
    pub(crate) seen: Seen,
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// Rises with each new list.
    pub(crate) generation: u64,
    pub(crate) timeline: u64,
    pub(crate) version: u64,
    /// A list is on its way or being told.
    pub(crate) listing: bool,
    /// The list that leading begins with, which is read consistently, was not told whole yet.
    pub(crate) owes_consistent: bool,
}

/// What this replica could know, noted from outside to judge its actions by.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Claims that are on record, and what they say.
    pub(crate) recorded: BTreeMap<StreamRef, Recorded>,
    /// Claims that it asked to be put on record itself.
    pub(crate) granted: BTreeMap<StreamRef, Recorded>,
    /// The highest epoch of each stream that any status or worker told of.
    pub(crate) epochs: BTreeMap<Uid, Epoch>,
    /// Nodes whose worker answered a request of this term.
    pub(crate) inventoried: BTreeMap<NodeName, SessionId>,
    /// The last command by session.
    pub(crate) sequences: BTreeMap<SessionId, u64>,
    /// Writes on their way.
    pub(crate) writes: BTreeMap<WriteId, WriteNote>,
    /// Names of streams, by UID.
    pub(crate) names: BTreeMap<Uid, ObjectName>,
    /// The highest version that a list had, and whether a later one was below it and nobody has confirmed.
    pub(crate) list_version: u64,
    pub(crate) went_back: bool,
    /// Streams that a list lacked whose version was below an earlier one's: only a person, or the watch, says that they are gone.
    pub(crate) lacked: BTreeSet<Uid>,
    /// UIDs that this leader has asked to be read.
    pub(crate) asked: BTreeSet<Uid>,
    /// UIDs whose absence was seen: deleted in a watch, or not found by a GET.
    pub(crate) gone: BTreeSet<Uid>,
    /// UIDs that were seen to go and that no watch or list has brought since.
    pub(crate) lost: BTreeSet<Uid>,
    /// Pools at their highest version, and at the one that was delivered last.
    pub(crate) pools: BTreeMap<PoolName, (PoolObject, PoolObject)>,
}

/// A write on its way.
#[derive(Clone, Debug)]
pub(crate) struct WriteNote {
    /// Of a stream, else of a pool.
    pub(crate) is_stream: bool,
    /// Of a status, else a deletion.
    pub(crate) is_status: bool,
    pub(crate) uid: Uid,
    pub(crate) status: Option<Box<StreamStatus>>,
    /// Asked for by an earlier leadership of the same process, which is forgotten.
    pub(crate) former: bool,
}

impl Replica {
    pub(crate) fn new(config: Config, incarnation: u64, clock_offset: Duration) -> Self {
        Self {
            alive: true,
            paused: false,
            incarnation,
            core: State::new(config),
            clock_offset,
            leading: false,
            renewed: Duration::ZERO,
            leads_since: Duration::ZERO,
            term: None,
            backlog: Vec::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            watches: [Watch::default(); Kind::ALL.len()],
            wake: None,
            unplanned: false,
            seen: Seen::default(),
        }
    }

    /// Both clocks as this replica reads them.
    pub(crate) fn clock(&self, now: Duration) -> Now {
        Now { mono: now + self.clock_offset, wall_unix_ms: 1_790_000_000_000 + now.as_millis() as u64 }
    }

    /// The world's time of one of this replica's deadlines.
    pub(crate) fn world_time(&self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.clock_offset)
    }

    pub(crate) fn open_session(&mut self, link: usize) -> SessionId {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions.insert(session, link);
        session
    }
}

/// What a status says about an assignment; nothing if it has none.
pub(crate) fn recorded(uid: &Uid, status: &StreamStatus) -> Option<(StreamRef, Recorded)> {
    let assignment = status.assignment.as_ref()?;
    let leased = status.ports.as_ref().and_then(RtpPorts::leased);
    let shown = leased.into_iter().flat_map(|(_, ports)| ports.numbers());
    let previous = status.ports.iter().filter_map(|ports| ports.previous);
    let previous = previous.flat_map(|ports| [Some(ports.rtp), ports.rtcp]).flatten();
    let ports = shown.chain(previous).collect();
    let stream = StreamRef::new(uid.clone(), Epoch(status.epoch));
    Some((stream, (assignment.pod_uid.to_string(), assignment.node.to_string(), ports)))
}

/// Whether what is on record may become this without another epoch: of its leases one stays, or it stays as it is.
pub(crate) fn goes_on(before: &Recorded, after: &Recorded) -> bool {
    let stays = before.2 == after.2 || before.2.iter().any(|port| after.2.contains(port));
    (&before.0, &before.1) == (&after.0, &after.1) && stays
}

impl Seen {
    /// Takes note of what an event lets the core know.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::StreamSeen(object) => {
                self.lacked.remove(&object.uid);
                self.lost.remove(&object.uid);
                self.note_stream(object);
            }
            Event::Confirmed { uid, found: Some(object) } => {
                // What is answered after that is of an earlier lead.
                self.asked.remove(uid);
                self.lacked.remove(&object.uid);
                self.note_stream(object);
            }
            // Of an API that went back, only a person can say that what it lacks is gone.
            // What an earlier leader asked for is nobody's answer.
            Event::Confirmed { uid, found: None } if !self.went_back && self.asked.contains(uid) => {
                self.gone.insert(uid.clone());
                self.lost.insert(uid.clone());
            }
            Event::Confirmed { uid: _, found: None } | Event::Forgotten { uid: _ } => {}
            Event::StreamGone { uid } => {
                self.lacked.remove(uid);
                self.gone.insert(uid.clone());
                self.lost.insert(uid.clone());
                // Only a restored backup brings it back, and then with fewer epochs than it had.
                self.recorded.retain(|stream, _| stream.uid != *uid);
                self.granted.retain(|stream, _| stream.uid != *uid);
            }
            Event::PoolSeen(pool) => {
                let known =
                    self.pools.get(&pool.name).map(|(newest, _)| newest).filter(|known| {
                        known.uid == pool.uid && known.resource_version > pool.resource_version
                    });
                let newest = known.unwrap_or(pool).clone();
                self.pools.insert(pool.name.clone(), (newest, (**pool).clone()));
            }
            Event::Listed(operator_core::event::Listed::Streams { resource_version, uids: _ }) => {
                if resource_version.0 < self.list_version {
                    self.went_back = true;
                }
                self.list_version = self.list_version.max(resource_version.0);
            }
            // As when they are told of one by one.
            Event::Listed(operator_core::event::Listed::Pools { names }) => {
                self.pools.retain(|name, _| names.contains(name));
            }
            Event::AbsenceConfirmed => {
                self.went_back = false;
                self.lacked.clear();
                self.list_version = 0;
            }
            Event::Write { id, outcome } => {
                let Some(note) = self.writes.remove(id) else { return };
                let Some((stream, recorded)) = note.status.and_then(|status| recorded(&note.uid, &status))
                else {
                    return;
                };
                match outcome {
                    WriteOutcome::Written { .. } => {
                        self.recorded.insert(stream, recorded);
                    }
                    // Nobody will ever hear of it.
                    WriteOutcome::Conflict | WriteOutcome::Refused { .. } | WriteOutcome::NotFound => {
                        self.granted.remove(&stream);
                    }
                    WriteOutcome::Unknown => {}
                }
            }
            Event::Inventory { session: _, inventory } => {
                let closed = inventory.closed.iter().map(|closed| &closed.stream);
                for stream in inventory.streams.iter().chain(closed) {
                    self.note_epoch(&stream.uid, stream.epoch);
                }
            }
            Event::Lead { .. } | Event::Demoted => {
                self.inventoried.clear();
                self.asked.clear();
                self.granted.clear();
                self.writes.values_mut().for_each(|note| note.former = true);
            }
            Event::PoolGone { name, uid } => {
                if self.pools.get(name).is_some_and(|(newest, _)| newest.uid == *uid) {
                    self.pools.remove(name);
                }
            }
            Event::NodeSeen(_)
            | Event::NodeGone { .. }
            | Event::SecretSeen { .. }
            | Event::SecretGone { .. }
            | Event::ServiceCidrSeen { .. }
            | Event::ServiceCidrGone { .. }
            | Event::Listed(_)
            | Event::Hello { .. }
            | Event::Beat { .. }
            | Event::Report { .. }
            | Event::SessionClosed { .. }
            | Event::WorkerDegraded { .. }
            | Event::WorkerLost { .. }
            | Event::TermRecorded { .. }
            | Event::Tick => {}
        }
    }

    fn note_epoch(&mut self, uid: &Uid, epoch: Epoch) {
        let known = self.epochs.entry(uid.clone()).or_default();
        *known = epoch.max(*known);
    }

    fn note_stream(&mut self, object: &operator_core::spec::StreamObject) {
        self.names.insert(object.uid.clone(), object.name.clone());
        self.note_epoch(&object.uid, Epoch(object.status.epoch));
        // A deletion that waits for a finalizer was seen, too.
        if object.deleting {
            self.gone.insert(object.uid.clone());
        } else {
            self.gone.remove(&object.uid);
        }
        if let Some((stream, recorded)) = recorded(&object.uid, &object.status) {
            self.recorded.insert(stream, recorded);
        }
    }
}
