//! MediaStream: one live stream, where it comes from and who may play it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, LocalSecretRef, MediaStreamStatus, access, duration, words};

/// What the stream is: its path, its source, and the policies for publishers and players.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "media.penstock.dev",
    version = "v1alpha1",
    kind = "MediaStream",
    plural = "mediastreams",
    shortname = "mst",
    category = "penstock",
    namespaced,
    status = "MediaStreamStatus",
    derive = "PartialEq",
    doc = "One live stream: an encoder or a camera publishes it, players play it, and it is kept playing when workers fail.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.assignment.node"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.assignment.addresses[0]"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".status.ports.rtp"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Worker", type_ = "string", json_path = ".status.assignment.worker", priority = 1),
    printcolumn(name = "Pool", type_ = "string", json_path = ".status.ports.pool", priority = 1),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", priority = 1),
    printcolumn(name = "Failovers", type_ = "integer", json_path = ".status.failovers", priority = 1),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.epoch) || (has(self.status) && has(self.status.epoch) && self.status.epoch >= oldSelf.status.epoch)"
    ).message(words::EPOCH_FALLS).field_path(".status.epoch"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.term) || (has(self.status) && has(self.status.term) && self.status.term >= oldSelf.status.term)"
    ).message(words::TERM_FALLS).field_path(".status.term"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path)").message(words::PATH_FIXED).field_path(".path"),
    validation = Rule::new("has(self.source.push) == has(oldSelf.source.push) && has(self.source.rtp) == has(oldSelf.source.rtp)").message(words::SOURCE_FIXED).field_path(".source"),
    validation = Rule::new("has(self.source.rtp) || !has(self.portPoolRef)").message(words::POOL_REF).field_path(".portPoolRef"),
    validation = Rule::new("has(self.source.rtp) || !has(self.releaseAfterIdle) || self.releaseAfterIdle.matches('^0+(ms|s|m|h)$')").message(words::RELEASE).field_path(".releaseAfterIdle"),
    validation = Rule::new("!has(self.source.rtp) || !has(self.source.rtp.shared) || !self.source.rtp.shared || !has(self.portPoolRef)").message(words::SHARED_POOL).field_path(".portPoolRef"),
    validation = Rule::new("!has(self.source.rtp) || !has(self.source.rtp.shared) || !self.source.rtp.shared || !has(self.releaseAfterIdle) || self.releaseAfterIdle.matches('^0+(ms|s|m|h)$')").message(words::SHARED_RELEASE).field_path(".releaseAfterIdle"),
    validation = Rule::new("!has(self.source.rtp) || !has(self.publish) || !has(self.publish.tokenSecretRef)").message(words::RTP_TOKEN).field_path(".publish.tokenSecretRef"),
    validation = Rule::new("!has(self.source.rtp) || !has(self.publish) || !has(self.publish.onDuplicate) || self.publish.onDuplicate != 'Takeover'").message(words::RTP_TAKEOVER).field_path(".publish.onDuplicate"),
)]
pub struct MediaStreamSpec {
    /// The app and key that the stream is published and played under, such as live/cam-1: rtmp://HOST/live/cam-1 and
    /// http://HOST:8080/live/cam-1.flv. Without it the path is NAMESPACE/NAME.
    /// Takes effect: never, it can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._~@-]+(/[A-Za-z0-9._~@-]+)+$')").message(words::PATH))]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message(words::PATH_DOTS))]
    #[x_kube(validation = Rule::new("!self.matches('([.]flv|[.]m3u8|/whip|/whep)$')").message(words::PATH_ENDING))]
    pub path: Option<String>,

    /// Where the media comes from: exactly one of push and rtp. Its kind can't be changed later.
    pub source: Source,

    /// The pool to lease ports from, for an rtp source that leases any. Without it: the pool whose spec.default is true.
    /// Takes effect: at once, by a new start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_pool_ref: Option<PortPoolRef>,

    /// Rules for whoever publishes.
    #[serde(default)]
    pub publish: PublishSpec,

    /// Rules for whoever plays.
    #[serde(default)]
    pub play: PlaySpec,

    /// For an rtp source: with no media for this long the ports go back to the pool and the stream is Ready=False with reason
    /// Idle. An edit, or a change of the annotation media.penstock.dev/touch, wakes it, and counts as media. 0s means never.
    /// Takes effect: at once.
    #[serde(default)]
    #[x_kube(validation = duration::between("0s", "720h", words::RELEASE_RANGE))]
    pub release_after_idle: Duration,

