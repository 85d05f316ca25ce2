//! Reading the ledger: one snapshot per reader.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::Deserialize;

use super::LedgerError;
use super::rows::{
    PackRow, PathRow, RowError, Text, decode_json, name_prefix, parse_release_key, prefix_end, release_key,
    version_prefix,
};
use super::tables::{self as t, Chain, Tally, get_meta};
use crate::Place;
use crate::facts::FactsPlace;
use crate::id::{Blake3, CrateName, Release, ReleaseId, Sha256};
use crate::mask::Masks;
use crate::pack::{AdvisoryDb, Generation};
use crate::selection::Selection;
use crate::state::{Row, State};

/// What the ledger knew when the reader was made.
pub struct LedgerReader {
    txn: ReadTransaction,
}

/// A release to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which, spelled as the index spells it.
    pub release: Release,
    /// Not before this time, in seconds since 1970.
    pub due: u64,
}

/// What a generation did to the index file of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The crate, in lower case.
    pub name: CrateName,
    /// What was served before.
    pub before: Option<Text>,
    /// What it serves.
    pub after: Option<Text>,
}

/// Something in the upstream's index that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Report {
    /// The index file.
    pub path: String,
    /// The line, from 1 on; 0 for the whole file.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
    /// Something that was selected is lacking because of it.
    pub lacking: bool,
}

/// A version whose promised checksum changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Alarm {
    /// The crate, in lower case.
    #[serde(rename = "crate")]
    pub name: CrateName,
    /// The version.
    pub version: crate::Version,
    /// The checksum promised first.
    pub was: Sha256,
    /// The checksum promised later.
    pub now: Sha256,
    /// Seconds since 1970.
    pub at: u64,
}

impl LedgerReader {
    pub(super) fn new(txn: ReadTransaction) -> Self {
        LedgerReader { txn }
    }

    /// The mirror's id.
    pub fn mirror(&self) -> Result<String, LedgerError> {
        self.meta(t::MIRROR)?.ok_or(RowError { table: "meta" }.into())
    }

    /// How far the records were followed.
    pub fn chain(&self) -> Result<Chain, LedgerError> {
        self.meta(t::CHAIN)?.ok_or(RowError { table: "meta" }.into())
    }

    /// How many releases are in which state.
    pub fn tally(&self) -> Result<Tally, LedgerError> {
        Ok(self.meta(t::TALLY)?.unwrap_or_default())
    }

    /// What the mirror wants.
    pub fn selection(&self) -> Result<Selection, LedgerError> {
        Ok(self.meta(t::SELECTION)?.unwrap_or_default())
    }

    /// The state in which the upstream was last seen completely.
    pub fn mark(&self) -> Result<Option<serde_json::Value>, LedgerError> {
        self.meta(t::MARK)
    }

    /// What the mirror withholds.
    pub fn masks(&self) -> Result<Masks, LedgerError> {
        Ok(self.meta(t::MASKS)?.unwrap_or_default())
    }

    /// The last generation.
    pub fn generation(&self) -> Result<Option<Generation>, LedgerError> {
        self.meta(t::CURRENT)
    }

    /// The advisory database that the next generation has.
    pub fn next_advisories(&self) -> Result<Option<AdvisoryDb>, LedgerError> {
        self.meta(t::NEXT_ADVISORIES)
    }

    /// Where the archive of an advisory database lies, if it is here.
    pub fn advisories(&self, archive: &Sha256) -> Result<Option<Place>, LedgerError> {
        let place = self.txn.open_table(t::ADVISORIES)?.get(archive.0.as_slice())?.map(|place| place.value());
        Ok(place.map(|(pack, offset, length)| Place { pack, offset, length }))
    }

    fn meta<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, LedgerError> {
        get_meta(&self.txn.open_table(t::META)?, key)
    }

    /// A generation by its number.
    pub fn generation_at(&self, number: u64) -> Result<Option<Generation>, LedgerError> {
        let table = self.txn.open_table(t::GENERATIONS)?;
        let Some(row) = table.get(number)? else { return Ok(None) };
        Ok(Some(decode_json(&number.to_le_bytes(), row.value()).ok_or(RowError { table: "generations" })?))
    }

    /// The numbers of the generations that were served here, between these. There can be large gaps between them.
    pub fn generation_numbers(&self, between: RangeInclusive<u64>) -> Result<Vec<u64>, LedgerError> {
        let table = self.txn.open_table(t::GENERATIONS)?;
        table.range(between)?.map(|row| Ok(row?.0.value())).collect()
    }

