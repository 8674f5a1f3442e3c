//! F2 replayed: publishers that come twice, publishers and viewers that vanish without a word, peers that stop in the middle of what they
//! say. Each path is free within its own deadline, and health and admin answer all the time. `cargo xtask soak f2` has it last 10 minutes
//! and judges the times.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use media::rtmp::{ClientEvent, Role};
use tests::away::Away;
use tests::eventually::{ensure, eventually};
use tests::hostile::hello;
use tests::http;
use tests::load::{self, Source};
use tests::player::Viewer;
use tests::rtmp::Connection;
use tests::soak::{StopOnDrop, bounds, size};
use tests::standalone::{SOON, Standalone, pushed};
use tests::synthetic::gapless;

/// A holder that was heard within this keeps its path (limits.rs of media).
const HEARD: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(3);
/// From connecting to the end of the request (limits.rs of rtmp and of the worker), and to read why not.
const REQUEST: Duration = Duration::from_secs(10 + 2);
/// What a viewer may take nothing for, asked once more where it is silent (limits.rs of the worker).
const STUCK: Duration = Duration::from_secs(30 + 10);
/// How late any of them may be: a sweep of 100 ms or 500 ms, and the way to the status.
const LATE: Duration = Duration::from_secs(1);
/// Within which pages answer.
const ANSWER: Duration = Duration::from_millis(200);

