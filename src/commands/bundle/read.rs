//! `crateferry bundle inspect`, `verify` and `extract`: what a bundle is, on any machine, without a mirror.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use crateferry_pipeline::bundle::{Receiver, TakeError, Taken, Unpacking};
use crateferry_pipeline::cpu::Cpu;
use crateferry_store::bundle::{BundleId, Carried, Document, Importer, Line, Manifest, VolumeError, VolumeReader};
use crateferry_store::{Blake3, BodyBuilder, BodyError, Facts, Point, Release, Sha256, Spool, VerifiedBytes};
use serde::Serialize;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, trusted};
use crate::cli::{BundleExtractArgs, BundleReadArgs};
use crate::progress;
use crate::report::{self, Exit, bytes, count};
use crate::session;
use crate::signals::Signals;

/// Crate files up to here are kept in memory on their way, larger ones in a file.
const IN_MEMORY: u64 = 4 << 20;

/// How many crates and damaged things are shown to people.
const SHOWN: usize = 20;

pub fn inspect(args: &BundleReadArgs) -> anyhow::Result<Exit> {
    let folder = Folder::open(&args.bundle)?;
    let (manifest, _) = folder.manifest(&trusted(&args.trust)?)?;
    let mut contents = Contents::new(&manifest);
    for number in 1..=manifest.volumes.len() as u32 {
        match open_volume(&folder, &manifest, number)? {
            None => contents.not_here.push(number),
            Some(volume) => {
                for line in volume.with_context(|| name(&manifest, number))?.lines()? {
                    contents.line(line?);
                }
            }
        }
    }
    report::print(args.output.json, &contents)?;
    Ok(Exit::Complete)
}

pub fn verify(args: &BundleReadArgs) -> anyhow::Result<Exit> {
    read(args, None)
}

pub fn extract(args: &BundleExtractArgs) -> anyhow::Result<Exit> {
    fs::create_dir_all(&args.to).with_context(|| format!("cannot make {}", args.to.display()))?;
    read(&args.read, Some(args.to.clone()))
}

fn name(manifest: &Manifest, number: u32) -> String {
    manifest.bundle.volume_name(number)
}

type Opened = Result<VolumeReader<BufReader<File>>, VolumeError>;

fn open_volume(folder: &Folder, manifest: &Manifest, number: u32) -> anyhow::Result<Option<Opened>> {
    let Some(summary) = manifest.volume(number) else { bail!("the bundle has no volume {number}") };
    let file = folder.volume(&manifest.bundle, number)?;
    Ok(file.map(|file| VolumeReader::open(BufReader::with_capacity(256 << 10, file), *summary)))
}

/// Reads all volumes that are there.
fn read(args: &BundleReadArgs, to: Option<PathBuf>) -> anyhow::Result<Exit> {
    let folder = Folder::open(&args.bundle)?;
    let (manifest, _) = folder.manifest(&trusted(&args.trust)?)?;
    let aside = TempDir::new().context("cannot make a temporary folder")?;
    let job = Job { folder, manifest, to, aside, done: Arc::default(), stop: CancellationToken::new() };
    session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let job = Job { stop: signals.stop.clone(), ..job };
        let done = job.done.clone();
        let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
        let read = tokio::select! {
            read = cpu.run(move || job.run()) => read?,
            never = progress::moving("reading", &done, args.output.progress_interval) => match never {},
        };
        report::print(args.output.json, &read)?;
        Ok(signals.code().map_or(read.exit(), Exit::Interrupted))
    })
}

