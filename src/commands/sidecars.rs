//! `crateferry sidecars`: learns what crate files tell, and writes the documents that describe releases.
//!
//! The served index is gone through in its order, some crates at a time. Crate files that could tell more than is known
//! are proven and read as a whole; what they tell is kept in the mirror and is in the documents of the same run.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use crateferry_pipeline::cpu::Cpu;
use crateferry_pipeline::facts::{self, Extent};
use crateferry_pipeline::index::record::scope;
use crateferry_pipeline::upstream::crates::DownloadTemplate;
use crateferry_store::{
    Batch, CrateName, Facts, LedgerReader, Mirror, Pending, Place, Release, ReleaseId, Text, Writer, parse_index_file,
    wait,
};
use rayon::prelude::*;
use serde::Serialize;

use super::export::path_of;
use crate::cli::{ExportLayout, Sidecars, SidecarsArgs};
use crate::config::Config;
use crate::progress::ReleaseProgress;
use crate::report::{self, Exit, count, usage};
use crate::session::{self, Session};
use crate::sidecar::Beside;
use crate::signals::Signals;

/// Crates that are gone through together.
const STEP: usize = 64;
/// Groups of facts that may be on their way to the disk.
const UNDER_WAY: usize = 16;

pub fn run(args: &SidecarsArgs) -> anyhow::Result<Exit> {
    let (mirror, config) = session::open(&args.mirror)?;
    let config = config.with(args.given())?;
    if config.sidecars == Sidecars::Off {
        let why = "sidecars are off; `sidecars` in crateferry.toml says what they are to be made of";
        return Err(usage(format!("{}: {why}", args.mirror.display())));
    }
    let reads = config.sidecars == Sidecars::Manifest;
    session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let documents = match &args.to {
            None => None,
            Some(to) => {
                check_apart(to, &args.mirror)?;
                let Some(url) = template(config, &mirror, &signals).await? else { return Ok(interrupted(&signals)) };
                Some(Documents { to: to.clone(), layout: args.layout, url })
            }
        };
        let writer = mirror.writer()?;
        let total = mirror.ledger().reader()?.generation()?.map_or(0, |generation| generation.counts.rows);
        let left = args.limit.unwrap_or(u64::MAX);
        let work = Work {
            mirror,
            documents,
            reads,
            include_yanked: args.include_yanked,
            progress: ReleaseProgress::new("describing", total.min(left), args.output.progress_interval),
        };
        let (cpu, stop) = (Cpu::new(0).context("cannot start the CPU pool")?, signals.clone());
        let summary = cpu.run(move || work.run(&writer, left, &stop)).await?;
        report::print(args.output.json, &summary)?;
        Ok(signals.code().map_or(summary.exit(), Exit::Interrupted))
    })
}

/// Documents among a mirror's own files would be in its way.
fn check_apart(to: &Path, mirror: &Path) -> anyhow::Result<()> {
    let mirror = mirror.canonicalize().with_context(|| format!("cannot look at {}", mirror.display()))?;
    let is_inside = to.ancestors().filter_map(|folder| folder.canonicalize().ok()).any(|folder| folder == mirror);
    if is_inside { Err(usage(format!("--to {}: that is inside the mirror", to.display()))) } else { Ok(()) }
}

/// Where crate files can be downloaded. None if the signal to stop came first.
async fn template(config: Config, mirror: &Mirror, signals: &Signals) -> anyhow::Result<Option<DownloadTemplate>> {
    let selection = mirror.ledger().reader()?.selection()?;
    let session = Session::new(config, mirror.layout(), &scope(&selection))?;
    let files = session.crate_files(&signals.stop).await;
    let files = files.context("documents name where crate files are; --download-url can tell it too")?;
    Ok(files.map(|(_, template)| template))
}

fn interrupted(signals: &Signals) -> Exit {
    Exit::Interrupted(signals.code().unwrap_or(130))
}

/// What is done with each release.
struct Work {
    mirror: Mirror,
    documents: Option<Documents>,
    /// Crate files are read.
    reads: bool,
    include_yanked: bool,
    progress: ReleaseProgress,
}

/// A release that is served.
struct Served {
    release: Release,
    line: Vec<u8>,
    place: Option<Place>,
}

/// What came of a release.
#[derive(Default)]
struct Outcome {
    /// What was learnt now.
    learnt: Option<(Release, Facts)>,
    /// Whether its document was written; none if none was asked for.
    written: Option<bool>,
    unreadable: bool,
    damage: Option<String>,
}

impl Work {
    fn run(self, writer: &Writer, mut left: u64, signals: &Signals) -> anyhow::Result<Summary> {
        let reader = self.mirror.ledger().reader()?;
        let (mut summary, mut after, mut pending) = (Summary::default(), None, Vec::new());
        while left > 0 && !signals.stop.is_cancelled() {
            let crates = reader.served_after(after.as_ref(), STEP)?;
            let Some((last, _)) = crates.last() else { break };
            after = Some(last.clone());
            let read: Vec<Vec<Served>> =
                crates.par_iter().map(|(name, text)| self.releases(&reader, name, text)).collect::<Result<_, _>>()?;
            let mut releases: Vec<Served> = read.into_iter().flatten().collect();
            releases.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= releases.len() as u64;
            let outcomes: Vec<Outcome> =
                releases.par_iter().map(|served| self.describe(&reader, served)).collect::<Result<_, _>>()?;
            keep(writer, outcomes, &mut summary, &mut pending)?;
        }
        wait(writer.flush())?;
        pending.into_iter().try_for_each(|stored| wait(stored).map(drop))?;
        self.mirror.refresh_catalog()?;
        summary.left = self.mirror.ledger().reader()?.undescribed()?;
        Ok(summary)
    }

