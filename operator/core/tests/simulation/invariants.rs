//! What must never happen, judged from outside of the core: by what each replica could know, and by what is really so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use operator_core::action::Assign;
use operator_core::event::{Closed, Report, WriteOutcome};
use operator_core::ids::{Epoch, NodeName, Ports, Protocol, SessionId, StreamRef, Term, Uid};
use operator_core::reason::Reason;
use operator_core::spec::{PoolObject, Source};
use operator_core::status::{PoolStatus, RtpPorts, StreamStatus};
use operator_core::{Action, Command};

use crate::api::Write;
use crate::replica::{Recorded, goes_on, recorded};
use crate::worker::{LISTENERS, Socket};
use crate::world::World;

/// What has really happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// What was ever on record for an epoch.
    on_record: BTreeMap<StreamRef, Recorded>,
    /// Which processes were told an epoch; several only where the API was restored.
    told: BTreeMap<StreamRef, BTreeSet<usize>>,
    /// The path that it was told for.
    told_paths: BTreeMap<StreamRef, String>,
    /// Which incarnation of which replica has a term.
    terms: BTreeMap<Term, (usize, u64)>,
    /// When a number was last closed by a living process, and for whom.
    closed: BTreeMap<(NodeName, u16), (Duration, Uid, String, usize)>,
    /// Of each stream that ever was.
    pub(crate) paths: BTreeMap<Uid, String>,
    /// The shortest that any pool ever had.
    pub(crate) cooldown_min: Option<Duration>,
    /// Deleted by people.
    pub(crate) user_deleted: BTreeSet<Uid>,
    /// Lost in a restore from backup.
    lost: BTreeSet<Uid>,
    restored: bool,
}

impl Truth {
    /// The API went back: what was on record since then is forgotten by everybody but workers.
    pub(crate) fn restored(&mut self, lost: &[Uid]) {
        self.restored = true;
        self.lost.extend(lost.iter().cloned());
        self.on_record.clear();
        self.terms.clear();
    }

    /// Of a node's process, the number that it closed last.
    pub(crate) fn closed_last(&self, node: &NodeName) -> Option<u16> {
        let here = self.closed.iter().filter(|((of, _), _)| of == node);
        here.max_by_key(|(_, (at, ..))| *at).map(|((_, port), _)| *port)
    }

    /// With the process its memory of closed ports is gone.
    pub(crate) fn worker_ended(&mut self, node: &NodeName) {
        self.closed.retain(|(of, _), _| of != node);
    }
}

impl World {
    /// Judges an action before it is done.
    pub(crate) fn judge(&mut self, replica: usize, action: &Action) {
        match action {
            Action::WriteStream { id: _, uid, name: _, resource_version: _, status, claim: _ } => {
                self.judge_one_write(replica, uid);
                self.judge_not_lost(replica, uid);
                self.judge_leads(replica, "a status write");
                if let Some((stream, recorded)) = recorded(uid, status) {
                    self.judge_claim(replica, &stream, recorded, status);
                }
            }
            Action::WritePool { id: _, uid: _, name: _, resource_version: _, status } => {
                self.judge_leads(replica, "a pool's status write");
                self.judge_sum(status);
            }
            Action::DeleteStream { id: _, uid, name: _, resource_version: _ } => {
                self.judge_leads(replica, "a deletion");
                let object = self.api.objects.streams.values().find(|object| object.uid == *uid);
                if object
                    .is_none_or(|object| object.spec.as_ref().is_ok_and(|spec| spec.ttl_after_idle.is_none()))
                    && !self.truth.restored
                {
                    self.note(|| format!("{uid} is deleted by the operator after an edit took its ttl away"));
                }
            }
            Action::Command { session, term, sequence, command } => {
                self.judge_command(replica, *session, *term, *sequence, command);
            }
            Action::RecordTerm { .. } => self.judge_leads(replica, "a term"),
            Action::Confirm { .. } | Action::CloseSession { .. } | Action::Emit { .. } => {}
        }
    }

    fn judge_leads(&mut self, replica: usize, what: &str) {
        if !self.replicas[replica].leading {
            self.violate(format!("operator {replica} does not lead and asks for {what}"));
        }
    }

