use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

/// An API server that was restored: the first list is of version 100, what follows of 50. Each watch ends at once.
#[derive(Default)]
struct Restored {
    lists: usize,
    /// Versions that were watched from.
    watched: Vec<String>,
}

fn answer(state: &Mutex<Restored>, request: &Request<Body>) -> Response<Body> {
    let mut state = state.lock().unwrap();
    let query = request.uri().query().unwrap_or_default();
    let body = if query.contains("watch=true") {
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        state.watched.push(from.unwrap_or_default().to_owned());
        String::new()
    } else {
        state.lists += 1;
        let version = if state.lists == 1 { "100" } else { "50" };
        json!({
            "apiVersion": "media.penstock.dev/v1alpha1", "kind": "MediaStreamList",
            "metadata": {"resourceVersion": version}, "items": [],
        })
        .to_string()
    };
    Response::new(Body::from(body.into_bytes()))
}

#[tokio::test]
async fn a_watch_from_a_version_that_the_api_has_forgotten_begins_with_a_new_list() {
    let state = Arc::new(Mutex::new(Restored::default()));
    let shared = state.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(&shared, &request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let streams = objects::streams(Client::new(service, "default"), None);
    let (events, mut seen) = mpsc::channel(16);
    let feed = Feed { events, synced: watch::channel(0).0 };
    let task = tokio::spawn(follow::<Streams>(vec![streams], feed));
    for version in [100, 50] {
        let event = timeout(limits::LIST_CALL, seen.recv()).await.expect("a list in time");
        let Some(Event::Listed(Listed::Streams { resource_version, .. })) = event else {
            panic!("a list was to come, not {event:?}")
        };
        assert_eq!(resource_version, ResourceVersion(version));
    }
    task.abort();
    assert_eq!(state.lock().unwrap().watched[0], "100");
}

#[test]
fn only_a_lower_number_is_below() {
    assert!(is_below("50", "100"));
    assert!(!is_below("100", "100") && !is_below("101", "100"));
    assert!(!is_below("", "100") && !is_below("fifty", "100") && !is_below("50", ""));
}
