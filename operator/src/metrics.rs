//! The parent's metrics: the ledger, the planner, the writes. Those of media are the worker's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use operator_core::{Action, Counters, Event, PoolPorts, Reason, api::StreamPhase, event::WriteOutcome};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::{run::Ledger, store::Shared};

/// Handles of all metrics.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    streams: IntGaugeVec,
    ports: IntGaugeVec,
    events: IntCounterVec,
    actions: IntCounterVec,
    writes: IntCounterVec,
    kube_events: IntCounterVec,
    plan_seconds: Histogram,
    violations: IntCounter,
    sessions: IntGauge,
    restarts: IntCounter,
    memory: IntGaugeVec,
    incidents: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let inner = Inner {
            streams: gauges(&registry, "penstock_streams", "MediaStreams by phase", &["phase"]),
            ports: gauges(
                &registry,
                "penstock_ports",
                "Port numbers of a pool by state; without draining they sum to the capacity",
                &["pool", "state"],
            ),
            events: counters(
                &registry,
                "penstock_operator_events_total",
                "Events that the planner took note of",
                &["kind"],
            ),
            actions: counters(
                &registry,
                "penstock_operator_actions_total",
                "Actions that plans gave out",
                &["kind"],
            ),
            writes: counters(
                &registry,
                "penstock_operator_writes_total",
                "Writes of status by their outcome",
                &["outcome"],
            ),
            kube_events: counters(
                &registry,
                "penstock_events_total",
                "Kubernetes Events by reason",
                &["reason"],
            ),
            plan_seconds: histogram(&registry, "penstock_operator_plan_seconds", "Time that one plan took"),
            violations: counter(
                &registry,
                "penstock_operator_invariant_violations_total",
                "Invariants found broken; anything but 0 is a defect to report",
            ),
            sessions: gauge(&registry, "penstock_worker_sessions", "Open sessions with workers"),
            restarts: counter(
                &registry,
                "penstock_worker_restarts_total",
                "Workers that ended by themselves and were started again",
            ),
            incidents: counters(
                &registry,
                "penstock_operator_incidents_total",
                "What the planner had to put right, by kind",
                &["kind"],
            ),
            memory: gauges(
                &registry,
                "penstock_operator_memory_bytes",
                "Memory of the parent process, as its allocator sees it",
                &["kind"],
            ),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// An event is about to be observed.
    pub(crate) fn event(&self, event: &Event) {
        self.0.events.with_label_values(&[event_kind(event)]).inc();
    }

    /// An action is about to be done.
    pub(crate) fn action(&self, action: &Action) {
        self.0.actions.with_label_values(&[action_kind(action)]).inc();
    }

    /// A plan took this long.
    pub(crate) fn planned(&self, took: Duration) {
        self.0.plan_seconds.observe(took.as_secs_f64());
    }

    /// A write has ended.
    pub(crate) fn written(&self, event: &Event) {
        let Event::Write { outcome, .. } = event else { return };
        let outcome = match outcome {
            WriteOutcome::Written { .. } => "written",
            WriteOutcome::Conflict => "conflict",
            WriteOutcome::Refused { .. } => "refused",
            WriteOutcome::NotFound => "not_found",
            WriteOutcome::Unknown => "unknown",
        };
        self.0.writes.with_label_values(&[outcome]).inc();
    }

    /// A Kubernetes Event was made.
    pub(crate) fn emitted(&self, reason: Reason) {
        self.0.kube_events.with_label_values(&[reason.as_str()]).inc();
    }

    /// Invariants were found broken.
    pub(crate) fn violated(&self, count: u64) {
        self.0.violations.inc_by(count);
    }

    /// That many sessions are open.
    pub(crate) fn sessions(&self, open: usize) {
        self.0.sessions.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// A worker ended by itself.
    pub(crate) fn worker_restarted(&self) {
        self.0.restarts.inc();
    }

    /// Everything, in Prometheus' text format. Without the planner's answer its part is that of the last time.
    pub(crate) fn text(&self, store: &Shared, ledger: Option<&Ledger>) -> String {
        self.count_objects(store);
        if let Some(ledger) = ledger {
            self.count_ledger(ledger);
        }
        self.measure_memory();
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => {
                tracing::warn!("metrics: {error}");
                String::new()
            }
        }
    }

    /// Totals are computed from the objects when they are asked for, never counted up and down.
    fn count_objects(&self, store: &Shared) {
        let store = store.lock();
        let mut phases: BTreeMap<StreamPhase, i64> = BTreeMap::new();
        for stream in store.streams() {
            let phase =
                stream.status.as_ref().and_then(|status| status.phase).unwrap_or(StreamPhase::Pending);
            *phases.entry(phase).or_default() += 1;
        }
        self.0.streams.reset();
        for phase in PHASES {
            let count = phases.get(&phase).copied().unwrap_or_default();
            self.0.streams.with_label_values(&[&format!("{phase:?}")]).set(count);
        }
    }

    fn count_ledger(&self, ledger: &Ledger) {
        self.0.ports.reset();
        for pool in &ledger.ports {
            let PoolPorts { pool, node: _, capacity: _, free, leased, cooling, quarantined, draining } = pool;
            for (state, count) in [
                ("free", free),
                ("leased", leased),
                ("cooling", cooling),
                ("quarantined", quarantined),
                ("draining", draining),
            ] {
                // A pool has a shelf on each node.
                self.0.ports.with_label_values(&[pool.as_str(), state]).add(i64::from(*count));
            }
        }
        let Counters {
            leaks_repaired,
            adoptions,
            digest_mismatches,
            bind_failures,
            own_clashes,
            contests,
            failovers,
            write_conflicts: _,
            write_refusals: _,
            writes_unknown: _,
            writes_dropped,
            stale_events,
            stale_messages,
            absences_held,
        } = ledger.counters;
        for (kind, total) in [
            ("leak_repaired", leaks_repaired),
            ("adoption", adoptions),
            ("digest_mismatch", digest_mismatches),
            ("bind_failure", bind_failures),
            ("own_clash", own_clashes),
            ("contest", contests),
            ("failover", failovers),
            ("write_dropped", writes_dropped),
            ("stale_event", stale_events),
            ("stale_message", stale_messages),
            ("absence_held", absences_held),
        ] {
            let counter = self.0.incidents.with_label_values(&[kind]);
            // The planner keeps the total; it only rises.
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    fn measure_memory(&self) {
        use tikv_jemalloc_ctl::{epoch, stats};
        // Without a new epoch the numbers are those of the last time.
        if epoch::advance().is_err() {
            return;
        }
        for (kind, bytes) in [
            ("allocated", stats::allocated::read()),
            ("resident", stats::resident::read()),
            ("retained", stats::retained::read()),
        ] {
            if let Ok(bytes) = bytes {
                self.0.memory.with_label_values(&[kind]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }
}

const PHASES: [StreamPhase; 7] = [
    StreamPhase::Pending,
    StreamPhase::Ready,
    StreamPhase::Live,
    StreamPhase::Idle,
    StreamPhase::Paused,
    StreamPhase::Refused,
    StreamPhase::Terminating,
];

fn event_kind(event: &Event) -> &'static str {
    match event {
        Event::StreamSeen(_) => "stream_seen",
        Event::StreamGone { .. } => "stream_gone",
        Event::PoolSeen(_) => "pool_seen",
        Event::PoolGone { .. } => "pool_gone",
        Event::NodeSeen(_) => "node_seen",
        Event::NodeGone { .. } => "node_gone",
        Event::SecretSeen { .. } => "secret_seen",
        Event::SecretGone { .. } => "secret_gone",
        Event::Listed(_) => "listed",
        Event::Confirmed { .. } => "confirmed",
        Event::AbsenceConfirmed => "absence_confirmed",
        Event::Write { .. } => "write",
        Event::Hello { .. } => "hello",
        Event::Inventory { .. } => "inventory",
        Event::Beat { .. } => "beat",
        Event::Report { .. } => "report",
        Event::SessionClosed { .. } => "session_closed",
        Event::WorkerLost { .. } => "worker_lost",
        Event::Lead { .. } => "lead",
        Event::TermRecorded { .. } => "term_recorded",
        Event::Demoted => "demoted",
        Event::Tick => "tick",
    }
}

fn action_kind(action: &Action) -> &'static str {
    match action {
        Action::WriteStream { .. } => "write_stream",
        Action::WritePool { .. } => "write_pool",
        Action::DeleteStream { .. } => "delete_stream",
        Action::Confirm { .. } => "confirm",
        Action::RecordTerm { .. } => "record_term",
        Action::Command { .. } => "command",
        Action::CloseSession { .. } => "close_session",
        Action::Emit { .. } => "emit",
    }
}

const SOUND: &str = "names and labels are written in this file, each once";

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}

/// From 10 µs to 1 s, in which a plan lies whatever there is.
fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let options =
        HistogramOpts::new(name, help).buckets(vec![1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0]);
    let metric = Histogram::with_opts(options).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}
