//! What happened, a line each, for whoever replays a seed.

use operator_core::event::{Listed, WriteOutcome};
use operator_core::ids::{ResourceVersion, Uid};
use operator_core::{Action, Command, Event};

/// How a write ended, in a word.
pub(crate) fn outcome_word(outcome: &WriteOutcome) -> String {
    match outcome {
        WriteOutcome::Written { resource_version: ResourceVersion(version) } => format!("written {version}"),
        WriteOutcome::Conflict => "conflict".into(),
        WriteOutcome::Refused { message } => format!("refused: {message}"),
        WriteOutcome::NotFound => "not found".into(),
        WriteOutcome::Unknown => "unknown".into(),
    }
}

/// An event in a line.
pub(crate) fn brief(event: &Event) -> String {
    match event {
        Event::StreamSeen(object) => format!(
            "StreamSeen {} {} rv {} gen {}{} epoch {} term {} {:?} on {:?} ports {:?}",
            object.uid,
            object.name,
            object.resource_version,
            object.generation,
            if object.deleting { " deleting" } else { "" },
            object.status.epoch,
            object.status.term,
            object.status.phase,
            object.status.assignment.as_ref().map(|assignment| &assignment.worker),
            object.status.ports.as_ref().map(|ports| (ports.rtp, ports.rtcp)),
        ),
        Event::PoolSeen(pool) => {
            format!("PoolSeen {} rv {} gen {}", pool.name, pool.resource_version, pool.generation)
        }
        Event::Confirmed { uid, found } => format!(
            "Confirmed {uid} {:?}",
            found.as_ref().map(|object| (
                object.resource_version,
                object.status.epoch,
                &object.status.assignment
            ))
        ),
        Event::Listed(Listed::Streams { resource_version, uids }) => {
            format!(
                "Listed streams at {resource_version}: {:?}",
                uids.iter().map(Uid::as_str).collect::<Vec<_>>()
            )
        }
        Event::Inventory { session, inventory } => format!(
            "Inventory of session {session} seq {}: bound {:?} closed {:?} holders {:?} streams {:?}",
            inventory.sequence,
            inventory
                .bound
                .iter()
                .map(|b| (b.port, b.stream.as_ref().map(ToString::to_string)))
                .collect::<Vec<_>>(),
            inventory.closed.iter().map(|c| (c.stream.to_string(), &c.ports)).collect::<Vec<_>>(),
            inventory.holders.iter().map(|h| h.port).collect::<Vec<_>>(),
            inventory.streams.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ),
        Event::Beat { session, beat } => {
            format!(
                "Beat of session {session} seq {} term {} digest {:x}",
                beat.sequence, beat.term, beat.digest
            )
        }
        Event::StreamGone { .. }
        | Event::PoolGone { .. }
        | Event::NodeSeen(_)
        | Event::NodeGone { .. }
        | Event::SecretSeen { .. }
        | Event::SecretGone { .. }
        | Event::ServiceCidrSeen { .. }
        | Event::ServiceCidrGone { .. }
        | Event::Listed(_)
        | Event::Forgotten { .. }
        | Event::AbsenceConfirmed
        | Event::Write { .. }
        | Event::Hello { .. }
        | Event::Report { .. }
        | Event::SessionClosed { .. }
        | Event::WorkerDegraded { .. }
        | Event::WorkerLost { .. }
        | Event::Lead { .. }
        | Event::TermRecorded { .. }
        | Event::Demoted
        | Event::Tick => format!("{event:?}"),
    }
}

/// An action in a line.
pub(crate) fn brief_action(action: &Action) -> String {
    match action {
        Action::WriteStream { id, uid, name: _, resource_version, status, claim } => format!(
            "WriteStream {id} {uid} rv {resource_version}{} epoch {} term {} {:?} on {:?} ports {:?} conditions {:?}",
            if *claim { " claim" } else { "" },
            status.epoch,
            status.term,
            status.phase,
            status.assignment.as_ref().map(|assignment| assignment.worker.as_str()),
            status.ports.as_ref().map(|ports| (ports.rtp, ports.rtcp)),
            status
                .conditions
                .iter()
                .map(|(kind, c)| format!("{kind:?}={}/{}", c.status, c.reason))
                .collect::<Vec<_>>(),
        ),
        Action::WritePool { id, uid: _, name, resource_version, status } => format!(
            "WritePool {id} {name} rv {resource_version}: {} free {} leased {} cooling {} quarantined {} draining {}",
            status.capacity, status.free, status.leased, status.cooling, status.quarantined, status.draining
        ),
        Action::Command { session, term, sequence, command } => {
            let command = match command {
                Command::Assign(assign) => format!("Assign {} {:?}", assign.stream, assign.source),
                Command::Directory(directory) => {
                    format!("Directory version {} of {} entries", directory.version, directory.entries.len())
                }
                Command::Welcome
                | Command::Networks(_)
                | Command::Revoke { .. }
                | Command::InventoryRequest
                | Command::Watch { .. }
                | Command::CloseLeak { .. } => format!("{command:?}"),
            };
            format!("Command {sequence} of term {term} in session {session}: {command}")
        }
        Action::DeleteStream { .. }
        | Action::Confirm { .. }
        | Action::RecordTerm { .. }
        | Action::CloseSession { .. }
        | Action::Emit { .. } => format!("{action:?}"),
    }
}
