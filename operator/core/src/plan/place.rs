//! Where a stream goes: the worker, and the numbers on its node. Those who wait for a number are served in their order.

use std::collections::BTreeSet;

use crate::event::Now;
use crate::ids::{NodeName, PoolName, Ports, Uid};
use crate::ledger::{Held, Ledger, Owner, Quarantine, QuarantineCause, Shape};
use crate::node::Node;
use crate::reason::Reason;
use crate::spec::PoolSpec;
use crate::state::State;
use crate::status::RtpPorts;
use crate::stream::{Blocked, Queue, Stream};

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: NodeName,
    pub(super) lease: Option<(PoolName, Ports)>,
}

/// What may be leased to a stream at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Its own cooling number only: others wait for longer.
    Own,
    /// Anything.
    Any,
}

impl State {
    /// Finds a place for a stream, or says what it waits for. Takes nothing.
    pub(super) fn place(&self, uid: &Uid, now: Now) -> Result<Place, Blocked> {
        let stream = &self.streams[uid];
        let Some(shape) = stream.shape() else {
            let node = self.candidates(stream, None).into_iter().next();
            return node.map(|node| Place { node, lease: None }).ok_or_else(|| self.no_worker(stream, None));
        };
        let pool = self.pool_for(stream)?;
        let candidates = self.candidates(stream, Some(&pool));
        if candidates.is_empty() {
            return Err(self.no_worker(stream, Some(&pool)));
        }
        let queue = self.queue_for(stream, &pool, shape);
        let first = self.queues.get(&queue).and_then(|waiting| waiting.first());
        let turn =
            if first.is_some_and(|(arrival, _)| *arrival < stream.arrival) { Turn::Own } else { Turn::Any };
        match self.find_ports(stream, &candidates, (&pool, shape), turn, now) {
            Some((node, ports)) => Ok(Place { node, lease: Some((pool, ports)) }),
            None if self.is_looked_at(&candidates) => Err(self.until_looked_at(stream, &pool, &queue)),
            None => {
                let (reason, message) = self.why_no_ports(&pool, shape, &candidates);
                Err(Blocked::Ports { queue, reason, message })
            }
        }
    }

    fn is_looked_at(&self, nodes: &[NodeName]) -> bool {
        nodes.iter().any(|name| self.nodes.get(name).is_some_and(Node::is_looked_at))
    }

    /// What a stream waits for that would have a number if it were known who holds it. It is a moment: who is in a queue stays there.
    fn until_looked_at(&self, stream: &Stream, pool: &PoolName, queue: &Queue) -> Blocked {
        match &stream.blocked {
            Some(waits @ Blocked::Ports { queue: own, .. }) if own == queue => waits.clone(),
            _ => Blocked::Worker {
                reason: Reason::AwaitingInventory,
                message: format!(
                    "a worker is asked who holds the numbers of the PortPool {pool} on its node"
                ),
            },
        }
    }

    /// Whether any worker could take a stream, ports aside.
    pub(super) fn has_candidates(&self, uid: &Uid) -> bool {
        let stream = &self.streams[uid];
        let pool = stream.shape().and_then(|_| self.pool_for(stream).ok());
        !self.candidates(stream, pool.as_ref()).is_empty()
    }

    /// Whether the worker of `node` can be given streams.
    pub(super) fn can_take(&self, node: &NodeName) -> bool {
        self.worker(node).is_some_and(|worker| worker.can_take())
    }

