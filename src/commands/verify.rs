//! `crateferry verify`: reads what is held and compares it with its digests, and replaces what is damaged.

use std::fmt;
use std::time::Instant;

use crateferry_store::{Extent, Finding, Layout, MirrorReader, StoreLimits, Verification, verify};
use serde::Serialize;

use crate::cli::VerifyArgs;
use crate::progress::byte_bar;
use crate::report::{self, Exit, bytes, count, usage};
use crate::scrub;

mod repair;

use repair::Repaired;

pub fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    if args.from.as_ref().is_some_and(|from| !Layout::new(from).config().exists()) {
        return Err(usage(
            "--from takes the folder of another mirror; `import-tree` takes crate files out of any other folder",
        ));
    }
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let total = mirror.catalog.summary()?.map_or(0, |summary| summary.tally.bytes);
    let bar = byte_bar(args.sample.map_or(total, |share| total / 100 * u64::from(share)));
    let extent = extent(args, &mirror.layout);
    let verification = verify(&mirror, extent, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if matches!(extent, Extent::Until { .. })
        && let Err(error) = scrub::go_on_at(&mirror.layout, verification.next_pack)
    {
        let path = mirror.layout.scrub();
        tracing::warn!("the next run begins where this one did: cannot write {}: {error}", path.display());
    }
    drop(mirror);
    let repaired = args.repair.then(|| repair::repair(args, &verification)).transpose()?;
    let scrub = Scrub { verification, repaired };
    report::print(args.json, &scrub)?;
    Ok(scrub.exit())
}

fn extent(args: &VerifyArgs, layout: &Layout) -> Extent {
    match (args.sample, args.max_duration) {
        (Some(share), _) => {
            let count = u64::from(100 / share);
            Extent::OneOf { count, first: fastrand::u64(..count) }
        }
        (None, Some(most)) => Extent::Until { from: scrub::begins_at(layout), end: Instant::now() + most },
        (None, None) => Extent::All,
    }
}

#[derive(Debug, Serialize)]
struct Scrub {
    #[serde(flatten)]
    verification: Verification,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Repaired>,
}

impl Scrub {
    fn exit(&self) -> Exit {
        if self.damage().next().is_some() {
            Exit::Integrity
        } else if self.repaired.as_ref().is_some_and(Repaired::is_lacking) {
            Exit::Holes
        } else {
            Exit::Complete
        }
    }

    /// What is still not as it should be.
    fn damage(&self) -> impl Iterator<Item = &Finding> {
        let is_mended = |finding: &Finding| {
            let release = finding.release.as_ref();
            self.repaired.as_ref().zip(release).is_some_and(|(repaired, release)| repaired.has(release))
        };
        self.verification.findings.iter().filter(move |finding| !is_mended(finding))
    }
}

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { packs, objects, bytes: read, releases, index_files, rows, dead, .. } = &self.verification;
        writeln!(f, "hashed      {}, {} in {}", count(*objects, "object"), bytes(*read), count(*packs, "pack"))?;
        let (releases, rows) = (count(*releases, "held release"), count(*rows, "row"));
        writeln!(f, "compared    {releases}; {rows} in {}", count(*index_files, "index file"))?;
        if let Some(why) = &self.verification.ledger_not_read {
            writeln!(f, "not read    the ledger: {why}")?;
        }
        if let Some(next) = self.verification.next_pack {
            writeln!(f, "goes on     at pack {next}, when it is run again with --max-duration")?;
        }
        if !dead.is_empty() {
            writeln!(f, "old damage  {}, which nothing needs", count(dead.len() as u64, "damaged member"))?;
        }
        if let Some(repaired) = &self.repaired {
            write!(f, "{repaired}")?;
        }
        let damage: Vec<&Finding> = self.damage().collect();
        if damage.is_empty() {
            return writeln!(f, "all that was read is as it should be");
        }
        writeln!(f, "DAMAGE      {}:", count(damage.len() as u64, "finding"))?;
        damage.into_iter().try_for_each(|finding| {
            writeln!(f, "  {}: {}", finding.object, finding.problem)?;
            writeln!(f, "    {}", finding.means)
        })
    }
}
