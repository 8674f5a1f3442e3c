//! What the panel says, by what witnesses see.

use super::*;
use crate::event::{Beat, Hello, NodeObject};
use crate::ids::{Epoch, Term};

struct World {
    panel: Panel,
    ms: u64,
}

/// Session n is that of the worker on node n.
fn session(node: u64) -> SessionId {
    SessionId(node)
}

fn node(number: u64) -> NodeName {
    NodeName::from(format!("n{number}"))
}

impl World {
    fn of(workers: u64) -> World {
        let mut world = World { panel: Panel::default(), ms: 0 };
        for number in 1..=workers {
            world.hello(number, "boot");
        }
        world
    }

    fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.ms), wall_unix_ms: 0 }
    }

    fn observe(&mut self, event: &Event) {
        let now = self.now();
        self.panel.observe(event, now);
    }

    fn hello_of(number: u64, boot: &str) -> Hello {
        Hello {
            worker: WorkerName::from(format!("w{number}")),
            node: node(number),
            pod_uid: "pod".into(),
            boot: BootId::from(boot),
            addresses: vec![format!("10.0.0.{number}").into()],
            listener_ports: Vec::new(),
            rtp_shared_port: None,
            changes_leases: true,
            knows_networks: true,
            term: Term(0),
            epoch: Epoch(0),
            rtmp_port: 1935,
            http_port: 8080,
            health_port: 9181,
            template: "".into(),
        }
    }

    fn hello(&mut self, number: u64, boot: &str) {
        let hello = Self::hello_of(number, boot);
        self.observe(&Event::Hello { session: session(number), hello });
    }

    fn beat(&mut self, number: u64) {
        self.observe(&Event::Beat { session: session(number), beat: Beat::default() });
    }

    /// The others beat while time goes by.
    fn pass(&mut self, ms: u64, beating: &[u64]) -> Vec<Order> {
        let mut orders = Vec::new();
        for _ in 0..ms / 50 {
            self.ms += 50;
            for number in beating {
                self.beat(*number);
            }
            orders.extend(self.panel.poll(self.now()));
        }
        orders
    }

    fn see(&mut self, inquiry: u64, witness: Witness, sight: Sight) -> Option<Order> {
        let now = self.now();
        self.panel.see(inquiry, witness, sight, now)
    }
}

fn looks(orders: &[Order]) -> Vec<(u64, Witness)> {
    let look = |order: &Order| match order {
        Order::Look { inquiry, witness, worker: _, address: _, port: _ } => Some((*inquiry, *witness)),
        Order::Lost { .. } | Order::Degraded { .. } | Order::Held { .. } => None,
    };
    orders.iter().filter_map(look).collect()
}

fn lost(number: u64) -> Order {
    Order::Lost { node: node(number), worker: format!("w{number}").as_str().into(), boot: "boot".into() }
}

fn answered() -> Sight {
    Sight::Answered { boot: "boot".into() }
}

const OTHERS: &[u64] = &[2, 3];

#[test]
fn a_silent_worker_is_looked_at_by_this_replica_and_by_each_worker_that_is_heard() {
    let mut world = World::of(3);
    assert_eq!(world.pass(700, OTHERS), []);
    let orders = world.pass(100, OTHERS);
    let witnesses: Vec<Witness> = looks(&orders).into_iter().map(|(_, witness)| witness).collect();
    assert_eq!(witnesses, [Witness::Own, Witness::Worker(session(2)), Witness::Worker(session(3))]);
    let Order::Look { address, port, .. } = &orders[0] else { panic!("{orders:?}") };
    assert_eq!((&**address, *port), ("10.0.0.1", 9181));
}

#[test]
fn the_end_of_a_session_is_a_reason_to_look_and_no_death() {
    let mut world = World::of(2);
    world.observe(&Event::SessionClosed { session: session(1) });
    let orders = world.panel.poll(world.now());
    assert_eq!(looks(&orders).len(), 2);
    assert_eq!(orders.len(), 2, "nothing is said yet: {orders:?}");
}

