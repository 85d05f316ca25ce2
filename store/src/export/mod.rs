//! Writing what is held into a folder that other programs read.
//!
//! A folder has crate files alone, or crate files and the index that names them: then it is a registry. Every crate file
//! is hashed on its way, and a file that is there already with the right bytes is left alone.
//!
//! - A file is durable before it gets its name, and all crate files of a crate have theirs before its index file does. What
//!   is to be replaced loses its index file first. So whoever reads the folder, at any time and after any crash, finds no
//!   row without its bytes.
//! - A file that cannot be read or written is told to the [`Witness`] and left out, with its row; the rest goes on. Only
//!   what would fail for every other file too, as a full disk does, ends an export.
//! - What is removed on request are files of ours alone: where their name says, with the very bytes that the mirror still holds.
//! - All of an export is of one generation: that of the catalog reader it is given.
//!
//! Durability comes in steps of many files, each with one call for the whole file system: 2,000 files of 30 KB took 0.9 s
//! that way, 0.4 s without, and 3.1 s with an fdatasync for each on two threads (ext4).

mod bundles;
mod crate_files;
mod failure;
mod registry;
mod sweep;
mod target;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest as _;

use crate::id::{ReleaseId, Sha256};
use crate::ledger::{Held, LedgerError};
use crate::mask::Masks;
use crate::mirror::MirrorReader;

pub use failure::{Cause, Failure, Object};
use target::{Found, Part, Target};

/// Where a layout has the file of a release, relative to the folder. Its parts come from names that are safe as file
/// names, and from nothing else.
pub type PathOf = fn(&ReleaseId) -> PathBuf;

/// How a folder is laid out.
#[derive(Clone, Debug)]
pub struct FolderLayout {
    /// Where crate files lie: in the folder, or in its archives.
    pub path_of: PathOf,
    /// What there is beside them.
    pub kind: FolderKind,
}

/// What a folder has.
#[derive(Clone, Debug)]
pub enum FolderKind {
    /// Crate files alone.
    CrateFiles,
    /// Crate files and the index that names them.
    Registry(IndexFolder),
    /// Archives of crate files, `bundle-0000.tar.zst` and so on.
    Bundles {
        /// The most bytes that each may have.
        size: u64,
    },
}

/// What an export does beside writing what is new.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Remove crate files that an earlier export wrote and that are not exported any more.
    pub delete: bool,
    /// A folder of an earlier export: what it has right is linked to instead of copied.
    pub link_to: Option<PathBuf>,
}

/// The folder `index`, with index files at cargo's paths.
#[derive(Clone, Debug, Default)]
pub struct IndexFolder {
    /// The text of its `config.json`, if it has one.
    pub config: Option<String>,
}

/// Who looks on while an export runs.
pub trait Witness: Sync {
    /// So many bytes of crate files are done, whatever became of them.
    fn done(&self, bytes: u64);
    /// A file could not be exported; the rest goes on.
    fn failed(&self, failure: Failure);
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Crate files written.
    pub written: u64,
    /// Crate files that were there already.
    pub unchanged: u64,
    /// Bytes of crate files written.
    pub bytes: u64,
    /// Crate files that are links to those of another export; not among the written ones.
    pub linked: u64,
    /// Crate files removed, because they are not exported any more.
    pub removed: u64,
    /// Archives written.
    pub bundles_written: u64,
    /// Archives that were there already.
    pub bundles_unchanged: u64,
    /// Archives removed.
    pub bundles_removed: u64,
    /// Index files written.
    pub index_written: u64,
    /// Index files that were there already.
    pub index_unchanged: u64,
    /// Crate files left out, because the mirror withholds them.
    pub masked: u64,
    /// Index files removed, because nothing is served any more that they name.
    pub index_removed: u64,
}

