//! A file that is wrong gets a message with file, field and remedy, and disturbs nothing else.

use std::time::Duration;

use tests::eventually::{ensure, eventually};
use tests::load::Source;
use tests::player::Viewer;
use tests::standalone::{SOON, Standalone, condition, pool, pushed, reason};

#[test]
fn bad_yaml_is_told_with_file_field_and_remedy() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("syntax.yaml", "apiVersion: [\n", &["syntax.yaml"]),
        (
            "kind.yaml",
            "apiVersion: media.penstock.dev/v1alpha1\nkind: MediaSteam\nmetadata: {name: a}\n",
            &["kind.yaml", "MediaSteam", "MediaStream"],
        ),
        ("field.yaml", &pushed("field", "  publsh: {}\n"), &["field.yaml", "publsh", "publish"]),
        (
            "duration.yaml",
            &pushed("duration", "  publish: {stallTimeout: soon}\n"),
            &["duration.yaml", "stallTimeout"],
        ),
        ("empty-path.yaml", &pushed("empty-path", "  path: \"\"\n"), &["empty-path.yaml", "path"]),
        (
            "pull.yaml",
            "apiVersion: media.penstock.dev/v1alpha1
kind: MediaStream
metadata: {name: pull, namespace: live}
spec:
  source: {pull: {url: \"rtsp://192.0.2.1/a\"}}
",
            &["pull.yaml", "pull"],
        ),
        (
            "octal.yaml",
            "apiVersion: media.penstock.dev/v1alpha1
kind: MediaStream
metadata: {name: octal, namespace: live}
spec:
  source: {rtp: {transport: UDP, ssrc: 0200000001}}
",
            &["octal.yaml", "ssrc"],
        ),
    ];
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let _source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    for (file, text, words) in cases {
        standalone.write(file, text);
        eventually(&format!("{words:?} about {file}"), SOON, || {
            let told = standalone.log()
                + &standalone.page("/events")?.to_string()
                + &standalone.page("/streams")?.to_string();
            let missing: Vec<_> = words.iter().filter(|word| !told.contains(**word)).collect();
            ensure(missing.is_empty(), || format!("nothing says {missing:?}; log:\n{}", standalone.log()))
        });
    }
    viewer.wait_pictures(viewer.media().video.len() + 30, SOON);
    // And right once the file is.
    standalone.write("field.yaml", &pushed("field", "  publish: {}\n"));
    standalone.wait_ready("live/field");
}

#[test]
fn a_bad_edit_leaves_the_stream_as_it_was() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    let before = standalone.wait_ready("live/cam");
    let _source = Source::start(standalone.rtmp, "live/cam");
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(10, SOON);
    standalone.write("cam.yaml", "kind: [");
    eventually("a word about cam.yaml", SOON, || {
        ensure(standalone.log().contains("cam.yaml"), || standalone.log())
    });
    viewer.wait_pictures(viewer.media().video.len() + 60, SOON);
    let after = standalone.object("/streams", "live/cam").expect("it is there");
    assert_eq!(after["status"]["epoch"], before["status"]["epoch"]);
    assert_eq!(condition(&after, "Live"), "True");
}

#[test]
fn the_younger_of_two_with_one_path_says_so_and_takes_over_when_it_is_free() {
    let standalone = Standalone::start(&[]);
    standalone.write_aged("one.yaml", &pushed("one", "  path: live/x\n"), Duration::from_secs(60));
    standalone.wait_ready("live/one");
    standalone.write("two.yaml", &pushed("two", "  path: live/x\n"));
    let two =
        standalone.wait_stream("live/two", "refused", SOON, |two| condition(two, "Accepted") == "False");
    assert_eq!(reason(&two, "Accepted"), "PathConflict");
    standalone.remove("one.yaml");
    standalone.wait_ready("live/two");
}

#[test]
fn a_pool_over_an_older_ones_ports_says_so() {
    let ports = tests::ports::Block::take(10);
    let standalone = Standalone::start(&[]);
    standalone.write_aged("pool.yaml", &pool(&ports.range()), Duration::from_secs(60));
    standalone.wait_pool("pool", "Ready", SOON, |pool| condition(pool, "Ready") == "True");
    standalone.write(
        "other.yaml",
        &pool(&(ports.first()..=ports.first())).replace("{name: pool}", "{name: other}"),
    );
    let other = standalone.wait_pool("other", "refused", SOON, |pool| condition(pool, "Accepted") == "False");
    assert_eq!(reason(&other, "Accepted"), "Overlap");
}

#[test]
fn a_file_that_is_back_within_a_second_is_an_edit() {
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    let before = standalone.wait_ready("live/cam");
    standalone.remove("cam.yaml");
    standalone.write("cam.yaml", &pushed("cam", "  publish: {stallTimeout: 20s}\n"));
    let generation = |stream: &serde_json::Value| stream["status"]["observedGeneration"].as_i64();
    let after = standalone
        .wait_stream("live/cam", "the edit seen", SOON, |stream| generation(stream) > generation(&before));
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    standalone.remove("cam.yaml");
    eventually("the end of the stream", Duration::from_secs(5), || {
        ensure(standalone.object("/streams", "live/cam").is_err(), || "it is there".to_owned())
    });
}
