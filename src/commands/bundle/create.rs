//! `crateferry bundle create`: a mirror, or what changed of it, as signed volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use anyhow::{Context as _, bail};
use crateferry_pipeline::bundle::{Memory, PackError, Packing, Staged};
use crateferry_pipeline::cpu::Cpu;
use crateferry_pipeline::reflate::zstd_version;
use crateferry_store::bundle::{
    BundleId, Importer, Manifest, Parity, Plan, PlanError, Receipt, Staging, VolumeSummary,
};
use crateferry_store::{Blake3, CrateName, LedgerReader, Mirror, Point, Sha256, Version, Wish, make_names_durable};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::folder::{CHAIN, MANIFEST};
use super::parity::{self, Brief};
use super::stream;
use crate::cli::{BundleCreateArgs, BundleFormArgs, Level, ReceiptTrustArgs, SyncArgs};
use crate::keys::{Chain, Moment, SignatureFile, SigningKey, Trust, sign_all};
use crate::metrics::ProcessUse;
use crate::progress;
use crate::receipt;
use crate::report::{self, Exit, bytes, count, usage};
use crate::session;
use crate::signals::Signals;
use crate::wishes::lacking;

/// How many wishes are shown to people.
const SHOWN: usize = 20;

/// What the manifest says that made it.
const TOOL: &str = concat!("crateferry ", env!("CARGO_PKG_VERSION"));

/// Makes a bundle of what a sync published: what changed since a generation, or all there is.
pub fn of_sync(args: &SyncArgs, out: &Path, since: Option<u64>) -> anyhow::Result<()> {
    run(&BundleCreateArgs {
        mirror: args.mirror.clone(),
        out: out.to_owned(),
        full: since.is_none(),
        since,
        for_receipt: None,
        receipt_trust: ReceiptTrustArgs::default(),
        form: args.form.clone(),
        output: args.output.clone(),
    })
    .map(drop)
}

pub fn run(args: &BundleCreateArgs) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let keys = signing_keys(&args.form)?;
    let is_stream = stream::is_meant(&args.out);
    if is_stream && keys.is_empty() {
        return Err(usage("a stream cannot be signed elsewhere; make the bundle in a folder first"));
    }
    let (mirror, config) = session::open(&args.mirror)?;
    let memory = config.bundles.memory()?;
    let ledger = mirror.ledger().reader()?;
    let receipt = args.for_receipt.as_ref().map(|path| receipt::read(path, &args.receipt_trust)).transpose()?;
    let wishes_not_here = lacking(&ledger, receipt.as_ref().map_or_else(Vec::new, |receipt| receipt.wishes.clone()))?;
    if !wishes_not_here.is_empty() {
        let wishes = count(wishes_not_here.len() as u64, "wish");
        tracing::warn!("{wishes} of the receipt are not here; `crateferry sync MIRROR --wishes RECEIPT` gets them");
    }
    let plan = plan(&ledger, args.since, receipt.as_ref())?;
    let importers = args.form.with_importer.iter().map(|path| importer(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let bundle = id(&ledger, &plan, &importers, args)?;
    let out = if is_stream { staged(&mirror, &bundle)? } else { args.out.clone() };
    prepare(&out, &bundle)?;
    let job = Job {
        mirror,
        ledger,
        plan,
        bundle,
        keys,
        importers: args.form.with_importer.iter().cloned().zip(importers).collect(),
        out,
        level: args.form.level,
        memory,
        volume_size: args.form.volume_size,
        parity: args.form.parity,
        done: Arc::default(),
        stop: CancellationToken::new(),
    };
    session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let job = Job { stop: signals.stop.clone(), ..job };
        let done = job.done.clone();
        let cpu = Cpu::new(0).context("cannot start the CPU pool")?;
        let made = tokio::select! {
            made = cpu.run(move || job.run_and(is_stream)) => made,
            never = progress::moving("bundling", &done, args.output.progress_interval) => match never {},
        };
        match made {
            Ok(manifest) => {
                let summary = Summary::new(args, &manifest, &wishes_not_here, begun);
                if is_stream { report::tell(&summary) } else { report::print(args.output.json, &summary) }?;
                Ok(Exit::Complete)
            }
            Err(error) => match signals.code() {
                Some(code) if is_interruption(&error) => Ok(Exit::Interrupted(code)),
                _ => Err(error),
            },
        }
    })
}

