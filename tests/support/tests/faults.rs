//! That each fault is the fault it says, as curl sees it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod client;

use client::Curl;
use crateferry_test_support::{Etags, Fault, Registry};

/// curl's exit codes for a transfer that broke, by protocol and place.
const BROKEN: [i32; 4] = [18, 52, 56, 92];
const TIMED_OUT: i32 = 28;

fn registry() -> Registry {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    registry
}

fn get(registry: &Registry) -> client::Answer {
    Curl::new(registry).get(&registry.crate_url("serde", "1.0.0"))
}

fn get_http1(registry: &Registry) -> client::Answer {
    Curl::new(registry).option("--http1.1").get(&registry.crate_url("serde", "1.0.0"))
}

fn length(registry: &Registry) -> usize {
    registry.crate_bytes("serde", "1.0.0").len()
}

#[test]
fn both_protocols_are_spoken_and_logged() {
    let registry = registry();
    assert_eq!((get(&registry).exit, get_http1(&registry).exit), (0, 0));
    let log = registry.request_log();
    assert_eq!((log[0].protocol.as_str(), log[1].protocol.as_str()), ("HTTP/2.0", "HTTP/1.1"));
    assert!(log[0].header("user-agent").unwrap().starts_with("curl/"));
    assert_eq!((log[0].status, log[0].bytes_sent), (Some(200), length(&registry) as u64));
    assert_ne!(log[0].connection, log[1].connection);
    assert_eq!((registry.requests(), registry.connections()), (2, 2));
    registry.reset_counters();
    assert_eq!((registry.requests(), registry.requests_for("serde", "1.0.0")), (0, 0));
}

#[test]
fn a_status_comes_as_often_as_it_was_asked_for() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::status(503).retry_after("Sun, 06 Nov 1994 08:49:37 GMT").times(2));
    let first = get(&registry);
    assert_eq!((first.status, first.header("retry-after").unwrap().len()), (503, 29));
    assert_eq!((get(&registry).status, get(&registry).status), (503, 200));
    assert_eq!(registry.requests_for("serde", "1.0.0"), 3);
}

#[test]
fn a_cut_body_breaks_once_after_its_bytes() {
    let registry = registry();
    registry.cut_body_once("serde", "1.0.0");
    let cut = get(&registry);
    assert!(BROKEN.contains(&cut.exit), "curl ended with {}", cut.exit);
    assert_eq!(cut.body.len(), length(&registry) / 2);
    assert_eq!(get(&registry).body, registry.crate_bytes("serde", "1.0.0"));
}

#[test]
fn a_cut_body_breaks_over_http1_too() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::cut_after(10));
    let cut = get_http1(&registry);
    assert!(BROKEN.contains(&cut.exit), "curl ended with {}", cut.exit);
    assert_eq!(cut.body.len(), 10);
}

#[test]
fn a_dropped_connection_and_a_reset_break() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::drop_connection_after(10).times(2)).fault(
        "serde",
        "1.0.0",
        Fault::reset().times(2),
    );
    for _ in 0..2 {
        assert!(get(&registry).exit != 0 && get_http1(&registry).exit != 0);
    }
    assert_eq!(get(&registry).exit, 0);
}

#[test]
fn lengths_are_left_out_or_lie() {
    let registry = registry();
    let honest = length(&registry);
    registry
        .fault("serde", "1.0.0", Fault::no_length().once())
        .fault("serde", "1.0.0", Fault::claimed_length(honest as u64 + 7).once())
        .fault("serde", "1.0.0", Fault::longer_without_length(7).once())
        .fault("serde", "1.0.0", Fault::shorter_without_length(7).once());
    let unsaid = get(&registry);
    assert_eq!((unsaid.exit, unsaid.header("content-length"), unsaid.body.len()), (0, None, honest));
    assert_ne!(get_http1(&registry).exit, 0);
    assert_eq!(get_http1(&registry).body.len(), honest + 7);
    let short = get(&registry);
    assert_eq!((short.exit, short.body.len()), (0, 7));
}

#[test]
fn a_body_longer_than_its_length_is_sent_over_http2() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::longer_by(9));
    let longer = get(&registry);
    assert_eq!(longer.header("content-length"), Some(length(&registry).to_string()));
    assert_eq!(registry.request_log()[0].bytes_sent, length(&registry) as u64 + 9);
    assert_eq!(get_http1(&registry).body.len(), length(&registry) + 9);
}

#[test]
fn bytes_are_wrong_but_as_many() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::wrong_bytes().once()).fault("serde", "1.0.0", Fault::body("short").once());
    let wrong = get(&registry);
    assert_eq!(wrong.body.len(), length(&registry));
    assert_ne!(wrong.body, registry.crate_bytes("serde", "1.0.0"));
    assert_eq!(get(&registry).body, b"short");
}

