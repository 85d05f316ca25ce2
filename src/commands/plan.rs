//! `crateferry plan`: what a sync would do, and what it would cost. Nothing is recorded but what the plan came to, for the web pages; a
//! git upstream's clone is brought up to date, because that is how its index is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crateferry_pipeline::index::proof::{Lacking, Proof};
use crateferry_pipeline::index::record::{Recorded, Recorder, Terms, scope};
use crateferry_pipeline::index::survey::{Brought, Depth, Estimate, Survey};
use crateferry_store::{Layout, Mirror, disk_space};
use serde::Serialize;

use crate::cli::PlanArgs;
use crate::config::Config;
use crate::plan::Planned;
use crate::progress::IndexProgress;
use crate::report::{self, Exit, bytes, count, grouped, usage};
use crate::run::RunStatus;
use crate::selection::Asked;
use crate::session::{self, Session};
use crate::signals::Signals;

/// What a release takes beside its crate file: a tar header and fill in a pack, its line of a record, rows of ledger and
/// catalog. Seen with a million releases.
const BESIDE_RELEASE: u64 = 1024 + 305 + 143;

/// Of an index file's bytes, what its texts take in packs: as it came and as it is served, both gzipped.
const PACKED_INDEX: f64 = 0.5;

/// How many months and lacking dependencies are shown to people.
const SHOWN: usize = 12;

/// How many lacking dependencies the web pages list.
const LISTED: usize = 200;

pub fn run(args: &PlanArgs) -> anyhow::Result<Exit> {
    let asked = Asked::read(&args.selection)?;
    // A mirror that is not there yet is planned for in a folder that goes away again.
    let stand_in = tempfile::tempdir()?;
    let (mirror, config) = match session::open_origin(&args.mirror) {
        Err(error) if session::is_missing(&error) => {
            Mirror::check_new(&args.mirror)?;
            session::create(&stand_in.path().join("mirror"), &args.upstream, &scope(&asked.selection))?
        }
        other => other?,
    };
    session::runtime()?.block_on(plan(args, &asked, mirror, config.with(args.given())?))
}

async fn plan(args: &PlanArgs, asked: &Asked, mirror: Mirror, config: Config) -> anyhow::Result<Exit> {
    let mut selection = mirror.ledger().reader()?.selection()?;
    selection.add(&asked.selection);
    if selection.is_empty() {
        return Err(usage(
            "nothing is selected: name what to mirror with --lockfile, --manifest, --crate, --list or --all",
        ));
    }
    let session = Session::new(config, mirror.layout(), &scope(&selection))?;
    let signals = Signals::listen()?;
    let progress = Arc::new(IndexProgress::new(args.output.progress_interval, Arc::default()));
    let reader = mirror.ledger().reader()?;
    let tally = reader.tally()?;
    drop(reader);
    let choice = session::choice(selection, &session.config)?;
    session.dump(&choice, mirror.layout(), &signals.stop).await?;
    session::heed_own(&choice, &mirror)?;
    let survey = Arc::new(Survey::new(if args.prove { Depth::Rows } else { Depth::All }));
    let (layout, mirror) = (mirror.layout().clone(), Arc::new(mirror));
    let recorder = Recorder {
        mirror: mirror.clone(),
        writer: None,
        terms: Terms { choice, now: session.clock.now(), survey: Some(survey.clone()) },
        cpu: session.cpu.clone(),
        limits: session.limits.clone(),
    };
    let index = recorder.record(&session.upstream, progress.clone(), &signals.stop).await;
    progress.finish();
    let index = match index {
        Err(_) if signals.code().is_some() => return Ok(Exit::Interrupted(signals.code().unwrap_or(130))),
        other => other?,
    };
    drop(recorder);
    let fetch = tally.wanted() + index.wanted;
    let (brought, size) = (survey.brought(), survey.bytes(fetch));
    let proof = match Arc::into_inner(survey).filter(|_| args.prove) {
        Some(survey) => Some(session.cpu.run(move || Proof::of(&survey.into_kept())).await),
        None => None,
    };
    let plan = Plan {
        fetch,
        waiting: tally.wanted(),
        held: tally.held,
        costs: Costs::new(args, &brought, size, &layout, &args.mirror),
        index,
        growth: brought.months,
        proof,
    };
    // A stand-in has no pages; the writer's lock is held until here.
    plan.planned(session.clock.now()).keep(&layout);
    drop(mirror);
    report::print(args.output.json, &plan)?;
    Ok(plan.exit())
}

