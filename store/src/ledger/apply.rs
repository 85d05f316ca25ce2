//! Applying a group record to the ledger: the one way in which knowledge changes.

use std::collections::{BTreeSet, HashMap};

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::LedgerError;
use super::rows::{PackRow, PathRow, RowError, StagedRow, Text, encode_json, release_key};
use super::tables::{self as t, Chain, Tally, get_meta, put_meta};
use super::tree::{self, bucket_of, leaf_key};
use crate::Place;
use crate::facts::FactsPlace;
use crate::id::{Blake3, BlobId, CrateName, Identity, Release, Sha256};
use crate::mask::{Mask, Masks};
use crate::pack::{AdvisoryDb, Counts, Event, Generation, GroupRecord, Member, MemberName, Point, TextRef};
use crate::state::{Happening, Row, State, step};

type Bytes = &'static [u8];

/// A record whose bytes are durable, and where it leaves its pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied<'a> {
    pub(crate) record: &'a GroupRecord,
    /// The BLAKE3 of the record.
    pub(crate) digest: Blake3,
    /// The pack's length with the record's group.
    pub(crate) end: u64,
}

/// Applies a record: members become stored releases, events move what they name.
pub(super) fn apply(txn: &WriteTransaction, group: &Applied<'_>) -> Result<(), LedgerError> {
    let mut step = Application::begin(txn, group.record)?;
    for member in &group.record.members {
        step.member(member)?;
    }
    for event in &group.record.events {
        step.event(event)?;
    }
    step.finish()?;
    if let Some(generation) = published(group.record) {
        replay_publication(txn, group.record, generation)?;
    }
    note_record(txn, group)
}

/// Notes that a record was applied and how long its pack is now.
pub(super) fn note_record(txn: &WriteTransaction, group: &Applied<'_>) -> Result<(), LedgerError> {
    let header = &group.record.header;
    let epoch = header.epoch;
    let pack = PackRow { length: group.end, sealed: false };
    txn.open_table(t::PACKS)?.insert(header.pack, pack.encode(header.pack).as_slice())?;
    put_meta(txn, t::CHAIN, &Chain { sequence: header.sequence, digest: group.digest, epoch })
}

fn published(record: &GroupRecord) -> Option<&Generation> {
    record.events.iter().find_map(|event| match event {
        Event::Publish { generation } => Some(generation),
        _ => None,
    })
}

/// Publishes again what a record says was published, and compares the digests.
fn replay_publication(
    txn: &WriteTransaction,
    record: &GroupRecord,
    generation: &Generation,
) -> Result<(), LedgerError> {
    match promote(txn, generation.published_at, Some(generation))? {
        Promoted::Generation(_) => Ok(()),
        Promoted::Nothing => Err(LedgerError::record(record, "it publishes what is published".to_owned())),
        Promoted::Other { digest, counts } => {
            Err(LedgerError::record(record, other_generation(generation, digest, counts)))
        }
    }
}

/// What was promoted is not what it should be, in words.
pub(super) fn other_generation(generation: &Generation, digest: Blake3, counts: Counts) -> String {
    let Generation { number, digest: wanted, counts: Counts { crates, rows }, .. } = generation;
    let found = format!("{digest} with {} crates and {} rows", counts.crates, counts.rows);
    format!("generation {number} should be {wanted} with {crates} crates and {rows} rows, is {found}")
}

/// Notes generations of the origin that what is served now includes.
pub(super) fn include(txn: &WriteTransaction, through: &[Point]) -> Result<(), LedgerError> {
    let mut history = txn.open_table(t::HISTORY)?;
    for point in through {
        history.insert(point.order(), point.digest.0.as_slice())?;
    }
    Ok(())
}

fn keep_generation(txn: &WriteTransaction, generation: &Generation) -> Result<(), LedgerError> {
    let row = encode_json(&generation.number.to_le_bytes(), generation);
    txn.open_table(t::GENERATIONS)?.insert(generation.number, row.as_slice())?;
    put_meta(txn, t::CURRENT, generation)
}

