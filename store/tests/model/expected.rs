//! What each group and each publication makes of what was known: the model.

use std::collections::{BTreeMap, BTreeSet};

use crateferry_store::{
    AdvisoryDb, Alarm, Batch, BlobId, Cause, Counts, CrateName, Event, Facts, Generation, Happening, Identity, Mask,
    Release, Report, Row, Selection, Sha256, Shrink, State, Writer, exceeds_shrink_limit, step,
};

use super::history::Act;
use super::knowledge::{Knowledge, SOMEWHERE};
use super::world::{self, IndexRow};

/// What is to be asked of the writer, for one group.
#[derive(Default)]
pub struct Order {
    /// Crate files, with facts or without.
    stores: Vec<(Release, bool)>,
    /// Facts that come later.
    descriptions: Vec<Release>,
    texts: Vec<Vec<u8>>,
    advisories: Vec<(Vec<u8>, AdvisoryDb)>,
    events: Vec<Event>,
}

impl Order {
    /// Gives it to the writer; the answers say when it is durable.
    pub fn submit(self, writer: &Writer) -> Vec<Box<dyn FnOnce() -> bool>> {
        let mut answers: Vec<Box<dyn FnOnce() -> bool>> = Vec::new();
        for (release, is_described) in self.stores {
            let facts: Option<Facts> = is_described.then(|| world::facts(&release));
            let stored = writer.store(&release, world::verified(&release), facts.as_ref());
            answers.push(Box::new(|| futures::executor::block_on(stored).is_ok()));
        }
        let mut batch = Batch::default();
        for text in &self.texts {
            batch.add_text(text);
        }
        for (archive, database) in self.advisories {
            batch.add_advisories(archive, database);
        }
        for release in &self.descriptions {
            batch.add_facts(release, &world::facts(release));
        }
        self.events.into_iter().for_each(|event| batch.add(event));
        let pending = writer.submit(batch);
        answers.push(Box::new(|| crateferry_store::wait(pending).is_ok()));
        answers
    }

    /// At most so many bytes of a pack.
    pub fn room(&self) -> u64 {
        let stores = self.stores.iter().map(|(release, _)| world::bytes(release).len() as u64 + 2560);
        let others = self.descriptions.len() + self.texts.len() + self.advisories.len() + self.events.len();
        2048 + stores.sum::<u64>() + 2560 * others as u64
    }

    fn is_empty(&self) -> bool {
        let Order { stores, descriptions, texts, advisories, events } = self;
        stores.is_empty() && descriptions.is_empty() && texts.is_empty() && advisories.is_empty() && events.is_empty()
    }
}

/// The model at one point of a history.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub known: Knowledge,
    /// What the next publication is to serve. Only the store knows whether it was composed before.
    staged: BTreeMap<CrateName, Vec<IndexRow>>,
}

impl Expected {
    /// What a group of these acts is made of and leads to; none if nothing of them makes sense now.
    pub fn group(&self, acts: &[Act], now: u64) -> Option<(Order, Expected)> {
        let mut order = Order::default();
        let mut described = BTreeSet::new();
        for act in acts {
            order.add(act, &self.known, now, &mut described);
        }
        if order.is_empty() {
            return None;
        }
        let mut after = self.clone();
        for (release, _) in &order.stores {
            after.happen(release, Happening::Store { place: SOMEWHERE });
            if described.contains(&release.checksum) {
                after.describe(release);
            } else if !after.known.facts.contains(release) {
                after.known.undescribed.insert(release.clone());
            }
        }
        // Advisory databases and facts come with their own events, ahead of the others.
        for (_, database) in &order.advisories {
            after.known.next_advisories = Some(database.clone());
        }
        order.descriptions.iter().for_each(|release| after.describe(release));
        let texts: Vec<Vec<IndexRow>> = order.texts.iter().map(|text| world::parse_index(text)).collect();
        order.events.iter().for_each(|event| after.apply(event, &texts));
        Some((order, after))
    }

    fn describe(&mut self, release: &Release) {
        self.known.facts.insert(release.clone());
        self.known.undescribed.remove(release);
    }

    fn happen(&mut self, release: &Release, happening: Happening) {
        let before = self.known.releases.get(release).cloned();
        let was_held = before.as_ref().is_some_and(|row| row.place.is_some());
        let after = step(before.clone().unwrap_or_else(|| Row::unknown(release.id.name.clone())), happening);
        if was_held && after.place.is_none() {
            self.known.undescribed.remove(release);
        }
        self.known.releases.insert(release.clone(), after);
    }

