//! What people ask for, checked: the planner never sees a field that was not looked at. `api` parses into these types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{NodeName, ObjectName, Path, PoolName, Ports, ResourceVersion, Uid};
use crate::port_set::PortSet;
use crate::reason::Reason;
use crate::status::{PoolStatus, StreamStatus};

/// A MediaStream as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamObject {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace and name.
    pub name: ObjectName,
    /// Its version.
    pub resource_version: ResourceVersion,
    /// Rises with each change of the spec.
    pub generation: i64,
    /// metadata.creationTimestamp.
    pub created_unix_ms: u64,
    /// metadata.deletionTimestamp is set: somebody else's finalizer still holds the object. It is stopped all the same.
    pub deleting: bool,
    /// The annotation media.penstock.dev/touch; any change of it wakes an idle stream.
    pub touch: Option<Arc<str>>,
    /// The spec, or why it can't be taken. A running stream whose edit is refused goes on with its last good spec.
    pub spec: Result<Arc<StreamSpec>, Refusal>,
    /// The status as stored.
    pub status: Box<StreamStatus>,
}

/// A PortPool as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolObject {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub name: PoolName,
    /// Its version.
    pub resource_version: ResourceVersion,
    /// Rises with each change of the spec.
    pub generation: i64,
    /// metadata.creationTimestamp.
    pub created_unix_ms: u64,
    /// The spec, or why it can't be taken.
    pub spec: Result<Arc<PoolSpec>, Refusal>,
    /// The status as stored.
    pub status: Box<PoolStatus>,
}

/// Why an object's spec is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word for condition, event and metric.
    pub reason: Reason,
    /// Names the field and what to write instead.
    pub message: String,
}

/// A MediaStream's spec, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Where it is published and played.
    pub path: Path,
    /// Where its media comes from.
    pub source: Source,
    /// The pool asked for; absent: the default pool.
    pub pool: Option<PoolName>,
    /// Who may publish, and how long things may take.
    pub publish: Arc<PublishPolicy>,
    /// Who may play, and how it is sent.
    pub play: Arc<PlayPolicy>,
    /// rtp: with no media this long the ports go back. Absent: never.
    pub release_after_idle: Option<Duration>,
    /// With no media this long the object is deleted. Absent: never.
    pub ttl_after_idle: Option<Duration>,
    /// Labels that the node must carry.
    pub node_selector: Selector,
    /// The node to take while it has room.
    pub preferred_node: Option<NodeName>,
    /// Declared, but neither assigned nor leased.
    pub paused: bool,
}

/// Labels that must all be there; empty matches everything.
pub type Selector = BTreeMap<Arc<str>, Arc<str>>;

/// Where a stream's media comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An encoder comes to us.
    Push {
        /// By which protocols; never empty.
        protocols: Vec<PushProtocol>,
    },
    /// RTP, on leased ports or on the one that a worker has for all.
    Rtp(RtpSource),
}

/// How an encoder may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PushProtocol {
    /// RTMP and enhanced RTMP.
    Rtmp,
}

/// GB28181 media: PS in RTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpSource {
    /// How it comes.
    pub transport: RtpTransport,
    /// The SSRC that is expected.
    pub ssrc: Option<u32>,
    /// What another SSRC means.
    pub ssrc_policy: SsrcPolicy,
    /// A pair is leased, the odd number for RTCP.
    pub rtcp: bool,
    /// This number, or the pair that begins with it, and no other. Even where there is a pair.
    pub port: Option<u16>,
    /// No lease: the worker's one port, where streams are told apart by SSRC. Then there is an SSRC, it is enforced, and there is
    /// neither RTCP pair nor port nor remote.
    pub shared: bool,
    /// Whom to connect to; there for `TcpActive` only.
    pub remote: Option<Remote>,
}

/// A device that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// An address or a name.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
}

