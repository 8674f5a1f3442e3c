//! What a worker really holds, compared with the ledger: the one place where the two are made to agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::claim::{Claim, ClaimPhase, Lease, Second, Stage};
use crate::event::{Closed, Inventory, Now};
use crate::ids::{Epoch, NodeName, Ports, Protocol, SessionId, StreamRef, Uid};
use crate::ledger::{Held, Owner, QuarantineCause};
use crate::limits;
use crate::node::Informed;
use crate::observe::lists::exceeds;
use crate::reason::Reason;
use crate::spec::RtpTransport;
use crate::state::{After, State, unix};
use crate::stream::{Moving, Stream};
use crate::timers::Timer;

impl State {
    /// Everything that a worker holds.
    pub(crate) fn note_inventory(&mut self, session: SessionId, inventory: Inventory, now: Now) {
        let Some(name) = self.hear(session, now) else { return };
        self.note_epochs(&inventory, now);
        let active = self.is_active();
        let Some(current) = self.session_mut(&name) else { return };
        if !active {
            // It is asked for when it is wanted.
            current.awaiting &= current.asked > 0;
            return;
        }
        if inventory.sequence < current.asked {
            // The right one is on its way, or was there before.
            return;
        }
        current.awaiting = false;
        if inventory.sequence < current.fence {
            // Begun before this term: its worker may have obeyed another leader since.
            self.dirty.nodes.insert(name);
            return;
        }
        current.asked = inventory.sequence;
        current.compared = true;
        // The first one may be older than our first command, and its worker have obeyed another leader until then.
        if current.directory == Informed::Unknown && inventory.sequence > 0 {
            current.directory = Informed::Has(inventory.directory);
        }
        if std::mem::take(&mut current.looking) {
            self.dirty.placement = true;
            self.mark_cramped(&name);
        }
        if self.dirty.shelves {
            // What it means depends on the pools of today.
            self.restock(now);
        }
        self.timers.cancel(&Timer::InventoryDue(name.clone()));
        let Inventory { sequence, bound, closed, holders, streams, host, directory: _ } = inventory;

        let mut sockets: BTreeMap<StreamRef, BTreeSet<u16>> =
            streams.into_iter().map(|stream| (stream, BTreeSet::new())).collect();
        let mut leaks: BTreeSet<u16> = BTreeSet::new();
        let mut transports: BTreeMap<StreamRef, RtpTransport> = BTreeMap::new();
        for binding in bound {
            match binding.stream {
                Some(stream) => {
                    // Of the two that TCP is used for, the one that is asked for.
                    let dialled = self.streams.get(&stream.uid).is_some_and(Stream::is_dialled);
                    let transport = match binding.protocol {
                        Protocol::Tcp if dialled => RtpTransport::TcpActive,
                        Protocol::Tcp => RtpTransport::TcpPassive,
                        Protocol::Udp => RtpTransport::Udp,
                    };
                    transports.insert(stream.clone(), transport);
                    sockets.entry(stream).or_default().insert(binding.port);
                }
                None => {
                    leaks.insert(binding.port);
                }
            }
        }
        self.note_holders(&name, holders, host);
        self.end_leaks(&name, &leaks, &sockets, now);
        let former = self.compare_claims(&name, sequence, &sockets, &closed, now);
        self.end_doubles(&name, &sockets, now);
        self.adopt_unknown(&name, &sockets, now);
        self.note_transports(&transports);
        self.note_leaks(&name, &leaks, now);
        self.close_surplus(&name, sequence, &sockets, now);
        self.settle_contested(&name, &sockets, now);
        self.note_closed_before(&name, &closed, former, now);
        self.judge_scan(&name, now);
        self.await_media(&name, now);

        let Some(worker) = self.worker_mut(&name) else { return };
        let newly = !worker.known;
        worker.known = true;
        worker.digest = None;
        if newly {
            self.dirty.placement = true;
            self.dirty.pools.extend(self.pools.keys().cloned());
            self.mark_claims(&name);
        }
        self.dirty.nodes.insert(name);
    }

