//! The admin port: what there is and how it goes, as JSON that kubectl's tools can read.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::net::TcpListener;
use worker::pages::{self, Bounds};

use crate::{
    asks::Asks, event_log::EventLog, limits, metrics::Metrics, sessions::Sessions, store::Shared,
    worker_pages::WorkerPages,
};

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) store: Shared,
    pub(crate) log: EventLog,
    pub(crate) metrics: Metrics,
    pub(crate) sessions: Sessions,
    pub(crate) worker: WorkerPages,
    pub(crate) asks: Asks,
    pub(crate) test_hooks: bool,
}

/// Serves the pages. Ends with the process.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    pages::serve(listener, router(pages), Bounds::default()).await;
}

fn router(pages: Pages) -> Router {
    let router = Router::new()
        .route("/", get(index))
        .route(
            "/streams",
            get(|State(pages): State<Pages>| async move { json(&pages.store.lock().stream_list()) }),
        )
        .route(
            "/pools",
            get(|State(pages): State<Pages>| async move { json(&pages.store.lock().pool_list()) }),
        )
        .route("/events", get(|State(pages): State<Pages>| async move { json(&pages.log.list()) }))
        .route("/sessions", get(from_worker))
        .route("/ports", get(from_worker))
        .route("/budget", get(from_worker))
        .route("/healthz", get(from_worker))
        .route("/metrics", get(metrics))
        .route("/kick", post(kick));
    let router = if pages.test_hooks { router.route("/debug/fault", post(from_worker)) } else { router };
    router.layer(DefaultBodyLimit::max(limits::REQUEST_BYTES)).with_state(pages)
}

async fn index() -> &'static str {
    "penstock standalone\n\n\
     /streams   MediaStreams with their status, a Kubernetes List\n\
     /pools     PortPools with their status, a Kubernetes List\n\
     /events    what happened, a Kubernetes List\n\
     /sessions  who publishes and plays\n\
     /ports     which ports are open for which stream\n\
     /budget    which streams have how much media in memory\n\
     /metrics   for Prometheus\n\
     /kick      POST {\"namespace\", \"name\", \"whom\": \"publisher\" or \"viewers\"} ends them: penstock kick\n\
     /healthz   200 while the worker moves media\n"
}

fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Passes a request on to the worker's admin port.
async fn from_worker(State(pages): State<Pages>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, limits::REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return (StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")).into_response(),
    };
    match pages.worker.fetch(head.method, &head.uri, body).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            let kind = head.headers.get(header::CONTENT_TYPE).cloned();
            let mut response = (head.status, Body::from(body)).into_response();
            if let Some(kind) = kind {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        Err(error) => (error.status(), format!("{error}\n")).into_response(),
    }
}

/// Ends sessions on the worker, for those who are on this machine.
async fn kick(pages: State<Pages>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    match pages::command(peer, request.headers()) {
        Ok(()) => from_worker(pages, request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Our own metrics, then the worker's. Without a worker our own are still worth having.
async fn metrics(State(pages): State<Pages>) -> Response {
    let worker = pages.worker.fetch(Method::GET, &Uri::from_static("/metrics"), Bytes::new()).await;
    pages.metrics.sessions(pages.sessions.count());
    let ledger = pages.asks.ledger().await;
    let mut text = pages.metrics.text(ledger.as_ref());
    match worker {
        Ok(answer) if answer.status() == StatusCode::OK => {
            text.push_str(&String::from_utf8_lossy(answer.body()))
        }
        Ok(answer) => tracing::debug!("the worker's metrics: {}", answer.status()),
        Err(error) => tracing::debug!("the worker's metrics: {error}"),
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
