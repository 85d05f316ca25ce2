//! Searching for crates, and all crates one after the other.

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use crateferry_store::CrateName;
use serde::Deserialize;

use super::super::answer::Problem;
use super::super::releases;
use super::Sheet;
use super::paging::{Paging, first};
use super::visit::{Frame, Tab, Visit};
use crate::report::count;
use crate::words;

/// What is asked for.
#[derive(Deserialize)]
pub struct Sought {
    #[serde(default)]
    q: String,
    #[serde(default = "first")]
    page: usize,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    frame: Frame,
    sought: String,
    found: String,
    paging: Paging,
    results: Vec<Found>,
}

/// One crate that fits.
struct Found {
    name: String,
    version: Option<String>,
    day: Option<String>,
    releases: String,
    all_yanked: bool,
    description: Option<String>,
    license: Option<String>,
}

/// `/search?q=&page=`
pub async fn show(visit: Visit, query: Result<Query<Sought>, QueryRejection>) -> Response {
    visit
        .answer(|visit| {
            let Query(sought) = query.map_err(|_| Problem::Bad("A page is a number from 1 on."))?;
            let skip = Paging::new(sought.page, visit.desk.limits.results, 0).skip();
            let (total, names) = visit.view.names.find(&sought.q, skip, visit.desk.limits.results);
            let paging = Paging::new(sought.page, visit.desk.limits.results, total);
            if !paging.is_there() {
                return Err(Problem::Absent);
            }
            let words = sought.q.trim().to_owned();
            Sheet::of(&SearchPage {
                frame: visit.frame(Some(Tab::Crates)).seeking(&words),
                found: count(total as u64, "crate"),
                results: names.iter().map(|name| describe(visit, name)).collect::<Result<_, Problem>>()?,
                sought: words,
                paging,
            })
        })
        .await
}

fn describe(visit: &Visit, name: &CrateName) -> Result<Found, Problem> {
    let releases = releases::read(&visit.view.mirror, name)?.unwrap_or_default();
    let newest = releases.newest();
    let about = visit.view.mirror.catalog.about(name)?.unwrap_or_default();
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Found {
        name: newest.map_or_else(|| name.to_string(), |newest| newest.name.clone()),
        version: newest.map(|newest| newest.version.clone()),
        day: newest.and_then(|newest| newest.pubtime.as_deref()).and_then(words::day).map(str::to_owned),
        releases: count((releases.all.len() + releases.unreadable) as u64, "release"),
        description: known(about.description),
        license: known(about.license),
        all_yanked: newest.is_some_and(releases::IndexRow::is_yanked),
    })
}
