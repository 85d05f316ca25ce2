//! What a sync did, on one screen.

use std::fmt;
use std::time::Duration;

use crateferry_pipeline::index::record::Recorded;
use crateferry_pipeline::settle::Outcome;
use crateferry_store::{Generation, Hole, Published, Release, Report, Row};
use serde::Serialize;

use super::Sync;
use super::advisories::{Advised, Malware};
use crate::report::{self, Exit, bytes, count};

/// Lines of each kind that the screen shows.
const SHOWN: usize = 10;

/// The result of a sync.
#[derive(Debug, Serialize)]
pub struct Summary {
    mirror: String,
    upstream: String,
    seconds: f64,
    /// How the index differed.
    index: Recorded,
    /// What became of the releases that were asked for.
    releases: Outcome,
    /// The generation that is served now.
    generation: Option<Generation>,
    /// Whether this sync made it.
    published: bool,
    held: u64,
    held_bytes: u64,
    pending: u64,
    withdrawn_now: u64,
    /// What advisories say is malware, and was withdrawn for that.
    malware: Vec<Malware>,
    held_for_approval: Vec<Hole>,
    holes: Vec<Hole>,
    hole_count: u64,
    reports: Vec<Report>,
    problems: Vec<String>,
}

impl Summary {
    pub(super) fn new(
        sync: &Sync,
        index: Recorded,
        releases: Outcome,
        published: &Published,
        advised: Advised,
        took: Duration,
    ) -> anyhow::Result<Summary> {
        let reader = sync.mirror.ledger().reader()?;
        let tally = reader.tally()?;
        let mut problems = sync.asked.broken_promises(&reader)?;
        let foreign = sync.asked.foreign.iter();
        problems.extend(foreign.map(|package| format!("{package}: another registry, not mirrored")));
        problems.extend(index.unmet.iter().cloned());
        let failed = index.failed.iter();
        problems.extend(failed.map(|(name, why)| format!("the index file of {name} could not be read: {why}")));
        problems.extend(advised.problem);
        Ok(Summary {
            mirror: sync.mirror.layout().root().display().to_string(),
            upstream: sync.session.config.upstream.clone(),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            index,
            releases,
            published: published.generation.is_some(),
            generation: reader.generation()?,
            held: tally.held,
            held_bytes: tally.bytes,
            pending: tally.pending,
            withdrawn_now: published.withdrawn,
            malware: advised.malware,
            held_for_approval: if published.held > 0 { listed(reader.gone()?) } else { Vec::new() },
            hole_count: tally.holes(),
            holes: listed(reader.holes()?),
            reports: reader.reports()?,
            problems,
        })
    }

    /// The same in one line of the log, for a sync that nobody waits for.
    pub fn log(&self) {
        let Summary { index, releases, hole_count, seconds, held_for_approval, problems, .. } = self;
        let generation = self.generation.as_ref().map_or(0, |generation| generation.number);
        tracing::info!(
            generation,
            published = self.published,
            index_files = index.changed,
            stored = releases.stored,
            failed = releases.failed + releases.refused,
            holes = hole_count,
            seconds,
            "synced"
        );
        if !held_for_approval.is_empty() {
            tracing::warn!("deletions are held for approval: `crateferry approve` publishes them");
        }
        for Malware { release, advisory } in &self.malware {
            tracing::warn!(%advisory, "withdrawn, for it is malware: {release}");
        }
        problems.iter().for_each(|problem| tracing::warn!("{problem}"));
    }

    /// Selected releases that the index does not have are lacking as much as holes are.
    pub fn exit(&self) -> Exit {
        let lacking = self.reports.iter().any(|report| report.lacking);
        let whole = self.hole_count == 0 && self.held_for_approval.is_empty() && self.problems.is_empty() && !lacking;
        if whole { Exit::Complete } else { Exit::Holes }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mirror      {}", self.mirror)?;
        self.write_index(f)?;
        writeln!(
            f,
            "fetched     {}, {} in {:.1} s, {} asked again",
            count(self.releases.stored, "release"),
            bytes(self.releases.bytes),
            self.seconds,
            self.releases.retries
        )?;
        writeln!(f, "held        {}, {}", count(self.held, "release"), bytes(self.held_bytes))?;
        if self.pending > 0 {
            writeln!(f, "pending     {}", count(self.pending, "release"))?;
        }
        match &self.generation {
            Some(generation) => {
                let news = if self.published { "new" } else { "unchanged" };
                let counts = generation.counts;
                writeln!(
                    f,
                    "generation  {} ({news}): {}, {}",
                    generation.number,
                    count(counts.crates, "crate"),
                    count(counts.rows, "row")
                )?;
                writeln!(f, "digest      {}", generation.digest)?;
                if let Some(database) = &generation.advisories {
                    writeln!(f, "advisories  {}", report::advisories(database))?;
                }
            }
            None => writeln!(f, "generation  none yet")?,
        }
        self.write_problems(f)
    }
}

impl Summary {
    fn write_index(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recorded { changed, removed, wanted, alarms, .. } = self.index;
        write!(f, "index       {}: {changed} changed, {removed} removed, {wanted} newly wanted", self.upstream)?;
        if self.withdrawn_now > 0 {
            write!(f, ", {} withdrawn", self.withdrawn_now)?;
        }
        writeln!(f)?;
        if let Some(kept_out) = report::kept_out(&self.index.kept_out, self.index.enters) {
            writeln!(f, "kept out    {kept_out}")?;
        }
        if alarms > 0 {
            writeln!(
                f,
                "ALARM       {} another checksum than before; the first bytes stay served",
                changed_text(alarms)
            )?;
        }
        Ok(())
    }

    fn write_problems(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held_for_approval.len() as u64;
        if held > 0 {
            let held = count(held, "deletion");
            writeln!(f, "approval    {held} held back; `crateferry approve {}` publishes them", self.mirror)?;
        }
        let gone = |hole: &Hole| format!("{} {}", hole.name, hole.version);
        list(f, "held deletion", &self.held_for_approval.iter().map(gone).collect::<Vec<_>>())?;
        let malware = |one: &Malware| format!("{}: {}", one.release, one.advisory);
        list(f, "withdrawn malware release", &self.malware.iter().map(malware).collect::<Vec<_>>())?;
        let hole = |hole: &Hole| format!("{} {}: {}", hole.name, hole.version, hole.reason);
        list(f, "hole", &self.holes.iter().map(hole).collect::<Vec<_>>())?;
        let report = |report: &Report| match report.line {
            0 => format!("{}: {}", report.path, report.problem),
            line => format!("{}, line {line}: {}", report.path, report.problem),
        };
        list(f, "index report", &self.reports.iter().map(report).collect::<Vec<_>>())?;
        list(f, "problem", &self.problems)
    }
}

fn listed(releases: Vec<(Release, Row)>) -> Vec<Hole> {
    releases.into_iter().map(Hole::from).collect()
}

fn changed_text(alarms: u64) -> String {
    if alarms == 1 { "1 version has".into() } else { format!("{alarms} versions have") }
}

fn list(f: &mut fmt::Formatter<'_>, kind: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{kind}s ({}):", lines.len())?;
    for line in lines.iter().take(SHOWN) {
        writeln!(f, "  {}", line.escape_debug())?;
    }
    if lines.len() > SHOWN {
        writeln!(f, "  and {} more; --json lists all", lines.len() - SHOWN)?;
    }
    Ok(())
}
