//! A cluster of two nodes as the ground of the chaos.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{Faults, Place, Places, Site, bound, events, freeze, lock, page};
use crate::census;
use crate::chaos::actors;
use crate::chaos::judge::{Look, Process};
use crate::chaos::script::{Door, Fault, Loot};
use crate::cluster::{Cluster, Node};
use crate::failover::{self, Watch, leader, operator_pid, put_right, worker_pid};
use crate::installation::{Installation, Pod};
use crate::objects::address;
use crate::running::signal_pid;
use crate::standalone::sum_of;
use crate::tools::succeed;

/// As the chart has them.
const RTMP: u16 = 1935;
const HEALTH: u16 = 9181;
const METRICS: u16 = 9183;
const ADMIN: u16 = 9180;
const HTTP: u16 = 8080;
const PROBES: u16 = 9192;
/// The first number of the pools.
const FIRST: u16 = 20000;
/// Of the streams.
const STREAMS: &str = "live";
/// What is awaited of the watch before it is looked whether to stop.
const FOLLOW_EACH: Duration = Duration::from_millis(200);
/// A worker is stopped and a node cut off for at least this: it is given up after 1.2 s.
const GIVEN_UP: Duration = Duration::from_secs(2);
/// For pods to be back after a fault.
const BACK: Duration = Duration::from_secs(120);

/// Name, port and where it is played.
const LINE: &str = r#"-o=jsonpath={.metadata.name} {.status.ports.rtp} {.status.endpoints[?(@.protocol=="HTTPFLV")].url}{"\n"}"#;

/// An installation on a cluster.
pub(in crate::chaos) struct Clustered<'a> {
    cluster: &'a Cluster,
    installation: &'a Installation<'a>,
    nodes: Vec<Node>,
    numbers: RangeInclusive<u16>,
    /// Processes of operators by the UID of their pod and how often it was started.
    operators: Mutex<BTreeMap<(String, u64), u32>>,
}

impl<'a> Clustered<'a> {
    pub(in crate::chaos) fn new(
        cluster: &'a Cluster,
        installation: &'a Installation<'a>,
        numbers: u16,
    ) -> Result<Clustered<'a>, String> {
        cluster.ask(&["create", "namespace", STREAMS])?;
        Ok(Clustered {
            cluster,
            installation,
            nodes: cluster.nodes(),
            numbers: FIRST..=FIRST + numbers - 1,
            operators: Mutex::default(),
        })
    }

    fn node(&self, nth: u8) -> &Node {
        &self.nodes[usize::from(nth) % self.nodes.len()]
    }

    /// Where the port of a node is.
    fn at(node: &Node, port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::new(node.address().parse().ok()?, port))
    }

    /// Looks at a node's worker. One that does not answer is not asked further.
    fn look_at(&self, node: &Node, look: &mut Look) -> Option<()> {
        let name = node.name();
        if let Ok(pid) = worker_pid(&name) {
            let held = census::held_by(pid, self.numbers.clone());
            look.sockets.extend(held.into_iter().map(|held| (name.clone(), held)));
            look.processes.push(Process {
                name: worker_of(node),
                pid,
                rss: census::rss_bytes(pid),
                worker: true,
            });
        }
        let health = Self::at(node, HEALTH)?;
        let failed = |look: &Look| look.answers.iter().any(|answer| answer.status.is_err());
        page(look, &format!("health of {name}"), true, health, "/healthz");
        if failed(look) {
            return None;
        }
        let ports = node.in_network(|| {
            page(look, &format!("/ports of {name}"), true, (Ipv4Addr::LOCALHOST, ADMIN).into(), "/ports")
        });
        look.bound.extend(bound(&name, ports.ok()?.as_deref()));
        let metrics = page(look, &format!("/metrics of {name}"), true, Self::at(node, METRICS)?, "/metrics")?;
        let count = |name| sum_of(&metrics, name, &[]).ok().flatten().unwrap_or(0.0);
        look.panics += count("penstock_session_panics_total");
        look.viewers += count("penstock_viewers");
        look.publishers += count("penstock_publishers");
        Some(())
    }

    fn look_at_operator(&self, pod: &Pod, look: &mut Look) -> Option<()> {
        let key = (pod.uid.clone(), pod.restarts);
        let known = lock(&self.operators).get(&key).copied();
        if let Some(pid) = known.or_else(|| operator_pid(pod).ok()) {
            lock(&self.operators).insert(key, pid);
            let name = format!("the operator {}", pod.name);
            look.processes.push(Process { name, pid, rss: census::rss_bytes(pid), worker: false });
        }
        // One that is not ready has no sessions, and perhaps no address.
        let to = SocketAddr::new(pod.address.parse().ok().filter(|_| pod.ready)?, PROBES);
        let metrics = page(look, &format!("/metrics of {}", pod.name), true, to, "/metrics")?;
        look.audit += sum_of(&metrics, "penstock_operator_invariant_violations_total", &[])
            .ok()
            .flatten()
            .unwrap_or(0.0);
        Some(())
    }

    /// Waits until all pods are as they were.
    fn settle(&self) -> Result<(), String> {
        self.installation.wait_ready(BACK)?;
        self.installation.wait_sessions(BACK)
    }
}

/// What its process is called in what is told.
fn worker_of(node: &Node) -> String {
    format!("the worker of {}", node.name())
}

