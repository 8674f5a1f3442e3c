//! What is said about a pool. Its numbers change with each stream, so it is written at most once in a while.

use std::collections::BTreeSet;

use crate::action::{Action, ObjectRef};
use crate::event::{Holder, Now};
use crate::ids::{NodeName, ObjectName, PoolName, UnixTime};
use crate::ledger::{Held, QuarantineCause};
use crate::limits;
use crate::news;
use crate::node::Node;
use crate::plan::status::condition;
use crate::pool::Pool;
use crate::port_set::PortSet;
use crate::reason::Reason;
use crate::spec::PoolSpec;
use crate::state::{State, Write, unix};
use crate::status::{ConditionType, PoolStatus, Problem, ProblemSource, WorstNode};
use crate::timers::Timer;

impl State {
    /// Writes the status of each pool that changed, as often as is allowed.
    pub(super) fn write_pools(&mut self, now: Now) {
        for name in std::mem::take(&mut self.dirty.pools) {
            let timer = Timer::PoolStatus(name.clone());
            let Some(pool) = self.pools.get(&name) else { continue };
            // Its end, or the timer, brings it back.
            if pool.write.is_some() || self.timers.is_set(&timer) {
                continue;
            }
            let status = Box::new(self.pool_status(&name, pool, now));
            // What was passed over for its age is asked after, by a write that may change nothing.
            if status == pool.stored && pool.passed_over.is_none() {
                continue;
            }
            let (uid, resource_version) = (pool.uid.clone(), pool.resource_version);
            let object = ObjectRef::Pool { uid: uid.clone(), name: name.clone() };
            let news = news::transitions(&object, &pool.stored.conditions, &status.conditions);
            let id = self.next_write();
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.write = Some(id);
            }
            let write = Write::Pool {
                name: name.clone(),
                uid: uid.clone(),
                replaces: resource_version,
                status: status.clone(),
                news,
            };
            self.writes.insert(id, write);
            self.timers.set(timer, now.mono + self.config.pool_status_every);
            self.outbox.push(Action::WritePool { id, uid, name, resource_version, status });
        }
    }

    fn pool_status(&self, name: &PoolName, pool: &Pool, now: Now) -> PoolStatus {
        let mut status = PoolStatus { observed_generation: pool.generation, ..PoolStatus::default() };
        for (node_name, node) in &self.nodes {
            status.draining += node.ledger.draining(name).map_or(0, |ports| count(ports.len()));
            let Some(shelf) = node.ledger.shelf(name).filter(|_| node.worker.is_some()) else { continue };
            let (tally, free) = (shelf.tally(), shelf.free());
            status.nodes += 1;
            status.capacity += shelf.capacity();
            status.free += free;
            status.leased += tally.leased;
            status.cooling += tally.cooling;
            status.quarantined += tally.quarantined;
            if status.worst_node.as_ref().is_none_or(|worst| free < worst.free) {
                status.worst_node = Some(WorstNode { name: node_name.clone(), free });
            }
        }
        status.blocked_by = self.blockers(name);
        status.problems = self.problems(name, pool, now);
        self.say_conditions(name, pool, &mut status, unix(now));
        status
    }

    /// Streams with numbers outside the ranges.
    fn blockers(&self, name: &PoolName) -> Vec<ObjectName> {
        let ports = self.nodes.values().flat_map(|node| {
            let ports = node.ledger.draining(name).into_iter().flatten();
            ports.filter_map(move |port| node.ledger.held(*port))
        });
        let claims = ports.filter_map(|held| match held {
            Held::Leased { claims, pool: _, beneath: _ } => claims.first(),
            Held::Cooling { .. } | Held::Quarantined(_) => None,
        });
        let names: BTreeSet<ObjectName> = claims
            .filter_map(|key| self.claims.get(key)?.name.clone())
            .take(2 * limits::STATUS_LIST_MAX)
            .collect();
        names.into_iter().take(limits::STATUS_LIST_MAX).collect()
    }

    /// Numbers in quarantine, and those of ours that a foreign socket shares.
    fn problems(&self, name: &PoolName, pool: &Pool, now: Now) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (node_name, node) in &self.nodes {
            let Some(shelf) = node.ledger.shelf(name) else { continue };
            for &port in node.ledger.quarantined() {
                let Some(Held::Quarantined(quarantine)) = node.ledger.held(port) else { continue };
                if shelf.numbers().contains(port) && problems.len() < limits::STATUS_LIST_MAX {
                    let (source, owner) = match quarantine.cause {
                        QuarantineCause::Foreign(source) => (source, quarantine.owner.clone()),
                        QuarantineCause::Leak => (ProblemSource::Leak, leaked(node, port)),
                    };
                    let since = quarantine.since;
                    problems.push(Problem { node: node_name.clone(), port, source, owner, since });
                }
            }
            for ((port, _), holder) in &node.holders {
                let held = node.ledger.held(*port);
                let shared = matches!(held, Some(Held::Leased { .. } | Held::Cooling { .. }));
                let known = problems.last().is_some_and(|last| last.node == *node_name && last.port == *port);
                if shared
                    && !known
                    && shelf.numbers().contains(*port)
                    && problems.len() < limits::STATUS_LIST_MAX
                {
                    problems.push(shared_problem(node_name, *port, holder, pool, unix(now)));
                }
            }
        }
        problems
    }

    fn say_conditions(&self, name: &PoolName, pool: &Pool, status: &mut PoolStatus, now: UnixTime) {
        // Who waits for one number alone does not wait for the pool to grow.
        let queues = self.queues.iter().filter(|(queue, _)| queue.pool == *name && queue.exact().is_none());
        let waiting = queues.map(|(_, waiting)| waiting.len());
        let waiting: usize = waiting.sum();
        let used = status.capacity - status.free;
        // Where a worker is asked who holds new numbers, those who wait are served in a moment.
        let has_it = |node: &&Node| node.ledger.shelf(name).is_some();
        let is_looked_at = self.nodes.values().filter(has_it).any(Node::is_looked_at);
        let exhausted = status.capacity > 0 && (status.free == 0 || (waiting > 0 && !is_looked_at));
        let nearly = pool.spec.as_ref().map_or(100, |spec| u32::from(spec.nearly_exhausted_percent));
        let (capacity, draining, nodes) = (status.capacity, status.draining, status.nodes);
        let held = held_by_others(&status.problems);
        let mut say = |kind: ConditionType, value: bool, reason: Reason, message: String| {
            let before = pool.stored.conditions.get(&kind);
            // Alarms are there while they are true.
            if value || !kind.is_alarm() {
                let condition = condition(before, value, reason, message, pool.generation, now);
                status.conditions.insert(kind, condition);
            }
        };
        let (accepted, reason, message) = accepted(pool);
        say(ConditionType::Accepted, accepted, reason, message.clone());
        let ready = match (pool.accepted().is_some(), nodes) {
            (false, _) => (false, reason, message),
            (true, 0) => (false, Reason::NoNode, "no node that it is for has a worker".to_owned()),
            (true, _) => (true, Reason::Available, "numbers can be leased".to_owned()),
        };
        say(ConditionType::Ready, ready.0, ready.1, ready.2);
        let message =
            format!("{used} of {capacity} numbers are in use and {waiting} streams wait; grow spec.ranges");
        say(ConditionType::Exhausted, exhausted, Reason::PoolExhausted, message);
        let above = capacity > 0 && used * 100 >= capacity * nearly;
        let message =
            format!("{nearly} % or more of the numbers are in use; grow spec.ranges before they run out");
        say(ConditionType::NearlyExhausted, above, Reason::AboveThreshold, message);
        let cramped = self.cramped.iter();
        let cramped = cramped.filter(|(cramped, _)| cramped.pool == *name && self.has_no_room(cramped));
        let cramped: usize = cramped.map(|(_, waiting)| waiting.len()).sum();
        let room = match cramped {
            0 => String::new(),
            _ => format!("; for {cramped} of the streams no other is free: grow spec.ranges"),
        };
        let message = format!("numbers outside spec.ranges are still leased or cooling; see blockedBy{room}");
        say(ConditionType::Draining, draining > 0, Reason::LeasesOutside, message);
        say(ConditionType::Conflicted, held.is_some(), Reason::ForeignHolder, held.unwrap_or_default());
        if let Some(spec) = &pool.spec {
            let (overlaps, message) = self.ephemeral_overlap(name, spec);
            say(ConditionType::EphemeralOverlap, overlaps, Reason::EphemeralRange, message);
            let node_ports = self.config.node_ports.map(|range| PortSet::from_ranges([range]));
            let overlaps = node_ports.is_some_and(|range| range.intersects(&spec.numbers));
            let message =
                "spec.ranges meet the ports that Kubernetes gives to Services of type NodePort".to_owned();
            say(ConditionType::NodePortOverlap, overlaps, Reason::NodePortRange, message);
        }
    }

    /// Whether some node's kernel may hand out numbers of the pool by itself.
    fn ephemeral_overlap(&self, name: &PoolName, spec: &PoolSpec) -> (bool, String) {
        for (node_name, node) in &self.nodes {
            let Some(range) = node.host.ephemeral.filter(|_| node.ledger.shelf(name).is_some()) else {
                continue;
            };
            // Most pools lie outside it altogether: two comparisons tell.
            if !spec.ranges.iter().any(|own| own.start <= range.end && range.start <= own.end) {
                continue;
            }
            let handed_out = node.host.handed_out(&spec.numbers);
            if !handed_out.is_empty() {
                let message = format!(
                    "node {node_name} hands out ports {}-{} by itself (net.ipv4.ip_local_port_range); move spec.ranges, or run \
                     there: {}",
                    range.start,
                    range.end,
                    node.host.reserving(&handed_out)
                );
                return (true, message);
            }
        }
        (false, String::new())
    }
}