/// What promoting comes to.
pub(super) enum Promoted {
    /// Nothing is to be published.
    Nothing,
    /// This is served now.
    Generation(Generation),
    /// What is served now is not the generation that it should be.
    Other { digest: Blake3, counts: Counts },
}

/// Serves all that is staged: index files, hash tree, change feed, and the generation they make: the next one, or the `given`
/// one, which is what was published before or by the origin.
pub(super) fn promote(
    txn: &WriteTransaction,
    published_at: u64,
    given: Option<&Generation>,
) -> Result<Promoted, LedgerError> {
    let previous: Option<Generation> = get_meta(&txn.open_table(t::META)?, t::CURRENT)?;
    let chain: Chain = get_meta(&txn.open_table(t::META)?, t::CHAIN)?.ok_or(RowError { table: "meta" })?;
    let next = || previous.as_ref().map_or(0, |generation| generation.number) + 1;
    let number = given.map_or_else(next, |given| given.number);
    let mut counts = previous.as_ref().map_or_else(Counts::default, |generation| generation.counts);
    let changed = promote_paths(txn, number, &mut counts)?;
    let advisories: Option<AdvisoryDb> = get_meta(&txn.open_table(t::META)?, t::NEXT_ADVISORIES)?;
    let known = previous.as_ref().and_then(|generation| generation.advisories.as_ref());
    if changed.is_empty() && given.is_none() && (advisories.as_ref() == known || previous.is_none()) {
        return Ok(Promoted::Nothing);
    }
    let root = tree::update(&txn.open_table(t::LEAVES)?, &mut txn.open_table(t::NODES)?, &changed)?;
    if let Some(given) = given {
        if given.digest != root || given.counts != counts {
            return Ok(Promoted::Other { digest: root, counts });
        }
        if let Some(database) = &given.advisories
            && !has_advisories(txn, database)?
        {
            return Err(LedgerError::Generation(lacks_advisories(database)));
        }
        keep_generation(txn, given)?;
        return Ok(Promoted::Generation(given.clone()));
    }
    let generation = Generation {
        number,
        epoch: chain.epoch,
        digest: root,
        previous: previous.map(|generation| generation.digest),
        published_at,
        upstream: get_meta(&txn.open_table(t::META)?, t::MARK)?,
        counts,
        advisories,
    };
    keep_generation(txn, &generation)?;
    Ok(Promoted::Generation(generation))
}

fn has_advisories(txn: &WriteTransaction, database: &AdvisoryDb) -> Result<bool, LedgerError> {
    Ok(txn.open_table(t::ADVISORIES)?.get(database.sha256.0.as_slice())?.is_some())
}

fn lacks_advisories(database: &AdvisoryDb) -> String {
    format!("it names the advisory database {}, which is not here", database.sha256)
}

/// Moves staged texts to where they are served; returns the buckets of the hash tree that changed.
fn promote_paths(txn: &WriteTransaction, number: u64, counts: &mut Counts) -> Result<BTreeSet<u32>, LedgerError> {
    let mut staged_table = txn.open_table(t::STAGED)?;
    let mut paths = txn.open_table(t::PATHS)?;
    let mut dirty = txn.open_table(t::DIRTY)?;
    let mut leaves = txn.open_table(t::LEAVES)?;
    let mut feed = txn.open_table(t::FEED)?;
    let mut arrived = txn.open_table(t::ARRIVED)?;
    let mut changed = BTreeSet::new();
    while let Some((name, staged)) = staged_table.pop_first()? {
        let name = name.value();
        let staged = StagedRow::decode(name.as_bytes(), staged.value()).ok_or(RowError { table: "staged" })?;
        let seen_all = dirty.get(name)?.is_none_or(|row| row.value() <= staged.seen);
        if seen_all {
            dirty.remove(name)?;
        }
        if let Some(text) = staged.text {
            arrived.remove(text.digests.sha256.0.as_slice())?;
        }
        let mut row = read_path(&paths, name)?;
        if row.served.map(|text| text.digests.blake3) == staged.text.map(|text| text.digests.blake3) {
            continue;
        }
        counts.crates = counts.crates + u64::from(staged.text.is_some()) - u64::from(row.served.is_some());
        counts.rows = counts.rows + staged.rows - row.rows;
        let before = PathRow { upstream: None, ..row.clone() };
        feed.insert((number, name), before.encode(name.as_bytes()).as_slice())?;
        (row.served, row.rows) = (staged.text, staged.rows);
        write_path(&mut paths, name, &row)?;
        changed.insert(set_leaf(&mut leaves, name, staged.text)?);
    }
    Ok(changed)
}

