//! Many streams on many workers: the real operator in two replicas, the real API server, and workers that speak the real contract and
//! move no media. All are Ready, and at rest nothing is written. `cargo xtask soak scale` has 10 000 streams on 200 workers, and bounds.
#![allow(clippy::print_stderr, reason = "what is measured is told as it comes")]

mod api;
mod fleet;
mod replica;

use std::fs;
use std::time::{Duration, Instant};

use api::{Api, Pace};
use fleet::{Fleet, Operators};
use replica::{Pods, Replica};
use tests::census;
use tests::cluster::Cluster;
use tests::eventually::{ensure, throughout, within};
use tests::installation::{Installation, chart};
use tests::soak::{bounds, size};
use tests::tools::root;
use tonic::Code;

const REPLICAS: u8 = 2;

/// For sessions and leaders, and for what is done to a hundred objects.
const SOON: Duration = Duration::from_secs(60);
/// For what is done to all objects.
const ALL: Duration = Duration::from_secs(300);
/// So long nothing was written: what was begun is over.
const SETTLED: Duration = Duration::from_secs(3);

/// What the environment asks for.
struct Sizes {
    streams: usize,
    workers: usize,
    rest: Duration,
    /// Whether a figure that misses its bound fails the run: only on a machine with nothing else to do.
    bounds: bool,
}

impl Sizes {
    fn asked() -> Sizes {
        Sizes {
            streams: size("PENSTOCK_STREAMS", 200),
            workers: size("PENSTOCK_WORKERS", 10),
            rest: Duration::from_secs(size("PENSTOCK_REST", 5)),
            bounds: bounds(),
        }
    }
}

/// Figures with their bounds.
struct Figures {
    missed: Vec<String>,
}

impl Figures {
    fn tell(&mut self, what: &str, figure: &str, bound: &str, met: bool) {
        let line = format!("{what}: {figure}; bound {bound}: {}", if met { "met" } else { "MISSED" });
        eprintln!("{line}");
        if !met {
            self.missed.push(line);
        }
    }
}

/// All that runs. Dropped in this order.
struct World<'a> {
    sizes: Sizes,
    figures: Figures,
    cluster: &'a Cluster,
    api: Api,
    replicas: Vec<Replica>,
    starts: u32,
    _fleet: Fleet,
    pods: Pods,
}

#[test]
fn many_streams_are_ready_and_at_rest_nothing_is_written() {
    let sizes = Sizes::asked();
    let cluster = Cluster::api_only().expect("root on Debian can run one");
    let mut world = World::begin(sizes, &cluster).expect("operators and workers find each other");
    if let Err(error) = world.measure() {
        panic!("{error}\nthe operators wrote last:\n{}", world.last_words());
    }
    let missed = world.figures.missed.join("\n");
    assert!(missed.is_empty() || !world.sizes.bounds, "bounds missed:\n{missed}");
}

/// Somebody with tokens of this cluster, none of which is that of the worker that he says to be.
struct Impostor {
    operators: Operators,
    /// Unbound to a pod, and of the operator.
    tokens: [String; 2],
    pods: Vec<fleet::Pod>,
}

impl Impostor {
    fn is_refused(&self) -> Result<(), String> {
        let [victim, other] = &self.pods[..] else { return Err("two pods are needed".to_owned()) };
        let [unbound, operators] = &self.tokens;
        let knock = |token| fleet::knock(&self.operators, &victim.name, &victim.node, &victim.uid, token);
        let answers = [other.token.as_str(), unbound, operators, "made up"].map(|token| knock(token).err());
        let wanted = [Code::Ok, Code::PermissionDenied, Code::PermissionDenied, Code::Unauthenticated];
        ensure(answers == wanted.map(Some), || format!("an impostor is answered {answers:?}, not {wanted:?}"))
    }
}

