//! The state dump: what each thread was in, from what it said last and from what the kernel shows of it.

use std::fmt::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pulse::Pulse;

/// Files of `/proc/self/task/TID`. `stack` and `syscall` need privileges that a worker doesn't have everywhere.
const FILES: [&str; 4] = ["wchan", "syscall", "stat", "stack"];

/// A line a thread and more where the kernel shows more.
pub fn state(pulses: &[Arc<Pulse>]) -> String {
    let mut out = String::from("state of all threads:");
    for pulse in pulses {
        let doing = match pulse.last_doing() {
            None => String::from("busy"),
            Some(doing) => match doing.of {
                None => String::from(doing.what),
                Some(of) => format!("{} of {of}", doing.what),
            },
        };
        let tid = pulse.tid().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n  {} (tid {tid}): ticked {} ms ago, {} streams, {doing}{}",
            pulse.thread(),
            pulse.age().as_millis(),
            pulse.streams(),
            if pulse.ended() { ", ended" } else { "" },
        );
        kernel(&mut out, &Path::new("/proc/self/task").join(tid.to_string()));
    }
    out
}

fn kernel(out: &mut String, task: &Path) {
    for file in FILES {
        let Ok(text) = std::fs::read_to_string(task.join(file)) else { continue };
        for line in text.lines().filter(|line| !line.is_empty()) {
            let _ = write!(out, "\n    {file}: {line}");
        }
    }
}

/// Writes to standard error without ever waiting long: a reader that has stopped must not keep the process from ending.
pub fn write(text: &str) {
    let stderr = std::io::stderr();
    // A pipe that is writable takes PIPE_BUF bytes without blocking.
    for piece in text.as_bytes().chunks(4096).chain([&b"\n"[..]]) {
        let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if !matches!(poll(&mut fds, Some(&timeout)), Ok(1)) {
            return;
        }
        if rustix::io::write(stderr.as_fd(), piece).is_err() {
            return;
        }
    }
}
