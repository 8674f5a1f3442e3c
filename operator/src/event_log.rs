//! Kubernetes Events of standalone: the newest ones, told apart and counted, served on the admin port.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use operator_core::{
    action::{ObjectRef, Severity},
    api,
};
use serde_json::{Value, json};

use crate::limits;

/// The log, shared by whoever writes and the admin page.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    made: u64,
}

struct Entry {
    number: u64,
    about: About,
    warning: bool,
    reason: String,
    message: String,
    first_ms: u64,
    last_ms: u64,
    count: u64,
}

#[derive(Clone, PartialEq, Eq)]
enum About {
    Object(ObjectRef),
    File(String),
}

impl EventLog {
    /// Notes what the planner has to say of an object.
    pub(crate) fn emit(
        &self,
        object: &ObjectRef,
        reason: &str,
        severity: Severity,
        message: &str,
        now_ms: u64,
    ) {
        let warning = matches!(severity, Severity::Warning);
        self.note(About::Object(object.clone()), warning, reason, message, now_ms);
    }

    /// Notes a mistake in a file.
    pub(crate) fn file(&self, file: &str, message: &str, now_ms: u64) {
        self.note(About::File(file.to_owned()), true, "InvalidFile", message, now_ms);
    }

    fn note(&self, about: About, warning: bool, reason: &str, message: &str, now_ms: u64) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |entry: &&mut Entry| entry.about == about && entry.reason == reason && entry.message == message;
        if let Some(entry) = log.entries.iter_mut().rev().take(AGAIN).find(same) {
            entry.count += 1;
            entry.last_ms = now_ms;
            return;
        }
        log.made += 1;
        let entry = Entry {
            number: log.made,
            about,
            warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
            first_ms: now_ms,
            last_ms: now_ms,
            count: 1,
        };
        log.entries.push_back(entry);
        if log.entries.len() > limits::SHOWN_EVENTS {
            log.entries.pop_front();
        }
    }

    /// A Kubernetes List, oldest first.
    pub(crate) fn list(&self) -> Value {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let items: Vec<Value> = log.entries.iter().map(Entry::to_object).collect();
        json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items})
    }
}

/// How far back a repeated event is looked for; further back it counts as news.
const AGAIN: usize = 64;

impl Entry {
    fn to_object(&self) -> Value {
        let (namespace, name) = self.about.name();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{name}.{:x}", self.number), "namespace": namespace},
            "involvedObject": self.about.to_object(),
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "message": self.message,
            "source": {"component": "penstock"},
            "firstTimestamp": time(self.first_ms),
            "lastTimestamp": time(self.last_ms),
            "count": self.count,
        })
    }
}

impl About {
    /// The namespace that an Event about it is in, and its name.
    fn name(&self) -> (&str, &str) {
        match self {
            About::Object(ObjectRef::Stream { uid: _, name }) => (&name.namespace, &name.name),
            About::Object(ObjectRef::Pool { uid: _, name }) => (api::DEFAULT_NAMESPACE, name.as_str()),
            About::Object(ObjectRef::Installation) => (api::DEFAULT_NAMESPACE, "penstock"),
            About::File(file) => (api::DEFAULT_NAMESPACE, file),
        }
    }

    fn to_object(&self) -> Value {
        let (namespace, name) = self.name();
        match self {
            About::Object(ObjectRef::Stream { uid, name: _ }) => {
                json!({"apiVersion": api::API_VERSION, "kind": "MediaStream", "namespace": namespace, "name": name, "uid": uid.as_str()})
            }
            About::Object(ObjectRef::Pool { uid, name: _ }) => {
                json!({"apiVersion": api::API_VERSION, "kind": "PortPool", "name": name, "uid": uid.as_str()})
            }
            About::Object(ObjectRef::Installation) => json!({"kind": "Installation", "name": name}),
            About::File(_) => json!({"kind": "File", "name": name}),
        }
    }
}

fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
