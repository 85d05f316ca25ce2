//! The folder that is written.
//!
//! A file is written under another name, with `.part` at its end, made durable together with many others, and then gets its
//! name. What has no name when its [`Part`] is dropped goes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
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
        fill: impl FnOnce(&mut Writing) -> Result<(), Cause>,
    ) -> Result<Part, Cause> {
        let mut writing = self.begin(path, found)?;
        fill(&mut writing)?;
        Ok(writing.finish())
    }

    /// Begins a file that does not get its name yet.
    pub(super) fn begin(&self, path: PathBuf, found: Found) -> Result<Writing, Cause> {
        let part = self.unnamed(path, found)?;
        let file = create(&part.unnamed).map_err(|source| Cause::Write { path: part.path.clone(), source })?;
        Ok(Writing { file, part })
    }

    /// A file that is a link to another one, which has the bytes that are to be here; none if it cannot be linked to.
    pub(super) fn link(&self, path: PathBuf, found: Found, to: &Path, length: u64) -> Result<Option<Part>, Cause> {
        let mut part = self.unnamed(path, found)?;
        // A killed export may have left something there.
        drop(fs::remove_file(&part.unnamed));
        let linked = fs::hard_link(to, &part.unnamed).is_ok();
        (part.length, part.is_link) = (length, true);
        Ok(linked.then_some(part))
    }

    fn unnamed(&self, path: PathBuf, found: Found) -> Result<Part, Cause> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|source| Cause::Write { path: path.clone(), source })?;
        let unnamed = with_suffix(&path, PART);
        Ok(Part { path, unnamed, named: false, replaces: found != Found::Nothing, length: 0, is_link: false })
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
    let create = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
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
pub(super) struct Writing {
    file: File,
    part: Part,
}

impl Writing {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        self.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Lets the bytes come from elsewhere, if what `copy` leaves in the file is just what is promised. Else the file is empty.
    pub(super) fn try_copy(
        &mut self,
        length: u64,
        promised: Sha256,
        copy: impl FnOnce(&File) -> u64,
    ) -> Result<bool, Cause> {
        // What was copied is read again, so that no byte leaves that nobody compared.
        if copy(&self.file) == length
            && crate::pack::hash_range(&self.file, 0, length).is_ok_and(|found| found == promised)
        {
            self.part.length = length;
            return Ok(true);
        }
        self.cut(0)?;
        Ok(false)
    }

    /// Takes back all but the first `length` bytes.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), Cause> {
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        cut.map_err(|source| self.failed(source))?;
        self.part.length = length;
        Ok(())
    }

    /// How many bytes came.
    pub(super) fn length(&self) -> u64 {
        self.part.length
    }

    /// Where it is to be.
    pub(super) fn path(&self) -> &Path {
        &self.part.path
    }

    pub(super) fn finish(self) -> Part {
        self.part
    }

    fn failed(&self, source: io::Error) -> Cause {
        Cause::Write { path: self.part.path.clone(), source }
    }
}

impl io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.part.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
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
    is_link: bool,
}

/// A file that has its name.
#[derive(Clone, Copy)]
pub(super) struct Named {
    /// How long it is, in bytes.
    pub(super) length: u64,
    /// Whether it is a link to a file of another export.
    pub(super) is_link: bool,
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

    /// Gives it its name.
    pub(super) fn name(mut self) -> Result<Named, Cause> {
        fs::rename(&self.unnamed, &self.path).map_err(|source| Cause::Write { path: self.path.clone(), source })?;
        self.named = true;
        Ok(Named { length: self.length, is_link: self.is_link })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.named {
            drop(fs::remove_file(&self.unnamed)); // whatever keeps it there, its own error is the one to tell
        }
    }
}
