//! The catalog: what is served, for readers in any process.
//!
//! It is committed once per publication, under redb's `SingleWriter` mode, so that readers follow while a sync runs. It
//! holds nothing that cannot be derived from the ledger, and so from the packs.

mod reader;
mod soundness;

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;
use redb::{
    Builder, ConcurrencyMode, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use self::reader::Tables;
pub use self::reader::{CatalogReader, Held};
pub use self::soundness::Soundness;
use super::read::Change;
use super::rows::{PathRow, Text, encode_json, name_prefix, prefix_end, release_key};
use super::tables::{META, Tally, get_meta, put_meta};
use super::{Alarm, LedgerError, LedgerReader, Report, guarded, open_as_writer, open_with, storage};
use crate::Place;
use crate::disk::Disk;
use crate::facts::{About, FactsPlace};
use crate::id::{CrateName, Release};
use crate::mask::Masks;
use crate::news::News;
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
/// What each of the last [`TOLD`] generations brought: generation number -> JSON
const NEWS: TableDefinition<u64, Bytes> = TableDefinition::new("news-1");
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
    /// What the mirror withholds.
    #[serde(default)]
    pub masks: Masks,
    /// What cannot be used of the upstream's index; the first [`LISTED`] of it.
    pub reports: Vec<Report>,
    /// The packs: number and durable length in bytes.
    pub packs: Vec<(u32, u64)>,
    /// The last record with facts that came later than their crate file; 0 for none.
    pub last_facts: u64,
    /// The last record of held bytes that were lost, or came again after that; 0 for none.
    #[serde(default)]
    pub last_moved: u64,
    /// Held releases whose crate file could tell more.
    pub undescribed: u64,
    /// Where the generation's advisory database lies: pack, offset, length.
    pub advisories: Option<(u32, u64, u64)>,
}

/// How many holes, deletions and reports a summary lists.
pub const LISTED: usize = 10_000;

/// Of how many generations it is known what they brought.
pub const TOLD: usize = 50;

/// Changed crates of a generation that are looked at release by release.
const LOOKED_AT: usize = 4096;

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

/// The catalog, open for writing.
#[derive(Debug)]
pub struct Catalog {
    db: Database,
}

