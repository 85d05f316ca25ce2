//! `crateferry export`: the held crate files as plain files.

use std::fmt;
use std::path::PathBuf;

use crateferry_store::{ExportError, Exported, MirrorReader, PathOf, ReleaseId, StoreLimits, export};
use serde::Serialize;

use crate::cli::{ExportArgs, ExportLayout};
use crate::progress::byte_bar;
use crate::report::{self, Exit, bytes, count};

pub fn run(args: &ExportArgs) -> anyhow::Result<Exit> {
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let bar = byte_bar(mirror.catalog.summary()?.map_or(0, |summary| summary.tally.bytes));
    let exported = export(&mirror, &args.to, layout(args.layout), &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    if let Err(error @ ExportError::Damaged { .. }) = &exported {
        tracing::error!("{error}");
        return Ok(Exit::Integrity);
    }
    let Exported { written, unchanged, bytes } = exported?;
    report::print(args.json, &Result { written, unchanged, bytes, to: args.to.display().to_string() })?;
    Ok(Exit::Complete)
}

fn layout(layout: ExportLayout) -> PathOf {
    match layout {
        ExportLayout::Download => |id| PathBuf::from("crates").join(id.name.as_str()).join(file_name(id)),
        ExportLayout::Cargo => |id| PathBuf::from(file_name(id)),
        ExportLayout::Sharded => |id| PathBuf::from(shard(id.name.as_str())).join(file_name(id)),
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

#[derive(Debug, Serialize)]
struct Result {
    to: String,
    written: u64,
    unchanged: u64,
    bytes: u64,
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = count(self.written, "file");
        writeln!(f, "wrote       {written}, {} to {}; {} there already", bytes(self.bytes), self.to, self.unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(layout: ExportLayout, name: &str) -> String {
        let id = ReleaseId { name: name.parse().unwrap(), version: "1.0.0".parse().unwrap() };
        super::layout(layout)(&id).to_string_lossy().into_owned()
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
