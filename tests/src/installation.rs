//! penstock on a cluster of the tests: its image in all nodes, its chart installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::eventually::{ensure, within};
use crate::image::penstock;
use crate::running::Folder;
use crate::tools::{root, succeed};

/// The namespace of the installation.
pub const NAMESPACE: &str = "penstock-system";

/// What Pod Security must allow the workers, who are on the host network.
const LABEL: &str = "pod-security.kubernetes.io/enforce=privileged";

const RELEASE: &str = "penstock";

/// The chart in the checkout.
pub fn chart() -> PathBuf {
    root().join("charts/penstock")
}

/// An installed chart.
pub struct Installation<'a> {
    cluster: &'a Cluster,
}

/// A pod of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The node it is on; empty before it is on one.
    pub node: String,
    /// Its address; that of its node where it is on the host network.
    pub address: String,
    /// Whether all of its containers are ready.
    pub ready: bool,
    /// How often its containers have been started again.
    pub restarts: u64,
}

impl<'a> Installation<'a> {
    /// Builds the image where it is not current, puts it into all nodes and installs the chart. Does not wait for its pods.
    pub fn of(cluster: &'a Cluster) -> Result<Installation<'a>, String> {
        Installation::with(cluster, &[])
    }

    /// The same with values, each as for helm's `--set`.
    pub fn with(cluster: &'a Cluster, values: &[&str]) -> Result<Installation<'a>, String> {
        Installation::of_chart(cluster, &chart(), values)
    }

    /// The same from another chart, which [`Installation::upgrade`] leads to the one in the checkout.
    pub fn of_chart(cluster: &'a Cluster, chart: &Path, values: &[&str]) -> Result<Installation<'a>, String> {
        cluster.import(&penstock::build()?)?;
        Installation::objects(cluster, chart, values)
    }

    /// Only the chart's objects, on a cluster whose pods somebody else plays.
    pub fn objects(cluster: &'a Cluster, chart: &Path, values: &[&str]) -> Result<Installation<'a>, String> {
        if cluster.ask(&["get", "namespace", NAMESPACE]).is_err() {
            cluster.ask(&["create", "namespace", NAMESPACE])?;
            cluster.ask(&["label", "namespace", NAMESPACE, LABEL])?;
        }
        let installation = Installation { cluster };
        installation.helm("install", chart, values)?;
        Ok(installation)
    }

    /// The one that [`Installation::of`] or a person has made.
    pub fn find(cluster: &'a Cluster) -> Result<Installation<'a>, String> {
        let installation = Installation { cluster };
        succeed(cluster.helm().args(["status", RELEASE, "--namespace", NAMESPACE]))?;
        Ok(installation)
    }

    /// Puts the image as the checkout has it into all nodes, and starts all pods again with it.
    pub fn renew(&self) -> Result<(), String> {
        self.cluster.import(&penstock::build()?)?;
        succeed(self.kubectl().args([
            "rollout",
            "restart",
            "deployment/penstock-operator",
            "daemonset/penstock-worker",
        ]))
        .map(drop)
    }

    /// Upgrades to the chart as it is in the checkout, with these values and no others.
    pub fn upgrade(&self, values: &[&str]) -> Result<(), String> {
        self.helm("upgrade", &chart(), values)
    }

    fn helm(&self, verb: &str, chart: &Path, values: &[&str]) -> Result<(), String> {
        let mut helm = self.cluster.helm();
        helm.args([verb, RELEASE, "--namespace", NAMESPACE]).arg(chart);
        // The image is in the nodes, and nothing can be pulled. A worker that nobody can take over from keeps no test waiting long.
        let ours = ["image.pullPolicy=Never", "worker.terminationGracePeriodSeconds=10"];
        for value in ours.iter().chain(values) {
            helm.args(["--set", value]);
        }
        succeed(&mut helm).map(drop)
    }

    /// Runs the chart's own tests.
    pub fn test(&self) -> Result<String, String> {
        succeed(self.cluster.helm().args(["test", RELEASE, "--namespace", NAMESPACE, "--timeout", "60s"]))
    }

    /// Uninstalls the chart, and waits until its pods are gone.
    pub fn uninstall(self) -> Result<(), String> {
        let mut helm = self.cluster.helm();
        helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--timeout", "90s"]);
        // Only then helm waits for what it has not made itself.
        succeed(helm.args(["--wait", "--cascade", "foreground"])).map(drop)
    }

    /// A command of kubectl in its namespace.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = self.cluster.kubectl();
        kubectl.args(["--namespace", NAMESPACE]);
        kubectl
    }

    /// Waits until all replicas of the operator and a worker on each node are ready; else tells what their pods do and say.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), String> {
        within(limit, || self.is_ready())
            .map_err(|last| format!("waited {limit:?} for operator and workers: {last}\n{}", self.told()))
    }

    fn is_ready(&self) -> Result<(), String> {
        let ready = |kind: &str, name: &str, wanted: &str, counts: [&str; 2]| {
            let set = self.object(&["get", kind, name])?;
            let (status, wanted) = (&set["status"], set.pointer(wanted).and_then(Value::as_u64));
            let seen = status["observedGeneration"] == set["metadata"]["generation"];
            let all = counts.iter().all(|count| status[count].as_u64() == wanted && wanted > Some(0));
            ensure(seen && all, || format!("{name}: {status}"))
        };
        ready("deployment", "penstock-operator", "/spec/replicas", ["updatedReplicas", "readyReplicas"])?;
        let counts = ["updatedNumberScheduled", "numberReady"];
        ready("daemonset", "penstock-worker", "/status/desiredNumberScheduled", counts)
    }

    /// What a person would look at when pods are not ready.
    fn told(&self) -> String {
        let mut told = String::new();
        for arguments in [&["get", "pods", "-o", "wide"][..], &["get", "events", "--sort-by=.lastTimestamp"]]
        {
            let seen = succeed(self.kubectl().args(arguments)).unwrap_or_else(|error| error);
            told.push_str(&seen);
        }
        for pod in self.pods("operator").into_iter().chain(self.pods("worker")).flatten() {
            let log = self.logs(&pod.name).unwrap_or_else(|error| error);
            let from = log.lines().count().saturating_sub(20);
            told.push_str(&format!("--- {} wrote last:\n", pod.name));
            log.lines().skip(from).for_each(|line| told.push_str(&format!("{line}\n")));
        }
        told
    }

    /// The pods of `operator` or `worker`, by name.
    pub fn pods(&self, component: &str) -> Result<Vec<Pod>, String> {
        let label = format!("app.kubernetes.io/component={component}");
        let list = self.object(&["get", "pods", "-l", &label])?;
        Ok(list["items"].as_array().into_iter().flatten().map(Pod::of).collect())
    }

    /// Waits until each replica of the operator has a session with a worker on each node.
    pub fn wait_sessions(&self, limit: Duration) -> Result<(), String> {
        let wanted = self.cluster.nodes().len();
        within(limit, || {
            for pod in self.pods("operator")? {
                let page = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:9192/proxy/metrics", pod.name);
                let metrics = self.cluster.ask(&["get", "--raw", &page])?;
                let line = format!("penstock_worker_sessions {wanted}");
                ensure(metrics.lines().any(|it| it == line), || format!("{}: not {line}", pod.name))?;
            }
            Ok(())
        })
        .map_err(|last: String| format!("waited {limit:?} for sessions: {last}"))
    }

    /// Waits until all pods are ready, and each replica of the operator hears each worker.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn settle(&self, limit: Duration) {
        self.wait_ready(limit).expect("operators and workers are ready");
        self.wait_sessions(limit).expect("each worker finds each replica");
    }

    /// What a pod has written so far.
    pub fn logs(&self, pod: &str) -> Result<String, String> {
        succeed(self.kubectl().args(["logs", pod, "--tail=-1"]))
    }

    /// What a pod's container had written when it ended last.
    pub fn logs_before(&self, pod: &str) -> Result<String, String> {
        succeed(self.kubectl().args(["logs", pod, "--tail=-1", "--previous"]))
    }

    /// `kubectl apply` of a file or a folder, in the namespace `default` unless objects say another.
    pub fn apply(&self, path: &str) -> Result<(), String> {
        self.cluster.ask(&["apply", "-f", path]).map(drop)
    }

    /// The same of YAML.
    pub fn apply_text(&self, yaml: &str) -> Result<(), String> {
        let folder = Folder::new("apply");
        let file = folder.file("objects.yaml");
        fs::write(&file, yaml).map_err(|e| format!("{}: {e}", file.display()))?;
        self.apply(&file.display().to_string())
    }

    fn object(&self, arguments: &[&str]) -> Result<Value, String> {
        let json = succeed(self.kubectl().args(arguments).args(["-o", "json", "--request-timeout=5s"]))?;
        serde_json::from_str(&json).map_err(|e| format!("kubectl {arguments:?}: {e}"))
    }
}

impl Pod {
    /// The pod of an object of the API.
    pub fn of(object: &Value) -> Pod {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let containers = object["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        Pod {
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            node: text("/spec/nodeName"),
            address: text("/status/podIP"),
            ready: !containers.is_empty() && containers.iter().all(|container| container["ready"] == true),
            restarts: containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum(),
        }
    }
}
