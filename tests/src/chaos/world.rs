//! The product, its protected streams, and whatever is done to it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::actors::cameras::Target;
use super::actors::{self, Actors, Life, cameras, encoders, strangers, thieves, viewers};
use super::assaults::Assaults;
use super::judge::{Invariant, Violation, leases};
use super::protected::{Control, Over};
use super::script::{Action, Camera, Declared, Door, End, File, NUMBERS, Random, Slot, action};
use super::watcher::{Watched, Watcher, worker_of};
use super::{Options, Plant};
use crate::clips::h264_aac;
use crate::eventually::{ensure, eventually, within};
use crate::load::Protocol;
use crate::ports::Block;
use crate::ps_sender::{self, AudioChoice, Clip, Transport, VideoChoice};
use crate::running::Folder;
use crate::standalone::{SOON, Standalone, over_rtp, pool, pushed};
use crate::{census, http, publisher};

/// Protected streams: enough for each shard of a small machine to have some.
const PROTECTED: usize = 4;
/// Of each, before anything is done: two seconds.
const FIRST_FRAMES: u64 = 140;
/// Actions that a failure tells.
const HISTORY: usize = 30;
/// A number comes out of quarantine when two scans (5 s apart at most), a cooldown apart, see it free; a viewer that reads nothing is
/// given up after 30 s.
const REST: Duration = Duration::from_secs(60);
/// Descriptors that first use opens for good: a log, an epoll, a timer, a pipe of either.
const DESCRIPTORS_SLACK: usize = 8;
/// Bytes of the budget that are in no ring: what is being taken apart of the protected streams.
const BUDGET_SLACK: f64 = (1 << 20) as f64;

/// All of it.
pub(super) struct World {
    // Ended before the product is.
    actors: Actors,
    controls: Arc<Vec<Control>>,
    standalone: Standalone,
    ports: Block,
    declared: Declared,
    assaults: Arc<Assaults>,
    clip: Arc<Clip>,
    programs: Arc<Folder>,
    seed: u64,
    history: VecDeque<String>,
    descriptors: [usize; 2],
}

/// What came of an action.
type Outcome = Result<(), &'static str>;

impl World {
    /// Starts the product with its protected streams, does what is planted, and declares what the script's first step expects.
    pub(super) fn start(options: &Options) -> World {
        let file = h264_aac(2).file();
        let clip =
            ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
        // Made before anything runs beside it.
        h264_aac(10).file();
        let ports = Block::take(NUMBERS);
        let names: Vec<String> = (0..PROTECTED).map(|nth| format!("protected{nth}")).collect();
        let mut files = vec![("pool.yaml".to_owned(), pool(&ports.range()))];
        files.extend(names.iter().map(|name| (format!("{name}.yaml"), pushed(name, ""))));
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let hooks: &[&str] = match options.plant {
            Some(Plant::Leak | Plant::Hang) => &["--test-hooks"],
            Some(Plant::DoubleLease) | None => &[],
        };
        let standalone = Standalone::start_with(hooks, &files);
        let controls: Vec<Control> = names
            .iter()
            .enumerate()
            .map(|(nth, name)| {
                standalone.wait_ready(&format!("live/{name}"));
                let over =
                    if nth % 2 == 0 { Over::Http(standalone.http) } else { Over::Rtmp(standalone.rtmp) };
                Control::start(&format!("live/{name}"), standalone.rtmp, over)
            })
            .collect();
        for control in &controls {
            eventually(&format!("{FIRST_FRAMES} frames of {}", control.path), 3 * SOON, || {
                ensure(control.frames() >= FIRST_FRAMES, || format!("{} frames", control.frames()))
            });
            // They began when the others were not there.
            control.take();
            control.calm();
        }
        let descriptors = [standalone.pid(), standalone.worker_pid()].map(census::descriptors);
        let world = World {
            actors: Actors::default(),
            controls: Arc::new(controls),
            standalone,
            ports,
            declared: Declared::before(options.seed, options.from),
            assaults: Arc::default(),
            clip: Arc::new(clip),
            programs: Arc::new(Folder::new("chaos")),
            seed: options.seed,
            history: VecDeque::new(),
            descriptors,
        };
        world.plant(options.plant);
        world.write_pool();
        world.declared.files.iter().for_each(|(slot, file)| world.write(*slot, *file, File::Gone));
        world
    }

    /// Begins to look at it.
    pub(super) fn watch(&self, plant: Option<Plant>) -> Watcher {
        Watcher::start(Watched {
            parent: self.standalone.pid(),
            admin: self.standalone.admin,
            health: self.standalone.health,
            numbers: self.ports.range(),
            controls: self.controls.clone(),
            assaults: self.assaults.clone(),
            plant,
        })
    }

