//! Reading packs: every member, every record, every table of contents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::held::check_releases;
use super::{CheckError, Finding, Verification, means};
use crate::Place;
use crate::collect::is_blank;
use crate::disk::DiskFile;
use crate::id::{Blake3, Release};
use crate::mirror::{MirrorReader, describe_tail};
use crate::pack::{ContentsLine, Group, Member, MemberName, Scan, Tail, digest_prefix, hash_range, sealing};

/// Reads packs from one on, until it is late.
pub(super) fn check_packs(
    mirror: &MirrorReader,
    from: u32,
    end: Option<Instant>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let mut packs = mirror.layout.list_packs().map_err(CheckError::List)?;
    packs.retain(|(number, _)| *number >= from);
    let summary = mirror.catalog.summary()?;
    let advisories = summary.as_ref().and_then(|summary| summary.advisories);
    let advisories = advisories.map(|(pack, offset, length)| Place { pack, offset, length });
    let mut durable: BTreeMap<u32, u64> = summary.map_or_else(BTreeMap::new, |now| now.packs.into_iter().collect());
    durable.retain(|number, _| *number >= from);
    let scrub = Scrub {
        mirror,
        progress,
        durable: &durable,
        advisories,
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
    /// Some member is damaged, which is said of it, or given back.
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
    /// Where the advisory database lies that is served.
    advisories: Option<Place>,
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
        if found != member.sha256 && self.was_collected(file, check.number, member)? {
            check.has_damaged = true;
        } else if found != member.sha256 {
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
    /// Whether the room of a member was given back: it is zeros, and nothing needs it.
    fn was_collected(&self, file: &dyn DiskFile, pack: u32, member: &Member) -> std::io::Result<bool> {
        let place = Place { pack, offset: member.offset, length: member.length };
        let is_needed = match MemberName::parse(&member.name) {
            Some(MemberName::Crate(_)) => self.is_held(pack, member)?,
            Some(MemberName::Advisories(_)) => self.advisories == Some(place),
            _ => true,
        };
        Ok(!is_needed && is_blank(file, place)?)
    }

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
