//! Scrubbing: reading everything that is held and comparing it with its digests.
//!
//! Packs are read once each, on several threads: every member against its SHA-256, every record against the one before,
//! every sealed pack against its BLAKE3. Then the catalog: every held release must be a member that was found, every
//! served text must have its BLAKE3 and promise only what is held, and all of them together the generation's digest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::Place;
use crate::disk::DiskFile;
use crate::entry::parse_index_file;
use crate::id::{Blake3, CrateName, Release, ReleaseId};
use crate::ledger::{Held, LedgerError, Text, root_of};
use crate::mirror::{MirrorReader, describe_tail};
use crate::pack::{ContentsLine, Group, Member, MemberName, Scan, Tail, digest_prefix, hash_range, sealing};

/// Rows of the catalog that are compared together.
const CHUNK: usize = 4096;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is damaged: a pack, a member, a release, an index file.
    pub object: String,
    /// How.
    pub problem: String,
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

/// Reads everything that is held. `progress` is told of every member's bytes as they were hashed.
pub fn verify(mirror: &MirrorReader, progress: &(dyn Fn(u64) + Sync)) -> Result<Verification, CheckError> {
    let packs = mirror.layout.list_packs().map_err(CheckError::List)?;
    let durable: BTreeMap<u32, u64> =
        mirror.catalog.summary()?.map_or_else(BTreeMap::new, |summary| summary.packs.into_iter().collect());
    let scrub = Scrub {
        mirror,
        progress,
        durable: &durable,
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        matched: AtomicU64::new(0),
    };
    let checked: Vec<PackCheck> = packs.par_iter().map(|&(number, sealed)| scrub.pack(number, sealed)).collect();
    let mut verification = Verification {
        packs: packs.len() as u64,
        objects: scrub.objects.into_inner(),
        bytes: scrub.bytes.into_inner(),
        ..Verification::default()
    };
    for lost in durable.keys().filter(|number| !packs.iter().any(|(present, _)| present == *number)) {
        verification.findings.push(Finding { object: format!("pack {lost}"), problem: "is lost".into() });
    }
    chain_findings(&checked, &mut verification.findings);
    verification.findings.extend(checked.into_iter().flat_map(|check| check.findings));
    check_releases(mirror, scrub.matched.into_inner(), &mut verification)?;
    check_index(mirror, &mut verification)?;
    verification.findings.sort();
    Ok(verification)
}

/// What was seen of one pack.
#[derive(Default)]
struct PackCheck {
    number: u32,
    findings: Vec<Finding>,
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
            check.find(format!("pack {number}"), format!("cannot be read: {error}"));
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
                if found != blake3 {
                    check.find(pack.clone(), format!("BLAKE3 is {found}, its table of contents says {blake3}"));
                }
                if !ends_with(file.as_ref(), bytes, &sealing(&check.contents, bytes, blake3))? {
                    check.find(pack, "its table of contents is not that of its groups".into());
                }
            }
            Tail::Clean if sealed => check.find(pack, "is sealed, but has no table of contents".into()),
            Tail::Clean if end < self.durable.get(&check.number).copied().unwrap_or(0) => {
                check.find(pack, format!("ends at {end}, before what the catalog knows to be durable"));
            }
            Tail::Clean => {}
            // The open pack may be written at this moment; what follows its last whole group is not held yet.
            Tail::Torn(_) if !sealed && end >= self.durable.get(&check.number).copied().unwrap_or(0) => {}
            Tail::Torn(_) => {
                let why = describe_tail(&tail).unwrap_or_default();
                check.find(pack, format!("is damaged at offset {end}: {why}"));
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
            check.find(format!("pack {}", check.number), format!("record {} does not follow", header.sequence));
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
            check.find(describe(&member.name), problem);
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
    fn find(&mut self, object: String, problem: String) {
        self.findings.push(Finding { object, problem });
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
            findings.push(Finding { object: format!("pack {}", pair[1].number), problem });
        }
    }
}

/// Every held release must be a sound member that was just read. If the numbers agree, each one is; else each place is
/// read again to name those that are not.
fn check_releases(mirror: &MirrorReader, matched: u64, verification: &mut Verification) -> Result<(), CheckError> {
    verification.releases = mirror.catalog.counts()?.1;
    if verification.releases == matched {
        return Ok(());
    }
    let mut after: Option<Release> = None;
    loop {
        let held = mirror.catalog.held_after(after.as_ref(), CHUNK)?;
        let Some(last) = held.last() else { return Ok(()) };
        after = Some(last.release.clone());
        let findings: Vec<Finding> = held.par_iter().filter_map(|held| check_place(mirror, held)).collect();
        verification.findings.extend(findings);
    }
}

fn check_place(mirror: &MirrorReader, held: &Held) -> Option<Finding> {
    let (object, place) = (format!("release {}", held.release), held.place);
    let problem = match mirror.packs.hash(place) {
        Ok(found) if found == held.release.checksum => return None,
        Ok(found) => {
            format!("its bytes should be in pack {} at offset {}, where SHA-256 is {found}", place.pack, place.offset)
        }
        Err(error) => error.to_string(),
    };
    Some(Finding { object, problem })
}

/// Every served text must be sound, and all of them together what the generation says.
fn check_index(mirror: &MirrorReader, verification: &mut Verification) -> Result<(), CheckError> {
    let files = check_index_files(mirror, verification)?;
    let summary = mirror.catalog.summary()?;
    if let Some(generation) = summary.and_then(|summary| summary.generation) {
        let root = root_of(files);
        if root != generation.digest {
            let problem = format!("its index files make {root}, its record says {}", generation.digest);
            verification.findings.push(Finding { object: format!("generation {}", generation.number), problem });
        }
    }
    Ok(())
}

/// Checks every served text; returns what the generation's digest is made of.
fn check_index_files(
    mirror: &MirrorReader,
    verification: &mut Verification,
) -> Result<Vec<(String, Blake3)>, CheckError> {
    let mut served = Vec::new();
    mirror.catalog.each_index_file(|name, text| {
        served.push((name, text));
        Ok::<(), CheckError>(())
    })?;
    for chunk in served.chunks(CHUNK) {
        let checks: Vec<(u64, Vec<Finding>)> = chunk
            .par_iter()
            .map(|(name, text)| check_index_file(mirror, name, text))
            .collect::<Result<_, LedgerError>>()?;
        for (rows, findings) in checks {
            verification.rows += rows;
            verification.findings.extend(findings);
        }
    }
    verification.index_files = served.len() as u64;
    Ok(served.into_iter().map(|(name, text)| (name.index_path(), text.digests.blake3)).collect())
}

fn check_index_file(mirror: &MirrorReader, name: &CrateName, text: &Text) -> Result<(u64, Vec<Finding>), LedgerError> {
    let object = format!("index file {}", name.index_path());
    let bytes = match mirror.packs.text(text.place, text.digests.blake3) {
        Ok(bytes) => bytes,
        Err(error) => return Ok((0, vec![Finding { object, problem: error.to_string() }])),
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
            }),
        }
    }
    Ok((rows, findings))
}
