//! The panel's hands: has witnesses look, and hands the verdicts to the planner.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use operator_core::{
    Event, Now, Reason,
    action::Severity,
    panel::{Order, Panel, Sight, Witness},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use worker::look::{self, look};

use crate::{cluster::peers, convert, limits, sessions::Sessions};

/// An answer to a look.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) inquiry: u64,
    pub(crate) witness: Witness,
    pub(crate) sight: Sight,
}

/// Who is alive, on a cluster.
pub(crate) struct Witnesses {
    pub(crate) panel: Panel,
    /// From workers.
    answers: mpsc::Receiver<Seen>,
    /// Our own.
    looks: JoinSet<Option<Seen>>,
    /// The other replicas.
    peers: watch::Receiver<BTreeSet<IpAddr>>,
    /// Where each of them answers.
    peer_port: u16,
}

/// What came of an order.
pub(crate) enum Said {
    /// For the planner.
    Event(Event),
    /// For people.
    Emit { reason: Reason, severity: Severity, note: String },
}

impl Witnesses {
    /// The sender is for sessions.
    pub(crate) fn new(
        peers: watch::Receiver<BTreeSet<IpAddr>>,
        peer_port: u16,
    ) -> (Self, mpsc::Sender<Seen>) {
        let (sender, answers) = mpsc::channel(limits::SIGHTS);
        (Self { panel: Panel::default(), answers, looks: JoinSet::new(), peers, peer_port }, sender)
    }

    /// The next answer to a look. Cancel-safe.
    pub(crate) async fn seen(&mut self) -> Seen {
        loop {
            tokio::select! {
                Some(seen) = self.answers.recv() => return seen,
                Some(Ok(seen)) = self.looks.join_next() => if let Some(seen) = seen { return seen },
                else => std::future::pending().await,
            }
        }
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, seen: Seen, sessions: &Sessions, now: Now) -> Vec<Said> {
        let Seen { inquiry, witness, sight } = seen;
        self.panel.see(inquiry, witness, sight, now).map_or_else(Vec::new, |order| self.obey(order, sessions))
    }

    /// Does what has come due.
    pub(crate) fn poll(&mut self, sessions: &Sessions, now: Now) -> Vec<Said> {
        self.panel.set_replicas(self.peers.borrow_and_update().clone());
        let orders = self.panel.poll(now);
        orders.into_iter().flat_map(|order| self.obey(order, sessions)).collect()
    }

    fn obey(&mut self, order: Order, sessions: &Sessions) -> Vec<Said> {
        match order {
            Order::Look { inquiry, witness, worker, address, port } => {
                match witness {
                    Witness::Own => {
                        self.looks.spawn(async move {
                            let sight = sight(look(&address, port).await);
                            Some(Seen { inquiry, witness, sight })
                        });
                    }
                    Witness::Replica(address) => {
                        let replica = SocketAddr::new(address, self.peer_port);
                        self.looks.spawn(async move {
                            let sight = peers::ask(replica, &worker).await?;
                            Some(Seen { inquiry, witness, sight })
                        });
                    }
                    Witness::Worker(session) => {
                        sessions.send(session, convert::inquire(inquiry, &address, port))
                    }
                }
                Vec::new()
            }
            Order::Lost { node, worker, boot } => {
                tracing::warn!(%worker, %node, %boot, "worker is lost: a majority of witnesses can't reach it");
                vec![Said::Event(Event::WorkerLost { worker, boot })]
            }
            Order::Degraded { node, worker, boot, news } => {
                let note = format!(
                    "the worker {worker} on {node} runs, but this operator does not hear it: it keeps its streams and gets no new \
                     ones. Look at the network between {node} and the operator"
                );
                let told = Said::Emit { reason: Reason::ControlDegraded, severity: Severity::Warning, note };
                let degraded = Said::Event(Event::WorkerDegraded { worker, boot });
                std::iter::once(degraded).chain(news.then_some(told)).collect()
            }
            Order::Held { node, worker, against, witnesses } => vec![Said::Emit {
                reason: Reason::Hold,
                severity: Severity::Warning,
                note: format!(
                    "the worker {worker} on {node} is not heard, and only {against} of {witnesses} witnesses could look: nothing \
                     moves until they are heard again, or the node is NotReady"
                ),
            }],
        }
    }
}

fn sight(sight: look::Sight) -> Sight {
    match sight {
        look::Sight::Answered { boot_id } => Sight::Answered { boot: boot_id.into() },
        look::Sight::Refused => Sight::Refused,
        look::Sight::Silent => Sight::Silent,
    }
}
