//! A claim: one stream at one epoch on one worker process, with its ports. Recorded before anybody is told, ended only
//! by what the node's worker says.

use std::sync::Arc;
use std::time::Duration;

use crate::action::Assign;
use crate::ids::{
    BootId, NodeName, ObjectName, Path, PoolName, Ports, StreamRef, UnixTime, WorkerName, WriteId,
};
use crate::ledger::Owner;
use crate::reason::Reason;
use crate::spec::{RtpSource, RtpTransport};

/// One stream at one epoch on one worker process.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) stream: StreamRef,
    /// Where the object is, also when it is gone; absent while only a worker knows of the stream.
    pub(crate) name: Option<ObjectName>,
    pub(crate) path: Option<Path>,
    pub(crate) node: NodeName,
    pub(crate) worker: WorkerName,
    pub(crate) pod_uid: Arc<str>,
    /// The process that it is for; absent when it was read from a status, which does not say.
    pub(crate) boot: Option<BootId>,
    pub(crate) since: UnixTime,
    /// Of two claims the one with the lower rank is the older.
    pub(crate) rank: u64,
    pub(crate) lease: Option<Lease>,
    /// Beside it, while a pool's shrink has a sender go from one number to another.
    pub(crate) second: Option<Second>,
    pub(crate) phase: ClaimPhase,
    /// The command that was last given about it in this session.
    pub(crate) told: Option<Told>,
    /// The assignment that its worker was last told of.
    pub(crate) assign: Option<Box<Assign>>,
}

/// Numbers of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) pool: PoolName,
    pub(crate) ports: Ports,
    /// What is open on them; absent while only a worker knows.
    pub(crate) transport: Option<RtpTransport>,
    /// What it was made for; absent when it was read from a status.
    pub(crate) source: Option<RtpSource>,
}

/// The numbers of a second lease of a claim, which is else as the first. They take the place of those of the first, which lie outside its
/// pool's ranges; then the two change places, and the second is the one to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) ports: Ports,
    pub(crate) stage: Stage,
    /// Since when both are open.
    pub(crate) since: Option<UnixTime>,
    /// Media comes on it, and not on the first.
    pub(crate) arrived: bool,
}

/// How far a second lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its numbers are taken. It is to be on record before its worker is told.
    Reserved,
    /// Its worker was told to open it beside the first.
    Opening,
    /// Both are open.
    Open,
    /// To be closed by its worker; its numbers are held until it says so.
    Closing,
}

impl Stage {
    /// Whether its worker was told of it.
    pub(crate) fn is_told(self) -> bool {
        match self {
            Self::Reserved => false,
            Self::Opening | Self::Open | Self::Closing => true,
        }
    }
}

/// How far a claim has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimPhase {
    /// Its ports are taken, its write is to be made. Nobody knows of it.
    Reserved,
    /// Its write is under way.
    Writing(WriteId),
    /// The write's outcome is unknown: kept, told to nobody, read back.
    Reading,
    /// On record. Its worker may be told.
    Written,
    /// Its worker was told in this session.
    Told,
    /// Its worker said that it is in force.
    Acknowledged,
    /// To be closed by its worker; the ports are held until it says so.
    Revoking(Reason),
    /// A worker has it bound and nobody here knew: held until a GET says what it is.
    Adopted {
        /// Too many were unknown at once to believe that they are gone: a person must confirm.
        held: bool,
    },
}

/// The command that was last given about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) sequence: u64,
    pub(crate) at: Duration,
}

impl Claim {
    /// Whether some worker may have heard of it.
    pub(crate) fn may_be_known(&self) -> bool {
        match self.phase {
            ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading => false,
            ClaimPhase::Written
            | ClaimPhase::Told
            | ClaimPhase::Acknowledged
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => true,
        }
    }

    /// Whether it is on the object's record, as far as is known.
    pub(crate) fn is_written(&self) -> bool {
        match self.phase {
            ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged => true,
            ClaimPhase::Reserved
            | ClaimPhase::Writing(_)
            | ClaimPhase::Reading
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => false,
        }
    }

    /// Whether it is for another process than this. A record names the pod only.
    pub(crate) fn is_of_another(&self, pod_uid: &str, boot: &BootId) -> bool {
        self.boot.as_ref().map_or(*self.pod_uid != *pod_uid, |claimed| claimed != boot)
    }

    /// Whether its worker was told of it in this session after the command of that sequence.
    pub(crate) fn is_told_after(&self, sequence: u64) -> bool {
        self.told.is_some_and(|told| told.sequence > sequence)
    }

    /// Who may have its numbers back while they cool.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let namespace = self.name.as_ref()?.namespace.clone();
        Some(Owner { namespace, path: self.path.clone()? })
    }

    /// The numbers that it lives by.
    pub(crate) fn ports(&self) -> Option<Ports> {
        self.lease.as_ref().map(|lease| lease.ports)
    }

    /// The pool of its leases, and their numbers: of one, or of two for a while.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (&PoolName, Ports)> {
        let both = self.ports().into_iter().chain(self.second.as_ref().map(|second| second.ports));
        self.lease.iter().flat_map(move |lease| both.clone().map(move |ports| (&lease.pool, ports)))
    }

    /// All its numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.leases().flat_map(|(_, ports)| ports.numbers())
    }

    /// The lease that is to take the place of the first.
    pub(crate) fn successor(&self) -> Option<&Second> {
        self.second.as_ref().filter(|second| second.stage != Stage::Closing)
    }

    /// The second lease, if `port` is one of its numbers.
    pub(crate) fn second_with(&self, port: u16) -> Option<&Second> {
        self.second.as_ref().filter(|second| second.ports.numbers().any(|number| number == port))
    }
}
