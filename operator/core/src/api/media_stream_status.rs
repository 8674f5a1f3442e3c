//! Status of a MediaStream: where it runs, how to reach it, what happened to it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, RtpTransport, Time};

/// What the operator reports, and what it needs back after a restart: nothing else is stored anywhere.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaStreamStatus {
    /// The metadata.generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One word for people; the conditions say why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<StreamPhase>,

    /// Rises with each new assignment of the stream to a worker or a port. Together with the UID it names one assignment for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,

    /// Rises with each new leader of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub term: Option<i64>,

    /// The path in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,

    /// The kind of the source: Push, RTP/UDP, RTP/TCPPassive or RTP/TCPActive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// The worker that owns the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,

    /// The ports of an rtp source: leased for it, or its worker's one for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,

    /// Where to publish to and where to play from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,

    /// Who publishes at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Publisher>,

    /// How often the stream was moved because its worker failed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub failovers: i64,

    /// The newest of these moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Failover>,

    /// Accepted: its spec is in force. PortsAllocated: its ports are leased, or need no lease. Ready: it can be published to on a live worker.
    /// Live: media flowed within publish.stallTimeout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One word for the state of a stream.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamPhase {
    /// It waits for a worker, for ports, or for a worker's acknowledgement.
    Pending,
    /// It can be published to.
    Ready,
    /// Media flows.
    Live,
    /// It gave its ports back after releaseAfterIdle.
    Idle,
    /// spec.paused is true.
    Paused,
    /// Its spec is not accepted.
    Refused,
    /// It is being taken off its worker.
    Terminating,
}

/// The worker that owns the stream.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Name of the worker's pod.
    pub worker: String,
    /// UID of that pod.
    #[serde(rename = "podUID", default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Node it runs on.
    pub node: String,
    /// Addresses to reach it at, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// When the stream was given to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// Ports of an rtp source.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// The PortPool they were leased from. Without it they are the worker's for all streams with spec.source.rtp.shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Port for RTP.
    #[schemars(range(min = 1, max = 65535))]
    pub rtp: u16,
    /// Port for RTCP, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub rtcp: Option<u16>,
    /// How the device sends.
    pub transport: RtpTransport,
    /// Ports outside the pool's ranges that these take the place of (spec.shrink of the PortPool): the device may send to either until
    /// they are closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousPorts>,
}

/// Ports that others take the place of.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousPorts {
    /// Port for RTP.
    #[schemars(range(min = 1, max = 65535))]
    pub rtp: u16,
    /// Port for RTCP, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub rtcp: Option<u16>,
    /// Since when the ports that take their place are open as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When they are closed, unless media comes on the others before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Time>,
}

/// A URL.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// What it is for.
    #[serde(rename = "use")]
    pub use_: EndpointUse,
    /// The protocol, as spec names it; RTP for an rtp source.
    pub protocol: String,
    /// The URL.
    pub url: String,
}

/// What a URL is for.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum EndpointUse {
    Publish,
    Play,
}

/// Who publishes.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publisher {
    /// Its address and port.
    pub remote: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What it sends, such as H264 and AAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<String>,
}

/// A move of the stream because its worker failed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// When the new assignment was made.
    pub at: Time,
    /// The worker that had it.
    pub from: String,
    /// The worker that has it.
    pub to: String,
    /// Why.
    pub reason: String,
    /// From the last sign of the old worker to the acknowledgement of the new one, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub gap_millis: Option<i64>,
}
