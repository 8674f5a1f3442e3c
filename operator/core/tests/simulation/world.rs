//! The world: virtual time, a queue of what is to happen, and how each of it happens.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use operator_core::event::{Holder, Listed, Report, WriteOutcome};
use operator_core::ids::{ObjectName, ResourceVersion, Term, Uid, WriteId};
use operator_core::{Action, Command, Config, Event, plan};

use crate::api::{Api, Kind, Write};
use crate::coverage::Coverage;
use crate::faults::Faults;
use crate::invariants::Truth;
use crate::link::{Link, Up};
use crate::replica::{Replica, WriteNote};
use crate::revisit::{Detour, Visits};
use crate::rng::Rng;
use crate::trace::{brief, brief_action, outcome_word};
use crate::worker::{Host, Worker};

/// The Lease and its timing (design §5).
const LEASE: Duration = Duration::from_secs(4);
const RENEW: Duration = Duration::from_millis(2500);
const RETRY: Duration = Duration::from_millis(500);
/// API calls that take longer are given up.
const API_TIMEOUT: Duration = Duration::from_secs(1);
/// Ten times what a run takes.
const STEPS_MAX: u64 = 100_000;
const BEAT: Duration = Duration::from_millis(250);

/// Something that is to happen.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// People and misfortune do something.
    Chaos,
    /// A watch tells one change.
    Watch { replica: usize, incarnation: u64, kind: Kind, generation: u64 },
    /// A list is read.
    List { replica: usize, incarnation: u64, kind: Kind, generation: u64, stale: Option<usize> },
    /// A list is told, one event after the other.
    Tell {
        replica: usize,
        incarnation: u64,
        kind: Kind,
        generation: u64,
        events: VecDeque<Event>,
        version: u64,
    },
    /// A write arrives at the API.
    Write { replica: usize, incarnation: u64, id: WriteId, write: Write, answered: bool, refused: bool },
    /// A GET arrives at the API.
    Get { replica: usize, incarnation: u64, uid: Uid, name: Option<ObjectName>, since: ResourceVersion },
    /// The core learns something.
    Feed { replica: usize, incarnation: u64, event: Event },
    /// A replica asks for the Lease.
    LeaseAsk { replica: usize, incarnation: u64 },
    /// It finds that it has lost it.
    Demote { replica: usize, incarnation: u64 },
    /// The API decides on it.
    LeaseDecide { replica: usize, incarnation: u64, asked: Duration, heard: bool },
    /// The replica hears it.
    LeaseHear { replica: usize, incarnation: u64, asked: Duration, held: bool, term: u64 },
    /// The term is written into the Lease.
    RecordTerm { replica: usize, incarnation: u64, term: Term },
    /// A deadline of a core.
    Wake { replica: usize, incarnation: u64, deadline: Duration },
    /// A plan that was put off.
    Plan { replica: usize, incarnation: u64 },
    /// A worker's message arrives.
    Up { link: usize, up: Up },
    /// The operator's side of a session ends.
    OperatorClose { link: usize },
    /// A command arrives.
    Down { link: usize, term: Term, sequence: u64, command: Command },
    /// The worker's side of a session ends.
    WorkerClose { link: usize },
    /// A worker dials.
    Dial { worker: usize, replica: usize },
    /// A worker's signs of life.
    Beat { worker: usize },
    /// A worker looks at its host.
    Scan { worker: usize },
    /// A worker has looked at its host for an inventory: what it found, and the last command before it began.
    Scanned { link: usize, sequence: u64, holders: Vec<Holder> },
    /// Misfortune ends.
    Mend(Mend),
}

