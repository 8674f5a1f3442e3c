//! A certificate that is renewed while sessions are open.

use std::{fs, net::Ipv4Addr, path::Path};

use proto::control::v1::{Beat, Hello, WorkerMessage, control_client::ControlClient, worker_message::Body};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    transport::{Certificate as Authority, Channel, ClientTlsConfig, Endpoint},
};

use super::*;
use crate::{sessions::Admission, yaml::sha256};

const NAME: &str = "penstock-operator.test.svc";
const LIMIT: Duration = Duration::from_secs(20);

/// A new key and a certificate that is its own authority, written where the operator reads them.
fn renew(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.pem()
}

async fn dial(port: u16, authority: &str) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Authority::from_pem(authority)).domain_name(NAME);
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?.tls_config(tls)?.connect().await
}

fn message(body: Body) -> WorkerMessage {
    WorkerMessage { body: Some(body) }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_dials_and_ends_no_session() {
    let folder = std::env::temp_dir().join(format!("penstock-certificate-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let certificate = Certificate { chain, key, look: Duration::from_millis(10) };
    let first = renew(&folder);

    let (sender, mut events) = mpsc::channel(64);
    let (pages, _) = watch::channel(None);
    let local = Admission::Local { token: sha256(b"secret"), own_ports: Vec::new(), pages };
    let sessions = Sessions::new(sender, local, limits::SESSIONS);
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let pem = certificate.read().unwrap();
    // The server ends with the test's runtime.
    tokio::spawn(serve(sessions, listener, certificate, pem));

    let mut client = ControlClient::new(dial(port, &first).await.unwrap());
    let (to_operator, messages) = mpsc::channel(16);
    let hello = Hello {
        worker: "w".into(),
        node: "n".into(),
        boot_id: "b".into(),
        rtmp_port: 1935,
        http_port: 8080,
        ..Hello::default()
    };
    to_operator.send(message(Body::Hello(hello))).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    let _session = client.session(request).await.unwrap();
    timeout(LIMIT, events.recv()).await.unwrap().unwrap();

    let second = renew(&folder);
    let renewed = async {
        while dial(port, &second).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, renewed).await.expect("new dials are shown the new certificate");
    assert!(dial(port, &first).await.is_err(), "the old one is shown no more");
    to_operator.send(message(Body::Beat(Beat::default()))).await.unwrap();
    let event = timeout(LIMIT, events.recv()).await.unwrap().unwrap();
    assert!(matches!(event, operator_core::Event::Beat { .. }), "the session goes on: {event:?}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_not_there_or_no_certificate_is_refused_by_its_flag() {
    let folder = std::env::temp_dir().join(format!("penstock-no-certificate-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let certificate = Certificate { chain, key, look: Duration::from_millis(10) };
    let missing = certificate.read().err().unwrap().to_string();
    assert!(missing.starts_with("--tls-cert ") && missing.contains("tls.crt"), "{missing}");
    renew(&folder);
    fs::write(folder.join("tls.key"), "no key").unwrap();
    assert!(matches!(certificate.read(), Err(Unusable::Tls(_))));
    fs::remove_dir_all(&folder).unwrap();
}
