//! Looks at real sockets.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;

use super::*;
use crate::health::{Answers, HealthPort};

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// What is seen of a watchdog that answers so.
async fn seen(body: &'static str) -> Sight {
    let mut health = HealthPort::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = health.address().unwrap().port();
    // The thread ends by itself, long after the look.
    std::thread::spawn(move || {
        health.serve(Instant::now() + Duration::from_secs(2), || Answers {
            ready: false,
            alive: true,
            body: body.to_owned(),
        });
    });
    look("127.0.0.1", port).await
}

#[tokio::test]
async fn a_watchdog_answers_with_its_boot_id_ready_or_not() {
    let sight = seen(r#"{"ready":false,"bootId":"b00t","threads":[]}"#).await;
    assert_eq!(sight, Sight::Answered { boot_id: "b00t".to_owned() });
}

#[tokio::test]
async fn one_that_is_about_to_end_is_as_good_as_gone() {
    assert_eq!(seen(r#"{"ready":false,"ending":true,"bootId":"b00t","threads":[]}"#).await, Sight::Refused);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let port = port(&listener());
    assert_eq!(look("127.0.0.1", port).await, Sight::Refused);
}

#[tokio::test]
async fn a_stopped_process_accepts_and_says_nothing() {
    let listener = listener();
    assert_eq!(look("127.0.0.1", port(&listener)).await, Sight::Silent);
}

#[tokio::test]
async fn an_answer_that_is_no_workers_is_no_sign_of_one() {
    let listener = listener();
    let port = port(&listener);
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.read(&mut [0; 512]).unwrap();
        peer.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
    });
    assert_eq!(look("127.0.0.1", port).await, Sight::Silent);
}
