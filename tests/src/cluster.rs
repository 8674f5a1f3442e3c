//! A Kubernetes of real parts on this machine: the control plane on the host, and nodes as namespaces, each with its own
//! kubelet, kube-proxy, containerd and runc.
//!
//! ```text
//! host 10.99.0.1   etcd   kube-apiserver :6443   controller manager   scheduler   CoreDNS :53
//!    pkbr0 ──┬── node1 10.99.0.11, pods 10.244.1.0/24      own network, mount, UTS and PID namespaces: a hostNetwork pod
//!            └── node2 10.99.0.12, pods 10.244.2.0/24      of each may bind the same port
//! ```
//!
//! Nothing leaves the machine: a node has no default route, and the host refuses the ranges of pods and services that no node has.
//! Names and addresses are fixed, so there is one cluster at a time.

mod control_plane;
mod daemons;
mod network;
mod node;
mod pki;
mod programs;
mod sysctl;
mod turn;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::cache;
use crate::eventually::within;
use crate::image::Image;
use crate::tools::{find, succeed};

use daemons::Daemons;
pub use node::Node;
pub use programs::Programs;
use turn::Turn;

/// How long the control plane, or a node, may take to come up on a busy machine.
const UP: Duration = Duration::from_secs(120);

/// What Debian offers for it, as (program, packages).
pub const DEBIAN: &[(&str, &[&str])] = &[
    ("containerd", &["containerd", "containernetworking-plugins"]),
    ("runc", &["runc"]),
    ("nft", &["nftables"]),
    ("conntrack", &["conntrack"]),
    ("iptables", &["iptables"]),
    ("openssl", &["openssl"]),
    ("ip", &["iproute2"]),
    ("nsenter", &["util-linux"]),
    // Scrapes an installation; with promtool, which checks the rules of the chart.
    ("prometheus", &["prometheus"]),
];

/// A cluster that runs. Taken down on drop, unless it is kept.
pub struct Cluster {
    parts: Parts,
    nodes: u8,
    kept: bool,
    /// Given back last. Who found the cluster of another process has none.
    turn: Option<Turn>,
}

/// What all parts of the harness need.
#[derive(Clone)]
struct Parts {
    /// Certificates, logs, process ids and the nodes' own folders.
    state: PathBuf,
    programs: Programs,
    daemons: Daemons,
}

