//! The API server as whoever applies streams sees it: makes and deletes objects at a pace, and sees by a watch what becomes of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use kube::api::{Api as Objects, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::eventually::{ensure, within};
use tests::installation::NAMESPACE;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::fleet;

/// All streams are here.
/// Of tokens that workers show the operator.
const AUDIENCE: &str = "penstock";

const OF: &str = "default";
const STREAMS: &str = "/apis/media.penstock.dev/v1alpha1/namespaces/default/mediastreams";

/// Requests of whoever applies, at once.
const APPLIERS: usize = 16;

/// As the operator's `Config::writes_in_flight_max`.
const WRITERS: usize = 64;

/// A client on a thread of its own, and what it has seen of streams.
pub(crate) struct Api {
    admin: Client,
    handle: Handle,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What a watch has shown.
#[derive(Default)]
pub(crate) struct Seen {
    streams: BTreeMap<String, Stream>,
    /// Changes of any stream.
    events: u64,
    /// Why there will be no more.
    failed: Option<String>,
}

/// One that is there.
#[derive(Default)]
struct Stream {
    /// Each status that it has had, as JSON.
    statuses: Vec<String>,
    ready_at: Option<Instant>,
    /// Worker and epoch.
    owner: (String, u64),
}

/// An object as it comes.
#[derive(Clone, Debug, Deserialize)]
struct Object {
    metadata: Metadata,
    status: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
    items: Vec<Object>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

/// How fast streams are applied.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    AsFastAsPossible,
    /// In a second.
    Rate(f64),
}

impl Api {
    /// Sees all streams from here on.
    pub(crate) fn connect(cluster: &Cluster) -> Result<Api, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let admin = runtime.block_on(async { Client::try_from(config(cluster).await?).map_err(text) })?;
        let (stop, stopped) = oneshot::channel();
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
            // It is never sent; the sender's end is the word.
            let _ = runtime.block_on(stopped);
        });
        let seen = Arc::new(Mutex::new(Seen::default()));
        handle.spawn(watch(admin.clone(), seen.clone()));
        Ok(Api { admin, handle, seen, stop: Some(stop), thread: Some(thread.map_err(|e| e.to_string())?) })
    }

    /// Runs it where the watch runs.
    fn run<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> T {
        let job = self.handle.spawn(job);
        self.handle.block_on(job).expect("it does not panic")
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes as plain objects, and on each a worker's pod with a token that is bound to it.
    pub(crate) fn make_pods(&self, workers: usize) -> Result<Vec<fleet::Pod>, String> {
        let client = self.admin.clone();
        self.run(async move {
            let mut pods = Vec::new();
            for number in 0..workers {
                pods.push(make_pod(&client, number).await?);
            }
            Ok(pods)
        })
    }

    /// Tokens for the operator's sessions that are no worker's: one of no pod, one of another ServiceAccount.
    pub(crate) fn other_tokens(&self) -> Result<[String; 2], String> {
        let client = self.admin.clone();
        self.run(async move {
            let spec =
                || TokenRequestSpec { audiences: Some(vec![AUDIENCE.to_owned()]), ..Default::default() };
            let unbound = token(&client, "penstock-worker", None, spec()).await?;
            Ok([unbound, token(&client, "penstock-operator", None, spec()).await?])
        })
    }

    /// A token of the operator's ServiceAccount for the API server.
    pub(crate) fn operator_token(&self) -> Result<String, String> {
        let client = self.admin.clone();
        self.run(async move { token(&client, "penstock-operator", None, TokenRequestSpec::default()).await })
    }

    /// A value of a Secret in the installation's namespace.
    pub(crate) fn secret(&self, name: &'static str, key: &'static str) -> Result<Vec<u8>, String> {
        let secrets: Objects<Secret> = Objects::namespaced(self.admin.clone(), NAMESPACE);
        let secret = self.run(async move { secrets.get(name).await }).map_err(text)?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        value.map(|value| value.0).ok_or(format!("{name} has no {key}"))
    }

    /// Makes streams; gives when each was asked for. The first was asked for first.
    pub(crate) fn apply(&self, names: Vec<String>, pace: Pace) -> Result<BTreeMap<String, Instant>, String> {
        let client = self.admin.clone();
        self.run(async move {
            let turns = Arc::new(Semaphore::new(APPLIERS));
            let (mut tasks, mut asked) = (JoinSet::new(), BTreeMap::new());
            let begun = Instant::now();
            for (number, name) in names.into_iter().enumerate() {
                if let Pace::Rate(rate) = pace {
                    let at = begun + Duration::from_secs_f64(number as f64 / rate);
                    tokio::time::sleep_until(at.into()).await;
                }
                let turn = turns.clone().acquire_owned().await;
                let client = client.clone();
                asked.insert(name.clone(), Instant::now());
                tasks.spawn(async move {
                    let made = create(&client, &name, number).await;
                    drop(turn);
                    made.map(drop)
                });
            }
            all(tasks).await.map(|()| asked)
        })
    }

    /// What the operator would have written, by nobody who decides: each stream is made and gets the statuses of another, by the
    /// bearer of the operator's own token. Gives how long all of it took.
    pub(crate) fn write_again(
        &self,
        cluster: &Cluster,
        token_file: &std::path::Path,
        streams: Vec<(String, Vec<String>)>,
    ) -> Result<Duration, String> {
        let admin = self.admin.clone();
        let operator = self.handle.block_on(config(cluster));
        let mut operator = operator?;
        operator.auth_info = kube::config::AuthInfo {
            token_file: Some(token_file.display().to_string()),
            ..Default::default()
        };
        self.run(async move {
            let operator = Client::try_from(operator).map_err(text)?;
            let (appliers, writers) = (Arc::new(Semaphore::new(APPLIERS)), Arc::new(Semaphore::new(WRITERS)));
            let mut tasks = JoinSet::new();
            let begun = Instant::now();
            for (number, (name, statuses)) in streams.into_iter().enumerate() {
                let turn = appliers.clone().acquire_owned().await;
                let (admin, operator, writers) = (admin.clone(), operator.clone(), writers.clone());
                tasks.spawn(async move {
                    let mut object = create(&admin, &name, number).await?;
                    drop(turn);
                    for status in statuses {
                        let _turn = writers.acquire().await;
                        object = write_status(&operator, &object.metadata, &status).await?;
                    }
                    Ok(())
                });
            }
            all(tasks).await.map(|()| begun.elapsed())
        })
    }

    /// Deletes all streams, and waits until they are gone.
    pub(crate) fn delete_all(&self, limit: Duration) -> Result<(), String> {
        let names: Vec<String> = self.seen().streams.keys().cloned().collect();
        let client = self.admin.clone();
        self.run(async move {
            let turns = Arc::new(Semaphore::new(APPLIERS));
            let mut tasks = JoinSet::new();
            for name in names {
                let turn = turns.clone().acquire_owned().await;
                let client = client.clone();
                tasks.spawn(async move {
                    let request = Request::new(STREAMS).delete(&name, &DeleteParams::default());
                    let done = client.request::<Value>(request.map_err(text)?).await;
                    drop(turn);
                    done.map(drop).map_err(|e| format!("{name} is not deleted: {e}"))
                });
            }
            all(tasks).await
        })?;
        self.wait("no stream", limit, |seen| {
            ensure(seen.streams.is_empty(), || format!("{} are left", seen.streams.len()))
        })
    }

    /// Waits for what the watch shows.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Seen) -> Result<T, String>,
    ) -> Result<T, String> {
        within(limit, || {
            let seen = self.seen();
            if let Some(failed) = &seen.failed {
                return Err(format!("the watch ended: {failed}"));
            }
            probe(&seen)
        })
        .map_err(|last| format!("waited {limit:?} for {what}: {last}"))
    }

    /// Waits until so many streams are Ready.
    pub(crate) fn wait_ready(&self, count: usize, limit: Duration) -> Result<(), String> {
        self.wait("streams that are Ready", limit, |seen| {
            let ready = seen.ready();
            ensure(ready == count, || format!("{ready} of {count}"))
        })
    }

    /// Writes of streams and pools that the API server has done since it started, by whomever.
    pub(crate) fn writes(&self) -> Result<f64, String> {
        let client = self.admin.clone();
        let page = self.run(async move {
            let request = http_get("/metrics")?;
            client.request_text(request).await.map_err(text)
        })?;
        ["POST", "PUT", "PATCH", "DELETE"]
            .iter()
            .map(|verb| {
                let verb = format!("verb=\"{verb}\"");
                let labels = ["group=\"media.penstock.dev\"", &verb];
                crate::replica::sum(&page, "apiserver_request_total", &labels)
            })
            .sum()
    }

    /// A field of a PortPool's status.
    pub(crate) fn pool(&self, name: &'static str, field: &str) -> Result<i64, String> {
        let client = self.admin.clone();
        let pool = self.run(async move {
            let request = http_get(&format!("/apis/media.penstock.dev/v1alpha1/portpools/{name}"))?;
            client.request::<Value>(request).await.map_err(text)
        })?;
        pool["status"][field].as_i64().ok_or_else(|| format!("status has no {field}: {}", pool["status"]))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the thread of the API's client panicked");
        }
    }
}

