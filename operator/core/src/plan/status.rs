//! What is said about a stream: the whole status from what is known, so that nothing said can outlive its cause.

use std::sync::Arc;

use crate::claim::{Claim, ClaimPhase, Lease};
use crate::event::Now;
use crate::ids::{NodeName, Ports, StreamRef, Uid, UnixTime};
use crate::node::{Liveness, Worker};
use crate::reason::Reason;
use crate::spec::{PlayProtocol, PushProtocol, RtpTransport, Source};
use crate::state::{State, unix};
use crate::status::{
    Assignment, Condition, ConditionType, Conditions, Endpoint, Phase, PreviousPorts, RtpPorts, SourceKind,
    StreamStatus, Usage,
};
use crate::stream::{Blocked, Cramped, Stream};
use crate::timers::Timer;

/// A condition before it has a time.
type Verdict = (bool, Reason, String);

impl State {
    /// The phase of a stream by what is known: what its record has follows with the next write.
    pub(crate) fn phase_of(&self, uid: &Uid, stream: &Stream) -> Phase {
        let claim = stream.claim.and_then(|epoch| self.claims.get(&StreamRef::new(uid.clone(), epoch)));
        let wish = self.wish(uid);
        // Only what is on record can be ready.
        let ready = match claim.filter(|claim| wish.is_ok() && claim.is_written()) {
            Some(claim) => self.ready(stream, wish, Some(claim), self.worker_of(claim)).0,
            None => false,
        };
        phase(wish, ready, live(stream, claim).0)
    }

    /// The process that a claim is for. Of a later one nothing is said about this claim.
    fn worker_of(&self, claim: &Claim) -> Option<&Worker> {
        let worker = self.worker(&claim.node)?;
        claim.boot.as_ref().is_none_or(|boot| *boot == worker.boot).then_some(worker)
    }

    /// The status of a stream as it should be.
    pub(super) fn status_of(&self, uid: &Uid, now: Now) -> StreamStatus {
        let stream = &self.streams[uid];
        let wish = self.wish(uid);
        let claim = stream.claim.and_then(|epoch| self.claims.get(&StreamRef::new(uid.clone(), epoch)));
        let claim = claim.filter(|_| wish.is_ok() || stream.claim.is_some());
        let worker = claim.and_then(|claim| self.worker_of(claim));
        let addresses =
            claim.zip(worker).map_or(&[][..], |(claim, worker)| self.addresses(&claim.node, worker));
        let ready = self.ready(stream, wish, claim, worker);
        let live = live(stream, claim);
        let mut status = StreamStatus {
            observed_generation: stream.generation,
            phase: phase(wish, ready.0, live.0),
            // An assignment is read by its epoch: those that came to nothing since then are not on record.
            epoch: claim.map_or(stream.epoch, |claim| claim.stream.epoch).0,
            term: self.term().0,
            path: stream.path().cloned(),
            source: stream.spec.as_ref().map(|spec| source_kind(&spec.source)),
            assignment: claim.map(|claim| assignment(claim, worker.map(|_| addresses), &stream.stored)),
            ports: claim.and_then(|claim| self.rtp_ports(stream, claim, worker)),
            endpoints: endpoints(stream, claim, worker, addresses, ready.0),
            publisher: stream.publisher.clone().filter(|_| claim.is_some()),
            failovers: stream.failovers,
            last_failover: stream.last_failover.clone(),
            conditions: Conditions::new(),
        };
        let mut say = |kind: ConditionType, (value, reason, message): Verdict| {
            let before = stream.stored.conditions.get(&kind);
            let condition = condition(before, value, reason, message, stream.generation, unix(now));
            status.conditions.insert(kind, condition);
        };
        say(ConditionType::Accepted, self.accepted(uid, stream));
        if stream.rtp().is_some() {
            let ports = status.ports.as_ref().filter(|_| stream.is_shared());
            say(ConditionType::PortsAllocated, self.ports_allocated(stream, wish, claim, ports));
        }
        say(ConditionType::Ready, ready);
        say(ConditionType::Live, live);
        if self.stranded.contains(uid) && self.nodes.len() > 1 {
            let message = if claim.is_some_and(|claim| self.is_lost(&claim.node)) {
                "its worker is gone, and no other one has room for it"
            } else {
                "its node is being emptied, and no other worker has room for it"
            };
            say(ConditionType::FailoverBlocked, (true, Reason::NoWorker, message.to_owned()));
        }
        // A term that wrote nothing else is no news.
        if status.term != stream.stored.term {
            let same = StreamStatus { term: stream.stored.term, ..status.clone() };
            if same == *stream.stored {
                return same;
            }
        }
        status
    }

