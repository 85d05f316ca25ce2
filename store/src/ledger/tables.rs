//! The ledger's tables and its small rows.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rows::{PackRow, RowError, decode_json, encode_json};
use super::{Identification, LedgerError};
use crate::id::Blake3;
use crate::state::{Row, State};

type Bytes = &'static [u8];

/// `lower-name \0 version \0 sha256` -> [`Row`]
pub(super) const RELEASES: TableDefinition<Bytes, Bytes> = TableDefinition::new("releases-1");
/// The releases to fetch: the same key -> (due time, name as the index spells it)
pub(super) const WORK: TableDefinition<Bytes, (u64, &str)> = TableDefinition::new("work-1");
/// Wanted in vain or refused: the same key.
pub(super) const HOLES: TableDefinition<Bytes, ()> = TableDefinition::new("holes-1");
/// Served, but no longer in the upstream's index: the same key.
pub(super) const GONE: TableDefinition<Bytes, ()> = TableDefinition::new("gone-1");
/// lower-case name -> [`super::PathRow`]
pub(super) const PATHS: TableDefinition<&str, Bytes> = TableDefinition::new("paths-1");
/// Crates to compose again before the next publication: lower-case name -> sequence of the record that changed it
pub(super) const DIRTY: TableDefinition<&str, u64> = TableDefinition::new("dirty-1");
/// What the next publication will serve: lower-case name -> [`super::rows::StagedRow`]
pub(super) const STAGED: TableDefinition<&str, Bytes> = TableDefinition::new("staged-1");
/// The leaves of the hash tree: bucket (big-endian), index path -> BLAKE3 of the served file
pub(super) const LEAVES: TableDefinition<Bytes, Bytes> = TableDefinition::new("leaves-1");
/// The nodes of the hash tree that differ from those of an empty tree.
pub(super) const NODES: TableDefinition<u32, Bytes> = TableDefinition::new("nodes-1");
/// generation number -> JSON
pub(super) const GENERATIONS: TableDefinition<u64, Bytes> = TableDefinition::new("generations-1");
/// What each generation changed: (generation, lower-case name) -> the [`super::PathRow`] that was served before it
pub(super) const FEED: TableDefinition<(u64, &str), Bytes> = TableDefinition::new("feed-2");
/// Index texts that came in bundles whose generation is not served yet: SHA-256 -> (pack, offset, length)
pub(super) const ARRIVED: TableDefinition<Bytes, (u32, u64, u64)> = TableDefinition::new("arrived-1");
/// Generations of the origin that a replica's own ones include: (epoch, number) -> digest
pub(super) const HISTORY: TableDefinition<(u32, u64), Bytes> = TableDefinition::new("history-1");
/// pack number -> [`super::rows::PackRow`]
pub(super) const PACKS: TableDefinition<u32, Bytes> = TableDefinition::new("packs-1");
/// What cannot be used of the upstream's index: (index path, line) -> (lacking, problem)
pub(super) const REPORTS: TableDefinition<(&str, u64), (bool, &str)> = TableDefinition::new("reports-1");
/// Changed checksums: `lower-name \0 version \0 sha256` of the later one -> JSON
pub(super) const CHECKSUMS: TableDefinition<Bytes, Bytes> = TableDefinition::new("checksums-1");
/// Where the facts of held releases lie: release key -> [`crate::FactsPlace`]
pub(super) const FACTS: TableDefinition<Bytes, Bytes> = TableDefinition::new("facts-1");
/// Held releases whose crate file could tell more: release key.
pub(super) const UNDESCRIBED: TableDefinition<Bytes, ()> = TableDefinition::new("undescribed-1");
/// Crates of which facts came later than the crate file: (sequence of the record, lower-case name)
pub(super) const LATE_FACTS: TableDefinition<(u64, &str), ()> = TableDefinition::new("late-facts-1");
/// Crates of which held bytes were lost, or came again after that: lower-case name -> sequence of the last such record
pub(super) const MOVED: TableDefinition<&str, u64> = TableDefinition::new("moved-1");
/// Advisory databases: SHA-256 of the archive -> (pack, offset, length)
pub(super) const ADVISORIES: TableDefinition<Bytes, (u32, u64, u64)> = TableDefinition::new("advisories-1");
/// Single values, as JSON.
pub(super) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta-1");

