//! The tools for people, `doctor`, `why` and `kick`, against the running product: what they say is so, and what they do is done.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use serde_json::Value;
use tests::eventually::{ensure, eventually};
use tests::http;
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::rtmp::Connection;
use tests::standalone::{SOON, Standalone, binary, over_rtp, pool, pushed};

/// What a tool said, and whether it found all well.
struct Said {
    text: String,
    is_well: bool,
}

/// Runs a tool to its end: each of its questions has a deadline of its own.
#[track_caller]
fn tool(arguments: &[&str]) -> Said {
    let run = Command::new(binary()).args(arguments).output().expect("the binary can be started");
    let text = String::from_utf8(run.stdout).expect("it says text");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(errors.is_empty(), "{arguments:?} wrote to standard error: {errors}");
    match run.status.code() {
        Some(0) => Said { text, is_well: true },
        Some(1) => Said { text, is_well: false },
        other => panic!("{arguments:?} ended with {other:?}:\n{text}"),
    }
}

impl Said {
    #[track_caller]
    fn has(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.text.contains(part), "{part:?} is not in:\n{}", self.text);
        }
        self
    }
}

/// What `doctor` says of holders of ports, as (level, what, remedy).
#[track_caller]
fn holders(arguments: &[&str]) -> Vec<(String, String, String)> {
    let said = tool(&[&["doctor", "--output", "json"][..], arguments].concat());
    let json: Value = serde_json::from_str(&said.text).expect("it says JSON");
    let findings = json["findings"].as_array().expect("a list");
    let wrong = findings.iter().any(|finding| finding["level"] == "wrong");
    assert_eq!((json["well"] == true, said.is_well), (!wrong, !wrong), "{json}");
    let of_holders = findings.iter().filter(|finding| finding["subject"] == "holders of ports");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("text").to_owned();
    of_holders.map(|it| (text(it, "level"), text(it, "what"), text(it, "remedy"))).collect()
}

/// As `/proc/PID/comm` has it.
fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").expect("/proc is there").trim().to_owned()
}

#[test]
fn doctor_names_who_holds_a_number_of_a_folders_pool() {
    let ports = Block::take(4);
    let folder = tests::running::Folder::new("doctor");
    std::fs::write(folder.file("pool.yaml"), pool(&ports.range())).expect("a new folder can be filled");
    let dir = folder.path().to_str().expect("paths are UTF-8");
    let before = holders(&[dir]);
    assert!(before.len() == 1 && before[0].0 == "fine", "{before:?}");

    let port = ports.first() + 1;
    let thief = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the number is free");
    let found = holders(&[dir]);
    let [(level, what, remedy)] = &found[..] else { panic!("one number is held: {found:?}") };
    assert_eq!(level, "wrong");
    assert_eq!(*what, format!("port {port}/TCP of the PortPool pool is held by the process {}", own_name()));
    assert!(remedy.contains(&format!("list {port} in spec.reserved of pool")), "{remedy}");
    assert!(remedy.contains(&format!("ss -ltnpe 'sport = :{port}'")), "{remedy}");
    drop(thief);
    assert_eq!(holders(&[dir]), before);
}

#[test]
fn doctor_tells_what_is_wrong_with_a_folders_files() {
    let folder = tests::running::Folder::new("doctor");
    let backwards = pool(&(20_000..=20_010)).replace("start: 20000", "start: 20020");
    std::fs::write(folder.file("pool.yaml"), backwards).expect("a new folder can be filled");
    let said = tool(&["doctor", folder.path().to_str().expect("paths are UTF-8")]);
    assert!(!said.is_well);
    said.has(&["pool.yaml: PortPool pool: spec.ranges", "correct what is named"]);
}

