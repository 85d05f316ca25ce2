//! The catalog: what is served, for readers in any process.
//!
//! It is committed once per publication, under redb's `SingleWriter` mode, so that readers follow while a sync runs. It
//! holds nothing that cannot be derived from the ledger, and so from the packs.

use std::path::Path;

use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::rows::{PathRow, RowError, Text, name_prefix, parse_release_key, prefix_end, release_key};
use super::tables::{META, Tally, get_meta, put_meta};
use super::{Alarm, LedgerError, LedgerReader, Report, open_with};
use crate::Place;
use crate::id::{CrateName, Release};
use crate::pack::Generation;
use crate::selection::Selection;
use crate::state::{Row, State};

type Bytes = &'static [u8];

/// lower-case name -> [`PathRow`] with the served text alone
const SERVED: TableDefinition<&str, Bytes> = TableDefinition::new("served-1");
/// release key -> [`Row`] of each release whose bytes are held
const HELD: TableDefinition<Bytes, Bytes> = TableDefinition::new("held-1");
const SUMMARY: &str = "summary";

/// Everything about a mirror that fits on one screen, as of the catalog's last commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The mirror's id.
    pub mirror: String,
    /// Its epoch.
    pub epoch: u32,
    /// The last generation.
    pub generation: Option<Generation>,
    /// Releases by state.
    pub tally: Tally,
    /// What the mirror wants.
    pub selection: Selection,
    /// The upstream's state as last seen completely.
    pub mark: Option<serde_json::Value>,
    /// Releases wanted in vain or refused; the first [`LISTED`] of them.
    pub holes: Vec<Hole>,
    /// Releases whose deletion upstream is held for approval; the first [`LISTED`] of them.
    pub gone: Vec<Hole>,
    /// Versions whose checksum changed.
    pub alarms: Vec<Alarm>,
    /// What cannot be used of the upstream's index; the first [`LISTED`] of it.
    pub reports: Vec<Report>,
    /// The packs: number and durable length in bytes.
    pub packs: Vec<(u32, u64)>,
}

/// How many holes, deletions and reports a summary lists.
pub const LISTED: usize = 10_000;

/// A release that is not served as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: CrateName,
    /// The version.
    pub version: crate::Version,
    /// The promised checksum.
    pub checksum: crate::Sha256,
    /// Why.
    pub reason: String,
    /// How often it was asked for.
    pub tries: u16,
    /// Refused by a rule, not merely missing.
    pub refused: bool,
    /// Seconds since 1970 when it was first wanted.
    pub first: u64,
    /// Seconds since 1970 of the last attempt.
    pub last: u64,
}

/// A release whose bytes are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub release: Release,
    /// Where its bytes lie.
    pub place: Place,
    /// Withdrawn: the bytes are kept for the grace time, no row is served.
    pub withdrawn: bool,
}

/// The catalog, open for writing.
#[derive(Debug)]
pub struct Catalog {
    db: Database,
}

impl Catalog {
    /// Makes an empty catalog, in place of what was there.
    pub(crate) fn create(path: &Path, cache: usize) -> Result<Catalog, LedgerError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let source = Box::new(redb::Error::Io(error));
                return Err(LedgerError::Open { path: path.to_owned(), source });
            }
            _ => {}
        }
        let db = open_with(path, || builder(cache).create(path))?;
        let txn = db.begin_write()?;
        txn.open_table(SERVED)?;
        txn.open_table(HELD)?;
        txn.open_table(META)?;
        txn.commit()?;
        Ok(Catalog { db })
    }

    /// Opens the catalog for writing.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<Catalog, LedgerError> {
        Ok(Catalog { db: open_with(path, || builder(cache).open(path))? })
    }

    /// Brings the catalog to where the ledger is, in one commit; costs what changed since its last one.
    pub fn follow(&self, ledger: &LedgerReader) -> Result<(), LedgerError> {
        let summary = summarise(ledger)?;
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        let before: Option<Summary> = get_meta(&txn.open_table(META)?, SUMMARY)?;
        if before.as_ref() == Some(&summary) {
            return Ok(txn.abort()?);
        }
        let seen = before.and_then(|summary| summary.generation).map_or(0, |generation| generation.number);
        let now = summary.generation.as_ref().map_or(0, |generation| generation.number);
        for number in seen + 1..=now {
            for name in ledger.changed_in(number)? {
                copy_crate(&txn, ledger, &name)?;
            }
        }
        put_meta(&txn, SUMMARY, &summary)?;
        Ok(txn.commit()?)
    }
}

