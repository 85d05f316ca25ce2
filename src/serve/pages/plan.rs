//! What the last plan came to.

use askama::Template;
use axum::response::Response;

use super::super::answer::Problem;
use super::Sheet;
use super::visit::{Frame, Tab, Visit};
use crate::plan::Planned;
use crate::report::{bytes, grouped};
use crate::words::Moment;

/// How many months are shown.
const MONTHS: usize = 36;

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    frame: Frame,
    moment: Moment,
    lines: Vec<(String, String)>,
    months: Vec<Month>,
    /// The most releases of a month.
    most: u64,
    lacking: Vec<String>,
}

struct Month {
    name: String,
    releases: u64,
    words: String,
    bytes: String,
}

/// `/plan`
pub async fn show(visit: Visit) -> Response {
    let page = |visit: &Visit| {
        let Planned { at, lines, growth, lacking } = Planned::last(&visit.view.mirror.layout).ok_or(Problem::Absent)?;
        let months = growth.into_iter().rev().take(MONTHS);
        let months: Vec<Month> = months
            .map(|(name, (releases, known))| Month {
                name,
                releases,
                words: grouped(releases),
                bytes: if known > 0 { bytes(known) } else { String::new() },
            })
            .collect();
        let most = months.iter().map(|month| month.releases).max().unwrap_or(0);
        Sheet::of(&PlanPage {
            frame: visit.frame(Some(Tab::Progress)),
            moment: visit.moment(at),
            lines,
            months,
            most,
            lacking,
        })
    };
    visit.answer(page).await
}
