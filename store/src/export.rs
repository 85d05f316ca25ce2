//! Writing held crate files into a folder.
//!
//! Every file is hashed on its way and gets its name only when it is whole and right. A file that is there already with
//! the right bytes is left alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::Digest as _;

use crate::entry::parse_index_file;
use crate::id::{Release, ReleaseId, Sha256};
use crate::ledger::{Held, LedgerError};
use crate::mirror::MirrorReader;
use crate::pack::ReadError;

/// Releases that are listed together.
const CHUNK: usize = 1024;

/// Where a layout has the file of a release, relative to the folder. Its parts come from names that are safe as file
/// names, and from nothing else.
pub type PathOf = fn(&ReleaseId) -> PathBuf;

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files written.
    pub written: u64,
    /// Files that were there already.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// An export that stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The catalog cannot be read.
    #[error("cannot read what is held")]
    Catalog(#[from] LedgerError),
    /// The bytes of a release cannot be read.
    #[error("cannot read the crate file of {release}")]
    Read {
        /// Which.
        release: ReleaseId,
        /// Why.
        source: ReadError,
    },
    /// The bytes of a release are damaged.
    #[error(
        "the crate file of {release} is damaged: SHA-256 is {found}, should be {promised}; run `crateferry verify`"
    )]
    Damaged {
        /// Which.
        release: ReleaseId,
        /// What the index promises.
        promised: Sha256,
        /// What was read.
        found: Sha256,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes every held release that is not withdrawn. `progress` is told of every file's bytes.
pub fn export(
    mirror: &MirrorReader,
    to: &Path,
    path_of: PathOf,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let twins = twins(mirror)?;
    let mut after = None;
    loop {
        let held = mirror.catalog.held_after(after.as_ref(), CHUNK)?;
        let Some(last) = held.last() else { return Ok(exported) };
        after = Some(last.release.clone());
        let mut served: Vec<&Held> = Vec::with_capacity(held.len());
        for held in held.iter().filter(|held| !held.withdrawn) {
            if !twins.contains(&held.release.id.lower()) || is_served(mirror, &held.release)? {
                served.push(held);
            }
        }
        let written: Vec<bool> = served
            .par_iter()
            .map(|held| {
                let written = export_one(mirror, to, path_of, held);
                progress(held.place.length);
                written
            })
            .collect::<Result<_, _>>()?;
        for (held, written) in served.iter().zip(written) {
            exported.written += u64::from(written);
            exported.unchanged += u64::from(!written);
            exported.bytes += if written { held.place.length } else { 0 };
        }
    }
}

/// Versions that changed their checksum: they may be held twice, and one file can hold only one of them.
fn twins(mirror: &MirrorReader) -> Result<HashSet<ReleaseId>, LedgerError> {
    let alarms = mirror.catalog.summary()?.map(|summary| summary.alarms).unwrap_or_default();
    Ok(alarms.into_iter().map(|alarm| ReleaseId { name: alarm.name, version: alarm.version }.lower()).collect())
}

/// Whether the index that is served names these very bytes.
fn is_served(mirror: &MirrorReader, release: &Release) -> Result<bool, ExportError> {
    let ReleaseId { name, version } = &release.id;
    let Some(file) = mirror.catalog.index_file(name)? else { return Ok(false) };
    let text = mirror.packs.text(file.place, file.digests.blake3);
    let text = text.map_err(|source| ExportError::Read { release: release.id.clone(), source })?;
    let rows = parse_index_file(name, &text).entries;
    Ok(rows.iter().any(|row| row.version == *version && row.checksum == release.checksum))
}

fn export_one(mirror: &MirrorReader, to: &Path, path_of: PathOf, held: &Held) -> Result<bool, ExportError> {
    let path = to.join(path_of(&held.release.id));
    let failed = |source| ExportError::Write { path: path.clone(), source };
    if holds(&path, held).map_err(failed)? {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(failed)?;
    let part = path.with_extension("crate.part");
    let copied = copy(mirror, held, &part);
    if copied.is_err() {
        drop(fs::remove_file(&part)); // the copy's own error is the one to tell
    }
    copied?;
    fs::rename(&part, &path).map_err(failed)?;
    Ok(true)
}

/// Whether a file is there with the right bytes.
fn holds(path: &Path, held: &Held) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    if file.metadata()?.len() != held.place.length {
        return Ok(false);
    }
    Ok(crate::pack::hash_range(&file, 0, held.place.length)? == held.release.checksum)
}

fn copy(mirror: &MirrorReader, held: &Held, part: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: part.to_owned(), source };
    let mut file = File::create(part).map_err(failed)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; usize::try_from(held.place.length).unwrap_or(usize::MAX).clamp(1, 1 << 20)];
    let mut at = 0;
    while at < held.place.length {
        let want = buffer.len().min(usize::try_from(held.place.length - at).unwrap_or(usize::MAX));
        mirror
            .packs
            .read_into(held.place, at, &mut buffer[..want])
            .map_err(|source| ExportError::Read { release: held.release.id.clone(), source })?;
        hasher.update(&buffer[..want]);
        file.write_all(&buffer[..want]).map_err(failed)?;
        at += want as u64;
    }
    let (found, promised) = (Sha256(hasher.finalize().into()), held.release.checksum);
    if found != promised {
        return Err(ExportError::Damaged { release: held.release.id.clone(), promised, found });
    }
    Ok(())
}
