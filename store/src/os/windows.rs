//! Windows.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::DiskSpace;

const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;

pub(super) fn anonymous_file(dir: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.custom_flags(FILE_FLAG_DELETE_ON_CLOSE);
    Ok(super::uniquely_named(dir, &mut options)?.0)
}

/// There is no such limit.
pub(super) fn open_files_allowed() -> Option<u64> {
    None
}

/// Reads at an offset. It moves the cursor, which no reader here relies on.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

/// Nobody can tell without reading.
pub(crate) fn read_now_at(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes at an offset. It moves the cursor, which no writer here relies on.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = file.seek_write(bytes, offset)?;
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}

/// Nothing is copied that way here.
pub(crate) fn copy_in_kernel(_from: &File, _offset: u64, _to: &File, _at: u64, _length: u64) -> u64 {
    0
}

/// A folder cannot be synced here; NTFS writes its names through its journal.
pub(crate) fn sync_folder(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// Space is reserved by the write itself.
pub(crate) fn preallocate(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Ok(())
}

/// Parts of a file are given back by a control code that the standard library does not have.
pub(crate) fn punch_hole(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The standard library does not tell; as nothing is given back here, nobody needs to know.
pub(crate) fn has_other_names(_metadata: &Metadata) -> bool {
    false
}

/// Takes the read-only attribute away.
pub(crate) fn make_writable(path: &Path) -> io::Result<()> {
    let mut permissions = std::fs::metadata(path)?.permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "that is what the attribute is here")]
    permissions.set_readonly(false);
    std::fs::set_permissions(path, permissions)
}

/// Not asked: the standard library cannot.
pub(crate) fn disk_space(_path: &Path) -> io::Result<Option<DiskSpace>> {
    Ok(None)
}

/// Sets the read-only attribute.
pub(crate) fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = std::fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(path, permissions)
}

/// What tells one file from another that later gets its name: a file that is open cannot be replaced here, so the time
/// of its creation does.
pub type FileId = std::time::SystemTime;

/// Which file this is.
pub(super) fn id_of(metadata: &Metadata) -> Option<FileId> {
    metadata.created().ok()
}

/// Files get the rights that their folder hands down.
pub(super) fn for_the_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// See above.
pub(super) fn keep_rights(_old: &File, _new: &File) -> io::Result<()> {
    Ok(())
}
