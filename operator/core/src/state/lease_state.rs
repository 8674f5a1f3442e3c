//! How far a stream's lease has come, for whoever counts what was tested.

use crate::claim::{Claim, ClaimPhase};
use crate::ids::{SessionId, StreamRef, Uid};
use crate::ledger::Owner;
use crate::state::State;
use crate::status::Phase;
use crate::stream::Stream;

/// How far a stream's claim, with its ports if it has any, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseState {
    /// It has none.
    Free,
    /// Taken, and not known to be on record.
    Claimed,
    /// On record; its worker may have been told.
    Leased,
    /// To be closed by its worker.
    Revoking,
    /// Only a worker knows of it.
    Adopted,
    /// It has none, and the numbers that its path had last are resting.
    Cooling,
    /// It has none, and a number that its path had last turned out to be somebody else's.
    Quarantined,
}

impl LeaseState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Claimed,
        Self::Leased,
        Self::Revoking,
        Self::Adopted,
        Self::Cooling,
        Self::Quarantined,
    ];

    fn of(claim: &Claim) -> Self {
        match claim.phase {
            ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading => Self::Claimed,
            ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged => Self::Leased,
            ClaimPhase::Revoking(_) => Self::Revoking,
            ClaimPhase::Adopted { held: _ } => Self::Adopted,
        }
    }
}

impl State {
    /// Where a stream stands: its lease, and its phase by what is known. Absent when it is not known.
    pub fn stream_state(&self, uid: &Uid) -> Option<(LeaseState, Phase)> {
        let stream = self.streams.get(uid)?;
        Some((self.lease_state(uid, stream), self.phase_of(uid, stream)))
    }

    /// Where each stream stands.
    pub fn stream_states(&self) -> impl Iterator<Item = (LeaseState, Phase)> + '_ {
        self.streams.iter().map(|(uid, stream)| (self.lease_state(uid, stream), self.phase_of(uid, stream)))
    }

    /// Where the lease stands that a worker speaks of in `session`, with its stream's phase. Absent when the worker is not
    /// listened to, or speaks of what it has no claim for: nothing is done about that, wherever its stream stands.
    pub fn reported_state(&self, session: SessionId, key: &StreamRef) -> Option<(LeaseState, Phase)> {
        let node = self.speaker(session).filter(|_| self.is_recovered())?;
        let claim = self.claims.get(key).filter(|claim| claim.node == node)?;
        let stream = self.streams.get(&key.uid)?;
        Some((LeaseState::of(claim), self.phase_of(&key.uid, stream)))
    }

    fn lease_state(&self, uid: &Uid, stream: &Stream) -> LeaseState {
        let current = stream.claim.and_then(|epoch| self.claims.get(&StreamRef::new(uid.clone(), epoch)));
        let claim = current.or_else(|| self.claims_of(uid).next_back().map(|(_, claim)| claim));
        claim.map_or_else(|| self.state_without_claim(stream), LeaseState::of)
    }

    fn state_without_claim(&self, stream: &Stream) -> LeaseState {
        let Some(path) = stream.path() else { return LeaseState::Free };
        let owner = Owner { namespace: stream.name.namespace.clone(), path: path.clone() };
        if self.nodes.values().any(|node| node.ledger.has_lost(&owner)) {
            LeaseState::Quarantined
        } else if self.nodes.values().any(|node| node.ledger.has_cooling(&owner)) {
            LeaseState::Cooling
        } else {
            LeaseState::Free
        }
    }
}