    /// Where a worker is reached: as its node's object says, else as it says itself.
    fn addresses<'a>(&'a self, node: &NodeName, worker: &'a Worker) -> &'a [Arc<str>] {
        let object = self.nodes.get(node).and_then(|node| node.object.as_ref());
        object.map(|object| &object.addresses).filter(|all| !all.is_empty()).unwrap_or(&worker.addresses)
    }

    /// Where media of a claim comes. Numbers that take the place of others go first.
    fn rtp_ports(&self, stream: &Stream, claim: &Claim, worker: Option<&Worker>) -> Option<RtpPorts> {
        let Some(first) = &claim.lease else { return shared_port(stream, claim, worker) };
        let transport = first.transport.or(stream.rtp().map(|rtp| rtp.transport))?;
        let second = claim.successor();
        let previous = second.map(|second| PreviousPorts {
            rtp: first.ports.rtp,
            rtcp: first.ports.rtcp,
            since: second.since,
            closes_at: self.move_closes_at(claim),
        });
        let Ports { rtp, rtcp } = second.map_or(first.ports, |second| second.ports);
        Some(RtpPorts { pool: Some(first.pool.clone()), rtp, rtcp, transport, previous })
    }

    fn ports_allocated(
        &self,
        stream: &Stream,
        wish: Result<(), Reason>,
        claim: Option<&Claim>,
        shared: Option<&RtpPorts>,
    ) -> Verdict {
        if let Some((claim, lease)) = claim.and_then(|claim| Some((claim, claim.lease.as_ref()?))) {
            let Lease { pool, ports, .. } = lease;
            let message = match (claim.successor(), stream.cramped.as_ref().filter(|it| self.has_no_room(it)))
            {
                (Some(second), _) => format!(
                    "{} of the PortPool {pool}; {ports}, outside its spec.ranges, is closed when media has come on the former",
                    second.ports
                ),
                (None, Some(Cramped { node, .. })) => format!(
                    "{ports}, outside spec.ranges of the PortPool {pool}, which has no other free on node {node}; grow them"
                ),
                (None, None) => format!("{ports} of the PortPool {pool}"),
            };
            return (true, Reason::Leased, message);
        }
        match (wish, shared) {
            (Err(reason), _) => (false, reason, unwanted(stream, reason)),
            (Ok(()), Some(RtpPorts { rtp, .. })) => (
                true,
                Reason::Shared,
                format!("{rtp}, the worker's port for all streams that are told apart by SSRC"),
            ),
            (Ok(()), None) => blocked(stream),
        }
    }

    fn accepted(&self, uid: &Uid, stream: &Stream) -> Verdict {
        if let Some(refusal) = &stream.refusal {
            return (false, refusal.reason, refusal.message.clone());
        }
        match self.accept(uid, stream) {
            Ok(()) => (true, Reason::Accepted, "the spec is in force".to_owned()),
            Err(Reason::PathConflict) => {
                let path = stream.path().map_or("", |path| path.as_str());
                let winner =
                    stream.path().and_then(|path| self.winner(path)).and_then(|uid| self.streams.get(uid));
                let winner =
                    winner.map_or_else(|| "another stream".to_owned(), |winner| winner.name.to_string());
                let message = format!(
                    "the path {path} belongs to the older stream {winner}; this one takes over when it is free. \
                     Give it another spec.path, or delete the other"
                );
                (false, Reason::PathConflict, message)
            }
            Err(Reason::SsrcConflict) => {
                let ssrc = stream.rtp().and_then(|rtp| rtp.ssrc).unwrap_or_default();
                let winner = self.ssrc_winner(ssrc).and_then(|uid| self.streams.get(uid));
                let winner =
                    winner.map_or_else(|| "another stream".to_owned(), |winner| winner.name.to_string());
                let message = format!(
                    "on shared ports the SSRC {ssrc:010} belongs to the older stream {winner}; this one takes over when it is \
                     free. Invite its device with another spec.source.rtp.ssrc, or remove spec.source.rtp.shared"
                );
                (false, Reason::SsrcConflict, message)
            }
            Err(Reason::PathNotGranted) => {
                let message = format!(
                    "spec.path is outside {}/ and not granted to this namespace; begin it with {}/, or have the \
                     operator's configuration grant it",
                    stream.name.namespace, stream.name.namespace
                );
                (false, Reason::PathNotGranted, message)
            }
            Err(reason) => (false, reason, "the spec is not accepted".to_owned()),
        }
    }

