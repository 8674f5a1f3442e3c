//! A run: the script's steps one after the other, until the time is over, somebody stops it, or something is broken.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::actors::{self, Crew, Target};
use super::judge::{Invariant, Look, Violation};
use super::protected::{self, Protected, STREAMS};
use super::script::{Act, Declared, Door, End, NUMBERS, Object, Script, Slot, Step};
use super::watcher::{Watch, Worst};
use super::world::{Alone, Clustered, Faults, Places, Site};
use super::{Ground, Options, Plant, Summary, stopped_file};
use crate::clips::h264_aac;
use crate::cluster::Cluster;
use crate::eventually::{ensure, within};
use crate::installation::Installation;
use crate::load::Protocol;
use crate::ps_sender::{self, AudioChoice, Clip, VideoChoice};
use crate::publisher::{self, Times};
use crate::running::Folder;
use crate::soak::StopOnDrop;
use crate::standalone::over_rtp;
use crate::{census, tools};

/// Of each protected viewer, before anything is done: two seconds.
const FIRST_FRAMES: u64 = 130;
/// For all of them to play at first.
const START: Duration = Duration::from_secs(60);
/// A number comes out of quarantine when two scans (5 s apart at most), a cooldown apart, see it free; a viewer that reads nothing is
/// given up after 30 s; and a fault may be under way.
const REST: Duration = Duration::from_secs(120);
/// How long what is planted may take to be told.
const TELLS: Duration = Duration::from_secs(90);
/// Between two lines about how it goes.
const TELL_EACH: Duration = Duration::from_secs(30);
/// Steps, events and lines of the log that a failure tells.
const HISTORY: usize = 30;
const EVENTS: usize = 20;
const LINES: usize = 40;
/// Descriptors that first use opens for good (a log, an epoll, a timer, a pipe), and those of a canary's visit.
const DESCRIPTORS_SLACK: usize = 12;

/// A run in which something was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What.
    pub violation: Violation,
    /// With it, how it came about.
    pub report: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.report)
    }
}

/// Runs it; the first broken invariant ends it.
///
/// # Panics
/// When the product doesn't start, or its protected streams don't.
pub fn run(options: &Options<'_>) -> Result<Summary, Box<Failure>> {
    let numbers = protected::NUMBERS + NUMBERS;
    match options.ground {
        Ground::Standalone => {
            let alone = Alone::start(numbers, options.plant);
            run_on(&alone, options, &|| plant(&alone, options.plant))
        }
        Ground::Cluster => {
            let cluster = Cluster::up(2).expect("root on Debian can run one");
            let installation = Installation::of(&cluster).expect("the chart installs");
            installation.settle(START);
            let site = Clustered::new(&cluster, &installation, numbers).expect("a namespace can be made");
            run_on(&site, options, &|| {})
        }
    }
}

/// Breaks the worker on purpose.
fn plant(alone: &Alone, plant: Option<Plant>) {
    match plant {
        Some(Plant::Leak) => {
            alone.hook("{\"kind\": \"leak-port\"}");
            bring_and_take(alone);
        }
        Some(Plant::DoubleLease) => {
            alone.hook("{\"kind\": \"share-port\"}");
            bring_and_take(alone);
        }
        Some(Plant::Hang) => {
            alone.hook(&format!("{{\"kind\": \"block\", \"path\": \"live/{}\"}}", STREAMS[0].0));
        }
        None => {}
    }
}

/// The next lease is what the hook breaks.
fn bring_and_take(alone: &Alone) {
    let rtp = "transport: TCPPassive, ssrc: \"0200000900\"";
    alone.standalone.write("planted.yaml", &over_rtp("planted", rtp, ""));
    alone.standalone.wait_ready("live/planted");
    alone.standalone.remove("planted.yaml");
}

fn run_on(site: &dyn Site, options: &Options<'_>, plant: &dyn Fn()) -> Result<Summary, Box<Failure>> {
    let protected = Protected::new();
    let clip = ps_sender::read(&h264_aac(2).file(), VideoChoice::Auto, AudioChoice::Auto);
    let (places, faults, watch) = (Places::default(), Faults::default(), Watch::default());
    let shared = Shared {
        site,
        protected: &protected,
        places: &places,
        faults: &faults,
        watch: &watch,
        clip: &clip.expect("ffmpeg reads its own"),
        programs: &Folder::new("chaos-encoders"),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = [StopOnDrop(&over), StopOnDrop(&protected.stop), StopOnDrop(&watch.stop)];
        scope.spawn(|| watch.pulse());
        scope.spawn(|| site.follow(&places, &watch.stop));
        scope.spawn(|| watch.run(options.ground, site, &faults, &protected));
        Run::begin(&shared, scope, &over, options, plant).go(options)
    })
}

