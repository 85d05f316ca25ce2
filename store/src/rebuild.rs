//! Making the databases again from the packs alone.
//!
//! Every group record is applied in its order to a new ledger, which takes the old one's place when it is complete; the
//! catalog is derived from it. The open pack's members are hashed, because nobody vouches for its tail; sealed packs
//! are taken at their records' word, which `verify` checks.
//!
//! The epoch is kept if the chain of records is unbroken and the last pack ends with a whole group. Otherwise something
//! that was published may be lost, and a new epoch says so.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::adoption::UNACKNOWLEDGED;
use crate::disk::{Disk, DiskFile};
use crate::layout::Layout;
use crate::ledger::{Applied, Identification, Ledger, LedgerError, guarded};
use crate::limits::StoreLimits;
use crate::mirror::{Lock, Mirror, check_format, check_mirror, describe_tail};
use crate::open_error::OpenError;
use crate::pack::{Event, Group, Scan, Tail, last_record, prove_members};
use crate::writer::{Batch, WriteError, wait};

/// Records that are applied in one transaction.
const RECORDS: usize = 64;

/// What a rebuild found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Packs read.
    pub packs: u64,
    /// Group records applied.
    pub records: u64,
    /// The number of the last one.
    pub last: u64,
    /// What was not as it should be.
    pub problems: Vec<String>,
    /// The epoch now.
    pub epoch: u32,
    /// Whether the epoch is a new one.
    pub new_epoch: bool,
}

/// A rebuild that could not be completed; the databases that were there are untouched.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The mirror cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record cannot be applied.
    #[error("cannot rebuild the ledger from pack {pack}")]
    Apply {
        /// The pack that holds the record.
        pack: u32,
        /// Why.
        source: LedgerError,
    },
    /// The new ledger cannot be written.
    #[error("cannot make a new ledger")]
    Ledger(#[from] LedgerError),
    /// A pack cannot be read.
    #[error("cannot read pack {pack}")]
    Pack {
        /// Its number.
        pack: u32,
        /// Why.
        source: std::io::Error,
    },
    /// A pack is damaged before records that are whole: cutting it there would lose what was acknowledged.
    #[error("pack {pack} is damaged at offset {at}, before whole records; restore it from a copy. {problem}")]
    Damaged {
        /// Its number.
        pack: u32,
        /// Where the last sound group before the damage ends.
        at: u64,
        /// What is damaged.
        problem: String,
    },
    /// The new epoch cannot be recorded.
    #[error("cannot record the new epoch")]
    Epoch(#[from] WriteError),
}

/// Makes ledger and catalog again.
pub fn rebuild(
    root: &Path,
    new_epoch: bool,
    limits: StoreLimits,
    disk: Arc<dyn Disk>,
) -> Result<Rebuilt, RebuildError> {
    let layout = Layout::new(root);
    check_format(&layout)?;
    let lock = Lock::take(&layout)?;
    let part = layout.ledger().with_extension("redb.new");
    discard(disk.as_ref(), &part)?;
    let replay = Replay { layout: &layout, limits: &limits, disk: disk.as_ref() };
    let known = known_before(&layout, &limits, disk.as_ref());
    let mut rebuilt = replay.run(&part)?;
    if let Some(before) = known.filter(|before| *before > rebuilt.last) {
        let found = rebuilt.last;
        rebuilt.problems.push(format!("the ledger knew {before} records, the packs end with record {found}"));
    }
    if new_epoch || !rebuilt.problems.is_empty() {
        rebuilt.epoch += 1;
        rebuilt.new_epoch = true;
        Ledger::open(disk.as_ref(), &part, limits.ledger_cache)?.begin_epoch(rebuilt.epoch)?;
    }
    disk.rename(&part, &layout.ledger()).map_err(io_error("replace", &layout.ledger()))?;
    disk.sync_folder(root).map_err(io_error("sync", root))?;
    finish(&Mirror::open_rebuilt(layout, limits, disk, lock)?, &rebuilt)?;
    Ok(rebuilt)
}

/// The last record that the ledger knows which is there, if it can be read: the packs do not tell that their end is lost.
fn known_before(layout: &Layout, limits: &StoreLimits, disk: &dyn Disk) -> Option<u64> {
    let path = layout.ledger();
    if !path.exists() {
        return None;
    }
    let read = guarded(&path, || {
        let ledger = Ledger::open(disk, &path, limits.ledger_cache)?;
        let reader = ledger.reader()?;
        Ok((reader.mirror()?, reader.chain()?.sequence))
    });
    let read = read.inspect_err(|error| tracing::debug!(%error, "the ledger that was there cannot be read"));
    let (mirror, last) = read.ok()?;
    check_mirror(layout, &mirror).is_ok().then_some(last)
}

/// Records a new epoch in the packs.
fn finish(mirror: &Mirror, rebuilt: &Rebuilt) -> Result<(), RebuildError> {
    if rebuilt.new_epoch {
        let reason = rebuilt.problems.first().cloned().unwrap_or_else(|| "asked for".into());
        let writer = mirror.writer()?;
        let mut batch = Batch::default();
        batch.add(Event::Epoch { epoch: rebuilt.epoch, reason });
        drop(writer.submit(batch));
        wait(writer.flush())?;
        mirror.refresh_catalog()?;
    }
    Ok(())
}

struct Replay<'a> {
    layout: &'a Layout,
    limits: &'a StoreLimits,
    disk: &'a dyn Disk,
}

