//! `crateferry bundle verify` and `extract`: all bytes of a bundle, on any machine, without a mirror.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use crateferry_pipeline::bundle::{Memory, Receiver, TakeError, Taken, Unpacking};
use crateferry_pipeline::cpu::Cpu;
use crateferry_store::bundle::{
    BundleId, Document, Importer, Losses, Manifest, ParityError, VolumeError, VolumeReader, Which,
};
use crateferry_store::{
    AdvisoryDb, Blake3, BodyBuilder, BodyError, Facts, Point, Release, Sha256, Spool, VerifiedBytes,
};
use serde::Serialize;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, trusted};
use super::parity::{self, Found};
use crate::cli::{BundleExtractArgs, BundleReadArgs};
use crate::progress;
use crate::report::{self, Exit, bytes, count};
use crate::session;
use crate::signals::Signals;

/// Crate files up to here are kept in memory on their way, larger ones in a file.
const IN_MEMORY: u64 = 4 << 20;

/// How many damaged things are shown to people.
const SHOWN: usize = 20;

pub fn verify(args: &BundleReadArgs) -> anyhow::Result<Exit> {
    read(args, None)
}

pub fn extract(args: &BundleExtractArgs) -> anyhow::Result<Exit> {
    fs::create_dir_all(&args.to).with_context(|| format!("cannot make {}", args.to.display()))?;
    read(&args.read, Some(args.to.clone()))
}

pub fn name(manifest: &Manifest, number: u32) -> String {
    manifest.bundle.volume_name(number)
}

pub type Opened = Result<VolumeReader<BufReader<File>>, VolumeError>;

pub fn open_volume(folder: &Folder, manifest: &Manifest, number: u32) -> anyhow::Result<Option<Opened>> {
    let Some(summary) = manifest.volume(number) else { bail!("the bundle has no volume {number}") };
    let file = folder.volume(&manifest.bundle, number)?;
    Ok(file.map(|file| VolumeReader::open(BufReader::with_capacity(256 << 10, file), *summary)))
}

/// Reads all volumes that are there.
fn read(args: &BundleReadArgs, to: Option<PathBuf>) -> anyhow::Result<Exit> {
    let (signed, folder) = Folder::open(&args.bundle)?;
    let (manifest, _) = signed.manifest(&trusted(&args.trust)?)?;
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
        let unpacking = Unpacking { memory: Memory::default(), done: &self.done, stop: &stop };
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
        if self.to.is_none() && !stop() {
            self.parity(&mut read)?;
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

    /// Reads the parity volumes, and all once more by blocks if something is lost.
    fn parity(&self, read: &mut Read) -> anyhow::Result<()> {
        let Some(promised) = &self.manifest.parity else { return Ok(()) };
        let stop = || self.stop.is_cancelled();
        for (number, volume) in (1..).zip(&promised.volumes) {
            let which = Which::Parity(number);
            match self.folder.file(&self.manifest.bundle, which)? {
                None => read.parity_not_here.push(number),
                Some(file) => {
                    let name = self.manifest.bundle.file_name(which);
                    read.damaged.extend(parity::damage(file, volume, &stop).map(|damage| format!("{name}: {damage}")));
                }
            }
        }
        if read.damaged.is_empty() && read.not_here.is_empty() {
            return Ok(());
        }
        let [volumes, parity] = parity::openers(&self.folder, &self.manifest);
        match parity::look(&self.manifest, &volumes, &parity, &self.done, &stop) {
            Ok(Found::Blocks(mending)) => read.losses = Some(mending.losses()),
            Ok(Found::None | Found::Unreadable) | Err(ParityError::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
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

    fn advisories(&mut self, _: &AdvisoryDb, archive: Vec<u8>) -> Result<(), TakeError> {
        let Some(to) = self.to else { return Ok(()) };
        let path = to.join("advisory-db.tar.zst");
        let write = || fs::create_dir_all(to).and_then(|()| fs::write(&path, archive));
        write().map_err(|source| TakeError::Io { what: path.display().to_string(), source })
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
    /// Volumes of parity that are not there.
    parity_not_here: Vec<u32>,
    /// What is lost, and what of it the parity mends.
    #[serde(rename = "parity")]
    losses: Option<Losses>,
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
            parity_not_here: Vec::new(),
            losses: None,
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
        } else if self.not_here.is_empty() && self.parity_not_here.is_empty() {
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
        if !self.parity_not_here.is_empty() {
            writeln!(f, "not here    {}", count(self.parity_not_here.len() as u64, "parity volume"))?;
        }
        match &self.losses {
            Some(losses) if losses.beyond.is_empty() => {
                writeln!(f, "parity      {}: `crateferry bundle apply` makes them again", parity::told(losses))?;
            }
            Some(losses) => writeln!(f, "parity      does not suffice: {}", parity::told(losses))?,
            None => {}
        }
        Ok(())
    }
}

pub fn way(from: Option<&Point>, to: &Point) -> String {
    let from = from.map_or_else(|| "nothing".to_owned(), |from| format!("generation {}", from.generation));
    format!("from {from} to generation {} ({})", to.generation, to.digest)
}