    fn plant(&self, plant: Option<Plant>) {
        match plant {
            Some(Plant::Leak) => {
                self.fault("{\"kind\": \"leak-port\"}");
                let rtp = "transport: TCPPassive, ssrc: \"0200000900\"";
                self.standalone.write("planted.yaml", &over_rtp("planted", rtp, ""));
                self.standalone.wait_ready("live/planted");
                self.standalone.remove("planted.yaml");
            }
            Some(Plant::Hang) => self.fault("{\"kind\": \"block\", \"path\": \"live/protected0\"}"),
            // In the watcher's eyes.
            Some(Plant::DoubleLease) | None => {}
        }
    }

    fn fault(&self, body: &str) {
        let answer = http::post(self.standalone.admin, "/debug/fault", body).expect("the admin page answers");
        assert_eq!(answer.status, 202, "{body}: {}", answer.body);
    }

    /// Does what the script says.
    pub(super) fn step(&mut self, step: u64) {
        let action = action(self.seed, step);
        let outcome = self.act(step, action);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let outcome = outcome.map_or_else(|why| format!(" came to nothing: {why}"), |()| String::new());
        self.history.push_back(format!("{step}: {action:?}{outcome}"));
    }

    /// The last actions.
    pub(super) fn history(&self) -> impl Iterator<Item = &String> {
        self.history.iter()
    }

    /// What it has logged, and the events that it shows.
    pub(super) fn last_words(&self) -> (String, Vec<String>) {
        let events = self.standalone.page("/events").unwrap_or_default();
        let told = |event: &Value| {
            let of = |field: &str| event[field].as_str().unwrap_or("").to_owned();
            format!("{} {}: {}", event["involvedObject"]["name"], of("reason"), of("message"))
        };
        let events =
            events["items"].as_array().map(|items| items.iter().map(told).collect()).unwrap_or_default();
        (self.standalone.log(), events)
    }

    fn act(&mut self, step: u64, action: Action) -> Outcome {
        let random = Random::of(self.seed ^ step, step);
        let (rtmp, http) = (self.standalone.rtmp, self.standalone.http);
        match action {
            Action::Publish { slot, end: End::Killed, millis } => {
                let (programs, url) = (self.programs.clone(), self.standalone.rtmp_url(&slot.path()));
                self.begin(millis, move |life| {
                    encoders::kill(
                        publisher::ffmpeg(&programs, h264_aac(10), publisher::Times::ForEver, &url),
                        &life,
                    );
                })
            }
            Action::Publish { slot, end, millis } => self.publish(slot, end, millis),
            Action::Duel { slot, millis } => {
                self.publish(slot, End::Politely, millis)?;
                self.publish(slot, End::Reset, millis)
            }
            Action::Watch { slot, protocol, viewers, millis } => {
                let (to, path) = (self.player(protocol), slot.path());
                self.begin(millis, move |life| viewers::watch(protocol, to, &path, viewers, &life))
            }
            Action::NeverRead { slot, protocol, millis } => {
                let (to, path) = (self.player(protocol), slot.path());
                self.begin(millis, move |life| viewers::never_read(protocol, to, &path, &life))
            }
            Action::Send { slot, camera, millis } => self.send(slot, camera, random, millis),
            Action::Assail { door, attack, clients, millis } => {
                let to = match door {
                    Door::Rtmp => rtmp,
                    Door::Http => http,
                    Door::Health => self.standalone.health,
                };
                self.begin(millis, move |life| strangers::assail(door, to, attack, clients, random, &life))
            }
            Action::Steal { nth, loot, millis } => {
                let port = self.ports.first() + nth;
                self.begin(millis, move |life| thieves::steal(port, loot, &life))
            }
            Action::Pool { numbers } => {
                self.declared.numbers = numbers;
                self.write_pool();
                Ok(())
            }
            Action::Declare { slot, file } => {
                let before = self.declared.files.insert(slot, file).unwrap_or(File::Gone);
                self.write(slot, file, before);
                Ok(())
            }
            Action::Stop { millis } => {
                let worker = worker_of(self.standalone.pid()).ok_or("there is no worker")?;
                let assaults = self.assaults.clone();
                self.begin(millis, move |life| {
                    let stopped = assaults.stop(worker);
                    life.sit_out();
                    drop(stopped);
                })
            }
            Action::Kill => {
                let worker = worker_of(self.standalone.pid()).ok_or("there is no worker")?;
                self.assaults.kill(worker);
                Ok(())
            }
        }
    }