    /// With no media for this long the object is deleted, for platforms that may lose their BYE. Without it: never. An edit counts as
    /// media.
    /// Takes effect: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = duration::between("1s", "8760h", words::TTL_RANGE))]
    pub ttl_after_idle: Option<Duration>,

    /// Where the stream may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,

    /// True takes the stream off: publisher and viewers are ended and its ports are given back.
    /// Takes effect: at once.
    #[serde(default)]
    pub paused: bool,
}

/// Where the media comes from: exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.pull)").message(words::SOURCE_PULL).field_path(".pull"),
    validation = Rule::new("has(self.pull) || has(self.push) != has(self.rtp)").message(words::SOURCE_ONE),
)]
pub struct Source {
    /// An encoder, such as OBS or ffmpeg, connects to us and publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushSource>,

    /// GB28181 media: a device sends MPEG-PS in RTP to ports that are leased for this stream alone, or to one that streams share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpSource>,

    /// Does not work yet: we fetch the stream from a URL.
    /// Takes effect: never, it does not work yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullSource>,
}

/// An encoder comes to us.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushSource {
    /// Protocols that may be published with; without it, all that work. RTMP, which includes enhanced RTMP, is what works today.
    /// Takes effect: with the next publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::PROTOCOLS_EMPTY))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a == b))").message(words::PROTOCOLS_TWICE))]
    #[x_kube(validation = Rule::new("self.all(p, p == 'RTMP')").message(words::PUSH_PROTOCOLS))]
    pub protocols: Option<Vec<PushProtocol>>,
}

/// A protocol to publish with.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum PushProtocol {
    Rtmp,
    Rtmps,
    Rtsp,
    Whip,
    Srt,
}

/// Media over RTP.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.remote) || !has(self.transport) || self.transport != 'TCPActive'").message(words::RTP_ACTIVE).field_path(".remote"),
    validation = Rule::new("!has(self.remote) || (has(self.transport) && self.transport == 'TCPActive')").message(words::RTP_REMOTE).field_path(".remote"),
    validation = Rule::new("!has(self.payload) || self.payload == 'PS'").message(words::RTP_PAYLOAD).field_path(".payload"),
    validation = Rule::new("!has(self.port) || self.port % 2 == 0 || (has(self.rtcp) ? !self.rtcp : has(self.transport) && self.transport != 'UDP')").message(words::RTP_PORT_ODD).field_path(".port"),
    validation = Rule::new("!has(self.shared) || !self.shared || !has(self.ssrcPolicy) || self.ssrcPolicy == 'Enforce'").message(words::SHARED_SSRC).field_path(".ssrcPolicy"),
    validation = Rule::new("!has(self.shared) || !self.shared || !has(self.port)").message(words::SHARED_PORT).field_path(".port"),
    validation = Rule::new("!has(self.shared) || !self.shared || !has(self.transport) || self.transport != 'TCPActive'").message(words::SHARED_ACTIVE).field_path(".transport"),
    validation = Rule::new("!has(self.shared) || !self.shared || !has(self.rtcp) || !self.rtcp").message(words::SHARED_RTCP).field_path(".rtcp"),
    validation = Rule::new("!has(self.rtcp) || !self.rtcp || !has(self.transport) || self.transport == 'UDP'").message(words::RTP_RTCP).field_path(".rtcp"),
    validation = Rule::new("has(self.ssrc) || (has(self.ssrcPolicy) && self.ssrcPolicy == 'Learn')").message(words::SSRC_MISSING),
)]
pub struct RtpSource {
    /// UDP, or TCPPassive: the device connects to us, each packet after its length in two bytes (RFC 4571). TCPActive: we connect to
    /// the device, to remote and from the leased port, again and again until it answers and whenever it stops sending.
    /// Takes effect: at once, by a new start.
    #[serde(default)]
    pub transport: RtpTransport,

    /// What the RTP packets carry. PS, MPEG program stream, is what GB28181 devices send and what works today.
    /// Takes effect: at once.
    #[serde(default)]
    pub payload: RtpPayload,

    /// The SSRC of the media: 10 decimal digits in quotes, since YAML reads a bare number with a leading 0 as octal.
    /// Takes effect: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{10}$') && self <= '4294967295'").message(words::SSRC))]
    pub ssrc: Option<String>,