#[test]
fn doctor_tells_a_thief_from_the_worker_that_runs() {
    let ports = Block::take(4);
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("cam.yaml", &over_rtp("cam", "transport: UDP, ssrc: \"0200000001\"", "")),
    ]);
    let cam = standalone.wait_ready("live/cam");
    let leased = cam["status"]["ports"]["rtp"].as_u64().expect("a number");
    let admin = standalone.admin.to_string();
    let well = holders(&["--admin", &admin]);
    assert!(well.len() == 1 && well[0].0 == "fine", "{well:?}");
    assert!(well[0].1.contains("but penstock, which has 2"), "{well:?}");

    let other = ports.range().find(|port| u64::from(*port) / 2 != leased / 2).expect("a pair is free");
    let _thief = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, other)).expect("the number is free");
    let expected = format!("port {other}/UDP of the PortPool pool is held by the process {}", own_name());
    let found = holders(&["--admin", &admin]);
    assert_eq!(found.iter().map(|(_, what, _)| what).collect::<Vec<_>>(), [&expected]);
    // The worker alone knows no pools, but what it is told to watch.
    let worker = format!("127.0.0.1:{}", admin_port_of_the_worker(&standalone));
    let found = holders(&["--admin", &worker]);
    assert!(found.len() == 1 && found[0].1.contains(&format!("port {other}/UDP")), "{found:?}");
}

/// From the worker's first line.
#[track_caller]
fn admin_port_of_the_worker(standalone: &Standalone) -> u16 {
    eventually("the worker's line about its ports", SOON, || {
        let log = standalone.log();
        let plain: String = without_colours(&log);
        let port = plain.split("admin_port=").nth(1).and_then(|rest| rest.split_whitespace().next());
        port.and_then(|port| port.parse().ok()).ok_or(log)
    })
}

fn without_colours(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

#[track_caller]
fn why(standalone: &Standalone, stream: &str, more: &[&str]) -> Said {
    tool(&[&["why", stream, "--admin", &standalone.admin.to_string()][..], more].concat())
}

/// Asks until it says so, and says it as it is asked to.
#[track_caller]
fn wait_why(standalone: &Standalone, stream: &str, sentence: &str) -> Said {
    eventually(&format!("why {stream}: {sentence}"), SOON, || {
        let said = why(standalone, stream, &[]);
        if said.text.contains(sentence) { Ok(said) } else { Err(said.text) }
    })
}

#[test]
fn why_explains_an_exhausted_pool_until_it_has_grown() {
    let ports = Block::take(4);
    let range = |last: u16| pool(&(ports.first()..=last));
    let camera = |name: &str| over_rtp(name, "transport: UDP, ssrc: \"0200000001\"", "");
    let standalone = Standalone::start(&[("pool.yaml", &range(ports.first() + 1)), ("a.yaml", &camera("a"))]);
    standalone.wait_ready("live/a");
    standalone.write("b.yaml", &camera("b"));
    let said =
        wait_why(&standalone, "live/b", "live/b does not play: no number of its PortPool pool is free");
    assert!(!said.is_well);
    said.has(&["(PoolExhausted)", "namespace live holds most, 2 numbers", "Grow spec.ranges"]);
    // The pool's own status follows within a second.
    wait_why(&standalone, "live/b", "0 free + 2 leased");
    standalone.write("pool.yaml", &range(ports.last()));
    wait_why(&standalone, "live/b", "live/b does not play: nobody publishes it (NoPublisher)")
        .has(&["Invite the device to send PS in RTP to udp://127.0.0.1:", "the SSRC 0200000001"]);
}

#[test]
fn why_follows_a_stream_from_its_first_mistake_to_its_picture() {
    let standalone = Standalone::start(&[]);
    why(&standalone, "live/cam", &[]).has(&["There is no MediaStream live/cam."]);
    standalone.write("cam.yaml", &pushed("cam", "  path: /live/cam\n"));
    let said = wait_why(&standalone, "live/cam", "its file is refused");
    said.has(&[
        "cam.yaml (InvalidSpec)",
        "The operator says: spec.path",
        "Correct what is named in that file",
    ]);
    standalone.write("cam.yaml", &pushed("cam", "  paused: true\n"));
    wait_why(&standalone, "live/cam", "it is paused (Paused)").has(&["Set spec.paused to false."]);
    standalone.write("cam.yaml", &pushed("cam", ""));
    let said = wait_why(&standalone, "live/cam", "nobody publishes it (NoPublisher)");
    assert!(!said.is_well);
    said.has(&[&format!("Publish to {}", standalone.rtmp_url("live/cam"))]);
    why(&standalone, "live/cma", &[]).has(&["There is no MediaStream live/cma; there is live/cam."]);

    let _source = Source::start(standalone.rtmp, "live/cam");
    let said = wait_why(&standalone, "live/cam", "live/cam plays: media comes from 127.0.0.1:");
    assert!(said.is_well);
    said.has(&[&standalone.flv_url("live/cam"), "0 viewers"]);
    let url = standalone.flv_url("live/cam1").replace(".flv", "");
    let said = why(&standalone, "live/cam", &["--url", &url]);
    assert!(!said.is_well);
    said.has(&["(WrongURL)", "its path is live/cam1, that of the stream is live/cam", "ends with .flv"]);
    assert!(why(&standalone, "live/cam", &["--url", &standalone.flv_url("live/cam")]).is_well);
    let json: Value = serde_json::from_str(&why(&standalone, "live/cam", &["--output", "json"]).text)
        .expect("it says JSON");
    assert_eq!((&json["plays"], &json["reason"]), (&true.into(), &"Media".into()));
}

#[test]
fn a_tool_that_reaches_nobody_says_how_it_would() {
    let ports = Block::take(1);
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first())).to_string();
    for arguments in [["why", "live/cam"], ["kick", "live/cam"]] {
        let said = tool(&[&arguments[..], &["--admin", &admin]].concat());
        assert!(!said.is_well);
        said.has(&[&admin, "can't connect"]);
    }
}

