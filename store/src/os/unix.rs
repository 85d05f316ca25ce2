//! Linux, macOS and their relatives.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::DiskSpace;

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

/// Raises the soft limit to the hard one.
pub(super) fn open_files_allowed() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum;
    }
    current
}

/// Reads at an offset without moving the file's cursor.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Reads what the page cache has, if it has all of it.
#[cfg(target_os = "linux")]
pub(crate) fn read_now_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    use rustix::io::{Errno, ReadWriteFlags};
    let length = buffer.len();
    match rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(count) => Ok(count == length),
        // Not in memory, or a file system that cannot tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_now_at(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes at an offset without moving the file's cursor.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Copies up to `length` bytes from one file to another without taking them through this process; says how many. That
/// may be fewer, or none: the kernel does not do it for these files, or it failed, and copying by hand tells which is to blame.
#[cfg(target_os = "linux")]
pub(crate) fn copy_in_kernel(from: &File, mut offset: u64, to: &File, mut at: u64, length: u64) -> u64 {
    let mut copied = 0;
    while copied < length {
        let want = usize::try_from(length - copied).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut offset), to, Some(&mut at), want) {
            Ok(count) if count > 0 => copied += count as u64,
            Ok(_) | Err(_) => break,
        }
    }
    copied
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn copy_in_kernel(_from: &File, _offset: u64, _to: &File, _at: u64, _length: u64) -> u64 {
    0
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The file system that a folder lies on.
#[cfg(target_os = "linux")]
pub(crate) struct FileSystem(File);

#[cfg(target_os = "linux")]
impl FileSystem {
    /// Of failed writes, [`sync`](Self::sync) hears of those that come after this.
    pub(crate) fn of(dir: &Path) -> io::Result<FileSystem> {
        File::open(dir).map(FileSystem)
    }

    /// Makes these files and folders durable, with all else on this file system.
    pub(crate) fn sync(&self, _paths: &[&Path]) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| rustix::fs::syncfs(&self.0))?)
    }
}

/// Reserves disk space for `length` bytes from `offset` on without changing the file's length. File systems that
/// cannot do it are left alone: the write itself then tells of a full disk.
#[cfg(target_os = "linux")]
pub(crate) fn preallocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    // Signals come often while a profile is taken.
    let reserve = || rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, length);
    match rustix::io::retry_on_intr(reserve) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn preallocate(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

/// Gives back the room of `length` bytes from `offset` on, which read as zeros then. The file stays as long as it is.
#[cfg(target_os = "linux")]
pub(crate) fn punch_hole(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    let punch = || rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length);
    Ok(rustix::io::retry_on_intr(punch)?)
}

/// The systems have calls for it that no library here has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn punch_hole(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a file can be reached by another name, too.
pub(crate) fn has_other_names(metadata: &Metadata) -> bool {
    metadata.nlink() > 1
}

/// What tells one file from another that later gets its name.
pub type FileId = (u64, u64);

/// Which file this is.
#[expect(clippy::unnecessary_wraps, reason = "its counterpart for Windows may not know")]
pub(super) fn id_of(metadata: &Metadata) -> Option<FileId> {
    Some((metadata.dev(), metadata.ino()))
}

/// Lets a file that is made be for its owner alone.
pub(super) fn for_the_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Gives a file the owner and mode of another.
pub(super) fn keep_rights(old: &File, new: &File) -> io::Result<()> {
    let (was, is) = (old.metadata()?, new.metadata()?);
    if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
        fchown(new, Some(was.uid()), Some(was.gid()))?;
    }
    new.set_permissions(was.permissions())
}

/// The room of the file system that a path lies on.
pub(crate) fn disk_space(path: &Path) -> io::Result<Option<DiskSpace>> {
    let counted = rustix::io::retry_on_intr(|| rustix::fs::statvfs(path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(counted.f_frsize);
    let used = counted.f_blocks.saturating_sub(counted.f_bfree);
    Ok(Some(DiskSpace { free: bytes(counted.f_bavail), used: bytes(used) }))
}

/// Gives the owner the permission to write.
pub(crate) fn make_writable(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Takes away everybody's permission to write.
pub(crate) fn make_read_only(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o444))
}
