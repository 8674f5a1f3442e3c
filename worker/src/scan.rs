//! The host scan: who else has media ports open on this node, read from `/proc` (design §4).
//!
//! Listening TCP and unconnected UDP sockets count; a number that is merely the local end of somebody's connection does
//! not keep a lease from being bound to listen on it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket with a local port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Local port.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// It listens, or is a UDP socket without a peer.
    pub waits: bool,
    /// Owner of the socket, as the kernel shows it in this user namespace.
    pub uid: u32,
    /// Names the socket in `/proc/*/fd`; 0 where the kernel alone still has it.
    pub inode: u64,
}

/// A socket that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The socket.
    pub socket: Socket,
    /// Name of a process that has it open, where it can be read.
    pub process: Option<String>,
}

/// What a scan found inside the watched ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostScan {
    /// Sockets of others that wait for peers.
    pub holders: Vec<Holder>,
    /// Sockets of this process that no lease accounts for.
    pub stray: Vec<Socket>,
    /// The kernel's own settings.
    pub host: HostPorts,
}

/// Scans again and again, and looks each socket's process up once only.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    processes: HashMap<u64, Option<String>>,
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

impl Scanner {
    /// Looks for sockets inside `ranges` but those that `leased` knows.
    pub fn scan(
        &mut self,
        proc: &Path,
        ranges: &[RangeInclusive<u16>],
        leased: impl Fn(u16, Protocol) -> bool,
    ) -> io::Result<HostScan> {
        let mut found = sockets(proc, |socket| {
            socket.waits
                && ranges.iter().any(|range| range.contains(&socket.port))
                && !leased(socket.port, socket.protocol)
        })?;
        // One line a number and transport, though it be bound to several addresses.
        found.sort_by_key(|socket| (socket.port, socket.protocol, socket.inode));
        found.dedup_by_key(|socket| (socket.port, socket.protocol));
        let own = if found.is_empty() { HashSet::new() } else { open_sockets(&proc.join("self/fd")) };
        let (stray, foreign): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|socket| own.contains(&socket.inode));
        self.look_up(proc, &foreign);
        let name = |socket: &Socket| self.processes.get(&socket.inode).cloned().flatten();
        let holders = foreign.into_iter().map(|socket| Holder { process: name(&socket), socket }).collect();
        Ok(HostScan { holders, stray, host: host_ports(proc) })
    }

    /// Who has these numbers, after binds that failed: a socket that waits for peers before one that has some.
    ///
    /// The processes of all sockets inside `ranges` are looked up with them, since the next number to be tried is one of these.
    pub fn holders(
        &mut self,
        proc: &Path,
        ranges: &[RangeInclusive<u16>],
        numbers: &[(u16, Protocol)],
    ) -> io::Result<Vec<Option<Holder>>> {
        let mut found = sockets(proc, |socket| {
            numbers.contains(&(socket.port, socket.protocol))
                || ranges.iter().any(|range| range.contains(&socket.port))
        })?;
        found.sort_by_key(|socket| (!socket.waits, socket.inode == 0));
        self.look_up(proc, &found);
        let holder = |number: &(u16, Protocol)| {
            let socket = found.iter().find(|socket| (socket.port, socket.protocol) == *number)?;
            let process = self.processes.get(&socket.inode).cloned().flatten();
            Some(Holder { socket: socket.clone(), process })
        };
        Ok(numbers.iter().map(holder).collect())
    }

    /// Finds the processes of sockets that were not seen before, and forgets those that are gone.
    fn look_up(&mut self, proc: &Path, sockets: &[Socket]) {
        let wanted: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
        self.processes.retain(|inode, _| wanted.contains(inode));
        let mut new: HashSet<u64> =
            wanted.into_iter().filter(|inode| !self.processes.contains_key(inode)).collect();
        if new.is_empty() {
            return;
        }
        for (inode, name) in processes_of(proc, &new) {
            new.remove(&inode);
            self.processes.insert(inode, Some(name));
        }
        self.processes.extend(new.into_iter().map(|inode| (inode, None)));
    }
}

/// Sockets of this network namespace.
fn sockets(proc: &Path, wanted: impl Fn(&Socket) -> bool) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for (table, protocol) in TABLES {
        match std::fs::read_to_string(proc.join("net").join(table)) {
            Ok(text) => found.extend(parse_table(&text, protocol).filter(&wanted)),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The sockets of one table of `/proc/net`. Lines that are not understood are left out.
fn parse_table(text: &str, protocol: Protocol) -> impl Iterator<Item = Socket> + '_ {
    let waiting = match protocol {
        Protocol::Tcp => LISTEN,
        Protocol::Udp => UNCONNECTED,
    };
    text.lines().skip(1).filter_map(move |line| {
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let waits = fields.nth(1)? == waiting;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        Some(Socket { port, protocol, waits, uid, inode })
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

/// Names of processes that have these sockets open, where this user may look; it walks all of `/proc`, so only on need.
fn processes_of(proc: &Path, wanted: &HashSet<u64>) -> HashMap<u64, String> {
    let mut names = HashMap::new();
    let Ok(processes) = std::fs::read_dir(proc) else { return names };
    for process in processes.flatten() {
        if names.len() == wanted.len() {
            break;
        }
        if !process.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            continue;
        }
        let open = open_sockets(&process.path().join("fd"));
        let Ok(name) = std::fs::read_to_string(process.path().join("comm")) else { continue };
        names.extend(open.intersection(wanted).map(|&inode| (inode, name.trim_end().to_owned())));
    }
    names
}

/// Inodes of the sockets among a process's descriptors; none where it may not be read.
fn open_sockets(descriptors: &Path) -> HashSet<u64> {
    let Ok(descriptors) = std::fs::read_dir(descriptors) else { return HashSet::new() };
    let inode = |target: PathBuf| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok().and_then(inode)).collect()
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
