//! The catalog: what is served, for readers in any process.
//!
//! It is committed once per publication, under redb's `SingleWriter` mode, so that readers follow while a sync runs. It
//! holds nothing that cannot be derived from the ledger, and so from the packs.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    AccessGuard, Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction,
    ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::rows::{
    PathRow, RowError, Text, decode_json, encode_json, name_prefix, parse_release_key, prefix_end, release_key,
    version_prefix,
};
use super::soundness::Verdict;
use super::tables::{META, Tally, get_meta, put_meta};
use super::{Alarm, LedgerError, LedgerReader, Report, guarded, open_with};
use crate::Place;
use crate::facts::{About, FactsPlace};
use crate::id::{CrateName, Release, ReleaseId};
use crate::os::{self, FileId};
use crate::pack::{Generation, PackReader};
use crate::selection::Selection;
use crate::state::{Row, State};

type Bytes = &'static [u8];

/// lower-case name -> [`PathRow`] with the served text alone
const SERVED: TableDefinition<&str, Bytes> = TableDefinition::new("served-1");
/// release key -> [`Row`] of each release whose bytes are held
const HELD: TableDefinition<Bytes, Bytes> = TableDefinition::new("held-1");
/// release key -> [`FactsPlace`] of each release in [`HELD`] of which facts are known
const FACTS: TableDefinition<Bytes, Bytes> = TableDefinition::new("facts-1");
/// lower-case name -> [`About`] the crate
const ABOUT: TableDefinition<&str, Bytes> = TableDefinition::new("about-1");
/// generation number -> JSON
const GENERATIONS: TableDefinition<u64, Bytes> = TableDefinition::new("generations-1");
/// What each generation changed: (generation, lower-case name)
const CHANGED: TableDefinition<(u64, &str), ()> = TableDefinition::new("changed-1");
const SUMMARY: &str = "summary";
/// Grows with each commit, so that a reader sees cheaply whether there is something new.
const REVISION: &str = "revision";

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
    /// The last record with facts that came later than their crate file; 0 for none.
    pub last_facts: u64,
    /// Held releases whose crate file could tell more.
    pub undescribed: u64,
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
        txn.open_table(FACTS)?;
        txn.open_table(ABOUT)?;
        txn.open_table(GENERATIONS)?;
        txn.open_table(CHANGED)?;
        put_meta(&txn, REVISION, &0_u64)?;
        txn.commit()?;
        Ok(Catalog { db })
    }

    /// Opens the catalog for writing.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<Catalog, LedgerError> {
        let db = open_with(path, || builder(cache).open(path))?;
        Tables::open(&db.begin_read()?)?;
        Ok(Catalog { db })
    }

    /// Opens the catalog for writing and brings it to where the ledger is.
    pub(crate) fn open_following(
        path: &Path,
        cache: usize,
        ledger: &LedgerReader,
        packs: &PackReader,
    ) -> Result<Catalog, LedgerError> {
        guarded(path, || {
            let catalog = Catalog::open(path, cache)?;
            catalog.follow(ledger, packs)?;
            Ok(catalog)
        })
    }

    /// Brings the catalog to where the ledger is, in one commit; costs what changed since its last one.
    pub fn follow(&self, ledger: &LedgerReader, packs: &PackReader) -> Result<(), LedgerError> {
        let summary = summarise(ledger)?;
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        let before: Option<Summary> = get_meta(&txn.open_table(META)?, SUMMARY)?;
        if before.as_ref() == Some(&summary) {
            return Ok(txn.abort()?);
        }
        let number = |summary: &Summary| summary.generation.as_ref().map_or(0, |generation| generation.number);
        let (seen, seen_facts) = before.map_or((0, 0), |before| (number(&before), before.last_facts));
        let mut copy = Copy { txn: &txn, ledger, packs, copied: HashSet::new() };
        for number in seen + 1..=number(&summary) {
            copy.generation(number)?;
        }
        for name in ledger.described_after(seen_facts)? {
            copy.facts_of(&name)?;
        }
        put_meta(&txn, SUMMARY, &summary)?;
        let revision: u64 = get_meta(&txn.open_table(META)?, REVISION)?.unwrap_or(0);
        put_meta(&txn, REVISION, &(revision + 1))?;
        Ok(txn.commit()?)
    }
}