#[test]
fn gzip_comes_unasked() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::gzip());
    let answer = get(&registry);
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(answer.body[..2], [0x1f, 0x8b]);
    assert_ne!(answer.body, registry.crate_bytes("serde", "1.0.0"));
}

#[test]
fn headers_and_bodies_stall_until_the_client_goes() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::stall_headers().once()).fault("serde", "1.0.0", Fault::stall_after(5));
    let impatient = || Curl::new(&registry).option("--max-time").option("0.5");
    let headers = impatient().get(&registry.crate_url("serde", "1.0.0"));
    assert_eq!((headers.exit, headers.body.len()), (TIMED_OUT, 0));
    let body = impatient().get(&registry.crate_url("serde", "1.0.0"));
    assert_eq!((body.exit, body.body.len()), (TIMED_OUT, 5));
}

#[test]
fn a_trickle_is_slow_and_whole() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::trickle(length(&registry) as u64 * 4));
    let begin = std::time::Instant::now();
    assert_eq!(get(&registry).body.len(), length(&registry));
    assert!(begin.elapsed().as_millis() >= 200);
}

#[test]
fn redirects_go_wherever_they_are_told() {
    let registry = registry();
    let plain = format!("{}/crates/serde/serde-1.0.0.crate", registry.plain_url());
    registry
        .fault_path("/crates/", Fault::redirect_to_itself().times(4))
        .fault_path("/crates/", Fault::redirect(&plain).once())
        .fault_path("/crates/", Fault::redirect("file:///nowhere").once());
    let follow = || Curl::new(&registry).option("--location").option("--max-redirs").option("3");
    let looped = follow().get(&registry.crate_url("serde", "1.0.0"));
    assert_eq!((looped.exit, registry.requests()), (47, 4));
    assert_eq!(follow().option("--proto-redir").option("=https").get(&registry.crate_url("serde", "1.0.0")).exit, 1);
    assert_eq!(get(&registry).header("location").as_deref(), Some("file:///nowhere"));
    assert_eq!(Curl::new(&registry).get(&plain).body, registry.crate_bytes("serde", "1.0.0"));
}

#[test]
fn goaway_sends_the_client_to_a_new_connection() {
    let registry = registry();
    registry.fault("serde", "1.0.0", Fault::goaway().once());
    let url = registry.crate_url("serde", "1.0.0");
    let answer = Curl::new(&registry).option(&url).option("-o").option("/dev/null").get(&url);
    assert_eq!((answer.exit, registry.connections()), (0, 2));
}

#[test]
fn held_requests_count_as_in_flight_and_the_surplus_is_refused() {
    let registry = registry();
    registry.limit_in_flight(1, Fault::status(429).retry_after("1")).fault("serde", "1.0.0", Fault::held().once());
    std::thread::scope(|scope| {
        let held = scope.spawn(|| get(&registry));
        registry.wait_for(1, |request| request.path.ends_with("serde-1.0.0.crate"));
        assert_eq!(get(&registry).status, 429);
        registry.let_go();
        assert_eq!(held.join().unwrap().status, 200);
    });
    assert_eq!((registry.max_in_flight(), get(&registry).status), (2, 200));
}

#[test]
fn faults_find_index_files_and_any_crate_file() {
    let registry = registry();
    registry
        .fault_index_file("serde", Fault::status(500).once())
        .fault_path("/git/", Fault::status(502))
        .fault_crate_files(Fault::status(429).once());
    assert_eq!(Curl::new(&registry).get(&registry.index_file_url("se/rd/serde")).status, 500);
    assert_eq!(Curl::new(&registry).get(&format!("{}/info/refs", registry.git_https_url())).status, 502);
    assert_eq!(get(&registry).status, 429);
    assert_eq!(registry.heal().git_requests(), 1);
    assert_eq!(Curl::new(&registry).get(&format!("{}/info/refs", registry.git_https_url())).status, 200);
}

#[test]
fn etags_lie_when_told_to() {
    let registry = registry();
    let url = registry.index_file_url("se/rd/serde");
    let etag = || Curl::new(&registry).get(&url).header("etag");
    registry.lie_about_etags();
    let before = etag();
    registry.yank("serde", "1.0.0");
    assert_eq!(etag(), before);
    registry.etags(Etags::Random);
    assert_ne!(etag(), etag());
    registry.etags(Etags::Absent);
    assert_eq!(etag(), None);
    registry.etags(Etags::AlwaysUnchanged);
    assert_eq!(Curl::new(&registry).get(&url).status, 304);
}
