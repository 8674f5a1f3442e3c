//! Two replicas on loopback, told apart by their addresses.

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use worker::pages::{self, Bounds};

use super::*;
use crate::asks::Ask;

/// A replica that hears so many workers, or says something else.
async fn replica(address: IpAddr, port: u16, says: &'static str) -> u16 {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/heard", get(async move || says));
    tokio::spawn(pages::serve(listener, router, Bounds::default()));
    port
}

fn own(heard: usize) -> Asks {
    let (asks, mut asked) = Asks::new();
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            if let Ask::Heard(answer) = ask {
                answer.send(heard).unwrap();
            }
        }
    });
    asks
}

#[tokio::test]
async fn only_who_hears_fewer_than_another_is_outheard() {
    let [other, wrong, away] = [2, 3, 4].map(|last| IpAddr::from([127, 0, 0, last]));
    let port = replica(other, 0, "3\n").await;
    replica(wrong, port, "all of them").await;
    let is_outheard = async |heard, peers: &[IpAddr]| {
        let (_, peers) = watch::channel(peers.iter().copied().collect());
        Hearing { asks: own(heard), peers, port }.is_outheard().await
    };
    assert!(is_outheard(2, &[other, wrong, away]).await);
    assert!(!is_outheard(3, &[other, wrong, away]).await, "as many are no more");
    assert!(!is_outheard(0, &[wrong, away]).await, "nobody is known to hear more");
    assert!(!is_outheard(0, &[]).await);
}
