//! A port of pages, for people, probes and Prometheus: one request a connection, and a bound for all that may wait.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits;

/// What peers may take. `Bounds::default()` is for all but tests.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at one time; others wait in the kernel.
    pub connections: usize,
    /// From a connection's first moment to the end of its request's head.
    pub head: Duration,
    /// From there to the last byte of the answer.
    pub answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::ADMIN_CONNECTIONS_MAX,
            head: limits::PAGE_HEAD,
            answer: limits::PAGE_ANSWER,
        }
    }
}

/// Serves the pages for ever. Dropped, it ends all connections.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= bounds.connections {
            connections.join_next().await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(answer(socket, router.clone(), bounds));
                }
                Err(error) => {
                    // Out of descriptors, or the peer went: the next may do better.
                    tracing::debug!(%error, "a connection for a page can't be accepted");
                    sleep(limits::ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(socket: TcpStream, router: Router, bounds: Bounds) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(limits::PAGE_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    match timeout(bounds.head + bounds.answer, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a page could not be served"),
        Err(_) => tracing::debug!("a page was not read in time"),
    }
}

#[cfg(test)]
mod tests;
