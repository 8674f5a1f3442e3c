//! What a fault on a cluster costs: from its moment to the moment when another worker has accepted a publisher, for each stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::installation::{Installation, NAMESPACE, Pod};
use crate::objects::{Assignment, assignments, wait_all_ready};
use crate::rtmp::Connection;
use crate::running::signal_pid;
use crate::tools::succeed;

/// What happens to the worker with the most streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT when its streams have moved.
    Stop,
    /// Its node loses power.
    Crash,
    /// Its node's cable is pulled.
    Cut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Kill, Fault::Stop, Fault::Crash, Fault::Cut];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "worker kill -9",
            Fault::Stop => "worker SIGSTOP",
            Fault::Crash => "node crash",
            Fault::Cut => "cable cut",
        })
    }
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Outage {
    /// What happened.
    pub fault: Fault,
    /// Whether the leader was on the same node, and not only with a worker that ended.
    pub with_leader: bool,
    /// For each stream that was there: until its new owner had accepted a publisher.
    pub took: Vec<Duration>,
    /// What workers had in force by then, by their logs.
    pub ran: Ran,
}

/// Which processes, by their log files, have had a stream in force at an epoch.
pub type Ran = BTreeMap<(String, u64), BTreeSet<PathBuf>>;

/// A worker's word for a directory that only a leader sends who knows less than the one before.
const NOT_FOLLOWED: &str = "a lower epoch in the directory is not followed";

/// Longer than any bound that is asked for: what takes longer is told as not having come back.
const LIMIT: Duration = Duration::from_secs(30);

/// For pods and nodes to be back after a fault.
const BACK: Duration = Duration::from_secs(120);

/// For all workers, one after the other.
const ROLLED_OUT: Duration = Duration::from_secs(180);

/// Declares this many pushed streams, `default/s-N`, and waits until all are Ready.
pub fn declare(installation: &Installation<'_>, cluster: &Cluster, streams: usize) -> Result<(), String> {
    apply_streams(installation, streams)?;
    wait_all_ready(cluster, streams, BACK)
}

/// Declares them.
pub fn apply_streams(installation: &Installation<'_>, streams: usize) -> Result<(), String> {
    let yaml: String = (0..streams)
        .map(|number| {
            format!(
                "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: s-{number}}}\nspec:\n  \
                 source: {{push: {{}}}}\n  publish: {{resumeWindow: 1s}}\n"
            )
        })
        .collect();
    installation.apply_text(&yaml)
}

/// Does the worst to the worker with the most streams, sees each of them come back elsewhere, and puts things right again.
pub fn suffer(
    installation: &Installation<'_>,
    cluster: &Cluster,
    fault: Fault,
    streams: usize,
) -> Result<Outage, String> {
    let owners = assignments(cluster)?;
    let victim = busiest(&owners).ok_or("no stream has a worker")?;
    let node = cluster.nodes().into_iter().find(|node| node.name() == victim).ok_or("no such node")?;
    let leader = leader_node(installation, cluster)?;
    let with_leader = leader == victim && matches!(fault, Fault::Crash | Fault::Cut);
    let affected: BTreeMap<String, u64> = owners
        .into_iter()
        .filter(|(_, owner)| owner.node == victim)
        .map(|(name, owner)| (name, owner.epoch))
        .collect();
    let pid = worker_pid(&victim)?;
    let mut watch = Watch::start(cluster)?;
    // Its list comes first; from there on it is a watch.
    watch.next(Instant::now() + LIMIT).map_err(|why| format!("kubectl shows no stream: {why}"))?;

    let begun = Instant::now();
    match fault {
        Fault::Kill => signal_pid(pid, Signal::KILL),
        Fault::Stop => signal_pid(pid, Signal::STOP),
        Fault::Crash => node.crash()?,
        Fault::Cut => node.cut()?,
    }
    let took = watch.wait_for(&affected, &victim, begun);
    drop(watch);
    // Logs go with their pods.
    let ran = ran(cluster)?;
    no_directory_is_outdated(cluster)?;
    put_right(installation, &node, fault, pid)?;
    wait_all_ready(cluster, streams, BACK)?;
    Ok(Outage { fault, with_leader, took: took?, ran })
}

/// What the workers that are there have had in force since they are. A directory that went back to a lower epoch is an error.
pub fn ran(cluster: &Cluster) -> Result<Ran, String> {
    let mut ran = Ran::new();
    for (file, text) in logs(cluster)? {
        for (stream, epoch) in text.lines().filter_map(assigned) {
            ran.entry((stream, epoch)).or_default().insert(file.clone());
        }
    }
    Ok(ran)
}

/// Whether each worker was told rising epochs only. After a restore from a backup a leader may say less, after a failover it must not.
fn no_directory_is_outdated(cluster: &Cluster) -> Result<(), String> {
    for (file, text) in logs(cluster)? {
        if let Some(line) = text.lines().find(|line| line.contains(NOT_FOLLOWED)) {
            return Err(format!("{}: {line}", file.display()));
        }
    }
    Ok(())
}

