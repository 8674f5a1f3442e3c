//! The port of probes and metrics: whether this replica runs, whether it has seen what there is, and how it goes.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use operator_core::ids::WorkerName;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use worker::{
    look::{Sight, look},
    pages::{self, Bounds},
};

use super::{peers::Look, watch::KINDS};
use crate::{asks::Asks, metrics::Metrics, sessions::Sessions};

/// What the pages show.
#[derive(Clone)]
pub(super) struct Probes {
    pub(super) asks: Asks,
    pub(super) metrics: Metrics,
    pub(super) sessions: Sessions,
    /// How many kinds have been listed.
    pub(super) synced: watch::Receiver<usize>,
    /// Looks for other replicas under way.
    pub(super) looks: Arc<Semaphore>,
}

/// Serves the pages. Ends with the process.
pub(super) async fn serve(listener: TcpListener, probes: Probes) {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/look/{worker}", get(look_at))
        .route("/heard", get(heard))
        .with_state(probes);
    pages::serve(listener, router, Bounds::default()).await;
}

async fn live(State(probes): State<Probes>) -> Response {
    if probes.asks.alive().await {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the planner does not answer\n").into_response()
    }
}

async fn ready(State(probes): State<Probes>) -> Response {
    let listed = *probes.synced.borrow();
    if listed < KINDS {
        let text = format!("{listed} of {KINDS} kinds of objects have been listed\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    live(State(probes)).await
}

/// Looks at a worker for another replica: only at the health ports of workers that have a session here.
async fn look_at(State(probes): State<Probes>, Path(worker): Path<String>) -> Response {
    let Ok(_turn) = probes.looks.try_acquire() else {
        return (StatusCode::TOO_MANY_REQUESTS, "too many looks at once\n").into_response();
    };
    let known = probes.asks.health_port(WorkerName::from(worker)).await;
    let Some((address, port)) = known else {
        return (StatusCode::NOT_FOUND, "no such worker is known here\n").into_response();
    };
    let look = match look(&address, port).await {
        Sight::Answered { boot_id } => Look::Answered { boot: boot_id },
        Sight::Refused => Look::Refused,
        Sight::Silent => Look::Silent,
    };
    axum::Json(look).into_response()
}

/// How many workers this replica hears: a leader that hears fewer steps aside.
async fn heard(State(probes): State<Probes>) -> Response {
    match probes.asks.heard().await {
        Some(count) => count.to_string().into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the planner does not answer\n").into_response(),
    }
}

async fn metrics(State(probes): State<Probes>) -> Response {
    probes.metrics.sessions(probes.sessions.count());
    let ledger = probes.asks.ledger().await;
    let text = probes.metrics.text(ledger.as_ref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
