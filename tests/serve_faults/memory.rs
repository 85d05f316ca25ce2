//! What a connection may hold of the server's memory, however much it asks for and however little it takes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crateferry_test_support::{Dep, Release};

use crate::common::{Ferry, Server};
use crate::frames::{Http2, WINDOW_UPDATE};
use crate::wire::{connect_from, get, request};
use crate::{DEMO, Mirrored, tls};

/// What is promised for each connection, one that makes as many requests as it may included.
const SHARE: usize = 256 << 10;

/// As large as windows can be.
const WIDE: (u16, u32) = (4, 0x7fff_ffff);

/// Memory that the server has made, without pages of its program: those come in as code is run for the first time.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Opens connections by `open` and looks at the server's memory until it has hardly grown for a second.
#[track_caller]
fn each_holds<C>(server: &Server, connections: usize, share: usize, open: impl Fn(usize) -> C) {
    // What is made once is not of any connection.
    let _first: Vec<C> = (0..20).map(&open).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = resident(server);
    let held: Vec<C> = (0..connections).map(open).collect();
    let (mut most, mut grown) = (before, Instant::now());
    while grown.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(20));
        let now = resident(server);
        if now > most + (1 << 20) {
            grown = Instant::now();
        }
        most = most.max(now);
    }
    let each = (most - before) / held.len();
    assert!(each <= share, "{each} bytes for each of {connections} connections");
}

fn from(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + (number % 4) as u8))
}

/// Asks for a path so many times on one connection, and takes nothing.
fn ask(server: &Server, number: usize, path: &str, streams: usize) -> Http2 {
    let mut client = Http2::over(connect_from(server, from(number), 4096).unwrap(), &[WIDE]);
    client.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes());
    client.begin_gets(path.as_bytes(), streams);
    client
}

#[test]
fn slow_downloads_hold_a_bounded_share_each_however_many_streams_they_have() {
    crate::places::allow_many_files();
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let path = mirrored.path_of("large");
    for (connections, streams, share) in [(200, 4, SHARE), (50, 32, SHARE)] {
        let server = Server::start(&mirrored.ferry, &[]);
        each_holds(&server, connections, share, |number| ask(&server, number, &path, streams));
    }
    let server = Server::start(&mirrored.ferry, &[]);
    each_holds(&server, 100, SHARE, |number| {
        let mut client = connect_from(&server, from(number), 4096).unwrap();
        client.send(&request("GET", &path, &[]).as_bytes().repeat(20));
        client
    });
}

#[test]
fn slow_downloads_by_tls_hold_a_bounded_share_each() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let authority = tls::Authority::new();
    let server = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let path = mirrored.path_of("large");
    each_holds(&server, 60, SHARE, |number| {
        let stream =
            authority.over(connect_from(&server, from(number), 4096).unwrap().stream, &[b"h2"], rustls::ALL_VERSIONS);
        let mut client = Http2::over(stream, &[WIDE]);
        for _ in 0..10 {
            client.begin_get(path.as_bytes());
        }
        client
    });
}

#[test]
fn first_downloads_of_a_file_hold_a_bounded_share_each() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let server = Server::start(&mirrored.ferry, &[]);
    assert_eq!(get(&server, DEMO, &[]).status, 200);
    let path = mirrored.path_of("large");
    let before = resident(&server);
    let held: Vec<Http2> = (0..200).map(|number| ask(&server, number, &path, 4)).collect();
    let mut most = 0;
    for _ in 0..100 {
        most = most.max(resident(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    let each = (most - before) / held.len();
    assert!(each <= SHARE, "{each} bytes for each connection");
}

#[test]
fn slow_readers_of_unpacked_index_files_hold_a_bounded_share_each() {
    let mirrored = Mirrored::new();
    let deps = (0..5_000).map(|number| Dep::on(&format!("dependency-{number}"), "^1")).collect();
    let release = Release { deps, ..Release::default() };
    mirrored.registry.release_with("wide", "1.0.0", release);
    let ferry = Ferry::sparse(&mirrored.registry);
    ferry.sync(&["--crate", "wide"]).expect(0);
    let path = "/index/wi/de/wide";
    for (connections, streams, share) in [(100, 4, SHARE), (50, 32, SHARE)] {
        let server = Server::start(&ferry, &[]);
        assert!(get(&server, path, &[]).body.len() > 300_000);
        each_holds(&server, connections, share, |number| ask(&server, number, path, streams));
    }
}