fn accepted(pool: &Pool) -> (bool, Reason, String) {
    match (&pool.refusal, &pool.overlap) {
        (Some(refusal), _) => (false, refusal.reason, refusal.message.clone()),
        (None, Some(overlap)) => (false, Reason::Overlap, overlap.clone()),
        (None, None) => (true, Reason::Accepted, "the spec is in force".to_owned()),
    }
}

/// What a person is told of a number that our own worker has open for no stream. One that it can close is in no status for long.
fn leaked(node: &Node, port: u16) -> String {
    let worker = node.worker.as_ref().map_or("", |worker| worker.name.as_str());
    format!(
        "the worker {worker} has a socket on {port} that no stream has, and was told to close it. If this stays, it can't: delete its pod \
         (runbook PenstockLeakRepaired)"
    )
}

/// What a person is told of numbers that others hold: the first of them with its holder, and how many more there are.
fn held_by_others(problems: &[Problem]) -> Option<String> {
    let others = || problems.iter().filter(|problem| problem.source != ProblemSource::Leak);
    let first = others().next()?;
    let more = match others().count() - 1 {
        0 => String::new(),
        more => format!(" and {more} more are held by others (see problems)"),
    };
    Some(format!(
        "port {} on node {} is held by {}{more}; other numbers are leased. End that process, or list the port in spec.reserved",
        first.port, first.node, first.owner
    ))
}

fn shared_problem(node: &NodeName, port: u16, holder: &Holder, pool: &Pool, now: UnixTime) -> Problem {
    let before = pool.stored.problems.iter().find(|problem| problem.node == *node && problem.port == port);
    let since = before.map_or(now, |before| before.since);
    Problem { node: node.clone(), port, source: ProblemSource::HostScan, owner: holder.describe(), since }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a node has 65536 ports")
}
