//! Web pages for people: what the mirror holds and lacks, how to use it, and how far a sync is.
//!
//! Each page is made here, whole, from one [`View`](super::view::View); style and script come from this program too, so
//! that nothing is ever asked of another host. A script adds copy buttons and live progress, and nothing is lost
//! without it. Links are relative, so that the pages work wherever a proxy puts them.

mod assets;
mod crate_page;
mod feed;
mod generations;
mod holes;
mod home;
mod paging;
mod plan;
mod progress;
mod search;
mod visit;
mod watch;
mod wishes;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::answer::Problem;
use super::app::App;
use super::limits::PageLimits;
use visit::{Desk, Frame, Visit};

/// The pages, and the answer to whatever is not there.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home::show))
        .route("/search", get(search::show))
        .route("/crates/{crate}", get(crate_page::show))
        .route("/holes", get(holes::show))
        .route("/generations", get(generations::list))
        .route("/generations/{number}", get(generations::show))
        .route("/feed.json", get(feed::json))
        .route("/feed.xml", get(feed::atom))
        .route("/plan", get(plan::show))
        .route("/progress", get(progress::show))
        .route("/progress/events", get(progress::events))
        .route("/wishes", get(wishes::show).post(wishes::take).layer(DefaultBodyLimit::max(wishes::LONGEST_REQUEST)))
        .route("/assets/{version}/{file}", get(assets::send))
        .fallback(absent)
        .layer(Extension(Arc::new(Desk::new(PageLimits::default()))))
}

/// Only what this program sends may be used by a page of it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);

/// Adds what tells browsers to be careful.
fn guarded(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A page that is ready to be sent.
struct Sheet {
    status: StatusCode,
    html: String,
    /// A cache may keep it, if it asks each time whether it still holds.
    kept: bool,
}

impl Sheet {
    fn of(page: &impl Template) -> Result<Sheet, Problem> {
        Ok(Sheet { status: StatusCode::OK, html: page.render()?, kept: true })
    }

    fn with(self, status: StatusCode) -> Sheet {
        Sheet { status, ..self }
    }
}

impl IntoResponse for Sheet {
    fn into_response(self) -> Response {
        let cache = HeaderValue::from_static(if self.kept { "no-cache" } else { "no-store" });
        guarded((self.status, [(CACHE_CONTROL, cache)], Html(self.html)).into_response())
    }
}

/// Says that something is not there, or not in order.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    what: String,
}

impl ProblemPage {
    fn response(frame: Frame, problem: Problem) -> Response {
        let (title, what) = match &problem {
            Problem::Absent => ("Not found", "There is no such page. The address may be mistyped, or out of date."),
            Problem::Bad(why) => ("This cannot be answered", *why),
            Problem::Withheld(why) => ("Not given out", why.as_str()),
            Problem::NotYet => {
                ("Not yet", "The mirror's catalog is being brought in order. Look again in a few seconds.")
            }
            Problem::Broken(_) => (
                "The mirror cannot read what it holds",
                "Its operator's log says why; crateferry verify MIRROR finds what is damaged.",
            ),
        };
        let what = what.to_owned();
        let plain = problem.into_response(); // it also logs what the operator must know
        match Sheet::of(&ProblemPage { frame, title, what }) {
            Ok(sheet) => sheet.with(plain.status()).into_response(),
            Err(_) => plain,
        }
    }
}

/// What is not there: a page for browsers, JSON for all others.
async fn absent(visit: Visit, request: Request) -> Response {
    if prefers_html(request.headers()) {
        ProblemPage::response(visit.frame(None), Problem::Absent)
    } else {
        Problem::Absent.into_response()
    }
}

/// Whether the client names HTML among what it likes best, as browsers do. Who takes anything is taken for a program.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let weight = |wanted: &str| {
        accepted.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_meant = parts.next()?.eq_ignore_ascii_case(wanted);
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            is_meant.then(|| weight.unwrap_or(1.0))
        })
    };
    let (html, json): (Option<f32>, Option<f32>) = (weight("text/html"), weight("application/json"));
    html.is_some_and(|html| html > 0.0 && html >= json.unwrap_or(0.0))
}

const EVENTS: [(axum::http::HeaderName, HeaderValue); 2] = [
    (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_programs_get_json() {
        let prefers = |accept: &str| prefers_html(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json;q=0.5, Text/HTML ; q=0.7",
            "text/html",
        ] {
            assert!(prefers(accept), "{accept}");
        }
        for accept in ["", "*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", "text/*"] {
            assert!(!prefers(accept), "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
