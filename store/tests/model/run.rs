//! Running a history against a store and the model at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crateferry_store::{
    Extent, Mirror, MirrorReader, Place, Rebuilt, Release, Shrink, State, StoreLimits, Writer, collect, find_garbage,
    publish, rebuild, verify, wait,
};
use tempfile::TempDir;

use super::disk::{Loss, PowerDisk};
use super::expected::{Expected, Order};
use super::history::{Act, Cut, Step};
use super::knowledge::Knowledge;
use super::world;
use crate::rig::copy_folder;

/// Small packs, so that many are sealed; a group ends only where the history says so.
fn limits() -> StoreLimits {
    StoreLimits {
        pack_bytes: 32 << 10,
        group_delay: Duration::from_secs(3600),
        write_buffer: 4096,
        ledger_cache: 1 << 20,
        catalog_cache: 1 << 20,
        queue: 64,
        ..StoreLimits::default()
    }
}

/// Where histories take place: in memory, if the system has a folder for that.
fn memory() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { TempDir::new_in(shared).unwrap() } else { TempDir::new().unwrap() }
}

/// An empty mirror that every history begins with a copy of.
pub struct Beginning(TempDir);

impl Beginning {
    pub fn new() -> Beginning {
        let folder = memory();
        let id = "0123456789abcdef0123456789abcdef";
        let config = format!("format = 1\nmirror = \"{id}\"\n");
        drop(Mirror::create(folder.path(), id, &config, limits()).unwrap());
        Beginning(folder)
    }
}

/// How much was seen of what can happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub losses: u64,
    pub records: u64,
    pub generations: u64,
    pub rebuilds: u64,
    pub collected: u64,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.losses += other.losses;
        self.records += other.records;
        self.generations += other.generations;
        self.rebuilds += other.rebuilds;
        self.collected += other.collected;
    }
}

/// A store, and the model of it.
struct Run {
    folder: TempDir,
    disk: PowerDisk,
    open: Option<(Writer, Mirror)>,
    /// What is known after each record, from none on.
    after: Vec<Expected>,
    /// How many records were acknowledged.
    acknowledged: usize,
    epoch: u32,
    now: u64,
    /// What comes of the next loss of power, and once more while the mirror is opened after it.
    cut: Option<(Cut, Option<Cut>)>,
    seen: Seen,
}

/// Runs a history from its beginning; panics where the store does not do what the model says. Also gives what was called.
pub fn run(beginning: &Beginning, history: &[Step]) -> (Seen, Vec<String>) {
    let folder = memory();
    let (root, aside) = (folder.path().join("mirror"), folder.path().join("aside"));
    copy_folder(beginning.0.path(), &root);
    std::fs::create_dir(&aside).unwrap();
    let mut run = Run {
        disk: PowerDisk::new(&root, &aside),
        folder,
        open: None,
        after: vec![Expected::default()],
        acknowledged: 0,
        epoch: 0,
        now: 1_700_000_000,
        cut: None,
        seen: Seen::default(),
    };
    run.open_again(None);
    for step in history {
        run.step(step);
    }
    run.end();
    (run.seen, run.disk.log())
}

impl Run {
    fn root(&self) -> PathBuf {
        self.folder.path().join("mirror")
    }

    fn mirror(&self) -> &Mirror {
        &self.open.as_ref().expect("it is open").1
    }

    fn writer(&self) -> &Writer {
        &self.open.as_ref().expect("it is open").0
    }

    fn last(&self) -> &Expected {
        self.after.last().expect("there is a beginning")
    }

    fn step(&mut self, step: &Step) {
        self.now += 100;
        match step {
            Step::Group(acts) => self.group(acts),
            Step::Burst { groups, cut } => self.burst(groups, *cut),
            Step::Publish(shrink) => self.publish(*shrink),
            Step::Cut { cut, again } => {
                self.disk.lose_power_at(cut.call);
                self.cut = Some((*cut, *again));
            }
            Step::Stop { loss, seed, again } => self.come_back(*loss, *seed, *again),
            Step::Reopen { without_catalog } => self.reopen(*without_catalog),
            Step::Rebuild { without_ledger, without_catalog, new_epoch } => {
                self.rebuild([*without_ledger, *without_catalog], *new_epoch);
            }
            Step::Collect => self.collect(),
            Step::Read => self.check(),
        }
        if self.disk.has_no_power() {
            self.recover();
        }
    }