    /// The crates that a generation changed, in lower case.
    pub fn changed_in(&self, generation: u64) -> Result<Vec<CrateName>, LedgerError> {
        let table = self.txn.open_table(t::FEED)?;
        let mut names = Vec::new();
        for row in table.range((generation, "")..(generation + 1, ""))? {
            names.push(name(row?.0.value().1, "feed")?);
        }
        Ok(names)
    }

    /// The first crates that a generation changed, in order of their lower-case names, at most `limit`: what of their index files was
    /// served before it and what by it. Also how many more it changed. `later` are the numbers of the generations after it, in order.
    pub fn changes_of(&self, generation: u64, later: &[u64], limit: usize) -> Result<(Vec<Change>, u64), LedgerError> {
        let table = self.txn.open_table(t::FEED)?;
        let served = |name: &str, row: &[u8]| {
            PathRow::decode(name.as_bytes(), row).map(|row| row.served).ok_or(RowError { table: "feed" })
        };
        let mut changes = Vec::new();
        let mut further = 0;
        for row in table.range((generation, "")..(generation + 1, ""))? {
            let (key, before) = row?;
            if changes.len() == limit {
                further += 1;
                continue;
            }
            let (text, name) = (key.value().1, name(key.value().1, "feed")?);
            let mut after = None;
            for later in later {
                if let Some(row) = table.get((*later, text))? {
                    after = Some(served(text, row.value())?);
                    break;
                }
            }
            let after = match after {
                Some(after) => after,
                None => self.path(&name)?.and_then(|row| row.served),
            };
            changes.push(Change { before: served(text, before.value())?, after, name });
        }
        Ok((changes, further))
    }

    /// The index files that changed after a generation, in order of lower-case names, each as it was served at that time. Nothing is
    /// said of what is served now.
    pub fn changed_since(&self, generation: u64) -> Result<BTreeMap<CrateName, Option<Text>>, LedgerError> {
        let table = self.txn.open_table(t::FEED)?;
        let mut changed = BTreeMap::new();
        for row in table.range((generation + 1, "")..)? {
            let (key, before) = row?;
            let text = key.value().1;
            if let Entry::Vacant(first) = changed.entry(name(text, "feed")?) {
                let before = PathRow::decode(text.as_bytes(), before.value()).ok_or(RowError { table: "feed" })?;
                first.insert(before.served);
            }
        }
        Ok(changed)
    }

    /// The digest of a generation that this mirror served, or that what it serves includes.
    pub fn digest_of(&self, epoch: u32, number: u64) -> Result<Option<Blake3>, LedgerError> {
        if let Some(own) = self.generation_at(number)?.filter(|own| own.epoch == epoch) {
            return Ok(Some(own.digest));
        }
        let table = self.txn.open_table(t::HISTORY)?;
        let Some(row) = table.get((epoch, number))? else { return Ok(None) };
        let digest = row.value().try_into().map_err(|_| RowError { table: "history" })?;
        Ok(Some(Blake3(digest)))
    }

    /// The newest generations behind `after`, at most `limit`, the oldest first.
    pub fn generations_after(&self, after: u64, limit: usize) -> Result<Vec<Generation>, LedgerError> {
        let table = self.txn.open_table(t::GENERATIONS)?;
        let mut generations = Vec::new();
        for row in table.range(after + 1..)?.rev().take(limit) {
            let (number, row) = row?;
            let key = number.value().to_le_bytes();
            generations.push(decode_json(&key, row.value()).ok_or(RowError { table: "generations" })?);
        }
        generations.reverse();
        Ok(generations)
    }

    /// Whether an index text came in a bundle whose generation is not served yet.
    pub fn has_arrived(&self, text: &Sha256) -> Result<bool, LedgerError> {
        Ok(self.arrived(text)?.is_some())
    }

    /// Where an index text lies that came in a bundle whose generation is not served yet.
    pub fn arrived(&self, text: &Sha256) -> Result<Option<Place>, LedgerError> {
        let place = self.txn.open_table(t::ARRIVED)?.get(text.0.as_slice())?.map(|place| place.value());
        Ok(place.map(|(pack, offset, length)| Place { pack, offset, length }))
    }

    /// Whether index texts are staged, for whatever publication.
    pub fn has_staged(&self) -> Result<bool, LedgerError> {
        Ok(!self.txn.open_table(t::STAGED)?.is_empty()?)
    }

