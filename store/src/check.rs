//! Scrubbing: reading everything that is held and comparing it with its digests.
//!
//! Packs are read once each, on several threads: every member against its SHA-256, every record against the one before,
//! every sealed pack against its BLAKE3. Then the catalog: every held release must be a member that was found, every
//! served text must have its BLAKE3 and promise only what is held, and all of them together the generation's digest. At
//! last the databases themselves: every page of the ledger, every row of the catalog, and whether they agree.
//!
//! Less than all of it is a sample of what the catalog names, or as many packs as there is time for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use crate::Place;
use crate::disk::DiskFile;
use crate::entry::parse_index_file;
use crate::id::{Blake3, CrateName, Release, ReleaseId};
use crate::ledger::{Held, Ledger, LedgerError, Text, guarded, root_of};
use crate::mirror::{Lock, MirrorReader, describe_tail};
use crate::pack::{ContentsLine, Group, Member, MemberName, Scan, Tail, digest_prefix, hash_range, sealing};

/// Rows of the catalog that are compared together.
const CHUNK: usize = 4096;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// One of so many held releases and served index files, evenly spread from one that chance picks.
    OneOf {
        /// Of how many.
        count: u64,
        /// The first that is read: less than `count`.
        first: u64,
    },
    /// Packs from this one on, until it is this late; the catalog and the databases once the last pack is read.
    Until {
        /// The first pack.
        from: u32,
        /// When to begin no further packs.
        end: Instant,
    },
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is damaged: a pack, a member, a release, an index file.
    pub object: String,
    /// How.
    pub problem: String,
    /// What that means, and for whom.
    pub means: &'static str,
    /// The release whose crate file it is.
    #[serde(skip)]
    pub release: Option<Release>,
}

/// What findings mean.
mod means {
    pub const CRATE: &str = "who asks for it gets an error and never the wrong bytes; `verify --repair` replaces it";
    pub const DEAD: &str = "nothing that is served needs it";
    pub const TEXT: &str = "if it is an index file that is served, cargo gets an error for that crate alone";
    pub const MEMBER: &str = "crate files and index are not touched by it";
    pub const RECORD: &str =
        "all goes on while ledger and catalog are there; `rebuild` cannot make them again from this pack";
    pub const PACK: &str =
        "what lies in it cannot be had until it is put back from a copy, or `verify --repair` replaced it";
    pub const INDEX: &str = "cargo gets an error for this crate, and for no other";
    pub const PROMISE: &str = "cargo cannot download this release until it is held again";
    pub const GENERATION: &str = "bundles made from it are refused; `rebuild` makes the databases again";
    pub const CATALOG: &str = "servers derive it again by themselves; `rebuild` does it at once";
    pub const LEDGER: &str = "no sync and no bundle can go on; `rebuild` makes it again from the packs";
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Packs read.
    pub packs: u64,
    /// Members hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Held releases compared.
    pub releases: u64,
    /// Served index files compared.
    pub index_files: u64,
    /// Served rows whose bytes are held.
    pub rows: u64,
    /// What is not as it should be, in order.
    pub findings: Vec<Finding>,
    /// Damaged members that nothing needs, because what they were is held elsewhere, or not at all any more.
    pub dead: Vec<Finding>,
    /// Held releases whose bytes are damaged, or not where they should be, and how.
    #[serde(skip)]
    pub lost: Vec<(Release, String)>,
    /// The pack to go on with, if there was no time for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_pack: Option<u32>,
    /// Why the ledger was not looked at, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_not_read: Option<String>,
}

