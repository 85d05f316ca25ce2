//! `crateferry export`: what is held as plain files, or what is served as a registry of plain files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crateferry_store::{
    ExportCause, ExportFailure, ExportObject, ExportOptions, ExportWitness, Exported, FolderKind, FolderLayout,
    IndexFolder, MirrorReader, PathOf, ReleaseId, StoreLimits, export,
};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::{ExportArgs, ExportLayout};
use crate::progress::byte_bar;
use crate::report::{self, Exit, bytes, count, usage};

pub fn run(args: &ExportArgs) -> anyhow::Result<Exit> {
    let (layout, options) = (layout(args)?, options(args)?);
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let summary = mirror.catalog.summary()?;
    let bar = byte_bar(summary.as_ref().map_or(0, |summary| summary.tally.bytes));
    let log = Log { bar, mirror: &args.mirror, failures: Mutex::default() };
    let exported = export(&mirror, &args.to, &layout, &options, &log);
    log.bar.finish_and_clear();
    let exported = exported?;
    let generation = summary.and_then(|summary| summary.generation).map_or(0, |generation| generation.number);
    let index = matches!(layout.kind, FolderKind::Registry(_)).then(|| Index::of(&exported, generation));
    let bundles = matches!(layout.kind, FolderKind::Bundles { .. }).then(|| Bundles::of(&exported));
    let failures = log.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let exit = failures.exit();
    report::print(args.json, &Result::new(&args.to, exported, index, bundles, failures))?;
    Ok(exit)
}

fn layout(args: &ExportArgs) -> anyhow::Result<FolderLayout> {
    let kind = match (args.layout, &args.public_url, args.size) {
        (ExportLayout::Static, Some(url), None) => {
            FolderKind::Registry(IndexFolder { config: Some(config(url.as_str())) })
        }
        (ExportLayout::Static, None, None) => {
            return Err(usage(
                "--layout static needs --public-url URL, since cargo wants an absolute URL for downloads",
            ));
        }
        (ExportLayout::TarZst, None, Some(size)) => FolderKind::Bundles { size },
        (ExportLayout::TarZst, None, None) => {
            return Err(usage("--layout tar-zst needs --size SIZE, the most bytes that an archive may have, like 8GB"));
        }
        (_, Some(_), None) => return Err(usage("--public-url is for --layout static alone")),
        (_, _, Some(_)) => return Err(usage("--size is for --layout tar-zst alone")),
        (ExportLayout::LocalRegistry, None, None) => FolderKind::Registry(IndexFolder::default()),
        (ExportLayout::Download | ExportLayout::Cargo | ExportLayout::Sharded, None, None) => FolderKind::CrateFiles,
    };
    Ok(FolderLayout { path_of: path_of(args.layout), kind })
}

fn options(args: &ExportArgs) -> anyhow::Result<ExportOptions> {
    let link_to = args.link_dest.as_deref().map(|folder| linked_folder(folder, args)).transpose()?;
    Ok(ExportOptions { delete: args.delete, link_to })
}

/// The folder that is linked to: there, and another one than that which is written.
fn linked_folder(folder: &Path, args: &ExportArgs) -> anyhow::Result<PathBuf> {
    if args.layout == ExportLayout::TarZst {
        return Err(usage("--link-dest is for layouts of plain files; archives that are there already are left alone"));
    }
    let shown = folder.display();
    let found = folder.canonicalize().map_err(|error| usage(format!("--link-dest: cannot find {shown}: {error}")))?;
    if !found.is_dir() {
        return Err(usage(format!("--link-dest: {shown} is no folder")));
    }
    if args.to.canonicalize().is_ok_and(|to| to == found) {
        return Err(usage(format!("--link-dest: {shown} is the folder that is exported into")));
    }
    Ok(found)
}

/// The `config.json` of the layout `static`. Cargo puts name and version in as the index spells them, which is how the
/// files are called; it encodes nothing, so a `+` is a `+` on the wire, and web servers take it for one in a path.
fn config(url: &str) -> String {
    let dl = format!("{url}/crates/{{crate}}/{{crate}}-{{version}}.crate");
    format!("{}\n", serde_json::json!({ "dl": dl }))
}

pub(super) fn path_of(layout: ExportLayout) -> PathOf {
    match layout {
        ExportLayout::Download | ExportLayout::Static => {
            |id| PathBuf::from("crates").join(id.name.as_str()).join(file_name(id))
        }
        ExportLayout::Cargo | ExportLayout::LocalRegistry => |id| PathBuf::from(file_name(id)),
        ExportLayout::Sharded | ExportLayout::TarZst => |id| PathBuf::from(shard(id.name.as_str())).join(file_name(id)),
    }
}

fn file_name(id: &ReleaseId) -> String {
    format!("{}-{}.crate", id.name, id.version)
}

/// Names of up to three letters have a folder of their own. Longer ones go by their first letter, or two if the second
/// is a dash, and the two that follow.
fn shard(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.len() <= 3 {
        return name;
    }
    let head = if name.as_bytes()[1] == b'-' { 2 } else { 1 };
    let tail = (head + 2).min(name.len());
    format!("{}/{}", &name[..head], &name[head..tail])
}

/// How many failures are kept for the summary; all are logged.
const LISTED: usize = 10_000;

/// How many failures are shown to people.
const SHOWN: usize = 10;

