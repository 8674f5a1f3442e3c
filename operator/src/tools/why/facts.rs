//! What is known of a stream, read from the pages of whoever was asked.

use k8s_openapi::api::core::v1::Event;
use operator_core::{
    api::{MediaStream, MediaStreamSpec, MediaStreamStatus, ObjectMeta, PortPool},
    ids::ObjectName,
};
use serde::Deserialize;
use serde_json::Value;

/// What was gathered, as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    /// The object, where there is one of the name.
    pub(super) stream: Option<Value>,
    /// Streams to look for one that may have been meant.
    pub(super) others: Vec<Value>,
    pub(super) pools: Vec<Value>,
    /// core/v1 Events: of the stream, and on standalone of files too.
    pub(super) events: Vec<Value>,
    /// Standalone: the worker's page of sessions, or why there is none. Nobody can ask a cluster's workers from elsewhere.
    pub(super) sessions: Option<Result<Value, String>>,
    pub(super) leader: Leader,
}

/// Who decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Leader {
    /// Somebody does. In standalone always.
    #[default]
    There,
    /// The Lease has no holder, or its holder does not renew it.
    Nobody,
    /// There is no Lease: no operator has ever run, or it is elsewhere.
    NoLease(String),
    /// It can't be seen.
    Unknown(String),
}

/// The same, understood.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) asked: ObjectName,
    /// What the encoder or player was given.
    pub(super) url: Option<String>,
    pub(super) stream: Option<Stream>,
    pub(super) others: Vec<Other>,
    /// The pool that an rtp stream leases from.
    pub(super) pool: Option<PortPool>,
    pub(super) events: Vec<Said>,
    /// Mistakes in files of standalone's folder, newest last.
    pub(super) mistakes: Vec<Mistake>,
    pub(super) worker: Worker,
    pub(super) leader: Leader,
    pub(super) is_cluster: bool,
}

/// A stream that is there.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) generation: i64,
    pub(super) is_deleting: bool,
    pub(super) path: String,
    /// What does not read is from another version than this tool.
    pub(super) spec: Result<MediaStreamSpec, String>,
    pub(super) status: Option<MediaStreamStatus>,
}

/// Another stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) name: ObjectName,
    pub(super) path: String,
}

/// An Event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) at: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) file: String,
    pub(super) at: String,
    pub(super) text: String,
}

/// What the worker itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Worker {
    /// It was not asked.
    Unasked,
    /// It does not answer.
    Silent(String),
    /// The shard that may have the stream does not.
    ShardSilent,
    /// It has no such stream.
    Lacks,
    /// It has it.
    Has {
        /// Who watches.
        viewers: u64,
    },
}

impl Facts {
    /// Understands what was gathered.
    pub(super) fn from_pages(asked: &ObjectName, url: Option<&str>, pages: &Pages) -> Self {
        let stream = pages.stream.as_ref().map(stream);
        let mut said: Vec<(String, Event)> =
            pages.events.iter().filter_map(|event| Event::deserialize(event).ok()).map(timed).collect();
        said.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (files, of_stream): (Vec<_>, Vec<_>) =
            said.into_iter().partition(|(_, event)| event.involved_object.kind.as_deref() == Some("File"));
        let mistakes = files.into_iter().map(|(at, event)| Mistake {
            file: event.involved_object.name.unwrap_or_default(),
            at,
            text: event.message.unwrap_or_default(),
        });
        let is_meant = |event: &Event| {
            event.involved_object.name.as_deref() == Some(&asked.name)
                && event.involved_object.namespace.as_deref() == Some(&asked.namespace)
        };
        let events = of_stream.into_iter().filter(|(_, event)| is_meant(event)).map(|(at, event)| Said {
            at,
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        });
        Self {
            asked: asked.clone(),
            url: url.map(str::to_owned),
            pool: stream.as_ref().and_then(|stream| pool_of(stream, &pages.pools)),
            others: pages.others.iter().map(other).collect(),
            events: events.collect(),
            mistakes: mistakes.collect(),
            worker: pages.sessions.as_ref().map_or(Worker::Unasked, |sessions| worker(asked, sessions)),
            leader: pages.leader.clone(),
            is_cluster: pages.sessions.is_none(),
            stream,
        }
    }
}

fn timed(event: Event) -> (String, Event) {
    let at = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let at = at.or_else(|| event.event_time.as_ref().map(|time| time.0.to_string()));
    (at.unwrap_or_default(), event)
}

fn stream(object: &Value) -> Stream {
    let metadata = ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default();
    let read = MediaStream::deserialize(object);
    let path = match &read {
        Ok(stream) => stream.path(),
        Err(_) => other(object).path,
    };
    Stream {
        generation: metadata.generation.unwrap_or_default(),
        is_deleting: metadata.deletion_timestamp.is_some(),
        path,
        status: MediaStreamStatus::deserialize(&object["status"]).ok(),
        spec: read.map(|stream| stream.spec).map_err(|error| error.to_string()),
    }
}

fn other(object: &Value) -> Other {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let namespace = text(&object["metadata"]["namespace"]).unwrap_or_default();
    let name = text(&object["metadata"]["name"]).unwrap_or_default();
    let path = text(&object["spec"]["path"]).unwrap_or_else(|| format!("{namespace}/{name}"));
    Other { name: ObjectName::new(&*namespace, name), path }
}

/// The pool that the stream leases from, as the planner chooses it.
fn pool_of(stream: &Stream, pools: &[Value]) -> Option<PortPool> {
    let spec = stream.spec.as_ref().ok().filter(|spec| spec.source.rtp.is_some())?;
    let mut pools: Vec<PortPool> = pools.iter().filter_map(|pool| PortPool::deserialize(pool).ok()).collect();
    match &spec.port_pool_ref {
        Some(named) => pools.into_iter().find(|pool| pool.metadata.name.as_deref() == Some(&named.name)),
        None => {
            pools.retain(|pool| pool.spec.default);
            pools.into_iter().min_by_key(|pool| {
                let created = pool.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (created, pool.metadata.uid.clone())
            })
        }
    }
}

fn worker(asked: &ObjectName, sessions: &Result<Value, String>) -> Worker {
    let sessions = match sessions {
        Ok(sessions) => sessions,
        Err(why) => return Worker::Silent(why.clone()),
    };
    let streams = sessions["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_meant = |stream: &&Value| stream["namespace"] == *asked.namespace && stream["name"] == *asked.name;
    match streams.iter().find(is_meant) {
        Some(stream) => Worker::Has { viewers: stream["viewerCount"].as_u64().unwrap_or_default() },
        None if sessions["silentShards"].as_array().is_some_and(|silent| !silent.is_empty()) => {
            Worker::ShardSilent
        }
        None => Worker::Lacks,
    }
}
