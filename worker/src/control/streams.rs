//! What this worker holds of each stream, from the first command to the last report. No socket is opened here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proto::control::v1 as wire;
use wire::report::Kind;

use crate::assignment::{Assignment, Ports, StreamRef};
use crate::convert;
use crate::listeners::PortLease;
use crate::rtp::edits::Edits;
use crate::shard::{EndReason, PublisherInfo};

/// Closed ports are told again in inventories for this long.
pub const CLOSED_REMEMBERED: Duration = Duration::from_secs(60);

/// Closed streams that are remembered, more than the API lets come and go in that time; the oldest goes first.
const CLOSED_MAX: usize = 65_536;

/// The streams of this worker, by UID.
#[derive(Debug, Default)]
pub struct Streams {
    held: BTreeMap<Arc<str>, Held>,
    closed: VecDeque<ClosedPorts>,
}

/// One stream.
#[derive(Debug)]
pub struct Held {
    /// What was assigned last.
    pub assignment: Arc<Assignment>,
    /// How far it has come.
    pub phase: Phase,
    /// Ports of the present epoch that were bound.
    pub ports: Vec<u16>,
    /// Tells its ingress of an edit.
    edits: Option<Edits>,
    /// On which of two leases media comes, by its RTP port, and whether it has come there long enough to stay.
    arrived: Option<(u16, bool)>,
    publisher: Option<PublisherInfo>,
    /// Why nobody publishes, in the words of a [`EndReason`] or of a connection that did not come about.
    ended: Option<Arc<str>>,
    live: bool,
}

/// How far a stream has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its shard was told.
    Handed,
    /// Its shard has it.
    InForce,
    /// The ports of a former epoch are being closed; those of this one are bound then.
    Replacing {
        /// The former epoch.
        former: StreamRef,
        /// Its ports.
        ports: Vec<u16>,
    },
    /// Its shard was told to stop it.
    Revoking {
        /// Assigned again before the stop was done.
        next: Option<Arc<Assignment>>,
    },
}

#[derive(Debug)]
struct ClosedPorts {
    at: Duration,
    stream: StreamRef,
    ports: Vec<u16>,
}

/// What an assignment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bind its ports, if it has any, and hand it to its shard.
    Take,
    /// It has no ports of its own, or waits for them; tell its shard.
    Alter,
    /// One of its leases stays: bind the other, if there is one to be, and tell its ingress and its shard.
    Shift,
    /// Tell its shard of the new epoch, which closes the ports of the former; take it when they are closed.
    Replace,
    /// It is done when the stop that is under way is.
    AfterStop,
    /// It is older than what is held.
    Stale,
}

/// What a revocation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Tell its shard.
    Tell(StreamRef),
    /// Nothing of it is here.
    Absent,
    /// Its shard was told already.
    UnderWay,
}

/// What a closed stream leads to.
#[derive(Debug, Default)]
pub struct AfterClose {
    /// Its ports are closed.
    pub report: Option<Kind>,
    /// To be taken in its place.
    pub next: Option<Arc<Assignment>>,
}

impl Held {
    /// Whether ports of a former epoch are being closed: it is taken when they are.
    pub fn is_replacing(&self) -> bool {
        matches!(self.phase, Phase::Replacing { .. })
    }

    /// Whether its ingress has ended by itself.
    pub fn is_over(&self) -> bool {
        self.edits.as_ref().is_some_and(Edits::is_closed)
    }
}