fn set_leaf(leaves: &mut Table<'_, Bytes, Bytes>, name: &str, text: Option<Text>) -> Result<u32, LedgerError> {
    let name: CrateName = name.parse().map_err(|_| RowError { table: "staged" })?;
    let key = leaf_key(&name.index_path());
    match text {
        Some(text) => leaves.insert(key.as_slice(), text.digests.blake3.0.as_slice())?,
        None => leaves.remove(key.as_slice())?,
    };
    Ok(bucket_of(&key))
}

fn read_path(paths: &Table<'_, &'static str, Bytes>, name: &str) -> Result<PathRow, LedgerError> {
    match paths.get(name)? {
        Some(row) => Ok(PathRow::decode(name.as_bytes(), row.value()).ok_or(RowError { table: "paths" })?),
        None => Ok(PathRow::default()),
    }
}

fn write_path(paths: &mut Table<'_, &'static str, Bytes>, name: &str, row: &PathRow) -> Result<(), LedgerError> {
    if row.upstream.is_none() && row.served.is_none() {
        paths.remove(name)?;
    } else {
        paths.insert(name, row.encode(name.as_bytes()).as_slice())?;
    }
    Ok(())
}

/// One record on its way into the tables.
struct Application<'t> {
    txn: &'t WriteTransaction,
    record: &'t GroupRecord,
    releases: Table<'t, Bytes, Bytes>,
    work: Table<'t, Bytes, (u64, &'static str)>,
    holes: Table<'t, Bytes, ()>,
    gone: Table<'t, Bytes, ()>,
    paths: Table<'t, &'static str, Bytes>,
    dirty: Table<'t, &'static str, u64>,
    staged: Table<'t, &'static str, Bytes>,
    /// One index file may have many.
    reports: Table<'t, (&'static str, u64), (bool, &'static str)>,
    /// Index texts among the record's members.
    texts: HashMap<Sha256, Place>,
    arrived: Table<'t, Bytes, (u32, u64, u64)>,
    facts: Table<'t, Bytes, Bytes>,
    undescribed: Table<'t, Bytes, ()>,
    moved: Table<'t, &'static str, u64>,
    /// Facts among the record's members, by the checksum of their crate file.
    described: HashMap<Sha256, FactsPlace>,
    tally: Tally,
    /// What is withheld, once the record changes it.
    masks: Option<Masks>,
}

impl<'t> Application<'t> {
    fn begin(txn: &'t WriteTransaction, record: &'t GroupRecord) -> Result<Self, LedgerError> {
        let tally = get_meta(&txn.open_table(t::META)?, t::TALLY)?.ok_or(RowError { table: "meta" })?;
        Ok(Application {
            txn,
            record,
            releases: txn.open_table(t::RELEASES)?,
            work: txn.open_table(t::WORK)?,
            holes: txn.open_table(t::HOLES)?,
            gone: txn.open_table(t::GONE)?,
            paths: txn.open_table(t::PATHS)?,
            dirty: txn.open_table(t::DIRTY)?,
            staged: txn.open_table(t::STAGED)?,
            reports: txn.open_table(t::REPORTS)?,
            texts: HashMap::new(),
            arrived: txn.open_table(t::ARRIVED)?,
            facts: txn.open_table(t::FACTS)?,
            undescribed: txn.open_table(t::UNDESCRIBED)?,
            moved: txn.open_table(t::MOVED)?,
            described: facts_in(record),
            tally,
            masks: None,
        })
    }

    fn finish(self) -> Result<(), LedgerError> {
        if let Some(masks) = &self.masks {
            put_meta(self.txn, t::MASKS, masks)?;
        }
        put_meta(self.txn, t::TALLY, &self.tally)
    }