    fn begin(&mut self, millis: u16, act: impl FnOnce(Life) + Send + 'static) -> Outcome {
        if self.actors.begin(millis, act) { Ok(()) } else { Err("there are too many actors") }
    }

    fn publish(&mut self, slot: Slot, end: End, millis: u16) -> Outcome {
        let (to, path) = (self.standalone.rtmp, slot.path());
        self.begin(millis, move |life| encoders::publish(to, &path, end, &life))
    }

    fn player(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Rtmp => self.standalone.rtmp,
            Protocol::HttpFlv => self.standalone.http,
        }
    }

    fn send(&mut self, slot: Slot, camera: Camera, random: Random, millis: u16) -> Outcome {
        let stream =
            self.standalone.object("/streams", &slot.path()).map_err(|_| "there is no such stream")?;
        let ports = &stream["status"]["ports"];
        let port = ports["rtp"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("it has no port")?;
        let transport = if ports["transport"] == "UDP" { Transport::Udp } else { Transport::Tcp };
        let ssrc = slot.ssrc().ok_or("it is no camera's")?;
        let target = Target { to: (Ipv4Addr::LOCALHOST, port).into(), transport, ssrc };
        let clip = self.clip.clone();
        self.begin(millis, move |life| cameras::send(target, camera, &clip, random, &life))
    }

    fn write_pool(&self) {
        self.standalone.write("pool.yaml", &pool(&self.numbers(self.declared.numbers)));
    }

    fn numbers(&self, count: u16) -> RangeInclusive<u16> {
        self.ports.first()..=self.ports.first() + count - 1
    }

    fn write(&self, slot: Slot, file: File, before: File) {
        match slot.yaml(file) {
            Some(text) => self.standalone.write(&slot.file_name(), &text),
            None if before != File::Gone => self.standalone.remove(&slot.file_name()),
            None => {}
        }
    }

    /// Ends all that was done, and waits until nothing is left of it.
    pub(super) fn rest(&mut self, watcher: &Watcher) -> Result<(), Violation> {
        self.actors.end(actors::END).map_err(|left| Violation {
            of: Invariant::Rest,
            seen: format!("{left} actors do not end within {:?}", actors::END),
        })?;
        for (slot, file) in std::mem::take(&mut self.declared.files) {
            self.write(slot, File::Gone, file);
        }
        self.declared.numbers = NUMBERS;
        self.write_pool();
        let left = within(REST, || {
            // What is broken meanwhile is told at once.
            match watcher.violation() {
                Some(violation) => Ok(Err(violation)),
                None => self.left().map(Ok),
            }
        });
        left.unwrap_or_else(|seen| {
            Err(Violation { of: Invariant::Rest, seen: format!("after {REST:?}: {seen}") })
        })
    }

    /// What is left of the chaos.
    fn left(&self) -> Result<(), String> {
        let streams = self.standalone.page("/streams")?;
        let declared = streams["items"].as_array().map_or(0, Vec::len);
        ensure(declared == PROTECTED, || format!("{declared} streams, and {PROTECTED} are protected"))?;
        ensure(leases(&streams).is_empty(), || format!("leases: {:?}", leases(&streams)))?;
        let pool = self.standalone.object("/pools", "pool")?;
        let of = |field: &str| pool["status"][field].as_u64().unwrap_or(0);
        let numbers = u64::from(NUMBERS);
        let idle = of("capacity") == numbers && of("free") + of("cooling") == numbers;
        ensure(idle, || format!("the pool: {}", pool["status"]))?;
        let pids = [self.standalone.pid(), worker_of(self.standalone.pid()).ok_or("there is no worker")?];
        let held = census::held_by(pids[1], self.ports.range());
        ensure(held.is_empty(), || format!("sockets of the worker: {held:?}"))?;
        let viewers = self.standalone.metric("penstock_viewers", &[])?;
        ensure(viewers == PROTECTED as f64, || format!("{viewers} viewers, and {PROTECTED} are protected"))?;
        let sessions = self.standalone.page("/sessions")?;
        let rings = sessions["streams"].as_array().into_iter().flatten();
        let rings: f64 = rings.filter_map(|stream| stream["ringBytes"].as_f64()).sum();
        let budget = self.standalone.metric("penstock_budget_bytes", &[])?;
        ensure((budget - rings).abs() <= BUDGET_SLACK, || {
            format!("{budget} bytes of budget, {rings} in rings")
        })?;
        let descriptors = pids.map(census::descriptors);
        let few =
            descriptors.iter().zip(self.descriptors).all(|(now, first)| *now <= first + DESCRIPTORS_SLACK);
        ensure(few, || format!("descriptors {descriptors:?}, at the start {:?}", self.descriptors))
    }
}
