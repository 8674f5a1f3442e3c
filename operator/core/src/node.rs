//! A node with its ports and its one worker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::action::{ClusterNetworks, KnownDirectory};
use crate::event::{Hello, Holder, HostPorts, NodeObject};
use crate::ids::{BootId, PoolName, Protocol, SessionId, StreamRef, Term, WorkerName};
use crate::ledger::Ledger;
use crate::spec::PortRange;

/// Boot ids of ended processes that are remembered, so that a late session of one is not taken for a new start. A node
/// would have to start its worker this often within the life of one forgotten connection.
pub(crate) const RETIRED_BOOTS_MAX: usize = 16;

/// A node with its ports and its one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// As the API has it; absent when it has not (or, in standalone, has none).
    pub(crate) object: Option<NodeObject>,
    /// Its worker; absent until one has said hello.
    pub(crate) worker: Option<Worker>,
    /// Processes that are over.
    pub(crate) retired: VecDeque<BootId>,
    pub(crate) ledger: Ledger,
    /// Claims here.
    pub(crate) claims: BTreeSet<StreamRef>,
    /// Foreign sockets of the last scan.
    pub(crate) holders: BTreeMap<(u16, Protocol), Holder>,
    pub(crate) host: HostPorts,
    /// Numbers per pool that each namespace has leased here.
    pub(crate) users: BTreeMap<PoolName, BTreeMap<Arc<str>, u32>>,
}

/// A worker process.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) name: WorkerName,
    pub(crate) pod_uid: Arc<str>,
    pub(crate) template: Arc<str>,
    pub(crate) boot: BootId,
    pub(crate) addresses: Vec<Arc<str>>,
    pub(crate) listener_ports: Vec<u16>,
    pub(crate) rtmp_port: u16,
    pub(crate) http_port: u16,
    /// For all rtp streams that are told apart by SSRC.
    pub(crate) rtp_shared_port: Option<u16>,
    /// It knows of sources that are edited, and of second leases, within an epoch.
    pub(crate) changes_leases: bool,
    /// It is told of the cluster's own networks.
    pub(crate) knows_networks: bool,
    /// Absent after its end and before the next.
    pub(crate) session: Option<Session>,
    pub(crate) last_heard: Duration,
    /// When the process before this one was last heard.
    pub(crate) before: Option<Duration>,
    pub(crate) liveness: Liveness,
    /// Its inventory has been seen in this term; nothing is granted before.
    pub(crate) known: bool,
    /// The last term in which it was told something here.
    pub(crate) commanded: Term,
    /// It is to end: its streams go elsewhere before.
    pub(crate) draining: bool,
    /// The digest that its beat should have; absent when it must be computed again.
    pub(crate) digest: Option<u64>,
}

/// One session with a worker.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Of the last command.
    pub(crate) sequence: u64,
    /// The first command of this term, where the session is older: a worker that has applied it obeys no earlier leader any
    /// more, and its inventories hold.
    pub(crate) fence: u64,
    pub(crate) welcomed: bool,
    /// The cluster's own networks as it was told of them; none until then.
    pub(crate) networks: Arc<ClusterNetworks>,
    /// The ranges that it was told to watch.
    pub(crate) watch: Vec<PortRange>,
    /// Among them are numbers that no inventory of this session has looked at yet: until one has, none of the node is granted.
    pub(crate) looking: bool,
    /// What it has of the directory.
    pub(crate) directory: Informed,
    /// An inventory is owed.
    pub(crate) awaiting: bool,
    /// One that was begun before this command says less than what is known, or than what was asked for.
    pub(crate) asked: u64,
    /// An inventory of this session has been compared: from here on digests count.
    pub(crate) compared: bool,
}

/// What is known of the directory that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Informed {
    /// Nothing: its next inventory tells. Another leader may have told it much.
    Unknown,
    /// This, since it obeys nobody else any more; absent: it has to be told all.
    Has(Option<KnownDirectory>),
    /// All up to `State`'s version: it is told what changes.
    Whole,
}