/// What the command line asks for.
fn plan(ledger: &LedgerReader, since: Option<u64>, receipt: Option<&Receipt>) -> anyhow::Result<Plan> {
    let planned = match receipt {
        None => Plan::new(ledger, since),
        Some(receipt) => Plan::for_receipt(ledger, receipt),
    };
    planned.map_err(|error| match error {
        PlanError::Ledger(_) | PlanError::Text { .. } | PlanError::NotHeld(_) => error.into(),
        error => usage(error.to_string()),
    })
}

fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(PackError::Interrupted))
}

/// The keys to sign with, read before anything else is done.
pub fn signing_keys(form: &BundleFormArgs) -> anyhow::Result<Vec<SigningKey>> {
    if form.sign.is_empty() && !form.unsigned_manifest {
        return Err(usage("name a key with --sign, or leave signing to somebody else with --unsigned-manifest"));
    }
    form.sign.iter().map(|path| SigningKey::read(path, form.password.get())).collect()
}

/// The bundle's id: the same for what is the same to the byte.
fn id(ledger: &LedgerReader, plan: &Plan, importers: &[Importer], args: &BundleCreateArgs) -> anyhow::Result<BundleId> {
    #[derive(Serialize)]
    struct Seed<'a> {
        format: u32,
        tool: &'a str,
        mirror: String,
        from: Option<Point>,
        to: Point,
        /// Holes come and go without a generation.
        record: Blake3,
        level: &'a str,
        volume_size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        parity: Option<u8>,
        importers: &'a [Importer],
        again: &'a BTreeMap<CrateName, BTreeSet<(Version, Sha256)>>,
    }
    let seed = Seed {
        format: Manifest::FORMAT,
        tool: TOOL,
        mirror: ledger.mirror()?,
        from: plan.from.as_ref().map(crateferry_store::Generation::point),
        to: plan.to.point(),
        record: ledger.chain()?.digest,
        level: args.form.level.name(),
        volume_size: args.form.volume_size,
        parity: args.form.parity,
        importers,
        again: &plan.again,
    };
    Ok(BundleId::of(Blake3::of(&serde_json::to_vec(&seed)?)))
}

/// What the manifest is to say of a program.
fn importer(path: &Path) -> anyhow::Result<Importer> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !Importer::is_name(&name) {
        return Err(usage(format!("--with-importer: {name:?} is no name for a program beside a bundle")));
    }
    let (length, sha256) = sum(path).map_err(|error| usage(format!("--with-importer: {}: {error}", path.display())))?;
    Ok(Importer { name, length, sha256 })
}

/// The length and SHA-256 of a program.
fn sum(path: &Path) -> std::io::Result<(u64, Sha256)> {
    let bytes = fs::read(path)?;
    Ok((bytes.len() as u64, Sha256::of(&bytes)))
}

/// The folder for volumes that are sent when all are there. Whatever is left in it was never sent whole.
fn staged(mirror: &Mirror, bundle: &BundleId) -> anyhow::Result<PathBuf> {
    let out = mirror.layout().outgoing().join(format!("stream-{bundle}"));
    match fs::remove_dir_all(&out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", out.display()))
        }
        _ => Ok(out),
    }
}

