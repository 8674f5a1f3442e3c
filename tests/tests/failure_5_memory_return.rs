//! F5: memory that viewers took is given back when they leave.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tests::census;
use tests::eventually::{ensure, eventually};
use tests::load::{Protocol, Source, Viewers};
use tests::standalone::{SOON, Standalone, pushed};

const VIEWERS: usize = 100;
/// The ring stays while the stream plays; viewers of the past may leave this much.
const BAND: u64 = 8 << 20;
const RETURN: Duration = Duration::from_secs(60);

#[test]
fn churn_of_viewers_leaves_memory_and_budget_as_they_were() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", "  publish: {resumeWindow: 1s}\n"))]);
    standalone.wait_ready("live/cam");
    let worker = standalone.worker_pid();
    let descriptors = standalone.descriptors_at_rest();
    let source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    let (mut after_first, mut last) = (None, 0);
    for round in 0..10 {
        let fast =
            Viewers::start(Protocol::Rtmp, standalone.rtmp, "live/cam", VIEWERS / 2).expect("it accepts");
        let flv =
            Viewers::start(Protocol::HttpFlv, standalone.http, "live/cam", VIEWERS / 2).expect("it accepts");
        fast.wait_playing(VIEWERS / 2, SOON);
        flv.wait_playing(VIEWERS / 2, SOON);
        // Slow ones: they ask and never read.
        let slow: Vec<TcpStream> = (0..10)
            .map(|_| {
                let mut socket = TcpStream::connect(standalone.http).expect("it accepts");
                write!(socket, "GET /live/cam.flv HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request fits");
                socket
            })
            .collect();
        eventually("all viewers counted", SOON, || {
            let viewers = standalone.metric("penstock_viewers", &[])?;
            ensure(viewers >= (VIEWERS + slow.len()) as f64, || format!("{viewers}"))
        });
        drop((fast, flv, slow));
        eventually("no viewers", SOON, || {
            let viewers = standalone.metric("penstock_viewers", &[])?;
            ensure(viewers == 0.0, || format!("{viewers}"))
        });
        last = census::rss_bytes(worker);
        if round == 2 {
            after_first = Some(last);
        }
    }
    let after_first = after_first.expect("there were three rounds");
    eventually("memory back", RETURN, || {
        let now = census::rss_bytes(worker);
        let bound = after_first + BAND;
        ensure(now <= bound, || {
            format!("{} KiB, bound {} KiB, last round {} KiB", now >> 10, bound >> 10, last >> 10)
        })
    });
    drop(source);
    eventually("an empty budget", RETURN, || {
        let used = standalone.metric("penstock_budget_bytes", &[])?;
        ensure(used == 0.0, || format!("{used} bytes"))
    });
    eventually("descriptors as at the start", SOON, || {
        let now = census::descriptors(worker);
        ensure(now <= descriptors, || format!("{now}, at the start {descriptors}"))
    });
}
