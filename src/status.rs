//! What a mirror holds and lacks, for people and as JSON.

use std::fmt;

use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{AdvisoryDb, Hole, Masks, Report, Summary};
use serde::Serialize;

use crate::config::Config;
use crate::report::{bytes, count};
use crate::words::Moment;

/// The JSON of `status`: its keys are relied on.
#[derive(Debug, Serialize)]
pub struct Status {
    mirror_id: String,
    role: &'static str,
    epoch: u32,
    generation: u64,
    generation_digest: Option<String>,
    crates: u64,
    rows: u64,
    releases: Releases,
    bytes: u64,
    holes: Vec<Hole>,
    hole_count: u64,
    held_for_approval: Vec<Hole>,
    upstream: UpstreamStatus,
    published_at: Option<String>,
    #[serde(skip)]
    published: Option<Moment>,
    advisories: Option<AdvisoryDb>,
    alarms: Vec<crateferry_store::Alarm>,
    quarantined: Masks,
    reports: Vec<Report>,
}

#[derive(Debug, Serialize)]
struct Releases {
    held: u64,
    wanted: u64,
    refused: u64,
    withdrawn: u64,
    excluded: u64,
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    name: String,
    /// The state as last seen completely.
    seen: Option<serde_json::Value>,
}

impl Status {
    /// What a mirror's summary and configuration say, as of `now`: seconds since 1970.
    pub fn new(summary: Summary, config: &Config, now: u64) -> Status {
        let Summary { mirror, epoch, generation, tally, mark, holes, gone, alarms, masks, reports, .. } = summary;
        let counts = generation.as_ref().map(|generation| generation.counts).unwrap_or_default();
        Status {
            mirror_id: mirror,
            role: config.role.name(),
            epoch,
            generation: generation.as_ref().map_or(0, |generation| generation.number),
            generation_digest: generation.as_ref().map(|generation| generation.digest.to_string()),
            crates: counts.crates,
            rows: counts.rows,
            releases: Releases {
                held: tally.held,
                wanted: tally.wanted(),
                refused: tally.refused,
                withdrawn: tally.withdrawn,
                excluded: tally.excluded,
            },
            bytes: tally.bytes,
            hole_count: tally.holes(),
            holes,
            // With `keep-withdrawn` they are kept, and nothing waits.
            held_for_approval: if config.keep_withdrawn { Vec::new() } else { gone },
            upstream: UpstreamStatus {
                name: config.upstream.clone(),
                seen: mark.and_then(|mark| mark.get("upstream").cloned()),
            },
            advisories: generation.as_ref().and_then(|generation| generation.advisories.clone()),
            published_at: generation.as_ref().map(|generation| rfc3339(generation.published_at)),
            published: generation.map(|generation| Moment::at(generation.published_at, now)),
            alarms,
            quarantined: masks,
            reports,
        }
    }
}

impl Status {
    /// Whether nothing is lacking and nothing waits for approval.
    pub fn is_whole(&self) -> bool {
        let lacking = self.reports.iter().any(|report| report.lacking);
        self.hole_count == 0 && self.held_for_approval.is_empty() && !lacking
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mirror      {} ({}, epoch {})", self.mirror_id, self.role, self.epoch)?;
        writeln!(f, "upstream    {}", self.upstream.name)?;
        match &self.generation_digest {
            Some(digest) => {
                write!(f, "generation  {}", self.generation)?;
                match &self.published {
                    Some(Moment { iso, age, .. }) => writeln!(f, " of {iso}, {age}")?,
                    None => writeln!(f)?,
                }
                writeln!(f, "digest      {digest}")?;
            }
            None => writeln!(f, "generation  none yet")?,
        }
        writeln!(f, "serves      {}, {}", count(self.crates, "crate"), count(self.rows, "row"))?;
        if let Some(database) = &self.advisories {
            writeln!(f, "advisories  {}", crate::report::advisories(database))?;
        }
        writeln!(f, "holds       {}, {}", count(self.releases.held, "release"), bytes(self.bytes))?;
        let Releases { wanted, refused, withdrawn, excluded, .. } = self.releases;
        writeln!(f, "lacks       {wanted} wanted, {refused} refused")?;
        writeln!(f, "left out    {withdrawn} withdrawn, {excluded} excluded")?;
        if !self.held_for_approval.is_empty() {
            writeln!(f, "approval    {} held back", count(self.held_for_approval.len() as u64, "deletion"))?;
        }
        if self.hole_count > 0 {
            writeln!(f, "holes       {}; `crateferry holes` lists them", self.hole_count)?;
        }
        if !self.quarantined.all().is_empty() {
            let quarantined = self.quarantined.all().len();
            writeln!(f, "quarantine  {quarantined}; `crateferry quarantine` lists them")?;
        }
        if !self.alarms.is_empty() {
            writeln!(f, "ALARM       {} changed its checksum", count(self.alarms.len() as u64, "version"))?;
        }
        if !self.reports.is_empty() {
            writeln!(f, "reports     {} of the upstream's index", count(self.reports.len() as u64, "problem"))?;
        }
        Ok(())
    }
}
