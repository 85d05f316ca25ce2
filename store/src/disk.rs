//! The disk as an argument: what packs and databases need of a file system, and nothing else.
//!
//! The store writes its packs and databases only through [`Disk`], so that tests can count syncs, fill the disk or break it
//! at an exact call.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::os;

/// A file system that holds packs and databases.
pub trait Disk: Debug + Send + Sync {
    /// Makes a new file; it is an error if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Takes away the permission to write.
    fn make_read_only(&self, path: &Path) -> io::Result<()>;
    /// Gives it back.
    fn make_writable(&self, path: &Path) -> io::Result<()>;
}

/// A file that holds a pack or a database.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset` on if that needs no waiting, for instance because the operating system has the bytes
    /// in memory; says whether it did.
    fn read_now_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// Copies up to `length` bytes from `offset` on to another file without taking them through this process, if that can be
    /// done; says how many.
    fn copy_in_kernel(&self, _offset: u64, _to: &File, _at: u64, _length: u64) -> u64 {
        0
    }
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
    /// Reserves space without changing the length.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives back the room of some bytes, which are zeros then.
    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// How long the file is.
    fn length(&self) -> io::Result<u64>;
    /// The same open file of the operating system, for locks that other processes see.
    fn same_file(&self) -> io::Result<File>;
}

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        os::sync_folder(path)
    }

    fn make_read_only(&self, path: &Path) -> io::Result<()> {
        os::make_read_only(path)
    }

    fn make_writable(&self, path: &Path) -> io::Result<()> {
        os::make_writable(path)
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        os::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        os::read_exact_at(self, buffer, offset)
    }

    fn read_now_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        os::read_now_at(self, buffer, offset)
    }

    fn copy_in_kernel(&self, offset: u64, to: &File, at: u64, length: u64) -> u64 {
        os::copy_in_kernel(self, offset, to, at, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        os::preallocate(self, offset, length)
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        os::punch_hole(self, offset, length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn same_file(&self) -> io::Result<File> {
        self.try_clone()
    }
}