    fn ready(
        &self,
        stream: &Stream,
        wish: Result<(), Reason>,
        claim: Option<&Claim>,
        worker: Option<&Worker>,
    ) -> Verdict {
        if let Err(reason) = wish {
            return (false, reason, unwanted(stream, reason));
        }
        let Some(claim) = claim else { return blocked(stream) };
        // Read from the record, and its worker has not said what it has: what the record says stands.
        let unheard = worker.map_or(!self.timers.is_set(&Timer::LeadWindow), |worker| {
            matches!(worker.liveness, Liveness::Unheard | Liveness::Lost)
        });
        if claim.boot.is_none()
            && !unheard
            && stream.stored.epoch == claim.stream.epoch.0
            && let Some(before) = stream.stored.conditions.get(&ConditionType::Ready)
        {
            return (before.status, before.reason, before.message.clone());
        }
        match (&claim.phase, worker.map(|worker| worker.liveness)) {
            (_, Some(Liveness::Lost)) => {
                (false, Reason::WorkerLost, format!("the worker {} is gone", claim.worker))
            }
            (ClaimPhase::Acknowledged, Some(Liveness::Alive | Liveness::Suspect | Liveness::Degraded)) => {
                match self.useless_secret(stream) {
                    None => (true, Reason::Assigned, format!("it can be published to on {}", claim.worker)),
                    Some((reason, message)) => (false, reason, message),
                }
            }
            (
                ClaimPhase::Acknowledged | ClaimPhase::Told | ClaimPhase::Written,
                Some(Liveness::Unheard) | None,
            ) => (false, Reason::WorkerUnheard, format!("the worker {} is not heard", claim.worker)),
            (ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading, _)
            | (ClaimPhase::Written | ClaimPhase::Told, _) => {
                (false, Reason::Assigning, format!("the worker {} is told", claim.worker))
            }
            (ClaimPhase::Revoking(reason), _) => (false, *reason, "it is taken off its worker".to_owned()),
            (ClaimPhase::Adopted { held: _ }, _) => (false, Reason::Assigning, "it is read back".to_owned()),
        }
    }
}

fn phase(wish: Result<(), Reason>, ready: bool, live: bool) -> Phase {
    match wish {
        Ok(()) if ready && live => Phase::Live,
        Ok(()) if ready => Phase::Ready,
        Ok(()) => Phase::Pending,
        Err(Reason::Paused) => Phase::Paused,
        Err(Reason::Idle) => Phase::Idle,
        Err(Reason::Deleted) => Phase::Terminating,
        Err(Reason::Suspect) => Phase::Pending,
        Err(_) => Phase::Refused,
    }
}

/// Why a stream is not assigned although its object is there.
fn unwanted(stream: &Stream, reason: Reason) -> String {
    match reason {
        Reason::Paused => "spec.paused is true".to_owned(),
        Reason::Idle => {
            "no media for spec.releaseAfterIdle, so its ports went back; edit it, or change the annotation \
                         media.penstock.dev/touch, to wake it"
                .to_owned()
        }
        Reason::Suspect => {
            "it sat on a stuck shard in two aborts within 10 minutes; edit it, or change the annotation \
                            media.penstock.dev/touch, to try it again"
                .to_owned()
        }
        Reason::Deleted => "the object is being deleted".to_owned(),
        _ => stream.refusal.as_ref().map_or_else(
            || "the spec is not accepted; see Accepted".to_owned(),
            |refusal| refusal.message.clone(),
        ),
    }
}

/// Why a stream that should have a claim has none.
fn blocked(stream: &Stream) -> Verdict {
    match &stream.blocked {
        Some(Blocked::Worker { reason, message }) => (false, *reason, message.clone()),
        Some(Blocked::Ports { queue: _, reason, message }) => (false, *reason, message.clone()),
        Some(Blocked::Pool { reason, message }) => (false, *reason, message.clone()),
        Some(Blocked::Closing) => {
            (false, Reason::Claiming, "an earlier claim on its path is being closed".to_owned())
        }
        Some(Blocked::Retry { message }) => (false, Reason::WriteRefused, message.clone()),
        None => (false, Reason::Claiming, "a worker is looked for".to_owned()),
    }
}

fn live(stream: &Stream, claim: Option<&Claim>) -> Verdict {
    let publisher = stream.publisher.as_ref().filter(|_| claim.is_some());
    match (stream.live && claim.is_some(), publisher) {
        (true, _) => (true, Reason::Media, "media flows".to_owned()),
        (false, Some(_)) => (false, Reason::Stalled, "somebody publishes, but no media comes".to_owned()),
        (false, None) => {
            let (nobody, last) = if stream.is_dialled() {
                ("the device sends nothing", "the last connection")
            } else {
                ("nobody publishes", "the last one ended")
            };
            let why = stream.ended.as_ref().map(|ended| format!("{nobody}; {last}: {ended}"));
            (false, Reason::NoPublisher, why.unwrap_or_else(|| nobody.to_owned()))
        }
    }
}

/// A condition whose time moves only when its status does.
pub(super) fn condition(
    before: Option<&Condition>,
    status: bool,
    reason: Reason,
    message: String,
    observed_generation: i64,
    now: UnixTime,
) -> Condition {
    let last_transition = match before {
        Some(before) if before.status == status => before.last_transition,
        Some(_) | None => now,
    };
    Condition { status, reason, message, observed_generation, last_transition }
}

