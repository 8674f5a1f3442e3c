//! Leaders that end, cleanly and not, and a Lease that is deleted: the next decision is a right one, and nothing that runs is touched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually};
use tests::failover::{declare, first_decision, leader, operator_pid};
use tests::installation::{Installation, NAMESPACE};
use tests::objects::{Assignment, assignments};
use tests::running::signal_pid;

const STARTED: Duration = Duration::from_secs(60);
const STREAMS: usize = 20;

/// What must not change: who has each of the streams that were declared first.
fn held(cluster: &Cluster) -> BTreeMap<String, Assignment> {
    let mut all = assignments(cluster).expect("the API answers");
    all.retain(|name, _| name.starts_with("s-"));
    all
}

fn term(cluster: &Cluster) -> Result<u64, String> {
    let path = r"-o=jsonpath={.metadata.annotations.media\.penstock\.dev/term}";
    let term = cluster.ask(&["get", "lease", "penstock", "-n", NAMESPACE, path])?;
    term.parse().map_err(|e| format!("term {term:?}: {e}"))
}

#[test]
fn the_next_leader_decides_rightly_and_touches_nothing_that_runs() {
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    let settled = || installation.settle(STARTED);
    settled();
    declare(&installation, &cluster, STREAMS).expect("streams are Ready");
    let before = held(&cluster);
    let decided = |name: &str, what: &str, begun: Instant| {
        let took = first_decision(&installation, &cluster, name, begun)
            .unwrap_or_else(|e| panic!("after {what}: {e}"));
        eprintln!("{what}: the first decision after {took:?}");
        assert_eq!(held(&cluster), before, "after {what}");
    };
    let first_term = term(&cluster).expect("the Lease has a term");

    let pid = operator_pid(&leader(&installation, &cluster).expect("somebody leads")).expect("it runs");
    let begun = Instant::now();
    signal_pid(pid, Signal::KILL);
    decided("killed", "leader killed", begun);
    settled();
    let second_term = term(&cluster).expect("the Lease has a term");
    assert!(second_term > first_term, "{second_term} is not above {first_term}");

    let pid = operator_pid(&leader(&installation, &cluster).expect("somebody leads")).expect("it runs");
    let begun = Instant::now();
    signal_pid(pid, Signal::TERM);
    decided("released", "leader ended cleanly", begun);
    settled();

    // Whoever leads makes it again, and goes on from its term.
    let term_before = term(&cluster).expect("the Lease has a term");
    cluster.ask(&["delete", "lease", "penstock", "-n", NAMESPACE]).expect("the API deletes it");
    let begun = Instant::now();
    decided("deleted", "Lease deleted", begun);
    eventually("a Lease with no lower term", STARTED, || {
        let after = term(&cluster)?;
        ensure(after >= term_before, || format!("{after} after {term_before}"))
    });
}
