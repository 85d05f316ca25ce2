//! Giving back the room of what nothing needs any more.
//!
//! A sealed pack keeps its length, its records and its table of contents: only the bytes of members that nothing needs
//! become a hole, zeros that take no room. So nothing is moved, no reader loses its way, the history in the records stays
//! where it is, and a full disk is no hindrance.
//!
//! Order: records say that withdrawn releases are not held any more; readers of what the catalog said before go; then
//! the holes. Killed anywhere, the same again goes on. What is damaged is never taken if it might be the last copy.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Place;
use crate::disk::DiskFile;
use crate::id::{Release, Sha256};
use crate::ledger::{LedgerError, LedgerReader};
use crate::mirror::Mirror;
use crate::open_error::OpenError;
use crate::os;
use crate::pack::{Event, Member, MemberName, Scan, Tail};
use crate::state::{Row, State};
use crate::writer::{Batch, WriteError, wait};

/// File systems give back whole blocks; of a member without one there is nothing to gain.
const FS_BLOCK: u64 = 4096;

/// Events in one group.
const EVENTS: usize = 4096;

/// How many, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Members {
    /// How many.
    pub members: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Members {
    fn add(&mut self, place: Place) {
        self.members += 1;
        self.bytes += place.length;
    }
}

/// What of a pack nothing needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PackShare {
    /// Its number.
    pub pack: u32,
    /// Its length in bytes.
    pub length: u64,
    /// What can be given back.
    pub dead: Members,
    /// What was given back before.
    pub collected: Members,
}

/// What can be collected in a mirror.
#[derive(Debug, Default)]
pub struct Garbage {
    /// The sealed packs.
    pub packs: Vec<PackShare>,
    /// What nothing needs, but for the grace time.
    pub waiting: Members,
    /// When the first of that is over, in seconds since 1970.
    pub until: Option<u64>,
    /// Packs that are left as they are, and why.
    pub left: Vec<String>,
    /// Whether some of them are damaged.
    pub is_damaged: bool,
    /// What nobody can find any more.
    free: Vec<Place>,
    /// What who began earlier may still read; with the release that the ledger has there.
    known: Vec<(Place, Option<Release>)>,
}

impl Garbage {
    /// What can be given back.
    pub fn dead(&self) -> Members {
        let mut all = Members::default();
        self.free.iter().chain(self.known.iter().map(|(place, _)| place)).for_each(|place| all.add(*place));
        all
    }

    /// The length of all sealed packs.
    pub fn length(&self) -> u64 {
        self.packs.iter().map(|pack| pack.length).sum()
    }
}

/// What was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The members.
    pub dead: Members,
}

/// A collection that could not be carried out. What was given back is; the same again goes on.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The ledger cannot be read.
    #[error("cannot read the ledger")]
    Ledger(#[from] LedgerError),
    /// That releases are not held any more could not be recorded.
    #[error("cannot record what is collected")]
    Write(#[from] WriteError),
    /// The writer could not be started.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A pack could not be read or changed.
    #[error("cannot {step} {}", path.display())]
    Pack {
        /// What was tried.
        step: &'static str,
        /// The pack.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file system, or the operating system, cannot do it.
    #[error("the file system of {} cannot give back parts of a file", .0.display())]
    Unsupported(PathBuf),
    /// The lock that readers share cannot be had.
    #[error("cannot see who reads the mirror")]
    Readers(#[from] io::Error),
    /// Somebody reads for a long time.
    #[error(
        "what is to be collected may still be read by a server or an export that began earlier; try again when that is over"
    )]
    Read,
}

/// Finds what nothing needs: second copies of crate files; of releases that were withdrawn or excluded at least `grace` seconds before
/// `now` the bytes; and advisory databases that another one took the place of so long ago.
pub fn find_garbage(mirror: &Mirror, grace: u64, now: u64) -> Result<Garbage, CollectError> {
    let ledger = mirror.ledger().reader()?;
    let databases = Databases::of(&ledger)?;
    let mut search = Search { mirror, ledger: &ledger, databases, grace, now, found: Garbage::default() };
    for (number, length, is_sealed) in ledger.packs()? {
        if is_sealed {
            search.pack(number, length)?;
        }
    }
    Ok(search.found)
}

/// When advisory databases ceased to be those of the mirror.
struct Databases {
    needed: Vec<Sha256>,
    superseded: HashMap<Sha256, u64>,
    /// For those that never came to be.
    otherwise: u64,
}

impl Databases {
    fn of(ledger: &LedgerReader) -> Result<Databases, LedgerError> {
        let now = ledger.generation()?;
        let otherwise = now.as_ref().map_or(u64::MAX, |now| now.published_at);
        let needed = now.and_then(|now| now.advisories).into_iter().chain(ledger.next_advisories()?);
        let needed = needed.map(|database| database.sha256).collect();
        let (mut superseded, mut last) = (HashMap::new(), None);
        for number in ledger.generation_numbers(0..=u64::MAX)? {
            let Some(generation) = ledger.generation_at(number)? else { continue };
            let database = generation.advisories.map(|database| database.sha256);
            if let Some(before) = last.filter(|_| last != database) {
                superseded.insert(before, generation.published_at);
            }
            last = database;
        }
        Ok(Databases { needed, superseded, otherwise })
    }

    /// Since when nothing needs one; none if something does.
    fn dead_since(&self, archive: &Sha256) -> Option<u64> {
        let is_needed = self.needed.contains(archive);
        (!is_needed).then(|| self.superseded.get(archive).copied().unwrap_or(self.otherwise))
    }
}

struct Search<'a> {
    mirror: &'a Mirror,
    ledger: &'a LedgerReader,
    databases: Databases,
    grace: u64,
    now: u64,
    found: Garbage,
}

