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
        Ok(Self::obey(Listener::new(true)?))
    }

    /// Listens for a server, which takes a hangup as a reminder to look at its files, as it does anyway.
    pub fn listen_as_server() -> std::io::Result<Signals> {
        Ok(Self::obey(Listener::new(false)?))
    }

    fn obey(mut listener: Listener) -> Signals {
        let signals = Signals::default();
        let heard = signals.clone();
        tokio::spawn(async move {
            let code = listener.next().await;
            heard.code.store(code, Ordering::SeqCst);
            heard.stop.cancel();
            tracing::warn!("stopping: what is under way is finished and stored; once more stops at once");
            std::process::exit(i32::from(listener.next().await));
        });
        signals
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
    hangup_stops: bool,
}

#[cfg(unix)]
impl Listener {
    fn new(hangup_stops: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Listener {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            hangup_stops,
        })
    }

    async fn next(&mut self) -> u8 {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return 130,
                _ = self.terminate.recv() => return 143,
                _ = self.hangup.recv() => if self.hangup_stops { return 129 },
            }
        }
    }
}

#[cfg(not(unix))]
struct Listener;

#[cfg(not(unix))]
impl Listener {
    fn new(_hangup_stops: bool) -> std::io::Result<Self> {
        Ok(Listener)
    }

    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => 130,
            Err(_) => std::future::pending().await,
        }
    }
}
