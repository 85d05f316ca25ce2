//! What a store is to know, as plain values; and reading it from a mirror, every byte compared.

use std::collections::{BTreeMap, BTreeSet};

use crateferry_store::{
    AdvisoryDb, Alarm, Blake3, CrateName, Generation, Identity, LedgerReader, Mask, Mirror, Place, Release, Report,
    Row, Selection, Sha256, State, Tally, Version,
};

use super::world::{self, IndexRow};

/// Where a release lies is the store's business; that it lies somewhere is not.
pub const SOMEWHERE: Place = Place { pack: 0, offset: 0, length: 0 };

/// All that a store knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    /// With [`SOMEWHERE`] in place of places.
    pub releases: BTreeMap<Release, Row>,
    pub facts: BTreeSet<Release>,
    pub undescribed: BTreeSet<Release>,
    pub upstream: BTreeMap<CrateName, (Identity, Vec<IndexRow>)>,
    pub served: BTreeMap<CrateName, Vec<IndexRow>>,
    pub selection: Selection,
    pub mark: Option<serde_json::Value>,
    pub masks: BTreeMap<(CrateName, Option<Version>), Mask>,
    /// By crate, version and new checksum.
    pub alarms: BTreeMap<(CrateName, Version, Sha256), Alarm>,
    pub reports: BTreeMap<(String, u64), Report>,
    pub next_advisories: Option<AdvisoryDb>,
    pub generations: Vec<Generation>,
    /// What each generation changed.
    pub changes: BTreeMap<u64, Vec<CrateName>>,
}

impl Knowledge {
    /// What the mirror knows. Panics where its bytes are not what it says, or its tables do not agree.
    pub fn of(mirror: &Mirror) -> Knowledge {
        let ledger = mirror.ledger().reader().unwrap();
        let mut known = Knowledge {
            selection: ledger.selection().unwrap(),
            mark: ledger.mark().unwrap(),
            masks: by_key(ledger.masks().unwrap().all().to_vec(), |mask| (mask.name.clone(), mask.version.clone())),
            alarms: by_key(ledger.alarms().unwrap(), |alarm| (alarm.name.clone(), alarm.version.clone(), alarm.now)),
            reports: by_key(ledger.reports().unwrap(), |report| (report.path.clone(), report.line)),
            next_advisories: ledger.next_advisories().unwrap(),
            generations: ledger.generations_after(0, usize::MAX).unwrap(),
            ..Knowledge::default()
        };
        known.read_releases(mirror, &ledger);
        known.read_index(mirror, &ledger);
        for generation in &known.generations {
            let changed = ledger.changed_in(generation.number).unwrap();
            known.changes.insert(generation.number, changed);
            let databases = generation.advisories.iter().chain(&known.next_advisories);
            for archive in databases.map(|database| database.sha256) {
                let place = ledger.advisories(&archive).unwrap().expect("it was published");
                assert_eq!(Sha256::of(&mirror.packs().read(place).unwrap()), archive, "an advisory database");
            }
        }
        assert_eq!(ledger.generation().unwrap().as_ref(), known.generations.last());
        known.check_tables(&ledger);
        known
    }

    fn read_releases(&mut self, mirror: &Mirror, ledger: &LedgerReader) {
        let mut all = Vec::new();
        ledger
            .each_release(|release, row| {
                all.push((release, row));
                Ok(())
            })
            .unwrap();
        for (release, row) in all {
            if let Some(place) = row.place {
                let bytes = mirror.packs().read(place).unwrap_or_else(|error| panic!("{release}: {error:?}"));
                assert!(bytes == world::bytes(&release), "{release} has other bytes than were stored");
            }
            if let Some(place) = ledger.facts(&release).unwrap() {
                let facts = mirror.packs().facts(&place).unwrap();
                assert_eq!(facts, world::facts(&release), "the facts of {release}");
                self.facts.insert(release.clone());
            }
            self.releases.insert(release, Row { place: row.place.map(|_| SOMEWHERE), ..row });
        }
        let undescribed = ledger.undescribed_after(None, usize::MAX).unwrap();
        self.undescribed = undescribed.into_iter().map(|(release, _)| release).collect();
    }

