//! Claims as they are on record: a new leader's start, and writes of others that turn up later.

use crate::claim::{Claim, ClaimPhase, Lease, Second, Stage};
use crate::event::Now;
use crate::ids::{Epoch, StreamRef, Uid};
use crate::reason::Reason;
use crate::state::{After, State};
use crate::status::{Assignment, RtpPorts};
use crate::timers::Timer;

impl State {
    /// Whether claims have been rebuilt from the lists.
    pub(crate) fn is_recovered(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.recovered)
    }

    /// Everything has been listed: takes each claim that is on record, then looks at everything once.
    pub(crate) fn recover(&mut self, now: Now) {
        let Some(lead) = &mut self.lead else { return };
        lead.recovered = true;
        let absent = std::mem::take(&mut lead.absent);
        let uids: Vec<Uid> = self.streams.keys().cloned().collect();
        for uid in &uids {
            if let Some(stream) = self.streams.get_mut(uid) {
                stream.take_record();
                // What it was in an earlier term of ours that another leader has ended since.
                let (idle, suspect) = stream.recorded_rest();
                stream.idle &= idle;
                stream.suspect &= suspect;
            }
            self.recover_claim(uid, now);
            self.arm_quiet(uid, now);
            self.mark(uid);
        }
        if self.restored {
            // Lists may have taken their time, and workers are to be heard from here on.
            self.timers.set(Timer::LeadWindow, now.mono + self.config.lead_window);
        }
        self.restock(now);
        self.judge_absent(&absent, now);
        self.dirty.paths.extend(self.paths.keys().cloned());
        self.dirty.pools.extend(self.pools.keys().cloned());
        self.dirty.nodes.extend(self.nodes.keys().cloned());
        self.dirty.networks = true;
    }

    /// Takes the claim that is on a stream's record. Which process it was for is not: its worker's inventory decides.
    pub(crate) fn recover_claim(&mut self, uid: &Uid, now: Now) {
        let rank = self.next_rank();
        let Some(stream) = self.streams.get_mut(uid) else { return };
        let Some(assignment) = stream.stored.assignment.clone() else { return };
        let Assignment { worker, pod_uid, node, addresses: _, since } = assignment;
        let key = StreamRef::new(uid.clone(), Epoch(stream.stored.epoch));
        let (lease, second) = stream.stored.ports.as_ref().and_then(leases).unzip();
        let path = stream.path().cloned().or_else(|| stream.stored.path.clone());
        let name = Some(stream.name.clone());
        if self.claims.get(&key).is_some_and(|claim| !claim.is_written()) {
            // To be closed, or waiting for a read: it is not lived by again.
            return;
        }
        let former = stream.claim.replace(key.epoch);
        if let Some(former) = former.filter(|former| *former != key.epoch) {
            self.revoke_former(&StreamRef::new(uid.clone(), former), &key, now);
        }
        if self.claims.contains_key(&key) {
            return;
        }
        let claim = Claim {
            stream: key,
            name,
            path,
            node: node.clone(),
            worker,
            pod_uid,
            boot: None,
            since,
            rank,
            lease,
            second: second.flatten(),
            phase: ClaimPhase::Written,
            told: None,
            assign: None,
        };
        // It waits for nothing any more, whether or not this leader may act by now.
        self.block(uid, None, now);
        self.begin_claim(claim);
        self.ask_again(&node);
        self.dirty.shelves = true;
    }

    /// Another claim has taken the stream over.
    fn revoke_former(&mut self, former: &StreamRef, current: &StreamRef, now: Now) {
        self.revoke(former, Reason::Superseded, now);
        if let Some(stream) = self.streams.get_mut(&current.uid) {
            stream.lose_media(now.mono);
        }
    }

    /// The record was seen anew: somebody else's claim on it counts, since somebody may have been told.
    pub(crate) fn compare_record(&mut self, uid: &Uid, recorded_before: Epoch, now: Now) {
        let Some(stream) = self.streams.get(uid) else { return };
        let recorded = Epoch(stream.stored.epoch);
        let news = recorded > recorded_before && recorded > stream.epoch_given;
        let Some(assignment) = &stream.stored.assignment else {
            // Whoever took it away is not obeyed any more, but its worker may have been told.
            if let Some(epoch) = stream.claim.filter(|epoch| news && *epoch < recorded) {
                self.revoke(&StreamRef::new(uid.clone(), epoch), Reason::Superseded, now);
            }
            // Somebody else has used up the number that ours was to have, which is not on record.
            let key = StreamRef::new(uid.clone(), recorded);
            let unknown = self.claims.get(&key).is_some_and(|claim| !claim.may_be_known());
            if recorded > recorded_before && unknown {
                self.end_claim(&key, After::Unused, now);
            }
            return;
        };
        let key = StreamRef::new(uid.clone(), recorded);
        match self.claims.get(&key) {
            Some(claim) => {
                let recorded = stream.stored.ports.as_ref().and_then(leases);
                let same = claim.node == assignment.node
                    && claim.worker == assignment.worker
                    && claim.ports() == recorded.map(|(first, _)| first.ports);
                if same && claim.phase == ClaimPhase::Reserved {
                    // A write of ours whose outcome was unknown has come late, and another would change nothing.
                    self.set_phase(&key, ClaimPhase::Written);
                    self.dirty.tell.insert(key);
                    self.mark(uid);
                    return;
                }
                if same || claim.may_be_known() {
                    return;
                }
                // The same number was given out by somebody else, and theirs is on record: ours can't be any more.
                self.end_claim(&key, After::Unused, now);
                self.recover_claim(uid, now);
            }
            None if news && stream.claim.is_none_or(|epoch| epoch < recorded) => {
                self.recover_claim(uid, now);
            }
            // We know that it has ended; the record is put right by the next write.
            None => {}
        }
    }

    /// A worker's inventory is needed anew.
    pub(crate) fn ask_again(&mut self, node: &crate::ids::NodeName) {
        if let Some(session) = self.worker_mut(node).and_then(|worker| worker.session.as_mut()) {
            session.compared = false;
            self.dirty.nodes.insert(node.clone());
        }
    }
}

/// The leases on record, if it has any. While there are two, a stream lives by the former until its worker is known to have the other open.
fn leases(recorded: &RtpPorts) -> Option<(Lease, Option<Second>)> {
    let (pool, ports) = recorded.leased()?;
    let (first, second) = match &recorded.previous {
        None => (ports, None),
        Some(previous) => {
            let (stage, since) = (Stage::Opening, previous.since);
            (previous.ports(), Some(Second { ports, stage, since, arrived: false }))
        }
    };
    let transport = Some(recorded.transport);
    Some((Lease { pool: pool.clone(), ports: first, transport, source: None }, second))
}