    /// Everything was done that can be done, or power is lost.
    fn must(&self, is_done: bool, what: &str) {
        assert!(is_done || self.disk.has_no_power(), "{what} failed, and there was power");
    }

    fn group(&mut self, acts: &[Act]) {
        let Some((order, after)) = self.last().group(acts, self.now) else { return };
        self.after.push(after);
        let answers = order.submit(self.writer());
        let flushed = wait(self.writer().flush()).is_ok();
        let is_done = answers.into_iter().all(|answer| answer()) && flushed;
        self.must(is_done, "a group");
        if is_done {
            self.acknowledged = self.after.len() - 1;
        }
        self.calm_down();
    }

    /// Waits until the writer does nothing any more: it may be sealing a pack. What the disk is asked for next is then the
    /// same in each run of a history.
    fn calm_down(&self) {
        self.must(wait(self.writer().flush()).is_ok(), "a flush of nothing");
    }

    fn burst(&mut self, groups: &[Vec<Act>], cut: Option<(Loss, u64)>) {
        let (mut orders, mut room, before) = (Vec::new(), self.open_pack(), self.after.len());
        for acts in groups {
            let Some((order, after)) = self.last().group(acts, self.now) else { continue };
            room += order.room();
            orders.push(order);
            self.after.push(after);
        }
        if room >= limits().pack_bytes {
            // The first would be durable before the last is written, since a pack would be sealed between them.
            self.after.truncate(before);
            return groups.iter().for_each(|acts| self.group_if_open(acts));
        }
        self.disk.hold_syncs(true);
        let written = self.writer().work().groups.load(Ordering::Relaxed) + orders.len() as u64;
        let submit = |order: Order| (order.submit(self.writer()), self.writer().flush());
        let answers: Vec<_> = orders.into_iter().map(submit).collect();
        while self.writer().work().groups.load(Ordering::Relaxed) < written && !self.disk.has_no_power() {
            std::thread::sleep(Duration::from_micros(20));
        }
        if let Some((loss, seed)) = cut.filter(|_| !self.disk.has_no_power()) {
            self.disk.lose_power();
            self.cut = Some((Cut { call: 0, loss, seed }, None));
        }
        self.disk.hold_syncs(false);
        for (number, (stored, flushed)) in (before..).zip(answers) {
            let is_done = stored.into_iter().all(|answer| answer()) & wait(flushed).is_ok();
            self.must(is_done, "a group of a burst");
            if is_done {
                self.acknowledged = number;
            }
        }
        self.calm_down();
    }

    fn group_if_open(&mut self, acts: &[Act]) {
        if !self.disk.has_no_power() {
            self.group(acts);
        }
    }

    /// How long the open pack is.
    fn open_pack(&self) -> u64 {
        let packs = crate::rig::packs(&self.root());
        let open = packs.last().filter(|path| path.extension().is_some_and(|extension| extension == "open"));
        open.map_or(0, |path| std::fs::metadata(path).unwrap().len())
    }

