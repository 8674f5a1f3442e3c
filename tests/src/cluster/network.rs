//! The cluster's network: a bridge on the host, a cable to each node's namespace, and routes that lead nowhere else.

use std::fs::File;
use std::path::Path;

use super::run;

const BRIDGE: &str = "pkbr0";
/// The host on the bridge.
pub(super) const HOST: &str = "10.99.0.1";
pub(super) const PODS: &str = "10.244.0.0/16";
pub(super) const SERVICES: &str = "10.96.0.0/16";

/// A node's address.
pub(super) fn address(number: u8) -> String {
    format!("10.99.0.{}", 10 + number)
}

/// The range of a node's pods.
pub(super) fn pods(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// The name of a node's network namespace.
pub(super) fn namespace(number: u8) -> String {
    format!("pkn{number}")
}

fn cable(number: u8) -> String {
    format!("pkv{number}")
}

pub(super) fn is_up() -> bool {
    Path::new("/sys/class/net").join(BRIDGE).exists()
}

pub(super) fn has_node(number: u8) -> bool {
    Path::new("/run/netns").join(namespace(number)).exists()
}

pub(super) fn up() -> Result<(), String> {
    run(&format!("ip link add {BRIDGE} type bridge forward_delay 0"))?;
    run(&format!("ip address add {HOST}/24 dev {BRIDGE}"))?;
    run(&format!("ip link set {BRIDGE} up"))?;
    // A ClusterIP or pod without a node would else be looked for behind the host's own default route.
    run(&format!("ip route add unreachable {PODS}"))?;
    run(&format!("ip route add {SERVICES} via {}", address(1))).map(drop)
}

/// Makes a node's namespace and its cable. `nodes` is how many there will be.
pub(super) fn add_node(number: u8, nodes: u8) -> Result<(), String> {
    let (namespace, cable, address) = (namespace(number), cable(number), address(number));
    run(&format!("ip netns add {namespace}"))?;
    run(&format!("ip link add {cable} type veth peer name eth0 netns {namespace}"))?;
    run(&format!("ip link set {cable} master {BRIDGE} up"))?;
    run(&format!("ip -n {namespace} link set lo up"))?;
    run(&format!("ip -n {namespace} address add {address}/24 dev eth0"))?;
    run(&format!("ip -n {namespace} link set eth0 up"))?;
    // Handled by kube-proxy in the node; a route is all that the address needs, and there is no default route.
    run(&format!("ip -n {namespace} route add {SERVICES} dev eth0"))?;
    run(&format!("ip netns exec {namespace} sysctl -q -w net.ipv4.ip_forward=1"))?;
    for other in (1..=nodes).filter(|&other| other != number) {
        run(&format!("ip -n {namespace} route add {} via {}", pods(other), self::address(other)))?;
    }
    run(&format!("ip route add {} via {address}", pods(number))).map(drop)
}

/// Pulls a node's cable, or plugs it in again.
pub(super) fn plug(number: u8, plugged: bool) -> Result<(), String> {
    run(&format!("ip link set {} {}", cable(number), if plugged { "up" } else { "down" })).map(drop)
}

/// Removes all of it; what is not there is no error.
pub(super) fn down() {
    for number in 1..=9 {
        if has_node(number) {
            let _ = run(&format!("ip netns delete {}", namespace(number)));
            let _ = run(&format!("ip link delete {}", cable(number)));
        }
    }
    let _ = run(&format!("ip route delete unreachable {PODS}"));
    let _ = run(&format!("ip link delete {BRIDGE}"));
}

/// A table of nft that is the harness's own.
const BLOCK: &str = "inet penstock-harness";

/// Drops what fits one of `matches` on its way out of a node's processes.
pub(super) fn block(number: u8, matches: &[String]) -> Result<(), String> {
    let nft = format!("ip netns exec {} nft", namespace(number));
    run(&format!("{nft} add table {BLOCK}"))?;
    run(&format!("{nft} add chain {BLOCK} out {{ type filter hook output priority 0 ; }}"))?;
    matches.iter().try_for_each(|it| run(&format!("{nft} add rule {BLOCK} out {it} drop")).map(drop))
}

pub(super) fn unblock(number: u8) -> Result<(), String> {
    run(&format!("ip netns exec {} nft delete table {BLOCK}", namespace(number))).map(drop)
}

/// What a thread needs to go into a node's network.
pub(super) fn handle(number: u8) -> Result<File, String> {
    let path = Path::new("/run/netns").join(namespace(number));
    File::open(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// All rules of a node's packet filter.
pub(super) fn filter(number: u8) -> Result<String, String> {
    run(&format!("ip netns exec {} nft list ruleset", namespace(number)))
}
