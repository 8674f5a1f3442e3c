//! Objects as people write them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::Ipv4Net;
use operator_core::ids::{NodeName, ObjectName, Path, PoolName, ResourceVersion, Uid};
use operator_core::port_set::PortSet;
use operator_core::spec::{
    Latency, OnDuplicate, PlayPolicy, PlayProtocol, PoolObject, PoolSpec, PortRange, PublishPolicy,
    PushProtocol, Remote, RtpSource, RtpTransport, Shrink, SlowViewer, Source, SsrcPolicy, StreamObject,
    StreamSpec,
};
use operator_core::status::{PoolStatus, StreamStatus};

static PUBLISH: LazyLock<Arc<PublishPolicy>> = LazyLock::new(|| {
    Arc::new(PublishPolicy {
        on_duplicate: OnDuplicate::Reject,
        start_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        resume_window: Duration::from_secs(15),
        token_secret: None,
        allowed_cidrs: Vec::new(),
    })
});

static PLAY: LazyLock<Arc<PlayPolicy>> = LazyLock::new(|| {
    Arc::new(PlayPolicy {
        protocols: vec![PlayProtocol::Rtmp, PlayProtocol::HttpFlv],
        latency: Latency::Normal,
        slow_viewer: SlowViewer::SkipToKeyframe,
        start_timeout: Duration::from_secs(10),
        token_secret: None,
        allowed_cidrs: Vec::new(),
    })
});

/// GB28181 media: a pair for UDP, a single number for TCP.
pub(crate) fn rtp(transport: RtpTransport, rtcp: bool) -> Source {
    let (ssrc, ssrc_policy) = (Some(200_000_001), SsrcPolicy::Enforce);
    let active = transport == RtpTransport::TcpActive;
    let remote = active.then(|| Remote { host: "192.0.2.7".into(), port: 15060 });
    Source::Rtp(RtpSource { transport, ssrc, ssrc_policy, rtcp, port: None, shared: false, remote })
}

/// The same on the worker's port for all, with an SSRC that others may have too.
pub(crate) fn shared(transport: RtpTransport, ssrc: u32) -> Source {
    let (ssrc, ssrc_policy) = (Some(ssrc), SsrcPolicy::Enforce);
    Source::Rtp(RtpSource {
        transport,
        ssrc,
        ssrc_policy,
        rtcp: false,
        port: None,
        shared: true,
        remote: None,
    })
}

/// The same with these numbers and no others.
pub(crate) fn fixed(source: Source, port: u16) -> Source {
    match source {
        Source::Rtp(rtp) if !rtp.shared => Source::Rtp(RtpSource { port: Some(port), ..rtp }),
        Source::Push { .. } | Source::Rtp(_) => source,
    }
}

/// An encoder comes to us.
pub(crate) fn push() -> Source {
    Source::Push { protocols: vec![PushProtocol::Rtmp] }
}

/// A stream's spec with nothing special about it.
pub(crate) fn spec(path: &str, source: Source) -> StreamSpec {
    StreamSpec {
        path: Path::from(path),
        source,
        pool: None,
        publish: PUBLISH.clone(),
        play: PLAY.clone(),
        release_after_idle: None,
        ttl_after_idle: None,
        node_selector: BTreeMap::new(),
        preferred_node: None,
        paused: false,
    }
}

/// A publish policy that names a token Secret, and one that doesn't.
pub(crate) fn publish(token_secret: Option<&str>, stall_secs: u64) -> Arc<PublishPolicy> {
    Arc::new(PublishPolicy {
        token_secret: token_secret.map(Into::into),
        stall_timeout: Duration::from_secs(stall_secs),
        ..(**PUBLISH).clone()
    })
}

/// A new object, before the API gave it a version.
pub(crate) fn stream(
    uid: &str,
    namespace: &str,
    name: &str,
    created_unix_ms: u64,
    spec: StreamSpec,
) -> StreamObject {
    StreamObject {
        uid: Uid::from(uid),
        name: ObjectName::new(namespace, name),
        resource_version: ResourceVersion(0),
        generation: 1,
        created_unix_ms,
        deleting: false,
        touch: None,
        spec: Ok(Arc::new(spec)),
        status: Box::new(StreamStatus::default()),
    }
}

/// A pool's spec with nothing special about it.
pub(crate) fn pool_spec(ranges: &[(u16, u16)], reserved: &[u16], cooldown: Duration) -> PoolSpec {
    let ranges: Vec<PortRange> = ranges.iter().map(|&(start, end)| PortRange { start, end }).collect();
    let mut numbers = PortSet::from_ranges(ranges.iter().copied());
    for &port in reserved {
        numbers.remove(port);
    }
    PoolSpec {
        default: true,
        ranges,
        numbers,
        node_selector: BTreeMap::new(),
        allowed_namespaces: Vec::new(),
        cooldown,
        shrink: Shrink::Wait,
        nearly_exhausted_percent: 80,
    }
}

/// A new pool, before the API gave it a version.
pub(crate) fn pool(uid: &str, name: &str, created_unix_ms: u64, spec: PoolSpec) -> PoolObject {
    PoolObject {
        uid: Uid::from(uid),
        name: PoolName::from(name),
        resource_version: ResourceVersion(0),
        generation: 1,
        created_unix_ms,
        spec: Ok(Arc::new(spec)),
        status: Box::new(PoolStatus::default()),
    }
}

/// A node with its zone as a label, and with addresses.
pub(crate) fn node(index: usize) -> operator_core::event::NodeObject {
    let number = u8::try_from(index + 1).expect("there are a few");
    operator_core::event::NodeObject {
        name: node_name(index),
        labels: BTreeMap::from([("zone".into(), format!("z{}", index % 2).into())]),
        ready: true,
        unschedulable: false,
        addresses: Vec::new(),
        own: vec![Ipv4Addr::new(10, 0, 0, number).into()],
        pods: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24).into()],
    }
}

pub(crate) fn node_name(index: usize) -> NodeName {
    NodeName::from(format!("node-{index}"))
}
