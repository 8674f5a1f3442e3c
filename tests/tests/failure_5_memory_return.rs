//! F5: memory that viewers and streams took is given back when they leave. `cargo xtask soak churn` has them come and go oftener, and judges
//! by less.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tests::census;
use tests::eventually::{ensure, eventually, throughout};
use tests::load::{Protocol, Source, Viewers, publish_some};
use tests::rtmp::Connection;
use tests::soak::{bounds, size};
use tests::standalone::{SOON, Standalone, condition, pushed};

/// The ring stays while the stream plays; viewers of the past may leave this much.
const BAND: u64 = 8 << 20;
/// The same where it is judged by less.
const NARROW_BAND: u64 = 2 << 20;
/// And what the allocator says is allocated may be more by this part.
const ALLOCATED_MORE: f64 = 1.01;
const RETURN: Duration = Duration::from_secs(60);
/// Viewers that ask and never read, in each round.
const DEAF: usize = 10;
/// Short streams that are there together.
const BATCH: usize = 20;

/// What a process takes at rest: the least of three seconds, since rings grow and shrink with each group of pictures.
#[derive(Clone, Copy, Debug)]
struct Memory {
    rss: u64,
    /// Of the worker: allocated bytes that are no media.
    beyond: f64,
    parent_rss: u64,
}

impl Memory {
    fn at_rest(standalone: &Standalone) -> Memory {
        let mut least = Memory { rss: u64::MAX, beyond: f64::MAX, parent_rss: u64::MAX };
        let (worker, parent) = (standalone.worker_pid(), standalone.pid());
        throughout("the pages", Duration::from_secs(3), || {
            let allocated = standalone.metric("penstock_memory_bytes", &["\"allocated\""])?;
            let beyond = allocated - standalone.metric("penstock_budget_bytes", &[])?;
            least = Memory {
                rss: least.rss.min(census::rss_bytes(worker)),
                beyond: least.beyond.min(beyond),
                parent_rss: least.parent_rss.min(census::rss_bytes(parent)),
            };
            Ok::<(), String>(())
        });
        least
    }

    /// Waits until memory is as it was.
    #[track_caller]
    fn wait_back(self, standalone: &Standalone) {
        let band = if bounds() { NARROW_BAND } else { BAND };
        let told = eventually("memory back", RETURN, || {
            let now = Memory::at_rest(standalone);
            let told = format!("now {now:?}, before {self:?}");
            let is_back = now.rss <= self.rss + band && now.parent_rss <= self.parent_rss + band;
            let is_freed = !bounds() || now.beyond <= self.beyond * ALLOCATED_MORE;
            ensure(is_back && is_freed, || told.clone()).map(|()| told)
        });
        eprintln!("{told}");
    }
}

