//! How far a sync is, live.
//!
//! The page as it is now, and the part of it that changes, which goes to all who [watch](super::watch).

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use crateferry_pipeline::clock::{Clock, SystemClock};

use super::super::answer::{Problem, say};
use super::super::body::Share;
use super::super::connection::Unhurried;
use super::super::view::View;
use super::visit::{Frame, Tab, Visit};
use super::{EVENTS, Sheet, guarded};
use crate::plan::Planned;
use crate::report::{bytes, count, grouped};
use crate::run::{RunStatus, StageStatus};
use crate::words::{self, Moment};

#[derive(Template)]
#[template(path = "progress.html")]
struct ProgressPage {
    frame: Frame,
    /// When the last plan was made, if one was.
    planned: Option<Moment>,
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
        let planned = Planned::last(&visit.view.mirror.layout).map(|planned| visit.moment(planned.at));
        Sheet::of(&ProgressPage { frame, planned, now: Now::look(&visit.view, visit.now) })
    };
    visit.answer(make).await
}

/// `/progress/events`: the changing part of the page, each time it has changed.
pub async fn events(visit: Visit, Extension(share): Extension<Share>) -> Response {
    let Some(sent) = visit.desk.watch.stream(&visit.app, event, share.stop().clone()) else {
        let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, "too many watch the progress; try again later");
        answer.headers_mut().insert(RETRY_AFTER, 60.into());
        return answer;
    };
    let mut answer = (EVENTS, [("x-accel-buffering", "no")], Body::new(sent)).into_response();
    answer.extensions_mut().insert(Unhurried);
    guarded(answer)
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
