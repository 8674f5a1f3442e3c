//! Events that come together: the driver takes up to 256 of them before it plans (`EVENTS_A_PLAN`). Before that plan a
//! stream may be where it is at no other time. Whatever is heard here is on its way already, or could be said just then;
//! only its moment is chosen, by what has met such a stream least.

use operator_core::event::{Report, WriteOutcome};
use operator_core::ids::{BootId, ObjectName, Ports, Uid, WorkerName, WriteId};
use operator_core::status::Phase;
use operator_core::{Command, Event, LeaseState};

use crate::api::{Kind, Write};
use crate::coverage::{self, KINDS};
use crate::link::{Link, Up};
use crate::poke::Target;
use crate::world::{Item, World};

/// Moments of a run that are crowded, by state.
const MOMENTS_MAX: u32 = 30;
/// What is heard before the plan at most.
const EVENTS_MAX: usize = 4;

/// Of a hundred moments at which a stream is in such a state, how many are crowded.
fn chance(lease: LeaseState, phase: Phase) -> u64 {
    let wanted = matches!(phase, Phase::Pending | Phase::Ready | Phase::Live);
    match lease {
        LeaseState::Adopted => 60,
        LeaseState::Leased | LeaseState::Claimed if !wanted => 70,
        LeaseState::Quarantined if !wanted => 20,
        LeaseState::Quarantined => 10,
        LeaseState::Revoking | LeaseState::Cooling if !wanted => 10,
        LeaseState::Claimed => 12,
        LeaseState::Revoking | LeaseState::Cooling => 6,
        LeaseState::Leased if phase == Phase::Pending => 3,
        LeaseState::Leased | LeaseState::Free => 1,
    }
}

/// Of a hundred crowded moments, how many begin with the stream being unwished.
fn turns(lease: LeaseState) -> u64 {
    match lease {
        LeaseState::Leased | LeaseState::Adopted | LeaseState::Claimed => 50,
        LeaseState::Revoking | LeaseState::Cooling | LeaseState::Quarantined => 30,
        LeaseState::Free => 10,
    }
}

/// Whether streams are so for moments only.
fn is_brief(lease: LeaseState, phase: Phase) -> bool {
    let wanted = matches!(phase, Phase::Pending | Phase::Ready | Phase::Live);
    match lease {
        LeaseState::Adopted => true,
        LeaseState::Leased | LeaseState::Claimed => !wanted,
        LeaseState::Free | LeaseState::Revoking | LeaseState::Cooling | LeaseState::Quarantined => false,
    }
}

/// Whether an event of this kind is about one stream, and seldom: all others are met by every stream that is there.
fn is_its_own(kind: coverage::Kind) -> bool {
    use coverage::Kind as It;
    let write = matches!(kind, It::Written | It::Conflict | It::Refused | It::NotFound | It::Unknown);
    write || matches!(kind, It::Assigned | It::BindFailed | It::Closed | It::ConfirmedNotFound)
}

/// Whether it is to be so when the term rises.
fn is_for_a_raise(target: &Target) -> bool {
    target.lease == LeaseState::Adopted || (target.lease, target.phase) == (LeaseState::Leased, Phase::Idle)
}

