//! Signals: the first asks for a draining stop, the second ends the process at once. Both leave a mirror that resumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

/// Knows whether and by which signal the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Given with the first signal.
    pub stop: CancellationToken,
    code: Arc<AtomicU8>,
}

impl Signals {
    /// Listens from now on. Must be called within the runtime.
    pub fn listen() -> std::io::Result<Signals> {
        let signals = Signals::default();
        let mut listener = Listener::new()?;
        let heard = signals.clone();
        tokio::spawn(async move {
            let code = listener.next().await;
            heard.code.store(code, Ordering::SeqCst);
            heard.stop.cancel();
            tracing::warn!("stopping: what is under way is finished and stored; once more stops at once");
            std::process::exit(i32::from(listener.next().await));
        });
        Ok(signals)
    }

    /// The exit code of the signal that came, if one did.
    pub fn code(&self) -> Option<u8> {
        Some(self.code.load(Ordering::SeqCst)).filter(|code| *code != 0)
    }
}

#[cfg(unix)]
struct Listener {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Listener {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Listener {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        }
    }
}

#[cfg(not(unix))]
struct Listener;

#[cfg(not(unix))]
impl Listener {
    fn new() -> std::io::Result<Self> {
        Ok(Listener)
    }

    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 130,
            Err(_) => std::future::pending().await,
        }
    }
}
