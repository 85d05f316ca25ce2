//! What HTTP/2 lets clients do beyond asking: it costs them their connection, and nobody else anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, head,
};
use crate::wire::{connect, get};
use crate::{DEMO, Mirrored};

/// Floods a server until it hangs up, while another client must be served as ever.
#[track_caller]
fn flood_is_ended(arguments: &[&str], mut next: impl FnMut(u32) -> Vec<u8> + Send) {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, arguments);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            flood(&server, &mut next);
            ended.store(true, Ordering::Relaxed);
        });
        let mut served = 0;
        while served < 20 || !ended.load(Ordering::Relaxed) {
            let begun = Instant::now();
            assert_eq!(get(&server, DEMO, &[]).status, 200);
            assert!(begun.elapsed() < Duration::from_secs(10), "another client waits for {:?}", begun.elapsed());
            served += 1;
        }
    });
}

/// Sends what `next` makes, for each number in turn, until the server hangs up.
fn flood(server: &Server, next: &mut impl FnMut(u32) -> Vec<u8>) {
    use std::io::{Read as _, Write as _};
    let Http2 { mut client, .. } = Http2::connect(server);
    let mut reading = client.stream.try_clone().unwrap();
    let reader = thread::spawn(move || while reading.read(&mut [0; 16 << 10]).is_ok_and(|count| count > 0) {});
    let begun = Instant::now();
    for number in 0.. {
        if client.stream.write_all(&next(number)).is_err() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the server lets it go on after {number} pieces");
    }
    reader.join().unwrap();
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn requests_that_are_reset_at_once_end_the_connection() {
    flood_is_ended(&[], |number| {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &head(DEMO.as_bytes(), &[]));
        [request, frame(RST_STREAM, 0, stream(number), &[0, 0, 0, 8])].concat().repeat(1)
    });
}

#[test]
fn requests_that_the_server_has_to_reset_end_the_connection() {
    flood_is_ended(&[], |number| {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &head(DEMO.as_bytes(), &[]));
        [request, frame(WINDOW_UPDATE, 0, stream(number), &[0; 4])].concat()
    });
}

#[test]
fn a_head_without_end_ends_the_connection() {
    flood_is_ended(&[], |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, &head(DEMO.as_bytes(), &[])),
        _ => frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']),
    });
}

#[test]
fn a_head_of_empty_pieces_ends_the_connection() {
    flood_is_ended(&[], |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, &head(DEMO.as_bytes(), &[])),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
}

#[test]
fn pings_without_end_end_the_connection() {
    flood_is_ended(&["--idle-timeout", "2s"], |number| match number {
        0 => frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(DEMO.as_bytes(), &[])),
        _ => frame(PING, 0, 0, &[0; 8]).repeat(10),
    });
}

#[test]
fn settings_without_end_end_the_connection() {
    flood_is_ended(&["--idle-timeout", "2s"], |number| match number {
        0 => frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(DEMO.as_bytes(), &[])),
        _ => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255].repeat(100)),
    });
}

#[test]
fn empty_pieces_of_a_body_end_the_connection() {
    flood_is_ended(&["--idle-timeout", "2s"], |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, &head(b"/nothing", &[])),
        _ => frame(DATA, 0, 1, &[]).repeat(10),
    });
}

#[test]
fn window_updates_without_end_end_the_connection() {
    flood_is_ended(&["--idle-timeout", "2s"], |number| match number {
        0 => frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(DEMO.as_bytes(), &[])),
        1..=3 => frame(SETTINGS, ACK, 0, &[]),
        _ => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    });
}

#[test]
fn a_connection_has_so_many_requests_at_once_and_no_more() {
    let mirrored = Mirrored::with(&[("large", 1 << 20)]);
    let server = Server::start(&mirrored.ferry, &[]);
    let mut client = Http2::over(connect(&server), &[(4, 0)]);
    let settings = client.expect(SETTINGS);
    let most = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("the server says how many");
    assert_eq!(most[2..], [0, 0, 0, 32]);
    let path = mirrored.path_of("large");
    let streams: Vec<u32> = (0..42).map(|_| client.begin_get(path.as_bytes())).collect();
    let (mut begun, mut refused) = (0, 0);
    while begun + refused < streams.len() {
        match client.frame().expect("the connection is open") {
            frame if frame.kind == HEADERS => begun += 1,
            frame if frame.kind == RST_STREAM => refused += 1,
            frame => assert_ne!(frame.kind, GOAWAY, "{frame:?}"),
        }
    }
    assert_eq!((begun, refused), (32, 10));
}
