//! Inventories: digests of all files of a folder, each read once.
//!
//! One thread reads, in path order; others hash; the caller gets what is known of each file, in path order too. The same bytes go
//! into the digests of each file and into those of the whole folder, which are those of the contents of all files one after the other.
//!
//! Nothing is written here, and what changes or cannot be read while it is looked at is told and never left out silently.

mod algorithm;
mod archive;
mod hashing;
mod murmur3;
mod name;
mod reader;
mod source;
mod walk;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, bounded};

pub use algorithm::{Algorithm, Algorithms, Digest, Hasher, NotADigest, UnknownAlgorithm};
pub use archive::{Archive, ArchiveError, LONGEST_MEMBER_NAME, single_file_header};
pub use name::{FileName, PERCENT};
pub use source::{Content, Found, Problem, Source, What};
pub use walk::Walk;

use hashing::{Digests, Pool};
use reader::{Group, Held, Reader};

/// Groups of files that were read and are not recorded yet.
const GROUPS: usize = 64;

/// What is to be computed, and by how many threads.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For each file.
    pub per_file: Algorithms,
    /// For the contents of all files, one after the other in path order.
    pub whole: Algorithms,
    /// How many threads hash.
    pub workers: NonZeroUsize,
    /// Whether the first thing that cannot be read ends it.
    pub fail_fast: bool,
}

/// What is known of something that has a name.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub name: FileName,
    /// What it is.
    pub what: Recorded,
}

/// As [`What`], with the digests of a file.
#[derive(Debug)]
pub enum Recorded {
    /// Bytes.
    File {
        /// How many.
        size: u64,
        /// When they were last changed.
        modified: Option<SystemTime>,
        /// Their digests, in order.
        digests: Vec<(Algorithm, Digest)>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: FileName,
    },
    /// A device, a pipe, a socket.
    Special,
    /// It could not be read, or changed meanwhile.
    Unread(Problem),
}

/// What was counted. All digests of the whole are there, or none: the whole is not known if a part of it is not.
#[derive(Debug, Default)]
pub struct Totals {
    /// Files that were hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Symbolic links.
    pub links: u64,
    /// Devices, pipes, sockets.
    pub special: u64,
    /// What could not be read, or changed meanwhile.
    pub unread: u64,
    /// The digests of all contents one after the other.
    pub whole: Vec<(Algorithm, Digest)>,
}

/// How far an inventory is, for others to see while it runs.
#[derive(Debug, Default)]
pub struct Gauge {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Gauge {
    /// Files that were read.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An inventory that could not be taken to its end.
#[derive(Debug, thiserror::Error)]
pub enum TakeError<E> {
    /// There are not enough threads to be had.
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
    /// A record was not taken.
    #[error(transparent)]
    Record(E),
}

/// Takes an inventory. Each record goes to `record`, in path order; an error of that ends it.
pub fn take<E>(
    source: &mut dyn Source,
    plan: &Plan,
    gauge: &Gauge,
    record: impl FnMut(Record) -> Result<(), E>,
) -> Result<Totals, TakeError<E>> {
    let pool = Pool::default();
    let whole = Digests::of(plan.whole.as_slice().len());
    let (groups, read) = bounded(GROUPS);
    let reader = Reader::new(plan, gauge, &pool, &whole, groups);
    let totals = thread::scope(|threads| {
        start(threads, &pool, plan.workers).map_err(TakeError::Threads)?;
        let reading = thread::Builder::new().name("read".to_owned());
        if let Err(error) = reading.spawn_scoped(threads, || reader.run(source)) {
            pool.close();
            return Err(TakeError::Threads(error));
        }
        // The receiver goes when this ends, which stops the reader.
        settle(read, plan, record).map_err(TakeError::Record)
    })?;
    Ok(with_whole(totals, plan, &whole))
}

/// Starts threads that hash: as many as are wanted, or as can be had.
fn start<'scope>(threads: &'scope Scope<'scope, '_>, pool: &'scope Pool, wanted: NonZeroUsize) -> io::Result<()> {
    for number in 0..wanted.get() {
        let thread = thread::Builder::new().name(format!("hash-{number}"));
        match thread.spawn_scoped(threads, || pool.work()) {
            Err(error) if number == 0 => return Err(error),
            Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Waits for the digests of each group and passes its records on.
fn settle<E>(
    groups: Receiver<Group>,
    plan: &Plan,
    mut record: impl FnMut(Record) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut totals = Totals::default();
    for Group { held, digests } in groups {
        let mut digests: Vec<_> = digests.wait().into_iter().map(Vec::into_iter).collect();
        for Held { name, what, is_hashed } in held {
            let algorithms = plan.per_file.as_slice().iter().copied();
            // What was hashed has its place among the digests, even if it turned out afterwards that it had changed.
            let of_this = if is_hashed {
                algorithms.zip(digests.iter_mut().filter_map(Iterator::next)).collect()
            } else {
                Vec::new()
            };
            record(Record { name, what: totals.count(what, of_this) })?;
        }
    }
    Ok(totals)
}

impl Totals {
    fn count(&mut self, what: What, digests: Vec<(Algorithm, Digest)>) -> Recorded {
        match what {
            What::File { size, modified } => {
                self.files += 1;
                self.bytes += size;
                Recorded::File { size, modified, digests }
            }
            What::Link { target } => {
                self.links += 1;
                Recorded::Link { target }
            }
            What::Special => {
                self.special += 1;
                Recorded::Special
            }
            What::Unread(problem) => {
                self.unread += 1;
                Recorded::Unread(problem)
            }
        }
    }
}

fn with_whole(mut totals: Totals, plan: &Plan, whole: &Digests) -> Totals {
    if totals.unread == 0 {
        let digests = whole.wait().into_iter().flatten();
        totals.whole = plan.whole.as_slice().iter().copied().zip(digests).collect();
    }
    totals
}

#[cfg(test)]
mod tests;
