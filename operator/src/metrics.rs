//! The parent's metrics: the ledger, the planner, the writes. Those of media are the worker's.

use std::{sync::Arc, time::Duration};

use operator_core::{
    Action, Counters, Event, PoolPorts, Reason, event::WriteOutcome, panel::Verdict, status::Phase,
};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::asks::Ledger;

/// Handles of all metrics.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    streams: IntGaugeVec,
    unready: IntGaugeVec,
    workers: IntGaugeVec,
    absences_held: IntGauge,
    capacity: IntGaugeVec,
    ports: IntGaugeVec,
    failover_seconds: Histogram,
    events: IntCounterVec,
    actions: IntCounterVec,
    writes: IntCounterVec,
    kube_events: IntCounterVec,
    plan_seconds: Histogram,
    violations: IntCounter,
    sessions: IntGauge,
    leads: IntGauge,
    events_dropped: IntCounter,
    restarts: IntCounter,
    memory: IntGaugeVec,
    incidents: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let inner = Inner {
            streams: gauges(
                &registry,
                "penstock_streams",
                "MediaStreams by phase; told by the replica that leads",
                &["phase"],
            ),
            unready: gauges(
                &registry,
                "penstock_streams_not_ready",
                "MediaStreams that are not Ready by the reason that their condition gives; told by the replica that leads",
                &["reason"],
            ),
            workers: gauges(
                &registry,
                "penstock_workers",
                "Workers by what is known of them: heard, silent, degraded, held or lost; told by the replica that leads",
                &["state"],
            ),
            absences_held: gauge(
                &registry,
                "penstock_absences_held",
                "MediaStreams that go on though the API lacks them, because too many are gone at once to believe it",
            ),
            capacity: gauges(
                &registry,
                "penstock_pool_capacity",
                "Port numbers of a pool on all nodes with a worker; told by the replica that leads",
                &["pool"],
            ),
            ports: gauges(
                &registry,
                "penstock_ports",
                "Port numbers of a pool by state, which without draining sum to the capacity; told by the replica that leads",
                &["pool", "state"],
            ),
            failover_seconds: histogram(
                &registry,
                "penstock_failover_seconds",
                "From the last sign of a worker that is gone to the new one having its stream, for each stream",
                // From what a worker alone takes to what a node takes that comes back.
                &[0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0, 300.0],
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
            plan_seconds: histogram(
                &registry,
                "penstock_operator_plan_seconds",
                "Time that one plan took",
                // From 10 µs to 1 s, in which a plan lies whatever there is.
                &[1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0],
            ),
            violations: counter(
                &registry,
                "penstock_operator_invariant_violations_total",
                "Invariants found broken; anything but 0 is a defect to report",
            ),
            sessions: gauge(&registry, "penstock_worker_sessions", "Open sessions with workers"),
            leads: gauge(
                &registry,
                "penstock_operator_leads",
                "1 where this replica leads and has what it needs to decide",
            ),
            events_dropped: counter(
                &registry,
                "penstock_events_dropped_total",
                "Kubernetes Events that were not made, because too many waited or the API refused them",
            ),
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

    /// A stream's failover has ended, after so long.
    pub(crate) fn failed_over(&self, took: Duration) {
        self.0.failover_seconds.observe(took.as_secs_f64());
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

    /// A Kubernetes Event could not be made.
    pub(crate) fn event_dropped(&self) {
        self.0.events_dropped.inc();
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
    pub(crate) fn text(&self, ledger: Option<&Ledger>) -> String {
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

    /// Totals are computed when they are asked for, never counted up and down.
    fn count_ledger(&self, ledger: &Ledger) {
        self.0.leads.set(i64::from(ledger.leads));
        self.0.absences_held.set(i64::try_from(ledger.absences_held).unwrap_or(i64::MAX));
        let told = [&self.0.streams, &self.0.unready, &self.0.workers, &self.0.capacity, &self.0.ports];
        told.iter().for_each(|metric| metric.reset());
        // What another replica knows better is not told twice.
        if ledger.leads {
            self.tell_state(ledger);
        }
        self.count_incidents(&ledger.counters);
    }

    fn tell_state(&self, ledger: &Ledger) {
        for phase in Phase::ALL {
            set(&self.0.streams, phase.as_str(), ledger.phases.get(&phase));
        }
        for reason in ledger.unready.keys() {
            set(&self.0.unready, reason.as_str(), ledger.unready.get(reason));
        }
        for verdict in Verdict::ALL {
            set(&self.0.workers, verdict.as_str(), ledger.workers.get(&verdict));
        }
        // A pool has a shelf on each node.
        for shelf in &ledger.ports {
            let PoolPorts { pool, node: _, capacity, free, leased, cooling, quarantined, draining } = shelf;
            self.0.capacity.with_label_values(&[pool.as_str()]).add(i64::from(*capacity));
            for (state, count) in [
                ("free", free),
                ("leased", leased),
                ("cooling", cooling),
                ("quarantined", quarantined),
                ("draining", draining),
            ] {
                self.0.ports.with_label_values(&[pool.as_str(), state]).add(i64::from(*count));
            }
        }
    }

    fn count_incidents(&self, counters: &Counters) {
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
        } = *counters;
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
            ("active", stats::active::read()),
            ("metadata", stats::metadata::read()),
            ("resident", stats::resident::read()),
            ("retained", stats::retained::read()),
        ] {
            if let Ok(bytes) = bytes {
                self.0.memory.with_label_values(&[kind]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }
}

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
        Event::ServiceCidrSeen { .. } => "service_cidr_seen",
        Event::ServiceCidrGone { .. } => "service_cidr_gone",
        Event::Listed(_) => "listed",
        Event::Confirmed { .. } => "confirmed",
        Event::Forgotten { .. } => "forgotten",
        Event::AbsenceConfirmed => "absence_confirmed",
        Event::Write { .. } => "write",
        Event::Hello { .. } => "hello",
        Event::Inventory { .. } => "inventory",
        Event::Beat { .. } => "beat",
        Event::Report { .. } => "report",
        Event::SessionClosed { .. } => "session_closed",
        Event::WorkerDegraded { .. } => "worker_degraded",
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

fn set(metric: &IntGaugeVec, label: &str, count: Option<&u64>) {
    let count = count.copied().unwrap_or_default();
    metric.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
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

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = Histogram::with_opts(options).expect(SOUND);
    registry.register(Box::new(metric.clone())).expect(SOUND);
    metric
}