/// Shows how far an export is, and logs what fails at once: an export that is stopped prints no summary.
struct Log<'a> {
    bar: ProgressBar,
    mirror: &'a Path,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    count: u64,
    damage: bool,
    listed: Vec<(ExportObject, Failed)>,
}

/// A file that was left out.
#[derive(Debug, Serialize)]
struct Failed {
    object: String,
    problem: String,
    next: String,
}

impl ExportWitness for Log<'_> {
    fn done(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn failed(&self, failure: ExportFailure) {
        let damage = failure.cause.is_damage();
        let failed = Failed {
            object: failure.object.to_string(),
            problem: causes(&failure.cause),
            next: next(&failure.cause, self.mirror),
        };
        tracing::error!(problem = failed.problem, next = failed.next, "{failure}");
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        failures.damage |= damage;
        if failures.listed.len() < LISTED {
            failures.listed.push((failure.object, failed));
        }
    }
}

/// An error and what is behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn next(cause: &ExportCause, mirror: &Path) -> String {
    match cause {
        ExportCause::TooLarge { .. } => "give a larger --size".to_owned(),
        ExportCause::Write { .. } => "make way for it and export again".to_owned(),
        _ => format!("run `crateferry verify {}`", mirror.display()),
    }
}

impl Failures {
    fn exit(&self) -> Exit {
        match (self.count, self.damage) {
            (0, _) => Exit::Complete,
            (_, false) => Exit::Holes,
            (_, true) => Exit::Integrity,
        }
    }

    fn sorted(mut self) -> Vec<Failed> {
        self.listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.listed.into_iter().map(|(_, failed)| failed).collect()
    }
}

#[derive(Debug, Serialize)]
struct Result {
    to: String,
    written: u64,
    unchanged: u64,
    bytes: u64,
    linked: u64,
    removed: u64,
    quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Index>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundles: Option<Bundles>,
    failure_count: u64,
    failures: Vec<Failed>,
}

/// What became of the index files.
#[derive(Debug, Serialize)]
struct Index {
    generation: u64,
    written: u64,
    unchanged: u64,
    removed: u64,
}

impl Index {
    fn of(exported: &Exported, generation: u64) -> Index {
        let Exported { index_written: written, index_unchanged: unchanged, index_removed: removed, .. } = *exported;
        Index { generation, written, unchanged, removed }
    }
}

/// What became of the archives.
#[derive(Debug, Serialize)]
struct Bundles {
    written: u64,
    unchanged: u64,
    removed: u64,
}

impl Bundles {
    fn of(exported: &Exported) -> Bundles {
        let Exported { bundles_written, bundles_unchanged, bundles_removed, .. } = *exported;
        Bundles { written: bundles_written, unchanged: bundles_unchanged, removed: bundles_removed }
    }
}

impl Result {
    fn new(
        to: &Path,
        exported: Exported,
        index: Option<Index>,
        bundles: Option<Bundles>,
        failures: Failures,
    ) -> Result {
        let Exported { written, unchanged, bytes, linked, removed, masked: quarantined, .. } = exported;
        let (to, failure_count) = (to.display().to_string(), failures.count);
        let failures = failures.sorted();
        Result { to, written, unchanged, bytes, linked, removed, quarantined, index, bundles, failure_count, failures }
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = count(self.written, "file");
        writeln!(f, "wrote       {written}, {} to {}; {} there already", bytes(self.bytes), self.to, self.unchanged)?;
        if self.linked > 0 {
            writeln!(f, "linked      {} of an earlier export", count(self.linked, "file"))?;
        }
        if self.removed > 0 {
            writeln!(f, "removed     {}, not exported any more", count(self.removed, "crate file"))?;
        }
        if self.quarantined > 0 {
            writeln!(f, "left out    {}, in quarantine", count(self.quarantined, "crate file"))?;
        }
        if let Some(Bundles { written, unchanged, removed }) = &self.bundles {
            let written = count(*written, "archive");
            writeln!(f, "archives    wrote {written}, removed {removed}; {unchanged} there already")?;
        }
        if let Some(index) = &self.index {
            index.fmt(f)?;
        }
        if self.failure_count > 0 {
            writeln!(f, "FAILED      {}:", count(self.failure_count, "file"))?;
        }
        self.failures.iter().take(SHOWN).try_for_each(|failed| failed.fmt(f))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Index { generation, unchanged, removed, .. } = self;
        let written = count(self.written, "file");
        writeln!(
            f,
            "index       of generation {generation}: wrote {written}, removed {removed}; {unchanged} there already"
        )
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {}; {}", self.object, self.problem, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(layout: ExportLayout, name: &str) -> String {
        let id = ReleaseId { name: name.parse().unwrap(), version: "1.0.0".parse().unwrap() };
        path_of(layout)(&id).to_string_lossy().into_owned()
    }

    #[test]
    fn each_layout_has_its_paths() {
        assert_eq!(path(ExportLayout::Download, "serde"), "crates/serde/serde-1.0.0.crate");
        assert_eq!(path(ExportLayout::Cargo, "serde"), "serde-1.0.0.crate");
        assert_eq!(path(ExportLayout::Sharded, "serde"), "s/er/serde-1.0.0.crate");
        assert_eq!(path(ExportLayout::Sharded, "1serde"), "1/se/1serde-1.0.0.crate");
        assert_eq!(path(ExportLayout::Sharded, "syn"), "syn/syn-1.0.0.crate");
        assert_eq!(path(ExportLayout::Sharded, "a-bcd"), "a-/bc/a-bcd-1.0.0.crate");
    }
}