    /// Numbers of `pool` became free: whoever has waited longest gets them. If the first of a queue can't be served, none
    /// of it can.
    pub(super) fn serve_waiting(&mut self, pool: &PoolName, now: Now) {
        let head =
            |state: &Self, queue: &Queue| Some((state.queues.get(queue)?.first()?.clone(), queue.clone()));
        let of_pool = self.queues.keys().filter(|queue| queue.pool == *pool);
        let mut heads: BTreeSet<_> = of_pool.filter_map(|queue| head(self, queue)).collect();
        while let Some(((_, uid), queue)) = heads.pop_first() {
            match self.place(&uid, now) {
                Ok(place) => {
                    self.block(&uid, None, now);
                    self.take(&uid, place, now);
                }
                Err(blocked) if blocked.queue() == Some(&queue) => {
                    self.tell_waiting(&queue, &blocked, now);
                    continue;
                }
                // It waits for something else by now, or for another pool's numbers.
                Err(blocked) => self.block(&uid, Some(blocked), now),
            }
            heads.extend(head(self, &queue));
        }
    }

    /// What keeps one number from those who wait for it changes; that a pool is exhausted is said once.
    fn tell_waiting(&mut self, queue: &Queue, blocked: &Blocked, now: Now) {
        let waiting = self.queues.get(queue).filter(|_| queue.exact().is_some());
        let waiting: Vec<Uid> = waiting.into_iter().flatten().map(|(_, uid)| uid.clone()).collect();
        for uid in waiting {
            self.block(&uid, Some(blocked.clone()), now);
        }
    }

