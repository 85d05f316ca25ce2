//! `crateferry bundle apply`: a bundle comes into a mirror, all at once or volume by volume.

use std::fmt;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use crateferry_pipeline::bundle::{
    Damage, Memory, SwitchError, TakeError, Taken, Taking, Unpacking, Verdict, judge, switch,
};
use crateferry_pipeline::cpu::Cpu;
use crateferry_store::bundle::{BundleId, Inbox, Losses, Manifest, Mending, ParityError, VolumeReader};
use crateferry_store::{Generation, Layout, Mirror, Point, StoreLimits, Writer, disk_space};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, SignedManifest, trusted_by};
use super::parity::{self, Found};
use super::stream::{self, Stream};
use crate::cli::BundleApplyArgs;
use crate::config::{self, Config, Role, Settings};
use crate::keys::Trust;
use crate::progress;
use crate::report::{self, Exit, bytes, count, usage};
use crate::session;
use crate::signals::Signals;

/// How many damaged or lacking things are told; all are logged.
const SHOWN: usize = 10;

pub fn run(args: &BundleApplyArgs) -> anyhow::Result<Exit> {
    let (signed, source) = open(&args.bundle)?;
    let prepared = prepare(&args.mirror, &signed, source, || trusted_by(&args.mirror, &args.trust))?;
    let summary = match prepared {
        Prepared::Done(summary) => *summary,
        Prepared::Job(job, source) => session::runtime()?.block_on(async {
            let signals = Signals::listen().context("cannot listen to signals")?;
            let job = Job { stop: signals.stop.clone(), ..*job };
            let done = job.done.clone();
            let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
            let mut summary = tokio::select! {
                done = cpu.run(move || job.run(source)) => done?,
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
    let (signed, folder) = Folder::open(bundle)?;
    let (manifest, _) = signed.manifest(&trust()?)?;
    if !folder.is_finished(&manifest)? {
        return Ok(None);
    }
    match prepare(mirror, &signed, Source::Folder(folder), trust)? {
        Prepared::Done(summary) => Ok(Some(*summary)),
        Prepared::Job(job, source) => Job { stop: stop.clone(), ..*job }.run(source).map(Some),
    }
}

/// Where volumes come from.
enum Source {
    Folder(Folder),
    Stream(Stream),
}

fn open(bundle: &Path) -> anyhow::Result<(SignedManifest, Source)> {
    if stream::is_meant(bundle) {
        let (signed, stream) = Stream::open(io::stdin())?;
        return Ok((signed, Source::Stream(stream)));
    }
    let (signed, folder) = Folder::open(bundle)?;
    Ok((signed, Source::Folder(folder)))
}

/// What is to be done about a bundle.
enum Prepared {
    /// Nothing.
    Done(Box<Summary>),
    /// Its volumes are to be taken in.
    Job(Box<Job>, Source),
}

/// Checks a bundle against what is trusted and what is served.
fn prepare(
    path: &Path,
    signed: &SignedManifest,
    source: Source,
    trust: impl Fn() -> anyhow::Result<Trust>,
) -> anyhow::Result<Prepared> {
    let (manifest, _) = signed.manifest(&trust()?)?;
    let (mirror, config) = open_replica(path, &manifest)?;
    let (memory, incoming) = (config.bundles.memory()?, config.bundles.incoming.as_u64());
    // Once more by what is trusted now that nobody else can change it.
    let trust = trust()?;
    let (manifest, judged) = signed.manifest(&trust)?;
    trust.keep(mirror.layout())?;
    let ledger = mirror.ledger().reader()?;
    let mut again = false;
    let waits = match judge(&manifest, &ledger)? {
        Verdict::Refused(refusal) => return Err(refusal.into()),
        // It may bring again what was lost since.
        Verdict::Applied if !ledger.lost()?.is_empty() => {
            again = true;
            None
        }
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
    inbox.keep_manifest(&signed.manifest)?;
    let (writer, done, stop) = (mirror.writer()?, Arc::default(), CancellationToken::new());
    Ok(Prepared::Job(
        Box::new(Job { mirror, writer, manifest, inbox, waits, again, memory, incoming, done, stop }),
        source,
    ))
}

/// Opens a replica; a folder that is none yet becomes one, with the id of the bundle's mirror.
fn open_replica(path: &Path, manifest: &Manifest) -> anyhow::Result<(Mirror, Config)> {
    match session::open(path) {
        Ok((mirror, config)) if config.role == Role::Replica => Ok((mirror, config)),
        Ok(_) => Err(usage(format!(
            "{} syncs from an upstream of its own, and bundles are for replicas; name a new folder",
            path.display()
        ))),
        Err(error) if session::is_missing(&error) => {
            Mirror::check_new(path)?;
            let text = config::text(&manifest.mirror, &Settings::replica()?)?;
            let mirror = Mirror::create(path, &manifest.mirror, &text, StoreLimits::default())?;
            Ok((mirror, Config::read(path)?))
        }
        Err(error) => Err(error),
    }
}

/// Sees that there is room for what is not taken in yet.
fn has_room(mirror: &Mirror, inbox: &Inbox, manifest: &Manifest) -> anyhow::Result<()> {
    let lacking = inbox.lacking(manifest)?;
    let left = lacking.iter().filter_map(|number| manifest.volume(*number)).map(|volume| volume.length).sum();
    has_free(mirror, room_for(manifest, left, inbox.frames_length()?), "the bundle")
}

/// What is needed to take in so many bytes of volumes and of frames that wait, about.
fn room_for(manifest: &Manifest, volumes: u64, frames: u64) -> u64 {
    let all: u64 = manifest.volumes.iter().map(|volume| volume.length).sum();
    let part = if all == 0 { 0.0 } else { volumes as f64 / all as f64 };
    // Frames that wait take room already; what they become does not yet.
    let waiting = frames as f64 / manifest.totals.carried.max(1) as f64;
    // Crate files by their own length, the rest as it is carried; a tenth more for what keeps track of it.
    let needs = manifest.totals.bytes as f64 * (part + waiting) + manifest.totals.carried as f64 * part;
    (needs * 1.1) as u64
}

fn has_free(mirror: &Mirror, needs: u64, what: &str) -> anyhow::Result<()> {
    let Some(space) = disk_space(mirror.layout()).context("cannot ask how much room there is")? else { return Ok(()) };
    if space.free < needs {
        bail!("there are {} free where the mirror is, and {what} needs about {}", bytes(space.free), bytes(needs));
    }
    Ok(())
}

/// A bundle that is about to be applied.
struct Job {
    mirror: Mirror,
    writer: Writer,
    manifest: Manifest,
    inbox: Inbox,
    waits: Option<Point>,
    /// Whether it was applied before, and only what was lost since counts.
    again: bool,
    memory: Memory,
    /// How many bytes may wait for other bundles.
    incoming: u64,
    done: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Job {
    fn run(self, source: Source) -> anyhow::Result<Summary> {
        let mut summary = Summary::new(&self.manifest);
        let folder = self.volumes(source, &mut summary)?;
        if let Some(folder) = &folder {
            self.mend(folder, &mut summary)?;
        }
        if summary.interrupted {
            return Ok(summary);
        }
        summary.missing = self.inbox.lacking(&self.manifest)?;
        summary.missing.retain(|number| !summary.damaged_volumes.contains(number));
        summary.waits_for = self.waits;
        let is_there = summary.missing.is_empty() && summary.damaged_volumes.is_empty() && self.waits.is_none();
        if self.again {
            return self.end_again(is_there, summary);
        }
        if is_there && self.switch(&self.inbox, &self.manifest, &mut summary)? {
            self.those_that_waited(&mut summary)?;
        }
        Ok(summary)
    }

    /// Lets readers see what came again, and counts what did not.
    fn end_again(self, is_there: bool, mut summary: Summary) -> anyhow::Result<Summary> {
        if is_there {
            self.take_what_waited(&self.inbox, &self.manifest, &mut summary)?;
            self.inbox.remove()?;
        }
        self.mirror.refresh_catalog()?;
        let ledger = self.mirror.ledger().reader()?;
        (summary.still_lost, summary.serves) = (Some(ledger.lost()?.len() as u64), ledger.generation()?);
        Ok(summary)
    }

    /// Takes in what had to wait of a bundle; says whether nothing of it waits any more.
    fn take_what_waited(&self, inbox: &Inbox, manifest: &Manifest, summary: &mut Summary) -> anyhow::Result<bool> {
        let stop = || self.stop.is_cancelled();
        let unpacking = Unpacking { memory: self.memory, done: &self.done, stop: &stop };
        let taking = Taking {
            mirror: &self.mirror,
            writer: &self.writer,
            inbox,
            incoming: self.incoming,
            again: self.again,
            unpacking,
        };
        let waited = taking.what_waited(manifest)?;
        summary.lacking.extend(waited.bases.iter().map(ToString::to_string));
        let told = |damage: &Damage| format!("what waited of {}: {}: {}", manifest.bundle, damage.what, damage.problem);
        summary.damaged.extend(waited.damaged.iter().map(told));
        let (is_whole, is_damaged) = (waited.is_whole(), !waited.damaged.is_empty());
        summary.taken.add(waited);
        if is_damaged {
            inbox.remove()?; // so that its volumes are read again
        }
        Ok(is_whole)
    }

    /// Takes in what had to wait of a bundle and serves what it leads to, if nothing of it is lacking; says whether it did.
    fn switch(&self, inbox: &Inbox, manifest: &Manifest, summary: &mut Summary) -> anyhow::Result<bool> {
        if !self.take_what_waited(inbox, manifest, summary)? {
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

    /// Takes in the volumes that are here and were not taken in before; gives back the folder, if they lie in one.
    fn volumes(&self, source: Source, summary: &mut Summary) -> anyhow::Result<Option<Folder>> {
        let count = self.manifest.volumes.len() as u32;
        match source {
            Source::Folder(folder) => {
                for number in 1..=count {
                    if !summary.interrupted
                        && !self.inbox.has_taken(&self.manifest, number)?
                        && let Some(file) = folder.volume(&self.manifest.bundle, number)?
                    {
                        self.volume(number, BufReader::with_capacity(256 << 10, file), summary)?;
                    }
                }
                Ok(Some(folder))
            }
            Source::Stream(mut stream) => {
                while !summary.interrupted
                    && let Some((number, bytes)) =
                        stream.volume(&self.manifest.bundle, count).context("cannot read the stream")?
                {
                    if !self.inbox.has_taken(&self.manifest, number)? {
                        self.volume(number, bytes, summary)?;
                    }
                }
                Ok(None)
            }
        }
    }

    /// Makes volumes again that are damaged or not here, as far as the parity here suffices, and takes them in.
    fn mend(&self, folder: &Folder, summary: &mut Summary) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        for number in self.inbox.lacking(&self.manifest)? {
            let is_damaged = summary.damaged_volumes.contains(&number);
            if is_damaged || folder.volume(&self.manifest.bundle, number)?.is_none() {
                wrong.push(number);
            }
        }
        if wrong.is_empty() || summary.interrupted {
            return Ok(());
        }
        let stop = || self.stop.is_cancelled();
        let [volumes, parity] = parity::openers(folder, &self.manifest);
        let mending = match parity::look(&self.manifest, &volumes, &parity, &self.done, &stop) {
            Ok(Found::Blocks(mending)) => mending,
            Ok(Found::None) => return Ok(()),
            Ok(Found::Unreadable) => {
                tracing::warn!("no parity volume here has a table that is not damaged, so none of them helps");
                return Ok(());
            }
            Err(ParityError::Interrupted) => {
                summary.interrupted = true;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let losses = mending.losses();
        for number in wrong.into_iter().filter(|number| !losses.beyond.contains(number)) {
            if !summary.interrupted {
                self.rebuild(&mending, number, summary)?;
            }
        }
        summary.parity = Some(losses).filter(|losses| !losses.beyond.is_empty());
        Ok(())
    }

    /// Makes one volume again and takes it in like any other.
    fn rebuild(&self, mending: &Mending<'_>, number: u32, summary: &mut Summary) -> anyhow::Result<()> {
        let name = self.manifest.bundle.volume_name(number);
        let Some(expected) = self.manifest.volume(number) else { return Ok(()) };
        has_free(
            &self.mirror,
            expected.length + room_for(&self.manifest, expected.length, 0),
            &format!("making {name} again"),
        )?;
        let mut rebuilding = self.inbox.rebuilding(number)?;
        let stop = || self.stop.is_cancelled();
        let blocks = match mending.rebuild(number, &rebuilding.file, &self.done, &stop) {
            Ok(blocks) => blocks,
            Err(ParityError::Interrupted) => {
                summary.interrupted = true;
                return Ok(());
            }
            // A medium that reads differently each time: others may still be mended.
            Err(error @ (ParityError::Read { .. } | ParityError::Changed { .. })) => {
                let problem = crateferry_pipeline::error_chain(&error);
                tracing::error!(volume = name, problem, "cannot be made again");
                return Ok(());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot make {name} again")),
        };
        tracing::info!(volume = name, blocks, "made again from parity");
        summary.forget_damage(number);
        rebuilding.file.rewind().with_context(|| format!("cannot read {name} as it was made again"))?;
        self.volume(number, BufReader::with_capacity(256 << 10, &rebuilding.file), summary)?;
        if self.inbox.has_taken(&self.manifest, number)? {
            summary.rebuilt.push(number);
        }
        Ok(())
    }

    fn volume(&self, number: u32, bytes: impl Read, summary: &mut Summary) -> anyhow::Result<()> {
        let Some(expected) = self.manifest.volume(number) else { return Ok(()) };
        let stop = || self.stop.is_cancelled();
        let unpacking = Unpacking { memory: self.memory, done: &self.done, stop: &stop };
        let taking = Taking {
            mirror: &self.mirror,
            writer: &self.writer,
            inbox: &self.inbox,
            incoming: self.incoming,
            again: self.again,
            unpacking,
        };
        let opened = VolumeReader::open(bytes, *expected);
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
    /// It was applied before, and so many releases that were lost since it did not bring again.
    #[serde(skip_serializing_if = "Option::is_none")]
    still_lost: Option<u64>,
    #[serde(flatten, serialize_with = "taken_fields")]
    taken: Taken,
    /// Volumes that are neither here nor taken in.
    missing: Vec<u32>,
    damaged_volumes: Vec<u32>,
    damaged: Vec<String>,
    /// Volumes that were made again from parity.
    rebuilt: Vec<u32>,
    /// What is lost, if it is more than the parity mends.
    parity: Option<Losses>,
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
            still_lost: None,
            taken: Taken::default(),
            missing: Vec::new(),
            damaged_volumes: Vec::new(),
            damaged: Vec::new(),
            rebuilt: Vec::new(),
            parity: None,
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

    /// Forgets what was wrong with a volume.
    fn forget_damage(&mut self, number: u32) {
        let name = self.bundle.volume_name(number);
        self.damaged_volumes.retain(|damaged| *damaged != number);
        self.damaged.retain(|damage| !damage.starts_with(&name));
    }

    fn names(&self, volumes: &[u32]) -> String {
        let names = volumes.iter().take(SHOWN).map(|number| self.bundle.volume_name(*number));
        names.collect::<Vec<_>>().join(" ")
    }

    /// How a run ends that came to this.
    pub fn exit(&self) -> Exit {
        if let Some(signal) = self.signal {
            Exit::Interrupted(signal)
        } else if !self.damaged.is_empty() {
            Exit::Integrity
        } else if self.still_lost.is_none_or(|lost| lost == 0) && (self.serves.is_some() || self.applied_before) {
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
            writeln!(f, "missing     {} of its volumes: {}", self.missing.len(), self.names(&self.missing))?;
            writeln!(f, "            run `crateferry bundle apply` with the media that hold them")?;
        }
        if !self.rebuilt.is_empty() {
            writeln!(
                f,
                "rebuilt     {} from parity: {}",
                count(self.rebuilt.len() as u64, "volume"),
                self.names(&self.rebuilt)
            )?;
        }
        if let Some(losses) = &self.parity {
            writeln!(f, "parity      does not suffice: {}", parity::told(losses))?;
            writeln!(
                f,
                "            lay a good copy of one of these volumes beside the others and run the same command"
            )?;
        }
        if !self.lacking.is_empty() {
            let names: Vec<&str> = self.lacking.iter().take(SHOWN).map(String::as_str).collect();
            writeln!(f, "lacking     {}: {}", count(self.lacking.len() as u64, "release"), names.join(" "))?;
            writeln!(f, "            apply the bundles before this one, or one made with `--full`")?;
        }
        if let Some(lost) = self.still_lost {
            writeln!(f, "applied     before; {} still lacking", count(lost, "lost release"))?;
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
