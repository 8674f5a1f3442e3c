//! What this host is like: read from `/proc` and `/sys`, and asked of the kernel. Judges nothing.

use std::{
    io,
    ops::RangeInclusive,
    path::Path,
    process::Stdio,
    str::FromStr,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Resource, getrlimit};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use worker::scan::{HostScan, Scanner};

use crate::limits::{CLOCK_ASK, CLOCK_LOOK};

/// What this host is like.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Who holds numbers of pools, and what the kernel hands out by itself.
    pub(super) scan: HostScan,
    pub(super) files: Files,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
}

/// What files of the kernel say; absent where there is no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Connections that are tracked, and how many may be.
    pub(super) conntrack: Option<(u64, u64)>,
    /// net.core.rmem_max
    pub(super) receive_buffer_max: Option<u64>,
    /// Tasks that this cgroup may have.
    pub(super) tasks_max: Option<u64>,
    /// vm.overcommit_memory
    pub(super) overcommit: Option<u8>,
    pub(super) has_ipv6: bool,
    /// A kubelet runs here, or this runs in a pod.
    pub(super) is_node: bool,
}

/// Limits of this process, as one started beside it would have them; absent: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The hard one: a worker raises its soft one.
    pub(super) open_files: Option<u64>,
    /// Threads of this user.
    pub(super) threads: Option<u64>,
    pub(super) cores: u64,
}

/// The wall's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Whether somebody keeps it right, where that can be told.
    pub(super) is_synchronised: Option<bool>,
    /// How far it moved against the monotonic clock while it was looked at.
    pub(super) moved: Duration,
}

impl Host {
    /// Looks at this machine, with its files below `root`.
    pub(super) async fn of_this_machine(root: &Path, ranges: &[RangeInclusive<u16>]) -> io::Result<Self> {
        let open_files = getrlimit(Resource::Nofile).maximum;
        let threads = getrlimit(Resource::Nproc).current;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Ok(Self {
            scan: scan(root, ranges)?,
            files: Files::read(root),
            limits: Limits { open_files, threads, cores },
            clock: Clock::look(root).await,
        })
    }
}

/// Who holds numbers in these ranges.
pub(super) fn scan(root: &Path, ranges: &[RangeInclusive<u16>]) -> io::Result<HostScan> {
    Scanner::default().scan(&root.join("proc"), ranges, |_, _| false)
}

impl Files {
    pub(super) fn read(root: &Path) -> Self {
        let kernel = root.join("proc/sys");
        let conntrack = |name: &str| number(&kernel.join("net/netfilter").join(name));
        let has = |path: &str| root.join(path).exists();
        Self {
            conntrack: conntrack("nf_conntrack_count").zip(conntrack("nf_conntrack_max")),
            receive_buffer_max: number(&kernel.join("net/core/rmem_max")),
            tasks_max: number(&root.join("sys/fs/cgroup/pids.max")),
            overcommit: number(&kernel.join("vm/overcommit_memory")),
            has_ipv6: std::fs::read_to_string(root.join("proc/net/if_inet6")).is_ok_and(|text| {
                // A link's own address reaches nobody who is not on it.
                text.lines().any(|line| !line.trim_end().ends_with(" lo") && !line.starts_with("fe80"))
            }),
            is_node: has("var/lib/kubelet/config.yaml")
                || has("var/run/secrets/kubernetes.io/serviceaccount"),
        }
    }
}

/// The number in a file; absent where there is no file, or no number in it ("max").
fn number<N: FromStr>(file: &Path) -> Option<N> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

impl Clock {
    async fn look(root: &Path) -> Self {
        let (wall, mono) = (SystemTime::now(), Instant::now());
        let (is_synchronised, ()) = tokio::join!(is_synchronised(root), sleep(CLOCK_LOOK));
        let elapsed = mono.elapsed();
        let moved = match SystemTime::now().duration_since(wall) {
            Ok(by_the_wall) => by_the_wall.abs_diff(elapsed),
            // It went back.
            Err(back) => back.duration() + elapsed,
        };
        Self { is_synchronised, moved }
    }
}

/// By the mark of systemd-timesyncd, else by what systemd knows of the kernel's own mark, whoever sets that.
async fn is_synchronised(root: &Path) -> Option<bool> {
    if root.join("run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let mut asked = Command::new("timedatectl");
    asked.args(["show", "--property", "NTPSynchronized", "--value"]);
    asked.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let answer = timeout(CLOCK_ASK, asked.output()).await.ok()?.ok()?;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