    fn member(&mut self, member: &Member) -> Result<(), LedgerError> {
        let place = Place { pack: self.record.header.pack, offset: member.offset, length: member.length };
        match MemberName::parse(&member.name) {
            Some(MemberName::Crate(id)) => {
                let release = Release { id, checksum: member.sha256 };
                self.release(&release, Happening::Store { place })?;
                let name = release.id.name.lower();
                if !self.moved.is_empty()? && self.moved.get(name.as_str())?.is_some() {
                    self.moved.insert(name.as_str(), self.record.header.sequence)?;
                }
                self.held(&release)
            }
            Some(MemberName::Index(sha256)) => {
                self.texts.insert(sha256, place);
                Ok(())
            }
            Some(MemberName::Advisories(sha256)) if sha256 == member.sha256 => {
                let Place { pack, offset, length } = place;
                self.txn.open_table(t::ADVISORIES)?.insert(sha256.0.as_slice(), (pack, offset, length))?;
                Ok(())
            }
            // They are taken with the release that they belong to.
            Some(MemberName::Facts { .. }) => Ok(()),
            Some(MemberName::Advisories(_) | MemberName::Group(_) | MemberName::Contents) | None => {
                Err(LedgerError::record(self.record, format!("it has a member named {:?}", member.name)))
            }
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), LedgerError> {
        match event {
            Event::Selection { selection } => put_meta(self.txn, t::SELECTION, selection),
            Event::Mark { mark } => put_meta(self.txn, t::MARK, mark),
            Event::Upstream { name, blob, etag, text } => self.upstream(name, *blob, etag.as_deref(), *text),
            Event::UpstreamGone { name } => self.upstream_gone(name),
            Event::Wanted { name, releases, at } => {
                for (version, checksum) in releases {
                    let id = crate::ReleaseId { name: name.clone(), version: version.clone() };
                    self.release(&Release { id, checksum: *checksum }, Happening::Want { at: *at })?;
                }
                Ok(())
            }
            Event::Tried { release, reason, at, due } => {
                self.release(&release.clone().into(), Happening::Try { reason: reason.clone(), at: *at, due: *due })
            }
            Event::Refused { release, reason, at } => {
                self.release(&release.clone().into(), Happening::Refuse { reason: reason.clone(), at: *at })
            }
            Event::Lost { release, reason, at } => {
                self.moved.insert(release.name.lower().as_str(), self.record.header.sequence)?;
                self.release(&release.clone().into(), Happening::Lose { reason: reason.clone(), at: *at })
            }
            Event::Retry { release } => self.release(&release.clone().into(), Happening::Retry),
            Event::Excluded { release, by, at } => {
                self.release(&release.clone().into(), Happening::Exclude { by_operator: by == "operator", at: *at })
            }
            Event::Gone { release, at } => self.release(&release.clone().into(), Happening::Gone { at: *at }),
            Event::Back { release } => self.release(&release.clone().into(), Happening::Back),
            Event::Withdrawn { release, at, cause } => {
                let (reason, by_operator) = (cause.because.clone(), cause.by_operator);
                self.release(&release.clone().into(), Happening::Withdraw { at: *at, reason, by_operator })
            }
            Event::Checksum { name, version, was, now, at } => {
                let id = crate::ReleaseId { name: name.clone(), version: version.clone() };
                let key = release_key(&Release { id, checksum: *now });
                let row = encode_json(&key, &serde_json::json!({ "was": was, "at": at }));
                self.txn.open_table(t::CHECKSUMS)?.insert(key.as_slice(), row.as_slice())?;
                Ok(())
            }
            Event::Masked { name, version, reason, at } => {
                let (name, version, reason) = (name.lower(), version.clone(), reason.clone());
                self.mask(|masks| masks.put(Mask { name, version, reason, at: *at }))
            }
            Event::Unmasked { name, version } => self.mask(|masks| masks.remove(&name.lower(), version.as_ref())),
            Event::Described { release } => self.described_later(&release.clone().into()),
            Event::Report { path, line, problem, lacking } => {
                self.reports.insert((path.as_str(), *line), (*lacking, problem.as_str()))?;
                Ok(())
            }
            Event::Cleared { path } => {
                self.reports.retain_in((path.as_str(), 0)..=(path.as_str(), u64::MAX), |_, _| false)?;
                Ok(())
            }
            Event::Staged { name, text, rows, seen } => self.stage(name, *text, *rows, *seen),
            Event::Unstaged => Ok(self.staged.retain(|_, _| false)?),
            Event::Arrived { text } => {
                let place = self.texts.get(&text.sha256).copied();
                let Place { pack, offset, length } = place.ok_or_else(|| self.lacks(text))?;
                self.arrived.insert(text.sha256.0.as_slice(), (pack, offset, length))?;
                Ok(())
            }
            Event::Advisories { database } => {
                if !has_advisories(self.txn, database)? {
                    return Err(LedgerError::record(self.record, lacks_advisories(database)));
                }
                put_meta(self.txn, t::NEXT_ADVISORIES, database)
            }
            Event::Bundle { through, .. } => include(self.txn, through),
            // The publication follows when all events are applied; an epoch comes with the record's header.
            Event::Publish { .. } | Event::Epoch { .. } => Ok(()),
        }
    }

    fn release(&mut self, release: &Release, happening: Happening) -> Result<(), LedgerError> {
        let key = release_key(release);
        let before = match self.releases.get(key.as_slice())? {
            Some(row) => Some(Row::decode(&key, row.value()).ok_or(RowError { table: "releases" })?),
            None => None,
        };
        let row = before.clone().unwrap_or_else(|| Row::unknown(release.id.name.clone()));
        let after = step(row, happening);
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        if let Some(before) = &before {
            self.tally.count(before, -1);
        }
        self.tally.count(&after, 1);
        self.index_release(&key, before.as_ref(), &after)?;
        self.releases.insert(key.as_slice(), after.encode(&key).as_slice())?;
        if serves(before.as_ref()) != serves(Some(&after)) {
            self.touch(&release.id.name)?;
        }
        Ok(())
    }

    fn mask(&mut self, change: impl FnOnce(&mut Masks)) -> Result<(), LedgerError> {
        if self.masks.is_none() {
            self.masks = Some(get_meta(&self.txn.open_table(t::META)?, t::MASKS)?.unwrap_or_default());
        }
        self.masks.as_mut().map(change);
        Ok(())
    }

    /// A crate file came: with facts, or with the duty to read them.
    fn held(&mut self, release: &Release) -> Result<(), LedgerError> {
        let key = release_key(release);
        if let Some(facts) = self.described.get(&release.checksum).copied() {
            self.describe(&key, facts)
        } else {
            if self.facts.get(key.as_slice())?.is_none() {
                self.undescribed.insert(key.as_slice(), ())?;
            }
            Ok(())
        }
    }

    fn described_later(&mut self, release: &Release) -> Result<(), LedgerError> {
        let Some(facts) = self.described.get(&release.checksum).copied() else {
            return Err(LedgerError::record(self.record, format!("it has no facts of {}", release.id)));
        };
        let (name, sequence) = (release.id.name.lower(), self.record.header.sequence);
        self.txn.open_table(t::LATE_FACTS)?.insert((sequence, name.as_str()), ())?;
        put_meta(self.txn, t::LAST_FACTS, &sequence)?;
        self.describe(&release_key(release), facts)
    }

    fn describe(&mut self, key: &[u8], facts: FactsPlace) -> Result<(), LedgerError> {
        self.facts.insert(key, facts.encode(key).as_slice())?;
        if facts.complete {
            self.undescribed.remove(key)?;
        } else {
            self.undescribed.insert(key, ())?;
        }
        Ok(())
    }

    /// Keeps the tables that list releases by what is to be done with them.
    fn index_release(&mut self, key: &[u8], before: Option<&Row>, after: &Row) -> Result<(), LedgerError> {
        if after.state == State::Wanted {
            self.work.insert(key, (after.due, after.name.as_str()))?;
        } else if before.is_some_and(|row| row.state == State::Wanted) {
            self.work.remove(key)?;
        }
        if after.is_hole() {
            self.holes.insert(key, ())?;
        } else if before.is_some_and(Row::is_hole) {
            self.holes.remove(key)?;
        }
        if after.place.is_none() && before.is_some_and(|row| row.place.is_some()) {
            self.undescribed.remove(key)?;
        }
        if after.gone {
            self.gone.insert(key, ())?;
        } else if before.is_some_and(|row| row.gone) {
            self.gone.remove(key)?;
        }
        Ok(())
    }

    fn upstream(
        &mut self,
        name: &CrateName,
        blob: BlobId,
        etag: Option<&str>,
        text: Option<TextRef>,
    ) -> Result<(), LedgerError> {
        let mut row = read_path(&self.paths, name.as_str())?;
        let text = match (text, &row.upstream) {
            (Some(text), _) => self.locate(text, &row)?,
            (None, Some((_, text))) => *text,
            (None, None) => {
                return Err(LedgerError::record(self.record, format!("a validator for {name}, which has no text")));
            }
        };
        let changed = row.upstream.as_ref().is_none_or(|(_, before)| before.digests != text.digests);
        row.upstream = Some((Identity { blob, etag: etag.map(Into::into) }, text));
        write_path(&mut self.paths, name.as_str(), &row)?;
        if changed { self.touch(name) } else { Ok(()) }
    }

    fn upstream_gone(&mut self, name: &CrateName) -> Result<(), LedgerError> {
        let mut row = read_path(&self.paths, name.as_str())?;
        row.upstream = None;
        write_path(&mut self.paths, name.as_str(), &row)?;
        self.touch(name)
    }

    fn stage(&mut self, name: &CrateName, text: Option<TextRef>, rows: u64, seen: u64) -> Result<(), LedgerError> {
        let row = read_path(&self.paths, name.as_str())?;
        let text = text.map(|text| self.locate(text, &row)).transpose()?;
        let staged = StagedRow { text, rows, seen };
        self.staged.insert(name.as_str(), staged.encode(name.as_str().as_bytes()).as_slice())?;
        Ok(())
    }

    /// A text lies in the record's own group, or it is one that the crate has already, or that came in a bundle.
    fn locate(&self, digests: TextRef, row: &PathRow) -> Result<Text, LedgerError> {
        if let Some(&place) = self.texts.get(&digests.sha256) {
            return Ok(Text { digests, place });
        }
        let known = row.upstream.as_ref().map(|(_, text)| *text).into_iter().chain(row.served);
        if let Some(text) = known.into_iter().find(|text| text.digests == digests) {
            return Ok(text);
        }
        let arrived = self.arrived.get(digests.sha256.0.as_slice())?.map(|place| place.value());
        let (pack, offset, length) = arrived.ok_or_else(|| self.lacks(&digests))?;
        Ok(Text { digests, place: Place { pack, offset, length } })
    }

    fn lacks(&self, text: &TextRef) -> LedgerError {
        LedgerError::record(self.record, format!("it names text {}, which is not here", text.sha256))
    }

    fn touch(&mut self, name: &CrateName) -> Result<(), LedgerError> {
        self.dirty.insert(name.lower().as_str(), self.record.header.sequence)?;
        Ok(())
    }
}

/// The facts among a record's members, by the checksum of their crate file.
fn facts_in(record: &GroupRecord) -> HashMap<Sha256, FactsPlace> {
    let mut described = HashMap::new();
    for member in &record.members {
        if let Some(MemberName::Facts { sha256, complete }) = MemberName::parse(&member.name) {
            let place = Place { pack: record.header.pack, offset: member.offset, length: member.length };
            described.insert(sha256, FactsPlace { complete, place, sha256: member.sha256 });
        }
    }
    described
}

/// What of a release decides whether its row is served.
fn serves(row: Option<&Row>) -> Option<(State, bool)> {
    row.filter(|row| matches!(row.state, State::Stored | State::Withdrawn)).map(|row| (row.state, row.gone))
}
