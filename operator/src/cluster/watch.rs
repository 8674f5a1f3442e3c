//! What there is and what changes, from the API server: each kind is listed consistently, then watched.
//!
//! The one task here is the only sender of events about objects and about leading, so a list that was begun before this replica
//! led is never taken for one that came after.

use std::collections::BTreeSet;

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{OptionFuture, join},
    stream::{BoxStream, FuturesUnordered},
};
use http::StatusCode;
use k8s_openapi::api::{
    core::v1::{Node, Secret},
    networking::v1::ServiceCIDR,
};
use kube::{
    Client, Resource,
    api::{Api, DynamicObject, ListParams, ObjectList, WatchEvent, WatchParams},
    core::watch::Bookmark,
};
use operator_core::{
    Event, api,
    event::Listed,
    ids::{NodeName, ObjectName, PoolName, ResourceVersion, ServiceCidrName, Uid},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
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
pub(super) const KINDS: usize = 5;

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
    watches.spawn(follow::<ServiceCidrs>(vec![Api::all(client.clone())], feed()));
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

    /// Counts a kind, the first time.
    fn count_once(&self, first: &mut bool) {
        if std::mem::take(first) {
            self.synced.send_modify(|kinds| *kinds = (*kinds + 1).min(KINDS));
        }
    }
}

/// What a kind's objects are as events.
trait Watched {
    /// As the API has it.
    type Object: DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
    /// What tells one from another in a list.
    type Key: Ord + Send;
    /// The plural, for logs.
    const KIND: &'static str;
    /// Only objects of this type are listed and watched.
    const TYPE: Option<&'static str> = None;

    fn fields() -> Option<String> {
        Self::TYPE.map(|wanted| format!("type={wanted}"))
    }

    fn seen(object: &Self::Object) -> Event;
    fn gone(object: &Self::Object) -> Event;
    fn key(object: &Self::Object) -> Self::Key;
    fn listed(version: ResourceVersion, keys: BTreeSet<Self::Key>) -> Listed;

    /// What stands for its list where the API server does not have or does not show the kind, and what to do then. Absent: that is not gone
    /// on without.
    fn unlisted() -> Option<(Listed, &'static str)> {
        None
    }
}

struct Streams;

impl Watched for Streams {
    type Object = DynamicObject;
    type Key = Uid;
    const KIND: &'static str = "MediaStreams";

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
    const KIND: &'static str = "PortPools";

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
    const KIND: &'static str = "Nodes";

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
    const KIND: &'static str = "Secrets";
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

struct ServiceCidrs;

impl Watched for ServiceCidrs {
    type Object = ServiceCIDR;
    type Key = ServiceCidrName;
    const KIND: &'static str = "ServiceCIDRs";

    fn seen(object: &ServiceCIDR) -> Event {
        let (name, networks) = objects::service_cidr(object);
        Event::ServiceCidrSeen { name, networks }
    }

    fn gone(object: &ServiceCIDR) -> Event {
        Event::ServiceCidrGone { name: Self::key(object) }
    }

    fn key(object: &ServiceCIDR) -> ServiceCidrName {
        ServiceCidrName::from(object.metadata.name.as_deref().unwrap_or_default())
    }

    fn listed(_: ResourceVersion, names: BTreeSet<ServiceCidrName>) -> Listed {
        Listed::ServiceCidrs { names: Some(names) }
    }

