//! What can happen: everything that the core ever learns comes in as one of these.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::action::KnownDirectory;
use crate::ids::{
    BootId, Epoch, NodeName, ObjectName, PoolName, Ports, Protocol, ResourceVersion, ServiceCidrName,
    SessionId, StreamRef, Term, Uid, WorkerName, WriteId,
};
use crate::port_set::PortSet;
use crate::spec::{PoolObject, PortRange, Selector, StreamObject};

/// Both clocks, read together by the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Since an arbitrary start; never goes back. All waits are measured on it.
    pub mono: Duration,
    /// Wall clock since 1970, only for what a status shows.
    pub wall_unix_ms: u64,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A MediaStream is there or has changed (list or watch).
    StreamSeen(Box<StreamObject>),
    /// A MediaStream was seen to be deleted (a watch's delete event, never a list's lack of it).
    StreamGone {
        /// Which.
        uid: Uid,
    },
    /// A PortPool is there or has changed.
    PoolSeen(Box<PoolObject>),
    /// A PortPool was deleted.
    PoolGone {
        /// Which.
        name: PoolName,
        /// Of that name; a later one is not meant.
        uid: Uid,
    },
    /// A node is there or has changed.
    NodeSeen(NodeObject),
    /// A node was deleted. Frees nothing; ends a hold on its worker.
    NodeGone {
        /// Which.
        name: NodeName,
    },
    /// A token Secret is there or has changed.
    SecretSeen {
        /// Which.
        name: ObjectName,
        /// SHA-256 of each of its values, in their order.
        token_sha256: Arc<[[u8; 32]]>,
    },
    /// A token Secret is gone.
    SecretGone {
        /// Which.
        name: ObjectName,
    },
    /// A ServiceCIDR is there or has changed.
    ServiceCidrSeen {
        /// Which.
        name: ServiceCidrName,
        /// Where Services get their addresses from.
        networks: Vec<IpNet>,
    },
    /// A ServiceCIDR is gone.
    ServiceCidrGone {
        /// Which.
        name: ServiceCidrName,
    },
    /// A consistent list of one kind has been delivered whole: what it had came before as `…Seen` events.
    Listed(Listed),
    /// The answer to `Action::Confirm`.
    Confirmed {
        /// Which stream was asked for.
        uid: Uid,
        /// The object as it is; absent: NotFound, or another object under its name.
        found: Option<Box<StreamObject>>,
    },
    /// The answer to `Action::Confirm` of an API that lacks the stream, and is of an older version than was known when it was asked: it was
    /// put back, and has forgotten.
    Forgotten {
        /// Which stream was asked for.
        uid: Uid,
    },
    /// A person says that what lists lack is really gone.
    AbsenceConfirmed,
    /// How a write ended.
    Write {
        /// Which.
        id: WriteId,
        /// How.
        outcome: WriteOutcome,
    },
    /// A worker opened a session. The first event of it.
    Hello {
        /// The session; new.
        session: SessionId,
        /// Who speaks.
        hello: Hello,
    },
    /// Everything that a worker holds.
    Inventory {
        /// From whom.
        session: SessionId,
        /// What.
        inventory: Inventory,
    },
    /// A sign of life.
    Beat {
        /// From whom.
        session: SessionId,
        /// What it says.
        beat: Beat,
    },
    /// Something happened on a worker.
    Report {
        /// From whom.
        session: SessionId,
        /// What.
        report: Report,
    },
    /// A session ended. Not a death by itself.
    SessionClosed {
        /// Which.
        session: SessionId,
    },
    /// The witnesses' word (`panel`): this worker process runs, though it is not heard here. Said again for as long as it holds.
    WorkerDegraded {
        /// Which.
        worker: WorkerName,
        /// Which start of it.
        boot: BootId,
    },
    /// The witnesses' word: a majority cannot reach this worker process. A supervisor that saw the process exit may say it too.
    WorkerLost {
        /// Which.
        worker: WorkerName,
        /// Which start of it.
        boot: BootId,
    },
    /// This replica leads from here on. The lists (`Listed` of each kind) must follow, read consistently.
    Lead {
        /// The highest term in the Lease's annotation; 0 for none.
        floor: Term,
    },
    /// `Action::RecordTerm` is done: commands of this term may go out.
    TermRecorded {
        /// Which.
        term: Term,
    },
    /// This replica leads no longer. It keeps its sessions.
    Demoted,
    /// A deadline of `State::next_deadline` has come, or nothing in particular.
    Tick,
}

