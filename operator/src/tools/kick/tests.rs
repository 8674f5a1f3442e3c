//! What a worker answers, in words.

use super::*;

fn said(viewers: bool, answer: Value) -> Result<String, String> {
    in_words(&ObjectName::new("live", "cam"), viewers, &answer).map(|words| words.trim_end().to_owned())
}

#[test]
fn who_was_ended_is_told() {
    let publisher = |protocol: &str| {
        let publisher = json!({ "remote": "192.0.2.9:5000", "protocol": protocol });
        json!({ "kicked": [{ "path": "live/a", "publisher": publisher, "viewers": 0 }], "silentShards": [] })
    };
    let words = said(false, publisher("RTMP")).unwrap();
    assert!(
        words.starts_with(
            "live/cam: the publisher 192.0.2.9:5000 (RTMP) of live/a is ended. The path is free"
        )
    );
    assert!(said(false, publisher("RTP")).unwrap().contains("taken again: end it at its side"));
    let viewers = json!({ "kicked": [{ "path": "live/a", "publisher": null, "viewers": 3 }] });
    assert_eq!(said(true, viewers.clone()).unwrap(), "live/cam: 3 viewers of live/a are ended");
    assert_eq!(said(false, viewers).unwrap(), "live/cam: nobody publishes live/a");
}

#[test]
fn a_stream_that_is_not_there_is_a_failure() {
    assert!(said(false, json!({ "kicked": [] })).unwrap_err().contains("no such stream"));
    let silent = said(false, json!({ "kicked": [], "silentShards": [1] }));
    assert!(silent.unwrap_err().contains("does not answer"));
}

#[test]
fn on_a_cluster_the_command_for_the_worker_is_told() {
    use clap::Parser as _;
    let parsed = crate::args::Args::parse_from([
        "penstock",
        "kick",
        "live/cam",
        "--viewers",
        "--lease",
        "media/penstock",
    ]);
    let crate::args::Command::Tool(crate::args::Tool::Kick(args)) = parsed.command else {
        panic!("it is a kick")
    };
    let command = command(&args, "penstock-worker-x");
    let expected = "kubectl exec --namespace media penstock-worker-x -- /penstock kick live/cam --viewers";
    assert!(command.ends_with(expected), "{command}");
}