    /// What is known of an index file.
    pub fn path(&self, name: &CrateName) -> Result<Option<PathRow>, LedgerError> {
        let table = self.txn.open_table(t::PATHS)?;
        let Some(row) = table.get(name.as_str())? else { return Ok(None) };
        Ok(Some(PathRow::decode(name.as_str().as_bytes(), row.value()).ok_or(RowError { table: "paths" })?))
    }

    /// The lower-case names behind `after` that the upstream had an index file for, in order, at most `limit`.
    pub fn upstream_names_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<CrateName>, LedgerError> {
        let table = self.txn.open_table(t::PATHS)?;
        let mut names = Vec::new();
        for row in table.range(after.map_or("", CrateName::as_str)..)? {
            let (key, value) = row?;
            if Some(key.value()) == after.map(CrateName::as_str) {
                continue;
            }
            if names.len() == limit {
                break;
            }
            if PathRow::decode(key.value().as_bytes(), value.value())
                .ok_or(RowError { table: "paths" })?
                .upstream
                .is_some()
            {
                names.push(name(key.value(), "paths")?);
            }
        }
        Ok(names)
    }

    /// The index files that are served behind `after`, in order of lower-case names, at most `limit`.
    pub fn served_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<(CrateName, Text)>, LedgerError> {
        let table = self.txn.open_table(t::PATHS)?;
        let mut served = Vec::new();
        for row in table.range(after.map_or("", CrateName::as_str)..)? {
            if served.len() == limit {
                break;
            }
            let (key, value) = row?;
            let row = PathRow::decode(key.value().as_bytes(), value.value()).ok_or(RowError { table: "paths" })?;
            if let Some(text) = row.served.filter(|_| Some(key.value()) != after.map(CrateName::as_str)) {
                served.push((name(key.value(), "paths")?, text));
            }
        }
        Ok(served)
    }

    /// How many index files are known, served ones without an upstream included.
    pub fn path_count(&self) -> Result<u64, LedgerError> {
        Ok(self.txn.open_table(t::PATHS)?.len()?)
    }

    /// All that is known of a crate's releases, in order of version and checksum.
    pub fn releases_of(&self, name: &CrateName) -> Result<Vec<(Release, Row)>, LedgerError> {
        self.releases_with_prefix(&name_prefix(name))
    }

    /// What is known of a release.
    pub fn release(&self, release: &Release) -> Result<Option<Row>, LedgerError> {
        let key = release_key(release);
        let table = self.txn.open_table(t::RELEASES)?;
        let Some(row) = table.get(key.as_slice())? else { return Ok(None) };
        Ok(Some(release_row(&key, row.value())?.1))
    }

    /// Whether a crate changed since the last publication.
    pub fn is_dirty(&self, name: &CrateName) -> Result<bool, LedgerError> {
        let name = name.lower();
        Ok(self.txn.open_table(t::DIRTY)?.get(name.as_str())?.is_some()
            || self.txn.open_table(t::STAGED)?.get(name.as_str())?.is_some())
    }

    /// All that is known of a version, one entry for each checksum that was ever promised.
    pub fn releases_at(&self, id: &ReleaseId) -> Result<Vec<(Release, Row)>, LedgerError> {
        self.releases_with_prefix(&version_prefix(id))
    }

    fn releases_with_prefix(&self, prefix: &[u8]) -> Result<Vec<(Release, Row)>, LedgerError> {
        let table = self.txn.open_table(t::RELEASES)?;
        let end = prefix_end(prefix);
        let mut releases = Vec::new();
        for row in table.range(prefix..end.as_slice())? {
            let (key, value) = row?;
            releases.push(release_row(key.value(), value.value())?);
        }
        Ok(releases)
    }

    /// Calls `take` with every release, in order.
    pub fn each_release(
        &self,
        mut take: impl FnMut(Release, Row) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        for row in self.txn.open_table(t::RELEASES)?.iter()? {
            let (key, value) = row?;
            let (release, row) = release_row(key.value(), value.value())?;
            take(release, row)?;
        }
        Ok(())
    }

