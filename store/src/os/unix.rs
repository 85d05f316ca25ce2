//! Linux, macOS and their relatives.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

#[cfg(target_os = "linux")]
pub(super) fn anonymous_file(dir: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // Not every file system has files without a name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => soon_nameless_file(dir),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn anonymous_file(dir: &Path) -> io::Result<File> {
    soon_nameless_file(dir)
}

fn soon_nameless_file(dir: &Path) -> io::Result<File> {
    let (file, path) = super::uniquely_named(dir, &mut std::fs::OpenOptions::new())?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Reads at an offset without moving the file's cursor.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Writes at an offset without moving the file's cursor.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reserves disk space for `length` bytes from `offset` on without changing the file's length. File systems that
/// cannot do it are left alone: the write itself then tells of a full disk.
#[cfg(target_os = "linux")]
pub(crate) fn preallocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn preallocate(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

/// Takes away everybody's permission to write.
pub(crate) fn make_read_only(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o444))
}
