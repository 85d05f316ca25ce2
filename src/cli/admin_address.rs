//! Where the admin address is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A host and a port. Whoever names only a port, or nothing, gets the loopback interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress {
    host: String,
    port: u16,
}

/// The port if none is named.
const PORT: u16 = 9090;
const LOOPBACK: &str = "127.0.0.1";

impl AdminAddress {
    /// What to listen on.
    pub fn to_bind(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be PORT, ADDR or ADDR:PORT, like 9090 or 127.0.0.1:9090")]
pub struct NoAddress;

impl FromStr for AdminAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let at = |host: &str, port| AdminAddress { host: host.to_owned(), port };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(at(&address.ip().to_string(), address.port()));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(at(bare, PORT));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| NoAddress)?),
            None => match text.parse() {
                Ok(port) => ("", port),
                Err(_) => (text, PORT),
            },
        };
        let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        // A folder given where an address may stand is a mistake, and is told as one.
        let is_path = host.starts_with('.') || text.is_empty();
        if !is_name || is_path {
            return Err(NoAddress);
        }
        Ok(at(if host.is_empty() { LOOPBACK } else { host }, port))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdminAddress { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_the_loopback_interface() {
        for (text, address) in [
            ("9090", "127.0.0.1:9090"),
            (":0", "127.0.0.1:0"),
            ("10.0.0.7", "10.0.0.7:9090"),
            ("0.0.0.0:1234", "0.0.0.0:1234"),
            ("[::1]:99", "[::1]:99"),
            ("::1", "[::1]:9090"),
            ("[::]", "[::]:9090"),
            ("localhost", "localhost:9090"),
            ("metrics.example:80", "metrics.example:80"),
        ] {
            assert_eq!(text.parse::<AdminAddress>().unwrap().to_string(), address, "{text}");
        }
    }

    #[test]
    fn a_folder_is_no_address() {
        for text in ["", "./mirror", "/srv/mirror", "..", "a:b", "1.2.3.4:99999", "a b"] {
            assert_eq!(text.parse::<AdminAddress>(), Err(NoAddress), "{text}");
        }
    }
}