/// Makes the folder, and sees that no other bundle lies in it.
fn prepare(out: &Path, bundle: &BundleId) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for entry in fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let of = name.split_once('-').and_then(|(id, _)| id.trim_start_matches('.').parse::<BundleId>().ok());
        if of.is_some_and(|of| of != *bundle) {
            return Err(usage(format!("{} holds another bundle ({name}); name another folder", out.display())));
        }
    }
    // From now on the volumes may change, and a manifest of before must not vouch for them.
    for entry in fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == MANIFEST || name == CHAIN || name.starts_with(&format!("{MANIFEST}.")) {
            fs::remove_file(entry.path()).with_context(|| format!("cannot replace {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A bundle that is about to be made.
struct Job {
    mirror: Mirror,
    ledger: LedgerReader,
    plan: Plan,
    bundle: BundleId,
    keys: Vec<SigningKey>,
    importers: Vec<(PathBuf, Importer)>,
    out: PathBuf,
    level: Level,
    memory: Memory,
    volume_size: u64,
    parity: Option<u8>,
    done: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Job {
    /// Makes the bundle; one that is to be a stream is sent, and nothing of it stays.
    fn run_and(&self, send: bool) -> anyhow::Result<Manifest> {
        let manifest = self.run()?;
        if send {
            stream::send(&self.out, &manifest, std::io::stdout().lock(), &self.stop)?;
            fs::remove_dir_all(&self.out).with_context(|| format!("cannot remove {}", self.out.display()))?;
        }
        Ok(manifest)
    }

    fn run(&self) -> anyhow::Result<Manifest> {
        let mut staging = Staging::begin(self.mirror.layout(), &self.bundle)?;
        let stop = || self.stop.is_cancelled();
        let packing = Packing {
            ledger: &self.ledger,
            packs: self.mirror.packs(),
            plan: &self.plan,
            recompression: self.level.recompression(),
            memory: self.memory,
            volume_size: self.volume_size,
            done: &self.done,
            stop: &stop,
        };
        let staged = packing.run(&mut staging)?;
        let mut cut = staging.cut(self.bundle.clone(), self.volume_size)?;
        let mut volumes = Vec::new();
        for number in 1..=cut.volumes() {
            if stop() {
                return Err(PackError::Interrupted.into());
            }
            volumes.extend(self.volume(number, |part| Ok(cut.write(self.mirror.packs(), part)?))?);
        }
        let parity = self.parity.map(|percent| {
            let (out, bundle, volumes) = (self.out.as_path(), &self.bundle, volumes.as_slice());
            let (volume_size, done) = (self.volume_size, self.done.as_ref());
            parity::Making { out, bundle, volumes, percent, volume_size, done, stop: &stop }.run()
        });
        let parity = parity.transpose()?;
        for (from, importer) in &self.importers {
            self.lay_beside(from, importer)?;
        }
        let manifest = self.manifest(staged, volumes, parity)?;
        self.seal(&manifest)?;
        cut.remove()?;
        Ok(manifest)
    }

    /// Writes a volume under its name when it is whole.
    fn volume(
        &self,
        number: u32,
        write: impl FnOnce(File) -> anyhow::Result<Option<(File, VolumeSummary)>>,
    ) -> anyhow::Result<Option<VolumeSummary>> {
        let name = self.bundle.volume_name(number);
        let (part, path) = (self.out.join(format!(".{name}.part")), self.out.join(&name));
        let failed = || format!("cannot write {}", path.display());
        let file = File::create(&part).with_context(failed)?;
        let Some((file, summary)) = write(file).with_context(failed)? else { return Ok(None) };
        file.sync_all().with_context(failed)?;
        fs::rename(&part, &path).with_context(failed)?;
        tracing::info!(volume = name, bytes = bytes(summary.length), "wrote");
        Ok(Some(summary))
    }

    /// Copies a program, which has to be what it was when the bundle was begun.
    fn lay_beside(&self, from: &Path, importer: &Importer) -> anyhow::Result<()> {
        let (part, path) = (self.out.join(format!(".{}.part", importer.name)), self.out.join(&importer.name));
        let failed = || format!("cannot copy {} to {}", from.display(), path.display());
        fs::copy(from, &part).with_context(failed)?;
        if sum(&part).with_context(failed)? != (importer.length, importer.sha256) {
            bail!("{} changed meanwhile", from.display());
        }
        File::open(&part).and_then(|file| file.sync_all()).with_context(failed)?;
        fs::rename(&part, &path).with_context(failed)
    }

    fn manifest(
        &self,
        staged: Staged,
        volumes: Vec<VolumeSummary>,
        parity: Option<Parity>,
    ) -> anyhow::Result<Manifest> {
        Ok(Manifest {
            format: Manifest::FORMAT,
            bundle: self.bundle.clone(),
            mirror: self.ledger.mirror()?,
            from: self.plan.from.as_ref().map(crateferry_store::Generation::point),
            to: self.plan.to.clone(),
            through: self.plan.through.clone(),
            tool: TOOL.to_owned(),
            level: self.level.name().to_owned(),
            encoders: staged.encoders.0,
            zstd: zstd_version().to_owned(),
            sections: Manifest::sections(),
            totals: staged.totals,
            volumes,
            parity,
            importers: self.importers.iter().map(|(_, importer)| importer.clone()).collect(),
        })
    }

    /// Writes manifest and signatures, when the volumes are durable.
    fn seal(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let failed = || format!("cannot write the manifest in {}", self.out.display());
        let text = manifest.to_text();
        if text.len() as u64 > Manifest::LONGEST {
            bail!(
                "the manifest would have {} bytes, {} are allowed; take larger volumes",
                text.len(),
                Manifest::LONGEST
            );
        }
        make_names_durable(&self.out).with_context(failed)?;
        let trust = Trust::read(self.mirror.layout())?;
        let chain = trust.chain().map(Chain::bytes).transpose()?;
        if let Some(chain) = &chain {
            self.write(CHAIN, chain).with_context(failed)?;
        }
        let signatures = sign_all(&self.keys, &text, MANIFEST)?;
        for SignatureFile { name, bytes } in &signatures {
            self.write(name, bytes).with_context(failed)?;
        }
        if !trust.is_empty() && !self.keys.is_empty() {
            let to = Moment { epoch: manifest.to.epoch, generation: manifest.to.number };
            let judged =
                trust.signers(None, &text, &signatures).and_then(|signers| signers.suffice(&manifest.mirror, to));
            if let Err(error) = judged {
                let error = crateferry_pipeline::error_chain(&error);
                tracing::warn!("the other side will not take this bundle before more sign it: {error}");
            }
        }
        self.write(MANIFEST, &text).with_context(failed)?;
        make_names_durable(&self.out).with_context(failed)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let part = self.out.join(format!(".{name}.part"));
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, self.out.join(name))
    }
}

/// What was made.
#[derive(Debug, Serialize)]
struct Summary {
    bundle: BundleId,
    out: PathBuf,
    from: Option<Point>,
    to: Point,
    volumes: usize,
    volume_bytes: u64,
    parity: Option<Brief>,
    index_files: u64,
    removed: u64,
    releases: u64,
    /// Bytes of the crate files, as crate files.
    bytes: u64,
    /// Bytes of volumes for each byte of crate files.
    ratio: Option<f64>,
    /// Crate files that travel as they are.
    raw: u64,
    signatures: usize,
    /// What the receipt wishes for and this mirror does not hold.
    wishes_not_here: Vec<String>,
    seconds: f64,
    cpu_seconds: Option<f64>,
}

impl Summary {
    fn new(args: &BundleCreateArgs, manifest: &Manifest, wishes_not_here: &[Wish], begun: Instant) -> Summary {
        let volume_bytes = manifest.volumes.iter().map(|volume| volume.length).sum();
        let totals = manifest.totals;
        Summary {
            bundle: manifest.bundle.clone(),
            out: args.out.clone(),
            from: manifest.from,
            to: manifest.to.point(),
            volumes: manifest.volumes.len(),
            volume_bytes,
            parity: Brief::of(manifest),
            index_files: totals.index_files,
            removed: totals.removed,
            releases: totals.releases,
            bytes: totals.bytes,
            ratio: (totals.bytes > 0).then(|| volume_bytes as f64 / totals.bytes as f64),
            raw: totals.raw,
            signatures: args.form.sign.len(),
            wishes_not_here: wishes_not_here.iter().map(ToString::to_string).collect(),
            seconds: begun.elapsed().as_secs_f64(),
            cpu_seconds: ProcessUse::now().map(|used| used.cpu_seconds),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map_or_else(|| "nothing".to_owned(), |from| format!("generation {}", from.generation));
        writeln!(f, "bundle      {} in {}", self.bundle, self.out.display())?;
        writeln!(f, "leads from  {from}")?;
        writeln!(f, "to          generation {} ({})", self.to.generation, self.to.digest)?;
        let (releases, files) = (count(self.releases, "release"), count(self.index_files, "index file"));
        writeln!(f, "carries     {releases}, {}; {files}, {} removed", bytes(self.bytes), self.removed)?;
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!(", {:.1}% of the crate files", ratio * 100.0));
        writeln!(
            f,
            "volumes     {}, {}{ratio}; {} as they are",
            self.volumes,
            bytes(self.volume_bytes),
            count(self.raw, "crate file")
        )?;
        if let Some(parity) = &self.parity {
            writeln!(f, "parity      {parity}")?;
        }
        let signed = match self.signatures {
            0 => "not yet: nobody can apply it until its manifest is".to_owned(),
            signatures => count(signatures as u64, "signature"),
        };
        writeln!(f, "signed      {signed}")?;
        if !self.wishes_not_here.is_empty() {
            let first: Vec<_> = self.wishes_not_here.iter().take(SHOWN).map(String::as_str).collect();
            let more = self.wishes_not_here.len() - first.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "not here    {}{more}, which the receipt wishes for", first.join(", "))?;
        }
        let cpu = self.cpu_seconds.map_or_else(String::new, |cpu| format!(", {cpu:.1} s of CPU"));
        writeln!(f, "took        {:.1} s{cpu}", self.seconds)
    }
}