fn builder(cache: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// A copy of a file, without a name.
fn copied(path: &Path) -> std::io::Result<File> {
    let mut copy = os::anonymous_file(&std::env::temp_dir())?;
    std::io::copy(&mut File::open(path)?, &mut copy)?;
    Ok(copy)
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
        last_facts: ledger.last_facts()?,
        undescribed: ledger.undescribed()?,
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

/// Takes over from the ledger what the catalog has not seen yet, as it is now.
struct Copy<'a> {
    txn: &'a WriteTransaction,
    ledger: &'a LedgerReader,
    packs: &'a PackReader,
    /// The crates that were copied by now.
    copied: HashSet<CrateName>,
}

impl Copy<'_> {
    /// Copies a generation and the crates that it changed.
    fn generation(&mut self, number: u64) -> Result<(), LedgerError> {
        if let Some(generation) = self.ledger.generation_at(number)? {
            let row = encode_json(&number.to_le_bytes(), &generation);
            self.txn.open_table(GENERATIONS)?.insert(number, row.as_slice())?;
        }
        let mut changed = self.txn.open_table(CHANGED)?;
        for name in self.ledger.changed_in(number)? {
            changed.insert((number, name.as_str()), ())?;
            if !self.copied.contains(&name) {
                self.index_file(&name)?;
                self.releases(&name)?;
                self.copied.insert(name);
            }
        }
        Ok(())
    }

    fn index_file(&self, name: &CrateName) -> Result<(), LedgerError> {
        let mut served = self.txn.open_table(SERVED)?;
        match self.ledger.path(name)?.filter(|row| row.served.is_some()) {
            Some(row) => {
                let row = PathRow { upstream: None, ..row };
                served.insert(name.as_str(), row.encode(name.as_str().as_bytes()).as_slice())?;
            }
            None => drop(served.remove(name.as_str())?),
        }
        Ok(())
    }

    /// Copies the held releases of a crate, and where their facts lie.
    fn releases(&self, name: &CrateName) -> Result<(), LedgerError> {
        let (mut held, mut facts) = (self.txn.open_table(HELD)?, self.txn.open_table(FACTS)?);
        for table in [&mut held, &mut facts] {
            let prefix = name_prefix(name);
            table.retain_in(prefix.as_slice()..prefix_end(&prefix).as_slice(), |_, _| false)?;
        }
        let mut highest = None;
        for (release, row) in self.ledger.releases_of(name)?.into_iter().filter(|(_, row)| row.place.is_some()) {
            let key = release_key(&release);
            held.insert(key.as_slice(), row.encode(&key).as_slice())?;
            let Some(place) = self.ledger.facts(&release)? else { continue };
            facts.insert(key.as_slice(), place.encode(&key).as_slice())?;
            if row.state == State::Stored {
                highest = highest.max(Some((rank(&release), place)));
            }
        }
        self.about(name, highest.map(|(_, place)| place))
    }

    /// Copies where the facts of a crate lie that some generation serves; one of a later generation has them then.
    fn facts_of(&mut self, name: &CrateName) -> Result<(), LedgerError> {
        if self.copied.contains(name) || self.txn.open_table(SERVED)?.get(name.as_str())?.is_none() {
            return Ok(());
        }
        self.releases(name)
    }

    /// Notes what the facts of its highest release tell about a crate.
    fn about(&self, name: &CrateName, place: Option<FactsPlace>) -> Result<(), LedgerError> {
        let facts = place.map(|place| self.packs.facts(&place)).transpose().unwrap_or_else(|error| {
            tracing::warn!(%name, "what is known about a crate is left out: {error}");
            None
        });
        let about = facts.and_then(|facts| facts.manifest).map(|manifest| About::of(&manifest));
        let mut table = self.txn.open_table(ABOUT)?;
        match about {
            Some(about) => drop(table.insert(name.as_str(), about.encode(name.as_str().as_bytes()).as_slice())?),
            None => drop(table.remove(name.as_str())?),
        }
        Ok(())
    }
}

