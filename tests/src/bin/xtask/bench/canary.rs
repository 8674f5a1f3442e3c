//! What the canary costs: the same process at rest, with rounds and without.

use std::time::{Duration, Instant};

use tests::census;
use tests::eventually::{ensure, within};
use tests::http;
use tests::standalone::Standalone;

use super::statistics::Quartiles;

/// A visit of each listener of each shard, and several times each kind of it.
const SPAN: Duration = Duration::from_secs(32);
const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(20);
/// Those that a round goes through, and the canary's own.
const THREADS: &[&str] = &["canary", "front", "shard-"];

pub(crate) fn run() -> Result<(), String> {
    let standalone = Standalone::start_with(&["--test-hooks"], &[]);
    let worker = standalone.worker_pid();
    within(LIMIT, || {
        let answer = http::get(standalone.health, "/healthz").map_err(|e| e.to_string())?;
        ensure(answer.status == 200, || answer.body)
    })
    .map_err(|last| format!("waited {LIMIT:?} for the canary to pass: {last}"))?;
    let threads = standalone.page("/healthz").map_err(|e| e.to_string())?["threads"].clone();
    let names = threads.as_array().cloned().unwrap_or_default();
    let shards = names.iter().filter(|it| it["name"].as_str().is_some_and(|it| it.contains("shard"))).count();
    let fault = |kind: &str| {
        let body = format!("{{\"kind\": \"{kind}\"}}");
        http::post(standalone.admin, "/debug/fault", &body).map_err(|e| e.to_string())
    };
    // Microseconds a second.
    let spend = || {
        let (begun, before) = (Instant::now(), census::cpu_of(worker, THREADS));
        std::thread::sleep(SPAN);
        let spent = census::cpu_of(worker, THREADS).saturating_sub(before);
        spent.as_secs_f64() * 1e6 / begun.elapsed().as_secs_f64()
    };
    let (mut with, mut without, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let before = census::cpu_of(worker, &["canary"]);
        with.push(spend());
        own.push(
            census::cpu_of(worker, &["canary"]).saturating_sub(before).as_secs_f64() * 1e6
                / SPAN.as_secs_f64(),
        );
        fault("still")?;
        without.push(spend());
        fault("unstill")?;
    }
    let cost: Vec<f64> = with.iter().zip(&without).map(|(with, without)| (with - without) / 1e4).collect();
    println!(
        "\n| a worker at rest, {shards} shards, {RUNS} runs of {} s | µs of CPU a second, median (quartiles) |",
        SPAN.as_secs()
    );
    println!("|---|---|");
    for (name, figures) in [
        ("front and shards, with a canary", &with),
        ("and without", &without),
        ("of it the canary's own thread", &own),
    ] {
        println!("| {name} | {} |", Quartiles::of(figures).show(0));
    }
    println!("| the canary in all, % of a core | {} |", Quartiles::of(&cost).show(3));
    Ok(())
}
