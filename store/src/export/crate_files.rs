//! A folder of crate files alone: every held release that is neither withdrawn nor withheld.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::{Cause, Export, ExportError, Exported, Made, Object, Part, sweep};
use crate::entry::parse_index_file;
use crate::id::{Release, ReleaseId};
use crate::ledger::{Held, LedgerError};

/// Releases that become durable together.
const STEP: usize = 4096;

pub(super) fn export(export: &Export<'_>) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let twins = twins(export)?;
    let mut after = None;
    loop {
        let held = export.mirror.catalog.held_after(after.as_ref(), STEP)?;
        let Some(last) = held.last() else { break };
        after = Some(last.release.clone());
        step(export, &held, &twins, &mut exported)?;
    }
    if export.options.delete {
        exported.removed =
            sweep::crate_files(export, |held| Ok(matches!(is_exported(export, held, &twins)?, Ok(false))))?;
    }
    Ok(exported)
}

/// Versions that changed their checksum: they may be held twice, and one file can hold only one of them.
pub(super) fn twins(export: &Export<'_>) -> Result<HashSet<ReleaseId>, LedgerError> {
    let alarms = export.mirror.catalog.summary()?.map(|summary| summary.alarms).unwrap_or_default();
    Ok(alarms.into_iter().map(|alarm| ReleaseId { name: alarm.name, version: alarm.version }.lower()).collect())
}

fn step(
    export: &Export<'_>,
    held: &[Held],
    twins: &HashSet<ReleaseId>,
    exported: &mut Exported,
) -> Result<(), ExportError> {
    let made: Vec<Option<Made>> =
        held.par_iter().map(|held| make(export, held, twins)).collect::<Result<_, ExportError>>()?;
    let mut parts = Vec::new();
    for (held, made) in held.iter().zip(made) {
        match made {
            None => {}
            Some(Made::There) => exported.unchanged += 1,
            Some(Made::Part(part)) => parts.push((&held.release.id, part)),
        }
    }
    name(export, parts, exported)
}

fn name(export: &Export<'_>, parts: Vec<(&ReleaseId, Part)>, exported: &mut Exported) -> Result<(), ExportError> {
    if parts.is_empty() {
        return Ok(());
    }
    let paths: Vec<&Path> = parts.iter().map(|(_, part)| part.unnamed()).collect();
    export.target.sync(&paths)?;
    for (id, part) in parts {
        if let Some(named) = export.settled(part.name(), || Object::CrateFile(id.clone()))? {
            exported.add(named);
        }
    }
    Ok(())
}

/// Makes the file of a release; none if it is not to be exported, or cannot be.
fn make(export: &Export<'_>, held: &Held, twins: &HashSet<ReleaseId>) -> Result<Option<Made>, ExportError> {
    let id = &held.release.id;
    export.leaves_out_held(held);
    let wanted = is_exported(export, held, twins)?;
    let made = wanted.and_then(|wanted| if wanted { export.make(id, held).map(Some) } else { Ok(None) });
    export.witness.done(held.place.length);
    Ok(export.settled(made, || Object::CrateFile(id.clone()))?.flatten())
}

/// Whether a release is part of an export without an index.
pub(super) fn is_exported(
    export: &Export<'_>,
    held: &Held,
    twins: &HashSet<ReleaseId>,
) -> Result<Result<bool, Cause>, LedgerError> {
    if held.withdrawn || export.masks.of(&held.release.id).is_some() {
        Ok(Ok(false))
    } else if twins.contains(&held.release.id.lower()) {
        is_served(export, &held.release)
    } else {
        Ok(Ok(true))
    }
}

/// Whether the index that is served names these very bytes.
pub(super) fn is_served(export: &Export<'_>, release: &Release) -> Result<Result<bool, Cause>, LedgerError> {
    let ReleaseId { name, version } = &release.id;
    let Some(file) = export.mirror.catalog.index_file(name)? else { return Ok(Ok(false)) };
    let text = match export.mirror.packs.text(file.place, file.digests.blake3) {
        Ok(text) => text,
        Err(error) => return Ok(Err(error.into())),
    };
    let rows = parse_index_file(name, &text).entries;
    Ok(Ok(rows.iter().any(|row| row.version == *version && row.checksum == release.checksum)))
}