    fn apply(&mut self, event: &Event, texts: &[Vec<IndexRow>]) {
        let known = &mut self.known;
        match event {
            Event::Selection { selection } => known.selection = selection.clone(),
            Event::Mark { mark } => known.mark = Some(mark.clone()),
            Event::Upstream { name, blob, etag, text } => {
                let text = text.map(|text| {
                    let is_it = |rows: &&Vec<IndexRow>| Sha256::of(&world::index_text(rows)) == text.sha256;
                    texts.iter().find(is_it).expect("it is in this group").clone()
                });
                let rows = text.unwrap_or_else(|| known.upstream[name].1.clone());
                known.upstream.insert(name.clone(), (Identity { blob: *blob, etag: etag.clone() }, rows));
            }
            Event::UpstreamGone { name } => drop(known.upstream.remove(name)),
            Event::Wanted { name, releases, at } => {
                for (version, checksum) in releases {
                    let id = crateferry_store::ReleaseId { name: name.clone(), version: version.clone() };
                    self.happen(&Release { id, checksum: *checksum }, Happening::Want { at: *at });
                }
            }
            Event::Tried { release, reason, at, due } => {
                self.happen(&release.clone().into(), Happening::Try { reason: reason.clone(), at: *at, due: *due });
            }
            Event::Refused { release, reason, at } => {
                self.happen(&release.clone().into(), Happening::Refuse { reason: reason.clone(), at: *at });
            }
            Event::Retry { release } => self.happen(&release.clone().into(), Happening::Retry),
            Event::Lost { release, reason, at } => {
                self.happen(&release.clone().into(), Happening::Lose { reason: reason.clone(), at: *at });
            }
            Event::Excluded { release, by, at } => {
                let by_operator = by == "operator";
                self.happen(&release.clone().into(), Happening::Exclude { by_operator, at: *at });
            }
            Event::Gone { release, at } => self.happen(&release.clone().into(), Happening::Gone { at: *at }),
            Event::Back { release } => self.happen(&release.clone().into(), Happening::Back),
            Event::Withdrawn { release, at, cause } => {
                let (reason, by_operator) = (cause.because.clone(), cause.by_operator);
                self.happen(&release.clone().into(), Happening::Withdraw { at: *at, reason, by_operator });
            }
            Event::Checksum { name, version, was, now, at } => {
                let alarm = Alarm { name: name.lower(), version: version.clone(), was: *was, now: *now, at: *at };
                known.alarms.insert((name.lower(), version.clone(), *now), alarm);
            }
            Event::Masked { name, version, reason, at } => {
                let mask = Mask { name: name.clone(), version: version.clone(), reason: reason.clone(), at: *at };
                known.masks.insert((name.clone(), version.clone()), mask);
            }
            Event::Unmasked { name, version } => drop(known.masks.remove(&(name.clone(), version.clone()))),
            Event::Report { path, line, problem, lacking } => {
                let report = Report { path: path.clone(), line: *line, problem: problem.clone(), lacking: *lacking };
                known.reports.insert((path.clone(), *line), report);
            }
            Event::Cleared { path } => known.reports.retain(|(of, _), _| of != path),
            other => unreachable!("{other:?} is not part of histories"),
        }
    }

    /// What is to be served of a crate.
    fn composed(&self, name: &CrateName) -> Vec<IndexRow> {
        let Knowledge { releases, upstream, served, .. } = &self.known;
        let is_held = |release: &Release| releases.get(release).is_some_and(|row| row.state == State::Stored);
        let mine: Vec<(&Release, &Row)> =
            releases.iter().filter(|(release, _)| release.id.name.lower() == *name).collect();
        let twice = |release: &Release| mine.iter().filter(|(other, _)| other.id == release.id).count() > 1;
        let keeps_old = mine.iter().any(|(release, row)| row.gone || twice(release));
        let old: &[IndexRow] = served.get(name).filter(|_| keeps_old).map_or(&[], Vec::as_slice);
        let new: &[IndexRow] = upstream.get(name).map_or(&[], |(_, rows)| rows.as_slice());
        let of_version =
            |rows: &[IndexRow], row: &IndexRow| rows.iter().find(|other| other.release.id == row.release.id).cloned();
        let mut composed = Vec::new();
        for row in new {
            match of_version(old, row) {
                Some(old) if old.release != row.release && is_held(&old.release) => {
                    composed.push(IndexRow { yanked: row.yanked, ..old });
                }
                _ if is_held(&row.release) => composed.push(row.clone()),
                _ => {}
            }
        }
        let stays = |row: &&IndexRow| of_version(new, row).is_none() && is_held(&row.release);
        composed.extend(old.iter().filter(stays).cloned());
        composed
    }

