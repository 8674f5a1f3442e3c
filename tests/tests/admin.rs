//! What the admin pages tell: lists, sessions, ports and metrics, and that a stream's series go with it.

use tests::eventually::{ensure, eventually};
use tests::http;
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};

#[test]
fn the_pages_tell_what_goes_on() {
    let ports = Block::take(20);
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("cam.yaml", &pushed("cam", "")),
        ("udp.yaml", &over_rtp("udp", "transport: UDP, ssrc: \"0200000001\"", "")),
    ]);
    let cam = standalone.wait_ready("live/cam");
    let udp = standalone.wait_ready("live/udp");
    let urls = cam["status"]["endpoints"].to_string();
    for url in [standalone.rtmp_url("live/cam"), standalone.flv_url("live/cam")] {
        assert!(urls.contains(&url), "{url} is not among the endpoints: {urls}");
    }
    for page in ["/streams", "/pools", "/events"] {
        let list = standalone.page(page).expect("a page");
        assert!(list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")), "{page}: {list}");
        assert!(list["apiVersion"].is_string() && list["items"].is_array(), "{page}: {list}");
    }
    let _source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    let live = standalone.wait_live("live/cam");
    assert_eq!(live["status"]["publisher"]["codecs"], serde_json::json!(["H264", "AAC"]));
    let page = |path: &str| http::get(standalone.admin, path).expect("the admin page answers");
    let sessions = page("/sessions");
    assert_eq!(sessions.status, 200);
    assert!(sessions.body.contains("live/cam"), "{}", sessions.body);
    let held = page("/ports");
    let rtp = udp["status"]["ports"]["rtp"].to_string();
    assert!(held.status == 200 && held.body.contains(&rtp), "{rtp} is not on /ports: {}", held.body);
    let budget = standalone.page("/budget").expect("a page");
    let owner = &budget["owners"][0];
    assert_eq!((&owner["name"], &budget["ownerCount"]), (&"cam".into(), &1.into()), "{budget}");
    let [held, ring, most] =
        [&owner["heldBytes"], &owner["ringBytes"], &budget["maxBytes"]].map(|it| it.as_u64());
    assert!(ring > Some(0) && ring <= held && held < most, "{budget}");
    assert_eq!(page("/healthz").status, 200);
    assert_eq!(http::get(standalone.health, "/healthz").expect("the health port answers").status, 200);

    for (name, labels) in [
        ("penstock_ports", vec!["pool=\"pool\"", "state=\"leased\""]),
        ("penstock_viewers", vec![]),
        ("penstock_budget_bytes", vec![]),
        ("penstock_dropped_total", vec!["reason="]),
        ("penstock_streams", vec![]),
    ] {
        standalone.metric(name, &labels).unwrap_or_else(|e| panic!("{e}:\n{}", page("/metrics").body));
    }
    assert!(page("/metrics").body.contains("name=\"cam\""), "no series of the stream");
    assert!(!page("/metrics").body.contains("live/cam"), "paths may be keys and are no labels");
    standalone.remove("cam.yaml");
    eventually("the stream's series to go", SOON, || {
        let body = page("/metrics").body;
        let left: Vec<&str> = body.lines().filter(|line| line.contains("name=\"cam\"")).collect();
        ensure(left.is_empty(), || left.join("\n"))
    });
}

#[test]
fn idle_streams_give_their_ports_back_and_a_touch_wakes_them() {
    let ports = Block::take(20);
    let cam = over_rtp("cam", "transport: UDP, ssrc: \"0200000001\"", "  releaseAfterIdle: 1s\n");
    let standalone = Standalone::start(&[("pool.yaml", &pool(&ports.range())), ("cam.yaml", &cam)]);
    standalone.wait_ready("live/cam");
    standalone
        .wait_stream("live/cam", "Idle", SOON, |stream| tests::standalone::reason(stream, "Ready") == "Idle");
    standalone.wait_pool("pool", "whole again", SOON, |pool| pool["status"]["free"] == 20);
    let touched =
        cam.replace("namespace: live}", "namespace: live, annotations: {media.penstock.dev/touch: \"1\"}}");
    standalone.write("cam.yaml", &touched);
    standalone.wait_ready("live/cam");
}

#[test]
fn a_stream_past_its_ttl_is_gone_until_its_file_changes() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", "  ttlAfterIdle: 1s\n"))]);
    eventually("the end of the stream", SOON, || {
        ensure(standalone.object("/streams", "live/cam").is_err(), || "it is there".to_owned())
    });
    standalone.write("cam.yaml", &pushed("cam", "  ttlAfterIdle: 1h\n"));
    standalone.wait_ready("live/cam");
}