impl Seen {
    pub(crate) fn ready(&self) -> usize {
        self.streams.values().filter(|stream| stream.ready_at.is_some()).count()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// When the last of them became Ready.
    pub(crate) fn last_ready(&self) -> Option<Instant> {
        self.streams.values().filter_map(|stream| stream.ready_at).max()
    }

    pub(crate) fn ready_at(&self, name: &str) -> Option<Instant> {
        self.streams.get(name)?.ready_at
    }

    /// The statuses that each has had, in their order.
    pub(crate) fn statuses(&self) -> Vec<Vec<String>> {
        self.streams.values().map(|stream| stream.statuses.clone()).collect()
    }

    /// Who has each stream, at which epoch.
    pub(crate) fn owners(&self) -> BTreeMap<String, (String, u64)> {
        self.streams.iter().map(|(name, stream)| (name.clone(), stream.owner.clone())).collect()
    }

    fn note(&mut self, object: Object) {
        self.events += 1;
        let stream = self.streams.entry(object.metadata.name).or_default();
        let Some(status) = object.status else { return };
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        stream.ready_at = stream.ready_at.or(Some(Instant::now())).filter(|_| ready);
        let worker = status["assignment"]["worker"].as_str().unwrap_or_default().to_owned();
        stream.owner = (worker, status["epoch"].as_u64().unwrap_or_default());
        stream.statuses.push(status.to_string());
    }
}

async fn config(cluster: &Cluster) -> Result<Config, String> {
    let file = Kubeconfig::read_from(cluster.kubeconfig()).map_err(text)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>, String> {
    http::Request::get(path).body(Vec::new()).map_err(text)
}

/// The end of all, or the first error.
async fn all(mut tasks: JoinSet<Result<(), String>>) -> Result<(), String> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(text)??;
    }
    Ok(())
}

