//! Who declares which path, who uses which Secret, who waits where.

use crate::claim::Claim;
use crate::config::NodeMatch;
use crate::event::Now;
use crate::ids::{Epoch, NodeName, ObjectName, Path, SessionId, StreamRef, Uid, UnixTime};
use crate::node::{Liveness, Node, Worker};
use crate::reason::Reason;
use crate::spec::{Source, StreamSpec};
use crate::state::{State, unix};
use crate::status::ConditionType;
use crate::stream::{Blocked, Stream};
use crate::timers::Timer;

impl State {
    /// A stream's claim and status are to be looked at.
    pub(crate) fn mark(&mut self, uid: &Uid) {
        self.dirty.streams.insert(uid.clone());
        self.dirty.statuses.insert(uid.clone());
    }

    /// A stream with this spec declares its path and names its Secrets.
    pub(crate) fn declare(&mut self, uid: &Uid, created_unix_ms: u64, namespace: &str, spec: &StreamSpec) {
        // Whoever may not have a path keeps nobody from it.
        if self.grants(namespace, spec.path.as_str()) {
            let entry = self.paths.entry(spec.path.clone()).or_default();
            let winner = entry.declared.first().cloned();
            entry.declared.insert((created_unix_ms, uid.clone()));
            self.dirty.paths.insert(spec.path.clone());
            if let Some((_, winner)) = winner {
                // An older one that comes later is heard by the one that had the path.
                self.mark(&winner);
            }
            if let Some(ssrc) = shared_ssrc(spec) {
                let declared = self.ssrcs.entry(ssrc).or_default();
                let winner = declared.first().cloned();
                declared.insert((created_unix_ms, uid.clone()));
                if let Some((_, winner)) = winner {
                    self.mark(&winner);
                }
            }
        }
        for secret in secrets(namespace, spec) {
            self.secret_users.entry(secret).or_default().insert(uid.clone());
        }
    }

    /// It declares it no longer; the next one takes over.
    pub(crate) fn undeclare(&mut self, uid: &Uid, created_unix_ms: u64, namespace: &str, spec: &StreamSpec) {
        if let Some(entry) = self.paths.get_mut(&spec.path) {
            entry.declared.remove(&(created_unix_ms, uid.clone()));
            if let Some((_, winner)) = entry.declared.first().cloned() {
                self.mark(&winner);
            }
        }
        self.dirty.paths.insert(spec.path.clone());
        self.forget_path(&spec.path);
        self.undeclare_ssrc(uid, created_unix_ms, spec);
        for secret in secrets(namespace, spec) {
            if let Some(users) = self.secret_users.get_mut(&secret) {
                users.remove(uid);
                if users.is_empty() {
                    self.secret_users.remove(&secret);
                }
            }
        }
    }

    fn undeclare_ssrc(&mut self, uid: &Uid, created_unix_ms: u64, spec: &StreamSpec) {
        let Some(ssrc) = shared_ssrc(spec) else { return };
        let Some(declared) = self.ssrcs.get_mut(&ssrc) else { return };
        declared.remove(&(created_unix_ms, uid.clone()));
        match declared.first().cloned() {
            Some((_, winner)) => self.mark(&winner),
            None => drop(self.ssrcs.remove(&ssrc)),
        }
    }

    /// Keeps no entry for a path that nobody declares or has open.
    pub(crate) fn forget_path(&mut self, path: &Path) {
        if self.paths.get(path).is_some_and(|entry| entry.declared.is_empty() && entry.claims.is_empty()) {
            self.paths.remove(path);
        }
    }

    /// The stream that `path` belongs to.
    pub(crate) fn winner(&self, path: &Path) -> Option<&Uid> {
        self.paths.get(path)?.declared.first().map(|(_, uid)| uid)
    }

    /// The stream that `ssrc` belongs to on the shared ports of all workers: it may move to any of them.
    pub(crate) fn ssrc_winner(&self, ssrc: u32) -> Option<&Uid> {
        self.ssrcs.get(&ssrc)?.first().map(|(_, uid)| uid)
    }

