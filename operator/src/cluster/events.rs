//! Kubernetes Events: what the planner has to say of an object, where `kubectl describe` shows it. They never keep a write waiting.

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
use tokio::{sync::mpsc, time::timeout};

use crate::{limits, metrics::Metrics};

/// The name that reports them.
const CONTROLLER: &str = "media.penstock.dev/operator";

/// events.k8s.io/v1 takes no longer note.
const NOTE_BYTES: usize = 1024;

/// Hands events to the task that makes them.
pub(crate) struct Emitter {
    queue: mpsc::Sender<Event>,
    metrics: Metrics,
    /// The pod that reports.
    instance: String,
    /// What events of the installation as a whole are about.
    installation: ObjectReference,
    made: u64,
}

impl Emitter {
    /// `namespace` and `lease` are the installation's own. The events are made by `publish` with the receiver.
    pub(crate) fn new(
        metrics: Metrics,
        instance: String,
        namespace: &str,
        lease: &str,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (queue, waiting) = mpsc::channel(limits::KUBE_EVENTS);
        let installation = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(lease.to_owned()),
            ..ObjectReference::default()
        };
        (Self { queue, metrics, instance, installation, made: 0 }, waiting)
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
        if self.queue.try_send(event).is_err() {
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
pub(crate) async fn publish(client: Client, mut waiting: mpsc::Receiver<Event>, metrics: Metrics) {
    while let Some(event) = waiting.recv().await {
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

/// The note, cut between characters.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_BYTES)]
}
