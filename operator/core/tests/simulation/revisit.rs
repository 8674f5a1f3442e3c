//! Moments of a run that are gone to again. Some pairs of event and state are met so seldom by chance that ten thousand runs
//! are not enough: where streams seldom are, a run notes its moment, and the same seed is run once more up to there. Then
//! something else is heard, of what is on its way or could be said just then, and from there on it is another run, judged like
//! any other.

use std::collections::BTreeMap;

use operator_core::event::Report;
use operator_core::ids::{StreamRef, Uid};
use operator_core::status::Phase;
use operator_core::{Command, LeaseState};

use crate::coverage::{self, Pair};
use crate::link::Up;
use crate::poke::Target;
use crate::rng::Rng;
use crate::world::{Item, World};

/// Of each state, and of what is on its way just then, a run notes so many moments.
const KEPT: usize = 6;
/// What is heard may depend on chance.
const TRIES: usize = 4;

/// A moment at which a stream is where streams seldom are.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// What leaders of this run had heard by then.
    pub(crate) moment: u64,
    pub(crate) uid: Uid,
}

/// What could be heard of the stream then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Anything that is not about one stream.
    Any,
    /// It is being written.
    Write,
    /// It is being read.
    Read,
    /// A worker is about to be told to run it, or says that it does.
    Assign,
    /// A worker is about to be told to open its ports, or says that it can't.
    Bind,
    /// A worker is about to be told to end it, or says that it did.
    End,
}

/// What a run has noted.
#[derive(Debug)]
pub(crate) struct Visits {
    rng: Rng,
    seen: BTreeMap<(LeaseState, Phase, Way), (usize, Vec<Visit>)>,
}

/// What is done otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Detour {
    pub(crate) visit: Visit,
    /// How often it was gone to before for this: what follows is up to other chance.
    pub(crate) turn: u64,
    pub(crate) pair: Pair,
}

impl Detour {
    /// In words that [`Detour::parse`] reads.
    pub(crate) fn told(&self) -> String {
        format!("{} {} {} {}", self.visit.moment, self.visit.uid, self.turn, self.pair.name().join(" "))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (moment, rest) = text.split_once(' ')?;
        let (uid, rest) = rest.split_once(' ')?;
        let (turn, pair) = rest.split_once(' ')?;
        Some(Self {
            visit: Visit { moment: moment.parse().ok()?, uid: uid.into() },
            turn: turn.parse().ok()?,
            pair: Pair::parse(pair)?,
        })
    }
}

impl Visits {
    pub(crate) fn of(seed: u64) -> Self {
        Self { rng: Rng::new(seed), seen: BTreeMap::new() }
    }

    pub(crate) fn all(self) -> impl Iterator<Item = ((LeaseState, Phase, Way), Vec<Visit>)> {
        self.seen.into_iter().map(|(state, (_, visits))| (state, visits))
    }

    /// Each moment of such a state is as likely to be kept.
    fn add(&mut self, state: (LeaseState, Phase, Way), visit: Visit) {
        let (count, kept) = self.seen.entry(state).or_default();
        *count += 1;
        if kept.len() < KEPT {
            kept.push(visit);
        } else if let Some(place) = kept.get_mut(self.rng.below(*count)) {
            *place = visit;
        }
    }
}

impl Way {
    /// How an event of this kind is heard.
    pub(crate) fn of(kind: coverage::Kind) -> Self {
        use coverage::Kind as It;
        match kind {
            It::Written | It::Conflict | It::Refused | It::NotFound | It::Unknown => Self::Write,
            It::ConfirmedFound | It::ConfirmedNotFound => Self::Read,
            It::Assigned => Self::Assign,
            It::BindFailed => Self::Bind,
            It::Closed => Self::End,
            _ => Self::Any,
        }
    }
}

/// Whether moments of it are worth a note.
fn is_seldom(lease: LeaseState, phase: Phase) -> bool {
    let wanted = matches!(phase, Phase::Pending | Phase::Ready | Phase::Live);
    match lease {
        LeaseState::Adopted => true,
        LeaseState::Leased | LeaseState::Claimed => !wanted,
        LeaseState::Revoking => wanted,
        LeaseState::Quarantined => !wanted,
        LeaseState::Free | LeaseState::Cooling => false,
    }
}

