//! The worker process of standalone: started first of all, started again when it dies, ended with us.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{limits, metrics::Metrics, table::Screen};

/// How to start a worker.
pub(crate) struct Launch {
    /// Arguments after `penstock worker`.
    pub(crate) arguments: Vec<OsString>,
    /// Threads that move media.
    pub(crate) shards: usize,
    /// For the session; in the environment, so that it shows in no process list.
    pub(crate) token: String,
    /// Where its log goes when a table is on the terminal.
    pub(crate) screen: Option<Screen>,
}

/// A running worker. It ends when this is dropped, since its standard input does.
pub(crate) struct Worker {
    child: Child,
    /// Its standard input: EOF there says that we are gone. Kept apart from `child`, whose `wait` would close it.
    _lifeline: Option<ChildStdin>,
    started: Instant,
}

impl Launch {
    /// Starts a worker. Takes well under a millisecond; the worker binds its listeners first thing.
    pub(crate) fn start(&self) -> io::Result<Worker> {
        let mut child = match self.command(std::env::current_exe()?).spawn() {
            // The file was replaced by a newer one while this process runs it: the same program is still to be had from the kernel.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.command(PathBuf::from("/proc/self/exe")).spawn()?
            }
            child => child?,
        };
        let lifeline = child.stdin.take();
        let mut worker = Worker { child, _lifeline: lifeline, started: Instant::now() };
        if let (Some(screen), Some(log)) = (&self.screen, worker.child.stderr.take()) {
            // Ends with the worker, whose end of the pipe is the only one.
            tokio::spawn(screen.clone().copy_lines(log));
        }
        Ok(worker)
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command
            .arg("worker")
            .args(&self.arguments)
            .env(worker::args::SESSION_TOKEN_ENV, &self.token)
            // An arena a shard and one for the rest. The other settings are built in; see .cargo/config.toml.
            .env("MALLOC_CONF", format!("narenas:{}", self.shards + 1))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(if self.screen.is_some() { Stdio::piped() } else { Stdio::inherit() })
            // Ctrl-C on a terminal is for us; we end the worker.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Why supervision ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We were asked to.
    Asked,
    /// The very first worker could not start; it has said why.
    NeverStarted,
}

/// Keeps one worker running until `shutdown`. `greeted` turns true with the first session; `gone` is told of each worker's end.
pub(crate) async fn supervise(
    launch: Launch,
    first: Worker,
    greeted: impl Fn() -> bool,
    gone: impl Fn(),
    metrics: Metrics,
    shutdown: CancellationToken,
) -> End {
    let (mut current, mut quick) = (Some(first), 0u32);
    loop {
        let mut worker = match current.take().map_or_else(|| launch.start(), Ok) {
            Ok(worker) => worker,
            Err(error) => {
                tracing::error!("can't start a worker: {error}");
                tokio::select! {
                    () = shutdown.cancelled() => return End::Asked,
                    () = sleep(limits::WORKER_BACKOFF_MAX) => continue,
                }
            }
        };
        let status = tokio::select! {
            status = worker.child.wait() => status,
            () = shutdown.cancelled() => {
                end(worker.child).await;
                return End::Asked;
            }
        };
        gone();
        let how = status.as_ref().map_or_else(ToString::to_string, how);
        if !greeted() && status.is_ok_and(|status| status.code().is_some()) {
            tracing::error!("the worker could not start ({how}); its own lines above say why");
            return End::NeverStarted;
        }
        quick = if worker.started.elapsed() < limits::WORKER_STEADY { quick + 1 } else { 0 };
        let wait = backoff(quick);
        metrics.worker_restarted();
        let when = if wait.is_zero() { "at once".to_owned() } else { format!("in {wait:?}") };
        tracing::warn!(after = ?worker.started.elapsed(), "the worker {how}; it is started again {when}");
        tokio::select! {
            () = shutdown.cancelled() => return End::Asked,
            () = sleep(wait) => {}
        }
    }
}

/// At once, then twice as long each time while workers end soon after their start.
fn backoff(quick: u32) -> Duration {
    match quick {
        0 | 1 => Duration::ZERO,
        more => (Duration::from_millis(50) * 2u32.saturating_pow(more - 2)).min(limits::WORKER_BACKOFF_MAX),
    }
}

/// Asks it to end, and makes sure of it.
async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // It may have ended this moment; it is not reaped yet, so the number is still its own.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(limits::WORKER_END, child.wait()).await.is_err() {
        tracing::warn!("the worker did not end within {:?} and is killed", limits::WORKER_END);
        if let Err(error) = child.kill().await {
            tracing::warn!("can't kill the worker: {error}");
        }
    }
}

fn how(status: &ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended by itself with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_started_again_at_once_and_then_ever_later() {
        let waits: Vec<u128> = (0..10).map(|quick| backoff(quick).as_millis()).collect();
        assert_eq!(waits, [0, 0, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
