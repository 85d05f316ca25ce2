//! How a database reaches its file: through the disk, as packs do. Only its locks are the operating system's, which other
//! processes see.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

use crate::disk::{Disk, DiskFile};

/// Makes a database in a new file; it is an error if there is one.
pub(super) fn create(disk: &dyn Disk, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
    builder.create_with_backend(Storage::over(disk.create(path)?)?)
}

/// Opens a database that exists.
pub(super) fn open(disk: &dyn Disk, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
    let file = disk.open(path)?;
    // In an empty file redb would make a database.
    if file.length()? == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty").into());
    }
    builder.create_with_backend(Storage::over(file)?)
}

/// The file of a database.
#[derive(Debug)]
struct Storage {
    file: Arc<dyn DiskFile>,
    locks: FileBackend,
}

impl Storage {
    fn over(file: Arc<dyn DiskFile>) -> Result<Storage, DatabaseError> {
        // Where locks are mandatory they hold back any other open file, also of this process.
        let locks = FileBackend::new(file.same_file()?)?;
        Ok(Storage { file, locks })
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn close(&self) -> io::Result<()> {
        self.locks.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.query_lock_range(start, end)
    }
}
