//! Every call that differs between operating systems, each with its counterpart.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as system;

pub use system::FileId;
#[cfg(target_os = "linux")]
pub(crate) use system::FileSystem;
pub(crate) use system::{
    copy_in_kernel, disk_space, has_other_names, make_read_only, make_writable, preallocate, punch_hole, read_at,
    read_now_at, sync_folder, write_all_at,
};

/// Lets this process have as many files open as it may: how many that is, if there is a limit.
pub fn open_files_allowed() -> Option<u64> {
    system::open_files_allowed()
}

/// Which file lies at a path.
pub fn file_id(path: &Path) -> Option<FileId> {
    system::id_of(&std::fs::metadata(path).ok()?)
}

/// Opens a file and takes its lock; whoever has it lets others wait. What lies at the path then is this very file, even
/// if it was replaced meanwhile. With `make`, a file that is not there is made, for its owner alone.
pub fn open_locked(path: &Path, make: bool) -> io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        let file = system::for_the_owner(options.read(true).write(true).create(make)).open(path)?;
        file.lock()?;
        if system::id_of(&file.metadata()?) == file_id(path) {
            return Ok(file);
        }
    }
}

/// Opens a file for reading and shares its lock. What lies at the path then is this very file, even if it was replaced
/// meanwhile. A file that is not there is made.
pub(crate) fn open_shared(path: &Path) -> io::Result<File> {
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?
            }
            other => other?,
        };
        file.lock_shared()?;
        if system::id_of(&file.metadata()?) == file_id(path) {
            return Ok(file);
        }
    }
}

/// Puts a file with these bytes in the place of `old`, which lies at `path`: whole or not at all, with its owner and mode.
pub fn replace_file(path: &Path, old: &File, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = OpenOptions::new();
    let (mut new, part) = uniquely_named(folder, system::for_the_owner(&mut options))?;
    let mut replace = || {
        system::keep_rights(old, &new)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        std::fs::rename(&part, path)?;
        sync_folder(folder)
    };
    let replaced = replace();
    if replaced.is_err() {
        drop(std::fs::remove_file(&part));
    }
    replaced
}

/// Makes the names in a folder durable, where the system lets a program do that.
pub fn make_names_durable(dir: &Path) -> io::Result<()> {
    sync_folder(dir)
}

/// The room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still take.
    pub free: u64,
    /// What is taken, by whomever.
    pub used: u64,
}

/// A file that has no name, or loses it as soon as it is closed.
pub(crate) fn anonymous_file(dir: &Path) -> io::Result<File> {
    system::anonymous_file(dir)
}

/// The file system that a folder lies on. Only Linux syncs one as a whole.
#[cfg(not(target_os = "linux"))]
pub(crate) struct FileSystem;

#[cfg(not(target_os = "linux"))]
impl FileSystem {
    pub(crate) fn of(_dir: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem)
    }

    /// Makes these files and folders durable.
    pub(crate) fn sync(&self, paths: &[&Path]) -> io::Result<()> {
        paths.iter().try_for_each(|path| {
            if path.is_dir() {
                return sync_folder(path);
            }
            OpenOptions::new().write(true).open(path)?.sync_all()
        })
    }
}

/// Fills `buffer` from `offset` on, without moving the file's cursor.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a new file in `dir` whose name no other file has, open for reading and writing.
fn uniquely_named(dir: &Path, options: &mut OpenOptions) -> io::Result<(File, std::path::PathBuf)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-{}.spool", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = dir.join(name);
    Ok((options.read(true).write(true).create_new(true).open(&path)?, path))
}