/// What a sync would do.
#[derive(Debug, Serialize)]
struct Plan {
    /// How the index differs from what is known.
    index: Recorded,
    /// Releases that would be fetched.
    fetch: u64,
    /// Releases of these that were wanted already.
    waiting: u64,
    /// Releases that are held.
    held: u64,
    costs: Costs,
    /// All that is selected by the month that it was published in: releases, and bytes of those whose length is known.
    growth: BTreeMap<String, (u64, u64)>,
    /// Whether what would be kept can be resolved, if that was asked.
    proof: Option<Proof>,
}

/// What it would take.
#[derive(Debug, Serialize)]
struct Costs {
    /// The crate files to fetch.
    crate_files: Estimate,
    /// Of how many of them the length is known.
    known: u64,
    /// Index files of the crates that are selected, and their bytes.
    index_files: u64,
    index_bytes: u64,
    /// What packs, ledger and catalog would grow by.
    disk: Estimate,
    /// What is free where the mirror lies; none if that cannot be told.
    free: Option<u64>,
    /// Whether it fits: not if even the least that it could be is more than what is free.
    fits: Option<bool>,
    /// A bundle of it without recompression: volumes of this many bytes, and how many.
    volume_size: u64,
    volumes: u64,
    /// Bytes a second: as given, or as the last sync had them.
    rate: Option<f64>,
    /// What fetching would take at that rate.
    seconds: Option<f64>,
}

impl Costs {
    fn new(args: &PlanArgs, brought: &Brought, crate_files: Estimate, layout: &Layout, mirror: &Path) -> Costs {
        let beside = brought.releases * BESIDE_RELEASE + (brought.index_bytes as f64 * PACKED_INDEX) as u64;
        let disk = Estimate { bytes: crate_files.bytes + beside, margin: crate_files.margin + beside / 10 };
        // A mirror that is not there yet will lie where its nearest folder is.
        let place = mirror.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let free = disk_space(&Layout::new(place)).ok().flatten().map(|space| space.free);
        let rate = args.rate.map(|rate| rate.as_u64() as f64).or_else(|| measured_rate(layout));
        Costs {
            crate_files,
            known: brought.known,
            index_files: brought.index_files,
            index_bytes: brought.index_bytes,
            disk,
            free,
            fits: free.map(|free| disk.bytes.saturating_sub(disk.margin) <= free),
            volume_size: args.volume_size,
            volumes: crate_files.bytes.div_ceil(args.volume_size),
            rate,
            seconds: rate.map(|rate| crate_files.bytes as f64 / rate),
        }
    }
}

/// What the last sync stored a second, if it stored enough to tell.
fn measured_rate(layout: &Layout) -> Option<f64> {
    let run = RunStatus::last(layout)?;
    (run.bytes >= 1 << 20 && run.uptime_sec > 0).then(|| run.bytes as f64 / run.uptime_sec as f64)
}

impl Plan {
    fn exit(&self) -> Exit {
        let is_proven = self.proof.as_ref().is_none_or(Proof::holds);
        if is_proven && self.costs.fits != Some(false) { Exit::Complete } else { Exit::Holes }
    }
}

