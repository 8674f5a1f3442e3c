//! A shard's border: what it is told, what it reports, and the handle by which others reach it.

use std::net::SocketAddr;
use std::sync::Arc;

pub use media::stream::EndReason;
pub use run::{Config, spawn};
use tokio::sync::{mpsc, oneshot};

mod run;

use crate::assignment::{Assignment, StreamRef};
use crate::connection::Arrival;
use crate::counters::Counters;
use crate::hub::Ingress;
use crate::pulse::Pulse;

/// How others reach a shard. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// Its number, from 0.
    pub index: usize,
    /// Ticks while its loop turns.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// For control. Bounded; a full one means that the shard is stuck.
    pub commands: mpsc::Sender<ShardCommand>,
    /// For front. Bounded; a connection that finds it full is closed and counted.
    pub arrivals: mpsc::Sender<Arrival>,
}

/// What a shard is told by control.
pub enum ShardCommand {
    /// Publish this stream here. With the epoch that runs already it changes the policies in place (`ingress` is `None`
    /// then, unless the ports changed); with a higher one, viewers and ring go over to it, and the old epoch is reported closed.
    Assign {
        /// What.
        assignment: Arc<Assignment>,
        /// For rtp streams: built by control around bound sockets, run by the shard. Its sockets close when the shard drops it.
        ingress: Option<Ingress>,
    },
    /// Stop this stream; answered by [`ShardReport::Closed`], also when nothing is known of it.
    Revoke {
        /// Which; an epoch lower than the running one stops nothing.
        stream: StreamRef,
        /// A Reason of operator-core, for logs and for what peers are told.
        reason: String,
    },
    /// Who is here; for the admin pages.
    Snapshot(oneshot::Sender<ShardSnapshot>),
    /// End who publishes or plays a stream, as a person asked. Answered with who was ended, of each stream of that name that is here.
    Kick(Kick, oneshot::Sender<Vec<Kicked>>),
    /// End all sessions politely; answered by [`ShardReport::Drained`] when their last bytes are written or a second has passed.
    Drain,
    /// Break something on purpose (`--test-hooks`).
    Fault(Fault),
}

impl ShardCommand {
    /// What a state dump calls it.
    pub fn name(&self) -> &'static str {
        match self {
            ShardCommand::Assign { .. } => "command assign",
            ShardCommand::Revoke { .. } => "command revoke",
            ShardCommand::Snapshot(_) => "command snapshot",
            ShardCommand::Kick(_, _) => "command kick",
            ShardCommand::Drain => "command drain",
            ShardCommand::Fault(_) => "command fault",
        }
    }
}

/// Whom a person ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kick {
    /// The stream's namespace.
    pub namespace: String,
    /// The stream's name.
    pub name: String,
    /// Who is to go.
    pub whom: Whom,
}

/// Who is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whom {
    /// Who publishes the stream.
    Publisher,
    /// All who play it.
    Viewers,
}

/// Who was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kicked {
    /// Where the stream is published and played.
    pub path: Arc<str>,
    /// Who published.
    pub publisher: Option<PublisherInfo>,
    /// How many played.
    pub viewers: usize,
}

/// What is broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The thread sleeps for ever.
    Block,
    /// The thread computes for ever.
    Spin,
    /// The thread panics.
    Panic,
    /// The publisher's session of this path panics at its next bytes.
    PanicSession(String),
    /// The thread goes on, and writes nothing to viewers until this is lifted.
    Mute(bool),
}