    fn judge_one_write(&mut self, replica: usize, uid: &Uid) {
        if self.replicas[replica]
            .seen
            .writes
            .values()
            .any(|note| note.uid == *uid && !note.former && note.is_status)
        {
            self.violate(format!("operator {replica} writes {uid} while a write of it is under way"));
        }
    }

    /// A read that was answered before the deletion was seen, and heard after it, brings nothing back.
    fn judge_not_lost(&mut self, replica: usize, uid: &Uid) {
        // Only a restored backup has again what was gone.
        if !self.truth.restored && self.replicas[replica].seen.lost.contains(uid) {
            self.violate(format!("operator {replica} writes {uid}, which it saw go"));
        }
    }

    fn judge_sum(&mut self, status: &PoolStatus) {
        let PoolStatus { capacity, free, leased, cooling, quarantined, .. } = *status;
        if free + leased + cooling + quarantined != capacity {
            self.violate(format!(
                "{free} free + {leased} leased + {cooling} cooling + {quarantined} quarantined ≠ {capacity}"
            ));
        }
    }

    /// A claim that this replica wants on record: if it is a new one, was it right to make it?
    fn judge_claim(&mut self, replica: usize, stream: &StreamRef, claim: Recorded, status: &StreamStatus) {
        let seen = &self.replicas[replica].seen;
        let known = seen.recorded.get(stream).or_else(|| seen.granted.get(stream));
        if let Some(known) = known {
            if !goes_on(known, &claim) && !self.truth.restored {
                let text = format!("operator {replica}: {stream} is {known:?} and shall be {claim:?}");
                self.violate(text);
                return;
            }
            let (pod, node, numbers) = claim;
            let fresh: Vec<u16> = numbers.into_iter().filter(|port| !known.2.contains(port)).collect();
            if !fresh.is_empty() && !self.truth.restored {
                self.judge_grant(replica, stream, &(pod, node, fresh), status);
            }
            return;
        }
        let adopted = self
            .truth
            .told
            .get(stream)
            .is_some_and(|told| told.iter().any(|&it| self.workers[it].pod_uid[..] == claim.0[..]));
        self.replicas[replica].seen.granted.insert(stream.clone(), claim.clone());
        if adopted {
            // Known from a worker, lost from the record by a restore.
            return;
        }
        let heard = self.replicas[replica].seen.epochs.get(&stream.uid);
        if heard.is_some_and(|heard| *heard >= stream.epoch) {
            self.violate(format!("operator {replica} gives {stream}, although {heard:?} was heard of"));
        }
        self.judge_grant(replica, stream, &claim, status);
    }

