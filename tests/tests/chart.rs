//! The Helm chart: each rendering is accepted, gives no right beyond the list, and installs, upgrades and goes as it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::{Cluster, Programs};
use tests::encoders::Encoders;
use tests::eventually::{ensure, eventually};
use tests::installation::{Installation, NAMESPACE, chart};
use tests::running::Folder;
use tests::tools::{need, root, succeed};

/// From the chart's objects to pods that are ready. Nothing is pulled: the image is in the nodes.
const STARTED: Duration = Duration::from_secs(60);

fn helm() -> Command {
    Command::new(Programs::build().expect("the cluster's programs can be built").path("helm"))
}

/// The default values, and those of each file in `ci`.
fn value_sets() -> Vec<(String, Vec<String>)> {
    let mut sets = vec![("default".to_owned(), Vec::new())];
    for file in fs::read_dir(chart().join("ci")).expect("the chart has value sets").flatten() {
        let name = file.file_name().to_string_lossy().replace("-values.yaml", "");
        sets.push((name, vec!["--values".into(), file.path().display().to_string()]));
    }
    sets.sort();
    assert!(sets.len() > 5, "{sets:?}");
    sets
}

fn render(arguments: &[String]) -> Result<String, String> {
    let mut template = helm();
    template.args(["template", "penstock", "--namespace", NAMESPACE]).arg(chart());
    // Our helm is built without the version that it was made for.
    succeed(template.args(["--kube-version", "1.34.4"]).args(arguments))
}