struct Job {
    folder: Folder,
    manifest: Manifest,
    to: Option<PathBuf>,
    /// For large crate files on their way.
    aside: TempDir,
    done: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Job {
    fn run(self) -> anyhow::Result<Read> {
        let mut read = Read::new(&self.manifest);
        let stop = || self.stop.is_cancelled();
        let unpacking = Unpacking { done: &self.done, stop: &stop };
        let mut looking = Looking { to: self.to.as_deref(), spool: Spool::new(self.aside.path()) };
        for number in 1..=self.manifest.volumes.len() as u32 {
            let Some(volume) = open_volume(&self.folder, &self.manifest, number)? else {
                read.not_here.push(number);
                continue;
            };
            let name = name(&self.manifest, number);
            match volume.map_err(TakeError::from).and_then(|volume| unpacking.volume(volume, &mut looking)) {
                Ok(taken) => read.take(&name, taken),
                Err(TakeError::Volume(problem)) => {
                    read.damaged.push(format!("{name}: {}", crateferry_pipeline::error_chain(&problem)));
                }
                Err(TakeError::Interrupted) => break,
                Err(error) => return Err(error).context(name),
            }
        }
        for Importer { name, length, sha256 } in &self.manifest.importers {
            match self.folder.program(name)? {
                None => read.damaged.push(format!("{name} is not here")),
                Some(bytes) if bytes.len() as u64 != *length || Sha256::of(&bytes) != *sha256 => {
                    read.damaged.push(format!("{name} is another program than the manifest names: do not run it"));
                }
                Some(_) => {}
            }
        }
        Ok(read)
    }
}

/// Receives without a mirror.
struct Looking<'a> {
    /// Where crate files are written, if they are.
    to: Option<&'a std::path::Path>,
    spool: Spool,
}

impl Receiver for Looking<'_> {
    fn holds(&mut self, _: &Release) -> Result<bool, TakeError> {
        Ok(false)
    }

    fn base(&mut self, _: &Release) -> Result<Option<Vec<u8>>, TakeError> {
        Ok(None)
    }

    fn put_aside(&mut self, _: Blake3, _: &[u8]) -> Result<bool, TakeError> {
        Ok(false)
    }

    fn begin(&mut self, length: u64) -> Result<BodyBuilder, BodyError> {
        if length <= IN_MEMORY { Ok(BodyBuilder::in_memory(length as usize)) } else { self.spool.begin() }
    }

    fn crate_file(&mut self, release: &Release, bytes: VerifiedBytes) -> Result<(), TakeError> {
        let Some(to) = self.to else { return Ok(()) };
        // Both parts of the name are of types that take nothing that could lead elsewhere.
        let (name, version) = (&release.id.name, &release.id.version);
        let path = to.join("crates").join(name.as_str()).join(format!("{name}-{version}.crate"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(to))?;
            let mut file = File::create(&path)?;
            io::copy(&mut bytes.reader(), &mut file).map(drop)
        };
        write().map_err(|source| TakeError::Io { what: path.display().to_string(), source })
    }

    fn text(&mut self, _: &Document, _: &[u8]) -> Result<(), TakeError> {
        Ok(())
    }

    fn facts(&mut self, _: &Release, _: &Facts) -> Result<(), TakeError> {
        Ok(())
    }
}

/// What was read of a bundle.
#[derive(Debug, Serialize)]
struct Read {
    bundle: BundleId,
    from: Option<Point>,
    to: Point,
    volumes: usize,
    /// Volumes that are not in the folder.
    not_here: Vec<u32>,
    /// Crate files that are right.
    releases: u64,
    bytes: u64,
    /// Frames whose crate files cannot be made again without the release that they build upon; their own digests are right.
    build_upon: Vec<String>,
    damaged: Vec<String>,
}

impl Read {
    fn new(manifest: &Manifest) -> Read {
        Read {
            bundle: manifest.bundle.clone(),
            from: manifest.from,
            to: manifest.to.point(),
            volumes: manifest.volumes.len(),
            not_here: Vec::new(),
            releases: 0,
            bytes: 0,
            build_upon: Vec::new(),
            damaged: Vec::new(),
        }
    }

    fn take(&mut self, name: &str, taken: Taken) {
        self.releases += taken.releases;
        self.bytes += taken.bytes;
        self.build_upon.extend(taken.bases.iter().map(ToString::to_string));
        let damaged = taken.damaged.into_iter();
        self.damaged
            .extend(damaged.map(|damage| format!("{name} at {}: {}: {}", damage.offset, damage.what, damage.problem)));
    }

