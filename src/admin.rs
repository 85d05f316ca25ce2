//! The admin address: metrics, status, health and profiles, for those who run this process.
//!
//! It is a listener of its own, so that what it shows is never served to cargo's users by accident, and so that it still
//! answers when their connections are all taken. It listens on the loopback interface unless it is told otherwise; there
//! it answers only to the machine's own name, since any web page could otherwise lead a browser to it. It has no
//! password: who makes it listen elsewhere decides who reaches it. Nothing can be changed here.

mod host;
mod profile;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_store::Layout;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cli::AdminAddress;
use crate::config::Config;
use crate::holdings::Holdings;
use crate::metrics::{self, Metrics};
use crate::run::{Run, RunStatus};
use crate::serve::{Listener, ServeLimits};
use crate::status::Status;

/// What the admin address shows.
pub struct Desk {
    /// The mirror, as of its last publication.
    pub holdings: Holdings,
    /// The mirror's configuration.
    pub config: Config,
    /// All numbers.
    pub metrics: Metrics,
    /// The sync whose progress is shown.
    pub run: Shown,
    /// Whether this process does its work.
    pub readiness: Readiness,
}

/// Where a run is seen.
pub enum Shown {
    /// In this process.
    Own(Arc<Run>),
    /// In another one, if it says something.
    Told(Layout),
}

impl Shown {
    fn status(&self) -> Option<RunStatus> {
        match self {
            Shown::Own(run) => Some(run.status()),
            Shown::Told(layout) => RunStatus::last(layout),
        }
    }
}

/// Whether work should be sent to this process.
#[derive(Clone, Debug)]
pub struct Readiness {
    why_not: Arc<Mutex<Option<&'static str>>>,
    stop: CancellationToken,
}

impl Readiness {
    /// Not yet; and no more once the signal to stop is given.
    pub fn until(stop: &CancellationToken) -> Readiness {
        Readiness { why_not: Arc::new(Mutex::new(Some("starting"))), stop: stop.clone() }
    }

    /// Not until it begins, for this reason.
    pub fn wait(&self, why_not: &'static str) {
        self.set(Some(why_not));
    }

    /// From now on.
    pub fn begin(&self) {
        self.set(None);
    }

    fn set(&self, why_not: Option<&'static str>) {
        *self.why_not.lock().unwrap_or_else(PoisonError::into_inner) = why_not;
    }

    fn why_not(&self) -> Option<&'static str> {
        if self.stop.is_cancelled() {
            return Some("stopping: what is under way is finished");
        }
        *self.why_not.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running admin listener; it ends when this goes.
pub struct Admin {
    _stop: DropGuard,
}

impl Admin {
    /// Begins to listen, if there is an address.
    pub async fn open(
        address: Option<&AdminAddress>,
        desk: impl FnOnce() -> anyhow::Result<Desk>,
    ) -> anyhow::Result<Option<Admin>> {
        let Some(address) = address else { return Ok(None) };
        let cannot = || format!("cannot listen on the admin address {address}");
        let tcp = TcpListener::bind(address.to_bind()).await.with_context(cannot)?;
        let bound = tcp.local_addr().with_context(cannot)?;
        let is_local = bound.ip().to_canonical().is_loopback();
        tracing::info!("metrics and status are on http://{bound}");
        if !is_local {
            tracing::warn!(
                "the admin address is no loopback address: whoever reaches it can read metrics and profiles"
            );
        }
        let stop = CancellationToken::new();
        let listener = Listener {
            tcp,
            certificates: None,
            site: Arc::new(router(Arc::new(desk()?), is_local).into()),
            limits: limits(),
            meter: Arc::default(),
            stop: stop.clone(),
        };
        tokio::spawn(listener.serve());
        Ok(Some(Admin { _stop: stop.drop_guard() }))
    }
}

/// Few clients, which may wait as long as a profile takes.
fn limits() -> ServeLimits {
    let defaults = ServeLimits::default();
    let stall = profile::LONGEST * 3;
    ServeLimits { connections: 64, connections_per_address: 32, stall, streams: 16, ..defaults }
}

/// Shared by all requests.
struct Open {
    desk: Desk,
    /// One profile at a time: the system has one timer for them.
    profiling: Arc<Semaphore>,
}

const LIST: &str = "\
crateferry's admin address

/metrics                          numbers for Prometheus and its relatives
/api/status                       what the mirror holds and lacks, and how far a sync is
/healthz                          200 as long as the process lives
/readyz                           200 while it does its work, else 503 and why
/debug/pprof/profile?seconds=30   a CPU profile for `go tool pprof` and speedscope
";

fn router(desk: Arc<Desk>, is_local: bool) -> Router {
    let desk = Arc::into_inner(desk).expect("nobody else has it");
    let open = Arc::new(Open { desk, profiling: Arc::new(Semaphore::new(1)) });
    let routes = Router::new()
        .route("/", get(async || say(StatusCode::OK, LIST)))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/healthz", get(async || say(StatusCode::OK, "alive\n")))
        .route("/readyz", get(ready))
        .route("/debug/pprof/profile", get(cpu_profile))
        .route("/debug/pprof/heap", get(heap_profile))
        .fallback(async || say(StatusCode::NOT_FOUND, "not here; / lists what is\n"))
        .with_state(open);
    if is_local { routes.layer(middleware::from_fn(host::require_own)) } else { routes }
}

/// A text, which no cache keeps.
fn say(status: StatusCode, text: impl Into<String>) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, text.into()).into_response()
}

