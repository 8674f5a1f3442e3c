//! The cluster's own networks: where Services, pods and nodes are, sent to every worker whole, so that none connects to a device
//! there. They are known whole before anything is sent, for a leader begins with lists; and greeting comes before telling, so that a
//! worker knows them before it has the first stream of a session.

use std::sync::Arc;

use ipnet::IpNet;

use crate::action::{ClusterNetworks, Command, Encoded};
use crate::event::Now;
use crate::ids::NodeName;
use crate::limits;
use crate::state::State;
use crate::timers::Timer;

impl State {
    /// Looks at all of them when one may have changed, but not each time that one of many nodes comes. Sessions that have others are
    /// greeted anew.
    pub(super) fn update_networks(&mut self, now: Now) {
        if !self.dirty.networks || self.timers.is_set(&Timer::Networks) {
            return;
        }
        self.dirty.networks = false;
        let networks = self.cluster_networks();
        if networks == *self.networks {
            return;
        }
        self.networks = Arc::new(networks);
        self.dirty.nodes.extend(self.sessions.values().cloned());
        self.timers.set(Timer::Networks, now.mono + limits::NETWORKS_PAUSE);
    }

    /// Sends them to a worker that knows of such, if it was told others. One that an earlier leader told of some, where there are none
    /// any more, goes on keeping from those.
    pub(super) fn send_networks(&mut self, name: &NodeName) {
        let networks = self.networks.clone();
        let Some(worker) = self.worker_mut(name).filter(|worker| worker.knows_networks) else { return };
        let Some(session) = &mut worker.session else { return };
        if session.networks != networks {
            session.networks = networks.clone();
            self.command(name, Command::Networks(networks));
        }
    }

    /// Neighbours become one network, as pods of many nodes often do.
    fn cluster_networks(&self) -> ClusterNetworks {
        let services = self.service_cidrs.values().flatten().copied().collect();
        let nodes = || self.nodes.values().filter_map(|node| node.object.as_ref());
        let pods = nodes().flat_map(|node| node.pods.iter().copied()).collect();
        let nodes = nodes().flat_map(|node| node.own.iter().map(|address| IpNet::from(*address))).collect();
        let [services, pods, nodes] = [services, pods, nodes].map(|all: Vec<IpNet>| IpNet::aggregate(&all));
        ClusterNetworks { services, pods, nodes, encoded: Encoded::default() }
    }
}