/// What actors and the run have in common.
#[derive(Clone, Copy)]
struct Shared<'a> {
    site: &'a dyn Site,
    protected: &'a Protected,
    places: &'a Places,
    faults: &'a Faults,
    watch: &'a Watch,
    clip: &'a Clip,
    programs: &'a Folder,
}

struct Run<'scope, 'env> {
    shared: &'scope Shared<'scope>,
    crew: Crew<'scope, 'env>,
    script: Script,
    declared: Declared,
    plant: Option<Plant>,
    history: VecDeque<String>,
    /// Steps that came to nothing.
    idle: u64,
    /// Of each process at the start, by its name.
    descriptors: Vec<(String, usize)>,
}

impl<'scope, 'env> Run<'scope, 'env> {
    /// Declares pools and streams, has the protected ones played, and then what the script's next step expects.
    fn begin(
        shared: &'scope Shared<'scope>,
        scope: &'scope Scope<'scope, 'env>,
        over: &'scope AtomicBool,
        options: &Options<'_>,
        plant: &dyn Fn(),
    ) -> Self {
        let write = |name: &str, text: &str| {
            let written = shared.site.write(name, text);
            written.unwrap_or_else(|e| panic!("declaring {name}: {e}"));
        };
        write("steady", &pool(shared.site, "steady", protected::NUMBERS));
        write("wild", &pool(shared.site, "wild", NUMBERS));
        for (name, text) in protected::objects() {
            write(name, &text);
        }
        shared.protected.start(scope, shared.places);
        let played = within(START, || {
            let frames = shared.protected.fewest_frames();
            ensure(frames >= FIRST_FRAMES, || format!("{frames} frames came to a protected viewer"))
        });
        played.unwrap_or_else(|why| panic!("after {START:?} {why}:\n{}", shared.site.last_words().0));
        let descriptors = shared.watch.last(descriptors).1;
        // They began when the others were not there.
        shared.protected.take();
        shared.watch.armed.store(true, Ordering::Relaxed);
        // While no other stream is given a number.
        plant();
        let (mut script, mut declared) = (Script::new(options.seed, options.ground), Declared::first());
        for step in script.by_ref().take(options.from as usize) {
            declared.take(step.act);
        }
        let crew = Crew::new(scope, over);
        let plant = options.plant;
        let run =
            Run { shared, crew, script, declared, plant, history: VecDeque::new(), idle: 0, descriptors };
        for (slot, object) in &run.declared.objects {
            // What is no YAML is refused, as it was when it was declared first.
            let _ = run.declare(*slot, *object);
        }
        let _ = run.edit_pool(run.declared.numbers);
        run
    }

    /// Makes one step after the other, and rests.
    fn go(&mut self, options: &Options<'_>) -> Result<Summary, Box<Failure>> {
        let (begun, mut told, mut steps) = (Instant::now(), Instant::now(), options.from);
        let stopped = || options.stop.load(Ordering::Relaxed);
        let watch = self.shared.watch;
        let length = if options.plant.is_some() { TELLS } else { options.length };
        while begun.elapsed() < length && !stopped() && watch.violation().is_none() {
            let Some(step) = self.script.next() else { break };
            self.step(steps, step);
            steps += 1;
            // The script has a pace of its own; nothing is waited for here.
            std::thread::sleep(step.pause);
            if told.elapsed() >= TELL_EACH {
                told = Instant::now();
                eprintln!("chaos: {:.0?}, step {steps}; {}", begun.elapsed(), watch.worst());
            }
        }
        if stopped() && watch.violation().is_none() {
            let file = stopped_file(options.ground);
            let text = options.stopped(steps, length.saturating_sub(begun.elapsed()));
            fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            eprintln!("chaos: stopped after step {steps}; `--resume` goes on from {}", file.display());
            let _ = self.crew.end();
            return Ok(self.summary(steps - options.from));
        }
        match self.rest() {
            Ok(()) => Ok(self.summary(steps - options.from)),
            Err(violation) => {
                let report = self.report(options, steps, &violation);
                Err(Box::new(Failure { violation, report }))
            }
        }
    }

    fn summary(&self, steps: u64) -> Summary {
        let (faults, worst) = (self.shared.faults.count(), self.shared.watch.worst());
        Summary { steps, idle: self.idle, faults, worst }
    }

    fn step(&mut self, nth: u64, step: Step) {
        let outcome = self.act(step);
        self.declared.take(step.act);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.idle += u64::from(outcome.is_err());
        let outcome = outcome.map_or_else(|why| format!(" came to nothing: {why}"), |()| String::new());
        self.history.push_back(format!("{nth}: {:?} for {:?}{outcome}", step.act, step.lasts));
    }

