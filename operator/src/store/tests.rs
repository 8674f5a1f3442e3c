//! The store keeps the rules of an API server.

use std::time::{Duration, UNIX_EPOCH};

use operator_core::{ids::WriteId, status::StreamStatus};

use super::*;

fn stream(spec: &str) -> Object {
    let mut stream = MediaStream::new("a", serde_json::from_str(spec).unwrap());
    stream.metadata.namespace = Some("default".to_owned());
    Object::Stream(Box::new(stream))
}

const PUSH: &str = r#"{"source": {"push": {}}}"#;
const PAUSED: &str = r#"{"source": {"push": {}}, "paused": true}"#;
const SEEN: SystemTime = UNIX_EPOCH;

fn name() -> ObjectName {
    ObjectName::new("default", "a")
}

/// The object as the planner was told of it.
fn put(store: &mut Store, object: Object) -> operator_core::spec::StreamObject {
    match store.put(object, SEEN + Duration::from_millis(1_700_000_000_500)).unwrap() {
        Some(Event::StreamSeen(object)) => *object,
        other => panic!("{other:?}"),
    }
}

fn write(store: &mut Store, uid: &Uid, version: ResourceVersion, epoch: u64) -> WriteOutcome {
    let action = Action::WriteStream {
        id: WriteId(1),
        uid: uid.clone(),
        name: name(),
        resource_version: version,
        status: Box::new(StreamStatus { epoch, ..StreamStatus::default() }),
        claim: true,
    };
    match store.write(action).remove(0) {
        Event::Write { id: WriteId(1), outcome } => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_object_gets_uid_versions_and_the_files_time() {
    let mut store = Store::default();
    let object = put(&mut store, stream(PUSH));
    assert_eq!(object.uid.as_str().len(), 36);
    assert_eq!((object.generation, object.created_unix_ms), (1, 1_700_000_000_000));
    assert!(object.resource_version > ResourceVersion(0));
}

#[test]
fn the_same_again_is_no_news() {
    let mut store = Store::default();
    let before = put(&mut store, stream(PUSH));
    assert!(store.put(stream(PUSH), SystemTime::now()).unwrap().is_none());
    assert_eq!(
        store.write(Action::Confirm { uid: before.uid.clone(), name: None, since: ResourceVersion(0) }).len(),
        1
    );
}

#[test]
fn an_edit_keeps_the_uid_and_raises_the_generation() {
    let mut store = Store::default();
    let before = put(&mut store, stream(PUSH));
    assert!(matches!(
        write(&mut store, &before.uid, before.resource_version, 4),
        WriteOutcome::Written { .. }
    ));
    let after = put(&mut store, stream(PAUSED));
    assert_eq!(
        (&after.uid, after.generation, after.created_unix_ms),
        (&before.uid, 2, before.created_unix_ms)
    );
    assert_eq!(after.status.epoch, 4, "the status survives an edit of the spec");
}

#[test]
fn a_changed_annotation_is_news_without_a_new_generation() {
    let mut store = Store::default();
    let before = put(&mut store, stream(PUSH));
    let Object::Stream(mut touched) = stream(PUSH) else { unreachable!() };
    touched.metadata.annotations = Some([(api::TOUCH_ANNOTATION.to_owned(), "1".to_owned())].into());
    let after = put(&mut store, Object::Stream(touched));
    assert_eq!((after.generation, after.touch.as_deref()), (1, Some("1")));
    assert!(after.resource_version > before.resource_version);
}

#[test]
fn an_edit_of_what_is_fixed_is_refused_and_changes_nothing() {
    let mut store = Store::default();
    put(&mut store, stream(PUSH));
    let refusals = store.put(stream(r#"{"source": {"push": {}}, "path": "live/b"}"#), SEEN).unwrap_err();
    assert_eq!(refusals[0].field, "spec.path");
    assert_eq!(store.streams[&name()].spec.path, None);
}

#[test]
fn a_write_needs_the_version_the_uid_and_a_rising_epoch() {
    let mut store = Store::default();
    let object = put(&mut store, stream(PUSH));
    let WriteOutcome::Written { resource_version } =
        write(&mut store, &object.uid, object.resource_version, 5)
    else {
        panic!("the first write is good");
    };
    assert_eq!(write(&mut store, &object.uid, object.resource_version, 6), WriteOutcome::Conflict);
    assert_eq!(write(&mut store, &Uid::from("another"), resource_version, 6), WriteOutcome::NotFound);
    let refused = write(&mut store, &object.uid, resource_version, 4);
    assert!(
        matches!(&refused, WriteOutcome::Refused { message } if message.contains("status.epoch")),
        "{refused:?}"
    );
    assert_eq!(store.stream_list()["items"][0]["status"]["epoch"], 5);
}

#[test]
fn a_deleted_stream_is_gone_until_it_is_put_again_as_another() {
    let mut store = Store::default();
    let object = put(&mut store, stream(PUSH));
    let delete = |version| Action::DeleteStream {
        id: WriteId(1),
        uid: object.uid.clone(),
        name: name(),
        resource_version: version,
    };
    assert!(matches!(
        store.write(delete(ResourceVersion(0)))[..],
        [Event::Write { outcome: WriteOutcome::Conflict, .. }]
    ));
    let events = store.write(delete(object.resource_version));
    assert!(
        matches!(&events[..], [Event::Write { outcome: WriteOutcome::Written { .. }, .. }, Event::StreamGone { uid }] if *uid == object.uid)
    );
    assert_eq!(store.stream_list()["items"], json!([]));
    assert!(matches!(
        store.write(Action::Confirm { uid: object.uid.clone(), name: None, since: ResourceVersion(0) })[..],
        [Event::Confirmed { found: None, .. }]
    ));
    assert_ne!(put(&mut store, stream(PUSH)).uid, object.uid);
}

#[test]
fn lists_are_those_of_kubernetes() {
    let mut store = Store::default();
    put(&mut store, stream(PUSH));
    let list = store.stream_list();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!(api::API_VERSION), &json!("MediaStreamList")));
    let item = &list["items"][0];
    assert_eq!((&item["apiVersion"], &item["kind"]), (&json!(api::API_VERSION), &json!("MediaStream")));
    assert_eq!(item["metadata"]["creationTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(store.pool_list()["kind"], "PortPoolList");
}