impl World {
    /// A leader has heard something and is about to plan.
    pub(crate) fn crowd(&mut self, replica: usize) {
        let calm = self.faults.calm || self.faults.napping.is_some() || self.is_raising();
        if calm || self.now < self.faults.uncrowded_until || !self.replicas[replica].leading {
            return;
        }
        let resting = self.resting(replica);
        let inventory = if resting.is_none() { self.late_inventory(replica) } else { None };
        let late = inventory.is_some();
        let Some(target) = resting.or(inventory).or_else(|| self.seldom(replica)) else { return };
        if is_for_a_raise(&target) && self.is_one_away(replica) && self.replicas[replica].core.is_active() {
            return self.raise_now(replica);
        }
        *self.faults.crowded.entry((target.lease, target.phase)).or_default() += 1;
        self.note(|| format!("operator {replica}: a crowded moment of {} ({:?})", target.uid, target.lease));
        self.faults.crowding = true;
        let wanted = matches!(target.phase, Phase::Pending | Phase::Ready | Phase::Live);
        if late && matches!(target.phase, Phase::Ready | Phase::Live) {
            // Another worker than the one on record has it, too.
            use coverage::Kind as It;
            let kind =
                [It::Assigned, It::BindFailed, It::BindFailed, It::Closed, It::Closed][self.rng.below(5)];
            self.hear_report(&Target { lease: LeaseState::Adopted, ..target.clone() }, kind);
        }
        if wanted && self.rng.chance(turns(target.lease)) {
            self.turn(&target);
        }
        if (target.lease, target.phase) == (LeaseState::Claimed, Phase::Idle) {
            self.record_the_resting(&target);
        }
        let brief = target.lease == LeaseState::Adopted
            || (target.lease == LeaseState::Claimed && target.phase == Phase::Idle);
        let most = if brief { 2 * EVENTS_MAX } else { EVENTS_MAX };
        for _ in 0..=self.rng.below(most) {
            if !self.replicas[replica].leading || !self.hear_least(&target) {
                break;
            }
        }
        self.faults.crowding = false;
    }

    /// An inventory is on its way which shows what this leader does not know of a stream, while it writes that stream.
    fn late_inventory(&mut self, replica: usize) -> Option<Target> {
        let core = &self.replicas[replica].core;
        if self.faults.restores == 0 || !core.is_active() {
            return None;
        }
        let claims: std::collections::BTreeSet<_> = core.claims().map(|claim| claim.stream).collect();
        let eager = self.faults.relapsing && self.rng.chance(60);
        let core = &self.replicas[replica].core;
        let seen = &self.replicas[replica].seen;
        let is_news = |up: &Up, slow: bool| match up {
            Up::Inventory(inventory) => inventory
                .streams
                .iter()
                .find(|stream| {
                    !claims.contains(stream)
                        && core.stream(&stream.uid).is_some()
                        && (eager
                            || slow
                            || seen.writes.values().any(|note| !note.former && note.uid == stream.uid))
                })
                .map(|stream| stream.uid.clone()),
            Up::Hello(_) | Up::Beat(_) | Up::Report(_) => None,
        };
        let news = self.find(|item| match item {
            Item::Up { link, up } => {
                let it = &self.links[*link];
                let ours = it.replica == replica
                    && it.incarnation == self.replicas[replica].incarnation
                    && it.operator_open;
                is_news(up, it.slow).filter(|_| ours).map(|uid| (*link, uid))
            }
            _ => None,
        });
        let (link, uid) = news?;
        let name = core.stream(&uid)?.name.clone();
        self.faults.crowding = true;
        let session = self.links[link].session;
        while let Some((_, item)) = self.pull(|item| matches!(item, Item::Up { link: of, .. } if *of == link))
        {
            let Item::Up { up, .. } = item else { break };
            let last = matches!(up, Up::Inventory(_));
            self.feed(replica, up.event(session));
            if last {
                break;
            }
        }
        self.faults.crowding = false;
        let (lease, phase) = self.replicas[replica].core.stream_state(&uid)?;
        Some(Target { replica, uid, name, lease, phase })
    }

    /// A stream that was made to be read while it rests before its claim is on record.
    fn resting(&mut self, replica: usize) -> Option<Target> {
        let uid = self.faults.resting.clone()?;
        let target = self.targets_of(replica).into_iter().find(|target| target.uid == uid);
        let there = |target: &Target| (target.lease, target.phase) == (LeaseState::Claimed, Phase::Idle);
        let Some(target) = target.filter(there) else {
            self.faults.resting = None;
            return None;
        };
        self.is_read(&target).then_some(target)
    }