/// Orders releases of a crate: what is no pre-release comes higher, then what is a higher version.
fn rank(release: &Release) -> (bool, Option<semver::Version>) {
    let version = semver::Version::parse(release.id.version.as_str()).ok();
    (version.as_ref().is_some_and(|version| version.pre.is_empty()), version)
}

/// The catalog as one commit left it: what it says does not change until it is asked for what is [newer](Self::newer).
pub struct CatalogReader {
    tables: Tables,
    revision: u64,
    db: Arc<ReadOnlyDatabase>,
    file: Option<FileId>,
    pub(super) path: Arc<Path>,
    pub(super) verdict: Arc<Verdict>,
}

/// The catalog's tables, opened once: a lookup then costs a walk down one tree.
pub(super) struct Tables {
    served: ReadOnlyTable<&'static str, Bytes>,
    pub(super) held: ReadOnlyTable<Bytes, Bytes>,
    pub(super) facts: ReadOnlyTable<Bytes, Bytes>,
    pub(super) about: ReadOnlyTable<&'static str, Bytes>,
    generations: ReadOnlyTable<u64, Bytes>,
    changed: ReadOnlyTable<(u64, &'static str), ()>,
    meta: ReadOnlyTable<&'static str, Bytes>,
}

impl Tables {
    fn open(txn: &ReadTransaction) -> Result<Tables, LedgerError> {
        Ok(Tables {
            served: txn.open_table(SERVED)?,
            held: txn.open_table(HELD)?,
            facts: txn.open_table(FACTS)?,
            about: txn.open_table(ABOUT)?,
            generations: txn.open_table(GENERATIONS)?,
            changed: txn.open_table(CHANGED)?,
            meta: txn.open_table(META)?,
        })
    }
}

impl CatalogReader {
    /// Opens the catalog beside whatever process writes it.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<CatalogReader, LedgerError> {
        let file = os::file_id(path);
        let db = open_with(path, || builder(cache).open_read_only(path))?;
        Self::begin(path, db, file)
    }

    /// Opens a repaired copy of a catalog that needs a repair and must not be written, in a file without a name. If a
    /// writer came meanwhile, what was copied may be of two minds: so every page of the copy is checked.
    pub(crate) fn open_copy(path: &Path, cache: usize) -> Result<CatalogReader, LedgerError> {
        let copy = copied(path).map_err(|error| {
            let source = Box::new(redb::Error::Io(error));
            LedgerError::Open { path: path.to_owned(), source }
        })?;
        let backend = || copy.try_clone().map_err(redb::DatabaseError::from).and_then(FileBackend::new);
        drop(open_with(path, || builder(cache).set_check_integrity_on_open(true).create_with_backend(backend()?))?);
        let db = open_with(path, || builder(cache).open_read_only_with_backend(backend()?))?;
        Self::begin(path, db, None)
    }

