//! A disk that can be cut off from power, fail at an exact call, and tell what it did.
//!
//! It writes to the file system at once and remembers what a power cut would take: bytes that were written and not
//! synced, and files whose folder was not synced since they were made.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crateferry_store::{Disk, DiskFile, SystemDisk};

use super::copy_folder;

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Write,
    Sync,
    SyncFolder,
    Reserve,
}

/// What power loss does to bytes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: only the process was killed.
    Killed,
    /// They are zeros; the length stays.
    Zeros,
    /// The file ends where the first of them began.
    Cut,
    /// Of two pieces written after each other, the first is zeros and the second is there.
    EveryOther,
}

type Ranges = Vec<(u64, u64)>;

#[derive(Clone, Debug, Default)]
struct Volatile {
    /// Bytes that were written and not synced, by file.
    unsynced: HashMap<PathBuf, Ranges>,
    /// Bytes whose sync failed, by file: no other sync makes them durable, only writing them again.
    failed: HashMap<PathBuf, Ranges>,
    /// Files whose names are not durable.
    unnamed: HashSet<PathBuf>,
}

type Hook = Box<dyn Fn(&TestDisk) + Send + Sync>;

/// A disk for tests; clones are the same disk.
#[derive(Clone, Default)]
pub struct TestDisk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    volatile: Mutex<Volatile>,
    calls: Mutex<HashMap<Call, usize>>,
    failing: Mutex<Option<(Call, usize, io::ErrorKind)>>,
    before_sync: Mutex<Option<Hook>>,
    is_broken: AtomicBool,
    after_break: AtomicUsize,
}

impl std::fmt::Debug for TestDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestDisk")
    }
}

impl TestDisk {
    pub fn new() -> TestDisk {
        TestDisk::default()
    }

    /// A disk on which the same is not durable yet: the machine went on while the process was killed. `from` is the
    /// folder that the other disk wrote, `to` its copy.
    pub fn going_on(&self, from: &Path, to: &Path) -> TestDisk {
        let moved = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        let volatile = self.0.volatile.lock().unwrap();
        let all_moved = |files: &HashMap<PathBuf, Ranges>| {
            files.iter().map(|(path, ranges)| (moved(path), ranges.clone())).collect()
        };
        let unnamed = volatile.unnamed.iter().map(|path| moved(path)).collect();
        let volatile =
            Volatile { unsynced: all_moved(&volatile.unsynced), failed: all_moved(&volatile.failed), unnamed };
        TestDisk(Arc::new(Inner { volatile: Mutex::new(volatile), ..Inner::default() }))
    }

    /// Fails the call of this kind with this number, counted from 1. Later calls succeed; but what a failed sync did not
    /// make durable, no later sync does.
    pub fn fail(self, call: Call, number: usize, kind: io::ErrorKind) -> Self {
        *self.0.failing.lock().unwrap() = Some((call, number, kind));
        self
    }

    /// Calls this before each sync of a file, while whoever syncs waits.
    pub fn before_sync(self, hook: impl Fn(&TestDisk) + Send + Sync + 'static) -> Self {
        *self.0.before_sync.lock().unwrap() = Some(Box::new(hook));
        self
    }

    /// How many calls of a kind there were.
    pub fn calls(&self, call: Call) -> usize {
        self.0.calls.lock().unwrap().get(&call).copied().unwrap_or(0)
    }

    /// How many syncs there were after the call that failed.
    pub fn syncs_after_failure(&self) -> usize {
        self.0.after_break.load(Ordering::Relaxed)
    }

    /// Copies a mirror as it is after power was lost at this moment.
    pub fn lose_power(&self, from: &Path, to: &Path, loss: Loss) {
        // Nothing is written meanwhile, since every write takes the lock.
        let volatile = self.0.volatile.lock().unwrap();
        copy_folder(from, to);
        if loss == Loss::Killed {
            return;
        }
        let moved = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        for (path, ranges) in volatile.failed.iter().chain(&volatile.unsynced) {
            if moved(path).exists() {
                lose(&moved(path), ranges, loss);
            }
        }
        for path in &volatile.unnamed {
            drop(std::fs::remove_file(moved(path)));
        }
    }