    /// A stream came to rest while its claim was being written: that is on record now. At times it is being read, too.
    fn record_the_resting(&mut self, target: &Target) {
        let reading = self.is_read(target);
        if self.rng.chance(25) && self.answer_late(target) {
            return;
        }
        if !reading && self.rng.chance(40) {
            self.faults.lacks = Some(target.uid.clone());
            self.hear_list(target.replica, Kind::Streams);
            self.faults.lacks = None;
            self.feed(target.replica, Event::AbsenceConfirmed);
            self.hold_calls(target);
            self.faults.resting = Some(target.uid.clone());
        } else if self.rng.chance(90) {
            if !self.hear_write(target, coverage::Kind::Written) {
                self.hear_read(target, true);
            } else if reading && self.rng.chance(80) {
                let found = self.rng.chance(65);
                self.hear_read(target, found);
            }
            if self.replicas[target.replica].leading && self.rng.chance(8) {
                self.demote(target.replica);
            }
        }
    }

    /// Its claim is put on record, and the watch tells of it long before the answer.
    fn answer_late(&mut self, target: &Target) -> bool {
        let replica = target.replica;
        let claims = |id: &WriteId| {
            self.replicas[replica].seen.writes.get(id).is_some_and(|note| note.is_status && !note.former)
        };
        let id = self.find(|item| match item {
            Item::Write {
                replica: of,
                id,
                write: Write::Stream { uid, .. },
                answered: true,
                refused: false,
                ..
            } if *of == replica && *uid == target.uid && claims(id) => Some(*id),
            _ => None,
        });
        let Some(id) = id.filter(|_| self.api.up) else { return false };
        let is_it = |item: &Item| matches!(item, Item::Write { replica: of, id: written, .. } if (*of, *written) == (replica, id));
        let Some((_, Item::Write { incarnation, write, .. })) = self.pull(is_it) else { return false };
        let outcome = self.api.write(write.clone());
        self.note_write(replica, &write, &outcome);
        self.after(300, 700, Item::Feed { replica, incarnation, event: Event::Write { id, outcome } });
        self.hear_change(replica, Kind::Streams, |_| {});
        true
    }

    /// A stream where streams seldom are.
    fn seldom(&mut self, replica: usize) -> Option<Target> {
        let mut best: Vec<Target> = Vec::new();
        let mut highest = 0;
        let core = &self.replicas[replica].core;
        let writes = &self.replicas[replica].seen.writes;
        for stream in core.streams() {
            let Some((lease, phase)) = core.stream_state(stream.uid) else { continue };
            let writing = writes.values().any(|note| !note.former && note.uid == *stream.uid);
            let chance = match lease {
                LeaseState::Leased if !core.is_active() => chance(lease, phase).max(20),
                LeaseState::Leased if writing => chance(lease, phase).max(10),
                _ => chance(lease, phase),
            };
            let met = self.faults.crowded.get(&(lease, phase)).copied().unwrap_or_default();
            if chance < highest || met >= MOMENTS_MAX {
                continue;
            }
            if chance > highest {
                (highest, best) = (chance, Vec::new());
            }
            let (uid, name) = (stream.uid.clone(), stream.name.clone());
            best.push(Target { replica, uid, name, lease, phase });
        }
        if !self.rng.chance(highest) {
            return None;
        }
        self.rng.pick(&best).cloned()
    }

    /// One event of a kind that has met such a stream least, and that can be heard by now.
    pub(crate) fn hear_least(&mut self, target: &Target) -> bool {
        let Some((lease, phase)) = self.replicas[target.replica].core.stream_state(&target.uid) else {
            return false;
        };
        let aimed = is_brief(lease, phase) && self.rng.chance(55);
        let mut kinds: Vec<(bool, u64, usize, coverage::Kind)> = KINDS
            .iter()
            .map(|&kind| {
                let later = aimed && !is_its_own(kind);
                (later, self.coverage.hits(kind, lease, phase), self.rng.below(1000), kind)
            })
            .collect();
        kinds.sort_unstable();
        kinds.into_iter().any(|(_, _, _, kind)| self.hear(target, kind))
    }