impl Catalog {
    /// Makes an empty catalog, in place of what was there.
    pub(crate) fn create(disk: &dyn Disk, path: &Path, cache: usize) -> Result<Catalog, LedgerError> {
        match disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let source = Box::new(redb::Error::Io(error));
                return Err(LedgerError::Open { path: path.to_owned(), source });
            }
            _ => {}
        }
        let db = open_with(path, || storage::create(disk, path, &builder(cache)))?;
        let txn = db.begin_write()?;
        txn.open_table(SERVED)?;
        txn.open_table(HELD)?;
        txn.open_table(FACTS)?;
        txn.open_table(ABOUT)?;
        txn.open_table(GENERATIONS)?;
        txn.open_table(CHANGED)?;
        txn.open_table(NEWS)?;
        put_meta(&txn, REVISION, &0_u64)?;
        txn.commit()?;
        Ok(Catalog { db })
    }

    /// Opens the catalog for writing.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, cache: usize) -> Result<Catalog, LedgerError> {
        let db = open_as_writer(path, || storage::open(disk, path, &builder(cache)))?;
        Tables::open(&db.begin_read()?)?;
        Ok(Catalog { db })
    }

    /// Opens the catalog for writing and brings it to where the ledger is.
    pub(crate) fn open_following(
        disk: &dyn Disk,
        path: &Path,
        cache: usize,
        ledger: &LedgerReader,
        packs: &PackReader,
    ) -> Result<Catalog, LedgerError> {
        guarded(path, || {
            let catalog = Catalog::open(disk, path, cache)?;
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
        let at = |summary: &Summary| summary.generation.as_ref().map_or((0, 0), |now| (now.epoch, now.number));
        let (seen, seen_facts, seen_moved) =
            before.map_or(((0, 0), 0, 0), |before| (at(&before), before.last_facts, before.last_moved));
        let now = at(&summary);
        // The first generation of an epoch may have a lower number than the last one before it: then all counts as new.
        let new = if seen.0 == now.0 { seen.1.saturating_add(1)..=now.1 } else { 0..=u64::MAX };
        let mut copy = Copy { txn: &txn, ledger, packs, copied: HashSet::new() };
        let numbers = ledger.generation_numbers(new)?;
        for number in &numbers {
            copy.generation(*number)?;
        }
        copy.news(&numbers)?;
        for name in ledger.described_after(seen_facts)? {
            copy.served(&name)?;
        }
        for name in ledger.moved_after(seen_moved)?.0 {
            copy.moved(&name)?;
        }
        put_meta(&txn, SUMMARY, &summary)?;
        commit_revision(txn)
    }

    /// Lets those who follow the catalog see a newer one that says the same.
    pub(crate) fn touch(&self) -> Result<(), LedgerError> {
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        commit_revision(txn)
    }
}

fn commit_revision(txn: WriteTransaction) -> Result<(), LedgerError> {
    let revision: u64 = get_meta(&txn.open_table(META)?, REVISION)?.unwrap_or(0);
    put_meta(&txn, REVISION, &(revision + 1))?;
    Ok(txn.commit()?)
}

fn builder(cache: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn summarise(ledger: &LedgerReader) -> Result<Summary, LedgerError> {
    let mut reports = ledger.reports()?;
    reports.truncate(LISTED);
    let generation = ledger.generation()?;
    let advisories = generation.as_ref().and_then(|generation| generation.advisories.as_ref());
    let place = advisories.map(|database| ledger.advisories(&database.sha256)).transpose()?.flatten();
    Ok(Summary {
        mirror: ledger.mirror()?,
        epoch: ledger.chain()?.epoch,
        generation,
        advisories: place.map(|Place { pack, offset, length }| (pack, offset, length)),
        tally: ledger.tally()?,
        selection: ledger.selection()?,
        mark: ledger.mark()?,
        holes: ledger.holes()?.into_iter().take(LISTED).map(Hole::from).collect(),
        gone: ledger.gone()?.into_iter().take(LISTED).map(Hole::from).collect(),
        alarms: ledger.alarms()?,
        masks: ledger.masks()?,
        reports,
        packs: ledger.packs()?.into_iter().map(|(number, length, _)| (number, length)).collect(),
        last_facts: ledger.last_facts()?,
        last_moved: ledger.moved_after(0)?.1,
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

    /// Notes what the last of these generations brought, and forgets what those before them did.
    fn news(&self, numbers: &[u64]) -> Result<(), LedgerError> {
        let mut table = self.txn.open_table(NEWS)?;
        let newest = &numbers[numbers.len().saturating_sub(TOLD)..];
        for (at, number) in newest.iter().enumerate() {
            let (changes, further) = self.ledger.changes_of(*number, &newest[at + 1..], LOOKED_AT)?;
            let told = changes.par_iter().map(|change| self.news_of(change)).reduce(News::default, News::append);
            let news = told.append(News { further, ..News::default() });
            table.insert(*number, encode_json(&number.to_le_bytes(), &news).as_slice())?;
        }
        while table.len()? > TOLD as u64 {
            table.pop_first()?;
        }
        Ok(())
    }

    fn news_of(&self, change: &Change) -> News {
        let text = |text: Option<Text>| {
            text.map(|text| self.packs.text(text.place, text.digests.blake3)).transpose().map(Option::unwrap_or_default)
        };
        match (text(change.before), text(change.after)) {
            (Ok(before), Ok(after)) => News::of_file(&change.name, &before, &after),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(name = %change.name, "the change of a crate is counted and not told: {error}");
                News { further: 1, ..News::default() }
            }
        }
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

    /// Copies where bytes and facts of a crate lie that some generation serves; one of a later generation has them then.
    fn served(&mut self, name: &CrateName) -> Result<(), LedgerError> {
        if self.copied.contains(name) || self.txn.open_table(SERVED)?.get(name.as_str())?.is_none() {
            return Ok(());
        }
        self.releases(name)
    }

    /// The same of a crate of which bytes were lost or let go: all of its releases may be withdrawn.
    fn moved(&mut self, name: &CrateName) -> Result<(), LedgerError> {
        let prefix = name_prefix(name);
        let end = prefix_end(&prefix);
        if self.txn.open_table(HELD)?.range(prefix.as_slice()..end.as_slice())?.next().is_none() {
            return self.served(name);
        }
        if self.copied.contains(name) { Ok(()) } else { self.releases(name) }
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
