//! Who is alive: whether a worker that is not heard is gone, by the word of those who look at its health port (design §5).
//!
//! ```text
//! heard ──(silent for 750 ms, or its session ended)──→ asked ──(a majority can't reach it)──→ lost
//!   ↑                                                    │ ──(it answers: only we don't hear it)──→ degraded ─┐ asked again
//!   └──────────────(it speaks)───────────────────────────┘ ──(the majority is not heard itself)───→ held ─────┘ each second
//! ```
//!
//! Witnesses are all replicas of the operator and the other workers. The panel only judges; what follows from a verdict is the
//! planner's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, Now};
use crate::ids::{BootId, NodeName, SessionId, WorkerName};

/// Silence after which witnesses are asked: three beats.
const SUSPECT_AFTER: Duration = Duration::from_millis(750);

/// What witnesses have for their look, from the question to the answer's arrival: 1.2 s of silence in all.
pub const LOOK_WINDOW: Duration = Duration::from_millis(450);

/// While nothing can be said they are asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Other workers that are asked about one. More would only be slower: a majority of 32 is not wrong by chance.
const WITNESSES_MAX: usize = 31;

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// This replica itself.
    Own,
    /// Another replica, at this address.
    Replica(IpAddr),
    /// The worker at the other end of a session.
    Worker(SessionId),
}

/// What a look at a health port showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A worker answered.
    Answered {
        /// Which start of it.
        boot: BootId,
    },
    /// The port is closed: its host is there, and no process has it.
    Refused,
    /// No answer in time, or no way there.
    Silent,
}

/// What is to be done, or said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Have a witness look. Answered by `Panel::see`, or never.
    Look {
        /// Names the answer.
        inquiry: u64,
        /// Who is to look.
        witness: Witness,
        /// At whom.
        worker: WorkerName,
        /// Host of the health port.
        address: Arc<str>,
        /// Its number.
        port: u16,
    },
    /// A worker is gone: its streams may move.
    Lost {
        /// Where it ran.
        node: NodeName,
        /// Which.
        worker: WorkerName,
        /// Which start of it.
        boot: BootId,
    },
    /// A worker runs and is not heard by us: it keeps its streams. Said each time that it is asked about.
    Degraded {
        /// Where it runs.
        node: NodeName,
        /// Which.
        worker: WorkerName,
        /// Which start of it.
        boot: BootId,
        /// It was not said the time before.
        news: bool,
    },
    /// Too few witnesses are heard themselves: nothing is said of the worker, and nothing moves. Said once.
    Held {
        /// Where it runs.
        node: NodeName,
        /// Which.
        worker: WorkerName,
        /// Witnesses that could not reach it.
        against: usize,
        /// All of them.
        witnesses: usize,
    },
}

/// How a worker stands at the moment, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It speaks.
    Heard,
    /// It does not, and nothing is said of it yet: witnesses are being asked, or there are none.
    Silent,
    /// It runs, and only we don't hear it.
    Degraded,
    /// Too few witnesses are heard to say anything.
    Held,
    /// It is gone.
    Lost,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Heard, Self::Silent, Self::Degraded, Self::Held, Self::Lost];

    /// As metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Silent => "silent",
            Self::Degraded => "degraded",
            Self::Held => "held",
            Self::Lost => "lost",
        }
    }
}

/// The workers and what is asked about them.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    seats: BTreeMap<NodeName, Seat>,
    sessions: BTreeMap<SessionId, NodeName>,
    /// When each seat is to be looked at.
    due: BTreeSet<(Duration, NodeName)>,
    /// The other replicas, alive or not.
    replicas: BTreeSet<IpAddr>,
    last_inquiry: u64,
}

#[derive(Clone, Debug)]
struct Seat {
    worker: WorkerName,
    boot: BootId,
    address: Option<Arc<str>>,
    health_port: u16,
    session: Option<SessionId>,
    last_heard: Duration,
    standing: Standing,
    due: Duration,
    /// A state other than heard was told.
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Degraded,
    Held,
}

#[derive(Clone, Debug)]
enum Standing {
    /// Heard, or to be asked about at its due time.
    Open,
    Asked(Inquiry),
    Lost,
}

#[derive(Clone, Debug)]
struct Inquiry {
    id: u64,
    /// All who are asked, or would be if they were heard.
    witnesses: usize,
    /// Those who are asked, and what they saw.
    asked: BTreeMap<Witness, Option<Sight>>,
}

