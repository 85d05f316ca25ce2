//! How far a sync is, live.
//!
//! While somebody watches, one task looks at what the sync tells of itself, once a second for all who watch; with
//! nobody there it ends. Each stream of events has a bounded life, after which the browser opens the next one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use crateferry_pipeline::clock::{Clock, SystemClock};
use http_body::Frame as BodyFrame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::answer::{Problem, say};
use super::super::app::App;
use super::super::connection::{Stopping, Unhurried};
use super::super::limits::PageLimits;
use super::super::view::View;
use super::visit::{Frame, Tab, Visit};
use super::words::{self, Moment};
use super::{EVENTS, Sheet, guarded};
use crate::report::{bytes, count, grouped};
use crate::run::{RunStatus, StageStatus};

#[derive(Template)]
#[template(path = "progress.html")]
struct ProgressPage {
    frame: Frame,
    now: Now,
}

/// The part of the page that changes each second.
#[derive(Template)]
#[template(path = "progress_now.html")]
struct Event {
    now: Now,
}

/// What is going on.
struct Now {
    run: Option<Run>,
    /// The last run, if none is under way.
    last: Option<Ended>,
    published: Option<(u64, Moment)>,
}

/// A run, in words and numbers.
struct Run {
    phase: String,
    what: &'static str,
    processed: u64,
    total: u64,
    counted: Option<String>,
    figures: Vec<(&'static str, String)>,
    stages: Vec<StageStatus>,
    pid: u32,
    version: String,
}

impl Now {
    /// Reads what the sync tells. Blocks on the disk.
    fn look(view: &View, now: u64) -> Now {
        let generation = view.summary.generation.as_ref();
        let published = generation.map(|last| (last.number, Moment::at(last.published_at, now)));
        match RunStatus::last(&view.mirror.layout) {
            Some(run) if run.phase == "done" || run.phase == "lost" => {
                Now { run: None, last: Some(Ended::new(&run, now)), published }
            }
            run => Now { run: run.map(Run::from), last: None, published },
        }
    }
}

/// A run that is over.
struct Ended {
    moment: Moment,
    /// It ended without a word.
    is_lost: bool,
    stored: String,
    lacking: String,
}

impl Ended {
    fn new(run: &RunStatus, now: u64) -> Ended {
        Ended {
            moment: Moment::at(run.updated_at, now),
            is_lost: run.phase == "lost",
            stored: format!("{} ({})", count(run.ok, "release"), bytes(run.bytes)),
            lacking: grouped(run.errors),
        }
    }
}

impl From<RunStatus> for Run {
    fn from(run: RunStatus) -> Run {
        let what = match run.phase.as_str() {
            "index" => "Comparing the index",
            "fetch" => "Fetching crate files",
            "publish" => "Publishing",
            _ => "A sync is running",
        };
        let thing = if run.phase == "index" { "index files" } else { "releases" };
        let counted = (run.total > 0).then(|| format!("{} of {} {thing}", grouped(run.processed), grouped(run.total)));
        Run {
            what,
            counted,
            figures: figures(&run),
            processed: run.processed,
            total: run.total,
            phase: run.phase,
            stages: run.stages,
            pid: run.pid,
            version: run.version,
        }
    }
}

fn figures(run: &RunStatus) -> Vec<(&'static str, String)> {
    vec![
        ("Stored", grouped(run.ok)),
        ("Not stored", grouped(run.errors)),
        ("Repeated requests", grouped(run.retries)),
        ("Bytes stored", bytes(run.bytes)),
        ("Releases a second", format!("{:.1}", run.rate_per_sec.max(0.0))),
        ("Bytes a second", bytes(run.bytes_per_sec.max(0.0) as u64)),
        ("Running for", words::span(run.uptime_sec)),
        ("Time left", run.left_sec.map_or_else(|| "not known".to_owned(), words::span)),
    ]
}

/// `/progress`
pub async fn show(visit: Visit) -> Response {
    let make = |visit: &Visit| {
        let frame = visit.frame(Some(Tab::Progress));
        Sheet::of(&ProgressPage { frame, now: Now::look(&visit.view, visit.now) })
    };
    visit.answer(make).await
}

/// `/progress/events`: the changing part of the page, each time it has changed.
pub async fn events(visit: Visit, Extension(Stopping(stop)): Extension<Stopping>) -> Response {
    let desk = &visit.desk;
    let Ok(seat) = desk.watch.seats.clone().try_acquire_owned() else {
        let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, "too many watch the progress; try again later");
        answer.headers_mut().insert(RETRY_AFTER, 60.into());
        return answer;
    };
    let (out, body) = mpsc::channel(1);
    let stream =
        Stream { news: Watch::join(&desk.watch, &visit.app), out, stop, limits: desk.limits.clone(), _seat: seat };
    tokio::spawn(stream.run());
    let mut answer = (EVENTS, [("x-accel-buffering", "no")], Body::new(Sent(body))).into_response();
    answer.extensions_mut().insert(Unhurried);
    guarded(answer)
}

