//! Under which URL clients know this server.
//!
//! `config.json` must tell cargo absolute URLs. An operator who knows the server's name gives it; otherwise it is taken
//! from what the client asked for, checked by syntax and never stored by a cache in between.

use axum::http::header::HOST;
use axum::http::request::Parts;

/// How the server's own URL is found.
#[derive(Clone, Debug)]
pub enum PublicUrl {
    /// The operator said so; without a slash at its end. Nothing that a client sends changes it.
    Fixed(String),
    /// From the host that the client named.
    FromRequest {
        /// Whether clients come by TLS.
        tls: bool,
    },
}

impl PublicUrl {
    /// The server's URL for a request, without a slash at its end; none if the client names no usable host.
    pub fn of(&self, request: &Parts) -> Option<String> {
        match self {
            PublicUrl::Fixed(url) => Some(url.clone()),
            PublicUrl::FromRequest { tls } => {
                // A request's target counts, where it names a host; HTTP/2 has it there.
                let host = match request.uri.authority() {
                    Some(authority) => authority.as_str(),
                    None => request.headers.get(HOST)?.to_str().ok()?,
                };
                let scheme = if *tls { "https" } else { "http" };
                is_host(host).then(|| format!("{scheme}://{host}"))
            }
        }
    }

    /// Whether a cache may keep what was made with it.
    pub fn is_fixed(&self) -> bool {
        matches!(self, PublicUrl::Fixed(_))
    }
}

/// Whether this is a host name or an address, with a port or without: RFC 3986 without user, escapes and empty labels.
fn is_host(text: &str) -> bool {
    if text.len() > 261 {
        return false;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    port.is_none_or(is_port) && name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_hosts() {
        for host in ["localhost", "mirror.example:8080", "10.0.0.1", "[::1]:80", "[2001:db8::1]", "a-b_c.d."] {
            assert!(is_host(host), "{host}");
        }
        let long = "a".repeat(300);
        for text in [
            "", ":80", "a:", "a:0", "a:99999", "a:8o", "u@h", "a/b", "a b", "a\"b", "{crate}", "[::1", "[x]:1", "a..b",
            "a?b", "é", "a#", "a\\b", &long,
        ] {
            assert!(!is_host(text), "{text}");
        }
    }

    #[test]
    fn a_fixed_url_is_not_changed_by_a_request() {
        let request = axum::http::Request::builder().uri("/x").header(HOST, "evil.example");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let fixed = PublicUrl::Fixed("https://mirror.example/crates".into());
        assert_eq!(fixed.of(&parts).unwrap(), "https://mirror.example/crates");
        let from_request = PublicUrl::FromRequest { tls: true };
        assert_eq!(from_request.of(&parts).unwrap(), "https://evil.example");
    }
}
