//! PortPool: the port numbers that streams lease from, edited while they are in use.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Condition, Duration, Time, duration, words};

/// How many ranges a pool may have; CEL compares each with each.
pub(super) const RANGES_MAX: u32 = 64;
/// How many reserved entries a pool may have.
pub(super) const RESERVED_MAX: u32 = 256;

/// Which ports there are, and how they are handed out.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "media.penstock.dev",
    version = "v1alpha1",
    kind = "PortPool",
    plural = "portpools",
    shortname = "ppool",
    category = "penstock",
    status = "PortPoolStatus",
    derive = "PartialEq",
    doc = "Port numbers that rtp streams lease from, on each node that has a worker. Edit it at any time: nothing restarts.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Capacity", type_ = "integer", json_path = ".status.capacity"),
    printcolumn(name = "Used%", type_ = "integer", json_path = ".status.usedPercent"),
    printcolumn(name = "Quarantined", type_ = "integer", json_path = ".status.quarantined"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.draining"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PortPoolSpec {
    /// True makes this the pool of streams that name none. Of two such pools the older is taken.
    /// Takes effect: with the next lease.
    #[serde(default)]
    pub default: bool,

    /// Port ranges, both ends included. Keep them clear of Kubernetes' NodePorts (30000-32767) and of the ports that Linux hands
    /// out by itself (32768-60999). A pool of 30 000 ports costs nothing: only leased ports are opened.
    /// Takes effect: with the next lease.
    #[schemars(length(max = RANGES_MAX))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::RANGES_EMPTY))]
    #[x_kube(validation = Rule::new("self.all(a, a.start > a.end || self.exists_one(b, a.start <= b.end && b.start <= a.end))").message(words::RANGES_OVERLAP))]
    pub ranges: Vec<PortRange>,

    /// Ports inside the ranges that are never handed out: a number, or a range in quotes such as "20666-20670".
    /// Takes effect: with the next lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RESERVED_MAX))]
    pub reserved: Vec<ReservedPorts>,

    /// The pool is for nodes with all of these labels. Without it: all nodes.
    /// Takes effect: with the next lease.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Namespaces whose streams may lease from the pool. Without it: all.
    /// Takes effect: with the next lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub allowed_namespaces: Vec<String>,

    /// How long a port rests after its stream has closed it, for late packets of that stream to die out. One that rests
    /// already is not touched.
    /// Takes effect: at once.
    #[serde(default = "cooldown")]
    #[x_kube(validation = duration::between("100ms", "1h", words::COOLDOWN))]
    pub cooldown: Duration,

    /// What happens to leases outside the ranges when the ranges shrink.
    #[serde(default)]
    pub shrink: Shrink,

    /// The condition NearlyExhausted is raised when this share of the capacity is in use.
    /// Takes effect: at once.
    #[serde(default = "nearly_exhausted_percent")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message(words::PERCENT))]
    pub nearly_exhausted_percent: i32,
}

fn cooldown() -> Duration {
    Duration::from_secs(10)
}

fn nearly_exhausted_percent() -> i32 {
    80
}

/// A range of ports.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.start >= 1024 && self.end >= 1024 && self.start <= 65535 && self.end <= 65535").message(words::RANGE_PORT),
    validation = Rule::new("self.start <= self.end").message(words::RANGE_ORDER),
)]
pub struct PortRange {
    /// First port.
    pub start: i32,
    /// Last port, included.
    pub end: i32,
}

/// A port or a range of ports: `20666`, or `"20666-20670"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedPorts {
    /// First port.
    pub start: u16,
    /// Last port, included.
    pub end: u16,
}

/// Text or number that is not a [`ReservedPorts`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", words::RESERVED)]
pub struct ReservedPortsError;

impl FromStr for ReservedPorts {
    type Err = ReservedPortsError;

    fn from_str(text: &str) -> Result<Self, ReservedPortsError> {
        let port = |text: &str| match text.len() {
            1..=5 if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse::<u16>().map_err(|_| ReservedPortsError)
            }
            _ => Err(ReservedPortsError),
        };
        let (start, end) = text.split_once('-').unwrap_or((text, text));
        let (start, end) = (port(start)?, port(end)?);
        if start == 0 || start > end { Err(ReservedPortsError) } else { Ok(Self { start, end }) }
    }
}

