//! The databases: the only door to redb.
//!
//! The *ledger* is the writer's: all that is known. It is moved by applying group records and by nothing else, so that a
//! running writer, the adoption of a torn tail and `rebuild` cannot disagree. The *catalog* is the readers': what is
//! served, committed once per publication and derived from the ledger.
//!
//! Every commit is immediate, two-phase and quick to repair. A value that fails its check is an error, never an answer.

mod apply;
mod catalog;
mod read;
mod rows;
mod storage;
mod tables;
mod tree;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use crate::disk::Disk;
use crate::pack::{Generation, GroupRecord, Point};

pub(crate) use apply::Applied;
use apply::Promoted;
pub use catalog::{Catalog, CatalogReader, Held, Hole, Soundness, Summary, TOLD};
pub use read::{Alarm, Change, LedgerReader, Report, Work};
use rows::release_key;
pub use rows::{PathRow, RowError, Text};
pub use tables::{Chain, Tally};
pub(crate) use tree::root_of;

/// A database that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened as a database.
    #[error("cannot open {}", path.display())]
    Open {
        /// The database's file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The file is not the database it should be.
    #[error("{} is damaged: {problem}; `crateferry rebuild` makes it again from the packs", path.display())]
    Damaged {
        /// The database's file.
        path: PathBuf,
        /// What was seen.
        problem: String,
    },
    /// The database failed while it was in use.
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    /// A row fails its check.
    #[error(transparent)]
    Row(#[from] RowError),
    /// What a bundle makes of the mirror is not what its origin published.
    #[error("{0}; nothing is published")]
    Generation(String),
    /// A record does not fit to what the ledger knows.
    #[error("group record {sequence} does not fit the ledger: {problem}")]
    Record {
        /// The record.
        sequence: u64,
        /// What does not fit.
        problem: String,
    },
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for LedgerError {
            fn from(error: $error) -> Self {
                LedgerError::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::SetDurabilityError);

/// The writer's database.
#[derive(Debug)]
pub struct Ledger {
    db: Database,
}

/// What identifies a mirror in its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identification {
    pub(crate) mirror: String,
    pub(crate) epoch: u32,
}

impl Ledger {
    /// Makes a new ledger; there must be no file.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        cache: usize,
        id: &Identification,
    ) -> Result<Ledger, LedgerError> {
        let db = open_with(path, || storage::create(disk, path, Builder::new().set_cache_size(cache)))?;
        let ledger = Ledger { db };
        let txn = ledger.begin()?;
        tables::initialise(&txn, id)?;
        txn.commit()?;
        Ok(ledger)
    }

    /// Opens a ledger that exists.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, cache: usize) -> Result<Ledger, LedgerError> {
        let db = open_as_writer(path, || storage::open(disk, path, Builder::new().set_cache_size(cache)))?;
        let ledger = Ledger { db };
        ledger.reader()?.chain().map_err(|error| LedgerError::Damaged {
            path: path.to_owned(),
            problem: format!("it does not say which mirror it belongs to ({error})"),
        })?;
        Ok(ledger)
    }

    /// The same, after every page of the file was read and compared with its checksum.
    pub(crate) fn open_checked(disk: &dyn Disk, path: &Path, cache: usize) -> Result<Ledger, LedgerError> {
        let open = || storage::open(disk, path, Builder::new().set_cache_size(cache).set_check_integrity_on_open(true));
        drop(open_as_writer(path, open)?);
        guarded(path, || Ledger::open(disk, path, cache))
    }

    /// What the ledger knows at this moment.
    pub fn reader(&self) -> Result<LedgerReader, LedgerError> {
        Ok(LedgerReader::new(self.db.begin_read()?))
    }

    /// Applies records whose bytes are durable, in one transaction.
    pub(crate) fn apply(&self, groups: &[Applied<'_>]) -> Result<(), LedgerError> {
        let txn = self.begin()?;
        for group in groups {
            apply::apply(&txn, group)?;
        }
        Ok(txn.commit()?)
    }

    /// Begins a publication: promotes what is staged and says which generation that makes. Nothing is kept until the
    /// record of it is durable and given to [`Publication::finish`].
    pub(crate) fn publish(&self, published_at: u64) -> Result<Option<(Publication, Generation)>, LedgerError> {
        let txn = self.begin()?;
        if let Promoted::Generation(generation) = apply::promote(&txn, published_at, None)? {
            return Ok(Some((Publication { txn }, generation)));
        }
        txn.commit()?; // what was composed in vain need not be composed again
        Ok(None)
    }

    /// Begins the publication of a generation that the origin made: the same, if what is staged makes just that.
    pub(crate) fn publish_given(&self, generation: &Generation, through: &[Point]) -> Result<Publication, LedgerError> {
        let txn = self.begin()?;
        apply::include(&txn, through)?;
        match apply::promote(&txn, generation.published_at, Some(generation))? {
            Promoted::Other { digest, counts } => {
                txn.abort()?;
                Err(LedgerError::Generation(apply::other_generation(generation, digest, counts)))
            }
            Promoted::Generation(_) | Promoted::Nothing => Ok(Publication { txn }),
        }
    }

    /// Notes that a pack was sealed.
    pub(crate) fn seal_pack(&self, number: u32) -> Result<(), LedgerError> {
        let txn = self.begin()?;
        tables::seal_pack(&txn, number)?;
        Ok(txn.commit()?)
    }

    /// Goes on in another epoch.
    pub(crate) fn begin_epoch(&self, epoch: u32) -> Result<(), LedgerError> {
        let chain = Chain { epoch, ..self.reader()?.chain()? };
        let txn = self.begin()?;
        tables::put_meta(&txn, tables::CHAIN, &chain)?;
        Ok(txn.commit()?)
    }

    fn begin(&self) -> Result<WriteTransaction, LedgerError> {
        let mut txn = self.db.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        Ok(txn)
    }
}

/// A publication that is prepared, but not committed.
pub(crate) struct Publication {
    txn: WriteTransaction,
}

impl Publication {
    /// Commits the publication, whose record is durable.
    pub(crate) fn finish(self, group: &Applied<'_>) -> Result<(), LedgerError> {
        apply::note_record(&self.txn, group)?;
        Ok(self.txn.commit()?)
    }
}

/// A damaged file may make redb panic; that too is only a damaged file.
fn open_with<T>(path: &Path, open: impl FnOnce() -> Result<T, redb::DatabaseError>) -> Result<T, LedgerError> {
    match caught(open) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(open_error(path, error)),
        Err(_) => Err(LedgerError::Damaged { path: path.to_owned(), problem: "redb gave up on it".into() }),
    }
}

