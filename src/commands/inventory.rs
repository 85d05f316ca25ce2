//! `crateferry inventory`: digests of every file of a folder, as a document; and the other way round.

mod check;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::Context as _;
use crateferry_pipeline::inventory::{
    Algorithms, FileName, Gauge, Plan, Record, Recorded, Source, TakeError, Totals, Walk, take,
};
use serde::Serialize;

use crate::cli::InventoryArgs;
use crate::inventory::{Entry, Hashes, Header, Listing, Name, Outputs, SCHEMA_VERSION, SignatureNote, directory};
use crate::keys::SigningKey;
use crate::progress;
use crate::report::{self, Exit, bytes, count, usage};

/// How many of the things that could not be read a result lists. The document and the log have all.
const LISTED: usize = 1000;

pub fn run(args: &InventoryArgs) -> anyhow::Result<Exit> {
    match (&args.check, &args.target) {
        (Some(document), target) => check::run(args, document, target.as_deref()),
        (None, Some(folder)) => make(args, folder),
        (None, None) => Err(usage("give the folder that is to be inventoried")),
    }
}

fn make(args: &InventoryArgs, folder: &Path) -> anyhow::Result<Exit> {
    let plan = plan(args, &args.hashes)?;
    let name = folder_name(folder)?;
    let key = args.sign.as_deref().map(|path| SigningKey::read(path, args.password.get()));
    let key = key.transpose()?;
    let prefix = args.out_prefix.clone().unwrap_or_else(|| Outputs::default_prefix(&name));
    let outputs = Outputs::new(&args.out_dir, &prefix)?;
    let left_out = outputs.below(folder).with_context(|| format!("cannot find {}", folder.display()))?;
    let mut walk = Walk::new(folder, left_out.clone()).with_context(|| format!("cannot list {}", folder.display()))?;
    let spooling = || format!("cannot write into {}", args.out_dir.display());
    let mut listing = Listing::new(outputs.dir()).with_context(spooling)?;
    let mut unread = Unread::default();
    let totals = hash(&mut walk, &plan, args, |record| {
        unread.see(&record);
        listing.push(&Entry::of(&record)).with_context(spooling)
    })?;
    if let (true, Some(problem)) = (plan.fail_fast, unread.listed.first()) {
        anyhow::bail!("{problem}, so nothing was written");
    }
    // A signature says that this is what is there. Who signs does not sign less than that unknowingly.
    let key = key.filter(|_| totals.unread == 0);
    let header = header(&FileName::new(name.as_encoded_bytes()), &left_out, &outputs, &totals, key.as_ref());
    let mut files = listing.finish().with_context(spooling)?;
    outputs.write(&header, &mut files, key.as_ref())?;
    let made = Made::of(header, &outputs, &totals, unread, args.sign.is_some() && key.is_none());
    report::print(args.output.json, &made)?;
    Ok(if totals.unread == 0 { Exit::Complete } else { Exit::Unread })
}

/// What is to be computed.
fn plan(args: &InventoryArgs, hashes: &Algorithms) -> anyhow::Result<Plan> {
    if hashes.is_empty() {
        return Err(usage("--hashes needs at least one algorithm"));
    }
    let part = |option: &str, part: &Option<Algorithms>| match part {
        None => Ok(hashes.clone()),
        Some(part) if *part == Algorithms::all() => Ok(hashes.clone()),
        Some(part) => match part.as_slice().iter().find(|algorithm| !hashes.contains(**algorithm)) {
            Some(algorithm) => Err(usage(format!("{option} names {algorithm}, which --hashes does not"))),
            None => Ok(part.clone()),
        },
    };
    let (per_file, whole) = (part("--per-file", &args.per_file)?, part("--whole", &args.whole)?);
    Ok(Plan { per_file, whole, workers: workers(args), fail_fast: args.fail_fast })
}