/// What is to become of a member.
enum Verdict {
    Needed,
    /// Nothing needs it since then, and nobody can find it any more.
    Free {
        since: u64,
    },
    /// Nothing needs it since then, but who began earlier may know it; with the release that the ledger still has there.
    Known {
        since: u64,
        release: Option<Release>,
    },
}

impl Search<'_> {
    fn pack(&mut self, number: u32, durable: u64) -> Result<(), CollectError> {
        let path = self.mirror.layout().sealed_pack(number);
        let failed = |step: &'static str| {
            let path = path.clone();
            move |source| CollectError::Pack { step, path, source }
        };
        let file = self.mirror.disk().open_read(&path).map_err(failed("open"))?;
        let metadata = std::fs::metadata(&path).map_err(failed("look at"))?;
        let mut share = PackShare { pack: number, length: metadata.len(), ..PackShare::default() };
        if os::has_other_names(&metadata) {
            self.found.left.push(format!(
                "pack {number} has another name somewhere (a hard link): what lies there would change as well"
            ));
            self.found.packs.push(share);
            return Ok(());
        }
        let before = (self.found.free.len(), self.found.known.len(), self.found.waiting, self.found.until);
        let scan = Scan::new(file.as_ref(), 0, durable, self.mirror.limits().record_bytes);
        let (end, tail) = scan.for_each(|group| {
            group.record.members.iter().try_for_each(|member| self.member(file.as_ref(), number, member, &mut share))
        })?;
        if end < durable || matches!(tail, Tail::Torn(_)) {
            self.found.free.truncate(before.0);
            self.found.known.truncate(before.1);
            (self.found.waiting, self.found.until) = (before.2, before.3);
            share.dead = Members::default();
            self.found.is_damaged = true;
            self.found.left.push(format!("pack {number} is damaged at offset {end}; `crateferry verify` says more"));
        }
        self.found.packs.push(share);
        Ok(())
    }

    fn member(
        &mut self,
        file: &dyn DiskFile,
        pack: u32,
        member: &Member,
        share: &mut PackShare,
    ) -> Result<(), CollectError> {
        let place = Place { pack, offset: member.offset, length: member.length };
        let verdict = self.judge(member, place)?;
        let (Verdict::Free { since } | Verdict::Known { since, .. }) = verdict else { return Ok(()) };
        if !has_block(place) {
            return Ok(());
        }
        let path = || self.mirror.layout().sealed_pack(pack);
        if is_blank(file, place).map_err(|source| CollectError::Pack { step: "read", path: path(), source })? {
            share.collected.add(place);
            return Ok(());
        }
        let due = since.saturating_add(self.grace);
        if due > self.now {
            self.found.waiting.add(place);
            self.found.until = Some(self.found.until.map_or(due, |until| until.min(due)));
            return Ok(());
        }
        share.dead.add(place);
        match verdict {
            Verdict::Known { release, .. } => self.found.known.push((place, release)),
            _ => self.found.free.push(place),
        }
        Ok(())
    }

    fn judge(&self, member: &Member, place: Place) -> Result<Verdict, LedgerError> {
        match MemberName::parse(&member.name) {
            Some(MemberName::Crate(id)) => self.crate_file(Release { id, checksum: member.sha256 }, place),
            Some(MemberName::Advisories(archive)) => {
                let since = self.databases.dead_since(&archive);
                Ok(since.map_or(Verdict::Needed, |since| Verdict::Free { since }))
            }
            _ => Ok(Verdict::Needed),
        }
    }

    fn crate_file(&self, release: Release, place: Place) -> Result<Verdict, LedgerError> {
        let Some(row) = self.ledger.release(&release)? else { return Ok(Verdict::Needed) };
        let Row { state, place: held, last, .. } = row;
        let is_out = matches!(state, State::Withdrawn | State::Excluded);
        match held {
            Some(held) if held == place => {
                // What the index still has a row for is needed until the next publication.
                if !is_out || self.ledger.is_dirty(&release.id.name)? {
                    return Ok(Verdict::Needed);
                }
                Ok(Verdict::Known { since: last, release: Some(release) })
            }
            // Another copy counts, if it is one.
            Some(held) => match self.mirror.packs().hash(held) {
                Ok(found) if found == release.checksum => Ok(Verdict::Free { since: 0 }),
                Ok(_) | Err(_) => Ok(Verdict::Needed),
            },
            // Said to be let go, or damaged and of no use to anybody.
            None if is_out => Ok(Verdict::Known { since: 0, release: None }),
            None => Ok(Verdict::Needed),
        }
    }
}