    /// The crates whose next index file is another than the one that is served.
    pub fn to_publish(&self) -> BTreeSet<CrateName> {
        let is_served = |name: &CrateName| self.known.served.get(name).cloned().unwrap_or_default();
        world::names().filter(|name| self.composed(name) != is_served(name)).collect()
    }

    /// What is known after each record of a publication. `changed` are the crates that the store will compose.
    pub fn publication(&self, mut changed: BTreeSet<CrateName>, shrink: Shrink, epoch: u32, now: u64) -> Vec<Expected> {
        let mut records = Vec::new();
        let mut next = self.clone();
        let gone: Vec<Release> =
            self.known.releases.iter().filter(|(_, row)| row.gone).map(|(release, _)| release.clone()).collect();
        let rows = self.known.generations.last().map_or(0, |generation| generation.counts.rows);
        let is_withdrawn = match shrink {
            Shrink::Keep => false,
            Shrink::Accept => true,
            Shrink::WithinLimit => !exceeds_shrink_limit(gone.len() as u64, rows),
        };
        if is_withdrawn && !gone.is_empty() {
            for release in gone {
                changed.insert(release.id.name.lower());
                next.happen(&release, Happening::Withdraw { at: now, reason: String::new(), by_operator: false });
            }
            records.push(next.clone());
        }
        if !changed.is_empty() {
            let staged: Vec<_> = changed.iter().map(|name| (name.clone(), next.composed(name))).collect();
            next.staged.extend(staged);
            records.push(next.clone());
        }
        if let Some(published) = next.promoted(epoch, now) {
            records.push(published);
        } else if let Some(last) = records.last_mut() {
            last.staged.clear();
        }
        records
    }

    fn promoted(&self, epoch: u32, now: u64) -> Option<Expected> {
        let mut next = self.clone();
        let known = &mut next.known;
        let mut changed = Vec::new();
        for (name, rows) in std::mem::take(&mut next.staged) {
            if known.served.get(&name).map_or(&[][..], Vec::as_slice) == rows {
                continue;
            }
            changed.push(name.clone());
            if rows.is_empty() {
                known.served.remove(&name);
            } else {
                known.served.insert(name, rows);
            }
        }
        let previous = known.generations.last();
        let has_new_advisories = previous.is_some_and(|previous| previous.advisories != known.next_advisories);
        if changed.is_empty() && !has_new_advisories {
            return None;
        }
        let rows = known.served.values().map(|rows| rows.len() as u64).sum();
        let generation = Generation {
            number: previous.map_or(0, |previous| previous.number) + 1,
            epoch,
            digest: known.digest(),
            previous: previous.map(|previous| previous.digest),
            published_at: now,
            upstream: known.mark.clone(),
            counts: Counts { crates: known.served.len() as u64, rows },
            advisories: known.next_advisories.clone(),
        };
        known.changes.insert(generation.number, changed);
        known.generations.push(generation);
        Some(next)
    }

    /// What is known after a collection let these releases go.
    pub fn without(&self, let_go: &[Release], now: u64) -> Expected {
        let mut after = self.clone();
        for release in let_go {
            after.happen(release, Happening::Lose { reason: "collected".to_owned(), at: now });
        }
        after
    }

    /// Whether the bytes of a release are held.
    pub fn holds(&self, release: &Release) -> bool {
        self.known.releases.get(release).is_some_and(|row| row.place.is_some())
    }
}

impl Order {
    fn add(&mut self, act: &Act, known: &Knowledge, at: u64, described: &mut BTreeSet<Sha256>) {
        match act {
            Act::Store { release, is_described } => {
                let release = world::release(*release);
                if *is_described {
                    described.insert(release.checksum);
                }
                self.stores.push((release, *is_described));
            }
            Act::Describe { release } => {
                let release = world::release(*release);
                if known.releases.contains_key(&release) {
                    described.insert(release.checksum);
                    self.descriptions.push(release);
                }
            }
            Act::Index { name, rows } => self.index(*name, rows, known, at),
            Act::IndexGone { name } => {
                let name = world::crate_name(*name).lower();
                self.gone(&name, &[], known, at);
                self.events.push(Event::UpstreamGone { name });
            }
            Act::Validator { name, etag } => {
                let name = world::crate_name(*name).lower();
                let is_known = |event: &Event| matches!(event, Event::UpstreamGone { name: gone } if *gone == name);
                if let Some((Identity { blob, .. }, _)) = known.upstream.get(&name)
                    && !self.events.iter().any(is_known)
                {
                    let etag = Some(format!("\"{etag}\"").into());
                    self.events.push(Event::Upstream { name, blob: *blob, etag, text: None });
                }
            }
            Act::Advisories { number } => {
                let archive = format!("advisory database {number}").into_bytes();
                let (commit, advisories) = (format!("{number:040x}"), u64::from(*number));
                let database = AdvisoryDb { sha256: Sha256::of(&archive), commit, committed_at: 1, advisories };
                self.advisories.push((archive, database));
            }
            other => self.events.push(event_of(other, at)),
        }
    }