    /// The next releases to fetch behind `after`, in order, at most `limit`, those that are not due left out.
    pub fn work_after(&self, after: Option<&Release>, limit: usize, now: u64) -> Result<Vec<Work>, LedgerError> {
        let table = self.txn.open_table(t::WORK)?;
        let from = after.map(super::release_key).unwrap_or_default();
        let mut work = Vec::new();
        for row in table.range(from.as_slice()..)? {
            if work.len() == limit {
                break;
            }
            let (key, value) = row?;
            let (due, spelled) = value.value();
            if (key.value() == from && after.is_some()) || due > now {
                continue;
            }
            let mut release = parse_release_key(key.value()).ok_or(RowError { table: "work" })?;
            release.id.name = name(spelled, "work")?;
            work.push(Work { release, due });
        }
        Ok(work)
    }

    /// How many releases are to be fetched now, counted up to `limit`.
    pub fn work_due(&self, now: u64, limit: u64) -> Result<u64, LedgerError> {
        let mut count = 0;
        for row in self.txn.open_table(t::WORK)?.iter()? {
            count += u64::from(row?.1.value().0 <= now);
            if count >= limit {
                break;
            }
        }
        Ok(count.min(limit))
    }

    /// How many releases are to be fetched, due or not.
    pub fn work_count(&self) -> Result<u64, LedgerError> {
        Ok(self.txn.open_table(t::WORK)?.len()?)
    }

    /// Releases that are wanted in vain or refused, with what is known of them.
    pub fn holes(&self) -> Result<Vec<(Release, Row)>, LedgerError> {
        let releases = self.txn.open_table(t::RELEASES)?;
        listed(&self.txn.open_table(t::HOLES)?, &releases)
    }

    /// Releases that are served, but no longer in the upstream's index.
    pub fn gone(&self) -> Result<Vec<(Release, Row)>, LedgerError> {
        let releases = self.txn.open_table(t::RELEASES)?;
        listed(&self.txn.open_table(t::GONE)?, &releases)
    }

    /// Crates to compose again, behind `after`, with the record that changed them; at most `limit`.
    pub fn dirty_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<(CrateName, u64)>, LedgerError> {
        let table = self.txn.open_table(t::DIRTY)?;
        let mut names = Vec::new();
        for row in table.range(after.map_or("", CrateName::as_str)..)? {
            if names.len() == limit {
                break;
            }
            let (key, sequence) = row?;
            if Some(key.value()) != after.map(CrateName::as_str) {
                names.push((name(key.value(), "dirty")?, sequence.value()));
            }
        }
        Ok(names)
    }

    /// Where the facts of a release lie, if there are any.
    pub fn facts(&self, release: &Release) -> Result<Option<FactsPlace>, LedgerError> {
        let key = super::release_key(release);
        let table = self.txn.open_table(t::FACTS)?;
        let Some(row) = table.get(key.as_slice())? else { return Ok(None) };
        Ok(Some(FactsPlace::decode(&key, row.value()).ok_or(RowError { table: "facts" })?))
    }

    /// The next held releases behind `after` whose crate file could tell more, in order, at most `limit`.
    pub fn undescribed_after(
        &self,
        after: Option<&Release>,
        limit: usize,
    ) -> Result<Vec<(Release, Place)>, LedgerError> {
        let (table, releases) = (self.txn.open_table(t::UNDESCRIBED)?, self.txn.open_table(t::RELEASES)?);
        let from = after.map(super::release_key).unwrap_or_default();
        let mut undescribed = Vec::new();
        for row in table.range(from.as_slice()..)? {
            if undescribed.len() == limit {
                break;
            }
            let (key, _) = row?;
            if after.is_some() && key.value() == from {
                continue;
            }
            let damaged = || RowError { table: "undescribed" };
            let row = releases.get(key.value())?.ok_or_else(damaged)?;
            let (release, row) = release_row(key.value(), row.value())?;
            undescribed.push((release, row.place.ok_or_else(damaged)?));
        }
        Ok(undescribed)
    }

    /// How many held releases have a crate file that could tell more.
    pub fn undescribed(&self) -> Result<u64, LedgerError> {
        Ok(self.txn.open_table(t::UNDESCRIBED)?.len()?)
    }

    /// The last record with facts that came later than their crate file; 0 for none.
    pub fn last_facts(&self) -> Result<u64, LedgerError> {
        Ok(self.meta(t::LAST_FACTS)?.unwrap_or(0))
    }

    /// Crates of which held bytes were lost, or came again after that, in records behind `sequence`; in lower case. Also the
    /// last record of these.
    pub(super) fn moved_after(&self, sequence: u64) -> Result<(Vec<CrateName>, u64), LedgerError> {
        let (mut names, mut last) = (Vec::new(), sequence);
        for row in self.txn.open_table(t::MOVED)?.iter()? {
            let (key, at) = row?;
            if at.value() > sequence {
                names.push(name(key.value(), "moved")?);
                last = last.max(at.value());
            }
        }
        Ok((names, last))
    }