/// The end of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Mend {
    ApiUp,
    ResumeReplica(usize),
    StartReplica(usize),
    ResumeWorker(usize),
    StartWorker {
        host: usize,
        name: String,
        pod_uid: String,
    },
    Thief {
        host: usize,
        port: u16,
    },
    Finalizer(ObjectName, Uid),
    Kill(usize),
    /// Somebody publishes where the stream runs.
    Publish(Uid),
    /// A worker runs again, and says something of a stream first.
    Blurt(usize, Uid),
    /// A stream is not to have its lease any more.
    Unwish(Uid, ObjectName),
    /// A stream is deleted, and somebody's finalizer takes its time.
    Delete(Uid, ObjectName),
    BackUp,
    /// The API is restored from its backup, which is older than what runs.
    Restore,
    /// Some streams rest or are paused.
    RestSome,
    /// All streams are made anew, so that what runs is of later epochs than the backup's.
    MoveAll,
    /// A worker can be reached by nobody any more, before the leaders change whose terms others hear.
    PartEarly,
    /// What workers say to those who don't lead comes late from here on.
    SlowDials,
    /// What runs is told again, stopped, or loses its sockets.
    MoveAgain,
    /// People touch what sat on a stuck shard twice.
    TouchSuspects,
    /// All but one worker is started again, and the API restored.
    BlackOut,
    /// People edit what that worker runs.
    EditTheAway,
    /// The leader loses its Lease, and may have it again.
    ChangeLeader,
    /// A worker loses sockets and says nothing of it.
    Drop,
    /// People see to it that streams can run.
    Tidy,
    /// The API falls back to its backup once more.
    Relapse(crate::relapse::Step),
    /// Something happens to a stream whose leader is frozen.
    Stir(crate::nap::Stir),
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Normal,
    /// Somebody's policy refuses it.
    Refused,
    /// It comes to pass, its answer is lost.
    Unanswered,
    /// It comes to pass after it was given up.
    Late,
    /// It never arrives.
    Lost,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Duration,
    pub(crate) steps: u64,
    queue: BTreeMap<(Duration, u64), Item>,
    order: u64,
    pub(crate) config: Config,
    pub(crate) api: Api,
    pub(crate) hosts: Vec<Host>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) links: Vec<Link>,
    pub(crate) faults: Faults,
    pub(crate) truth: Truth,
    pub(crate) coverage: Coverage,
    /// What went wrong first.
    pub(crate) violation: Option<String>,
    /// The last things that happened, when somebody wants to read them.
    pub(crate) log: Option<VecDeque<String>>,
    /// Commands of a lower term that workers did not obey.
    pub(crate) dropped: u64,
    /// Writes that any core asked for.
    pub(crate) writes: u64,
    /// What leaders have heard.
    pub(crate) moments: u64,
    /// Moments to go to again, when they are asked for.
    pub(crate) visits: Option<Visits>,
    /// What is to be done otherwise than in the run before.
    pub(crate) detour: Option<Detour>,
    /// Whether it could be, once it was tried.
    pub(crate) turned: Option<bool>,
}

