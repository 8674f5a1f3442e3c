//! One loop: an event in, one plan, its actions out. Nothing else decides anything.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use operator_core::{
    Action, Config, Event, State,
    action::{ObjectRef, Severity},
    event::WriteOutcome,
    ids::WriteId,
    plan,
    reason::Reason,
    status::StreamStatus,
};
use tokio::sync::mpsc;

use crate::{
    asks::Ask,
    clock::Clock,
    convert, limits,
    metrics::Metrics,
    sessions::Sessions,
    telemetry::{self, Transition},
    witnesses::{Said, Seen, Witnesses},
};

/// Does what the planner asks of objects, and says how it ended: the store of standalone, or the API server.
pub(crate) trait Objects {
    /// Begins a write or a read. An answer that is there at once goes among `answers`.
    fn begin(&mut self, action: Action, answers: &mut VecDeque<Event>);

    /// The next answer to what was begun; waits for ever while none is owed. Cancel-safe.
    fn answer(&mut self) -> impl Future<Output = Event>;

    /// Makes a Kubernetes Event. Nobody waits for it.
    fn emit(&mut self, object: &ObjectRef, reason: Reason, severity: Severity, note: &str, now_unix_ms: u64);

    /// This replica leads no longer: reads that are not answered yet are not wanted any more.
    fn demoted(&mut self);
}

/// What the actions act on.
pub(crate) struct Drivers<O> {
    /// How workers' logs name this replica.
    pub(crate) replica: String,
    pub(crate) objects: O,
    /// Who is alive; absent where the one worker has a supervisor.
    pub(crate) witnesses: Option<Witnesses>,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

/// Runs until all senders of events are gone.
pub(crate) async fn run<O: Objects>(
    config: Config,
    mut events: mpsc::Receiver<Event>,
    mut asks: mpsc::Receiver<Ask>,
    mut drivers: Drivers<O>,
) {
    let mut state = State::new(config);
    let clock = drivers.clock;
    let mut audit = Audit { at: Instant::now() + limits::AUDIT_EVERY };
    // Answers to our own actions: at most one each, so they need no place in the bounded queue.
    let mut answers: VecDeque<Event> = VecDeque::new();
    let mut transitions = Transitions::default();
    loop {
        if answers.is_empty() {
            // The audit looks at everything, so it waits for a quiet moment.
            audit.run_if_due(&state, &drivers.metrics);
            let looks = drivers.witnesses.as_ref().filter(|_| state.is_active());
            let planned = [state.next_deadline(), looks.and_then(|it| it.panel.next_deadline())];
            let planned = planned.into_iter().flatten().min().map(|at| clock.instant(at));
            let deadline = planned.map_or(audit.at, |at| at.min(audit.at));
            // A deadline that stays in the past must not become a loop without a pause.
            let deadline = deadline.max(Instant::now() + limits::TICK_MIN);
            let Drivers { objects, witnesses, .. } = &mut drivers;
            tokio::select! {
                // Events come in by the hundred below; what comes one by one goes first, so that none of it starves.
                biased;
                Some(ask) = asks.recv() => {
                    let panel = witnesses.as_ref().map(|it| &it.panel);
                    ask.answer(&state, panel, clock.now());
                    continue;
                }
                answer = objects.answer() => answers.push_back(answer),
                seen = seen(witnesses) => drivers.note_sight(seen, &mut answers),
                event = events.recv() => match event {
                    Some(event) => answers.push_back(event),
                    None => return,
                },
                () = tokio::time::sleep_until(deadline.into()) => answers.push_back(Event::Tick),
            }
        } else {
            // A long row of answers must not keep sessions and pages waiting.
            tokio::task::yield_now().await;
        }
        for _ in 0..limits::EVENTS_A_PLAN {
            let Some(event) = answers.pop_front().or_else(|| events.try_recv().ok()) else { break };
            drivers.metrics.event(&event);
            drivers.metrics.written(&event);
            if let Event::Write { id, outcome } = &event {
                transitions.written(*id, outcome, &drivers.metrics);
            }
            if matches!(event, Event::Demoted) {
                drivers.objects.demoted();
            }
            if let Some(witnesses) = &mut drivers.witnesses {
                witnesses.panel.observe(&event, clock.now());
            }
            state.observe(event, clock.now());
        }
        if state.is_active() {
            drivers.poll_witnesses(&mut answers);
        }
        let before = Instant::now();
        let actions = plan(&mut state, clock.now());
        drivers.metrics.planned(before.elapsed());
        for action in actions {
            transitions.note(&action, &state);
            drivers.act(action, &mut answers);
        }
        state.compact();
    }
}

async fn seen(witnesses: &mut Option<Witnesses>) -> Seen {
    match witnesses {
        Some(witnesses) => witnesses.seen().await,
        None => std::future::pending().await,
    }
}

/// What is told of writes once they are on record: one a write under way.
#[derive(Default)]
struct Transitions(BTreeMap<WriteId, (Option<Transition>, Option<Duration>)>);

impl Transitions {
    fn note(&mut self, action: &Action, state: &State) {
        let Action::WriteStream { id, uid, name, status, .. } = action else { return };
        let before = state.stream(uid).map(|stream| stream.stored);
        let line = Transition::between(before, status, name);
        let failover = failover_ended(before, status);
        if line.is_some() || failover.is_some() {
            self.0.insert(*id, (line, failover));
        }
    }