impl Streams {
    /// Notes an assignment and says what is to be done for it.
    pub fn assign(&mut self, assignment: Arc<Assignment>) -> Change {
        let Some(held) = self.held.get_mut(&assignment.stream.uid) else { return Change::Take };
        if let Phase::Revoking { next } = &mut held.phase {
            *next = Some(assignment);
            return Change::AfterStop;
        }
        let (old, new) = (held.assignment.stream.epoch, assignment.stream.epoch);
        if new < old {
            return Change::Stale;
        }
        let goes_on = goes_on(&held.assignment, &assignment);
        if new == old && !goes_on {
            // Numbers belong to an epoch; an operator that changes all of them within one has lost count.
            return Change::Stale;
        }
        // They are looked at when they are bound, where those of a former epoch are being closed.
        if new == old && lease(&assignment).is_some() && !held.is_replacing() {
            return Change::Shift;
        }
        // What has no ports of its own goes on; not if it had some, which are being closed.
        if new == old || (goes_on && lease(&assignment).is_none() && !held.is_replacing()) {
            if new > old {
                held.phase = Phase::Handed;
            }
            // The ingress of a former epoch hears nothing of this one.
            if let Some(edits) = held.edits.as_ref().filter(|_| !held.is_replacing()) {
                edits.tell(assignment.clone(), None);
            }
            held.assignment = assignment;
            return Change::Alter;
        }
        let former = std::mem::replace(&mut held.assignment, assignment);
        let ports = std::mem::take(&mut held.ports);
        if let Phase::Replacing { .. } = held.phase {
            // The shard closes the epochs in their order; the ports are those of the first.
            return Change::Replace;
        }
        held.phase = Phase::Replacing { former: former.stream.clone(), ports };
        Change::Replace
    }

    /// What is assigned of a stream whose ports are open is this from here on; with a second lease, if one was bound for it.
    pub fn shifted(&mut self, assignment: Arc<Assignment>, next: Option<PortLease>) {
        let Some(held) = self.held.get_mut(&assignment.stream.uid) else { return };
        if self::next(&held.assignment) != self::next(&assignment) {
            held.arrived = None;
        }
        held.ports.extend(next.iter().flat_map(|lease| lease.ports.numbers()));
        if let Some(edits) = &held.edits {
            edits.tell(assignment.clone(), next);
        }
        held.assignment = assignment;
    }

    /// A stream's ports are bound and its shard was told.
    pub fn handed(&mut self, assignment: Arc<Assignment>, ports: Vec<u16>, edits: Option<Edits>) {
        let held = self.held.entry(assignment.stream.uid.clone()).or_insert_with(|| Held {
            assignment: assignment.clone(),
            phase: Phase::Handed,
            ports: Vec::new(),
            edits: None,
            arrived: None,
            publisher: None,
            ended: None,
            live: false,
        });
        *held = Held {
            assignment,
            phase: Phase::Handed,
            ports,
            edits,
            arrived: None,
            publisher: held.publisher.take(),
            ended: held.ended.take(),
            live: held.live,
        };
    }

    /// Notes a revocation and says what is to be done for it.
    pub fn revoke(&mut self, stream: &StreamRef) -> Stop {
        match self.held.get_mut(&stream.uid) {
            Some(held) if held.assignment.stream.epoch <= stream.epoch => match &mut held.phase {
                Phase::Revoking { next } => {
                    next.take_if(|next| next.stream.epoch <= stream.epoch);
                    Stop::UnderWay
                }
                phase => {
                    // Ports of a former epoch that still close are told together with those of this one.
                    if let Phase::Replacing { former: _, ports } = phase {
                        held.ports.append(ports);
                    }
                    *phase = Phase::Revoking { next: None };
                    Stop::Tell(held.assignment.stream.clone())
                }
            },
            Some(_) | None => Stop::Absent,
        }
    }

    /// Its shard has nothing left of this epoch.
    pub fn closed(&mut self, stream: &StreamRef, now: Duration) -> AfterClose {
        let Some(held) = self.held.get_mut(&stream.uid) else { return AfterClose::default() };
        match &mut held.phase {
            Phase::Replacing { former, ports } if former == stream => {
                let ports = std::mem::take(ports);
                held.phase = Phase::Handed;
                let next = Some(held.assignment.clone());
                AfterClose { report: Some(self.remember(stream, ports, now)), next }
            }
            Phase::Revoking { next } if held.assignment.stream == *stream => {
                let (next, ports) = (next.take(), std::mem::take(&mut held.ports));
                self.held.remove(&stream.uid);
                AfterClose { report: Some(self.remember(stream, ports, now)), next }
            }
            // Another stream got its path: its shard stopped it by itself.
            Phase::Handed | Phase::InForce if held.assignment.stream == *stream => {
                let ports = std::mem::take(&mut held.ports);
                self.held.remove(&stream.uid);
                AfterClose { report: Some(self.remember(stream, ports, now)), next: None }
            }
            // A former epoch of a stream without ports of its own.
            _ => AfterClose { report: Some(self.remember(stream, Vec::new(), now)), next: None },
        }
    }

