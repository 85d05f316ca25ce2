//! `crateferry withdraw`: tombstones by an operator's word, for malware above all.

use std::fmt;

use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{
    Batch, Cause, CrateName, Event, Generation, LedgerReader, Mirror, Release, ReleaseId, Row, Sha256, Shrink, State,
    Version, publish, wait,
};
use serde::Serialize;

use super::quarantine::{Named, reason};
use crate::cli::WithdrawArgs;
use crate::report::{self, Exit, count, usage};
use crate::selection::parse_crate_or_release;
use crate::session;

pub fn run(args: &WithdrawArgs) -> anyhow::Result<Exit> {
    let Some(what) = &args.what else {
        let (mirror, _) = session::open(&args.mirror)?;
        report::print(args.json, &list(&mirror.ledger().reader()?)?)?;
        return Ok(Exit::Complete);
    };
    let (name, version) = parse_crate_or_release(what)?;
    if args.reason.is_none() && !args.undo {
        return Err(usage("say why with --reason TEXT, or take a withdrawal back with --undo"));
    }
    let reason = args.reason.as_deref().map(reason).transpose()?;
    let (mirror, _) = session::open_origin(&args.mirror)?;
    let releases = releases(&mirror.ledger().reader()?, &name.lower(), version.as_ref(), args.undo)?;
    let changed = change(&mirror, releases, reason.as_deref())?;
    report::print(args.json, &changed)?;
    Ok(Exit::Complete)
}

/// The releases that are to change; an error if there are none.
fn releases(
    ledger: &LedgerReader,
    name: &CrateName,
    version: Option<&Version>,
    undo: bool,
) -> anyhow::Result<Vec<Release>> {
    let mut known = ledger.releases_of(name)?;
    known.retain(|(release, row)| {
        version.is_none_or(|version| release.id.version == *version) && (!undo || is_ours(row))
    });
    if known.is_empty() {
        let shown = Named(name, version);
        return Err(usage(if undo {
            format!("nobody withdrew {shown} here: `crateferry withdraw` lists what is withdrawn")
        } else {
            format!(
                "this mirror knows no release of {shown}, so there is nothing to withdraw; the setting `deny` of the section \
                 [policy] keeps out what is not here yet"
            )
        }));
    }
    Ok(known.into_iter().map(|(release, _)| release).collect())
}

/// Withdraws releases for a reason, or takes that back, and publishes.
fn change(mirror: &Mirror, releases: Vec<Release>, reason: Option<&str>) -> anyhow::Result<Changed> {
    let (writer, now) = (mirror.writer()?, SystemClock.now());
    let ids = releases.iter().map(|release| release.id.clone()).collect();
    let is_withdrawn = reason.is_some();
    let mut batch = Batch::default();
    for release in releases {
        let release = release.into();
        batch.add(match reason {
            Some(reason) => {
                let cause = Cause { because: reason.to_owned(), by_operator: true };
                Event::Withdrawn { release, at: now, cause }
            }
            None => Event::Back { release },
        });
    }
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)?;
    let generation = publish(mirror, &writer, Shrink::Keep, now)?.generation;
    Ok(Changed { is_withdrawn, releases: ids, generation })
}

fn is_ours(row: &Row) -> bool {
    row.state == State::Withdrawn && row.by_operator
}

fn list(ledger: &LedgerReader) -> anyhow::Result<List> {
    let mut list = Vec::new();
    ledger.each_release(|release, row| {
        if is_ours(&row) {
            let Release { id: ReleaseId { name, version }, checksum } = release;
            list.push(Withdrawn { name, version, checksum, because: row.reason, at: row.last });
        }
        Ok(())
    })?;
    Ok(List(list))
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(skip)]
    is_withdrawn: bool,
    releases: Vec<ReleaseId>,
    generation: Option<Generation>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.is_withdrawn { "withdrawn " } else { "taken back" };
        writeln!(f, "{done}  {}", count(self.releases.len() as u64, "release"))?;
        match &self.generation {
            Some(generation) => {
                writeln!(f, "generation  {} (new)\ndigest      {}", generation.number, generation.digest)
            }
            None => writeln!(f, "what is served did not change"),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct List(Vec<Withdrawn>);

#[derive(Debug, Serialize)]
struct Withdrawn {
    #[serde(rename = "crate")]
    name: CrateName,
    version: Version,
    checksum: Sha256,
    because: String,
    at: u64,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Withdrawn { name, version, because, at, .. }| {
            writeln!(f, "{name}@{version}  since {}: {}", rfc3339(*at), because.escape_debug())
        })
    }
}
