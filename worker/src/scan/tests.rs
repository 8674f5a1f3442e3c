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

fn socket(port: u16, protocol: Protocol, uid: u32, inode: u64) -> Socket {
    Socket { port, protocol, uid, inode }
}

#[test]
fn only_sockets_that_wait_for_peers_are_found() {
    let tcp: Vec<_> = parse_table(TCP, Protocol::Tcp).collect();
    assert_eq!(tcp, [socket(20000, Protocol::Tcp, 1000, 51966)]);
    let tcp6: Vec<_> = parse_table(TCP6, Protocol::Tcp).collect();
    assert_eq!(tcp6, [socket(20004, Protocol::Tcp, 1000, 51970)]);
    let udp: Vec<_> = parse_table(UDP, Protocol::Udp).collect();
    assert_eq!(udp, [socket(20000, Protocol::Udp, 1001, 51968)]);
}

#[test]
fn kernel_port_settings_are_read_in_all_their_forms() {
    assert_eq!(parse_ephemeral("32768\t60999\n"), Some(32768..=60999));
    assert_eq!(parse_ephemeral(""), None);
    assert_eq!(parse_reserved("\n"), []);
    assert_eq!(parse_reserved("20000-20010,30666\n"), [20000..=20010, 30666..=30666]);
}

#[test]
fn an_open_socket_of_this_process_is_found_and_known_as_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let proc = Path::new("/proc");

    let found = sockets(proc, &[tcp..=tcp, udp..=udp]).unwrap();
    let tcp = found.iter().find(|s| (s.port, s.protocol) == (tcp, Protocol::Tcp)).unwrap();
    let udp = found.iter().find(|s| (s.port, s.protocol) == (udp, Protocol::Udp)).unwrap();
    assert_ne!(tcp.inode, udp.inode);
    assert!(is_own(proc, tcp.inode) && is_own(proc, udp.inode));
    assert!(!is_own(proc, 1));
    // The test's own thread name; which one of its processes it is does not matter here.
    assert!(process_of(proc, tcp.inode).is_some());
}

#[test]
fn what_a_person_pastes_names_transport_and_port() {
    assert_eq!(show(Protocol::Tcp, 20004), "ss -ltnpe 'sport = :20004'");
    assert_eq!(show(Protocol::Udp, 20004), "ss -lunpe 'sport = :20004'");
}
