//! Whom a tool asks: an admin port on this machine, or the cluster's API server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{args::Whom, cluster, limits, page};

/// Where standalone's admin port is by default, and on a cluster each worker's.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Whom a tool asks.
pub(super) enum Source {
    /// `penstock standalone`, or a worker.
    Admin(Admin),
    /// A cluster.
    Cluster(Cluster),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("http://{address}{path}: {error}")]
    Page { address: SocketAddr, path: String, error: page::NoPage },
    #[error("http://{address}{path}: no answer in {:?}", limits::WORKER_PAGE)]
    Late { address: SocketAddr, path: String },
    #[error("http://{address}{path}: {status}: {text}")]
    Status { address: SocketAddr, path: String, status: StatusCode, text: String },
    #[error("{path}: this is no JSON: {error}")]
    Json { path: String, error: serde_json::Error },
    #[error("{path}: {words}")]
    Api { path: String, words: String },
    #[error(
        "nobody answers at {ADMIN}, and no cluster is known: {0}. Name an admin port with --admin HOST:PORT, or run it where \
         kubectl works"
    )]
    Nobody(String),
}

impl Source {
    /// Who is meant; without a word about it an admin port at its usual place that has this page, else the cluster.
    pub(super) async fn find(whom: &Whom, page: &str) -> Result<Self, NoAnswer> {
        match (whom.admin, whom.cluster) {
            (Some(address), _) => Ok(Self::Admin(Admin(address))),
            (None, true) => Cluster::find().await.map(Self::Cluster).map_err(NoAnswer::Nobody),
            (None, false) => match Admin(ADMIN).get(page).await {
                Ok(_) | Err(NoAnswer::Status { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => {
                    Ok(Self::Admin(Admin(ADMIN)))
                }
                Err(_) => Cluster::find().await.map(Self::Cluster).map_err(NoAnswer::Nobody),
            },
        }
    }
}

/// An admin port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin(pub(super) SocketAddr);

impl Admin {
    pub(super) async fn get(self, path: &str) -> Result<Value, NoAnswer> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(self, path: &str, body: &Value) -> Result<Value, NoAnswer> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    async fn ask(self, method: Method, path: &str, body: Bytes) -> Result<Value, NoAnswer> {
        let (address, path) = (self.0, path.to_owned());
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("paths are our own");
        match timeout(limits::WORKER_PAGE, page::exchange(address, request, limits::WORKER_PAGE_BYTES)).await
        {
            Err(_) => Err(NoAnswer::Late { address, path }),
            Ok(Err(error)) => Err(NoAnswer::Page { address, path, error }),
            Ok(Ok(answer)) if answer.status() != StatusCode::OK => {
                let text = String::from_utf8_lossy(answer.body()).trim().to_owned();
                Err(NoAnswer::Status { address, path, status: answer.status(), text })
            }
            Ok(Ok(answer)) => {
                serde_json::from_slice(answer.body()).map_err(|error| NoAnswer::Json { path, error })
            }
        }
    }
}

/// A cluster's API server. Both ways take the same paths.
pub(super) enum Cluster {
    /// From a pod, with its rights.
    Pod(kube::Client),
    /// As a person: contexts and logins are kubectl's business, and a reader of its files would be a tenth of the binary.
    Kubectl,
}

impl Cluster {
    async fn find() -> Result<Self, String> {
        match cluster::client::calls() {
            Ok(client) => Ok(Self::Pod(client)),
            Err(error) => {
                let mut kubectl = Command::new("kubectl");
                kubectl.args(["version", "--client"]).stdout(Stdio::null()).stderr(Stdio::null());
                match timeout(limits::LIST_CALL, kubectl.kill_on_drop(true).status()).await {
                    Ok(Ok(_)) => Ok(Self::Kubectl),
                    Ok(Err(kubectl)) => Err(format!("{error}, and kubectl: {kubectl}")),
                    Err(_) => Err(format!("{error}, and kubectl: no answer in {:?}", limits::LIST_CALL)),
                }
            }
        }
    }

    /// What is at `path`; absent where there is nothing.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, NoAnswer> {
        let api = |words: String| NoAnswer::Api { path: path.to_owned(), words };
        let asked = async {
            match self {
                Self::Pod(client) => ask_as_pod(client, path).await,
                Self::Kubectl => ask_kubectl(path).await,
            }
        };
        match timeout(limits::LIST_CALL, asked).await {
            Ok(answer) => answer.map_err(api),
            Err(_) => Err(api(format!("no answer in {:?}", limits::LIST_CALL))),
        }
    }
}

async fn ask_as_pod(client: &kube::Client, path: &str) -> Result<Option<Value>, String> {
    let request = http::Request::get(path).body(Vec::new()).expect("paths are our own");
    match client.request::<Value>(request).await {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask_kubectl(path: &str) -> Result<Option<Value>, String> {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["get", "--raw", path]).stdin(Stdio::null()).kill_on_drop(true);
    let answer = kubectl.output().await.map_err(|error| format!("kubectl: {error}"))?;
    let said = String::from_utf8_lossy(&answer.stderr);
    match answer.status.success() {
        true => serde_json::from_slice(&answer.stdout).map(Some).map_err(|error| error.to_string()),
        false if said.contains("(NotFound)") => Ok(None),
        false => Err(format!("kubectl: {}", said.trim())),
    }
}