#[track_caller]
fn kick(standalone: &Standalone, stream: &str, more: &[&str]) -> Said {
    tool(&[&["kick", stream, "--admin", &standalone.admin.to_string()][..], more].concat())
}

#[test]
fn kick_ends_a_publisher_and_its_path_is_free_while_viewers_stay() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    kick(&standalone, "live/cam", &[]).has(&["nobody publishes live/cam"]);
    let source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    let said = kick(&standalone, "live/cam", &[]);
    assert!(said.is_well);
    said.has(&["live/cam: the publisher 127.0.0.1:", "(RTMP) of live/cam is ended", "The path is free"]);
    eventually("the end of the publisher", SOON, || ensure(!source.runs(), || "it publishes".to_owned()));
    let _second = Connection::publish(standalone.rtmp, "live/cam");
    assert!(viewer.plays(), "viewers stay for resumeWindow");
    let log = without_colours(&standalone.log());
    assert!(log.contains("kicked by a person") && log.contains("reason=\"Kicked\""), "{log}");
}

#[test]
fn kick_ends_viewers_and_leaves_the_publisher() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let source = Source::start(standalone.rtmp, "live/cam");
    let viewers = [1, 2].map(|_| Viewer::open(standalone.http, "/live/cam.flv"));
    viewers.iter().for_each(|viewer| viewer.wait_pictures(10, SOON));
    let said = kick(&standalone, "live/cam", &["--viewers"]);
    assert!(said.is_well);
    said.has(&["live/cam: 2 viewers of live/cam are ended"]);
    viewers.iter().for_each(|viewer| viewer.wait_end(SOON));
    assert!(source.runs());
    Viewer::open(standalone.http, "/live/cam.flv").wait_pictures(10, SOON);
}

#[test]
fn kick_is_refused_where_it_means_nothing_or_comes_from_a_browser() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let said = kick(&standalone, "live/other", &[]);
    assert!(!said.is_well);
    said.has(&["live/other: the worker has no such stream"]);
    let worker = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port_of_the_worker(&standalone)));
    let body = r#"{"namespace": "live", "name": "cam", "whom": "publisher"}"#;
    for admin in [standalone.admin, worker] {
        // What a page elsewhere may send without asking.
        let plain = http::request(admin, "POST", "/kick", &["Content-Type: text/plain"], body);
        assert_eq!(plain.expect("it answers").status, 415);
        assert_eq!(http::post(admin, "/kick", body).expect("it answers").status, 200);
        assert_eq!(http::post(admin, "/kick", "{}").expect("it answers").status, 400);
        assert_eq!(http::get(admin, "/kick").expect("it answers").status, 405);
    }
}
