//! What Prometheus sees: the alerts of the chart fire when they should, and name nothing that is not measured and explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually};
use tests::http;
use tests::installation::{Installation, chart};
use tests::ports::Block;
use tests::running::{Folder, Running};
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};
use tests::tools::{need, root, succeed};

/// From the chart's objects to pods that are ready.
const STARTED: Duration = Duration::from_secs(60);
/// For what a cluster, a scrape each second and the rules after it take to show something.
const SHOWN: Duration = Duration::from_secs(30);

fn rules() -> PathBuf {
    chart().join("rules.yaml")
}

fn yaml(file: &PathBuf) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The alerts of the rule file, by name.
fn alerts() -> BTreeMap<String, Value> {
    let file = yaml(&rules());
    let rules = list(&file["groups"]).flat_map(|group| list(&group["rules"]));
    rules.map(|rule| (word(&rule["alert"]).to_owned(), rule.clone())).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_no_other_does() {
    let mut check = Command::new(need("promtool"));
    eprintln!("{}", succeed(check.args(["check", "rules"]).arg(rules())).expect("the rules are sound"));
    let cases = root().join("tests/tests/prometheus/alerts.yaml");
    let mut test = Command::new(need("promtool"));
    eprintln!("{}", succeed(test.args(["test", "rules"]).arg(&cases)).expect("the alerts hold"));
    let cases = yaml(&cases);
    let told = list(&cases["tests"]).flat_map(|case| list(&case["alert_rule_test"]));
    let tested: BTreeSet<String> = told.map(|it| word(&it["alertname"]).to_owned()).collect();
    let untested: Vec<String> = alerts().into_keys().filter(|name| !tested.contains(name)).collect();
    assert_eq!(untested, Vec::<String>::new());
}

#[test]
fn each_alert_has_its_runbook() {
    let folder = root().join("docs/runbooks");
    let files = fs::read_dir(&folder).expect("there are runbooks").flatten();
    let files: BTreeSet<String> = files.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    let alerts = alerts();
    assert_eq!(files, alerts.keys().map(|name| format!("{name}.md")).collect());
    for (name, alert) in alerts {
        assert_eq!(word(&alert["annotations"]["runbook"]), format!("docs/runbooks/{name}.md"));
        let text = fs::read_to_string(folder.join(format!("{name}.md"))).expect("it is there");
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(folder.join(link).exists(), "{name}: {link}");
        }
        for metric in metrics_in(&text) {
            assert!(is_told(&documented(), &metric), "{name}: {metric} is not in docs/metrics.md");
        }
    }
}

#[test]
fn what_rules_and_dashboard_ask_for_is_measured() {
    let documented = documented();
    let rules = alerts().into_iter().map(|(name, rule)| (name, word(&rule["expr"]).to_owned()));
    for (of, expression) in rules.chain(panels()) {
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "{of}: {expression}");
        for metric in metrics {
            assert!(is_told(&documented, &metric), "{of}: {metric} is not in docs/metrics.md");
        }
    }
}

/// The dashboard's expressions, by the title of their panel.
fn panels() -> Vec<(String, String)> {
    let file = chart().join("dashboards/penstock.json");
    let text = fs::read_to_string(file).expect("the chart has a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let of = |panel: &Value| -> Vec<(String, String)> {
        let title = word(&panel["title"]).to_owned();
        list(&panel["targets"]).map(|target| (title.clone(), word(&target["expr"]).to_owned())).collect()
    };
    list(&dashboard["panels"]).flat_map(of).collect()
}

/// Each `penstock_…` of a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("penstock_")).map(str::to_owned).collect()
}

fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/metrics.md")).expect("there is a list of metrics");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// A histogram's series have endings.
fn is_told(documented: &BTreeSet<String>, metric: &str) -> bool {
    let endings = ["", "_bucket", "_count", "_sum"];
    endings.iter().filter_map(|ending| metric.strip_suffix(ending)).any(|name| documented.contains(name))
}

#[test]
fn the_list_of_metrics_is_current() {
    let ports = Block::take(20);
    let standalone = Standalone::start(&[
        ("pool.yaml", &pool(&ports.range())),
        ("udp.yaml", &over_rtp("udp", "transport: UDP, ssrc: \"0200000001\"", "")),
    ]);
    standalone.wait_ready("live/udp");
    standalone.write_aged("cam.yaml", &pushed("cam", ""), Duration::from_secs(3600));
    standalone.wait_ready("live/cam");
    // Refused, which is an Event, and a stream that is not Ready.
    standalone.write("other.yaml", &pushed("other", "  path: live/cam\n"));
    standalone.wait_stream("live/other", "refused", SOON, |it| it["status"]["phase"] == "Refused");
    let page = http::get(standalone.admin, "/metrics").expect("the admin page answers").body;
    let text = described(&families(&page));
    let file = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).expect("the checkout can be written");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "docs/metrics.md is not what the processes tell: run UPDATE=1 cargo test -p tests --test prometheus current\n{text}"
    );
}