    /// Whether the catalog that is read is still the file that lies at `path`.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.file.is_some() && os::file_id(path) == self.file
    }

    /// Whether it is read from a copy.
    pub(crate) fn is_copy(&self) -> bool {
        self.file.is_none()
    }

    fn begin(path: &Path, db: ReadOnlyDatabase, file: Option<FileId>) -> Result<CatalogReader, LedgerError> {
        let (tables, revision) = guarded(path, || last_commit(&db))?;
        let (path, verdict) = (path.into(), Arc::default());
        Ok(CatalogReader { tables, revision, db: Arc::new(db), file, path, verdict })
    }

    /// Reads. A damaged file may make redb panic, and what cannot be read makes all of it doubtful.
    pub(super) fn read<'a, T>(
        &'a self,
        look: impl FnOnce(&'a Tables) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        guarded(&self.path, || look(&self.tables)).inspect_err(|_| self.verdict.doubt())
    }

    /// The catalog as of its last commit, if there was one after this reader's. Costs a few page reads.
    pub fn newer(&self) -> Result<Option<CatalogReader>, LedgerError> {
        let (tables, revision) = self.read(|_| last_commit(&self.db))?;
        Ok((revision != self.revision).then(|| CatalogReader {
            tables,
            revision,
            db: self.db.clone(),
            file: self.file,
            path: self.path.clone(),
            verdict: self.verdict.clone(),
        }))
    }

    /// Everything that fits on one screen; none before the first commit.
    pub fn summary(&self) -> Result<Option<Summary>, LedgerError> {
        self.read(|tables| get_meta(&tables.meta, SUMMARY))
    }

    /// How many index files are served, and how many crate files held.
    pub fn counts(&self) -> Result<(u64, u64), LedgerError> {
        self.read(|tables| Ok((tables.served.len()?, tables.held.len()?)))
    }

    /// The index file that is served for a crate.
    pub fn index_file(&self, name: &CrateName) -> Result<Option<Text>, LedgerError> {
        let name = name.lower();
        self.read(|tables| {
            let Some(row) = tables.served.get(name.as_str())? else { return Ok(None) };
            Ok(PathRow::decode(name.as_str().as_bytes(), row.value()).ok_or(RowError { table: "served" })?.served)
        })
    }

    /// Calls `take` with every served index file, in order of names.
    pub fn each_index_file<E: From<LedgerError>>(
        &self,
        mut take: impl FnMut(CrateName, Text) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.read(|tables| Ok(tables.served.iter()?))?;
        while let Some((name, text)) = self.read(|_| rows.next().map(|row| served_row(row?)).transpose())? {
            take(name, text)?;
        }
        Ok(())
    }

    /// The held bytes of a release.
    pub fn held(&self, release: &Release) -> Result<Option<Held>, LedgerError> {
        let key = release_key(release);
        self.read(|tables| {
            let Some(row) = tables.held.get(key.as_slice())? else { return Ok(None) };
            held_row(&key, row.value()).map(Some)
        })
    }

    /// Where the facts of a release lie, if there are any.
    pub fn facts(&self, release: &Release) -> Result<Option<FactsPlace>, LedgerError> {
        let key = release_key(release);
        self.read(|tables| {
            let Some(row) = tables.facts.get(key.as_slice())? else { return Ok(None) };
            facts_row(&key, row.value()).map(Some)
        })
    }

    /// What is to be shown about a crate where many are listed, as far as facts of it are known.
    pub fn about(&self, name: &CrateName) -> Result<Option<About>, LedgerError> {
        let name = name.lower();
        self.read(|tables| {
            let Some(row) = tables.about.get(name.as_str())? else { return Ok(None) };
            about_row(name.as_str(), row.value()).map(Some)
        })
    }

    /// The held bytes of a version, in all checksums that it ever had.
    pub fn held_at(&self, id: &ReleaseId) -> Result<Vec<Held>, LedgerError> {
        self.held_below(&version_prefix(id))
    }

    /// The held bytes of a crate's releases, by version text.
    pub fn held_of(&self, name: &CrateName) -> Result<Vec<Held>, LedgerError> {
        self.held_below(&name_prefix(name))
    }

    fn held_below(&self, prefix: &[u8]) -> Result<Vec<Held>, LedgerError> {
        self.read(|tables| {
            let rows = tables.held.range(prefix..prefix_end(prefix).as_slice())?;
            rows.map(|row| row.map_err(LedgerError::from).and_then(|(key, row)| held_row(key.value(), row.value())))
                .collect()
        })
    }

    /// Generations from `before` backwards, without it, the newest first, at most `limit`.
    pub fn generations_before(&self, before: u64, limit: usize) -> Result<Vec<Generation>, LedgerError> {
        self.read(|tables| {
            let rows = tables.generations.range(..before)?.rev().take(limit);
            rows.map(|row| {
                row.map_err(LedgerError::from).and_then(|(number, row)| generation_row(number.value(), row.value()))
            })
            .collect()
        })
    }

    /// A generation by its number.
    pub fn generation(&self, number: u64) -> Result<Option<Generation>, LedgerError> {
        self.read(|tables| {
            let row = tables.generations.get(number)?;
            row.map(|row| generation_row(number, row.value())).transpose()
        })
    }

    /// Crates that a generation changed, in order of their lower-case names behind `after`, at most `limit`.
    pub fn changed_in(
        &self,
        generation: u64,
        after: Option<&CrateName>,
        limit: usize,
    ) -> Result<Vec<CrateName>, LedgerError> {
        let after = after.map(CrateName::lower);
        let from = (generation, after.as_ref().map_or("", |name| name.as_str()));
        self.read(|tables| {
            let rows = tables.changed.range(from..(generation + 1, ""))?;
            let names = rows.map(|row| {
                let (key, _) = row?;
                key.value().1.parse().map_err(|_| LedgerError::from(RowError { table: "changed" }))
            });
            let behind = names.filter(|name| name.as_ref().map_or(true, |name| Some(name) != after.as_ref()));
            behind.take(limit).collect()
        })
    }

    /// The next held releases behind `after`, in order, at most `limit`.
    pub fn held_after(&self, after: Option<&Release>, limit: usize) -> Result<Vec<Held>, LedgerError> {
        let from = after.map(release_key).unwrap_or_default();
        self.read(|tables| {
            let mut releases = Vec::new();
            for row in tables.held.range(from.as_slice()..)? {
                if releases.len() == limit {
                    break;
                }
                let (key, value) = row?;
                if after.is_none() || key.value() != from {
                    releases.push(held_row(key.value(), value.value())?);
                }
            }
            Ok(releases)
        })
    }
}

