//! Publishing: from what is held to what is served.
//!
//! Each crate that changed is composed anew: its upstream rows, in their order, without those whose bytes are not held.
//! The texts become durable first; then one record and one transaction make all of them the next generation. Deletions
//! beyond a limit are not published but held for approval, since an index that lost much may be a broken one.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::entry::{Entry, parse_index_file};
use crate::id::{Blake3, CrateName, Release, Sha256, Version};
use crate::ledger::{LedgerError, LedgerReader, PathRow};
use crate::mirror::Mirror;
use crate::pack::{Cause, Event, Generation, PackReader, ReadError};
use crate::state::{Row, State};
use crate::writer::{Batch, WriteError, Writer, wait};

/// Crates that are composed together.
const CHUNK: usize = 1024;

/// A publication that failed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The ledger could not be read.
    #[error("cannot read what is to be published")]
    Ledger(#[from] LedgerError),
    /// An index text could not be read.
    #[error("cannot compose the index file of crate {name}")]
    Compose {
        /// The crate.
        name: CrateName,
        /// Why.
        source: ReadError,
    },
    /// The new texts or the record could not be stored.
    #[error("cannot store the new generation")]
    Write(#[from] WriteError),
}

/// What to do about releases that left the upstream's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// Withdraw them if they are few, else hold them for approval.
    WithinLimit,
    /// Withdraw them all: approved.
    Accept,
    /// Go on serving them.
    Keep,
}

/// What a publication did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The new generation; none if nothing changed.
    pub generation: Option<Generation>,
    /// Releases withdrawn.
    pub withdrawn: u64,
    /// Releases whose deletion is held for approval.
    pub held: u64,
}

/// Publishes what is held. `now` is in seconds since 1970.
pub fn publish(mirror: &Mirror, writer: &Writer, shrink: Shrink, now: u64) -> Result<Published, PublishError> {
    let mut published = withdraw(mirror, writer, shrink, now)?;
    stage_changes(mirror, writer)?;
    published.generation = wait(writer.publish(now))?;
    mirror.refresh_catalog()?;
    Ok(published)
}

/// Whether so many deletions are held for approval. `rows` are published, `gone` of them are to leave; an index that
/// lost everything is never believed.
pub fn exceeds_shrink_limit(gone: u64, rows: u64) -> bool {
    const FEW: u64 = 10;
    gone > 0 && (gone >= rows || gone > FEW.max(rows / 200))
}

/// Withdraws what left the upstream's index, or counts what is held back.
fn withdraw(mirror: &Mirror, writer: &Writer, shrink: Shrink, now: u64) -> Result<Published, PublishError> {
    let reader = mirror.ledger().reader()?;
    let gone = reader.tally()?.gone;
    let rows = reader.generation()?.map_or(0, |generation| generation.counts.rows);
    let held_back = match shrink {
        Shrink::Accept => false,
        Shrink::WithinLimit => exceeds_shrink_limit(gone, rows),
        Shrink::Keep => return Ok(Published::default()),
    };
    if gone == 0 || held_back {
        return Ok(Published { held: gone, ..Published::default() });
    }
    let mut batch = Batch::default();
    for (release, _) in reader.gone()? {
        batch.add(Event::Withdrawn { release: release.into(), at: now, cause: Cause::default() });
    }
    drop(reader);
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)?;
    Ok(Published { withdrawn: gone, ..Published::default() })
}

/// Composes every crate that changed and stores the texts that are new.
fn stage_changes(mirror: &Mirror, writer: &Writer) -> Result<(), PublishError> {
    let reader = mirror.ledger().reader()?;
    let mut after = None;
    let mut pending = Vec::new();
    loop {
        let changed = reader.dirty_after(after.as_ref(), CHUNK)?;
        let Some((last, _)) = changed.last() else { break };
        after = Some(last.clone());
        let staged: Vec<Batch> = changed
            .par_iter()
            .map(|(name, seen)| stage(&reader, mirror.packs(), name, *seen))
            .collect::<Result<_, _>>()?;
        pending.extend(staged.into_iter().map(|batch| writer.submit(batch)));
        if pending.len() > 16 * CHUNK {
            pending.drain(..).try_for_each(|answer| wait(answer).map(drop))?;
        }
    }
    wait(writer.flush())?;
    Ok(pending.into_iter().try_for_each(|answer| wait(answer).map(drop))?)
}

