//! The API server of standalone, in memory: objects with uid, versions and status, written under the same preconditions.
//!
//! It answers the planner's writes as a cluster would, so that the planner knows no difference. Nothing is stored on disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use k8s_openapi::jiff::Timestamp;
use operator_core::{
    Event, Reason,
    action::{Action, ObjectRef, Severity},
    api::{
        self, MediaStream, ObjectMeta, PortPool, Time,
        check::{self, Refusal},
        convert,
    },
    event::{Listed, WriteOutcome},
    ids::{ObjectName, PoolName, ResourceVersion, Uid},
};
use serde_json::{Value, json};

use crate::{event_log::EventLog, run::Objects};

#[cfg(test)]
mod tests;

/// The store, shared by the folder, the planner's loop and the admin pages. Nothing awaits while it is locked.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Store>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic in one of the short sections leaves whole objects behind, so they may go on being used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The objects of standalone, as the planner's loop acts on them.
pub(crate) struct Local {
    pub(crate) store: Shared,
    pub(crate) log: EventLog,
}

impl Objects for Local {
    fn begin(&mut self, action: Action, answers: &mut VecDeque<Event>) {
        match action {
            // There is no Lease to write it into: one process leads, and its worker ends with it.
            Action::RecordTerm { term } => answers.push_back(Event::TermRecorded { term }),
            action => answers.extend(self.store.lock().write(action)),
        }
    }

    /// All of them were given at once.
    async fn answer(&mut self) -> Event {
        std::future::pending().await
    }

    fn emit(&mut self, object: &ObjectRef, reason: Reason, severity: Severity, note: &str, now_unix_ms: u64) {
        self.log.emit(object, reason.as_str(), severity, note, now_unix_ms);
    }

    fn demoted(&mut self) {}
}

/// All objects.
#[derive(Default)]
pub(crate) struct Store {
    streams: BTreeMap<ObjectName, MediaStream>,
    pools: BTreeMap<PoolName, PortPool>,
    secrets: BTreeSet<ObjectName>,
    names: BTreeMap<Uid, ObjectName>,
    version: u64,
}

/// The name of an object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Stream(ObjectName),
    Pool(PoolName),
    Secret(ObjectName),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "MediaStream {name}"),
            Self::Pool(name) => write!(f, "PortPool {name}"),
            Self::Secret(name) => write!(f, "Secret {name}"),
        }
    }
}

/// An object that a file has, read but not yet compared with what is there.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Stream(Box<MediaStream>),
    Pool(Box<PortPool>),
    /// A token Secret: SHA-256 of each of its tokens. The tokens themselves are forgotten at once.
    Secret {
        name: ObjectName,
        token_sha256: Arc<[[u8; 32]]>,
    },
}

impl Object {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Stream(stream) => Key::Stream(stream_name(&stream.metadata)),
            Self::Pool(pool) => Key::Pool(pool_name(&pool.metadata)),
            Self::Secret { name, .. } => Key::Secret(name.clone()),
        }
    }
}

impl Store {
    /// Makes the object be as the file has it. `seen` is when the file was last changed. Nothing is said of what is so already.
    pub(crate) fn put(&mut self, object: Object, seen: SystemTime) -> Result<Option<Event>, Vec<Refusal>> {
        match object {
            Object::Stream(stream) => self.put_stream(*stream, seen),
            Object::Pool(pool) => self.put_pool(*pool, seen),
            Object::Secret { name, token_sha256 } => {
                self.secrets.insert(name.clone());
                Ok(Some(Event::SecretSeen { name, token_sha256 }))
            }
        }
    }

