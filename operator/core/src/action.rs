//! What can be done: everything that the core ever has done goes out as one of these.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ipnet::IpNet;

use crate::digest::DirectoryDigest;
use crate::ids::{
    ObjectName, Path, PoolName, Ports, ResourceVersion, SessionId, StreamRef, Term, Uid, WorkerName, WriteId,
};
use crate::reason::Reason;
use crate::spec::{PlayPolicy, PortRange, PublishPolicy, PushProtocol, RtpSource};
use crate::status::{PoolStatus, StreamStatus};

/// Something is to be done. In the order given, except that writes of claims overtake other writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace a stream's status. Answered by `Event::Write`, always.
    WriteStream {
        /// Names the answer.
        id: WriteId,
        /// The object; one of another UID under its name is not meant (`NotFound`).
        uid: Uid,
        /// Where it is.
        name: ObjectName,
        /// Only if this is still its version.
        resource_version: ResourceVersion,
        /// All of it.
        status: Box<StreamStatus>,
        /// Somebody waits to be told: goes before writes that only inform.
        claim: bool,
    },
    /// Replace a pool's status. Answered by `Event::Write`, always.
    WritePool {
        /// Names the answer.
        id: WriteId,
        /// The object.
        uid: Uid,
        /// Its name.
        name: PoolName,
        /// Only if this is still its version.
        resource_version: ResourceVersion,
        /// All of it.
        status: Box<PoolStatus>,
    },
    /// Delete a stream (ttlAfterIdle). Answered by `Event::Write`, always; the deletion itself comes as `StreamGone`.
    DeleteStream {
        /// Names the answer.
        id: WriteId,
        /// Only the object of this UID.
        uid: Uid,
        /// Where it is.
        name: ObjectName,
        /// Only if this is still its version.
        resource_version: ResourceVersion,
    },
    /// Read one stream, not from a cache. Answered by `Event::Confirmed`, or by `Event::Forgotten`; tried until there is an answer or
    /// the replica is demoted.
    Confirm {
        /// The object that is meant.
        uid: Uid,
        /// Where to look; absent: not known, look for the UID in a consistent list.
        name: Option<ObjectName>,
        /// The newest version that is known. An API of an older one has been put back, and what it lacks may be there all the same.
        since: ResourceVersion,
    },
    /// Write the term into the Lease. Answered by `Event::TermRecorded`, or by `Event::Demoted`.
    RecordTerm {
        /// The new term.
        term: Term,
    },
    /// Tell a worker something.
    Command {
        /// By which session.
        session: SessionId,
        /// Of which term.
        term: Term,
        /// Rises by one with each command of the session, from 1.
        sequence: u64,
        /// What.
        command: Command,
    },
    /// End a session: another one of the same worker has taken over, or its node belongs to another process.
    CloseSession {
        /// Which.
        session: SessionId,
        /// For the log.
        why: &'static str,
    },
    /// Make a Kubernetes Event and a line in the log.
    Emit {
        /// What it is about.
        object: ObjectRef,
        /// One word.
        reason: Reason,
        /// How it is meant.
        severity: Severity,
        /// What happened and what to do next.
        note: String,
    },
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectRef {
    /// A MediaStream.
    Stream {
        /// Its UID.
        uid: Uid,
        /// Its name.
        name: ObjectName,
    },
    /// A PortPool.
    Pool {
        /// Its UID.
        uid: Uid,
        /// Its name.
        name: PoolName,
    },
    /// The installation as a whole.
    Installation,
}

/// How an event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing needs doing.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What a worker can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first one of a session.
    Welcome,
    /// Take this stream; the same epoch again changes its policies in place.
    Assign(Box<Assign>),
    /// Stop this stream and close its ports.
    Revoke {
        /// Which.
        stream: StreamRef,
        /// Why.
        reason: Reason,
    },
    /// Path to owner.
    Directory(Arc<Directory>),
    /// Connect to no device there. Of a session that is told of any, before the first `Assign`.
    Networks(Arc<ClusterNetworks>),
    /// Send an inventory that is begun after this.
    InventoryRequest,
    /// Look for foreign sockets in these ranges.
    Watch {
        /// Sorted, apart from each other.
        ranges: Vec<PortRange>,
        /// Between two scans.
        interval: Duration,
    },
    /// Close a media socket that no stream owns.
    CloseLeak {
        /// Its number.
        port: u16,
        /// Who is believed to own it.
        stream: Option<StreamRef>,
    },
}

/// A stream to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assign {
    /// Which, at which epoch.
    pub stream: StreamRef,
    /// Where it is published and played.
    pub path: Path,
    /// For logs and metrics.
    pub name: ObjectName,
    /// Stream time counts from here.
    pub created_unix_ms: u64,
    /// Rules for publishers.
    pub publish: Arc<PublishPolicy>,
    /// Who may publish.
    pub publish_tokens: Tokens,
    /// Rules for players.
    pub play: Arc<PlayPolicy>,
    /// Who may play.
    pub play_tokens: Tokens,
    /// Where the media comes from.
    pub source: AssignedSource,
}

