//! The real operator as processes of the host. Each finds what it would find in its pod: the API server's address in the environment,
//! its ServiceAccount's token and its certificate in their places, and a name that leads to all replicas.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tests::census;
use tests::cluster::Cluster;
use tests::eventually::{ensure, within};
use tests::http;
use tests::installation::NAMESPACE;
use tests::running::{Folder, Running};
use tests::standalone::binary;

const SESSIONS: u16 = 9190;
const PROBES: u16 = 9192;
const ENDED: Duration = Duration::from_secs(10);

/// Enters folders of ours in the places of a pod's, for this process alone.
const ENTER: &str =
    r#"mount --bind "$1/run" /run && mount --bind "$1/hosts" /etc/hosts && shift && exec "$@""#;

/// The name that leads to all replicas; their certificate is made for it.
pub(crate) fn service() -> String {
    format!("penstock-operator.{NAMESPACE}.svc")
}

/// Where each replica is.
pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + number)
}

/// Where workers dial it.
pub(crate) fn sessions(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address(number)), SESSIONS)
}

/// What all replicas are started from.
pub(crate) struct Pods {
    folder: Folder,
    api: (&'static str, u16),
}

impl Pods {
    /// With the token of the operator's ServiceAccount, and what the Secret of the installation holds: certificate and key.
    pub(crate) fn new(
        cluster: &Cluster,
        token: &str,
        tls: (&[u8], &[u8]),
        replicas: u8,
    ) -> Result<Pods, String> {
        let folder = Folder::new("scale");
        let account = folder.file("run/secrets/kubernetes.io/serviceaccount");
        let hosts: String =
            (0..replicas).map(|number| format!("{} {}\n", address(number), service())).collect();
        let wrong = |e: std::io::Error| format!("{}: {e}", folder.path().display());
        fs::create_dir_all(&account).map_err(wrong)?;
        fs::write(folder.file("hosts"), hosts).map_err(wrong)?;
        fs::write(account.join("token"), token).map_err(wrong)?;
        fs::write(account.join("namespace"), NAMESPACE).map_err(wrong)?;
        fs::copy(cluster.authority(), account.join("ca.crt")).map_err(wrong)?;
        fs::write(folder.file("tls.crt"), tls.0).map_err(wrong)?;
        fs::write(folder.file("tls.key"), tls.1).map_err(wrong)?;
        Ok(Pods { folder, api: cluster.api() })
    }

    /// Starts the replica of this number. Each start is another pod.
    pub(crate) fn start(&self, number: u8, start: u32) -> Replica {
        let file = |name: &str| self.folder.file(name).display().to_string();
        let (own, service) = (address(number), service());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
        command.arg(self.folder.path()).arg(binary()).arg("operator");
        command.args([
            format!("--sessions={own}:{SESSIONS}"),
            format!("--probes={own}:{PROBES}"),
            format!("--tls-cert={}", file("tls.crt")),
            format!("--tls-key={}", file("tls.key")),
            format!("--peers={service}"),
        ]);
        command.env("KUBERNETES_SERVICE_HOST", self.api.0);
        command.env("KUBERNETES_SERVICE_PORT", self.api.1.to_string());
        command.env("PENSTOCK_NAMESPACE", NAMESPACE);
        command.env("PENSTOCK_POD_NAME", format!("penstock-operator-{number}"));
        command.env("PENSTOCK_POD_UID", format!("operator-{number}-{start}"));
        command.env("PENSTOCK_POD_IP", own.to_string());
        let log = self.folder.file(&format!("operator-{number}-{start}.log"));
        Replica { number, process: Running::start("penstock operator", command, log) }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// One process of the operator.
pub(crate) struct Replica {
    number: u8,
    process: Running,
}

impl Replica {
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        census::rss_bytes(self.pid()) as f64 / f64::from(1 << 20)
    }

    /// The sum of the metric's lines that hold all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, String> {
        let to = SocketAddr::new(IpAddr::V4(address(self.number)), PROBES);
        let page = http::get(to, "/metrics").map_err(|e| format!("{to}: {e}"))?;
        sum(&page.body, name, labels)
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("penstock_operator_leads", &[]) == Ok(1.0)
    }

    /// Waits until it has a session with each worker.
    pub(crate) fn wait_sessions(&self, workers: usize, limit: Duration) -> Result<(), String> {
        within(limit, || {
            let open = self.metric("penstock_worker_sessions", &[])?;
            ensure(open == workers as f64, || format!("{open} of {workers}"))
        })
        .map_err(|last| format!("waited {limit:?} for sessions of operator {}: {last}", self.number))
    }

    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// As a kubelet ends a pod.
    pub(crate) fn end(mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait_end(ENDED);
    }
}

/// The sum of the lines of a page of metrics that begin with `name` and hold all of `labels`.
pub(crate) fn sum(page: &str, name: &str, labels: &[&str]) -> Result<f64, String> {
    let lines = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let values = lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
    values.collect::<Option<Vec<f64>>>().map(|all| all.iter().sum()).ok_or(format!("{name} is no number"))
}