#[test]
fn a_worker_that_a_majority_cannot_reach_is_lost_at_once() {
    let mut world = World::of(3);
    let asked = looks(&world.pass(800, OTHERS));
    assert_eq!(world.see(asked[0].0, asked[0].1, Sight::Refused), None, "one of three is no majority");
    assert_eq!(world.see(asked[1].0, asked[1].1, Sight::Silent), Some(lost(1)));
    assert_eq!(world.see(asked[2].0, asked[2].1, answered()), None, "what comes later changes nothing");
}

#[test]
fn a_worker_that_others_reach_keeps_its_streams_which_is_news_once() {
    let mut world = World::of(3);
    let asked = looks(&world.pass(800, OTHERS));
    assert_eq!(world.see(asked[0].0, asked[0].1, Sight::Silent), None);
    assert_eq!(world.see(asked[1].0, asked[1].1, answered()), None);
    let degraded = |news| Order::Degraded { node: node(1), worker: "w1".into(), boot: "boot".into(), news };
    assert_eq!(world.see(asked[2].0, asked[2].1, answered()), Some(degraded(true)));
    // It is asked about again, and dies after all.
    let asked = looks(&world.pass(1000, OTHERS));
    assert_eq!(asked.len(), 3);
    assert_eq!(world.see(asked[0].0, asked[0].1, answered()), None);
    assert_eq!(world.see(asked[1].0, asked[1].1, answered()), Some(degraded(false)));
    let asked = looks(&world.pass(1000, OTHERS));
    assert_eq!(world.see(asked[0].0, asked[0].1, Sight::Refused), None);
    assert_eq!(world.see(asked[1].0, asked[1].1, Sight::Refused), Some(lost(1)));
}

#[test]
fn one_who_hears_nobody_calls_nobody_lost() {
    let mut world = World::of(3);
    let orders = world.pass(800, &[]);
    let own: Vec<_> = looks(&orders);
    // All fell silent together, and none of them can be asked.
    assert!(own.iter().all(|(_, witness)| *witness == Witness::Own), "{own:?}");
    assert_eq!(own.len(), 3);
    for (inquiry, witness) in own {
        assert_eq!(world.see(inquiry, witness, Sight::Silent), None);
    }
    let held = world.pass(500, &[]);
    assert_eq!(held.len(), 3);
    assert!(
        held.iter().all(|order| matches!(order, Order::Held { against: 1, witnesses: 3, .. })),
        "{held:?}"
    );
    assert!(world.pass(5000, &[]).iter().all(|order| matches!(order, Order::Look { .. })), "it is said once");
}

#[test]
fn of_two_workers_one_is_lost_by_the_word_of_the_other() {
    let mut world = World::of(2);
    let asked = looks(&world.pass(800, &[2]));
    assert_eq!(world.see(asked[0].0, asked[0].1, Sight::Silent), None);
    assert_eq!(world.see(asked[1].0, asked[1].1, Sight::Silent), Some(lost(1)));
}

#[test]
fn who_is_cut_off_with_one_worker_moves_nothing_of_the_others() {
    // This replica and w1 are on one side; the other replica, w2 and w3 on the other.
    let mut world = World::of(3);
    let replica = Witness::Replica([10, 0, 0, 9].into());
    world.panel.set_replicas([[10, 0, 0, 9].into()].into());
    let asked = looks(&world.pass(800, &[1]));
    assert!(asked.iter().any(|(_, witness)| *witness == replica), "{asked:?}");
    for (inquiry, witness) in asked {
        // The other replica does not answer at all.
        if witness != replica {
            assert_eq!(world.see(inquiry, witness, Sight::Silent), None);
        }
    }
    let held = world.pass(500, &[1]);
    let against = |order: &Order| matches!(order, Order::Held { against: 2, witnesses: 4, .. });
    assert!(held.iter().filter(|order| against(order)).count() == 2, "{held:?}");
}

#[test]
fn a_single_worker_is_never_lost() {
    let mut world = World::of(1);
    assert_eq!(world.pass(10_000, &[]), []);
}

