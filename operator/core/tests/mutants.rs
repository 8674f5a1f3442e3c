//! Mutants: small bugs, one for each invariant first, that the simulation must catch. Each is a piece of the core's text
//! and what it becomes, applied to a copy, so that the product has no trace of them.
//!
//! `cargo test --package operator-core --test mutants -- --ignored --nocapture` builds and runs each of them;
//! `PENSTOCK_MUTANT=NAME` runs one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "this file drives cargo; the core itself stays without a clock"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seeds within which each must be caught.
const SEEDS: &str = "500";
/// A mutant that loops for ever is caught by this: the whole run takes a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A bug.
struct Mutant {
    name: &'static str,
    /// What it breaks.
    breaks: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn mutant(
    name: &'static str,
    breaks: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { name, breaks, file, from, to }
}

const MUTANTS: &[Mutant] = &[
    mutant(
        "told-before-record",
        "a claim is on record before its worker is told",
        "plan/write.rs",
        "self.set_phase(key, ClaimPhase::Writing(id));",
        "self.set_phase(key, ClaimPhase::Written); self.dirty.tell.insert(key.clone());",
    ),
    mutant(
        "unknown-is-written",
        "a write of unknown outcome is read back before anybody is told",
        "observe/writes.rs",
        "self.set_phase(&key, ClaimPhase::Reading);",
        "let version = self.streams[uid].resource_version; let status = written.status.clone(); \
         self.note_written(uid, version, Written { replaces: version, status, news: Vec::new() }); \
         self.set_phase(&key, ClaimPhase::Written); self.dirty.tell.insert(key.clone());",
    ),
    mutant(
        "revoke-frees",
        "only a node's worker frees a port: each number of a claim is leased to it until then",
        "state/holding.rs",
        "if !claim.may_be_known() {",
        "if !claim.may_be_known() || claim.lease.is_some() {",
    ),
    mutant(
        "no-cooldown",
        "a number rests after its lease",
        "observe/reports.rs",
        "self.end_claim(key, After::Cooling, now);",
        "self.end_claim(key, After::Unused, now);",
    ),
    mutant(
        "grant-before-inventory",
        "nothing is granted on a node before its inventory of the term",
        "node.rs",
        "fn can_take(&self) -> bool {\n        self.known && ",
        "fn can_take(&self) -> bool {\n        ",
    ),
    mutant(
        "networks-not-at-first",
        "a worker was told the cluster's own networks before the first stream of its session",
        "plan/greet.rs",
        "            self.send_networks(&name);\n",
        "",
    ),
    mutant(
        "networks-not-again",
        "a worker was told the cluster's own networks before the first stream of its session",
        "plan/networks.rs",
        "        self.dirty.nodes.extend(self.sessions.values().cloned());\n",
        "",
    ),
    mutant(
        "grant-unseen-range",
        "a number that a stranger has had since before the worker began is not granted",
        "plan/greet.rs",
        "session.looking |= !session.watch.iter().all(is_told);",
        "session.looking |= !session.watch.iter().all(is_told) && session.watch.is_empty();",
    ),
    mutant(
        "own-number-of-a-stranger",
        "a number that a stranger has had since before the worker began is not granted",
        "observe/reports.rs",
        "seen.push((*port, holder.describe(), owner.clone()));",
        "seen.extend(owner.iter().filter(|_| false).map(|it| (*port, holder.describe(), Some(it.clone()))));",
    ),
    mutant(
        "second-not-forgotten",
        "a claim has a second lease only beside a first, once it may be known",
        "state/holding.rs",
        "        self.seconds.remove(key);\n",
        "",
    ),
    mutant(
        "move-not-undone",
        "two leases are open only where their pool has the first no longer, or media comes on the second",
        "plan/shrink.rs",
        "} else if !self.is_stale(claim) {",
        "} else if false {",
    ),
    mutant(
        "move-without-deadline",
        "a move with a deadline ends by it",
        "plan/shrink.rs",
        "        self.arm_deadline(key, now);\n",
        "        if false {\n            self.arm_deadline(key, now);\n        }\n",
    ),
    mutant(
        "cramped-unserved",
        "who waits for a number beside its own is served when one is free",
        "plan.rs",
        "self.serve_cramped(&pool, now);",
        "if false {\n                    self.serve_cramped(&pool, now);\n                }",
    ),
    mutant(
        "second-told-before-record",
        "a second lease is told of only where it is on record",
        "plan/assign.rs",
        "it.stage.is_told() || self.is_second_recorded(key)",
        "it.stage.is_told() || !self.is_second_recorded(key) || self.is_second_recorded(key)",
    ),
    mutant(
        "second-closed-unheard",
        "the lease that a move gives up is held until its worker has closed it",
        "observe/second.rs",
        "if stage == Stage::Closing {\n            (second.arrived, second.since) = (false, None);\n        }",
        "if stage == Stage::Closing {\n            let now = Now::default();\n            return self.end_second(key, After::Cooling, now);\n        }",
    ),
    mutant(
        "move-unseen",
        "nobody stays on numbers that its pool has no longer, where that has it move and has others",
        "state/shelves.rs",
        "        self.mark_outside();\n",
        "        let _ = Self::mark_outside;\n",
    ),
    mutant(
        "surplus-unseen",
        "what a claim has open too much is found and closed",
        "observe/inventory.rs",
        "for port in open.difference(&own) {",
        "for port in open.difference(&own).filter(|_| own.is_empty()) {",
    ),
    mutant(
        "epoch-used-twice",
        "an epoch is never used twice",
        "plan/claim.rs",
        "stream.epoch = Epoch(stream.epoch.max(stream.epoch_told).max(floor).0 + 1);",
        "stream.epoch = Epoch(stream.epoch.max(stream.epoch_told).max(floor).0.max(1));",
    ),
    mutant(
        "term-used-twice",
        "a term is above all that were heard of",
        "plan.rs",
        "lead.term = Term(seen.0 + 1);",
        "lead.term = Term(seen.0.max(1));",
    ),
    mutant(
        "ssrc-for-two",
        "an SSRC of shared ports has one stream that a worker was told of",
        "plan/release.rs",
        "return Err(Reason::SsrcConflict);",
        "",
    ),
    mutant(
        "odd-pairs",
        "a pair is an even number and the odd one above",
        "port_set.rs",
        "free & (free >> 1) & EVEN",
        "free & (free >> 1)",
    ),
    mutant(
        "reserved-leased",
        "reserved numbers are never handed out",
        "state/shelves.rs",
        "let mut numbers = spec.numbers.clone();",
        "let mut numbers = PortSet::from_ranges(spec.ranges.iter().copied());",
    ),
    mutant(
        "absence-stops",
        "absence from a list stops nothing by itself",
        "observe/lists.rs",
        "None => self.confirm_absence(uid),",
        "None => self.lose_stream(uid, _now),",
    ),
    mutant(
        "old-list-believed",
        "what a restored backup lacks goes on until a person confirms",
        "observe/lists.rs",
        "self.went_back = version < self.version_seen || std::mem::take(&mut self.regressed);",
        "self.went_back = false;",
    ),
    mutant(
        "digest-ignored",
        "what is bound and not claimed is found and closed: no port is leaked",
        "observe/sessions.rs",
        "if expected != beat.digest {",
        "if expected != beat.digest && beat.sequence == u64::MAX {",
    ),
    mutant(
        "quarantine-for-ever",
        "quarantine ends when two scans see the number free",
        "observe/reports.rs",
        "if clean_since.is_some_and(|since| since < now.mono && now.mono >= since + cooldown) {",
        "if clean_since.is_some_and(|since| since + cooldown < since) {",
    ),
    mutant(
        "nobody-woken",
        "who waits for a number is served when one is free",
        "state/holding.rs",
        "self.dirty.wake.insert(pool.clone());",
        "",
    ),
    mutant(
        "idle-writes",
        "steady state writes nothing",
        "plan/status.rs",
        "Some(before) if before.status == status => before.last_transition,",
        "Some(before) if before.status == status && before.last_transition == now => now,",
    ),
    mutant(
        "two-writes-at-once",
        "one write of an object is under way at a time",
        "plan/write.rs",
        "if stream.write.is_some() ||",
        "if",
    ),
    mutant(
        "two-on-a-path",
        "a path has one stream with a claim to live by",
        "plan/release.rs",
        "self.winner(&spec.path).is_some_and(|winner| winner != uid)",
        "self.winner(&spec.path).is_none()",
    ),
    mutant(
        "old-process-kept",
        "a worker that was started again gets a new epoch for each of its streams",
        "claim.rs",
        "self.boot.as_ref().map_or(*self.pod_uid != *pod_uid, |claimed| claimed != boot)",
        "{ let _ = (pod_uid, boot); false }",
    ),
    mutant(
        "stale-claim-written",
        "a number that its pool gave up is not handed out any more",
        "plan/write.rs",
        "self.claims.get(key).is_some_and(|claim| self.is_stale(claim))",
        "self.claims.get(key).is_some_and(|claim| self.is_stale(claim) && false)",
    ),
    mutant(
        "counted-once",
        "free, leased, cooling and quarantined numbers sum to the capacity, counted afresh",
        "ledger/shelf.rs",
        "*self.tally.of(held) -= 1;",
        "if !matches!(held, Held::Cooling { .. }) { *self.tally.of(held) -= 1; }",
    ),
    mutant(
        "leased-and-released",
        "free, leased, cooling and quarantined numbers sum to the capacity, counted afresh",
        "ledger.rs",
        "self.released.remove(port);",
        "",
    ),
    mutant(
        "demoted-commands",
        "a replica that does not lead writes and commands nothing",
        "observe.rs",
        "self.lead = None;",
        "",
    ),
    mutant(
        "late-read-believed",
        "what was seen to go is not brought back by an older answer",
        "observe/writes.rs",
        "found.filter(|_| !gone)",
        "found.filter(|_| gone || !gone)",
    ),
    mutant(
        "dead-boot-believed",
        "the live process of a node is not refused for a dead one's late hello",
        "observe/sessions.rs",
        "if is_heard && current",
        "if (is_heard || !is_heard) && current",
    ),
    mutant(
        "lease-outlives-claim",
        "each number of a claim is leased to it, each leased number has its claim",
        "state/holding.rs",
        "self.drop_lease(key, after, now);",
        "if after == After::Cooling { self.drop_lease(key, after, now); }",
    ),
    mutant(
        "contest-unsettled",
        "a number has two claims only until its node's inventory is seen",
        "observe/inventory.rs",
        "self.settle_contested(&name, &sockets, now);",
        "",
    ),
    mutant(
        "leased-is-free",
        "no two claims that a worker was told of share a number",
        "ledger.rs",
        "shelf.numbers().contains(port) && !self.held.contains_key(&port)",
        "shelf.numbers().contains(port)",
    ),
    mutant(
        "shape-of-another",
        "a lease has numbers of a form that its source asks for",
        "stream.rs",
        "if rtp.rtcp { Shape::Pair } else { Shape::Single }",
        "if rtp.rtcp && rtp.transport == crate::spec::RtpTransport::Udp { Shape::Pair } else { Shape::Single }",
    ),
    mutant(
        "epoch-of-others-ignored",
        "a stream's epoch is at least that of each of its claims",
        "observe/objects.rs",
        "stream.epoch = stream.epoch.max(Epoch(status.epoch));",
        "",
    ),
    mutant(
        "claim-lived-by-after-its-end",
        "the claim that a stream lives by is its newest and not to be closed",
        "state/holding.rs",
        "self.dirty.tell.insert(key.clone());\n        self.part(key, now);",
        "self.dirty.tell.insert(key.clone());",
    ),
    mutant(
        "no-reason",
        "each stream has a claim, or a reason to have none",
        "plan/claim.rs",
        "Err(blocked) => self.block(uid, Some(blocked), now),",
        "Err(_) => {}",
    ),
    mutant(
        "not-queued",
        "who waits for a number stands in the queue that is served",
        "state/indexes.rs",
        "self.queues.entry(queue).or_default().insert(next_place);",
        "let _ = queue;",
    ),
    mutant(
        "rest-without-end",
        "a cooling number has a deadline",
        "state/holding.rs",
        "None => self.timers.set(Timer::Cooled(node_name.clone(), port), until),",
        "None => {}",
    ),
    mutant(
        "never-scanned-again",
        "a quarantined number's host is scanned again",
        "state/holding.rs",
        "self.timers.set_if_unset(Timer::ScanDue(node.clone()), now.mono + limits::SCAN_AGAIN_MIN);",
        "",
    ),
    mutant(
        "path-remembers",
        "indexes of claims say what the claims say",
        "state/holding.rs",
        "entry.claims.remove(key);",
        "",
    ),
    mutant(
        "write-awaited-for-ever",
        "each write under way is awaited by what it writes",
        "observe.rs",
        "stream.write = None;",
        "",
    ),
    mutant(
        "told-unasked",
        "nothing is told to a worker whose inventory was not seen in this term",
        "plan/assign.rs",
        "if !worker.known || !same_process {",
        "if !same_process {",
    ),
    mutant(
        "listener-leased",
        "a listener's port is in no pool on its node",
        "state/shelves.rs",
        "numbers.remove(*port);",
        "let _ = port;",
    ),
    mutant(
        "media-outlives-its-claim",
        "a stream is Live only by what its worker says of this epoch",
        "state/holding.rs",
        "stream.lose_media(now.mono);",
        "",
    ),
    mutant(
        "absence-remembered",
        "a stream that a list has again is looked at again",
        "observe/lists.rs",
        "self.mark(uid);",
        "",
    ),
    mutant(
        "any-directory-is-ours",
        "a worker that has another directory is sent all of ours",
        "plan/directory.rs",
        "if let Some(known) = known.filter(|known| known.digest == self.directory_digest) {",
        "if let Some(known) = known {",
    ),
    mutant(
        "standby-marks",
        "a replica that does not lead marks nothing for a plan",
        "plan.rs",
        "} else if state.lead.is_none() {",
        "} else if false {",
    ),
];

#[test]
fn each_mutant_fits_the_source() {
    for Mutant { name, file, from, .. } in MUTANTS {
        let text = fs::read_to_string(source().join("src").join(file)).unwrap();
        assert!(text.contains(from), "{name}: {file} has no `{from}`");
    }
    assert!(MUTANTS.len() >= 20);
    for (invariant, _) in operator_core::check::INVARIANTS {
        assert!(MUTANTS.iter().any(|mutant| mutant.breaks == *invariant), "no mutant breaks: {invariant}");
    }
}

#[test]
#[ignore = "a long run: cargo xtask soak mutants"]
fn each_mutant_is_caught() {
    let only = std::env::var("PENSTOCK_MUTANT").ok();
    let copy = workspace();
    let mut alive = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| only.as_deref().is_none_or(|only| only == mutant.name)) {
        let begun = Instant::now();
        match caught(&copy, mutant) {
            Ok(how) => println!("{:22} caught after {:3} s: {how}", mutant.name, begun.elapsed().as_secs()),
            Err(why) => {
                println!("{:22} NOT CAUGHT: {why} (it breaks: {})", mutant.name, mutant.breaks);
                alive.push(mutant.name);
            }
        }
    }
    assert!(alive.is_empty(), "not caught: {alive:?}");
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A workspace with a copy of this crate alone, kept between runs for what it has compiled.
fn workspace() -> PathBuf {
    let root = source().join("../..");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let crate_copy = copy.join("operator/core");
    if crate_copy.exists() {
        fs::remove_dir_all(&crate_copy).unwrap();
    }
    copy_all(&source(), &crate_copy);
    // Mutants have no mutants.
    fs::remove_file(crate_copy.join("tests/mutants.rs")).unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let lines = manifest.lines().filter(|line| !line.starts_with("default-members"));
    let lines =
        lines.map(|line| if line.starts_with("members") { "members = [\"operator/core\"]" } else { line });
    fs::write(copy.join("Cargo.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    copy
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How the simulation caught it, or that it didn't.
fn caught(copy: &Path, mutant: &Mutant) -> Result<String, String> {
    // The copy's own text: the source may be edited while this runs.
    let place = copy.join("operator/core/src").join(mutant.file);
    let text = fs::read_to_string(&place).unwrap();
    fs::write(&place, text.replacen(mutant.from, mutant.to, 1)).unwrap();
    let outcome = run(copy);
    fs::write(&place, text).unwrap();
    outcome
}

fn run(copy: &Path) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    cargo
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .env("RUSTFLAGS", "--cap-lints allow")
        // Each is built once and run for seconds: what the profile's optimisations gain is lost in the linking.
        .envs([
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
            ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
            ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"),
        ]);
    cargo.args(["test", "--release", "--package", "operator-core", "--test", "simulation"]);
    let built = cargo.arg("--no-run").output().map_err(|e| e.to_string())?;
    if !built.status.success() {
        return Err(format!("it does not compile: {}", String::from_utf8_lossy(&built.stderr)));
    }
    let told = String::from_utf8_lossy(&built.stderr).into_owned();
    let binary = told.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(binary, _)| binary);
    let binary = binary.ok_or_else(|| format!("no binary in {told}"))?;
    let log = copy.join("run.log");
    let output = fs::File::create(&log).map_err(|e| e.to_string())?;
    let mut child = Command::new(copy.join(binary))
        .args(["no_seed", "--nocapture"])
        .envs([("PENSTOCK_SEEDS", SEEDS), ("PENSTOCK_FAILURES", "1"), ("PENSTOCK_LINES", "0")])
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(Stdio::from(output))
        .spawn()
        .map_err(|e| e.to_string())?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            let log = fs::read_to_string(&log).map_err(|e| e.to_string())?;
            let how = log.lines().find(|line| line.starts_with("seed ")).unwrap_or("it failed");
            return if status.success() { Err(format!("{SEEDS} seeds pass")) } else { Ok(how.to_owned()) };
        }
        if begun.elapsed() > LIMIT {
            child.kill().map_err(|e| e.to_string())?;
            child.wait().map_err(|e| e.to_string())?;
            return Ok("it never ends".to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
