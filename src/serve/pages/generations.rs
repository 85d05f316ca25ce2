//! What was published when, and what each publication changed.

use askama::Template;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::response::Response;
use crateferry_store::{CrateName, Generation};
use serde::Deserialize;

use super::super::answer::Problem;
use super::Sheet;
use super::visit::{Frame, Tab, Visit};
use crate::report::grouped;
use crate::words::Moment;

/// Which part of all generations.
#[derive(Deserialize)]
pub struct Before {
    before: Option<u64>,
}

/// Which part of the crates that a generation changed.
#[derive(Deserialize)]
pub struct After {
    after: Option<CrateName>,
}

#[derive(Template)]
#[template(path = "generations.html")]
struct ListPage {
    frame: Frame,
    generations: Vec<Entry>,
    is_first: bool,
    older: Option<u64>,
}

#[derive(Template)]
#[template(path = "generation.html")]
struct GenerationPage {
    frame: Frame,
    entry: Entry,
    previous: Option<String>,
    before: Option<u64>,
    changed: Vec<Changed>,
    is_first: bool,
    next: Option<String>,
}

/// One generation, beside the one before it.
struct Entry {
    number: u64,
    epoch: u32,
    moment: Moment,
    digest: String,
    crates: String,
    rows: String,
    /// How many crates and rows more than before, as `+3` or `−1`.
    more: Option<(String, String)>,
}

/// A crate that a generation changed.
struct Changed {
    name: String,
    /// Something of it is served today.
    is_served: bool,
}

/// `/generations?before=`
pub async fn list(visit: Visit, query: Result<Query<Before>, QueryRejection>) -> Response {
    visit
        .answer(|visit| {
            let Query(Before { before }) = query.map_err(|_| Problem::Bad("A generation is a number."))?;
            let rows = visit.desk.limits.rows;
            let catalog = &visit.view.mirror.catalog;
            let mut found = catalog.generations_before(before.unwrap_or(u64::MAX), rows + 1)?;
            let generations =
                (0..found.len().min(rows)).map(|at| entry(visit, &found[at], found.get(at + 1))).collect();
            let is_more = found.len() > rows;
            found.truncate(rows);
            Sheet::of(&ListPage {
                frame: visit.frame(Some(Tab::Generations)),
                generations,
                is_first: before.is_none(),
                older: found.last().filter(|_| is_more).map(|last| last.number),
            })
        })
        .await
}

/// `/generations/NUMBER?after=`
pub async fn show(
    visit: Visit,
    number: Result<Path<u64>, PathRejection>,
    query: Result<Query<After>, QueryRejection>,
) -> Response {
    visit
        .answer(move |visit| {
            let Query(After { after }) = query.map_err(|_| Problem::Bad("The list goes on behind a crate's name."))?;
            let Path(number) = number.map_err(|_| Problem::Absent)?;
            Sheet::of(&page(visit, number, after.as_ref())?)
        })
        .await
}

fn page(visit: &Visit, number: u64, after: Option<&CrateName>) -> Result<GenerationPage, Problem> {
    let catalog = &visit.view.mirror.catalog;
    let generation = catalog.generation(number)?.ok_or(Problem::Absent)?;
    let before = catalog.generations_before(number, 1)?.pop();
    let rows = visit.desk.limits.rows;
    let mut names = catalog.changed_in(number, after, rows + 1)?;
    let is_more = names.len() > rows;
    names.truncate(rows);
    let next = names.last().filter(|_| is_more).map(CrateName::to_string);
    let changed = names
        .into_iter()
        .map(|name| Ok(Changed { is_served: catalog.index_file(&name)?.is_some(), name: name.to_string() }));
    Ok(GenerationPage {
        frame: visit.frame(Some(Tab::Generations)),
        entry: entry(visit, &generation, before.as_ref()),
        previous: generation.previous.map(|digest| digest.to_string()),
        before: before.map(|before| before.number),
        changed: changed.collect::<Result<_, Problem>>()?,
        is_first: after.is_none(),
        next,
    })
}

fn entry(visit: &Visit, generation: &Generation, before: Option<&Generation>) -> Entry {
    let counts = generation.counts;
    let more = before
        .map(|before| (difference(before.counts.crates, counts.crates), difference(before.counts.rows, counts.rows)));
    Entry {
        number: generation.number,
        epoch: generation.epoch,
        moment: visit.moment(generation.published_at),
        digest: generation.digest.to_string(),
        crates: grouped(counts.crates),
        rows: grouped(counts.rows),
        more,
    }
}

fn difference(before: u64, now: u64) -> String {
    match now.cmp(&before) {
        std::cmp::Ordering::Less => format!("\u{2212}{}", grouped(before - now)),
        std::cmp::Ordering::Equal => "\u{b1}0".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", grouped(now - before)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_sign() {
        assert_eq!([difference(1, 1), difference(0, 1234), difference(5, 2)], ["±0", "+1,234", "\u{2212}3"]);
    }
}