    /// The releases that are wanted and whose bytes were held once and lost, or that are wanted beside such.
    pub fn lost(&self) -> Result<BTreeSet<Release>, LedgerError> {
        let mut lost = BTreeSet::new();
        for name in self.moved_after(0)?.0 {
            let wanted = self.releases_of(&name)?.into_iter().filter(|(_, row)| row.state == State::Wanted);
            lost.extend(wanted.map(|(release, _)| release));
        }
        Ok(lost)
    }

    /// Crates of which facts came later than the crate file, in records behind `sequence`; in lower case.
    pub(super) fn described_after(&self, sequence: u64) -> Result<BTreeSet<CrateName>, LedgerError> {
        let table = self.txn.open_table(t::LATE_FACTS)?;
        let rows = table.range((sequence + 1, "")..)?;
        rows.map(|row| name(row?.0.value().1, "late-facts")).collect()
    }

    /// What cannot be used of the upstream's index.
    pub fn reports(&self) -> Result<Vec<Report>, LedgerError> {
        let mut reports = Vec::new();
        for row in self.txn.open_table(t::REPORTS)?.iter()? {
            let (key, value) = row?;
            let ((path, line), (lacking, problem)) = (key.value(), value.value());
            reports.push(Report { path: path.to_owned(), line, problem: problem.to_owned(), lacking });
        }
        Ok(reports)
    }

    /// Whether this very problem is on record.
    pub fn has_report(&self, path: &str, line: u64, problem: &str) -> Result<bool, LedgerError> {
        let table = self.txn.open_table(t::REPORTS)?;
        Ok(table.get((path, line))?.is_some_and(|row| row.value().1 == problem))
    }

    /// Whether problems are on record for an index file.
    pub fn has_reports(&self, path: &str) -> Result<bool, LedgerError> {
        let table = self.txn.open_table(t::REPORTS)?;
        Ok(table.range((path, 0)..=(path, u64::MAX))?.next().is_some())
    }

    /// Versions whose promised checksum changed.
    pub fn alarms(&self) -> Result<Vec<Alarm>, LedgerError> {
        #[derive(Deserialize)]
        struct Change {
            was: Sha256,
            at: u64,
        }
        let mut alarms = Vec::new();
        for row in self.txn.open_table(t::CHECKSUMS)?.iter()? {
            let (key, value) = row?;
            let damaged = RowError { table: "checksums" };
            let release = parse_release_key(key.value()).ok_or(damaged.clone())?;
            let change: Change = decode_json(key.value(), value.value()).ok_or(damaged)?;
            let Release { id, checksum } = release;
            alarms.push(Alarm { name: id.name, version: id.version, was: change.was, now: checksum, at: change.at });
        }
        Ok(alarms)
    }

    /// The packs that records were read from: (number, durable length, is sealed).
    pub(crate) fn packs(&self) -> Result<Vec<(u32, u64, bool)>, LedgerError> {
        let mut packs = Vec::new();
        for row in self.txn.open_table(t::PACKS)?.iter()? {
            let (number, value) = row?;
            let row = PackRow::decode(number.value(), value.value()).ok_or(RowError { table: "packs" })?;
            packs.push((number.value(), row.length, row.sealed));
        }
        Ok(packs)
    }
}

fn name(text: &str, table: &'static str) -> Result<CrateName, LedgerError> {
    text.parse().map_err(|_| RowError { table }.into())
}

fn release_row(key: &[u8], row: &[u8]) -> Result<(Release, Row), LedgerError> {
    let damaged = || RowError { table: "releases" };
    let mut release = parse_release_key(key).ok_or_else(damaged)?;
    let row = Row::decode(key, row).ok_or_else(damaged)?;
    release.id.name = row.name.clone();
    Ok((release, row))
}

fn listed(
    list: &impl ReadableTable<&'static [u8], ()>,
    releases: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Vec<(Release, Row)>, LedgerError> {
    let mut rows = Vec::new();
    for entry in list.iter()? {
        let (key, _) = entry?;
        let row = releases.get(key.value())?.ok_or(RowError { table: "releases" })?;
        rows.push(release_row(key.value(), row.value())?);
    }
    Ok(rows)
}
