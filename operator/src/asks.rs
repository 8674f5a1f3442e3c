//! Questions to the planner's loop, and its answers.

use std::{collections::BTreeMap, sync::Arc};

use operator_core::{
    Counters, Now, PoolPorts, State,
    ids::WorkerName,
    panel::{Panel, Verdict},
    reason::Reason,
    status::{ConditionType, Phase},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::limits;

/// Asks the loop. Without an answer it is busy beyond measure, or has ended.
#[derive(Clone)]
pub(crate) struct Asks(mpsc::Sender<Ask>);

/// A question. Whoever asks may lose patience meanwhile.
pub(crate) enum Ask {
    /// Whether the loop runs: nothing else shows it.
    Alive(oneshot::Sender<()>),
    /// For metrics.
    Ledger(oneshot::Sender<Ledger>),
    /// How many workers are heard here.
    Heard(oneshot::Sender<usize>),
    /// Where a worker's health port is, if it is known here.
    HealthPort(WorkerName, oneshot::Sender<Option<(Arc<str>, u16)>>),
}

impl Asks {
    /// The receiver is for the loop.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(limits::ASKS);
        (Self(asks), receiver)
    }

    pub(crate) async fn alive(&self) -> bool {
        self.ask(Ask::Alive).await.is_some()
    }

    pub(crate) async fn ledger(&self) -> Option<Ledger> {
        self.ask(Ask::Ledger).await
    }

    pub(crate) async fn heard(&self) -> Option<usize> {
        self.ask(Ask::Heard).await
    }

    pub(crate) async fn health_port(&self, worker: WorkerName) -> Option<(Arc<str>, u16)> {
        self.ask(|answer| Ask::HealthPort(worker, answer)).await.flatten()
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(question(sender)).ok()?;
        timeout(limits::ASK, answer).await.ok()?.ok()
    }
}

impl Ask {
    pub(crate) fn answer(self, state: &State, panel: Option<&Panel>, now: Now) {
        // Who lost patience misses nothing.
        match self {
            Self::Alive(asker) => drop(asker.send(())),
            Self::Ledger(asker) => drop(asker.send(Ledger::of(state, panel, now))),
            Self::Heard(asker) => {
                let verdicts = panel.into_iter().flat_map(|panel| panel.verdicts(now));
                let _ = asker.send(verdicts.filter(|verdict| *verdict == Verdict::Heard).count());
            }
            Self::HealthPort(worker, asker) => {
                drop(asker.send(panel.and_then(|it| it.health_port(&worker))));
            }
        }
    }
}

/// What the planner knows, for metrics.
pub(crate) struct Ledger {
    /// Streams by the phase that their status shows.
    pub(crate) phases: BTreeMap<Phase, u64>,
    /// Streams that by their status are not Ready, by its reason.
    pub(crate) unready: BTreeMap<Reason, u64>,
    pub(crate) workers: BTreeMap<Verdict, u64>,
    /// Streams that lists lack and that go on all the same.
    pub(crate) absences_held: usize,
    pub(crate) ports: Vec<PoolPorts>,
    pub(crate) counters: Counters,
    /// This replica leads, and has what it needs to decide.
    pub(crate) leads: bool,
}

impl Ledger {
    fn of(state: &State, panel: Option<&Panel>, now: Now) -> Self {
        let (mut phases, mut unready, mut workers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for stream in state.streams() {
            *phases.entry(stream.stored.phase).or_default() += 1;
            let ready = stream.stored.conditions.get(&ConditionType::Ready);
            // Of what has no status yet, the first one is about to be written.
            let (ready, reason) = ready.map_or((false, Reason::Claiming), |it| (it.status, it.reason));
            if !ready {
                *unready.entry(reason).or_default() += 1;
            }
        }
        match panel {
            Some(panel) => panel.verdicts(now).for_each(|it| *workers.entry(it).or_default() += 1),
            // Nobody judges the one worker of a supervisor.
            None => {
                for worker in state.nodes().filter_map(|node| node.worker) {
                    let verdict = if worker.connected { Verdict::Heard } else { Verdict::Silent };
                    *workers.entry(verdict).or_default() += 1;
                }
            }
        }
        Self {
            phases,
            unready,
            workers,
            absences_held: state.absences_held(),
            ports: state.ports().collect(),
            counters: *state.counters(),
            leads: state.is_active(),
        }
    }
}