impl Plan {
    /// What it says, line by line: a word, and what of it.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Recorded { changed, removed, wanted, gone, alarms, .. } = self.index;
        let mut lines = vec![
            ("index", format!("{changed} changed, {removed} removed")),
            ("fetch", format!("{}: {wanted} new, {} waiting", count(self.fetch, "release"), self.waiting)),
            ("deleted", count(gone, "held release")),
        ];
        let kept_out = report::kept_out(&self.index.kept_out, self.index.enters);
        lines.extend(kept_out.map(|kept_out| ("kept out", kept_out)));
        if alarms > 0 {
            lines.push(("ALARM", format!("{} with another checksum than before", count(alarms, "version"))));
        }
        lines.push(("held", count(self.held, "release")));
        lines.extend(self.index.unmet.iter().map(|unmet| ("unmet", unmet.clone())));
        lines.extend(self.costs.lines());
        lines
    }

    /// The same for the web pages.
    fn planned(&self, at: u64) -> Planned {
        let proof = self.proof.as_ref();
        let proven = proof.map(|proof| match proof.lacking.len() {
            0 => ("proven", format!("each of {} can be resolved from the others", count(proof.releases, "release"))),
            lacking => ("not proven", format!("{lacking} of {} cannot be resolved", count(proof.releases, "release"))),
        });
        let lacking = proof.iter().flat_map(|proof| &proof.lacking).take(LISTED).map(ToString::to_string).collect();
        let lines = self.lines().into_iter().chain(proven).map(|(word, line)| (word.to_owned(), line)).collect();
        Planned { at, lines, growth: self.growth.clone(), lacking }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|(word, line)| writeln!(f, "{word:11} {line}"))?;
        if !self.growth.is_empty() {
            writeln!(f, "growth      published by month, of all that is selected:")?;
            for (month, (releases, known)) in self.growth.iter().rev().take(SHOWN) {
                let known = if *known > 0 { format!(", {}", bytes(*known)) } else { String::new() };
                writeln!(f, "  {month}   {}{known}", count(*releases, "release"))?;
            }
        }
        self.proof.as_ref().map_or(Ok(()), |proof| show(f, proof))
    }
}

impl Costs {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Costs { crate_files, known, index_files, index_bytes, disk, .. } = self;
        let of =
            if crate_files.margin == 0 { String::new() } else { format!("; {} of a known length", grouped(*known)) };
        let room = match (self.free, self.fits) {
            (Some(free), Some(false)) => format!("; IT DOES NOT FIT, {} are free", bytes(free)),
            (Some(free), _) => format!("; {} are free", bytes(free)),
            _ => String::new(),
        };
        let mut lines = vec![
            ("download", format!("{}{of}", told(*crate_files))),
            ("index", format!("{}, {}", count(*index_files, "file"), bytes(*index_bytes))),
            ("disk", format!("{} more{room}", told(*disk))),
            ("volumes", format!("{} of {}", grouped(self.volumes), bytes(self.volume_size))),
        ];
        if let (Some(rate), Some(seconds)) = (self.rate, self.seconds) {
            let time = std::time::Duration::from_secs(seconds.ceil() as u64);
            let time = humantime::format_duration(time);
            lines.push(("time", format!("{time} at {} a second", bytes(rate as u64))));
        }
        lines
    }
}

/// `1.2 MB`, or `1.2 MB, give or take 0.3 MB`
fn told(Estimate { bytes: number, margin }: Estimate) -> String {
    match margin {
        0 => bytes(number),
        margin => format!("{}, give or take {}", bytes(number), bytes(margin)),
    }
}

fn show(f: &mut fmt::Formatter<'_>, proof: &Proof) -> fmt::Result {
    let Proof { releases, met, lacking, without_features } = proof;
    let (releases, met) = (count(*releases, "release"), count(*met, "dependency"));
    if lacking.is_empty() {
        writeln!(f, "proven      each of {releases} can be resolved from the others: {met} looked at")?;
    } else {
        writeln!(f, "NOT PROVEN  of {releases}, these cannot be resolved ({}):", lacking.len())?;
        list(f, lacking)?;
    }
    if !without_features.is_empty() {
        writeln!(f, "features that need what is not kept ({}):", without_features.len())?;
        list(f, without_features)?;
    }
    Ok(())
}

fn list(f: &mut fmt::Formatter<'_>, lacking: &[Lacking]) -> fmt::Result {
    lacking.iter().take(SHOWN).try_for_each(|lacking| writeln!(f, "  {lacking}"))?;
    if lacking.len() > SHOWN {
        writeln!(f, "  and {} more; --json lists all", lacking.len() - SHOWN)?;
    }
    Ok(())
}
