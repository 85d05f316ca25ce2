//! One process that serves a mirror and keeps it up to date.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Ferry, Ran, Server, wait_until};
use crateferry_test_support::{Fault, Registry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The whole answer to a request.
fn get(server: &Server, path: &str) -> String {
    get_from(server.address(), path)
}

fn get_from(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn stop(server: Server) -> (Ran, Duration) {
    let begun = Instant::now();
    kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGTERM).unwrap();
    (server.into_running().wait(), begun.elapsed())
}

fn mirror_of(registry: &Registry) -> Ferry {
    registry.release("alpha", "1.0.0");
    let ferry = Ferry::sparse(registry);
    ferry.sync(&["--crate", "alpha"]).expect(0);
    ferry
}

#[test]
fn a_server_that_syncs_serves_what_the_upstream_publishes_later() {
    let registry = Registry::new();
    let ferry = mirror_of(&registry);
    let server = Server::start(&ferry, &["--sync-every", "200ms"]);
    registry.release("alpha", "1.1.0");
    wait_until("the new release is served", || get(&server, "/index/al/ph/alpha").contains("\"1.1.0\""));
    assert!(get(&server, "/crates/alpha/alpha-1.1.0.crate").starts_with("HTTP/1.1 200"));
    stop(server).0.expect(0);
}

#[test]
fn the_metrics_of_a_server_that_syncs_tell_of_its_syncs_too() {
    let registry = Registry::new();
    let ferry = mirror_of(&registry);
    registry.release("alpha", "1.1.0");
    let server = Server::start(&ferry, &["--sync-every", "1h", "--admin", "127.0.0.1:0"]);
    let log = server.log();
    let admin = log.split("metrics and status are on http://").nth(1).unwrap().split_whitespace().next().unwrap();
    wait_until("the sync is counted", || {
        get_from(admin, "/metrics").contains("crateferry_sync_releases_total{outcome=\"stored\"} 1\n")
    });
}

#[test]
fn a_sync_that_fails_ends_neither_the_server_nor_the_syncs_after_it() {
    let registry = Registry::new();
    let ferry = mirror_of(&registry);
    registry.release("alpha", "1.1.0");
    let config = ferry.file("crateferry.toml");
    let right = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, right.replace("sparse+https://", "sparse+https://nowhere.invalid/")).unwrap();
    let server = Server::start(&ferry, &["--sync-every", "200ms"]);
    server.wait_for_log("the sync failed");
    assert!(get(&server, "/index/al/ph/alpha").contains("\"1.0.0\""), "what is held is served");
    std::fs::write(&config, right).unwrap();
    wait_until("a later sync succeeds", || get(&server, "/index/al/ph/alpha").contains("\"1.1.0\""));
    stop(server).0.expect(0);
}

#[test]
fn a_server_steps_back_while_another_process_writes_the_mirror() {
    let registry = Registry::new();
    let ferry = mirror_of(&registry);
    registry.release("alpha", "1.1.0").fault("alpha", "1.1.0", Fault::stall_after(10));
    let other = ferry.start_sync(&[]);
    wait_until("the other sync is at work", || registry.requests_for("alpha", "1.1.0") > 0);
    let server = Server::start(&ferry, &["--sync-every", "200ms"]);
    server.wait_for_log("locked");
    drop(other.kill());
    registry.heal();
    registry.release("alpha", "1.2.0");
    wait_until("its own sync goes on", || get(&server, "/index/al/ph/alpha").contains("\"1.2.0\""));
}

#[test]
fn a_server_that_is_stopped_in_the_middle_of_a_sync_ends_in_time() {
    let registry = Registry::new();
    let ferry = mirror_of(&registry);
    registry.release("alpha", "1.1.0").fault("alpha", "1.1.0", Fault::stall_after(10));
    let server = Server::start(&ferry, &["--sync-every", "1h"]);
    wait_until("the sync is at work", || registry.requests_for("alpha", "1.1.0") > 0);
    let (ran, took) = stop(server);
    ran.expect(0);
    assert!(took < Duration::from_secs(50), "ten seconds are promised, it took {took:?}");
}
