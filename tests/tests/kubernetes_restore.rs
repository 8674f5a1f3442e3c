//! etcd is restored from an older backup: what the API has forgotten goes on, no epoch runs twice, and what is gone for good ends when
//! a person says so.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use tests::cluster::Cluster;
use tests::encoders::Encoders;
use tests::eventually::{ensure, eventually, throughout};
use tests::failover::{Ran, apply_streams, declare, ran, worker_pid};
use tests::installation::{Installation, NAMESPACE};
use tests::objects::{Assignment, assignments, streams};
use tests::running::signal_pid;

const STARTED: Duration = Duration::from_secs(60);
/// A watch ends after 60 s at the latest, and the next list shows that the API went back.
const NOTICED: Duration = Duration::from_secs(120);
const CALM: Duration = Duration::from_secs(5);
const BEFORE: usize = 4;
const LATER: usize = 6;

fn owners(cluster: &Cluster) -> BTreeMap<String, Assignment> {
    assignments(cluster).expect("the API answers")
}

#[test]
fn nothing_is_lost_or_doubled() {
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installation = Installation::of(&cluster).expect("the chart installs");
    let settled = || installation.settle(STARTED);
    settled();
    declare(&installation, &cluster, BEFORE).expect("streams are Ready");
    cluster.back_up().expect("etcd is copied");
    settled();

    // What the backup does not know: streams that were made since, and where those of before are by now.
    apply_streams(&installation, LATER).expect("the API takes them");
    let victim = owners(&cluster)["s-0"].node.clone();
    signal_pid(worker_pid(&victim).expect("it runs"), Signal::KILL);
    eventually("all streams Ready, the first of them elsewhere", STARTED, || {
        let phases = cluster.ask(&["get", "mst", "-o=jsonpath={.items[*].status.phase}"])?;
        let epoch = owners(&cluster).get("s-0").map_or(0, |owner| owner.epoch);
        ensure(phases.split(' ').filter(|it| *it == "Ready").count() == LATER && epoch > 1, || phases)
    });
    settled();
    let running = owners(&cluster);
    let of = |range: std::ops::Range<usize>| range.map(|number| format!("s-{number}"));
    let encoders = Encoders::start(&cluster, of(0..BEFORE)).expect("kubectl watches");
    let forgotten = Encoders::start(&cluster, of(BEFORE..LATER)).expect("kubectl watches");
    let all_publish = || {
        let counts = (encoders.publishing()?, forgotten.publishing()?);
        ensure(counts == (BEFORE, LATER - BEFORE), || format!("{counts:?} publish"))
    };
    eventually("all encoders publish", STARTED, all_publish);

    cluster.restore().expect("etcd is put back");
    assert_eq!(streams(&cluster).expect("the API answers").len(), BEFORE, "the API has forgotten");
    wait_told(&cluster, "ListWentBack");
    // Workers were told of later epochs than the API remembers: what it has is put right.
    eventually("the API knows again who has which stream", NOTICED, || {
        let now = owners(&cluster);
        let same = now.iter().all(|(name, owner)| {
            let before = &running[name];
            (&owner.node, &owner.worker) == (&before.node, &before.worker) && owner.epoch >= before.epoch
        });
        ensure(same && now.len() == BEFORE, || format!("{now:?}\nand runs\n{running:?}"))
    });
    throughout("no encoder is ended", CALM, all_publish);
    assert_eq!((encoders.take_absences(), forgotten.take_absences()), (vec![], vec![]), "nothing was lost");
    twice(&ran(&cluster).expect("workers have logs"));

    // They are gone for good, says a person.
    let note = ["annotate", "lease", "penstock", "-n", NAMESPACE, "media.penstock.dev/absence-confirmed=yes"];
    cluster.ask(&note).expect("the API takes the note");
    eventually("what the API does not have is ended", NOTICED, || {
        let left = forgotten.publishing().unwrap_or_default();
        ensure(left == 0 && encoders.publishing()? == BEFORE, || format!("{left} still publish"))
    });
}

/// Fails if an epoch of a stream was in force at two processes.
fn twice(ran: &Ran) {
    let twice: Vec<_> = ran.iter().filter(|(_, processes)| processes.len() > 1).collect();
    assert!(ran.len() > BEFORE && twice.is_empty(), "{twice:?}");
}

fn wait_told(cluster: &Cluster, reason: &str) {
    eventually(&format!("an event {reason}"), NOTICED, || {
        let selector = format!("--field-selector=reason={reason}");
        let events = cluster.ask(&["get", "events", "-n", NAMESPACE, &selector, "-o=name"])?;
        ensure(!events.is_empty(), || "none yet".to_owned())
    });
}