impl Replay<'_> {
    fn run(&self, part: &Path) -> Result<Rebuilt, RebuildError> {
        let packs = self.layout.list_packs().map_err(io_error("list", &self.layout.packs()))?;
        let ledger = Ledger::create(self.disk, part, self.limits.ledger_cache, &self.identification(&packs)?)?;
        let mut rebuilt = Rebuilt { packs: packs.len() as u64, ..Rebuilt::default() };
        for (number, sealed) in packs {
            self.replay_pack(&ledger, number, sealed, &mut rebuilt)?;
            if sealed {
                ledger.seal_pack(number)?;
            }
        }
        let chain = ledger.reader()?.chain()?;
        (rebuilt.epoch, rebuilt.last) = (chain.epoch, chain.sequence);
        Ok(rebuilt)
    }

    /// The mirror's id: its packs tell it, and before the first record its configuration.
    fn identification(&self, packs: &[(u32, bool)]) -> Result<Identification, RebuildError> {
        #[derive(Deserialize, Default)]
        struct Config {
            #[serde(default)]
            mirror: String,
        }
        for &(number, sealed) in packs {
            let (file, length) = self.open(number, sealed)?;
            let mut scan = Scan::new(file.as_ref(), 0, length, self.limits.record_bytes);
            if let Ok(Some(group)) = scan.next_group() {
                let header = group.record.header;
                return Ok(Identification { mirror: header.mirror, epoch: header.epoch });
            }
        }
        let path = self.layout.config();
        let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let config: Config = toml::from_str(&text).unwrap_or_default();
        Ok(Identification { mirror: config.mirror, epoch: 0 })
    }

    fn replay_pack(
        &self,
        ledger: &Ledger,
        number: u32,
        sealed: bool,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), RebuildError> {
        let (file, length) = self.open(number, sealed)?;
        if !sealed {
            // The ledger will name what is there, so it must stay there.
            let file = self.disk.open(&self.layout.pack(number, sealed)).and_then(|file| file.sync());
            file.map_err(|source| RebuildError::Pack { pack: number, source })?;
        }
        let scan = Scan::new(file.as_ref(), 0, length, self.limits.record_bytes);
        let mut waiting: Vec<Group> = Vec::new();
        let mut unproven: Option<(u64, String)> = None;
        let mut sound = 0;
        let mut chain = ledger.reader()?.chain()?;
        let (end, tail) = scan.for_each(|group| {
            if unproven.is_some() {
                return Ok(());
            }
            if !sealed && let Err(error) = prove_members(file.as_ref(), &group.record.members) {
                unproven = Some((sound, error.to_string()));
                return Ok(());
            }
            let header = &group.record.header;
            if header.previous != chain.digest {
                let (sequence, last) = (header.sequence, chain.sequence);
                rebuilt.problems.push(format!("pack {number}: record {sequence} does not follow record {last}"));
            }
            (chain.sequence, chain.digest) = (header.sequence, group.digest);
            rebuilt.records += 1;
            sound = group.end;
            waiting.push(group);
            if waiting.len() >= RECORDS { apply(ledger, number, &mut waiting) } else { Ok(()) }
        })?;
        apply(ledger, number, &mut waiting)?;
        if let Some((at, problem)) = unproven.or_else(|| describe_tail(&tail).map(|why| (end, why))) {
            if !sealed && hides_records(file.as_ref(), (at, length), chain.sequence).map_err(unreadable(number))? {
                return Err(RebuildError::Damaged { pack: number, at, problem });
            }
            rebuilt.problems.push(format!("pack {number} is torn at {at}: {problem}"));
        }
        if sealed && matches!(tail, Tail::Clean) {
            rebuilt.problems.push(format!("pack {number} has no table of contents"));
        }
        Ok(())
    }

    fn open(&self, pack: u32, sealed: bool) -> Result<(Arc<dyn DiskFile>, u64), RebuildError> {
        let path = self.layout.pack(pack, sealed);
        let file = self.disk.open_read(&path).map_err(|source| RebuildError::Pack { pack, source })?;
        let length = file.length().map_err(|source| RebuildError::Pack { pack, source })?;
        Ok((file, length))
    }
}

/// Whether records that were acknowledged once may lie in a tail.
fn hides_records(file: &dyn DiskFile, (from, end): (u64, u64), sequence: u64) -> std::io::Result<bool> {
    Ok(last_record(file, from, end)?.is_some_and(|last| last > sequence + UNACKNOWLEDGED))
}

fn unreadable(pack: u32) -> impl FnOnce(std::io::Error) -> RebuildError {
    move |source| RebuildError::Pack { pack, source }
}

fn apply(ledger: &Ledger, pack: u32, groups: &mut Vec<Group>) -> Result<(), RebuildError> {
    let applied: Vec<Applied<'_>> =
        groups.iter().map(|group| Applied { record: &group.record, digest: group.digest, end: group.end }).collect();
    ledger.apply(&applied).map_err(|source| RebuildError::Apply { pack, source })?;
    groups.clear();
    Ok(())
}

fn discard(disk: &dyn Disk, path: &Path) -> Result<(), RebuildError> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn io_error<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RebuildError + 'a {
    move |source| OpenError::Io { step, path: path.to_owned(), source }.into()
}