impl fmt::Display for ReservedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

impl Serialize for ReservedPorts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.start == self.end {
            serializer.serialize_u16(self.start)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for ReservedPorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ReservedPorts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 20666 or a range such as \"20666-20670\"")
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<ReservedPorts, E> {
                match u16::try_from(port) {
                    Ok(port) if port > 0 => Ok(ReservedPorts { start: port, end: port }),
                    _ => Err(E::custom(ReservedPortsError)),
                }
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<ReservedPorts, E> {
                u64::try_from(port)
                    .map_err(|_| E::custom(ReservedPortsError))
                    .and_then(|port| self.visit_u64(port))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ReservedPorts, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ReservedPorts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ReservedPorts".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Kubernetes' own form for "a number or a text"; a choice between a number and an object can't be had in a CRD.
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 11,
            "x-kubernetes-validations": [{
                "rule": "string(self).matches('^[0-9]{1,5}(-[0-9]{1,5})?$') \
                         && string(self).split('-').all(p, int(p) >= 1 && int(p) <= 65535) \
                         && int(string(self).split('-')[0]) <= int(string(self).split('-')[string(self).split('-').size() - 1])",
                "message": words::RESERVED,
            }],
        })
    }
}

/// What happens to leases outside the ranges when the ranges shrink.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.deadline) || (has(self.policy) && self.policy == 'Move')").message(words::SHRINK_DEADLINE).field_path(".deadline"))]
pub struct Shrink {
    /// Wait lets such leases end by themselves. Move opens a port inside the ranges beside the old one and shows both in the stream's
    /// status; the old one is closed when media has come on the new one for 2s, or at the deadline. Invite the device to the new port
    /// meanwhile. A stream with spec.source.rtp.port stays, and ends by itself.
    /// Takes effect: at once.
    #[serde(default)]
    pub policy: ShrinkPolicy,

    /// For Move: the old port is closed at the latest so long after the new one was opened. Without it: 1h, in which a device that
    /// registers anew each hour, as is usual, can be invited again.
    /// Takes effect: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = duration::between("1s", "720h", words::SHRINK_DEADLINE_RANGE))]
    pub deadline: Option<Duration>,
}

impl Shrink {
    /// The deadline of Move where none is written.
    pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(60 * 60);
}

/// What happens to leases outside the ranges.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ShrinkPolicy {
    #[default]
    Wait,
    Move,
}

/// The ledger in numbers: free + leased + cooling + quarantined = capacity.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortPoolStatus {
    /// The metadata.generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes with a worker that the pool is for.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub nodes: i64,
    /// Numbers of all ranges less the reserved, times the nodes.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub capacity: i64,
    /// Numbers that can be leased.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub free: i64,
    /// Numbers that streams hold; a pair is two.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub leased: i64,
    /// Numbers that rest after their stream ended.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cooling: i64,
    /// Numbers that are not handed out because something else on the node holds them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub quarantined: i64,
    /// What is not free, in percent of the capacity, rounded up.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub used_percent: i64,
    /// Numbers still leased or cooling outside today's ranges; not part of the capacity.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub draining: i64,
    /// The node with the fewest free numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_node: Option<WorstNode>,
    /// Streams, as namespace/name, that hold numbers outside today's ranges; 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<String>,
    /// Numbers in quarantine and who holds them; 50 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PortProblem>,
    /// Accepted and Ready always; while true: Exhausted, NearlyExhausted, Draining, Conflicted, EphemeralOverlap, NodePortOverlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A node and its free numbers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstNode {
    /// Name of the node.
    pub name: String,
    /// Free numbers there.
    #[schemars(range(min = 0))]
    pub free: i64,
}

/// A number that something else holds.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortProblem {
    /// Node where it was met.
    pub node: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How it is known: BindFailed or HostScan, where another process holds it; Leak, where our own worker has it open for no stream.
    pub source: String,
    /// Who holds it, and the command that shows it; of a Leak, what to do.
    pub owner: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
