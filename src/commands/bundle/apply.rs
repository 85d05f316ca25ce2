//! `crateferry bundle apply`: a bundle comes into a mirror, all at once or volume by volume.

use std::fmt;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use crateferry_pipeline::bundle::{Damage, SwitchError, TakeError, Taken, Taking, Unpacking, Verdict, judge, switch};
use crateferry_pipeline::cpu::Cpu;
use crateferry_store::bundle::{BundleId, Inbox, Manifest, VolumeReader};
use crateferry_store::{Generation, Layout, Mirror, Point, StoreLimits, Writer, disk_space};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, trusted_by};
use crate::cli::BundleApplyArgs;
use crate::config::{self, Role, Settings};
use crate::keys::Trust;
use crate::progress;
use crate::report::{self, Exit, bytes, count, usage};
use crate::session;
use crate::signals::Signals;

/// How many damaged or lacking things are told; all are logged.
const SHOWN: usize = 10;

pub fn run(args: &BundleApplyArgs) -> anyhow::Result<Exit> {
    let prepared = prepare(&args.mirror, &args.bundle, || trusted_by(&args.mirror, &args.trust))?;
    let summary = match prepared {
        Prepared::Done(summary) => *summary,
        Prepared::Job(job) => session::runtime()?.block_on(async {
            let signals = Signals::listen().context("cannot listen to signals")?;
            let job = Job { stop: signals.stop.clone(), ..*job };
            let done = job.done.clone();
            let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
            let mut summary = tokio::select! {
                done = cpu.run(move || job.run()) => done?,
                never = progress::moving("applying", &done, args.output.progress_interval) => match never {},
            };
            summary.signal = signals.code().filter(|_| summary.interrupted);
            anyhow::Ok(summary)
        })?,
    };
    report::print(args.output.json, &summary)?;
    Ok(summary.exit())
}

/// Applies a bundle that lies in a folder whole; none if it is not finished yet.
pub fn apply_finished(mirror: &Path, bundle: &Path, stop: &CancellationToken) -> anyhow::Result<Option<Summary>> {
    let trust = || Trust::read(&Layout::new(mirror));
    let folder = Folder::open(bundle)?;
    let (manifest, _) = folder.manifest(&trust()?)?;
    if !folder.is_finished(&manifest)? {
        return Ok(None);
    }
    match prepare(mirror, bundle, trust)? {
        Prepared::Done(summary) => Ok(Some(*summary)),
        Prepared::Job(job) => Job { stop: stop.clone(), ..*job }.run().map(Some),
    }
}

/// What is to be done about a bundle.
enum Prepared {
    /// Nothing.
    Done(Box<Summary>),
    /// Its volumes are to be taken in.
    Job(Box<Job>),
}

/// Checks a bundle against what is trusted and what is served.
fn prepare(path: &Path, bundle: &Path, trust: impl Fn() -> anyhow::Result<Trust>) -> anyhow::Result<Prepared> {
    let folder = Folder::open(bundle)?;
    let (manifest, _) = folder.manifest(&trust()?)?;
    let mirror = open_replica(path, &manifest)?;
    // Once more by what is trusted now that nobody else can change it.
    let trust = trust()?;
    let (manifest, judged) = folder.manifest(&trust)?;
    trust.keep(mirror.layout())?;
    let waits = match judge(&manifest, &mirror.ledger().reader()?)? {
        Verdict::Refused(refusal) => return Err(refusal.into()),
        Verdict::Applied => {
            judged.keep(mirror.layout())?;
            return Ok(Prepared::Done(Box::new(Summary::applied_before(&manifest))));
        }
        Verdict::Applies => None,
        Verdict::Waits { from } => Some(from),
    };
    let inbox = Inbox::of(mirror.layout(), &manifest.bundle);
    has_room(&mirror, &inbox, &manifest)?;
    judged.keep(mirror.layout())?;
    inbox.keep_manifest(folder.text())?;
    let (writer, done, stop) = (mirror.writer()?, Arc::default(), CancellationToken::new());
    Ok(Prepared::Job(Box::new(Job { mirror, writer, folder, manifest, inbox, waits, done, stop })))
}