/// What is to be told to all who watch; none before the first look.
type News = Option<Bytes>;

/// Looks at the sync for all who watch it.
pub struct Watch {
    news: watch::Sender<News>,
    is_looking: Mutex<bool>,
    every: Duration,
    seats: Arc<Semaphore>,
}

impl Watch {
    /// Nobody watches yet.
    pub fn new(limits: &PageLimits) -> Arc<Watch> {
        Arc::new(Watch {
            news: watch::Sender::new(None),
            is_looking: Mutex::new(false),
            every: limits.look,
            seats: Arc::new(Semaphore::new(limits.streams)),
        })
    }

    /// Watches too; the first who does so sets the looking going.
    fn join(this: &Arc<Watch>, app: &Arc<App>) -> watch::Receiver<News> {
        let mut is_looking = this.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_looking {
            *is_looking = true;
            this.news.send_replace(None);
            tokio::spawn(Self::look_on(this.clone(), app.clone()));
        }
        this.news.subscribe()
    }

    async fn look_on(this: Arc<Watch>, app: Arc<App>) {
        while this.is_watched() {
            let view = app.views.now().clone();
            match tokio::task::spawn_blocking(move || event(&view)).await.map_err(Problem::from).flatten() {
                Ok(event) => {
                    this.news.send_if_modified(|news| news.replace(event.clone()).is_none_or(|before| before != event));
                }
                Err(problem) => drop(problem.into_response()), // logs it
            }
            tokio::time::sleep(this.every).await;
        }
    }

    /// Whether anybody watches; if not, nobody looks from now on.
    fn is_watched(&self) -> bool {
        let mut is_looking = self.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        *is_looking = self.news.receiver_count() > 0;
        *is_looking
    }
}

/// The event that shows what is going on. Blocks on the disk.
fn event(view: &View) -> Result<Bytes, Problem> {
    let html = Event { now: Now::look(view, SystemClock.now()) }.render()?;
    let mut event = String::from("event: now\n");
    for line in html.lines() {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    Ok(event.into())
}

/// One who watches.
struct Stream {
    news: watch::Receiver<News>,
    out: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    limits: PageLimits,
    _seat: OwnedSemaphorePermit,
}

impl Stream {
    /// Passes news on until the time is up, the client is gone, or the server stops.
    async fn run(mut self) {
        let (out, stop, life) = (self.out.clone(), self.stop.clone(), self.limits.stream);
        tokio::select! {
            () = self.pass_on() => {}
            () = out.closed() => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(life) => {}
        }
    }

    async fn pass_on(&mut self) {
        let mut next = self.news.borrow_and_update().clone();
        loop {
            if let Some(event) = next.take()
                && self.out.send(event).await.is_err()
            {
                return;
            }
            next = match tokio::time::timeout(self.limits.sign_of_life, self.news.changed()).await {
                Ok(Ok(())) => self.news.borrow_and_update().clone(),
                Ok(Err(_)) => return,
                Err(_) => Some(Bytes::from_static(b": nothing new\n\n")),
            };
        }
    }
}

/// What goes out of a stream.
struct Sent(mpsc::Receiver<Bytes>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(BodyFrame::data(event))))
    }
}