/// A scrub that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The catalog cannot be read.
    #[error("cannot read the catalog")]
    Catalog(#[from] LedgerError),
    /// The packs cannot be listed.
    #[error("cannot list the packs")]
    List(#[source] std::io::Error),
}

/// Reads what is held, as far as `extent` says. `progress` is told of every member's bytes as they were hashed.
pub fn verify(
    mirror: &MirrorReader,
    extent: Extent,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let mut verification = match extent {
        Extent::All => check_packs(mirror, 0, None, progress)?,
        Extent::Until { from, end } => check_packs(mirror, from, Some(end), progress)?,
        Extent::OneOf { count, first } => check_sample(mirror, (count, first), progress)?,
    };
    if verification.next_pack.is_none() {
        let one_of = if let Extent::OneOf { count, first } = extent { (count, first) } else { (1, 0) };
        check_index(mirror, one_of, &mut verification)?;
    }
    if verification.next_pack.is_none() && !matches!(extent, Extent::OneOf { .. }) {
        check_databases(mirror, &mut verification)?;
    }
    verification.findings.sort();
    verification.dead.sort();
    Ok(verification)
}

/// Reads the packs from one on that are read at once, and compares the held releases that lie in them; nothing else.
pub fn verify_packs(
    mirror: &MirrorReader,
    from: u32,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    check_packs(mirror, from, Some(Instant::now()), progress)
}

/// Reads packs from one on, until it is late.
fn check_packs(
    mirror: &MirrorReader,
    from: u32,
    end: Option<Instant>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let mut packs = mirror.layout.list_packs().map_err(CheckError::List)?;
    packs.retain(|(number, _)| *number >= from);
    let mut durable: BTreeMap<u32, u64> =
        mirror.catalog.summary()?.map_or_else(BTreeMap::new, |summary| summary.packs.into_iter().collect());
    durable.retain(|number, _| *number >= from);
    let scrub = Scrub {
        mirror,
        progress,
        durable: &durable,
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        matched: AtomicU64::new(0),
    };
    let mut checked: Vec<PackCheck> = Vec::new();
    let at_once = if end.is_some() { rayon::current_num_threads() } else { packs.len().max(1) };
    let mut rest = packs.as_slice();
    while !rest.is_empty() && (checked.is_empty() || end.is_none_or(|end| Instant::now() < end)) {
        let (now, later) = rest.split_at(at_once.min(rest.len()));
        checked.par_extend(now.par_iter().map(|&(number, sealed)| scrub.pack(number, sealed)));
        rest = later;
    }
    let next_pack = rest.first().map(|(number, _)| *number);
    let mut verification = Verification {
        packs: checked.len() as u64,
        objects: scrub.objects.into_inner(),
        bytes: scrub.bytes.into_inner(),
        next_pack,
        ..Verification::default()
    };
    let until = next_pack.unwrap_or(u32::MAX);
    for lost in durable.keys().filter(|number| **number < until && !packs.iter().any(|(there, _)| there == *number)) {
        let problem = "is lost".into();
        verification.findings.push(Finding {
            object: format!("pack {lost}"),
            problem,
            means: means::PACK,
            release: None,
        });
    }
    chain_findings(&checked, &mut verification.findings);
    for check in checked {
        verification.findings.extend(check.findings);
        verification.dead.extend(check.dead);
    }
    check_releases(mirror, (from, until), scrub.matched.into_inner(), &mut verification)?;
    Ok(verification)
}

/// What was seen of one pack.
#[derive(Default)]
struct PackCheck {
    number: u32,
    findings: Vec<Finding>,
    /// Damaged members that nothing needs.
    dead: Vec<Finding>,
    /// Some member is damaged, which is said of it.
    has_damaged: bool,
    first_previous: Option<(u64, Blake3)>,
    last: Option<(u64, Blake3)>,
    contents: Vec<ContentsLine>,
}

struct Scrub<'a> {
    mirror: &'a MirrorReader,
    progress: &'a (dyn Fn(u64) + Sync),
    /// How long each pack is at least.
    durable: &'a BTreeMap<u32, u64>,
    objects: AtomicU64,
    bytes: AtomicU64,
    /// Sound members that lie just where the catalog says that a release lies.
    matched: AtomicU64,
}

