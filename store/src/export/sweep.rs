//! Finding files of earlier exports that are part of this one no more.
//!
//! A file is one of ours only if it lies just where its name says that it lies; and a crate file only if it has the
//! very bytes that the mirror holds for it. Everything else in the folder is
//! somebody else's: it is not looked into, and links are not followed.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::target::{self, Found, PART};
use super::{Export, ExportError, Object};
use crate::id::{CrateName, ReleaseId};
use crate::ledger::{Held, LedgerError};

/// Folders from the index's own down to the deepest index file's.
const DEPTH: usize = 2;

/// Index files below `index` of crates that are not served, and what a killed export left of others.
pub(super) fn unserved(
    index: &Path,
    is_served: impl Fn(&CrateName) -> Result<bool, LedgerError>,
) -> Result<Vec<(CrateName, PathBuf)>, ExportError> {
    let mut found = Vec::new();
    let mut folders = vec![(index.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in entries(&folder).map_err(|source| ExportError::Write { path: folder, source })? {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (path, relative) = (entry.path(), format!("{prefix}{name}"));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < DEPTH {
                    folders.push((path, format!("{relative}/"), depth + 1));
                }
            } else if let Some((name, is_part)) = index_file(&entry, &relative)
                && (is_part || !is_served(&name)?)
            {
                found.push((name, path));
            }
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(folder)?.collect()
}

/// The crate whose index file this is, and whether the file has its name.
fn index_file(entry: &DirEntry, relative: &str) -> Option<(CrateName, bool)> {
    if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
        return None;
    }
    let whole = relative.strip_suffix(PART);
    let path = whole.unwrap_or(relative);
    let name: CrateName = path.rsplit('/').next()?.parse().ok()?;
    (name.index_path() == path).then_some((name, whole.is_some()))
}

/// Folders from the export's own down to the deepest crate file's, in any layout.
const CRATE_FILE_DEPTH: usize = 2;

/// Removes crate files that are part of the export no more, with what a killed export left of others and folders that are
/// empty then; says how many files that were.
pub(super) fn crate_files(
    export: &Export<'_>,
    is_gone: impl Fn(&Held) -> Result<bool, LedgerError>,
) -> Result<u64, ExportError> {
    let mut removed = 0;
    for (id, relative) in gone(export, is_gone)? {
        let path = export.target.path(&relative);
        if export.settled(target::remove(&path), || Object::CrateFile(id))? == Some(true) {
            removed += 1;
            let folders = relative.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            // A folder that is not empty stays, and so do those above it.
            drop(folders.map(|folder| fs::remove_dir(export.target.path(folder))).find(Result::is_err));
        }
    }
    Ok(removed)
}

fn gone(
    export: &Export<'_>,
    is_gone: impl Fn(&Held) -> Result<bool, LedgerError>,
) -> Result<Vec<(ReleaseId, PathBuf)>, ExportError> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let path = export.target.path(&folder);
        let failed = |source| ExportError::Write { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let relative = folder.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < CRATE_FILE_DEPTH {
                folders.push((relative, depth + 1));
            } else if kind.is_file()
                && let Some((id, is_part)) = crate_file(export, &relative)
                && (is_part || is_ours_and_gone(export, &id, &relative, &is_gone)?)
            {
                found.push((id, relative));
            }
        }
    }
    Ok(found)
}

/// The release whose crate file lies at a path of the layout, and whether the file has no name yet.
fn crate_file(export: &Export<'_>, relative: &Path) -> Option<(ReleaseId, bool)> {
    let name = relative.file_name()?.to_str()?;
    let whole = name.strip_suffix(PART);
    let stem = whole.unwrap_or(name).strip_suffix(".crate")?;
    let path = relative.with_file_name(whole.unwrap_or(name));
    let id = ReleaseId::readings(stem).into_iter().find(|id| (export.path_of)(id) == path)?;
    Some((id, whole.is_some()))
}

fn is_ours_and_gone(
    export: &Export<'_>,
    id: &ReleaseId,
    relative: &Path,
    is_gone: impl Fn(&Held) -> Result<bool, LedgerError>,
) -> Result<bool, LedgerError> {
    let held = export.mirror.catalog.held_at(id)?;
    for held in &held {
        if !is_gone(held)? {
            return Ok(false);
        }
    }
    let has_bytes = |held: &Held| {
        target::look(&export.target.path(relative), held.place.length, held.release.checksum) == Found::Same
    };
    Ok(held.iter().any(has_bytes))
}
