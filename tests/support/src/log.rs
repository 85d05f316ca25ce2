//! What was asked, and what was sent.
//!
//! Tests judge a client by the requests that it made, not by how long it took, so every request is kept with
//! its headers, its answer and the connection that it came on. The log is bounded; the counts are not, since
//! they cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How many requests are kept with all their particulars.
const KEPT: usize = 500_000;

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The path as it came, with its escapes and without its query.
    pub path: String,
    /// What stood behind the question mark.
    pub query: Option<String>,
    /// The headers, with lower-case names.
    pub headers: Vec<(String, String)>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// The crate file it asked for, by name and version.
    pub crate_file: Option<(String, String)>,
    /// The status of the answer; nothing if none was given (yet).
    pub status: Option<u16>,
    /// How many bytes of body were handed to the connection.
    pub bytes_sent: u64,
    /// Whether the body was sent to its end.
    pub finished: bool,
}

impl Request {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All requests since the last reset.
#[derive(Default)]
pub(crate) struct Log {
    pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Default)]
struct Pages {
    book: u64,
    requests: Vec<Request>,
    total: usize,
    by_path: HashMap<String, usize>,
    by_crate_file: HashMap<(String, String), usize>,
    crate_files_in_flight: usize,
    most_in_flight: usize,
    connections: u64,
    all_connections: u64,
}

impl Log {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap()
    }

    /// Counts a connection and gives it its number.
    pub(crate) fn connected(&self) -> u64 {
        let mut pages = self.pages();
        pages.connections += 1;
        pages.all_connections += 1;
        pages.all_connections
    }

    /// Writes down a request; the ticket stands for it until its answer is sent.
    pub(crate) fn open(self: &Arc<Self>, request: Request) -> Ticket {
        let mut pages = self.pages();
        pages.total += 1;
        *pages.by_path.entry(request.path.clone()).or_default() += 1;
        let is_crate_file = request.crate_file.is_some();
        if let Some(id) = request.crate_file.clone() {
            *pages.by_crate_file.entry(id).or_default() += 1;
            pages.crate_files_in_flight += 1;
            pages.most_in_flight = pages.most_in_flight.max(pages.crate_files_in_flight);
        }
        let place = (pages.requests.len() < KEPT).then_some(pages.requests.len());
        if place.is_some() {
            pages.requests.push(request);
        }
        self.changed.notify_all();
        Ticket { log: Arc::clone(self), book: pages.book, place, is_crate_file }
    }

    /// Forgets all requests and counts, but not what is in flight.
    pub(crate) fn reset(&self) {
        let mut pages = self.pages();
        let in_flight = pages.crate_files_in_flight;
        *pages = Pages {
            book: pages.book + 1,
            crate_files_in_flight: in_flight,
            most_in_flight: in_flight,
            all_connections: pages.all_connections,
            ..Pages::default()
        };
    }

    pub(crate) fn total(&self) -> usize {
        self.pages().total
    }

    pub(crate) fn for_path(&self, path: &str) -> usize {
        self.pages().by_path.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn for_crate_file(&self, name: &str, version: &str) -> usize {
        self.pages().by_crate_file.get(&(name.to_owned(), version.to_owned())).copied().unwrap_or(0)
    }

    pub(crate) fn for_crate_files(&self) -> usize {
        self.pages().by_crate_file.values().sum()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.pages().requests.clone()
    }

    pub(crate) fn count(&self, matches: impl Fn(&Request) -> bool) -> usize {
        self.pages().requests.iter().filter(|request| matches(request)).count()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.pages().crate_files_in_flight
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.pages().most_in_flight
    }

    pub(crate) fn connections(&self) -> u64 {
        self.pages().connections
    }

    /// Waits until so many requests matched, or too long; whether it was the former.
    pub(crate) fn wait_for(&self, matching: usize, matches: impl Fn(&Request) -> bool, most: Duration) -> bool {
        let end = Instant::now() + most;
        let mut pages = self.pages();
        while pages.requests.iter().filter(|request| matches(request)).count() < matching {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            pages = self.changed.wait_timeout(pages, left).unwrap().0;
        }
        true
    }
}

/// A request whose answer is under way.
pub(crate) struct Ticket {
    log: Arc<Log>,
    book: u64,
    place: Option<usize>,
    is_crate_file: bool,
}

impl Ticket {
    /// Writes down the status of the answer.
    pub(crate) fn answered(&self, status: u16) {
        self.amend(|request| request.status = Some(status));
    }

    /// Writes down that bytes of the body were handed on.
    pub(crate) fn sent(&self, bytes: usize) {
        self.amend(|request| request.bytes_sent += bytes as u64);
    }

    /// Writes down that the body came to its end.
    pub(crate) fn finished(&self) {
        self.amend(|request| request.finished = true);
    }

    fn amend(&self, change: impl FnOnce(&mut Request)) {
        let mut pages = self.log.pages();
        if let (true, Some(place)) = (pages.book == self.book, self.place) {
            change(&mut pages.requests[place]);
        }
        self.log.changed.notify_all();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_crate_file {
            self.log.pages().crate_files_in_flight -= 1;
        }
    }
}
