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

use operator_core::{Event, event::Hello, ids::SessionId, panel::Witness};
use proto::control::v1::worker_message::Body;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{
    Status,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig},
};

use crate::{cluster::Reviewer, convert, limits, witnesses::Seen, yaml::sha256};

mod queue;
mod service;
#[cfg(test)]
mod tests;

use queue::Queue;
use service::Incoming;
pub(crate) use service::{Outbound, Shared};

/// All open sessions.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Inner>);

struct Inner {
    events: mpsc::Sender<Event>,
    admission: Admission,
    /// At once.
    open_max: usize,
    open: Mutex<BTreeMap<SessionId, Open>>,
    next: AtomicU64,
    greeted: AtomicBool,
    /// Turns true with the first inventory of a worker.
    reported: watch::Sender<bool>,
}

struct Open {
    queue: Queue,
    end: CancellationToken,
}

/// Who may open a session.
pub(crate) enum Admission {
    /// The one worker of standalone, which was given this token.
    Local {
        /// SHA-256 of it.
        token: [u8; 32],
        /// Ports of this process, which no stream may lease.
        own_ports: Vec<u16>,
        /// Where the newest worker's admin pages are.
        pages: watch::Sender<Option<SocketAddr>>,
    },
    /// Pods of a cluster, each for itself and its node alone.
    Pods {
        /// Says whose a token is.
        reviewer: Arc<Reviewer>,
        /// Takes what workers saw of each other.
        sights: mpsc::Sender<Seen>,
    },
}

/// A pod, as the API server vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
}

impl Sessions {
    /// `open_max` sessions at once.
    pub(crate) fn new(events: mpsc::Sender<Event>, admission: Admission, open_max: usize) -> Self {
        let (next, greeted) = (AtomicU64::new(1), AtomicBool::new(false));
        let (open, reported) = (Mutex::default(), watch::Sender::new(false));
        Self(Arc::new(Inner { events, admission, open_max, open, next, greeted, reported }))
    }

    /// Serves sessions on the listener. Ends with the process.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        tls: Option<ServerTlsConfig>,
    ) -> Result<(), tonic::transport::Error> {
        let mut server = Server::builder().initial_stream_window_size(limits::SESSION_WINDOW);
        if let Some(tls) = tls {
            server = server.tls_config(tls)?;
        }
        server
            .add_service(service::ControlService(self))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
    }

    /// Queues a message for a worker. A session that takes none until its queue is full is closed.
    pub(crate) fn send(&self, session: SessionId, message: impl Into<Outbound>) {
        let open = self.open();
        let Some(to) = open.get(&session) else { return };
        if to.queue.push(message.into()).is_err() {
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
        pod: Option<Pod>,
        mut messages: Incoming,
        end: CancellationToken,
    ) {
        let why = tokio::select! {
            () = end.cancelled() => None,
            why = self.pass_on(session, pod.as_ref(), &mut messages) => Some(why),
        };
        end.cancel();
        self.open().remove(&session);
        if let Some(why) = why {
            tracing::info!(%session, "session ended: {why}");
        }
        // Nobody takes events when the process ends.
        let _ = self.0.events.send(Event::SessionClosed { session }).await;
    }

    async fn pass_on(&self, session: SessionId, pod: Option<&Pod>, messages: &mut Incoming) -> String {
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
            let body = match body {
                Body::Witnessed(it) => {
                    if let Admission::Pods { sights, reviewer: _ } = &self.0.admission {
                        // One that is late by a full queue is as good as none.
                        let _ = sights.try_send(Seen {
                            inquiry: it.inquiry,
                            witness: Witness::Worker(session),
                            sight: convert::sight(it),
                        });
                    }
                    continue;
                }
                body => body,
            };
            let admin = convert::admin_port(&body);
            let mut event = match convert::event(session, body) {
                Ok(event) => event,
                Err(error) => return error.to_string(),
            };
            if let Event::Hello { hello, .. } = &mut event {
                greeted = true;
                if let Some(other) = pod.and_then(|pod| pod.differs(hello)) {
                    return other;
                }
                self.0.greeted.store(true, Ordering::Relaxed);
                if let Admission::Local { own_ports, pages, token: _ } = &self.0.admission {
                    // It runs on this machine.
                    pages.send_replace(admin.map(|port| (Ipv4Addr::LOCALHOST, port).into()));
                    hello.listener_ports.extend(own_ports);
                }
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

impl Pod {
    /// What a hello claims to be beyond what the token is for.
    fn differs(&self, hello: &Hello) -> Option<String> {
        let Self { name, uid, node } = self;
        let same = hello.worker.as_str() == name && &*hello.pod_uid == uid && hello.node.as_str() == node;
        (!same).then(|| {
            format!(
                "the token is for pod {name} ({uid}) on node {node}, but the worker says that it is {} ({}) on {}",
                hello.worker, hello.pod_uid, hello.node
            )
        })
    }
}

impl Admission {
    /// Whom a request speaks for; absent: it is the worker of standalone.
    async fn admit(&self, metadata: &MetadataMap) -> Result<Option<Pod>, Status> {
        let given = metadata.get("authorization").map_or(&b""[..], |value| value.as_bytes());
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        match self {
            Self::Local { token, own_ports: _, pages: _ } => {
                // Digests are compared, so that time tells nothing of the token.
                match aws_lc_rs::constant_time::verify_slices_are_equal(&sha256(given), token) {
                    Ok(()) => Ok(None),
                    Err(_) => Err(Status::unauthenticated("the session's token is missing or wrong")),
                }
            }
            Self::Pods { reviewer, sights: _ } => {
                let token = str::from_utf8(given)
                    .map_err(|_| Status::unauthenticated("the session's token is no text"))?;
                reviewer.review(token).await.map(Some)
            }
        }
    }
}

impl Sessions {
    /// A worker opens a session.
    async fn session(&self, metadata: &MetadataMap, messages: Incoming) -> Result<Outgoing, Status> {
        let pod = self.0.admission.admit(metadata).await?;
        let queue = Queue::default();
        let end = CancellationToken::new();
        let session = SessionId(self.0.next.fetch_add(1, Ordering::Relaxed));
        {
            let mut open = self.open();
            if open.len() >= self.0.open_max {
                return Err(Status::resource_exhausted("too many sessions"));
            }
            open.insert(session, Open { queue: queue.clone(), end: end.clone() });
        }
        // Ends with the session: `receive` waits for nothing but the worker, `end` and a deadline.
        tokio::spawn(self.clone().receive(session, pod, messages, end.clone()));
        Ok(Outgoing::new(queue, end))
    }
}

/// The queue of a session, on its way out.
pub(crate) struct Outgoing {
    queue: Queue,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Nobody reads what is queued any more.
    _unread: DropGuard,
}

impl Outgoing {
    /// Until `end`, which is cancelled when this is dropped.
    fn new(queue: Queue, end: CancellationToken) -> Self {
        Self { queue, end: Box::pin(end.clone().cancelled_owned()), _unread: end.drop_guard() }
    }

    /// Ready when somebody has closed the session.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.as_mut().poll(cx)
    }
}

impl Stream for Outgoing {
    type Item = Outbound;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outbound>> {
        if self.poll_end(cx).is_ready() {
            // What still waits is dropped: whoever closes a session wants it closed.
            return Poll::Ready(None);
        }
        self.queue.poll_pop(cx).map(Some)
    }
}