    /// Enforce drops and counts packets of any other SSRC. Learn takes the first SSRC that comes.
    /// Takes effect: at once.
    #[serde(default)]
    pub ssrc_policy: SsrcPolicy,

    /// For UDP: lease a pair, the even port for RTP and the odd one for RTCP. The default is true for UDP; over TCP there is one
    /// port, and RTCP comes in-band.
    /// Takes effect: at once, by a new start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp: Option<bool>,

    /// This port of the pool and no other. With RTCP it must be even, and the odd one above it is leased with it. While it is not
    /// free the stream waits for it, PortsAllocated=False/PortTaken. The pool gives it to others meanwhile, so keep such ports in a
    /// PortPool of their own.
    /// Takes effect: at once, by a new start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,

    /// No lease and no PortPool: the device sends to the one port of TCP and UDP that a worker has for all such streams, its
    /// --rtp-shared, and they are told apart by SSRC. For sites with few public ports. status.ports and status.endpoints say which
    /// it is. Of two streams with one SSRC the older has it.
    /// Takes effect: at once, by a new start.
    #[serde(default)]
    pub shared: bool,

    /// The device to connect to, for TCPActive. Loopback and link-local addresses, and those of nodes, pods and Services of the cluster, are
    /// connected to only where the worker's --allow-targets has them, and none that its --deny-targets has.
    /// Takes effect: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteAddress>,
}

/// How RTP travels.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RtpTransport {
    #[default]
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "TCPPassive")]
    TcpPassive,
    #[serde(rename = "TCPActive")]
    TcpActive,
}

/// What RTP carries.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RtpPayload {
    #[default]
    #[serde(rename = "PS")]
    Ps,
    #[serde(rename = "TS")]
    Ts,
    #[serde(rename = "ES")]
    Es,
    Auto,
}

/// What to do with an SSRC that is not the declared one.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SsrcPolicy {
    #[default]
    Enforce,
    Learn,
}

/// A host and a port.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteAddress {
    /// Address or host name, which is looked up before each attempt.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$') || isIP(self)").message(words::HOST))]
    pub host: String,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// Does not work yet: a stream that we fetch.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSource {
    /// URL of the stream.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// How an RTSP server is to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<PullTransport>,
    /// Secret with user name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalSecretRef>,
    /// True fetches only while somebody watches.
    #[serde(default)]
    pub on_demand: bool,
    /// For onDemand: how long after the last viewer fetching goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}

/// How an RTSP server is to send.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum PullTransport {
    Tcp,
    Udp,
}

/// A PortPool, which is cluster-scoped.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPoolRef {
    /// Name of the PortPool.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::NAME))]
    pub name: String,
}

/// Rules for whoever publishes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishSpec {
    /// What a second publisher meets. Reject refuses it while the first was heard within 2 s. Takeover ends the first.
    /// Takes effect: at once.
    #[serde(default)]
    pub on_duplicate: OnDuplicate,

    /// From an accepted publish to the first media; after that the publisher is ended.
    /// Takes effect: at once.
    #[x_kube(validation = duration::between("100ms", "10m", words::START_TIMEOUT))]
    #[serde(default = "ten_seconds")]
    pub start_timeout: Duration,

    /// A publisher that is silent for this long is ended, and the path is free for another.
    /// Takes effect: at once.
    #[x_kube(validation = duration::between("100ms", "1h", words::STALL_TIMEOUT))]
    #[serde(default = "ten_seconds")]
    pub stall_timeout: Duration,

    /// How long viewers keep their connection after the publisher left, for it to come back. 0s ends them at once.
    /// Takes effect: at once.
    #[x_kube(validation = duration::between("0s", "1h", words::RESUME_WINDOW))]
    #[serde(default = "resume_window")]
    pub resume_window: Duration,

    /// Secret of type media.penstock.dev/token in this namespace. A publisher then sends ?token=VALUE. Without it: no token.
    /// Takes effect: with the next publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<LocalSecretRef>,

    /// Networks that may publish, in CIDR notation. Default: everybody.
    /// Takes effect: with the next publisher.
    #[serde(rename = "allowedCIDRs", default = "access::everybody")]
    #[schemars(length(max = access::CIDRS_MAX), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::CIDRS_EMPTY))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message(words::CIDR))]
    pub allowed_cidrs: Vec<String>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn resume_window() -> Duration {
    Duration::from_secs(15)
}

