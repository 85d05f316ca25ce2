//! Only to the machine's own name.
//!
//! A browser on this machine may be made to believe that some site's name is at a loopback address (DNS rebinding), and
//! then lets that site's scripts read what they find there. They cannot change the name that the browser sends along.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::Response;

/// Answers only who asks the loopback interface by its name or address.
pub async fn require_own(request: Request, next: Next) -> Response {
    let mut named = request.headers().get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => request.uri().authority().map(axum::http::uri::Authority::as_str),
        _ => None,
    };
    if host.is_some_and(names_loopback) {
        return next.run(request).await;
    }
    super::say(StatusCode::MISDIRECTED_REQUEST, "the Host header must be localhost or a loopback address\n")
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(name, _)| name),
        None => host.split(':').next(),
    };
    let Some(name) = name else { return false };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_interface_is_its_name() {
        for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:9090", "127.1.2.3", "[::1]:9090", "[::ffff:127.0.0.1]"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "127.0.0.1.x",
        ] {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
