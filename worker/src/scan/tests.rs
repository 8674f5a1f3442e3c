//! The scan on recorded tables and on this machine's own.

use super::*;

/// Recorded on Linux 6.18: a listener, an established connection, one in TIME_WAIT, a line cut short.
const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 51966 1 0000000000000000 100 0 0 10 0
   1: 0100007F:4E21 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 51967 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:4E22 0100007F:D432 06 00000000:00000000 03:00001738 00000000     0        0 0 3 0000000000000000
   3: 00000000:4E23 00000000:0000 0A 0000
";

const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:4E24 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 51970 1 0000000000000000 100 0 0 10 0
";

/// An unconnected socket and a connected one.
const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1216: 00000000:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000  1001        0 51968 2 0000000000000000 0
 1217: 0100007F:4E25 0100007F:0035 01 00000000:00000000 00:00000000 00000000  1001        0 51969 2 0000000000000000 0
";

fn socket(port: u16, protocol: Protocol, waits: bool, uid: u32, inode: u64) -> Socket {
    Socket { port, protocol, waits, uid, inode }
}

#[test]
fn sockets_that_wait_for_peers_are_told_from_the_others() {
    let tcp: Vec<_> = parse_table(TCP, Protocol::Tcp).collect();
    let expected = [
        socket(20000, Protocol::Tcp, true, 1000, 51966),
        socket(20001, Protocol::Tcp, false, 0, 51967),
        socket(20002, Protocol::Tcp, false, 0, 0),
    ];
    assert_eq!(tcp, expected);
    let tcp6: Vec<_> = parse_table(TCP6, Protocol::Tcp).collect();
    assert_eq!(tcp6, [socket(20004, Protocol::Tcp, true, 1000, 51970)]);
    let udp: Vec<_> = parse_table(UDP, Protocol::Udp).collect();
    let expected =
        [socket(20000, Protocol::Udp, true, 1001, 51968), socket(20005, Protocol::Udp, false, 1001, 51969)];
    assert_eq!(udp, expected);
}

#[test]
fn kernel_port_settings_are_read_in_all_their_forms() {
    assert_eq!(parse_ephemeral("32768\t60999\n"), Some(32768..=60999));
    assert_eq!(parse_ephemeral(""), None);
    assert_eq!(parse_reserved("\n"), []);
    assert_eq!(parse_reserved("20000-20010,30666\n"), [20000..=20010, 30666..=30666]);
}

/// A `/proc` with the recorded tables, in which process 42, `thief`, has the TCP listener on 20000 open, and this process
/// the one on 20004.
fn recorded() -> PathBuf {
    use std::os::unix::fs::symlink;
    let proc = std::env::temp_dir().join(format!("penstock-scan-{}", std::process::id()));
    for folder in ["net", "sys/net/ipv4", "42/fd", "self/fd"] {
        std::fs::create_dir_all(proc.join(folder)).unwrap();
    }
    let files = [("net/tcp", TCP), ("net/tcp6", TCP6), ("net/udp", UDP), ("42/comm", "thief\n")];
    for (file, text) in files.into_iter().chain([("sys/net/ipv4/ip_local_port_range", "32768\t60999\n")]) {
        std::fs::write(proc.join(file), text).unwrap();
    }
    drop((
        symlink("socket:[51966]", proc.join("42/fd/3")),
        symlink("socket:[51970]", proc.join("self/fd/3")),
    ));
    proc
}

#[test]
fn holders_inside_the_ranges_are_named_and_own_sockets_are_not_among_them() {
    let proc = recorded();
    let (mut scanner, nobody) = (Scanner::default(), |_, _| false);
    let scan = scanner.scan(&proc, &[20000..=20010], nobody).unwrap();
    let tcp =
        Holder { socket: socket(20000, Protocol::Tcp, true, 1000, 51966), process: Some("thief".into()) };
    let udp = Holder { socket: socket(20000, Protocol::Udp, true, 1001, 51968), process: None };
    assert_eq!(scan.holders, [tcp.clone(), udp.clone()]);
    assert_eq!(scan.stray, [socket(20004, Protocol::Tcp, true, 1000, 51970)]);
    assert_eq!(scan.host.ephemeral, Some(32768..=60999));

    let scan = scanner.scan(&proc, &[20000..=20003], |_, protocol| protocol == Protocol::Tcp).unwrap();
    assert_eq!((scan.holders, scan.stray), (vec![udp], vec![]));
    assert_eq!(scanner.scan(&proc, &[], nobody).unwrap().holders, []);
    assert_eq!(scanner.processes.len(), 0);

    let numbers = [20000, 20001, 20003].map(|port| (port, Protocol::Tcp));
    let holders = scanner.holders(&proc, &[], &numbers).unwrap();
    assert_eq!(holders[0], Some(tcp));
    assert_eq!(holders[1].as_ref().unwrap().socket.inode, 51967);
    assert_eq!(holders[2], None);
    std::fs::remove_dir_all(&proc).unwrap();
}

#[test]
fn sockets_of_this_machine_are_read_as_they_are() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let scan = Scanner::default().scan(Path::new("/proc"), &[tcp..=tcp, udp..=udp], |_, _| false).unwrap();
    let stray =
        |port, protocol| scan.stray.iter().any(|socket| (socket.port, socket.protocol) == (port, protocol));
    assert!(stray(tcp, Protocol::Tcp) && stray(udp, Protocol::Udp), "{scan:?}");
    // Which of this process's threads gives the name does not matter here.
    let holders = Scanner::default().holders(Path::new("/proc"), &[], &[(tcp, Protocol::Tcp)]).unwrap();
    assert!(holders[0].as_ref().unwrap().process.is_some());
}

#[test]
fn what_a_person_pastes_names_transport_and_port() {
    assert_eq!(show(Protocol::Tcp, 20004), "ss -ltnpe 'sport = :20004'");
    assert_eq!(show(Protocol::Udp, 20004), "ss -lunpe 'sport = :20004'");
}
