//! Objects as they were seen, into what the planner takes.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{self, MediaStream, ObjectMeta, PortPool, check},
    ids::{NodeName, ObjectName, Path, PoolName, ResourceVersion, Uid},
    port_set::PortSet,
    reason::Reason,
    spec,
};

/// A MediaStream for the planner. Its spec is checked here once more: CRD and operator may be of different versions.
pub fn stream_object(stream: &MediaStream) -> spec::StreamObject {
    let checked = refusal(check::stream(stream, None)).map(|()| Arc::new(stream_spec(stream)));
    stream_of(&stream.metadata, checked, stream.status.as_ref())
}

/// A MediaStream that does not even read as one, with the reader's words: CRD and operator are of different versions. It is known,
/// refused, and stops nothing. What its status records still holds.
pub fn unreadable_stream(
    metadata: &ObjectMeta,
    status: Option<&api::MediaStreamStatus>,
    error: &str,
) -> spec::StreamObject {
    stream_of(metadata, Err(unreadable(error)), status)
}

fn stream_of(
    metadata: &ObjectMeta,
    spec: Result<Arc<spec::StreamSpec>, spec::Refusal>,
    status: Option<&api::MediaStreamStatus>,
) -> spec::StreamObject {
    let touch = metadata.annotations.as_ref().and_then(|all| all.get(api::TOUCH_ANNOTATION));
    spec::StreamObject {
        uid: uid(metadata),
        name: object_name(metadata),
        resource_version: resource_version(metadata),
        generation: metadata.generation.unwrap_or_default(),
        created_unix_ms: created_unix_ms(metadata),
        deleting: metadata.deletion_timestamp.is_some(),
        touch: touch.map(|touch| touch.as_str().into()),
        spec,
        status: Box::new(status.map(super::status::stream_status).unwrap_or_default()),
    }
}

/// A PortPool for the planner, checked.
pub fn pool_object(pool: &PortPool) -> spec::PoolObject {
    let checked = refusal(check::pool(pool)).map(|()| Arc::new(pool_spec(pool)));
    pool_of(&pool.metadata, checked, pool.status.as_ref())
}

/// A PortPool that does not read as one, as for a stream. Its leases stay; nothing new is taken from it.
pub fn unreadable_pool(metadata: &ObjectMeta, error: &str) -> spec::PoolObject {
    pool_of(metadata, Err(unreadable(error)), None)
}

fn pool_of(
    metadata: &ObjectMeta,
    spec: Result<Arc<spec::PoolSpec>, spec::Refusal>,
    status: Option<&api::PortPoolStatus>,
) -> spec::PoolObject {
    spec::PoolObject {
        uid: uid(metadata),
        name: PoolName::from(metadata.name.as_deref().unwrap_or_default()),
        resource_version: resource_version(metadata),
        generation: metadata.generation.unwrap_or_default(),
        created_unix_ms: created_unix_ms(metadata),
        spec,
        status: Box::new(status.map(super::status::pool_status).unwrap_or_default()),
    }
}

fn unreadable(error: &str) -> spec::Refusal {
    let message = format!(
        "{error}: this operator can't read it; install the CRDs of its own version and correct the field"
    );
    spec::Refusal { reason: Reason::InvalidSpec, message }
}

