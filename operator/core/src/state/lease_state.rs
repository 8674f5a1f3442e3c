//! How far a stream's lease has come, for whoever counts what was tested.

use crate::claim::ClaimPhase;
use crate::ids::{Epoch, StreamRef, Uid};
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
}

impl State {
    /// Where a stream stands; absent when it is not known.
    pub fn stream_state(&self, uid: &Uid) -> Option<(LeaseState, Phase)> {
        self.streams.get(uid).map(|stream| (self.lease_state(uid, stream), stream.stored.phase))
    }

    /// Where each stream stands.
    pub fn stream_states(&self) -> impl Iterator<Item = (LeaseState, Phase)> + '_ {
        self.streams.iter().map(|(uid, stream)| (self.lease_state(uid, stream), stream.stored.phase))
    }

    fn lease_state(&self, uid: &Uid, stream: &Stream) -> LeaseState {
        let current = stream.claim.and_then(|epoch| self.claims.get(&StreamRef::new(uid.clone(), epoch)));
        let all = StreamRef::new(uid.clone(), Epoch(0))..=StreamRef::new(uid.clone(), Epoch(u64::MAX));
        let claim = current.or_else(|| self.claims.range(all).next_back().map(|(_, claim)| claim));
        match claim.map(|claim| &claim.phase) {
            Some(ClaimPhase::Reserved | ClaimPhase::Writing(_) | ClaimPhase::Reading) => LeaseState::Claimed,
            Some(ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged) => LeaseState::Leased,
            Some(ClaimPhase::Revoking(_)) => LeaseState::Revoking,
            Some(ClaimPhase::Adopted { held: _ }) => LeaseState::Adopted,
            None => self.state_without_claim(stream),
        }
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