/// Something that takes a look at the disk.
async fn looked_up(
    open: Arc<Open>,
    kind: &'static str,
    look: impl FnOnce(&Desk) -> anyhow::Result<String> + Send + 'static,
) -> Response {
    let looked = tokio::task::spawn_blocking(move || look(&open.desk)).await;
    match looked.map_err(anyhow::Error::from).flatten() {
        Ok(text) => ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response(),
        Err(error) => {
            tracing::error!("an admin request failed: {error:#}");
            say(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))
        }
    }
}

async fn metrics(State(open): State<Arc<Open>>) -> Response {
    looked_up(open, metrics::CONTENT_TYPE, |desk| Ok(desk.metrics.text()?)).await
}

async fn status(State(open): State<Arc<Open>>) -> Response {
    looked_up(open, "application/json", |desk| {
        let status = Status::new((*(desk.holdings)()?).clone(), &desk.config, SystemClock.now());
        let mut status = serde_json::to_value(&status)?;
        status["run"] = serde_json::to_value(desk.run.status())?;
        Ok(status.to_string())
    })
    .await
}

async fn ready(State(open): State<Arc<Open>>) -> Response {
    match open.desk.readiness.why_not() {
        None => say(StatusCode::OK, "ready\n"),
        Some(why) => say(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[derive(Deserialize)]
struct Asked {
    seconds: Option<u64>,
}

async fn cpu_profile(
    State(open): State<Arc<Open>>,
    method: Method,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Some(time) = asked.ok().and_then(|asked| profile::time(asked.seconds)) else {
        return say(StatusCode::BAD_REQUEST, "seconds goes from 1 to 60\n");
    };
    let headers =
        [(CONTENT_TYPE, "application/octet-stream"), (CONTENT_DISPOSITION, "attachment; filename=\"cpu.pb.gz\"")];
    if method == Method::HEAD {
        return headers.into_response();
    }
    let Ok(alone) = open.profiling.clone().try_acquire_owned() else {
        return say(StatusCode::CONFLICT, "a profile is being taken; only one is at a time\n");
    };
    match profile::cpu(time, alone).await {
        Ok(profile) => (headers, profile).into_response(),
        Err(problem) => say(problem.status(), format!("{problem}\n")),
    }
}

async fn heap_profile() -> Response {
    say(
        StatusCode::NOT_IMPLEMENTED,
        "no heap profiles: the allocator does not sample; see process_resident_memory_bytes\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_from_its_beginning_to_the_signal_to_stop() {
        let stop = CancellationToken::new();
        let readiness = Readiness::until(&stop);
        assert_eq!(readiness.why_not(), Some("starting"));
        readiness.begin();
        assert_eq!(readiness.why_not(), None);
        stop.cancel();
        assert!(readiness.why_not().unwrap().starts_with("stopping"));
    }
}
