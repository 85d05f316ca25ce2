//! What a server counts while it serves.
//!
//! Every number is an atomic at a place that is known beforehand: nothing is looked up, formatted, locked or allocated
//! for a request. Clients choose paths, so requests are counted by a fixed set of [routes](Route), never by path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A file of the sparse index.
    Index,
    /// A crate file.
    Crate,
    /// `config.json`.
    Config,
    /// The search API.
    Search,
    /// A page for people.
    Page,
    /// What pages are made of: styles, scripts, pictures.
    Asset,
    /// A stream of events.
    Progress,
    /// Anything else.
    Other,
}

impl Route {
    /// All of them, each at its own number.
    pub const ALL: [Route; 8] = [
        Route::Index,
        Route::Crate,
        Route::Config,
        Route::Search,
        Route::Page,
        Route::Asset,
        Route::Progress,
        Route::Other,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Route::Index => "index",
            Route::Crate => "crate",
            Route::Config => "config",
            Route::Search => "search",
            Route::Page => "page",
            Route::Asset => "asset",
            Route::Progress => "progress",
            Route::Other => "other",
        }
    }

    /// As far as a path tells.
    fn of_path(path: &str) -> Route {
        if let Some(file) = path.strip_prefix("/index/") {
            return if file == "config.json" { Route::Config } else { Route::Index };
        }
        if let Some(rest) = path.strip_prefix("/crates/") {
            return if rest.contains('/') { Route::Crate } else { Route::Page };
        }
        if let Some(rest) = path.strip_prefix("/api/v1/crates") {
            return if rest.is_empty() { Route::Search } else { Route::Crate };
        }
        match path {
            "/" | "/search" | "/holes" | "/generations" | "/progress" | "/feed.json" | "/feed.xml" => Route::Page,
            "/progress/events" => Route::Progress,
            _ if path.starts_with("/generations/") => Route::Page,
            _ if path.starts_with("/assets/") => Route::Asset,
            _ => Route::Other,
        }
    }

    /// As far as the kind of an answer tells.
    fn of_content(kind: Option<&HeaderValue>) -> Route {
        let kind = kind.map_or(&[][..], HeaderValue::as_bytes);
        let is = |prefix: &str| kind.starts_with(prefix.as_bytes());
        match () {
            () if is("text/html") => Route::Page,
            () if is("text/event-stream") => Route::Progress,
            () if is("text/css") || is("text/javascript") || is("image/") || is("font/") => Route::Asset,
            () => Route::Other,
        }
    }
}

/// How a request ended.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What one server counts.
#[derive(Debug, Default)]
pub struct Meter {
    routes: [RouteMeter; Route::ALL.len()],
    /// Requests whose answers have not gone out whole.
    pub in_hand: AtomicU64,
    /// Connections that are there.
    pub open: AtomicU64,
    /// Connections that were taken.
    pub accepted: AtomicU64,
    /// Connections that were closed at once, because their address had enough of them.
    pub refused: AtomicU64,
    /// Connections that were ended because their client did not do its part.
    pub cut: AtomicU64,
    /// Connections that ended before they spoke TLS.
    pub handshake_failures: AtomicU64,
}

impl Meter {
    /// The counts of a route.
    pub fn route(&self, route: Route) -> &RouteMeter {
        &self.routes[route as usize]
    }

    /// A connection was taken; it counts as open until the guard goes.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.accepted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Connected(self.clone())
    }

    /// A request came for this path; it is counted when the guard goes.
    pub fn begin(self: &Arc<Self>, path: &str) -> Measured {
        self.in_hand.fetch_add(1, Relaxed);
        Measured { meter: self.clone(), route: Route::of_path(path), class: 0, begun: Instant::now() }
    }
}

/// What is counted of one route. Routes do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteMeter {
    /// Requests, in the order of [`STATUS_CLASSES`].
    pub requests: [AtomicU64; STATUS_CLASSES.len()],
    /// Bytes of bodies that went out.
    pub sent: AtomicU64,
    /// How long requests took, from their head to the last byte of the answer.
    pub took: Durations,
}

