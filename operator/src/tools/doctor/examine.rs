//! Judges what is known of a host, by what a worker needs.

use std::ops::RangeInclusive;

use operator_core::{Config, event::HostPorts, port_set::PortSet, spec::PortRange};
use worker::{
    limits::{ADMIN_CONNECTIONS_MAX, HANDSHAKES_MAX},
    listeners::DATAGRAM_BUFFER,
    scan::{self, Holder, Protocol},
};

use super::{
    finding::{Finding, Subject},
    host::{Clock, Host},
    pools::Known,
};
use crate::limits::{CLOCK_MOVED_MAX, CONNTRACK_PERCENT_MAX, WORKER_FILES_OWN, WORKER_THREADS_OWN};

/// All findings, in their order.
pub(super) fn examine(host: &Host, known: &Known) -> Vec<Finding> {
    let mut findings: Vec<Finding> = known.mistakes.iter().map(|words| mistake(words)).collect();
    findings.extend(pools(known));
    findings.push(ephemeral(host, known));
    findings.push(node_ports(host, known));
    findings.extend(holders(host, known));
    findings.push(open_files(host, known));
    findings.push(threads(host));
    findings.push(conntrack(host));
    findings.push(buffers(host));
    findings.extend(clock(&host.clock));
    findings.push(ipv6(host));
    findings.push(memory(host));
    findings
}

fn mistake(words: &str) -> Finding {
    Finding::wrong(
        Subject::Objects,
        words.to_owned(),
        "it is not taken, so streams wait for it or go on with what was there before",
        "correct what is named, and save or apply it".to_owned(),
    )
}

fn pools(known: &Known) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, pool) in known.pools.iter().enumerate() {
        let others = known.pools[..index].iter();
        for other in others.filter(|other| other.numbers.intersects(&pool.numbers)) {
            findings.push(Finding::wrong(
                Subject::Pools,
                format!("the PortPools {} and {} share numbers", other.name, pool.name),
                "on a node that both are for, the younger of the two is not accepted",
                format!("edit spec.ranges of {} or of {}, or their nodeSelectors", other.name, pool.name),
            ));
        }
    }
    if let Some(why) = &known.unknown {
        findings.push(Finding::note(
            Subject::Pools,
            format!("none is known: {why}"),
            "ports can only be looked at where it is known which are meant",
            "name the folder, penstock doctor DIR, or an admin port, --admin HOST:PORT".to_owned(),
        ));
    } else if findings.is_empty() {
        let names: Vec<String> =
            known.pools.iter().map(|pool| format!("{} ({})", pool.name, pool.numbers)).collect();
        let names = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
        findings.push(Finding::fine(Subject::Pools, names));
    }
    findings
}

/// Whether the kernel hands out numbers of pools by itself.
fn ephemeral(host: &Host, known: &Known) -> Finding {
    let Some(ephemeral) = &host.scan.host.ephemeral else {
        return Finding::note(
            Subject::Ephemeral,
            "net.ipv4.ip_local_port_range can't be read".to_owned(),
            "an outgoing connection of anybody may be given a number that is in a pool",
            "look at /proc/sys/net/ipv4/ip_local_port_range".to_owned(),
        );
    };
    let range = |range: &RangeInclusive<u16>| PortRange { start: *range.start(), end: *range.end() };
    let ports = HostPorts {
        ephemeral: Some(range(ephemeral)),
        reserved: host.scan.host.reserved.iter().map(range).collect(),
    };
    let met = ports.handed_out(&known.numbers());
    let (start, end) = (ephemeral.start(), ephemeral.end());
    if met.is_empty() {
        let what = format!("{start}-{end} (net.ipv4.ip_local_port_range) meet no pool, or are reserved");
        return Finding::fine(Subject::Ephemeral, what);
    }
    Finding::wrong(
        Subject::Ephemeral,
        format!(
            "the kernel hands out {start}-{end} by itself (net.ipv4.ip_local_port_range), {} numbers of pools among them: {}",
            met.len(),
            met
        ),
        "an outgoing connection of anybody may be given such a number, and the lease that comes to it next can't be bound",
        format!(
            "{} (keeps what is reserved already; write the same into /etc/sysctl.d/90-penstock.conf for the next boot), or move \
             spec.ranges of the pools",
            ports.reserving(&met)
        ),
    )
}

