//! F4: a pool is edited while streams play: growth serves who waits, shrink waits for who is there, nobody loses a frame.

use std::time::Duration;

use serde_json::Value;
use tests::census;
use tests::clips::{self, h264_aac};
use tests::nal::{Media, Times, same_from_first_key};
use tests::player::Viewer;
use tests::ports::Block;
use tests::publisher;
use tests::running::Running;
use tests::standalone::{SOON, Standalone, condition, over_rtp, pool, pushed, reason};

const STREAMS: usize = 10;

#[test]
fn growth_and_shrink_disturb_nobody() {
    let ports = Block::take(40);
    // Two numbers at first: the third stream waits.
    let (first, last) = (ports.first(), ports.last());
    let mut files = vec![("pool.yaml".to_owned(), pool(&(first..=first + 1)))];
    for nth in 0..STREAMS {
        files.push((
            format!("cam{nth}.yaml"),
            pushed(&format!("cam{nth}"), "  publish: {resumeWindow: 1s}\n"),
        ));
    }
    let rtp = |nth: usize| {
        over_rtp(&format!("rtp{nth}"), &format!("transport: TCPPassive, ssrc: \"020000000{nth}\""), "")
    };
    files.extend((0..2).map(|nth| (format!("rtp{nth}.yaml"), rtp(nth))));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let standalone = Standalone::start(&files);
    let pids = (standalone.pid(), standalone.worker_pid());
    let held: Vec<Value> = (0..2).map(|nth| standalone.wait_ready(&format!("live/rtp{nth}"))).collect();

    let clip = h264_aac(30);
    let file = standalone.folder.file("original.flv");
    clips::as_flv(clip, &file);
    let original = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    let mut publishers: Vec<Running> = (0..STREAMS)
        .map(|nth| {
            let path = format!("live/cam{nth}");
            standalone.wait_ready(&path);
            let url = standalone.rtmp_url(&path);
            publisher::ffmpeg(&standalone.folder, clip, publisher::Times::Once, &url)
        })
        .collect();
    let viewers: Vec<Viewer> = (0..STREAMS)
        .map(|nth| {
            standalone.wait_live(&format!("live/cam{nth}"));
            Viewer::open(standalone.http, &format!("/live/cam{nth}.flv"))
        })
        .collect();
    let epochs = |standalone: &Standalone| -> Vec<Value> {
        let epoch = |nth: usize| {
            standalone
                .object("/streams", &format!("live/cam{nth}"))
                .map(|stream| stream["status"]["epoch"].clone())
        };
        (0..STREAMS).map(|nth| epoch(nth).expect("it is there")).collect()
    };
    let before = epochs(&standalone);

    standalone.write("rtp2.yaml", &rtp(2));
    let waiting = standalone
        .wait_stream("live/rtp2", "to wait", SOON, |stream| condition(stream, "PortsAllocated") == "False");
    assert_eq!(reason(&waiting, "PortsAllocated"), "PoolExhausted");
    standalone.wait_pool("pool", "Exhausted", SOON, |pool| condition(pool, "Exhausted") == "True");
    standalone.write("pool.yaml", &pool(&(first..=last)));
    standalone.wait_ready("live/rtp2");
    let grown = standalone.wait_pool("pool", "grown", SOON, |pool| pool["status"]["capacity"] == 40);
    assert_ne!(condition(&grown, "Exhausted"), "True");

    // Shrunk away from under the first two, which stay where they are until they end by themselves.
    standalone.write("pool.yaml", &pool(&(first + 2..=last)));
    let draining = standalone.wait_pool("pool", "draining", SOON, |pool| pool["status"]["draining"] == 2);
    assert_eq!(condition(&draining, "Draining"), "True");
    assert_eq!(draining["status"]["capacity"], 38);
    for (nth, held) in held.iter().enumerate() {
        let now = standalone.object("/streams", &format!("live/rtp{nth}")).expect("it is there");
        assert_eq!(now["status"]["ports"], held["status"]["ports"]);
        assert_eq!(now["status"]["epoch"], held["status"]["epoch"]);
    }
    standalone.remove("rtp0.yaml");
    standalone.remove("rtp1.yaml");
    let drained = standalone.wait_pool("pool", "drained", SOON, |pool| pool["status"]["draining"] == 0);
    assert_ne!(condition(&drained, "Draining"), "True");

    for publisher in &mut publishers {
        publisher.wait_success(Duration::from_secs(90));
    }
    assert_eq!(epochs(&standalone), before, "no stream was moved");
    for (nth, viewer) in viewers.iter().enumerate() {
        viewer.wait_end(SOON);
        if let Err(wrong) = same_from_first_key(&original, &viewer.media(), Times::Exact) {
            panic!("viewer of cam{nth}: {wrong}");
        }
    }
    assert_eq!((standalone.pid(), standalone.worker_pid()), pids, "no process was started again");
    assert!(census::runs(pids.0) && census::runs(pids.1));
}

#[test]
fn who_waits_longest_is_served_first() {
    let ports = Block::take(10);
    let rtp = |name: &str| over_rtp(name, "transport: TCPPassive, ssrcPolicy: Learn", "");
    let standalone =
        Standalone::start(&[("pool.yaml", &pool(&(ports.first()..=ports.first()))), ("a.yaml", &rtp("a"))]);
    standalone.wait_ready("live/a");
    for name in ["b", "c"] {
        standalone.write(&format!("{name}.yaml"), &rtp(name));
        standalone.wait_stream(&format!("live/{name}"), "to wait", SOON, |stream| {
            reason(stream, "PortsAllocated") == "PoolExhausted"
        });
    }
    standalone.remove("a.yaml");
    standalone.wait_ready("live/b");
    let c = standalone.object("/streams", "live/c").expect("it is there");
    assert_eq!(reason(&c, "PortsAllocated"), "PoolExhausted");
    standalone.write("pool.yaml", &pool(&(ports.first()..=ports.first() + 1)));
    standalone.wait_ready("live/c");
}
