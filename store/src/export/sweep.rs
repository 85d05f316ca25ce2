//! Finding index files of crates that are served no more.
//!
//! A file is one only if it lies just where its name says that an index file lies. Everything else in the folder is
//! somebody else's: it is not looked into, and links are not followed.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::ExportError;
use super::target::PART;
use crate::id::CrateName;
use crate::ledger::LedgerError;

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