impl Parts {
    fn at(state: PathBuf) -> Result<Parts, String> {
        let daemons = Daemons::new(&state)?;
        Ok(Parts { programs: Programs::build()?, daemons, state })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    fn pki(&self, name: &str) -> String {
        self.state.join("pki").join(name).display().to_string()
    }

    fn kubeconfig(&self, name: &str) -> PathBuf {
        self.state.join("pki").join(format!("{name}.conf"))
    }

    fn kubectl(&self) -> Command {
        let mut command = Command::new(self.programs.path("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig("admin"));
        // Its discovery cache would else be shared with clusters of other runs.
        command.arg("--cache-dir").arg(self.file("kubectl-cache"));
        command
    }
}

fn state_folder() -> PathBuf {
    cache::folder("cluster/state")
}

impl Cluster {
    /// Builds what is missing, and brings a cluster of so many nodes up.
    pub fn up(nodes: u8) -> Result<Cluster, String> {
        assert!((1..=9).contains(&nodes), "addresses and names are made for 1 to 9 nodes");
        let cluster = Cluster::new(nodes)?;
        let begun = Instant::now();
        cluster.start(&control_plane::PARTS)?;
        eprintln!("{nodes} nodes are Ready after {:.1} s", begun.elapsed().as_secs_f64());
        Ok(cluster)
    }

    /// Only etcd and the API server: objects are what somebody makes them, and no controller calls a node without a kubelet lost.
    pub fn api_only() -> Result<Cluster, String> {
        let cluster = Cluster::new(0)?;
        cluster.start(&control_plane::API)?;
        Ok(cluster)
    }

    /// Waits for its turn. Nothing of it runs yet.
    fn new(nodes: u8) -> Result<Cluster, String> {
        can_run()?;
        let state = state_folder();
        let turn = Turn::take(&state)?;
        fs::remove_dir_all(&state).map_err(|e| format!("{}: {e}", state.display()))?;
        Ok(Cluster { parts: Parts::at(state_folder())?, nodes, kept: false, turn: Some(turn) })
    }

    /// The cluster that another process brought up and kept.
    pub fn find() -> Result<Cluster, String> {
        if !network::is_up() {
            return Err("no cluster runs on this machine; `cargo xtask cluster up` makes one".into());
        }
        let parts = Parts::at(turn::state().unwrap_or_else(state_folder))?;
        let nodes = (1..=9).filter(|&number| network::has_node(number)).count() as u8;
        Ok(Cluster { parts, nodes, kept: true, turn: None })
    }

    fn start(&self, parts: &[&str]) -> Result<(), String> {
        sysctl::keep(&self.parts)?;
        network::up()?;
        pki::make(&self.parts, self.nodes)?;
        parts.iter().try_for_each(|part| control_plane::start_part(&self.parts, part))?;
        let nodes: Vec<Node> = self.nodes();
        if nodes.is_empty() {
            return Ok(());
        }
        // Before the nodes, which boot at once and all need it.
        node::pause_image(&self.parts)?;
        for node in &nodes {
            network::add_node(node.number(), self.nodes)?;
        }
        let booted: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let boots: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.boot())).collect();
            boots
                .into_iter()
                .map(|boot| boot.join().map_err(|_| "a node's start panicked".to_owned())?)
                .collect()
        });
        booted.into_iter().collect::<Result<(), String>>()?;
        for node in &nodes {
            node.wait_ready(UP)?;
            node.tell_pods()?;
        }
        Ok(())
    }

    /// Leaves it running when this process ends.
    pub fn keep(mut self) -> Result<(), String> {
        self.kept = true;
        self.turn.as_mut().map_or(Ok(()), |turn| turn.keep(&self.parts.state))
    }

    /// Takes all of it down. Logs stay until the next one comes up.
    pub fn down(&mut self) -> Result<(), String> {
        self.kept = true;
        take_down(&self.parts, self.nodes)
    }

    /// All nodes, the first is `node1`.
    pub fn nodes(&self) -> Vec<Node> {
        nodes(&self.parts, self.nodes)
    }

    /// A command of kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> Command {
        self.parts.kubectl()
    }

    /// A command of helm as the cluster's administrator.
    pub fn helm(&self) -> Command {
        let mut command = Command::new(self.parts.programs.path("helm"));
        command.arg("--kubeconfig").arg(self.parts.kubeconfig("admin"));
        command
    }

    /// What kubectl answers, if the API does within 30 s; another `--request-timeout` goes before that.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        succeed(self.kubectl().arg("--request-timeout=30s").args(arguments))
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.parts.kubeconfig("admin")
    }

    /// The authority of the API server's certificate, a PEM file.
    pub fn authority(&self) -> PathBuf {
        self.parts.pki("ca.crt").into()
    }

    /// Host and port of the API server.
    pub fn api(&self) -> (&'static str, u16) {
        (network::HOST, control_plane::PORT)
    }

    /// Puts an image into all nodes.
    pub fn import(&self, image: &Image) -> Result<(), String> {
        self.nodes().iter().try_for_each(|node| node.import(image.archive()))
    }

    /// The process of a part of the control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, coredns.
    pub fn pid(&self, part: &str) -> Option<u32> {
        self.parts.daemons.pid(part)
    }

    /// Ends a part of the control plane with SIGKILL.
    pub fn kill(&self, part: &str) {
        self.parts.daemons.stop(part);
    }

    /// Starts a part of the control plane that was killed, and waits until it answers.
    pub fn start_again(&self, part: &str) -> Result<(), String> {
        control_plane::start_part(&self.parts, part)
    }

    /// Copies what etcd has, for [`Cluster::restore`]. It and the API server are away meanwhile.
    pub fn back_up(&self) -> Result<(), String> {
        self.without_etcd(|state| copy(&state.join("etcd"), &state.join("etcd-backup")))
    }

    /// Puts etcd back to what the copy has.
    pub fn restore(&self) -> Result<(), String> {
        self.without_etcd(|state| copy(&state.join("etcd-backup"), &state.join("etcd")))
    }

    fn without_etcd(&self, work: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
        let parts = ["etcd", "kube-apiserver"];
        parts.iter().rev().for_each(|part| self.kill(part));
        work(&self.parts.state)?;
        parts.iter().try_for_each(|part| self.start_again(part))
    }

    /// Where the logs of all parts are.
    pub fn logs(&self) -> PathBuf {
        self.parts.file("logs")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs of the cluster are in {}", self.logs().display());
        }
        if !self.kept
            && let Err(error) = self.down()
        {
            eprintln!("the cluster is not wholly down: {error}");
        }
    }
}

fn nodes(parts: &Parts, nodes: u8) -> Vec<Node> {
    (1..=nodes).map(|number| Node::new(parts.clone(), number)).collect()
}

/// Ends all that a cluster of up to so many nodes has made; what is not there is no error.
fn take_down(parts: &Parts, count: u8) -> Result<(), String> {
    // What one node leaves behind keeps nothing else from ending.
    let crashed: Vec<Result<(), String>> = nodes(parts, count).iter().map(Node::crash).collect();
    parts.daemons.stop_all();
    node::remove_cgroups();
    sysctl::restore(parts);
    network::down();
    crashed.into_iter().collect()
}

/// Whether this machine can run one; if not, what is missing.
fn can_run() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a cluster needs root: it makes network namespaces and mounts".into());
    }
    if !Path::new("/sys/fs/cgroup/memory").is_dir() {
        return Err("a cluster needs cgroup v1 controllers under /sys/fs/cgroup".into());
    }
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .flat_map(|(_, packages)| *packages)
        .copied()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("not installed: {}; `cargo xtask setup` installs it", missing.join(" ")))
    }
}

/// Waits for a state of a part; an error says what was awaited and where its log is.
fn wait<T>(
    parts: &Parts,
    part: &str,
    what: &str,
    limit: Duration,
    probe: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    within(limit, probe).map_err(|last| {
        let log = parts.daemons.log(part);
        format!("waited {limit:?} for {what}: {last}; the log is {}", log.display())
    })
}

/// A folder in the place of another.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    run(&format!("rm -rf {}", to.display()))?;
    run(&format!("cp -a {} {}", from.display(), to.display())).map(drop)
}

/// Runs a command from a line of words, without a shell.
pub(crate) fn run(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    let program = find(program).ok_or_else(|| format!("{program} is not installed"))?;
    succeed(Command::new(program).args(words).env("PATH", path()))
}

/// PATH with the places of system programs.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}

/// Writes a file of the state, with the folders it is in.
fn write(file: &Path, text: &str) -> Result<(), String> {
    let folder = file.parent().expect("a file is in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(file, text))
        .map_err(|e| format!("{}: {e}", file.display()))
}