impl RtpSource {
    /// The numbers that it must have; absent: whichever the pool gives.
    pub fn fixed(&self) -> Option<Ports> {
        self.port.map(|rtp| Ports { rtp, rtcp: self.rtcp.then_some(rtp | 1) })
    }
}

/// How RTP comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RtpTransport {
    /// Datagrams.
    Udp,
    /// The sender connects (RFC 4571 framing).
    TcpPassive,
    /// We connect to the sender, from the leased port (RFC 4571 framing).
    TcpActive,
}

/// What an SSRC other than the configured one means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SsrcPolicy {
    /// Dropped and counted.
    Enforce,
    /// The first one seen is taken.
    Learn,
}

/// Rules for publishers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublishPolicy {
    /// What a second publisher means.
    pub on_duplicate: OnDuplicate,
    /// From publish accepted to the first media.
    pub start_timeout: Duration,
    /// Without media this long the publisher is ended.
    pub stall_timeout: Duration,
    /// How long viewers are kept when the publisher is gone.
    pub resume_window: Duration,
    /// A Secret in the stream's namespace; absent: no token is asked for.
    pub token_secret: Option<Arc<str>>,
    /// CIDR notation, checked.
    pub allowed_cidrs: Vec<Arc<str>>,
}

/// What a second publisher of a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnDuplicate {
    /// It is refused while the first is heard.
    Reject,
    /// It ends the first.
    Takeover,
}

/// Rules for players.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlayPolicy {
    /// By which protocols; never empty.
    pub protocols: Vec<PlayProtocol>,
    /// The merge window.
    pub latency: Latency,
    /// What happens to a viewer that can't keep up.
    pub slow_viewer: SlowViewer,
    /// How long a viewer waits for media of a declared path.
    pub start_timeout: Duration,
    /// A Secret in the stream's namespace; absent: no token is asked for.
    pub token_secret: Option<Arc<str>>,
    /// CIDR notation, checked.
    pub allowed_cidrs: Vec<Arc<str>>,
}

/// How a player may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlayProtocol {
    /// RTMP and enhanced RTMP.
    Rtmp,
    /// FLV over HTTP.
    HttpFlv,
}

/// The merge window of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Latency {
    /// Each video frame, at most 33 ms.
    Normal,
    /// Each frame.
    Low,
    /// 350 ms.
    Bulk,
}

/// What happens to a viewer that can't keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlowViewer {
    /// It goes on at the next key frame.
    SkipToKeyframe,
    /// It is disconnected.
    Disconnect,
}

/// A PortPool's spec, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Streams that name no pool come here.
    pub default: bool,
    /// The ranges as written, for the worker's watch.
    pub ranges: Vec<PortRange>,
    /// The numbers that can be leased: all ranges less the reserved.
    pub numbers: PortSet,
    /// Nodes that it is for.
    pub node_selector: Selector,
    /// Namespaces that may use it; empty: all.
    pub allowed_namespaces: Vec<Arc<str>>,
    /// How long a number rests after its lease, for late packets of its last owner.
    pub cooldown: Duration,
    /// What becomes of leases outside the range after an edit.
    pub shrink: Shrink,
    /// From 1 to 100: NearlyExhausted is true from here on.
    pub nearly_exhausted_percent: u8,
}

impl PoolSpec {
    /// Whether streams of a namespace may lease from it.
    pub fn allows(&self, namespace: &str) -> bool {
        let Self { allowed_namespaces, .. } = self;
        allowed_namespaces.is_empty() || allowed_namespaces.iter().any(|allowed| &**allowed == namespace)
    }
}

/// Ports from `start` to `end`, both of them included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first.
    pub start: u16,
    /// The last.
    pub end: u16,
}

/// What becomes of leases outside the range after an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shrink {
    /// They end by themselves.
    Wait,
    /// A second lease is taken beside each, and the first is closed once media has come on the second.
    Move {
        /// At the latest so long after the second was opened.
        deadline: Duration,
    },
}
