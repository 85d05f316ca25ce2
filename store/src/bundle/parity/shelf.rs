//! Volumes that are read, or written, at many places.

use std::fs::File;
use std::io;

use crate::os;

/// So many files stay open.
const KEPT: usize = 128;

/// How one of the files is opened; none if it is not there.
pub type Open<'a> = dyn Fn(u32) -> io::Result<Option<File>> + Sync + 'a;

/// The files of volumes, by number from 1 on. A few stay open, many are opened when they are needed.
pub struct Shelf<'a> {
    open: &'a Open<'a>,
    kept: Vec<Option<File>>,
    count: usize,
}

impl<'a> Shelf<'a> {
    /// So many volumes. One that cannot be opened counts as not there.
    pub fn new(count: usize, open: &'a Open<'a>) -> Shelf<'a> {
        let kept = if count > KEPT { 0 } else { count };
        let kept = (1..=kept as u32).map(|number| open(number).ok().flatten()).collect();
        Shelf { open, kept, count }
    }

    /// Whether at least one of them is there.
    pub fn has_any(&self) -> bool {
        (0..self.count).any(|index| self.has(index))
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.with(index, |_| Ok(())).is_ok()
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn with<T>(&self, index: usize, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        if let Some(kept) = self.kept.get(index) {
            return work(kept.as_ref().ok_or_else(absent)?);
        }
        work(&(self.open)(index as u32 + 1)?.ok_or_else(absent)?)
    }

    /// Fills the buffer from one of them, the first of which is 0.
    pub(super) fn read(&self, index: usize, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(index, |file| os::read_exact_at(file, buffer, offset))
    }

    pub(super) fn write(&self, index: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(index, |file| os::write_all_at(file, bytes, offset))
    }
}