/// A count of durations in a few buckets.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; Durations::BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    /// The buckets' upper bounds in seconds; the last bucket has none.
    pub const BOUNDS: [f64; 8] = [0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

    /// Counts one.
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(Self::BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// All of them together, in seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64()
    }

    /// Upper bound of each bucket, and how many it has.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|count| count.load(Relaxed))).collect()
    }
}

/// A connection, for as long as it is open.
#[derive(Debug)]
pub struct Connected(Arc<Meter>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A request, until its answer has gone out or was given up.
#[derive(Debug)]
pub struct Measured {
    meter: Arc<Meter>,
    route: Route,
    class: usize,
    begun: Instant,
}

impl Measured {
    /// There is an answer, whose body is yet to go out.
    pub fn answered<B>(&mut self, answer: &Response<B>) {
        self.class = usize::from(answer.status().as_u16() / 100).min(STATUS_CLASSES.len() - 1);
        if self.route == Route::Other {
            self.route = Route::of_content(answer.headers().get(CONTENT_TYPE));
        }
    }

    /// So many bytes of the body went out.
    pub fn sent(&self, bytes: u64) {
        self.meter.route(self.route).sent.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let route = self.meter.route(self.route);
        route.requests[self.class].fetch_add(1, Relaxed);
        route.took.add(self.begun.elapsed());
        self.meter.in_hand.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_one_of_a_few_routes() {
        for (path, route) in [
            ("/index/config.json", Route::Config),
            ("/index/se/rd/serde", Route::Index),
            ("/index/../../x", Route::Index),
            ("/crates/serde/serde-1.0.0.crate", Route::Crate),
            ("/crates/serde/1.0.0/00ff", Route::Crate),
            ("/api/v1/crates", Route::Search),
            ("/api/v1/crates/serde/1.0.0/download", Route::Crate),
            ("/crates/serde", Route::Page),
            ("/", Route::Page),
            ("/generations/7", Route::Page),
            ("/feed.xml", Route::Page),
            ("/progress/events", Route::Progress),
            ("/assets/1/style.css", Route::Asset),
            ("/random/7/path", Route::Other),
        ] {
            assert_eq!(Route::of_path(path), route, "{path}");
        }
        for (number, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, number);
        }
    }

    #[test]
    fn a_page_at_any_other_path_is_known_by_its_answer() {
        let meter = Arc::new(Meter::default());
        let mut request = meter.begin("/any/page");
        let answer = Response::builder().status(404).header(CONTENT_TYPE, "text/html; charset=utf-8");
        request.answered(&answer.body(()).unwrap());
        request.sent(7);
        assert_eq!(meter.in_hand.load(Relaxed), 1);
        drop(request);
        let page = meter.route(Route::Page);
        assert_eq!(page.requests.each_ref().map(|count| count.load(Relaxed)), [0, 0, 0, 0, 1, 0]);
        assert_eq!((page.sent.load(Relaxed), meter.in_hand.load(Relaxed)), (7, 0));
        assert_eq!(page.took.buckets().iter().map(|(_, count)| count).sum::<u64>(), 1);
    }

    #[test]
    fn a_request_that_is_given_up_before_its_answer_counts_too() {
        let meter = Arc::new(Meter::default());
        drop(meter.begin("/index/3/a/abc"));
        assert_eq!(meter.route(Route::Index).requests[0].load(Relaxed), 1);
    }

    #[test]
    fn durations_fall_into_the_first_bucket_that_is_large_enough() {
        let durations = Durations::default();
        for millis in [0, 2, 3, 60_000] {
            durations.add(Duration::from_millis(millis));
        }
        let counts: Vec<u64> = durations.buckets().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1, 0, 0, 0, 0, 0, 1]);
        assert!((durations.sum() - 60.005).abs() < 1e-9);
    }
}