/// What the workers that are there have written since they are.
fn logs(cluster: &Cluster) -> Result<Vec<(PathBuf, String)>, String> {
    let mut logs = Vec::new();
    for node in cluster.nodes() {
        let pods = node.files_folder().join("log/pods");
        for file in log_files(&pods).map_err(|e| format!("{}: {e}", pods.display()))? {
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            logs.push((file, text));
        }
    }
    Ok(logs)
}

/// One a start of a worker.
fn log_files(pods: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pod in fs::read_dir(pods)? {
        let worker = pod?.path().join("worker");
        if worker.is_dir() {
            let found: io::Result<Vec<_>> =
                fs::read_dir(worker)?.map(|file| file.map(|file| file.path())).collect();
            files.extend(found?);
        }
    }
    Ok(files)
}

/// The stream and epoch that a worker says in a line of its log to have in force. Before its own words stand those of the runtime.
fn assigned(line: &str) -> Option<(String, u64)> {
    let said: Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
    if said["message"] != "assigned" {
        return None;
    }
    Some((said["stream"].as_str()?.to_owned(), said["epoch"].as_u64()?))
}

/// Has each worker replaced by a new one, and says how often each stream was given to another process once `settled` returns.
pub fn roll_out(
    installation: &Installation<'_>,
    cluster: &Cluster,
    settled: impl FnOnce() -> Result<(), String>,
) -> Result<BTreeMap<String, u64>, String> {
    let before = assignments(cluster)?;
    let set = "daemonset/penstock-worker";
    succeed(installation.kubectl().args(["rollout", "restart", set]))?;
    let limit = format!("--timeout={}s", ROLLED_OUT.as_secs());
    succeed(installation.kubectl().args(["rollout", "status", set, &limit]))?;
    installation.wait_sessions(BACK)?;
    settled()?;
    let moves = assignments(cluster)?.into_iter().map(|(name, owner)| {
        // Not epochs: after a restart of the operator they go on above all that any worker was told.
        let former = before.get(&name).map_or(0, |before| before.failovers);
        (name, owner.failovers - former)
    });
    Ok(moves.collect())
}

/// Ends a fault, and waits until nodes, pods and sessions are as before.
pub fn put_right(installation: &Installation<'_>, node: &Node, fault: Fault, pid: u32) -> Result<(), String> {
    match fault {
        // A container that was killed again and again is started later each time; a new pod begins anew.
        Fault::Kill => {
            let pods = installation.pods("worker")?;
            let pod = pods.iter().find(|pod| pod.node == node.name()).ok_or("the worker's pod is gone")?;
            succeed(installation.kubectl().args(["delete", "pod", &pod.name, "--grace-period=1"]))?;
        }
        Fault::Stop => signal_pid(pid, Signal::CONT),
        Fault::Crash => node.boot()?,
        Fault::Cut => node.heal()?,
    }
    node.wait_ready(BACK)?;
    installation.wait_ready(BACK)?;
    // A replica that was started again is found by its name, and leads well only from then on.
    installation.wait_sessions(BACK)
}

fn busiest(owners: &BTreeMap<String, Assignment>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for owner in owners.values() {
        *counts.entry(&owner.node).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(node, _)| node.to_owned())
}

/// The node of the pod that has the Lease.
pub fn leader_node(installation: &Installation<'_>, cluster: &Cluster) -> Result<String, String> {
    leader(installation, cluster).map(|pod| pod.node)
}

/// The pod that has the Lease.
pub fn leader(installation: &Installation<'_>, cluster: &Cluster) -> Result<Pod, String> {
    let holder =
        cluster.ask(&["get", "lease", "penstock", "-n", NAMESPACE, "-o=jsonpath={.spec.holderIdentity}"])?;
    let pods = installation.pods("operator")?;
    let pod = pods.into_iter().find(|pod| holder.starts_with(&pod.uid));
    pod.ok_or_else(|| format!("no operator pod has the identity {holder}"))
}

/// The process of an operator's pod.
pub fn operator_pid(pod: &Pod) -> Result<u32, String> {
    let wanted = format!("PENSTOCK_POD_UID={}", pod.uid);
    let found = processes()?.into_iter().find(|pid| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables.split(|byte| *byte == 0).any(|it| it == wanted.as_bytes())
    });
    found.ok_or_else(|| format!("no process has {wanted}"))
}

/// Declares a stream and waits until it is Ready: how long it took from `begun`.
pub fn first_decision(
    installation: &Installation<'_>,
    cluster: &Cluster,
    name: &str,
    begun: Instant,
) -> Result<Duration, String> {
    let yaml = format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: {name}}}\nspec: {{source: {{push: \
         {{}}}}}}\n"
    );
    installation.apply_text(&yaml)?;
    let object = format!("mst/{name}");
    cluster.ask(&["wait", "--for=condition=Ready", &object, "--timeout=30s"])?;
    Ok(begun.elapsed())
}