/// Opens a replica; a folder that is none yet becomes one, with the id of the bundle's mirror.
fn open_replica(path: &Path, manifest: &Manifest) -> anyhow::Result<Mirror> {
    match session::open(path) {
        Ok((mirror, config)) if config.role == Role::Replica => Ok(mirror),
        Ok(_) => Err(usage(format!(
            "{} syncs from an upstream of its own, and bundles are for replicas; name a new folder",
            path.display()
        ))),
        Err(error) if session::is_missing(&error) => {
            Mirror::check_new(path)?;
            let text = config::text(&manifest.mirror, &Settings::replica()?)?;
            Ok(Mirror::create(path, &manifest.mirror, &text, StoreLimits::default())?)
        }
        Err(error) => Err(error),
    }
}

/// Sees that there is room for what is not taken in yet.
fn has_room(mirror: &Mirror, inbox: &Inbox, manifest: &Manifest) -> anyhow::Result<()> {
    let lacking = inbox.lacking(manifest)?;
    let all: u64 = manifest.volumes.iter().map(|volume| volume.length).sum();
    let left: u64 = lacking.iter().filter_map(|number| manifest.volume(*number)).map(|volume| volume.length).sum();
    // Crate files by their own length, the rest as it is carried; a tenth more for what keeps track of it.
    let part = if all == 0 { 0.0 } else { left as f64 / all as f64 };
    let needs = ((manifest.totals.bytes + manifest.totals.carried) as f64 * part * 1.1) as u64;
    let Some(space) = disk_space(mirror.layout()).context("cannot ask how much room there is")? else { return Ok(()) };
    if space.free < needs {
        bail!("there are {} free where the mirror is, and the bundle needs about {}", bytes(space.free), bytes(needs));
    }
    Ok(())
}

