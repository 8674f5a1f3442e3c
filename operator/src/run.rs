//! One loop: an event in, one plan, its actions out. Nothing else decides anything.

use std::{collections::VecDeque, time::Instant};

use operator_core::{Action, Config, Counters, Event, PoolPorts, State, plan};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::Clock, convert, event_log::EventLog, limits, metrics::Metrics, sessions::Sessions, store::Shared,
    telemetry,
};

/// What the actions act on.
pub(crate) struct Drivers {
    pub(crate) store: Shared,
    pub(crate) sessions: Sessions,
    pub(crate) log: EventLog,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

/// What the planner knows that no object says, for metrics.
pub(crate) struct Ledger {
    pub(crate) ports: Vec<PoolPorts>,
    pub(crate) counters: Counters,
}

/// Asks for it.
pub(crate) type Ask = oneshot::Sender<Ledger>;

/// Runs until all senders of events are gone.
pub(crate) async fn run(
    config: Config,
    mut events: mpsc::Receiver<Event>,
    mut asks: mpsc::Receiver<Ask>,
    mut drivers: Drivers,
) {
    let mut state = State::new(config);
    let clock = drivers.clock;
    let mut audit = Audit { at: Instant::now() + limits::AUDIT_EVERY };
    // Answers to our own actions. The store answers at once, so they need no place in the bounded queue.
    let mut answers: VecDeque<Event> = VecDeque::new();
    loop {
        if answers.is_empty() {
            // The audit looks at everything, so it waits for a quiet moment.
            audit.run_if_due(&state, &drivers.metrics);
            let planned = state.next_deadline().map(|at| clock.instant(at));
            let deadline = planned.map_or(audit.at, |at| at.min(audit.at));
            // A deadline that stays in the past must not become a loop without a pause.
            let deadline = deadline.max(Instant::now() + limits::TICK_MIN);
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => answers.push_back(event),
                    None => return,
                },
                Some(ask) = asks.recv() => {
                    // Whoever asked may have lost patience.
                    let _ = ask.send(Ledger { ports: state.ports().collect(), counters: *state.counters() });
                    continue;
                }
                () = tokio::time::sleep_until(deadline.into()) => answers.push_back(Event::Tick),
            }
        } else {
            // A long row of answers must not keep sessions and pages waiting.
            tokio::task::yield_now().await;
        }
        for _ in 0..limits::EVENTS_A_PLAN {
            let Some(event) = answers.pop_front().or_else(|| events.try_recv().ok()) else { break };
            drivers.metrics.event(&event);
            state.observe(event, clock.now());
        }
        let before = Instant::now();
        let actions = plan(&mut state, clock.now());
        drivers.metrics.planned(before.elapsed());
        for action in actions {
            drivers.act(action, &mut answers);
        }
    }
}

/// Looks for broken invariants now and then.
struct Audit {
    at: Instant,
}

impl Audit {
    fn run_if_due(&mut self, state: &State, metrics: &Metrics) {
        let before = Instant::now();
        if before < self.at {
            return;
        }
        let found = state.check();
        for violation in &found {
            tracing::error!("invariant broken, please report it: {violation}");
        }
        metrics.violated(u64::try_from(found.len()).unwrap_or(u64::MAX));
        // It costs what exists: at most a thousandth of the time goes into it.
        self.at = Instant::now() + limits::AUDIT_EVERY.max(before.elapsed().saturating_mul(1000));
    }
}

impl Drivers {
    fn act(&mut self, action: Action, answers: &mut VecDeque<Event>) {
        self.metrics.action(&action);
        match action {
            Action::WriteStream { .. }
            | Action::WritePool { .. }
            | Action::DeleteStream { .. }
            | Action::Confirm { .. } => {
                self.write(action, answers);
            }
            // There is no Lease to write it into: one process leads, and its worker ends with it.
            Action::RecordTerm { term } => answers.push_back(Event::TermRecorded { term }),
            Action::Command { session, term, sequence, command } => {
                self.sessions.send(session, convert::operator_message(term, sequence, &command));
            }
            Action::CloseSession { session, why } => self.sessions.close(session, why),
            Action::Emit { object, reason, severity, note } => {
                telemetry::emitted(&object, reason, severity, &note);
                self.metrics.emitted(reason);
                self.log.emit(&object, reason.as_str(), severity, &note, self.clock.now().wall_unix_ms);
            }
        }
    }

    fn write(&self, action: Action, answers: &mut VecDeque<Event>) {
        let name = match &action {
            Action::WriteStream { name, .. } => Some(name.clone()),
            _ => None,
        };
        let mut store = self.store.lock();
        let before = name.as_ref().and_then(|name| store.stream_named(name)).and_then(telemetry::Shown::of);
        let outcomes = store.write(action);
        if let Some(stream) = name.as_ref().and_then(|name| store.stream_named(name)) {
            telemetry::changed(before.as_ref(), stream);
        }
        drop(store);
        for outcome in outcomes {
            self.metrics.written(&outcome);
            answers.push_back(outcome);
        }
    }
}
