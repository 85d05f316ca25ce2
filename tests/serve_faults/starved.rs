//! A server with few descriptors.

use std::process::Command;
use std::time::Duration;

use crate::common::{Server, wait_until};
use crate::wire::{Client, connect, get, request};
use crate::{DEMO, DEMO_INDEX, Mirrored};

const FILES: &str = "--nofile=64:64";

/// The processor time that a process has used.
fn used(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').filter_map(|field| field.parse().ok()).collect();
    // utime and stime, in hundredths of a second; the state before them is no number.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

/// Holds more connections than there are descriptors, and lets the server try to cope for two seconds.
fn crowd(server: &Server) -> Vec<Client> {
    let crowd: Vec<Client> = (0..150).map(|_| connect(server)).collect();
    let before = used(server);
    std::thread::sleep(Duration::from_secs(2));
    let spent = used(server).saturating_sub(before);
    assert!(spent < Duration::from_millis(500), "it spins: {spent:?} of processor time in 2 s");
    crowd
}

#[test]
fn with_few_descriptors_from_the_start_it_serves_whom_it_can_and_waits_for_the_others_to_go() {
    let mirrored = Mirrored::new();
    let served = mirrored.ferry.command("serve", &["--listen", "127.0.0.1:0"]);
    let mut command = Command::new("prlimit");
    command.arg(FILES).arg(served.get_program()).args(served.get_args());
    let server = Server::ready(mirrored.ferry.start(command));
    let mut crowd = crowd(&server);
    for client in &mut crowd[..20] {
        assert_eq!(client.ask("GET", DEMO, &[]).status, 200);
        assert_eq!(client.ask("GET", DEMO_INDEX, &[]).status, 200);
    }
    drop(crowd);
    assert_eq!(get(&server, DEMO, &[]).status, 200);
    assert!(!server.log().contains("ERROR") && !server.log().contains("cannot accept"), "{}", server.log());
}

#[test]
fn when_descriptors_run_out_it_says_so_and_goes_on_when_there_are_some_again() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let status = Command::new("prlimit").args(["--pid", &server.id().to_string(), FILES]).status().unwrap();
    assert!(status.success());
    let mut crowd = crowd(&server);
    server.wait_for_log("cannot accept connections for now");
    for client in &mut crowd[..10] {
        client.send_all_you_can(request("GET", DEMO, &[]).as_bytes());
    }
    drop(crowd);
    wait_until("it serves again", || get(&server, DEMO, &[]).status == 200);
    assert!(server.log().matches("cannot accept").count() < 20, "{}", server.log());
}
