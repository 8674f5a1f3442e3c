//! What drivers may look at, for pages and metrics. Decisions are never made from it.

use std::time::Duration;

use crate::claim::ClaimPhase;
use crate::ids::{BootId, Epoch, NodeName, ObjectName, PoolName, Ports, StreamRef, Uid, WorkerName};
use crate::state::State;
use crate::status::StreamStatus;
use crate::stream::Stream;

/// A stream, for pages and metrics.
#[derive(Clone, Debug)]
pub struct StreamView<'a> {
    /// Its UID.
    pub uid: &'a Uid,
    /// Its name.
    pub name: &'a ObjectName,
    /// The status as stored.
    pub stored: &'a StreamStatus,
    /// The claim that it lives by.
    pub claim: Option<Epoch>,
}

/// The numbers of one pool on one node, by state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPorts {
    /// The pool.
    pub pool: PoolName,
    /// The node.
    pub node: NodeName,
    /// All of them: the sum of the next four.
    pub capacity: u32,
    /// Can be leased at once.
    pub free: u32,
    /// Held by a stream.
    pub leased: u32,
    /// Resting.
    pub cooling: u32,
    /// Held by somebody else.
    pub quarantined: u32,
    /// Leased or cooling outside the pool's ranges; not in the sum.
    pub draining: u32,
}

/// A claim, for pages and the simulation's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// Whose.
    pub stream: StreamRef,
    /// Where.
    pub node: NodeName,
    /// Its numbers.
    pub ports: Option<Ports>,
    /// Those of its second lease.
    pub second: Option<Ports>,
    /// Some worker may know of it.
    pub may_be_known: bool,
    /// It is to be closed.
    pub revoking: bool,
}

/// A node, for pages and metrics.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// Its worker, if one has ever said hello.
    pub worker: Option<WorkerView<'a>>,
    /// Claims there.
    pub claims: usize,
}

/// A worker, for pages and metrics.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// Its name.
    pub name: &'a WorkerName,
    /// Which start of it.
    pub boot: &'a BootId,
    /// It has a session.
    pub connected: bool,
    /// When it was last heard.
    pub last_heard: Duration,
    /// It can be given streams.
    pub can_take: bool,
}

impl<'a> StreamView<'a> {
    fn of(uid: &'a Uid, stream: &'a Stream) -> Self {
        Self { uid, name: &stream.name, stored: &stream.stored, claim: stream.claim }
    }
}

impl State {
    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamView<'_>> {
        self.streams.iter().map(|(uid, stream)| StreamView::of(uid, stream))
    }

    /// One stream.
    pub fn stream(&self, uid: &Uid) -> Option<StreamView<'_>> {
        self.streams.get_key_value(uid).map(|(uid, stream)| StreamView::of(uid, stream))
    }

    /// Streams that lists lack and that go on all the same, until a person says what is to become of them.
    pub fn absences_held(&self) -> usize {
        let adopted = self.claims.values().filter(|claim| claim.phase == ClaimPhase::Adopted { held: true });
        self.held_absent.len() + adopted.count()
    }

    /// All claims, those to be closed too.
    pub fn claims(&self) -> impl Iterator<Item = ClaimView> + '_ {
        self.claims.values().map(|claim| ClaimView {
            stream: claim.stream.clone(),
            node: claim.node.clone(),
            ports: claim.ports(),
            second: claim.second.as_ref().map(|second| second.ports),
            may_be_known: claim.may_be_known(),
            revoking: matches!(claim.phase, ClaimPhase::Revoking(_)),
        })
    }

    /// All nodes with a worker or an object.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.nodes.iter().map(|(name, node)| NodeView {
            name,
            worker: node.worker.as_ref().map(|worker| WorkerView {
                name: &worker.name,
                boot: &worker.boot,
                connected: worker.session.is_some(),
                last_heard: worker.last_heard,
                can_take: worker.can_take(),
            }),
            claims: node.claims.len(),
        })
    }

    /// The numbers of each pool on each node.
    pub fn ports(&self) -> impl Iterator<Item = PoolPorts> + '_ {
        self.nodes.iter().flat_map(|(name, node)| {
            node.ledger.shelves().iter().map(move |(pool, shelf)| {
                let tally = shelf.tally();
                PoolPorts {
                    pool: pool.clone(),
                    node: name.clone(),
                    capacity: shelf.capacity(),
                    free: shelf.free(),
                    leased: tally.leased,
                    cooling: tally.cooling,
                    quarantined: tally.quarantined,
                    draining: node
                        .ledger
                        .draining(pool)
                        .map_or(0, |ports| u32::try_from(ports.len()).expect("a node has 65536 ports")),
                }
            })
        })
    }
}
