//! Processes that outlive whoever started them, found again by a file with their id and start time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::census;
use crate::eventually::within;
use crate::running::signal_pid;

/// A killed process is gone after this, unless the kernel holds it.
const END: Duration = Duration::from_secs(20);

/// The processes of one cluster.
#[derive(Clone)]
pub(super) struct Daemons {
    state: PathBuf,
}

impl Daemons {
    pub(super) fn new(state: &Path) -> Result<Daemons, String> {
        for folder in ["pids", "logs"] {
            fs::create_dir_all(state.join(folder)).map_err(|e| format!("{}: {e}", state.display()))?;
        }
        Ok(Daemons { state: state.to_owned() })
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    /// Starts one under a name, its output added to its log.
    pub(super) fn start(&self, name: &str, command: &mut Command) -> Result<u32, String> {
        let wrong = |e: std::io::Error| format!("cannot start {name}: {e}");
        let out = File::options().create(true).append(true).open(self.log(name)).map_err(wrong)?;
        let err = out.try_clone().map_err(wrong)?;
        // Ctrl-C on the terminal is not for it.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let pid = command.spawn().map_err(wrong)?.id();
        fs::write(self.file(name), format!("{pid} {}", started(pid).unwrap_or_default())).map_err(wrong)?;
        Ok(pid)
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.file(name)).ok()?;
        let (pid, start) = text.split_once(' ')?;
        let pid = pid.parse().ok()?;
        (started(pid).as_deref() == Some(start) && census::runs(pid)).then_some(pid)
    }

    /// Kills it and waits for its end.
    pub(super) fn stop(&self, name: &str) {
        if let Some(pid) = self.pid(name) {
            signal_pid(pid, Signal::KILL);
            end(name, pid);
        }
        // It may not be there.
        let _ = fs::remove_file(self.file(name));
    }

    pub(super) fn stop_all(&self) {
        for entry in fs::read_dir(self.state.join("pids")).into_iter().flatten().flatten() {
            self.stop(&entry.file_name().to_string_lossy());
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state.join("pids").join(name)
    }
}

/// Waits until a killed process, our child or not, holds nothing any more.
pub(super) fn end(name: &str, pid: u32) {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let ended = within(END, || {
        // Only a child of ours can be waited for; of others this is an error.
        let _ = waitpid(raw, WaitOptions::NOHANG);
        // A process whose main thread alone has ended may still hold its sockets.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map(|tasks| tasks.count()).unwrap_or(0);
        if census::runs(pid) || threads > 1 { Err(()) } else { Ok(()) }
    });
    if ended.is_err() {
        eprintln!("{name} (pid {pid}) was killed and is not gone after {END:?}");
    }
}

/// When a process started, in ticks since boot: with its id, the name of one process.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19).map(str::to_owned)
}