impl Scrub<'_> {
    fn pack(&self, number: u32, sealed: bool) -> PackCheck {
        let mut check = PackCheck { number, ..PackCheck::default() };
        if let Err(error) = self.read_pack(sealed, &mut check) {
            check.find(format!("pack {number}"), format!("cannot be read: {error}"), means::PACK);
        }
        check
    }

    fn read_pack(&self, sealed: bool, check: &mut PackCheck) -> std::io::Result<()> {
        let file = self.open(check.number, sealed)?;
        let length = file.length()?;
        let scan = Scan::new(file.as_ref(), 0, length, self.mirror.limits.record_bytes);
        let (end, tail) = scan.for_each(|group| self.group(file.as_ref(), &group, check))?;
        let pack = format!("pack {}", check.number);
        match tail {
            Tail::Sealed { bytes, blake3 } => {
                let found = digest_prefix(file.as_ref(), bytes)?;
                if found != blake3 && !check.has_damaged {
                    let problem = format!("BLAKE3 is {found}, its table of contents says {blake3}");
                    check.find(pack.clone(), problem, means::RECORD);
                }
                if !ends_with(file.as_ref(), bytes, &sealing(&check.contents, bytes, blake3))? {
                    check.find(pack, "its table of contents is not that of its groups".into(), means::RECORD);
                }
            }
            Tail::Clean if sealed => {
                check.find(pack, "is sealed, but has no table of contents".into(), means::RECORD);
            }
            Tail::Clean if end < self.durable.get(&check.number).copied().unwrap_or(0) => {
                check.find(pack, format!("ends at {end}, before what the catalog knows to be durable"), means::PACK);
            }
            Tail::Clean => {}
            // The open pack may be written at this moment; what follows its last whole group is not held yet.
            Tail::Torn(_) if !sealed && end >= self.durable.get(&check.number).copied().unwrap_or(0) => {}
            Tail::Torn(_) => {
                let why = describe_tail(&tail).unwrap_or_default();
                check.find(pack, format!("is damaged at offset {end}: {why}"), means::RECORD);
            }
        }
        Ok(())
    }

    /// Opens a pack, which may be sealed, and so renamed, at this moment.
    fn open(&self, number: u32, sealed: bool) -> std::io::Result<Arc<dyn DiskFile>> {
        let (disk, layout) = (&self.mirror.disk, &self.mirror.layout);
        match disk.open_read(&layout.pack(number, sealed)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !sealed => {
                disk.open_read(&layout.sealed_pack(number))
            }
            other => other,
        }
    }

    fn group(&self, file: &dyn DiskFile, group: &Group, check: &mut PackCheck) -> std::io::Result<()> {
        let header = &group.record.header;
        let follows = check.last.is_none_or(|(_, digest)| digest == header.previous);
        if !follows {
            let problem = format!("record {} does not follow", header.sequence);
            check.find(format!("pack {}", check.number), problem, means::RECORD);
        }
        check.first_previous.get_or_insert((header.sequence, header.previous));
        check.last = Some((header.sequence, group.digest));
        check.contents.push(ContentsLine::of(group));
        for member in &group.record.members {
            self.member(file, member, check)?;
        }
        Ok(())
    }

    fn member(&self, file: &dyn DiskFile, member: &Member, check: &mut PackCheck) -> std::io::Result<()> {
        let found = hash_range(file, member.offset, member.length)?;
        if found != member.sha256 {
            let problem = format!(
                "in pack {} at offset {}: SHA-256 is {found}, should be {}",
                check.number, member.offset, member.sha256
            );
            check.has_damaged = true;
            let object = describe(&member.name);
            match MemberName::parse(&member.name) {
                Some(MemberName::Crate(id)) => {
                    let (is_held, release) =
                        (self.is_held(check.number, member)?, Release { id, checksum: member.sha256 });
                    let (found, means) =
                        if is_held { (&mut check.findings, means::CRATE) } else { (&mut check.dead, means::DEAD) };
                    found.push(Finding { object, problem, means, release: Some(release) });
                }
                Some(MemberName::Index(_)) => check.find(object, problem, means::TEXT),
                _ => check.find(object, problem, means::MEMBER),
            }
        } else if self.is_held(check.number, member)? {
            self.matched.fetch_add(1, Ordering::Relaxed);
        }
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(member.length, Ordering::Relaxed);
        (self.progress)(member.length);
        Ok(())
    }
}

impl Scrub<'_> {
    /// Whether the catalog says that the release which the member is lies there.
    fn is_held(&self, pack: u32, member: &Member) -> std::io::Result<bool> {
        let Some(MemberName::Crate(id)) = MemberName::parse(&member.name) else { return Ok(false) };
        let place = Place { pack, offset: member.offset, length: member.length };
        let held = self.mirror.catalog.held(&Release { id, checksum: member.sha256 }).map_err(std::io::Error::other)?;
        Ok(held.is_some_and(|held| held.place == place))
    }
}

impl PackCheck {
    fn find(&mut self, object: String, problem: String, means: &'static str) {
        self.findings.push(Finding { object, problem, means, release: None });
    }
}

/// Whether a file has just this from an offset on.
fn ends_with(file: &dyn DiskFile, offset: u64, end: &[u8]) -> std::io::Result<bool> {
    if file.length()? != offset + end.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; end.len()];
    file.read_exact_at(&mut found, offset)?;
    Ok(found == end)
}