    fn exit(&self) -> Exit {
        if !self.damaged.is_empty() {
            Exit::Integrity
        } else if self.not_here.is_empty() {
            Exit::Complete
        } else {
            Exit::Holes
        }
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bundle      {}, signed", self.bundle)?;
        writeln!(f, "leads       {}", way(self.from.as_ref(), &self.to))?;
        writeln!(f, "volumes     {} here of {}", self.volumes - self.not_here.len(), self.volumes)?;
        writeln!(f, "right       {}, {}", count(self.releases, "crate file"), bytes(self.bytes))?;
        if !self.build_upon.is_empty() {
            let frames = count(self.build_upon.len() as u64, "frame");
            writeln!(
                f,
                "build upon  {frames} that only a mirror with what they build upon can unpack; digests are right"
            )?;
        }
        for damage in self.damaged.iter().take(SHOWN) {
            writeln!(f, "damaged     {damage}")?;
        }
        Ok(())
    }
}

fn way(from: Option<&Point>, to: &Point) -> String {
    let from = from.map_or_else(|| "nothing".to_owned(), |from| format!("generation {}", from.generation));
    format!("from {from} to generation {} ({})", to.generation, to.digest)
}

/// What a bundle carries, by crate.
#[derive(Debug, Serialize)]
struct Contents {
    manifest: Manifest,
    /// Volumes that are not in the folder, so that what they hold is not listed.
    not_here: Vec<u32>,
    crates: BTreeMap<String, Carries>,
    removed: Vec<String>,
    holes: u64,
}

/// What is carried of a crate.
#[derive(Debug, Default, Serialize)]
struct Carries {
    new: Vec<String>,
    bytes: u64,
    withdrawn: Vec<String>,
}

impl Contents {
    fn new(manifest: &Manifest) -> Contents {
        let (crates, removed) = (BTreeMap::new(), Vec::new());
        Contents { manifest: manifest.clone(), not_here: Vec::new(), crates, removed, holes: 0 }
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Frame { crates, .. } => {
                for Carried(name, version, _, length) in crates {
                    self.new_release(name.to_string(), version.to_string(), length);
                }
            }
            Line::Crate { piece, release } => {
                self.new_release(release.name.to_string(), release.version.to_string(), piece.length);
            }
            Line::Withdrawn { release, .. } => {
                let carries = self.crates.entry(release.name.to_string()).or_default();
                carries.withdrawn.push(release.version.to_string());
            }
            Line::Removed { name } => self.removed.push(name.to_string()),
            Line::Hole { .. } => self.holes += 1,
            Line::Volume { .. } | Line::Texts { .. } | Line::Facts { .. } => {}
        }
    }

    fn new_release(&mut self, name: String, version: String, length: u64) {
        let carries = self.crates.entry(name).or_default();
        carries.new.push(version);
        carries.bytes += length;
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { bundle, mirror, from, to, tool, level, totals, volumes, .. } = &self.manifest;
        writeln!(f, "bundle      {bundle}, signed")?;
        writeln!(f, "mirror      {mirror}, epoch {}", to.epoch)?;
        writeln!(f, "leads       {}", way(from.as_ref(), &to.point()))?;
        let length: u64 = volumes.iter().map(|volume| volume.length).sum();
        writeln!(f, "volumes     {}, {}; level {level}, by {tool}", volumes.len(), bytes(length))?;
        let (releases, files) = (count(totals.releases, "release"), count(totals.index_files, "index file"));
        writeln!(f, "carries     {releases}, {}; {files}, {} removed", bytes(totals.bytes), totals.removed)?;
        if !self.not_here.is_empty() {
            writeln!(f, "not here    {}; what they hold is not listed", count(self.not_here.len() as u64, "volume"))?;
        }
        for (name, Carries { new, bytes: length, withdrawn }) in &self.crates {
            write!(f, "{name}  {} {}", new.join(" "), bytes(*length))?;
            if !withdrawn.is_empty() {
                write!(f, "  withdrawn: {}", withdrawn.join(" "))?;
            }
            writeln!(f)?;
        }
        self.removed.iter().try_for_each(|name| writeln!(f, "{name}  removed"))
    }
}
