//! Every invariant, as a list. Run after each step in tests, and now and then in production, where what is found is
//! counted. It looks at everything, so it costs what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::claim::{ClaimPhase, Stage};
use crate::ids::{NodeName, PoolName, StreamRef};
use crate::ledger::{Held, Shape};
use crate::node::Node;
use crate::state::{Dirty, State, Write, shared_ssrc};
use crate::stream::Blocked;
use crate::timers::Timer;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, by its name in `INVARIANTS`.
    pub invariant: &'static str,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

type Check = fn(&State) -> Vec<String>;

/// Each invariant, with what looks for its breach.
pub const INVARIANTS: &[(&str, Check)] = &[
    ("free, leased, cooling and quarantined numbers sum to the capacity, counted afresh", sums),
    ("each number of a claim is leased to it, each leased number has its claim", leases_and_claims),
    ("a number has two claims only until its node's inventory is seen", contests),
    ("no two claims that a worker was told of share a number", told_twice),
    ("a pair is an even number and the odd one above", pairs),
    ("a lease has numbers of a form that its source asks for", shapes),
    ("a claim is on record before its worker is told", told_on_record),
    ("a stream's epoch is at least that of each of its claims", epochs),
    ("the claim that a stream lives by is its newest and not to be closed", current_claims),
    ("a path has one stream with a claim to live by", paths),
    ("an SSRC of shared ports has one stream that a worker was told of", ssrcs),
    ("each stream has a claim, or a reason to have none", reasons),
    ("who waits for a number stands in the queue that is served", queues),
    ("who waits for a number is served when one is free", served),
    ("a cooling number has a deadline", cooling),
    ("a quarantined number's host is scanned again", quarantine),
    ("indexes of claims say what the claims say", indexes),
    ("each write under way is awaited by what it writes", writes),
    ("nothing is told to a worker whose inventory was not seen in this term", unknown_workers),
    ("a worker was told the cluster's own networks before the first stream of its session", networks),
    ("a listener's port is in no pool on its node", listeners),
    ("a replica that does not lead marks nothing for a plan", standing_by),
    ("a claim has a second lease only beside a first, once it may be known", seconds),
    ("a second lease is told of only where it is on record", second_told),
    (
        "two leases are open only where their pool has the first no longer, or media comes on the second",
        moves,
    ),
    ("a move with a deadline ends by it", move_deadlines),
    ("who waits for a number beside its own is served when one is free", cramped),
];

impl State {
    /// Looks for breaches of every invariant. A replica that does not lead holds nothing, so nothing can be wrong.
    pub fn check(&self) -> Vec<Violation> {
        let look = |&(invariant, check): &(&'static str, Check)| {
            check(self).into_iter().map(move |detail| Violation { invariant, detail })
        };
        INVARIANTS.iter().flat_map(look).collect()
    }

    fn leases(&self) -> impl Iterator<Item = (&NodeName, &Node, u16, &Vec<StreamRef>, &PoolName)> {
        self.nodes.iter().flat_map(|(name, node)| {
            node.ledger.all_held().iter().filter_map(move |(port, held)| match held {
                Held::Leased { claims, pool, beneath: _ } => Some((name, node, *port, claims, pool)),
                Held::Cooling { .. } | Held::Quarantined(_) => None,
            })
        })
    }
}

fn sums(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in &state.nodes {
        if !node.ledger.is_in_order() {
            found.push(format!("node {name}: what was released is not what was held and is free"));
        }
        for (pool, recounted) in node.ledger.recounted() {
            let shelf = &node.ledger.shelves()[&pool];
            if *shelf != recounted {
                found.push(format!(
                    "node {name}, pool {pool}: kept {:?}, counted {:?}",
                    shelf.tally(),
                    recounted.tally()
                ));
            }
            let free = shelf.numbers().iter().filter(|port| node.ledger.held(*port).is_none()).count();
            if u32::try_from(free) != Ok(shelf.free()) {
                found.push(format!(
                    "node {name}, pool {pool}: {free} numbers are free, {} by the sum",
                    shelf.free()
                ));
            }
        }
    }
    found
}