fn describe(member: &str) -> String {
    match MemberName::parse(member) {
        Some(MemberName::Crate(id)) => format!("crate file {id}"),
        _ => member.to_owned(),
    }
}

/// Records must follow each other across packs too.
fn chain_findings(checked: &[PackCheck], findings: &mut Vec<Finding>) {
    for pair in checked.windows(2) {
        let (Some((last, digest)), Some((next, previous))) = (pair[0].last, pair[1].first_previous) else { continue };
        if digest != previous {
            let problem = format!("record {next} does not follow record {last} of pack {}", pair[0].number);
            findings.push(Finding {
                object: format!("pack {}", pair[1].number),
                problem,
                means: means::RECORD,
                release: None,
            });
        }
    }
}

/// Every held release that lies in one of these packs must be a sound member that was just read. If the numbers agree,
/// each one is; else each place is read again to name those that are not.
fn check_releases(
    mirror: &MirrorReader,
    (from, until): (u32, u32),
    matched: u64,
    verification: &mut Verification,
) -> Result<(), CheckError> {
    let is_meant = |held: &Held| (from..until).contains(&held.place.pack);
    let mut count = mirror.catalog.counts()?.1;
    if (from, until) != (0, u32::MAX) {
        count = 0;
        each_held(mirror, |held| count += held.iter().filter(|held| is_meant(held)).count() as u64)?;
    }
    verification.releases = count;
    if count == matched {
        return Ok(());
    }
    each_held(mirror, |held| {
        let meant = held.par_iter().filter(|held| is_meant(held));
        verification.lose(meant.filter_map(|held| check_place(mirror, held)).collect());
    })
}

/// Reads one of so many held releases.
fn check_sample(
    mirror: &MirrorReader,
    (one_of, first): (u64, u64),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let (mut verification, mut at) = (Verification::default(), 0);
    each_held(mirror, |held| {
        let picked: Vec<&Held> =
            (at..).zip(held).filter(|(at, _)| at % one_of == first).map(|(_, held)| held).collect();
        at += held.len() as u64;
        let look = |held: &&Held| {
            let found = check_place(mirror, held);
            progress(held.place.length);
            found
        };
        verification.releases += picked.len() as u64;
        verification.objects += picked.len() as u64;
        verification.bytes += picked.iter().map(|held| held.place.length).sum::<u64>();
        verification.lose(picked.par_iter().filter_map(look).collect());
    })?;
    Ok(verification)
}

/// Calls `look` with all held releases, some at a time.
fn each_held(mirror: &MirrorReader, mut look: impl FnMut(&[Held])) -> Result<(), CheckError> {
    let mut after: Option<Release> = None;
    loop {
        let held = mirror.catalog.held_after(after.as_ref(), CHUNK)?;
        let Some(last) = held.last() else { return Ok(()) };
        after = Some(last.release.clone());
        look(&held);
    }
}

/// What is wrong with the bytes of a held release.
fn check_place(mirror: &MirrorReader, held: &Held) -> Option<(Release, String)> {
    let place = held.place;
    let problem = match mirror.packs.hash(place) {
        Ok(found) if found == held.release.checksum => return None,
        Ok(found) => {
            format!("its bytes should be in pack {} at offset {}, where SHA-256 is {found}", place.pack, place.offset)
        }
        Err(error) => error.to_string(),
    };
    Some((held.release.clone(), problem))
}

impl Verification {
    fn lose(&mut self, found: Vec<(Release, String)>) {
        let finding = |(release, problem): &(Release, String)| Finding {
            object: format!("release {release}"),
            problem: problem.clone(),
            means: means::CRATE,
            release: Some(release.clone()),
        };
        self.findings.extend(found.iter().map(finding));
        self.lost.extend(found);
    }

    fn find(&mut self, object: &str, problem: String, means: &'static str) {
        self.findings.push(Finding { object: object.to_owned(), problem, means, release: None });
    }
}

