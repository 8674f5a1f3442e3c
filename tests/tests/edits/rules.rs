//! `spec.publish` and `spec.play`.

use std::io::Read as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::eventually::ensure;
use tests::http::{self, Response};
use tests::load::{Source, publish_some};
use tests::player::Viewer;
use tests::rtmp::Connection;
use tests::standalone::{SOON, Standalone, pushed};
use tests::synthetic::{Synthetic, configs};

use crate::effect::{CAM, Edit, Effect, unseen};
use crate::{Row, Seen};

const PLAYED: &str = "/live/cam.flv";

pub(crate) const ROWS: &[Row] = &[
    Row { field: "mediastreams spec.source.push.protocols", seen: Seen::OneValue },
    Row { field: "mediastreams spec.publish.onDuplicate", seen: Seen::Here(on_duplicate) },
    Row { field: "mediastreams spec.publish.startTimeout", seen: Seen::Here(start_timeout) },
    Row { field: "mediastreams spec.publish.stallTimeout", seen: Seen::Here(stall_timeout) },
    Row { field: "mediastreams spec.publish.resumeWindow", seen: Seen::Here(resume_window) },
    Row { field: "mediastreams spec.publish.tokenSecretRef.name", seen: Seen::Here(publish_token) },
    Row { field: "mediastreams spec.publish.allowedCIDRs", seen: Seen::Here(publish_networks) },
    Row { field: "mediastreams spec.play.protocols", seen: Seen::Here(play_protocols) },
    Row { field: "mediastreams spec.play.latency", seen: Seen::Here(latency) },
    Row { field: "mediastreams spec.play.slowViewer", seen: Seen::Here(slow_viewer) },
    Row { field: "mediastreams spec.play.startTimeout", seen: Seen::Here(play_start_timeout) },
    Row { field: "mediastreams spec.play.tokenSecretRef.name", seen: Seen::Here(play_token) },
    Row { field: "mediastreams spec.play.allowedCIDRs", seen: Seen::Here(play_networks) },
];

/// A pushed stream with these rules.
struct Pushed {
    standalone: Standalone,
}

impl Pushed {
    fn with(publish: &str, play: &str) -> Pushed {
        let standalone = Standalone::start(&[("cam.yaml", &declared(publish, play))]);
        standalone.wait_ready(CAM);
        Pushed { standalone }
    }

    fn source(&self) -> Source {
        let source = Source::start(self.standalone.rtmp, CAM);
        self.standalone.wait_live(CAM);
        source
    }

    fn viewer(&self) -> Viewer {
        let viewer = Viewer::open(self.standalone.http, PLAYED);
        viewer.wait_pictures(1, SOON);
        viewer
    }

    fn edit(
        &self,
        publish: &str,
        play: &str,
        effect: Effect,
        now: &mut dyn FnMut() -> Result<(), String>,
        next: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let files = vec![("cam.yaml", declared(publish, play))];
        Edit { standalone: &self.standalone, files, now, next }.takes_effect(effect)
    }

    /// An edit that keeps publishers out, by these words of the refusal.
    fn keeps_publishers_out(&self, publish: &str, words: &str, effect: Effect) -> Result<(), String> {
        let source = self.source();
        let publishes = || match Connection::try_publish(self.standalone.rtmp, CAM) {
            Ok(_) => Err("another one may publish".to_owned()),
            Err(refusal) => ensure(refusal.contains(words), || refusal.clone()),
        };
        let ended = || ensure(!source.runs(), || "who publishes goes on".to_owned());
        self.edit(publish, "", effect, &mut { ended }, &mut { publishes })
    }

    /// An edit that keeps viewers out, by this status.
    fn keeps_viewers_out(&self, play: &str, status: u16, effect: Effect) -> Result<(), String> {
        let _source = self.source();
        let viewer = self.viewer();
        let plays = || {
            let (answer, _, _) = http::open(self.standalone.http, PLAYED).map_err(|e| e.to_string())?;
            ensure(answer.status == status, || format!("another one is answered {}", answer.status))
        };
        let ended = || ensure(!viewer.plays(), || "who plays goes on".to_owned());
        self.edit("", play, effect, &mut { ended }, &mut { plays })
    }
}

fn declared(publish: &str, play: &str) -> String {
    pushed("cam", &format!("  publish: {{{publish}}}\n  play: {{{play}}}\n"))
}

/// Whether the server has ended a connection.
fn is_ended(connection: &mut Connection) -> Result<(), String> {
    match connection.poll() {
        Ok(()) => Err("it is there".to_owned()),
        Err(_) => Ok(()),
    }
}

fn on_duplicate(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("onDuplicate: Reject", "");
    let source = pushed.source();
    let taken = || {
        let _second = Connection::try_publish(pushed.standalone.rtmp, CAM)?;
        ensure(!source.runs(), || "a second one is taken beside the first".to_owned())
    };
    pushed.edit("onDuplicate: Takeover", "", effect, &mut { taken }, &mut unseen)
}