    fn remember(&mut self, stream: &StreamRef, ports: Vec<u16>, now: Duration) -> Kind {
        let report = self.note_closed(stream, ports, now);
        Kind::Closed(wire::Closed { ago_ms: 0, ..report })
    }

    fn note_closed(&mut self, stream: &StreamRef, ports: Vec<u16>, now: Duration) -> wire::Closed {
        self.forget(now);
        if self.closed.len() == CLOSED_MAX {
            self.closed.pop_front();
        }
        let closed = ClosedPorts { at: now, stream: stream.clone(), ports };
        let report = closed_message(&closed, now);
        self.closed.push_back(closed);
        report
    }

    fn forget(&mut self, now: Duration) {
        while self.closed.front().is_some_and(|closed| now.saturating_sub(closed.at) > CLOSED_REMEMBERED) {
            self.closed.pop_front();
        }
    }

    /// The assignment could not be bound: nothing of it is held.
    pub fn drop_unbound(&mut self, stream: &StreamRef) -> Option<StreamRef> {
        let held = self.held.get_mut(&stream.uid)?;
        // Its shard had the stream at a former epoch and was told of this one: it is to stop it.
        held.phase = Phase::Revoking { next: None };
        Some(held.assignment.stream.clone())
    }

    /// Its shard has it.
    pub fn in_force(&mut self, stream: &StreamRef) -> Option<Kind> {
        let held = self.current(stream)?;
        match held.phase {
            Phase::Handed | Phase::InForce => held.phase = Phase::InForce,
            Phase::Replacing { .. } | Phase::Revoking { .. } => return None,
        }
        Some(assigned_message(held))
    }

    /// A publisher came or went.
    pub fn publisher(
        &mut self,
        stream: &StreamRef,
        publisher: Option<PublisherInfo>,
        ended: Option<EndReason>,
    ) -> Option<Kind> {
        let held = self.current(stream)?;
        held.publisher = publisher;
        held.ended = ended.map(|reason| reason.as_str().into());
        Some(publisher_message(held))
    }

    /// Some of its leases were closed, and these ports are what is left. What is to be told.
    pub fn leases_closed(&mut self, stream: &StreamRef, open: &[u16], now: Duration) -> Option<Kind> {
        let held = self.current(stream)?;
        match held.phase {
            Phase::Handed | Phase::InForce => {}
            // They are told with all others.
            Phase::Replacing { .. } | Phase::Revoking { .. } => return None,
        }
        let closed: Vec<u16> = held.ports.extract_if(.., |port| !open.contains(port)).collect();
        if closed.is_empty() {
            return None;
        }
        let ports = closed.iter().map(|&port| port.into()).collect();
        self.note_closed(stream, closed, now);
        Some(Kind::PortsClosed(wire::PortsClosed { stream: Some(convert::stream_ref(stream)), ports }))
    }

    /// Media comes on one of its two leases.
    pub fn arrived(&mut self, stream: &StreamRef, port: u16, settled: bool) -> Option<Kind> {
        let held = self.current(stream)?;
        next(&held.assignment)?;
        held.arrived = Some((port, settled));
        arrived_message(held)
    }

    /// Its device could not be connected to. Said once, however often that is tried.
    pub fn dial_failed(&mut self, stream: &StreamRef, error: Arc<str>) -> Option<Kind> {
        let held = self.current(stream)?;
        if held.publisher.is_some() || held.ended.as_ref() == Some(&error) {
            return None;
        }
        held.ended = Some(error);
        Some(publisher_message(held))
    }

    /// Media began or ceased to flow.
    pub fn media(&mut self, stream: &StreamRef, live: bool) -> Option<Kind> {
        let held = self.current(stream)?;
        held.live = live;
        Some(media_message(held))
    }

