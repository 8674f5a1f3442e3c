//! `penstock kick`: ends who publishes a stream, or all who play it. The stream's policies go on as if they had gone by themselves.

use std::fmt::Write as _;

use operator_core::{api, ids::ObjectName};
use serde_json::{Value, json};

use super::source::{Cluster, Source};
use crate::args::Kick;

/// Ends them, and tells whom. On a cluster, where workers take commands from the operator alone, tells how to do it.
pub(super) async fn kick(args: &Kick) -> Result<String, String> {
    match Source::find(&args.whom, "/sessions").await.map_err(|error| error.to_string())? {
        Source::Admin(admin) => {
            let whom = if args.viewers { "viewers" } else { "publisher" };
            let request =
                json!({ "namespace": &*args.stream.namespace, "name": &*args.stream.name, "whom": whom });
            let answer = admin.post("/kick", &request).await.map_err(|error| error.to_string())?;
            in_words(&args.stream, args.viewers, &answer)
        }
        Source::Cluster(cluster) => Err(elsewhere(args, &cluster).await),
    }
}

/// What the worker says it has done.
fn in_words(stream: &ObjectName, viewers: bool, answer: &Value) -> Result<String, String> {
    let kicked = answer["kicked"].as_array().map(Vec::as_slice).unwrap_or_default();
    let silent = answer["silentShards"].as_array().is_some_and(|silent| !silent.is_empty());
    if kicked.is_empty() && silent {
        return Err(format!("{stream}: a shard of the worker does not answer; its watchdog will end it"));
    }
    if kicked.is_empty() {
        return Err(format!("{stream}: the worker has no such stream; ask why with: penstock why {stream}"));
    }
    let mut words = String::new();
    for one in kicked {
        let path = one["path"].as_str().unwrap_or_default();
        let line = match (viewers, &one["publisher"]) {
            (true, _) => format!("{stream}: {} viewers of {path} are ended", one["viewers"]),
            (false, Value::Null) => format!("{stream}: nobody publishes {path}"),
            (false, publisher) => publisher_in_words(stream, path, publisher),
        };
        let _ = writeln!(words, "{line}");
    }
    Ok(words)
}

fn publisher_in_words(stream: &ObjectName, path: &str, publisher: &Value) -> String {
    let text = |field: &str| publisher[field].as_str().unwrap_or("?").to_owned();
    let (remote, protocol) = (text("remote"), text("protocol"));
    let then = match protocol.as_str() {
        "RTP" => {
            "One that sends datagrams and goes on is taken again: end it at its side (BYE), or set spec.paused"
        }
        _ => {
            "The path is free; one that dials again is taken again, unless publish.tokenSecretRef or spec.paused keeps it out"
        }
    };
    format!("{stream}: the publisher {remote} ({protocol}) of {path} is ended. {then}")
}

/// How a person does it on a cluster: the admin port of the stream's worker is on the loopback of its node.
async fn elsewhere(args: &Kick, cluster: &Cluster) -> String {
    let ObjectName { namespace, name } = &args.stream;
    let path = format!("/apis/{}/namespaces/{namespace}/mediastreams/{name}", api::API_VERSION);
    match cluster.get(&path).await {
        Ok(Some(stream)) => match stream["status"]["assignment"]["worker"].as_str() {
            Some(worker) => command(args, worker),
            None => format!("{}: no worker has it; ask why with: penstock why {0}", args.stream),
        },
        Ok(None) => {
            format!("{}: there is no such MediaStream; penstock why {0} names those like it", args.stream)
        }
        Err(error) => error.to_string(),
    }
}

fn command(args: &Kick, worker: &str) -> String {
    let viewers = if args.viewers { " --viewers" } else { "" };
    format!(
        "{stream} is on the worker {worker}, which takes this from its own node alone. Run:\n\
         kubectl exec --namespace {namespace} {worker} -- /penstock kick {stream}{viewers}",
        stream = args.stream,
        namespace = args.whom.lease.namespace,
    )
}

#[cfg(test)]
mod tests;