fn node_ports(host: &Host, known: &Known) -> Finding {
    let range = Config::cluster().node_ports.expect("a cluster has NodePorts");
    let met = PortSet::from_ranges([range]).intersection(&known.numbers());
    let (start, end) = (range.start, range.end);
    if met.is_empty() {
        return Finding::fine(Subject::NodePorts, format!("{start}-{end} meet no pool"));
    }
    let what = format!("pools have {} numbers of {start}-{end}: {}", met.len(), met);
    let why = "Kubernetes gives these to Services of type NodePort on each node, and packets to them never reach a worker";
    let remedy = format!("move spec.ranges of the pools out of {start}-{end}");
    match known.is_cluster || host.files.is_node {
        true => Finding::wrong(Subject::NodePorts, what, why, remedy),
        false => Finding::note(
            Subject::NodePorts,
            what,
            why,
            format!("nothing, if this is no node of a cluster; else {remedy}"),
        ),
    }
}

/// Who holds numbers of pools.
fn holders(host: &Host, known: &Known) -> Vec<Finding> {
    let (own, others): (Vec<&Holder>, Vec<&Holder>) = host.scan.holders.iter().partition(|holder| {
        let socket = &holder.socket;
        known.bound.contains(&(socket.port, socket.protocol)) || holder.process.as_deref() == Some("penstock")
    });
    if others.is_empty() {
        let what = format!("nobody has numbers of pools open but penstock, which has {}", own.len());
        return vec![Finding::fine(Subject::Holders, what)];
    }
    let mut findings: Vec<Finding> =
        others.iter().take(HOLDERS_SHOWN).map(|holder| held(holder, known)).collect();
    if let Some(more @ 1..) = others.len().checked_sub(HOLDERS_SHOWN) {
        findings.push(Finding::wrong(
            Subject::Holders,
            format!("{more} more numbers of pools are held by others"),
            "each is tried once and then left alone while it is held, so the pool is smaller than it says",
            "ss -lntupe shows all of them".to_owned(),
        ));
    }
    findings
}

/// More would hide what else was found.
const HOLDERS_SHOWN: usize = 20;

fn held(holder: &Holder, known: &Known) -> Finding {
    let Holder { socket, process } = holder;
    let (port, protocol) = (socket.port, socket.protocol);
    let pool = known.pools.iter().find(|pool| pool.numbers.contains(port));
    let pool = pool.map_or("(none)", |pool| pool.name.as_str());
    let who = match process {
        Some(process) => format!("the process {process}"),
        None => format!("a process of the user {} that this user may not look into", socket.uid),
    };
    let transport = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    Finding::wrong(
        Subject::Holders,
        format!("port {port}/{transport} of the PortPool {pool} is held by {who}"),
        "a lease of it can't be bound: it is tried, quarantined, and another number is taken, so the pool is smaller than it says",
        format!(
            "end that process, or list {port} in spec.reserved of {pool}; to see it: {}",
            scan::show(protocol, port)
        ),
    )
}

/// Whether a worker may open what full pools need.
fn open_files(host: &Host, known: &Known) -> Finding {
    let numbers = u64::from(known.numbers().len());
    let own = WORKER_FILES_OWN + (HANDSHAKES_MAX + 3 * ADMIN_CONNECTIONS_MAX) as u64;
    // A socket for each number that is leased, and over TCP the connection of its sender.
    let need = own + 2 * numbers;
    let Some(limit) = host.limits.open_files else {
        return Finding::fine(
            Subject::OpenFiles,
            format!("no limit; {need} are needed besides encoders and viewers"),
        );
    };
    let sum = format!("{own} for a worker itself and 2 for each of {numbers} numbers of pools are {need}");
    match limit.checked_sub(need) {
        Some(rest) => Finding::fine(
            Subject::OpenFiles,
            format!("of {limit} (RLIMIT_NOFILE, hard) {rest} are left for encoders and viewers: {sum}"),
        ),
        None => Finding::wrong(
            Subject::OpenFiles,
            format!("{limit} may be open (RLIMIT_NOFILE, hard), and {sum}, besides encoders and viewers"),
            "when the pools fill, ports can't be opened and connections can't be accepted",
            "raise the hard limit of whoever starts penstock: LimitNOFILE=1048576 of a systemd unit, ulimit -Hn of a shell, \
             default-ulimits of a container engine"
                .to_owned(),
        ),
    }
}

