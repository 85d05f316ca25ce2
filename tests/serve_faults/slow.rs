//! Clients that send or take too little lose their connection; those that are only slow keep it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, PREFACE, SETTINGS, frame, head};
use crate::wire::{Client, PATIENCE, connect, connect_from, request};
use crate::{DEMO, Mirrored, tls};

const SECOND: Duration = Duration::from_secs(1);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The least that the system keeps unread for a client.
const LITTLE: usize = 4 << 10;

/// What a client sends: this at once, then this again and again, twice a second.
struct Drip {
    what: &'static str,
    first: Vec<u8>,
    then: Vec<u8>,
}

fn drip(what: &'static str, first: impl Into<Vec<u8>>, then: impl Into<Vec<u8>>) -> Drip {
    Drip { what, first: first.into(), then: then.into() }
}

/// How long a server lets a client go on so.
fn patience(mut client: Client, drip: &Drip) -> Duration {
    let begun = Instant::now();
    client.send(&drip.first);
    client.stream.set_read_timeout(Some(SECOND / 2)).unwrap();
    while begun.elapsed() < PATIENCE {
        match client.stream.read(&mut [0; 4096]) {
            Ok(0) => return begun.elapsed(),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if client.stream.write_all(&drip.then).is_err() {
                    return begun.elapsed();
                }
            }
            Err(_) => return begun.elapsed(),
        }
    }
    panic!("{}: the connection is still open", drip.what)
}

/// All of them at the same time, each on a connection that `client` makes.
#[track_caller]
fn all_are_ended(drips: &[Drip], between: std::ops::Range<Duration>, client: impl Fn() -> Client + Sync) {
    thread::scope(|scope| {
        let runs: Vec<_> = drips.iter().map(|drip| (drip.what, scope.spawn(|| patience(client(), drip)))).collect();
        for (what, run) in runs {
            let patience = run.join().unwrap();
            assert!(between.contains(&patience), "{what}: {patience:?}");
        }
    });
}

#[test]
fn who_does_not_finish_a_first_request_is_hung_up_on() {
    let mirrored = Mirrored::new();
    let authority = tls::Authority::new();
    let plain = Server::start(&mirrored.ferry, &[]);
    let encrypted = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let spoken = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let drips = [
        drip("silence", "", ""),
        drip("half a word", "GE", ""),
        drip("half a head", "GET / HTTP/1.1\r\nHost: a\r\n", ""),
        drip("a head in drops", "GET / HTTP/1.1\r\nHost: a\r\n", "x: y\r\n"),
        drip("empty lines in drops", "", "\r\n"),
        drip("half a preface", &PREFACE[..16], ""),
        drip("a preface and no more", PREFACE, ""),
        drip("HTTP/2 without a request", spoken.clone(), ""),
        drip("HTTP/2 with pings", spoken.clone(), frame(PING, 0, 0, &[0; 8])),
        drip("HTTP/2 with half a head", [spoken, frame(HEADERS, END_STREAM, 1, &head(b"/", &[]))].concat(), ""),
    ];
    let hellos = [
        drip("silence before TLS", "", ""),
        drip("half a hello", [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], ""),
        drip("a hello in drops", [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], [0]),
    ];
    let about_ten = 8 * SECOND..40 * SECOND;
    thread::scope(|scope| {
        scope.spawn(|| all_are_ended(&hellos, about_ten.clone(), || connect(&encrypted)));
        all_are_ended(&drips, about_ten.clone(), || connect(&plain));
    });
    assert_eq!(crate::wire::get(&plain, DEMO, &[]).status, 200);
}

#[test]
fn an_idle_connection_is_ended_in_its_time_and_one_in_use_is_not() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--idle-timeout", "2s"]);
    let asked = || {
        let mut client = connect(&server);
        assert_eq!(client.ask("GET", DEMO, &[]).status, 200);
        client
    };
    let drips = [
        drip("silence", "", ""),
        drip("half a head", "GET / HT", ""),
        drip("a head in drops", "GET / HTTP/1.1\r\n", "x: y\r\n"),
    ];
    let spoken = || {
        let mut client = Http2::connect(&server);
        assert_eq!(client.get(DEMO.as_bytes()).0, 200);
        client.client
    };
    let frames = [drip("HTTP/2 in silence", "", ""), drip("HTTP/2 with pings", "", frame(PING, 0, 0, &[0; 8]))];
    let soon = SECOND..20 * SECOND;
    thread::scope(|scope| {
        scope.spawn(|| all_are_ended(&drips, soon.clone(), asked));
        scope.spawn(|| all_are_ended(&frames, soon.clone(), spoken));
        let mut client = asked();
        for _ in 0..5 {
            thread::sleep(SECOND);
            assert_eq!(client.ask("GET", DEMO, &[]).status, 200);
        }
        assert!(client.closed_after() < 20 * SECOND);
    });
}

