//! Pages of the worker's own admin port, fetched for whoever asks the parent's.

use std::{net::SocketAddr, time::Duration};

use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::{sync::watch, time::timeout};

use crate::{limits, page};

/// Where the worker's pages are at the moment.
#[derive(Clone)]
pub(crate) struct WorkerPages(watch::Receiver<Option<SocketAddr>>);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPage {
    #[error("the worker is not running; it is being started again")]
    NotRunning,
    #[error("the worker did not answer within {0:?}")]
    Late(Duration),
    #[error("asking the worker: {0}")]
    Page(#[from] page::NoPage),
}

impl WorkerPages {
    pub(crate) fn new(address: watch::Receiver<Option<SocketAddr>>) -> Self {
        Self(address)
    }

    /// Asks the worker, within a deadline.
    pub(crate) async fn fetch(
        &self,
        method: Method,
        uri: &Uri,
        body: Bytes,
    ) -> Result<Response<Bytes>, NoPage> {
        let address = self.0.borrow().ok_or(NoPage::NotRunning)?;
        timeout(limits::WORKER_PAGE, ask(address, method, uri, body))
            .await
            .map_err(|_| NoPage::Late(limits::WORKER_PAGE))?
    }
}

async fn ask(address: SocketAddr, method: Method, uri: &Uri, body: Bytes) -> Result<Response<Bytes>, NoPage> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(method)
        .uri(path)
        // The worker takes no other body.
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .expect("method and path come from a parsed request");
    Ok(page::exchange(address, request, limits::WORKER_PAGE_BYTES).await?)
}

impl NoPage {
    /// What to answer instead.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotRunning | Self::Page(page::NoPage::Connect(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Page(page::NoPage::Http(_) | page::NoPage::Body(_)) => StatusCode::BAD_GATEWAY,
        }
    }
}