fn stage(reader: &LedgerReader, packs: &PackReader, name: &CrateName, seen: u64) -> Result<Batch, PublishError> {
    let path = reader.path(name)?.unwrap_or_default();
    let releases = reader.releases_of(name)?;
    let sources = Sources::read(packs, &path, &releases)
        .map_err(|source| PublishError::Compose { name: name.clone(), source })?;
    let composed = compose(name, &sources, &releases);
    let mut batch = Batch::default();
    let text = match (composed.text.is_empty(), path.upstream, path.served) {
        (true, _, _) => None,
        (false, Some((_, upstream)), _) if Blake3::of(&composed.text) == upstream.digests.blake3 => {
            Some(upstream.digests)
        }
        (false, _, Some(served)) if Blake3::of(&composed.text) == served.digests.blake3 => Some(served.digests),
        (false, _, _) => Some(batch.add_text(&composed.text)),
    };
    batch.add(Event::Staged { name: name.clone(), text, rows: composed.rows, seen });
    Ok(batch)
}

/// The texts that an index file is composed from.
#[derive(Debug, Default)]
struct Sources {
    upstream: Vec<u8>,
    /// What was served before; read only if rows may have to be kept from it.
    served: Vec<u8>,
}

impl Sources {
    fn read(packs: &PackReader, path: &PathRow, releases: &[(Release, Row)]) -> Result<Sources, ReadError> {
        let upstream = match &path.upstream {
            Some((_, text)) => packs.text(text.place, text.digests.blake3)?,
            None => Vec::new(),
        };
        let served = match &path.served {
            Some(text) if keeps_old_rows(releases) => packs.text(text.place, text.digests.blake3)?,
            _ => Vec::new(),
        };
        Ok(Sources { upstream, served })
    }
}

/// Whether rows of the served file may have to stay although the upstream's file does not have them.
fn keeps_old_rows(releases: &[(Release, Row)]) -> bool {
    let twice = releases.windows(2).any(|pair| pair[0].0.id.version == pair[1].0.id.version);
    twice || releases.iter().any(|(_, row)| row.gone)
}

/// A composed index file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Composed {
    text: Vec<u8>,
    rows: u64,
}

impl Composed {
    fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.rows += 1;
    }
}