fn builder(cache: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn summarise(ledger: &LedgerReader) -> Result<Summary, LedgerError> {
    let mut reports = ledger.reports()?;
    reports.truncate(LISTED);
    Ok(Summary {
        mirror: ledger.mirror()?,
        epoch: ledger.chain()?.epoch,
        generation: ledger.generation()?,
        tally: ledger.tally()?,
        selection: ledger.selection()?,
        mark: ledger.mark()?,
        holes: ledger.holes()?.into_iter().take(LISTED).map(Hole::from).collect(),
        gone: ledger.gone()?.into_iter().take(LISTED).map(Hole::from).collect(),
        alarms: ledger.alarms()?,
        reports,
        packs: ledger.packs()?.into_iter().map(|(number, length, _)| (number, length)).collect(),
    })
}

impl From<(Release, Row)> for Hole {
    fn from((release, row): (Release, Row)) -> Hole {
        Hole {
            name: release.id.name,
            version: release.id.version,
            checksum: release.checksum,
            refused: row.state == State::Refused,
            reason: row.reason,
            tries: row.tries,
            first: row.first,
            last: row.last,
        }
    }
}

fn copy_crate(txn: &WriteTransaction, ledger: &LedgerReader, name: &CrateName) -> Result<(), LedgerError> {
    let mut served = txn.open_table(SERVED)?;
    match ledger.path(name)?.filter(|row| row.served.is_some()) {
        Some(row) => {
            let row = PathRow { upstream: None, ..row };
            served.insert(name.as_str(), row.encode(name.as_str().as_bytes()).as_slice())?;
        }
        None => drop(served.remove(name.as_str())?),
    }
    copy_releases(&mut txn.open_table(HELD)?, ledger, name)
}

fn copy_releases(
    held: &mut Table<'_, Bytes, Bytes>,
    ledger: &LedgerReader,
    name: &CrateName,
) -> Result<(), LedgerError> {
    let prefix = name_prefix(name);
    held.retain_in(prefix.as_slice()..prefix_end(&prefix).as_slice(), |_, _| false)?;
    for (release, row) in ledger.releases_of(name)? {
        if row.place.is_some() {
            let key = release_key(&release);
            held.insert(key.as_slice(), row.encode(&key).as_slice())?;
        }
    }
    Ok(())
}

/// The catalog as one commit left it.
pub struct CatalogReader {
    txn: ReadTransaction,
    _db: Option<ReadOnlyDatabase>,
}

impl CatalogReader {
    /// Opens the catalog beside whatever process writes it.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<CatalogReader, LedgerError> {
        let db = open_with(path, || builder(cache).open_read_only(path))?;
        Ok(CatalogReader { txn: db.begin_read()?, _db: Some(db) })
    }

    /// Everything that fits on one screen; none before the first commit.
    pub fn summary(&self) -> Result<Option<Summary>, LedgerError> {
        get_meta(&self.txn.open_table(META)?, SUMMARY)
    }

    /// How many index files are served, and how many crate files held.
    pub fn counts(&self) -> Result<(u64, u64), LedgerError> {
        Ok((self.txn.open_table(SERVED)?.len()?, self.txn.open_table(HELD)?.len()?))
    }

    /// The index file that is served for a crate.
    pub fn index_file(&self, name: &CrateName) -> Result<Option<Text>, LedgerError> {
        let table = self.txn.open_table(SERVED)?;
        let Some(row) = table.get(name.lower().as_str())? else { return Ok(None) };
        Ok(PathRow::decode(name.lower().as_str().as_bytes(), row.value()).ok_or(RowError { table: "served" })?.served)
    }

    /// Calls `take` with every served index file, in order of names.
    pub fn each_index_file<E: From<LedgerError>>(
        &self,
        mut take: impl FnMut(CrateName, Text) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.txn.open_table(SERVED).map_err(LedgerError::from)?;
        for row in table.iter().map_err(LedgerError::from)? {
            let (key, value) = row.map_err(LedgerError::from)?;
            let damaged = || LedgerError::from(RowError { table: "served" });
            let name = key.value().parse().map_err(|_| damaged())?;
            let served = PathRow::decode(key.value().as_bytes(), value.value())
                .and_then(|row| row.served)
                .ok_or_else(damaged)?;
            take(name, served)?;
        }
        Ok(())
    }

    /// The held bytes of a release.
    pub fn held(&self, release: &Release) -> Result<Option<Held>, LedgerError> {
        let key = release_key(release);
        let table = self.txn.open_table(HELD)?;
        let Some(row) = table.get(key.as_slice())? else { return Ok(None) };
        held_row(&key, row.value()).map(Some)
    }

    /// The next held releases behind `after`, in order, at most `limit`.
    pub fn held_after(&self, after: Option<&Release>, limit: usize) -> Result<Vec<Held>, LedgerError> {
        let from = after.map(release_key).unwrap_or_default();
        let mut releases = Vec::new();
        for row in self.txn.open_table(HELD)?.range(from.as_slice()..)? {
            if releases.len() == limit {
                break;
            }
            let (key, value) = row?;
            if after.is_none() || key.value() != from {
                releases.push(held_row(key.value(), value.value())?);
            }
        }
        Ok(releases)
    }
}

fn held_row(key: &[u8], row: &[u8]) -> Result<Held, LedgerError> {
    let damaged = || RowError { table: "held" };
    let mut release = parse_release_key(key).ok_or_else(damaged)?;
    let row = Row::decode(key, row).ok_or_else(damaged)?;
    release.id.name = row.name;
    Ok(Held { release, place: row.place.ok_or_else(damaged)?, withdrawn: row.state == State::Withdrawn })
}
