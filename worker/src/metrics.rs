//! Metrics, built anew for each scrape from what the threads count. So a stream's series are gone with the stream.

use media::rtp::Dropped;
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use tikv_jemalloc_ctl::{epoch, stats};

use crate::admin::Admin;
use crate::counters::{Counters, DropReason};
use crate::limits::STREAM_SERIES_MAX;
use crate::log;
use crate::rtp::dial::DialFailure;
use crate::rtp::stats::RtpCounters;
use crate::scan::Protocol;
use crate::shard::{ShardSnapshot, StreamSnapshot};

/// The page in the text format. A shard that did not answer has its process-wide numbers, and none of its streams'.
pub(crate) fn text(admin: &Admin, snapshots: &[Option<ShardSnapshot>]) -> prometheus::Result<String> {
    let page = Page { registry: Registry::new() };
    page.media(admin)?;
    page.drops(admin)?;
    page.process(admin)?;
    page.canaries(admin)?;
    page.streams(admin, snapshots)?;
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
}

impl Page {
    fn media(&self, admin: &Admin) -> prometheus::Result<()> {
        let sum = |read: fn(&Counters) -> u64| {
            admin.shards.iter().map(|shard| read(&shard.counters)).chain([read(&admin.front)]).sum()
        };
        self.gauge("penstock_viewers", "Viewers, waiting ones too.", sum(|c| c.viewers.value()))?;
        self.gauge(
            "penstock_worker_streams",
            "Streams assigned to this worker.",
            sum(|c| c.streams.value()),
        )?;
        self.counter(
            "penstock_frames_in_total",
            "Frames taken from publishers.",
            sum(|c| c.frames_in.value()),
        )?;
        self.counter("penstock_bytes_in_total", "Bytes read from publishers.", sum(|c| c.bytes_in.value()))?;
        self.counter("penstock_bytes_out_total", "Bytes written to viewers.", sum(|c| c.bytes_out.value()))?;
        self.counter("penstock_sends_total", "Writes to viewers' sockets.", sum(|c| c.sends.value()))?;
        self.counter("penstock_accepted_total", "Connections accepted.", sum(|c| c.accepted.value()))?;
        let panics = sum(|c| c.session_panics.value()) + admin.rtp.total().panics;
        self.counter("penstock_session_panics_total", "Sessions ended by a panic of their own.", panics)?;
        self.counter(
            "penstock_rtp_packets_total",
            "RTP packets of sources that hold a stream.",
            admin.rtp.total().packets,
        )
    }

    fn drops(&self, admin: &Admin) -> prometheus::Result<()> {
        let dropped = self.counters("penstock_dropped_total", "What was dropped, by reason.", &["reason"])?;
        let counters = || admin.shards.iter().map(|shard| &shard.counters).chain([&admin.front]);
        for reason in DropReason::ALL {
            let count = counters().map(|counters| counters.dropped(reason)).sum();
            dropped.with_label_values(&[reason.as_str()]).inc_by(count);
        }
        let rtp: RtpCounters = admin.rtp.total();
        for reason in Dropped::ALL {
            dropped.with_label_values(&[&camel_case(reason.name())]).inc_by(rtp.dropped(reason));
        }
        // RTP has the same reason as front and shards here.
        dropped.with_label_values(&[DropReason::Denied.as_str()]).inc_by(rtp.denied);
        let dials = self.counters(
            "penstock_dial_failures_total",
            "Times that a device of a TCPActive stream was not connected to, or sent nothing of use.",
            &["reason"],
        )?;
        for reason in DialFailure::ALL {
            dials.with_label_values(&[reason.as_str()]).inc_by(rtp.dial_failures(reason));
        }
        let unknown = self.counters(
            "penstock_rtp_shared_unknown_total",
            "Datagrams, and over TCP connections, of an SSRC that no stream on the shared rtp port has.",
            &["transport"],
        )?;
        for (transport, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
            unknown.with_label_values(&[transport]).inc_by(admin.routes.unknown(protocol));
        }
        self.counter(
            "penstock_log_lines_dropped_total",
            "Log lines that standard error did not take.",
            log::dropped(),
        )
    }