/// Where an assigned stream's media comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignedSource {
    /// An encoder comes to the public listeners.
    Push {
        /// By which protocols.
        protocols: Vec<PushProtocol>,
    },
    /// RTP on these ports.
    Rtp {
        /// How.
        source: RtpSource,
        /// On which numbers.
        ports: Ports,
        /// Numbers that are to take their place: both are open, and it comes on either.
        next: Option<Ports>,
    },
    /// RTP on the worker's port for all.
    Shared {
        /// How.
        source: RtpSource,
    },
}

impl AssignedSource {
    /// The numbers that its worker opens for this stream alone.
    pub fn ports(&self) -> Option<Ports> {
        match self {
            Self::Push { protocols: _ } | Self::Shared { source: _ } => None,
            Self::Rtp { source: _, ports, next: _ } => Some(*ports),
        }
    }

    /// The numbers that are to take their place.
    pub fn next(&self) -> Option<Ports> {
        match self {
            Self::Push { protocols: _ } | Self::Shared { source: _ } => None,
            Self::Rtp { source: _, ports: _, next } => *next,
        }
    }
}

/// Who may come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tokens {
    /// No token is asked for.
    Open,
    /// One whose SHA-256 is among these; none while the Secret is missing.
    Required(Arc<[[u8; 32]]>),
}

/// Path to owner, for workers to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Rises with each change.
    pub version: u64,
    /// What is neither here nor in a following piece of the same version is gone.
    pub full: bool,
    /// New or changed.
    pub entries: Vec<DirectoryEntry>,
    /// No longer declared.
    pub removed: Vec<Path>,
    /// More pieces of all of it follow.
    pub more: bool,
    /// What all of it comes to with this. Absent: more follows, or others have not been told of this yet.
    pub digest: Option<DirectoryDigest>,
    /// For whoever sends it.
    pub encoded: Encoded,
}

/// What a worker has of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownDirectory {
    /// The highest version that it was told.
    pub version: u64,
    /// What all that it was told comes to.
    pub digest: DirectoryDigest,
}

/// The cluster's own networks: whoever may write a MediaStream must not reach through a worker what is for the cluster alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNetworks {
    /// Of Services.
    pub services: Vec<IpNet>,
    /// Of pods, where nodes say which.
    pub pods: Vec<IpNet>,
    /// Addresses of nodes.
    pub nodes: Vec<IpNet>,
    /// For whoever sends it.
    pub encoded: Encoded,
}

/// What is made once of something that goes to many. It says nothing that the thing itself does not say.
#[derive(Clone, Debug, Default)]
pub struct Encoded(OnceLock<Arc<[u8]>>);

impl Encoded {
    /// What was made first, else what is made here.
    pub fn get_or_make(&self, make: impl FnOnce() -> Vec<u8>) -> Arc<[u8]> {
        self.0.get_or_init(|| make().into()).clone()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Encoded {}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryEntry {
    /// The path.
    pub path: Path,
    /// Who has it.
    pub stream: StreamRef,
    /// The owner; absent: declared, but nobody has it at the moment.
    pub worker: Option<WorkerName>,
    /// How an encoder may come; empty: media comes over RTP.
    pub push: Vec<PushProtocol>,
    /// Rules for publishers.
    pub publish: Arc<PublishPolicy>,
    /// Who may publish.
    pub publish_tokens: Tokens,
    /// Rules for players.
    pub play: Arc<PlayPolicy>,
    /// Who may play.
    pub play_tokens: Tokens,
}

impl DirectoryEntry {
    /// A bound for all but what is counted one by one.
    const BYTES: usize = 120;

    /// What it weighs in a message of the contract at most.
    pub fn bytes_max(&self) -> usize {
        // A key of one byte and a length before each text.
        let text = |length: usize| 1 + if length < 128 { 1 } else { 2 } + length;
        let tokens = |tokens: &Tokens| match tokens {
            Tokens::Open => 0,
            Tokens::Required(all) => all.len() * text(32),
        };
        let networks = |all: &[Arc<str>]| all.iter().map(|network| text(network.len())).sum::<usize>();
        Self::BYTES
            + text(self.path.as_str().len())
            + text(self.stream.uid.as_str().len())
            + self.worker.as_ref().map_or(0, |worker| text(worker.as_str().len()))
            + (self.push.len() + self.play.protocols.len()) * text(8)
            + tokens(&self.publish_tokens)
            + tokens(&self.play_tokens)
            + networks(&self.publish.allowed_cidrs)
            + networks(&self.play.allowed_cidrs)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { name, .. } => write!(f, "stream {name}"),
            Self::Pool { name, .. } => write!(f, "pool {name}"),
            Self::Installation => f.write_str("installation"),
        }
    }
}