fn processes() -> Result<Vec<u32>, String> {
    let all = std::fs::read_dir("/proc").map_err(|e| e.to_string())?;
    Ok(all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The worker process of a node, by its arguments.
pub fn worker_pid(node: &str) -> Result<u32, String> {
    let wanted = format!("--node={node}");
    let found = processes()?.into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"penstock"))
            && words.any(|word| word == wanted.as_bytes())
    });
    found.ok_or_else(|| format!("no worker runs with {wanted}"))
}

/// `kubectl get --watch`: changes of streams as they are written.
pub(crate) struct Watch {
    /// Absent: it is to end.
    kubectl: Arc<Mutex<Option<Child>>>,
    lines: mpsc::Receiver<String>,
}

const LINE: &str = r#"-o=jsonpath={.metadata.name} {.status.epoch} {.status.assignment.node} {.status.phase} {.status.endpoints[0].url}{"\n"}"#;

impl Watch {
    pub(crate) fn start(cluster: &Cluster) -> Result<Watch, String> {
        Watch::of(cluster, "default", LINE)
    }

    /// Of the streams of a namespace, a line as kubectl's `-o` has it for each change.
    pub(crate) fn of(cluster: &Cluster, namespace: &str, line: &str) -> Result<Watch, String> {
        let mut command = cluster.kubectl();
        command.args(["get", "mst", "--namespace", namespace, "--watch", line]).stdout(Stdio::piped());
        let mut start = move || {
            let mut kubectl = command.spawn().map_err(|e| format!("kubectl: {e}"))?;
            let output = kubectl.stdout.take().ok_or("kubectl has no output")?;
            Ok::<_, String>((kubectl, BufReader::new(output)))
        };
        let (kubectl, mut output) = start()?;
        let kubectl = Arc::new(Mutex::new(Some(kubectl)));
        let running = kubectl.clone();
        // More than a watch of the streams of these tests ever says at once.
        let (sender, lines) = mpsc::sync_channel(4096);
        // Ends with the last kubectl.
        std::thread::spawn(move || {
            loop {
                for line in (&mut output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(ended) = running.as_mut() else { return };
                // An API server ends a watch that is some ten events behind; whoever watches begins again, with a list. Without an API
                // server there is nothing to watch.
                if !ended.wait().is_ok_and(|status| status.success()) {
                    return;
                }
                let Ok((again, its)) = start() else { return };
                *running = Some(again);
                output = its;
            }
        });
        Ok(Watch { kubectl, lines })
    }

    /// The next line until then. `Disconnected`: kubectl has failed, and nothing comes any more.
    pub(crate) fn next(&mut self, until: Instant) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(until.saturating_duration_since(Instant::now()))
    }

    /// Publishes to each stream as soon as its status shows it Ready elsewhere.
    fn wait_for(
        &mut self,
        affected: &BTreeMap<String, u64>,
        victim: &str,
        begun: Instant,
    ) -> Result<Vec<Duration>, String> {
        let mut left = affected.clone();
        let (accepted, results) = mpsc::sync_channel(affected.len());
        let until = begun + LIMIT;
        while !left.is_empty() {
            let line = self.next(until).map_err(|why| {
                format!("{} of {} streams are not Ready within {LIMIT:?}: {why}", left.len(), affected.len())
            })?;
            let words: Vec<&str> = line.split(' ').collect();
            let [name, epoch, node, "Ready", url] = words[..] else { continue };
            let newer =
                left.get(name).is_some_and(|before| epoch.parse().is_ok_and(|epoch: u64| epoch > *before));
            if !newer || node == victim {
                continue;
            }
            left.remove(name);
            let (to, path) = target(url)?;
            let accepted = accepted.clone();
            std::thread::spawn(move || {
                let publisher = std::panic::catch_unwind(|| Connection::publish(to, &path));
                let took = begun.elapsed();
                let _ = accepted.send(publisher.map(|_| took).map_err(|_| path));
            });
        }
        drop(accepted);
        let all: Result<Vec<Duration>, String> = results.iter().collect();
        all.map_err(|path| format!("{path} is Ready, but a publisher was not accepted"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let kubectl = self.kubectl.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut kubectl) = kubectl {
            let _ = kubectl.kill();
            let _ = kubectl.wait();
        }
    }
}

/// Where `rtmp://HOST[:PORT]/path` leads.
pub(crate) fn target(url: &str) -> Result<(SocketAddr, String), String> {
    let wrong = || format!("{url} is no RTMP URL");
    let (host, path) = url.strip_prefix("rtmp://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:1935") };
    Ok((address.parse().map_err(|_| wrong())?, path.to_owned()))
}