fn leases_and_claims(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, _, port, claims, _) in state.leases() {
        for key in claims {
            let claim = state.claims.get(key).filter(|claim| claim.node == *name);
            if !claim.is_some_and(|claim| claim.numbers().any(|number| number == port)) {
                found.push(format!("{port} on {name} is leased to {key}, which does not have it"));
            }
        }
    }
    for (key, claim) in &state.claims {
        for port in claim.numbers() {
            let held = state.nodes.get(&claim.node).and_then(|node| node.ledger.held(port));
            if !matches!(held, Some(Held::Leased { claims, pool: _, beneath: _ }) if claims.contains(key)) {
                found.push(format!("{key} has {port} on {}, which is {held:?}", claim.node));
            }
        }
    }
    found
}

fn contests(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in &state.nodes {
        let Some(worker) = &node.worker else { continue };
        let compared = worker.session.as_ref().is_some_and(|session| session.compared && !session.awaiting);
        if worker.known && compared {
            found.extend(node.ledger.contested().iter().map(|port| format!("{port} on {name}")));
        }
    }
    found
}

fn told_twice(state: &State) -> Vec<String> {
    let told = |key: &&StreamRef| {
        state.claims.get(*key).is_some_and(|claim| match claim.phase {
            ClaimPhase::Told | ClaimPhase::Acknowledged => true,
            ClaimPhase::Reserved
            | ClaimPhase::Writing(_)
            | ClaimPhase::Reading
            | ClaimPhase::Written
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => false,
        })
    };
    let shared = state.leases().filter(|(_, _, _, claims, _)| claims.iter().filter(told).count() > 1);
    shared.map(|(name, _, port, claims, _)| format!("{port} on {name}: {claims:?}")).collect()
}

fn pairs(state: &State) -> Vec<String> {
    let leases = state.claims.iter();
    let leases = leases.flat_map(|(key, claim)| claim.leases().map(move |(_, ports)| (key, ports)));
    let odd = leases
        .filter(|(_, ports)| ports.rtcp.is_some_and(|rtcp| ports.rtp % 2 != 0 || rtcp != ports.rtp + 1));
    odd.map(|(key, ports)| format!("{key} has {ports}")).collect()
}

fn shapes(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (key, claim) in &state.claims {
        let Some(source) = claim.lease.as_ref().and_then(|lease| lease.source.as_ref()) else { continue };
        let any = if source.rtcp { Shape::Pair } else { Shape::Single };
        let asked = source.fixed().map_or(any, Shape::Exact);
        for (_, ports) in claim.leases().filter(|(_, ports)| !asked.takes(*ports)) {
            found.push(format!("{key} has {ports} for {asked:?}"));
        }
    }
    found
}

fn told_on_record(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (key, claim) in &state.claims {
        match claim.phase {
            ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading => {
                if claim.told.is_some() || claim.assign.is_some() {
                    found.push(format!("{key} was told while {:?}", claim.phase));
                }
            }
            ClaimPhase::Written
            | ClaimPhase::Told
            | ClaimPhase::Acknowledged
            | ClaimPhase::Revoking(_)
            | ClaimPhase::Adopted { held: _ } => {}
        }
    }
    found
}

fn epochs(state: &State) -> Vec<String> {
    let above = state.claims.iter().filter(|(key, claim)| {
        let settled = !matches!(claim.phase, ClaimPhase::Adopted { held: _ });
        settled && state.streams.get(&key.uid).is_some_and(|stream| key.epoch > stream.epoch)
    });
    above.map(|(key, _)| format!("{key}")).collect()
}

fn current_claims(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for uid in state.streams.keys() {
        let Some(key) = state.current_claim(uid) else { continue };
        match state.claims.get(&key).map(|claim| &claim.phase) {
            None => found.push(format!("{key} does not exist")),
            Some(ClaimPhase::Revoking(_) | ClaimPhase::Adopted { held: _ }) => {
                found.push(format!("{key} is to be closed, or nobody's"));
            }
            Some(
                ClaimPhase::Reserved
                | ClaimPhase::Writing(_)
                | ClaimPhase::Reading
                | ClaimPhase::Written
                | ClaimPhase::Told
                | ClaimPhase::Acknowledged,
            ) => {}
        }
    }
    // Every claim is lived by, to be closed, or waits for a read.
    for (key, claim) in &state.claims {
        let lived_by = state.current_claim(&key.uid).as_ref() == Some(key);
        let other = matches!(claim.phase, ClaimPhase::Revoking(_) | ClaimPhase::Adopted { held: _ });
        if !lived_by && !other {
            found.push(format!("{key} is {:?}, and no stream lives by it", claim.phase));
        }
    }
    found
}