#[test]
fn churn_of_viewers_leaves_memory_and_budget_as_they_were() {
    let rounds = size("PENSTOCK_ROUNDS", 10_usize);
    let streams = size("PENSTOCK_STREAMS", 1_usize);
    let viewers_max = size("PENSTOCK_VIEWERS", 100_usize);
    let name = |nth: usize| format!("cam-{nth}");
    let yaml = |nth| pushed(&name(nth), "  publish: {resumeWindow: 1s}\n");
    let files: Vec<(String, String)> = (0..streams).map(|nth| (format!("{nth}.yaml"), yaml(nth))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let standalone = Standalone::start(&files);
    let path = |nth: usize| format!("live/{}", name(nth % streams));
    (0..streams).for_each(|nth| drop(standalone.wait_ready(&path(nth))));
    let worker = standalone.worker_pid();
    let descriptors = standalone.descriptors_at_rest();
    let sources: Vec<Source> = (0..streams).map(|nth| Source::start(standalone.rtmp, &path(nth))).collect();
    (0..streams).for_each(|nth| drop(standalone.wait_live(&path(nth))));
    let mut after_first = None;
    for round in 0..rounds {
        // Up to all of them, half over each protocol.
        let count = viewers_max * (1 + round % 5) / 5 / streams;
        let start = |protocol, to, count: usize| {
            let starts = (0..streams).map(|nth| Viewers::start(protocol, to, &path(nth), count));
            let viewers: Vec<Viewers> = starts.map(|viewers| viewers.expect("it accepts")).collect();
            (viewers, count)
        };
        let (rtmp, flv) = (count / 2, count - count / 2);
        let all =
            [start(Protocol::Rtmp, standalone.rtmp, rtmp), start(Protocol::HttpFlv, standalone.http, flv)];
        for (viewers, count) in &all {
            viewers.iter().for_each(|viewers| viewers.wait_playing(*count, 3 * SOON));
        }
        let deaf: Vec<TcpStream> = (0..DEAF)
            .map(|nth| {
                let mut socket = TcpStream::connect(standalone.http).expect("it accepts");
                write!(socket, "GET /{}.flv HTTP/1.1\r\nHost: x\r\n\r\n", path(nth)).expect("a request fits");
                socket
            })
            .collect();
        eventually("all viewers counted", SOON, || {
            let viewers = standalone.metric("penstock_viewers", &[])?;
            ensure(viewers >= (count * streams + deaf.len()) as f64, || format!("{viewers}"))
        });
        drop((all, deaf));
        eventually("no viewers", SOON, || {
            let viewers = standalone.metric("penstock_viewers", &[])?;
            ensure(viewers == 0.0, || format!("{viewers}"))
        });
        if round == 9.min(rounds / 3) {
            after_first = Some(Memory::at_rest(&standalone));
        }
    }
    after_first.expect("there was a round").wait_back(&standalone);
    eventually("a budget of the rings alone", RETURN, || {
        let used = standalone.metric("penstock_budget_bytes", &[])?;
        let rings = standalone.metric("penstock_stream_ring_bytes", &[])?;
        // The two are looked at one after the other, while a frame may come to each stream.
        ensure((used - rings).abs() <= (streams * 64) as f64 * 1024.0, || format!("{used} of {rings}"))
    });
    assert!(sources.iter().all(Source::runs));
    drop(sources);
    eventually("an empty budget", RETURN, || {
        let used = standalone.metric("penstock_budget_bytes", &[])?;
        ensure(used == 0.0, || format!("{used} bytes"))
    });
    eventually("descriptors as at the start", SOON, || {
        let now = census::descriptors(worker);
        ensure(now <= descriptors, || format!("{now}, at the start {descriptors}"))
    });
}

#[test]
fn short_streams_leave_memory_and_budget_as_they_were() {
    let batches = size("PENSTOCK_SHORT_STREAMS", 200_usize) / BATCH;
    let standalone = Standalone::start(&[]);
    let mut after_first = None;
    for batch in 0..batches {
        let names: Vec<String> = (0..BATCH).map(|nth| format!("short-{batch}-{nth}")).collect();
        for name in &names {
            standalone.write(&format!("{name}.yaml"), &pushed(name, "  publish: {resumeWindow: 1s}\n"));
        }
        wait_all(&standalone, "Ready", BATCH);
        let publish =
            |name: &String| publish_some(standalone.rtmp, &format!("live/{name}"), Duration::from_secs(2));
        let publishers: Vec<Connection> = names.iter().map(publish).collect();
        wait_all(&standalone, "Live", BATCH);
        let viewers = Viewers::start(Protocol::HttpFlv, standalone.http, &format!("live/{}", names[0]), 5);
        viewers.expect("it accepts").wait_playing(5, SOON);
        drop(publishers);
        names.iter().for_each(|name| standalone.remove(&format!("{name}.yaml")));
        wait_all(&standalone, "Accepted", 0);
        if batch == batches / 10 {
            after_first = Some(Memory::at_rest(&standalone));
        }
    }
    after_first.expect("there was a batch").wait_back(&standalone);
    assert_eq!(standalone.metric("penstock_budget_bytes", &[]), Ok(0.0));
}

/// Waits until so many streams have this condition.
#[track_caller]
fn wait_all(standalone: &Standalone, kind: &str, count: usize) {
    eventually(&format!("{count} streams {kind}"), SOON, || {
        let list = standalone.page("/streams")?;
        let items = list["items"].as_array().ok_or("no List")?;
        let there = items.iter().filter(|stream| condition(stream, kind) == "True").count();
        ensure(there == count, || format!("{there} of {}", items.len()))
    });
}