#[test]
fn a_connection_may_lie_idle_for_longer_than_a_first_request_may_take() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let (mut plain, mut http2) = (connect(&server), Http2::connect(&server));
    assert_eq!((plain.ask("GET", DEMO, &[]).status, http2.get(DEMO.as_bytes()).0), (200, 200));
    thread::sleep(12 * SECOND);
    assert_eq!((plain.ask("GET", DEMO, &[]).status, http2.get(DEMO.as_bytes()).0), (200, 200));
}

#[test]
fn who_takes_too_little_of_an_answer_is_cut_off_and_who_is_only_slow_gets_it_whole() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let (path, whole) = (mirrored.path_of("large"), mirrored.bytes_of("large"));
    let authority = tls::Authority::new();
    let arguments = ["--stall-timeout", "2s", "--log-level", "debug"];
    let plain = Server::start(&mirrored.ferry, &arguments);
    let encrypted = [&arguments, authority.serve(&mirrored.ferry).as_slice()].concat();
    let encrypted = Server::start(&mirrored.ferry, &encrypted);

    let ask = || {
        let mut client = connect_from(&plain, HERE, LITTLE).unwrap();
        client.send(request("GET", &path, &[("connection", "close")]).as_bytes());
        client
    };
    let nothing = ask();
    let pinging = ask_http2(&plain, &path, &[(4, 0)]);
    let windows =
        [ask_http2(&plain, &path, &[(4, 0)]), ask_http2(&plain, &path, &[(4, 1)]), ask_http2(&plain, &path, &[])];
    let mut secret = authority.connect(&encrypted);
    secret.send(request("GET", &path, &[]).as_bytes());

    let slow = thread::scope(|scope| {
        let slow = scope.spawn(|| take_slowly(ask(), 8 * SECOND));
        scope.spawn(|| hold_with_pings(pinging));
        crate::common::wait_until("all who take nothing are cut off", || cut_off(&plain) >= 5);
        encrypted.wait_for_log("takes too little");
        slow.join().unwrap()
    });
    assert!(slow == whole, "{} of {} bytes came", slow.len(), whole.len());
    assert_eq!(cut_off(&plain), 5);
    drop((nothing, windows, secret));
}

fn cut_off(server: &Server) -> usize {
    server.log().matches("takes too little").count()
}

fn ask_http2(server: &Server, path: &str, settings: &[(u16, u32)]) -> Http2 {
    let mut client = Http2::over(connect_from(server, HERE, LITTLE).unwrap(), settings);
    client.begin_get(path.as_bytes());
    client
}

/// Takes nothing of what it asked for, and asks for signs of life meanwhile.
fn hold_with_pings(mut client: Http2) {
    let begun = Instant::now();
    client.client.stream.set_read_timeout(Some(SECOND / 10)).unwrap();
    while begun.elapsed() < PATIENCE {
        if client.client.stream.write_all(&frame(PING, 0, 0, &[0; 8])).is_err() {
            return;
        }
        match client.client.stream.read(&mut [0; 4096]) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => thread::sleep(SECOND / 1000),
        }
    }
}

/// Takes about 100 KiB a second for so long, and then the rest.
fn take_slowly(mut client: Client, time: Duration) -> Vec<u8> {
    let begun = Instant::now();
    let mut taken = Vec::new();
    while begun.elapsed() < time {
        taken.extend(client.take(2 << 10));
        thread::sleep(SECOND / 50);
    }
    taken.extend(client.rest());
    let head = taken.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    taken.split_off(head)
}

#[test]
fn a_body_in_drops_holds_nothing_up() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--idle-timeout", "2s"]);
    let with_body = |method| request(method, DEMO, &[("content-length", "1000000")]);
    let drips = [
        drip("GET", with_body("GET"), "x"),
        drip("POST", with_body("POST"), "x"),
        drip(
            "a body that is expected",
            request("PUT", DEMO, &[("content-length", "9"), ("expect", "100-continue")]),
            "x",
        ),
    ];
    all_are_ended(&drips, Duration::ZERO..20 * SECOND, || connect(&server));

    let mut client = Http2::connect(&server);
    let stream = client.next_stream();
    client.send(HEADERS, END_HEADERS, stream, &head(DEMO.as_bytes(), &[]));
    client.send(DATA, 0, stream, b"x");
    assert_eq!(client.answer(stream).0, 200);
    client.expect(GOAWAY);
}
