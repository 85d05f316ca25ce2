//! What is not as it should be: releases that are lacking, deletions that wait, changed checksums, what is withheld, and what
//! cannot be used of the upstream's index.

use askama::Template;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use crateferry_store::{Hole, Mask, Report, Sha256};
use serde::Deserialize;

use super::super::answer::Problem;
use super::Sheet;
use super::paging::{Paging, first};
use super::visit::{Frame, Tab, Visit};
use crate::report::grouped;
use crate::words::Moment;

/// Which list, and which page of it.
#[derive(Deserialize)]
pub struct Wish {
    #[serde(default)]
    show: Show,
    #[serde(default = "first")]
    page: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Show {
    #[default]
    Holes,
    Deletions,
    Alarms,
    Reports,
    Quarantine,
}

#[derive(Template)]
#[template(path = "holes.html")]
struct HolesPage {
    frame: Frame,
    tabs: Vec<List>,
    show: &'static str,
    paging: Paging,
    /// How many there are, if the list has only the first of them.
    cut: Option<String>,
    holes: Vec<HoleRow>,
    alarms: Vec<AlarmRow>,
    reports: Vec<Report>,
    masks: Vec<MaskRow>,
}

struct List {
    show: &'static str,
    words: &'static str,
    count: String,
    is_here: bool,
}

struct HoleRow {
    name: String,
    version: String,
    refused: bool,
    reason: String,
    tries: u16,
    first: Moment,
    last: Moment,
}

struct AlarmRow {
    name: String,
    version: String,
    was: Sha256,
    now: Sha256,
    moment: Moment,
}

struct MaskRow {
    name: String,
    /// None if all versions are meant.
    version: Option<String>,
    reason: String,
    since: Moment,
}

/// `/holes?show=&page=`
pub async fn show(visit: Visit, query: Result<Query<Wish>, QueryRejection>) -> Response {
    visit
        .answer(|visit| {
            let Query(wish) = query.map_err(|_| {
                Problem::Bad(
                    "The lists are holes, deletions, alarms, quarantine and reports; a page is a number from 1 on.",
                )
            })?;
            Sheet::of(&page(visit, &wish)?)
        })
        .await
}

fn page(visit: &Visit, wish: &Wish) -> Result<HolesPage, Problem> {
    let summary = visit.summary();
    let gone = if visit.deletions_wait() { &summary.gone[..] } else { &[] };
    let masks = summary.masks.all();
    let lists = [
        (Show::Holes, "holes", "Lacking", summary.holes.len(), summary.tally.holes()),
        (Show::Deletions, "deletions", "Deletions held back", gone.len(), gone.len() as u64),
        (Show::Alarms, "alarms", "Changed checksums", summary.alarms.len(), summary.alarms.len() as u64),
        (Show::Quarantine, "quarantine", "In quarantine", masks.len(), masks.len() as u64),
        (Show::Reports, "reports", "Index reports", summary.reports.len(), summary.reports.len() as u64),
    ];
    let tab =
        |(show, name, words, _, count)| List { show: name, words, count: grouped(count), is_here: show == wish.show };
    let here = lists.iter().find(|list| list.0 == wish.show).expect("every list is there");
    let (_, name, _, listed, all) = *here;
    let paging = Paging::new(wish.page, visit.desk.limits.rows, listed);
    if !paging.is_there() {
        return Err(Problem::Absent);
    }
    let holes = match wish.show {
        Show::Holes => &summary.holes[..],
        Show::Deletions => gone,
        Show::Alarms | Show::Reports | Show::Quarantine => &[],
    };
    let (alarms, reports) = match wish.show {
        Show::Alarms => (&summary.alarms[..], &[][..]),
        Show::Reports => (&[][..], &summary.reports[..]),
        Show::Holes | Show::Deletions | Show::Quarantine => (&[][..], &[][..]),
    };
    let masks = if wish.show == Show::Quarantine { masks } else { &[] };
    Ok(HolesPage {
        frame: visit.frame(Some(Tab::Holes)),
        tabs: lists.map(tab).into(),
        show: name,
        paging,
        cut: (all > listed as u64).then(|| grouped(all)),
        holes: paging.part(holes).iter().map(|hole| row(visit, hole)).collect(),
        alarms: paging.part(alarms).iter().map(|alarm| alarm_row(visit, alarm)).collect(),
        reports: paging.part(reports).to_vec(),
        masks: paging.part(masks).iter().map(|mask| mask_row(visit, mask)).collect(),
    })
}

fn row(visit: &Visit, hole: &Hole) -> HoleRow {
    HoleRow {
        name: hole.name.to_string(),
        version: hole.version.to_string(),
        refused: hole.refused,
        reason: hole.reason.clone(),
        tries: hole.tries,
        first: visit.moment(hole.first),
        last: visit.moment(hole.last),
    }
}

fn mask_row(visit: &Visit, mask: &Mask) -> MaskRow {
    MaskRow {
        name: mask.name.to_string(),
        version: mask.version.as_ref().map(ToString::to_string),
        reason: mask.reason.clone(),
        since: visit.moment(mask.at),
    }
}

fn alarm_row(visit: &Visit, alarm: &crateferry_store::Alarm) -> AlarmRow {
    AlarmRow {
        name: alarm.name.to_string(),
        version: alarm.version.to_string(),
        was: alarm.was,
        now: alarm.now,
        moment: visit.moment(alarm.at),
    }
}