/// A bundle that is about to be applied.
struct Job {
    mirror: Mirror,
    writer: Writer,
    folder: Folder,
    manifest: Manifest,
    inbox: Inbox,
    waits: Option<Point>,
    done: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Job {
    fn run(self) -> anyhow::Result<Summary> {
        let mut summary = Summary::new(&self.manifest);
        for number in 1..=self.manifest.volumes.len() as u32 {
            if !self.inbox.has_taken(&self.manifest, number)? {
                self.volume(number, &mut summary)?;
            }
            if summary.interrupted {
                return Ok(summary);
            }
        }
        summary.missing = self.inbox.lacking(&self.manifest)?;
        summary.missing.retain(|number| !summary.damaged_volumes.contains(number));
        summary.waits_for = self.waits;
        let is_there = summary.missing.is_empty() && summary.damaged_volumes.is_empty() && self.waits.is_none();
        if is_there && self.switch(&self.inbox, &self.manifest, &mut summary)? {
            self.those_that_waited(&mut summary)?;
        }
        Ok(summary)
    }

    /// Takes in what had to wait of a bundle and serves what it leads to, if nothing of it is lacking; says whether it did.
    fn switch(&self, inbox: &Inbox, manifest: &Manifest, summary: &mut Summary) -> anyhow::Result<bool> {
        let stop = || self.stop.is_cancelled();
        let unpacking = Unpacking { done: &self.done, stop: &stop };
        let taking = Taking { mirror: &self.mirror, writer: &self.writer, inbox, unpacking };
        let waited = taking.what_waited(manifest)?;
        summary.lacking.extend(waited.bases.iter().map(ToString::to_string));
        let told = |damage: &Damage| format!("what waited of {}: {}: {}", manifest.bundle, damage.what, damage.problem);
        summary.damaged.extend(waited.damaged.iter().map(told));
        let (is_whole, is_damaged) = (waited.is_whole(), !waited.damaged.is_empty());
        summary.taken.add(waited);
        if is_damaged {
            inbox.remove()?; // so that its volumes are read again
        }
        if !is_whole {
            return Ok(false);
        }
        match switch(&self.mirror, &self.writer, inbox, manifest) {
            Ok(generation) => {
                inbox.remove()?;
                summary.serves = Some(generation);
                Ok(true)
            }
            Err(SwitchError::Lacking(lacking)) => {
                inbox.remove()?;
                summary.lacking.extend(lacking);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn volume(&self, number: u32, summary: &mut Summary) -> anyhow::Result<()> {
        let Some(expected) = self.manifest.volume(number) else { return Ok(()) };
        let Some(file) = self.folder.volume(&self.manifest.bundle, number)? else { return Ok(()) };
        let stop = || self.stop.is_cancelled();
        let unpacking = Unpacking { done: &self.done, stop: &stop };
        let taking = Taking { mirror: &self.mirror, writer: &self.writer, inbox: &self.inbox, unpacking };
        let opened = VolumeReader::open(BufReader::with_capacity(256 << 10, file), *expected);
        let taken = opened.map_err(TakeError::from).and_then(|volume| {
            let contents = volume.contents().to_vec();
            taking.volume(volume).map(|taken| (taken, contents))
        });
        let name = self.manifest.bundle.volume_name(number);
        match taken {
            Ok((taken, contents)) => {
                for damage in &taken.damaged {
                    let (offset, what, problem) = (damage.offset, &damage.what, &damage.problem);
                    tracing::error!(volume = name, offset, what, problem, "damaged");
                }
                if taken.is_whole() {
                    self.inbox.keep_contents(number, &contents)?;
                } else if !taken.damaged.is_empty() {
                    summary.damaged_volumes.push(number);
                    let what =
                        |damage: &Damage| format!("{name} at {}: {}: {}", damage.offset, damage.what, damage.problem);
                    summary.damaged.extend(taken.damaged.iter().map(what));
                }
                summary.lacking.extend(taken.bases.iter().map(ToString::to_string));
                summary.taken.add(taken);
            }
            Err(TakeError::Volume(problem)) => {
                let problem = crateferry_pipeline::error_chain(&problem);
                tracing::error!(volume = name, problem, "damaged");
                summary.damaged_volumes.push(number);
                summary.damaged.push(format!("{name}: {problem}"));
            }
            Err(TakeError::Interrupted) => summary.interrupted = true,
            Err(error) => return Err(error).with_context(|| format!("cannot take {name} in")),
        }
        Ok(())
    }

    /// Bundles that came before what they build upon.
    fn those_that_waited(&self, summary: &mut Summary) -> anyhow::Result<()> {
        while let Some((inbox, manifest)) = self.next_that_waited()? {
            if !self.switch(&inbox, &manifest, summary)? {
                break;
            }
            summary.then.push(manifest.bundle);
        }
        Ok(())
    }

    fn next_that_waited(&self) -> anyhow::Result<Option<(Inbox, Manifest)>> {
        for bundle in Inbox::waiting(self.mirror.layout())? {
            let inbox = Inbox::of(self.mirror.layout(), &bundle);
            let Some(text) = inbox.manifest()? else { continue };
            let manifest = Manifest::parse(&text)?;
            match judge(&manifest, &self.mirror.ledger().reader()?)? {
                Verdict::Applied => inbox.remove()?,
                Verdict::Applies if inbox.lacking(&manifest)?.is_empty() => return Ok(Some((inbox, manifest))),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What came of a bundle.
#[derive(Debug, Serialize)]
pub struct Summary {
    bundle: BundleId,
    to: Point,
    /// It was applied before; nothing was done.
    applied_before: bool,
    #[serde(flatten, serialize_with = "taken_fields")]
    taken: Taken,
    /// Volumes that are neither here nor taken in.
    missing: Vec<u32>,
    damaged_volumes: Vec<u32>,
    damaged: Vec<String>,
    /// Releases that are not held, and that others build upon.
    lacking: Vec<String>,
    /// The generation that has to come first.
    waits_for: Option<Point>,
    /// What is served now.
    serves: Option<Generation>,
    /// Bundles that had waited for this one.
    then: Vec<BundleId>,
    #[serde(skip)]
    interrupted: bool,
    /// The exit code of the signal that interrupted it.
    #[serde(skip)]
    signal: Option<u8>,
}

fn taken_fields<S: serde::Serializer>(taken: &Taken, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields {
        releases: u64,
        bytes: u64,
        there: u64,
    }
    Fields { releases: taken.releases, bytes: taken.bytes, there: taken.there }.serialize(serializer)
}

impl Summary {
    fn new(manifest: &Manifest) -> Summary {
        Summary {
            bundle: manifest.bundle.clone(),
            to: manifest.to.point(),
            applied_before: false,
            taken: Taken::default(),
            missing: Vec::new(),
            damaged_volumes: Vec::new(),
            damaged: Vec::new(),
            lacking: Vec::new(),
            waits_for: None,
            serves: None,
            then: Vec::new(),
            interrupted: false,
            signal: None,
        }
    }

    fn applied_before(manifest: &Manifest) -> Summary {
        Summary { applied_before: true, ..Summary::new(manifest) }
    }

    /// How a run ends that came to this.
    pub fn exit(&self) -> Exit {
        if let Some(signal) = self.signal {
            Exit::Interrupted(signal)
        } else if !self.damaged.is_empty() {
            Exit::Integrity
        } else if self.serves.is_some() || self.applied_before {
            Exit::Complete
        } else {
            Exit::Holes
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bundle      {}, to generation {}", self.bundle, self.to.generation)?;
        if self.interrupted {
            writeln!(f, "interrupted the same command goes on where this one was")?;
        }
        if self.applied_before {
            return writeln!(f, "applied     before; nothing to do");
        }
        let Taken { releases, bytes: taken, there, .. } = &self.taken;
        writeln!(f, "taken in    {}, {}; {} there already", count(*releases, "release"), bytes(*taken), there)?;
        for damage in self.damaged.iter().take(SHOWN) {
            writeln!(f, "damaged     {damage}")?;
        }
        if !self.damaged.is_empty() {
            writeln!(f, "            copy the damaged volumes again and run the same command")?;
        }
        if !self.missing.is_empty() {
            let names: Vec<String> =
                self.missing.iter().take(SHOWN).map(|number| self.bundle.volume_name(*number)).collect();
            writeln!(f, "missing     {} of its volumes: {}", self.missing.len(), names.join(" "))?;
            writeln!(f, "            run `crateferry bundle apply` with the media that hold them")?;
        }
        if !self.lacking.is_empty() {
            let names: Vec<&str> = self.lacking.iter().take(SHOWN).map(String::as_str).collect();
            writeln!(f, "lacking     {}: {}", count(self.lacking.len() as u64, "release"), names.join(" "))?;
            writeln!(f, "            apply the bundles before this one, or one made with `--full`")?;
        }
        if self.taken.waiting > 0 {
            writeln!(f, "put aside   {} until what they build upon is there", count(self.taken.waiting, "frame"))?;
        }
        if let Some(from) = self.waits_for {
            writeln!(f, "waits       for generation {}: apply the bundle that leads to it first", from.generation)?;
        }
        if !self.then.is_empty() {
            writeln!(f, "then        {} that had waited", count(self.then.len() as u64, "bundle"))?;
        }
        match &self.serves {
            Some(Generation { number, digest, counts, .. }) => {
                let (crates, rows) = (count(counts.crates, "crate"), count(counts.rows, "row"));
                writeln!(f, "serves      generation {number}: {crates}, {rows}\ndigest      {digest}")
            }
            None => writeln!(f, "serves      what it served before"),
        }
    }
}
