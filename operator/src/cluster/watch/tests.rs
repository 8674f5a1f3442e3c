use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server of ours: how it answers what was asked in a query.
fn api(answer: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> Api<DynamicObject> {
    objects::streams(client(answer), None)
}

fn client(answer: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let response = answer(request.uri().query().unwrap_or_default());
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    Client::new(service, "default")
}

fn object(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "media.penstock.dev/v1alpha1", "kind": "MediaStream",
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": version.to_string()},
        "spec": {},
    })
}

/// What a watch tells, after which it ends.
fn watch_of(events: &[(&str, Value)]) -> Response<Body> {
    let lines = events.iter().map(|(kind, object)| format!("{}\n", json!({"type": kind, "object": object})));
    Response::new(Body::from(lines.collect::<String>().into_bytes()))
}

fn list_of(version: u64, objects: &[Value]) -> Response<Body> {
    let list = json!({
        "apiVersion": "media.penstock.dev/v1alpha1", "kind": "MediaStreamList",
        "metadata": {"resourceVersion": version.to_string()}, "items": objects,
    });
    Response::new(Body::from(list.to_string().into_bytes()))
}

/// As an API server answers that streams no lists.
fn forbidden() -> Response<Body> {
    failure(422, "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
}

fn failure(code: u16, message: &str) -> Response<Body> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Any", "code": code,
        "message": message,
    });
    let mut response = Response::new(Body::from(status.to_string().into_bytes()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// The first `count` events that this API server's streams come to, in short.
async fn followed(api: Api<DynamicObject>, count: usize) -> Vec<String> {
    let (events, mut seen) = mpsc::channel(1);
    let feed = Feed { events, synced: watch::channel(0).0 };
    let task = tokio::spawn(follow::<Streams>(vec![api], feed));
    let mut told = Vec::new();
    while told.len() < count {
        let event = timeout(limits::LIST_CALL, seen.recv()).await.expect("an event in time");
        told.push(match event.expect("it goes on") {
            Event::StreamSeen(stream) => format!("{} {}", stream.name.name, stream.resource_version),
            Event::StreamGone { uid } => format!("{uid} gone"),
            Event::Listed(Listed::Streams { resource_version, uids }) => {
                let uids: Vec<&str> = uids.iter().map(Uid::as_str).collect();
                format!("{resource_version} has {}", uids.join("+"))
            }
            other => panic!("no such event was to come: {other:?}"),
        });
    }
    task.abort();
    told
}

/// To a request for a streamed list.
type Answer = fn() -> Response<Body>;

const STREAMED: &str = "sendInitialEvents=true";

#[tokio::test]
async fn a_list_is_streamed_and_its_watch_goes_on() {
    let end = json!({
        "apiVersion": "media.penstock.dev/v1alpha1", "kind": "MediaStream",
        "metadata": {"resourceVersion": "30", "annotations": {INITIAL_EVENTS_END: "true"}},
    });
    let queries = Arc::new(Mutex::new(Vec::new()));
    let asked = queries.clone();
    let api = api(move |query| {
        asked.lock().unwrap().push(query.to_owned());
        match query {
            query if query.contains(STREAMED) => watch_of(&[
                ("ADDED", object("a", 10)),
                ("ADDED", object("b", 20)),
                ("DELETED", object("a", 25)),
                ("BOOKMARK", end.clone()),
                ("MODIFIED", object("b", 31)),
            ]),
            query if query.contains("watch=true") => watch_of(&[("ADDED", object("c", 32))]),
            _ => list_of(31, &[]),
        }
    });
    let told = followed(api, 6).await;
    assert_eq!(told, ["a 10", "b 20", "a gone", "30 has b", "b 31", "c 32"]);
    let queries = queries.lock().unwrap();
    let first: Vec<&str> = queries[0].split('&').collect();
    // Without a version it is a consistent list, of any version it would be one from a cache.
    assert!(first.contains(&"resourceVersion=") && first.contains(&"resourceVersionMatch=NotOlderThan"));
    assert!(queries[1].contains("limit=1") && queries[2].contains("resourceVersion=31"));
}

#[tokio::test]
async fn what_is_not_streamed_is_read_in_pages() {
    let ended = || watch_of(&[("ADDED", object("b", 20))]);
    let broken = || {
        let status = json!({"kind": "Status", "status": "Failure", "reason": "Timeout", "code": 504, "message": "slow"});
        watch_of(&[("ADDED", object("b", 20)), ("ERROR", status)])
    };
    let answers: [(Answer, &[&str]); 3] = [(forbidden, &[]), (ended, &["b 20"]), (broken, &["b 20"])];
    for (streamed, begun) in answers {
        let api = api(move |query| match query {
            query if query.contains(STREAMED) => streamed(),
            query if query.contains("watch=true") => watch_of(&[("ADDED", object("c", 32))]),
            _ => list_of(31, &[object("a", 10)]),
        });
        // What came before the end is no part of the list.
        let wanted = [begun, &["a 10", "31 has a", "c 32"]].concat();
        assert_eq!(followed(api, wanted.len()).await, wanted);
    }
}

/// An API server that was restored: the first list is of version 100, what follows of 50. Each watch ends at once.
#[tokio::test]
async fn a_watch_from_a_version_that_the_api_has_forgotten_begins_with_a_new_list() {
    let (lists, watched) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
    let from = watched.clone();
    let api = api(move |query| match query {
        query if query.contains(STREAMED) => forbidden(),
        query if query.contains("watch=true") => {
            let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
            from.lock().unwrap().push(version.unwrap_or_default().to_owned());
            watch_of(&[])
        }
        _ => {
            let mut lists = lists.lock().unwrap();
            *lists += 1;
            list_of(if *lists == 1 { 100 } else { 50 }, &[])
        }
    });
    assert_eq!(followed(api, 2).await, ["100 has ", "50 has "]);
    assert_eq!(watched.lock().unwrap()[0], "100");
}

#[test]
fn only_a_lower_number_is_below() {
    assert!(is_below("50", "100"));
    assert!(!is_below("100", "100") && !is_below("101", "100"));
    assert!(!is_below("", "100") && !is_below("fifty", "100") && !is_below("50", ""));
}

#[tokio::test]
async fn only_the_kinds_that_may_be_lacking_are_gone_on_without() {
    for (code, is_lacking) in [(403, true), (404, true), (429, false), (500, false), (503, false)] {
        let client = client(move |_| failure(code, "it is not to be had"));
        let services = Api::<ServiceCIDR>::all(client.clone());
        let failed = list_page(&services, ListParams::default()).await.unwrap_err();
        let relist_services = relist::<ServiceCidrs>(failed);
        let (is_unlisted, why) = match relist_services {
            Relist::Unlisted(why, listed) => (listed == Listed::ServiceCidrs { names: None }, why),
            Relist::Because(why) => (false, why),
            Relist::Never(Closed) => panic!("nothing is closed"),
        };
        assert_eq!(is_unlisted, is_lacking, "{code}");
        assert!(why.contains("it is not to be had"), "{why}");
        let failed = list_page(&Api::<Node>::all(client), ListParams::default()).await.unwrap_err();
        assert!(matches!(relist::<Nodes>(failed), Relist::Because(_)), "{code}");
    }
    assert!(matches!(relist::<ServiceCidrs>(ListError::Late), Relist::Because(_)));
}

#[tokio::test]
async fn an_api_server_without_service_cidrs_keeps_no_replica_from_being_ready() {
    let cidr = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "resourceVersion": "7"}, "spec": {"cidrs": ["10.96.0.0/12"]},
    });
    for is_there in [true, false] {
        let cidr = cidr.clone();
        let client = client(move |query| match query {
            _ if !is_there => failure(404, "the server could not find the requested resource"),
            query if query.contains(STREAMED) => forbidden(),
            query if query.contains("watch=true") => watch_of(&[]),
            _ => list_of(9, std::slice::from_ref(&cidr)),
        });
        let (events, mut seen) = mpsc::channel(1);
        let (synced, mut kinds) = watch::channel(0);
        let task = tokio::spawn(follow::<ServiceCidrs>(vec![Api::all(client)], Feed { events, synced }));
        let mut next = async || timeout(limits::LIST_CALL, seen.recv()).await.expect("an event in time");
        if is_there {
            let Some(Event::ServiceCidrSeen { name, networks }) = next().await else { panic!("it is seen") };
            assert_eq!((name.as_str(), networks), ("kubernetes", vec!["10.96.0.0/12".parse().unwrap()]));
        }
        let Some(Event::Listed(listed)) = next().await else { panic!("a list is delivered") };
        let names = is_there.then(|| BTreeSet::from(["kubernetes".into()]));
        assert_eq!(listed, Listed::ServiceCidrs { names });
        timeout(limits::LIST_CALL, kinds.wait_for(|kinds| *kinds == 1)).await.expect("in time").unwrap();
        task.abort();
    }
}