struct Family {
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The families of a page, in its order.
fn families(page: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let help = help.trim_end_matches('.').to_owned();
            let name = name.to_owned();
            families.push(Family { name, kind: String::new(), help, labels: BTreeSet::new() });
            continue;
        }
        let Some(family) = families.last_mut() else { continue };
        if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family.kind = kind.to_owned();
            continue;
        }
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        // What stands before `="` ends with the label's name.
        let before: Vec<&str> = labels.split("=\"").collect();
        for text in before.iter().take(before.len() - 1) {
            let label = text.rsplit(|it: char| !it.is_ascii_alphanumeric() && it != '_').next();
            family.labels.extend(label.filter(|label| *label != "le").map(str::to_owned));
        }
    }
    families
}

fn described(families: &[Family]) -> String {
    // Each process writes its own in the order of their names, the parent before the worker.
    let worker = families.windows(2).position(|two| two[0].name > two[1].name).expect("two processes") + 1;
    let (operator, worker) = families.split_at(worker);
    let mut text = String::from(
        "<!-- Generated by `UPDATE=1 cargo test -p tests --test prometheus current`. Don't edit. -->\n\n# Metrics\n\n\
         The operator serves them on port 9192 of its pods, each worker on port 9183 of its node, at `/metrics`; standalone serves \
         both on its\nadmin port. What is told by the replica that leads is absent from the others. Series of a stream are a \
         worker's, at most 5000 of\nthem, and go with the stream. [rules.yaml](../charts/penstock/rules.yaml) is the alerts, with a \
         [runbook](runbooks) each;\n[dashboards](../charts/penstock/dashboards) is for Grafana.\n",
    );
    for (title, families) in [("Operator", operator), ("Worker", worker)] {
        text.push_str(&format!(
            "\n## {title}\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n"
        ));
        for Family { name, kind, help, labels } in families {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
        }
    }
    text
}

/// Prometheus itself, on a port of its own.
struct Prometheus {
    process: Running,
    address: SocketAddr,
    _port: Block,
    _folder: Folder,
}

impl Prometheus {
    /// Scrapes each second, and looks at the rules as often.
    fn start(operators: &[String], workers: &[String]) -> Prometheus {
        let (folder, port) = (Folder::new("prometheus"), Block::take(1));
        let address = SocketAddr::from(([127, 0, 0, 1], port.first()));
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules()],
            "scrape_configs": [
                {"job_name": "penstock-operator", "static_configs": [{"targets": operators}]},
                {"job_name": "penstock-worker", "static_configs": [{"targets": workers}]},
            ],
        });
        // JSON is YAML.
        fs::write(folder.file("prometheus.yml"), config.to_string()).expect("a new folder can be filled");
        let mut command = Command::new(need("prometheus"));
        command.arg(format!("--config.file={}", folder.file("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.file("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Running::start("prometheus", command, folder.file("prometheus.log"));
        Prometheus { process, address, _port: port, _folder: folder }
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let page = http::get(self.address, &format!("/api/v1/{path}")).map_err(|e| format!("{path}: {e}"))?;
        let answer: Value =
            serde_json::from_str(&page.body).map_err(|e| format!("{path}: {e}: {}", page.body))?;
        ensure(answer["status"] == "success", || format!("{path}: {answer}"))?;
        Ok(answer["data"].clone())
    }

    /// The labels and the value of each series of an expression.
    fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let escaped =
            |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let escaped: String = expression.bytes().map(escaped).collect();
        let data = self.api(&format!("query?query={escaped}"))?;
        let series = list(&data["result"]).map(|series| {
            let value = word(&series["value"][1]).parse().map_err(|e| format!("{series}: {e}"))?;
            Ok((series["metric"].clone(), value))
        });
        series.collect()
    }

    /// Waits until the only series of an expression has this value.
    #[track_caller]
    fn wait(&self, expression: &str, value: f64) {
        eventually(&format!("{expression} to be {value}"), SHOWN, || {
            let seen = self.query(expression)?;
            let is = matches!(seen.as_slice(), [(_, one)] if (one - value).abs() < 1e-9);
            ensure(is, || format!("{seen:?}"))
        });
    }

    /// The alerts of a state as Prometheus tells them to an Alertmanager.
    fn alerts(&self, state: &str) -> Result<Vec<Value>, String> {
        let data = self.api("alerts")?;
        Ok(list(&data["alerts"])
            .filter(|alert| alert["state"] == state)
            .map(|it| it["labels"].clone())
            .collect())
    }

    #[track_caller]
    fn wait_alert(&self, state: &str, name: &str) -> Value {
        eventually(&format!("{name} to be {state}"), SHOWN, || {
            let alerts = self.alerts(state)?;
            let found = alerts.iter().find(|labels| labels["alertname"] == name).cloned();
            found.ok_or_else(|| format!("{alerts:?}"))
        })
    }
}

