//! `crateferry import-tree`: crate files that lie in a folder come into the mirror, without being fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use crateferry_pipeline::clock::SystemClock;
use crateferry_pipeline::cpu::Cpu;
use crateferry_pipeline::import::{
    Checked, Difference, Gauge, Import, ImportError, ImportLimits, Imported, Importing, LeftOut, Witness,
};
use crateferry_pipeline::inventory::{FileName, PERCENT};
use crateferry_store::{AuditLog, Generation, Mirror, Writer};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::ImportTreeArgs;
use crate::progress;
use crate::report::{self, Exit, bytes, count, usage};
use crate::session;
use crate::signals::Signals;

/// How many files and lines of each list are kept for the summary; all are logged.
const LISTED: usize = 10_000;

/// How many are shown to people.
const SHOWN: usize = 10;

pub fn run(args: &ImportTreeArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let from = folder(&args.from)?;
    let manifest = args.manifest.as_deref().map(open_manifest).transpose()?;
    let (mirror, _) = session::open_origin(&args.mirror)?;
    lies_apart(&from, mirror.layout().root())?;
    knows_an_index(&mirror, &args.mirror)?;
    let mirror = Arc::new(mirror);
    let job = Job {
        writer: mirror.writer()?,
        mirror: mirror.clone(),
        from,
        manifest,
        log: Arc::default(),
        gauge: Arc::default(),
        stop: CancellationToken::new(),
    };
    session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let job = Job { stop: signals.stop.clone(), ..job };
        let (log, gauge) = (job.log.clone(), job.gauge.clone());
        let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
        let (imported, checked) = tokio::select! {
            done = cpu.run(move || job.run()) => done?,
            never = progress::importing(&gauge, args.output.progress_interval) => match never {},
        };
        let summary = Summary::new(args, &mirror, (imported, checked), &log, begun)?;
        report::print(args.output.json, &summary)?;
        Ok(signals.code().map_or(summary.exit(), Exit::Interrupted))
    })
}

/// The folder's real path.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    let found = path.canonicalize().map_err(|error| usage(format!("cannot find {}: {error}", path.display())))?;
    if !found.is_dir() {
        return Err(usage(format!("{} is no folder", path.display())));
    }
    Ok(found)
}

fn open_manifest(path: &Path) -> anyhow::Result<File> {
    let cannot = |error| usage(format!("cannot read the manifest {}: {error}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.is_dir() {
        return Err(usage(format!("the manifest {} is a folder", path.display())));
    }
    Ok(file)
}

/// A mirror is no source for itself: its packs would be read while they grow.
fn lies_apart(from: &Path, mirror: &Path) -> anyhow::Result<()> {
    let root = mirror.canonicalize().with_context(|| format!("cannot find {}", mirror.display()))?;
    let problem = if root == from {
        "is the mirror itself"
    } else if root.starts_with(from) {
        "has the mirror in it"
    } else if from.starts_with(&root) {
        "lies in the mirror"
    } else {
        return Ok(());
    };
    Err(usage(format!("{} {problem}; name a folder that lies beside it", from.display())))
}

fn knows_an_index(mirror: &Mirror, path: &Path) -> anyhow::Result<()> {
    if mirror.ledger().reader()?.path_count()? > 0 {
        return Ok(());
    }
    let path = path.display();
    Err(usage(format!(
        "the mirror {path} knows no index yet, and only an index tells which files are wanted; read it with \
         `crateferry sync {path} --all --limit 0`, or with another selection"
    )))
}

/// An import that is about to run.
struct Job {
    mirror: Arc<Mirror>,
    writer: Writer,
    from: PathBuf,
    manifest: Option<File>,
    log: Arc<Log>,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
}

impl Job {
    fn run(self) -> Result<(Imported, Option<Checked>), ImportError> {
        let import = Import {
            mirror: &self.mirror,
            writer: &self.writer,
            clock: &SystemClock,
            limits: ImportLimits::default(),
            witness: &*self.log,
            gauge: &self.gauge,
            stop: &self.stop,
        };
        let audit = AuditLog::open(self.mirror.layout(), self.mirror.limits().manifest_bytes)?;
        let mut importing = import.from(&self.from, audit)?;
        let taken = take(&mut importing, self.manifest);
        // Whatever stopped it: what is whole is published.
        let imported = importing.finish();
        let checked = taken?;
        Ok((imported?, checked))
    }
}

fn take(importing: &mut Importing<'_>, manifest: Option<File>) -> Result<Option<Checked>, ImportError> {
    let checked = manifest.map(|log| importing.check(BufReader::new(log))).transpose()?;
    importing.walk()?;
    Ok(checked)
}

/// Keeps what is not as it should be, and logs it at once: a long import may be stopped before it prints a summary.
#[derive(Default)]
struct Log(Mutex<Found>);

#[derive(Default)]
struct Found {
    kinds: BTreeMap<&'static str, u64>,
    left_out: Vec<Left>,
    differences: Vec<Differs>,
}

impl Log {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Log {
    fn left_out(&self, name: FileName, reason: LeftOut) {
        match &reason {
            LeftOut::NotWanted(_) | LeftOut::Unknown(_) => tracing::info!(path = %name, %reason, "left out"),
            _ => tracing::warn!(path = %name, %reason, "left out"),
        }
        let mut found = self.found();
        *found.kinds.entry(reason.kind()).or_default() += 1;
        if found.left_out.len() < LISTED {
            found.left_out.push(Left::new(&name, &reason));
        }
    }

    fn differs(&self, line: u64, difference: Difference) {
        tracing::warn!(line, %difference, "the manifest differs");
        let mut found = self.found();
        if found.differences.len() < LISTED {
            found.differences.push(Differs { line, kind: difference.kind(), problem: difference.to_string() });
        }
    }
}

/// A file that is not in the mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Left {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_encoding: Option<&'static str>,
    kind: &'static str,
    problem: String,
    #[serde(skip)]
    shown: String,
}

impl Left {
    fn new(name: &FileName, reason: &LeftOut) -> Left {
        let (path, is_encoded) = name.written();
        Left {
            path: path.into_owned(),
            path_encoding: is_encoded.then_some(PERCENT),
            kind: reason.kind(),
            problem: reason.to_string(),
            shown: name.to_string(),
        }
    }
}

/// A line of the manifest that is not so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Differs {
    line: u64,
    kind: &'static str,
    problem: String,
}

