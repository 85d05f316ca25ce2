//! `crateferry inventory --check`: a folder, or an archive of one, against a document.

use std::fmt;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crateferry_pipeline::inventory::{Algorithm, Archive, Plan, Source, Walk};
use serde::Serialize;

use super::{Unread, hash, show, workers};
use crate::cli::InventoryArgs;
use crate::inventory::{Comparison, Difference, Entry, Expected, Spool};
use crate::keys::TrustedKey;
use crate::report::{self, Exit, bytes, count, usage};

pub fn run(args: &InventoryArgs, document: &Path, target: Option<&Path>) -> anyhow::Result<Exit> {
    let target = target.map_or_else(|| default_target(document), |target| Ok(target.to_owned()))?;
    let trusted = args.trust.as_deref().map(TrustedKey::read).transpose()?;
    let mut file =
        File::open(document).map_err(|error| usage(format!("cannot open {}: {error}", document.display())))?;
    if let Some(key) = &trusted {
        if let Err(problem) = key.verify_beside(document, &mut file) {
            let checked = Checked::distrusted(document, &target, problem.to_string());
            report::print(args.output.json, &checked)?;
            return Ok(Exit::Integrity);
        }
        file.rewind()?;
    }
    let checked = compare(args, document, &file, &target, trusted.map(|key| key.id()))?;
    report::print(args.output.json, &checked)?;
    Ok(checked.exit())
}

/// What a document is compared with if nobody says: what lies beside it under its name.
fn default_target(document: &Path) -> anyhow::Result<PathBuf> {
    let target = document.with_extension("");
    if document.extension().is_some_and(|extension| extension == "yaml") && target.is_dir() {
        return Ok(target);
    }
    let beside = target.display();
    Err(usage(format!("say what to compare with {}: there is no folder {beside}", document.display())))
}

fn compare(
    args: &InventoryArgs,
    document: &Path,
    file: &File,
    target: &Path,
    signed_by: Option<String>,
) -> anyhow::Result<Checked> {
    let spool = Spool::new(&std::env::temp_dir()).context("cannot write into the folder for temporary files")?;
    let mut expected = Expected::read(document, file, spool)?;
    let plan = Plan {
        per_file: expected.per_file.clone(),
        whole: expected.hashes.0.iter().map(|(algorithm, _)| *algorithm).collect(),
        workers: workers(args),
        fail_fast: args.fail_fast,
    };
    let mut source = open(target, &expected)?;
    let mut comparison = Comparison::with(expected.entries.entries()?);
    let mut unread = Unread::default();
    let totals = hash(&mut *source, &plan, args, |record| {
        unread.see(&record);
        Ok(comparison.record(&record)?)
    })?;
    if let (true, Some(problem)) = (args.fail_fast, unread.listed.first()) {
        anyhow::bail!("{problem}, so nothing can be said of the rest");
    }
    let differences = comparison.finish(&expected.hashes, &totals.whole)?;
    Ok(Checked {
        inventory: document.display().to_string(),
        target: target.display().to_string(),
        signed_by,
        bad_signature: None,
        files: totals.files,
        bytes: totals.bytes,
        per_file: plan.per_file.as_slice().to_vec(),
        whole: if totals.unread == 0 { plan.whole.as_slice().to_vec() } else { Vec::new() },
        differences,
        unread: totals.unread,
        problems: unread.entries,
        listed: unread.listed,
    })
}

/// A folder or an archive, whichever it is.
fn open(target: &Path, expected: &Expected) -> anyhow::Result<Box<dyn Source>> {
    let left_out = expected.left_out.clone();
    let metadata = target.metadata().map_err(|error| usage(format!("cannot find {}: {error}", target.display())))?;
    if metadata.is_dir() {
        let walk = Walk::new(target, left_out).with_context(|| format!("cannot list {}", target.display()))?;
        return Ok(Box::new(walk));
    }
    Ok(Box::new(Archive::open(target, &expected.directory, &left_out)?))
}

#[derive(Serialize)]
struct Checked {
    inventory: String,
    target: String,
    /// The id of the key that is trusted and signed the document.
    signed_by: Option<String>,
    bad_signature: Option<String>,
    files: u64,
    bytes: u64,
    per_file: Vec<Algorithm>,
    whole: Vec<Algorithm>,
    differences: Vec<Difference>,
    unread: u64,
    problems: Vec<Entry>,
    #[serde(skip)]
    listed: Vec<String>,
}

impl Checked {
    /// Nothing of a document is looked at that is not signed as it should be.
    fn distrusted(document: &Path, target: &Path, problem: String) -> Checked {
        Checked {
            inventory: document.display().to_string(),
            target: target.display().to_string(),
            signed_by: None,
            bad_signature: Some(problem),
            files: 0,
            bytes: 0,
            per_file: Vec::new(),
            whole: Vec::new(),
            differences: Vec::new(),
            unread: 0,
            problems: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// What differs weighs more than what could not be read.
    fn exit(&self) -> Exit {
        match (self.differences.is_empty(), self.unread) {
            (false, _) => Exit::Integrity,
            (true, 0) => Exit::Complete,
            (true, _) => Exit::Unread,
        }
    }
}

fn names(algorithms: &[Algorithm]) -> String {
    if algorithms.is_empty() {
        return "none".to_owned();
    }
    algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problem) = &self.bad_signature {
            return writeln!(f, "NOT TRUSTED {problem}; nothing was compared");
        }
        if let Some(key) = &self.signed_by {
            writeln!(f, "signed      {}, by key {key}", self.inventory)?;
        }
        let read = format!("{}, {}", count(self.files, "file"), bytes(self.bytes));
        writeln!(f, "compared    {read} in {} with {}", self.target, self.inventory)?;
        writeln!(f, "digests     of each file: {}; of the whole: {}", names(&self.per_file), names(&self.whole))?;
        if !self.differences.is_empty() {
            writeln!(f, "DIFFERENT   {}:", count(self.differences.len() as u64, "difference"))?;
            self.differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
        }
        if self.unread > 0 {
            writeln!(f, "UNREAD      {} could not be read:", count(self.unread, "thing"))?;
            show(f, &self.listed, self.unread)?;
        }
        if self.differences.is_empty() && self.unread == 0 {
            writeln!(f, "all of it is as the inventory says")?;
        }
        Ok(())
    }
}
