//! How many may come in at once, and that many who dawdle do not hold up those who do not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::common::{Server, wait_until};
use crate::frames::Http2;
use crate::wire::{Client, connect, connect_from, request};
use crate::{DEMO, Mirrored};

/// The machine itself, by another of its names.
fn here(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, number))
}

#[test]
fn an_address_has_so_many_connections_and_takes_none_from_another() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--max-per-address", "3"]);
    let asks = |client: &mut Client| client.ask("GET", DEMO, &[]).status;
    let mut held: Vec<Client> = (0..3).map(|_| connect(&server)).collect();
    assert!(held.iter_mut().all(|client| asks(client) == 200));
    for _ in 0..20 {
        assert!(connect(&server).closed_after() < Duration::from_secs(5));
    }
    assert_eq!(asks(&mut connect_from(&server, here(2), 4096).unwrap()), 200);
    held.pop();
    wait_until("its place is free", || {
        let mut client = connect(&server);
        client.send_all_you_can(request("GET", DEMO, &[]).as_bytes());
        client.answer("GET").is_some_and(|answer| answer.status == 200)
    });
    assert!(held.iter_mut().all(|client| asks(client) == 200));
}

#[test]
fn beyond_all_places_clients_wait_until_one_is_free() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &["--max-connections", "2"]);
    let mut held: Vec<Client> = (0..2).map(|_| connect(&server)).collect();
    assert!(held.iter_mut().all(|client| client.ask("GET", DEMO, &[]).status == 200));
    let mut third = connect(&server);
    third.send(request("GET", DEMO, &[]).as_bytes());
    third.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(std::io::Read::read(&mut third.stream, &mut [0; 1]).is_err(), "it is served beyond the limit");
    third.stream.set_read_timeout(Some(crate::wire::PATIENCE)).unwrap();
    held.pop();
    assert_eq!(third.answer("GET").unwrap().status, 200);
}

const SLOW: usize = 900;
const HONEST: usize = 64;

#[test]
fn sixty_four_clients_keep_at_least_half_their_rate_beside_nine_hundred_that_dawdle() {
    allow_many_files();
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let server = Server::start(&mirrored.ferry, &["--max-per-address", "300"]);
    // Other work on the machine may slow one measurement down, but hardly three times that of the same side.
    let tries = (0..3).map(|_| {
        let before = rate(&server);
        let dawdlers: Vec<Client> = (0..SLOW).map(|number| dawdle(&server, &mirrored, number)).collect();
        let beside = rate(&server);
        assert_eq!(dawdlers.len(), SLOW);
        (before, beside)
    });
    let mut seen = Vec::new();
    for (before, beside) in tries {
        seen.push((before, beside));
        if beside * 2 >= before {
            return;
        }
    }
    panic!("answers in a second alone and beside: {seen:?}");
}

/// Dawdles in one of four ways.
fn dawdle(server: &Server, mirrored: &Mirrored, number: usize) -> Client {
    let address = here(2 + (number % 4) as u8);
    let mut client = connect_from(server, address, 4096).unwrap();
    match number / 4 % 4 {
        0 => {}
        1 => client.send(b"GET / HTTP/1.1\r\nHost: a\r\n"),
        2 => client.send(request("GET", &mirrored.path_of("large"), &[]).as_bytes()),
        _ => {
            let mut client = Http2::over(client, &[(4, 0)]);
            for _ in 0..4 {
                client.begin_get(mirrored.path_of("large").as_bytes());
            }
            return client.client;
        }
    }
    client
}

/// How many answers honest clients get in a second.
fn rate(server: &Server) -> usize {
    const TIME: Duration = Duration::from_secs(2);
    let (count, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begun = thread::scope(|scope| {
        for _ in 0..HONEST {
            scope.spawn(|| {
                let mut client = connect(server);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.ask("GET", DEMO, &[]).status, 200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
        begun
    });
    count.into_inner() * 1000 / begun.elapsed().as_millis() as usize
}

/// Lets this process, and the servers that it starts, have as many files open as they may.
pub fn allow_many_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}