    fn count(&self, call: Call) -> io::Result<()> {
        let mut calls = self.0.calls.lock().unwrap();
        let number = calls.entry(call).or_default();
        *number += 1;
        if self.0.is_broken.load(Ordering::Relaxed) && call == Call::Sync {
            self.0.after_break.fetch_add(1, Ordering::Relaxed);
        }
        match *self.0.failing.lock().unwrap() {
            Some((failing, at, kind)) if failing == call && at == *number => {
                self.0.is_broken.store(true, Ordering::Relaxed);
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }
}

/// What is left of a range without another.
fn without((offset, length): (u64, u64), (hole, hole_length): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let (end, hole_end) = (offset + length, hole + hole_length);
    let before = (offset, hole.min(end).saturating_sub(offset));
    let behind = (hole_end.max(offset), end.saturating_sub(hole_end.max(offset)));
    [before, behind].into_iter().filter(|range| range.1 > 0)
}

fn lose(path: &Path, ranges: &[(u64, u64)], loss: Loss) {
    let mut bytes = std::fs::read(path).unwrap();
    for (number, &(offset, length)) in ranges.iter().enumerate() {
        let (from, to) = ((offset as usize).min(bytes.len()), ((offset + length) as usize).min(bytes.len()));
        match loss {
            Loss::Killed => {}
            Loss::EveryOther if number % 2 == 1 => {}
            Loss::Zeros | Loss::EveryOther => bytes[from..to].fill(0),
            Loss::Cut => bytes.truncate(from),
        }
    }
    std::fs::write(path, bytes).unwrap();
}

/// Databases neither fail nor lose anything here, and are not counted: `tests/model.rs` has a disk for that.
fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "redb" || extension == "new")
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if is_database(path) {
            return SystemDisk.create(path);
        }
        let mut volatile = self.0.volatile.lock().unwrap();
        let file = SystemDisk.create(path)?;
        volatile.unnamed.insert(path.to_owned());
        Ok(self.file(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if is_database(path) {
            return SystemDisk.open(path);
        }
        Ok(self.file(path, SystemDisk.open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, SystemDisk.open_read(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut volatile = self.0.volatile.lock().unwrap();
        SystemDisk.rename(from, to)?;
        if let Some(ranges) = volatile.unsynced.remove(from) {
            volatile.unsynced.insert(to.to_owned(), ranges);
        }
        if volatile.unnamed.remove(from) {
            volatile.unnamed.insert(to.to_owned());
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut volatile = self.0.volatile.lock().unwrap();
        SystemDisk.remove(path)?;
        volatile.unsynced.remove(path);
        volatile.failed.remove(path);
        volatile.unnamed.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if path.ends_with("packs") {
            self.count(Call::SyncFolder)?;
        }
        self.0.volatile.lock().unwrap().unnamed.retain(|file| file.parent() != Some(path));
        Ok(())
    }

    fn make_read_only(&self, path: &Path) -> io::Result<()> {
        SystemDisk.make_read_only(path)
    }

    fn make_writable(&self, path: &Path) -> io::Result<()> {
        SystemDisk.make_writable(path)
    }
}

impl TestDisk {
    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(TestFile { disk: self.clone(), path: path.to_owned(), file })
    }
}

struct TestFile {
    disk: TestDisk,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl std::fmt::Debug for TestFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestFile {}", self.path.display())
    }
}

impl DiskFile for TestFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.count(Call::Write)?;
        let mut volatile = self.disk.0.volatile.lock().unwrap();
        self.file.write_all_at(bytes, offset)?;
        volatile.unsynced.entry(self.path.clone()).or_default().push((offset, bytes.len() as u64));
        if let Some(failed) = volatile.failed.get_mut(&self.path) {
            *failed = failed.iter().flat_map(|range| without(*range, (offset, bytes.len() as u64))).collect();
        }
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(hook) = &*self.disk.0.before_sync.lock().unwrap() {
            hook(&self.disk);
        }
        // What is written from here on is not covered.
        let covered = self.disk.0.volatile.lock().unwrap().unsynced.get(&self.path).map_or(0, Vec::len);
        let outcome = self.disk.count(Call::Sync);
        let mut volatile = self.disk.0.volatile.lock().unwrap();
        let synced: Ranges =
            volatile.unsynced.get_mut(&self.path).map_or_else(Vec::new, |ranges| ranges.drain(..covered).collect());
        if outcome.is_err() {
            volatile.failed.entry(self.path.clone()).or_default().extend(synced);
        }
        outcome
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.count(Call::Reserve)?;
        self.file.reserve(offset, length)
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.count(Call::Write)?;
        self.file.punch_hole(offset, length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut volatile = self.disk.0.volatile.lock().unwrap();
        self.file.set_length(length)?;
        if let Some(ranges) = volatile.unsynced.get_mut(&self.path) {
            ranges.retain(|range| range.0 < length);
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn same_file(&self) -> io::Result<File> {
        self.file.same_file()
    }
}