    fn written(&mut self, id: WriteId, outcome: &WriteOutcome, metrics: &Metrics) {
        let told = self.0.remove(&id);
        let (Some((line, failover)), WriteOutcome::Written { .. }) = (told, outcome) else { return };
        line.iter().for_each(Transition::log);
        failover.into_iter().for_each(|took| metrics.failed_over(took));
    }
}

/// How long the failover took whose end a status tells for the first time.
fn failover_ended(before: Option<&StreamStatus>, after: &StreamStatus) -> Option<Duration> {
    let ended = after.last_failover.as_ref()?;
    let news = before.and_then(|before| before.last_failover.as_ref()) != Some(ended);
    ended.gap_ms.filter(|_| news).map(Duration::from_millis)
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

impl<O: Objects> Drivers<O> {
    fn note_sight(&mut self, seen: Seen, answers: &mut VecDeque<Event>) {
        let now = self.clock.now();
        let said = self.witnesses.as_mut().map(|it| it.note(seen, &self.sessions, now));
        self.say(said.into_iter().flatten(), answers);
    }

    fn poll_witnesses(&mut self, answers: &mut VecDeque<Event>) {
        let now = self.clock.now();
        let said = self.witnesses.as_mut().map(|it| it.poll(&self.sessions, now));
        self.say(said.into_iter().flatten(), answers);
    }

    fn say(&mut self, said: impl IntoIterator<Item = Said>, answers: &mut VecDeque<Event>) {
        for said in said {
            match said {
                Said::Event(event) => answers.push_back(event),
                Said::Emit { reason, severity, note } => {
                    let object = ObjectRef::Installation;
                    self.act(Action::Emit { object, reason, severity, note }, answers);
                }
            }
        }
    }

    fn act(&mut self, action: Action, answers: &mut VecDeque<Event>) {
        self.metrics.action(&action);
        match action {
            Action::WriteStream { .. }
            | Action::WritePool { .. }
            | Action::DeleteStream { .. }
            | Action::Confirm { .. }
            | Action::RecordTerm { .. } => self.objects.begin(action, answers),
            Action::Command { session, term, sequence, command } => {
                self.sessions
                    .send(session, convert::operator_message(&self.replica, term, sequence, &command));
            }
            Action::CloseSession { session, why } => self.sessions.close(session, why),
            Action::Emit { object, reason, severity, note } => {
                telemetry::emitted(&object, reason, severity, &note);
                self.metrics.emitted(reason);
                self.objects.emit(&object, reason, severity, &note, self.clock.now().wall_unix_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests;
