//! `crateferry verify`: reads everything that is held and compares it with its digests.

use std::fmt;

use crateferry_store::{MirrorReader, StoreLimits, Verification, verify};
use serde::Serialize;

use crate::cli::ReadArgs;
use crate::progress::byte_bar;
use crate::report::{self, Exit, bytes, count};

pub fn run(args: &ReadArgs) -> anyhow::Result<Exit> {
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let total = mirror.catalog.summary()?.map_or(0, |summary| summary.tally.bytes);
    let bar = byte_bar(total);
    let verification = verify(&mirror, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let exit = if verification.findings.is_empty() { Exit::Complete } else { Exit::Integrity };
    report::print(args.json, &Scrub(verification))?;
    Ok(exit)
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Scrub(Verification);

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { packs, objects, bytes: read, releases, index_files, rows, findings } = &self.0;
        writeln!(f, "hashed      {}, {} in {}", count(*objects, "object"), bytes(*read), count(*packs, "pack"))?;
        let (releases, rows) = (count(*releases, "held release"), count(*rows, "row"));
        writeln!(f, "compared    {releases}; {rows} in {}", count(*index_files, "index file"))?;
        if findings.is_empty() {
            return writeln!(f, "all of it is as it should be");
        }
        writeln!(f, "DAMAGE      {}:", count(findings.len() as u64, "finding"))?;
        for finding in findings {
            writeln!(f, "  {}: {}", finding.object, finding.problem)?;
        }
        Ok(())
    }
}