pub(super) const MIRROR: &str = "mirror";
pub(super) const CHAIN: &str = "chain";
pub(super) const TALLY: &str = "tally";
pub(super) const SELECTION: &str = "selection";
pub(super) const MARK: &str = "mark";
pub(super) const MASKS: &str = "masks";
/// The last record with facts that came later than their crate file.
pub(super) const LAST_FACTS: &str = "last-facts";
/// The advisory database of the next generation.
pub(super) const NEXT_ADVISORIES: &str = "next-advisories";
pub(super) const CURRENT: &str = "current-generation";

/// How far the ledger has followed the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The last record applied.
    pub sequence: u64,
    /// Its BLAKE3.
    pub digest: Blake3,
    /// The mirror's epoch.
    pub epoch: u32,
}

/// How many releases are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Stored.
    pub held: u64,
    /// Bytes of the crate files of all releases whose bytes are held, withdrawn ones too.
    pub bytes: u64,
    /// Wanted and never asked for.
    pub pending: u64,
    /// Wanted and asked for in vain.
    pub wanted_holes: u64,
    /// Refused by a rule.
    pub refused: u64,
    /// Withdrawn.
    pub withdrawn: u64,
    /// Excluded.
    pub excluded: u64,
    /// Stored, but no longer in the upstream's index.
    pub gone: u64,
}

impl Tally {
    /// Wanted and not held, tried or not.
    pub fn wanted(&self) -> u64 {
        self.pending + self.wanted_holes
    }

    /// Wanted in vain or refused.
    pub fn holes(&self) -> u64 {
        self.wanted_holes + self.refused
    }

    /// Takes a release out of its count or puts it in.
    pub(super) fn count(&mut self, row: &Row, change: i64) {
        let field = match row.state {
            State::Wanted if row.tries == 0 => &mut self.pending,
            State::Wanted => &mut self.wanted_holes,
            State::Stored => &mut self.held,
            State::Refused => &mut self.refused,
            State::Withdrawn => &mut self.withdrawn,
            State::Excluded => &mut self.excluded,
        };
        *field = field.saturating_add_signed(change);
        if row.gone {
            self.gone = self.gone.saturating_add_signed(change);
        }
        if let Some(place) = row.place {
            self.bytes = self.bytes.saturating_add_signed(change * place.length.cast_signed());
        }
    }
}

pub(super) fn initialise(txn: &WriteTransaction, id: &Identification) -> Result<(), LedgerError> {
    for table in [RELEASES, LEAVES, CHECKSUMS, FACTS] {
        txn.open_table(table)?;
    }
    for table in [HOLES, GONE, UNDESCRIBED] {
        txn.open_table(table)?;
    }
    txn.open_table(WORK)?;
    txn.open_table(PATHS)?;
    txn.open_table(DIRTY)?;
    txn.open_table(STAGED)?;
    txn.open_table(NODES)?;
    txn.open_table(GENERATIONS)?;
    txn.open_table(FEED)?;
    txn.open_table(PACKS)?;
    txn.open_table(REPORTS)?;
    txn.open_table(LATE_FACTS)?;
    txn.open_table(MOVED)?;
    txn.open_table(ARRIVED)?;
    txn.open_table(HISTORY)?;
    txn.open_table(ADVISORIES)?;
    put_meta(txn, MIRROR, &id.mirror)?;
    put_meta(txn, CHAIN, &Chain { sequence: 0, digest: Blake3([0; 32]), epoch: id.epoch })?;
    put_meta(txn, TALLY, &Tally::default())
}

pub(super) fn seal_pack(txn: &WriteTransaction, number: u32) -> Result<(), LedgerError> {
    let mut packs = txn.open_table(PACKS)?;
    let length = match packs.get(number)? {
        Some(row) => PackRow::decode(number, row.value()).ok_or(RowError { table: "packs" })?.length,
        None => 0,
    };
    packs.insert(number, PackRow { length, sealed: true }.encode(number).as_slice())?;
    Ok(())
}

pub(super) fn put_meta(txn: &WriteTransaction, key: &str, value: &impl Serialize) -> Result<(), LedgerError> {
    txn.open_table(META)?.insert(key, encode_json(key.as_bytes(), value).as_slice())?;
    Ok(())
}

/// Reads a single fact.
pub(super) fn get_meta<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, Bytes>,
    key: &str,
) -> Result<Option<T>, LedgerError> {
    let Some(row) = table.get(key)? else { return Ok(None) };
    let value = decode_json(key.as_bytes(), row.value()).ok_or(RowError { table: "meta" })?;
    Ok(Some(value))
}
