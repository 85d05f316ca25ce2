//! Serving what the upstream promises now in place of what it promised before.

use std::collections::BTreeSet;

use crateferry_store::{
    Batch, Cause, Event, LedgerReader, Mirror, Release, ReleaseId, State, Writer, parse_index_file, wait,
};

use super::diff::CHANGED;
use super::record::{RecordError, text_of};

/// Why a release is withdrawn in whose place another one is served.
const REPLACED: &str = "the upstream promises another checksum for this version, and that is served";

/// The versions whose checksum ever changed.
pub fn changed(ledger: &LedgerReader) -> Result<BTreeSet<ReleaseId>, RecordError> {
    let alarms = ledger.alarms()?;
    Ok(alarms.into_iter().map(|alarm| ReleaseId { name: alarm.name, version: alarm.version }).collect())
}

/// Withdraws what stands before the release that the upstream promises now, where the bytes of both are held; the next
/// publication then serves the latter. Returns the versions that this was done for. `now` is in seconds since 1970.
pub fn switch(
    mirror: &Mirror,
    writer: &Writer,
    versions: impl IntoIterator<Item = ReleaseId>,
    now: u64,
) -> Result<Vec<ReleaseId>, RecordError> {
    let ledger = mirror.ledger().reader()?;
    let masks = ledger.masks()?;
    let (mut batch, mut switched) = (Batch::default(), Vec::new());
    for id in versions {
        let Some(before) = stands_before(mirror, &ledger, &id)? else { continue };
        for release in before {
            let cause = Cause { because: REPLACED.to_owned(), by_operator: false };
            batch.add(Event::Withdrawn { release: release.into(), at: now, cause });
        }
        if masks.get(&id.name, Some(&id.version)).is_some_and(|mask| mask.reason == CHANGED) {
            batch.add(Event::Unmasked { name: id.name.lower(), version: Some(id.version.clone()) });
        }
        switched.push(id);
    }
    drop(ledger);
    if !batch.is_empty() {
        let pending = writer.submit(batch);
        wait(writer.flush())?;
        wait(pending)?;
    }
    Ok(switched)
}

/// The held releases of a version beside the one that the upstream promises now; none if that is not held, or alone.
fn stands_before(mirror: &Mirror, ledger: &LedgerReader, id: &ReleaseId) -> Result<Option<Vec<Release>>, RecordError> {
    let known = ledger.releases_at(id)?.into_iter().filter(|(_, row)| row.state == State::Stored);
    let mut held: Vec<Release> = known.map(|(release, _)| release).collect();
    if held.len() < 2 {
        return Ok(None);
    }
    let name = id.name.lower();
    let text = text_of(mirror, ledger, &name)?.unwrap_or_default();
    let file = parse_index_file(&name, &text);
    let promised = file.entries.iter().find(|entry| entry.version == id.version).map(|entry| entry.checksum);
    let all = held.len();
    held.retain(|release| Some(release.checksum) != promised);
    Ok((held.len() < all).then_some(held))
}