    fn read_index(&mut self, mirror: &Mirror, ledger: &LedgerReader) {
        let text = |text: crateferry_store::Text| {
            let bytes = mirror.packs().text(text.place, text.digests.blake3).unwrap();
            assert_eq!(Sha256::of(&bytes), text.digests.sha256);
            bytes
        };
        for name in world::names() {
            let Some(row) = ledger.path(&name).unwrap() else { continue };
            if let Some((identity, upstream)) = row.upstream {
                self.upstream.insert(name.clone(), (identity, world::parse_index(&text(upstream))));
            }
            if let Some(served) = row.served {
                let rows = world::parse_index(&text(served));
                assert_eq!(row.rows, rows.len() as u64, "rows that are served of {name}");
                self.served.insert(name, rows);
            }
        }
    }

    /// The tables that list releases by what is to be done with them.
    fn check_tables(&self, ledger: &LedgerReader) {
        let with = |is: fn(&Row) -> bool| -> BTreeSet<Release> {
            self.releases.iter().filter(|(_, row)| is(row)).map(|(release, _)| release.clone()).collect()
        };
        let names = |rows: Vec<(Release, Row)>| rows.into_iter().map(|(release, _)| release).collect::<BTreeSet<_>>();
        let work = ledger.work_after(None, usize::MAX, u64::MAX).unwrap();
        let work: BTreeSet<Release> = work.into_iter().map(|work| work.release).collect();
        assert_eq!(work, with(|row| row.state == State::Wanted), "what is to be fetched");
        assert_eq!(names(ledger.holes().unwrap()), with(Row::is_hole), "holes");
        assert_eq!(names(ledger.gone().unwrap()), with(|row| row.gone), "what is gone");
        let tally = ledger.tally().unwrap();
        let counted = Tally { bytes: tally.bytes, ..self.tally() };
        assert_eq!(tally, counted, "the tally");
        let held = self.releases.iter().filter(|(_, row)| row.place.is_some());
        assert_eq!(tally.bytes, held.map(|(release, _)| world::bytes(release).len() as u64).sum::<u64>(), "bytes");
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for row in self.releases.values() {
            let count = match row.state {
                State::Stored => &mut tally.held,
                State::Wanted if row.tries == 0 => &mut tally.pending,
                State::Wanted => &mut tally.wanted_holes,
                State::Refused => &mut tally.refused,
                State::Withdrawn => &mut tally.withdrawn,
                State::Excluded => &mut tally.excluded,
            };
            *count += 1;
            tally.gone += u64::from(row.gone);
        }
        tally
    }

    /// The digest of what is served, as docs/format.md has it.
    pub fn digest(&self) -> Blake3 {
        let mut buckets: BTreeMap<u32, BTreeMap<String, Blake3>> = BTreeMap::new();
        for (name, rows) in &self.served {
            let path = name.index_path();
            let bucket = Blake3::of(path.as_bytes()).0;
            let bucket = u32::from(bucket[0]) << 8 | u32::from(bucket[1]);
            buckets.entry(bucket).or_default().insert(path, Blake3::of(&world::index_text(rows)));
        }
        let node = |left: Blake3, right: Blake3| Blake3::of(&[&[1], left.0.as_slice(), &right.0].concat());
        let mut empty = Blake3::of(&[0]);
        let mut level: BTreeMap<u32, Blake3> = buckets.iter().map(|(at, entries)| (*at, leaf(entries))).collect();
        for _ in 0..16 {
            let parents: BTreeSet<u32> = level.keys().map(|at| at / 2).collect();
            let get = |at: u32| level.get(&at).copied().unwrap_or(empty);
            level = parents.into_iter().map(|at| (at, node(get(2 * at), get(2 * at + 1)))).collect();
            empty = node(empty, empty);
        }
        level.get(&0).copied().unwrap_or(empty)
    }
}

fn leaf(entries: &BTreeMap<String, Blake3>) -> Blake3 {
    let mut text = vec![0];
    for (path, digest) in entries {
        text.extend_from_slice(&(path.len() as u16).to_le_bytes());
        text.extend_from_slice(path.as_bytes());
        text.extend_from_slice(&digest.0);
    }
    Blake3::of(&text)
}

fn by_key<K: Ord, V>(values: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    values.into_iter().map(|value| (key(&value), value)).collect()
}
