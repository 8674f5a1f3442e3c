//! Real sessions over loopback: who is let in, what comes in, what ends a session.

use std::time::Duration;

use operator_core::ids::WorkerName;
use proto::control::v1::{Beat, Hello, OperatorMessage, WorkerMessage, control_client::ControlClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

struct World {
    sessions: Sessions,
    events: mpsc::Receiver<Event>,
    pages: watch::Receiver<Option<SocketAddr>>,
    url: String,
}

async fn world() -> World {
    let (sender, events) = mpsc::channel(limits::EVENTS);
    let (pages_at, pages) = watch::channel(None);
    let local = Admission::Local { token: sha256(b"secret"), own_ports: vec![9180], pages: pages_at };
    let sessions = Sessions::new(sender, local, limits::SESSIONS);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The server ends with the test's runtime.
    tokio::spawn(sessions.clone().serve(listener, None));
    World { sessions, events, pages, url }
}

impl World {
    /// Opens a session with these first messages; the sender keeps it open.
    async fn open(
        &self,
        token: &str,
        messages: Vec<Body>,
    ) -> Result<(mpsc::Sender<WorkerMessage>, Streaming<OperatorMessage>), Status> {
        let (sender, outgoing) = mpsc::channel(16);
        for body in messages {
            sender.send(WorkerMessage { body: Some(body) }).await.unwrap();
        }
        let channel =
            tonic::transport::Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        let mut client = ControlClient::new(channel);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Ok((sender, client.session(request).await?.into_inner()))
    }

    async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv()).await.expect("an event in time").expect("the server runs")
    }
}

fn hello() -> Body {
    Body::Hello(Hello {
        worker: "w".to_owned(),
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
        listener_ports: vec![1935],
        rtp_shared_port: 0,
        rtmp_port: 1935,
        http_port: 8080,
        admin_port: 4711,
        ..Hello::default()
    })
}

#[tokio::test]
async fn without_the_token_there_is_no_session() {
    let world = world().await;
    for token in ["", "Secret", "secret2"] {
        let refused = world.open(token, vec![hello()]).await.expect_err("no session");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{token}");
    }
    assert_eq!(world.sessions.count(), 0);
    assert!(!world.sessions.ever_greeted());
}

#[tokio::test]
async fn a_hello_reserves_our_own_ports_and_tells_the_admin_page() {
    let mut world = world().await;
    let (_open, _commands) = world.open("secret", vec![hello()]).await.unwrap();
    let Event::Hello { hello, .. } = world.event().await else { panic!("hello comes first") };
    assert_eq!((hello.worker, hello.listener_ports), (WorkerName::from("w"), vec![1935, 9180]));
    assert_eq!(*world.pages.borrow_and_update(), Some((Ipv4Addr::LOCALHOST, 4711).into()));
    assert!(world.sessions.ever_greeted());
}

#[tokio::test]
async fn what_does_not_begin_with_hello_is_no_session() {
    for first in [vec![Body::Beat(Beat::default())], vec![hello(), hello()]] {
        let greeted = first.len() == 2;
        let mut world = world().await;
        let (_open, mut commands) = world.open("secret", first).await.unwrap();
        if greeted {
            assert!(matches!(world.event().await, Event::Hello { .. }));
        }
        assert!(matches!(world.event().await, Event::SessionClosed { .. }));
        let end = timeout(LIMIT, commands.message()).await.expect("an end in time");
        assert!(matches!(end, Ok(None)), "{end:?}");
    }
}

#[tokio::test]
async fn a_worker_that_takes_no_commands_loses_its_session() {
    let mut world = world().await;
    let (_open, _commands) = world.open("secret", vec![hello()]).await.unwrap();
    let Event::Hello { session, .. } = world.event().await else { panic!("hello comes first") };
    // One message more than the queue and the windows of the connection hold, without giving the connection a turn.
    let message = OperatorMessage { term: 1, sequence: 1, body: None };
    for _ in 0..=limits::COMMANDS_A_SESSION {
        world.sessions.send(session, message.clone());
    }
    assert!(matches!(world.event().await, Event::SessionClosed { session: closed } if closed == session));
    assert_eq!(world.sessions.count(), 0);
}

#[tokio::test]
async fn a_session_that_is_closed_ends_on_both_sides() {
    let mut world = world().await;
    let (_open, mut commands) = world.open("secret", vec![hello()]).await.unwrap();
    let Event::Hello { session, .. } = world.event().await else { panic!("hello comes first") };
    world.sessions.send(session, OperatorMessage { term: 7, sequence: 1, body: None });
    let first = timeout(LIMIT, commands.message()).await.expect("a command in time").unwrap();
    assert_eq!(first.map(|message| message.term), Some(7));
    world.sessions.close(session, "a test");
    assert!(matches!(world.event().await, Event::SessionClosed { .. }));
    assert!(matches!(timeout(LIMIT, commands.message()).await.expect("an end in time"), Ok(None)));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_any_more_ends_its_session() {
    let end = CancellationToken::new();
    drop(Outgoing::new(Queue::default(), end.clone()));
    assert!(end.is_cancelled());
}
