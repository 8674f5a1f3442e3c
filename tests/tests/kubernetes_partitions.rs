//! Networks that are cut in parts, while encoders send: who is not heard is not dead, and nothing moves.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::cluster::{Cluster, Node};
use tests::encoders::Encoders;
use tests::eventually::{ensure, eventually, throughout};
use tests::failover::{declare, leader};
use tests::installation::{Installation, NAMESPACE, Pod};
use tests::objects::{Assignment, assignments, nothing_is_written};

const STARTED: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
/// Longer than any verdict takes: 1.2 s for the witnesses, 2.5 s for what they have said before.
const CALM: Duration = Duration::from_secs(5);
const STREAMS: usize = 9;

fn owners(cluster: &Cluster) -> BTreeMap<String, Assignment> {
    let mut all = assignments(cluster).expect("the API answers");
    all.retain(|name, _| name.starts_with("s-"));
    all
}

/// What a worker sends to an operator: its session, and answers of its health port.
fn to_operator(operator: &Pod) -> [String; 2] {
    let address = &operator.address;
    [format!("ip daddr {address} tcp dport 9190"), format!("ip daddr {address} tcp sport 9181")]
}

#[test]
fn who_is_not_heard_is_not_dead() {
    let cluster = Cluster::up(3).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    let settled = || installation.settle(STARTED);
    settled();
    declare(&installation, &cluster, STREAMS).expect("streams are Ready");
    let encoders = Encoders::start(&cluster, owners(&cluster).into_keys()).expect("kubectl watches");
    eventually("all encoders publish, and their streams are Live", SOON, || {
        let phases = cluster.ask(&["get", "mst", "-o=jsonpath={.items[*].status.phase}"])?;
        let live = phases.split(' ').filter(|phase| *phase == "Live").count();
        ensure(live == STREAMS && encoders.publishing()? == STREAMS, || phases)
    });
    let before = owners(&cluster);
    let operators = installation.pods("operator").expect("pods are told");

    a_link_is_cut(&cluster, &installation, &operators);
    settled();
    assert_eq!(owners(&cluster), before, "after a link was cut");

    a_replica_is_cut(&cluster, &installation);
    settled();
    assert_eq!(owners(&cluster), before, "after a replica was cut off");

    all_are_cut(&cluster, &installation, &operators);
    settled();
    assert_eq!(owners(&cluster), before, "after all were cut from all");

    a_worker_is_given_up(&cluster, &operators);
    settled();

    assert_eq!(encoders.publishing(), Ok(STREAMS));
    assert_eq!(encoders.take_absences(), [], "no encoder was ended");
}

/// The link of one worker to all operators. The others reach it: it keeps its streams, Ready, and gets no new one.
fn a_link_is_cut(cluster: &Cluster, installation: &Installation<'_>, operators: &[Pod]) {
    let cut: Vec<Node> = cluster.nodes();
    let cut = cut.iter().find(|node| operators.iter().all(|pod| pod.node != node.name()));
    let cut = cut.expect("two replicas are on two of three nodes");
    cut.block(&operators.iter().flat_map(to_operator).collect::<Vec<_>>()).expect("nft takes the rules");
    wait_told(cluster, "ControlDegraded", 1);
    nothing_is_written(cluster, CALM);
    declare_one(installation, cluster, "meanwhile");
    let owner = assignments(cluster).expect("the API answers").remove("meanwhile").expect("it is Ready");
    assert_ne!(owner.node, cut.name(), "a worker that is not heard gets nothing new");
    cluster.ask(&["delete", "mst", "meanwhile"]).expect("the API deletes it");
    cut.unblock().expect("nft takes the rules away");
}

