//! What an installation decides once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::spec::PortRange;

/// What an installation decides once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Paths outside `<namespace>/`.
    pub path_grants: PathGrants,
    /// What a nodeSelector is compared with.
    pub node_match: NodeMatch,
    /// Ports that the cluster hands out as NodePorts; absent in standalone.
    pub node_ports: Option<PortRange>,
    /// Between two scans of a host.
    pub scan_interval: Duration,
    /// Without a sign of life this long a worker gets nothing new.
    pub suspect_after: Duration,
    /// A new leader calls nobody unheard before this.
    pub lead_window: Duration,
    /// The worker's answer to a command is awaited this long, then its inventory is asked for.
    pub answer_after: Duration,
    /// A pool's status is written at most this often.
    pub pool_status_every: Duration,
    /// Writes in flight at once, claims first; fewer while the API gives no answer in time.
    pub writes_in_flight_max: usize,
    /// Between two updates of the directory, for each worker that they go to. An owner is told of its own paths at once.
    pub directory_pause: Duration,
}

/// What a nodeSelector is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMatch {
    /// Nothing: the one node there is matches (standalone).
    All,
    /// The labels of nodes that are watched.
    Labels,
}

/// Which namespaces may use paths that do not begin with their own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathGrants {
    /// All of them may use any path (standalone).
    All,
    /// Prefixes by namespace, with their final slash; an empty one is any path.
    Namespaces(BTreeMap<Arc<str>, Vec<Arc<str>>>),
}

impl PathGrants {
    /// In place of a namespace: all of them.
    pub const ANY_NAMESPACE: &'static str = "*";
}

impl Config {
    /// One machine: any path, no NodePorts.
    pub fn standalone() -> Self {
        Self {
            path_grants: PathGrants::All,
            node_match: NodeMatch::All,
            node_ports: None,
            scan_interval: Duration::from_secs(5),
            suspect_after: Duration::from_millis(750),
            lead_window: Duration::from_millis(1200),
            answer_after: Duration::from_secs(2),
            pool_status_every: Duration::from_secs(1),
            // At 5 ms a write this is 12 800 writes a second, more than an API server takes.
            writes_in_flight_max: 64,
            directory_pause: Duration::ZERO,
        }
    }

    /// A cluster where each namespace has its own paths.
    pub fn cluster() -> Self {
        Self {
            path_grants: PathGrants::Namespaces(BTreeMap::new()),
            node_match: NodeMatch::Labels,
            node_ports: Some(PortRange { start: 30000, end: 32767 }),
            // Replicas that were all started again are found by their name, which takes workers and their resolvers some seconds.
            // Whether a worker that was heard is gone is not waited for: witnesses say it (`panel`).
            lead_window: Duration::from_secs(6),
            // 1000 messages a second in all. Else each of thousands of streams that come at once is a message to each of hundreds of
            // workers, and nothing else gets done.
            directory_pause: Duration::from_millis(1),
            ..Self::standalone()
        }
    }
}
