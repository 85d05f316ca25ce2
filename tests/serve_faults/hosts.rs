//! Clients name the server; what they say is checked, and counts for nothing where the operator has said it.

use serde_json::Value;

use crate::common::Server;
use crate::frames::Http2;
use crate::wire::{Answer, connect, exchange, get};
use crate::{DEMO, Mirrored};

const CONFIG: &str = "/index/config.json";

/// What proxies say, or those who would like to be one.
const FORWARDED: &[(&str, &str)] = &[
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "gopher"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "/evil"),
    ("x-host", "evil.example"),
    ("x-original-url", "/evil"),
    ("x-rewrite-url", "/evil"),
    ("forwarded", "host=evil.example;proto=gopher"),
];

fn downloads(answer: &Answer) -> String {
    let config: Value = serde_json::from_slice(&answer.body).unwrap();
    config["dl"].as_str().unwrap().to_owned()
}

#[test]
fn a_host_that_is_none_is_refused_and_not_repeated() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    for host in [
        "evil.example/x",
        "u@evil.example",
        "evil.example:99999",
        "evil.example:80:80",
        "\"evil.example\"",
        "evil.example?x",
        "evil.example#x",
        "<evil.example>",
        "{crate}.evil.example",
        "evil.example\\",
        "evil..example",
        "[evil.example]",
        "evil.example, a",
        "%65vil.example",
        "evil.example;x",
        "",
    ] {
        let answers = exchange(
            &server,
            crate::wire::request("GET", CONFIG, &[("host", host), ("connection", "close")]).as_bytes(),
        );
        assert!(answers.iter().all(|answer| answer.status == 400), "{host}: {answers:?}");
        assert!(answers.iter().all(|answer| !answer.text().contains("evil")), "{host}: {answers:?}");
    }
}

#[test]
fn what_is_made_from_a_client_s_word_is_kept_by_no_cache() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let answer = get(&server, CONFIG, &[("host", "mirror.example:8080")]);
    assert!(downloads(&answer).starts_with("http://mirror.example:8080/crates/"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("etag"), None);
}

#[test]
fn what_proxies_are_said_to_have_forwarded_is_not_believed() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let answer = get(&server, CONFIG, FORWARDED);
    assert!(downloads(&answer).starts_with("http://a.example/crates/"), "{}", answer.text());
    assert!(!format!("{answer:?}").contains("evil"));
}

#[test]
fn the_host_of_a_target_in_absolute_form_is_the_one_that_counts() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let mut client = connect(&server);
    client.send(b"GET http://right.example/index/config.json HTTP/1.1\r\nHost: wrong.example\r\n\r\n");
    assert!(downloads(&client.answer("GET").unwrap()).starts_with("http://right.example/"));
}

#[test]
fn a_fixed_url_is_changed_by_nothing_that_a_client_says() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--public-url", "https://mirror.example/rust/"]);
    let plain = get(&server, CONFIG, &[]);
    assert!(downloads(&plain).starts_with("https://mirror.example/rust/crates/"));
    assert!(plain.header("etag").is_some());
    for headers in [FORWARDED, &[("host", "evil.example")], &[("host", "u@evil.example/x")]] {
        let answer = get(&server, CONFIG, headers);
        assert_eq!((answer.status, &answer.body, answer.header("etag")), (200, &plain.body, plain.header("etag")));
    }
}

#[test]
fn the_server_is_nobody_s_proxy() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let address = other.local_addr().unwrap();
    for request in [
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        format!(
            "GET {DEMO} HTTP/1.1\r\nHost: {address}\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ),
        "TRACE / HTTP/1.1\r\nHost: a\r\nX-Secret: evil\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
    ] {
        let mut client = connect(&server);
        client.send(request.as_bytes());
        let answer = client.answer("GET").unwrap();
        assert!((200..500).contains(&answer.status), "{request}: {}", answer.status);
        assert!(!request.starts_with("CONNECT") || answer.status >= 400, "{request}: {}", answer.status);
        assert!(!answer.text().contains("evil"), "{request}");
    }
    assert!(other.accept().is_err(), "the server connected to somebody");
}

#[test]
fn an_http2_client_s_authority_is_checked_like_a_host() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let (status, body) = Http2::connect(&server).get(CONFIG.as_bytes());
    assert_eq!(status, 200);
    assert!(String::from_utf8(body).unwrap().contains("http://a.example/crates/"));
}