/// The same by the mirror's writer. One that was killed may have lost the mirror's lock and not yet that of its databases: the
/// system takes them away one by one.
fn open_as_writer<T>(path: &Path, open: impl Fn() -> Result<T, redb::DatabaseError>) -> Result<T, LedgerError> {
    const MOMENT: Duration = Duration::from_secs(2);
    const STEP: Duration = Duration::from_millis(10);
    let end = Instant::now() + MOMENT;
    open_with(path, || {
        loop {
            match open() {
                Err(redb::DatabaseError::DatabaseAlreadyOpen) if Instant::now() < end => std::thread::sleep(STEP),
                opened => return opened,
            }
        }
    })
}

/// The same of what is done with a database that is open.
pub(crate) fn guarded<T>(path: &Path, act: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    let gave_up = |_| LedgerError::Damaged { path: path.to_owned(), problem: "redb gave up on it".into() };
    caught(act).map_err(gave_up).flatten()
}

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

fn caught<T>(act: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = IS_CAUGHT.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(act));
    IS_CAUGHT.set(before);
    outcome
}

/// Whether a panic of this thread would be redb's, at what it finds in a damaged database: it becomes an error that says so.
pub fn is_caught() -> bool {
    IS_CAUGHT.get()
}

fn open_error(path: &Path, error: redb::DatabaseError) -> LedgerError {
    use redb::{DatabaseError, StorageError};
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match &error {
        DatabaseError::Storage(StorageError::Io(io)) if !matches!(io.kind(), InvalidData | UnexpectedEof) => {
            LedgerError::Open { path: path.to_owned(), source: Box::new(error.into()) }
        }
        DatabaseError::DatabaseAlreadyOpen => {
            LedgerError::Open { path: path.to_owned(), source: Box::new(error.into()) }
        }
        other => LedgerError::Damaged { path: path.to_owned(), problem: other.to_string() },
    }
}

impl LedgerError {
    pub(crate) fn record(record: &GroupRecord, problem: impl Into<String>) -> Self {
        LedgerError::Record { sequence: record.header.sequence, problem: problem.into() }
    }
}