async fn create(client: &Client, name: &str, number: usize) -> Result<Object, String> {
    let stream = json!({
        "apiVersion": "media.penstock.dev/v1alpha1",
        "kind": "MediaStream",
        "metadata": {"name": name, "namespace": OF},
        "spec": {"source": {"rtp": {"transport": "TCPPassive", "payload": "PS", "ssrc": format!("{number:010}")}}},
    });
    let body = stream.to_string().into_bytes();
    let request = Request::new(STREAMS).create(&PostParams::default(), body).map_err(text)?;
    client.request(request).await.map_err(|e| format!("{name} is not made: {e}"))
}

async fn write_status(client: &Client, of: &Metadata, status: &str) -> Result<Object, String> {
    let Metadata { name, uid, resource_version } = of;
    let body = format!(
        r#"{{"apiVersion":"media.penstock.dev/v1alpha1","kind":"MediaStream","metadata":{{"namespace":"{OF}","name":"{name}","uid":"{uid}","resourceVersion":"{resource_version}"}},"status":{status}}}"#
    );
    let request =
        Request::new(STREAMS).replace_subresource("status", name, &PostParams::default(), body.into_bytes());
    client.request(request.map_err(text)?).await.map_err(|e| format!("the status of {name}: {e}"))
}

async fn make_pod(client: &Client, number: usize) -> Result<fleet::Pod, String> {
    let (node, name) = (format!("node-{number}"), format!("penstock-worker-{number}"));
    let host = u8::try_from(number / 250).and_then(|high| Ok((high, u8::try_from(number % 250)?)));
    let (high, low) = host.map_err(|_| "too many workers for 127.1.0.0/16")?;
    let address = Ipv4Addr::new(127, 1, high, low + 1);
    let object = json!({
        "metadata": {"name": node},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address.to_string()}],
            // Nobody takes it away: there is no controller that waits for a kubelet.
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"}],
        },
    });
    let object: Node = serde_json::from_value(object).map_err(text)?;
    Objects::all(client.clone()).create(&PostParams::default(), &object).await.map_err(text)?;
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": "penstock-worker",
            "nodeName": node,
            "containers": [{"name": "worker", "image": "localhost/penstock"}],
        },
    });
    let object: Pod = serde_json::from_value(object).map_err(text)?;
    let pods: Objects<Pod> = Objects::namespaced(client.clone(), NAMESPACE);
    let uid = pods.create(&PostParams::default(), &object).await.map_err(text)?.metadata.uid;
    let uid = uid.ok_or("a pod has no UID")?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.clone()),
        uid: Some(uid.clone()),
    };
    let spec = TokenRequestSpec { audiences: Some(vec![AUDIENCE.to_owned()]), ..Default::default() };
    let token = token(client, "penstock-worker", Some(bound), spec).await?;
    Ok(fleet::Pod { name, uid, node, address, token })
}