/// Whether a whole block of the file system lies in it.
fn has_block(place: Place) -> bool {
    let end = place.offset + place.length;
    place.offset.next_multiple_of(FS_BLOCK) + FS_BLOCK <= end
}

/// Whether nothing but zeros lies at a place.
pub(crate) fn is_blank(file: &dyn DiskFile, place: Place) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, end) = (place.offset, place.offset + place.length);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..want], at)?;
        if buffer[..want].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += want as u64;
    }
    Ok(true)
}

/// Gives back what was found. Waits at most so long for those who may still read it.
pub fn collect(mirror: &Mirror, garbage: Garbage, patience: Duration, now: u64) -> Result<Collected, CollectError> {
    let mut collected = Collected::default();
    protect(mirror, &garbage.packs)?;
    if garbage.dead().members == 0 {
        return Ok(collected);
    }
    see_that_it_works(mirror)?;
    let Garbage { free, known, .. } = garbage;
    // This needs no room, and may make some for the records.
    punch(mirror, &free, &mut collected)?;
    if known.is_empty() {
        return Ok(collected);
    }
    let let_go: Vec<Release> = known.iter().filter_map(|(_, release)| release.clone()).collect();
    record(mirror, &let_go, now)?;
    mirror.refresh_catalog()?;
    if !mirror.wait_for_earlier_readers::<CollectError>(patience)? {
        return Err(CollectError::Read);
    }
    let places: Vec<Place> = known.into_iter().map(|(place, _)| place).collect();
    punch(mirror, &places, &mut collected)?;
    Ok(collected)
}

/// A collection that was killed may have left a pack that can be written.
fn protect(mirror: &Mirror, packs: &[PackShare]) -> Result<(), CollectError> {
    packs.iter().try_for_each(|pack| {
        let path = mirror.layout().sealed_pack(pack.pack);
        let is_protected = std::fs::metadata(&path).map(|metadata| metadata.permissions().readonly());
        let protected = match is_protected {
            Ok(true) => Ok(()),
            Ok(false) => mirror.disk().make_read_only(&path),
            Err(error) => Err(error),
        };
        protected.map_err(|source| CollectError::Pack { step: "protect", path, source })
    })
}

/// Tries it with a file that has no name.
fn see_that_it_works(mirror: &Mirror) -> Result<(), CollectError> {
    let path = mirror.layout().tmp();
    let attempt = || {
        let file = os::anonymous_file(&path)?;
        os::write_all_at(&file, &[1; 2 * FS_BLOCK as usize], 0)?;
        os::punch_hole(&file, 0, FS_BLOCK)
    };
    match attempt() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(CollectError::Unsupported(path)),
        // A full disk is what this is there for.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        other => other.map_err(|source| CollectError::Pack { step: "write to", path, source }),
    }
}

fn record(mirror: &Mirror, releases: &[Release], now: u64) -> Result<(), CollectError> {
    if releases.is_empty() {
        return Ok(());
    }
    let writer = mirror.writer()?;
    for releases in releases.chunks(EVENTS) {
        let mut batch = Batch::default();
        for release in releases {
            let reason = "collected".to_owned();
            batch.add(Event::Lost { release: release.clone().into(), reason, at: now });
        }
        let pending = writer.submit(batch);
        wait(writer.flush())?;
        wait(pending)?;
    }
    Ok(())
}

/// Makes holes of places, pack by pack. A pack may be written for just that long.
fn punch(mirror: &Mirror, places: &[Place], collected: &mut Collected) -> Result<(), CollectError> {
    for places in places.chunk_by(|one, other| one.pack == other.pack) {
        let path = mirror.layout().sealed_pack(places[0].pack);
        let disk = mirror.disk();
        let attempt = || {
            disk.make_writable(&path)?;
            let punched = disk.open(&path).and_then(|file| {
                places.iter().try_for_each(|place| file.punch_hole(place.offset, place.length))?;
                file.sync()
            });
            disk.make_read_only(&path).and(punched)
        };
        attempt().map_err(|source| CollectError::Pack { step: "make holes in", path: path.clone(), source })?;
        places.iter().for_each(|place| collected.dead.add(*place));
    }
    Ok(())
}
