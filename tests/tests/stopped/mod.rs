//! Ctrl-C and SIGTERM stop a long run, which can be gone on with.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);

/// Becomes true when this process is told to stop.
pub(crate) fn when_told() -> &'static AtomicBool {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be had");
            let mut terminate = signal(SignalKind::terminate()).expect("signals can be had");
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            STOP.store(true, Ordering::Relaxed);
        });
    });
    &STOP
}
