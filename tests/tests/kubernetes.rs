//! The cluster that the tests of the operator stand on: real parts come up, fail as machines do, and come back.

use std::time::Duration;

use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually};
use tests::tools::{need, succeed};

/// Nodes are called lost after 10 s here, and taints and pods follow.
const SEEN: Duration = Duration::from_secs(60);

const PROBE: &str = r#"{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "probe"}, "spec": {
  "selector": {"matchLabels": {"app": "probe"}},
  "template": {"metadata": {"labels": {"app": "probe"}}, "spec": {"hostNetwork": true, "containers": [
    {"name": "probe", "image": "localhost/pause:1", "imagePullPolicy": "Never"}]}}}}"#;

fn wait_ready(cluster: &Cluster, node: &str, status: &str) {
    eventually(&format!("{node} with Ready={status}"), SEEN, || {
        let path = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let seen = cluster.ask(&["get", "node", node, path])?;
        ensure(seen == status, || seen.clone())
    });
}

fn wait_running(cluster: &Cluster, pods: usize) {
    eventually(&format!("{pods} pods that are ready"), SEEN, || {
        let path = "-o=jsonpath={.status.numberReady}";
        let seen = cluster.ask(&["get", "daemonset", "probe", path])?;
        ensure(seen == pods.to_string(), || seen.clone())
    });
}

#[test]
fn a_cluster_comes_up_fails_and_comes_back() {
    let mut cluster = Cluster::up(2).expect("root on Debian can run one");
    let nodes = cluster.nodes();

    for node in &nodes {
        let mut routes = node.command(&need("ip")).expect("the node is up");
        let routes = succeed(routes.args(["route", "show"])).expect("ip lists routes");
        assert!(!routes.contains("default"), "{} could leave the machine:\n{routes}", node.name());
    }
    let probe = nodes[0].files_folder().join("probe.json");
    std::fs::write(&probe, PROBE).expect("the folder of a node can be written");
    cluster.ask(&["apply", "-f", &probe.display().to_string()]).expect("the API takes a DaemonSet");
    wait_running(&cluster, 2);

    nodes[1].cut().expect("a cable can be pulled");
    wait_ready(&cluster, "node2", "Unknown");
    nodes[1].heal().expect("a cable can be plugged in");
    wait_ready(&cluster, "node2", "True");

    nodes[1].crash().expect("a node can crash");
    wait_ready(&cluster, "node2", "Unknown");
    nodes[1].boot().expect("a node boots again");
    wait_ready(&cluster, "node2", "True");
    wait_running(&cluster, 2);

    cluster.kill("kube-apiserver");
    cluster.ask(&["get", "nodes", "--request-timeout", "1s"]).expect_err("nobody answers");
    cluster.start_again("kube-apiserver").expect("the API server starts again");
    wait_running(&cluster, 2);

    nodes[0].stop_kubelet();
    wait_ready(&cluster, "node1", "Unknown");
    nodes[0].start_kubelet().expect("a kubelet starts again");
    wait_ready(&cluster, "node1", "True");

    cluster.down().expect("all of it ends");
    assert!(Cluster::find().is_err(), "something is left of it");
}