fn objects(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    all.into_iter().filter(|object| !object.is_null()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> String {
    list(value).into_iter().map(word).collect::<Vec<_>>().join(",")
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    for (name, values) in value_sets() {
        let linted = succeed(helm().args(["lint", "--strict"]).arg(chart()).args(&values));
        linted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = fs::read_to_string(chart().join("Chart.yaml")).expect("the chart has its file");
    let chart: Value = serde_saphyr::from_str(&chart).expect("it is YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn each_value_is_explained_and_no_other_is_taken() {
    let text = fs::read_to_string(chart().join("values.yaml")).expect("the chart has values");
    let values: Value = serde_saphyr::from_str(&text).expect("they are YAML");
    let schema = fs::read_to_string(chart().join("values.schema.json")).expect("the chart has a schema");
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    let mut wrong = Vec::new();
    compare("", &values, &schema, &mut wrong);
    assert_eq!(wrong, Vec::<String>::new());
}

/// The schema's keys are those of values.yaml, except in maps that are free and in what helm adds.
fn compare(at: &str, values: &Value, schema: &Value, wrong: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if schema["additionalProperties"] != false {
        wrong.push(format!("{at}: the schema takes any other key"));
    }
    for (key, below) in properties {
        let at = format!("{at}.{key}");
        // Keys of Kubernetes' own that nobody needs to set.
        let optional = [
            ".global",
            "Delay",
            "successThreshold",
            "initialDelaySeconds",
            ".limits",
            "issuerRef.name",
            "issuerRef.kind",
            "issuerRef.group",
        ];
        match values.get(key) {
            Some(value) => compare(&at, value, below, wrong),
            None if optional.iter().any(|end| at.ends_with(end)) => {}
            None => wrong.push(format!("{at} is in the schema and not in values.yaml")),
        }
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (values, told) in [
        ("worker.prots.rtmp=1935", "additional properties 'prots' not allowed"),
        ("worker.ports.rtmp=554", "/worker/ports/rtmp"),
        ("image.digest=latest", "/image/digest"),
        ("pathGrants[0].prefix=/live", "/pathGrants/0/prefix"),
        ("operator.replicas=0", "/operator/replicas"),
        ("tls.existing.secret=ours", "tls.existing.caConfigMap"),
        (
            "tls.existing.secret=ours,tls.existing.caConfigMap=ca,tls.certManager.enabled=true",
            "are two ways to get a certificate",
        ),
    ] {
        let error = render(&["--set".into(), values.into()]).expect_err(values);
        assert!(error.contains(told), "{values}: {error}");
    }
}

#[test]
fn workers_hold_the_hosts_network_and_nothing_else() {
    for (name, values) in value_sets() {
        let objects = objects(&render(&values).unwrap_or_else(|e| panic!("{name}: {e}")));
        let workers: Vec<&Value> = of_kind(&objects, "DaemonSet").collect();
        let [workers] = workers.as_slice() else { panic!("{name}: {} DaemonSets", workers.len()) };
        let pod = &workers["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"], true, "{name}");
        assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!((&pod["hostPID"], &pod["hostIPC"]), (&Value::Null, &Value::Null), "{name}");
        assert_eq!(list(&pod["containers"]).len(), 1, "{name}");
        // A declared port is a hostPort there: the scheduler counts it, and network plugins map it.
        assert_eq!(pod["containers"][0]["ports"], Value::Null, "{name}");
        for volume in list(&pod["volumes"]) {
            assert_eq!(volume["hostPath"], Value::Null, "{name}");
            // A worker's node may read all of a Secret that is mounted on it.
            assert_ne!(volume["secret"]["secretName"], "penstock-tls", "{name}");
        }
        for kind in ["DaemonSet", "Deployment"] {
            for object in of_kind(&objects, kind) {
                is_restricted(&format!("{name}: {kind}"), &object["spec"]["template"]["spec"]);
            }
        }
        of_kind(&objects, "Pod").for_each(|pod| is_restricted(&format!("{name}: the test"), &pod["spec"]));
    }
}

/// What Pod Security's level `restricted` asks of a pod, the host's network apart.
fn is_restricted(what: &str, pod: &Value) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{what}");
    assert_eq!(pod["securityContext"]["runAsUser"], 65532, "{what}");
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{what}");
    for container in list(&pod["containers"]) {
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
        assert_eq!(words(&security["capabilities"]["drop"]), "ALL", "{what}");
        assert_eq!(security["capabilities"]["add"], Value::Null, "{what}");
        assert_eq!(security["privileged"], Value::Null, "{what}");
    }
}

/// Each rule of each binding, as `who in where: groups/resources: verbs`.
fn rights(objects: &[Value]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for binding in objects.iter().filter(|object| word(&object["kind"]).ends_with("RoleBinding")) {
        let (to, at) = (&binding["roleRef"], &binding["metadata"]["namespace"]);
        let role = of_kind(objects, word(&to["kind"]))
            .find(|role| {
                role["metadata"]["name"] == to["name"]
                    && (to["kind"] == "ClusterRole" || role["metadata"]["namespace"] == *at)
            })
            .unwrap_or_else(|| panic!("no role for {binding}"));
        for (subject, rule) in list(&binding["subjects"])
            .iter()
            .flat_map(|s| list(&role["rules"]).into_iter().map(move |r| (s, r)))
        {
            assert_eq!(
                (&subject["kind"], &subject["namespace"]),
                (&"ServiceAccount".into(), &NAMESPACE.into())
            );
            assert_eq!((&rule["nonResourceURLs"], &rule["resourceNames"]), (&Value::Null, &Value::Null));
            let at = at.as_str().unwrap_or("all");
            rights.insert(format!(
                "{} in {at}: {}/{}: {}",
                word(&subject["name"]),
                words(&rule["apiGroups"]),
                words(&rule["resources"]),
                words(&rule["verbs"])
            ));
        }
    }
    rights
}

#[test]
fn the_operator_has_these_rights_and_workers_none() {
    let always = [
        "penstock-operator in all: media.penstock.dev/mediastreams: get,list,watch,delete",
        "penstock-operator in all: media.penstock.dev/mediastreams/status,portpools/status: update,patch",
        "penstock-operator in all: media.penstock.dev/portpools: get,list,watch",
        "penstock-operator in all: /nodes: get,list,watch",
        "penstock-operator in all: networking.k8s.io/servicecidrs: list,watch",
        "penstock-operator in all: events.k8s.io/events: create,patch",
        "penstock-operator in all: authentication.k8s.io/tokenreviews: create",
        "penstock-operator in penstock-system: coordination.k8s.io/leases: get,create,update",
    ];
    for (name, values) in value_sets() {
        let objects = objects(&render(&values).unwrap_or_else(|e| panic!("{name}: {e}")));
        let secrets: &[&str] = match name.as_str() {
            "all-secrets" => &["all"],
            "everything" => &["default", "kube-public"],
            _ => &[],
        };
        let secrets = secrets.iter().map(|at| format!("penstock-operator in {at}: /secrets: get,list,watch"));
        let wanted: BTreeSet<String> = always.iter().map(|&right| right.to_owned()).chain(secrets).collect();
        assert_eq!(rights(&objects), wanted, "{name}");
    }
}

#[test]
fn the_manifest_for_kubectl_is_current() {
    let values = ["--set", "tls.certManager.enabled=true", "--skip-tests"].map(str::to_owned);
    let rendered = render(&values).expect("the chart renders");
    let text = format!(
        "# Generated from charts/penstock by `UPDATE=1 cargo test -p tests --test chart`. Don't edit.
#
# penstock for `kubectl apply --server-side --filename install.yaml`. It needs cert-manager: a private key can't be in a file that
# everybody has. Put the image where your nodes can pull it, and its name in place of {image} here.
---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    # Workers are on the host network.
    pod-security.kubernetes.io/enforce: privileged
{rendered}",
        image = concat!("localhost/penstock:", env!("CARGO_PKG_VERSION")),
    );
    let file = root().join("manifests/install.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).expect("the checkout can be written");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "manifests/install.yaml is not what the chart renders: run UPDATE=1 cargo test -p tests --test chart"
    );
    assert_eq!(of_kind(&objects(&text), "Secret").count(), 0, "a key is in it");
}

#[test]
fn alerts_and_dashboard_are_the_files_that_anybody_can_take() {
    let everything = chart().join("ci/everything-values.yaml").display().to_string();
    let everything = objects(&render(&["--values".into(), everything]).expect("the chart renders"));
    let rules = fs::read_to_string(chart().join("rules.yaml")).expect("the chart has rules");
    let rules: Value = serde_saphyr::from_str(&rules).expect("they are YAML");
    let in_cluster: Vec<&Value> = of_kind(&everything, "PrometheusRule").map(|it| &it["spec"]).collect();
    assert_eq!(in_cluster, [&rules]);
    let file =
        fs::read_to_string(chart().join("dashboards/penstock.json")).expect("the chart has a dashboard");
    let labelled = |it: &&Value| it["metadata"]["labels"]["grafana_dashboard"] == "1";
    let dashboards: Vec<&Value> = of_kind(&everything, "ConfigMap").filter(labelled).collect();
    assert_eq!(dashboards.iter().map(|it| word(&it["data"]["penstock.json"])).collect::<Vec<_>>(), [file]);
    let default = objects(&render(&[]).expect("the chart renders"));
    assert_eq!(of_kind(&default, "PrometheusRule").chain(of_kind(&default, "PodMonitor")).count(), 0);
    assert_eq!(of_kind(&default, "ConfigMap").filter(labelled).count(), 0);
}

/// Kinds that other projects define, so that what the chart makes of them can be sent.
const OF_OTHERS: [(&str, &str, &str, &str); 4] = [
    ("cert-manager.io", "v1", "Certificate", "certificates"),
    ("cert-manager.io", "v1", "Issuer", "issuers"),
    ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
];

fn define_kinds_of_others(cluster: &Cluster, folder: &Folder) {
    for (group, version, kind, plural) in OF_OTHERS {
        let file = folder.file(&format!("{plural}.json"));
        let crd = serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural}, "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }]},
        });
        fs::write(&file, crd.to_string()).expect("a new folder can be filled");
        cluster.ask(&["apply", "-f", &file.display().to_string()]).expect("the API takes a CRD");
        let crd = format!("crd/{plural}.{group}");
        cluster.ask(&["wait", "--for=condition=Established", &crd]).expect("the API serves it");
    }
}

