//! What the log says: one line a transition, with stream, epoch and worker.

use operator_core::{
    Reason,
    action::{ObjectRef, Severity},
    ids::{ObjectName, WorkerName},
    status::{Phase, StreamStatus, Usage},
};
use tracing_subscriber::EnvFilter;
use worker::args::LogFormat;

use crate::table::Screen;

/// A change of a stream's status that is worth a line.
pub(crate) struct Transition {
    stream: ObjectName,
    phase: Phase,
    epoch: u64,
    worker: Option<WorkerName>,
    publish: Option<String>,
}

impl Transition {
    /// What is new in a status that is about to be written; absent: nothing that a person waits for.
    pub(crate) fn between(
        before: Option<&StreamStatus>,
        after: &StreamStatus,
        stream: &ObjectName,
    ) -> Option<Self> {
        let (phase, epoch) = (after.phase, after.epoch);
        let before = before.map(|before| (before.phase, before.epoch)).unwrap_or_default();
        // Every stream begins as Pending, and is something else in a moment.
        if before == (phase, epoch) || (phase == Phase::Pending && before.0 == phase) {
            return None;
        }
        let publish = after.endpoints.iter().find(|endpoint| endpoint.usage == Usage::Publish);
        Some(Self {
            stream: stream.clone(),
            phase,
            epoch,
            worker: after.assignment.as_ref().map(|assignment| assignment.worker.clone()),
            publish: publish.map(|endpoint| endpoint.url.clone()),
        })
    }

    /// The line.
    pub(crate) fn log(&self) {
        let Self { stream, phase, epoch, worker, publish } = self;
        let worker = worker.as_ref().map_or("-", |worker| worker.as_str());
        tracing::info!(%stream, epoch, worker, publish, "stream is {}", phase.as_str());
    }
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
    let filter = EnvFilter::try_from_env("PENSTOCK_LOG")
        .unwrap_or_else(|_| EnvFilter::new(worker::log::DEFAULT_FILTER));
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(screen.clone())
        .with_ansi(true)
        .try_init();
    // A second subscriber is refused; the first one goes on.
    drop(installed);
}