    fn act(&mut self, Step { act, lasts, node, seed, pause: _ }: Step) -> Result<(), String> {
        let Shared { site, places, faults, clip, .. } = *self.shared;
        match act {
            Act::Publish(slot, End::Killed) => {
                let to = places.of(&slot.name()).ok_or("it is nowhere")?.rtmp;
                let url = format!("rtmp://{to}/live/{}", slot.name());
                let programs = self.shared.programs;
                self.crew.begin(lasts, move |life| {
                    actors::kill(publisher::ffmpeg(programs, h264_aac(10), Times::ForEver, &url), life);
                })
            }
            Act::Publish(slot, end) => self.publish(&slot.name(), end, lasts),
            Act::Duel(slot) => {
                self.publish(&slot.name(), End::Politely, lasts)?;
                self.publish(&slot.name(), End::Reset, lasts)
            }
            Act::Usurp => self.publish(STREAMS[0].0, End::Reset, lasts),
            Act::Watch(slot, protocol, viewers) => {
                let place = places.of(&slot.name()).ok_or("it is nowhere")?;
                let to = if protocol == Protocol::Rtmp { place.rtmp } else { place.http };
                let path = format!("live/{}", slot.name());
                self.crew.begin(lasts, move |life| actors::watch(protocol, to, &path, viewers, life))
            }
            Act::Send(slot, camera) => {
                let place = places.of(&slot.name()).ok_or("it is nowhere")?;
                let to = place.rtp.ok_or("it has no port")?;
                let ssrc = slot.ssrc().ok_or("it is no camera's")?;
                let target = Target { to, transport: slot.transport(), ssrc };
                self.crew.begin(lasts, move |life| actors::send(target, camera, clip, life))
            }
            Act::Assail(door, attack, clients) => {
                let of = STREAMS[(seed % STREAMS.len() as u64) as usize].0;
                let leased = |name: &str| places.of(name).and_then(|place| place.rtp);
                let to = match door {
                    Door::Tcp => leased(STREAMS[2].0),
                    Door::Udp => leased(STREAMS[1].0),
                    Door::Rtmp | Door::Http | Door::Health => site.door(door, node),
                };
                let to = to.ok_or("there is no such door")?;
                let path = format!("live/{of}");
                self.crew.begin(lasts, move |life| {
                    actors::assail((door, to), attack, clients, &path, clip, seed, life);
                })
            }
            Act::Vanish(slot) => {
                let place = places.of(&slot.name()).ok_or("it is nowhere")?;
                let path = format!("live/{}", slot.name());
                let (rtmp, http) = (place.rtmp.port(), place.http.port());
                self.crew.begin(lasts, move |life| actors::vanish(rtmp, http, &path, life))
            }
            Act::Steal(nth, loot) => {
                let numbers = site.numbers();
                let port = numbers.start() + nth % numbers.len() as u16;
                self.crew.begin(lasts, move |life| {
                    let _held = site.steal(node, port, loot);
                    life.sit_out();
                })
            }
            Act::Pool(numbers) => self.edit_pool(numbers),
            Act::Declare(slot, object) => self.declare(slot, object),
            Act::Freeze => self.crew.begin(lasts, move |_| {
                // Where there is none at the moment, there is none to freeze.
                let _ = site.freeze(node);
            }),
            Act::Break(_) if self.plant.is_some() => Err("it would take along what is planted".into()),
            Act::Break(fault) => {
                faults.begin()?;
                let begun = self.crew.begin(lasts, move |_| {
                    if let Err(why) = site.suffer(fault, node, lasts, faults) {
                        eprintln!("chaos: {fault:?} is not put right: {why}");
                    }
                    faults.end();
                });
                begun.inspect_err(|_| faults.end())
            }
        }
    }

    fn publish(&mut self, name: &str, end: End, lasts: Duration) -> Result<(), String> {
        let to = self.shared.places.of(name).ok_or("it is nowhere")?.rtmp;
        let path = format!("live/{name}");
        self.crew.begin(lasts, move |life| actors::publish(to, &path, end, life))
    }

    fn declare(&self, slot: Slot, object: Object) -> Result<(), String> {
        match slot.yaml(object) {
            Some(text) => self.shared.site.write(&slot.name(), &text),
            None => self.shared.site.remove(&slot.name()),
        }
    }

    fn edit_pool(&self, numbers: u16) -> Result<(), String> {
        self.shared.site.write("wild", &pool(self.shared.site, "wild", numbers))
    }

