//! The folder that is written.
//!
//! A file is written under another name, with `.part` at its end, made durable together with many others, and then gets its
//! name. What has no name when its [`Part`] is dropped goes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Cause, ExportError};
use crate::id::Sha256;
use crate::os::FileSystem;

/// What a file is called until it gets its name: its name, and this.
pub(super) const PART: &str = ".part";

/// Held by the export that writes into a folder, and gone when it ends.
const LOCK: &str = ".crateferry-export";

/// A folder that only this process writes exports into.
pub(super) struct Target {
    root: PathBuf,
    file_system: FileSystem,
    _lock: File,
}

impl Target {
    /// Makes the folder if need be, and tries whether it can be written.
    pub(super) fn open(root: &Path) -> Result<Target, ExportError> {
        let failed = |source| ExportError::Write { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(ExportError::Busy(root.to_owned())),
            // Not every file system has locks, and one export at a time is the usual case.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let file_system = FileSystem::of(root).map_err(failed)?;
        Ok(Target { root: root.to_owned(), file_system, _lock: lock })
    }

    /// The path of something in the folder.
    pub(super) fn path(&self, relative: &Path) -> PathBuf {
        self.root.join(relative)
    }

    /// Writes a file that does not get its name yet; what was `found` there stays until then.
    pub(super) fn part(
        &self,
        path: PathBuf,
        found: Found,
        fill: impl FnOnce(&mut Writing<'_>) -> Result<(), Cause>,
    ) -> Result<Part, Cause> {
        let failed = |source| Cause::Write { path: path.clone(), source };
        fs::create_dir_all(path.parent().unwrap_or(&self.root)).map_err(failed)?;
        let unnamed = with_suffix(&path, PART);
        let file = create(&unnamed).map_err(failed)?;
        let mut part = Part { path, unnamed, named: false, replaces: found != Found::Nothing, length: 0 };
        let mut writing = Writing { file, path: &part.path, length: 0 };
        fill(&mut writing)?;
        part.length = writing.length;
        Ok(part)
    }

    /// Makes all that was written so far durable; `paths` are what matters of it.
    pub(super) fn sync(&self, paths: &[&Path]) -> Result<(), ExportError> {
        self.file_system.sync(paths).map_err(|source| ExportError::Write { path: self.root.clone(), source })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(fs::remove_file(self.root.join(LOCK))); // it is in nobody's way
    }
}

/// What lies where a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Same,
    Other,
}

/// Compares what lies at a path with what should be there. What cannot be read is not the same.
pub(super) fn look(path: &Path, length: u64, checksum: Sha256) -> Found {
    let same = |file: File| -> io::Result<bool> {
        Ok(file.metadata()?.len() == length && crate::pack::hash_range(&file, 0, length)? == checksum)
    };
    found(File::open(path).and_then(same))
}

/// Compares what lies at a path with a text.
pub(super) fn look_for_text(path: &Path, text: &[u8]) -> Found {
    let same = |file: File| Ok(file.metadata()?.len() == text.len() as u64 && fs::read(path)? == text);
    found(File::open(path).and_then(same))
}

fn found(same: io::Result<bool>) -> Found {
    match same {
        Ok(true) => Found::Same,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Ok(false) | Err(_) => Found::Other,
    }
}

/// Removes a file; says whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool, Cause> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Cause::Write { path: path.to_owned(), source }),
    }
}

/// Makes a new file. A killed export may have left one there; a link that somebody put there is not followed.
fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        other => other,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file while its bytes come.
pub(super) struct Writing<'a> {
    file: File,
    path: &'a Path,
    length: u64,
}

impl Writing<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.file.write_all(bytes).map_err(|source| Cause::Write { path: self.path.to_owned(), source })?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// A whole file that has not its name yet.
pub(super) struct Part {
    path: PathBuf,
    /// What it is called until then.
    unnamed: PathBuf,
    named: bool,
    /// Whether something else lies where it is to be.
    pub(super) replaces: bool,
    /// How long it is, in bytes.
    length: u64,
}

impl Part {
    /// Where it lies until it gets its name.
    pub(super) fn unnamed(&self) -> &Path {
        &self.unnamed
    }

    /// The folder that it gets its name in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Gives it its name; returns its length in bytes.
    pub(super) fn name(mut self) -> Result<u64, Cause> {
        fs::rename(&self.unnamed, &self.path).map_err(|source| Cause::Write { path: self.path.clone(), source })?;
        self.named = true;
        Ok(self.length)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.named {
            drop(fs::remove_file(&self.unnamed)); // whatever keeps it there, its own error is the one to tell
        }
    }
}