    fn index(&mut self, name: usize, rows: &[(usize, bool, bool)], known: &Knowledge, at: u64) {
        let mut lines: Vec<IndexRow> = Vec::new();
        for (version, other, yanked) in rows {
            let release = world::release_of(name, *version, *other);
            if lines.iter().all(|line| line.release.id != release.id) {
                lines.push(IndexRow { release, yanked: *yanked });
            }
        }
        let (spelled, text) = (world::crate_name(name), world::index_text(&lines));
        let name = spelled.lower();
        let (blob, digests) = (BlobId::of(&text), Batch::default().add_text(&text));
        self.texts.push(text);
        self.events.push(Event::Upstream { name: name.clone(), blob, etag: None, text: Some(digests) });
        let releases = lines.iter().map(|line| (line.release.id.version.clone(), line.release.checksum)).collect();
        self.events.push(Event::Wanted { name: spelled, releases, at });
        self.gone(&name, &lines, known, at);
    }

    /// Held releases that the upstream's index has no more, or has again.
    fn gone(&mut self, name: &CrateName, lines: &[IndexRow], known: &Knowledge, at: u64) {
        let mine = known.releases.iter().filter(|(release, _)| release.id.name.lower() == *name);
        for (release, row) in mine.filter(|(_, row)| row.state == State::Stored) {
            let is_there = lines.iter().any(|line| line.release.id == release.id);
            let release = release.clone().into();
            match (is_there, row.gone) {
                (false, false) => self.events.push(Event::Gone { release, at }),
                (true, true) => self.events.push(Event::Back { release }),
                _ => {}
            }
        }
    }
}

fn event_of(act: &Act, at: u64) -> Event {
    let named = |release: usize| world::release(release).into();
    match *act {
        Act::Want { release } => {
            let Release { id, checksum } = world::release(release);
            Event::Wanted { name: id.name, releases: vec![(id.version, checksum)], at }
        }
        Act::Try { release } => Event::Tried { release: named(release), reason: "404".into(), at, due: at + 600 },
        Act::Refuse { release } => Event::Refused { release: named(release), reason: "too large".into(), at },
        Act::Retry { release } => Event::Retry { release: named(release) },
        Act::Lose { release } => Event::Lost { release: named(release), reason: "flipped".into(), at },
        Act::Exclude { release, by_operator } => {
            let by = if by_operator { "operator" } else { "yanked" };
            Event::Excluded { release: named(release), by: by.into(), at }
        }
        Act::Withdraw { release, by_operator } => {
            let because = if by_operator { "malware".into() } else { String::new() };
            Event::Withdrawn { release: named(release), at, cause: Cause { because, by_operator } }
        }
        Act::Back { release } => Event::Back { release: named(release) },
        Act::Alarm { release } => {
            let Release { id, checksum } = world::release(release);
            Event::Checksum { name: id.name, version: id.version, was: Sha256([7; 32]), now: checksum, at }
        }
        Act::Mask { name, version } => {
            let (name, version) = (world::crate_name(name).lower(), version.map(version_of));
            Event::Masked { name, version, reason: "licence".into(), at }
        }
        Act::Unmask { name, version } => {
            Event::Unmasked { name: world::crate_name(name).lower(), version: version.map(version_of) }
        }
        Act::Report { name, line, lacking } => {
            let path = world::crate_name(name).index_path();
            Event::Report { path, line, problem: format!("problem {at}"), lacking }
        }
        Act::Clear { name } => Event::Cleared { path: world::crate_name(name).index_path() },
        Act::Select { all } => Event::Selection { selection: Selection { all, ..Selection::default() } },
        Act::Mark { number } => Event::Mark { mark: serde_json::json!({ "commit": number }) },
        _ => unreachable!("it has more than an event"),
    }
}

fn version_of(number: usize) -> crateferry_store::Version {
    world::release_of(0, number, false).id.version
}