/// `count` streams that need a port each, of a pool that has two on each node.
fn ports_for(count: usize, end: u16) -> String {
    let pool = format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: tiny}}\nspec:\n  default: true\n  \
         ranges: [{{start: 21000, end: {end}}}]\n  cooldown: 1s\n"
    );
    let stream = |number: usize| {
        format!(
            "---\napiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: cam-{number}}}\nspec:\n  \
             source: {{rtp: {{transport: TCPPassive, ssrc: \"020000000{number}\"}}}}\n"
        )
    };
    (0..count).map(stream).fold(pool, |all, one| all + &one)
}

#[test]
fn prometheus_scrapes_an_installation_and_an_alert_really_fires() {
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    installation.wait_ready(STARTED).expect("operator and workers start");
    installation.wait_sessions(STARTED).expect("each worker finds each replica");
    let operators = installation.pods("operator").expect("pods are told");
    let targets = |pods: &[tests::installation::Pod], port: u16| -> Vec<String> {
        pods.iter().map(|pod| format!("{}:{port}", pod.address)).collect()
    };
    let workers = installation.pods("worker").expect("pods are told");
    let prometheus = Prometheus::start(&targets(&operators, 9192), &targets(&workers, 9183));
    eprintln!("prometheus is {} at {}", prometheus.process.pid(), prometheus.address);
    eventually("all four to be scraped", SHOWN, || {
        let up = prometheus.query("up == 1")?;
        ensure(up.len() == 4, || format!("{up:?}"))
    });
    prometheus.wait("penstock_workers{state=\"heard\"}", 2.0);
    prometheus.wait("sum(penstock_operator_leads)", 1.0);
    assert_eq!(prometheus.alerts("firing"), Ok(Vec::new()));
    is_understood(&prometheus);

    installation.apply_text(&ports_for(5, 21001)).expect("the API takes pool and streams");
    let labels = prometheus.wait_alert("firing", "PenstockPoolExhausted");
    eprintln!("fires: {labels}");
    assert_eq!((&labels["pool"], &labels["severity"]), (&"tiny".into(), &"critical".into()));
    prometheus.wait("penstock_streams_not_ready{reason=\"PoolExhausted\"}", 1.0);
    prometheus.wait("penstock_pool_capacity", 4.0);
    installation.apply_text(&ports_for(5, 21009)).expect("the API takes a longer range");
    eventually("the alert to end", SHOWN, || {
        let firing = prometheus.alerts("firing")?;
        ensure(firing.is_empty(), || format!("{firing:?}"))
    });

    let leader = prometheus.query("penstock_operator_leads == 1").expect("one leads");
    let leader = word(&leader[0].0["instance"]).replace(":9192", "");
    let leads = operators.iter().find(|pod| pod.address == leader).expect("the leader is a pod");
    let nodes = cluster.nodes();
    let other = nodes.iter().find(|node| node.name() != leads.node).expect("there are two nodes");
    other.crash().expect("a node can crash");
    prometheus.wait("penstock_workers{state=\"lost\"}", 1.0);
    prometheus.wait_alert("pending", "PenstockWorkerLost");
    eventually("failovers to be measured", SHOWN, || {
        let seen = prometheus.query("sum(penstock_failover_seconds_count)")?;
        ensure(seen.iter().any(|(_, count)| *count >= 1.0), || format!("{seen:?}"))
    });
    let slowest = prometheus.query("histogram_quantile(1, sum by (le) (penstock_failover_seconds_bucket))");
    eprintln!("the slowest failover, at most: {slowest:?} s");
}

/// Each rule was evaluated without an error, and each panel's query is answered.
fn is_understood(prometheus: &Prometheus) {
    eventually("all rules to be evaluated", SHOWN, || {
        let data = prometheus.api("rules")?;
        let rules: Vec<&Value> = list(&data["groups"]).flat_map(|group| list(&group["rules"])).collect();
        let wrong: Vec<&&Value> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        ensure(rules.len() == alerts().len() && wrong.is_empty(), || format!("{wrong:?}"))
    });
    let mut silent = Vec::new();
    for (title, expression) in panels() {
        let variables =
            [("$__rate_interval", "1m"), ("$__range", "1h"), ("$pool", ".*"), ("$instance", ".*")];
        let expression = variables.iter().fold(expression, |all, (name, value)| all.replace(name, value));
        let series = prometheus.query(&expression).unwrap_or_else(|e| panic!("{title}: {e}"));
        if series.is_empty() {
            silent.push(title);
        }
    }
    eprintln!("panels without a series as long as nothing happens: {silent:?}");
}