    fn process(&self, admin: &Admin) -> prometheus::Result<()> {
        self.gauge("penstock_budget_bytes", "Media bytes in memory.", admin.budget.used())?;
        self.gauge(
            "penstock_budget_bytes_max",
            "The most that penstock_budget_bytes may be.",
            admin.budget.bytes_max(),
        )?;
        let memory =
            self.gauges("penstock_memory_bytes", "What the allocator says of the process.", &["kind"])?;
        // Without jemalloc, as in tests, there is nothing to read.
        if epoch::advance().is_ok() {
            let read = [
                ("allocated", stats::allocated::read()),
                ("active", stats::active::read()),
                ("metadata", stats::metadata::read()),
                ("resident", stats::resident::read()),
                ("retained", stats::retained::read()),
            ];
            for (kind, bytes) in read {
                if let Ok(bytes) = bytes {
                    memory.with_label_values(&[kind]).set(bytes as i64);
                }
            }
        }
        let ages =
            self.gauges("penstock_tick_age_milliseconds", "Time since a thread's last tick.", &["thread"])?;
        for pulse in &admin.pulses {
            ages.with_label_values(&[&pulse.thread().to_string()]).set(pulse.age().as_millis() as i64);
        }
        let bound = admin.ports.all().len() as u64;
        self.gauge("penstock_media_sockets", "Media sockets that are open.", bound)?;
        let status = &admin.status;
        self.gauge("penstock_operator_sessions", "Sessions with operators.", status.sessions.value())?;
        self.gauge("penstock_term", "The highest term that was heard.", status.term.value())?;
        self.counter(
            "penstock_bind_failures_total",
            "Ports that could not be bound.",
            status.bind_failures.value(),
        )?;
        self.counter(
            "penstock_host_scan_failures_total",
            "Looks at the host's sockets that failed; operators that ask who holds the ports wait for one that does not.",
            status.scan_failures.value(),
        )?;
        self.counter(
            "penstock_stale_commands_total",
            "Commands of a lower term.",
            status.stale_commands.value(),
        )?;
        self.counter(
            "penstock_invalid_commands_total",
            "Commands that broke the contract.",
            status.invalid_commands.value(),
        )?;
        self.counter(
            "penstock_leaks_closed_total",
            "Media sockets closed that no stream owned.",
            status.leaks.value(),
        )
    }

    fn canaries(&self, admin: &Admin) -> prometheus::Result<()> {
        const LABELS: [&str; 2] = ["shard", "listener"];
        let age = "Time since the media of a canary came, or since the start of the process where none has.";
        let latency = "How long the last media of a canary took: through sessions that are kept on the private listener, from \
                       connecting to the first picture on a public one.";
        let failing =
            "1 where a canary's media has not come several times in a row: the worker is not ready.";
        let ages = self.seconds("penstock_canary_age_seconds", age, &LABELS)?;
        let latencies = self.seconds("penstock_canary_latency_seconds", latency, &LABELS)?;
        let failing = self.gauges("penstock_canary_failing", failing, &LABELS)?;
        for (canary, last) in admin.board.all() {
            let shard = canary.shard.to_string();
            let labels = &[shard.as_str(), canary.listener.as_str()];
            ages.with_label_values(labels).set(admin.board.age(&last).as_secs_f64());
            failing.with_label_values(labels).set(admin.board.is_failing(canary).into());
            if let Some(latency) = last.latency {
                latencies.with_label_values(labels).set(latency.as_secs_f64());
            }
        }
        Ok(())
    }

    fn streams(&self, admin: &Admin, snapshots: &[Option<ShardSnapshot>]) -> prometheus::Result<()> {
        const LABELS: [&str; 2] = ["namespace", "name"];
        let viewers = self.gauges("penstock_stream_viewers", "Viewers of a stream.", &LABELS)?;
        let live = self.gauges("penstock_stream_live", "1 while media flows.", &LABELS)?;
        let ring = self.gauges("penstock_stream_ring_bytes", "Media of a stream in memory.", &LABELS)?;
        let frames =
            self.counters("penstock_stream_frames_in_total", "Frames taken of a stream.", &LABELS)?;
        let bytes =
            self.counters("penstock_stream_bytes_in_total", "Media bytes taken of a stream.", &LABELS)?;
        let lost = self.counters(
            "penstock_stream_rtp_lost_total",
            "RTP packets of a stream that never came.",
            &LABELS,
        )?;
        let rtp = admin.rtp.present();
        let all = snapshots.iter().flatten().flat_map(|snapshot| &snapshot.streams);
        let publishers = all.clone().filter(|stream| stream.publisher.is_some()).count();
        self.gauge("penstock_publishers", "Publishers, of shards that answer.", publishers as u64)?;
        for stream in all.take(STREAM_SERIES_MAX) {
            let StreamSnapshot { assignment, .. } = stream;
            let labels = &[&*assignment.namespace, &*assignment.name];
            viewers.with_label_values(labels).set(stream.viewer_count as i64);
            live.with_label_values(labels).set(stream.live.into());
            ring.with_label_values(labels).set(stream.ring_bytes as i64);
            frames.with_label_values(labels).inc_by(stream.frames_in);
            bytes.with_label_values(labels).inc_by(stream.bytes_in);
            if let Some(counters) = rtp.get(&assignment.stream) {
                lost.with_label_values(labels).inc_by(counters.dropped(Dropped::Lost));
            }
        }
        Ok(())
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        self.gauges(name, help, &[]).map(|gauge| gauge.with_label_values::<&str>(&[]).set(value as i64))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        self.counters(name, help, &[]).map(|counter| counter.with_label_values::<&str>(&[]).inc_by(value))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.registered(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn registered<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

/// `wrong_ssrc` as `WrongSsrc`, so that one label has one style.
fn camel_case(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('_').map(capital).collect()
}
