//! Every call that differs between operating systems, each with its counterpart.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as system;

pub(crate) use system::{
    FileId, disk_space, file_id, make_read_only, preallocate, read_at, read_now_at, sync_folder, write_all_at,
};

/// Lets this process have as many files open as it may: how many that is, if there is a limit.
pub fn open_files_allowed() -> Option<u64> {
    system::open_files_allowed()
}

/// A file that has no name, or loses it as soon as it is closed.
pub(crate) fn anonymous_file(dir: &Path) -> io::Result<File> {
    system::anonymous_file(dir)
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
