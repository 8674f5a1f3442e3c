//! What the CRDs' CEL rules check on a cluster, checked here for standalone, with the same words.
//!
//! Types, enums and durations are not here: reading the YAML into the types of this module has refused those already.

use std::fmt;
use std::net::Ipv6Addr;

use crate::reason::Reason;

use super::{
    Access, Duration, MediaStream, MediaStreamSpec, MediaStreamStatus, OnDuplicate, PlayProtocol, PlaySpec,
    PortPool, PublishSpec, PushProtocol, RemoteAddress, RtpPayload, RtpSource, RtpTransport, ShrinkPolicy,
    Source, SsrcPolicy, access, port_pool, words,
};

/// Why an object is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// InvalidSpec, or NotSupported for what does not work yet.
    pub reason: Reason,
    /// The field, such as `spec.source.rtp.ssrc` or `spec.ranges[1]`.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The object itself has no field.
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Checks a MediaStream; `old` is the object that it replaces, for what can't be changed and what must not fall.
pub fn stream(new: &MediaStream, old: Option<&MediaStream>) -> Vec<Refusal> {
    let mut found = Findings::default();
    found.stream_spec(&new.spec);
    if let Some(old) = old {
        found.stream_change(new, old);
    }
    found.0
}

/// Checks a status alone, when only that is written.
pub fn stream_status(new: &MediaStreamStatus, old: Option<&MediaStreamStatus>) -> Vec<Refusal> {
    let mut found = Findings::default();
    found.status_change(new, old);
    found.0
}

/// Checks a PortPool.
pub fn pool(new: &PortPool) -> Vec<Refusal> {
    let mut found = Findings::default();
    found.pool_spec(new);
    found.0
}

#[derive(Default)]
struct Findings(Vec<Refusal>);

impl Findings {
    /// `right` is what must hold, as in CEL.
    fn must(&mut self, right: bool, field: &str, message: &str) {
        self.note(right, Reason::InvalidSpec, field, message);
    }

    /// As `must`, for what is right but does not work yet.
    fn works(&mut self, right: bool, field: &str, message: &str) {
        self.note(right, Reason::NotSupported, field, message);
    }

    fn note(&mut self, right: bool, reason: Reason, field: &str, message: &str) {
        if !right {
            self.0.push(Refusal { reason, field: field.to_owned(), message: message.to_owned() });
        }
    }

    fn stream_spec(&mut self, spec: &MediaStreamSpec) {
        if let Some(path) = &spec.path {
            self.path(path);
        }
        self.source(&spec.source);
        if spec.source.rtp.is_some() {
            self.must(
                spec.publish.token_secret_ref.is_none(),
                "spec.publish.tokenSecretRef",
                words::RTP_TOKEN,
            );
            if spec.source.rtp.as_ref().is_some_and(|rtp| rtp.shared) {
                self.must(spec.port_pool_ref.is_none(), "spec.portPoolRef", words::SHARED_POOL);
                let never = spec.release_after_idle == Duration::default();
                self.must(never, "spec.releaseAfterIdle", words::SHARED_RELEASE);
            }
            let takeover = spec.publish.on_duplicate == OnDuplicate::Takeover;
            self.must(!takeover, "spec.publish.onDuplicate", words::RTP_TAKEOVER);
        } else {
            self.must(spec.port_pool_ref.is_none(), "spec.portPoolRef", words::POOL_REF);
            let never = spec.release_after_idle == Duration::default();
            self.must(never, "spec.releaseAfterIdle", words::RELEASE);
        }
        if let Some(pool) = &spec.port_pool_ref {
            self.must(!pool.name.is_empty(), "spec.portPoolRef.name", words::NAME);
        }
        self.publish(&spec.publish);
        self.play(&spec.play);
        self.between(spec.release_after_idle, "0s", "720h", "spec.releaseAfterIdle", words::RELEASE_RANGE);
        if let Some(ttl) = spec.ttl_after_idle {
            self.between(ttl, "1s", "8760h", "spec.ttlAfterIdle", words::TTL_RANGE);
        }
    }

