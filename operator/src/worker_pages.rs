//! Pages of the worker's own admin port, fetched for whoever asks the parent's.

use std::{net::SocketAddr, time::Duration};

use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::limits;

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
    #[error("can't connect to the worker's admin port: {0}")]
    Connect(std::io::Error),
    #[error("asking the worker: {0}")]
    Http(#[from] hyper::Error),
    #[error("the worker's answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
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
    let socket = TcpStream::connect(address).await.map_err(NoPage::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        // The worker takes no other body.
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .expect("method, path and host come from a parsed request");
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body =
            Limited::new(body, limits::WORKER_PAGE_BYTES).collect().await.map_err(NoPage::Body)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The connection is driven here, by whoever waits for the answer: there is no task to own.
    let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // All is read; what is left is to put it together.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

impl NoPage {
    /// What to answer instead.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotRunning | Self::Connect(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Http(_) | Self::Body(_) => StatusCode::BAD_GATEWAY,
        }
    }
}
