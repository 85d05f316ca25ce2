//! Served index files: their bytes, what they promise, and the generation that they make.

use rayon::prelude::*;

use super::{CHUNK, CheckError, Finding, Verification, means};
use crate::entry::parse_index_file;
use crate::id::{Blake3, CrateName, Release, ReleaseId};
use crate::ledger::{LedgerError, Text, root_of};
use crate::mirror::MirrorReader;

/// Every served text must be sound, and all of them together what the generation says.
pub(super) fn check_index(
    mirror: &MirrorReader,
    one_of: (u64, u64),
    verification: &mut Verification,
) -> Result<(), CheckError> {
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