    fn current(&mut self, stream: &StreamRef) -> Option<&mut Held> {
        self.held.get_mut(&stream.uid).filter(|held| held.assignment.stream == *stream)
    }

    /// All that must be told after an inventory, of streams of which it `holds` that they are as they should be.
    pub fn state(&self, holds: impl Fn(&Held) -> bool) -> Vec<Kind> {
        let in_force = self.held.values().filter(|held| held.phase == Phase::InForce && holds(held));
        in_force
            .flat_map(|held| {
                let publisher =
                    (held.publisher.is_some() || held.ended.is_some()).then(|| publisher_message(held));
                let media = held.live.then(|| media_message(held));
                [Some(assigned_message(held)), publisher, media, arrived_message(held)]
            })
            .flatten()
            .collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Streams assigned here, those without ports too.
    pub fn refs(&self) -> Vec<wire::StreamRef> {
        self.held.values().map(|held| convert::stream_ref(&held.assignment.stream)).collect()
    }

    /// Streams whose path fits, as a shard's state dump lists them.
    pub fn refs_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<wire::StreamRef> {
        let fits = self.held.values().filter(|held| wanted(&held.assignment.path));
        fits.map(|held| convert::stream_ref(&held.assignment.stream)).collect()
    }

    /// For an inventory.
    pub fn recently_closed(&mut self, now: Duration) -> Vec<wire::Closed> {
        self.forget(now);
        self.closed.iter().map(|closed| closed_message(closed, now)).collect()
    }

    /// The stream, if it is held.
    pub fn find(&self, uid: &str) -> Option<&Held> {
        self.held.get(uid)
    }
}

/// Whether an assignment goes by what another one had open: by one of its leases, or likewise by none.
fn goes_on(held: &Assignment, assignment: &Assignment) -> bool {
    match (&held.rtp, &assignment.rtp) {
        (None, None) => true,
        (Some(had), Some(has)) => match has.ports.lease() {
            Some(lease) => had.transport == has.transport && had.ports.leases().any(|had| had == lease),
            None => had.ports.lease().is_none(),
        },
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn lease(assignment: &Assignment) -> Option<Ports> {
    assignment.rtp.as_ref()?.ports.lease()
}

fn next(assignment: &Assignment) -> Option<Ports> {
    assignment.rtp.as_ref()?.ports.next()
}

fn assigned_message(held: &Held) -> Kind {
    let open = |lease: Option<Ports>| {
        let numbers = lease.into_iter().flat_map(Ports::numbers);
        numbers.filter(|port| held.ports.contains(port)).map(u32::from).collect()
    };
    Kind::Assigned(wire::Assigned {
        stream: Some(convert::stream_ref(&held.assignment.stream)),
        ports: open(lease(&held.assignment)),
        next_ports: open(next(&held.assignment)),
    })
}

fn arrived_message(held: &Held) -> Option<Kind> {
    let (port, settled) = held.arrived?;
    let stream = Some(convert::stream_ref(&held.assignment.stream));
    Some(Kind::Arrived(wire::Arrived { stream, port: port.into(), settled }))
}

fn publisher_message(held: &Held) -> Kind {
    Kind::Publisher(wire::PublisherChanged {
        stream: Some(convert::stream_ref(&held.assignment.stream)),
        publisher: held.publisher.as_ref().map(convert::publisher),
        reason: held.ended.as_deref().unwrap_or_default().to_owned(),
    })
}

fn media_message(held: &Held) -> Kind {
    let stream = Some(convert::stream_ref(&held.assignment.stream));
    Kind::Media(wire::MediaChanged { stream, live: held.live })
}

fn closed_message(closed: &ClosedPorts, now: Duration) -> wire::Closed {
    wire::Closed {
        stream: Some(convert::stream_ref(&closed.stream)),
        ports: closed.ports.iter().map(|&port| port.into()).collect(),
        ago_ms: now.saturating_sub(closed.at).as_millis() as u64,
    }
}