/// Whether a worker is believed to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// Heard of late.
    Alive,
    /// Silent or without a session: gets nothing new.
    Suspect,
    /// Silent, and the witnesses say that it runs: it keeps its streams.
    Degraded,
    /// Silent for so long that its streams say so.
    Unheard,
    /// The witnesses say that it is gone.
    Lost,
}

impl Worker {
    /// The worker that says hello.
    pub(crate) fn new(hello: Hello, session: SessionId, now: Duration) -> Self {
        let Hello {
            worker,
            node: _,
            pod_uid,
            template,
            boot,
            addresses,
            listener_ports,
            term,
            epoch: _,
            rtmp_port,
            http_port,
            health_port: _,
            rtp_shared_port,
            changes_leases,
            knows_networks,
        } = hello;
        Self {
            name: worker,
            pod_uid,
            template,
            boot,
            addresses,
            listener_ports,
            rtmp_port,
            http_port,
            rtp_shared_port,
            changes_leases,
            knows_networks,
            session: Some(Session::new(session, term)),
            last_heard: now,
            before: None,
            liveness: Liveness::Alive,
            known: false,
            commanded: Term(0),
            draining: false,
            digest: None,
        }
    }

    /// Whether it can be given streams once its inventory has come.
    pub(crate) fn is_coming(&self) -> bool {
        !self.known && self.session.is_some() && self.liveness == Liveness::Alive && !self.draining
    }

    /// Whether it can be given streams.
    pub(crate) fn can_take(&self) -> bool {
        self.known && self.session.is_some() && self.liveness == Liveness::Alive && !self.draining
    }
}

impl Session {
    /// One that begins with a hello of this term.
    pub(crate) fn new(id: SessionId, term: Term) -> Self {
        // A process that nobody has commanded yet need not be asked first.
        let directory = if term == Term(0) { Informed::Has(None) } else { Informed::Unknown };
        Self {
            id,
            sequence: 0,
            fence: 0,
            welcomed: false,
            networks: Arc::default(),
            watch: Vec::new(),
            looking: false,
            directory,
            awaiting: true,
            asked: 0,
            compared: false,
        }
    }

    /// Nothing holds that was told or learnt in it; its sequence goes on.
    pub(crate) fn forget(&mut self) {
        self.welcomed = false;
        self.networks = Arc::default();
        self.watch.clear();
        self.looking = false;
        self.directory = Informed::Unknown;
        self.awaiting = false;
        self.compared = false;
    }
}

impl Node {
    /// Whether streams are to leave it as soon as others have room: a person has cordoned it, or its worker is to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object.unschedulable)
            || self.worker.as_ref().is_some_and(|worker| worker.draining)
    }

    /// Whether its worker takes rtp streams without a lease.
    pub(crate) fn has_shared_port(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.rtp_shared_port.is_some())
    }

    /// Whether its worker is looking who holds the numbers that pools have on it, and has not said.
    pub(crate) fn is_looked_at(&self) -> bool {
        let session = self.worker.as_ref().and_then(|worker| worker.session.as_ref());
        session.is_some_and(|session| session.looking)
    }

    /// Whether this process is over.
    pub(crate) fn is_retired(&self, boot: &BootId) -> bool {
        self.retired.contains(boot)
    }

    /// Remembers that this process is over.
    pub(crate) fn retire(&mut self, boot: BootId) {
        if self.retired.len() == RETIRED_BOOTS_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(boot);
    }

    /// Who holds `port` according to the last scan.
    pub(crate) fn holder(&self, port: u16) -> Option<&Holder> {
        self.holders.range((port, Protocol::Tcp)..=(port, Protocol::Udp)).next().map(|(_, holder)| holder)
    }
}

impl Holder {
    /// For people: the process, else the user and the line that shows it.
    pub(crate) fn describe(&self) -> String {
        if self.process.is_empty() {
            format!("user {} ({})", self.user, self.show)
        } else {
            format!("{} (user {})", self.process, self.user)
        }
    }
}