/// Every row of the catalog, every page of the ledger, and whether they agree about what is held. The ledger takes being
/// the mirror's writer for that long; where another process is it, or nothing may be written, it is not looked at.
fn check_databases(mirror: &MirrorReader, verification: &mut Verification) -> Result<(), CheckError> {
    if let Err(error) = mirror.catalog.check(|| {}) {
        verification.find("catalog", text_of(&error), means::CATALOG);
        return Ok(());
    }
    let _lock = match Lock::take(&mirror.layout) {
        Ok(lock) => lock,
        Err(error) => {
            verification.ledger_not_read = Some(text_of(&error));
            return Ok(());
        }
    };
    let newer = mirror.catalog.newer()?;
    let catalog = newer.as_ref().unwrap_or(&mirror.catalog);
    let compare = |verification: &mut Verification| -> Result<(), LedgerError> {
        let database = Ledger::open_checked(&mirror.layout.ledger(), mirror.limits.ledger_cache)?;
        let ledger = database.reader()?;
        // A writer that was killed leaves the catalog behind; the next one brings it along.
        let is_behind = catalog.summary()?.is_none_or(|summary| Ok(summary.tally) != ledger.tally().map_err(drop));
        let mut held = 0;
        ledger.each_release(|release, row| {
            let Some(place) = row.place else { return Ok(()) };
            held += 1;
            if !is_behind && catalog.held(&release)?.is_none_or(|known| known.place != place) {
                verification.find("catalog", format!("it does not know where {release} lies"), means::CATALOG);
            }
            Ok(())
        })?;
        let known = catalog.counts()?.1;
        if !is_behind && held != known {
            let problem = format!("it has {known} held releases, and the ledger {held}");
            verification.find("catalog", problem, means::CATALOG);
        }
        Ok(())
    };
    if let Err(error) = guarded(&mirror.layout.ledger(), || compare(verification)) {
        verification.find("ledger", text_of(&error), means::LEDGER);
    }
    Ok(())
}

/// An error and its causes in one line.
fn text_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Every served text must be sound, and all of them together what the generation says.
fn check_index(mirror: &MirrorReader, one_of: (u64, u64), verification: &mut Verification) -> Result<(), CheckError> {
    let files = check_index_files(mirror, one_of, verification)?;
    let summary = mirror.catalog.summary()?;
    if let Some(generation) = summary.and_then(|summary| summary.generation) {
        let root = root_of(files);
        if root != generation.digest {
            let problem = format!("its index files make {root}, its record says {}", generation.digest);
            verification.find(&format!("generation {}", generation.number), problem, means::GENERATION);
        }
    }
    Ok(())
}

/// Checks one of so many served texts; returns what the generation's digest is made of.
fn check_index_files(
    mirror: &MirrorReader,
    (one_of, first): (u64, u64),
    verification: &mut Verification,
) -> Result<Vec<(String, Blake3)>, CheckError> {
    let mut served = Vec::new();
    mirror.catalog.each_index_file(|name, text| {
        served.push((name, text));
        Ok::<(), CheckError>(())
    })?;
    let is_picked = |(at, _): &(u64, _)| at % one_of == first;
    let picked: Vec<&(CrateName, Text)> = (0..).zip(&served).filter(is_picked).map(|(_, file)| file).collect();
    for chunk in picked.chunks(CHUNK) {
        let checks: Vec<(u64, Vec<Finding>)> = chunk
            .par_iter()
            .map(|(name, text)| check_index_file(mirror, name, text))
            .collect::<Result<_, LedgerError>>()?;
        for (rows, findings) in checks {
            verification.rows += rows;
            verification.findings.extend(findings);
        }
    }
    verification.index_files = picked.len() as u64;
    Ok(served.into_iter().map(|(name, text)| (name.index_path(), text.digests.blake3)).collect())
}

fn check_index_file(mirror: &MirrorReader, name: &CrateName, text: &Text) -> Result<(u64, Vec<Finding>), LedgerError> {
    let object = format!("index file {}", name.index_path());
    let bytes = match mirror.packs.text(text.place, text.digests.blake3) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Ok((0, vec![Finding { object, problem: error.to_string(), means: means::INDEX, release: None }]));
        }
    };
    let mut findings = Vec::new();
    let mut rows = 0;
    for entry in parse_index_file(name, &bytes).entries {
        let id = ReleaseId { name: entry.name, version: entry.version };
        let release = Release { id, checksum: entry.checksum };
        match mirror.catalog.held(&release)? {
            Some(_) => rows += 1,
            None => findings.push(Finding {
                object: object.clone(),
                problem: format!("promises {release}, whose bytes are not held"),
                means: means::PROMISE,
                release: Some(release),
            }),
        }
    }
    Ok((rows, findings))
}
