//! What the log says: one line a transition, with stream, epoch and worker.

use operator_core::{
    Reason,
    action::{ObjectRef, Severity},
    api::{EndpointUse, MediaStream, StreamPhase},
};
use tracing_subscriber::EnvFilter;
use worker::args::LogFormat;

use crate::table::Screen;

/// The part of a stream's status whose changes are worth a line.
#[derive(PartialEq, Eq)]
pub(crate) struct Shown {
    phase: Option<StreamPhase>,
    epoch: Option<i64>,
}

impl Shown {
    pub(crate) fn of(stream: &MediaStream) -> Option<Self> {
        stream.status.as_ref().map(|status| Self { phase: status.phase, epoch: status.epoch })
    }
}

/// A line where a written status shows something new.
pub(crate) fn changed(before: Option<&Shown>, stream: &MediaStream) {
    let Some(status) = &stream.status else { return };
    if before == Some(&Shown { phase: status.phase, epoch: status.epoch }) {
        return;
    }
    let Some(phase) = status.phase else { return };
    // Every stream begins so, and is something else in a moment.
    let news = phase != StreamPhase::Pending || before.is_some_and(|before| before.phase != status.phase);
    if !news {
        return;
    }
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let namespace = stream.metadata.namespace.as_deref().unwrap_or_default();
    let worker = status.assignment.as_ref().map_or("-", |assignment| assignment.worker.as_str());
    let publish = status.endpoints.iter().find(|endpoint| endpoint.use_ == EndpointUse::Publish);
    tracing::info!(
        stream = format!("{namespace}/{name}"),
        epoch = status.epoch,
        worker,
        publish = publish.map(|endpoint| endpoint.url.as_str()),
        "stream is {phase:?}"
    );
}

/// The line of a Kubernetes Event.
pub(crate) fn emitted(object: &ObjectRef, reason: Reason, severity: Severity, note: &str) {
    match severity {
        Severity::Normal => tracing::info!(%object, %reason, "{note}"),
        Severity::Warning => tracing::warn!(%object, %reason, "{note}"),
    }
}

/// Begins logging: lines as the worker writes them, above the table where there is one.
pub(crate) fn install(format: LogFormat, screen: Option<&Screen>) {
    let Some(screen) = screen else { return worker::log::install(format) };
    let filter = EnvFilter::try_from_env("PENSTOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(screen.clone())
        .with_ansi(true)
        .try_init();
    // A second subscriber is refused; the first one goes on.
    drop(installed);
}