impl World {
    /// A leader has heard something.
    pub(crate) fn pass(&mut self, replica: usize) {
        if self.faults.calm || !self.replicas[replica].leading {
            return;
        }
        self.moments += 1;
        if self.visits.is_some() {
            self.note_visits(replica);
        }
        if self.detour.as_ref().is_some_and(|detour| detour.visit.moment == self.moments)
            && let Some(detour) = self.detour.take()
        {
            self.turn_off(replica, &detour);
        }
    }

    fn note_visits(&mut self, replica: usize) {
        let Some(mut visits) = self.visits.take() else { return };
        for target in self.targets_of(replica) {
            if !is_seldom(target.lease, target.phase) {
                continue;
            }
            let visit = Visit { moment: self.moments, uid: target.uid.clone() };
            let writes = &self.replicas[replica].seen.writes;
            if writes.values().any(|note| note.is_stream && !note.former && note.uid == target.uid) {
                visits.add((target.lease, target.phase, Way::Write), visit.clone());
            }
            if self.is_read(&target) {
                visits.add((target.lease, target.phase, Way::Read), visit.clone());
            }
            visits.add((target.lease, target.phase, Way::Any), visit);
        }
        let core = &self.replicas[replica].core;
        for (&session, &link) in &self.replicas[replica].sessions {
            for claim in core.claims() {
                let Some((lease, phase)) = core.reported_state(session, &claim.stream) else { continue };
                if !is_seldom(lease, phase) {
                    continue;
                }
                let visit = Visit { moment: self.moments, uid: claim.stream.uid.clone() };
                for way in [Way::Assign, Way::Bind, Way::End] {
                    if self.is_spoken_of(link, &claim.stream, way) {
                        visits.add((lease, phase, way), visit.clone());
                    }
                }
                visits.add((lease, phase, Way::Any), visit);
            }
        }
        self.visits = Some(visits);
    }

    /// Whether the worker at the end of this link speaks of the stream in this way, or is about to be told of it.
    fn is_spoken_of(&self, link: usize, stream: &StreamRef, way: Way) -> bool {
        let worker = self.links[link].worker;
        let fits = |report: &Report| Way::of(coverage::report_kind(report)) == way;
        let spoken = |item: &Item| match item {
            Item::Up { link: of, up: up @ Up::Report(report) } => {
                (*of == link && fits(report) && up.is_of(&stream.uid)).then_some(())
            }
            // What it would not obey any more is of no use.
            Item::Down { link: of, command, term, .. } if *term >= self.workers[worker].term => {
                let told = match (way, command) {
                    (Way::Assign, Command::Assign(assign)) => &assign.stream,
                    (Way::Bind, Command::Assign(assign)) if assign.source.ports().is_some() => &assign.stream,
                    (Way::End, Command::Revoke { stream, reason: _ }) => stream,
                    _ => return None,
                };
                (told == stream && self.links[*of].worker == worker).then_some(())
            }
            _ => None,
        };
        self.find(spoken).is_some()
    }

    /// From here on it is another run.
    fn turn_off(&mut self, replica: usize, detour: &Detour) {
        let Detour { visit, turn, pair } = detour;
        self.note(|| format!("another turn: {pair:?} of {}", visit.uid));
        self.rng = Rng::new(self.moments ^ ((pair.kind as u64 + 1) << 40) ^ (turn << 50));
        self.coverage = coverage::Coverage::default();
        let Some(name) = self.replicas[replica].core.stream(&visit.uid).map(|stream| stream.name.clone())
        else {
            self.turned = Some(false);
            return;
        };
        let target = Target { replica, uid: visit.uid.clone(), name, lease: pair.lease, phase: pair.phase };
        let before = std::mem::replace(&mut self.faults.crowding, true);
        for _ in 0..TRIES {
            if !self.replicas[replica].leading || self.coverage.hits(pair.kind, pair.lease, pair.phase) > 0 {
                break;
            }
            self.hear(&target, pair.kind);
        }
        self.faults.crowding = before;
        // Nothing else is of use in this run.
        self.turned = Some(self.coverage.hits(pair.kind, pair.lease, pair.phase) > 0);
        let incarnation = self.replicas[replica].incarnation;
        self.at(self.now, Item::Plan { replica, incarnation });
    }
}