    /// They are there since Kubernetes 1.33.
    fn unlisted() -> Option<(Listed, &'static str)> {
        let remedy = "name the networks of Services in worker.targets.deny of the chart, that no stream has workers connect to them";
        Some((Listed::ServiceCidrs { names: None }, remedy))
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
    let (mut first, mut lacking) = (true, false);
    loop {
        let begun = match list::<W>(&apis, &feed).await {
            Ok(begun) => begun,
            Err(Relist::Never(Closed)) => return,
            Err(Relist::Unlisted(why, listed)) => {
                if !std::mem::replace(&mut lacking, true) {
                    tracing::warn!("{} are not known, and are gone on without: {why}", W::KIND);
                    if feed.send(Event::Listed(listed)).await.is_err() {
                        return;
                    }
                }
                feed.count_once(&mut first);
                sleep(limits::KIND_RETRY).await;
                continue;
            }
            Err(Relist::Because(error)) => {
                tracing::warn!("a list failed, and is tried again: {error}");
                sleep(limits::API_RETRY).await;
                continue;
            }
        };
        lacking = false;
        feed.count_once(&mut first);
        let watches = apis.iter().zip(begun).map(|(api, begun)| watch_one::<W>(api, begun, &feed));
        let mut watches: FuturesUnordered<_> = watches.collect();
        match watches.next().await {
            Some(Relist::Because(why) | Relist::Unlisted(why, _)) => {
                tracing::info!("objects are listed again: {why}");
            }
            Some(Relist::Never(Closed)) => return,
            // There is nothing to watch; the task is ended from outside.
            None => std::future::pending().await,
        }
    }
}

/// Why a list or a watch is over.
enum Relist {
    Because(String),
    Never(Closed),
    /// The API server does not have the kind, or does not show it, and it is gone on without.
    Unlisted(String, Listed),
}

impl From<Closed> for Relist {
    fn from(closed: Closed) -> Self {
        Self::Never(closed)
    }
}

/// What a watch tells.
type Changes<T> = BoxStream<'static, kube::Result<WatchEvent<T>>>;

/// A list, and how its watch goes on.
struct Begun<T> {
    /// Of the list.
    version: String,
    /// The watch that the list was the beginning of. Absent: one is to be opened from the version.
    watch: Option<Changes<T>>,
}

/// One consistent list (no resourceVersion: at least as new as etcd's quorum when it was asked for).
async fn list<W: Watched>(apis: &[Api<W::Object>], feed: &Feed) -> Result<Vec<Begun<W::Object>>, Relist>
where
    W::Object: Resource,
{
    let begin = Instant::now();
    let (mut keys, mut all) = (BTreeSet::new(), Vec::new());
    for api in apis {
        let (mut own, begun) = match stream_list::<W>(api, feed).await? {
            Some(listed) => listed,
            None => page_list::<W>(api, feed).await?,
        };
        keys.append(&mut own);
        all.push(begun);
    }
    let streamed = all.iter().all(|begun| begun.watch.is_some());
    let took_ms = begin.elapsed().as_millis() as u64;
    tracing::info!(objects = keys.len(), took_ms, streamed, "{} are listed", W::KIND);
    // Of several lists no one version is the version; only streams need it, and are one.
    let version = all.first().and_then(|begun| begun.version.parse().ok()).unwrap_or_default();
    feed.send(Event::Listed(W::listed(ResourceVersion(version), keys))).await?;
    Ok(all)
}

/// The annotation of the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A list as the beginning of a watch ("streaming lists", Kubernetes 1.34): the API server has it in memory, where pages are read
/// from etcd. Absent: this API server has no such lists, or does not bring one to its end.
async fn stream_list<W: Watched>(
    api: &Api<W::Object>,
    feed: &Feed,
) -> Result<Option<(BTreeSet<W::Key>, Begun<W::Object>)>, Relist>
where
    W::Object: Resource,
{
    let mut changes = match timeout(limits::LIST_CALL, api.watch(&how::<W>().initial_events(), "")).await {
        Ok(Ok(changes)) => changes.boxed(),
        // One that has none says 422. What is wrong with all lists, pages will tell.
        Ok(Err(kube::Error::Api(status))) => {
            tracing::debug!("{} are not streamed: {}", W::KIND, status.message);
            return Ok(None);
        }
        Ok(Err(error)) => return Err(Relist::Because(error.to_string())),
        Err(_) => return Err(Relist::Because(format!("no answer in {:?}", limits::LIST_CALL))),
    };
    let mut keys = BTreeSet::new();
    let why = loop {
        match timeout(limits::LIST_CALL, changes.try_next()).await {
            Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                keys.insert(W::key(&object));
                feed.send(W::seen(&object)).await?;
            }
            Ok(Ok(Some(WatchEvent::Deleted(object)))) => {
                keys.remove(&W::key(&object));
                feed.send(W::gone(&object)).await?;
            }
            Ok(Ok(Some(WatchEvent::Bookmark(Bookmark { metadata, .. })))) => {
                if metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                    let begun = Begun { version: metadata.resource_version, watch: Some(changes) };
                    return Ok(Some((keys, begun)));
                }
            }
            Ok(Ok(Some(WatchEvent::Error(status)))) => break status.message,
            Ok(Ok(None)) => break "the API server ended it".to_owned(),
            Ok(Err(error)) => return Err(Relist::Because(error.to_string())),
            Err(_) => break format!("nothing came in {:?}", limits::LIST_CALL),
        }
    };
    tracing::info!("a streamed list of {} did not come to its end, and is read in pages: {why}", W::KIND);
    Ok(None)
}