/// An export that stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The catalog cannot be read.
    #[error("cannot read what is held")]
    Catalog(#[from] LedgerError),
    /// Another export writes there.
    #[error("another export is writing into {}; wait for its end", .0.display())]
    Busy(PathBuf),
    /// The folder cannot be written any more.
    #[error("cannot write {}; what was exported so far is whole, and the same command goes on", path.display())]
    Write {
        /// Which part of it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes a mirror into a folder: every held release that is not withdrawn, or where there is an index, what the index
/// serves.
pub fn export(
    mirror: &MirrorReader,
    to: &Path,
    layout: &FolderLayout,
    options: &ExportOptions,
    witness: &dyn Witness,
) -> Result<Exported, ExportError> {
    let masks = mirror.catalog.summary()?.map(|summary| summary.masks).unwrap_or_default();
    let (target, path_of, masked) = (Target::open(to)?, layout.path_of, AtomicU64::new(0));
    let export = Export { mirror, target, path_of, options, witness, masks, masked };
    let mut exported = match &layout.kind {
        FolderKind::CrateFiles => crate_files::export(&export)?,
        FolderKind::Registry(index) => registry::export(&export, index)?,
        FolderKind::Bundles { size } => bundles::export(&export, *size)?,
    };
    export.target.sync(&[])?;
    exported.masked = export.masked.into_inner();
    Ok(exported)
}

/// An export that runs.
struct Export<'a> {
    mirror: &'a MirrorReader,
    target: Target,
    path_of: PathOf,
    options: &'a ExportOptions,
    witness: &'a dyn Witness,
    masks: Masks,
    /// How many crate files were left out because of them.
    masked: AtomicU64,
}

/// What is to be done about a file.
enum Made {
    /// Nothing: it is there.
    There,
    /// It is to get its name.
    Part(Part),
}

impl Export<'_> {
    /// Whether a release is withheld; counts it.
    fn leaves_out(&self, id: &ReleaseId) -> bool {
        let is_masked = self.masks.of(id).is_some();
        self.masked.fetch_add(u64::from(is_masked), Ordering::Relaxed);
        is_masked
    }

    /// The same of a held release, unless it would not be exported anyway.
    fn leaves_out_held(&self, held: &Held) -> bool {
        !held.withdrawn && self.leaves_out(&held.release.id)
    }

    /// Makes the crate file of a release.
    fn make(&self, id: &ReleaseId, held: &Held) -> Result<Made, Cause> {
        let relative = (self.path_of)(id);
        let path = self.target.path(&relative);
        let found = target::look(&path, held.place.length, held.release.checksum);
        if found == Found::Same {
            return Ok(Made::There);
        }
        if let Some(linked) = self.link(&relative, found, held)? {
            return Ok(Made::Part(linked));
        }
        Ok(Made::Part(self.target.part(path, found, |file| self.copy(held, file))?))
    }

    /// A link to the file of another export, if that has the right bytes.
    fn link(&self, relative: &Path, found: Found, held: &Held) -> Result<Option<Part>, Cause> {
        let Some(folder) = &self.options.link_to else { return Ok(None) };
        let (other, length) = (folder.join(relative), held.place.length);
        // A link to a symbolic link would be one, too.
        let is_file = other.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file || target::look(&other, length, held.release.checksum) != Found::Same {
            return Ok(None);
        }
        self.target.link(self.target.path(relative), found, &other, length)
    }

    fn copy(&self, held: &Held, file: &mut target::Writing) -> Result<(), Cause> {
        let (place, promised) = (held.place, held.release.checksum);
        if file.try_copy(place.length, promised, |to| self.mirror.packs.copy_in_kernel(place, to))? {
            return Ok(());
        }
        self.each_piece(held, |piece| file.write(piece))
    }

    /// Reads a crate file piece by piece; at the end it is an error if they are not the promised bytes.
    fn each_piece(&self, held: &Held, mut take: impl FnMut(&[u8]) -> Result<(), Cause>) -> Result<(), Cause> {
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; usize::try_from(held.place.length).unwrap_or(usize::MAX).clamp(1, 1 << 20)];
        let mut at = 0;
        while at < held.place.length {
            let want = buffer.len().min(usize::try_from(held.place.length - at).unwrap_or(usize::MAX));
            self.mirror.packs.read_into(held.place, at, &mut buffer[..want])?;
            hasher.update(&buffer[..want]);
            take(&buffer[..want])?;
            at += want as u64;
        }
        is_promised(Sha256(hasher.finalize().into()), held.release.checksum)
    }

    /// Tells the witness of a file that cannot be exported, unless no other could be either.
    fn failed(&self, object: Object, cause: Cause) -> Result<(), ExportError> {
        match cause {
            Cause::Write { path, source } if !failure::is_of_one_file(&source) => {
                Err(ExportError::Write { path, source })
            }
            cause => {
                self.witness.failed(Failure { object, cause });
                Ok(())
            }
        }
    }

    /// The result, if there is one; else the witness is told.
    fn settled<T>(&self, result: Result<T, Cause>, object: impl FnOnce() -> Object) -> Result<Option<T>, ExportError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(cause) => self.failed(object(), cause).map(|()| None),
        }
    }
}

fn is_promised(found: Sha256, promised: Sha256) -> Result<(), Cause> {
    if found == promised { Ok(()) } else { Err(Cause::Damaged { promised, found }) }
}

impl Exported {
    /// Counts a crate file that got its name.
    fn add(&mut self, file: target::Named) {
        if file.is_link {
            self.linked += 1;
        } else {
            self.written += 1;
            self.bytes += file.length;
        }
    }
}
