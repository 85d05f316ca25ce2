//! Reading what a crate file tells of itself.
//!
//! A crate file is a gzipped tar archive whose `Cargo.toml` mostly lies near its beginning. So a sync reads the beginning
//! alone, which tells nearly all; what only the end tells (how many files there are, programs that are found by
//! the names of files) is read when somebody asks for it. Nothing is unpacked, and no path in an archive is ever used as one.

mod archive;
mod manifest;

use std::io::Read;

use archive::Contents;
use crateferry_store::Facts;
use serde::Deserialize;

/// How far a crate file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Its beginning, up to its manifest and at least [`Extent::HEAD`] bytes of the archive.
    Head,
    /// All of it.
    Whole,
}

impl Extent {
    /// As many bytes of an archive are looked at in any case: half of all archives are not longer.
    pub const HEAD: u64 = 64 << 10;
    /// Where a manifest is no longer waited for.
    const PATIENCE: u64 = 4 << 20;
}

/// Reads the facts of a crate file of `length` bytes. What cannot be read is a fact too.
pub fn read(crate_file: impl Read, length: u64, extent: Extent) -> Facts {
    let contents = Contents::read(crate_file, length, extent);
    let known = |count: u64| contents.is_whole().then_some(count);
    let (commit, path_in_repository) = contents.vcs.as_deref().map(commit).unwrap_or_default();
    let (manifest, unreadable) = match contents.manifest.as_deref().map(|text| manifest::read(text, &contents)) {
        Some(Ok(manifest)) => (Some(manifest), None),
        Some(Err(problem)) => (None, Some(format!("its Cargo.toml cannot be read: {problem}"))),
        None if contents.complete => (None, Some("it has no Cargo.toml".into())),
        None => (None, None),
    };
    Facts {
        version: Facts::VERSION,
        complete: contents.complete,
        files: known(contents.files),
        unpacked_size: known(contents.bytes),
        problem: contents.problem.or(unreadable),
        manifest,
        commit,
        path_in_repository,
    }
}

/// Commit and folder, as `.cargo_vcs_info.json` has them.
fn commit(text: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Info {
        git: Option<Git>,
        path_in_vcs: Option<String>,
    }
    #[derive(Deserialize)]
    struct Git {
        sha1: Option<String>,
    }
    let Ok(Info { git, path_in_vcs }) = serde_json::from_slice(text) else { return (None, None) };
    (git.and_then(|git| git.sha1), path_in_vcs.filter(|path| !path.is_empty()))
}

#[cfg(test)]
mod tests;
