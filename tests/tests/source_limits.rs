//! What one source address may have of the public listeners and leased ports: at its limit it is turned away, and nobody else is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tests::eventually::{ensure, eventually};
use tests::load::Source;
use tests::player::Viewer;
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, over_rtp, pool, pushed};

const CONNECTIONS: usize = 6;
const HANDSHAKES: usize = 4;
/// Two who come, each from an address of its own; publishers and viewers of the tests have 127.0.0.1.
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

fn standalone(files: &[(&str, &str)]) -> Standalone {
    let arguments = [
        "--connections-per-address",
        &CONNECTIONS.to_string(),
        "--handshakes-per-address",
        &HANDSHAKES.to_string(),
    ];
    Standalone::start_with(&arguments, files)
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&to.into()).expect("the listener accepts");
    socket.into()
}

/// Whether the server has ended it.
fn is_ended(mut connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a connection can be asked without waiting");
    match connection.read(&mut [0; 1]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn ended(connections: &[TcpStream]) -> usize {
    connections.iter().filter(|connection| is_ended(connection)).count()
}

#[track_caller]
fn wait_turned_away(standalone: &Standalone, connections: &[TcpStream], count: usize) {
    eventually(&format!("{count} of {} turned away", connections.len()), SOON, || {
        let (ended, counted) =
            (ended(connections), standalone.metric("penstock_dropped_total", &["reason=\"AddressLimit\""])?);
        ensure(ended == count && counted >= count as f64, || format!("{ended} ended, {counted} counted"))
    });
}

#[track_caller]
fn is_served(standalone: &Standalone, from: Ipv4Addr, path: &str) -> TcpStream {
    let mut connection = connect(from, standalone.http);
    write!(connection, "GET /{path}.flv HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request fits");
    let mut answer = [0; 15];
    connection.set_read_timeout(Some(SOON)).expect("a limit can be set");
    connection.read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    connection
}

#[test]
fn unfinished_handshakes_of_one_address_are_bounded_and_cost_nobody_else() {
    let standalone = standalone(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let _source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    // Half by each listener: they say nothing.
    let to = [standalone.rtmp, standalone.http];
    let crowd: Vec<TcpStream> = (0..HANDSHAKES + 2).map(|nth| connect(CROWD, to[nth % 2])).collect();
    wait_turned_away(&standalone, &crowd, 2);
    drop(is_served(&standalone, OTHER, "live/cam"));
    let viewer = Viewer::open(standalone.http, "/live/cam.flv");
    viewer.wait_pictures(1, SOON);
    let named = format!("address={CROWD}");
    let said = |log: &str| log.lines().filter(|line| line.contains(&named)).count();
    assert_eq!(said(&standalone.log()), 1, "it is named once: {}", standalone.log());
    drop(crowd);
    eventually("a place for the address again", SOON, || {
        let connection = connect(CROWD, standalone.http);
        let gone = is_ended(&connection);
        ensure(!gone, || "it is turned away".to_owned())
    });
    drop(is_served(&standalone, CROWD, "live/cam"));
}

#[test]
fn viewers_of_one_address_are_bounded_and_cost_nobody_else() {
    let standalone = standalone(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let _source = Source::start(standalone.rtmp, "live/cam");
    standalone.wait_live("live/cam");
    let mut crowd: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| is_served(&standalone, CROWD, "live/cam")).collect();
    let beyond = [connect(CROWD, standalone.http), connect(CROWD, standalone.rtmp)];
    wait_turned_away(&standalone, &beyond, 2);
    drop(is_served(&standalone, OTHER, "live/cam"));
    // One goes, and one more may come.
    crowd.pop();
    eventually("one place of the address", SOON, || {
        let viewers = standalone.metric("penstock_viewers", &[])?;
        ensure(viewers == CONNECTIONS as f64 - 1.0, || format!("{viewers} viewers"))
    });
    crowd.push(is_served(&standalone, CROWD, "live/cam"));
    assert_eq!(standalone.metric("penstock_canary_failing", &[]), Ok(0.0), "a canary takes nobody's place");
}

#[test]
fn leased_ports_count_with_the_rest() {
    let ports = Block::take(2);
    let cams = ["one", "two"].map(|name| over_rtp(name, "transport: TCPPassive, ssrcPolicy: Learn", ""));
    let standalone =
        standalone(&[("pool.yaml", &pool(&ports.range())), ("one.yaml", &cams[0]), ("two.yaml", &cams[1])]);
    let leased = ["live/one", "live/two"].map(|name| {
        let stream = standalone.wait_ready(name);
        let port = stream["status"]["ports"]["rtp"].as_u64().expect("it has a port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")))
    });
    // Four candidates a port.
    let crowd: Vec<TcpStream> = (0..CONNECTIONS + 2).map(|nth| connect(CROWD, leased[nth % 2])).collect();
    wait_turned_away(&standalone, &crowd, 2);
    let other = connect(OTHER, leased[0]);
    tests::eventually::throughout("the other's connection", Duration::from_millis(300), || {
        ensure(!is_ended(&other), || "it is ended".to_owned())
    });
}