fn object_name(metadata: &ObjectMeta) -> ObjectName {
    let namespace = metadata.namespace.as_deref().unwrap_or(api::DEFAULT_NAMESPACE);
    ObjectName::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

fn uid(metadata: &ObjectMeta) -> Uid {
    Uid::from(metadata.uid.as_deref().unwrap_or_default())
}

fn resource_version(metadata: &ObjectMeta) -> ResourceVersion {
    ResourceVersion(
        metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default(),
    )
}

fn created_unix_ms(metadata: &ObjectMeta) -> u64 {
    let created = metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    u64::try_from(created).unwrap_or_default()
}

/// All that is wrong, as one refusal; what is not supported yet only if nothing is plainly wrong.
fn refusal(found: Vec<check::Refusal>) -> Result<(), spec::Refusal> {
    let Some(first) = found.first() else { return Ok(()) };
    let reason = found
        .iter()
        .map(|refusal| refusal.reason)
        .find(|reason| *reason != Reason::NotSupported)
        .unwrap_or(first.reason);
    let message = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(spec::Refusal { reason, message })
}

/// Only for a stream that `check::stream` has nothing against.
fn stream_spec(stream: &MediaStream) -> spec::StreamSpec {
    let api::MediaStreamSpec {
        path: _,
        source,
        port_pool_ref,
        publish,
        play,
        release_after_idle,
        ttl_after_idle,
        placement,
        paused,
    } = &stream.spec;
    let placement = placement.clone().unwrap_or_default();
    spec::StreamSpec {
        path: Path::from(stream.path()),
        source: self::source(source),
        pool: port_pool_ref.as_ref().map(|pool| PoolName::from(pool.name.as_str())),
        publish: Arc::new(publish_policy(publish)),
        play: Arc::new(play_policy(play)),
        release_after_idle: Some(release_after_idle.get()).filter(|idle| !idle.is_zero()),
        ttl_after_idle: ttl_after_idle.map(api::Duration::get),
        node_selector: selector(&placement.node_selector),
        preferred_node: placement.preferred_node.map(NodeName::from),
        paused: *paused,
    }
}

pub(super) fn transport(transport: api::RtpTransport) -> spec::RtpTransport {
    match transport {
        api::RtpTransport::Udp => spec::RtpTransport::Udp,
        api::RtpTransport::TcpPassive => spec::RtpTransport::TcpPassive,
        api::RtpTransport::TcpActive => spec::RtpTransport::TcpActive,
    }
}

fn source(source: &api::Source) -> spec::Source {
    let Some(rtp) = &source.rtp else {
        return spec::Source::Push { protocols: vec![spec::PushProtocol::Rtmp] };
    };
    let transport = transport(rtp.transport);
    spec::Source::Rtp(spec::RtpSource {
        transport,
        ssrc: rtp.ssrc.as_deref().and_then(check::parse_ssrc),
        ssrc_policy: match rtp.ssrc_policy {
            api::SsrcPolicy::Enforce => spec::SsrcPolicy::Enforce,
            api::SsrcPolicy::Learn => spec::SsrcPolicy::Learn,
        },
        rtcp: rtp.rtcp.unwrap_or(transport == spec::RtpTransport::Udp && !rtp.shared),
        port: rtp.port,
        shared: rtp.shared,
        remote: rtp.remote.as_ref().map(|remote| {
            let api::RemoteAddress { host, port } = remote;
            spec::Remote { host: host.as_str().into(), port: *port }
        }),
    })
}

fn publish_policy(publish: &api::PublishSpec) -> spec::PublishPolicy {
    let api::PublishSpec {
        on_duplicate,
        start_timeout,
        stall_timeout,
        resume_window,
        token_secret_ref: _,
        allowed_cidrs: _,
    } = publish;
    let access = publish.access();
    spec::PublishPolicy {
        on_duplicate: match on_duplicate {
            api::OnDuplicate::Reject => spec::OnDuplicate::Reject,
            api::OnDuplicate::Takeover => spec::OnDuplicate::Takeover,
        },
        start_timeout: start_timeout.get(),
        stall_timeout: stall_timeout.get(),
        resume_window: resume_window.get(),
        token_secret: access.token_secret.map(Arc::from),
        allowed_cidrs: texts(access.allowed_cidrs),
    }
}

fn play_policy(play: &api::PlaySpec) -> spec::PlayPolicy {
    let api::PlaySpec {
        protocols,
        latency,
        slow_viewer,
        start_timeout,
        token_secret_ref: _,
        allowed_cidrs: _,
    } = play;
    let access = play.access();
    let protocols = match protocols {
        None => vec![spec::PlayProtocol::Rtmp, spec::PlayProtocol::HttpFlv],
        Some(protocols) => protocols.iter().copied().map(play_protocol).collect(),
    };
    spec::PlayPolicy {
        protocols,
        latency: match latency {
            api::Latency::Normal => spec::Latency::Normal,
            api::Latency::Low => spec::Latency::Low,
            api::Latency::Bulk => spec::Latency::Bulk,
        },
        slow_viewer: match slow_viewer {
            api::SlowViewer::SkipToKeyframe => spec::SlowViewer::SkipToKeyframe,
            api::SlowViewer::Disconnect => spec::SlowViewer::Disconnect,
        },
        start_timeout: start_timeout.get(),
        token_secret: access.token_secret.map(Arc::from),
        allowed_cidrs: texts(access.allowed_cidrs),
    }
}

fn play_protocol(protocol: api::PlayProtocol) -> spec::PlayProtocol {
    use api::PlayProtocol as P;
    match protocol {
        P::Rtmp => spec::PlayProtocol::Rtmp,
        P::HttpFlv => spec::PlayProtocol::HttpFlv,
        P::Rtmps | P::Rtsp | P::Hls | P::Whep | P::Srt => {
            unreachable!("`check` refuses what does not work yet")
        }
    }
}

fn pool_spec(pool: &PortPool) -> spec::PoolSpec {
    let api::PortPoolSpec {
        default,
        ranges,
        reserved,
        node_selector,
        allowed_namespaces,
        cooldown,
        shrink,
        nearly_exhausted_percent,
    } = &pool.spec;
    let port = |number: i32| u16::try_from(number).expect("`check` has looked at the ranges");
    let ranges: Vec<spec::PortRange> = ranges
        .iter()
        .map(|range| spec::PortRange { start: port(range.start), end: port(range.end) })
        .collect();
    let mut numbers = PortSet::from_ranges(ranges.iter().copied());
    for reserved in reserved {
        numbers.remove_range(spec::PortRange { start: reserved.start, end: reserved.end });
    }
    spec::PoolSpec {
        default: *default,
        ranges,
        numbers,
        node_selector: selector(node_selector),
        allowed_namespaces: texts(allowed_namespaces),
        cooldown: cooldown.get(),
        shrink: self::shrink(shrink),
        nearly_exhausted_percent: u8::try_from(*nearly_exhausted_percent)
            .expect("`check` has looked at the percentage"),
    }
}

fn shrink(shrink: &api::Shrink) -> spec::Shrink {
    let api::Shrink { policy, deadline } = shrink;
    match policy {
        api::ShrinkPolicy::Wait => spec::Shrink::Wait,
        api::ShrinkPolicy::Move => {
            spec::Shrink::Move { deadline: deadline.unwrap_or(api::Shrink::DEADLINE_DEFAULT).get() }
        }
    }
}

fn selector(labels: &BTreeMap<String, String>) -> spec::Selector {
    labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

fn texts(texts: &[String]) -> Vec<Arc<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}