impl World {
    pub(crate) fn new(seed: u64, config: Config, replicas: usize) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            now: Duration::ZERO,
            steps: 0,
            queue: BTreeMap::new(),
            order: 0,
            config,
            api: Api::running(),
            hosts: Vec::new(),
            workers: Vec::new(),
            replicas: Vec::new(),
            links: Vec::new(),
            faults: Faults::default(),
            truth: Truth::default(),
            coverage: Coverage::default(),
            violation: None,
            log: None,
            dropped: 0,
            writes: 0,
            moments: 0,
            visits: None,
            detour: None,
            turned: None,
        };
        for _ in 0..replicas {
            world.start_replica(None);
        }
        world
    }

    /// Puts something on the queue.
    pub(crate) fn at(&mut self, at: Duration, item: Item) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), item);
    }

    /// Puts something on the queue, `low` to `high` milliseconds from here.
    pub(crate) fn after(&mut self, low: u64, high: u64, item: Item) {
        let at = self.now + self.rng.ms(low, high);
        self.at(at, item);
    }

    /// Looks for the first thing of some kind that is to happen.
    pub(crate) fn find<T>(&self, what: impl Fn(&Item) -> Option<T>) -> Option<T> {
        self.queue.values().find_map(what)
    }

    /// Takes the first thing of some kind off the queue; what was to happen when.
    pub(crate) fn pull(&mut self, is_it: impl Fn(&Item) -> bool) -> Option<(Duration, Item)> {
        let key = self.queue.iter().find(|(_, item)| is_it(item)).map(|(key, _)| *key)?;
        self.queue.remove(&key).map(|item| (key.0, item))
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            if log.len() == 4000 {
                log.pop_front();
            }
            log.push_back(format!("{:>10.3} {}", self.now.as_secs_f64(), text()));
        }
    }

    pub(crate) fn violate(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violation.get_or_insert(text);
    }

    /// Runs until `until`, or until something is wrong.
    pub(crate) fn run(&mut self, until: Duration) -> Result<(), String> {
        loop {
            if let Some(text) = &self.violation {
                return Err(text.clone());
            }
            if self.turned == Some(false) {
                return Ok(());
            }
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= until => {}
                Some(_) | None => break,
            }
            let ((at, _), item) = self.queue.pop_first().expect("the queue has a first entry");
            self.now = at;
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(format!("{STEPS_MAX} steps by {:?}: it does not come to rest", self.now));
            }
            self.step(item);
        }
        self.now = until;
        Ok(())
    }

    /// Whether this core is up and running; what comes for a paused one waits.
    fn ready(&mut self, replica: usize, incarnation: u64, item: &Item) -> bool {
        let target = &mut self.replicas[replica];
        if target.incarnation != incarnation || !target.alive {
            return false;
        }
        if target.paused {
            target.backlog.push(item.clone());
            return false;
        }
        true
    }

    fn worker_ready(&mut self, worker: usize, item: &Item) -> bool {
        let target = &self.workers[worker];
        if !target.alive {
            return false;
        }
        if target.paused {
            self.faults.worker_backlog.entry(worker).or_default().push(item.clone());
            return false;
        }
        true
    }

    fn step(&mut self, item: Item) {
        match item.clone() {
            Item::Chaos => self.chaos(),
            Item::Mend(mend) => self.mend(mend),
            Item::Watch { replica, incarnation, kind, generation } => {
                if self.ready(replica, incarnation, &item) {
                    self.watch(replica, kind, generation);
                }
            }
            Item::List { replica, incarnation, kind, generation, stale } => {
                if self.ready(replica, incarnation, &item) {
                    self.list(replica, kind, generation, stale);
                }
            }
            Item::Tell { replica, incarnation, kind, generation, events, version } => {
                if self.ready(replica, incarnation, &item) {
                    self.tell(replica, kind, generation, events, version);
                }
            }
            Item::Write { replica, incarnation, id, write, answered, refused } => {
                self.arrive(replica, incarnation, id, write, answered, refused);
            }
            Item::Get { replica, incarnation, uid, name, since } => {
                if self.ready(replica, incarnation, &item) {
                    self.get(replica, incarnation, uid, name, since);
                }
            }
            Item::Feed { replica, incarnation, event } => {
                if self.ready(replica, incarnation, &item) {
                    self.feed(replica, event);
                }
            }
            Item::LeaseAsk { replica, incarnation } => {
                if self.ready(replica, incarnation, &item) {
                    self.lease_ask(replica, incarnation);
                }
            }
            Item::Demote { replica, incarnation } => {
                if self.ready(replica, incarnation, &item) && self.replicas[replica].leading {
                    self.demote(replica);
                }
            }
            Item::LeaseDecide { replica, incarnation, asked, heard } => {
                self.lease_decide(replica, incarnation, asked, heard);
            }
            Item::LeaseHear { replica, incarnation, asked, held, term } => {
                if self.ready(replica, incarnation, &item) {
                    self.lease_hear(replica, asked, held, term);
                }
            }
            Item::RecordTerm { replica, incarnation, term } => {
                if self.ready(replica, incarnation, &item) {
                    self.record_term(replica, incarnation, term);
                }
            }
            Item::Wake { replica, incarnation, deadline } => {
                if self.ready(replica, incarnation, &item) && self.replicas[replica].wake == Some(deadline) {
                    self.replicas[replica].wake = None;
                    self.feed(replica, Event::Tick);
                }
            }
            Item::Plan { replica, incarnation } => {
                if self.ready(replica, incarnation, &item) && self.replicas[replica].unplanned {
                    self.plan(replica);
                }
            }
            Item::Up { link, up } => {
                let Link { replica, incarnation, session, .. } = self.links[link];
                if self.ready(replica, incarnation, &item) && self.links[link].operator_open {
                    self.feed(replica, up.event(session));
                }
            }
            Item::OperatorClose { link } => {
                let Link { replica, incarnation, session, .. } = self.links[link];
                if self.ready(replica, incarnation, &item) && self.links[link].operator_open {
                    self.links[link].operator_open = false;
                    self.replicas[replica].sessions.remove(&session);
                    self.feed(replica, Event::SessionClosed { session });
                }
            }
            Item::Down { link, term, sequence, command } => {
                let worker = self.links[link].worker;
                if self.worker_ready(worker, &item) && self.links[link].worker_open {
                    self.obey(link, term, sequence, &command);
                }
            }
            Item::WorkerClose { link } => {
                let Link { worker, replica, .. } = self.links[link];
                if self.worker_ready(worker, &item) && self.links[link].worker_open {
                    self.links[link].worker_open = false;
                    if self.workers[worker].links.get(&replica) == Some(&link) {
                        self.workers[worker].links.remove(&replica);
                        self.after(20, 600, Item::Dial { worker, replica });
                    }
                }
            }
            Item::Dial { worker, replica } => {
                if self.worker_ready(worker, &item) && !self.workers[worker].links.contains_key(&replica) {
                    self.dial(worker, replica);
                }
            }
            Item::Beat { worker } => {
                if self.worker_ready(worker, &item) {
                    let links: Vec<usize> = self.workers[worker].links.values().copied().collect();
                    for link in links {
                        let beat = self.workers[worker]
                            .beat(&self.hosts[self.workers[worker].host], self.links[link].applied);
                        self.send_up(link, Up::Beat(beat));
                    }
                    let at = self.now + BEAT;
                    self.at(at, Item::Beat { worker });
                }
            }
            Item::Scan { worker } => {
                if self.worker_ready(worker, &item) {
                    let host = self.workers[worker].host;
                    if let Some(report) = self.workers[worker].scan(&self.hosts[host]) {
                        self.report(worker, vec![report]);
                    }
                    let at = self.now + self.workers[worker].scan_interval;
                    self.at(at, Item::Scan { worker });
                }
            }
            Item::Scanned { link, sequence, holders } => {
                let worker = self.links[link].worker;
                if self.worker_ready(worker, &item) && self.links[link].worker_open {
                    self.send_inventory(link, (sequence, holders));
                }
            }
        }
        self.pump_watches();
        self.check_truth();
    }

    // ------------------------------------------------------------------------------------------------- replicas

    /// A new operator process: the next incarnation of one, or one more.
    pub(crate) fn start_replica(&mut self, slot: Option<usize>) {
        let offset = self.rng.ms(0, 900_000);
        let slot = slot.unwrap_or(self.replicas.len());
        let incarnation = self.replicas.get(slot).map_or(1, |old| old.incarnation + 1);
        let replica = Replica::new(self.config.clone(), incarnation, offset);
        if slot == self.replicas.len() {
            self.replicas.push(replica);
        } else {
            self.replicas[slot] = replica;
        }
        self.note(|| format!("operator {slot} starts, incarnation {incarnation}"));
        for kind in Kind::ALL {
            self.relist(slot, kind, None);
        }
        self.after(0, 500, Item::LeaseAsk { replica: slot, incarnation });
    }

    /// The core learns something; usually it plans at once, at times only after the next events.
    pub(crate) fn feed(&mut self, replica: usize, event: Event) {
        self.note(|| format!("operator {replica} ← {}", brief(&event)));
        let target = &mut self.replicas[replica];
        let clock = target.clock(self.now);
        if target.leading {
            let write_of = match &event {
                Event::Write { id, .. } => {
                    let followed = |note: &&WriteNote| note.is_stream && !note.former;
                    target.seen.writes.get(id).filter(followed).map(|note| &note.uid)
                }
                _ => None,
            };
            self.coverage.count(&event, &target.core, write_of);
        }
        if let Event::Inventory { session, inventory: _ } = &event {
            self.note_inventory(replica, *session);
        }
        let target = &mut self.replicas[replica];
        target.seen.note(&event);
        let is_list = matches!(event, Event::Listed(Listed::Streams { .. }));
        let known: Vec<Uid> = target.core.streams().filter(|_| is_list).map(|s| s.uid.clone()).collect();
        if let Event::Listed(Listed::Streams { resource_version, uids }) = &event {
            // A later list is believed again, so far as a read agrees.
            target.seen.lacked.clear();
            if resource_version.0 < target.seen.list_version {
                target.seen.lacked.extend(known.iter().filter(|uid| !uids.contains(*uid)).cloned());
            }
        }
        let held = match &event {
            Event::Confirmed { uid, found: None } => {
                let held = target.leading && target.seen.lacked.contains(uid);
                Some(uid.clone()).filter(|uid| held && target.core.stream_state(uid).is_some())
            }
            _ => None,
        };
        target.core.observe(event, clock);
        if let Some(uid) = held.filter(|uid| target.core.stream_state(uid).is_none()) {
            let text =
                format!("operator {replica} forgets {uid}, which only a list of an older version lacks");
            self.violate(text);
        }
        let target = &mut self.replicas[replica];
        if let Some(uid) = known.iter().find(|uid| target.core.stream_state(uid).is_none()) {
            let text = format!("operator {replica} forgets {uid} because a list lacks it");
            self.violate(text);
        }
        self.pass(replica);
        if self.faults.crowding {
            self.replicas[replica].unplanned = true;
            return;
        }
        self.crowd(replica);
        let target = &mut self.replicas[replica];
        if self.rng.chance(15) {
            let incarnation = target.incarnation;
            target.unplanned = true;
            self.after(0, 3, Item::Plan { replica, incarnation });
        } else {
            self.plan(replica);
        }
    }

    fn plan(&mut self, replica: usize) {
        let target = &mut self.replicas[replica];
        target.unplanned = false;
        let clock = target.clock(self.now);
        let actions = plan(&mut target.core, clock);
        for action in actions {
            self.perform(replica, action);
        }
        self.check_core(replica);
        self.poke(replica);
        let target = &mut self.replicas[replica];
        if let Some(deadline) = target.core.next_deadline()
            && target.wake.is_none_or(|wake| wake > deadline)
        {
            target.wake = Some(deadline);
            let (incarnation, at) = (target.incarnation, target.world_time(deadline));
            self.at(at, Item::Wake { replica, incarnation, deadline });
        }
    }

    fn perform(&mut self, replica: usize, action: Action) {
        self.note(|| format!("operator {replica} → {}", brief_action(&action)));
        self.judge(replica, &action);
        let incarnation = self.replicas[replica].incarnation;
        match action {
            Action::WriteStream { id, uid, name, resource_version, status, claim } => {
                let note = WriteNote {
                    is_status: true,
                    is_stream: true,
                    uid: uid.clone(),
                    status: Some(status.clone()),
                    former: false,
                };
                self.replicas[replica].seen.writes.insert(id, note);
                let planned = if claim { self.faults.next_claim.take() } else { None };
                self.write(
                    replica,
                    id,
                    Write::Stream { uid, name, version: resource_version, status },
                    planned,
                );
            }
            Action::WritePool { id, uid, name, resource_version, status } => {
                let note = WriteNote {
                    is_status: true,
                    is_stream: false,
                    uid: uid.clone(),
                    status: None,
                    former: false,
                };
                self.replicas[replica].seen.writes.insert(id, note);
                self.write(replica, id, Write::Pool { uid, name, version: resource_version, status }, None);
            }
            Action::DeleteStream { id, uid, name, resource_version } => {
                let note = WriteNote {
                    is_status: false,
                    is_stream: true,
                    uid: uid.clone(),
                    status: None,
                    former: false,
                };
                self.replicas[replica].seen.writes.insert(id, note);
                self.write(replica, id, Write::Delete { uid, name, version: resource_version }, None);
            }
            Action::Confirm { uid, name, since } => {
                // With all that is read anew after a restore, some of it takes its time.
                let slow = self.faults.restores > 0 && !self.faults.calm && self.rng.chance(60);
                let most = if slow { 700 } else { 20 };
                self.replicas[replica].seen.asked.insert(uid.clone());
                self.after(1, most, Item::Get { replica, incarnation, uid, name, since });
            }
            Action::RecordTerm { term } => self.after(1, 20, Item::RecordTerm { replica, incarnation, term }),
            Action::Command { session, term, sequence, command } => {
                if let Some(&link) = self.replicas[replica].sessions.get(&session) {
                    let at = self.now + self.rng.ms(1, 15);
                    let at = self.links[link].down(at);
                    self.at(at, Item::Down { link, term, sequence, command });
                }
            }
            Action::CloseSession { session, why: _ } => {
                if let Some(&link) = self.replicas[replica].sessions.get(&session) {
                    self.after(0, 20, Item::OperatorClose { link });
                    self.after(1, 40, Item::WorkerClose { link });
                }
            }
            Action::Emit { .. } => {}
        }
    }

    // ------------------------------------------------------------------------------------------------- writes

    fn write(&mut self, replica: usize, id: WriteId, write: Write, planned: Option<Fate>) {
        self.writes += 1;
        let incarnation = self.replicas[replica].incarnation;
        let fate = planned.unwrap_or_else(|| self.fate());
        let slow = !self.faults.calm && (matches!(write, Write::Delete { .. }) || self.soon_rests(&write));
        let most = if slow && self.rng.chance(50) { 500 } else { self.api_takes() };
        let (low, high, answered, refused) = match fate {
            Fate::Normal => (1, most, true, false),
            Fate::Refused => (1, most, true, true),
            Fate::Unanswered => (1, 900, false, false),
            Fate::Late => (1000, 6000, false, false),
            Fate::Lost => (0, 0, false, false),
        };
        if !answered {
            let event = Event::Write { id, outcome: WriteOutcome::Unknown };
            let at = self.now + API_TIMEOUT;
            self.at(at, Item::Feed { replica, incarnation, event });
        }
        if fate != Fate::Lost {
            self.after(low, high, Item::Write { replica, incarnation, id, write, answered, refused });
        }
    }

    /// Whether it is of a stream that rests as soon as it has no media.
    fn soon_rests(&self, write: &Write) -> bool {
        let Write::Stream { name, .. } = write else { return false };
        let spec = self.api.objects.streams.get(name).and_then(|object| object.spec.as_ref().ok());
        spec.and_then(|spec| spec.release_after_idle).is_some_and(|rest| rest < Duration::from_millis(200))
    }

    /// The most that a call takes at this moment.
    fn api_takes(&self) -> u64 {
        if self.now < self.faults.slow_until && !self.faults.calm { 900 } else { 30 }
    }

    fn fate(&mut self) -> Fate {
        match self.rng.below(100) {
            _ if self.faults.calm => Fate::Normal,
            0..4 => Fate::Lost,
            4..8 => Fate::Unanswered,
            8..12 => Fate::Late,
            12..15 => Fate::Refused,
            _ => Fate::Normal,
        }
    }

    fn arrive(
        &mut self,
        replica: usize,
        incarnation: u64,
        id: WriteId,
        write: Write,
        answered: bool,
        refused: bool,
    ) {
        let outcome = if !self.api.up {
            WriteOutcome::Unknown
        } else if refused {
            WriteOutcome::Refused { message: "quota".into() }
        } else {
            let outcome = self.api.write(write.clone());
            self.note_write(replica, &write, &outcome);
            outcome
        };
        self.note(|| {
            format!(
                "api: write {id} of operator {replica} {}: {}",
                if answered { "" } else { "(unanswered)" },
                outcome_word(&outcome)
            )
        });
        if answered {
            self.after(1, 15, Item::Feed { replica, incarnation, event: Event::Write { id, outcome } });
        }
    }

    fn get(
        &mut self,
        replica: usize,
        incarnation: u64,
        uid: Uid,
        name: Option<ObjectName>,
        since: ResourceVersion,
    ) {
        if !self.replicas[replica].leading {
            return;
        }
        if !self.api.up || (!self.faults.calm && self.rng.chance(10)) {
            return self.after(200, 400, Item::Get { replica, incarnation, uid, name, since });
        }
        let event = self.api.read(uid, name.as_ref(), since);
        let most = self.api_takes() / 2;
        self.after(1, most, Item::Feed { replica, incarnation, event });
    }

    // ------------------------------------------------------------------------------------------------- watches

    /// Each new entry of the log wakes each watch once.
    fn pump_watches(&mut self) {
        let fresh: Vec<(Kind, u64)> = {
            let from = self.api.log.partition_point(|change| change.version <= self.faults.pumped.1);
            if self.faults.pumped.0 != self.api.timeline {
                self.faults.pumped = (self.api.timeline, self.api.objects.version);
                return;
            }
            self.api.log[from..].iter().map(|change| (change.kind, change.version)).collect()
        };
        for (kind, version) in fresh {
            self.faults.pumped.1 = version;
            for replica in 0..self.replicas.len() {
                let incarnation = self.replicas[replica].incarnation;
                let generation = self.replicas[replica].watches[kind as usize].generation;
                let lag = if !self.faults.calm && self.rng.chance(4) { 3000 } else { 30 };
                self.after(1, lag, Item::Watch { replica, incarnation, kind, generation });
            }
        }
    }

    pub(crate) fn watch(&mut self, replica: usize, kind: Kind, generation: u64) {
        let watch = self.replicas[replica].watches[kind as usize];
        if watch.generation != generation || watch.listing {
            return;
        }
        if watch.timeline != self.api.timeline {
            return self.relist(replica, kind, None);
        }
        let Some(change) = self.api.after(kind, watch.version).next() else { return };
        let (version, event) = (change.version, change.event.clone());
        self.replicas[replica].watches[kind as usize].version = version;
        self.feed(replica, event);
    }

    /// The watch is broken off and begun again with a list.
    pub(crate) fn relist(&mut self, replica: usize, kind: Kind, stale: Option<usize>) {
        let target = &mut self.replicas[replica];
        let watch = &mut target.watches[kind as usize];
        watch.generation += 1;
        watch.listing = true;
        let stale = stale.filter(|_| !watch.owes_consistent);
        let (incarnation, generation) = (target.incarnation, watch.generation);
        self.after(1, 60, Item::List { replica, incarnation, kind, generation, stale });
    }

    pub(crate) fn list(&mut self, replica: usize, kind: Kind, generation: u64, stale: Option<usize>) {
        let incarnation = self.replicas[replica].incarnation;
        if self.replicas[replica].watches[kind as usize].generation != generation {
            return;
        }
        if !self.api.up {
            return self.after(100, 400, Item::List { replica, incarnation, kind, generation, stale });
        }
        let objects = stale.map_or(&self.api.objects, |index| self.api.stale(index));
        let (mut events, version) = (objects.list(kind), objects.version);
        let watch = &mut self.replicas[replica].watches[kind as usize];
        watch.timeline = self.api.timeline;
        if kind == Kind::Streams && !watch.owes_consistent && !self.faults.calm {
            let chance = if self.faults.lacks.is_some() { 100 } else { 15 };
            if self.rng.chance(chance) {
                self.lose_one(&mut events);
            }
        }
        let events = events.into();
        self.tell(replica, kind, generation, events, version);
    }

    /// A list that lacks a stream, though its version says that it should have it: a cache with a hole.
    fn lose_one(&mut self, events: &mut Vec<Event>) {
        let Some(seen) = events.len().checked_sub(2) else { return };
        let lost = self.rng.below(seen + 1);
        let is_it = |event: &Event| matches!(event, Event::StreamSeen(object) if Some(&object.uid) == self.faults.lacks.as_ref());
        let lost = events.iter().position(is_it).unwrap_or(lost);
        if let Event::StreamSeen(object) = events.remove(lost)
            && let Some(Event::Listed(Listed::Streams { resource_version: _, uids })) = events.last_mut()
        {
            uids.remove(&object.uid);
        }
    }

    pub(crate) fn tell(
        &mut self,
        replica: usize,
        kind: Kind,
        generation: u64,
        mut events: VecDeque<Event>,
        version: u64,
    ) {
        let incarnation = self.replicas[replica].incarnation;
        if self.replicas[replica].watches[kind as usize].generation != generation {
            return;
        }
        if let Some(event) = events.pop_front() {
            self.feed(replica, event);
        }
        // It may have been broken off meanwhile.
        if self.replicas[replica].watches[kind as usize].generation != generation {
            return;
        }
        if !events.is_empty() {
            return self.after(0, 4, Item::Tell { replica, incarnation, kind, generation, events, version });
        }
        let watch = &mut self.replicas[replica].watches[kind as usize];
        watch.version = version;
        watch.listing = false;
        watch.owes_consistent = false;
        // What happened since the list was read, or a restore that the watch has yet to notice.
        let missed = self.api.after(kind, version).count().max(1);
        for _ in 0..missed {
            self.after(1, 30, Item::Watch { replica, incarnation, kind, generation });
        }
    }

    // ------------------------------------------------------------------------------------------------- the Lease

    fn lease_ask(&mut self, replica: usize, incarnation: u64) {
        let target = &self.replicas[replica];
        if target.leading && self.now > target.renewed + RENEW {
            self.demote(replica);
        }
        let heard = self.faults.calm || !self.rng.chance(8);
        let asked = self.now;
        self.after(1, 20, Item::LeaseDecide { replica, incarnation, asked, heard });
        let at = self.now + RETRY + self.rng.ms(0, 50);
        self.at(at, Item::LeaseAsk { replica, incarnation });
    }

    fn lease_decide(&mut self, replica: usize, incarnation: u64, asked: Duration, heard: bool) {
        if !self.api.up || !heard {
            return;
        }
        let who = (replica, incarnation);
        let lease = &mut self.api.lease;
        let held = lease.holder.is_none_or(|holder| holder == who) || lease.renewed + LEASE < self.now;
        if held {
            lease.holder = Some(who);
            lease.renewed = self.now;
        }
        let term = lease.term;
        self.after(1, 20, Item::LeaseHear { replica, incarnation, asked, held, term });
    }

    fn lease_hear(&mut self, replica: usize, asked: Duration, held: bool, term: u64) {
        let leading = self.replicas[replica].leading;
        if !held {
            if leading {
                self.demote(replica);
            }
            return;
        }
        if asked + RENEW < self.now {
            return;
        }
        self.replicas[replica].renewed = asked;
        if !leading {
            self.replicas[replica].leading = true;
            self.replicas[replica].leads_since = self.now;
            self.feed(replica, Event::Lead { floor: Term(term) });
            for kind in Kind::ALL {
                self.replicas[replica].watches[kind as usize].owes_consistent = true;
                self.relist(replica, kind, None);
            }
        }
    }

    pub(crate) fn demote(&mut self, replica: usize) {
        self.coverage.count(&Event::Demoted, &self.replicas[replica].core, None);
        self.replicas[replica].leading = false;
        self.replicas[replica].term = None;
        self.feed(replica, Event::Demoted);
        // Its driver wants no answer any more to what it has asked.
        self.queue.retain(|_, item| match item {
            Item::Get { replica: of, .. }
            | Item::Feed { replica: of, event: Event::Confirmed { .. } | Event::Forgotten { .. }, .. } => {
                *of != replica
            }
            _ => true,
        });
    }

    pub(crate) fn record_term(&mut self, replica: usize, incarnation: u64, term: Term) {
        // What an earlier leadership asked for ended with it.
        if !self.replicas[replica].leading || self.replicas[replica].core.term() != term {
            return;
        }
        if !self.api.up || (!self.faults.calm && self.rng.chance(15)) {
            return self.after(300, 600, Item::RecordTerm { replica, incarnation, term });
        }
        if self.api.lease.holder != Some((replica, incarnation)) {
            return self.demote(replica);
        }
        self.api.lease.term = term.0;
        self.note_term(replica, incarnation, term);
        self.replicas[replica].term = Some(term);
        self.after(1, 15, Item::Feed { replica, incarnation, event: Event::TermRecorded { term } });
    }

    // ------------------------------------------------------------------------------------------------- sessions

    pub(crate) fn dial(&mut self, worker: usize, replica: usize) {
        let host = self.workers[worker].host;
        if !self.replicas[replica].alive || self.is_cut_off(worker, replica) {
            return self.after(100, 500, Item::Dial { worker, replica });
        }
        let link = self.links.len();
        let incarnation = self.replicas[replica].incarnation;
        let session = self.replicas[replica].open_session(link);
        self.links.push(Link::new(worker, replica, incarnation, session));
        self.workers[worker].links.insert(replica, link);
        let hello = self.workers[worker].hello(&self.hosts[host]);
        self.send_up(link, Up::Hello(Box::new(hello)));
        self.begin_inventory(link);
        self.obey_the_dead(worker, link);
    }

    /// Nobody can reach that replica from the worker's node.
    pub(crate) fn is_cut_off(&self, worker: usize, replica: usize) -> bool {
        let host = self.workers[worker].host;
        self.faults.partitions.get(&(host, replica)).is_some_and(|until| *until > self.now)
    }

    /// The hello of a new session is heard, what follows takes its time.
    pub(crate) fn dial_slowly(&mut self, worker: usize, replica: usize) {
        self.dial(worker, replica);
        let Some(&link) = self.workers[worker].links.get(&replica) else { return };
        let is_late = |item: &Item| matches!(item, Item::Up { link: of, up } if *of == link && !matches!(up, Up::Hello(_)));
        let until = self.now + self.rng.ms(6000, 9000);
        self.links[link].slow = true;
        self.links[link].hold_up(until);
        let mut late = Vec::new();
        while let Some((_, item)) = self.pull(is_late) {
            late.push(item);
        }
        for item in late {
            self.at(until, item);
        }
    }

    /// A scan of the host takes its time; commands go on meanwhile.
    fn begin_inventory(&mut self, link: usize) {
        let Link { worker, applied: sequence, .. } = self.links[link];
        let host = &self.hosts[self.workers[worker].host];
        let holders = self.workers[worker].holders(host);
        self.after(0, 30, Item::Scanned { link, sequence, holders });
    }

    fn send_inventory(&mut self, link: usize, scanned: (u64, Vec<Holder>)) {
        let Link { worker, .. } = self.links[link];
        let host = self.workers[worker].host;
        let inventory = self.workers[worker].inventory(&self.hosts[host], scanned, self.now);
        self.send_up(link, Up::Inventory(Box::new(inventory)));
        // An inventory doesn't say who publishes.
        for report in self.workers[worker].media_reports() {
            self.send_up(link, Up::Report(Box::new(report)));
        }
    }

    pub(crate) fn send_up(&mut self, link: usize, up: Up) {
        let at = self.now + self.rng.ms(1, 15);
        let at = self.links[link].up(at);
        self.at(at, Item::Up { link, up });
    }

    /// A worker tells all replicas.
    pub(crate) fn report(&mut self, worker: usize, reports: Vec<Report>) {
        let links: Vec<usize> = self.workers[worker].links.values().copied().collect();
        for report in reports {
            for &link in &links {
                self.send_up(link, Up::Report(Box::new(report.clone())));
            }
        }
    }

    pub(crate) fn obey(&mut self, link: usize, term: Term, sequence: u64, command: &Command) {
        let worker = self.links[link].worker;
        if term < self.workers[worker].term {
            self.dropped += 1;
            self.note(|| format!("worker {worker} drops {command:?} of term {term}"));
            return;
        }
        self.workers[worker].term = term;
        self.links[link].applied = sequence;
        let host = self.workers[worker].host;
        let done = self.workers[worker].obey(&mut self.hosts[host], command, self.now);
        self.note_obeyed(worker, command, &done.reports);
        if let Some(text) = done.broken {
            self.violate(format!("worker {worker}: {text}"));
        }
        self.report(worker, done.reports);
        if done.inventory {
            self.begin_inventory(link);
        }
    }

    /// A session breaks: what is on its way to the worker is lost, what is on its way to the operator may still come.
    pub(crate) fn cut(&mut self, link: usize) {
        self.note(|| format!("link {link} breaks"));
        self.after(0, 300, Item::WorkerClose { link });
        let at = self.now + if self.rng.chance(20) { self.rng.ms(500, 4000) } else { self.rng.ms(0, 300) };
        self.at(at, Item::OperatorClose { link });
    }
}