    /// Whether an event of this kind could be heard.
    pub(crate) fn hear(&mut self, target: &Target, kind: coverage::Kind) -> bool {
        use coverage::Kind as It;
        let replica = target.replica;
        match kind {
            It::StreamSeen => self.hear_change(replica, Kind::Streams, |world| world.touch(&target.name)),
            It::StreamGone => {
                self.rng.chance(50)
                    && self
                        .hear_change(replica, Kind::Streams, |world| world.remove(&target.uid, &target.name))
            }
            It::PoolSeen => self.hear_change(replica, Kind::Pools, |world| world.touch_a_pool()),
            It::PoolGone => {
                self.rng.chance(50)
                    && self.hear_change(replica, Kind::Pools, |world| {
                        let pools: Vec<_> = world.api.objects.pools.keys().cloned().collect();
                        if let Some(name) = world.rng.pick(&pools) {
                            world.api.remove_pool(name);
                            // It is there again, as another one.
                            world.make_pool(&name.to_string());
                        }
                    })
            }
            It::NodeSeen => self.hear_change(replica, Kind::Nodes, |world| {
                let nodes: Vec<_> = world.api.objects.nodes.values().cloned().collect();
                if let Some(node) = world.rng.pick(&nodes) {
                    world.api.put_node(node.clone());
                }
            }),
            It::NodeGone => {
                self.rng.chance(50)
                    && self.hear_change(replica, Kind::Nodes, |world| {
                        let nodes: Vec<_> = world.api.objects.nodes.values().cloned().collect();
                        if let Some(node) = world.rng.pick(&nodes) {
                            world.api.remove_node(&node.name);
                            world.api.put_node(node.clone());
                        }
                    })
            }
            It::SecretSeen => self.hear_change(replica, Kind::Secrets, |world| {
                let byte = world.rng.below(250) as u8;
                let name = ObjectName::new(target.name.namespace.clone(), "token");
                world.api.put_secret(name, std::sync::Arc::new([[byte; 32]]));
            }),
            It::SecretGone => self.hear_change(replica, Kind::Secrets, |world| {
                let name = ObjectName::new(target.name.namespace.clone(), "token");
                if !world.api.objects.secrets.contains_key(&name) {
                    world.api.put_secret(name.clone(), std::sync::Arc::new([[7; 32]]));
                }
                world.api.remove_secret(&name);
            }),
            It::ServiceCidrSeen => self.hear_change(replica, Kind::ServiceCidrs, |world| {
                world.put_service_cidr();
            }),
            It::ServiceCidrGone => self.hear_change(replica, Kind::ServiceCidrs, |world| {
                let name = world.put_service_cidr();
                world.api.remove_service_cidr(&name);
            }),
            It::ListedStreams => self.hear_list(replica, Kind::Streams),
            It::ListedPools => self.hear_list(replica, Kind::Pools),
            It::ListedNodes => self.hear_list(replica, Kind::Nodes),
            It::ListedSecrets => self.hear_list(replica, Kind::Secrets),
            It::ListedServiceCidrs => self.hear_list(replica, Kind::ServiceCidrs),
            It::ConfirmedFound => self.hear_read(target, true),
            It::ConfirmedNotFound => self.hear_read(target, false),
            It::AbsenceConfirmed => {
                self.feed(replica, Event::AbsenceConfirmed);
                true
            }
            It::Written | It::Conflict | It::Refused | It::Unknown => self.hear_write(target, kind),
            It::NotFound => self.hear_write(target, kind),
            It::Hello => self.hear_hello(replica, false),
            It::Inventory => {
                self.hear_up(replica, |up| matches!(up, Up::Inventory(_))) || self.hear_hello(replica, true)
            }
            It::Beat => self.hear_beat(replica),
            It::Assigned | It::BindFailed | It::Closed | It::Publisher | It::Media => {
                self.hear_report(target, kind)
            }
            It::Scan => {
                let is_scan =
                    |up: &Up| matches!(up, Up::Report(report) if matches!(**report, Report::Scan { .. }));
                self.hear_up(replica, is_scan) || {
                    self.look_again();
                    self.hear_up(replica, is_scan)
                }
            }
            It::ShardStuck => {
                self.rng.chance(50)
                    && {
                        self.tell_stuck();
                        self.hear_up(
                        replica,
                        |up| matches!(up, Up::Report(report) if matches!(**report, Report::ShardStuck { .. })),
                    )
                    }
            }
            It::SessionClosed => self.rng.chance(50) && self.hear_the_end_of_a_session(replica),
            It::WorkerDegraded => {
                let event = self.a_word_for_a_worker();
                self.feed(replica, event);
                true
            }
            It::WorkerLost => {
                let (worker, boot) = (WorkerName::from("nobody"), BootId::from("never"));
                self.feed(replica, Event::WorkerLost { worker, boot });
                true
            }
            // It does not lead yet, and has neither claims nor a ledger.
            It::Lead => false,
            It::TermRecorded => self.hear_term(replica),
            It::Demoted => {
                let brief = is_for_a_raise(target);
                self.rng.chance(if brief { 40 } else { 6 }) && {
                    self.demote(replica);
                    true
                }
            }
            It::Tick => {
                self.feed(replica, Event::Tick);
                true
            }
        }
    }

