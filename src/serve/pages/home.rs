//! The first page: what this mirror is, how it is, and how cargo is told of it.

use askama::Template;
use axum::response::Response;

use super::super::answer::Problem;
use super::Sheet;
use super::visit::{Frame, Tab, Visit};
use crate::report::{bytes, count, grouped};
use crate::run::RunStatus;
use crate::words::{self, Moment};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    figures: Vec<Figure>,
    published: Option<Publication>,
    notices: Vec<Notice>,
    /// Nothing is wanted that is not there.
    whole: bool,
    server: Option<String>,
    wants_token: bool,
}

/// A number that is worth large letters.
struct Figure {
    name: &'static str,
    value: String,
}

struct Publication {
    number: u64,
    epoch: u32,
    digest: String,
    moment: Moment,
    /// How long ago that was.
    age: String,
}

/// Something that the visitor should know first.
struct Notice {
    kind: &'static str,
    words: String,
    link: &'static str,
    label: &'static str,
}

/// `/`
pub async fn show(visit: Visit) -> Response {
    visit
        .answer(|visit| {
            let home = Home {
                frame: visit.frame(Some(Tab::Home)),
                figures: figures(visit),
                published: publication(visit),
                notices: notices(visit),
                whole: visit.summary().tally.holes() == 0 && visit.summary().tally.pending == 0,
                server: visit.server.clone(),
                wants_token: visit.app.tokens.is_some(),
            };
            let kept = visit.app.public_url.is_fixed();
            Ok::<_, Problem>(Sheet { kept, ..Sheet::of(&home)? })
        })
        .await
}

fn figures(visit: &Visit) -> Vec<Figure> {
    let counts = visit.summary().generation.as_ref().map(|generation| generation.counts).unwrap_or_default();
    let figure = |name, value| Figure { name, value };
    vec![
        figure("crates", grouped(counts.crates)),
        figure("releases", grouped(counts.rows)),
        figure("of crate files", bytes(visit.summary().tally.bytes)),
    ]
}

fn publication(visit: &Visit) -> Option<Publication> {
    visit.summary().generation.as_ref().map(|generation| Publication {
        number: generation.number,
        epoch: generation.epoch,
        digest: generation.digest.to_string(),
        moment: visit.moment(generation.published_at),
        age: words::long(visit.now.saturating_sub(generation.published_at)),
    })
}

fn notices(visit: &Visit) -> Vec<Notice> {
    let summary = visit.summary();
    let of = |number: usize, thing: &str| count(number as u64, thing);
    let notice = |kind, words, link, label| Notice { kind, words, link, label };
    let mut notices = Vec::new();
    if RunStatus::read(&visit.view.mirror.layout).is_some() {
        notices.push(notice("info", "A sync is running.".to_owned(), "progress", "Watch it"));
    }
    if !summary.alarms.is_empty() {
        let words = format!("{} changed its checksum upstream.", of(summary.alarms.len(), "release"));
        notices.push(notice("alarm", words, "holes?show=alarms", "See which"));
    }
    if !summary.masks.all().is_empty() {
        let words = format!("{} in quarantine.", of_these(summary.masks.all().len()));
        notices.push(notice("warning", words, "holes?show=quarantine", "See which"));
    }
    if summary.tally.holes() > 0 {
        let words = format!("{} wanted and lacking.", of_are(summary.tally.holes(), "release"));
        notices.push(notice("warning", words, "holes", "See why"));
    }
    if visit.deletions_wait() {
        let words = format!("{} for the operator\u{2019}s approval.", of_wait(summary.gone.len() as u64, "deletion"));
        notices.push(notice("warning", words, "holes?show=deletions", "See which"));
    }
    if summary.tally.pending > 0 {
        let words = format!("{} not fetched yet.", of_are(summary.tally.pending, "release"));
        notices.push(notice("info", words, "progress", "See progress"));
    }
    if !summary.reports.is_empty() {
        let words =
            format!("{} cannot be used.", of(summary.reports.len(), "part") + " of the upstream\u{2019}s index");
        notices.push(notice("info", words, "holes?show=reports", "See which"));
    }
    notices
}

fn of_are(number: u64, thing: &str) -> String {
    format!("{} {}", count(number, thing), if number == 1 { "is" } else { "are" })
}

fn of_these(masks: usize) -> String {
    if masks == 1 { "1 crate or release is".to_owned() } else { format!("{masks} crates or releases are") }
}

fn of_wait(number: u64, thing: &str) -> String {
    format!("{} {}", count(number, thing), if number == 1 { "waits" } else { "wait" })
}
