//! Live progress, as the server sends it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::site::Site;

/// A stream of events.
struct Events {
    stream: TcpStream,
    read: String,
}

impl Events {
    fn open(site: &Site) -> Events {
        let mut stream = TcpStream::connect(site.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let host = site.server.address();
        write!(stream, "GET /progress/events HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n").unwrap();
        Events { stream, read: String::new() }
    }

    /// Reads on until this comes; gives what was read before it.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let mut bytes = [0; 4096];
        while !self.read.contains(text) {
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the stream ended before {text:?} came: {}", self.read);
            self.read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        let (before, behind) = self.read.split_once(text).unwrap();
        let (before, behind) = (before.to_owned(), behind.to_owned());
        self.read = behind;
        before
    }
}

#[test]
fn a_stream_tells_at_once_how_it_is_and_then_what_changes() {
    let site = Site::plain();
    let mut events = Events::open(&site);
    let head = events.wait_for("\r\n\r\n");
    assert!(head.contains("content-type: text/event-stream") && head.contains("cache-control: no-store"), "{head}");
    events.wait_for("event: now\ndata: ");
    events.wait_for("No sync is running");
    site.tell(100);
    events.wait_for("102 of 4,000 releases");
    site.tell(200);
    events.wait_for("202 of 4,000 releases");
    let mut second = Events::open(&site);
    second.wait_for("202 of 4,000 releases");
}

#[test]
fn a_stream_that_has_nothing_to_tell_gives_a_sign_of_life() {
    let site = Site::plain();
    let begun = Instant::now();
    Events::open(&site).wait_for("\n: ");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[cfg(unix)]
#[test]
fn a_server_that_stops_does_not_wait_for_those_who_watch() {
    let site = Site::plain();
    let mut events = Events::open(&site);
    events.wait_for("No sync is running");
    let begun = Instant::now();
    let id = nix::unistd::Pid::from_raw(i32::try_from(site.server.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ran = site.server.into_running().wait();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {}", begun.elapsed(), ran.stderr);
    assert!(!ran.stderr.contains("not all clients were done"), "{}", ran.stderr);
}