    /// What witnesses say who can look at a worker: that it runs. Whoever hears it himself knows.
    pub(crate) fn a_word_for_a_worker(&mut self) -> Event {
        let running = self.workers.iter().filter(|worker| worker.alive && !worker.paused);
        let running: Vec<_> = running.map(|worker| (worker.name.clone(), worker.boot.clone())).collect();
        let (worker, boot) =
            self.rng.pick(&running).cloned().unwrap_or_else(|| ("nobody".into(), "never".into()));
        Event::WorkerDegraded { worker, boot }
    }

    // ------------------------------------------------------------------------------------------------- the API

    /// A stream is not to be assigned any more, and that is heard at once.
    pub(crate) fn turn(&mut self, target: &Target) {
        if target.lease == LeaseState::Claimed && self.rng.chance(50) {
            // It is to be at rest before its claim is on record.
            self.hold_calls(target);
            let deleted = self.rng.chance(50);
            self.hear_change(target.replica, Kind::Streams, |world| world.rest(target, deleted));
            return;
        }
        self.hear_change(target.replica, Kind::Streams, |world| match world.rng.below(4) {
            0 | 1 => world.contest_path(target),
            _ => world.unwish(target),
        });
    }

    /// Somebody else declares its path, and by the clock of another API server did so before.
    pub(crate) fn contest_path(&mut self, target: &Target) {
        let object = self.api.objects.streams.get(&target.name).filter(|object| object.uid == target.uid);
        let Some(object) = object.cloned() else { return };
        let Ok(spec) = &object.spec else { return };
        self.make_older_stream(&object.name, &spec.path.to_string(), object.created_unix_ms);
    }

    /// What happens to objects of a kind is told until nothing is left to tell.
    pub(crate) fn hear_change(&mut self, replica: usize, kind: Kind, change: impl FnOnce(&mut Self)) -> bool {
        let watch = self.replicas[replica].watches[kind as usize];
        if !self.api.up || watch.listing || watch.timeline != self.api.timeline {
            return false;
        }
        change(self);
        let mut heard = false;
        while self.replicas[replica].leading {
            let watch = self.replicas[replica].watches[kind as usize];
            if watch.listing || self.api.after(kind, watch.version).next().is_none() {
                break;
            }
            self.watch(replica, kind, watch.generation);
            heard = true;
        }
        heard
    }

    fn touch_a_pool(&mut self) {
        let pools: Vec<_> = self.api.objects.pools.values().cloned().collect();
        if let Some(pool) = self.rng.pick(&pools) {
            self.api.put_pool(pool.clone());
        }
    }