/// The tables as of the last commit, and its number.
fn last_commit(db: &ReadOnlyDatabase) -> Result<(Tables, u64), LedgerError> {
    let tables = Tables::open(&db.begin_read()?)?;
    let revision = get_meta(&tables.meta, REVISION)?.ok_or(RowError { table: "meta" })?;
    Ok((tables, revision))
}

fn served_row((key, row): (AccessGuard<'_, &str>, AccessGuard<'_, Bytes>)) -> Result<(CrateName, Text), LedgerError> {
    let damaged = || RowError { table: "served" };
    let name = key.value().parse().map_err(|_| damaged())?;
    let row = PathRow::decode(key.value().as_bytes(), row.value()).ok_or_else(damaged)?;
    Ok((name, row.served.ok_or_else(damaged)?))
}

fn generation_row(number: u64, row: &[u8]) -> Result<Generation, LedgerError> {
    decode_json(&number.to_le_bytes(), row).ok_or(RowError { table: "generations" }.into())
}

pub(super) fn facts_row(key: &[u8], row: &[u8]) -> Result<FactsPlace, LedgerError> {
    FactsPlace::decode(key, row).ok_or(RowError { table: "facts" }.into())
}

pub(super) fn about_row(name: &str, row: &[u8]) -> Result<About, LedgerError> {
    About::decode(name.as_bytes(), row).ok_or(RowError { table: "about" }.into())
}

pub(super) fn held_row(key: &[u8], row: &[u8]) -> Result<Held, LedgerError> {
    let damaged = || RowError { table: "held" };
    let mut release = parse_release_key(key).ok_or_else(damaged)?;
    let row = Row::decode(key, row).ok_or_else(damaged)?;
    release.id.name = row.name;
    Ok(Held { release, place: row.place.ok_or_else(damaged)?, withdrawn: row.state == State::Withdrawn })
}
