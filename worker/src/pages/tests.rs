//! Peers that say nothing, that read nothing and that say too much, before one who asks as he should.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Bounds, NotFromHere, command, serve};

/// More than the buffers of both sockets take.
const LARGE: usize = 32 << 20;

async fn port(bounds: Bounds) -> SocketAddr {
    let router =
        Router::new().route("/", get(async || "here\n")).route("/large", get(async || "x".repeat(LARGE)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, bounds));
    address
}

async fn send(to: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

async fn rest(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

fn short() -> Bounds {
    Bounds { connections: 1, head: Duration::from_millis(50), answer: Duration::from_millis(100) }
}

fn patient() -> Bounds {
    Bounds { head: Duration::from_secs(60), answer: Duration::from_secs(60), ..Bounds::default() }
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let to = port(patient()).await;
    let text =
        rest(send(to, "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert_eq!(text.matches("200 OK").count(), 1, "{text}");
    assert!(text.ends_with("here\n"), "{text}");
}

#[tokio::test]
async fn who_says_nothing_and_who_reads_nothing_keep_nobody_out() {
    let to = port(short()).await;
    let silent = TcpStream::connect(to).await.unwrap();
    let deaf = send(to, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = rest(send(to, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert!(text.ends_with("here\n"), "{text}");
    assert_eq!(rest(silent).await, "");
    assert!(rest(deaf).await.len() < LARGE, "it was cut off");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let to = port(patient()).await;
    let mut socket = TcpStream::connect(to).await.unwrap();
    let line = format!("x-more: {}\r\n", "y".repeat(1000));
    let (mut read, mut write) = socket.split();
    let talk = async {
        write.write_all(b"GET / HTTP/1.1\r\n").await?;
        loop {
            write.write_all(line.as_bytes()).await?;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        ended = talk => { let ended: std::io::Result<()> = ended; assert!(ended.is_err()) }
        read = read.read_exact(&mut answer) => { read.unwrap(); assert_eq!(&answer, b"HTTP/1.1 431") }
    }
}

#[test]
fn a_change_is_asked_for_from_this_machine_by_no_page_of_a_browser() {
    let json = "application/json";
    for (peer, host, kind, wanted) in [
        ("127.0.0.1:9", Some("127.0.0.1:9180"), json, Ok(())),
        ("[::1]:9", Some("[::1]:9180"), json, Ok(())),
        ("[::ffff:127.0.0.1]:9", Some("LocalHost"), json, Ok(())),
        ("127.0.0.1:9", None, json, Ok(())),
        ("127.0.0.1:9", Some("127.0.0.1:9180"), "text/plain", Err(NotFromHere::ContentType)),
        ("127.0.0.1:9", Some("rebound.example:9180"), json, Err(NotFromHere::Host)),
        ("127.0.0.1:9", Some("127.0.0.1.example"), json, Err(NotFromHere::Host)),
        ("127.0.0.1:9", Some(""), json, Err(NotFromHere::Host)),
        ("192.0.2.1:9", Some("127.0.0.1"), json, Err(NotFromHere::Peer("192.0.2.1:9".parse().unwrap()))),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
        assert_eq!(command(peer.parse().unwrap(), &headers), wanted, "{host:?} from {peer}");
    }
}
