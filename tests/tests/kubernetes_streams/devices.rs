//! Devices that come another way than to a port of their own: one that is connected to, one that must have its port, and one on the
//! port that all share. Each plays whole, and again when its worker was killed. And what an installation keeps streams from.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::Value;
use tests::clips::{Clip, Pictures, Sound};
use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually};
use tests::failover::worker_pid;
use tests::installation::Installation;
use tests::nal::{Media, Times};
use tests::objects::{address, endpoint, stream, viewer, wait_live};
use tests::ports::Block;
use tests::ps_sender::{self, AudioChoice, Options, Sent, Transport, VideoChoice};
use tests::running::signal_pid;

use crate::{SECONDS, SOON, STARTED, is_whole};

/// What the installation has for them: a port that is shared, and a network where no device may be.
pub(crate) const VALUES: [&str; 3] =
    ["worker.ports.rtpShared=10000", "worker.targets.deny={192.0.2.0/24}", "secretNamespaces={default}"];
const SHARED_PORT: u16 = 10000;
/// Of the examples' pool.
const FIXED_PORT: u16 = 24680;
/// Each is here at first, and its worker is killed.
const NODE: &str = "node1";

/// A device, and the stream that is named after it.
struct Device<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    ssrc: u32,
    way: Way,
}

enum Way {
    /// While it plays it waits here to be connected to.
    Active(SocketAddr),
    Fixed,
    Shared,
}

impl Device<'_> {
    fn declaration(&self) -> String {
        let rtp = match &self.way {
            Way::Active(at) => {
                format!("transport: TCPActive, remote: {{host: {}, port: {}}}", at.ip(), at.port())
            }
            Way::Fixed => format!("transport: TCPPassive, port: {FIXED_PORT}"),
            Way::Shared => "transport: UDP, shared: true".to_owned(),
        };
        declaration(self.name, &format!("{rtp}, ssrc: \"{:010}\"", self.ssrc))
    }

    fn stream(&self) -> Value {
        stream(self.cluster, self.name)
    }

    fn epoch(&self) -> u64 {
        self.stream()["status"]["epoch"].as_u64().expect("a stream that is Ready has an epoch")
    }

    fn wait_ready(&self, epoch_above: u64) {
        eventually(&format!("{} Ready at an epoch above {epoch_above}", self.name), SOON, || {
            let status = &self.stream()["status"];
            let ready = status["phase"] == "Ready" || status["phase"] == "Live";
            ensure(ready && status["epoch"].as_u64() > Some(epoch_above), || status.to_string())
        });
    }

    /// Sends the clip once, to where the status says or to whoever connects.
    fn send(&self) -> JoinHandle<Result<Sent, String>> {
        let declared = self.stream();
        let port = declared["status"]["ports"]["rtp"].as_u64();
        let (transport, on) = match &self.way {
            Way::Active(at) => {
                let (connection, from) = accept(*at);
                let node = declared["status"]["assignment"]["addresses"][0].as_str().unwrap_or_default();
                assert_eq!(from.ip().to_string(), node, "the worker that has it connects");
                assert_eq!(Some(from.port().into()), port, "it comes from the port that is leased");
                (Transport::Tcp, Some(connection))
            }
            Way::Fixed => {
                assert_eq!(port, Some(FIXED_PORT.into()));
                (Transport::Tcp, None)
            }
            Way::Shared => {
                assert_eq!(port, Some(SHARED_PORT.into()));
                (Transport::Udp, None)
            }
        };
        let to = match &self.way {
            Way::Active(at) => *at,
            Way::Fixed | Way::Shared => address(&endpoint(&declared, "Publish", "RTP")),
        };
        let (options, clip) = (Options::new(clip().file(), to, transport, self.ssrc), sent());
        std::thread::spawn(move || match on {
            Some(connection) => ps_sender::send_on(connection, &options, &clip),
            None => ps_sender::send(&options, &clip),
        })
    }

    /// What workers have written of it, and its status.
    fn told(&self) -> String {
        let pods = Installation::find(self.cluster).and_then(|installed| {
            let pods = installed.pods("worker")?;
            Ok(pods.iter().map(|pod| installed.logs(&pod.name).unwrap_or_default()).collect::<String>())
        });
        let logs = pods.unwrap_or_else(|error| error);
        let of_it = logs.lines().filter(|line| line.contains(self.name));
        format!("{}\n{}", self.stream()["status"], of_it.collect::<Vec<_>>().join("\n"))
    }

    fn plays_whole(&self) {
        let sender = self.send();
        wait_live(self.cluster, self.name, SOON);
        let viewer = viewer(&self.stream(), &format!("/live/{}.flv", self.name));
        sender.join().expect("the sender does not panic").expect("the clip is sent");
        is_whole(&Media::of_camera(&sent()), &viewer, Times::Within(1));
    }
}

fn declaration(name: &str, rtp: &str) -> String {
    format!(
        "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: {name}}}\nspec:\n  path: live/{name}\n  \
         source: {{rtp: {{{rtp}}}}}\n  publish: {{stallTimeout: 2s, resumeWindow: 1s}}\n  placement: {{preferredNode: {NODE}}}\n"
    )
}

fn clip() -> Clip {
    Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: SECONDS, gop_seconds: 2 }
}