/// What a shard reports to control. A full channel makes it merge reports of the same stream and kind: the newest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardReport {
    /// The assignment is in force here (and its ingress runs).
    Assigned(StreamRef),
    /// Nothing of the stream is left here: its ingress was dropped before this was sent.
    Closed(StreamRef),
    /// Some leases of the stream were closed: what is bound for it says which.
    LeasesClosed(StreamRef),
    /// Media comes on one of two leases.
    Arrived {
        /// Of which stream.
        stream: StreamRef,
        /// The lease's RTP port.
        port: u16,
        /// It has come there long enough to stay.
        settled: bool,
    },
    /// A publisher came, went, or its codecs became known.
    Publisher {
        /// Of which stream.
        stream: StreamRef,
        /// Who publishes, if anybody.
        publisher: Option<PublisherInfo>,
        /// Why the last one ended, where nobody publishes.
        reason: Option<EndReason>,
    },
    /// The device that is to be connected to was not, or was of no use.
    DialFailed {
        /// Of which stream.
        stream: StreamRef,
        /// Why, for people.
        error: Arc<str>,
    },
    /// Media began to flow, or did not flow for stallTimeout.
    Media {
        /// Of which stream.
        stream: StreamRef,
        /// Whether it flows.
        live: bool,
    },
    /// The shard of this number has ended its sessions.
    Drained(usize),
}

impl ShardReport {
    /// Whether a newer report makes this one needless.
    pub(crate) fn is_replaced_by(&self, newer: &ShardReport) -> bool {
        match (self, newer) {
            (ShardReport::Assigned(old), ShardReport::Assigned(new)) => old == new,
            (ShardReport::Closed(old), ShardReport::Closed(new)) => old == new,
            (ShardReport::LeasesClosed(old), ShardReport::LeasesClosed(new)) => old == new,
            (ShardReport::Arrived { stream: old, .. }, ShardReport::Arrived { stream: new, .. }) => {
                old == new
            }
            (ShardReport::Publisher { stream: old, .. }, ShardReport::Publisher { stream: new, .. }) => {
                old == new
            }
            (ShardReport::DialFailed { stream: old, .. }, ShardReport::DialFailed { stream: new, .. }) => {
                old == new
            }
            (ShardReport::Media { stream: old, .. }, ShardReport::Media { stream: new, .. }) => old == new,
            (ShardReport::Drained(old), ShardReport::Drained(new)) => old == new,
            _ => false,
        }
    }
}

/// Who publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherInfo {
    /// Address of the peer.
    pub remote: SocketAddr,
    /// Wall clock when it came.
    pub since_unix_ms: u64,
    /// `RTMP`, `RTP`.
    pub protocol: &'static str,
    /// Names of the codecs seen so far, video first.
    pub codecs: Vec<&'static str>,
}

/// Who is on a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Its streams, by path.
    pub streams: Vec<StreamSnapshot>,
}

/// One stream and its sessions.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// What it is.
    pub assignment: Arc<Assignment>,
    /// Who publishes.
    pub publisher: Option<PublisherInfo>,
    /// Whether media flows.
    pub live: bool,
    /// Frames taken since the assignment.
    pub frames_in: u64,
    /// Media bytes taken since the assignment.
    pub bytes_in: u64,
    /// Bytes in the ring.
    pub ring_bytes: u64,
    /// Frames in the ring.
    pub ring_frames: usize,
    /// What is held for it of the process's budget: the ring, and frames that left it and are not yet with a slow viewer.
    pub held_bytes: u64,
    /// Who watches; at most [`SNAPSHOT_VIEWERS_MAX`] of them.
    pub viewers: Vec<ViewerSnapshot>,
    /// How many watch.
    pub viewer_count: usize,
}

/// Viewers of one stream that a snapshot lists.
pub const SNAPSHOT_VIEWERS_MAX: usize = 100;

/// One viewer.
#[derive(Clone, Debug)]
pub struct ViewerSnapshot {
    /// Address of the peer.
    pub remote: SocketAddr,
    /// `RTMP`, `HTTP-FLV`.
    pub protocol: &'static str,
    /// Wall clock when it came.
    pub since_unix_ms: u64,
    /// Bytes written to it.
    pub bytes_out: u64,
    /// Frames of the ring that it has not got yet.
    pub behind: u64,
    /// How often it skipped to a key frame.
    pub skips: u64,
}

/// The shard of a path: all that come for one path meet on one shard.
pub fn shard_of(path: &str, shards: usize) -> usize {
    // FNV-1a: the same on each run and each build, which the standard hasher doesn't promise.
    let hash = path
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV are its weak ones.
    ((hash >> 32) % shards.max(1) as u64) as usize
}
