//! Signals in the middle of a sync: the first drains it, the second ends it, and the same command goes on where it was.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;
mod look;

use std::time::{Duration, Instant};

use common::{Ferry, Ran, Running, wait_until};
use crateferry_test_support::{Fault, Registry};
use look::{HASTY, hasty, served, served_bytes, verify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a stop may take: ten seconds, five times over for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(50);

/// Crates of seven releases each: `c00000` comes, `c00001` is in the middle when the signal is sent.
const ALL: [&str; 3] = ["--crate", "c00000", "c00001"];

fn send(running: &Running, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), signal).unwrap();
}

#[track_caller]
fn stop(mut running: Running, signal: Signal) -> Ran {
    let sent = Instant::now();
    send(&running, signal);
    while !running.has_ended() {
        assert!(sent.elapsed() < PATIENCE, "it goes on: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.wait()
}

/// Writes another setting in the place of a hasty one.
fn patient(ferry: &Ferry, hasty: &str, patient: &str) {
    let path = ferry.file("crateferry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(hasty));
    std::fs::write(path, text.replace(hasty, patient)).unwrap();
}

/// A sync whose `c00000` has come, and of whose `c00001` every crate file is answered like this.
fn in_the_middle(fault: Fault) -> (Registry, Ferry, Running) {
    let registry = Registry::new();
    registry.releases(14).fault_path("/crates/c00001/", fault);
    let ferry = hasty(&registry);
    patient(&ferry, "rate-window = \"500ms\"", "rate-window = \"10m\"");
    let running = ferry.start_sync(&ALL);
    let is_of = |name: &'static str| move |path: &str| path.starts_with(&format!("/crates/{name}/"));
    let (first, second) = (is_of("c00000"), is_of("c00001"));
    registry.wait_for(7, |request| first(&request.path) && request.finished);
    registry.wait_for(7, |request| second(&request.path));
    (registry, ferry, running)
}

/// The signal drains the sync: it ends with this code, publishes what is whole, and what it did not finish is no hole.
/// The same command then fetches the rest and nothing twice.
#[track_caller]
fn drains(signal: Signal, code: i32) {
    let (registry, ferry, running) = in_the_middle(Fault::held());
    let ran = stop(running, signal).expect(code);
    assert!(ran.stderr.contains("stopping"), "{}", ran.stderr);
    assert_eq!(served(&ferry, "c00000"), text(&registry, "c00000"));
    assert_eq!(served_bytes(&ferry, "c00001"), None);
    assert_eq!(ferry.status()["releases"]["held"], 7);
    verify(&ferry);
    expect_to_resume(&registry, &ferry, 7);
}

fn text(registry: &Registry, name: &str) -> String {
    let path = crateferry_test_support::index_path(name);
    String::from_utf8(registry.index_file(&path).unwrap().to_vec()).unwrap()
}

/// Nobody holds anything back any more: the same command fetches so many crate files and is complete.
#[track_caller]
fn expect_to_resume(registry: &Registry, ferry: &Ferry, rest: usize) {
    registry.heal().let_go().reset_counters();
    ferry.sync(&ALL).expect(0);
    assert_eq!(registry.crate_file_requests(), rest);
    for name in ["c00000", "c00001"] {
        assert_eq!(served(ferry, name), text(registry, name));
    }
    verify(ferry);
}

#[test]
fn an_interrupt_drains_a_sync_and_the_same_command_goes_on() {
    drains(Signal::SIGINT, 130);
}

#[test]
fn a_request_to_terminate_drains_a_sync_and_the_same_command_goes_on() {
    drains(Signal::SIGTERM, 143);
}

#[test]
fn a_terminal_that_hangs_up_drains_a_sync_and_the_same_command_goes_on() {
    drains(Signal::SIGHUP, 129);
}

#[test]
fn bodies_that_stand_still_do_not_hold_up_a_stop() {
    let (registry, ferry, running) = in_the_middle(Fault::stall_after(10));
    stop(running, Signal::SIGTERM).expect(143);
    assert_eq!(served(&ferry, "c00000"), text(&registry, "c00000"));
    expect_to_resume(&registry, &ferry, 7);
}

#[test]
fn bodies_that_come_within_the_grace_are_kept() {
    let (registry, ferry, running) = in_the_middle(Fault::trickle(400));
    stop(running, Signal::SIGINT).expect(130);
    assert_eq!(ferry.status()["releases"]["held"], 14);
    expect_to_resume(&registry, &ferry, 0);
}

#[test]
fn a_wait_that_the_server_asked_for_does_not_hold_up_a_stop() {
    let registry = Registry::new();
    registry.releases(14).fault_crate_files(Fault::status(429).retry_after("600"));
    let ferry = hasty(&registry);
    patient(&ferry, "retry-after-cap = \"1s\"", "retry-after-cap = \"10m\"");
    let running = ferry.start_sync(&ALL);
    registry.wait_for(1, |request| request.status == Some(429));
    stop(running, Signal::SIGINT).expect(130);
    expect_to_resume(&registry, &ferry, 14);
}

#[test]
fn a_stop_while_the_index_is_read_is_a_stop_too() {
    let registry = Registry::new();
    registry.releases(14).fault_index_file("c00001", Fault::held());
    let ferry = hasty(&registry);
    let running = ferry.start_sync(&ALL);
    registry.wait_for(1, |request| request.path.ends_with("c00001"));
    stop(running, Signal::SIGTERM).expect(143);
    expect_to_resume(&registry, &ferry, 14);
}

/// A mirror of the registry's git index over HTTPS, which waits longer for an answer than any test does.
fn patient_with_git(registry: &Registry) -> Ferry {
    let ferry = Ferry::of(registry, &registry.git_https_url());
    ferry.init().configure("network", HASTY);
    patient(&ferry, "header-timeout = \"2s\"", "header-timeout = \"10m\"");
    ferry
}

/// The git server accepts the question and never answers: the stop does not wait for it, and the same command goes on.
#[track_caller]
fn silence_does_not_hold_up_a_stop(registry: &Registry, ferry: &Ferry, arguments: &[&str]) {
    registry.reset_counters().fault_path("/git", Fault::held());
    let running = ferry.start_sync(arguments);
    registry.wait_for(1, |request| request.path.starts_with("/git"));
    let ran = stop(running, Signal::SIGTERM).expect(143);
    assert!(ran.stderr.contains("stopping"), "{}", ran.stderr);
    expect_to_resume(registry, ferry, 14);
}

#[test]
fn a_git_server_that_is_silent_while_the_index_is_read_does_not_hold_up_a_stop() {
    let registry = Registry::new();
    registry.releases(14).commit();
    let ferry = patient_with_git(&registry);
    silence_does_not_hold_up_a_stop(&registry, &ferry, &ALL);
}

#[test]
fn a_git_server_that_is_silent_when_asked_where_crate_files_come_from_does_not_hold_up_a_stop() {
    let registry = Registry::new();
    registry.releases(14).commit().fault_crate_files(Fault::status(404));
    let ferry = patient_with_git(&registry);
    ferry.sync(&ALL).expect(1);
    // What is known of the index is taken as it is: the first question is the one for its `config.json`.
    silence_does_not_hold_up_a_stop(&registry, &ferry, &["--offline-index"]);
}

#[test]
fn a_second_signal_ends_a_sync_at_once() {
    let (registry, ferry, mut running) = in_the_middle(Fault::trickle(1));
    send(&running, Signal::SIGINT);
    wait_until("the first signal is heard", || running.stderr().contains("once more stops at once"));
    assert!(!running.has_ended());
    let ran = stop(running, Signal::SIGTERM).expect(143);
    assert_eq!(ran.stdout, "", "it had no time to report");
    registry.heal().let_go().reset_counters();
    ferry.sync(&ALL).expect(0);
    assert!(registry.crate_file_requests() <= 14);
    assert_eq!(served(&ferry, "c00001"), text(&registry, "c00001"));
    verify(&ferry);
}

#[test]
fn a_plan_that_is_interrupted_says_so_and_changes_nothing() {
    let registry = Registry::new();
    registry.releases(14).fault_index_file("c00001", Fault::held());
    let ferry = hasty(&registry);
    let packs = ferry.packs();
    let running = ferry.start(ferry.command("plan", &ALL));
    registry.wait_for(1, |request| request.path.ends_with("c00001"));
    stop(running, Signal::SIGINT).expect(130);
    assert_eq!(ferry.packs(), packs);
}