/// The file to serve: pure.
///
/// - An upstream row is served as it is, if its bytes are held.
/// - Where the upstream changed a version's checksum, the row that was served first stays, and only its `yanked`
///   follows, until the release is withdrawn.
/// - A row whose deletion is not approved stays, behind the others.
/// - A file of which every line is served is served byte for byte.
fn compose(name: &CrateName, sources: &Sources, releases: &[(Release, Row)]) -> Composed {
    let known: HashMap<(&Version, &Sha256), &Row> =
        releases.iter().map(|(release, row)| ((&release.id.version, &release.checksum), row)).collect();
    let is_held =
        |entry: &Entry<'_>| known.get(&(&entry.version, &entry.checksum)).is_some_and(|row| row.state == State::Stored);
    let upstream = parse_index_file(name, &sources.upstream);
    let served = parse_index_file(name, &sources.served);
    let before: HashMap<&Version, &Entry<'_>> = served.entries.iter().map(|entry| (&entry.version, entry)).collect();

    let mut composed = Composed::default();
    let mut kept_back = false;
    let mut versions = std::collections::HashSet::new();
    for entry in &upstream.entries {
        versions.insert(&entry.version);
        match before.get(&entry.version) {
            Some(old) if old.checksum != entry.checksum && is_held(old) => {
                kept_back = true;
                composed.push(&old.line_with_yanked(entry.yanked));
            }
            _ if is_held(entry) => composed.push(entry.line),
            _ => kept_back = true,
        }
    }
    for old in served.entries.iter().filter(|old| !versions.contains(&old.version) && is_held(old)) {
        kept_back = true;
        composed.push(old.line);
    }
    if !kept_back && upstream.bad.is_empty() {
        composed.text.clone_from(&sources.upstream);
    }
    composed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;
    use crate::id::ReleaseId;

    fn line(version: &str, content: &str, yanked: bool) -> String {
        let checksum = Sha256::of(content.as_bytes());
        format!(
            r#"{{"name":"Serde","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":{yanked}}}"#
        )
    }

    fn release(version: &str, content: &str, state: State, gone: bool) -> (Release, Row) {
        let id = ReleaseId { name: "Serde".parse().unwrap(), version: version.parse().unwrap() };
        let mut row = Row::unknown(id.name.clone());
        (row.state, row.gone) = (state, gone);
        row.place = Some(Place { pack: 1, offset: 0, length: 1 });
        (Release { id, checksum: Sha256::of(content.as_bytes()) }, row)
    }

    fn composed(upstream: &[String], served: &[String], releases: &[(Release, Row)]) -> Vec<String> {
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
        let sources = Sources { upstream: text(upstream), served: text(served) };
        let composed = compose(&"serde".parse().unwrap(), &sources, releases);
        let lines: Vec<String> = String::from_utf8(composed.text).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len() as u64, composed.rows);
        lines
    }

    #[test]
    fn only_rows_whose_bytes_are_held_are_served_in_their_order() {
        let rows = [line("1.0.1", "b", false), line("1.0.0", "a", true), line("0.9.0", "c", false)];
        let held = [release("1.0.0", "a", State::Stored, false), release("1.0.1", "b", State::Stored, false)];
        assert_eq!(composed(&rows, &[], &held), rows[..2]);
        assert_eq!(composed(&rows, &[], &[]), [""; 0]);
    }

    #[test]
    fn a_wholly_held_file_is_served_byte_for_byte() {
        let text = format!("{}\r\n\n{}", line("1.0.0", "a", false), line("1.0.1", "b", false)).into_bytes();
        let held = [release("1.0.0", "a", State::Stored, false), release("1.0.1", "b", State::Stored, false)];
        let sources = Sources { upstream: text.clone(), served: Vec::new() };
        let composed = compose(&"serde".parse().unwrap(), &sources, &held);
        assert_eq!((composed.text, composed.rows), (text, 2));
    }

    #[test]
    fn a_changed_checksum_keeps_the_first_row_and_only_yanked_follows() {
        let first = line("1.0.0", "a", false);
        let changed = line("1.0.0", "other", true);
        let releases = [release("1.0.0", "a", State::Stored, false), release("1.0.0", "other", State::Stored, false)];
        let kept = composed(&[changed], &[first], &releases);
        assert_eq!(kept, [line("1.0.0", "a", true)]);
    }

    #[test]
    fn after_an_approved_withdrawal_the_new_checksum_is_served() {
        let changed = line("1.0.0", "other", false);
        let releases =
            [release("1.0.0", "a", State::Withdrawn, false), release("1.0.0", "other", State::Stored, false)];
        assert_eq!(composed(std::slice::from_ref(&changed), &[line("1.0.0", "a", false)], &releases), [changed]);
    }

    #[test]
    fn a_deletion_that_is_not_approved_stays_in_the_file() {
        let rows = [line("1.0.0", "a", false), line("1.0.1", "b", false)];
        let releases = [release("1.0.0", "a", State::Stored, true), release("1.0.1", "b", State::Stored, false)];
        assert_eq!(composed(&rows[1..], &rows, &releases), [rows[1].clone(), rows[0].clone()]);
        let withdrawn = [release("1.0.0", "a", State::Withdrawn, false), release("1.0.1", "b", State::Stored, false)];
        assert_eq!(composed(&rows[1..], &rows, &withdrawn), rows[1..]);
    }

    #[test]
    fn few_deletions_pass_many_and_all_are_held() {
        assert!(!exceeds_shrink_limit(0, 0));
        assert!(!exceeds_shrink_limit(10, 100));
        assert!(exceeds_shrink_limit(11, 100));
        assert!(exceeds_shrink_limit(1, 1));
        assert!(!exceeds_shrink_limit(5_000, 1_000_000));
        assert!(exceeds_shrink_limit(5_001, 1_000_000));
    }
}
