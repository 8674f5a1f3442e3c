//! Ports of a node on a cluster: none is granted before the node's worker has said what is held there; streams cost the cluster's
//! network nothing, however many there are; and a pool that shrinks with Move has cameras come over to other ports.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use tests::clips::{Clip, Pictures, Sound};
use tests::cluster::{Cluster, Node};
use tests::eventually::{ensure, eventually};
use tests::failover::{apply_streams, worker_pid};
use tests::installation::Installation;
use tests::objects::{streams, wait_all_ready};
use tests::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use tests::running::signal_pid;

const STARTED: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
const CAMERAS: usize = 4;
/// For the second part.
const MANY: usize = 500;

#[test]
fn what_is_held_is_known_before_it_is_granted_and_streams_cost_no_rules() {
    let cluster = Cluster::up(1).expect("root on Debian can run one");
    let node = cluster.nodes().remove(0);
    // A process of before has these, as the sockets of an old worker would be.
    let held: BTreeSet<u16> = (20000..20004).collect();
    let old = hold(&node, &held);
    let installation = Installation::of(&cluster).expect("the chart installs");
    installation.apply_text(&cameras()).expect("the API takes them");
    installation.wait_ready(STARTED).expect("operator and worker start");
    wait_all_ready(&cluster, CAMERAS, SOON).expect("all cameras have a port");
    let first = ports(&cluster);
    assert!(first.is_disjoint(&held), "{first:?}");

    // The worker is killed, and before its successor is there somebody has its ports.
    signal_pid(worker_pid(&node.name()).expect("it runs"), Signal::KILL);
    let old = (old, hold(&node, &first));
    eventually("other ports for all cameras", STARTED, || {
        let now = ports(&cluster);
        let taken = |port: &u16| held.contains(port) || first.contains(port);
        ensure(now.len() == CAMERAS && !now.iter().any(taken), || format!("{now:?} after {first:?}"))
    });
    wait_all_ready(&cluster, CAMERAS, SOON).expect("all cameras can send again");
    let refused = cluster.ask(&["get", "events", "--field-selector=reason=BindFailed", "-o=name"]);
    assert_eq!(refused.as_deref(), Ok(""), "no worker was told to open what is held");
    eventually("the pool says what is held", SOON, || {
        let held = cluster.ask(&["get", "ppool", "cameras", "-o=jsonpath={.status.quarantined}"])?;
        ensure(held == "8", || held.clone())
    });
    drop(old);

    let before = network(&cluster, &node);
    apply_streams(&installation, MANY).expect("the API takes them");
    wait_all_ready(&cluster, CAMERAS + MANY, STARTED).expect("all streams are Ready");
    assert_eq!(network(&cluster, &node), before, "Services, EndpointSlices and lines of the packet filter");
    cameras_come_over(&cluster, &node, &installation);
}

/// All cameras lose their numbers. One comes over to its other port, the others are not invited anew.
fn cameras_come_over(cluster: &Cluster, node: &Node, installation: &Installation) {
    let old = ports(cluster);
    let shrunk = pool("ranges: [{start: 20030, end: 20049}], shrink: {policy: Move, deadline: 30s}");
    installation.apply_text(&shrunk).expect("the API takes it");
    eventually("two ports for each camera", SOON, || {
        let open = all_previous(cluster, "since");
        ensure(open == CAMERAS, || format!("{open} of {CAMERAS}"))
    });
    let new = ports(cluster);
    assert!(new.len() == CAMERAS && new.is_disjoint(&old), "{new:?} after {old:?}");
    let refused = node.in_network(|| {
        old.iter().chain(&new).filter(|port| TcpListener::bind(("0.0.0.0", **port)).is_ok()).count()
    });
    assert_eq!(refused.expect("the node has a network"), 0, "all of them are open");

    let camera = streams(cluster).expect("the API answers").into_iter().find_map(|stream| {
        let port = stream.pointer("/status/ports/rtp")?.as_u64()?;
        let ssrc = stream.pointer("/spec/source/rtp/ssrc")?.as_str()?.parse().ok()?;
        Some((u16::try_from(port).ok()?, ssrc))
    });
    let (port, ssrc) = camera.expect("a camera has a port");
    let file = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: 12, gop_seconds: 2 }.file();
    let clip = ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
    let mut options = Options::new(file, ([127, 0, 0, 1], port).into(), Transport::Tcp, ssrc);
    options.seconds = Some(5.0);
    let sent = node.in_network(|| ps_sender::send(&options, &clip)).expect("the node has a network");
    sent.expect("the other port takes the media");
    eventually("one port for the camera that came over", SOON, || {
        let left = all_previous(cluster, "rtp");
        ensure(left < CAMERAS, || format!("{left} of {CAMERAS} have two"))
    });
    eventually("one port for each camera", STARTED, || {
        let left = all_previous(cluster, "rtp");
        ensure(left == 0, || format!("{left} of {CAMERAS} have two"))
    });
    assert_eq!(ports(cluster), new);
    for reason in ["PortsMoving", "PortsMoved", "DeadlineExceeded"] {
        let told = cluster.ask(&["get", "events", &format!("--field-selector=reason={reason}"), "-o=name"]);
        assert!(told.is_ok_and(|told| !told.is_empty()), "the event {reason}");
    }
}

/// How many streams have this field of the ports that others take the place of.
fn all_previous(cluster: &Cluster, field: &str) -> usize {
    let all = streams(cluster).expect("the API answers");
    all.iter().filter(|stream| stream.pointer(&format!("/status/ports/previous/{field}")).is_some()).count()
}

fn pool(spec: &str) -> String {
    format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: cameras}}\nspec: {{default: true, {spec}}}\n"
    )
}

fn cameras() -> String {
    let pool = pool("ranges: [{start: 20000, end: 20019}]");
    let camera = |number: usize| {
        format!(
            "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: camera-{number}}}\nspec: {{source: \
             {{rtp: {{transport: TCPPassive, payload: PS, ssrc: \"020000000{number}\"}}}}}}\n"
        )
    };
    (0..CAMERAS).map(camera).fold(pool, |all, one| all + &one)
}

/// Takes ports of a node as soon as they are free, and holds them until it is dropped.
fn hold(node: &Node, ports: &BTreeSet<u16>) -> Vec<TcpListener> {
    let take = |port: u16| {
        let mut taken = None;
        eventually(&format!("port {port}"), SOON, || {
            taken = TcpListener::bind(("0.0.0.0", port)).map(Some)?;
            Ok::<_, std::io::Error>(())
        });
        taken.expect("it was awaited")
    };
    node.in_network(|| ports.iter().copied().map(take).collect()).expect("the node has a network")
}

fn ports(cluster: &Cluster) -> BTreeSet<u16> {
    let all = streams(cluster).expect("the API answers");
    let port = |stream: &serde_json::Value| stream.pointer("/status/ports/rtp")?.as_u64()?.try_into().ok();
    all.iter().filter_map(port).collect()
}

fn network(cluster: &Cluster, node: &Node) -> [usize; 3] {
    let count = |kind: &str| {
        let all = cluster.ask(&["get", kind, "--all-namespaces", "-o=name"]).expect("the API answers");
        all.lines().count()
    };
    [count("services"), count("endpointslices"), node.filter_lines().expect("nft lists the rules")]
}
