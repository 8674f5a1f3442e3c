//! Sessions with workers: who may open one, what comes in as events, what goes out from a bounded queue.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use operator_core::{Event, ids::SessionId};
use proto::control::v1::{
    OperatorMessage, WorkerMessage,
    control_server::{Control, ControlServer},
    worker_message::Body,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};

use crate::{convert, limits, yaml::sha256};

#[cfg(test)]
mod tests;

/// All open sessions.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Inner>);

struct Inner {
    events: mpsc::Sender<Event>,
    /// Ports of this process, which no stream may lease.
    own_ports: Vec<u16>,
    open: Mutex<BTreeMap<SessionId, Open>>,
    next: AtomicU64,
    /// Where the newest worker's admin pages are.
    pages: watch::Sender<Option<SocketAddr>>,
    greeted: AtomicBool,
    /// Turns true with the first inventory of a worker.
    reported: watch::Sender<bool>,
}

struct Open {
    queue: mpsc::Sender<OperatorMessage>,
    end: CancellationToken,
}

impl Sessions {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        own_ports: Vec<u16>,
        pages: watch::Sender<Option<SocketAddr>>,
    ) -> Self {
        let (next, greeted) = (AtomicU64::new(1), AtomicBool::new(false));
        let reported = watch::Sender::new(false);
        Self(Arc::new(Inner { events, own_ports, open: Mutex::default(), next, pages, greeted, reported }))
    }

    /// Serves sessions on the listener to whoever has the token. Ends with the process.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        token: String,
    ) -> Result<(), tonic::transport::Error> {
        let control = ControlServer::new(self).max_decoding_message_size(limits::MESSAGE_BYTES);
        let expected = sha256(format!("Bearer {token}").as_bytes());
        let guard = move |request: Request<()>| authorized(request, &expected);
        tonic::transport::Server::builder()
            .add_service(InterceptedService::new(control, guard))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
    }

    /// Queues a message for a worker. A session that takes none until its queue is full is closed.
    pub(crate) fn send(&self, session: SessionId, message: OperatorMessage) {
        let open = self.open();
        let Some(to) = open.get(&session) else { return };
        if to.queue.try_send(message).is_err() {
            to.end.cancel();
            tracing::warn!(%session, "session closed: its worker takes no commands, {} wait", limits::COMMANDS_A_SESSION);
        }
    }

    /// Ends a session.
    pub(crate) fn close(&self, session: SessionId, why: &str) {
        if let Some(open) = self.open().get(&session) {
            tracing::info!(%session, "session closed: {why}");
            open.end.cancel();
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open().len()
    }

    /// Waits for the first inventory of a worker, with which streams can be given to it.
    pub(crate) async fn first_inventory(&self) {
        // The sender is in `self`, so the wait does not end without it.
        let _ = self.0.reported.subscribe().wait_for(|reported| *reported).await;
    }

    /// Whether any worker has ever said hello.
    pub(crate) fn ever_greeted(&self) -> bool {
        self.0.greeted.load(Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SessionId, Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what a worker says until one of the two ends it.
    async fn receive(
        self,
        session: SessionId,
        mut messages: Streaming<WorkerMessage>,
        end: CancellationToken,
    ) {
        let why = tokio::select! {
            () = end.cancelled() => None,
            why = self.pass_on(session, &mut messages) => Some(why),
        };
        end.cancel();
        self.open().remove(&session);
        if let Some(why) = why {
            tracing::info!(%session, "session ended: {why}");
        }
        // Nobody takes events when the process ends.
        let _ = self.0.events.send(Event::SessionClosed { session }).await;
    }

    async fn pass_on(&self, session: SessionId, messages: &mut Streaming<WorkerMessage>) -> String {
        let mut greeted = false;
        loop {
            let message = match timeout(limits::SESSION_SILENCE, messages.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return "the worker closed it".to_owned(),
                Ok(Err(status)) => return status.message().to_owned(),
                Err(_) => return format!("no word for {:?}", limits::SESSION_SILENCE),
            };
            let Some(body) = message.body else {
                // A kind of message that a newer worker knows.
                continue;
            };
            if matches!(body, Body::Hello(_)) == greeted {
                return "Hello must be the first message, and only that".to_owned();
            }
            let admin = convert::admin_port(&body);
            let mut event = match convert::event(session, body) {
                Ok(event) => event,
                Err(error) => return error.to_string(),
            };
            if let Event::Hello { hello, .. } = &mut event {
                greeted = true;
                self.0.greeted.store(true, Ordering::Relaxed);
                // Workers of standalone run on this machine.
                self.0.pages.send_replace(admin.map(|port| (Ipv4Addr::LOCALHOST, port).into()));
                hello.listener_ports.extend(&self.0.own_ports);
                tracing::info!(%session, worker = %hello.worker, boot = %hello.boot, "worker is here");
            }
            let inventory = matches!(event, Event::Inventory { .. });
            if self.0.events.send(event).await.is_err() {
                return "the operator ends".to_owned();
            }
            if inventory {
                self.0.reported.send_replace(true);
            }
        }
    }
}

fn authorized(request: Request<()>, expected: &[u8; 32]) -> Result<Request<()>, Status> {
    let given = request.metadata().get("authorization").map_or(&b""[..], |value| value.as_bytes());
    // Digests are compared, so that time tells nothing of the token.
    match aws_lc_rs::constant_time::verify_slices_are_equal(&sha256(given), expected) {
        Ok(()) => Ok(request),
        Err(_) => Err(Status::unauthenticated("the session's token is missing or wrong")),
    }
}

#[tonic::async_trait]
impl Control for Sessions {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let (queue, messages) = mpsc::channel(limits::COMMANDS_A_SESSION);
        let end = CancellationToken::new();
        let session = SessionId(self.0.next.fetch_add(1, Ordering::Relaxed));
        {
            let mut open = self.open();
            if open.len() >= limits::SESSIONS {
                return Err(Status::resource_exhausted("too many sessions"));
            }
            open.insert(session, Open { queue, end: end.clone() });
        }
        // Ends with the session: `receive` waits for nothing but the worker, `end` and a deadline.
        tokio::spawn(self.clone().receive(session, request.into_inner(), end.clone()));
        Ok(Response::new(Outgoing { messages, end: Box::pin(end.cancelled_owned()) }))
    }
}

/// The queue of a session, on its way out.
pub(crate) struct Outgoing {
    messages: mpsc::Receiver<OperatorMessage>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream for Outgoing {
    type Item = Result<OperatorMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end.as_mut().poll(cx).is_ready() {
            // What still waits is dropped: whoever closes a session wants it closed.
            return Poll::Ready(None);
        }
        self.messages.poll_recv(cx).map(|message| message.map(Ok))
    }
}