/// Without changing anything, the API checks each object as if it were to be stored.
fn send_each_rendering(cluster: &Cluster, folder: &Folder) {
    let mut sent: Vec<(String, String)> =
        value_sets().into_iter().map(|(name, values)| (name, render(&values).expect("it renders"))).collect();
    let install = fs::read_to_string(root().join("manifests/install.yaml")).expect("it is there");
    sent.push(("install.yaml".to_owned(), install));
    for (name, text) in sent {
        let file = folder.file(&format!("{name}.yaml"));
        fs::write(&file, &text).expect("a new folder can be filled");
        let mut kubectl = cluster.kubectl();
        kubectl.args(["apply", "--dry-run=server", "--validate=strict", "-f"]).arg(&file);
        let output = kubectl.output().expect("kubectl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("Warning"), "{name}: {said}");
        let taken = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(taken, objects(&text).len(), "{name}");
        eprintln!("{name}: {taken} objects are accepted");
    }
}

#[test]
fn it_installs_upgrades_and_goes() {
    let cluster = Cluster::up(1).expect("root on Debian can run one");
    let folder = Folder::new("chart");
    cluster.ask(&["create", "--save-config", "namespace", NAMESPACE]).expect("the API takes a namespace");
    // The test's pod, for which the API looks it up.
    let account = ["wait", "--for=create", "serviceaccount/default", "--namespace", NAMESPACE];
    cluster.ask(&account).expect("each namespace is given one");
    define_kinds_of_others(&cluster, &folder);
    send_each_rendering(&cluster, &folder);

    label(&cluster, "restricted");
    let refused = Installation::with(&cluster, &[]).map(drop).expect_err("the level forbids the workers");
    let remedy = format!(
        "kubectl label --overwrite namespace {NAMESPACE} pod-security.kubernetes.io/enforce=privileged"
    );
    assert!(refused.contains(&remedy), "{refused}");
    label(&cluster, "privileged");

    // The chart before this one: with a CRD that says something else.
    let previous = folder.file("previous");
    succeed(Command::new(need("cp")).arg("-r").arg(chart()).arg(&previous)).expect("a chart can be copied");
    let crd = previous.join("files/crds/portpools.yaml");
    let text = fs::read_to_string(&crd).expect("the chart has its CRDs");
    let older = text.replace("- ppool", "- older");
    assert_ne!(older, text, "the older CRD has another short name");
    fs::write(&crd, older).expect("a copy can be changed");
    let installation = Installation::of_chart(&cluster, &previous, &[]).expect("the chart installs");
    cluster.ask(&["get", "older"]).expect("the older CRD is there");
    installation.wait_ready(STARTED).expect("operator and worker come up");
    let certificate = certificate(&cluster);
    verify(&certificate, &folder);
    workers_may_nothing(&cluster);

    let examples = root().join("manifests/examples").display().to_string();
    installation.apply(&examples).expect("the API takes the examples");
    let streams = ["wait", "--for=condition=Ready", "mst", "--all", "--timeout=20s"];
    cluster.ask(&streams).expect("streams are assigned");
    let pods = || {
        [installation.pods("operator"), installation.pods("worker")].map(|pods| pods.expect("pods are told"))
    };
    let encoder = Encoders::start(&cluster, ["cam-1".to_owned()]).expect("kubectl watches");
    let publishes = || {
        let count = encoder.publishing()?;
        ensure(count == 1, || format!("{count} publish"))
    };
    eventually("an encoder that publishes", STARTED, publishes);
    let before = pods();
    installation.upgrade(&["operator.podDisruptionBudget.enabled=false"]).expect("the chart upgrades");
    cluster.ask(&["get", "ppool", "cameras"]).expect("the upgrade has brought the CRD");
    cluster.ask(&["get", "older"]).expect_err("the older CRD is replaced");
    assert_eq!(self::certificate(&cluster), certificate, "an upgrade keeps the certificate");
    assert_eq!(pods(), before, "an upgrade that changes no pod restarts none");
    assert_eq!((publishes(), encoder.take_absences()), (Ok(()), vec![]), "its stream was live throughout");
    drop(encoder);
    for pod in before.iter().flatten() {
        let log = installation.logs(&pod.name).expect("it has a log").to_lowercase();
        assert!(!log.contains("forbidden"), "{} asks for more than it may:\n{log}", pod.name);
    }
    eprintln!("{}", installation.test().expect("the chart's own test passes"));

    installation.uninstall().expect("the chart goes");
    let kinds = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,\
                 networkpolicies,poddisruptionbudgets";
    let left = ["get", kinds, "--all-namespaces", "-l", "app.kubernetes.io/name=penstock", "-o", "name"];
    assert_eq!(cluster.ask(&left).expect("the API lists"), "");
    let kept = cluster.ask(&["get", "mst,ppool", "-o", "name"]).expect("the CRDs are there");
    assert_eq!(kept.lines().count(), 4, "the user's objects: {kept}");
}

fn label(cluster: &Cluster, level: &str) {
    let label = format!("pod-security.kubernetes.io/enforce={level}");
    cluster
        .ask(&["label", "--overwrite", "namespace", NAMESPACE, &label])
        .expect("the API labels a namespace");
}

/// What operator and workers are given.
fn certificate(cluster: &Cluster) -> [String; 3] {
    let get = |object: &str, key: &str| {
        let path = format!("-o=jsonpath={{.data.{key}}}");
        cluster.ask(&["--namespace", NAMESPACE, "get", object, &path]).expect("the chart made it")
    };
    [
        get("secret/penstock-tls", "tls\\.crt"),
        get("secret/penstock-tls", "ca\\.crt"),
        get("configmap/penstock-ca", "ca\\.crt"),
    ]
}

/// The workers' CA vouches for the operator's certificate, under the name that they dial.
fn verify(certificate: &[String; 3], folder: &Folder) {
    let [certificate, in_secret, ca] = certificate;
    assert_eq!(&decoded(in_secret, folder), ca);
    let (certificate_file, ca_file) = (folder.file("tls.crt"), folder.file("ca.crt"));
    fs::write(&certificate_file, decoded(certificate, folder)).expect("a new folder can be filled");
    fs::write(&ca_file, ca).expect("a new folder can be filled");
    let host = format!("penstock-operator.{NAMESPACE}.svc");
    for (host, good) in [(host.as_str(), true), ("kubernetes.default.svc", false)] {
        let mut openssl = Command::new(need("openssl"));
        openssl.args(["verify", "-verify_hostname", host, "-purpose", "sslserver", "-CAfile"]);
        let verified = succeed(openssl.arg(&ca_file).arg(&certificate_file));
        assert_eq!(verified.is_ok(), good, "{host}: {verified:?}");
    }
}

fn decoded(base64: &str, folder: &Folder) -> String {
    let file = folder.file("base64");
    fs::write(&file, base64).expect("a new folder can be filled");
    succeed(Command::new(need("base64")).arg("--decode").arg(&file)).expect("it is base64")
}

/// A worker's account has what any account has.
fn workers_may_nothing(cluster: &Cluster) {
    let may = |account: &str| {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        cluster.ask(&["auth", "can-i", "--list", "--namespace", NAMESPACE, &account]).expect("the API tells")
    };
    assert_eq!(may("penstock-worker"), may("default"));
    assert_ne!(may("penstock-operator"), may("default"));
}

#[test]
fn the_readme_of_the_chart_names_files_that_are_there() {
    let readme = fs::read_to_string(chart().join("README.md")).expect("the chart has a README");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http")) {
        assert!(chart().join(Path::new(link)).exists(), "{link}");
    }
    let _: PathBuf = chart();
}
