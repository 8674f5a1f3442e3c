//! Kubernetes Events: what the planner has to say of an object, where `kubectl describe` shows it. They never keep a write waiting: while
//! streams move, the API server is theirs.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Client, Resource as _,
    api::{Api, PostParams},
};
use operator_core::{
    Reason,
    action::{ObjectRef, Severity},
    api::{self, MediaStream, PortPool},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{limits, metrics::Metrics};

/// The name that reports them.
const CONTROLLER: &str = "media.penstock.dev/operator";

/// events.k8s.io/v1 takes no longer note.
const NOTE_BYTES: usize = 1024;

/// An event that is to be made.
struct Waiting {
    event: Event,
    /// By then, whatever is written.
    due: Instant,
}

/// The other end of an [`Emitter`].
pub(crate) struct Emitted {
    queue: mpsc::Receiver<Waiting>,
    writing: watch::Receiver<bool>,
}

/// Hands events to the task that makes them.
pub(crate) struct Emitter {
    queue: mpsc::Sender<Waiting>,
    /// Writes are under way.
    writing: watch::Sender<bool>,
    metrics: Metrics,
    /// The pod that reports.
    instance: String,
    /// What events of the installation as a whole are about.
    installation: ObjectReference,
    made: u64,
}

impl Emitter {
    /// `namespace` and `lease` are the installation's own. The events are made by `publish`.
    pub(crate) fn new(metrics: Metrics, instance: String, namespace: &str, lease: &str) -> (Self, Emitted) {
        let (queue, waiting) = mpsc::channel(limits::KUBE_EVENTS);
        let (writing, is_writing) = watch::channel(false);
        let installation = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(lease.to_owned()),
            ..ObjectReference::default()
        };
        let emitted = Emitted { queue: waiting, writing: is_writing };
        (Self { queue, writing, metrics, instance, installation, made: 0 }, emitted)
    }

    /// Whether writes are under way: events wait for their end a little.
    pub(super) fn set_writing(&self, writing: bool) {
        self.writing.send_if_modified(|now| std::mem::replace(now, writing) != writing);
    }

    /// One Event a call: the planner says things once a transition. Dropped and counted where too many wait.
    pub(crate) fn emit(&mut self, object: &ObjectRef, reason: Reason, severity: Severity, note: &str) {
        let regarding = self.regarding(object);
        let namespace = regarding.namespace.clone().unwrap_or_else(|| api::DEFAULT_NAMESPACE.to_owned());
        let now = Timestamp::now();
        self.made += 1;
        let name = format!(
            "{}.{:x}.{:x}",
            regarding.name.as_deref().unwrap_or_default(),
            now.as_nanosecond(),
            self.made
        );
        let event = Event {
            metadata: ObjectMeta { namespace: Some(namespace), name: Some(name), ..ObjectMeta::default() },
            event_time: Some(MicroTime(now)),
            action: Some(reason.as_str().to_owned()),
            reason: Some(reason.as_str().to_owned()),
            note: Some(shortened(note).to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(
                match severity {
                    Severity::Normal => "Normal",
                    Severity::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..Event::default()
        };
        let due = Instant::now() + limits::EVENT_DELAY;
        if self.queue.try_send(Waiting { event, due }).is_err() {
            self.metrics.event_dropped();
        }
    }

    fn regarding(&self, object: &ObjectRef) -> ObjectReference {
        let about = |kind: &str, uid: &str| ObjectReference {
            api_version: Some(api::API_VERSION.to_owned()),
            kind: Some(kind.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        match object {
            ObjectRef::Stream { uid, name } => ObjectReference {
                namespace: Some(name.namespace.to_string()),
                name: Some(name.name.to_string()),
                ..about(&MediaStream::kind(&()), uid.as_str())
            },
            ObjectRef::Pool { uid, name } => ObjectReference {
                name: Some(name.as_str().to_owned()),
                ..about(&PortPool::kind(&()), uid.as_str())
            },
            ObjectRef::Installation => self.installation.clone(),
        }
    }
}

/// Makes the events, one after the other. Ends when nobody emits any more.
pub(crate) async fn publish(client: Client, mut emitted: Emitted, metrics: Metrics) {
    while let Some(event) = emitted.next().await {
        let namespace = event.metadata.namespace.as_deref().unwrap_or(api::DEFAULT_NAMESPACE);
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        let made = timeout(limits::API_CALL, events.create(&PostParams::default(), &event)).await;
        let problem = match made {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {:?}", limits::API_CALL),
        };
        metrics.event_dropped();
        tracing::debug!(event = event.metadata.name, "a Kubernetes Event could not be made: {problem}");
    }
}

impl Emitted {
    /// The oldest one, once nothing is being written or it is due.
    async fn next(&mut self) -> Option<Event> {
        let Waiting { event, due } = self.queue.recv().await?;
        // An error is its sender's end; then there are no writes.
        let _ = timeout_at(due, self.writing.wait_for(|writing| !writing)).await;
        Some(event)
    }
}

/// The note, cut between characters.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_BYTES)]
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_event_lets_writes_go_first_but_not_for_ever() {
        let (mut emitter, mut emitted) =
            Emitter::new(Metrics::new(), "pod".to_owned(), "penstock", "penstock-operator");
        for note in ["one", "two"] {
            emitter.emit(&ObjectRef::Installation, Reason::WorkerLost, Severity::Normal, note);
        }
        let note = |event: Option<Option<Event>>| event.and_then(|event| event?.note);
        assert_eq!(note(emitted.next().now_or_never()).as_deref(), Some("one"), "nothing is written");

        emitter.set_writing(true);
        let mut two = Box::pin(emitted.next());
        assert_eq!(note((&mut two).now_or_never()), None);
        emitter.set_writing(false);
        assert_eq!(note(two.now_or_never()).as_deref(), Some("two"));

        emitter.set_writing(true);
        let event = Event { note: Some("late".to_owned()), ..Event::default() };
        emitter.queue.try_send(Waiting { event, due: Instant::now() }).ok().unwrap();
        assert_eq!(note(Some(emitted.next().await)).as_deref(), Some("late"));
    }
}