async fn token(
    client: &Client,
    account: &str,
    bound: Option<BoundObjectReference>,
    spec: TokenRequestSpec,
) -> Result<String, String> {
    let accounts: Objects<ServiceAccount> = Objects::namespaced(client.clone(), NAMESPACE);
    let spec = TokenRequestSpec { bound_object_ref: bound, ..spec };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let made = made.map_err(|e| format!("a token of {account}: {e}"))?;
    made.status.and_then(|status| status.token).ok_or(format!("no token of {account}"))
}

/// Notes each change of each stream.
async fn watch(client: Client, seen: Arc<Mutex<Seen>>) {
    let failed = follow(&client, &seen).await.err().unwrap_or_default();
    seen.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(failed);
}

async fn follow(client: &Client, seen: &Mutex<Seen>) -> Result<(), String> {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let request = Request::new(STREAMS).list(&ListParams::default()).map_err(text)?;
    let list: List = client.request(request).await.map_err(text)?;
    list.items.into_iter().for_each(|object| lock().note(object));
    let mut version = list.metadata.resource_version;
    loop {
        let request = Request::new(STREAMS).watch(&WatchParams::default(), &version).map_err(text)?;
        let changes = client.request_events::<Object>(request).await.map_err(text)?;
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.try_next().await.map_err(text)? {
            match change {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version.clone_from(&object.metadata.resource_version);
                    lock().note(object);
                }
                WatchEvent::Deleted(object) => {
                    version = object.metadata.resource_version;
                    let mut seen = lock();
                    seen.events += 1;
                    seen.streams.remove(&object.metadata.name);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(status.message),
            }
        }
    }
}