/// A node as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObject {
    /// Its name.
    pub name: NodeName,
    /// For nodeSelectors.
    pub labels: Selector,
    /// Its Ready condition.
    pub ready: bool,
    /// Cordoned: no new streams.
    pub unschedulable: bool,
    /// Where publishers and players reach it, best first; empty: where its worker says.
    pub addresses: Vec<Arc<str>>,
    /// Its own addresses.
    pub own: Vec<IpAddr>,
    /// Where its pods get their addresses from, if Kubernetes gives them out.
    pub pods: Vec<IpNet>,
}

/// A consistent list of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Of MediaStreams.
    Streams {
        /// The list's version.
        resource_version: ResourceVersion,
        /// What it had.
        uids: BTreeSet<Uid>,
    },
    /// Of PortPools.
    Pools {
        /// What it had.
        names: BTreeSet<PoolName>,
    },
    /// Of nodes.
    Nodes {
        /// What it had.
        names: BTreeSet<NodeName>,
    },
    /// Of token Secrets.
    Secrets {
        /// What it had.
        names: BTreeSet<ObjectName>,
    },
    /// Of ServiceCIDRs.
    ServiceCidrs {
        /// What it had. Absent: the API server has no such kind, or does not show it, and what is known of it stays.
        names: Option<BTreeSet<ServiceCidrName>>,
    },
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is there.
    Written {
        /// The object's new version.
        resource_version: ResourceVersion,
    },
    /// The object's version was another one: nothing was written.
    Conflict,
    /// The API refused it: nothing was written.
    Refused {
        /// Its words.
        message: String,
    },
    /// The object is not there: nothing was written.
    NotFound,
    /// Nobody knows: a timeout, a lost connection. It may still come to pass.
    Unknown,
}

/// Who is speaking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The worker.
    pub worker: WorkerName,
    /// Where it runs.
    pub node: NodeName,
    /// Its pod.
    pub pod_uid: Arc<str>,
    /// What it was made from; empty where that is not known.
    pub template: Arc<str>,
    /// Which start of its process.
    pub boot: BootId,
    /// Addresses that publishers and players reach it at, best first.
    pub addresses: Vec<Arc<str>>,
    /// Ports of its public listeners, reserved in every pool on this node.
    pub listener_ports: Vec<u16>,
    /// The highest term that it has been told.
    pub term: Term,
    /// The highest epoch of any stream that it has been told.
    pub epoch: Epoch,
    /// Public RTMP port.
    pub rtmp_port: u16,
    /// Public HTTP port.
    pub http_port: u16,
    /// Port of its watchdog, which answers while all else hangs; 0 for none.
    pub health_port: u16,
    /// Its port of TCP and UDP for all rtp streams that are told apart by SSRC, if it has one.
    pub rtp_shared_port: Option<u16>,
    /// It follows an edit of an rtp source, and opens a second lease, while an epoch is in force. One of an older version does not.
    pub changes_leases: bool,
    /// It keeps from the cluster's own networks when it is told of them. One of an older version does not.
    pub knows_networks: bool,
}

/// A media socket that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whose it is; absent: nobody's, a leak.
    pub stream: Option<StreamRef>,
}

/// Ports that were closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Whose they were.
    pub stream: StreamRef,
    /// RTP first, then RTCP.
    pub ports: Vec<u16>,
    /// Only inside an inventory: how long ago.
    pub ago: Duration,
}

/// A socket on the host that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The user it runs as.
    pub user: u32,
    /// The process's name where it can be read, else empty.
    pub process: Arc<str>,
    /// The line of `ss` that shows it.
    pub show: Arc<str>,
}