fn paths(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    let mut told: BTreeMap<&crate::ids::Path, &StreamRef> = BTreeMap::new();
    for (key, claim) in &state.claims {
        let Some(path) = claim.path.as_ref().filter(|_| matches!(claim.phase, ClaimPhase::Told)) else {
            continue;
        };
        if let Some(other) = told.insert(path, key) {
            found.push(format!("{path}: {other} and {key}"));
        }
    }
    found
}

fn ssrcs(state: &State) -> Vec<String> {
    if !state.is_active() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (ssrc, declared) in &state.ssrcs {
        for (_, uid) in declared.iter().skip(1).filter(|(_, uid)| !state.dirty.streams.contains(uid)) {
            let claim = state.current_claim(uid).and_then(|key| state.claims.get(&key));
            if claim.is_some_and(|claim| matches!(claim.phase, ClaimPhase::Told | ClaimPhase::Acknowledged)) {
                found.push(format!("{ssrc}: {uid}, though {:?} is older", declared.first()));
            }
        }
    }
    found
}

fn reasons(state: &State) -> Vec<String> {
    if !state.is_active() {
        return Vec::new();
    }
    let bare = state.streams.iter().filter(|(uid, stream)| {
        let settled =
            !state.dirty.streams.contains(*uid) && stream.absent.is_none() && stream.reading.is_none();
        let wanted = !stream.deleting && !stream.idle && !stream.suspect && stream.blocked.is_none();
        let spec = stream.spec.as_ref().is_some_and(|spec| {
            let has = |ssrc| state.ssrc_winner(ssrc) == Some(*uid);
            !spec.paused && state.winner(&spec.path) == Some(*uid) && shared_ssrc(spec).is_none_or(has)
        });
        settled
            && wanted
            && spec
            && stream.claim.is_none()
            && state.config.path_grants == crate::config::PathGrants::All
    });
    bare.map(|(uid, _)| format!("{uid}")).collect()
}

fn queues(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = BTreeSet::new();
    for (queue, entries) in &state.queues {
        for (arrival, uid) in entries {
            waiting.insert(uid);
            let stream = state.streams.get(uid);
            let here = matches!(
                stream.and_then(|stream| stream.blocked.as_ref()),
                Some(Blocked::Ports { queue: own, .. }) if own == queue
            );
            if !here || stream.is_none_or(|stream| stream.arrival != *arrival || stream.claim.is_some()) {
                found.push(format!("{uid} stands in a queue of {} and does not wait there", queue.pool));
            }
        }
    }
    for (uid, stream) in &state.streams {
        let place = (stream.arrival, uid.clone());
        let lost = match &stream.blocked {
            Some(Blocked::Ports { .. }) => !waiting.contains(uid),
            Some(Blocked::Worker { .. } | Blocked::Pool { .. }) => !state.unplaced.contains(&place),
            // Its time may have come while the term is not on record: it is looked at with the next plan that may act.
            Some(Blocked::Retry { .. }) => {
                !state.timers.is_set(&Timer::Retry(uid.clone())) && !state.dirty.streams.contains(uid)
            }
            Some(Blocked::Closing) | None => false,
        };
        if lost {
            found.push(format!("{uid} waits where nobody looks: {:?}", stream.blocked));
        }
    }
    found
}