    /// It is known now whether those who wait there for a number beside their own can have one.
    fn mark_cramped(&mut self, name: &NodeName) {
        for (cramped, waiting) in self.cramped.iter().filter(|(cramped, _)| cramped.node == *name) {
            self.dirty.statuses.extend(waiting.iter().cloned());
            self.dirty.pools.insert(cramped.pool.clone());
        }
    }

    /// Epochs that a worker tells of are used, though a record that went back may lack them.
    fn note_epochs(&mut self, inventory: &Inventory, now: Now) {
        let bound = inventory.bound.iter().filter_map(|binding| binding.stream.as_ref());
        let told =
            bound.chain(&inventory.streams).chain(inventory.closed.iter().map(|closed| &closed.stream));
        for key in told {
            self.epoch_floor = self.epoch_floor.max(key.epoch);
            match self.streams.get_mut(&key.uid) {
                Some(stream) => stream.epoch_told = key.epoch.max(stream.epoch_told),
                None => self.remember_epoch(&key.uid, key.epoch),
            }
            self.end_outdated(key, now);
        }
    }

    /// The stream is not there, or not yet: if it is met, its epochs go on from this one.
    pub(crate) fn remember_epoch(&mut self, uid: &Uid, epoch: Epoch) {
        let known = self.epochs_told.entry(uid.clone()).or_default();
        *known = epoch.max(*known);
        if self.epochs_told.len() > limits::EPOCHS_TOLD_MAX {
            // The floor, which is above all of them, takes their place.
            self.epochs_told.clear();
            self.restored = true;
        }
    }