    fn path(&mut self, path: &str) {
        let parts: Vec<&str> = path.split('/').collect();
        let letters = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~@-".contains(&b))
        };
        let form = parts.len() >= 2 && parts.iter().all(letters);
        self.must(form && path.len() <= PATH_BYTES_MAX, "spec.path", words::PATH);
        let dots = parts.iter().any(|part| matches!(*part, "." | ".."));
        self.must(!dots, "spec.path", words::PATH_DOTS);
        let taken = [".flv", ".m3u8", "/whip", "/whep"].iter().any(|ending| path.ends_with(ending));
        self.must(!taken, "spec.path", words::PATH_ENDING);
    }

    fn source(&mut self, source: &Source) {
        let Source { push, rtp, pull } = source;
        self.works(pull.is_none(), "spec.source.pull", words::SOURCE_PULL);
        self.must(pull.is_some() || push.is_some() != rtp.is_some(), "spec.source", words::SOURCE_ONE);
        if let Some(protocols) = push.as_ref().and_then(|push| push.protocols.as_deref()) {
            const FIELD: &str = "spec.source.push.protocols";
            self.listed_once(protocols, FIELD);
            let works = protocols.iter().all(|protocol| match protocol {
                PushProtocol::Rtmp => true,
                PushProtocol::Rtmps | PushProtocol::Rtsp | PushProtocol::Whip | PushProtocol::Srt => false,
            });
            self.works(works, FIELD, words::PUSH_PROTOCOLS);
        }
        if let Some(rtp) = rtp {
            self.rtp(rtp);
        }
    }

    fn rtp(&mut self, rtp: &RtpSource) {
        let RtpSource { transport, payload, ssrc, ssrc_policy, rtcp, port, shared, remote } = rtp;
        let active = *transport == RtpTransport::TcpActive;
        self.must(remote.is_some() || !active, "spec.source.rtp.remote", words::RTP_ACTIVE);
        self.must(remote.is_none() || active, "spec.source.rtp.remote", words::RTP_REMOTE);
        if let Some(RemoteAddress { host, port }) = remote {
            self.must(is_host(host), "spec.source.rtp.remote.host", words::HOST);
            self.must(*port != 0, "spec.source.rtp.remote.port", words::REMOTE_PORT);
        }
        self.works(*payload == RtpPayload::Ps, "spec.source.rtp.payload", words::RTP_PAYLOAD);
        self.must(*port != Some(0), "spec.source.rtp.port", words::RTP_PORT);
        let pair = rtcp.unwrap_or(*transport == RtpTransport::Udp);
        let fits = port.is_none_or(|port| port % 2 == 0 || !pair);
        self.must(fits, "spec.source.rtp.port", words::RTP_PORT_ODD);
        let enforced = *ssrc_policy == SsrcPolicy::Enforce;
        self.must(!shared || enforced, "spec.source.rtp.ssrcPolicy", words::SHARED_SSRC);
        self.must(!shared || port.is_none(), "spec.source.rtp.port", words::SHARED_PORT);
        self.must(!shared || !active, "spec.source.rtp.transport", words::SHARED_ACTIVE);
        self.must(!shared || *rtcp != Some(true), "spec.source.rtp.rtcp", words::SHARED_RTCP);
        let meant = *rtcp != Some(true) || *transport == RtpTransport::Udp;
        self.must(meant, "spec.source.rtp.rtcp", words::RTP_RTCP);
        match ssrc {
            Some(ssrc) => self.must(parse_ssrc(ssrc).is_some(), "spec.source.rtp.ssrc", words::SSRC),
            None => self.must(*ssrc_policy == SsrcPolicy::Learn, "spec.source.rtp", words::SSRC_MISSING),
        }
    }

    fn publish(&mut self, publish: &PublishSpec) {
        let at = |field: &str| format!("spec.publish.{field}");
        self.between(publish.start_timeout, "100ms", "10m", &at("startTimeout"), words::START_TIMEOUT);
        self.between(publish.stall_timeout, "100ms", "1h", &at("stallTimeout"), words::STALL_TIMEOUT);
        self.between(publish.resume_window, "0s", "1h", &at("resumeWindow"), words::RESUME_WINDOW);
        self.access(publish.access(), "spec.publish");
    }

    fn play(&mut self, play: &PlaySpec) {
        if let Some(protocols) = play.protocols.as_deref() {
            const FIELD: &str = "spec.play.protocols";
            self.listed_once(protocols, FIELD);
            let works = protocols.iter().all(|protocol| match protocol {
                PlayProtocol::Rtmp | PlayProtocol::HttpFlv => true,
                PlayProtocol::Rtmps
                | PlayProtocol::Rtsp
                | PlayProtocol::Hls
                | PlayProtocol::Whep
                | PlayProtocol::Srt => false,
            });
            self.works(works, FIELD, words::PLAY_PROTOCOLS);
        }
        self.between(play.start_timeout, "0s", "10m", "spec.play.startTimeout", words::PLAY_START_TIMEOUT);
        self.access(play.access(), "spec.play");
    }

    fn access(&mut self, access: Access<'_>, at: &str) {
        let Access { token_secret, allowed_cidrs } = access;
        if let Some(name) = token_secret {
            self.must(!name.is_empty(), &format!("{at}.tokenSecretRef.name"), words::NAME);
        }
        let field = format!("{at}.allowedCIDRs");
        self.must(!allowed_cidrs.is_empty(), &field, words::CIDRS_EMPTY);
        self.must(allowed_cidrs.len() <= access::CIDRS_MAX as usize, &field, words::CIDRS_MAX);
        let right = allowed_cidrs.iter().all(|cidr| cidr.parse::<ipnet::IpNet>().is_ok());
        self.must(right, &field, words::CIDR);
    }

    fn pool_spec(&mut self, pool: &PortPool) {
        let spec = &pool.spec;
        self.must(!spec.ranges.is_empty(), "spec.ranges", words::RANGES_EMPTY);
        self.must(spec.ranges.len() <= port_pool::RANGES_MAX as usize, "spec.ranges", words::RANGES_MAX);
        for (index, range) in spec.ranges.iter().enumerate() {
            let field = format!("spec.ranges[{index}]");
            let ports = 1024..=65535;
            self.must(ports.contains(&range.start) && ports.contains(&range.end), &field, words::RANGE_PORT);
            self.must(range.start <= range.end, &field, words::RANGE_ORDER);
        }
        let overlap = spec.ranges.iter().enumerate().any(|(index, a)| {
            spec.ranges[..index]
                .iter()
                .any(|b| a.start <= a.end && b.start <= b.end && a.start <= b.end && b.start <= a.end)
        });
        self.must(!overlap, "spec.ranges", words::RANGES_OVERLAP);
        let few = spec.reserved.len() <= port_pool::RESERVED_MAX as usize;
        self.must(few, "spec.reserved", words::RESERVED_MAX);
        self.between(spec.cooldown, "100ms", "1h", "spec.cooldown", words::COOLDOWN);
        if let Some(deadline) = spec.shrink.deadline {
            const FIELD: &str = "spec.shrink.deadline";
            self.must(spec.shrink.policy == ShrinkPolicy::Move, FIELD, words::SHRINK_DEADLINE);
            self.between(deadline, "1s", "720h", FIELD, words::SHRINK_DEADLINE_RANGE);
        }
        let percent = (1..=100).contains(&spec.nearly_exhausted_percent);
        self.must(percent, "spec.nearlyExhaustedPercent", words::PERCENT);
    }

    /// What can't be changed, and what must not fall.
    fn stream_change(&mut self, new: &MediaStream, old: &MediaStream) {
        self.must(new.spec.path == old.spec.path, "spec.path", words::PATH_FIXED);
        let kinds = |source: &Source| (source.push.is_some(), source.rtp.is_some());
        self.must(kinds(&new.spec.source) == kinds(&old.spec.source), "spec.source", words::SOURCE_FIXED);
        match &new.status {
            Some(status) => self.status_change(status, old.status.as_ref()),
            None => self.status_change(&MediaStreamStatus::default(), old.status.as_ref()),
        }
    }

    fn status_change(&mut self, new: &MediaStreamStatus, old: Option<&MediaStreamStatus>) {
        let Some(old) = old else { return };
        let falls =
            |new: Option<i64>, old: Option<i64>| old.is_some_and(|old| new.is_none_or(|new| new < old));
        self.must(!falls(new.epoch, old.epoch), "status.epoch", words::EPOCH_FALLS);
        self.must(!falls(new.term, old.term), "status.term", words::TERM_FALLS);
    }

    fn listed_once<T: Ord + Copy>(&mut self, protocols: &[T], field: &str) {
        self.must(!protocols.is_empty(), field, words::PROTOCOLS_EMPTY);
        let different: std::collections::BTreeSet<T> = protocols.iter().copied().collect();
        self.must(different.len() == protocols.len(), field, words::PROTOCOLS_TWICE);
    }

    fn between(&mut self, duration: Duration, from: &str, to: &str, field: &str, message: &str) {
        let bound = |text: &str| text.parse::<Duration>().expect("the bounds are written in this file");
        self.must(duration >= bound(from) && duration <= bound(to), field, message);
    }
}

/// The longest path; RTMP and HTTP carry it in one request line.
const PATH_BYTES_MAX: usize = 512;

/// The longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A name or an address, as CEL's isIP reads it: without a zone, and IPv4 as such.
fn is_host(text: &str) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_name = !text.is_empty() && text.bytes().all(name);
    let is_v6 = text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_none());
    (is_name || is_v6) && text.len() <= HOST_BYTES_MAX
}

/// Reads an SSRC as GB/T 28181 writes it: 10 decimal digits.
pub fn parse_ssrc(text: &str) -> Option<u32> {
    (text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
