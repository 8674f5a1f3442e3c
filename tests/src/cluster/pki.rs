//! Certificates and kubeconfigs: made by openssl for one cluster, and worth nothing elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::network::{self, HOST};
use super::{Parts, write};
use crate::tools::{need, succeed};

const KEY: [&str; 6] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"];
const DAYS: &str = "30";

/// Makes all of a cluster's certificates and kubeconfigs in the folder `pki` of its state.
pub(super) fn make(parts: &Parts, nodes: u8) -> Result<(), String> {
    let folder = parts.file("pki");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for name in ["ca", "etcd-ca", "front-proxy-ca"] {
        authority(&folder, name)?;
    }
    let names = format!(
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,\
         DNS:localhost,IP:{HOST},IP:127.0.0.1,IP:10.96.0.1"
    );
    signed(&folder, "etcd", "etcd-ca", "/CN=etcd", Some("DNS:localhost,IP:127.0.0.1"))?;
    signed(&folder, "apiserver-etcd", "etcd-ca", "/CN=kube-apiserver", None)?;
    signed(&folder, "apiserver", "ca", "/CN=kube-apiserver", Some(&names))?;
    signed(&folder, "apiserver-kubelet", "ca", "/O=system:masters/CN=kube-apiserver-kubelet", None)?;
    signed(&folder, "front-proxy", "front-proxy-ca", "/CN=front-proxy-client", None)?;
    for (name, subject) in [
        ("admin", "/O=system:masters/CN=admin"),
        ("controller-manager", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("proxy", "/CN=system:kube-proxy"),
    ] {
        signed(&folder, name, "ca", subject, None)?;
        kubeconfig(parts, name)?;
    }
    for number in 1..=nodes {
        let name = format!("node{number}");
        let names = format!("DNS:{name},IP:{}", network::address(number));
        signed(&folder, &name, "ca", &format!("/O=system:nodes/CN=system:node:{name}"), Some(&names))?;
        kubeconfig(parts, &name)?;
    }
    let key = parts.pki("service-accounts.key");
    let algorithm = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", &key];
    openssl(&folder, "genpkey", &algorithm)?;
    openssl(&folder, "pkey", &["-in", &key, "-pubout", "-out", &parts.pki("service-accounts.pub")])
}

fn authority(folder: &Path, name: &str) -> Result<(), String> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let own =
        ["-x509", "-days", DAYS, "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &certificate];
    let usage =
        ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    openssl(folder, "req", &[&own[..], &KEY, &usage].concat())
}

fn signed(folder: &Path, name: &str, by: &str, subject: &str, names: Option<&str>) -> Result<(), String> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let (ca, ca_key) = (format!("{by}.crt"), format!("{by}.key"));
    let own = [
        "-x509",
        "-days",
        DAYS,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-subj",
        subject,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    let usage = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "extendedKeyUsage=clientAuth,serverAuth",
    ];
    let names = names.map(|names| format!("subjectAltName={names}"));
    let names: Vec<&str> = names.iter().flat_map(|names| ["-addext", names]).collect();
    openssl(folder, "req", &[&own[..], &KEY, &usage, &names].concat())
}

fn openssl(folder: &Path, verb: &str, arguments: &[&str]) -> Result<(), String> {
    succeed(Command::new(need("openssl")).current_dir(folder).arg(verb).args(arguments)).map(drop)
}

/// Writes the kubeconfig of whoever has the certificate `name`.
fn kubeconfig(parts: &Parts, name: &str) -> Result<(), String> {
    let (ca, certificate, key) =
        (parts.pki("ca.crt"), parts.pki(&format!("{name}.crt")), parts.pki(&format!("{name}.key")));
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: penstock, cluster: {{server: 'https://{HOST}:6443', certificate-authority: {ca}}}}}]
users: [{{name: {name}, user: {{client-certificate: {certificate}, client-key: {key}}}}}]
contexts: [{{name: penstock, context: {{cluster: penstock, user: {name}}}}}]
current-context: penstock
"
    );
    write(&parts.kubeconfig(name), &text)
}