    /// A claim that nobody was told of, at an epoch that a worker shows to be used or over, is made again at a later one.
    fn end_outdated(&mut self, told: &StreamRef, now: Now) {
        let used = StreamRef::new(told.uid.clone(), Epoch(0))..=told.clone();
        let outdated = self.claims.range(used).filter(|(_, claim)| !claim.may_be_known());
        for key in outdated.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.end_claim(&key, After::Unused, now);
        }
    }

    /// Each claim of this node, against what its worker has. Gives the numbers of those that ended with a process before it.
    fn compare_claims(
        &mut self,
        name: &NodeName,
        sequence: u64,
        sockets: &BTreeMap<StreamRef, BTreeSet<u16>>,
        closed: &[Closed],
        now: Now,
    ) -> BTreeSet<u16> {
        let mut former = BTreeSet::new();
        let Some(node) = self.nodes.get(name) else { return former };
        let Some(worker) = &node.worker else { return former };
        let (boot, pod_uid) = (worker.boot.clone(), worker.pod_uid.clone());
        // What still has something was closed in part.
        let ended = closed.iter().map(|closed| &closed.stream).filter(|stream| !sockets.contains_key(stream));
        let closed: BTreeSet<&StreamRef> = ended.collect();
        let keys: Vec<StreamRef> = node.claims.iter().cloned().collect();
        for key in keys {
            let Some(claim) = self.claims.get(&key) else { continue };
            if self.is_comparable(claim, sequence) {
                self.compare_second(&key, sockets.get(&key), now);
            }
            let Some(claim) = self.claims.get(&key) else { continue };
            let has = sockets.get(&key).is_some_and(|open| {
                claim.ports().is_none_or(|ports| ports.numbers().all(|port| open.contains(&port)))
            });
            let later = StreamRef::new(key.uid.clone(), Epoch(key.epoch.0 + 1))
                ..=StreamRef::new(key.uid.clone(), Epoch(u64::MAX));
            let has_later = sockets.range(later).next().is_some();
            // A record names the pod only. Its epoch may run in another one where a restored API had it given out again.
            let another_process = claim.is_of_another(&pod_uid, &boot);
            // Told in this session, but after the inventory was taken: it says nothing about this claim.
            let in_flight = claim.is_told_after(sequence);
            let (phase, told, unread) = (claim.phase.clone(), claim.told.is_some(), claim.boot.is_none());
            let numbers: Vec<u16> = claim.numbers().collect();
            match phase {
                ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading if another_process => {
                    // Nobody was told; a new claim is made for the new process.
                    self.end_claim(&key, After::Unused, now);
                }
                ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading => {}
                _ if in_flight => {}
                _ if another_process => {
                    self.end_with_process(&key, now);
                    former.extend(numbers);
                }
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged if unread && has_later => {
                    // The record went back: its stream goes on by what is here, and what is open of this epoch is a leak. Its numbers
                    // may have been another's since.
                    self.end_claim(&key, After::Cooling, now);
                    former.extend(numbers);
                }
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged if has => {
                    if let Some(claim) = self.claims.get_mut(&key) {
                        claim.boot = Some(boot.clone());
                    }
                    if phase != ClaimPhase::Acknowledged {
                        self.acknowledge(&key, now);
                    }
                    if !told {
                        // Its rules may have changed since this process heard of them.
                        self.dirty.tell.insert(key.clone());
                    }
                }
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged if unread => {
                    // On record, but not here: it was told to a process that is gone, or to none.
                    self.end_with_process(&key, now);
                    former.extend(numbers);
                }
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged
                    if closed.contains(&key) =>
                {
                    self.end_claim(&key, After::Cooling, now);
                }
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged => {
                    if phase == ClaimPhase::Acknowledged {
                        self.set_phase(&key, ClaimPhase::Written);
                    }
                    self.dirty.tell.insert(key.clone());
                }
                ClaimPhase::Revoking(_) if sockets.contains_key(&key) => {
                    if self.may_return(&key) {
                        let due = now.mono + self.config.answer_after;
                        self.timers.set_if_unset(Timer::Return(key.clone()), due);
                    }
                    self.dirty.tell.insert(key.clone());
                }
                ClaimPhase::Revoking(_) if told || closed.contains(&key) || unread => {
                    self.end_claim(&key, After::Cooling, now);
                }
                ClaimPhase::Revoking(_) => {
                    self.dirty.tell.insert(key.clone());
                }
                ClaimPhase::Adopted { held: _ } if sockets.contains_key(&key) => {}
                ClaimPhase::Adopted { held: _ } => self.end_claim(&key, After::Cooling, now),
            }
        }
        former
    }

    /// Whether an inventory tells of this claim: it is on record, and for the process that speaks.
    fn is_comparable(&self, claim: &Claim, sequence: u64) -> bool {
        claim.is_written() && self.is_of_speaker(claim) && !claim.is_told_after(sequence)
    }

    /// Whether a claim is for the process that speaks for its node.
    fn is_of_speaker(&self, claim: &Claim) -> bool {
        let worker = self.worker(&claim.node);
        worker.is_some_and(|worker| !claim.is_of_another(&worker.pod_uid, &worker.boot))
    }

    /// Sockets that a claim has too many are told to be closed, and given to nobody meanwhile.
    fn close_surplus(
        &mut self,
        name: &NodeName,
        sequence: u64,
        sockets: &BTreeMap<StreamRef, BTreeSet<u16>>,
        now: Now,
    ) {
        for (key, open) in sockets {
            let Some(claim) = self.claims.get(key).filter(|claim| claim.node == *name) else { continue };
            // One that is revoked may have moved under another leader, and closes what it has whenever it hears of that.
            let revoking = matches!(claim.phase, ClaimPhase::Revoking(_)) && self.is_of_speaker(claim);
            if !revoking && !self.is_comparable(claim, sequence) {
                continue;
            }
            let own: BTreeSet<u16> = claim.numbers().collect();
            for port in open.difference(&own) {
                self.set_leak_aside(name, *port, now);
                self.dirty.tell.insert(key.clone());
            }
        }
    }

    /// The process that a claim was for is over. Its numbers rest; its own stream has them back in the same plan.
    fn end_with_process(&mut self, key: &StreamRef, now: Now) {
        let Some(claim) = self.claims.get(key) else { return };
        let (worker, node) = (claim.worker.clone(), claim.node.clone());
        let last_heard = self.worker(&node).and_then(|worker| worker.before).unwrap_or(now.mono);
        if let Some(stream) = self.streams.get_mut(&key.uid).filter(|stream| stream.claim == Some(key.epoch))
        {
            let moving = Moving {
                from: worker,
                from_node: node,
                reason: Reason::WorkerRestarted,
                last_heard,
                at: crate::state::unix(now),
            };
            if stream.moving.is_none() {
                stream.failovers += 1;
                self.counters.failovers += 1;
            }
            stream.moving.get_or_insert(moving);
            stream.stuck.retain(|(at, _)| now.mono < *at + limits::SUSPECT_WINDOW);
            stream.suspect |= stream.stuck.len() >= 2;
        }
        self.end_claim(key, After::Cooling, now);
    }

    /// Epochs that run here though they were given elsewhere, for a record that went back and a worker that was silent: both
    /// ends give them up.
    fn end_doubles(&mut self, name: &NodeName, sockets: &BTreeMap<StreamRef, BTreeSet<u16>>, now: Now) {
        for (key, ports) in sockets {
            let Some(claim) = self.claims.get(key).filter(|claim| claim.node != *name) else { continue };
            if !matches!(claim.phase, ClaimPhase::Revoking(_)) {
                if let Some(stream) = self.streams.get_mut(&key.uid) {
                    // Its record may lack it.
                    stream.epoch = stream.epoch.max(key.epoch);
                }
                self.revoke(key, Reason::Superseded, now);
            }
            for &port in ports {
                self.set_leak_aside(name, port, now);
            }
            self.dirty.doubles.insert((name.clone(), key.clone()));
        }
    }

    /// Streams that the worker has and the ledger has not.
    fn adopt_unknown(&mut self, name: &NodeName, sockets: &BTreeMap<StreamRef, BTreeSet<u16>>, now: Now) {
        let unknown: Vec<&StreamRef> = sockets.keys().filter(|key| !self.claims.contains_key(*key)).collect();
        let objectless = unknown.iter().filter(|key| !self.streams.contains_key(&key.uid)).count();
        let held = self.went_back || exceeds(objectless, sockets.len());
        for key in unknown.into_iter().cloned().collect::<Vec<_>>() {
            let (ports, next) = ports_of(&sockets[&key]);
            let leases = [ports, next];
            let comes_shared = self.streams.get(&key.uid).is_some_and(Stream::is_shared);
            match self.streams.get(&key.uid) {
                Some(stream) if self.goes_on_after_restore(stream, &key, name) => {
                    self.adopt(name, &key, leases, ClaimPhase::Adopted { held: false }, now);
                    self.read(&key.uid);
                }
                Some(stream) if key.epoch <= stream.epoch => {
                    if let Some(left) = self.handover_left(stream, &key, name, now) {
                        self.adopt(name, &key, leases, ClaimPhase::Revoking(Reason::Drained), now);
                        if ports.is_some() || comes_shared {
                            self.timers.set(Timer::Handover(key.clone()), now.mono + left);
                        }
                    } else {
                        // Revoked, or never to be had: a leak, closed and counted.
                        self.counters.leaks_repaired += 1;
                        self.adopt(name, &key, leases, ClaimPhase::Revoking(Reason::Leak), now);
                    }
                    self.dirty.tell.insert(key);
                }
                Some(_) => {
                    self.adopt(name, &key, leases, ClaimPhase::Adopted { held: false }, now);
                    self.read(&key.uid);
                }
                None => {
                    self.adopt(name, &key, leases, ClaimPhase::Adopted { held }, now);
                    if held {
                        self.counters.absences_held += 1;
                    } else {
                        self.read(&key.uid);
                    }
                }
            }
        }
        if held && objectless > 0 && !self.went_back {
            self.emit_installation(
                Reason::AbsenceHeld,
                format!(
                    "the worker on node {name} has {objectless} streams that no list has, too many to believe that they are gone. \
                     They go on; confirm that they are gone, or restore them"
                ),
            );
        }
    }

    /// How long a stream that another leader has moved away from a draining worker is still to be served there; absent: it was not,
    /// or the time is over. The leader may have been on the node that is emptied.
    fn handover_left(&self, stream: &Stream, key: &StreamRef, name: &NodeName, now: Now) -> Option<Duration> {
        let moved = stream.stored.last_failover.as_ref().filter(|it| it.reason == Reason::Drained)?;
        let here = self.worker(name).is_some_and(|worker| worker.name == moved.from);
        let current = stream.claim.filter(|current| here && key.epoch < *current)?;
        // The one before: what was left behind earlier is over.
        let latest = self.claims_of(&key.uid).all(|(it, _)| it.epoch <= key.epoch || it.epoch == current);
        let since = unix(now).0.saturating_sub(moved.at.0);
        limits::HANDOVER.checked_sub(Duration::from_secs(since)).filter(|left| latest && !left.is_zero())
    }

    /// What only a worker knew of is open as it says, whatever its spec asks for by now.
    fn note_transports(&mut self, transports: &BTreeMap<StreamRef, RtpTransport>) {
        for (key, transport) in transports {
            let claim = self.claims.get_mut(key).filter(|claim| match claim.phase {
                ClaimPhase::Adopted { held: _ } => true,
                ClaimPhase::Reserved
                | ClaimPhase::Writing(_)
                | ClaimPhase::Reading
                | ClaimPhase::Written
                | ClaimPhase::Told
                | ClaimPhase::Acknowledged
                | ClaimPhase::Revoking(_) => false,
            });
            if let Some(lease) = claim.and_then(|claim| claim.lease.as_mut()) {
                lease.transport = Some(*transport);
            }
        }
    }

    /// Whether a worker still lives by a claim that the restored record lacks, or has an older one in place of. Not if it was tried
    /// for another worker since.
    fn goes_on_after_restore(&self, stream: &Stream, key: &StreamRef, name: &NodeName) -> bool {
        let elsewhere = stream.taken.as_ref().is_some_and(|(at, node)| *at == key.epoch && node != name);
        let recorded = stream.claim.map(|epoch| StreamRef::new(key.uid.clone(), epoch));
        let outdated = |recorded: StreamRef| {
            recorded.epoch < key.epoch && self.claims.get(&recorded).is_some_and(|claim| claim.boot.is_none())
        };
        self.restored && key.epoch == stream.epoch && !elsewhere && recorded.is_none_or(outdated)
    }

    /// Takes what a worker has open as a claim: one lease, or two where a move is under way.
    fn adopt(
        &mut self,
        name: &NodeName,
        key: &StreamRef,
        leases: [Option<Ports>; 2],
        phase: ClaimPhase,
        now: Now,
    ) {
        self.counters.adoptions += 1;
        let rank = self.next_rank();
        let Some(worker) = self.worker(name) else { return };
        let (worker, pod_uid, boot) = (worker.name.clone(), worker.pod_uid.clone(), worker.boot.clone());
        let pool_of = |ports: Ports| self.pools_with(name, ports.rtp).into_iter().next();
        let pool = leases.into_iter().flatten().find_map(pool_of).unwrap_or_default();
        let outside = |ports: Ports| self.is_outside(name, &pool, ports);
        let (first, second) = match leases {
            [Some(first), Some(second)] if !outside(first) && outside(second) => (Some(second), Some(first)),
            [first, second] => (first, second),
        };
        // As it was told to be opened beside what its pool has no longer; else one of the two is too many.
        let moves = first.is_some_and(outside) && !second.is_some_and(outside);
        let stage = if moves { Stage::Open } else { Stage::Closing };
        let since = moves.then(|| unix(now));
        let lease = first.map(|ports| Lease { pool: pool.clone(), ports, transport: None, source: None });
        let second = second.map(|ports| Second { ports, stage, since, arrived: false });
        let stream = self.streams.get(&key.uid);
        let claim = Claim {
            stream: key.clone(),
            name: stream.map(|stream| stream.name.clone()),
            path: stream.and_then(|stream| stream.path().cloned()),
            node: name.clone(),
            worker,
            pod_uid,
            boot: Some(boot),
            since: Default::default(),
            rank,
            lease,
            second,
            phase,
            told: None,
            assign: None,
        };
        self.begin_claim(claim);
    }

    /// A read has said what the adopted claims of a stream are.
    pub(crate) fn settle_adopted(&mut self, uid: &Uid, now: Now) {
        let adopted: Vec<StreamRef> = self
            .claims_of(uid)
            .filter(|(_, claim)| matches!(claim.phase, ClaimPhase::Adopted { held: _ }))
            .map(|(key, _)| key.clone())
            .collect();
        for key in adopted {
            let Some(stream) = self.streams.get_mut(uid) else {
                // What is held waits for a person, whatever was read.
                let held = |claim: &Claim| claim.phase == ClaimPhase::Adopted { held: true };
                if !self.claims.get(&key).is_some_and(held) {
                    self.revoke(&key, Reason::Deleted, now);
                }
                continue;
            };
            let ended = stream.stored.epoch == key.epoch.0 && stream.stored.assignment.is_none();
            if key.epoch < stream.epoch || (ended && !self.restored) {
                self.counters.leaks_repaired += 1;
                self.revoke(&key, Reason::Leak, now);
                continue;
            }
            // The worker knows more than the record, which was restored from a backup: what plays goes on.
            stream.epoch = key.epoch;
            let former = stream.claim.replace(key.epoch).filter(|former| *former != key.epoch);
            let (name, path, transport) =
                (stream.name.clone(), stream.path().cloned(), stream.rtp().map(|rtp| rtp.transport));
            if let Some(former) = former {
                self.revoke(&StreamRef::new(uid.clone(), former), Reason::Superseded, now);
                if let Some(stream) = self.streams.get_mut(uid) {
                    stream.lose_media(now.mono);
                }
            }
            self.name_claim(&key, name, path, transport);
            // It waits for nothing any more, whether or not this leader may act by now.
            self.block(uid, None, now);
            self.set_phase(&key, ClaimPhase::Acknowledged);
            // What its worker said meanwhile of its media was nobody's; it says it again with its inventory.
            if let Some(node) = self.claims.get(&key).map(|claim| claim.node.clone()) {
                self.ask_again(&node);
            }
            self.dirty.tell.insert(key);
        }
        self.mark(uid);
        if !self.streams.contains_key(uid) {
            self.dirty.streams.remove(uid);
            self.dirty.statuses.remove(uid);
        }
    }

    /// What only a worker knew of has an object: its numbers count for its namespace, its path is taken.
    fn name_claim(
        &mut self,
        key: &StreamRef,
        name: crate::ids::ObjectName,
        path: Option<crate::ids::Path>,
        transport: Option<crate::spec::RtpTransport>,
    ) {
        let Some(mut claim) = self.claims.remove(key) else { return };
        if let (None, Some(node)) = (&claim.name, self.nodes.get_mut(&claim.node)) {
            for (pool, ports) in claim.leases() {
                let users = node.users.entry(pool.clone()).or_default();
                *users.entry(name.namespace.clone()).or_default() += 1 + u32::from(ports.rtcp.is_some());
            }
        }
        claim.name = Some(name);
        if let (None, Some(path)) = (&claim.path, &path) {
            self.paths.entry(path.clone()).or_default().claims.insert(key.clone());
            self.dirty.paths.insert(path.clone());
            claim.path = Some(path.clone());
        }
        if let Some(lease) = &mut claim.lease {
            lease.transport = lease.transport.or(transport);
        }
        self.claims.insert(key.clone(), claim);
    }

    /// The API went back: that it lacks what only workers know of is for a person to judge, though it is being read.
    pub(crate) fn hold_adopted(&mut self) {
        for (key, claim) in &mut self.claims {
            if claim.phase == (ClaimPhase::Adopted { held: false }) && !self.streams.contains_key(&key.uid) {
                claim.phase = ClaimPhase::Adopted { held: true };
                self.counters.absences_held += 1;
            }
        }
    }

    /// A person believes that streams without an object are gone: each is read.
    pub(crate) fn believe_adopted(&mut self) {
        let mut uids = BTreeSet::new();
        for (key, claim) in &mut self.claims {
            if claim.phase == (ClaimPhase::Adopted { held: true }) {
                claim.phase = ClaimPhase::Adopted { held: false };
                uids.insert(key.uid.clone());
            }
        }
        for uid in uids {
            self.read(&uid);
        }
    }

    /// Sockets of no stream, and sockets that a claim has too many: told to be closed, and given to nobody meanwhile.
    fn note_leaks(&mut self, name: &NodeName, leaks: &BTreeSet<u16>, now: Now) {
        for &port in leaks {
            if self.set_leak_aside(name, port, now) == Leak::New {
                // The next inventory shows that it is closed. What a worker cannot close is looked at with all that is in quarantine.
                self.ask_again(name);
            }
            self.dirty.leaks.insert((name.clone(), port, None));
        }
    }

    fn set_leak_aside(&mut self, name: &NodeName, port: u16, now: Now) -> Leak {
        let Some(node) = self.nodes.get(name) else { return Leak::Known };
        let lost_by = match node.ledger.held(port) {
            Some(Held::Leased { .. }) => return Leak::Known,
            Some(Held::Quarantined(quarantine)) => match quarantine.cause {
                QuarantineCause::Leak => return Leak::Known,
                // A bind that met it took it for somebody else's, whom no scan shows: it would be tried again and again.
                QuarantineCause::Foreign(_) => quarantine.lost_by.clone(),
            },
            Some(Held::Cooling { .. }) | None => None,
        };
        self.counters.leaks_repaired += 1;
        let owner = "a socket of our worker for no stream".to_owned();
        self.quarantine(name, port, QuarantineCause::Leak, owner, lost_by, now);
        Leak::New
    }

    /// Leaked sockets that are closed by now.
    fn end_leaks(
        &mut self,
        name: &NodeName,
        leaks: &BTreeSet<u16>,
        sockets: &BTreeMap<StreamRef, BTreeSet<u16>>,
        now: Now,
    ) {
        let Some(node) = self.nodes.get(name) else { return };
        let ended: Vec<u16> = node
            .ledger
            .quarantined()
            .iter()
            .copied()
            .filter(|port| !leaks.contains(port) && !sockets.values().any(|open| open.contains(port)))
            .filter(|port| match node.ledger.held(*port) {
                Some(Held::Quarantined(quarantine)) => quarantine.cause == QuarantineCause::Leak,
                Some(Held::Leased { .. } | Held::Cooling { .. }) | None => false,
            })
            .collect();
        for port in ended {
            self.cool(name, port, None, now);
        }
    }

    /// `port` rests; `owner` may have it back.
    fn cool(&mut self, name: &NodeName, port: u16, owner: Option<Owner>, now: Now) {
        let until = now.mono + self.cooldown_of(name, port);
        let pool = self.pools_with(name, port).into_iter().next().unwrap_or_default();
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.ledger.set(port, Some(Held::Cooling { until, owner, pool }));
        self.timers.set(Timer::Cooled(name.clone(), port), until);
        self.touch_pools(name, Ports { rtp: port, rtcp: None });
    }

    /// Numbers closed under an earlier leader rest for what is left of their cooldown. Those of `former` processes were in
    /// use after them: they rest for whoever had them last.
    fn note_closed_before(
        &mut self,
        name: &NodeName,
        closed: &[Closed],
        mut former: BTreeSet<u16>,
        now: Now,
    ) {
        // Of several that had a number, the last one counts.
        let mut latest: Vec<&Closed> = closed.iter().collect();
        latest.sort_by_key(|closed| closed.ago);
        let mut told = BTreeSet::new();
        for Closed { stream, ports, ago } in latest {
            let owner = self.streams.get(&stream.uid).and_then(|stream| {
                let namespace = stream.name.namespace.clone();
                Some(Owner { namespace, path: stream.path().cloned()? })
            });
            for &port in ports {
                let cooldown = self.cooldown_of(name, port);
                if *ago >= cooldown || !told.insert(port) {
                    continue;
                }
                let Some(node) = self.nodes.get_mut(name) else { return };
                let earlier = Now { mono: now.mono.saturating_sub(*ago), ..now };
                let unknown = match node.ledger.held(port).cloned() {
                    None => !node.ledger.was_held(port),
                    Some(Held::Cooling { .. }) if former.remove(&port) => true,
                    // A record that went back may name a stream that had it before: it may not have it back at once.
                    Some(Held::Cooling { until, owner: _, pool }) => {
                        node.ledger.set(port, Some(Held::Cooling { until, owner: owner.clone(), pool }));
                        false
                    }
                    // A stranger was met on it before this was heard: it rests for as long in any case.
                    Some(Held::Quarantined(mut quarantine)) => {
                        quarantine.rests_until = quarantine.rests_until.max(earlier.mono + cooldown);
                        node.ledger.set(port, Some(Held::Quarantined(quarantine)));
                        false
                    }
                    Some(Held::Leased { .. }) => false,
                };
                // A pool may have it only later.
                if unknown {
                    self.cool(name, port, owner.clone(), earlier);
                }
            }
        }
    }

    /// Two claims on one number: the one really bound stays, else the older; the other gets a new epoch and another port.
    fn settle_contested(&mut self, name: &NodeName, sockets: &BTreeMap<StreamRef, BTreeSet<u16>>, now: Now) {
        let Some(node) = self.nodes.get(name) else { return };
        for port in node.ledger.contested().iter().copied().collect::<Vec<_>>() {
            let Some(Held::Leased { claims, pool: _, beneath: _ }) =
                self.nodes[name].ledger.held(port).cloned()
            else {
                continue;
            };
            let bound = claims.iter().find(|key| sockets.get(*key).is_some_and(|open| open.contains(&port)));
            let oldest = claims.iter().min_by_key(|key| self.age(key));
            let Some(winner) = bound.or(oldest).cloned() else { continue };
            self.counters.contests += 1;
            for key in claims.into_iter().filter(|key| *key != winner) {
                if self.claims.get(&key).is_some_and(|claim| claim.second_with(port).is_some()) {
                    self.end_second(&key, After::Cooling, now);
                    continue;
                }
                // It has no socket there; what it is revoked for is the case that it is told of one. Of two leases the other stays until
                // its worker has closed it.
                self.drop_lease(&key, After::Cooling, now);
                self.revoke(&key, Reason::PortContested, now);
            }
        }
    }

    fn age(&self, key: &StreamRef) -> (u64, u64) {
        self.claims.get(key).map_or((u64::MAX, u64::MAX), |claim| (claim.since.0, claim.rank))
    }
}

/// The numbers of one stream's sockets as its lease, and as a second one.
fn ports_of(open: &BTreeSet<u16>) -> (Option<Ports>, Option<Ports>) {
    let ports = |rtp: u16| {
        let rtcp = rtp.checked_add(1).filter(|odd| rtp.is_multiple_of(2) && open.contains(odd));
        Ports { rtp, rtcp }
    };
    let first = open.first().copied().map(ports);
    let rest =
        open.iter().copied().find(|port| first.is_some_and(|first| first.numbers().all(|it| it != *port)));
    (first, rest.map(ports))
}

/// Whether a leak was set aside before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leak {
    New,
    Known,
}
