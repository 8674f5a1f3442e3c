//! An installation is well when each replica is ready and hears its workers.

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use worker::pages::{self, Bounds};

use super::*;

async fn replica(ready: StatusCode, heard: &'static str) -> Check {
    let router = Router::new()
        .route("/readyz", get(async move || (ready, "2 of 4 kinds of objects have been listed\n")))
        .route("/heard", get(async move || heard));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let operator = listener.local_addr().unwrap().to_string();
    tokio::spawn(pages::serve(listener, router, Bounds::default()));
    Check { operator, workers: 2 }
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let told = check(&replica(StatusCode::OK, "2").await).await.unwrap();
    assert!(told.contains("ready, hears 2 workers"), "{told}");
    let told = check(&replica(StatusCode::OK, "1").await).await.unwrap_err();
    assert!(told.contains("hears 1 workers") && told.contains("at least 2"), "{told}");
    let told = check(&replica(StatusCode::SERVICE_UNAVAILABLE, "2").await).await.unwrap_err();
    assert!(told.contains("not ready: 2 of 4 kinds"), "{told}");
    let told = check(&Check { operator: "127.0.0.1:1".to_owned(), workers: 1 }).await.unwrap_err();
    assert!(told.contains("can't connect"), "{told}");
}