impl Site for Clustered<'_> {
    fn numbers(&self) -> RangeInclusive<u16> {
        self.numbers.clone()
    }

    fn write(&self, _name: &str, text: &str) -> Result<(), String> {
        self.installation.apply_text(text)
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        let words = ["delete", "mst", name, "--namespace", STREAMS, "--ignore-not-found", "--wait=false"];
        self.cluster.ask(&words).map(drop)
    }

    fn door(&self, door: Door, node: u8) -> Option<SocketAddr> {
        match door {
            Door::Rtmp => Self::at(self.node(node), RTMP),
            Door::Http => Self::at(self.node(node), HTTP),
            Door::Health => Self::at(self.node(node), HEALTH),
            Door::Tcp | Door::Udp => None,
        }
    }

    fn follow(&self, places: &Places, stop: &AtomicBool) {
        let watch = || Watch::of(self.cluster, STREAMS, LINE).expect("kubectl watches");
        let mut lines = watch();
        while !stop.load(Ordering::Relaxed) {
            let line = match lines.next(Instant::now() + FOLLOW_EACH) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    lines = watch();
                    continue;
                }
            };
            let [name, port, url] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            let place = url.starts_with("http").then(|| {
                let http = address(url);
                let on = |port: u16| SocketAddr::new(http.ip(), port);
                Place { rtmp: on(RTMP), http, rtp: port.parse().ok().map(on) }
            });
            places.set(name, place);
        }
    }

    fn look(&self) -> Look {
        let objects = self.cluster.ask(&["get", "mst,ppool,pods", "--all-namespaces", "-o", "json"]);
        let list: Value = objects.ok().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        let mut looks: Vec<Look> = std::thread::scope(|scope| {
            let look = |node: &'_ Node| {
                let mut look = Look::default();
                self.look_at(node, &mut look);
                look
            };
            let looks: Vec<_> = self.nodes.iter().map(|node| scope.spawn(move || look(node))).collect();
            looks.into_iter().map(|look| look.join().unwrap_or_default()).collect()
        });
        let mut all = Look { objects: list["items"].as_array().cloned(), ..Look::default() };
        for look in &mut looks {
            all.answers.append(&mut look.answers);
            all.bound.append(&mut look.bound);
            all.sockets.append(&mut look.sockets);
            all.processes.append(&mut look.processes);
            all.panics += look.panics;
            all.viewers += look.viewers;
            all.publishers += look.publishers;
        }
        let operators: Vec<Pod> = all
            .of_kind("Pod")
            .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator")
            .map(Pod::of)
            .collect();
        for pod in &operators {
            self.look_at_operator(pod, &mut all);
        }
        all
    }

    fn freeze(&self, node: u8) -> Result<(), String> {
        freeze(worker_pid(&self.node(node).name())?);
        Ok(())
    }

    fn suffer(&self, fault: Fault, node: u8, lasts: Duration, faults: &Faults) -> Result<(), String> {
        let node = self.node(node);
        // Kubernetes starts it again when it likes, and ends it with its pod.
        let outlaw = || {
            faults.outlaw(worker_of(node));
            worker_pid(&node.name())
        };
        // The fault lasts; there is nothing to wait for.
        let last = || std::thread::sleep(GIVEN_UP + lasts);
        match fault {
            Fault::Kill => {
                let pid = outlaw()?;
                signal_pid(pid, Signal::KILL);
                last();
                put_right(self.installation, node, failover::Fault::Kill, pid)
            }
            Fault::Stop => {
                let pid = outlaw()?;
                signal_pid(pid, Signal::STOP);
                last();
                put_right(self.installation, node, failover::Fault::Stop, pid)
            }
            Fault::Cut => {
                let pid = worker_pid(&node.name())?;
                node.cut()?;
                last();
                put_right(self.installation, node, failover::Fault::Cut, pid)
            }
            Fault::Delete => {
                let pods = self.installation.pods("worker")?;
                let pod = pods.iter().find(|pod| pod.node == node.name()).ok_or("it has no worker")?;
                outlaw()?;
                succeed(self.installation.kubectl().args(["delete", "pod", &pod.name]))?;
                self.settle()
            }
            Fault::Leader => {
                let pid = operator_pid(&leader(self.installation, self.cluster)?)?;
                faults.doom(pid);
                signal_pid(pid, Signal::KILL);
                last();
                self.settle()
            }
        }
    }

    fn steal(&self, node: u8, port: u16, loot: Loot) -> Vec<OwnedFd> {
        self.node(node).in_network(|| actors::steal(port, loot)).unwrap_or_default()
    }

    fn last_words(&self) -> (String, Vec<String>) {
        let mut log = String::new();
        for pod in ["operator", "worker"].iter().filter_map(|of| self.installation.pods(of).ok()).flatten() {
            let said = self.installation.logs(&pod.name).unwrap_or_else(|error| error);
            log.push_str(&format!("--- {} of {}:\n{said}", pod.name, pod.node));
            if let Ok(before) = self.installation.logs_before(&pod.name) {
                log.push_str(&format!("--- before:\n{before}"));
            }
        }
        let list =
            self.cluster.ask(&["get", "events", "-n", STREAMS, "--sort-by=.lastTimestamp", "-o", "json"]);
        let list = list.ok().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        (log, events(&list))
    }
}
