//! The other replicas: where they are, and what they see of a worker that we don't hear.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::http::StatusCode;
use futures_util::future::join_all;
use hyper::body::Bytes;
use operator_core::{ids::WorkerName, panel::Sight};
use serde::{Deserialize, Serialize};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{asks::Asks, limits, page};

/// A question with its answer: a look of 300 ms, and the way there and back.
const ASK: Duration = Duration::from_millis(400);

/// What a replica answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "sight")]
pub(crate) enum Look {
    Answered { boot: String },
    Refused,
    Silent,
}

/// Keeps the list of the others, by the name that leads to all replicas. `own` is left out. Ends with the process.
pub(super) async fn follow(host: String, port: u16, own: IpAddr, peers: watch::Sender<BTreeSet<IpAddr>>) {
    loop {
        // A name that leads nowhere for a while takes nobody off the list: fewer witnesses make rasher verdicts.
        if let Ok(Ok(found)) = timeout(limits::PEERS_LOOK, lookup_host((host.as_str(), port))).await {
            let found: BTreeSet<IpAddr> = found.map(|it| it.ip()).filter(|it| *it != own).collect();
            peers.send_if_modified(|known| {
                let news = *known != found;
                *known = found;
                news
            });
        }
        sleep(limits::PEERS_EVERY).await;
    }
}

/// Has another replica look at a worker. Nothing: it does not answer, or does not know the worker.
pub(crate) async fn ask(replica: SocketAddr, worker: &WorkerName) -> Option<Sight> {
    let look = serde_json::from_slice(&get(replica, &format!("/look/{worker}")).await?).ok()?;
    Some(match look {
        Look::Answered { boot } => Sight::Answered { boot: boot.into() },
        Look::Refused => Sight::Refused,
        Look::Silent => Sight::Silent,
    })
}

/// The other replicas, and what this one hears itself.
pub(super) struct Hearing {
    pub(super) asks: Asks,
    pub(super) peers: watch::Receiver<BTreeSet<IpAddr>>,
    pub(super) port: u16,
}

impl Hearing {
    /// Returns when another replica has heard more workers than this one for a while.
    pub(super) async fn outheard(&self) {
        let mut since = None;
        loop {
            let began = Instant::now();
            since = if self.is_outheard().await { since.or(Some(began)) } else { None };
            if since.is_some_and(|since| began.duration_since(since) >= limits::OUTHEARD) {
                return;
            }
            sleep_until(began + limits::HEARING_EVERY).await;
        }
    }

    async fn is_outheard(&self) -> bool {
        let Some(own) = self.asks.heard().await else { return false };
        let peers = self.peers.borrow().clone();
        let others = peers.into_iter().map(|peer| self.heard_by(SocketAddr::new(peer, self.port)));
        join_all(others).await.into_iter().flatten().any(|other| other > own)
    }

    async fn heard_by(&self, replica: SocketAddr) -> Option<usize> {
        std::str::from_utf8(&get(replica, "/heard").await?).ok()?.trim().parse().ok()
    }
}

/// A page of another replica's, if it is there in time.
async fn get(replica: SocketAddr, path: &str) -> Option<Bytes> {
    let (status, body) = timeout(ASK, page::get(replica, path)).await.ok()?.ok()?;
    (status == StatusCode::OK).then_some(body)
}

#[cfg(test)]
mod tests;
