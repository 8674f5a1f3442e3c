//! The pools that count on this host, from whoever knows them.

use std::{collections::BTreeSet, ops::RangeInclusive, path::Path, time::Instant};

use operator_core::{
    api::{API_VERSION, PortPool, convert},
    port_set::PortSet,
    spec::PortRange,
};
use serde::Deserialize;
use serde_json::Value;
use worker::scan::Protocol;

use super::super::source::{Admin, NoAnswer, Source};
use crate::{args::Doctor, event_log::EventLog, folder::Folder, store};

/// What is known of pools before the host is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) pools: Vec<Pool>,
    /// What keeps a pool, or a file of the folder, from being taken.
    pub(super) mistakes: Vec<String>,
    /// Sockets that a worker has open for streams, where it was asked.
    pub(super) bound: BTreeSet<(u16, Protocol)>,
    pub(super) is_cluster: bool,
    /// Why nothing is known.
    pub(super) unknown: Option<String>,
}

/// A pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) numbers: PortSet,
}

impl Known {
    /// Pools as a Kubernetes List has them.
    fn of_list(list: &Value) -> Self {
        Self::of(list["items"].as_array().map(Vec::as_slice).unwrap_or_default())
    }

    /// Pools as they come.
    pub(super) fn of(items: &[Value]) -> Self {
        let mut known = Self::default();
        for item in items {
            let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match PortPool::deserialize(item).map(|pool| convert::pool_object(&pool).spec) {
                Ok(Ok(spec)) => known.pools.push(Pool { name, numbers: spec.numbers.clone() }),
                Ok(Err(refusal)) => known.mistakes.push(format!("PortPool {name}: {}", refusal.message)),
                Err(error) => known.mistakes.push(format!("PortPool {name}: {error}")),
            }
        }
        known
    }

    /// All numbers of all pools.
    pub(super) fn numbers(&self) -> PortSet {
        let ranges = self.pools.iter().flat_map(|pool| pool.numbers.ranges());
        PortSet::from_ranges(ranges)
    }

    /// The same as ranges, for the scan of the host.
    pub(super) fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        self.numbers().ranges().into_iter().map(|range| range.start..=range.end).collect()
    }
}

/// Asks for them.
pub(super) async fn known(args: &Doctor) -> Result<Known, NoAnswer> {
    if let Some(dir) = &args.dir {
        return Ok(in_folder(dir));
    }
    let source = match Source::find(&args.whom, "/ports").await {
        Ok(source) => source,
        // The host can be looked at without.
        Err(NoAnswer::Nobody(why)) if args.whom.admin.is_none() && !args.whom.cluster => {
            return Ok(Known { unknown: Some(why), ..Known::default() });
        }
        Err(error) => return Err(error),
    };
    match source {
        Source::Admin(admin) => of_admin(admin).await,
        Source::Cluster(cluster) => {
            let list = cluster.get(&format!("/apis/{API_VERSION}/portpools")).await?.unwrap_or_default();
            Ok(Known { is_cluster: true, ..Known::of_list(&list) })
        }
    }
}

/// As standalone reads it.
fn in_folder(dir: &Path) -> Known {
    let (store, log) = (store::Shared::default(), EventLog::default());
    Folder::new(dir.to_owned(), store.clone(), log.clone()).scan(Instant::now());
    let list = store.lock().pool_list();
    let mut known = Known::of_list(&list);
    let files = log.list();
    for event in files["items"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (file, message) = (text(&event["involvedObject"]["name"]), text(&event["message"]));
        known.mistakes.push(format!("{file}: {message}"));
    }
    if !dir.is_dir() {
        known.mistakes.push(format!("{}: no folder is there", dir.display()));
    }
    known
}

async fn of_admin(admin: Admin) -> Result<Known, NoAnswer> {
    // A worker that is being started again is no reason not to look.
    let ports = admin.get("/ports").await.unwrap_or_default();
    let mut known = match admin.get("/pools").await {
        Ok(list) => Known::of_list(&list),
        // A worker knows the numbers that it is to watch, and not whose they are.
        Err(NoAnswer::Status { .. }) => {
            let ranges = ports["watched"].as_array().into_iter().flatten().filter_map(range);
            let numbers = PortSet::from_ranges(ranges);
            let pool = Pool { name: "(this node's pools)".to_owned(), numbers };
            Known { pools: vec![pool], is_cluster: true, ..Known::default() }
        }
        Err(error) => return Err(error),
    };
    known.bound = ports["bound"].as_array().into_iter().flatten().filter_map(bound).collect();
    Ok(known)
}

fn range(value: &Value) -> Option<PortRange> {
    Some(PortRange { start: port(&value["start"])?, end: port(&value["end"])? })
}

fn bound(value: &Value) -> Option<(u16, Protocol)> {
    let protocol = if value["protocol"] == "TCP" { Protocol::Tcp } else { Protocol::Udp };
    Some((port(&value["port"])?, protocol))
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}
