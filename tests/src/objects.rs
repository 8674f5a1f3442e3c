//! What the API server has of streams.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::eventually::{ensure, eventually, throughout, within};
use crate::player::Viewer;

/// Who has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The worker's name.
    pub worker: String,
    /// Its node.
    pub node: String,
    /// Of the stream.
    pub epoch: u64,
    /// How often it was given to another worker.
    pub failovers: u64,
}

/// All streams of the namespace `default`.
pub fn streams(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let json = cluster.ask(&["get", "mst", "-o", "json"])?;
    let list: Value = serde_json::from_str(&json).map_err(|e| format!("kubectl get mst: {e}"))?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// One of them.
///
/// # Panics
/// When it is not there.
#[track_caller]
pub fn stream(cluster: &Cluster, name: &str) -> Value {
    let json = cluster.ask(&["get", "mst", name, "-o", "json"]).expect("the stream is there");
    serde_json::from_str(&json).expect("kubectl writes JSON")
}

/// The first URL of a use and protocol in a stream's status.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn endpoint(stream: &Value, usage: &str, protocol: &str) -> String {
    let all = stream["status"]["endpoints"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|it| it["use"] == usage && it["protocol"] == protocol);
    let url = found.and_then(|it| it["url"].as_str());
    url.unwrap_or_else(|| panic!("no {usage} by {protocol} in {}", stream["status"])).to_owned()
}

/// Where a URL leads that names its port.
#[track_caller]
pub fn address(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").expect("a URL has a scheme");
    let host = rest.split('/').next().unwrap_or_default();
    host.to_socket_addrs().expect("an address and a port").next().expect("one address")
}

/// A viewer by HTTP-FLV, from here on.
#[track_caller]
pub fn viewer(stream: &Value, path: &str) -> Viewer {
    Viewer::open(address(&endpoint(stream, "Play", "HTTPFLV")), path)
}

/// Waits until media of the stream flows.
#[track_caller]
pub fn wait_live(cluster: &Cluster, name: &str, limit: Duration) {
    eventually(&format!("{name} to be Live"), limit, || {
        let phase = cluster.ask(&["get", "mst", name, "-o=jsonpath={.status.phase}"])?;
        ensure(phase == "Live", || phase.clone())
    });
}

/// Those of them that a worker has, by name.
pub fn assignments(cluster: &Cluster) -> Result<BTreeMap<String, Assignment>, String> {
    let of = |object: &Value| {
        let text = |at: &str| object.pointer(at)?.as_str().map(str::to_owned);
        let number = |at: &str| object.pointer(at)?.as_u64();
        let assignment = Assignment {
            worker: text("/status/assignment/worker")?,
            node: text("/status/assignment/node")?,
            epoch: number("/status/epoch")?,
            failovers: number("/status/failovers")?,
        };
        Some((text("/metadata/name")?, assignment))
    };
    Ok(streams(cluster)?.iter().filter_map(of).collect())
}

/// Waits until there are this many streams, all of them Ready and without media.
pub fn wait_all_ready(cluster: &Cluster, count: usize, limit: Duration) -> Result<(), String> {
    within(limit, || {
        let all = streams(cluster)?;
        let ready = |object: &&Value| object["status"]["phase"] == "Ready";
        let ready = all.iter().filter(ready).count();
        ensure(ready == count && all.len() == count, || {
            format!("{ready} of {} streams are Ready, {count} are awaited", all.len())
        })
    })
    .map_err(|last| format!("waited {limit:?}: {last}"))
}

/// Fails if a stream or a pool is written within this time.
#[track_caller]
pub fn nothing_is_written(cluster: &Cluster, span: Duration) {
    let versions = || cluster.ask(&["get", "mst,ppool", "-o=jsonpath={.items[*].metadata.resourceVersion}"]);
    let before = versions().expect("the API answers");
    throughout("no object of ours is written", span, || {
        let after = versions()?;
        ensure(after == before, || format!("{before} became {after}"))
    });
}