    /// Workers that may take a stream: the preferred node, the one it was on, those that no rollout will end, then the one with the
    /// fewest claims.
    pub(crate) fn candidates(&self, stream: &Stream, pool: Option<&PoolName>) -> Vec<NodeName> {
        let Some(spec) = &stream.spec else { return Vec::new() };
        let former = stream.moving.as_ref().map(|moving| &moving.from_node);
        let former = former.or(stream.stored.assignment.as_ref().map(|assignment| &assignment.node));
        let mut found: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| self.may_take(node) && self.matches(node, &spec.node_selector))
            .filter(|(_, node)| pool.is_none_or(|pool| node.ledger.shelf(pool).is_some()))
            .filter(|(_, node)| !stream.is_shared() || node.has_shared_port())
            .map(|(name, node)| {
                let preferred = spec.preferred_node.as_ref() == Some(name);
                let newest =
                    node.worker.as_ref().is_some_and(|worker| worker.template == self.newest_template);
                ((!preferred, former != Some(name), !newest, node.claims.len()), name.clone())
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    pub(crate) fn may_take(&self, node: &Node) -> bool {
        let open = node.object.as_ref().is_none_or(|object| object.ready && !object.unschedulable);
        open && node.worker.as_ref().is_some_and(|worker| worker.can_take())
    }

    /// The pool that a stream leases from.
    fn pool_for(&self, stream: &Stream) -> Result<PoolName, Blocked> {
        let blocked = |reason, message| Blocked::Pool { reason, message };
        let asked = stream.spec.as_ref().and_then(|spec| spec.pool.clone());
        let name = match asked {
            Some(name) => name,
            None => self.default_pool().ok_or_else(|| {
                let message = "no PortPool has spec.default: true; make one, or name one in spec.portPoolRef"
                    .to_owned();
                blocked(Reason::PoolNotFound, message)
            })?,
        };
        let Some(pool) = self.pools.get(&name) else {
            let message =
                format!("there is no PortPool {name}; make it, or name another one in spec.portPoolRef");
            return Err(blocked(Reason::PoolNotFound, message));
        };
        let Some(spec) = pool.accepted() else {
            let message = format!("the PortPool {name} is not accepted itself; see its conditions");
            return Err(blocked(Reason::PoolNotAccepted, message));
        };
        let namespace = stream.namespace();
        if !spec.allows(namespace) {
            let message =
                format!("the PortPool {name} does not list namespace {namespace} in spec.allowedNamespaces");
            return Err(blocked(Reason::NamespaceNotAllowed, message));
        }
        Ok(name)
    }

    /// The pool for streams that name none: of several the oldest.
    fn default_pool(&self) -> Option<PoolName> {
        let defaults =
            self.pools.iter().filter(|(_, pool)| pool.spec.as_ref().is_some_and(|spec| spec.default));
        defaults.min_by_key(|(_, pool)| (pool.created_unix_ms, &pool.uid)).map(|(name, _)| name.clone())
    }

    fn queue_for(&self, stream: &Stream, pool: &PoolName, shape: Shape) -> Queue {
        let node_selector = stream.spec.as_ref().map(|spec| spec.node_selector.clone()).unwrap_or_default();
        Queue { pool: pool.clone(), shape, node_selector }
    }

    /// Its own cooling numbers, else the same numbers on another node, else the next ones, else quarantined ones that
    /// the last scan saw free.
    fn find_ports(
        &self,
        stream: &Stream,
        candidates: &[NodeName],
        (pool, shape): (&PoolName, Shape),
        turn: Turn,
        now: Now,
    ) -> Option<(NodeName, Ports)> {
        let owner = Owner { namespace: stream.name.namespace.clone(), path: stream.path()?.clone() };
        let first = |choose: &dyn Fn(&Node) -> Option<Ports>| {
            candidates.iter().find_map(|name| {
                let node = self.nodes.get(name).filter(|node| !node.is_looked_at())?;
                Some((name.clone(), choose(node)?))
            })
        };
        let own = first(&|node| node.ledger.own(pool, shape, &owner));
        if own.is_some() || turn == Turn::Own {
            return own;
        }
        let former = stream.stored.ports.as_ref().filter(|_| stream.moving.is_some());
        let former = former.and_then(RtpPorts::leased).map(|(_, ports)| ports);
        let former = former.filter(|ports| shape.takes(*ports));
        first(&|node| {
            former
                .filter(|ports| node.ledger.is_free(pool, *ports))
                .or_else(|| node.ledger.choose(pool, shape))
        })
        .or_else(|| first(&|node| node.ledger.choose_clean(pool, shape, now.mono)))
    }

    fn no_worker(&self, stream: &Stream, pool: Option<&PoolName>) -> Blocked {
        let selector = stream.spec.as_ref().is_some_and(|spec| !spec.node_selector.is_empty());
        let is_coming = |node: &Node| node.worker.as_ref().is_some_and(|worker| worker.is_coming());
        let none_is_ready = !self.nodes.values().any(|node| self.may_take(node));
        let selects =
            |node: &Node| stream.spec.as_ref().is_some_and(|spec| self.matches(node, &spec.node_selector));
        let some_match = self.nodes.values().any(|node| self.may_take(node) && selects(node));
        // What is told already stands until the stream is placed, which is a moment later.
        let told = matches!(stream.blocked, Some(Blocked::Worker { reason: Reason::NoWorker, .. }));
        let (reason, message) = match (selector, pool) {
            _ if none_is_ready && !told && self.nodes.values().any(is_coming) => {
                (Reason::AwaitingInventory, "a worker has come and is asked what its node holds".to_owned())
            }
            _ if none_is_ready => (Reason::NoWorker, "no worker is ready".to_owned()),
            _ if stream.is_shared() && some_match => {
                let message =
                    "no ready worker that may take it has a port for shared rtp streams; start workers with \
                               --rtp-shared, or remove spec.source.rtp.shared to have a port leased"
                        .to_owned();
                (Reason::NoSharedPort, message)
            }
            (true, _) => {
                (Reason::NoWorker, "no ready worker's node matches spec.placement.nodeSelector".to_owned())
            }
            (false, Some(pool)) => {
                let message =
                    format!("no ready worker's node matches spec.nodeSelector of the PortPool {pool}");
                (Reason::NoWorker, message)
            }
            (false, None) => (Reason::NoWorker, "no worker is ready".to_owned()),
        };
        Blocked::Worker { reason, message }
    }

    /// Why none of `candidates` has numbers for a stream, and what can be done.
    fn why_no_ports(&self, pool: &PoolName, shape: Shape, candidates: &[NodeName]) -> (Reason, String) {
        let exhausted = |what| (Reason::PoolExhausted, self.exhausted(pool, what, candidates));
        match shape {
            Shape::Single => exhausted("number"),
            Shape::Pair => exhausted("pair of an even and an odd number"),
            Shape::Exact(ports) => self.why_not_these(pool, ports, candidates),
        }
    }

    /// What keeps the one number that a stream must have, on the node that would do best.
    fn why_not_these(&self, pool: &PoolName, ports: Ports, candidates: &[NodeName]) -> (Reason, String) {
        let ledgers = || candidates.iter().filter_map(|name| Some((name, &self.nodes.get(name)?.ledger)));
        let lacks = |ledger: &Ledger, port: u16| {
            ledger.shelf(pool).is_none_or(|shelf| !shelf.numbers().contains(port))
        };
        let held = ledgers().filter(|(_, ledger)| !ports.numbers().any(|port| lacks(ledger, port))).find_map(
            |(node, ledger)| ports.numbers().find_map(|port| Some((node, port, ledger.held(port)?))),
        );
        if let Some((node, port, held)) = held {
            return (Reason::PortTaken, format!("port {port} on node {node} {}", self.holder_of(held, pool)));
        }
        let outside = ledgers().find_map(|(_, ledger)| ports.numbers().find(|port| lacks(ledger, *port)));
        let Some(port) = outside else {
            let message =
                format!("port {} is about to be leased to a stream that has waited longer", ports.rtp);
            return (Reason::PortTaken, message);
        };
        let spec = self.pools.get(pool).and_then(|pool| pool.spec.as_ref());
        let in_ranges =
            |spec: &PoolSpec| spec.ranges.iter().any(|range| (range.start..=range.end).contains(&port));
        let why = match spec {
            Some(spec) if spec.numbers.contains(port) => "is one of the worker's own listeners, not a number",
            Some(spec) if in_ranges(spec) => "is in spec.reserved",
            Some(_) | None => "lies outside spec.ranges",
        };
        let message = format!(
            "port {port} {why} of the PortPool {pool}; write another spec.source.rtp.port, or change the pool: it is served at once"
        );
        (Reason::PortOutside, message)
    }

    /// Who has a number that is not free, and when it will be.
    fn holder_of(&self, held: &Held, pool: &PoolName) -> String {
        match held {
            Held::Leased { claims, pool: _, beneath: _ } => {
                let claim = claims.first().and_then(|key| self.claims.get(key));
                let name = claim.and_then(|claim| claim.name.as_ref());
                let name = name.map_or("a stream that is gone".to_owned(), |name| format!("stream {name}"));
                format!(
                    "is leased to {name}; delete that one, or write another spec.source.rtp.port. This one is served as soon as the \
                     port is free"
                )
            }
            Held::Cooling { until: _, owner: _, pool: _ } => {
                format!("rests for the cooldown of the PortPool {pool}; it is leased as soon as that is over")
            }
            Held::Quarantined(Quarantine { cause: QuarantineCause::Leak, .. }) => {
                "is still open in our worker, which was told to close it".to_owned()
            }
            Held::Quarantined(Quarantine { cause: QuarantineCause::Foreign(_), owner, .. }) => format!(
                "is held by {owner}; end that process, or write another spec.source.rtp.port. This one is served as soon as the port is \
                 seen to be free"
            ),
        }
    }

    fn exhausted(&self, pool: &PoolName, what: &str, candidates: &[NodeName]) -> String {
        let mut users: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
        for (namespace, count) in
            candidates.iter().filter_map(|name| self.nodes.get(name)?.users.get(pool)).flatten()
        {
            *users.entry(namespace).or_default() += count;
        }
        let most = users.into_iter().max_by_key(|(_, count)| *count);
        let most = most.map_or(String::new(), |(namespace, count)| {
            format!("; namespace {namespace} holds most, {count} numbers")
        });
        format!(
            "no {what} of the PortPool {pool} is free{most}. Grow its spec.ranges: the first in line is served at once"
        )
    }
}
