//! Telling workers what is on record: assignments and revocations.

use crate::action::{Assign, AssignedSource, Command, Tokens};
use crate::claim::{ClaimPhase, Stage, Told};
use crate::event::Now;
use crate::ids::{ObjectName, StreamRef};
use crate::limits;
use crate::node::Liveness;
use crate::reason::Reason;
use crate::spec::Source;
use crate::state::State;
use crate::stream::Stream;
use crate::timers::Timer;

impl State {
    /// Tells each worker of the claims that changed. What can't be told by now is told when its inventory is compared.
    pub(super) fn tell_workers(&mut self, now: Now) {
        while let Some(key) = self.dirty.tell.pop_first() {
            let Some(claim) = self.claims.get(&key) else { continue };
            let Some(worker) = self.worker(&claim.node) else { continue };
            let same_process = claim.boot.as_ref().is_none_or(|boot| *boot == worker.boot);
            if !worker.known || !same_process {
                continue;
            }
            match &claim.phase {
                ClaimPhase::Written | ClaimPhase::Told | ClaimPhase::Acknowledged => {
                    // Read from a status: the inventory decides whose process it was. Adopted: the record comes first.
                    if claim.boot.is_some() && self.is_on_record(&key) {
                        self.assign(&key, now);
                    }
                }
                ClaimPhase::Revoking(Reason::WorkerLost | Reason::Returned) if self.awaits_record(&key) => {}
                // Its word would wait in a buffer, and come before it could be asked what it has.
                ClaimPhase::Revoking(Reason::WorkerLost)
                    if matches!(worker.liveness, Liveness::Lost | Liveness::Unheard) => {}
                ClaimPhase::Revoking(Reason::WorkerLost) if self.may_go_on(&key) => {}
                ClaimPhase::Revoking(Reason::Drained) if self.awaits_successor(&key) => {}
                ClaimPhase::Revoking(reason) => {
                    let reason = *reason;
                    self.unassign(&key, reason, now);
                }
                ClaimPhase::Reserved
                | ClaimPhase::Writing(_)
                | ClaimPhase::Reading
                | ClaimPhase::Adopted { held: _ } => {}
            }
        }
    }

    /// Whether the stream's status, as far as is known, has this claim. A stream that is gone has no record to wait for.
    pub(crate) fn is_on_record(&self, key: &StreamRef) -> bool {
        self.streams
            .get(&key.uid)
            .is_none_or(|stream| stream.stored.epoch == key.epoch.0 && stream.stored.assignment.is_some())
    }

    /// Whether the stream's status, as far as is known, has both leases of this claim.
    fn is_second_recorded(&self, key: &StreamRef) -> bool {
        let Some(claim) = self.claims.get(key) else { return false };
        let (Some(first), Some(second)) = (claim.ports(), claim.successor()) else { return false };
        let recorded = self.streams.get(&key.uid).and_then(|stream| stream.stored.ports.as_ref());
        self.is_on_record(key)
            && recorded.is_some_and(|recorded| {
                let previous = recorded.previous.map(|it| it.ports());
                recorded.leased().is_some_and(|(_, ports)| ports == second.ports) && previous == Some(first)
            })
    }

    /// Whether the claim that takes over is not on record yet: until it is, nothing moves.
    fn awaits_record(&self, key: &StreamRef) -> bool {
        let current = self.current_claim(&key.uid);
        current.and_then(|current| self.claims.get(&current)).is_some_and(|claim| !claim.may_be_known())
    }

    /// Whether a stream that leaves a draining worker is still to be served there: until its new worker has it and, where a
    /// sender must be invited to new ports, for a while longer.
    fn awaits_successor(&self, key: &StreamRef) -> bool {
        let current = self.current_claim(&key.uid);
        let Some(claim) = current.and_then(|current| self.claims.get(&current)) else { return false };
        claim.phase != ClaimPhase::Acknowledged || self.timers.is_set(&Timer::Handover(key.clone()))
    }

    /// Whether a worker that was given up may have the stream again: it is about to say whether it has the publisher, or is told to
    /// go on at a later epoch, for which its sessions stay.
    fn may_go_on(&self, key: &StreamRef) -> bool {
        let current = self.current_claim(&key.uid);
        let again = current.and_then(|current| self.claims.get(&current)).is_some_and(|claim| {
            let here = self.claims.get(key).is_some_and(|former| former.node == claim.node);
            here && claim.lease.is_none() && claim.phase != ClaimPhase::Acknowledged
        });
        again || self.timers.is_set(&Timer::Return(key.clone()))
    }