#[test]
fn whoever_speaks_is_heard_and_old_answers_say_nothing() {
    let mut world = World::of(2);
    let asked = looks(&world.pass(800, &[2]));
    world.beat(1);
    for (inquiry, witness) in asked {
        assert_eq!(world.see(inquiry, witness, Sight::Silent), None);
    }
    assert_eq!(world.pass(700, &[2]), []);
    // A process that was started again is another one.
    world.hello(1, "again");
    assert_eq!(world.pass(700, &[2]), []);
}

#[test]
fn a_lost_worker_is_no_witness_and_one_that_is_back_is_asked_again() {
    let mut world = World::of(3);
    let asked = looks(&world.pass(800, OTHERS));
    world.see(asked[0].0, asked[0].1, Sight::Refused);
    assert_eq!(world.see(asked[1].0, asked[1].1, Sight::Refused), Some(lost(1)));
    let asked = looks(&world.pass(800, &[3]));
    assert_eq!(asked.len(), 2, "this replica and w3: {asked:?}");
    world.beat(1);
    assert!(world.pass(700, &[1, 2, 3]).is_empty());
}

#[test]
fn a_node_that_is_gone_with_its_worker_is_forgotten() {
    let mut world = World::of(2);
    let object = NodeObject { name: node(1), ..object() };
    world.observe(&Event::NodeSeen(object));
    world.observe(&Event::SessionClosed { session: session(1) });
    world.observe(&Event::NodeGone { name: node(1) });
    assert_eq!(world.pass(5000, &[2]), []);
}

fn object() -> NodeObject {
    NodeObject {
        name: node(0),
        labels: Default::default(),
        ready: true,
        unschedulable: false,
        addresses: Vec::new(),
        own: Vec::new(),
        pods: Vec::new(),
    }
}

#[test]
fn metrics_are_told_how_each_worker_stands() {
    let verdicts = |world: &World| world.panel.verdicts(world.now()).collect::<Vec<_>>();
    let mut world = World::of(3);
    assert_eq!(verdicts(&world), [Verdict::Heard; 3]);
    let asked = looks(&world.pass(800, OTHERS));
    assert_eq!(verdicts(&world), [Verdict::Silent, Verdict::Heard, Verdict::Heard]);
    for (inquiry, witness) in asked {
        world.see(inquiry, witness, answered());
    }
    assert_eq!(verdicts(&world)[0], Verdict::Degraded);
    let asked = looks(&world.pass(1000, OTHERS));
    for (inquiry, witness) in asked {
        world.see(inquiry, witness, Sight::Refused);
    }
    assert_eq!(verdicts(&world)[0], Verdict::Lost);
    world.beat(1);
    assert_eq!(verdicts(&world), [Verdict::Heard; 3]);

    let mut alone = World::of(3);
    for (inquiry, witness) in looks(&alone.pass(800, &[])) {
        alone.see(inquiry, witness, Sight::Silent);
    }
    alone.pass(500, &[]);
    assert_eq!(verdicts(&alone), [Verdict::Held; 3]);
}

#[test]
fn who_was_not_asked_has_no_say() {
    let mut world = World::of(3);
    // w3 is not heard either when w1 is asked about.
    let asked = looks(&world.pass(800, &[2]));
    let about_first = asked.iter().filter(|(inquiry, _)| *inquiry == asked[0].0).count();
    assert_eq!(about_first, 2, "this replica and w2: {asked:?}");
    assert_eq!(world.see(asked[0].0, Witness::Own, Sight::Silent), None);
    assert_eq!(world.see(asked[0].0, Witness::Worker(session(3)), Sight::Silent), None);
    assert_eq!(world.see(asked[0].0, Witness::Replica([10, 0, 0, 9].into()), Sight::Silent), None);
    assert_eq!(world.see(asked[0].0, Witness::Worker(session(2)), Sight::Silent), Some(lost(1)));
}

#[test]
fn a_worker_that_named_no_health_port_is_not_looked_at() {
    let mut world = World::of(3);
    let mut hello = World::hello_of(1, "boot");
    hello.health_port = 0;
    world.observe(&Event::Hello { session: session(1), hello });
    assert_eq!(world.pass(5000, OTHERS), []);
    assert_eq!(world.panel.health_port(&"w1".into()), None);
}
