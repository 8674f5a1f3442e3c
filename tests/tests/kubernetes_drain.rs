//! Workers that are replaced and nodes that are emptied while encoders and a camera send: streams move first, and those who send are
//! told. `cargo xtask soak drain` does it with more streams, and tells how long they are away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::clips::{Clip, Pictures, Sound};
use tests::cluster::Cluster;
use tests::encoders::Encoders;
use tests::eventually::{ensure, eventually};
use tests::failover;
use tests::installation::Installation;
use tests::objects::{Assignment, address, assignments, endpoint, stream, viewer, wait_live};
use tests::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use tests::soak::size;

const STARTED: Duration = Duration::from_secs(60);
/// For all streams of a node.
const EMPTIED: Duration = Duration::from_secs(60);
const CAMERA: &str = "camera";

fn owners(cluster: &Cluster) -> BTreeMap<String, Assignment> {
    assignments(cluster).expect("the API answers")
}

#[test]
fn who_sends_is_told_where_to_go_and_no_stream_moves_more_than_twice() {
    let count = size("PENSTOCK_STREAMS", 12);
    let cluster = Cluster::up(3).expect("root on Debian can run one");
    // Longer than a camera is waited for that does not come.
    let installation = Installation::with(&cluster, &["worker.terminationGracePeriodSeconds=45"])
        .expect("the chart installs");
    installation.settle(STARTED);
    failover::declare(&installation, &cluster, count).expect("streams are Ready");

    let names = owners(&cluster).into_keys();
    let encoders = Encoders::start(&cluster, names).expect("kubectl watches");
    all_publish(&encoders, count);
    encoders.take_absences();

    a_node_is_emptied(&cluster, &installation, &encoders, count);

    let before = owners(&cluster);
    let begun = Instant::now();
    let settled = || {
        all_publish(&encoders, count);
        Ok(())
    };
    let moves = failover::roll_out(&installation, &cluster, settled).expect("workers are replaced");
    tell("rollout", begun, &encoders);
    assert!(moves.values().all(|moves| (1..=2).contains(moves)), "{moves:?} after {before:?}");
}

/// `kubectl drain`: DaemonSets stay, so the node is cordoned and its worker goes on without streams.
fn a_node_is_emptied(cluster: &Cluster, installation: &Installation<'_>, encoders: &Encoders, count: usize) {
    let yaml = "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {name: cameras}\nspec: {default: true, ranges: \
                [{start: 20000, end: 20099}]}\n---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {name: \
                camera}\nspec: {source: {rtp: {transport: TCPPassive, payload: PS, ssrc: \"0200000001\"}}}\n";
    installation.apply_text(yaml).expect("the API takes the camera");
    let wait = ["wait", "--for=condition=Ready", "mst/camera", "--timeout=20s"];
    cluster.ask(&wait).expect("the camera is Ready");
    let clip = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 20, gop_seconds: 2 };
    let invite = || {
        let camera = stream(cluster, CAMERA);
        let file = clip.file();
        let media =
            ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
        let to = address(&endpoint(&camera, "Publish", "RTP"));
        let options = Options::new(file, to, Transport::Tcp, 200_000_001);
        let sender = std::thread::spawn(move || ps_sender::send(&options, &media));
        wait_live(cluster, CAMERA, EMPTIED);
        (viewer(&camera, "/default/camera.flv"), sender)
    };
    let (at_old, first_sender) = invite();

    let node = owners(cluster)[CAMERA].node.clone();
    let begun = Instant::now();
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"];
    cluster.ask(&drain).expect("the node is drained");
    eventually("no stream on the node", EMPTIED, || {
        let left: Vec<_> = owners(cluster).into_iter().filter(|(_, owner)| owner.node == node).collect();
        ensure(left.is_empty(), || format!("{left:?}"))
    });
    all_publish(encoders, count);
    tell("kubectl drain", begun, encoders);
    assert!(owners(cluster).values().all(|owner| owner.failovers <= 1), "{:?}", owners(cluster));

    // The camera's platform has not noticed yet: it sends where it did, and is heard there.
    at_old.wait_pictures(at_old.media().video.len() + 10, EMPTIED);
    let (at_new, second_sender) = invite();
    at_new.wait_pictures(10, EMPTIED);
    eventually("the old worker has let the camera go", EMPTIED, || {
        ensure(at_old.seen().end.is_some(), || "its viewer plays on".to_owned())
    });
    let events = cluster.ask(&["get", "events", "--field-selector=reason=Drained", "-o=name"]);
    assert!(events.expect("the API answers").lines().count() > 0, "people are told");
    // The first is ended by the old worker, the second is sent whole.
    let _ = first_sender.join().expect("the sender does not panic");
    second_sender.join().expect("the sender does not panic").expect("the clip is sent");

    cluster.ask(&["delete", "mst", CAMERA]).expect("the API deletes it");
    cluster.ask(&["uncordon", &node]).expect("the node takes streams again");
    installation.settle(STARTED);
}

fn all_publish(encoders: &Encoders, count: usize) {
    eventually("all encoders publish", EMPTIED, || {
        let publishing = encoders.publishing().unwrap_or_else(|failure| panic!("{failure}"));
        ensure(publishing == count, || format!("{publishing} of {count}"))
    });
}

fn tell(what: &str, begun: Instant, encoders: &Encoders) {
    let mut away: Vec<Duration> = encoders.take_absences().into_iter().map(|(_, away)| away).collect();
    away.sort_unstable();
    let (median, most) = (away.get(away.len() / 2), away.last());
    eprintln!(
        "{what}: {:?} in all, {} publishers came back: median {median:?}, maximum {most:?}",
        begun.elapsed(),
        away.len()
    );
}