/// The leader hears one worker, the other replica all of them: it leads from then on.
fn a_replica_is_cut(cluster: &Cluster, installation: &Installation<'_>) {
    let first = leader(installation, cluster).expect("somebody leads");
    let others: Vec<Node> = cluster.nodes().into_iter().filter(|node| node.name() != first.node).collect();
    for node in &others {
        node.block(&to_operator(&first)).expect("nft takes the rules");
    }
    eventually("another replica to lead", SOON, || {
        let now = leader(installation, cluster)?;
        ensure(now.uid != first.uid, || format!("{} leads", now.name))
    });
    declare_one(installation, cluster, "decided");
    cluster.ask(&["delete", "mst", "decided"]).expect("the API deletes it");
    throughout("the replica that hears fewer stands aside", CALM, || {
        let now = leader(installation, cluster)?;
        ensure(now.uid != first.uid, || format!("{} leads again", now.name))
    });
    for node in &others {
        node.unblock().expect("nft takes the rules away");
    }
}

/// No worker is heard by an operator or by another worker, while operators and the API hear each other: nobody says anything of
/// anybody, but for one alert a worker.
fn all_are_cut(cluster: &Cluster, installation: &Installation<'_>, operators: &[Pod]) {
    let nodes = cluster.nodes();
    let to_workers = nodes.iter().map(|node| format!("ip daddr {} tcp sport 9181", node.address()));
    let all: Vec<String> = operators.iter().flat_map(to_operator).chain(to_workers).collect();
    for node in &nodes {
        node.block(&all).expect("nft takes the rules");
    }
    wait_told(cluster, "Hold", nodes.len());
    let before = owners(cluster);
    throughout("nothing moves", CALM, || {
        let after = owners(cluster);
        ensure(after == before, || format!("{before:?} became {after:?}"))
    });
    let pods = installation.pods("operator").expect("pods are told");
    assert!(pods.iter().all(|pod| pod.restarts == 0), "{pods:?}");
    for node in &nodes {
        node.unblock().expect("nft takes the rules away");
    }
}

/// Nobody who is asked reaches a worker, but its encoders do. Its streams move, and nobody publishes them there: when it is heard
/// again they go back, and no encoder has noticed.
fn a_worker_is_given_up(cluster: &Cluster, operators: &[Pod]) {
    let before = owners(cluster);
    let nodes = cluster.nodes();
    let cut = nodes.iter().find(|node| operators.iter().all(|pod| pod.node != node.name()));
    let cut = cut.expect("two replicas are on two of three nodes");
    let others = nodes.iter().filter(|node| node.number() != cut.number());
    let to_others = others.map(|node| format!("ip daddr {} tcp sport 9181", node.address()));
    cut.block(&operators.iter().flat_map(to_operator).chain(to_others).collect::<Vec<_>>())
        .expect("nft takes the rules");
    eventually("its streams are elsewhere", SOON, || {
        let left: Vec<String> = owners(cluster)
            .into_iter()
            .filter(|(_, it)| it.node == cut.name())
            .map(|(name, _)| name)
            .collect();
        ensure(left.is_empty(), || format!("{left:?} are not"))
    });
    cut.unblock().expect("nft takes the rules away");
    eventually("they are back, at another epoch, and Live", SOON, || {
        for (name, after) in owners(cluster) {
            let before = &before[&name];
            let moved = after.epoch > before.epoch && after.failovers == before.failovers + 2;
            let returned = before.node != cut.name() || moved;
            ensure(after.node == before.node && returned, || format!("{name}: {before:?} became {after:?}"))?;
        }
        let phases = cluster.ask(&["get", "mst", "-o=jsonpath={.items[*].status.phase}"])?;
        ensure(phases.split(' ').all(|phase| phase == "Live"), || phases.clone())
    });
}

fn declare_one(installation: &Installation<'_>, cluster: &Cluster, name: &str) {
    tests::failover::first_decision(installation, cluster, name, std::time::Instant::now())
        .expect("a new stream becomes Ready elsewhere");
}

/// Waits for Kubernetes Events of a reason, of so many different notes.
fn wait_told(cluster: &Cluster, reason: &str, count: usize) {
    eventually(&format!("{count} events {reason}"), SOON, || {
        let selector = format!("--field-selector=reason={reason}");
        let notes = [
            "get",
            "events",
            "-n",
            NAMESPACE,
            &selector,
            "-o=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
        ];
        let notes = cluster.ask(&notes)?;
        ensure(notes.lines().count() >= count, || format!("{notes:?}"))
    });
}