fn source_kind(source: &Source) -> SourceKind {
    match source {
        Source::Push { .. } => SourceKind::Push,
        Source::Rtp(rtp) => match rtp.transport {
            RtpTransport::Udp => SourceKind::RtpUdp,
            RtpTransport::TcpPassive => SourceKind::RtpTcpPassive,
            RtpTransport::TcpActive => SourceKind::RtpTcpActive,
        },
    }
}

fn assignment(claim: &Claim, addresses: Option<&[Arc<str>]>, stored: &StreamStatus) -> Assignment {
    let before = stored.assignment.as_ref().filter(|before| {
        stored.epoch == claim.stream.epoch.0 && before.worker == claim.worker && before.node == claim.node
    });
    // What was adopted from a worker has no time of its own.
    let since = before.filter(|_| claim.since == UnixTime(0)).map_or(claim.since, |before| before.since);
    let addresses = match (addresses, before) {
        (Some(addresses), _) => addresses.to_vec(),
        (None, Some(before)) => before.addresses.clone(),
        (None, None) => Vec::new(),
    };
    Assignment {
        worker: claim.worker.clone(),
        pod_uid: claim.pod_uid.clone(),
        node: claim.node.clone(),
        addresses,
        since,
    }
}

/// The port of its worker for all streams that are told apart by SSRC, where that is where media comes.
fn shared_port(stream: &Stream, claim: &Claim, worker: Option<&Worker>) -> Option<RtpPorts> {
    let transport = stream.rtp().filter(|rtp| rtp.shared)?.transport;
    match worker {
        Some(worker) => {
            let rtp = worker.rtp_shared_port?;
            Some(RtpPorts { pool: None, rtp, rtcp: None, transport, previous: None })
        }
        // Its worker was not heard by this leader: the record stands.
        None => stream
            .stored
            .ports
            .clone()
            .filter(|ports| ports.pool.is_none() && stream.stored.epoch == claim.stream.epoch.0),
    }
}

/// Where to publish and play: shown while it can be done.
fn endpoints(
    stream: &Stream,
    claim: Option<&Claim>,
    worker: Option<&Worker>,
    addresses: &[Arc<str>],
    ready: bool,
) -> Vec<Endpoint> {
    if ready && worker.is_none() {
        // Its worker was not heard by this leader: the record stands.
        return stream.stored.endpoints.clone();
    }
    let (Some(spec), Some(claim), Some(worker), true) = (&stream.spec, claim, worker, ready) else {
        return Vec::new();
    };
    let mut endpoints = Vec::new();
    let path = spec.path.as_str();
    let mut add = |usage, protocol, url: &dyn Fn(&str) -> String| {
        endpoints.extend(addresses.iter().map(|address| Endpoint {
            usage,
            protocol,
            url: url(&host(address)),
        }));
    };
    let rtmp = |host: &str| format!("rtmp://{host}{}/{path}", port(worker.rtmp_port, 1935));
    match &spec.source {
        Source::Push { protocols } => {
            for protocol in protocols {
                match protocol {
                    PushProtocol::Rtmp => add(Usage::Publish, "RTMP", &rtmp),
                }
            }
        }
        Source::Rtp(source) => {
            let scheme = match source.transport {
                RtpTransport::Udp => Some("udp"),
                RtpTransport::TcpPassive => Some("tcp"),
                // Nobody comes to us.
                RtpTransport::TcpActive => None,
            };
            let shared = worker.rtp_shared_port.filter(|_| source.shared);
            // Where the sender is to go to in the end comes first, once it has been open: also the next leader knows that from the record.
            let next = claim.successor().filter(|second| second.since.is_some());
            let leased = next.map(|second| second.ports).into_iter().chain(claim.ports());
            let leased = leased.map(|ports| ports.rtp).filter(|_| !source.shared);
            for (scheme, number) in
                shared.into_iter().chain(leased).filter_map(|number| Some((scheme?, number)))
            {
                add(Usage::Publish, "RTP", &|host| format!("{scheme}://{host}:{number}"));
            }
        }
    }
    for protocol in &spec.play.protocols {
        match protocol {
            PlayProtocol::Rtmp => add(Usage::Play, "RTMP", &rtmp),
            PlayProtocol::HttpFlv => {
                add(Usage::Play, "HTTPFLV", &|host| {
                    format!("http://{host}{}/{path}.flv", port(worker.http_port, 80))
                });
            }
        }
    }
    endpoints
}

/// An address as URLs have it: IPv6 in brackets.
fn host(address: &str) -> String {
    if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

fn port(port: u16, default: u16) -> String {
    if port == default { String::new() } else { format!(":{port}") }
}