/// What the host's kernel hands out by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    /// net.ipv4.ip_local_port_range
    pub ephemeral: Option<PortRange>,
    /// net.ipv4.ip_local_reserved_ports: left out of the above.
    pub reserved: Vec<PortRange>,
}

impl HostPorts {
    /// Those of `numbers` that the kernel may give to an outgoing connection of anybody.
    pub fn handed_out(&self, numbers: &PortSet) -> PortSet {
        let mut handed_out = PortSet::from_ranges(self.ephemeral).intersection(numbers);
        self.reserved.iter().for_each(|range| handed_out.remove_range(*range));
        handed_out
    }

    /// The command by which it gives out none of `numbers` either; what is reserved already stays so.
    pub fn reserving(&self, numbers: &PortSet) -> String {
        let reserved = numbers.ranges().into_iter().chain(self.reserved.iter().copied());
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", PortSet::from_ranges(reserved))
    }
}

/// Everything that a worker process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The last command applied before the host scan in it was begun: what it says of the host is at least as young, and what it
    /// says of leases is younger.
    pub sequence: u64,
    /// Media sockets.
    pub bound: Vec<Binding>,
    /// Closed within the last 60 s.
    pub closed: Vec<Closed>,
    /// Foreign sockets inside the watched ranges; complete.
    pub holders: Vec<Holder>,
    /// Streams assigned there, those without ports too.
    pub streams: Vec<StreamRef>,
    /// The kernel's own ranges.
    pub host: HostPorts,
    /// What it has of the directory, once `sequence` was applied. Absent: nothing whole, or it can't say.
    pub directory: Option<KnownDirectory>,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The last command applied in this session.
    pub sequence: u64,
    /// `digest::Digest` of the bound media ports with their streams.
    pub digest: u64,
    /// The highest term that the worker has been told.
    pub term: Term,
    /// It is to end, and its streams are to go elsewhere before.
    pub draining: bool,
}

/// Something happened on a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The assignment is in force.
    Assigned {
        /// Which.
        stream: StreamRef,
        /// What is bound for it.
        ports: Option<Ports>,
        /// What is bound beside it, to take its place.
        next: Option<Ports>,
    },
    /// A number could not be bound; none of the lease's are held for this epoch.
    BindFailed {
        /// For which.
        stream: StreamRef,
        /// Which number.
        port: u16,
        /// In which protocol.
        protocol: Protocol,
        /// The operating system's words.
        error: Arc<str>,
        /// Who holds it, where the scan shows it.
        holder: Option<Holder>,
        /// The holder is another stream of the same worker: no cause for quarantine.
        own: bool,
    },
    /// A stream was stopped, or was not there when it was to be.
    Closed(Closed),
    /// Numbers of a stream that goes on on others were closed.
    PortsClosed {
        /// Of which.
        stream: StreamRef,
        /// Which numbers.
        ports: Vec<u16>,
    },
    /// Of two leases of a stream, media comes on this one.
    Arrived {
        /// Of which.
        stream: StreamRef,
        /// The lease's RTP number.
        port: u16,
        /// It has come there for 2 s.
        settled: bool,
    },
    /// A publisher came, went, or its codecs became known.
    Publisher {
        /// Of which.
        stream: StreamRef,
        /// Absent: nobody publishes.
        publisher: Option<crate::status::Publisher>,
        /// Why the last one ended, when none is here.
        reason: Arc<str>,
    },
    /// Media began to flow, or did not for stallTimeout.
    Media {
        /// Of which.
        stream: StreamRef,
        /// It flows.
        live: bool,
    },
    /// The foreign sockets inside the watched ranges changed; complete.
    Scan {
        /// All of them.
        holders: Vec<Holder>,
        /// The kernel's own ranges.
        host: HostPorts,
    },
    /// A shard has stopped ticking.
    ShardStuck {
        /// Which.
        shard: u32,
        /// `blocked` or `spinning`.
        verdict: Arc<str>,
        /// What sits on it.
        streams: Vec<StreamRef>,
    },
}