/// What the manifest said.
#[derive(Debug, Serialize)]
struct ManifestSummary {
    path: String,
    #[serde(flatten)]
    checked: Checked,
    list: Vec<Differs>,
}

#[derive(Debug, Serialize)]
struct Summary {
    mirror: String,
    from: String,
    seconds: f64,
    #[serde(flatten)]
    imported: Imported,
    left_out_by_kind: BTreeMap<&'static str, u64>,
    left_out_files: Vec<Left>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<ManifestSummary>,
    /// Wanted releases that the mirror does not hold.
    still_wanted: u64,
    generation: Option<Generation>,
}

impl Summary {
    fn new(
        args: &ImportTreeArgs,
        mirror: &Mirror,
        (imported, checked): (Imported, Option<Checked>),
        log: &Log,
        begun: Instant,
    ) -> anyhow::Result<Summary> {
        let Found { kinds, mut left_out, mut differences } = std::mem::take(&mut *log.found());
        left_out.sort();
        differences.sort();
        let shown = |path: &Path| path.display().to_string();
        let manifest = args.manifest.as_deref().zip(checked);
        let manifest =
            manifest.map(|(path, checked)| ManifestSummary { path: shown(path), checked, list: differences });
        let reader = mirror.ledger().reader()?;
        let tally = reader.tally()?;
        Ok(Summary {
            mirror: shown(&args.mirror),
            from: shown(&args.from),
            seconds: (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            imported,
            left_out_by_kind: kinds,
            left_out_files: left_out,
            manifest,
            still_wanted: tally.wanted() + tally.refused,
            generation: reader.generation()?,
        })
    }

    fn exit(&self) -> Exit {
        let differences = self.manifest.as_ref().map_or(0, |manifest| manifest.checked.differences);
        if self.imported.left_out + differences == 0 { Exit::Complete } else { Exit::Holes }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { placed, held, others, left_out, .. } = self.imported;
        let (files, size, seconds) = (count(placed, "crate file"), bytes(self.imported.bytes), self.seconds);
        writeln!(f, "placed      {files}, {size} from {} in {seconds:.1} s; {held} held already", self.from)?;
        if others > 0 {
            writeln!(f, "ignored     {}", count(others, "other file"))?;
        }
        if left_out > 0 {
            let kinds: Vec<String> =
                self.left_out_by_kind.iter().map(|(kind, files)| format!("{files} {kind}")).collect();
            writeln!(f, "LEFT OUT    {} ({}):", count(left_out, "file"), kinds.join(", "))?;
            show(f, left_out, self.left_out_files.iter().map(|left| format!("{}: {}", left.shown, left.problem)))?;
        }
        if let Some(manifest) = &self.manifest {
            manifest.fmt(f)?;
        }
        match &self.generation {
            Some(generation) => {
                let counts = generation.counts;
                let (crates, rows) = (count(counts.crates, "crate"), count(counts.rows, "row"));
                writeln!(f, "generation  {}: {crates}, {rows}", generation.number)?;
            }
            None => writeln!(f, "generation  none yet")?,
        }
        if self.still_wanted > 0 {
            let wanted = count(self.still_wanted, "release");
            writeln!(f, "wanted      {wanted} not held; `crateferry sync {}` fetches what it can", self.mirror)?;
        }
        Ok(())
    }
}

impl fmt::Display for ManifestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked { same, failed_attempts, differences } = self.checked;
        let files = count(same, "file");
        writeln!(f, "manifest    {files} as logged; {failed_attempts} failed attempts; {differences} differences")?;
        show(f, differences, self.list.iter().map(|differs| format!("line {}: {}", differs.line, differs.problem)))
    }
}

/// Some of many lines.
fn show(f: &mut fmt::Formatter<'_>, all: u64, lines: impl Iterator<Item = String>) -> fmt::Result {
    for line in lines.take(SHOWN) {
        writeln!(f, "  {}", line.escape_debug())?;
    }
    match all.saturating_sub(SHOWN as u64) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more; --json and the log list them"),
    }
}
