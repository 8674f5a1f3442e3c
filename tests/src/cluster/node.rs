//! A node: namespaces with an init of their own, and in them containerd, kubelet and kube-proxy at their standard paths.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::daemons::end;
use super::network::{self, HOST, PODS};
use super::{Parts, UP, path, run, wait, write};
use crate::census;
use crate::eventually::within;
use crate::image::Image;
use crate::running::signal_pid;
use crate::tools::{need, succeed};

const CGROUPS: &str = "/sys/fs/cgroup";
const PAUSE_IMAGE: &str = "localhost/pause:1";
/// What each node has a folder of its own for.
const OWN: [(&str, &str); 5] = [
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("cni", "/var/lib/cni"),
    ("cni-conf", "/etc/cni/net.d"),
    ("log", "/var/log"),
];

/// One node of a cluster.
#[derive(Clone)]
pub struct Node {
    parts: Parts,
    number: u8,
}

impl Node {
    pub(super) fn new(parts: Parts, number: u8) -> Node {
        Node { parts, number }
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Its address, which is that of its hostNetwork pods.
    pub fn address(&self) -> String {
        network::address(self.number)
    }

    /// A command inside of the node.
    pub fn command(&self, program: &Path) -> Result<Command, String> {
        let init =
            self.parts.daemons.pid(&self.name()).and_then(|pid| census::children(pid).first().copied());
        let init = init.ok_or_else(|| format!("{} is down", self.name()))?;
        let mut command = Command::new(need("nsenter"));
        command
            .args(["-t", &init.to_string(), "-m", "-u", "-n", "-p", "--"])
            .arg(program)
            .env("PATH", path());
        Ok(command)
    }

    /// Starts the node as a machine does: init, containerd, kubelet, kube-proxy.
    pub fn boot(&self) -> Result<(), String> {
        self.files()?;
        self.make_cgroups()?;
        let script = self.file("init.sh");
        let mut init = Command::new(need("nsenter"));
        init.arg(format!("--net=/run/netns/{}", network::namespace(self.number)));
        init.args([
            "unshare",
            "-m",
            "-u",
            "-p",
            "-f",
            "--mount-proc",
            "--propagation",
            "private",
            "--kill-child",
        ]);
        init.arg("sh").arg(script).env("PATH", path());
        let name = self.name();
        self.parts.daemons.start(&name, &mut init)?;
        wait(&self.parts, &name, "the node's init", UP, || {
            let pid = self.parts.daemons.pid(&name).ok_or("it has ended")?;
            let init = census::children(pid).first().copied().ok_or("it has no child yet")?;
            let name = fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
            if name.trim() == "pause" { Ok(()) } else { Err(format!("its init is {name}")) }
        })?;
        let containerd = self.daemon("containerd");
        let log = self.parts.daemons.log(&containerd);
        let before = fs::metadata(&log).map_or(0, |log| log.len() as usize);
        self.start_daemon("containerd", &need("containerd"), &["--config", &self.path("containerd.toml")])?;
        // It answers before its CRI is up, and a kubelet that finds no CRI ends.
        wait(&self.parts, &containerd, "containerd's CRI", UP, || {
            let text = fs::read(&log).map_err(|e| e.to_string())?;
            let new = String::from_utf8_lossy(text.get(before..).unwrap_or_default()).into_owned();
            if new.contains("Start streaming server") { Ok(()) } else { Err("it is not up".to_owned()) }
        })?;
        self.import(pause_image(&self.parts)?.archive())?;
        self.start_kubelet()?;
        self.start_daemon(
            "kube-proxy",
            &self.parts.programs.path("kube-proxy"),
            &["--config", &self.path("kube-proxy.yaml")],
        )
    }

    /// Starts the kubelet, which [`Node::stop_kubelet`] ended.
    pub fn start_kubelet(&self) -> Result<(), String> {
        let (config, conf) =
            (self.path("kubelet.yaml"), self.parts.kubeconfig(&self.name()).display().to_string());
        let (address, name) = (self.address(), self.name());
        let arguments =
            ["--config", &config, "--kubeconfig", &conf, "--node-ip", &address, "--hostname-override", &name];
        self.start_daemon("kubelet", &self.parts.programs.path("kubelet"), &arguments)
    }

    /// Ends the kubelet with SIGKILL; pods go on.
    pub fn stop_kubelet(&self) {
        let name = self.daemon("kubelet");
        if let Some(pid) = self.parts.daemons.pid(&name) {
            for child in census::children(pid) {
                signal_pid(child, rustix::process::Signal::KILL);
                end(&name, child);
            }
        }
        self.parts.daemons.stop(&name);
    }

    /// Ends all of the node in one instant, as a power cut does.
    pub fn crash(&self) -> Result<(), String> {
        let name = self.name();
        if let Some(pid) = self.parts.daemons.pid(&name) {
            for init in census::children(pid) {
                signal_pid(init, rustix::process::Signal::KILL);
                end(&name, init);
            }
        }
        for daemon in [name, self.daemon("containerd"), self.daemon("kubelet"), self.daemon("kube-proxy")] {
            self.parts.daemons.stop(&daemon);
        }
        // Left over, they would hold the next kubelet's start for 12 s.
        let own = controllers().into_iter().map(|controller| controller.join("penstock").join(self.name()));
        own.filter(|group| group.is_dir()).try_for_each(|group| remove_cgroup(&group))
    }

    /// Pulls the node's network cable.
    pub fn cut(&self) -> Result<(), String> {
        network::plug(self.number, false)
    }

    /// Plugs it in again.
    pub fn heal(&self) -> Result<(), String> {
        network::plug(self.number, true)
    }

    /// Does something in the node's network, on a thread of its own. Sockets that it opens stay there.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let network = network::handle(self.number)?;
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|e| format!("{}: {e}", self.name()))?;
                Ok(work())
            });
            there.join().map_err(|_| "the work in a node's network panicked".to_owned())?
        })
    }

    /// How many lines all rules of its packet filter have.
    pub fn filter_lines(&self) -> Result<usize, String> {
        network::filter(self.number).map(|rules| rules.lines().count())
    }

    /// Loses what the node's own processes, pods on its network among them, send that fits one of these matches of nft, such as
    /// `ip daddr 10.244.1.2 tcp dport 9190`.
    pub fn block(&self, matches: &[String]) -> Result<(), String> {
        network::block(self.number, matches)
    }

    /// Loses nothing any more.
    pub fn unblock(&self) -> Result<(), String> {
        network::unblock(self.number)
    }

    /// A folder of its own, for files of a test; the node sees it too.
    pub fn files_folder(&self) -> PathBuf {
        self.parts.state.join(self.name())
    }

    /// Waits until Kubernetes calls it Ready.
    pub fn wait_ready(&self, limit: std::time::Duration) -> Result<(), String> {
        let name = self.name();
        wait(&self.parts, &self.daemon("kubelet"), &format!("{name} to be Ready"), limit, || {
            let path = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            let status =
                succeed(self.parts.kubectl().args(["get", "node", &name, path, "--request-timeout", "2s"]))?;
            if status == "True" { Ok(()) } else { Err(format!("Ready is {status:?}")) }
        })
    }

    /// Tells Kubernetes where its pods are, as its controller does where that gives each node a part of the cluster's.
    pub(super) fn tell_pods(&self) -> Result<(), String> {
        let pods = network::pods(self.number);
        let patch = format!("{{\"spec\": {{\"podCIDR\": \"{pods}\", \"podCIDRs\": [\"{pods}\"]}}}}");
        succeed(self.parts.kubectl().args(["patch", "node", &self.name(), "--patch", &patch])).map(drop)
    }

    /// Puts an image archive into its containerd.
    pub fn import(&self, archive: &Path) -> Result<(), String> {
        succeed(self.ctr()?.args(["-n", "k8s.io", "images", "import"]).arg(archive)).map(drop)
    }

    fn ctr(&self) -> Result<Command, String> {
        self.command(&need("ctr"))
    }

    fn daemon(&self, program: &str) -> String {
        format!("{}-{program}", self.name())
    }

    fn start_daemon(&self, name: &str, program: &Path, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.command(program)?;
        self.parts.daemons.start(&self.daemon(name), command.args(arguments)).map(drop)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.parts.state.join(self.name()).join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn files(&self) -> Result<(), String> {
        for (own, at) in OWN {
            for folder in [&self.file(own), Path::new(at)] {
                fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            }
        }
        write(&self.file("resolv.conf"), "")?;
        write(&self.file("init.sh"), &self.init_script())?;
        write(&self.file("containerd.toml"), CONTAINERD)?;
        write(&self.file("kubelet.yaml"), &self.kubelet_config())?;
        write(&self.file("kube-proxy.yaml"), &self.proxy_config())?;
        write(&self.file("cni-conf/10-bridge.conflist"), &cni_config(self.number))
    }

    /// Runs as process 1 of the node.
    fn init_script(&self) -> String {
        let mounts: Vec<String> =
            OWN.iter().map(|(own, at)| format!("mount --bind {} {at}", self.path(own))).collect();
        format!(
            "set -e
hostname {name}
{mounts}
mount --bind {resolv} /etc/resolv.conf
mount -t tmpfs tmpfs /run
mount --make-rshared /
exec {pause}
",
            name = self.name(),
            mounts = mounts.join("\n"),
            resolv = self.path("resolv.conf"),
            pause = self.parts.programs.path("pause").display(),
        )
    }

    fn kubelet_config(&self) -> String {
        let (name, ca) = (self.name(), self.parts.pki("ca.crt"));
        let (certificate, key) =
            (self.parts.pki(&format!("{name}.crt")), self.parts.pki(&format!("{name}.key")));
        format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
cgroupDriver: cgroupfs
cgroupRoot: /penstock/{name}
failCgroupV1: false
enforceNodeAllocatable: [none]
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [{HOST}]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}}
# Kubernetes' own are 10 s and 40 s.
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
"
        )
    }

    fn proxy_config(&self) -> String {
        format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {PODS}
hostnameOverride: {}
clientConnection: {{kubeconfig: {}}}
# A network namespace may not set these.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
            self.name(),
            self.parts.kubeconfig("proxy").display(),
        )
    }

    fn make_cgroups(&self) -> Result<(), String> {
        for controller in controllers() {
            for group in [controller.join("penstock"), controller.join("penstock").join(self.name())] {
                fs::create_dir_all(&group).map_err(|e| format!("{}: {e}", group.display()))?;
                // An empty set of cores or memory nodes takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let above = group.parent().map(|above| above.join(file)).filter(|above| above.exists());
                    let Some(above) = above else { continue };
                    let set = fs::read_to_string(&above).unwrap_or_default();
                    fs::write(group.join(file), set.trim())
                        .map_err(|e| format!("{}: {e}", group.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// The image of the process that keeps a pod's namespaces.
pub(super) fn pause_image(parts: &Parts) -> Result<Image, String> {
    let folder = parts.file("images");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Image::of_program(&folder, PAUSE_IMAGE, &parts.programs.path("pause"), "0")
}

/// Removes the cgroups of all nodes, which no process is in any more.
pub(super) fn remove_cgroups() {
    for controller in controllers() {
        let all = controller.join("penstock");
        if all.is_dir()
            && let Err(error) = remove_cgroup(&all)
        {
            eprintln!("{} is not removed: {error}", all.display());
        }
    }
}

fn remove_cgroup(group: &Path) -> Result<(), String> {
    // Only folders can be removed in there, the deepest first; the kernel may still count a process that has ended.
    within(UP, || run(&format!("find {} -depth -type d -delete", group.display()))).map(drop)
}

fn controllers() -> Vec<PathBuf> {
    let entries = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn cni_config(number: u8) -> String {
    let pods = network::pods(number);
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {{
    "type": "host-local", "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#
    )
}

const CONTAINERD: &str = r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  stream_server_address = "127.0.0.1"
  # The sandbox's own setting is refused where CAP_SYS_RESOURCE is missing.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"#;