    /// Puts a stream where what it waits for will find it, and takes it from where it was.
    pub(crate) fn block(&mut self, uid: &Uid, blocked: Option<Blocked>, now: Now) {
        let rank = self.next_rank();
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let before = std::mem::replace(&mut stream.blocked, blocked.clone());
        if before == blocked {
            return;
        }
        let place = (stream.arrival, uid.clone());
        match &blocked {
            Some(Blocked::Ports { .. }) if !stream.waits => {
                stream.waits = true;
                stream.arrival = (stream.waited_since().unwrap_or(unix(now)), rank);
            }
            Some(_) => {}
            None => stream.waits = false,
        }
        let next_place = (stream.arrival, uid.clone());
        self.dirty.statuses.insert(uid.clone());
        match before {
            Some(Blocked::Ports { queue, .. }) => {
                if let Some(waiting) = self.queues.get_mut(&queue) {
                    waiting.remove(&place);
                    if waiting.is_empty() {
                        self.queues.remove(&queue);
                    }
                }
            }
            Some(Blocked::Worker { .. } | Blocked::Pool { .. }) => {
                self.unplaced.remove(&place);
            }
            Some(Blocked::Closing | Blocked::Retry { .. }) | None => {}
        }
        match blocked {
            Some(Blocked::Ports { queue, .. }) => {
                self.queues.entry(queue).or_default().insert(next_place);
            }
            Some(Blocked::Worker { .. } | Blocked::Pool { .. }) => {
                self.unplaced.insert(next_place);
            }
            Some(Blocked::Closing | Blocked::Retry { .. }) | None => {}
        }
    }

    /// The node whose worker speaks by this session, if it still does.
    pub(crate) fn speaker(&self, session: SessionId) -> Option<NodeName> {
        let node = self.sessions.get(&session)?;
        let current = self.nodes.get(node)?.worker.as_ref()?.session.as_ref()?.id;
        (current == session).then(|| node.clone())
    }

    /// All claims of a stream, the oldest epoch first.
    pub(crate) fn claims_of(&self, uid: &Uid) -> impl DoubleEndedIterator<Item = (&StreamRef, &Claim)> {
        let all = StreamRef::new(uid.clone(), Epoch(0))..=StreamRef::new(uid.clone(), Epoch(u64::MAX));
        self.claims.range(all)
    }

    /// The worker of `node`.
    pub(crate) fn worker(&self, node: &NodeName) -> Option<&Worker> {
        self.nodes.get(node)?.worker.as_ref()
    }

    /// The worker of `node`, to be changed.
    pub(crate) fn worker_mut(&mut self, node: &NodeName) -> Option<&mut Worker> {
        self.nodes.get_mut(node)?.worker.as_mut()
    }

    /// Whether streams may be taken away from `node`'s worker: the witnesses gave it up, or it is unheard and so is its node.
    pub(crate) fn is_lost(&self, node: &NodeName) -> bool {
        let Some(node) = self.nodes.get(node) else { return false };
        match node.worker.as_ref().map(|worker| worker.liveness) {
            Some(Liveness::Lost) => true,
            Some(Liveness::Alive | Liveness::Degraded) => false,
            Some(Liveness::Suspect | Liveness::Unheard) | None => self.node_is_down(node),
        }
    }

    /// Whether the witnesses gave it up.
    pub(crate) fn is_given_up(&self, node: &NodeName) -> bool {
        self.worker(node).is_some_and(|worker| worker.liveness == Liveness::Lost)
    }

    fn node_is_down(&self, node: &Node) -> bool {
        match &node.object {
            Some(object) => !object.ready,
            // Nodes that were never watched say nothing by their absence.
            None => {
                let waiting = self.timers.is_set(&Timer::LeadWindow);
                self.config.node_match == NodeMatch::Labels && self.is_active() && !waiting
            }
        }
    }

    /// What a stream's claims are named by.
    pub(crate) fn stream_name(&self, uid: &Uid) -> Option<ObjectName> {
        self.streams.get(uid).map(|stream| stream.name.clone())
    }
}

/// The SSRC by which a stream is told from others on shared ports, if that is where it comes.
pub(crate) fn shared_ssrc(spec: &StreamSpec) -> Option<u32> {
    match &spec.source {
        Source::Rtp(rtp) if rtp.shared => rtp.ssrc,
        Source::Rtp(_) | Source::Push { .. } => None,
    }
}

/// The Secrets that a spec names.
pub(crate) fn secrets(namespace: &str, spec: &StreamSpec) -> impl Iterator<Item = ObjectName> {
    let names = [spec.publish.token_secret.clone(), spec.play.token_secret.clone()];
    let namespace: std::sync::Arc<str> = namespace.into();
    names.into_iter().flatten().map(move |name| ObjectName::new(namespace.clone(), name))
}

impl Stream {
    /// Under an earlier leader: since when it has waited for a number.
    fn waited_since(&self) -> Option<UnixTime> {
        let condition = self.stored.conditions.get(&ConditionType::PortsAllocated)?;
        let waited =
            matches!(condition.reason, Reason::PoolExhausted | Reason::PortTaken | Reason::PortOutside);
        waited.then_some(condition.last_transition)
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.name.namespace
    }
}