    pub(crate) fn hear_list(&mut self, replica: usize, kind: Kind) -> bool {
        if !self.api.up {
            return false;
        }
        self.relist(replica, kind, None);
        let incarnation = self.replicas[replica].incarnation;
        let generation = self.replicas[replica].watches[kind as usize].generation;
        self.pull(|item| matches!(item, Item::List { replica: of, kind: listed, generation: latest, .. } if (*of, *listed, *latest) == (replica, kind, generation)));
        self.list(replica, kind, generation, None);
        let is_next = |item: &Item| matches!(item, Item::Tell { replica: of, incarnation: current, kind: listed, generation: latest, .. } if (*of, *current, *listed, *latest) == (replica, incarnation, kind, generation));
        while let Some((_, item)) = self.pull(is_next) {
            let Item::Tell { events, version, .. } = item else { break };
            self.tell(replica, kind, generation, events, version);
        }
        true
    }

    /// A read of the stream that is under way ends.
    pub(crate) fn hear_read(&mut self, target: &Target, wanted: bool) -> bool {
        let incarnation = self.replicas[target.replica].incarnation;
        let ours = (target.replica, incarnation);
        let answered = |item: &Item| matches!(item, Item::Feed { replica, incarnation, event: Event::Confirmed { uid, found } } if (*replica, *incarnation) == ours && *uid == target.uid && found.is_some() == wanted);
        if let Some((_, Item::Feed { replica, event, .. })) = self.pull(answered) {
            self.feed(replica, event);
            return true;
        }
        let there = self.api.objects.streams.get(&target.name).is_some_and(|object| object.uid == target.uid);
        if !self.api.up || (wanted && !there) {
            return false;
        }
        let asked = |item: &Item| matches!(item, Item::Get { replica, incarnation, uid, .. } if (*replica, *incarnation) == ours && *uid == target.uid);
        let Some((_, Item::Get { uid, name, since, .. })) = self.pull(asked) else { return false };
        if !wanted {
            self.remove(&target.uid, &target.name);
        }
        let event = self.api.read(uid, name.as_ref(), since);
        self.feed(target.replica, event);
        true
    }

    /// A write of the stream that is under way ends.
    pub(crate) fn hear_write(&mut self, target: &Target, end: coverage::Kind) -> bool {
        let replica = target.replica;
        let ours = (replica, self.replicas[replica].incarnation);
        // A claim's own, where it may be deleted as well.
        let claims = (target.lease, end) == (LeaseState::Claimed, coverage::Kind::Written)
            && self.replicas[replica]
                .core
                .stream_state(&target.uid)
                .is_some_and(|(lease, _)| lease == target.lease);
        let writes = &self.replicas[replica].seen.writes;
        let ids: Vec<_> = writes
            .iter()
            .filter(|(_, note)| note.is_stream && !note.former && note.uid == target.uid)
            .filter(|(_, note)| note.is_status || !claims)
            .map(|(id, _)| *id)
            .collect();
        let answered = |item: &Item| match item {
            Item::Feed { replica, incarnation, event: Event::Write { id, outcome } } => {
                // What was given up is answered when its time is over.
                let given_up = *outcome == WriteOutcome::Unknown;
                (*replica, *incarnation) == ours
                    && !given_up
                    && ids.contains(id)
                    && coverage::outcome_kind(outcome) == end
            }
            _ => false,
        };
        if let Some((_, Item::Feed { event, .. })) = self.pull(answered) {
            self.feed(replica, event);
            return true;
        }
        if !self.api.up {
            return false;
        }
        let under_way = |item: &Item| matches!(item, Item::Write { replica, incarnation, id, answered: true, .. } if (*replica, *incarnation) == ours && ids.contains(id));
        let Some((at, item)) = self.pull(under_way) else { return false };
        let Item::Write { replica, incarnation, id, write, .. } = item else { return false };
        let outcome = match end {
            coverage::Kind::Refused => WriteOutcome::Refused { message: "quota".into() },
            coverage::Kind::Unknown => {
                // The connection breaks, before it arrives or after.
                if self.rng.chance(50) {
                    let write =
                        Item::Write { replica, incarnation, id, write, answered: false, refused: false };
                    self.at(at, write);
                }
                WriteOutcome::Unknown
            }
            end => {
                if end == coverage::Kind::Conflict {
                    self.touch(&target.name);
                } else if end == coverage::Kind::NotFound {
                    self.remove(&target.uid, &target.name);
                }
                let outcome = self.api.write(write.clone());
                self.note_write(replica, &write, &outcome);
                outcome
            }
        };
        self.feed(replica, Event::Write { id, outcome });
        true
    }

