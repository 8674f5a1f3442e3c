//! Ctrl-C and SIGTERM end everything, in under a second.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that ask this process to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals; from here on they no longer end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Cancels `shutdown` at the first signal; the second ends the process as it stands, and the worker with it.
    pub(crate) async fn watch(mut self, shutdown: CancellationToken) {
        let name = self.next().await;
        tracing::info!("{name}: ends");
        shutdown.cancel();
        self.next().await;
        std::process::exit(130);
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
