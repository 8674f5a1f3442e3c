//! A page of another process, asked for by HTTP.

use std::{net::SocketAddr, pin::pin};

use axum::http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::limits;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPage {
    #[error("can't connect: {0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Asks for a small page at `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), NoPage> {
    let request = Request::get(path).body(Full::default()).expect("paths are our own");
    let (head, body) = exchange(address, request, limits::REQUEST_BYTES).await?.into_parts();
    Ok((head.status, body))
}

/// Sends a request on a connection of its own, and reads the answer, of so many bytes at most. Whoever asks sets the deadline.
pub(crate) async fn exchange(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, NoPage> {
    let host = HeaderValue::try_from(address.to_string()).expect("an address is ASCII");
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let socket = TcpStream::connect(address).await.map_err(NoPage::Connect)?;
    let (mut client, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let answer = async {
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await.map_err(NoPage::Body)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // The connection is driven here, by whoever waits for the answer: there is no task to own.
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // All is read; what is left is to put it together.
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}