    fn assign(&mut self, key: &StreamRef, now: Now) {
        let Some(assign) = self.assign_of(key) else { return };
        let Some(node) = self.claims.get(key).map(|claim| claim.node.clone()) else { return };
        let assign = Box::new(assign);
        let Some(sequence) = self.command(&node, Command::Assign(assign.clone())) else { return };
        let Some(claim) = self.claims.get_mut(key) else { return };
        claim.told = Some(Told { sequence, at: now.mono });
        let with_next = assign.source.next().is_some();
        claim.assign = Some(assign);
        if claim.phase == ClaimPhase::Written {
            self.set_phase(key, ClaimPhase::Told);
        }
        let stage = |state: &Self| Some(state.claims.get(key)?.second.as_ref()?.stage);
        if with_next && stage(self) == Some(Stage::Reserved) {
            self.set_stage(key, Stage::Opening);
        }
        let is_answered = match stage(self) {
            Some(Stage::Opening | Stage::Closing) => false,
            Some(Stage::Reserved | Stage::Open) | None => true,
        };
        if !is_answered || self.claims.get(key).is_some_and(|claim| claim.phase == ClaimPhase::Told) {
            self.timers.set(Timer::AnswerDue(key.clone()), now.mono + self.config.answer_after);
        }
    }

    fn unassign(&mut self, key: &StreamRef, reason: Reason, now: Now) {
        let Some(node) = self.claims.get(key).map(|claim| claim.node.clone()) else { return };
        let command = Command::Revoke { stream: key.clone(), reason };
        let Some(sequence) = self.command(&node, command) else { return };
        if let Some(claim) = self.claims.get_mut(key) {
            claim.told = Some(Told { sequence, at: now.mono });
            // It is served there no longer.
            self.dirty.paths.extend(claim.path.clone());
        }
        self.timers.set(Timer::AnswerDue(key.clone()), now.mono + self.config.answer_after);
    }

    /// What the worker of a claim is to be told.
    pub(super) fn assign_of(&self, key: &StreamRef) -> Option<Assign> {
        let claim = self.claims.get(key)?;
        let stream = self.streams.get(&key.uid)?;
        let spec = stream.spec.as_ref()?;
        let (publish_tokens, play_tokens) = self.tokens_of(stream)?;
        let source = match (&spec.source, claim.ports()) {
            (Source::Push { protocols }, _) => AssignedSource::Push { protocols: protocols.clone() },
            (Source::Rtp(source), None) if source.shared => AssignedSource::Shared { source: source.clone() },
            (Source::Rtp(source), Some(ports)) => {
                // On record first.
                let second =
                    claim.successor().filter(|it| it.stage.is_told() || self.is_second_recorded(key));
                let next = second.map(|second| second.ports);
                AssignedSource::Rtp { source: source.clone(), ports, next }
            }
            (Source::Rtp(_), None) => return None,
        };
        Some(Assign {
            stream: key.clone(),
            path: spec.path.clone(),
            name: stream.name.clone(),
            created_unix_ms: stream.created_unix_ms,
            publish: spec.publish.clone(),
            publish_tokens,
            play: spec.play.clone(),
            play_tokens,
            source,
        })
    }

    /// Who may publish, who may play.
    pub(super) fn tokens_of(&self, stream: &Stream) -> Option<(Tokens, Tokens)> {
        let spec = stream.spec.as_ref()?;
        let tokens = |secret: &Option<std::sync::Arc<str>>| match secret {
            None => Tokens::Open,
            Some(name) => {
                let secret = ObjectName::new(stream.name.namespace.clone(), name.clone());
                // A Secret that is not there lets nobody in.
                Tokens::Required(self.secrets.get(&secret).cloned().unwrap_or_default())
            }
        };
        Some((tokens(&spec.publish.token_secret), tokens(&spec.play.token_secret)))
    }

    /// The first Secret that a stream names and that lets nobody in: why, and what is to be done.
    pub(super) fn useless_secret(&self, stream: &Stream) -> Option<(Reason, String)> {
        let spec = stream.spec.as_ref()?;
        [&spec.publish.token_secret, &spec.play.token_secret]
            .into_iter()
            .flatten()
            .map(|name| ObjectName::new(stream.name.namespace.clone(), name.clone()))
            .find_map(|secret| match self.secrets.get(&secret) {
                None => Some((
                    Reason::TokenSecretNotFound,
                    format!(
                        "the token Secret {secret} is not there, so nobody may publish or play; make it, with type \
                         media.penstock.dev/token and key token"
                    ),
                )),
                Some(tokens) if tokens.is_empty() => Some((
                    Reason::TokenSecretInvalid,
                    format!(
                        "the token Secret {secret} has no token, or too many, so nobody may publish or play; write 1 to {} \
                         of them into its key token, one a line",
                        limits::TOKENS_MAX
                    ),
                )),
                Some(_) => None,
            })
    }
}
