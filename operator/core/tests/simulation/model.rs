//! What must be so once nothing goes wrong any more: a plain reading of the design, made from the objects and from what
//! is really bound, with nothing of the core in it.

use std::collections::{BTreeMap, BTreeSet};

use operator_core::config::{NodeMatch, PathGrants};
use operator_core::ids::{NodeName, ObjectName, Protocol, StreamRef};
use operator_core::spec::{PoolObject, PoolSpec, RtpSource, Shrink, Source, StreamObject, StreamSpec};
use operator_core::status::{ConditionType, Phase};

use crate::replica::recorded;
use crate::worker::{LISTENERS, Socket};
use crate::world::World;

/// A claim as the API shows it.
struct Claim<'a> {
    stream: StreamRef,
    pod: &'a str,
    node: NodeName,
    ports: Vec<u16>,
}

impl World {
    /// Everything that is not as it should be.
    pub(crate) fn judge_end(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let claims = self.claims();
        self.judge_leader(&mut wrong);
        self.judge_bound(&claims, &mut wrong);
        self.judge_streams(&claims, &mut wrong);
        self.judge_pools(&claims, &mut wrong);
        self.judge_moves(&claims, &mut wrong);
        self.judge_directory(&mut wrong);
        wrong
    }

    fn claims(&self) -> Vec<Claim<'_>> {
        let streams = self.api.objects.streams.values();
        let claim = |object: &'_ StreamObject| recorded(&object.uid, &object.status);
        streams
            .filter_map(|object| {
                let (stream, (_, node, ports)) = claim(object)?;
                let pod = &*object.status.assignment.as_ref()?.pod_uid;
                Some(Claim { stream, pod, node: NodeName::from(node), ports })
            })
            .collect()
    }

    fn judge_leader(&self, wrong: &mut Vec<String>) {
        let leaders = self.replicas.iter().filter(|replica| replica.leading).count();
        if leaders != 1 {
            wrong.push(format!("{leaders} operators lead"));
        }
    }

    /// No port is leaked: what is bound is what is claimed, on the worker that it is claimed for.
    fn judge_bound(&self, claims: &[Claim<'_>], wrong: &mut Vec<String>) {
        let mut claimed: BTreeMap<(NodeName, u16), StreamRef> = BTreeMap::new();
        for claim in claims {
            for &port in &claim.ports {
                if let Some(other) = claimed.insert((claim.node.clone(), port), claim.stream.clone()) {
                    wrong.push(format!(
                        "{port} of {} is claimed for {other} and {}",
                        claim.node, claim.stream
                    ));
                }
            }
        }
        let mut bound: BTreeMap<(NodeName, u16), StreamRef> = BTreeMap::new();
        for host in &self.hosts {
            for (&(port, protocol), socket) in &host.sockets {
                match socket {
                    Socket::Media(_, stream) => {
                        bound.insert((host.name.clone(), port), stream.clone());
                    }
                    Socket::Leak(owner, stream) => {
                        wrong.push(format!(
                            "{port}/{protocol} of {} is leaked by worker {owner} ({stream:?})",
                            host.name
                        ));
                    }
                    Socket::Thief(_) => {}
                }
            }
        }
        for (key, stream) in &bound {
            if claimed.get(key) != Some(stream) {
                wrong.push(format!(
                    "{} of {} is bound for {stream}, claimed for {:?}",
                    key.1,
                    key.0,
                    claimed.get(key)
                ));
            }
        }
        for (key, stream) in &claimed {
            if bound.get(key) != Some(stream) {
                wrong.push(format!(
                    "{} of {} is claimed for {stream}, bound for {:?}",
                    key.1,
                    key.0,
                    bound.get(key)
                ));
            }
        }
        for worker in self.workers.iter().filter(|worker| worker.alive) {
            let running: BTreeSet<StreamRef> =
                worker.running.iter().map(|(uid, run)| StreamRef::new(uid.clone(), run.epoch)).collect();
            let mine =
                claims.iter().filter(|claim| claim.pod == &*worker.pod_uid).map(|claim| claim.stream.clone());
            let mine: BTreeSet<StreamRef> = mine.collect();
            for stream in running.symmetric_difference(&mine) {
                wrong.push(format!(
                    "worker {} {} {stream}, which the record {}",
                    worker.index,
                    if running.contains(stream) { "runs" } else { "does not run" },
                    if mine.contains(stream) { "gives to it" } else { "does not give to it" },
                ));
            }
        }
    }

    fn judge_streams(&self, claims: &[Claim<'_>], wrong: &mut Vec<String>) {
        for object in self.api.objects.streams.values() {
            let Ok(spec) = &object.spec else { continue };
            let status = &object.status;
            let has_claim = status.assignment.is_some();
            let ready = matches!(status.phase, Phase::Ready | Phase::Live);
            let told = status.conditions.get(&ConditionType::Ready).is_some_and(|ready| ready.status);
            if ready != told || (ready && !has_claim) {
                wrong.push(format!(
                    "{}: phase {:?}, Ready {told}, claimed {has_claim}",
                    object.uid, status.phase
                ));
            }
            if status.observed_generation != object.generation {
                wrong.push(format!("{}: generation {} is not observed", object.uid, object.generation));
            }
            let live = self
                .workers
                .iter()
                .any(|worker| worker.alive && worker.running.get(&object.uid).is_some_and(|run| run.live));
            let expected = match self.obstacle(object, spec, claims) {
                Some(Obstacle::Path) => status.phase == Phase::Refused && !has_claim,
                Some(Obstacle::Paused) => status.phase == Phase::Paused && !has_claim,
                // A lease that was given under other rules goes on; a new one is not to be had.
                Some(Obstacle::NothingFits) => {
                    ready || (!has_claim && matches!(status.phase, Phase::Pending | Phase::Idle))
                }
                None if is_rtp(spec) && spec.release_after_idle.is_some() && !live => {
                    status.phase == Phase::Idle && !has_claim
                }
                None if self.lacks_secret(object, spec) => status.phase == Phase::Pending && has_claim,
                None => status.phase == if live { Phase::Live } else { Phase::Ready },
            };
            if !expected && spec.ttl_after_idle.is_none() {
                wrong.push(format!(
                    "{} {} is {:?} (live {live}), its obstacle {:?}: {:?}",
                    object.uid,
                    object.name,
                    status.phase,
                    self.obstacle(object, spec, claims),
                    status
                        .conditions
                        .iter()
                        .map(|(kind, c)| format!("{kind:?}={} {}: {}", c.status, c.reason, c.message))
                        .collect::<Vec<_>>(),
                ));
            }
        }
    }

    fn lacks_secret(&self, object: &StreamObject, spec: &StreamSpec) -> bool {
        let secret = spec.publish.token_secret.as_ref();
        let name = secret.map(|name| ObjectName::new(object.name.namespace.clone(), name.clone()));
        name.is_some_and(|name| !self.api.objects.secrets.contains_key(&name))
    }

    /// Why a stream can't be served, if it can't.
    fn obstacle(&self, object: &StreamObject, spec: &StreamSpec, claims: &[Claim<'_>]) -> Option<Obstacle> {
        let age = |object: &StreamObject| (object.created_unix_ms, object.uid.clone());
        if !self.grants(object, spec) {
            return Some(Obstacle::Path);
        }
        let rivals = self.api.objects.streams.values().filter(|other| {
            other.spec.as_ref().is_ok_and(|of| of.path == spec.path && self.grants(other, of))
        });
        if rivals.map(age).min() != Some(age(object)) {
            return Some(Obstacle::Path);
        }
        let shared = |spec: &StreamSpec| match &spec.source {
            Source::Rtp(rtp) if rtp.shared => rtp.ssrc,
            Source::Rtp(_) | Source::Push { .. } => None,
        };
        if shared(spec).is_some() {
            let rivals = self.api.objects.streams.values().filter(|other| {
                other.spec.as_ref().is_ok_and(|of| shared(of) == shared(spec) && self.grants(other, of))
            });
            if rivals.map(age).min() != Some(age(object)) {
                return Some(Obstacle::Path);
            }
        }
        if spec.paused {
            return Some(Obstacle::Paused);
        }
        let fits = |node: &&NodeName| self.matches(node, &spec.node_selector);
        let nodes: Vec<&NodeName> = self.hosts.iter().map(|host| &host.name).filter(fits).collect();
        let Source::Rtp(rtp @ RtpSource { shared: false, .. }) = &spec.source else {
            return nodes.is_empty().then_some(Obstacle::NothingFits);
        };
        if claims.iter().any(|claim| claim.stream.uid == object.uid && nodes.contains(&&claim.node)) {
            return None;
        }
        let Some(pool) = self.pool_of(object, spec) else { return Some(Obstacle::NothingFits) };
        let has_room = nodes.iter().any(|node| {
            self.matches(node, &pool.node_selector) && {
                let free = |port: u16| self.is_free(node, port, pool, claims);
                let may = |port: u16| rtp.port.is_none_or(|only| only == port);
                let fits = |port: u16| {
                    may(port) && free(port) && (!rtp.rtcp || (port.is_multiple_of(2) && free(port + 1)))
                };
                pool.numbers.iter().any(fits)
            }
        });
        (!has_room).then_some(Obstacle::NothingFits)
    }

    fn grants(&self, object: &StreamObject, spec: &StreamSpec) -> bool {
        let (space, path) = (&object.name.namespace, spec.path.as_str());
        path.strip_prefix(&**space).is_some_and(|rest| rest.starts_with('/'))
            || match &self.config.path_grants {
                PathGrants::All => true,
                PathGrants::Namespaces(grants) => grants
                    .get(space)
                    .is_some_and(|prefixes| prefixes.iter().any(|prefix| path.starts_with(&**prefix))),
            }
    }

    fn matches(&self, node: &NodeName, selector: &operator_core::spec::Selector) -> bool {
        if self.config.node_match == NodeMatch::All {
            return true;
        }
        let node = self.api.objects.nodes.get(node);
        node.is_some_and(|node| selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)))
    }

    fn is_free(&self, node: &NodeName, port: u16, pool: &PoolSpec, claims: &[Claim<'_>]) -> bool {
        let host = self.hosts.iter().find(|host| host.name == *node);
        let foreign = host.is_some_and(|host| {
            [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .any(|protocol| host.sockets.contains_key(&(port, protocol)))
        });
        let claimed = claims.iter().any(|claim| claim.node == *node && claim.ports.contains(&port));
        pool.numbers.contains(port) && !LISTENERS.contains(&port) && !foreign && !claimed
    }

    /// The pool that a stream leases from, if it may.
    fn pool_of(&self, object: &StreamObject, spec: &StreamSpec) -> Option<&PoolSpec> {
        let pools = &self.api.objects.pools;
        let pool = match &spec.pool {
            Some(name) => pools.get(name)?,
            None => {
                let defaults =
                    pools.values().filter(|pool| pool.spec.as_ref().is_ok_and(|spec| spec.default));
                defaults.min_by_key(|pool| (pool.created_unix_ms, pool.uid.clone()))?
            }
        };
        let spec = pool.spec.as_ref().ok()?;
        let allowed =
            spec.allowed_namespaces.is_empty() || spec.allowed_namespaces.contains(&object.name.namespace);
        (allowed && is_accepted(pool)).then_some(spec)
    }

    /// The numbers in a pool's status are what is really so.
    fn judge_pools(&self, claims: &[Claim<'_>], wrong: &mut Vec<String>) {
        let accepted: Vec<&PoolObject> =
            self.api.objects.pools.values().filter(|pool| is_accepted(pool)).collect();
        for (index, pool) in accepted.iter().enumerate() {
            let Ok(spec) = &pool.spec else { continue };
            let status = &pool.status;
            let on: Vec<&NodeName> = self
                .hosts
                .iter()
                .map(|host| &host.name)
                .filter(|node| self.matches(node, &spec.node_selector))
                .collect();
            for other in &accepted[..index] {
                let Ok(other_spec) = &other.spec else { continue };
                if on.iter().any(|node| self.matches(node, &other_spec.node_selector))
                    && spec.numbers.intersects(&other_spec.numbers)
                {
                    wrong.push(format!(
                        "{} {:?} and {} {:?} overlap and are both accepted",
                        pool.name, spec.ranges, other.name, other_spec.ranges
                    ));
                }
            }
            let inside = |claim: &&Claim<'_>| on.contains(&&claim.node);
            let numbers = claims.iter().filter(inside).flat_map(|claim| &claim.ports);
            let leased = numbers.filter(|port| spec.numbers.contains(**port)).count();
            let foreign: BTreeSet<(&NodeName, u16)> = self
                .hosts
                .iter()
                .filter(|host| on.contains(&&host.name))
                .flat_map(|host| {
                    host.sockets.iter().map(move |(&(port, _), socket)| (&host.name, port, socket))
                })
                .filter(|(_, port, socket)| {
                    matches!(socket, Socket::Thief(_)) && spec.numbers.contains(*port)
                })
                .filter(|(_, port, _)| !LISTENERS.contains(port))
                .map(|(node, port, _)| (node, port))
                .filter(|(node, port)| {
                    !claims.iter().any(|claim| claim.node == **node && claim.ports.contains(port))
                })
                .collect();
            let numbers = spec.numbers.iter().filter(|port| !LISTENERS.contains(port)).count() as u32;
            let capacity = numbers * on.len() as u32;
            let should = (on.len() as u32, capacity, leased as u32, 0, foreign.len() as u32);
            let is = (status.nodes, status.capacity, status.leased, status.cooling, status.quarantined);
            if should != is {
                wrong.push(format!(
                    "{}: (nodes, capacity, leased, cooling, quarantined) should be {should:?}, the status says {is:?}",
                    pool.name
                ));
            }
        }
    }

    /// Nobody stays on numbers that its pool has no longer, where that has it move and has others.
    fn judge_moves(&self, claims: &[Claim<'_>], wrong: &mut Vec<String>) {
        for object in self.api.objects.streams.values() {
            let (Some(ports), Ok(spec)) = (&object.status.ports, &object.spec) else { continue };
            let Source::Rtp(rtp) = &spec.source else { continue };
            let pool = ports.pool.as_ref().and_then(|pool| self.api.objects.pools.get(pool));
            let pool = pool.filter(|pool| is_accepted(pool));
            let Some(pool) = pool.and_then(|pool| pool.spec.as_ref().ok()) else { continue };
            let Some(claim) = claims.iter().find(|claim| claim.stream.uid == object.uid) else { continue };
            let numbers = || [Some(ports.rtp), ports.rtcp].into_iter().flatten();
            let inside = numbers().all(|port| pool.numbers.contains(port) && !LISTENERS.contains(&port));
            if let Some(previous) = ports.previous {
                let back = [Some(previous.rtp), previous.rtcp]
                    .into_iter()
                    .flatten()
                    .all(|port| pool.numbers.contains(port) && !LISTENERS.contains(&port));
                let arrived = self
                    .workers
                    .iter()
                    .filter(|worker| worker.alive)
                    .any(|worker| worker.running.get(&object.uid).is_some_and(|run| run.has_arrived()));
                if !arrived && self.matches(&claim.node, &pool.node_selector) && (back || !inside) {
                    wrong.push(format!("{} has {ports:?}, of {:?}", object.uid, pool.ranges));
                }
                continue;
            }
            let node = self.api.objects.nodes.get(&claim.node);
            let open = node.is_none_or(|node| node.ready && !node.unschedulable);
            let allowed = pool.allows(&object.name.namespace);
            let moves = matches!(pool.shrink, Shrink::Move { .. }) && rtp.port.is_none() && open && allowed;
            let free = |port: u16| self.is_free(&claim.node, port, pool, claims);
            let room = pool
                .numbers
                .iter()
                .any(|port| free(port) && (!rtp.rtcp || (port.is_multiple_of(2) && free(port + 1))));
            if moves && !inside && room && self.matches(&claim.node, &pool.node_selector) {
                wrong.push(format!("{} stays on {ports:?}, outside {:?}", object.uid, pool.ranges));
            }
        }
    }

    /// Each worker knows who has which path.
    fn judge_directory(&self, wrong: &mut Vec<String>) {
        for object in self.api.objects.streams.values() {
            let (Some(assignment), Ok(spec)) = (&object.status.assignment, &object.spec) else { continue };
            if object.status.phase != Phase::Ready && object.status.phase != Phase::Live {
                continue;
            }
            let stream = recorded(&object.uid, &object.status).map(|(stream, _)| stream);
            for worker in self.workers.iter().filter(|worker| worker.alive) {
                let entry = worker.directory.entries.get(&spec.path);
                let right = entry.is_some_and(|(of, owner)| {
                    Some(of) == stream.as_ref() && owner.as_ref() == Some(&assignment.worker)
                });
                if !right {
                    wrong.push(format!(
                        "worker {} believes {} to be at {entry:?}, it is {stream:?} on {}",
                        worker.index, spec.path, assignment.worker
                    ));
                }
            }
        }
        let declared: BTreeSet<_> = self
            .api
            .objects
            .streams
            .values()
            .filter_map(|object| Some(&object.spec.as_ref().ok()?.path))
            .collect();
        for worker in self.workers.iter().filter(|worker| worker.alive) {
            for path in worker.directory.entries.keys().filter(|path| !declared.contains(path)) {
                wrong.push(format!("worker {} believes in {path}, which nobody declares", worker.index));
            }
        }
    }
}

/// Why a stream can't be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// An older one has its path, or it is not granted.
    Path,
    Paused,
    /// No node, no pool or no number.
    NothingFits,
}

fn is_rtp(spec: &StreamSpec) -> bool {
    matches!(spec.source, Source::Rtp(_))
}

fn is_accepted(pool: &PoolObject) -> bool {
    pool.status.conditions.get(&ConditionType::Accepted).is_some_and(|accepted| accepted.status)
}
