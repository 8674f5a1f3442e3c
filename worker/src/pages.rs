//! A port of pages, for people, probes and Prometheus: one request a connection, and a bound for all that may wait.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
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
                Ok((socket, peer)) => {
                    // Handlers see the peer as `ConnectInfo`, as with axum's own server.
                    let router = router.clone().layer(Extension(ConnectInfo(peer)));
                    connections.spawn(answer(socket, router, bounds));
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

/// Whether a request may make a change, rather than look. Who may open a socket on this machine may; a page in its user's browser
/// may not: it is not let send JSON elsewhere, and a name of its own that it has lead here (DNS rebinding) is no name of this machine.
pub fn command(peer: SocketAddr, headers: &HeaderMap) -> Result<(), NotFromHere> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(NotFromHere::Peer(peer));
    }
    if !names_this_machine(headers) {
        return Err(NotFromHere::Host);
    }
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if kind == "application/json" => Ok(()),
        Some(_) | None => Err(NotFromHere::ContentType),
    }
}

/// Whether it was asked for by address, or as localhost. No browser leaves Host out.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// Why a request may make no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFromHere {
    /// It comes from another machine.
    #[error("{0} may look and change nothing: ask from the machine itself, at 127.0.0.1")]
    Peer(SocketAddr),
    /// It was sent to a name that is not this machine's.
    #[error("ask by address, such as 127.0.0.1, or as localhost: the header Host names something else")]
    Host,
    /// It may come from a page in a browser.
    #[error("send it with Content-Type: application/json")]
    ContentType,
}

impl IntoResponse for NotFromHere {
    fn into_response(self) -> Response {
        let status = match self {
            NotFromHere::Peer(_) | NotFromHere::Host => StatusCode::FORBIDDEN,
            NotFromHere::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        (status, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests;
