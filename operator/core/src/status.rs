//! What the operator says about an object: the status as a value, compared before it is written, converted by `api`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{NodeName, ObjectName, Path, PoolName, Ports, UnixTime, WorkerName};
use crate::reason::Reason;
use crate::spec::RtpTransport;

/// A MediaStream's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// The generation that this speaks of.
    pub observed_generation: i64,
    /// One word for the table.
    pub phase: Phase,
    /// The highest epoch given out. Only rises.
    pub epoch: u64,
    /// The term that wrote this. Only rises.
    pub term: u64,
    /// The path in force.
    pub path: Option<Path>,
    /// The kind of its source.
    pub source: Option<SourceKind>,
    /// Who has it.
    pub assignment: Option<Assignment>,
    /// Where its rtp media comes.
    pub ports: Option<RtpPorts>,
    /// Where to publish and play.
    pub endpoints: Vec<Endpoint>,
    /// Who publishes.
    pub publisher: Option<Publisher>,
    /// How often it has moved because its worker was lost or started again.
    pub failovers: u32,
    /// The last such move.
    pub last_failover: Option<Failover>,
    /// By type.
    pub conditions: Conditions,
}

/// One word for the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It waits for a worker, for ports, or for the worker's acknowledgement.
    #[default]
    Pending,
    /// Can be published to.
    Ready,
    /// Media flows.
    Live,
    /// Its ports went back for want of media.
    Idle,
    /// Paused by its spec.
    Paused,
    /// The spec is refused or the path is taken.
    Refused,
    /// Deleted, but somebody's finalizer still holds the object.
    Terminating,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Ready, Self::Live, Self::Idle, Self::Paused, Self::Refused, Self::Terminating];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Ready => "Ready",
            Self::Live => "Live",
            Self::Idle => "Idle",
            Self::Paused => "Paused",
            Self::Refused => "Refused",
            Self::Terminating => "Terminating",
        }
    }

    /// The phase written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// The kind of a source, as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// An encoder comes to us.
    Push,
    /// RTP in datagrams.
    RtpUdp,
    /// RTP over TCP, the sender connects.
    RtpTcpPassive,
    /// RTP over TCP, we connect.
    RtpTcpActive,
}

impl SourceKind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "Push",
            Self::RtpUdp => "RTP/UDP",
            Self::RtpTcpPassive => "RTP/TCPPassive",
            Self::RtpTcpActive => "RTP/TCPActive",
        }
    }

    /// The kind written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Push, Self::RtpUdp, Self::RtpTcpPassive, Self::RtpTcpActive];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Who has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The worker's name.
    pub worker: WorkerName,
    /// Its pod.
    pub pod_uid: Arc<str>,
    /// Its node.
    pub node: NodeName,
    /// Where publishers and players reach it, best first.
    pub addresses: Vec<Arc<str>>,
    /// When this epoch was claimed.
    pub since: UnixTime,
}

/// Where rtp media comes, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPorts {
    /// Where they were leased from; absent: they are the worker's for all streams that are told apart by SSRC.
    pub pool: Option<PoolName>,
    /// The RTP number.
    pub rtp: u16,
    /// The RTCP number of a pair.
    pub rtcp: Option<u16>,
    /// What is open on it.
    pub transport: RtpTransport,
    /// Numbers outside the pool's ranges that these take the place of, while both are open.
    pub previous: Option<PreviousPorts>,
}

/// Numbers that others take the place of, as people read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousPorts {
    /// The RTP number.
    pub rtp: u16,
    /// The RTCP number of a pair.
    pub rtcp: Option<u16>,
    /// Since when both are open; absent until they are.
    pub since: Option<UnixTime>,
    /// When these are closed at the latest; absent: when media has come on the others.
    pub closes_at: Option<UnixTime>,
}

impl RtpPorts {
    /// The numbers that are this stream's alone, and their pool.
    pub fn leased(&self) -> Option<(&PoolName, Ports)> {
        self.pool.as_ref().map(|pool| (pool, Ports { rtp: self.rtp, rtcp: self.rtcp }))
    }
}

impl PreviousPorts {
    /// The numbers.
    pub fn ports(&self) -> Ports {
        Ports { rtp: self.rtp, rtcp: self.rtcp }
    }
}

/// Where to publish or play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is for.
    pub usage: Usage,
    /// `RTMP`, `HTTPFLV`, `RTP`.
    pub protocol: &'static str,
    /// What to type.
    pub url: String,
}

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Sending.
    Publish,
    /// Watching.
    Play,
}

/// Who publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Address and port of the peer.
    pub remote: Arc<str>,
    /// Since when.
    pub since: UnixTime,
    /// RFC 6381 family names: H264, H265, AAC, MP3, PCMA, PCMU.
    pub codecs: Vec<Arc<str>>,
}