impl Panel {
    /// Takes note of who speaks. Everything that the planner sees comes here first.
    pub fn observe(&mut self, event: &Event, now: Now) {
        match event {
            Event::Hello { session, hello } => {
                if let Some(former) = self.seats.get(&hello.node).and_then(|seat| seat.session) {
                    self.sessions.remove(&former);
                }
                self.sessions.insert(*session, hello.node.clone());
                let seat = Seat {
                    worker: hello.worker.clone(),
                    boot: hello.boot.clone(),
                    address: hello.addresses.first().cloned(),
                    health_port: hello.health_port,
                    session: Some(*session),
                    last_heard: now.mono,
                    standing: Standing::Open,
                    due: Duration::ZERO,
                    told: None,
                };
                self.unseat(&hello.node);
                self.seats.insert(hello.node.clone(), seat);
                self.arm(&hello.node, now.mono + SUSPECT_AFTER);
            }
            Event::Inventory { session, .. }
            | Event::Beat { session, .. }
            | Event::Report { session, .. } => {
                self.hear(*session, now.mono);
            }
            Event::SessionClosed { session } => {
                let Some(node) = self.sessions.remove(session) else { return };
                let Some(seat) = self.seats.get_mut(&node) else { return };
                if seat.session == Some(*session) {
                    seat.session = None;
                    // Not a death, but a reason to look at once.
                    if matches!(seat.standing, Standing::Open) {
                        self.arm(&node, now.mono);
                    }
                }
            }
            Event::NodeGone { name } => {
                if self.seats.get(name).is_some_and(|seat| seat.session.is_none()) {
                    self.unseat(name);
                }
            }
            Event::StreamSeen(_)
            | Event::StreamGone { .. }
            | Event::PoolSeen(_)
            | Event::PoolGone { .. }
            | Event::NodeSeen(_)
            | Event::SecretSeen { .. }
            | Event::SecretGone { .. }
            | Event::ServiceCidrSeen { .. }
            | Event::ServiceCidrGone { .. }
            | Event::Listed(_)
            | Event::Confirmed { .. }
            | Event::Forgotten { .. }
            | Event::AbsenceConfirmed
            | Event::Write { .. }
            | Event::WorkerDegraded { .. }
            | Event::WorkerLost { .. }
            | Event::Lead { .. }
            | Event::TermRecorded { .. }
            | Event::Demoted
            | Event::Tick => {}
        }
    }

    /// These are the other replicas from here on. One that is gone counts, for as long as it is named, as one that is not heard.
    pub fn set_replicas(&mut self, replicas: BTreeSet<IpAddr>) {
        self.replicas = replicas;
    }

    /// Where a worker's health port is, for another replica that asks.
    pub fn health_port(&self, worker: &WorkerName) -> Option<(Arc<str>, u16)> {
        self.seats.values().find(|seat| seat.worker == *worker)?.health_port()
    }