    /// A new claim with ports: may these numbers be handed out, on this node, to this stream?
    fn judge_grant(&mut self, replica: usize, stream: &StreamRef, claim: &Recorded, status: &StreamStatus) {
        let node = NodeName::from(claim.1.as_str());
        if !self.replicas[replica].seen.inventoried.contains_key(&node) {
            self.violate(format!(
                "operator {replica} grants {stream} on {node} before an inventory of this term"
            ));
        }
        let Some((pool, Ports { rtp, rtcp })) = status.ports.as_ref().and_then(RtpPorts::leased) else {
            return;
        };
        if rtcp.is_some_and(|rtcp| rtp % 2 != 0 || rtcp != rtp + 1) {
            self.violate(format!("{stream}: {rtp} and {rtcp:?} are no pair"));
        }
        let seen = &self.replicas[replica].seen;
        let uid = &stream.uid;
        if let Some((newest, last)) = seen.pools.get(pool).cloned() {
            let has =
                |pool: &PoolObject, port| pool.spec.as_ref().is_ok_and(|spec| spec.numbers.contains(port));
            // What is older than what is known counts only where the API went back, which a list must tell first.
            let refused = newest.spec.is_err() || (last.spec.is_err() && self.truth.restored);
            for &port in &claim.2 {
                if LISTENERS.contains(&port) {
                    self.violate(format!("{stream} gets {port}, which its worker listens on"));
                }
                let had = has(&newest, port) || (self.truth.restored && has(&last, port));
                if !had && !refused {
                    self.violate(format!("{stream} gets {port}, which {pool} does not have or reserves"));
                }
                self.judge_cooled(
                    replica,
                    (stream, claim),
                    &node,
                    port,
                    self.truth.cooldown_min.unwrap_or_default(),
                    status,
                );
            }
        }
        let object = self.api.objects.streams.values().find(|object| object.uid == *uid);
        if let Some(Source::Rtp(source)) =
            object.and_then(|object| object.spec.as_ref().ok()).map(|spec| &spec.source)
            && source.rtcp != rtcp.is_some()
            && object.is_some_and(|object| object.generation == status.observed_generation)
        {
            self.violate(format!("{stream} wants rtcp {} and gets {rtcp:?}", source.rtcp));
        }
        // A leader that was frozen does not know yet that another has its Lease. Nobody obeys it, and of two claims on one number
        // the one really bound stays (design §4).
        if self.truth.terms.keys().next_back().is_some_and(|highest| highest.0 > status.term) {
            return;
        }
        self.judge_held(replica, stream, claim);
        for &port in &claim.2 {
            // Of two processes of a pod the later one: the one before it is a stranger, whose ports don't bind.
            let mut processes = self.workers.iter().rev();
            let Some(worker) = processes.find(|w| w.alive && w.pod_uid[..] == claim.0[..]) else {
                continue;
            };
            let (index, host) = (worker.index, worker.host);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if let Some(Socket::Media(owner, other)) = self.hosts[host].sockets.get(&(port, protocol))
                    && *owner == index
                    && other.uid != *uid
                {
                    let text = format!(
                        "operator {replica} grants {port} on {node} to {stream} while {other} has it open"
                    );
                    self.violate(text);
                }
            }
        }
    }

    /// What somebody else has had since before the node's process began, which that process was asked for, is not given to anybody.
    fn judge_held(&mut self, replica: usize, stream: &StreamRef, claim: &Recorded) {
        let seen = &self.replicas[replica].seen;
        let Some(session) = seen.inventoried.get(&NodeName::from(claim.1.as_str())) else { return };
        let Some(&link) = self.replicas[replica].sessions.get(session) else { return };
        let worker = &self.workers[self.links[link].worker];
        let later = self.workers.iter().rev().find(|it| it.alive && it.pod_uid == worker.pod_uid);
        if worker.pod_uid[..] != claim.0[..] || later.is_none_or(|later| later.index != worker.index) {
            return;
        }
        let host = &self.hosts[worker.host];
        let before = |socket: &Socket| matches!(socket, Socket::Thief(since) if *since < worker.started);
        let held = |port: u16| {
            host.sockets.range((port, Protocol::Tcp)..=(port, Protocol::Udp)).any(|(_, it)| before(it))
        };
        if let Some(port) = claim.2.iter().copied().find(|&port| held(port)) {
            let text = format!(
                "operator {replica} grants {port} on {} to {stream}, which a stranger has had since before its worker began",
                host.name
            );
            self.violate(text);
        }
    }

    fn judge_cooled(
        &mut self,
        replica: usize,
        (stream, claim): (&StreamRef, &Recorded),
        node: &NodeName,
        port: u16,
        cooldown: Duration,
        status: &StreamStatus,
    ) {
        let Some((at, uid, path, closed_by)) = self.truth.closed.get(&(node.clone(), port)) else { return };
        // A leader knows what was closed before its time from the node's process. Where an earlier process is heard again, that
        // is not the one that closed it; the lock on the node keeps two of them apart.
        if self.replicas[replica].leads_since > *at && self.workers[*closed_by].pod_uid[..] != claim.0[..] {
            return;
        }
        let own = status.path.as_ref().is_some_and(|own| own.as_str() == path);
        if self.now < *at + cooldown && *uid != stream.uid && !own {
            let text = format!("{stream} gets {port} on {node} {:?} after {uid} closed it", self.now - *at);
            self.violate(text);
        }
    }

    fn judge_command(
        &mut self,
        replica: usize,
        session: SessionId,
        term: Term,
        sequence: u64,
        command: &Command,
    ) {
        let target = &mut self.replicas[replica];
        let last = target.seen.sequences.insert(session, sequence).unwrap_or(0);
        let open = target.sessions.contains_key(&session);
        let recorded = target.term;
        if sequence != last + 1 {
            self.violate(format!(
                "operator {replica}: command {sequence} follows {last} in session {session}"
            ));
        }
        if !open {
            self.violate(format!("operator {replica}: command in session {session}, which is over"));
        }
        let informs = matches!(command, Command::Welcome | Command::Directory(_) | Command::Networks(_));
        if !informs && recorded != Some(term) {
            self.violate(format!(
                "operator {replica} commands at term {term} while the Lease gives it {recorded:?}"
            ));
        }
        match command {
            Command::Assign(assign) => self.judge_assign(replica, session, assign),
            Command::Revoke { stream, reason } => self.judge_revoke(replica, stream, *reason),
            Command::Welcome
            | Command::Directory(_)
            | Command::Networks(_)
            | Command::InventoryRequest
            | Command::Watch { .. }
            | Command::CloseLeak { .. } => {}
        }
    }

    /// Nobody is told before it is on record, as far as this replica knows.
    fn judge_assign(&mut self, replica: usize, session: SessionId, assign: &Assign) {
        let stream = &assign.stream;
        let leases = assign.source.ports().into_iter().chain(assign.source.next());
        let ports: Vec<u16> = leases.flat_map(Ports::numbers).collect();
        let worker = self.replicas[replica].sessions.get(&session).map(|&link| self.links[link].worker);
        let Some(worker) = worker else { return };
        let target = &self.workers[worker];
        let told = (target.pod_uid.to_string(), self.hosts[target.host].name.to_string(), ports);
        match self.replicas[replica].seen.recorded.get(stream) {
            None => {
                self.violate(format!(
                    "operator {replica} tells worker {worker} of {stream}, which is not on record"
                ));
            }
            Some(recorded) if !is_among(&told, recorded) => {
                let text =
                    format!("operator {replica} tells {stream} as {told:?}, on record is {recorded:?}");
                self.violate(text);
            }
            Some(_) => {}
        }
    }

    /// A stop because of deletion needs a deletion, not a list's silence.
    fn judge_revoke(&mut self, replica: usize, stream: &StreamRef, reason: Reason) {
        if reason != Reason::Deleted {
            return;
        }
        let uid = &stream.uid;
        let there = self.api.objects.streams.values().any(|object| object.uid == *uid && !object.deleting);
        let seen = &self.replicas[replica].seen;
        if there && !self.truth.user_deleted.contains(uid) && !self.truth.restored {
            self.violate(format!("operator {replica} stops {stream} as deleted, but it is there"));
        } else if self.truth.lost.contains(uid) && seen.went_back && !seen.gone.contains(uid) {
            self.violate(format!("operator {replica} stops {stream}, which only a restored backup lacks"));
        }
    }

    /// A worker obeyed a command.
    pub(crate) fn note_obeyed(&mut self, worker: usize, command: &Command, reports: &[Report]) {
        for report in reports {
            match report {
                Report::Closed(Closed { stream, ports, ago: _ }) | Report::PortsClosed { stream, ports } => {
                    self.note_closed(worker, stream, ports);
                }
                _ => {}
            }
        }
        let Command::Assign(assign) = command else { return };
        let stream = &assign.stream;
        self.truth.told_paths.insert(stream.clone(), assign.path.to_string());
        let pod = self.workers[worker].pod_uid.clone();
        let told = self.truth.told.entry(stream.clone()).or_default();
        let before = told.iter().copied().find(|&it| it != worker);
        told.insert(worker);
        // What a restored record lacks and no worker has told of yet, nobody can know.
        if let Some(before) = before.filter(|_| !self.truth.restored) {
            self.violate(format!(
                "{stream} is told to worker {worker} ({pod}) and was told to worker {before} ({})",
                self.workers[before].pod_uid
            ));
        }
    }

    /// A write came to pass, or didn't.
    pub(crate) fn note_write(&mut self, replica: usize, write: &Write, outcome: &WriteOutcome) {
        let Write::Stream { uid, name: _, version: _, status } = write else { return };
        match outcome {
            WriteOutcome::Written { .. } => {
                if let Some((stream, recorded)) = recorded(uid, status)
                    && let Some(before) = self.truth.on_record.insert(stream.clone(), recorded.clone())
                    && !goes_on(&before, &recorded)
                {
                    self.violate(format!("{stream} is on record as {before:?}, then as {recorded:?}"));
                }
            }
            WriteOutcome::Refused { .. } => {
                let stored = self.api.objects.streams.values().find(|object| object.uid == *uid);
                if let Some(stored) = stored
                    && status.epoch < stored.status.epoch
                {
                    let text = format!(
                        "operator {replica} writes {uid} with epoch {} after {}",
                        status.epoch, stored.status.epoch
                    );
                    self.violate(text);
                }
            }
            WriteOutcome::Conflict | WriteOutcome::NotFound | WriteOutcome::Unknown => {}
        }
    }

    /// The Lease holds a term for a replica.
    pub(crate) fn note_term(&mut self, replica: usize, incarnation: u64, term: Term) {
        let who = (replica, incarnation);
        let before = self.truth.terms.insert(term, who);
        if before.is_some_and(|before| before != who) {
            self.violate(format!("term {term} is taken by operator {replica} and was {before:?}'s"));
        }
        if self.truth.terms.keys().next_back() != Some(&term) {
            self.violate(format!("operator {replica} takes term {term}, which is below one taken before"));
        }
    }

    /// An inventory came; it counts when it answers a request of this term.
    pub(crate) fn note_inventory(&mut self, replica: usize, session: SessionId) {
        let target = &mut self.replicas[replica];
        if target.term.is_none() {
            return;
        }
        if let Some(&link) = target.sessions.get(&session) {
            let host = self.workers[self.links[link].worker].host;
            target.seen.inventoried.insert(self.hosts[host].name.clone(), session);
        }
    }

    /// The state of things after a step: no number of a node for two streams, no epoch on two workers.
    pub(crate) fn check_truth(&mut self) {
        let mut broken = None;
        for host in &self.hosts {
            let mut owners: BTreeMap<u16, &StreamRef> = BTreeMap::new();
            for (&(port, _), socket) in &host.sockets {
                if let Socket::Media(_, stream) = socket
                    && let Some(other) = owners.insert(port, stream)
                    && other.uid != stream.uid
                {
                    broken = Some(format!("{port} of {} is open for {other} and for {stream}", host.name));
                }
            }
        }
        let mut running: BTreeMap<(&Uid, Epoch), usize> = BTreeMap::new();
        for worker in self.workers.iter().filter(|worker| worker.alive) {
            for (uid, run) in &worker.running {
                // After a restore nobody may know of an epoch that a silent worker has; `judge_end` sees that it is gone.
                if let Some(other) = running.insert((uid, run.epoch), worker.index)
                    && !self.truth.restored
                {
                    broken =
                        Some(format!("{uid}@{} runs in workers {other} and {}", run.epoch, worker.index));
                }
            }
        }
        if let Some(text) = broken {
            self.violate(text);
        }
    }

    /// A number was closed by a process that goes on. Only the word of a node's current worker is heard (design §4): what an
    /// earlier process still has is a foreign socket to the one that followed it.
    fn note_closed(&mut self, worker: usize, stream: &StreamRef, ports: &[u16]) {
        let host = self.workers[worker].host;
        if self.workers[worker + 1..].iter().any(|later| later.host == host) {
            return;
        }
        let node = self.hosts[host].name.clone();
        let path = self.truth.told_paths.get(stream).cloned().unwrap_or_default();
        // A worker that leaks says closed of what it still has.
        let leaked = |port| {
            let mut sockets = self.hosts[host].sockets.iter();
            sockets.any(|((number, _), socket)| *number == port && matches!(socket, Socket::Leak(..)))
        };
        for port in ports.iter().copied().filter(|port| !leaked(*port)) {
            self.truth
                .closed
                .insert((node.clone(), port), (self.now, stream.uid.clone(), path.clone(), worker));
        }
    }

    /// What the core's own books say of themselves.
    pub(crate) fn check_core(&mut self, replica: usize) {
        let core = &self.replicas[replica].core;
        let wrong = core
            .ports()
            .find(|ports| ports.free + ports.leased + ports.cooling + ports.quarantined != ports.capacity);
        let mut wrong: Vec<String> =
            wrong.map(|ports| format!("{ports:?} does not add up")).into_iter().collect();
        wrong.extend(core.check().iter().map(ToString::to_string));
        for text in wrong {
            self.violate(format!("operator {replica}: {text}"));
        }
    }
}

/// Whether what a worker is told is on record: of two leases, both or either.
fn is_among(told: &Recorded, recorded: &Recorded) -> bool {
    let (pod, node, numbers) = told;
    (pod, node) == (&recorded.0, &recorded.1)
        && numbers.iter().all(|port| recorded.2.contains(port))
        && numbers.is_empty() == recorded.2.is_empty()
}