    /// The crates that the store knows to have changed.
    fn changed(&self) -> BTreeSet<crateferry_store::CrateName> {
        let ledger = self.mirror().ledger().reader().unwrap();
        ledger.dirty_after(None, usize::MAX).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn publish(&mut self, shrink: Shrink) {
        let records = self.last().publication(self.changed(), shrink, self.epoch, self.now);
        let before = self.last().known.generations.len();
        self.after.extend(records);
        let published = publish(self.mirror(), self.writer(), shrink, self.now);
        self.must(published.is_ok(), &format!("a publication ({published:?})"));
        if let Ok(published) = published {
            self.acknowledged = self.after.len() - 1;
            let expected = self.last().known.generations.get(before);
            assert_eq!(published.generation.as_ref(), expected, "what was published");
        }
        self.calm_down();
    }

    fn close(&mut self) {
        if let Some((writer, mirror)) = self.open.take() {
            drop(writer);
            drop(mirror);
        }
    }

    fn reopen(&mut self, without_catalog: bool) {
        self.close();
        if without_catalog {
            drop(std::fs::remove_file(self.root().join("catalog.redb")));
        }
        self.open_again(None);
    }

    /// Power was lost as the history said.
    fn recover(&mut self) {
        let (cut, again) = self.cut.take().expect("power goes only then");
        self.come_back(cut.loss, cut.seed, again);
    }

    fn come_back(&mut self, loss: Loss, seed: u64, again: Option<Cut>) {
        self.seen.losses += 1;
        self.close();
        self.disk.come_back(loss, seed);
        self.cut = None;
        if let Some(again) = again {
            self.disk.lose_power_at(again.call);
        }
        self.open_again(again);
        // It was not lost while the mirror was opened; perhaps it is later.
        self.cut = again.filter(|_| !self.is_over(again)).map(|again| (again, None));
    }

    /// Whether the second loss was while the mirror was opened.
    fn is_over(&self, again: Option<Cut>) -> bool {
        again.is_some() && !self.disk.will_lose_power()
    }

    /// Opens the mirror, once more if power is lost meanwhile, and compares what it knows.
    fn open_again(&mut self, again: Option<Cut>) {
        let open = |run: &Run| {
            let mirror = Mirror::open(&run.root(), limits(), Arc::new(run.disk.clone()))?;
            let writer = mirror.writer()?;
            Ok::<_, crateferry_store::OpenError>((writer, mirror))
        };
        let mut opened = open(self);
        if self.disk.has_no_power() {
            drop(opened);
            let cut = again.or(self.cut.map(|(cut, _)| cut)).expect("power goes only then");
            self.seen.losses += 1;
            self.disk.come_back(cut.loss, cut.seed);
            opened = open(self);
        }
        self.open = Some(opened.unwrap_or_else(|error| panic!("the mirror does not open: {error:?}")));
        self.settle();
    }

    /// Finds out what was made durable of what was not acknowledged.
    fn settle(&mut self) {
        let chain = self.mirror().ledger().reader().unwrap().chain().unwrap();
        let records = chain.sequence as usize;
        assert!(records >= self.acknowledged, "{records} records of {} that were acknowledged", self.acknowledged);
        assert!(records < self.after.len(), "{records} records, {} were written", self.after.len() - 1);
        assert!(chain.epoch >= self.epoch, "epoch {} after {}", chain.epoch, self.epoch);
        self.after.truncate(records + 1);
        (self.acknowledged, self.epoch) = (records, chain.epoch);
        self.check();
    }

    fn rebuild(&mut self, [without_ledger, without_catalog]: [bool; 2], new_epoch: bool) {
        self.close();
        // What is durable now is not lost with the databases.
        if self.disk.has_no_power() {
            let (cut, _) = self.cut.take().expect("power goes only then");
            self.disk.come_back(cut.loss, cut.seed);
        }
        for (name, is_lost) in [("ledger.redb", without_ledger), ("catalog.redb", without_catalog)] {
            if is_lost {
                drop(std::fs::remove_file(self.root().join(name)));
            }
        }
        let mut rebuilt = self.rebuild_once(new_epoch);
        if rebuilt.is_none() {
            let (cut, _) = self.cut.take().expect("power goes only then");
            self.seen.losses += 1;
            self.disk.come_back(cut.loss, cut.seed);
            rebuilt = self.rebuild_once(new_epoch);
        }
        let rebuilt = rebuilt.expect("there was power");
        self.seen.rebuilds += 1;
        assert!(rebuilt.new_epoch == (new_epoch || !rebuilt.problems.is_empty()), "{rebuilt:?}");
        self.note_epochs();
        self.open_again(None);
    }

    /// None if power was lost.
    fn rebuild_once(&mut self, new_epoch: bool) -> Option<Rebuilt> {
        let rebuilt = rebuild(&self.root(), new_epoch, limits(), Arc::new(self.disk.clone()));
        if self.disk.has_no_power() {
            return None;
        }
        Some(rebuilt.unwrap_or_else(|error| panic!("the databases cannot be made again: {error:?}")))
    }

    /// A new epoch is a record that changes nothing else: there may be one behind what there was, two if the first attempt
    /// was interrupted.
    fn note_epochs(&mut self) {
        let mirror = Mirror::open(&self.root(), limits(), Arc::new(self.disk.clone()));
        if self.disk.has_no_power() {
            return;
        }
        let mirror = mirror.unwrap();
        let records = mirror.ledger().reader().unwrap().chain().unwrap().sequence as usize;
        let known = Knowledge::of(&mirror);
        let before = (self.acknowledged..self.after.len()).rfind(|at| *at <= records && self.after[*at].known == known);
        let before = before.unwrap_or_else(|| {
            let nearest = &self.after[records.min(self.after.len() - 1)].known;
            panic!("rebuilt to something else: {known:#?}\nshould be {nearest:#?}")
        });
        assert!(records - before <= 2, "{records} records, {before} before");
        self.after.truncate(before + 1);
        self.after.extend(std::iter::repeat_n(self.after[before].clone(), records - before));
        self.acknowledged = records;
    }

    fn collect(&mut self) {
        let let_go = self.to_let_go();
        if !let_go.is_empty() {
            let after = self.last().without(&let_go, self.now);
            self.after.push(after);
        }
        let (writer, mirror) = self.open.take().expect("it is open");
        drop(writer);
        let patience = Duration::from_secs(1);
        let collected =
            find_garbage(&mirror, 0, self.now).and_then(|garbage| collect(&mirror, garbage, patience, self.now));
        let writer = mirror.writer();
        self.must(collected.is_ok() && writer.is_ok(), &format!("a collection ({collected:?})"));
        if let Ok(collected) = &collected {
            self.acknowledged = self.after.len() - 1;
            self.seen.collected += collected.dead.members;
        }
        match writer {
            Ok(writer) => self.open = Some((writer, mirror)),
            Err(_) => drop(mirror),
        }
    }

    /// The releases that a collection is to let go: nobody is to have them, a sealed pack has, and there is room to gain.
    fn to_let_go(&self) -> Vec<Release> {
        let ledger = self.mirror().ledger().reader().unwrap();
        let mut let_go = Vec::new();
        ledger
            .each_release(|release, row| {
                let is_out = matches!(row.state, State::Withdrawn | State::Excluded);
                if is_out && row.place.is_some_and(|place| self.gives_room(place)) {
                    let_go.push(release);
                }
                Ok(())
            })
            .unwrap();
        let_go.retain(|release| !ledger.is_dirty(&release.id.name).unwrap());
        let_go
    }

    fn gives_room(&self, Place { pack, offset, length }: Place) -> bool {
        let is_sealed = self.root().join(format!("packs/{pack:06}.tar")).exists();
        is_sealed && offset.next_multiple_of(4096) + 4096 <= offset + length
    }

    /// Compares all that is known with the model, and what readers see with what is known.
    fn check(&self) {
        let expected = self.last();
        let known = Knowledge::of(self.mirror());
        assert_eq!(known, expected.known, "what is known after {} records", self.after.len() - 1);
        let generation = known.generations.last();
        if let Some(generation) = generation {
            assert_eq!(generation.digest, known.digest(), "the digest of what is served");
        }
        let changed = self.changed();
        assert!(expected.to_publish().is_subset(&changed), "{changed:?} are to be composed again");
        self.check_reader(expected);
    }

    fn check_reader(&self, expected: &Expected) {
        let Ok(reader) = MirrorReader::open(&self.root(), limits()) else {
            // What a writer that lost power left is repaired by the next one.
            assert!(self.disk.has_no_power(), "readers cannot read the mirror");
            return;
        };
        for name in world::names() {
            let Some(rows) = expected.known.served.get(&name) else {
                assert!(reader.catalog.index_file(&name).unwrap().is_none(), "{name} is served");
                continue;
            };
            let text = reader.catalog.index_file(&name).unwrap().unwrap_or_else(|| panic!("{name} is not served"));
            let bytes = reader.packs.text(text.place, text.digests.blake3).unwrap();
            assert_eq!(world::parse_index(&bytes), *rows, "what readers see of {name}");
        }
        let summary = reader.catalog.summary().unwrap().expect("there is one from the beginning");
        assert_eq!(summary.generation.as_ref(), expected.known.generations.last(), "the generation that readers see");
    }

    /// Closes the mirror and lets the store look for damage itself.
    fn end(&mut self) {
        self.disk.come_to_rest();
        self.cut = None;
        self.reopen(false);
        self.group(&[Act::Store { release: 0, is_described: true }, Act::Want { release: 1 }]);
        self.publish(Shrink::Accept);
        self.check();
        self.close();
        let reader = MirrorReader::open(&self.root(), limits()).unwrap();
        let verification = verify(&reader, Extent::All, &|_| {}).unwrap();
        let is_meant = |release: &Release| !self.last().holds(release);
        let findings: Vec<_> =
            verification.findings.iter().filter(|finding| !finding.release.as_ref().is_some_and(is_meant)).collect();
        assert!(findings.is_empty(), "{findings:#?}");
        drop(reader);
        self.rebuild([true, true], false);
        self.seen.records += self.acknowledged as u64;
        self.seen.generations += self.last().known.generations.len() as u64;
        self.close();
    }
}