fn workers(args: &InventoryArgs) -> NonZeroUsize {
    let asked = args.hash_workers.and_then(|number| NonZeroUsize::new(number.into()));
    asked.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// What a folder is called, however the command line names it.
fn folder_name(folder: &Path) -> anyhow::Result<OsString> {
    let found = folder.canonicalize().map_err(|error| usage(format!("cannot find {}: {error}", folder.display())))?;
    if !found.is_dir() {
        return Err(usage(format!("{} is no folder", folder.display())));
    }
    Ok(found.file_name().map_or_else(|| "root".into(), OsString::from))
}

/// Hashes what a source has, and shows how far that is.
fn hash(
    source: &mut dyn Source,
    plan: &Plan,
    args: &InventoryArgs,
    record: impl FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<Totals> {
    let gauge = Gauge::default();
    let totals = progress::hashing(&gauge, args.output.progress_interval, || take(source, plan, &gauge, record));
    totals.map_err(|error| match error {
        TakeError::Record(error) => error,
        TakeError::Threads(error) => anyhow::Error::from(error).context("cannot start a thread"),
    })
}

/// What could not be read.
#[derive(Default)]
struct Unread {
    listed: Vec<String>,
    entries: Vec<Entry>,
}

impl Unread {
    fn see(&mut self, record: &Record) {
        let Recorded::Unread(problem) = &record.what else { return };
        tracing::error!(path = %record.name, %problem, "not inventoried");
        if self.listed.len() < LISTED {
            self.listed.push(format!("{}: {problem}", record.name));
            self.entries.push(Entry::of(record));
        }
    }
}

fn header(
    name: &FileName,
    left_out: &[FileName],
    outputs: &Outputs,
    totals: &Totals,
    key: Option<&SigningKey>,
) -> Header {
    let (directory, directory_encoding) = directory(name);
    let signature =
        key.map(|key| SignatureNote { format: key.kind(), file: outputs.signature_name(key.kind()), key_id: key.id() });
    Header {
        schema_version: SCHEMA_VERSION,
        directory,
        directory_encoding,
        complete: totals.unread == 0,
        left_out: left_out.iter().map(Name::of).collect(),
        hashes: Hashes(totals.whole.clone()),
        signature,
    }
}

#[derive(Serialize)]
struct Made {
    complete: bool,
    files: u64,
    bytes: u64,
    links: u64,
    special: u64,
    unread: u64,
    problems: Vec<Entry>,
    #[serde(skip)]
    listed: Vec<String>,
    hashes: Hashes,
    yaml: String,
    tar: String,
    signature: Option<String>,
    key_id: Option<String>,
    #[serde(skip)]
    unsigned: bool,
}

impl Made {
    fn of(header: Header, outputs: &Outputs, totals: &Totals, unread: Unread, unsigned: bool) -> Made {
        Made {
            complete: header.complete,
            files: totals.files,
            bytes: totals.bytes,
            links: totals.links,
            special: totals.special,
            unread: totals.unread,
            problems: unread.entries,
            listed: unread.listed,
            hashes: header.hashes,
            yaml: outputs.yaml().display().to_string(),
            tar: outputs.tar().display().to_string(),
            signature: header.signature.as_ref().map(|note| outputs.signature(note.format).display().to_string()),
            key_id: header.signature.map(|signature| signature.key_id),
            unsigned,
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = [(self.links, "link"), (self.special, "special file")];
        let others = others.iter().filter(|(number, _)| *number > 0).map(|(number, thing)| count(*number, thing));
        let others: String = others.map(|other| format!("; {other}")).collect();
        writeln!(f, "hashed      {}, {}{others}", count(self.files, "file"), bytes(self.bytes))?;
        for (algorithm, digest) in &self.hashes.0 {
            writeln!(f, "{algorithm:<16}{digest}")?;
        }
        writeln!(f, "wrote       {} and {}", self.yaml, self.tar)?;
        if let (Some(signature), Some(key)) = (&self.signature, &self.key_id) {
            writeln!(f, "signed      {signature}, by key {key}")?;
        }
        if self.unread > 0 {
            let not_signed = if self.unsigned { " and nothing was signed" } else { "" };
            let what = count(self.unread, "thing");
            writeln!(f, "INCOMPLETE  {what} could not be read, so there are no digests of the whole{not_signed}:")?;
            show(f, &self.listed, self.unread)?;
        }
        Ok(())
    }
}

/// Some of many lines.
fn show(f: &mut fmt::Formatter<'_>, listed: &[String], all: u64) -> fmt::Result {
    listed.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
    match all - listed.len() as u64 {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more, which the log has"),
    }
}