/// Between plans only: a plan serves who waits.
fn served(state: &State) -> Vec<String> {
    let planned = state.dirty.wake.is_empty() && !state.dirty.placement && !state.dirty.shelves;
    if !state.is_active() || !planned {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (queue, entries) in &state.queues {
        let Some((_, uid)) = entries.first() else { continue };
        let Some(stream) = state.streams.get(uid) else { continue };
        for name in state.candidates(stream, Some(&queue.pool)) {
            let node = &state.nodes[&name];
            if node.is_looked_at() {
                continue;
            }
            if let Some(ports) = node.ledger.choose(&queue.pool, queue.shape) {
                found.push(format!(
                    "{uid} waits for a number of {}, and {ports:?} of {name} is free",
                    queue.pool
                ));
            }
        }
    }
    found
}

fn cooling(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in &state.nodes {
        for (port, held) in node.ledger.all_held() {
            if matches!(held, Held::Cooling { .. })
                && !state.timers.is_set(&Timer::Cooled(name.clone(), *port))
            {
                found.push(format!("{port} on {name}"));
            }
        }
    }
    found
}

fn quarantine(state: &State) -> Vec<String> {
    let unscanned = state.nodes.iter().filter(|(name, node)| {
        !node.ledger.quarantined().is_empty() && !state.timers.is_set(&Timer::ScanDue((*name).clone()))
    });
    unscanned.map(|(name, _)| format!("node {name}")).collect()
}

fn indexes(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    let mut users: BTreeMap<(&NodeName, &PoolName, &Arc<str>), u32> = BTreeMap::new();
    for (key, claim) in &state.claims {
        if !state.nodes.get(&claim.node).is_some_and(|node| node.claims.contains(key)) {
            found.push(format!("node {} does not know {key}", claim.node));
        }
        if let Some(path) = &claim.path
            && !state.paths.get(path).is_some_and(|entry| entry.claims.contains(key))
        {
            found.push(format!("path {path} does not know {key}"));
        }
        for ((pool, ports), name) in claim.leases().filter_map(|lease| Some((lease, claim.name.as_ref()?))) {
            let numbers = 1 + u32::from(ports.rtcp.is_some());
            *users.entry((&claim.node, pool, &name.namespace)).or_default() += numbers;
        }
    }
    let kept: BTreeMap<_, _> = state
        .nodes
        .iter()
        .flat_map(|(name, node)| node.users.iter().map(move |(pool, users)| (name, pool, users)))
        .flat_map(|(name, pool, users)| {
            users.iter().map(move |(namespace, count)| ((name, pool, namespace), *count))
        })
        .collect();
    if kept != users {
        found.push(format!("numbers by namespace: kept {kept:?}, counted {users:?}"));
    }
    let strangers = state.nodes.values().flat_map(|node| &node.claims);
    let strangers = strangers.chain(state.paths.values().flat_map(|entry| &entry.claims));
    found
        .extend(strangers.filter(|key| !state.claims.contains_key(*key)).map(|key| format!("{key} is over")));
    found
}

fn writes(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (uid, stream) in &state.streams {
        if let Some(id) = stream.write
            && !matches!(state.writes.get(&id), Some(Write::Stream { uid: of, .. }) if of == uid)
        {
            found.push(format!("{uid} awaits write {id}"));
        }
    }
    for (key, claim) in &state.claims {
        if let ClaimPhase::Writing(id) = claim.phase
            && !state.writes.contains_key(&id)
        {
            found.push(format!("{key} awaits write {id}"));
        }
        let read = state.streams.get(&key.uid).is_some_and(|stream| stream.reading.is_some());
        if claim.phase == ClaimPhase::Reading && !read {
            found.push(format!("{key} awaits a read that nobody makes"));
        }
    }
    found
}

fn unknown_workers(state: &State) -> Vec<String> {
    let told = state.claims.iter().filter(|(_, claim)| claim.told.is_some());
    let unknown = told.filter(|(_, claim)| !state.worker(&claim.node).is_some_and(|worker| worker.known));
    unknown.map(|(key, claim)| format!("{key} on {}", claim.node)).collect()
}

fn networks(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in &state.nodes {
        let Some(worker) = node.worker.as_ref().filter(|worker| worker.knows_networks) else { continue };
        let Some(session) = &worker.session else { continue };
        let told = node.claims.iter().filter_map(|key| state.claims.get(key)?.told);
        let is_new = !session.welcomed && told.count() == 0;
        if !is_new && session.networks != state.networks {
            found.push(format!("{name} has {:?}, there are {:?}", session.networks, state.networks));
        }
    }
    found
}

fn standing_by(state: &State) -> Vec<String> {
    let marks = state.lead.is_none() && state.dirty != Dirty::default();
    marks.then(|| format!("{:?}", state.dirty)).into_iter().collect()
}

fn listeners(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (name, node) in &state.nodes {
        let ports = node.worker.iter().flat_map(|worker| &worker.listener_ports);
        for port in ports.filter(|_| !state.dirty.shelves) {
            let on_shelf = node.ledger.shelves().values().any(|shelf| shelf.numbers().contains(*port));
            if on_shelf {
                found.push(format!("{port} on {name}"));
            }
        }
    }
    found
}

fn seconds(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (key, claim) in &state.claims {
        if claim.second.is_some() != state.seconds.contains(key) {
            found.push(format!("{key} has {:?}, its index says otherwise", claim.second));
        }
        if claim.second.is_some() && (claim.lease.is_none() || !claim.may_be_known()) {
            found.push(format!(
                "{key} is {:?} and has {:?} beside {:?}",
                claim.phase, claim.second, claim.lease
            ));
        }
    }
    let strangers = state.seconds.iter().filter(|key| !state.claims.contains_key(*key));
    found.extend(strangers.map(|key| format!("{key} is over")));
    found
}

fn second_told(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (key, claim) in &state.claims {
        let told = claim.assign.as_ref().and_then(|assign| assign.source.next());
        let Some(second) = claim.second.as_ref().filter(|second| second.stage == Stage::Reserved) else {
            continue;
        };
        if told == Some(second.ports) {
            found.push(format!("{key} was told of {}", second.ports));
        }
    }
    found
}

/// Between plans only: a plan looks at what was edited.
fn moves(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for key in state.seconds.iter().filter(|key| !state.dirty.streams.contains(&key.uid)) {
        let Some(claim) = state.claims.get(key).filter(|claim| claim.phase == ClaimPhase::Acknowledged)
        else {
            continue;
        };
        let draining = state.nodes.get(&claim.node).is_some_and(Node::is_draining);
        let under_way =
            state.streams.get(&key.uid).is_some_and(|it| it.write.is_some() || it.reading.is_some());
        let Some(second) = claim.successor().filter(|second| !second.arrived) else { continue };
        let has_pool = claim.lease.as_ref().is_some_and(|first| state.pools.contains_key(&first.pool));
        let settled = state.is_active() && !state.dirty.shelves && !draining && !under_way;
        if settled && has_pool && !state.is_stale(claim) {
            found.push(format!("{key} has {:?} beside {:?}", second.ports, claim.ports()));
        }
    }
    found
}

fn move_deadlines(state: &State) -> Vec<String> {
    let overdue = state.seconds.iter().filter(|key| !state.dirty.streams.contains(&key.uid)).filter(|key| {
        let claim = state.claims.get(*key).filter(|claim| claim.phase == ClaimPhase::Acknowledged);
        let draining = |node: &NodeName| state.nodes.get(node).is_some_and(Node::is_draining);
        let claim = claim.filter(|claim| state.is_active() && !draining(&claim.node));
        let dated = claim.is_some_and(|claim| state.move_closes_at(claim).is_some());
        dated && !state.timers.is_set(&Timer::MoveDue((*key).clone()))
    });
    overdue.map(|key| format!("{key}")).collect()
}

/// Between plans only: a plan serves who waits.
fn cramped(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for (cramped, waiting) in &state.cramped {
        let strangers = waiting.iter().filter(|uid| {
            state.streams.get(*uid).is_none_or(|stream| stream.cramped.as_ref() != Some(cramped))
        });
        found.extend(strangers.map(|uid| format!("{uid} does not wait for a number of {}", cramped.pool)));
        let planned = state.dirty.wake.is_empty() && !state.dirty.placement && !state.dirty.shelves;
        let idle = waiting.iter().all(|uid| !state.dirty.streams.contains(uid));
        if state.is_active()
            && planned
            && idle
            && let Some(ports) = state.room_for(cramped)
        {
            found.push(format!("{waiting:?} wait for a number of {}, and {ports} is free", cramped.pool));
        }
    }
    found
}
