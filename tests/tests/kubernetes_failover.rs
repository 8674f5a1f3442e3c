//! Workers and nodes that die: their streams are published to elsewhere. `cargo xtask soak failover` does it many times, and tells
//! how long it takes.

use std::time::Duration;

use tests::cluster::Cluster;
use tests::failover::{self, Fault, Outage};
use tests::installation::Installation;
use tests::objects::wait_all_ready;
use tests::soak::size;

const STARTED: Duration = Duration::from_secs(60);

#[test]
fn each_stream_of_a_worker_that_dies_is_published_to_elsewhere() {
    let (runs, streams) = (size("PENSTOCK_FAILOVERS", 1), size("PENSTOCK_STREAMS", 30));
    let cluster = Cluster::up(3).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    installation.settle(STARTED);
    failover::declare(&installation, &cluster, streams).expect("streams are Ready");
    let mut outages = Vec::new();
    let mut ran = failover::Ran::new();
    for run in 1..=runs {
        for fault in Fault::ALL {
            let outage = failover::suffer(&installation, &cluster, fault, streams)
                .unwrap_or_else(|e| panic!("run {run}, {fault}: {e}"));
            let worst = outage.took.iter().max().copied().unwrap_or_default();
            eprintln!("run {run}, {fault}: {} streams in {worst:?}", outage.took.len());
            for (at, processes) in &outage.ran {
                ran.entry(at.clone()).or_default().extend(processes.iter().cloned());
            }
            outages.push(outage);
        }
    }
    // Worker processes may overlap in time: an epoch of a stream is one's alone.
    let twice: Vec<_> = ran.iter().filter(|(_, processes)| processes.len() > 1).collect();
    assert!(
        ran.len() > streams && twice.is_empty(),
        "{} epochs in force; by two processes: {twice:?}",
        ran.len()
    );
    let moves = failover::roll_out(&installation, &cluster, || wait_all_ready(&cluster, streams, STARTED));
    let moves = moves.expect("workers are replaced");
    let most = moves.values().max().copied().unwrap_or_default();
    eprintln!("rollout: each of {} streams moved at most {most} times", moves.len());
    assert!((1..=2).contains(&most), "{moves:?}");

    for fault in Fault::ALL {
        tell(&outages, fault, false);
        tell(&outages, fault, true);
    }
}

/// Over all streams of all runs of a fault.
fn tell(outages: &[Outage], fault: Fault, with_leader: bool) {
    let of_kind = |outage: &&Outage| outage.fault == fault && outage.with_leader == with_leader;
    let runs = outages.iter().filter(of_kind).count();
    let mut took: Vec<Duration> =
        outages.iter().filter(of_kind).flat_map(|outage| outage.took.iter().copied()).collect();
    took.sort_unstable();
    let (Some(median), Some(most)) = (took.get(took.len() / 2), took.last()) else { return };
    let leader = if with_leader { " with the leader on it" } else { "" };
    eprintln!("{fault}{leader}: {runs} runs, {} streams: median {median:?}, maximum {most:?}", took.len());
}
