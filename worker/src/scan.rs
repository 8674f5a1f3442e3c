//! The host scan: who else has media ports open on this node, read from `/proc` (design §4).
//!
//! Listening TCP and unconnected UDP sockets count; a number that is merely the local end of somebody's connection does
//! not keep a lease from being bound to listen on it.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One socket that waits for peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Local port.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// Owner of the socket, as the kernel shows it in this user namespace.
    pub uid: u32,
    /// Names the socket in `/proc/*/fd`.
    pub inode: u64,
}

/// What the kernel hands out by itself, and what it leaves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    /// `net.ipv4.ip_local_port_range`
    pub ephemeral: Option<RangeInclusive<u16>>,
    /// `net.ipv4.ip_local_reserved_ports`
    pub reserved: Vec<RangeInclusive<u16>>,
}

/// The four tables, with the transport of each. IPv6's are missing on a kernel without it.
const TABLES: [(&str, Protocol); 4] =
    [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];

/// `TCP_LISTEN` and `TCP_CLOSE` of the kernel's `include/net/tcp_states.h`; an unconnected UDP socket shows the latter.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// Waiting sockets of this network namespace whose port lies in `ranges`, ascending; one a port and transport.
pub fn sockets(proc: &Path, ranges: &[RangeInclusive<u16>]) -> io::Result<Vec<Socket>> {
    let mut found = BTreeMap::new();
    for (table, protocol) in TABLES {
        let text = match std::fs::read_to_string(proc.join("net").join(table)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for socket in parse_table(&text, protocol) {
            if ranges.iter().any(|range| range.contains(&socket.port)) {
                found.entry((socket.port, socket.protocol)).or_insert(socket);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The waiting sockets of one table of `/proc/net`. Lines that are not understood are left out.
pub fn parse_table(text: &str, protocol: Protocol) -> impl Iterator<Item = Socket> + '_ {
    let wanted = match protocol {
        Protocol::Tcp => LISTEN,
        Protocol::Udp => UNCONNECTED,
    };
    text.lines().skip(1).filter_map(move |line| {
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        if state != wanted {
            return None;
        }
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        Some(Socket { port, protocol, uid, inode })
    })
}

/// The kernel's own port settings; what cannot be read is left empty.
pub fn host_ports(proc: &Path) -> HostPorts {
    let read = |name: &str| std::fs::read_to_string(proc.join("sys/net/ipv4").join(name)).unwrap_or_default();
    HostPorts {
        ephemeral: parse_ephemeral(&read("ip_local_port_range")),
        reserved: parse_reserved(&read("ip_local_reserved_ports")),
    }
}

fn parse_ephemeral(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

fn parse_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        Some(start.parse().ok()?..=end.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

/// Name of a process that has the socket open, where this user may look; it walks all of `/proc`, so only on need.
pub fn process_of(proc: &Path, inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir(proc).ok()?.flatten();
    for process in processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()) {
        if has_open(&process.path().join("fd"), &wanted) {
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(name.trim_end().to_owned());
        }
    }
    None
}

/// True where this very process has the socket open.
pub fn is_own(proc: &Path, inode: u64) -> bool {
    has_open(&proc.join("self/fd"), &format!("socket:[{inode}]"))
}

fn has_open(descriptors: &Path, wanted: &str) -> bool {
    let Ok(descriptors) = std::fs::read_dir(descriptors) else { return false };
    descriptors
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted))
}

/// The command that shows a person who holds a port.
pub fn show(protocol: Protocol, port: u16) -> String {
    match protocol {
        Protocol::Tcp => format!("ss -ltnpe 'sport = :{port}'"),
        Protocol::Udp => format!("ss -lunpe 'sport = :{port}'"),
    }
}

#[cfg(test)]
mod tests;
