//! A child process that ends with its owner, and whose output is told when something goes wrong.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::eventually::{eventually, within};

/// A started program; killed on drop.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with its standard output and error in the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Running {
        let out = File::create(&log).unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let err = out.try_clone().expect("a file's descriptor can be cloned");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|e| {
            panic!("cannot start {:?}: {e}; `cargo xtask test` installs it", command.get_program())
        });
        Running { name: name.to_owned(), child, log }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The file that its output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let ended = within(limit, || self.ended().ok_or(()));
        ended.unwrap_or_else(|()| panic!("waited {limit:?} for: {what}; it wrote:\n{}", self.output()))
    }

    /// Waits for its end, which must be a success.
    ///
    /// # Panics
    /// When it fails, with what it wrote, or has not ended within `limit`.
    #[track_caller]
    pub fn wait_success(&mut self, limit: Duration) {
        let status = self.wait_end(limit);
        assert!(status.success(), "{} ended with {status}; it wrote:\n{}", self.name, self.output());
    }

    /// Waits until its output holds `text`.
    ///
    /// # Panics
    /// When it does not within `limit`, or has ended without.
    #[track_caller]
    pub fn wait_output(&mut self, text: &str, limit: Duration) {
        let what = format!("{text:?} from {}", self.name);
        eventually(&what, limit, || if self.output().contains(text) { Ok(()) } else { Err(self.output()) });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Ends it with SIGKILL and waits for that.
    pub fn kill(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end as Ctrl-C does, and waits; a file that it writes gets its proper end.
    #[track_caller]
    pub fn interrupt(&mut self, limit: Duration) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(rustix::process::Signal::INT);
        }
        self.wait_end(limit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let from = output.len().saturating_sub(4000);
            let from = (from..output.len()).find(|&at| output.is_char_boundary(at)).unwrap_or(0);
            eprintln!("--- {} (pid {}) wrote last:\n{}", self.name, self.pid(), &output[from..]);
        }
    }
}

/// Sends a signal to a process that may have ended.
pub fn signal_pid(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid is above zero");
    // An error says that it has ended.
    let _ = rustix::process::kill_process(pid, signal);
}

/// A folder for a test's files: gone at the end, kept when the test fails.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder with `name` in it.
    pub fn new(name: &str) -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("penstock-{name}-{}-{next}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- files are kept in {}", self.0.display());
        } else {
            // Left-over files in the temporary folder fail no test.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
