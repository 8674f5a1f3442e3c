//! The health port on loopback, beside peers that say nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn ask(address: SocketAddr, request: &str) -> String {
    let mut peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    answer
}

/// Serves while `ask` runs.
fn served<T>(page: Answers, ask: impl FnOnce(SocketAddr) -> T) -> T {
    let mut port = HealthPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.address().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                port.serve(Instant::now() + Duration::from_millis(10), || page.clone());
                assert!(port.peers.len() <= CONNECTIONS_MAX);
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(address)));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn ready_and_not_ready_differ_by_status_and_both_are_told() {
    let page = |ready| Answers { ready, alive: true, body: String::from("{\"a\":1}") };
    served(page(true), |address| {
        let answer = ask(address, "GET /healthz HTTP/1.1\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n{\"a\":1}"),
            "{answer}"
        );
        assert!(ask(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    });
    served(page(false), |address| {
        let answer = ask(address, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("{\"a\":1}"), "{answer}");
        assert!(ask(address, "GET /livez HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "), "it lives");
    });
    served(Answers { alive: false, ..page(false) }, |address| {
        assert!(ask(address, "GET /livez HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
    });
}

#[test]
fn silent_peers_keep_nobody_out() {
    served(Answers { ready: true, alive: true, body: String::new() }, |address| {
        let silent: Vec<_> = (0..3 * CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        drop(silent);
    });
}

#[test]
fn an_endless_request_is_cut_off() {
    served(Answers { ready: true, alive: true, body: String::new() }, |address| {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        drop(peer.write_all(&[b'a'; 4 * media::http::HEALTH_BYTES_MAX]));
        let mut answer = Vec::new();
        // Closed with bytes unread, the peer sees a reset or an end; nothing was answered in either case.
        drop(peer.read_to_end(&mut answer));
        assert_eq!(answer, b"");
    });
}
