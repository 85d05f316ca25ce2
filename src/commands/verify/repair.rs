//! Replacing crate files that are damaged. What is damaged stays where it lies, and counts no more as held.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_store::{
    Batch, Body, Event, Mirror, MirrorReader, Release, ReleaseRef, Row, State, StoreLimits, Verification, Writer, wait,
};
use serde::Serialize;

use crate::cli::VerifyArgs;
use crate::commands::sync;
use crate::config::Role;
use crate::report::count;
use crate::session;

/// How many bytes are held in memory before they are written.
const GATHERED: u64 = 16 << 20;

/// What became of damaged crate files.
#[derive(Debug, Default, Serialize)]
pub struct Repaired {
    /// How many came from another mirror.
    copied: u64,
    /// How many were fetched.
    fetched: u64,
    /// What is still lacking.
    lacking: Vec<ReleaseRef>,
    /// Why they could not be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    whole: BTreeSet<Release>,
    #[serde(skip)]
    is_replica: bool,
}

impl Repaired {
    /// Whether a release has sound bytes again.
    pub fn has(&self, release: &Release) -> bool {
        self.whole.contains(release)
    }

    /// Whether something that was lost is still not held.
    pub fn is_lacking(&self) -> bool {
        !self.lacking.is_empty()
    }
}

/// Replaces what a scrub found damaged.
pub fn repair(args: &VerifyArgs, verification: &Verification) -> anyhow::Result<Repaired> {
    let (mirror, config) = session::open(&args.mirror)?;
    let is_replica = config.role == Role::Replica;
    // Also what an earlier run found and could not replace.
    let mut lost = mirror.ledger().reader()?.lost()?;
    lost.extend(verification.lost.iter().map(|(release, _)| release.clone()));
    if lost.is_empty() {
        return Ok(Repaired { is_replica, ..Repaired::default() });
    }
    let writer = mirror.writer()?;
    lose(&writer, verification)?;
    let copied = match &args.from {
        Some(from) => copy(&writer, from, &lost).with_context(|| format!("cannot copy from {}", from.display()))?,
        None => 0,
    };
    drop(writer);
    mirror.refresh_catalog()?;
    let lacking = lacking(&mirror, &lost)?;
    drop(mirror);
    let mut problem = None;
    if !is_replica {
        // Also if nothing is lacking: what is held is published as it was.
        problem = sync::fetch_wanted(&args.mirror).err().map(|error| format!("{error:#}"));
    }
    let (mirror, _) = session::open(&args.mirror)?;
    let left = self::lacking(&mirror, &lost)?;
    let fetched = (lacking.len() - left.len()) as u64;
    let whole = lost.into_iter().filter(|release| !left.contains(release)).collect();
    Ok(Repaired {
        copied,
        fetched,
        lacking: left.into_iter().map(ReleaseRef::from).collect(),
        problem,
        whole,
        is_replica,
    })
}

/// Notes that the bytes do not count as held.
fn lose(writer: &Writer, verification: &Verification) -> anyhow::Result<()> {
    let (mut batch, at) = (Batch::default(), SystemClock.now());
    for (release, reason) in &verification.lost {
        batch.add(Event::Lost { release: release.clone().into(), reason: reason.clone(), at });
    }
    submit(writer, batch)
}

/// Takes from another mirror what it has; returns how many that were.
fn copy(writer: &Writer, from: &Path, lost: &BTreeSet<Release>) -> anyhow::Result<u64> {
    let other = MirrorReader::open(from, StoreLimits::default())?;
    let (mut batch, mut gathered, mut copied) = (Batch::default(), 0, 0);
    for release in lost {
        let Some(held) = other.catalog.held(release)? else { continue };
        match other.packs.read(held.place).map(|bytes| Body::in_memory(bytes, None).prove(release.checksum)) {
            Ok(Ok(bytes)) => {
                gathered += bytes.length();
                batch.add_crate(release, bytes);
                copied += 1;
            }
            Ok(Err(mismatch)) => tracing::warn!("{release} is damaged in {} too: {mismatch}", from.display()),
            Err(error) => tracing::warn!("{release} cannot be read from {}: {error}", from.display()),
        }
        if gathered >= GATHERED {
            submit(writer, std::mem::take(&mut batch))?;
            gathered = 0;
        }
    }
    submit(writer, batch)?;
    Ok(copied)
}

fn submit(writer: &Writer, batch: Batch) -> anyhow::Result<()> {
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)?;
    Ok(())
}

/// Which of these releases are wanted and have no bytes. What was withdrawn or left out is not wanted.
fn lacking(mirror: &Mirror, lost: &BTreeSet<Release>) -> anyhow::Result<BTreeSet<Release>> {
    let ledger = mirror.ledger().reader()?;
    let mut lacking = BTreeSet::new();
    for release in lost {
        let known = ledger.releases_at(&release.id)?;
        let is_wanted = |row: &Row| matches!(row.state, State::Wanted | State::Refused);
        if known.iter().any(|(known, row)| known == release && is_wanted(row)) {
            lacking.insert(release.clone());
        }
    }
    Ok(lacking)
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (copied, fetched) = (count(self.copied, "crate file"), count(self.fetched, "crate file"));
        writeln!(f, "repaired    {copied} copied, {fetched} fetched")?;
        if let Some(problem) = &self.problem {
            writeln!(f, "problem     {problem}")?;
        }
        if self.lacking.is_empty() {
            return Ok(());
        }
        let what = count(self.lacking.len() as u64, "release");
        if self.is_replica {
            writeln!(f, "lacking     {what}; `crateferry receipt` asks the other side for them")
        } else {
            writeln!(f, "lacking     {what}; every sync asks for them again")
        }
    }
}