    /// How each worker stands.
    pub fn verdicts(&self, now: Now) -> impl Iterator<Item = Verdict> + '_ {
        self.seats.values().map(move |seat| seat.verdict(now.mono))
    }

    /// What a witness saw. Answers to former questions say nothing.
    pub fn see(&mut self, inquiry: u64, witness: Witness, sight: Sight, now: Now) -> Option<Order> {
        let asked = |seat: &Seat| matches!(&seat.standing, Standing::Asked(asked) if asked.id == inquiry);
        let node = self.seats.iter().find(|(_, seat)| asked(seat)).map(|(node, _)| node.clone())?;
        let seat = self.seats.get_mut(&node)?;
        let Standing::Asked(inquiry) = &mut seat.standing else { return None };
        // Nobody has a say who was not asked.
        *inquiry.asked.get_mut(&witness)? = Some(sight);
        self.judge(&node, now.mono, Until::More)
    }

    /// What has come due by now.
    pub fn poll(&mut self, now: Now) -> Vec<Order> {
        let mut orders = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now.mono) {
            let Some((_, node)) = self.due.pop_first() else { break };
            let Some(seat) = self.seats.get(&node) else { continue };
            match &seat.standing {
                Standing::Lost => {}
                Standing::Open => {
                    let silent_at = seat.last_heard + SUSPECT_AFTER;
                    if seat.session.is_some() && silent_at > now.mono {
                        self.arm(&node, silent_at);
                    } else {
                        orders.extend(self.ask(&node, now.mono));
                    }
                }
                Standing::Asked(_) => orders.extend(self.judge(&node, now.mono, Until::Here)),
            }
        }
        orders
    }

    /// When `poll` wants to be called though nothing happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    fn hear(&mut self, session: SessionId, now: Duration) {
        let Some(node) = self.sessions.get(&session).cloned() else { return };
        let Some(seat) = self.seats.get_mut(&node).filter(|seat| seat.session == Some(session)) else {
            return;
        };
        seat.last_heard = now;
        seat.told = None;
        if !matches!(seat.standing, Standing::Open) {
            seat.standing = Standing::Open;
            self.arm(&node, now + SUSPECT_AFTER);
        }
    }

    /// Asks everybody who can be asked about the worker of `node`.
    fn ask(&mut self, node: &NodeName, now: Duration) -> Vec<Order> {
        let others = self.others(node);
        let Some(seat) = self.seats.get(node) else { return Vec::new() };
        let Some((address, port)) = seat.health_port().filter(|_| !others.is_empty()) else {
            // There is nobody to move its streams to, or nowhere to look.
            self.arm(node, now + ASK_AGAIN);
            return Vec::new();
        };
        self.last_inquiry += 1;
        let inquiry = self.last_inquiry;
        let heard = |other: &NodeName| {
            let seat = self.seats.get(other)?;
            seat.session.filter(|_| now < seat.last_heard + SUSPECT_AFTER)
        };
        let workers = others.iter().filter_map(heard).map(Witness::Worker);
        let replicas = self.replicas.iter().copied().map(Witness::Replica);
        let looks: Vec<Witness> = std::iter::once(Witness::Own).chain(replicas).chain(workers).collect();
        let worker = &seat.worker;
        let look = |witness| Order::Look {
            inquiry,
            witness,
            worker: worker.clone(),
            address: address.clone(),
            port,
        };
        let orders = looks.iter().copied().map(look).collect();
        let witnesses = others.len() + self.replicas.len() + 1;
        let asked = looks.into_iter().map(|witness| (witness, None)).collect();
        let asked = Inquiry { id: inquiry, witnesses, asked };
        if let Some(seat) = self.seats.get_mut(node) {
            seat.standing = Standing::Asked(asked);
        }
        self.arm(node, now + LOOK_WINDOW);
        orders
    }

    /// Other workers that are not known to be gone, beginning behind `node`, so that not the same ones are asked about everybody.
    fn others(&self, node: &NodeName) -> Vec<NodeName> {
        let after =
            self.seats.range::<NodeName, _>((std::ops::Bound::Excluded(node), std::ops::Bound::Unbounded));
        let before = self.seats.range::<NodeName, _>(..node);
        let there = |(name, seat): (&NodeName, &Seat)| {
            (!matches!(seat.standing, Standing::Lost)).then(|| name.clone())
        };
        after.chain(before).filter_map(there).take(WITNESSES_MAX).collect()
    }

    fn judge(&mut self, node: &NodeName, now: Duration, until: Until) -> Option<Order> {
        let seat = self.seats.get_mut(node)?;
        let Standing::Asked(inquiry) = &seat.standing else { return None };
        // A process that was started again says hello by itself; until then nothing is known of it but that it is there.
        let sights = || inquiry.asked.values().flatten();
        let answers = sights().filter(|sight| matches!(sight, Sight::Answered { .. })).count();
        let against = sights().count() - answers;
        let witnesses = inquiry.witnesses;
        let worker = seat.worker.clone();
        if against * 2 > witnesses {
            seat.standing = Standing::Lost;
            seat.told = None;
            return Some(Order::Lost { node: node.clone(), worker, boot: seat.boot.clone() });
        }
        let degraded = answers * 2 >= witnesses || (answers > 0 && until == Until::Here);
        let told = match until {
            _ if degraded => Told::Degraded,
            Until::Here => Told::Held,
            Until::More => return None,
        };
        let boot = seat.boot.clone();
        seat.standing = Standing::Open;
        let news = seat.told.replace(told) != Some(told);
        self.arm(node, now + ASK_AGAIN);
        let node = node.clone();
        match told {
            Told::Degraded => Some(Order::Degraded { node, worker, boot, news }),
            Told::Held => news.then_some(Order::Held { node, worker, against, witnesses }),
        }
    }

    fn arm(&mut self, node: &NodeName, at: Duration) {
        let Some(seat) = self.seats.get_mut(node) else { return };
        self.due.remove(&(seat.due, node.clone()));
        seat.due = at;
        self.due.insert((at, node.clone()));
    }

    fn unseat(&mut self, node: &NodeName) {
        if let Some(seat) = self.seats.remove(node) {
            self.due.remove(&(seat.due, node.clone()));
        }
    }
}

impl Seat {
    /// Where to look: nowhere for a worker that named no address or no port.
    fn health_port(&self) -> Option<(Arc<str>, u16)> {
        let address = self.address.clone().filter(|_| self.health_port != 0)?;
        Some((address, self.health_port))
    }

    fn verdict(&self, now: Duration) -> Verdict {
        match (&self.standing, self.told) {
            (Standing::Lost, _) => Verdict::Lost,
            (Standing::Open | Standing::Asked(_), Some(Told::Degraded)) => Verdict::Degraded,
            (Standing::Open | Standing::Asked(_), Some(Told::Held)) => Verdict::Held,
            (Standing::Open | Standing::Asked(_), None) => {
                let heard = self.session.is_some() && now < self.last_heard + SUSPECT_AFTER;
                if heard { Verdict::Heard } else { Verdict::Silent }
            }
        }
    }
}

/// Whether more answers may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    More,
    Here,
}

#[cfg(test)]
mod tests;
