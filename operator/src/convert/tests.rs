//! What a worker says is checked, field by field.

use operator_core::{Event, event::Report, ids::SessionId};
use proto::control::v1::{self as wire, report::Kind, worker_message::Body};

use super::event;

fn read(body: Body) -> Result<Event, String> {
    event(SessionId(1), body).map_err(|error| error.to_string())
}

fn stream() -> Option<wire::StreamRef> {
    Some(wire::StreamRef { uid: "u".to_owned(), epoch: 3 })
}

fn report(kind: Kind) -> Result<Event, String> {
    read(Body::Report(wire::Report { kind: Some(kind) }))
}

#[test]
fn leases_are_none_one_or_a_pair() {
    let assigned = |ports: &[u32]| {
        report(Kind::Assigned(wire::Assigned { stream: stream(), ports: ports.to_vec(), next_ports: vec![] }))
    };
    let ports = |event: Result<Event, String>| match event {
        Ok(Event::Report { report: Report::Assigned { ports, .. }, .. }) => {
            Ok(ports.map(|ports| (ports.rtp, ports.rtcp)))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    assert_eq!(ports(assigned(&[])), Ok(None));
    assert_eq!(ports(assigned(&[20000])), Ok(Some((20000, None))));
    assert_eq!(ports(assigned(&[20000, 20001])), Ok(Some((20000, Some(20001)))));
    assert_eq!(
        ports(assigned(&[1, 2, 3])),
        Err("a lease of 3 ports in the worker's message; there are one or two".to_owned())
    );
}

#[test]
fn what_is_said_of_a_second_lease_is_taken_over() {
    let said = |kind| match report(kind) {
        Ok(Event::Report { report, .. }) => Ok(report),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let both = wire::Assigned { stream: stream(), ports: vec![20000], next_ports: vec![20002, 20003] };
    let Ok(Report::Assigned { ports, next, .. }) = said(Kind::Assigned(both)) else { panic!("it is sound") };
    assert_eq!((ports.map(|it| it.rtp), next.and_then(|it| it.rtcp)), (Some(20000), Some(20003)));
    let closed = |ports| said(Kind::PortsClosed(wire::PortsClosed { stream: stream(), ports }));
    assert!(matches!(closed(vec![20000]), Ok(Report::PortsClosed { ports, .. }) if ports == [20000]));
    assert_eq!(
        closed(vec![0]).map(|_| ()),
        Err("ports_closed.ports is 0 in the worker's message, which is no port".to_owned())
    );
    let arrived = |port| said(Kind::Arrived(wire::Arrived { stream: stream(), port, settled: true }));
    assert!(matches!(arrived(20002), Ok(Report::Arrived { port: 20002, settled: true, .. })));
    assert_eq!(
        arrived(65536).map(|_| ()),
        Err("arrived.port is 65536 in the worker's message, which is no port".to_owned())
    );
}

#[test]
fn what_no_sound_worker_says_is_refused() {
    let hello = wire::Hello {
        worker: "w".to_owned(),
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
        ..Default::default()
    };
    for (body, said) in [
        (Body::Report(wire::Report { kind: None }), "report.kind is missing in the worker's message"),
        (Body::Hello(hello.clone()), "hello.rtmp_port is 0 in the worker's message, which is no port"),
        (
            Body::Hello(wire::Hello { boot_id: String::new(), ..hello.clone() }),
            "hello.boot_id is missing in the worker's message",
        ),
        (
            Body::Hello(wire::Hello { epoch: u64::MAX, ..hello.clone() }),
            "hello.epoch is 18446744073709551615 in the worker's message, more than any operator has told it",
        ),
        (
            Body::Hello(wire::Hello { rtmp_port: 70000, ..hello }),
            "hello.rtmp_port is 70000 in the worker's message, which is no port",
        ),
        (
            Body::Inventory(wire::Inventory {
                bound: vec![wire::Binding { port: 20000, protocol: 0, stream: None }],
                ..Default::default()
            }),
            "protocol is 0 in the worker's message, which is neither TCP nor UDP",
        ),
        (
            Body::Report(wire::Report {
                kind: Some(Kind::Media(wire::MediaChanged { stream: None, live: true })),
            }),
            "stream is missing in the worker's message",
        ),
    ] {
        assert_eq!(read(body).map(|_| ()), Err(said.to_owned()));
    }
}
