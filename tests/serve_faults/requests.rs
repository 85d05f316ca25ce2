//! Requests that are too large, or that two servers could read in two ways.

use crate::common::Server;
use crate::frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, RST_STREAM, head};
use crate::wire::{Answer, connect, exchange, get};
use crate::{DEMO, DEMO_INDEX, Mirrored};

/// Sends a request with one more behind it: it must be refused with one of these, and nothing after it be answered.
#[track_caller]
fn is_refused(server: &Server, what: &str, request: &[u8], statuses: &[u16]) {
    let behind = b"GET /index/config.json HTTP/1.1\r\nHost: behind.example\r\n\r\n";
    let answers = exchange(server, &[request, behind].concat());
    let got: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(got.len() <= 1 && got.iter().all(|status| statuses.contains(status)), "{what}: {got:?}");
    assert!(answers.iter().all(|answer| !answer.text().contains("behind.example")), "{what}");
    assert_eq!(get(server, DEMO, &[]).status, 200, "after {what}");
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_closed() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let long = |count: usize| "a".repeat(count);
    let many: String = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (what, request) in [
        ("a URL of 1 MiB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1 << 20))),
        ("a URL of 1 MiB in its query", format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1 << 20))),
        ("a URL of 20 KiB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(20 << 10))),
        ("a value of 64 KiB", format!("GET {DEMO} HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", long(64 << 10))),
        ("a name of 64 KiB", format!("GET {DEMO} HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", long(64 << 10))),
        ("a method of 64 KiB", format!("{} {DEMO} HTTP/1.1\r\nHost: a\r\n\r\n", long(64 << 10))),
        ("10,000 headers", format!("GET {DEMO} HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        ("200 headers", format!("GET {DEMO} HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: 1\r\n".repeat(200))),
        ("one line without end", long(1 << 20)),
        ("empty lines without end", "\r\n".repeat(1 << 20)),
    ] {
        is_refused(&server, what, request.as_bytes(), &[400, 414, 431]);
    }
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let get = |version: &str, headers: &str, body: &str| format!("GET {DEMO} {version}\r\n{headers}\r\n{body}");
    let one = |headers: &str, body: &str| get("HTTP/1.1", &format!("Host: a\r\n{headers}"), body);
    for (what, request) in [
        ("length and chunks", one("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunks and length", one("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        ("chunks", one("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunks in another spelling", one("Transfer-Encoding: \tcHuNkEd \r\n", "0\r\n\r\n")),
        ("chunks that are no chunks", one("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("chunks not last", one("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("chunks twice", one("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("chunks in HTTP/1.0", get("HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("two lengths", one("Content-Length: 0\r\nContent-Length: 5\r\n", "")),
        ("a list of lengths", one("Content-Length: 0, 5\r\n", "")),
        ("a length with a sign", one("Content-Length: +5\r\n", "abcde")),
        ("a negative length", one("Content-Length: -5\r\n", "")),
        ("a length beyond all numbers", one("Content-Length: 18446744073709551616\r\n", "")),
        ("a length in hexadecimal", one("Content-Length: 0x5\r\n", "abcde")),
        ("a folded header", one("X: a\r\n b\r\n", "")),
        ("a folded header with a tab", one("X: a\r\n\tTransfer-Encoding: chunked\r\n", "")),
        ("a space before the colon", one("Content-Length : 5\r\n", "abcde")),
        ("a header without a name", one(": x\r\n", "")),
        ("a header without a colon", one("x\r\n", "")),
        ("a NUL in a value", one("X: a\0b\r\n", "")),
        ("a bare CR in a value", one("X: a\rTransfer-Encoding: chunked\r\n", "")),
        ("a bare LF and a request", one("X: a\nGET /index/config.json HTTP/1.1\r\n", "")),
        ("no host", get("HTTP/1.1", "", "")),
        ("two hosts", get("HTTP/1.1", "Host: a\r\nHost: b\r\n", "")),
        ("the same host twice", get("HTTP/1.1", "Host: a\r\nHost: a\r\n", "")),
        ("HTTP/1.2", get("HTTP/1.2", "Host: a\r\n", "")),
        ("HTTP/3.0", get("HTTP/3.0", "Host: a\r\n", "")),
        ("no version", format!("GET {DEMO}\r\n\r\n")),
        ("a space too many", format!("GET  {DEMO} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("a raw space in the path", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("a control character in the path", "GET /a\x1bb HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03".into()),
    ] {
        is_refused(&server, what, request.as_bytes(), &[400, 411, 501, 505]);
    }
}

#[test]
fn a_body_that_nobody_asked_for_is_not_taken_for_a_request() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let inner = "GET /index/config.json HTTP/1.1\r\nHost: inner.example\r\n\r\n";
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
        let request =
            format!("{method} {DEMO_INDEX} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        let mut client = connect(&server);
        client.send(request.as_bytes());
        assert!(client.answer(method).is_some(), "{method}");
        // Either the connection ends here, or the next answer is to the next request.
        client.send_all_you_can(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let next: Vec<Answer> = std::iter::from_fn(|| client.answer("GET")).collect();
        assert!(next.len() <= 1 && next.iter().all(|answer| answer.status == 404), "{method}: {next:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let paths = [DEMO, "/nothing", DEMO_INDEX, DEMO];
    let requests: String = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    let mut client = connect(&server);
    client.send(requests.as_bytes());
    let answers = paths.map(|_| client.answer("GET").unwrap());
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 404, 200, 200]);
    assert_eq!(answers[0].body, mirrored.bytes_of("demo"));
    assert_eq!(answers[3].body, mirrored.bytes_of("demo"));
}

#[test]
fn an_http2_head_that_is_too_large_is_refused_on_its_stream_or_ends_the_connection() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    for size in [15_000, 60_000, 600_000] {
        let mut client = Http2::connect(&server);
        let block = head(DEMO.as_bytes(), &[("x", &"a".repeat(size)), ("y", "a"), ("z", &"b".repeat(2000))]);
        let mut parts = block.chunks(16_000).peekable();
        let stream = client.next_stream();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(part) = parts.next() {
            flags |= if parts.peek().is_none() { END_HEADERS } else { 0 };
            client.client.send_all_you_can(&crate::frames::frame(kind, flags, stream, part));
            (kind, flags) = (crate::frames::CONTINUATION, 0);
        }
        loop {
            match client.frame() {
                None => break,
                Some(frame) if matches!(frame.kind, GOAWAY | RST_STREAM) => break,
                Some(frame) if frame.kind == HEADERS => {
                    assert_eq!(frame.status(), 431, "{size}");
                    break;
                }
                Some(_) => {}
            }
        }
        assert_eq!(get(&server, DEMO, &[]).status, 200);
    }
}
