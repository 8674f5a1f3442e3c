//! Nobody decides: operators and API server are away. What plays goes on, known publishers and viewers are served, and afterwards
//! nothing has moved and nothing is written anew. `cargo xtask soak outage` has it last a minute each.

use std::time::Duration;

use tests::clips;
use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually, throughout};
use tests::installation::{Installation, NAMESPACE};
use tests::nal::{Media, Times, same_from_first_key};
use tests::objects::{assignments, nothing_is_written, streams, wait_all_ready};
use tests::player::Viewer;
use tests::publisher;
use tests::running::{Folder, Running};
use tests::soak::size;

const STARTED: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
/// Kubernetes' controllers come back to an API server that was away for a minute after another.
const RETURNED: Duration = Duration::from_secs(180);

/// How long each of the two is away.
fn outage() -> Duration {
    Duration::from_secs(size("PENSTOCK_OUTAGE", 6))
}

struct Stream {
    name: &'static str,
    publish: String,
    http: std::net::SocketAddr,
}

fn stream(cluster: &Cluster, name: &'static str) -> Stream {
    let all = streams(cluster).expect("the API answers");
    let found = all.iter().find(|it| it["metadata"]["name"] == name).expect("it is declared");
    let endpoints = found["status"]["endpoints"].as_array().expect("it is Ready");
    let publish = endpoints[0]["url"].as_str().expect("a URL").to_owned();
    let host = publish.strip_prefix("rtmp://").and_then(|rest| rest.split('/').next()).expect("a host");
    Stream { name, publish: publish.clone(), http: format!("{host}:8080").parse().expect("an address") }
}

impl Stream {
    fn send(&self, folder: &Folder, clip: clips::Clip) -> Running {
        publisher::ffmpeg(folder, clip, publisher::Times::Once, &self.publish)
    }

    /// A viewer that comes while the stream waits for its publisher.
    fn waiting_viewer(&self) -> std::thread::JoinHandle<Viewer> {
        Viewer::waiting(self.http, &format!("/default/{}.flv", self.name))
    }
}

fn is_whole(clip: clips::Clip, viewer: &Viewer, folder: &Folder) {
    let file = folder.file("original.flv");
    clips::as_flv(clip, &file);
    let original = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    viewer.wait_end(STARTED);
    let played = viewer.media();
    assert_eq!(played.video.len(), original.video.len(), "it was there from the start");
    if let Err(wrong) = same_from_first_key(&original, &played, Times::Exact) {
        panic!("{wrong}");
    }
}

fn declare(installation: &Installation<'_>) {
    let yaml: String = ["long", "later", "last"]
        .iter()
        .map(|name| {
            format!(
                "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: {name}}}\nspec:\n  \
                 source: {{push: {{}}}}\n  publish: {{resumeWindow: 1s}}\n"
            )
        })
        .collect();
    installation.apply_text(&yaml).expect("the API takes them");
}

fn scale(installation: &Installation<'_>, replicas: usize) {
    let replicas = format!("--replicas={replicas}");
    let mut kubectl = installation.kubectl();
    kubectl.args(["scale", "deployment", "penstock-operator", &replicas]);
    tests::tools::succeed(&mut kubectl).expect("the API scales");
}

#[test]
fn with_nobody_to_decide_media_flows_and_afterwards_nothing_has_moved() {
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    installation.settle(STARTED);
    declare(&installation);
    cluster.ask(&["wait", "--for=condition=Ready", "mst", "--all", "--timeout=20s"]).expect("all are Ready");

    let [long, later, last] = ["long", "later", "last"].map(|name| stream(&cluster, name));
    let folder = Folder::new("outage");
    let away = outage();
    // Over both outages and the return.
    let clip = clips::h264_aac(2 * u32::try_from(away.as_secs()).expect("minutes") + 25);
    // A clip of minutes takes longer to make than a viewer waits for media.
    clip.file();
    let viewer = long.waiting_viewer();
    let mut sender = long.send(&folder, clip);
    let viewer = viewer.join().expect("it plays");
    let before = assignments(&cluster).expect("the API answers");

    scale(&installation, 0);
    eventually("no operator", STARTED, || {
        let pods = installation.pods("operator")?;
        ensure(pods.is_empty(), || format!("{} operators", pods.len()))
    });
    let short = clips::h264_aac(4);
    serves(&later, short, &folder);
    stays_away("without operators", away, &viewer);

    cluster.kill("kube-apiserver");
    serves(&last, short, &folder);
    stays_away("without operators and API server", away, &viewer);

    cluster.start_again("kube-apiserver").expect("the API server starts again");
    scale(&installation, 2);
    installation.settle(RETURNED);
    sender.wait_success(Duration::from_secs(u64::from(clip.seconds) + 60));
    is_whole(clip, &viewer, &folder);
    eventually("all streams Ready as they were", SOON, || {
        let after = assignments(&cluster)?;
        ensure(after == before, || format!("{before:?}\nbecame\n{after:?}"))
    });
    nothing_changes(&cluster);
}

/// A publisher and a viewer that come now are served.
fn serves(stream: &Stream, clip: clips::Clip, folder: &Folder) {
    let viewer = stream.waiting_viewer();
    let mut sender = stream.send(folder, clip);
    let viewer = viewer.join().expect("it plays");
    sender.wait_success(STARTED);
    is_whole(clip, &viewer, folder);
}

fn stays_away(what: &str, time: Duration, viewer: &Viewer) {
    throughout(&format!("the viewer plays {what}"), time, || {
        let end = viewer.seen().end;
        ensure(end.is_none(), || format!("it ended: {end:?}"))
    });
}

fn nothing_changes(cluster: &Cluster) {
    wait_all_ready(cluster, 3, SOON).expect("all streams are Ready again");
    nothing_is_written(cluster, Duration::from_secs(3));
    let terms =
        cluster.ask(&["get", "lease", "penstock", "-n", NAMESPACE, "-o=jsonpath={.metadata.annotations}"]);
    assert!(terms.expect("the Lease is there").contains("media.penstock.dev/term"));
}
