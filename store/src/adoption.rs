//! Adoption: bringing the ledger to where the packs are.
//!
//! The packs are the log. When a mirror is opened for writing, whole groups that lie behind what the ledger knows are made
//! durable and applied; a torn tail is left to be cut. Nothing is cut that may have been acknowledged: where more records lie
//! behind a damaged place than a writer can have had in flight, opening is refused.

use std::io;

use crate::disk::{Disk, DiskFile};
use crate::layout::Layout;
use crate::ledger::{Applied, Chain, Ledger};
use crate::limits::StoreLimits;
use crate::open_error::OpenError;
use crate::pack::{Group, Scan, ScanError, last_record, prove_members};

/// Brings the ledger to where the packs are.
pub(crate) struct Adoption<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) limits: &'a StoreLimits,
    pub(crate) disk: &'a dyn Disk,
    pub(crate) ledger: &'a Ledger,
}

impl Adoption<'_> {
    pub(crate) fn run(&self) -> Result<(), OpenError> {
        let known = self.ledger.reader()?.packs()?;
        let present = self.layout.list_packs().map_err(OpenError::io("list", &self.layout.packs()))?;
        for (number, length, _) in &known {
            let Some((_, sealed)) = present.iter().find(|pack| pack.0 == *number) else {
                return Err(self.damaged(format!("pack {number} is lost")));
            };
            self.check_length(*number, *sealed, *length)?;
        }
        for (number, sealed) in present {
            let (length, noted) =
                known.iter().find(|pack| pack.0 == number).map_or((0, false), |pack| (pack.1, pack.2));
            if !noted {
                self.make_durable(number, sealed, length)?;
                self.adopt(number, sealed, length)?;
            }
        }
        Ok(())
    }

    /// What is adopted must be durable before the ledger names it. Whoever wrote it may have been killed before its sync,
    /// and after a sync that failed the kernel takes the pages for clean: so the bytes are written once more, as they are
    /// read, and synced then. A sealed pack was synced before it was renamed.
    fn make_durable(&self, number: u32, sealed: bool, from: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        if !sealed {
            let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
            write_again(file.as_ref(), from).map_err(OpenError::io("make durable", &path))?;
        }
        let folder = self.layout.packs();
        self.disk.sync_folder(&folder).map_err(OpenError::io("sync", &folder))
    }

    fn check_length(&self, number: u32, sealed: bool, durable: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        let length = std::fs::metadata(&path).map_err(OpenError::io("look at", &path))?.len();
        if length >= durable {
            return Ok(());
        }
        Err(self.damaged(format!("pack {number} has {length} bytes, should have at least {durable}")))
    }

    /// Applies the whole groups behind what the ledger knows of a pack.
    fn adopt(&self, number: u32, sealed: bool, from: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        let file = self.disk.open_read(&path).map_err(OpenError::io("open", &path))?;
        let length = file.length().map_err(OpenError::io("look at", &path))?;
        let mut scan = Scan::new(file.as_ref(), from, length, self.limits.record_bytes);
        let reader = self.ledger.reader()?;
        let (mut chain, mirror) = (reader.chain()?, reader.mirror()?);
        drop(reader);
        let mut stopped = None;
        loop {
            let end = scan.position();
            match next_proven(&mut scan, file.as_ref(), &chain, &mirror) {
                Ok(Some(group)) => chain = self.apply(&group)?,
                Ok(None) => break,
                Err(torn) => {
                    stopped = Some((end, torn));
                    break;
                }
            }
        }
        match stopped {
            Some((end, torn)) if sealed => {
                Err(self.damaged(format!("sealed pack {number} is damaged at offset {end}: {torn}")))
            }
            Some((end, torn)) => {
                self.check_cut(file.as_ref(), number, (end, length), &torn, &chain)?;
                tracing::info!(pack = number, cut = length - end, why = %torn, "cut the torn tail of the open pack");
                Ok(())
            }
            None if sealed => Ok(self.ledger.seal_pack(number)?),
            None => Ok(()),
        }
    }

    /// A tail may be cut only if nothing that was acknowledged can lie in it. When a process is killed or the power fails,
    /// only a few groups are not yet durable; whatever lies further behind a damaged place was acknowledged once.
    fn check_cut(
        &self,
        file: &dyn DiskFile,
        number: u32,
        (end, length): (u64, u64),
        torn: &TornGroup,
        chain: &Chain,
    ) -> Result<(), OpenError> {
        let path = self.layout.open_pack(number);
        let last = last_record(file, end, length).map_err(OpenError::io("read", &path))?;
        let foreign = matches!(torn, TornGroup::Foreign(_) | TornGroup::Unchained(_));
        if !foreign && last.is_none_or(|last| last <= chain.sequence + UNACKNOWLEDGED) {
            return Ok(());
        }
        Err(self.damaged(format!("pack {number} is damaged at offset {end}, before whole records: {torn}")))
    }

    fn apply(&self, group: &Group) -> Result<Chain, OpenError> {
        self.ledger.apply(&[Applied { record: &group.record, digest: group.digest, end: group.end }])?;
        let header = &group.record.header;
        Ok(Chain { sequence: header.sequence, digest: group.digest, epoch: header.epoch })
    }

    fn damaged(&self, problem: String) -> OpenError {
        OpenError::Damaged { path: self.layout.root().to_owned(), problem }
    }
}

/// Writes the bytes from `from` on where they are, and syncs them.
fn write_again(file: &dyn DiskFile, from: u64) -> io::Result<()> {
    let length = file.length()?;
    if from >= length {
        return Ok(());
    }
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    while at < length {
        let want = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        file.write_all_at(&buffer[..want], at)?;
        at += want as u64;
    }
    file.sync()
}

/// Groups that a writer may have written and not yet made durable: one at the syncer, one before it, one being handed over.
pub(crate) const UNACKNOWLEDGED: u64 = 3;

/// The next group, if it is whole, follows the chain, and its members are what its record says.
fn next_proven(
    scan: &mut Scan<'_>,
    file: &dyn DiskFile,
    chain: &Chain,
    mirror: &str,
) -> Result<Option<Group>, TornGroup> {
    let Some(group) = scan.next_group()? else { return Ok(None) };
    if group.record.header.mirror != mirror {
        return Err(TornGroup::Foreign(group.record.header.mirror));
    }
    if group.record.header.previous != chain.digest {
        return Err(TornGroup::Unchained(group.record.header.sequence));
    }
    prove_members(file, &group.record.members)?;
    Ok(Some(group))
}

/// Why a group behind the durable length is not adopted.
#[derive(Debug, thiserror::Error)]
enum TornGroup {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("it holds records of mirror {0}")]
    Foreign(String),
    #[error("record {0} does not follow the last one that the ledger knows")]
    Unchained(u64),
}