fn sent() -> ps_sender::Clip {
    ps_sender::read(&clip().file(), VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own")
}

fn accept(at: SocketAddr) -> (TcpStream, SocketAddr) {
    let listener = TcpListener::bind(at).expect("the number is ours");
    listener.set_nonblocking(true).expect("a listener can be asked without waiting");
    let (connection, from) =
        eventually("a connection to the device", SOON, || listener.accept().map_err(|e| e.to_string()));
    connection.set_nonblocking(false).expect("a connection can be waited for");
    (connection, from)
}

pub(crate) fn play_and_survive_their_worker(cluster: &Cluster, installed: &Installation<'_>) {
    // Outside of all nodes, as devices are.
    let (host, ports) = (cluster.api().0.parse().expect("the host has an address"), Block::take(1));
    let device = |name, ssrc, way| Device { cluster, name, ssrc, way };
    let devices = [
        device("active", 200_000_011, Way::Active(SocketAddr::new(host, ports.first()))),
        device("fixed", 200_000_012, Way::Fixed),
        device("shared", 200_000_013, Way::Shared),
    ];
    let declared: String = devices.iter().map(Device::declaration).collect();
    installed.apply_text(&declared).expect("the API takes them");
    devices.iter().for_each(|device| device.wait_ready(0));
    all_play_whole(&devices);
    let before: Vec<u64> = devices.iter().map(Device::epoch).collect();
    let senders: Vec<_> = devices.iter().map(Device::send).collect();
    devices.iter().for_each(|device| wait_live(cluster, device.name, SOON));
    signal_pid(worker_pid(NODE).expect("it runs"), Signal::KILL);
    for (device, epoch) in devices.iter().zip(before) {
        device.wait_ready(epoch);
    }
    for sender in senders {
        // Over TCP its connection was ended with the worker.
        let _ = sender.join().expect("the sender does not panic");
    }
    nothing_of_the_cluster_is_a_device(cluster, installed);
    all_play_whole(&devices);
    a_secret_of_another_type_is_not_read(cluster, installed);
}

fn all_play_whole(devices: &[Device<'_>]) {
    std::thread::scope(|scope| {
        let each: Vec<_> = devices.iter().map(|device| scope.spawn(|| device.plays_whole())).collect();
        for (device, played) in devices.iter().zip(each) {
            played
                .join()
                .unwrap_or_else(|_| panic!("{} does not play whole: {}", device.name, device.told()));
        }
    });
}

/// A device that is none: by the installation's word, or because the operator knows it as the cluster's own.
fn nothing_of_the_cluster_is_a_device(cluster: &Cluster, installed: &Installation<'_>) {
    let service = cluster.ask(&["get", "service", "kubernetes", "-o=jsonpath={.spec.clusterIP}"]);
    let service = service.expect("each cluster has it");
    let pods = installed.pods("operator").expect("the API tells");
    let pod = &pods.first().expect("it runs").address;
    let node = cluster.nodes().pop().expect("there are two");
    assert_ne!(node.name(), NODE);
    let node = &node.address();
    assert!(pods.iter().all(|pod| pod.address != *node), "the operator is not on the nodes' network");
    let all = [
        ("listed", "192.0.2.7", "is in --deny-targets"),
        ("service", &service, "is in a range of Services"),
        ("pod", pod, "is in a range of pods"),
        ("node", node, "is an address of a node"),
    ];
    // They are to be on this one.
    installed.wait_ready(STARTED).expect("the worker is here again");
    let declared = all.iter().zip(200_000_020..).map(|((name, address, _), ssrc)| {
        let remote = format!("{{host: {address}, port: 443}}");
        let rtp = format!("transport: TCPActive, remote: {remote}, ssrc: \"{ssrc:010}\"");
        declaration(&format!("inward-{name}"), &rtp)
    });
    installed.apply_text(&declared.collect::<String>()).expect("the API takes them");
    for (name, address, why) in all {
        eventually(&format!("the word that a {name} is not connected to"), SOON, || {
            let live = "-o=jsonpath={.status.conditions[?(@.type==\"Live\")].message}";
            let said = cluster.ask(&["get", "mst", &format!("inward-{name}"), live])?;
            let words = format!("{address}:443 is not connected to: {address} {why}");
            ensure(said.contains(&words), || said.clone())
        });
    }
}

fn a_secret_of_another_type_is_not_read(cluster: &Cluster, installed: &Installation<'_>) {
    let (mut declared, kinds) = (String::new(), [("read", "media.penstock.dev/token"), ("unread", "Opaque")]);
    for (name, kind) in kinds {
        declared.push_str(&format!(
            "---\napiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata: {{name: {name}}}\nstringData: {{token: x}}\n---\napiVersion: \
             media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: {name}}}\nspec: {{source: {{push: {{}}}}, publish: \
             {{tokenSecretRef: {{name: {name}}}}}}}\n"
        ));
    }
    installed.apply_text(&declared).expect("the API takes them");
    for (name, wanted) in [("read", "Assigned"), ("unread", "TokenSecretNotFound")] {
        eventually(&format!("{name} to be {wanted}"), SOON, || {
            let ready = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
            let reason = cluster.ask(&["get", "mst", name, ready])?;
            ensure(reason == wanted, || reason.clone())
        });
    }
}
