//! What clients send does not write the log.

use crate::Mirrored;
use crate::common::Server;
use crate::frames::Http2;
use crate::wire::{connect, exchange, get, request};

/// Paths with what would move a terminal's cursor, begin a line or turn the reading direction around.
const PATHS: &[&str] = &[
    "/a%0a%1b[2Jb",
    "/\u{9b}31mred",
    "/a\u{202e}b",
    "/a\u{7f}b",
    "/a\u{2028}b",
    "/a\"b\\nc",
    "/\u{feff}",
    "/crates/a%0d%0a2026-01-01T00:00:00Z%20ERROR%20all%20is%20lost/x",
];

fn log_of_hostile_requests(format: &str) -> String {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--log-level", "trace", "--log-format", format]);
    for path in PATHS {
        exchange(&server, request("GET", path, &[("connection", "close")]).as_bytes());
        exchange(&server, request("GET", "/x", &[("connection", "close"), ("user-agent", path)]).as_bytes());
        exchange(&server, request("GET", path, &[("host", &path[1..]), ("connection", "close")]).as_bytes());
    }
    for raw in [
        b"GET /a\x1b[2Jb HTTP/1.1\r\n\r\n".as_slice(),
        b"G\x1bET / HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        exchange(&server, raw);
    }
    let mut client = Http2::connect(&server);
    for path in [b"/http2-\x1b[2J".as_slice(), b"/http2-\xc2\x9b31m", b"/http2\r\nERROR"] {
        client.begin_get(path);
    }
    let mut closing = connect(&server);
    closing.send(b"GET /index");
    drop(closing);
    assert_eq!(get(&server, "/last", &[]).status, 404);
    server.wait_for_log("/last");
    server.log()
}

#[track_caller]
fn has_no_control_characters(log: &str) {
    let raw = log.chars().find(|letter| {
        (letter.is_control() && *letter != '\n') || matches!(letter, '\u{202e}' | '\u{2028}' | '\u{feff}' | '\u{fffd}')
    });
    assert_eq!(raw, None, "{log:?}");
}

#[test]
fn a_text_log_has_one_line_for_each_event_and_nothing_raw_in_it() {
    let log = log_of_hostile_requests("text");
    has_no_control_characters(&log);
    assert!(log.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{log}");
    assert!(!log.lines().any(|line| line.split_whitespace().nth(1) == Some("ERROR")), "{log}");
}

#[test]
fn a_json_log_has_one_object_for_each_event_and_nothing_raw_in_it() {
    let log = log_of_hostile_requests("json");
    has_no_control_characters(&log);
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_ne!(event["level"], "ERROR", "{line}");
    }
}