impl<'a> World<'a> {
    fn begin(sizes: Sizes, cluster: &'a Cluster) -> Result<World<'a>, String> {
        Installation::objects(cluster, &chart(), &[])?;
        let pool = root().join("manifests/examples/pool.yaml").display().to_string();
        cluster.ask(&["apply", "-f", &pool])?;
        let api = Api::connect(cluster)?;
        let workers = api.make_pods(sizes.workers)?;
        let secret = |key| api.secret("penstock-tls", key);
        let (chain, key, authority) = (secret("tls.crt")?, secret("tls.key")?, secret("ca.crt")?);
        let pods = Pods::new(cluster, &api.operator_token()?, (&chain, &key), REPLICAS)?;
        let operators = Operators {
            addresses: (0..REPLICAS).map(replica::sessions).collect(),
            name: replica::service(),
            authority: String::from_utf8(authority).map_err(|e| e.to_string())?,
        };
        let impostor = Impostor {
            operators: operators.clone(),
            tokens: api.other_tokens()?,
            pods: workers[..2].to_vec(),
        };
        let fleet = Fleet::start(workers, &operators);
        let figures = Figures { missed: Vec::new() };
        let mut world =
            World { sizes, figures, cluster, api, replicas: Vec::new(), starts: 0, _fleet: fleet, pods };
        world.start_operators()?;
        impostor.is_refused()?;
        Ok(world)
    }

    /// Starts the replicas that do not run, and waits until each knows each worker.
    fn start_operators(&mut self) -> Result<(), String> {
        self.starts += 1;
        for number in 0..REPLICAS {
            if self.replicas.iter().all(|replica| replica.number() != number) {
                self.replicas.push(self.pods.start(number, self.starts));
            }
        }
        for replica in &self.replicas {
            replica.wait_sessions(self.sizes.workers, SOON)?;
        }
        within(SOON, || self.leader().map(drop))
            .map_err(|last| format!("waited {SOON:?} for a leader: {last}"))
    }

    /// Its place among the replicas.
    fn leader(&self) -> Result<usize, String> {
        self.replicas.iter().position(Replica::leads).ok_or("nobody leads".to_owned())
    }

    fn measure(&mut self) -> Result<(), String> {
        self.begin_to_decide()?;
        let rss_before = self.rss();
        self.tell_memory("before");
        let (rate, statuses) = self.apply_all()?;
        self.rest()?;
        self.lead_after_kill()?;
        self.lead_after_restart()?;
        self.shrink(&rss_before)?;
        let bare = self.bare_loop(statuses)?;
        let share = rate / bare;
        let figure = format!("{rate:.0}/s beside {bare:.0}/s, {:.0} %", share * 100.0);
        self.figures.tell("rate from the first create to the last Ready", &figure, "80 %", share >= 0.8);
        self.apply_at(bare / 2.0)
    }

    /// Waits until a stream that comes is Ready, with all that is made by a first time, and deletes it.
    fn begin_to_decide(&mut self) -> Result<(), String> {
        self.api.apply(vec!["first".to_owned()], Pace::AsFastAsPossible)?;
        self.api.wait_ready(1, SOON)?;
        self.delete_all()?;
        self.settle()
    }

    /// Deletes all streams, and waits until each number is free.
    fn delete_all(&self) -> Result<(), String> {
        self.api.delete_all(ALL)?;
        // The pool's status tells of it a moment later.
        self.settle()?;
        let capacity = self.api.pool("cameras", "capacity")?;
        within(SOON, || {
            let free = self.api.pool("cameras", "free")?;
            ensure(free == capacity, || format!("{free} of {capacity} numbers are free"))
        })
        .map_err(|last| format!("waited {SOON:?} for all ports to be free: {last}"))
    }

    /// MiB of each replica, by its number.
    fn rss(&self) -> Vec<(u8, f64)> {
        self.replicas.iter().map(|replica| (replica.number(), replica.rss_mib())).collect()
    }

    /// What the processes hold of memory by their own count, beside what is resident.
    fn tell_memory(&self, when: &str) {
        for replica in &self.replicas {
            let bytes = |state: &str| {
                let label = format!("kind=\"{state}\"");
                replica.metric("penstock_operator_memory_bytes", &[&label]).unwrap_or_default()
                    / f64::from(1 << 20)
            };
            eprintln!(
                "operator {} {when}: {:.1} MiB allocated in pages of {:.1}, {:.1} of the allocator itself, {:.1} MiB resident",
                replica.number(),
                bytes("allocated"),
                bytes("active"),
                bytes("metadata"),
                replica.rss_mib()
            );
        }
    }

    fn names(&self, of: &str) -> Vec<String> {
        (0..self.sizes.streams).map(|number| format!("{of}-{number:05}")).collect()
    }

    /// As fast as possible. Gives streams a second, and the statuses that each had until it was Ready.
    fn apply_all(&mut self) -> Result<(f64, Vec<Vec<String>>), String> {
        let count = self.sizes.streams;
        let written = self.api.writes()?;
        let cpu = self.cpu();
        let begun = Instant::now();
        self.api.apply(self.names("full"), Pace::AsFastAsPossible)?;
        eprintln!("{count} streams are applied after {:.1} s", begun.elapsed().as_secs_f64());
        self.api.wait_ready(count, ALL)?;
        let took = self.api.seen().last_ready().map(|at| at.duration_since(begun)).unwrap_or_default();
        self.tell_cpu("of CPU until all are Ready", &cpu);
        let written = self.api.writes()? - written;
        let statuses = self.api.seen().statuses();
        let (most, bytes) = statuses.iter().fold((0, 0), |(most, bytes), all| {
            (most.max(all.len()), bytes + all.iter().map(String::len).sum::<usize>())
        });
        eprintln!(
            "{count} streams on {} workers are Ready after {:.1} s: {:.2} writes a stream, at most {most} statuses, {} bytes each",
            self.sizes.workers,
            took.as_secs_f64(),
            written / count as f64,
            bytes / statuses.iter().map(Vec::len).sum::<usize>().max(1),
        );
        let rss = self.rss().iter().map(|(_, rss)| *rss).fold(0.0, f64::max);
        let what = format!("resident memory of an operator with {count} streams");
        self.figures.tell(&what, &format!("{rss:.0} MiB"), "150 MiB", rss < 150.0);
        Ok((count as f64 / took.as_secs_f64(), statuses))
    }

    fn rest(&mut self) -> Result<(), String> {
        self.settle()?;
        let (written, events, cpu) = (self.api.writes()?, self.api.seen().events(), self.cpu());
        throughout("no stream changes", self.sizes.rest, || {
            let now = self.api.seen().events();
            ensure(now == events, || format!("{} changes", now - events))
        });
        let written = self.api.writes()? - written;
        let what = format!("writes in {:?} at rest", self.sizes.rest);
        self.tell_cpu("of CPU at rest", &cpu);
        self.figures.tell(&what, &format!("{written}"), "0", written == 0.0);
        ensure(written == 0.0, || format!("{written} writes at rest"))
    }

    /// Waits until nothing is written any more.
    fn settle(&self) -> Result<(), String> {
        let mut last = (self.api.writes()?, Instant::now());
        within(SOON, || {
            let now = self.api.writes()?;
            if now != last.0 {
                last = (now, Instant::now());
            }
            ensure(last.1.elapsed() >= SETTLED, || format!("{now} writes, and more come"))
        })
        .map_err(|last| format!("waited {SOON:?} for the writes' end: {last}"))
    }

    fn lead_after_kill(&mut self) -> Result<(), String> {
        let before = self.api.seen().owners();
        let leader = self.replicas.remove(self.leader()?);
        let begun = Instant::now();
        leader.kill();
        self.decide("after-kill", "a leader's kill", begun)?;
        self.nothing_moved(before, "after-kill")?;
        self.start_operators()
    }

    fn lead_after_restart(&mut self) -> Result<(), String> {
        let before = self.api.seen().owners();
        std::mem::take(&mut self.replicas).into_iter().for_each(Replica::kill);
        self.starts += 1;
        let begun = Instant::now();
        self.replicas = (0..REPLICAS).map(|number| self.pods.start(number, self.starts)).collect();
        self.decide("after-restart", "the start of all replicas that were killed", begun)?;
        self.nothing_moved(before, "after-restart")?;
        self.start_operators()
    }

    /// Until a stream that is applied now is Ready.
    fn decide(&mut self, name: &str, what: &str, begun: Instant) -> Result<(), String> {
        self.api.apply(vec![name.to_owned()], Pace::AsFastAsPossible)?;
        let ready = self.api.wait(&format!("{name} to be Ready"), SOON, |seen| {
            seen.ready_at(name).ok_or("it is not".to_owned())
        })?;
        let took = ready.duration_since(begun).as_secs_f64();
        let what = format!("from {what} to the first right decision");
        self.figures.tell(&what, &format!("{took:.1} s"), "7 s", took < 7.0);
        Ok(())
    }

    /// Those that were there have the worker and epoch that they had.
    fn nothing_moved(
        &self,
        before: std::collections::BTreeMap<String, (String, u64)>,
        new: &str,
    ) -> Result<(), String> {
        self.settle()?;
        let mut after = self.api.seen().owners();
        after.remove(new);
        let moved = before.iter().filter(|(name, owner)| after.get(*name) != Some(owner)).count();
        ensure(moved == 0 && after.len() == before.len(), || {
            format!("{moved} of {} streams moved", before.len())
        })
    }

    fn shrink(&mut self, rss_before: &[(u8, f64)]) -> Result<(), String> {
        let full = self.rss();
        self.tell_memory("with all streams");
        self.delete_all()?;
        let grown = || {
            let grown = self.rss().into_iter().zip(rss_before).map(|(now, before)| now.1 / before.1);
            grown.fold(0.0, f64::max)
        };
        // It is told as it is when the time is over.
        let _ = within(SOON, || if grown() <= 1.2 { Ok(()) } else { Err(()) });
        let grown = grown();
        self.tell_memory("after all are deleted");
        let figure =
            format!("{} from {} with {:+.0} %", show(&self.rss()), show(&full), (grown - 1.0) * 100.0);
        let what = format!("resident memory of operators after all are deleted; {} before", show(rss_before));
        self.figures.tell(&what, &figure, "+20 %", grown <= 1.2);
        Ok(())
    }

    /// The same objects and statuses, with no operator. Gives streams a second.
    fn bare_loop(&mut self, statuses: Vec<Vec<String>>) -> Result<f64, String> {
        std::mem::take(&mut self.replicas).into_iter().for_each(Replica::end);
        let streams = self.names("bare").into_iter().zip(statuses).collect();
        let token = self.pods.folder().join("run/secrets/kubernetes.io/serviceaccount/token");
        let took = self.api.write_again(self.cluster, &token, streams)?;
        self.api.wait_ready(self.sizes.streams, ALL)?;
        self.api.delete_all(ALL)?;
        Ok(self.sizes.streams as f64 / took.as_secs_f64())
    }

    fn apply_at(&mut self, rate: f64) -> Result<(), String> {
        self.start_operators()?;
        self.begin_to_decide()?;
        let asked = self.api.apply(self.names("half"), Pace::Rate(rate))?;
        self.api.wait_ready(self.sizes.streams, ALL)?;
        let seen = self.api.seen();
        let took = asked.iter().filter_map(|(name, asked)| Some(seen.ready_at(name)?.duration_since(*asked)));
        let mut took: Vec<f64> = took.map(|took| took.as_secs_f64() * 1000.0).collect();
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        let figure = format!("p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms", at(0.5), at(0.99), at(1.0));
        drop(seen);
        let what = format!("apply to Ready at {rate:.0} streams a second");
        self.figures.tell(&what, &figure, "p99 1000 ms", at(0.99) < 1000.0);
        Ok(())
    }

    /// Of operators, etcd, API server and this process with its workers and its client.
    fn cpu(&self) -> Vec<(String, Instant, Duration)> {
        let operators = self.replicas.iter().map(|it| (format!("operator {}", it.number()), Some(it.pid())));
        let api = ["etcd", "kube-apiserver"].map(|part| (part.to_owned(), self.cluster.pid(part)));
        let own = ("workers and client".to_owned(), Some(std::process::id()));
        let all = operators.chain(api).chain([own]);
        all.filter_map(|(name, pid)| Some((name, Instant::now(), census::cpu(pid?)))).collect()
    }

    fn tell_cpu(&self, what: &str, before: &[(String, Instant, Duration)]) {
        let now = self.cpu();
        let cores = before.iter().zip(&now).map(|((name, from, before), (_, to, after))| {
            let share =
                (after.saturating_sub(*before)).as_secs_f64() / to.duration_since(*from).as_secs_f64();
            format!("{name} {share:.2}")
        });
        eprintln!("cores {what}: {}", cores.collect::<Vec<_>>().join(", "));
    }

    fn last_words(&self) -> String {
        let logs = fs::read_dir(self.pods.folder()).into_iter().flatten().flatten();
        let logs =
            logs.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "log"));
        logs.map(|path| {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let from = log.lines().count().saturating_sub(15);
            let last: Vec<&str> = log.lines().skip(from).collect();
            format!("--- {}\n{}\n", path.display(), last.join("\n"))
        })
        .collect()
    }
}

fn show(rss: &[(u8, f64)]) -> String {
    let all: Vec<String> = rss.iter().map(|(_, rss)| format!("{rss:.0}")).collect();
    format!("{} MiB", all.join(" and "))
}