fn start_timeout(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("startTimeout: 10m", "");
    let mut silent = Connection::publish(pushed.standalone.rtmp, CAM);
    pushed.edit("startTimeout: 100ms", "", effect, &mut || is_ended(&mut silent), &mut unseen)
}

fn stall_timeout(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("stallTimeout: 10m", "");
    let mut silent = publish_some(pushed.standalone.rtmp, CAM, Duration::from_millis(400));
    pushed.edit("stallTimeout: 200ms", "", effect, &mut || is_ended(&mut silent), &mut unseen)
}

fn resume_window(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("resumeWindow: 10m", "");
    let source = pushed.source();
    let viewer = pushed.viewer();
    drop(source);
    pushed
        .standalone
        .wait_stream(CAM, "without a publisher", SOON, |stream| stream["status"]["publisher"].is_null());
    let ended = || ensure(!viewer.plays(), || "the viewer waits".to_owned());
    pushed.edit("resumeWindow: 0s", "", effect, &mut { ended }, &mut unseen)
}

fn publish_token(effect: Effect) -> Result<(), String> {
    // The Secret need not be there: then nobody may.
    Pushed::with("", "").keeps_publishers_out("tokenSecretRef: {name: keys}", "token", effect)
}

fn publish_networks(effect: Effect) -> Result<(), String> {
    Pushed::with("", "").keeps_publishers_out("allowedCIDRs: [192.0.2.0/24]", "allowedCIDRs", effect)
}

fn play_protocols(effect: Effect) -> Result<(), String> {
    Pushed::with("", "").keeps_viewers_out("protocols: [RTMP]", 403, effect)
}

fn play_token(effect: Effect) -> Result<(), String> {
    Pushed::with("", "").keeps_viewers_out("tokenSecretRef: {name: keys}", 401, effect)
}

fn play_networks(effect: Effect) -> Result<(), String> {
    Pushed::with("", "").keeps_viewers_out("allowedCIDRs: [192.0.2.0/24]", 403, effect)
}

fn latency(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("", "latency: Normal");
    let _source = pushed.source();
    let viewer = pushed.viewer();
    // Thirty pictures a second come each by itself, or in three bundles.
    let bundled = || {
        let tags = viewer.seen().tags;
        let last: Vec<Instant> = tags.iter().rev().take(60).map(|(came, _)| *came).collect();
        let pauses = last.windows(2).filter(|two| two[0] - two[1] > Duration::from_millis(200)).count();
        ensure(last.len() == 60 && pauses >= 2, || format!("{pauses} pauses in {} tags", last.len()))
    };
    pushed.edit("", "latency: Bulk", effect, &mut { bundled }, &mut unseen)
}

fn slow_viewer(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("", "slowViewer: SkipToKeyframe");
    let mut source = Connection::publish(pushed.standalone.rtmp, CAM);
    let mut stream = Synthetic::default();
    for frame in configs().into_iter().chain([stream.next_frame()]) {
        source.send(&frame, 0).map_err(|e| e.to_string())?;
    }
    let (_, _, mut slow) = http::open(pushed.standalone.http, PLAYED).map_err(|e| e.to_string())?;
    let mut some = vec![0; 256 * 1024];
    let dropped = || {
        // Two minutes of media at once are more than the ring and the buffers of both sockets hold. Then the viewer reads again, and
        // one more frame has the server look at it.
        let flood = stream.due().max(Duration::from_secs(120));
        while stream.due() <= flood {
            let frame = stream.next_frame();
            source.send(&frame, frame.dts_ms as u32).map_err(|e| e.to_string())?;
        }
        let read = slow.read(&mut some).map_err(|e| e.to_string())?;
        let label = "reason=\"ViewerSlow\"";
        let dropped = pushed.standalone.metric("penstock_dropped_total", &[label])?;
        ensure(dropped > 0.0, || format!("it is not ended, and read {read} bytes"))
    };
    pushed.edit("", "slowViewer: Disconnect", effect, &mut { dropped }, &mut unseen)
}

fn play_start_timeout(effect: Effect) -> Result<(), String> {
    let pushed = Pushed::with("", "startTimeout: 10m");
    let http = pushed.standalone.http;
    let waiting: JoinHandle<Result<Response, String>> = std::thread::spawn(move || {
        http::open(http, PLAYED).map(|(answer, _, _)| answer).map_err(|e| e.to_string())
    });
    let mut waiting = Some(waiting);
    pushed.standalone.wait_stream(CAM, "a viewer that waits", SOON, |_| {
        pushed.standalone.metric("penstock_viewers", &[]).is_ok_and(|viewers| viewers == 1.0)
    });
    let refused = || {
        let answered = waiting.take_if(|waiting| waiting.is_finished()).ok_or("it waits")?;
        let answer = answered.join().expect("it does not panic")?;
        ensure(answer.status == 404, || format!("it is answered {}", answer.status))
    };
    pushed.edit("", "startTimeout: 100ms", effect, &mut { refused }, &mut unseen)
}
