//! A session with one operator replica: dialled, kept, and dialled again. It carries messages and understands none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::control::v1::control_client::ControlClient;
use proto::control::v1::{OperatorMessage, WorkerMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::operators::{Dial, Link, Operator};

/// Batches that wait for a session that is slow; a full box ends the session, and the next one starts from an inventory.
const OUTBOX: usize = 4096;

/// Messages between the outbox and the connection.
const WIRE: usize = 16;

/// For the replica's first answer, and for it to take one message.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// A directory of 100 000 paths may come in one message.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Waits before the second dial and the tenth.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A session that held this long was a good one: the next dial is not delayed.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// Names a session for the life of the process.
pub type SessionId = u64;

/// What happens in sessions.
#[derive(Debug)]
pub enum Event {
    /// Connected; Hello is due.
    Up {
        /// New.
        session: SessionId,
        /// The replica.
        url: String,
        /// Takes what is to be sent. Dropping it ends the session.
        outbox: mpsc::Sender<Vec<WorkerMessage>>,
    },
    /// The replica said something.
    Received {
        /// Where.
        session: SessionId,
        /// What.
        message: Box<OperatorMessage>,
    },
    /// It ended.
    Down {
        /// Which.
        session: SessionId,
    },
}

/// Why a session ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// What it is dialled with.
    #[error("cannot dial: {0}")]
    Credentials(String),
    /// Nobody answers there.
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    /// The replica refused or broke off.
    #[error("operator: {0}")]
    Operator(#[from] Status),
    /// The replica ended the session.
    #[error("operator ended the session")]
    Closed,
    /// The session was given up here.
    #[error("session was given up: its outbox was full or a newer one took its place")]
    GivenUp,
    /// A wait for the replica was too long.
    #[error("operator was silent too long while {waiting}")]
    Deadline {
        /// For what.
        waiting: &'static str,
    },
}

/// A replica to dial.
#[derive(Debug)]
pub(super) struct Replica {
    operator: Operator,
    address: SocketAddr,
    link: Arc<Link>,
}

impl Replica {
    pub(super) fn new(operator: Operator, address: SocketAddr, link: Arc<Link>) -> Replica {
        Replica { operator, address, link }
    }

    /// Keeps one session to the replica while it is wanted; ends when nobody takes its events, too.
    pub(super) async fn keep(self, ids: &AtomicU64, events: mpsc::Sender<Event>) {
        let url = self.address.to_string();
        let mut wait = Duration::ZERO;
        while !events.is_closed() && self.link.wanted.load(Ordering::Relaxed) {
            tokio::time::sleep(wait).await;
            let (session, began) = (ids.fetch_add(1, Ordering::Relaxed), Instant::now());
            let ended = self.session(session, &url, &events).await.err().unwrap_or(Ended::Closed);
            self.link.up.store(false, Ordering::Relaxed);
            let good = began.elapsed() >= GOOD_AFTER;
            // Each failed dial of a replica that is away would be a line; the first tells it.
            if good || wait.is_zero() {
                tracing::warn!(operator = url, session, error = describe(&ended), "no session with operator");
            }
            wait = if good { Duration::ZERO } else { (wait * 2).clamp(BACKOFF.0, BACKOFF.1) };
            if events.send(Event::Down { session }).await.is_err() {
                return;
            }
        }
    }

    async fn session(
        &self,
        session: SessionId,
        url: &str,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), Ended> {
        let Dial { endpoint, bearer } = self.operator.dial(self.address).await.map_err(Ended::Credentials)?;
        let channel = endpoint.connect().await?;
        let mut client = ControlClient::with_interceptor(channel, move |mut request: Request<()>| {
            if let Some(bearer) = &bearer {
                request.metadata_mut().insert("authorization", bearer.clone());
            }
            Ok(request)
        })
        .max_decoding_message_size(MESSAGE_BYTES_MAX);

        // Nothing is said before the operator has answered: until its settings are here, HTTP/2 would send more at once than it wants.
        let (wire, messages) = mpsc::channel(WIRE);
        let answer = timeout(PEER_TIMEOUT, client.session(ReceiverStream::new(messages))).await;
        let mut inbound = answer.map_err(|_| Ended::Deadline { waiting: "it was to answer" })??.into_inner();

        let (outbox, mut batches) = mpsc::channel::<Vec<WorkerMessage>>(OUTBOX);
        let up = Event::Up { session, url: url.to_owned(), outbox };
        events.send(up).await.map_err(|_| Ended::GivenUp)?;
        self.link.up.store(true, Ordering::Relaxed);

        let forward = async {
            while let Some(batch) = batches.recv().await {
                for message in batch {
                    match timeout(PEER_TIMEOUT, wire.send(message)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Err(Ended::Closed),
                        Err(_) => return Err(Ended::Deadline { waiting: "it was to take a message" }),
                    }
                }
            }
            Err(Ended::GivenUp)
        };
        let receive = async {
            while let Some(message) = inbound.message().await? {
                let received = Event::Received { session, message: Box::new(message) };
                events.send(received).await.map_err(|_| Ended::GivenUp)?;
            }
            Err(Ended::Closed)
        };
        tokio::select! {
            ended = forward => ended,
            ended = receive => ended,
        }
    }
}

/// The error with its causes, which tonic keeps to itself otherwise.
fn describe(error: &Ended) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