/// The longest of what was measured, by what it is, with its bound.
#[derive(Default)]
struct Measured(Mutex<Vec<(&'static str, Duration, Duration)>>);

impl Measured {
    fn note(&self, what: &'static str, bound: Duration, took: Duration) {
        let mut all = self.0.lock().expect("nobody panics with the lock");
        match all.iter_mut().find(|(of, _, _)| *of == what) {
            Some((_, _, longest)) => *longest = took.max(*longest),
            None => all.push((what, bound, took)),
        }
    }

    fn tell_and_judge(self) {
        let all = self.0.into_inner().expect("nobody panics with the lock");
        for (what, bound, longest) in &all {
            eprintln!("{what}: {} ms at the longest, bound {} ms", longest.as_millis(), bound.as_millis());
        }
        if bounds() {
            let late = all.iter().filter(|(_, bound, longest)| longest > bound).count();
            assert_eq!(late, 0, "some took too long");
        }
    }
}

#[test]
fn each_path_is_free_by_its_deadline_and_pages_answer_whatever_peers_do() {
    let time = Duration::from_secs(size("PENSTOCK_SECONDS", 5));
    let policy =
        |more: &str| format!("  publish: {{startTimeout: 2s, stallTimeout: 3s, resumeWindow: 1s{more}}}\n");
    let files = [
        ("contested.yaml", pushed("contested", &policy(""))),
        ("taken.yaml", pushed("taken", &policy(", onDuplicate: Takeover"))),
        ("stalled.yaml", pushed("stalled", &policy(""))),
        ("mute.yaml", pushed("mute", &policy(""))),
        ("steady.yaml", pushed("steady", "")),
    ];
    let standalone =
        Standalone::start_everywhere(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    for name in ["contested", "taken", "stalled", "mute", "steady"] {
        standalone.wait_ready(&format!("live/{name}"));
    }
    let descriptors = standalone.descriptors_at_rest();
    let _source = Source::start(standalone.rtmp, "live/steady");
    let steady = Viewer::open(standalone.http, "/live/steady.flv");
    let (measured, stop) = (Measured::default(), AtomicBool::new(false));
    // Kept until nobody speaks to them any more.
    let mut gone: VecDeque<(Instant, Away)> = VecDeque::new();
    let mut rounds = 0;
    std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        scope.spawn(|| ask_for_pages(&standalone, &measured, &stop));
        scope.spawn(|| stop_halfway(&standalone, &measured, &stop));
        let begun = Instant::now();
        while begun.elapsed() < time {
            let away = vanish(&standalone, &measured);
            gone.push_back((Instant::now(), away));
            rounds += 1;
            while gone.front().is_some_and(|(since, _)| since.elapsed() > STUCK + SOON) {
                gone.pop_front();
            }
        }
    });
    eprintln!("{rounds} rounds");
    assert_eq!(gapless(&steady.media()), Ok(()), "one who has to do with nobody of them loses nothing");
    if bounds() {
        let last = Instant::now();
        eventually("all viewers that vanished to be gone", STUCK + SOON, || {
            let viewers = standalone.metric("penstock_viewers", &[])?;
            ensure(viewers == 1.0, || format!("{viewers}"))
        });
        measured.note("viewers that vanished, gone", STUCK + LATE, last.elapsed());
        drop((steady, _source));
        let now = standalone.descriptors_at_rest();
        assert!(now <= descriptors, "{now} descriptors, {descriptors} at the start");
    }
    measured.tell_and_judge();
}

/// Asks for one page after the other.
fn ask_for_pages(standalone: &Standalone, measured: &Measured, stop: &AtomicBool) {
    let Standalone { health, admin, .. } = *standalone;
    let pages = [
        ("health", health, "/healthz"),
        ("health", health, "/livez"),
        ("admin", admin, "/streams"),
        ("admin", admin, "/pools"),
        ("admin", admin, "/sessions"),
        ("admin", admin, "/metrics"),
    ];
    for (what, to, path) in pages.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let asked = Instant::now();
        http::get(to, path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
        measured.note(what, ANSWER, asked.elapsed());
        // Nothing is waited for: this is how often pages are asked for.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Connects and says a part of what is to be said, and waits until it is hung up on.
fn stop_halfway(standalone: &Standalone, measured: &Measured, stop: &AtomicBool) {
    let hello = hello();
    let parts: [(SocketAddr, &[u8]); 7] = [
        (standalone.rtmp, &[]),
        (standalone.rtmp, &hello[..1]),
        (standalone.rtmp, &hello[..800]),
        // S0, S1 and S2 come, and no C2.
        (standalone.rtmp, &hello),
        (standalone.http, &[]),
        (standalone.http, b"GET /live/st"),
        (standalone.http, b"GET /live/steady.flv HTTP/1.1\r\nHost: x\r\nUser-Agent"),
    ];
    while !stop.load(Ordering::Relaxed) {
        let open = parts.map(|(to, part)| {
            let connected = Instant::now();
            let mut socket = TcpStream::connect(to).expect("the listener accepts");
            socket.write_all(part).expect("it fits");
            (connected, socket)
        });
        for (connected, mut socket) in open {
            socket.set_read_timeout(Some(REQUEST + SOON)).expect("a timeout");
            let mut rest = Vec::new();
            // A reset is an end, too.
            let ended = socket.read_to_end(&mut rest);
            assert!(
                !ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
                "a peer that stopped halfway is kept"
            );
            measured.note("a peer that stopped halfway, hung up on", REQUEST + LATE, connected.elapsed());
        }
    }
}

/// Publishers and viewers elsewhere, of whom nothing is heard any more from one moment on; each of their paths must be free again.
fn vanish(standalone: &Standalone, measured: &Measured) -> Away {
    let away = Away::make();
    let rtmp = SocketAddr::from((away.here(), standalone.rtmp.port()));
    let http = SocketAddr::from((away.here(), standalone.http.port()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = StopOnDrop(&stop);
        for path in ["live/contested", "live/taken", "live/stalled"] {
            let publisher = away.go(|| Connection::publish(rtmp, path));
            let stop = &stop;
            scope.spawn(move || load::stream(publisher, stop));
        }
        let viewers =
            away.go(|| ["/live/steady.flv", "/live/contested.flv"].map(|path| Viewer::open(http, path)));
        let players = away.go(|| {
            ["live/steady", "live/steady"].map(|path| {
                let mut player = Connection::open(Role::Play, rtmp, path).expect("the listener accepts");
                let frame = |event| matches!(event, ClientEvent::Frame(_)).then_some(());
                player.wait(SOON, frame).expect("it plays");
                player
            })
        });
        let [playing, mut paused] = players;
        paused.pause().expect("it is taken");
        viewers.iter().for_each(|viewer| viewer.wait_pictures(10, SOON));
        for _ in 0..5 {
            let refusal = Connection::try_publish(standalone.rtmp, "live/contested").map(drop);
            assert!(refusal.as_ref().is_err_and(|why| why.contains("BadName")), "{refusal:?}");
        }
        let mute = away.go(|| Connection::publish(rtmp, "live/mute"));
        let accepted = Instant::now();
        away.cut();
        let cut = Instant::now();
        // What they still say, a goodbye too, is lost.
        stop.store(true, Ordering::Relaxed);
        scope.spawn(move || {
            come_back(standalone, "live/contested");
            measured.note("a newcomer where the holder vanished, taken", HEARD + LATE, cut.elapsed());
        });
        scope.spawn(move || {
            come_back(standalone, "live/taken");
            measured.note("a newcomer that takes over, taken", LATE, cut.elapsed());
        });
        scope.spawn(move || {
            wait_free(standalone, "live/stalled", STALL);
            measured.note("a path whose publisher vanished, free", STALL + LATE, cut.elapsed());
        });
        wait_free(standalone, "live/mute", START);
        measured.note("a path whose publisher never began, free", START + LATE, accepted.elapsed());
        drop((mute, viewers, paused, playing));
    });
    away
}

/// Publishes where another is that vanished, and leaves.
fn come_back(standalone: &Standalone, path: &str) {
    let mut newcomer = eventually(&format!("a newcomer of {path} to be taken"), HEARD + SOON, || {
        Connection::try_publish(standalone.rtmp, path)
    });
    newcomer.stop().expect("it is taken");
    wait_free(standalone, path, Duration::ZERO);
}

/// Waits until nobody publishes a path.
fn wait_free(standalone: &Standalone, path: &str, within: Duration) {
    standalone.wait_stream(path, "without a publisher", within + SOON, |stream| {
        stream["status"]["publisher"].is_null()
    });
}
