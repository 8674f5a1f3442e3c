//! What a change of a status is worth saying: the Events of streams and pools, one a transition.
//!
//! They are made with the write and told when it is known to be there: by then the watch may have brought it already.

use crate::action::{Action, ObjectRef, Severity};
use crate::ids::UnixTime;
use crate::reason::Reason;
use crate::status::{Conditions, Failover, StreamStatus, Usage};

/// Of a stream.
pub(crate) fn of_stream(object: &ObjectRef, before: &StreamStatus, after: &StreamStatus) -> Vec<Action> {
    let mut news = transitions(object, &before.conditions, &after.conditions);
    news.extend(moved(object, before, after));
    news.extend(moves(object, before, after));
    news
}

/// An event for numbers that others have been opened beside.
fn moves(object: &ObjectRef, before: &StreamStatus, after: &StreamStatus) -> Option<Action> {
    let ports = after.ports.as_ref()?;
    let (pool, _) = ports.leased()?;
    let previous = ports.previous.as_ref()?;
    let since = previous.since?;
    let was = before.ports.as_ref().and_then(|ports| ports.previous.as_ref());
    if was.is_some_and(|was| was.since.is_some() && was.rtp == previous.rtp) {
        return None;
    }
    let old = previous.ports();
    let publish = after.endpoints.iter().find(|endpoint| endpoint.usage == Usage::Publish);
    let what_now = match publish {
        Some(endpoint) => format!("invite its sender to {}", endpoint.url),
        None => format!("the device is connected to from {}", ports.rtp),
    };
    let at_last = previous.closes_at.map_or(String::new(), |UnixTime(at)| {
        format!(", and in {}s in any case", at.saturating_sub(since.0))
    });
    let note = format!(
        "{old} is outside spec.ranges of the PortPool {pool}: {what_now}. {old} is closed when media has come there{at_last}"
    );
    Some(Action::Emit {
        object: object.clone(),
        reason: Reason::PortsMoving,
        severity: Severity::Normal,
        note,
    })
}

/// An event for a move that has come to its end.
fn moved(object: &ObjectRef, before: &StreamStatus, after: &StreamStatus) -> Option<Action> {
    let ended = after.last_failover.as_ref().filter(|it| before.last_failover.as_ref() != Some(it))?;
    let Failover { at: _, from, to, reason, gap_ms: Some(gap_ms) } = ended else { return None };
    let publish = after.endpoints.iter().find(|endpoint| endpoint.usage == Usage::Publish);
    let publish = publish.map_or(String::new(), |endpoint| format!("; publish to {}", endpoint.url));
    let note = if from == to {
        format!("{to} was started again and has it after {gap_ms} ms{publish}")
    } else {
        format!("moved from {from} to {to} in {gap_ms} ms{publish}")
    };
    Some(Action::Emit { object: object.clone(), reason: *reason, severity: Severity::Normal, note })
}

/// An event for each condition that turned for the worse, one for each reason.
pub(crate) fn transitions(object: &ObjectRef, before: &Conditions, after: &Conditions) -> Vec<Action> {
    let mut emits: Vec<Action> = Vec::new();
    for (kind, condition) in after {
        let was = before.get(kind);
        let changed = was.is_none_or(|was| was.status != condition.status || was.reason != condition.reason);
        if changed && condition.status == kind.is_alarm() && is_told(condition.reason) {
            let (severity, note) = (Severity::Warning, condition.message.clone());
            let told = emits
                .iter()
                .any(|emit| matches!(emit, Action::Emit { reason, .. } if *reason == condition.reason));
            if !told {
                emits.push(Action::Emit { object: object.clone(), reason: condition.reason, severity, note });
            }
        }
    }
    emits
}

/// Whether a bad condition of this reason is news. Steps on the way, and what people did themselves, are not.
fn is_told(reason: Reason) -> bool {
    match reason {
        Reason::InvalidSpec
        | Reason::NotSupported
        | Reason::PathConflict
        | Reason::SsrcConflict
        | Reason::NoSharedPort
        | Reason::PathNotGranted
        | Reason::Overlap
        | Reason::PoolNotFound
        | Reason::PoolNotAccepted
        | Reason::NamespaceNotAllowed
        | Reason::PoolExhausted
        | Reason::PortTaken
        | Reason::PortOutside
        | Reason::NoWorker
        | Reason::WorkerUnheard
        | Reason::WorkerLost
        | Reason::Idle
        | Reason::Suspect
        | Reason::TokenSecretNotFound
        | Reason::TokenSecretInvalid
        | Reason::AboveThreshold
        | Reason::LeasesOutside
        | Reason::ForeignHolder
        | Reason::DeadlineExceeded
        | Reason::EphemeralRange
        | Reason::NodePortRange => true,
        Reason::Accepted
        | Reason::Leased
        | Reason::Shared
        | Reason::Assigned
        | Reason::Assigning
        | Reason::Claiming
        | Reason::AwaitingInventory
        | Reason::WorkerRestarted
        | Reason::Drained
        | Reason::Returned
        | Reason::PortsMoving
        | Reason::PortsMoved
        | Reason::Paused
        | Reason::Media
        | Reason::NoPublisher
        | Reason::Stalled
        | Reason::Deleted
        | Reason::SpecChanged
        | Reason::BindFailed
        | Reason::PortContested
        | Reason::Superseded
        | Reason::Leak
        | Reason::TtlExpired
        | Reason::Available
        | Reason::NoNode
        | Reason::AbsenceHeld
        | Reason::ListWentBack
        | Reason::WriteRefused
        | Reason::ControlDegraded
        | Reason::Hold => false,
    }
}