impl Default for PublishSpec {
    fn default() -> Self {
        Self {
            on_duplicate: OnDuplicate::Reject,
            start_timeout: ten_seconds(),
            stall_timeout: ten_seconds(),
            resume_window: resume_window(),
            token_secret_ref: None,
            allowed_cidrs: access::everybody(),
        }
    }
}

impl PublishSpec {
    /// Who may publish.
    pub fn access(&self) -> super::Access<'_> {
        super::Access {
            token_secret: self.token_secret_ref.as_ref().map(|secret| secret.name.as_str()),
            allowed_cidrs: &self.allowed_cidrs,
        }
    }
}

/// What a second publisher meets.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum OnDuplicate {
    #[default]
    Reject,
    Takeover,
}

/// Rules for whoever plays.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaySpec {
    /// Protocols that may be played with; without it, all that work. RTMP and HTTPFLV are what works today.
    /// Takes effect: with the next viewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::PROTOCOLS_EMPTY))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a == b))").message(words::PROTOCOLS_TWICE))]
    #[x_kube(validation = Rule::new("self.all(p, p in ['RTMP', 'HTTPFLV'])").message(words::PLAY_PROTOCOLS))]
    pub protocols: Option<Vec<PlayProtocol>>,

    /// Normal sends with each picture and within 33 ms. Low sends each frame at once. Bulk sends each 350 ms, at the least cost.
    /// Takes effect: at once.
    #[serde(default)]
    pub latency: Latency,

    /// What a viewer meets who is too slow: skip to a newer key frame, or be disconnected.
    /// Takes effect: at once.
    #[serde(default)]
    pub slow_viewer: SlowViewer,

    /// How long a viewer waits for a stream that has no media yet. 0s refuses it at once.
    /// Takes effect: at once.
    #[x_kube(validation = duration::between("0s", "10m", words::PLAY_START_TIMEOUT))]
    #[serde(default = "ten_seconds")]
    pub start_timeout: Duration,

    /// Secret of type media.penstock.dev/token in this namespace. A player then sends ?token=VALUE, or over HTTP
    /// `Authorization: Bearer VALUE`. Without it: no token.
    /// Takes effect: with the next viewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<LocalSecretRef>,

    /// Networks that may play, in CIDR notation. Default: everybody.
    /// Takes effect: with the next viewer.
    #[serde(rename = "allowedCIDRs", default = "access::everybody")]
    #[schemars(length(max = access::CIDRS_MAX), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::CIDRS_EMPTY))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message(words::CIDR))]
    pub allowed_cidrs: Vec<String>,
}

impl Default for PlaySpec {
    fn default() -> Self {
        Self {
            protocols: None,
            latency: Latency::Normal,
            slow_viewer: SlowViewer::SkipToKeyframe,
            start_timeout: ten_seconds(),
            token_secret_ref: None,
            allowed_cidrs: access::everybody(),
        }
    }
}

impl PlaySpec {
    /// Who may play.
    pub fn access(&self) -> super::Access<'_> {
        super::Access {
            token_secret: self.token_secret_ref.as_ref().map(|secret| secret.name.as_str()),
            allowed_cidrs: &self.allowed_cidrs,
        }
    }
}

/// A protocol to play with.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum PlayProtocol {
    Rtmp,
    #[serde(rename = "HTTPFLV")]
    HttpFlv,
    Rtmps,
    Rtsp,
    Hls,
    Whep,
    Srt,
}

/// How long frames may wait to share a write.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Latency {
    #[default]
    Normal,
    Low,
    Bulk,
}

/// What a viewer meets who is too slow.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SlowViewer {
    #[default]
    SkipToKeyframe,
    Disconnect,
}

/// Where the stream may run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Only on nodes with all of these labels.
    /// Takes effect: at once, by a new start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// On this node while it has a worker and room. Ports that it has just given back on another node are taken again there.
    /// Takes effect: with the next assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub preferred_node: Option<String>,
}

impl MediaStream {
    /// The path it is published and played under: the one in its spec, or `<namespace>/<name>`.
    pub fn path(&self) -> String {
        match &self.spec.path {
            Some(path) => path.clone(),
            None => format!(
                "{}/{}",
                self.metadata.namespace.as_deref().unwrap_or(super::DEFAULT_NAMESPACE),
                self.metadata.name.as_deref().unwrap_or_default()
            ),
        }
    }
}
