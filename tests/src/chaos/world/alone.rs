//! `penstock standalone` as the ground of the chaos.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Faults, Place, Places, Site, bound, events, freeze, page};
use crate::chaos::judge::{Look, Process};
use crate::chaos::script::{Door, Fault, Loot};
use crate::chaos::{Plant, actors};
use crate::ports::Block;
use crate::running::signal_pid;
use crate::standalone::{Standalone, sum_of};
use crate::{census, http};

/// Between two looks at where streams are.
const FOLLOW_EACH: Duration = Duration::from_millis(100);

/// The one node.
const NODE: &str = "local";

/// The product as a process of this machine, until it is dropped.
pub(in crate::chaos) struct Alone {
    pub(in crate::chaos) standalone: Standalone,
    ports: Block,
}

impl Alone {
    pub(in crate::chaos) fn start(numbers: u16, plant: Option<Plant>) -> Alone {
        // Publishers and players of other network namespaces come, too.
        let mut arguments = vec!["--advertise", "127.0.0.1"];
        if plant.is_some() {
            arguments.push("--test-hooks");
        }
        Alone { ports: Block::take(numbers), standalone: Standalone::start_everywhere_with(&arguments, &[]) }
    }

    /// Breaks the worker by its own hook.
    pub(in crate::chaos) fn hook(&self, body: &str) {
        let answer = http::post(self.standalone.admin, "/debug/fault", body).expect("the admin page answers");
        assert_eq!(answer.status, 202, "{body}: {}", answer.body);
    }

    fn worker(&self) -> Option<u32> {
        census::children(self.standalone.pid()).into_iter().find(|pid| census::runs(*pid))
    }
}

impl Site for Alone {
    fn numbers(&self) -> RangeInclusive<u16> {
        self.ports.range()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        self.standalone.write(&format!("{name}.yaml"), text);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        let file = format!("{name}.yaml");
        if self.standalone.dir.join(&file).exists() {
            self.standalone.remove(&file);
        }
        Ok(())
    }

    fn door(&self, door: Door, _node: u8) -> Option<SocketAddr> {
        match door {
            Door::Rtmp => Some(self.standalone.rtmp),
            Door::Http => Some(self.standalone.http),
            Door::Health => Some(self.standalone.health),
            Door::Tcp | Door::Udp => None,
        }
    }

    fn follow(&self, places: &Places, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let streams = self.standalone.page("/streams").unwrap_or_default();
            for stream in streams["items"].as_array().into_iter().flatten() {
                let Some(name) = stream["metadata"]["name"].as_str() else { continue };
                let port = stream["status"]["ports"]["rtp"].as_u64();
                let port = port.and_then(|port| u16::try_from(port).ok());
                places.set(
                    name,
                    stream["status"]["assignment"].is_object().then_some(Place {
                        rtmp: self.standalone.rtmp,
                        http: self.standalone.http,
                        rtp: port.map(|port| (Ipv4Addr::LOCALHOST, port).into()),
                    }),
                );
            }
            // How often it is asked for; nothing is waited for.
            std::thread::sleep(FOLLOW_EACH);
        }
    }

    fn look(&self) -> Look {
        let Standalone { admin, health, .. } = self.standalone;
        let mut look = Look::default();
        page(&mut look, "health", true, health, "/healthz");
        let mut list = |path: &str, mortal| page(&mut look, path, mortal, admin, path);
        let (pools, streams) = (list("/pools", false), list("/streams", false));
        let ports = list("/ports", true);
        list("/sessions", true);
        let metrics = list("/metrics", true).unwrap_or_default();
        let items = |list: Option<String>| {
            let list: Value = serde_json::from_str(&list?).ok()?;
            list["items"].as_array().cloned()
        };
        look.objects = items(pools).zip(items(streams)).map(|(pools, streams)| [pools, streams].concat());
        look.bound = bound(NODE, ports.as_deref());
        let count = |name| sum_of(&metrics, name, &[]).ok().flatten().unwrap_or(0.0);
        look.audit = count("penstock_operator_invariant_violations_total");
        look.panics = count("penstock_session_panics_total");
        (look.viewers, look.publishers) = (count("penstock_viewers"), count("penstock_publishers"));
        let process =
            |name: &str, pid, worker| Process { name: name.into(), pid, rss: census::rss_bytes(pid), worker };
        look.processes.push(process("the parent", self.standalone.pid(), false));
        if let Some(pid) = self.worker() {
            look.processes.push(process("the worker", pid, true));
            let held = census::held_by(pid, self.ports.range());
            look.sockets = held.into_iter().map(|held| (NODE.into(), held)).collect();
        }
        look
    }

    fn freeze(&self, _node: u8) -> Result<(), String> {
        let worker = self.worker().ok_or("there is no worker")?;
        freeze(worker);
        Ok(())
    }

    fn suffer(&self, fault: Fault, _node: u8, _lasts: Duration, faults: &Faults) -> Result<(), String> {
        match fault {
            Fault::Kill => {
                let worker = self.worker().ok_or("there is no worker")?;
                faults.doom(worker);
                signal_pid(worker, Signal::KILL);
                Ok(())
            }
            Fault::Stop | Fault::Cut | Fault::Delete | Fault::Leader => {
                Err(format!("{fault:?} is of clusters"))
            }
        }
    }

    fn steal(&self, _node: u8, port: u16, loot: Loot) -> Vec<OwnedFd> {
        actors::steal(port, loot)
    }

    fn last_words(&self) -> (String, Vec<String>) {
        (self.standalone.log(), events(&self.standalone.page("/events").unwrap_or_default()))
    }
}
