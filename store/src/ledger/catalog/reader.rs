//! Reading the catalog, beside whatever process writes it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    AccessGuard, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata,
};

use super::super::rows::{
    PathRow, RowError, Text, decode_json, name_prefix, parse_release_key, prefix_end, release_key, version_prefix,
};
use super::super::tables::{META, get_meta};
use super::super::{LedgerError, guarded, open_with};
use super::soundness::Verdict;
use super::{ABOUT, Bytes, CHANGED, FACTS, GENERATIONS, HELD, NEWS, REVISION, SERVED, SUMMARY, Summary, builder};
use crate::Place;
use crate::facts::{About, FactsPlace};
use crate::id::{CrateName, Release, ReleaseId};
use crate::news::News;
use crate::os::{self, FileId};
use crate::pack::Generation;
use crate::state::{Row, State};

/// A release whose bytes are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub release: Release,
    /// Where its bytes lie.
    pub place: Place,
    /// Withdrawn: the bytes are kept for the grace time, no row is served.
    pub withdrawn: bool,
    /// Withdrawn by an operator: nobody gets it, whatever they have read before.
    pub barred: bool,
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
    news: ReadOnlyTable<u64, Bytes>,
    meta: ReadOnlyTable<&'static str, Bytes>,
}

impl Tables {
    pub(super) fn open(txn: &ReadTransaction) -> Result<Tables, LedgerError> {
        Ok(Tables {
            served: txn.open_table(SERVED)?,
            held: txn.open_table(HELD)?,
            facts: txn.open_table(FACTS)?,
            about: txn.open_table(ABOUT)?,
            generations: txn.open_table(GENERATIONS)?,
            changed: txn.open_table(CHANGED)?,
            news: txn.open_table(NEWS)?,
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

    /// What is to be shown about each crate of which facts are known, in order of lower-case names.
    pub fn about_each(
        &self,
    ) -> Result<impl Iterator<Item = Result<(CrateName, About), LedgerError>> + '_, LedgerError> {
        let mut rows = self.read(|tables| Ok(tables.about.iter()?))?;
        let mut next = move || {
            let Some(row) = rows.next() else { return Ok(None) };
            let (key, row) = row?;
            let name = key.value().parse().map_err(|_| RowError { table: "about" })?;
            Ok(Some((name, about_row(key.value(), row.value())?)))
        };
        Ok(std::iter::from_fn(move || self.read(|_| next()).transpose()))
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

    /// What a generation brought; known of the last [`TOLD`](super::TOLD) alone.
    pub fn news(&self, generation: u64) -> Result<Option<News>, LedgerError> {
        self.read(|tables| {
            let Some(row) = tables.news.get(generation)? else { return Ok(None) };
            let news = decode_json(&generation.to_le_bytes(), row.value());
            Ok(Some(news.ok_or(RowError { table: "news" })?))
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

/// A copy of a file, without a name.
fn copied(path: &Path) -> std::io::Result<File> {
    let mut copy = os::anonymous_file(&std::env::temp_dir())?;
    std::io::copy(&mut File::open(path)?, &mut copy)?;
    Ok(copy)
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
    let withdrawn = row.state == State::Withdrawn;
    Ok(Held { release, place: row.place.ok_or_else(damaged)?, withdrawn, barred: withdrawn && row.by_operator })
}