    fn hear_term(&mut self, replica: usize) -> bool {
        let incarnation = self.replicas[replica].incarnation;
        let told = |item: &Item| matches!(item, Item::Feed { replica: of, incarnation: current, event: Event::TermRecorded { .. } } if (*of, *current) == (replica, incarnation));
        if self.api.up && self.find(|item| told(item).then_some(())).is_none() {
            let asked = |item: &Item| matches!(item, Item::RecordTerm { replica: of, incarnation: current, .. } if (*of, *current) == (replica, incarnation));
            if let Some((_, Item::RecordTerm { term, .. })) = self.pull(asked) {
                self.record_term(replica, incarnation, term);
            }
        }
        let Some((_, Item::Feed { event, .. })) = self.pull(told) else { return false };
        self.feed(replica, event);
        true
    }

    // ------------------------------------------------------------------------------------------------- workers

    /// What a worker has said up to the first word of this kind is heard.
    pub(crate) fn hear_up(&mut self, replica: usize, is_it: impl Fn(&Up) -> bool) -> bool {
        let incarnation = self.replicas[replica].incarnation;
        let speaks = |item: &Item| match item {
            Item::Up { link, up } => {
                let it = &self.links[*link];
                // What comes late is kept for a leader that can make use of it.
                let kept = it.slow && !self.replicas[replica].core.is_active();
                let open =
                    it.replica == replica && it.incarnation == incarnation && it.operator_open && !kept;
                (open && is_it(up)).then_some(*link)
            }
            _ => None,
        };
        let Some(link) = self.find(speaks) else { return false };
        let session = self.links[link].session;
        while let Some((_, item)) = self.pull(|item| matches!(item, Item::Up { link: of, .. } if *of == link))
        {
            let Item::Up { up, .. } = item else { break };
            let last = is_it(&up);
            self.feed(replica, up.event(session));
            if last {
                return true;
            }
        }
        false
    }

    /// A link that both sides have open.
    fn open_link(&mut self, replica: usize) -> Option<usize> {
        let runs = |link: &usize| {
            let Link { worker, replica: of, incarnation, worker_open, operator_open, stalled_until, .. } =
                self.links[*link];
            let worker = &self.workers[worker];
            // Workers may not know yet that the process before is gone.
            let current = of == replica && incarnation == self.replicas[replica].incarnation;
            let open = current && worker_open && operator_open && stalled_until <= self.now;
            open && worker.alive && !worker.paused
        };
        let open: Vec<usize> = (0..self.links.len()).filter(runs).collect();
        self.rng.pick(&open).copied()
    }

    fn hear_beat(&mut self, replica: usize) -> bool {
        let is_beat = |up: &Up| matches!(up, Up::Beat(_));
        if self.hear_up(replica, is_beat) {
            return true;
        }
        let Some(link) = self.open_link(replica) else { return false };
        let Link { worker, applied, .. } = self.links[link];
        let beat = self.workers[worker].beat(&self.hosts[self.workers[worker].host], applied);
        self.send_up(link, Up::Beat(beat));
        self.hear_up(replica, is_beat)
    }