    /// Ends all that was done, and waits until nothing is left of it.
    fn rest(&mut self) -> Result<(), Violation> {
        let rest = |seen| Violation { of: Invariant::Rest, seen };
        let watch = self.shared.watch;
        if let Some(violation) = watch.violation() {
            // Nobody is left to look.
            let _ = self.crew.end();
            return Err(violation);
        }
        self.crew.end().map_err(rest)?;
        for slot in Declared::first().objects.keys() {
            self.declare(*slot, Object::Gone).map_err(rest)?;
        }
        self.edit_pool(NUMBERS).map_err(rest)?;
        let after = watch.last(|_| ()).0;
        let left = within(REST, || match watch.violation() {
            // What is broken meanwhile is told at once.
            Some(violation) => Ok(Err(violation)),
            None => {
                let (looks, left) = watch.last(|look| self.left(look));
                ensure(looks > after + 1, || "nobody has looked yet".to_owned())?;
                left.map(Ok)
            }
        });
        left.unwrap_or_else(|seen| Err(rest(format!("after {REST:?}: {seen}"))))
    }

    /// What is left of the chaos.
    fn left(&self, look: &Look) -> Result<(), String> {
        ensure(self.shared.faults.last().is_none(), || "not all is back after a fault".to_owned())?;
        let streams = look.of_kind("MediaStream").count();
        ensure(streams == STREAMS.len(), || format!("{streams} streams, {} are protected", STREAMS.len()))?;
        let leases = look.leases();
        // A pair and one number.
        ensure(leases.len() == 3, || format!("leases: {leases:?}"))?;
        for pool in look.of_kind("PortPool") {
            let of = |field: &str| pool["status"][field].as_u64().unwrap_or(0);
            let leased = if pool["metadata"]["name"] == "steady" { 3 } else { 0 };
            ensure(of("leased") == leased && of("quarantined") == 0 && of("capacity") > 0, || {
                format!("the pool {}: {}", pool["metadata"]["name"], pool["status"])
            })?;
        }
        // Two of a pair, a listener and its camera's connection.
        let sockets = look.sockets.len();
        ensure(sockets == 4, || format!("sockets: {:?}", look.sockets))?;
        let (viewers, publishers) = (self.shared.protected.viewers() as f64, STREAMS.len() as f64);
        ensure((look.viewers, look.publishers) == (viewers, publishers), || {
            format!("{} viewers, {} publishers", look.viewers, look.publishers)
        })?;
        let first: usize = self.descriptors.iter().map(|(_, count)| count).sum();
        let now = descriptors(look);
        let sum: usize = now.iter().map(|(_, count)| count).sum();
        let slack = DESCRIPTORS_SLACK * now.len();
        ensure(sum <= first + slack, || format!("descriptors {now:?}, {:?} at the start", self.descriptors))
    }

    /// All that helps to find the cause.
    fn report(&self, options: &Options<'_>, steps: u64, violation: &Violation) -> String {
        let (log, events) = self.shared.site.last_words();
        let ground = format!("{:?}", options.ground).to_lowercase();
        let kept = std::env::temp_dir().join(format!("penstock-chaos-{ground}-{}-{steps}.log", options.seed));
        let kept = match fs::write(&kept, &log) {
            Ok(()) => format!("the whole log is in {}", kept.display()),
            Err(error) => format!("the whole log is lost: {error}"),
        };
        let cluster = if options.ground == Ground::Cluster { " --cluster" } else { "" };
        let worst: Worst = self.shared.watch.worst();
        let mut text = format!(
            "{violation}\n  seed {}, step {steps}, commit {}; {kept}\n  the same script again: cargo xtask soak chaos{cluster} --seed {}\n  \
             the worst: {worst}\n  the last steps:\n",
            options.seed,
            commit(),
            options.seed
        );
        let lines: Vec<&str> = log.lines().collect();
        let mut list = |of: &[&str]| of.iter().for_each(|line| text.extend(["    ", line, "\n"]));
        list(&self.history.iter().map(String::as_str).collect::<Vec<_>>());
        list(&["", "the last events:"]);
        list(last(&events.iter().map(String::as_str).collect::<Vec<_>>(), EVENTS));
        list(&["", "the last lines of its log:"]);
        list(last(&lines, LINES));
        text
    }
}

fn descriptors(look: &Look) -> Vec<(String, usize)> {
    let of = |process: &super::judge::Process| (process.name.clone(), census::descriptors(process.pid));
    look.processes.iter().map(of).collect()
}

fn last<'a, 'b>(of: &'a [&'b str], count: usize) -> &'a [&'b str] {
    &of[of.len().saturating_sub(count)..]
}

fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(tools::root()).args(["rev-parse", "HEAD"]);
    tools::succeed(&mut git).map_or_else(|_| "unknown".into(), |commit| commit.trim().to_owned())
}

/// A pool of the first numbers that it may have.
fn pool(site: &dyn Site, name: &str, numbers: u16) -> String {
    let wild = name == "wild";
    let start = site.numbers().start() + if wild { protected::NUMBERS } else { 0 };
    let end = start + numbers - 1;
    format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: {name}}}\nspec: {{default: {wild}, cooldown: 100ms, \
         ranges: [{{start: {start}, end: {end}}}]}}\n"
    )
}