/// A list in pages.
async fn page_list<W: Watched>(
    api: &Api<W::Object>,
    feed: &Feed,
) -> Result<(BTreeSet<W::Key>, Begun<W::Object>), Relist> {
    let all = ListParams { field_selector: W::fields(), ..ListParams::default() }.limit(limits::LIST_PAGE);
    let mut page = Some(list_page(api, all.clone()).await.map_err(relist::<W>)?);
    let (mut keys, mut version) = (BTreeSet::new(), None);
    while let Some(ObjectList { types: _, metadata, items }) = page {
        // Of the first page, whose state all are of.
        version.get_or_insert(metadata.resource_version.unwrap_or_default());
        let next = metadata.continue_.filter(|token| !token.is_empty());
        // The API server makes the next page while this one is taken in.
        let next = OptionFuture::from(next.map(|token| list_page(api, all.clone().continue_token(&token))));
        let send = async {
            for object in &items {
                keys.insert(W::key(object));
                feed.send(W::seen(object)).await?;
            }
            Ok::<_, Closed>(())
        };
        let (next, sent) = join(next, send).await;
        sent?;
        page = next.transpose().map_err(relist::<W>)?;
    }
    Ok((keys, Begun { version: version.unwrap_or_default(), watch: None }))
}

/// What follows from a list that failed.
fn relist<W: Watched>(failed: ListError) -> Relist {
    let hidden = match &failed {
        ListError::Api(kube::Error::Api(status)) => {
            [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].iter().any(|it| it.as_u16() == status.code)
        }
        ListError::Api(_) | ListError::Late => false,
    };
    match W::unlisted().filter(|_| hidden) {
        Some((listed, remedy)) => Relist::Unlisted(format!("{failed}: {remedy}"), listed),
        None => Relist::Because(failed.to_string()),
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer in {:?}", limits::LIST_CALL)]
    Late,
}

async fn list_page<T>(api: &Api<T>, page: ListParams) -> Result<ObjectList<T>, ListError>
where
    T: DeserializeOwned + Clone + std::fmt::Debug,
{
    match timeout(limits::LIST_CALL, api.list(&page)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ListError::Late),
    }
}

/// How objects of a kind are watched.
fn how<W: Watched>() -> WatchParams {
    WatchParams { field_selector: W::fields(), ..WatchParams::default() }.timeout(limits::WATCH_SECONDS)
}

/// Watches from the list on, across the API server's own ends of a watch, until it has to be listed again.
async fn watch_one<W: Watched>(api: &Api<W::Object>, begun: Begun<W::Object>, feed: &Feed) -> Relist
where
    W::Object: Resource,
{
    let Begun { mut version, watch: mut at_hand } = begun;
    let silence = limits::WATCH_SILENCE;
    let mut opened_before = at_hand.is_some();
    loop {
        let opened = match at_hand.take() {
            Some(changes) => Ok(Some(changes)),
            None => open::<W>(api, &version, std::mem::replace(&mut opened_before, true)).await,
        };
        let mut changes = match opened {
            Ok(Some(changes)) => changes,
            Ok(None) => {
                sleep(limits::API_RETRY).await;
                continue;
            }
            Err(relist) => return relist,
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

/// Opens a watch from a version on. Absent: not now.
async fn open<W: Watched>(
    api: &Api<W::Object>,
    version: &str,
    again: bool,
) -> Result<Option<Changes<W::Object>>, Relist>
where
    W::Object: Resource,
{
    // From a version that the API has not reached, as after a restore from a backup, a watch is silent until it has, and
    // what happens until then never comes.
    if again {
        match newest::<W>(api).await {
            Ok(newest) if is_below(&newest, version) => return Err(went_back(&newest, version)),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("the API's version is not known: {error}");
                return Ok(None);
            }
        }
    }
    match timeout(limits::API_CALL, api.watch(&how::<W>(), version)).await {
        Ok(Ok(changes)) => Ok(Some(changes.boxed())),
        Ok(Err(kube::Error::Api(status))) if status.code == StatusCode::GONE.as_u16() => {
            Err(Relist::Because(status.message.clone()))
        }
        Ok(Err(error)) => {
            tracing::debug!("a watch can't be opened: {error}");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

/// The version that the API has come to: one object, read from etcd's quorum.
async fn newest<W: Watched>(api: &Api<W::Object>) -> Result<String, String> {
    let one = ListParams { field_selector: W::fields(), ..ListParams::default() }.limit(1);
    let list = list_page(api, one).await.map_err(|error| error.to_string())?;
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
