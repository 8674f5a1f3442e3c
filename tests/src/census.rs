//! Counts what a process holds: descriptors, sockets, memory, CPU time; and who holds a port on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| entries.count()).unwrap_or(0)
}

/// The resident memory of a process.
pub fn rss_bytes(pid: u32) -> u64 {
    field_kib(pid, "VmRSS:") * 1024
}

fn field_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The CPU time of all threads of a process, from the scheduler's own count in nanoseconds.
///
/// Threads that have ended are not in it; the threads of media servers stay.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    Duration::from_nanos(threads.filter_map(|thread| nanos(&thread)).sum())
}

/// The CPU time of a thread in nanoseconds.
fn nanos(thread: &fs::DirEntry) -> Option<u64> {
    let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The CPU time of its threads whose name begins with one of these.
pub fn cpu_of(pid: u32, names: &[&str]) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let is_meant = |thread: &fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        names.iter().any(|begin| name.starts_with(begin))
    };
    Duration::from_nanos(threads.filter(is_meant).filter_map(|thread| nanos(&thread)).sum())
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut pids: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// True while a process runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name, in parentheses, may hold anything; the state stands behind it.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// A socket that holds a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A TCP listener.
    Listening(u16),
    /// A TCP connection, in whatever state but TIME_WAIT, which holds nothing.
    Connected(u16),
    /// A UDP socket.
    Udp(u16),
}

/// The sockets whose local port is in `range`, of the network namespace that this thread is in.
pub fn held(range: RangeInclusive<u16>) -> BTreeSet<Held> {
    sockets("thread-self", range).into_iter().map(|(held, _)| held).collect()
}

/// Those that a process has open, in the network namespace that it is in.
pub fn held_by(pid: u32, range: RangeInclusive<u16>) -> BTreeSet<Held> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open: BTreeSet<u64> = descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    let sockets = sockets(&pid.to_string(), range).into_iter();
    sockets.filter(|(_, inode)| open.contains(inode)).map(|(held, _)| held).collect()
}

/// Each with its inode, by which `/proc/*/fd` names it.
fn sockets(of: &str, range: RangeInclusive<u16>) -> Vec<(Held, u64)> {
    let mut sockets = Vec::new();
    for (file, tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        for row in rows(of, file).into_iter().filter(|row| range.contains(&row.port)) {
            let held = match (tcp, &*row.state) {
                (true, "0A") => Held::Listening(row.port),
                (true, "06") => continue,
                (true, _) => Held::Connected(row.port),
                (false, _) => Held::Udp(row.port),
            };
            sockets.push((held, row.inode));
        }
    }
    sockets
}

/// Bytes of memory that datagrams take which the sockets of a local port have not read yet.
pub fn unread_udp(port: u16) -> u64 {
    let rows = ["udp", "udp6"].into_iter().flat_map(|file| rows("thread-self", file));
    rows.filter(|row| row.port == port).map(|row| row.unread).sum()
}

/// A line of the kernel's tables of sockets.
struct Row {
    /// The local one.
    port: u16,
    /// In hexadecimal digits.
    state: String,
    /// Bytes received that nobody has read.
    unread: u64,
    inode: u64,
}

/// A table of the network namespace that a process, or `thread-self`, is in.
fn rows(of: &str, file: &str) -> Vec<Row> {
    let text = fs::read_to_string(format!("/proc/{of}/net/{file}")).unwrap_or_default();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let (_, unread) = fields.get(4)?.split_once(':')?;
        Some(Row {
            port: u16::from_str_radix(port, 16).ok()?,
            state: (*fields.get(3)?).to_owned(),
            unread: u64::from_str_radix(unread, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{Held, cpu, descriptors, held, held_by, rss_bytes, runs, unread_udp};
    use crate::ports::Block;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, UdpSocket};
    use std::process::{Command, Stdio};

    #[test]
    fn the_census_sees_this_process() {
        let block = Block::take(2);
        assert!(held(block.range()).is_empty());
        let _tcp = TcpListener::bind(("127.0.0.1", block.first())).unwrap();
        let _udp = UdpSocket::bind(("127.0.0.1", block.last())).unwrap();
        let seen: Vec<Held> = held(block.range()).into_iter().collect();
        assert_eq!(seen, [Held::Listening(block.first()), Held::Udp(block.last())]);
        assert_eq!(held_by(std::process::id(), block.range()).into_iter().collect::<Vec<_>>(), seen);
        assert!(held_by(1, block.range()).is_empty(), "the first process has none of ours");
        assert!(rss_bytes(std::process::id()) > 1 << 20);
        assert!(cpu(std::process::id()).as_nanos() > 0);
        assert!(runs(std::process::id()));
        assert!(!runs(u32::MAX));
    }

    #[test]
    fn datagrams_that_nobody_has_read_are_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        assert_eq!(unread_udp(to.port()), 0);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 1000], to).unwrap();
        assert!(unread_udp(to.port()) >= 1000);
        socket.recv(&mut [0; 1000]).unwrap();
        assert_eq!(unread_udp(to.port()), 0);
    }

    /// Of a child, since other tests open and close files in this process meanwhile.
    #[test]
    fn descriptors_are_counted_one_by_one() {
        let script = "echo ready; read line; exec 7</dev/null 8</dev/null; echo opened; read line";
        let mut child = Command::new("sh");
        child.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(said.next().as_deref(), Some("ready"));
        let before = descriptors(child.id());
        stdin.write_all(b"open\n").unwrap();
        assert_eq!(said.next().as_deref(), Some("opened"));
        assert_eq!(descriptors(child.id()), before + 2);
        drop(stdin);
        child.wait().unwrap();
    }
}