/// A move because a worker was lost or started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When the new epoch was claimed.
    pub at: UnixTime,
    /// The worker before.
    pub from: WorkerName,
    /// The worker after.
    pub to: WorkerName,
    /// Why.
    pub reason: Reason,
    /// From the last sign of the old worker to the new one's acknowledgement; absent while that is awaited.
    pub gap_ms: Option<u64>,
}

/// Conditions by type: a map of a type can't hold one twice.
pub type Conditions = BTreeMap<ConditionType, Condition>;

/// The types of conditions, of both kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is taken.
    Accepted,
    /// An rtp stream has its numbers.
    PortsAllocated,
    /// A stream can be published to; a pool can be leased from.
    Ready,
    /// Media flowed within stallTimeout.
    Live,
    /// Its worker is not heard and it can't be moved.
    FailoverBlocked,
    /// A pool has no free number on any node.
    Exhausted,
    /// A pool is used above nearlyExhaustedPercent.
    NearlyExhausted,
    /// Leases outside the pool's ranges are still there.
    Draining,
    /// Somebody else holds numbers of the pool.
    Conflicted,
    /// The pool overlaps ports that the kernel hands out by itself.
    EphemeralOverlap,
    /// The pool overlaps NodePorts.
    NodePortOverlap,
}

impl ConditionType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::PortsAllocated,
        Self::Ready,
        Self::Live,
        Self::FailoverBlocked,
        Self::Exhausted,
        Self::NearlyExhausted,
        Self::Draining,
        Self::Conflicted,
        Self::EphemeralOverlap,
        Self::NodePortOverlap,
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::PortsAllocated => "PortsAllocated",
            Self::Ready => "Ready",
            Self::Live => "Live",
            Self::FailoverBlocked => "FailoverBlocked",
            Self::Exhausted => "Exhausted",
            Self::NearlyExhausted => "NearlyExhausted",
            Self::Draining => "Draining",
            Self::Conflicted => "Conflicted",
            Self::EphemeralOverlap => "EphemeralOverlap",
            Self::NodePortOverlap => "NodePortOverlap",
        }
    }

    /// The type written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether True is the bad side.
    pub fn is_alarm(self) -> bool {
        match self {
            Self::Accepted | Self::PortsAllocated | Self::Ready | Self::Live => false,
            Self::FailoverBlocked
            | Self::Exhausted
            | Self::NearlyExhausted
            | Self::Draining
            | Self::Conflicted
            | Self::EphemeralOverlap
            | Self::NodePortOverlap => true,
        }
    }
}

/// One condition. Only True and False: what is not known is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// True or False.
    pub status: bool,
    /// One word, from the closed list.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The generation that it speaks of.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition: UnixTime,
}

/// A PortPool's status. The four numbers sum to the capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// The generation that this speaks of.
    pub observed_generation: i64,
    /// Nodes that it is leased on.
    pub nodes: u32,
    /// Numbers of all ranges less the reserved, times the nodes.
    pub capacity: u32,
    /// Can be leased at once.
    pub free: u32,
    /// Held by a stream.
    pub leased: u32,
    /// Resting.
    pub cooling: u32,
    /// Held by somebody else.
    pub quarantined: u32,
    /// Leased or cooling outside today's ranges; not in the sum.
    pub draining: u32,
    /// The node with the fewest free numbers.
    pub worst_node: Option<WorstNode>,
    /// Streams that hold a shrink, at most 50.
    pub blocked_by: Vec<ObjectName>,
    /// Numbers in quarantine, and those of ours that somebody else holds, too; at most 50.
    pub problems: Vec<Problem>,
    /// By type.
    pub conditions: Conditions,
}

/// The node with the fewest free numbers of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorstNode {
    /// Its name.
    pub name: NodeName,
    /// Free numbers there.
    pub free: u32,
}

/// A number that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// On which node.
    pub node: NodeName,
    /// The number.
    pub port: u16,
    /// How it is known.
    pub source: ProblemSource,
    /// Pod or process, else uid and the `ss` line that shows it.
    pub owner: String,
    /// Since when.
    pub since: UnixTime,
}

/// How it is known that a number can't be leased though no stream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemSource {
    /// A worker could not bind it.
    BindFailed,
    /// A worker's host scan shows it.
    HostScan,
    /// Our worker says that it has it open for no stream.
    Leak,
}

impl ProblemSource {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BindFailed => "BindFailed",
            Self::HostScan => "HostScan",
            Self::Leak => "Leak",
        }
    }

    /// The source written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::BindFailed, Self::HostScan, Self::Leak].into_iter().find(|source| source.as_str() == text)
    }
}