fn threads(host: &Host) -> Finding {
    let need = host.limits.cores + WORKER_THREADS_OWN;
    let limits = [
        (
            host.limits.threads,
            "of the user (RLIMIT_NPROC)",
            "raise LimitNPROC of the systemd unit, or ulimit -u",
        ),
        (
            host.files.tasks_max,
            "of the cgroup (pids.max)",
            "raise TasksMax of the systemd unit, or podPidsLimit of the kubelet",
        ),
    ];
    for (limit, whose, remedy) in limits {
        if let Some(limit) = limit.filter(|limit| *limit < need) {
            return Finding::wrong(
                Subject::Threads,
                format!(
                    "{limit} may run {whose}, and penstock starts up to {need}: one a core and {WORKER_THREADS_OWN} more"
                ),
                "a thread that can't be started is a worker that can't",
                remedy.to_owned(),
            );
        }
    }
    Finding::fine(Subject::Threads, format!("up to {need} are started, and more may run"))
}

fn conntrack(host: &Host) -> Finding {
    let Some((count, max)) = host.files.conntrack else {
        return Finding::fine(Subject::Conntrack, "connections are not tracked here".to_owned());
    };
    if count.saturating_mul(100) < max.saturating_mul(CONNTRACK_PERCENT_MAX) {
        return Finding::fine(Subject::Conntrack, format!("{count} of {max} connections are tracked"));
    }
    Finding::wrong(
        Subject::Conntrack,
        format!("{count} of {max} connections are tracked (net.netfilter.nf_conntrack_max)"),
        "when the table is full the kernel drops packets of new encoders, cameras and viewers without a word to anybody",
        format!(
            "sysctl -w net.netfilter.nf_conntrack_max={}, or keep media out of it with rules that say notrack",
            max.saturating_mul(2)
        ),
    )
}

fn buffers(host: &Host) -> Finding {
    let wanted = DATAGRAM_BUFFER as u64;
    match host.files.receive_buffer_max {
        Some(max) if max < wanted => Finding::note(
            Subject::Buffers,
            format!("a UDP socket may hold {max} bytes (net.core.rmem_max), and {wanted} are asked for"),
            "a key picture comes as hundreds of datagrams at once, 2 KiB of the kernel's memory each; what finds no room is lost",
            format!("sysctl -w net.core.rmem_max={wanted}, if cameras send over UDP"),
        ),
        Some(max) => {
            Finding::fine(Subject::Buffers, format!("a UDP socket may hold {max} bytes (net.core.rmem_max)"))
        }
        None => Finding::fine(Subject::Buffers, "net.core.rmem_max can't be read from here".to_owned()),
    }
}

fn clock(clock: &Clock) -> Vec<Finding> {
    let why = "stream time is the wall clock's at the start of an epoch, and certificates, tokens and logs are read by it: \
               two machines that differ show viewers a jump when a stream moves";
    let mut findings = Vec::new();
    if clock.moved > CLOCK_MOVED_MAX {
        findings.push(Finding::wrong(
            Subject::Clock,
            format!(
                "the wall clock moved by {} ms against the monotonic one within a second",
                clock.moved.as_millis()
            ),
            why,
            "see who sets it: one daemon that slews, such as chrony, and no other one beside it".to_owned(),
        ));
    }
    let daemon = "run systemd-timesyncd or chrony on the host: timedatectl set-ntp true".to_owned();
    findings.push(match clock.is_synchronised {
        Some(true) => Finding::fine(Subject::Clock, "it is synchronised".to_owned()),
        Some(false) => Finding::wrong(Subject::Clock, "it is not synchronised".to_owned(), why, daemon),
        None => Finding::note(
            Subject::Clock,
            "whether it is synchronised can't be told from here".to_owned(),
            why,
            format!("look on the host: timedatectl, or chronyc tracking. If nobody keeps it: {daemon}"),
        ),
    });
    findings
}

fn ipv6(host: &Host) -> Finding {
    match host.files.has_ipv6 {
        true => Finding::fine(Subject::Ipv6, "it is there, and ports are open for both".to_owned()),
        false => Finding::note(
            Subject::Ipv6,
            "this host has no address".to_owned(),
            "encoders, cameras and players that have nothing else can't come",
            "nothing, where there are none; else see net.ipv6.conf.all.disable_ipv6".to_owned(),
        ),
    }
}

fn memory(host: &Host) -> Finding {
    match host.files.overcommit {
        Some(2) => Finding::note(
            Subject::Memory,
            "vm.overcommit_memory is 2".to_owned(),
            "address space that the allocator has reserved counts as used, so a worker may be refused memory that is free",
            "sysctl -w vm.overcommit_memory=0, or leave room in vm.overcommit_ratio".to_owned(),
        ),
        Some(_) | None => Finding::fine(Subject::Memory, "reserved address space costs nothing".to_owned()),
    }
}
