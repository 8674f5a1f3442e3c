//! Second leases: what workers say of them.

use std::collections::BTreeSet;

use crate::claim::{Claim, Stage};
use crate::event::Now;
use crate::ids::{NodeName, Ports, StreamRef};
use crate::state::{After, State, unix};
use crate::timers::Timer;

impl State {
    /// The worker has both leases open.
    pub(crate) fn note_opened(&mut self, key: &StreamRef, next: Option<Ports>, now: Now) {
        let second = self.claims.get(key).and_then(|claim| claim.second.as_ref());
        if second.is_some_and(|it| it.stage == Stage::Opening && Some(it.ports) == next) {
            self.open_second(key, now);
        }
    }

    fn open_second(&mut self, key: &StreamRef, now: Now) {
        let Some(second) = self.claims.get_mut(key).and_then(|claim| claim.second.as_mut()) else { return };
        second.since.get_or_insert(unix(now));
        self.timers.cancel(&Timer::AnswerDue(key.clone()));
        self.set_stage(key, Stage::Open);
    }

    /// The worker has closed numbers of a stream that goes on.
    pub(crate) fn note_ports_closed(&mut self, node: &NodeName, key: &StreamRef, ports: &[u16], now: Now) {
        let Some(claim) = self.claims.get(key).filter(|claim| claim.node == *node) else { return };
        let Some(second) = claim.second.as_ref().filter(|second| second.stage == Stage::Closing) else {
            return;
        };
        if second.ports.numbers().all(|port| ports.contains(&port)) {
            self.timers.cancel(&Timer::AnswerDue(key.clone()));
            self.end_second(key, After::Cooling, now);
        }
    }

    /// Media comes on one of two leases, by its RTP number.
    pub(crate) fn note_arrived(&mut self, node: &NodeName, key: &StreamRef, port: u16, settled: bool) {
        let goes_on = |claim: &&mut Claim| claim.node == *node && claim.is_written();
        let Some(claim) = self.claims.get_mut(key).filter(goes_on) else { return };
        let Some(second) = claim.second.as_mut().filter(|second| second.stage == Stage::Open) else { return };
        second.arrived = second.ports.rtp == port;
        if second.arrived && settled {
            self.end_move(key);
        }
        self.mark(&key.uid);
    }

    /// What of two leases is open, as an inventory shows it that was begun after what its worker was told.
    pub(crate) fn compare_second(&mut self, key: &StreamRef, open: Option<&BTreeSet<u16>>, now: Now) {
        let Some(claim) = self.claims.get(key) else { return };
        let (Some(first), Some(second)) = (claim.ports(), &claim.second) else { return };
        let is_open = |port: u16| open.is_some_and(|open| open.contains(&port));
        let has_first = first.numbers().all(is_open);
        let has_second = second.ports.numbers().all(is_open);
        let closed = !second.ports.numbers().any(is_open);
        match (second.stage, has_first, has_second) {
            (Stage::Reserved, _, _) => {}
            (Stage::Opening | Stage::Open, true, true) => self.open_second(key, now),
            (Stage::Opening | Stage::Open, false, true) => {
                // Another leader has ended the move, or the socket is lost: what is left is what it lives by.
                self.give_up_first(key);
                self.compare_second(key, open, now);
            }
            (Stage::Opening | Stage::Open, true, false) => {
                self.set_stage(key, Stage::Opening);
                self.dirty.tell.insert(key.clone());
            }
            // The claim itself is to be told again, or is over.
            (Stage::Opening | Stage::Open, false, false) => {}
            (Stage::Closing, _, _) if closed => self.end_second(key, After::Cooling, now),
            (Stage::Closing, _, _) => {
                self.dirty.tell.insert(key.clone());
            }
        }
    }

    /// The two leases of a claim change places, and the one that is the second now is to be closed.
    pub(crate) fn give_up_first(&mut self, key: &StreamRef) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        if let (Some(first), Some(second)) = (&mut claim.lease, &mut claim.second) {
            std::mem::swap(&mut first.ports, &mut second.ports);
        }
        self.set_stage(key, Stage::Closing);
    }

    /// The second lease of a claim has come further.
    pub(crate) fn set_stage(&mut self, key: &StreamRef, stage: Stage) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(second) = &mut claim.second else { return };
        second.stage = stage;
        if stage == Stage::Closing {
            (second.arrived, second.since) = (false, None);
        }
        if let Some(worker) = self.nodes.get_mut(&claim.node).and_then(|node| node.worker.as_mut()) {
            worker.digest = None;
        }
        self.mark(&key.uid);
    }
}
