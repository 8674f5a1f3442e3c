//! The planner's writes and reads on the API server: the only writer of objects. Each says how it ended, or that nobody knows.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::StatusCode;
use kube::{
    Client, Resource,
    api::{Api, DeleteParams, DynamicObject, ListParams, ObjectList, PostParams, Preconditions},
    core::{PartialObjectMeta, Request},
};
use operator_core::{
    Action, Event, Reason,
    action::{ObjectRef, Severity},
    api::{MediaStream, PortPool, convert},
    event::WriteOutcome,
    ids::{ObjectName, ResourceVersion, Term, Uid},
    spec::StreamObject,
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{events::Emitter, objects};
use crate::{limits, run::Objects};

/// Writes and reads under way.
pub(crate) struct Applier {
    client: Client,
    /// The Lease's keeper, who writes terms.
    terms: mpsc::Sender<Term>,
    events: Emitter,
    /// The planner bounds how many there are (`Config::writes_in_flight_max`).
    writes: JoinSet<Event>,
    reads: JoinSet<Event>,
    readers: Arc<Semaphore>,
}

impl Applier {
    pub(crate) fn new(client: Client, terms: mpsc::Sender<Term>, events: Emitter) -> Self {
        let readers = Arc::new(Semaphore::new(limits::READS_IN_FLIGHT));
        Self { client, terms, events, writes: JoinSet::new(), reads: JoinSet::new(), readers }
    }
}

impl Objects for Applier {
    fn begin(&mut self, action: Action, _answers: &mut VecDeque<Event>) {
        let client = self.client.clone();
        match action {
            Action::WriteStream { id, uid, name, resource_version, status, claim: _ } => {
                let url = MediaStream::url_path(&(), Some(&name.namespace));
                let body = body::<MediaStream>(
                    json!({
                        "namespace": &*name.namespace,
                        "name": &*name.name,
                        "uid": uid.as_str(),
                        "resourceVersion": resource_version.0.to_string(),
                    }),
                    &convert::api_stream_status(&status),
                );
                self.writes.spawn(async move {
                    let outcome = write_status::<MediaStream>(&client, url, &name.name, body).await;
                    Event::Write { id, outcome }
                });
            }
            Action::WritePool { id, uid, name, resource_version, status } => {
                let url = PortPool::url_path(&(), None);
                let body = body::<PortPool>(
                    json!({
                        "name": name.as_str(),
                        "uid": uid.as_str(),
                        "resourceVersion": resource_version.0.to_string(),
                    }),
                    &convert::api_pool_status(&status),
                );
                self.writes.spawn(async move {
                    let outcome = write_status::<PortPool>(&client, url, name.as_str(), body).await;
                    Event::Write { id, outcome }
                });
            }
            Action::DeleteStream { id, uid, name, resource_version } => {
                self.writes.spawn(async move {
                    let outcome = delete(client, &name, &uid, resource_version).await;
                    Event::Write { id, outcome }
                });
            }
            Action::Confirm { uid, name, since } => {
                let readers = self.readers.clone();
                self.reads.spawn(async move {
                    let _turn = readers.acquire_owned().await;
                    match read(client, &uid, name.as_ref(), since).await {
                        Answer::Found(object) => Event::Confirmed { uid, found: Some(object) },
                        Answer::Absent => Event::Confirmed { uid, found: None },
                        Answer::Forgotten => Event::Forgotten { uid },
                    }
                });
            }
            Action::RecordTerm { term } => {
                // The keeper takes one at a time and there is one a term; if it leads no longer, `Demoted` is on its way.
                if self.terms.try_send(term).is_err() {
                    tracing::warn!(%term, "the term is not recorded: the Lease's keeper takes none");
                }
            }
            Action::Command { .. } | Action::CloseSession { .. } | Action::Emit { .. } => {
                unreachable!("the loop hands on only writes and reads")
            }
        }
        self.events.set_writing(!self.writes.is_empty());
    }

    async fn answer(&mut self) -> Event {
        loop {
            tokio::select! {
                Some(done) = self.writes.join_next() => {
                    self.events.set_writing(!self.writes.is_empty());
                    return done.expect("a write neither panics nor is aborted");
                }
                // What was aborted by a demotion is not wanted.
                Some(done) = self.reads.join_next() => if let Ok(event) = done { return event },
                else => return std::future::pending().await,
            }
        }
    }

    fn emit(
        &mut self,
        object: &ObjectRef,
        reason: Reason,
        severity: Severity,
        note: &str,
        _now_unix_ms: u64,
    ) {
        self.events.emit(object, reason, severity, note);
    }

    fn demoted(&mut self) {
        self.reads.abort_all();
    }
}

/// An object with nothing but its identity and a status; the API server takes the rest of a status' write from what it has.
fn body<K: Resource<DynamicType = ()>>(metadata: serde_json::Value, status: &impl Serialize) -> Vec<u8> {
    let object = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    object.to_string().into_bytes()
}

async fn write_status<K: Resource<DynamicType = ()>>(
    client: &Client,
    url: String,
    name: &str,
    body: Vec<u8>,
) -> WriteOutcome {
    let request = Request::new(url).replace_subresource("status", name, &PostParams::default(), body);
    let request = match request {
        Ok(request) => request,
        Err(error) => return WriteOutcome::Refused { message: error.to_string() },
    };
    match timeout(limits::API_CALL, client.request::<PartialObjectMeta<K>>(request)).await {
        Ok(Ok(written)) => written_at(written.metadata.resource_version.as_deref()),
        Ok(Err(error)) => failed(&error),
        Err(_) => WriteOutcome::Unknown,
    }
}

async fn delete(client: Client, name: &ObjectName, uid: &Uid, version: ResourceVersion) -> WriteOutcome {
    let streams: Api<MediaStream> = Api::namespaced(client, &name.namespace);
    let only =
        Preconditions { uid: Some(uid.as_str().to_owned()), resource_version: Some(version.0.to_string()) };
    let only = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    match timeout(limits::API_CALL, streams.delete(&name.name, &only)).await {
        // The object while somebody's finalizer holds it; else a Status, which has no version.
        Ok(Ok(gone)) => WriteOutcome::Written {
            resource_version: gone
                .left()
                .and_then(|stream| stream.metadata.resource_version?.parse().ok())
                .map_or(version, ResourceVersion),
        },
        Ok(Err(error)) => failed(&error),
        Err(_) => WriteOutcome::Unknown,
    }
}

/// What a read has shown.
enum Answer {
    Found(Box<StreamObject>),
    Absent,
    /// It is absent from an API that is older than it was.
    Forgotten,
}

/// Reads a stream until there is an answer.
async fn read(client: Client, uid: &Uid, name: Option<&ObjectName>, since: ResourceVersion) -> Answer {
    loop {
        let found = match name {
            Some(name) => read_named(&client, uid, name).await,
            None => find(&client, uid).await,
        };
        match found {
            Ok(Sought::Found(object)) => return Answer::Found(Box::new(objects::stream(&object))),
            Ok(Sought::Absent { as_of }) if as_of < since => return Answer::Forgotten,
            Ok(Sought::Absent { .. }) => return Answer::Absent,
            Err(error) => tracing::debug!(%uid, "read again: {error}"),
        }
        sleep(limits::API_RETRY).await;
    }
}

/// What an API server has of a stream.
enum Sought {
    Found(Box<DynamicObject>),
    Absent {
        /// The version of all that it has: it is not older than any that was given out before, unless it was put back.
        as_of: ResourceVersion,
    },
}

async fn read_named(client: &Client, uid: &Uid, name: &ObjectName) -> Result<Sought, String> {
    let streams = objects::streams(client.clone(), Some(&name.namespace));
    let found = soon(limits::API_CALL, streams.get_opt(&name.name)).await?;
    if let Some(object) = found.filter(|object| object.metadata.uid.as_deref() == Some(uid.as_str())) {
        return Ok(Sought::Found(Box::new(object)));
    }
    // No answer about one object tells the version of all: a list does, and one of it is enough.
    let list = soon(limits::API_CALL, streams.list(&ListParams::default().limit(1))).await?;
    Ok(Sought::Absent { as_of: version_of(&list)? })
}

/// Looks for a UID whose name is not known, page by page of one consistent list.
async fn find(client: &Client, uid: &Uid) -> Result<Sought, String> {
    let streams = objects::streams(client.clone(), None);
    let mut page = ListParams::default().limit(limits::LIST_PAGE);
    loop {
        let list = soon(limits::LIST_CALL, streams.list(&page)).await?;
        let as_of = version_of(&list)?;
        let next = list.metadata.continue_.filter(|token| !token.is_empty());
        let found =
            list.items.into_iter().find(|object| object.metadata.uid.as_deref() == Some(uid.as_str()));
        match (found, next) {
            (None, Some(next)) => page = page.continue_token(&next),
            (Some(object), _) => return Ok(Sought::Found(Box::new(object))),
            (None, None) => return Ok(Sought::Absent { as_of }),
        }
    }
}

fn version_of(list: &ObjectList<DynamicObject>) -> Result<ResourceVersion, String> {
    let version = list.metadata.resource_version.as_deref().unwrap_or_default();
    version.parse().map(ResourceVersion).map_err(|_| format!("a list has the version {version:?}"))
}

async fn soon<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server did not answer in {limit:?}")),
    }
}

fn written_at(version: Option<&str>) -> WriteOutcome {
    match version.and_then(|version| version.parse().ok()) {
        Some(version) => WriteOutcome::Written { resource_version: ResourceVersion(version) },
        // It is there, but what follows it can't be told: read it.
        None => WriteOutcome::Unknown,
    }
}

/// What an error says of the write. Only an answer that refuses by its meaning tells that nothing was written.
fn failed(error: &kube::Error) -> WriteOutcome {
    let kube::Error::Api(status) = error else { return WriteOutcome::Unknown };
    let refused = || WriteOutcome::Refused { message: status.message.clone() };
    match StatusCode::from_u16(status.code) {
        Ok(StatusCode::CONFLICT) => WriteOutcome::Conflict,
        Ok(StatusCode::NOT_FOUND) => WriteOutcome::NotFound,
        Ok(StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY) => refused(),
        _ => WriteOutcome::Unknown,
    }
}

#[cfg(test)]
mod tests;
