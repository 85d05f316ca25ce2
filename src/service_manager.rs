//! Telling a service manager how far a server is: `sd_notify(3)`.
//!
//! The manager names a datagram socket in `NOTIFY_SOCKET`, by a path or, with `@`, by an abstract name as containers have it.

/// How far a server is.
#[derive(Clone, Copy, Debug)]
pub enum ServerState {
    /// For another process; this may take longer than a start usually may.
    Waiting(&'static str),
    /// Clients are served.
    Ready,
    /// Clients under way are served, and no others.
    Stopping,
}

impl ServerState {
    fn message(self) -> String {
        match self {
            ServerState::Waiting(why) => format!("STATUS={why}\nEXTEND_TIMEOUT_USEC=30000000\n"),
            ServerState::Ready => "READY=1\nSTATUS=serving\n".into(),
            ServerState::Stopping => "STOPPING=1\n".into(),
        }
    }
}

/// Tells the service manager, if one waits to hear it.
pub fn tell(state: ServerState) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, &state.message()) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

#[cfg(target_os = "linux")]
fn send(name: &std::ffi::OsStr, message: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send(_name: &std::ffi::OsStr, _message: &str) -> std::io::Result<()> {
    Ok(()) // nobody waits
}