    /// Takes an object away.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Event> {
        match key {
            Key::Stream(name) => self.remove_stream(name),
            Key::Pool(name) => {
                let pool = self.pools.remove(name)?;
                Some(Event::PoolGone { name: name.clone(), uid: uid(&pool.metadata) })
            }
            Key::Secret(name) => self.secrets.remove(name).then(|| Event::SecretGone { name: name.clone() }),
        }
    }

    /// What a consistent list of each kind would say.
    pub(crate) fn lists(&self) -> [Event; 3] {
        let streams = Listed::Streams {
            resource_version: ResourceVersion(self.version),
            uids: self.streams.values().map(|stream| uid(&stream.metadata)).collect(),
        };
        let pools = Listed::Pools { names: self.pools.keys().cloned().collect() };
        let secrets = Listed::Secrets { names: self.secrets.clone() };
        [streams, pools, secrets].map(Event::Listed)
    }

    /// Does one of the planner's writes, and says how it ended. Other actions are none of its business.
    pub(crate) fn write(&mut self, action: Action) -> Vec<Event> {
        match action {
            Action::WriteStream { id, uid, name, resource_version, status, claim: _ } => {
                let outcome =
                    self.write_stream(&uid, &name, resource_version, convert::api_stream_status(&status));
                vec![Event::Write { id, outcome }]
            }
            Action::WritePool { id, uid, name, resource_version, status } => {
                let outcome =
                    self.write_pool(&uid, &name, resource_version, convert::api_pool_status(&status));
                vec![Event::Write { id, outcome }]
            }
            Action::DeleteStream { id, uid, name, resource_version } => {
                self.delete_stream(&uid, &name, resource_version, |outcome| Event::Write { id, outcome })
            }
            Action::Confirm { uid, name, since: _ } => {
                let found =
                    name.or_else(|| self.names.get(&uid).cloned()).and_then(|name| self.stream(&uid, &name));
                let found = found.map(|stream| Box::new(object_of(stream)));
                vec![Event::Confirmed { uid, found }]
            }
            Action::RecordTerm { .. }
            | Action::Command { .. }
            | Action::CloseSession { .. }
            | Action::Emit { .. } => vec![],
        }
    }

    /// All streams, by name.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &MediaStream> {
        self.streams.values()
    }

    /// The version of the newest change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A Kubernetes List of the streams, as `kubectl get mst -o json` has it.
    pub(crate) fn stream_list(&self) -> Value {
        self.list("MediaStreamList", self.streams.values())
    }

    /// A Kubernetes List of the pools.
    pub(crate) fn pool_list(&self) -> Value {
        self.list("PortPoolList", self.pools.values())
    }

    fn list<T: serde::Serialize>(&self, kind: &str, items: impl Iterator<Item = T>) -> Value {
        let items: Vec<Value> = items.map(|item| json!(item)).collect();
        json!({
            "apiVersion": api::API_VERSION,
            "kind": kind,
            "metadata": {"resourceVersion": self.version.to_string()},
            "items": items,
        })
    }

    fn put_stream(&mut self, mut new: MediaStream, seen: SystemTime) -> Result<Option<Event>, Vec<Refusal>> {
        let name = stream_name(&new.metadata);
        let old = self.streams.get(&name);
        new.status = old.and_then(|old| old.status.clone());
        refuse(check::stream(&new, old))?;
        let Some(metadata) = settle(
            old.map(|old| (&old.metadata, old.spec == new.spec)),
            &new.metadata,
            seen,
            &mut self.version,
        ) else {
            return Ok(None);
        };
        new.metadata = metadata;
        self.names.insert(uid(&new.metadata), name.clone());
        let event = Event::StreamSeen(Box::new(object_of(&new)));
        self.streams.insert(name, new);
        Ok(Some(event))
    }

    fn put_pool(&mut self, mut new: PortPool, seen: SystemTime) -> Result<Option<Event>, Vec<Refusal>> {
        let name = pool_name(&new.metadata);
        let old = self.pools.get(&name);
        new.status = old.and_then(|old| old.status.clone());
        refuse(check::pool(&new))?;
        let Some(metadata) = settle(
            old.map(|old| (&old.metadata, old.spec == new.spec)),
            &new.metadata,
            seen,
            &mut self.version,
        ) else {
            return Ok(None);
        };
        new.metadata = metadata;
        let mut object = convert::pool_object(&new);
        // The one node of standalone is every node that a selector may mean.
        if let Ok(spec) = &mut object.spec {
            Arc::make_mut(spec).node_selector.clear();
        }
        self.pools.insert(name, new);
        Ok(Some(Event::PoolSeen(Box::new(object))))
    }

    fn remove_stream(&mut self, name: &ObjectName) -> Option<Event> {
        let stream = self.streams.remove(name)?;
        let uid = uid(&stream.metadata);
        self.names.remove(&uid);
        self.version += 1;
        Some(Event::StreamGone { uid })
    }

    fn stream(&self, of: &Uid, name: &ObjectName) -> Option<&MediaStream> {
        self.streams.get(name).filter(|stream| uid(&stream.metadata) == *of)
    }

    fn write_stream(
        &mut self,
        of: &Uid,
        name: &ObjectName,
        expected: ResourceVersion,
        status: api::MediaStreamStatus,
    ) -> WriteOutcome {
        let Some(stream) = self.streams.get_mut(name).filter(|stream| uid(&stream.metadata) == *of) else {
            return WriteOutcome::NotFound;
        };
        if version_of(&stream.metadata) != expected {
            return WriteOutcome::Conflict;
        }
        let refusals = check::stream_status(&status, stream.status.as_ref());
        if !refusals.is_empty() {
            return WriteOutcome::Refused { message: in_words(&refusals) };
        }
        stream.status = Some(status);
        WriteOutcome::Written { resource_version: next_version(&mut self.version, &mut stream.metadata) }
    }

    fn write_pool(
        &mut self,
        of: &Uid,
        name: &PoolName,
        expected: ResourceVersion,
        status: api::PortPoolStatus,
    ) -> WriteOutcome {
        let Some(pool) = self.pools.get_mut(name).filter(|pool| uid(&pool.metadata) == *of) else {
            return WriteOutcome::NotFound;
        };
        if version_of(&pool.metadata) != expected {
            return WriteOutcome::Conflict;
        }
        pool.status = Some(status);
        WriteOutcome::Written { resource_version: next_version(&mut self.version, &mut pool.metadata) }
    }

    fn delete_stream(
        &mut self,
        of: &Uid,
        name: &ObjectName,
        expected: ResourceVersion,
        answer: impl Fn(WriteOutcome) -> Event,
    ) -> Vec<Event> {
        let Some(stream) = self.stream(of, name) else { return vec![answer(WriteOutcome::NotFound)] };
        if version_of(&stream.metadata) != expected {
            return vec![answer(WriteOutcome::Conflict)];
        }
        let gone = self.remove_stream(name);
        let written = answer(WriteOutcome::Written { resource_version: ResourceVersion(self.version) });
        std::iter::once(written).chain(gone).collect()
    }
}

