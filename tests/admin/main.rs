//! The admin address of a server and of a sync: numbers, status, readiness, profiles, and who may see them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod dashboard;
mod exposition;
mod http;
mod numbers;
#[cfg(unix)]
mod process;
mod progress;
mod promql;

use crateferry_test_support::{Fault, Registry};

use crate::common::{Ferry, Running, Server, wait_until};
use crate::exposition::Exposition;
use crate::http::{Reply, get};

/// A mirror of two crates of seven releases each, published.
fn mirrored() -> (Registry, Ferry) {
    let registry = Registry::new();
    registry.releases(14);
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&ALL).expect(0);
    (registry, ferry)
}

const ALL: [&str; 3] = ["--crate", "c00000", "c00001"];

/// Where a process says its admin address is.
fn admin_of(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("metrics and status are on http://")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

/// A server and its admin address.
fn serve(ferry: &Ferry) -> (Server, String) {
    let server = Server::start(ferry, &["--admin", "0"]);
    let admin = admin_of(&server.log()).unwrap();
    (server, admin)
}

/// A sync whose crate files of `c00001` the registry holds back, and its admin address. Those of `c00000` have come.
fn held_up_sync() -> (Registry, Ferry, Running, String) {
    let registry = Registry::new();
    registry.releases(14);
    for (name, version) in registry.release_ids() {
        if name == "c00001" {
            registry.fault(&name, &version, Fault::held());
        }
    }
    let ferry = Ferry::sparse(&registry);
    let running = ferry.start_sync(&["--crate", "c00000", "c00001", "--admin", "0"]);
    wait_until("the sync has an admin address", || admin_of(&running.stderr()).is_some());
    let admin = admin_of(&running.stderr()).unwrap();
    wait_until("seven releases are stored", || status(&admin)["run"]["ok"] == 7);
    (registry, ferry, running, admin)
}

fn status(admin: &str) -> serde_json::Value {
    let reply = get(admin, "/api/status");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_slice(&reply.body).unwrap()
}

#[track_caller]
fn metrics(admin: &str) -> Exposition {
    let reply: Reply = get(admin, "/metrics");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let kind = reply.header("content-type");
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    Exposition::parse(&reply.text())
}
