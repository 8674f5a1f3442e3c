//! Log lines to standard error: one a transition, filtered by `PENSTOCK_LOG`.
//!
//! A thread of its own writes them. Whoever reads standard error may stop reading; then lines are dropped and counted, and
//! nothing that moves media waits.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What is logged unless `PENSTOCK_LOG` says otherwise. The client's own lines about the API server say nothing that ours don't.
pub const DEFAULT_FILTER: &str = "info,kube_client=off";

/// Lines that wait to be written: a few seconds of a storm.
const LINES_MAX: usize = 2048;

/// How long a process that ends waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

static WRITER: OnceLock<SyncSender<Item>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Begins logging for the whole process. Further calls change nothing.
pub fn install(format: LogFormat) {
    let filter = EnvFilter::try_from_env("PENSTOCK_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Line(Vec::new()));
    let installed = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second subscriber is refused; the first one goes on.
    if installed.is_ok() {
        let (sender, items) = sync_channel(LINES_MAX);
        // Without the thread, lines are written where they arise.
        if std::thread::Builder::new().name(String::from("log")).spawn(move || write(items)).is_ok() {
            drop(WRITER.set(sender));
        }
    }
}

/// Waits a little until what was logged is written. Call it before the process ends.
pub fn flush() {
    let Some(writer) = WRITER.get() else { return };
    let (done, wait) = sync_channel(1);
    if writer.try_send(Item::Flush(done)).is_ok() {
        let _ = wait.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Lines that were dropped since the process started.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn write(items: Receiver<Item>) {
    let mut told = 0;
    for item in items {
        match item {
            // Nobody is left to tell if standard error is closed.
            Item::Line(line) => drop(io::stderr().write_all(&line)),
            Item::Flush(done) => drop(done.try_send(())),
        }
        let dropped = dropped();
        if dropped > told {
            told = dropped;
            drop(writeln!(io::stderr(), "{told} log lines were dropped so far: standard error was not read"));
        }
    }
}

/// One line as it is being made; it goes to the thread whole.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.0);
        if line.is_empty() {
            return;
        }
        let Some(writer) = WRITER.get() else {
            // Before the thread runs, or where it could not be made.
            return drop(io::stderr().write_all(&line));
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = writer.try_send(Item::Line(line))
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}
