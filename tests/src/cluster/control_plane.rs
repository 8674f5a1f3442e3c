//! etcd, API server, controller manager, scheduler and CoreDNS, as processes of the host.

use std::process::Command;

use super::network::{HOST, SERVICES};
use super::{Parts, UP, wait, write};
use crate::tools::succeed;

/// The parts in the order in which they start.
pub(super) const PARTS: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];

/// Those that keep objects and serve them.
pub(super) const API: [&str; 2] = ["etcd", "kube-apiserver"];

/// Of the API server.
pub(super) const PORT: u16 = 6443;

const ETCD: &str = "https://127.0.0.1:23790";

/// Starts one part and, where others need it, waits until it answers.
pub(super) fn start_part(parts: &Parts, part: &str) -> Result<(), String> {
    let arguments = match part {
        "etcd" => etcd(parts),
        "kube-apiserver" => apiserver(parts),
        "kube-controller-manager" => controller_manager(parts),
        "kube-scheduler" => scheduler(parts),
        "coredns" => coredns(parts)?,
        other => return Err(format!("no part {other}; there are {}", PARTS.join(", "))),
    };
    parts.daemons.start(part, Command::new(parts.programs.path(part)).args(arguments))?;
    if part != "kube-apiserver" {
        return Ok(());
    }
    wait(parts, part, "the API server", UP, || {
        if parts.daemons.pid(part).is_none() {
            return Err("it has ended".to_owned());
        }
        succeed(parts.kubectl().args(["get", "--raw", "/readyz", "--request-timeout", "2s"])).map(drop)
    })
}

fn etcd(parts: &Parts) -> Vec<String> {
    let data = parts.file("etcd").display().to_string();
    vec![
        format!("--data-dir={data}"),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:23800".into(),
        "--initial-advertise-peer-urls=http://127.0.0.1:23800".into(),
        "--initial-cluster=default=http://127.0.0.1:23800".into(),
        format!("--cert-file={}", parts.pki("etcd.crt")),
        format!("--key-file={}", parts.pki("etcd.key")),
        format!("--trusted-ca-file={}", parts.pki("etcd-ca.crt")),
        "--client-cert-auth=true".into(),
        // Nothing here outlives the machine.
        "--unsafe-no-fsync".into(),
    ]
}

fn apiserver(parts: &Parts) -> Vec<String> {
    let pki = |flag: &str, file: &str| format!("--{flag}={}", parts.pki(file));
    vec![
        format!("--advertise-address={HOST}"),
        format!("--bind-address={HOST}"),
        format!("--secure-port={PORT}"),
        format!("--etcd-servers={ETCD}"),
        pki("etcd-cafile", "etcd-ca.crt"),
        pki("etcd-certfile", "apiserver-etcd.crt"),
        pki("etcd-keyfile", "apiserver-etcd.key"),
        pki("client-ca-file", "ca.crt"),
        pki("tls-cert-file", "apiserver.crt"),
        pki("tls-private-key-file", "apiserver.key"),
        pki("kubelet-certificate-authority", "ca.crt"),
        pki("kubelet-client-certificate", "apiserver-kubelet.crt"),
        pki("kubelet-client-key", "apiserver-kubelet.key"),
        // Their names are known to nobody.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        pki("service-account-key-file", "service-accounts.pub"),
        pki("service-account-signing-key-file", "service-accounts.key"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        pki("requestheader-client-ca-file", "front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        pki("proxy-client-cert-file", "front-proxy.crt"),
        pki("proxy-client-key-file", "front-proxy.key"),
        // As short as the nodes' timings below.
        "--default-not-ready-toleration-seconds=15".into(),
        "--default-unreachable-toleration-seconds=15".into(),
        "--profiling=false".into(),
    ]
}

fn client(parts: &Parts, name: &str) -> Vec<String> {
    let conf = parts.kubeconfig(name).display().to_string();
    vec![
        format!("--kubeconfig={conf}"),
        format!("--authentication-kubeconfig={conf}"),
        format!("--authorization-kubeconfig={conf}"),
        format!("--requestheader-client-ca-file={}", parts.pki("front-proxy-ca.crt")),
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
    ]
}

fn controller_manager(parts: &Parts) -> Vec<String> {
    let own = vec![
        format!("--root-ca-file={}", parts.pki("ca.crt")),
        format!("--service-account-private-key-file={}", parts.pki("service-accounts.key")),
        "--use-service-account-credentials=true".into(),
        // Kubernetes' own are 5 s and 50 s.
        "--node-monitor-period=1s".into(),
        "--node-monitor-grace-period=10s".into(),
    ];
    [client(parts, "controller-manager"), own].concat()
}

fn scheduler(parts: &Parts) -> Vec<String> {
    client(parts, "scheduler")
}

fn coredns(parts: &Parts) -> Result<Vec<String>, String> {
    let file = parts.file("Corefile");
    let text = format!(
        ".:53 {{
    bind {HOST}
    errors
    cache 5
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        pods insecure
    }}
}}
",
        parts.kubeconfig("admin").display()
    );
    write(&file, &text)?;
    Ok(vec!["-conf".into(), file.display().to_string()])
}
