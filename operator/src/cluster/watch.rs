//! What there is and what changes, from the API server: each kind is listed consistently, then watched.
//!
//! The one task here is the only sender of events about objects and about leading, so a list that was begun before this replica
//! led is never taken for one that came after.

use std::collections::BTreeSet;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{OptionFuture, join},
    stream::FuturesUnordered,
};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Client, Resource,
    api::{Api, DynamicObject, ListParams, ObjectList, WatchEvent, WatchParams},
};
use operator_core::{
    Event, api,
    event::Listed,
    ids::{NodeName, ObjectName, PoolName, ResourceVersion, Uid},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{leader::Turn, objects};
use crate::{args::Namespaces, limits};

/// Feeds the planner. Ends when nobody takes its events.
pub(super) async fn run(
    client: Client,
    secrets: Namespaces,
    mut turns: mpsc::Receiver<Turn>,
    events: mpsc::Sender<Event>,
    synced: watch::Sender<usize>,
) {
    let mut watches = start(&client, &secrets, &events, &synced);
    loop {
        let turn = tokio::select! {
            turn = turns.recv() => turn,
            ended = watches.join_next() => {
                tracing::error!("a watch has ended: {ended:?}");
                return;
            }
        };
        let sent = match turn {
            Some(Turn::Lead { floor }) => {
                // Their lists may be older than our Lease: what leads begins with new ones.
                watches.shutdown().await;
                let sent = events.send(Event::Lead { floor }).await;
                watches = start(&client, &secrets, &events, &synced);
                sent
            }
            Some(Turn::Demoted { done }) => {
                let sent = events.send(Event::Demoted).await;
                let _ = done.send(());
                sent
            }
            // The Lease's keeper ends with the process.
            None => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Kinds that are watched; so many lists make a replica ready.
pub(super) const KINDS: usize = 4;

fn start(
    client: &Client,
    secrets: &Namespaces,
    events: &mpsc::Sender<Event>,
    synced: &watch::Sender<usize>,
) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    let feed = || Feed { events: events.clone(), synced: synced.clone() };
    watches.spawn(follow::<Streams>(vec![objects::streams(client.clone(), None)], feed()));
    watches.spawn(follow::<Pools>(vec![objects::pools(client.clone())], feed()));
    watches.spawn(follow::<Nodes>(vec![Api::all(client.clone())], feed()));
    let secrets = match secrets {
        Namespaces::All => vec![Api::all(client.clone())],
        Namespaces::These(names) => names.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
    };
    watches.spawn(follow::<Secrets>(secrets, feed()));
    watches
}

/// Where events go, and the count of kinds that have been listed.
struct Feed {
    events: mpsc::Sender<Event>,
    synced: watch::Sender<usize>,
}

/// Nobody takes events any more.
struct Closed;

impl Feed {
    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// What a kind's objects are as events.
trait Watched {
    /// As the API has it.
    type Object: DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
    /// What tells one from another in a list.
    type Key: Ord + Send;
    /// Only objects of this type are listed and watched.
    const TYPE: Option<&'static str> = None;

    fn fields() -> Option<String> {
        Self::TYPE.map(|wanted| format!("type={wanted}"))
    }

    fn seen(object: &Self::Object) -> Event;
    fn gone(object: &Self::Object) -> Event;
    fn key(object: &Self::Object) -> Self::Key;
    fn listed(version: ResourceVersion, keys: BTreeSet<Self::Key>) -> Listed;
}

struct Streams;

impl Watched for Streams {
    type Object = DynamicObject;
    type Key = Uid;

    fn seen(object: &DynamicObject) -> Event {
        Event::StreamSeen(Box::new(objects::stream(object)))
    }

    fn gone(object: &DynamicObject) -> Event {
        Event::StreamGone { uid: Self::key(object) }
    }

    fn key(object: &DynamicObject) -> Uid {
        uid(object)
    }

    fn listed(resource_version: ResourceVersion, uids: BTreeSet<Uid>) -> Listed {
        Listed::Streams { resource_version, uids }
    }
}

struct Pools;

impl Watched for Pools {
    type Object = DynamicObject;
    type Key = PoolName;

    fn seen(object: &DynamicObject) -> Event {
        Event::PoolSeen(Box::new(objects::pool(object)))
    }

    fn gone(object: &DynamicObject) -> Event {
        Event::PoolGone { name: Self::key(object), uid: uid(object) }
    }

    fn key(object: &DynamicObject) -> PoolName {
        PoolName::from(object.metadata.name.as_deref().unwrap_or_default())
    }

    fn listed(_: ResourceVersion, names: BTreeSet<PoolName>) -> Listed {
        Listed::Pools { names }
    }
}

struct Nodes;

impl Watched for Nodes {
    type Object = Node;
    type Key = NodeName;

    fn seen(object: &Node) -> Event {
        Event::NodeSeen(objects::node(object))
    }

    fn gone(object: &Node) -> Event {
        Event::NodeGone { name: Self::key(object) }
    }

    fn key(object: &Node) -> NodeName {
        NodeName::from(object.metadata.name.as_deref().unwrap_or_default())
    }

    fn listed(_: ResourceVersion, names: BTreeSet<NodeName>) -> Listed {
        Listed::Nodes { names }
    }
}

struct Secrets;

impl Watched for Secrets {
    type Object = Secret;
    type Key = ObjectName;
    /// No other Secret ever comes here.
    const TYPE: Option<&'static str> = Some(api::TOKEN_SECRET_TYPE);

    fn seen(object: &Secret) -> Event {
        let (name, token_sha256) = objects::secret(object);
        Event::SecretSeen { name, token_sha256 }
    }

    fn gone(object: &Secret) -> Event {
        Event::SecretGone { name: Self::key(object) }
    }

    fn key(object: &Secret) -> ObjectName {
        let namespace = object.metadata.namespace.as_deref().unwrap_or(api::DEFAULT_NAMESPACE);
        ObjectName::new(namespace, object.metadata.name.as_deref().unwrap_or_default())
    }

    fn listed(_: ResourceVersion, names: BTreeSet<ObjectName>) -> Listed {
        Listed::Secrets { names }
    }
}

fn uid(object: &DynamicObject) -> Uid {
    Uid::from(object.metadata.uid.as_deref().unwrap_or_default())
}

/// Lists all of these, then watches them, and begins again where a watch can't go on.
async fn follow<W: Watched>(apis: Vec<Api<W::Object>>, feed: Feed)
where
    W::Object: Resource,
{
    let mut first = true;
    loop {
        let versions = match list::<W>(&apis, &feed).await {
            Ok(Ok(versions)) => versions,
            Ok(Err(Closed)) => return,
            Err(error) => {
                tracing::warn!("a list failed, and is tried again: {error}");
                sleep(limits::API_RETRY).await;
                continue;
            }
        };
        if std::mem::take(&mut first) {
            feed.synced.send_modify(|kinds| *kinds = (*kinds + 1).min(KINDS));
        }
        let watches = apis.iter().zip(versions).map(|(api, version)| watch_one::<W>(api, version, &feed));
        let mut watches: FuturesUnordered<_> = watches.collect();
        match watches.next().await {
            Some(Relist::Because(why)) => tracing::info!("objects are listed again: {why}"),
            Some(Relist::Never(Closed)) => return,
            // There is nothing to watch; the task is ended from outside.
            None => std::future::pending().await,
        }
    }
}

/// Why a watch is over.
enum Relist {
    Because(String),
    Never(Closed),
}

/// One consistent list (no resourceVersion: read from etcd's quorum), in pages. Gives where to watch from.
async fn list<W: Watched>(
    apis: &[Api<W::Object>],
    feed: &Feed,
) -> Result<Result<Vec<String>, Closed>, String> {
    let (mut keys, mut versions) = (BTreeSet::new(), Vec::new());
    for api in apis {
        let all =
            ListParams { field_selector: W::fields(), ..ListParams::default() }.limit(limits::LIST_PAGE);
        let mut page = Some(list_page(api, all.clone()).await?);
        let mut of_first = None;
        while let Some(ObjectList { types: _, metadata, items }) = page {
            of_first.get_or_insert(metadata.resource_version.unwrap_or_default());
            let next = metadata.continue_.filter(|token| !token.is_empty());
            // The API server makes the next page while this one is taken in.
            let next =
                OptionFuture::from(next.map(|token| list_page(api, all.clone().continue_token(&token))));
            let send = async {
                for object in &items {
                    keys.insert(W::key(object));
                    feed.send(W::seen(object)).await?;
                }
                Ok(())
            };
            let (next, sent) = join(next, send).await;
            if let Err(closed) = sent {
                return Ok(Err(closed));
            }
            page = next.transpose()?;
        }
        versions.extend(of_first);
    }
    // Of several lists no one version is the version; only streams need it, and are one.
    let version = versions.first().and_then(|version| version.parse().ok()).unwrap_or_default();
    let listed = Event::Listed(W::listed(ResourceVersion(version), keys));
    Ok(feed.send(listed).await.map(|()| versions))
}

async fn list_page<T>(api: &Api<T>, page: ListParams) -> Result<ObjectList<T>, String>
where
    T: DeserializeOwned + Clone + std::fmt::Debug,
{
    match timeout(limits::LIST_CALL, api.list(&page)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {:?}", limits::LIST_CALL)),
    }
}

/// Watches from a version on, across the API server's own ends of a watch, until it has to be listed again.
async fn watch_one<W: Watched>(api: &Api<W::Object>, mut version: String, feed: &Feed) -> Relist
where
    W::Object: Resource,
{
    let mut how = WatchParams::default().timeout(limits::WATCH_SECONDS);
    how.field_selector = W::fields();
    let silence = limits::WATCH_SILENCE;
    let mut opened_before = false;
    loop {
        // From a version that the API has not reached, as after a restore from a backup, a watch is silent until it has, and
        // what happens until then never comes.
        if std::mem::replace(&mut opened_before, true) {
            match newest::<W>(api).await {
                Ok(newest) if is_below(&newest, &version) => return went_back(&newest, &version),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!("the API's version is not known: {error}");
                    sleep(limits::API_RETRY).await;
                    continue;
                }
            }
        }
        let opened = match timeout(limits::API_CALL, api.watch(&how, &version)).await {
            Ok(opened) => opened,
            Err(_) => {
                sleep(limits::API_RETRY).await;
                continue;
            }
        };
        let mut changes = match opened {
            Ok(changes) => std::pin::pin!(changes),
            Err(kube::Error::Api(status)) if status.code == StatusCode::GONE.as_u16() => {
                return Relist::Because(status.message.clone());
            }
            Err(error) => {
                tracing::debug!("a watch can't be opened: {error}");
                sleep(limits::API_RETRY).await;
                continue;
            }
        };
        loop {
            let (at, event) = match timeout(silence, changes.try_next()).await {
                Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    (object.meta().resource_version.clone(), Some(W::seen(&object)))
                }
                Ok(Ok(Some(WatchEvent::Deleted(object)))) => {
                    (object.meta().resource_version.clone(), Some(W::gone(&object)))
                }
                Ok(Ok(Some(WatchEvent::Bookmark(bookmark)))) => {
                    (Some(bookmark.metadata.resource_version), None)
                }
                Ok(Ok(Some(WatchEvent::Error(status)))) => {
                    if status.code == StatusCode::GONE.as_u16() {
                        return Relist::Because(status.message.clone());
                    }
                    tracing::debug!("a watch ends: {}", status.message);
                    sleep(limits::API_RETRY).await;
                    break;
                }
                // The API server ends each watch after a while; the next one goes on from here.
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    tracing::debug!("a watch broke off: {error}");
                    sleep(limits::API_RETRY).await;
                    break;
                }
                Err(_) => {
                    tracing::warn!("a watch was silent for {silence:?}, and is opened again");
                    break;
                }
            };
            if let Some(at) = at {
                if is_below(&at, &version) {
                    return went_back(&at, &version);
                }
                version = at;
            }
            if let Some(event) = event
                && let Err(closed) = feed.send(event).await
            {
                return Relist::Never(closed);
            }
        }
    }
}

/// The version that the API has come to: one object, read from etcd's quorum.
async fn newest<W: Watched>(api: &Api<W::Object>) -> Result<String, String> {
    let one = ListParams { field_selector: W::fields(), ..ListParams::default() }.limit(1);
    let list = list_page(api, one).await?;
    list.metadata.resource_version.ok_or_else(|| "a list has no version".to_owned())
}

/// Versions of one API server are numbers that only rise; what is none says nothing.
fn is_below(version: &str, than: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(version).zip(number(than)).is_some_and(|(version, than)| version < than)
}

fn went_back(to: &str, from: &str) -> Relist {
    Relist::Because(format!("the API went back from version {from} to {to}"))
}

#[cfg(test)]
mod tests;