    /// The releases of a crate, as its served index file lists them.
    fn releases(&self, reader: &LedgerReader, name: &CrateName, text: &Text) -> anyhow::Result<Vec<Served>> {
        let text = self.mirror.packs().text(text.place, text.digests.blake3)?;
        let places = reader.releases_of(name)?.into_iter().filter_map(|(release, row)| {
            let ReleaseId { version, .. } = release.id;
            Some(((version, release.checksum), row.place?))
        });
        let places: HashMap<_, _> = places.collect();
        let entries = parse_index_file(name, &text).entries.into_iter();
        let wanted = entries.filter(|entry| self.include_yanked || !entry.yanked);
        Ok(wanted
            .map(|entry| Served {
                line: entry.line.to_vec(),
                place: places.get(&(entry.version.clone(), entry.checksum)).copied(),
                release: Release {
                    id: ReleaseId { name: entry.name, version: entry.version },
                    checksum: entry.checksum,
                },
            })
            .collect())
    }

    fn describe(&self, reader: &LedgerReader, served: &Served) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let facts = if self.reads { self.facts(reader, served, &mut outcome)? } else { None };
        outcome.unreadable = facts.as_ref().is_some_and(|facts| facts.problem.is_some());
        if let Some(documents) = &self.documents {
            outcome.written = Some(documents.write(served, facts.as_ref())?);
        }
        self.progress.advance();
        Ok(outcome)
    }

    /// All that the crate file tells, as it is known or, if that is not all, as it is learnt now.
    fn facts(&self, reader: &LedgerReader, served: &Served, outcome: &mut Outcome) -> anyhow::Result<Option<Facts>> {
        let (packs, release) = (self.mirror.packs(), &served.release);
        if let Some(known) = reader.facts(release)?.filter(|known| known.complete) {
            match packs.facts(&known) {
                Ok(facts) => return Ok(Some(facts)),
                Err(error) => tracing::warn!(%release, "facts are read once more: {error}"),
            }
        }
        let Some(place) = served.place else { return Ok(None) };
        if let Err(error) = packs.prove(place, release.checksum) {
            outcome.damage = Some(format!("{}: {error}", release.id));
            return Ok(None);
        }
        let facts = facts::read(packs.reader(place), place.length, Extent::Whole);
        outcome.learnt = Some((release.clone(), facts.clone()));
        Ok(Some(facts))
    }
}

/// Counts what came of some releases, and hands what was learnt to the writer.
fn keep(
    writer: &Writer,
    outcomes: Vec<Outcome>,
    summary: &mut Summary,
    pending: &mut Vec<Pending<Vec<Place>>>,
) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    for Outcome { learnt, written, unreadable, damage } in outcomes {
        summary.releases += 1;
        summary.learnt += u64::from(learnt.is_some());
        summary.unreadable += u64::from(unreadable);
        summary.written += u64::from(written == Some(true));
        summary.unchanged += u64::from(written == Some(false));
        summary.damaged.extend(damage);
        if let Some((release, facts)) = learnt {
            batch.add_facts(&release, &facts);
        }
    }
    if !batch.is_empty() {
        pending.push(writer.submit(batch));
    }
    if pending.len() > UNDER_WAY {
        wait(pending.remove(0))?;
    }
    Ok(())
}

/// Where documents are written.
struct Documents {
    to: PathBuf,
    layout: ExportLayout,
    url: DownloadTemplate,
}

impl Documents {
    /// Writes the document of a release, unless it is there already; says whether it did.
    fn write(&self, served: &Served, facts: Option<&Facts>) -> anyhow::Result<bool> {
        let Served { release, line, .. } = served;
        let document = Beside::new(release, self.url.url(release).to_string(), facts).behind(line);
        let path = self.to.join(path_of(self.layout)(&release.id)).with_added_extension("json");
        if std::fs::read(&path).is_ok_and(|there| there == document) {
            return Ok(false);
        }
        let part = path.with_added_extension("part");
        let folder = path.parent().unwrap_or(&self.to);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(&part, document).with_context(|| format!("cannot write {}", part.display()))?;
        std::fs::rename(&part, &path).with_context(|| format!("cannot name {}", path.display()))?;
        Ok(true)
    }
}

/// What a run did.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Releases gone through.
    releases: u64,
    /// Crate files read now.
    learnt: u64,
    /// Releases whose crate file, or a part of it, cannot be read.
    unreadable: u64,
    /// Documents written, and those that were there already.
    written: u64,
    unchanged: u64,
    /// Held releases, of the whole mirror, whose crate file could still tell more.
    left: u64,
    /// Crate files that are not what was stored.
    damaged: Vec<String>,
}

impl Summary {
    fn exit(&self) -> Exit {
        if self.damaged.is_empty() { Exit::Complete } else { Exit::Integrity }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let releases = |number| count(number, "release");
        writeln!(f, "described   {}; {} now", releases(self.releases), count(self.learnt, "crate file"))?;
        if self.unreadable > 0 {
            writeln!(f, "unreadable  {}: their documents say why", count(self.unreadable, "crate file"))?;
        }
        if self.written + self.unchanged > 0 {
            writeln!(f, "written     {}; {} there already", count(self.written, "document"), self.unchanged)?;
        }
        if self.left > 0 {
            writeln!(f, "left        {} whose crate file could tell more", releases(self.left))?;
        }
        self.damaged.iter().try_for_each(|damage| writeln!(f, "DAMAGE      {damage}"))
    }
}
