//! Asks for what is known of a stream. Decides nothing.

use operator_core::{api::API_VERSION, ids::ObjectName};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    super::source::{Admin, Cluster, NoAnswer},
    facts::{Leader, Pages},
};
use crate::limits::{API_RETRY, LEASE};

/// Streams of a cluster among which one with a like name is looked for.
const OTHERS_MAX: usize = 500;

/// From standalone's admin port.
pub(super) async fn standalone(admin: Admin, asked: &ObjectName) -> Result<Pages, NoAnswer> {
    let mut streams = items(admin.get("/streams").await?);
    let at = streams.iter().position(|stream| {
        let metadata = &stream["metadata"];
        metadata["namespace"] == *asked.namespace && metadata["name"] == *asked.name
    });
    Ok(Pages {
        stream: at.map(|at| streams.swap_remove(at)),
        others: streams,
        pools: items(admin.get("/pools").await?),
        events: items(admin.get("/events").await?),
        sessions: Some(admin.get("/sessions").await.map_err(|error| error.to_string())),
        leader: Leader::There,
    })
}

/// From a cluster's API server. Who may not read Events or the Lease is told without.
pub(super) async fn cluster(
    cluster: &Cluster,
    asked: &ObjectName,
    lease: &ObjectName,
) -> Result<Pages, NoAnswer> {
    let ObjectName { namespace, name } = asked;
    let group = format!("/apis/{API_VERSION}");
    let stream = cluster.get(&format!("{group}/namespaces/{namespace}/mediastreams/{name}")).await?;
    let others = match &stream {
        Some(_) => None,
        None => cluster.get(&format!("{group}/mediastreams?limit={OTHERS_MAX}")).await?,
    };
    let events = format!(
        "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind=MediaStream,involvedObject.name={name}"
    );
    Ok(Pages {
        stream,
        others: others.map(items).unwrap_or_default(),
        pools: cluster.get(&format!("{group}/portpools")).await?.map(items).unwrap_or_default(),
        events: cluster.get(&events).await.ok().flatten().map(items).unwrap_or_default(),
        sessions: None,
        leader: leader(cluster, lease).await,
    })
}

/// Whether the Lease is renewed: clocks of two machines are never compared, so it is looked at until it changes.
async fn leader(cluster: &Cluster, lease: &ObjectName) -> Leader {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}", lease.namespace, lease.name);
    let until = Instant::now() + LEASE + API_RETRY;
    let mut before: Option<Value> = None;
    loop {
        let found = match cluster.get(&path).await {
            Ok(Some(found)) => found,
            Ok(None) => return Leader::NoLease(lease.to_string()),
            Err(error) => return Leader::Unknown(error.to_string()),
        };
        let is_held = found["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
        let version = found["metadata"]["resourceVersion"].clone();
        if is_held && before.as_ref().is_some_and(|before| *before != version) {
            return Leader::There;
        }
        if Instant::now() >= until {
            return Leader::Nobody;
        }
        before = Some(version);
        sleep(API_RETRY).await;
    }
}

fn items(mut list: Value) -> Vec<Value> {
    match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