    /// A worker opens another session, and is heard before it is known that the one before is over.
    fn hear_hello(&mut self, replica: usize, with_inventory: bool) -> bool {
        if !self.hear_up(replica, |up| matches!(up, Up::Hello(_))) {
            let Some(link) = self.open_link(replica) else { return false };
            let worker = self.links[link].worker;
            if self.is_cut_off(worker, replica) {
                return false;
            }
            self.links[link].worker_open = false;
            self.workers[worker].links.remove(&replica);
            self.after(0, 200, Item::OperatorClose { link });
            self.dial(worker, replica);
            self.hear_up(replica, |up| matches!(up, Up::Hello(_)));
        }
        !with_inventory || self.hear_up(replica, |up| matches!(up, Up::Inventory(_)))
    }

    fn hear_the_end_of_a_session(&mut self, replica: usize) -> bool {
        let Some(link) = self.open_link(replica) else { return false };
        let session = self.links[link].session;
        self.links[link].operator_open = false;
        self.replicas[replica].sessions.remove(&session);
        self.after(0, 100, Item::WorkerClose { link });
        self.feed(replica, Event::SessionClosed { session });
        true
    }

    /// What a worker says of the stream: it may be on its way, or what it is told.
    fn hear_report(&mut self, target: &Target, kind: coverage::Kind) -> bool {
        let speaks = |up: &Up| {
            matches!(up, Up::Report(report) if coverage::report_kind(report) == kind) && up.is_of(&target.uid)
        };
        if self.hear_up(target.replica, speaks) {
            return true;
        }
        match kind {
            coverage::Kind::Publisher | coverage::Kind::Media => self.change_publisher_of(&target.uid),
            coverage::Kind::BindFailed => {
                self.rob(target);
                self.tell_worker(target);
            }
            _ => self.tell_worker(target),
        }
        self.hear_up(target.replica, speaks)
    }

    /// Just before a worker is told of it, somebody takes the numbers it is to bind there; from that worker, if it has them.
    fn rob(&mut self, target: &Target) {
        let told = self.find(|item| self.is_told_to_bind(item, &target.uid));
        let Some((worker, ports)) = told else { return self.steal(target) };
        let host = self.workers[worker].host;
        if is_brief(target.lease, target.phase) {
            self.workers[worker].drop_silently(&mut self.hosts[host], &target.uid);
        }
        self.take(host, ports);
    }

    /// Which worker that runs is about to be told to open which numbers for a stream.
    fn is_told_to_bind(&self, item: &Item, uid: &Uid) -> Option<(usize, Ports)> {
        let Item::Down { link, command: Command::Assign(assign), .. } = item else { return None };
        let worker = &self.workers[self.links[*link].worker];
        let runs = worker.alive && !worker.paused;
        let ports = assign.source.ports().filter(|_| runs && assign.stream.uid == *uid)?;
        Some((worker.index, ports))
    }

    /// What is on its way to the stream's worker arrives.
    fn tell_worker(&mut self, target: &Target) {
        let is_of = |command: &Command| match command {
            Command::Assign(assign) => assign.stream.uid == target.uid,
            Command::Revoke { stream, reason: _ } => stream.uid == target.uid,
            Command::Welcome
            | Command::Directory(_)
            | Command::Networks(_)
            | Command::InventoryRequest
            | Command::Watch { .. }
            | Command::CloseLeak { .. } => false,
        };
        let told = self.find(|item| match item {
            Item::Down { link, command, .. } => {
                let Link { worker, worker_open, .. } = self.links[*link];
                let worker = &self.workers[worker];
                let runs = worker_open && worker.alive && !worker.paused;
                // A former leader's words may be obeyed, too; all are told of it.
                (runs && is_of(command)).then_some(*link)
            }
            _ => None,
        });
        let Some(link) = told else { return };
        while let Some((_, item)) =
            self.pull(|item| matches!(item, Item::Down { link: of, .. } if *of == link))
        {
            let Item::Down { term, sequence, command, .. } = item else { break };
            self.obey(link, term, sequence, &command);
            if is_of(&command) {
                break;
            }
        }
    }
}
