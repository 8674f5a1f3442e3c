//! Rounds of what happens to workers and streams in weeks, on a cluster, over 20 pairs of ports a node: after each, the sockets that are
//! open in the nodes are what the streams' statuses lease, and nobody is without. `cargo xtask soak rounds-cluster` does 200 of them.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::census::{self, Held};
use tests::cluster::{Cluster, Node};
use tests::eventually::{ensure, eventually};
use tests::failover::{Fault, put_right, worker_pid};
use tests::installation::Installation;
use tests::objects::streams;
use tests::running::signal_pid;
use tests::soak::{Random, size};

const STARTED: Duration = Duration::from_secs(60);
/// A node that is back, a cooldown, and two scans.
const QUIET: Duration = Duration::from_secs(90);
/// Twenty pairs, for twenty cameras: one node alone has room for all.
const RANGE: std::ops::RangeInclusive<u16> = 20000..=20039;
const CAMERAS: usize = 20;

/// A round. Of faults of workers, those that leave the node: what a crash frees, no socket table tells.
#[derive(Clone, Copy, Debug)]
enum Round {
    Fault(Fault),
    /// Cameras are deleted and made anew.
    Delete,
}

const ROUNDS: [Round; 4] =
    [Round::Fault(Fault::Kill), Round::Fault(Fault::Stop), Round::Fault(Fault::Cut), Round::Delete];

#[test]
fn rounds_of_kill_stop_partition_and_delete_leak_no_pair_and_starve_nobody() {
    let (rounds, mut random) = (size("PENSTOCK_ROUNDS", 4u64), Random::from_environment());
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    installation.settle(STARTED);
    let all: Vec<usize> = (0..CAMERAS).collect();
    installation.apply_text(&pool()).expect("the API takes a pool");
    installation.apply_text(&cameras(&all)).expect("the API takes cameras");
    wait_quiet(&cluster, "the beginning");
    for round in 0..rounds {
        // The first ones are one of each.
        let what =
            ROUNDS.get(round as usize).copied().unwrap_or_else(|| ROUNDS[pick(&mut random, ROUNDS.len())]);
        let nodes = cluster.nodes();
        let node = &nodes[pick(&mut random, nodes.len())];
        eprintln!("round {round}: {what:?} at {}", node.name());
        let span = Duration::from_millis(200 + random.next(5000));
        suffer(&installation, &cluster, node, what, span, &mut random)
            .unwrap_or_else(|e| panic!("round {round}, {what:?}: {e}"));
        wait_quiet(&cluster, &format!("round {round}, {what:?} at {}", node.name()));
    }
}

fn pick(random: &mut Random, below: usize) -> usize {
    random.next(below as u64) as usize
}

fn suffer(
    installation: &Installation<'_>,
    cluster: &Cluster,
    node: &Node,
    what: Round,
    span: Duration,
    random: &mut Random,
) -> Result<(), String> {
    let fault = match what {
        Round::Fault(fault) => fault,
        Round::Delete => {
            let chosen: BTreeSet<usize> =
                (0..1 + pick(random, CAMERAS)).map(|_| pick(random, CAMERAS)).collect();
            let chosen: Vec<usize> = chosen.into_iter().collect();
            let names: Vec<String> = chosen.iter().map(|number| format!("mst/camera-{number}")).collect();
            let mut words = vec!["delete", "--wait=false"];
            words.extend(names.iter().map(String::as_str));
            cluster.ask(&words)?;
            return installation.apply_text(&cameras(&chosen));
        }
    };
    let pid = worker_pid(&node.name())?;
    match fault {
        Fault::Kill => signal_pid(pid, Signal::KILL),
        Fault::Stop => signal_pid(pid, Signal::STOP),
        Fault::Cut => node.cut()?,
        Fault::Crash => node.crash()?,
    }
    // The fault lasts; there is nothing to wait for.
    std::thread::sleep(span);
    put_right(installation, node, fault, pid)
}

/// Waits until each camera has a pair, the sockets that are open are those, and the pool's books say so.
fn wait_quiet(cluster: &Cluster, after: &str) {
    eventually(&format!("held = leased after {after}"), QUIET, || {
        let all = streams(cluster)?;
        let ready = all.iter().filter(|stream| stream["status"]["phase"] == "Ready").count();
        ensure(ready == CAMERAS && all.len() == CAMERAS, || {
            format!("{ready} of {} cameras are Ready", all.len())
        })?;
        let (mut leased, mut held) = (BTreeSet::new(), BTreeSet::new());
        for stream in &all {
            let status = &stream["status"];
            let node = status["assignment"]["node"].as_str().unwrap_or_default();
            for port in ["rtp", "rtcp"] {
                let port = status["ports"][port].as_u64().ok_or_else(|| format!("no {port}: {status}"))?;
                ensure(leased.insert((node.to_owned(), port)), || {
                    format!("{port} of {node} is leased twice")
                })?;
            }
        }
        for node in cluster.nodes() {
            for socket in node.in_network(|| census::held(RANGE))? {
                match socket {
                    Held::Udp(port) => held.insert((node.name(), u64::from(port))),
                    Held::Listening(port) | Held::Connected(port) => {
                        return Err(format!("{port} of {} is open in TCP", node.name()));
                    }
                };
            }
        }
        ensure(held == leased, || {
            let (more, less): (Vec<_>, Vec<_>) =
                (held.difference(&leased).collect(), leased.difference(&held).collect());
            format!("open and not leased {more:?}, leased and not open {less:?}")
        })?;
        let pool: Value = serde_json::from_str(&cluster.ask(&["get", "ppool", "cameras", "-o=json"])?)
            .map_err(|e| e.to_string())?;
        let count = |name: &str| pool["status"][name].as_u64().unwrap_or_default();
        let books = ["leased", "free", "cooling", "quarantined", "capacity"].map(count);
        let [leased, free, cooling, quarantined, capacity] = books;
        let numbers = 2 * CAMERAS as u64;
        ensure(leased == numbers && cooling == 0 && quarantined == 0 && free == capacity - numbers, || {
            format!("leased, free, cooling, quarantined, capacity: {books:?}")
        })
    });
}

fn pool() -> String {
    format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: cameras}}\nspec: {{default: true, cooldown: 1s, \
         ranges: [{{start: {}, end: {}}}]}}\n",
        RANGE.start(),
        RANGE.end()
    )
}

fn cameras(numbers: &[usize]) -> String {
    let camera = |number: &usize| {
        format!(
            "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: camera-{number}}}\nspec: {{source: \
             {{rtp: {{transport: UDP, payload: PS, ssrc: \"02000000{number:02}\"}}}}}}\n"
        )
    };
    numbers.iter().map(camera).collect()
}