/// For the planner, with what standalone knows better: its one node is every node that a selector may mean.
fn object_of(stream: &MediaStream) -> operator_core::spec::StreamObject {
    let mut object = convert::stream_object(stream);
    if let Ok(spec) = &mut object.spec {
        Arc::make_mut(spec).node_selector.clear();
    }
    object
}

/// The metadata that an API server would give the object; none where nothing changes.
fn settle(
    old: Option<(&ObjectMeta, bool)>,
    new: &ObjectMeta,
    seen: SystemTime,
    version: &mut u64,
) -> Option<ObjectMeta> {
    let mut metadata = ObjectMeta {
        name: new.name.clone(),
        namespace: new.namespace.clone(),
        labels: new.labels.clone(),
        annotations: new.annotations.clone(),
        ..ObjectMeta::default()
    };
    match old {
        Some((old, true)) if old.labels == new.labels && old.annotations == new.annotations => return None,
        Some((old, same_spec)) => {
            metadata.uid.clone_from(&old.uid);
            metadata.creation_timestamp.clone_from(&old.creation_timestamp);
            metadata.generation =
                old.generation.map(|generation| if same_spec { generation } else { generation + 1 });
        }
        None => {
            metadata.uid = Some(new_uid());
            metadata.creation_timestamp = Some(timestamp(seen));
            metadata.generation = Some(1);
        }
    }
    next_version(version, &mut metadata);
    Some(metadata)
}

fn next_version(version: &mut u64, metadata: &mut ObjectMeta) -> ResourceVersion {
    *version += 1;
    metadata.resource_version = Some(version.to_string());
    ResourceVersion(*version)
}

fn version_of(metadata: &ObjectMeta) -> ResourceVersion {
    ResourceVersion(
        metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default(),
    )
}

/// A random UUID, version 4.
fn new_uid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn timestamp(time: SystemTime) -> Time {
    let ms = i64::try_from(crate::clock::unix_ms(time)).unwrap_or(i64::MAX);
    // metav1.Time holds whole seconds.
    Time(Timestamp::from_second(ms / 1000).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn stream_name(metadata: &ObjectMeta) -> ObjectName {
    let namespace = metadata.namespace.as_deref().unwrap_or(api::DEFAULT_NAMESPACE);
    ObjectName::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

fn pool_name(metadata: &ObjectMeta) -> PoolName {
    PoolName::from(metadata.name.as_deref().unwrap_or_default())
}

fn uid(metadata: &ObjectMeta) -> Uid {
    Uid::from(metadata.uid.as_deref().unwrap_or_default())
}

fn refuse(refusals: Vec<Refusal>) -> Result<(), Vec<Refusal>> {
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

fn in_words(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
