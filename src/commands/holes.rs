//! `crateferry holes`: what is wanted and lacking; `accept` lives without it.

use std::fmt;
use std::path::Path;

use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_store::{Batch, Event, Hole, LedgerReader, MirrorReader, Release, ReleaseId, StoreLimits, wait};
use serde::Serialize;

use crate::cli::{HolesAction, HolesArgs};
use crate::report::{self, Exit, usage};
use crate::selection::parse_release;
use crate::session;

pub fn run(args: &HolesArgs) -> anyhow::Result<Exit> {
    if let Some(HolesAction::Accept { releases }) = &args.action {
        accept(&args.mirror, releases)?;
    }
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let holes = mirror.catalog.summary()?.map(|summary| summary.holes).unwrap_or_default();
    let exit = if holes.is_empty() { Exit::Complete } else { Exit::Holes };
    report::print(args.json, &Holes(holes))?;
    Ok(exit)
}

fn accept(path: &Path, releases: &[String]) -> anyhow::Result<()> {
    let ids = releases.iter().map(|text| parse_release(text)).collect::<Result<Vec<_>, _>>()?;
    let (mirror, _) = session::open_origin(path)?;
    let reader = mirror.ledger().reader()?;
    let mut batch = Batch::default();
    for id in &ids {
        for release in holes_of(&reader, id)? {
            batch.add(Event::Excluded { release: release.into(), by: "operator".into(), at: SystemClock.now() });
        }
    }
    let writer = mirror.writer()?;
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)?;
    Ok(mirror.refresh_catalog()?)
}

fn holes_of(reader: &LedgerReader, id: &ReleaseId) -> anyhow::Result<Vec<Release>> {
    let known = reader.releases_at(id)?;
    let holes: Vec<Release> =
        known.into_iter().filter(|(_, row)| row.is_hole() || row.is_pending()).map(|(release, _)| release).collect();
    if holes.is_empty() {
        return Err(usage(format!("{id} is not lacking: `crateferry holes` lists what is")));
    }
    Ok(holes)
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Holes(Vec<Hole>);

impl fmt::Display for Holes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hole in &self.0 {
            let kind = if hole.refused { "refused" } else { "missing" };
            let reason = hole.reason.escape_debug();
            writeln!(f, "{}@{}  {kind}, tried {} times: {reason}", hole.name, hole.version, hole.tries)?;
        }
        Ok(())
    }
}
