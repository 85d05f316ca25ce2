//! Whether a catalog is what was written.
//!
//! redb does not notice a flipped bit by itself. Every row carries its own check, so a row that is read is right; but a
//! page that is damaged above it may hide it, and then the catalog says that something is not there. So its No counts
//! only after it was checked as a whole: each row read and found again by its key. That costs a second for a million
//! releases, and may be done beside readers, who meanwhile can believe what they find.

use std::sync::atomic::{AtomicU8, Ordering};

use redb::{Key, ReadOnlyTable, ReadableTable as _, ReadableTableMetadata as _};

use super::super::{LedgerError, root_of};
use super::Summary;
use super::reader::{CatalogReader, Tables, about_row, facts_row, held_row};
use crate::id::Blake3;

/// What is known of a catalog's file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Soundness {
    /// It was not checked yet, or something in it could not be read since.
    Unknown,
    /// Each row was found by its key.
    Sound,
    /// It is damaged: only what is found in it counts.
    Damaged,
}

/// What all readers of one file know of it.
#[derive(Debug, Default)]
pub(super) struct Verdict(AtomicU8);

impl Verdict {
    pub(super) fn get(&self) -> Soundness {
        match self.0.load(Ordering::Acquire) {
            1 => Soundness::Sound,
            2 => Soundness::Damaged,
            _ => Soundness::Unknown,
        }
    }

    fn set(&self, soundness: Soundness) {
        self.0.store(soundness as u8, Ordering::Release);
    }

    /// Something could not be read: what was known counts no more, but for damage that is known.
    pub(super) fn doubt(&self) {
        let (sound, unknown) = (Soundness::Sound as u8, Soundness::Unknown as u8);
        let _doubted = self.0.compare_exchange(sound, unknown, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Rows between two breaths: some milliseconds of work.
const BREATH: u64 = 4096;

impl CatalogReader {
    /// What is known of the file by now.
    pub fn soundness(&self) -> Soundness {
        self.verdict.get()
    }

    /// The summary, which there must be, and which must fit to the tables' sizes. Costs the same for every size.
    pub fn glance(&self) -> Result<Summary, LedgerError> {
        let Some(summary) = self.summary()? else { return Err(self.damaged("it is empty")) };
        let (files, _) = self.counts()?;
        if summary.generation.as_ref().is_some_and(|generation| generation.counts.crates != files) {
            return Err(self.damaged("it has not as many index files as its generation"));
        }
        Ok(summary)
    }

    /// Reads every row and finds it again by its key. Calls `breathe` now and then: who has time lets others go on.
    pub fn check(&self, mut breathe: impl FnMut()) -> Result<(), LedgerError> {
        let checked = self.check_index_files(&mut breathe).and_then(|()| self.check_releases(&mut breathe));
        self.verdict.set(if checked.is_ok() { Soundness::Sound } else { Soundness::Damaged });
        checked.map_err(|error| match error {
            LedgerError::Damaged { .. } => error,
            other => self.damaged(other.to_string()),
        })
    }

    /// The index files that are found by their names are those that the generation has.
    fn check_index_files(&self, breathe: &mut impl FnMut()) -> Result<(), LedgerError> {
        let (mut files, mut read) = (Vec::new(), 0);
        self.each_index_file(|name, text| {
            if self.index_file(&name)?.as_ref() == Some(&text) {
                files.push((name.index_path(), text.digests.blake3));
            }
            count(&mut read, breathe);
            Ok::<(), LedgerError>(())
        })?;
        let root: Blake3 = root_of(files);
        match self.summary()?.and_then(|summary| summary.generation) {
            Some(generation) if generation.digest != root => {
                Err(self.damaged("its index files are not those of its generation"))
            }
            _ => Ok(()),
        }
    }

    /// As many of the other rows are found by their keys as there are.
    fn check_releases(&self, breathe: &mut impl FnMut()) -> Result<(), LedgerError> {
        self.check_table(|tables| &tables.held, |key, row| held_row(key, row).map(drop), breathe)?;
        self.check_table(|tables| &tables.facts, |key, row| facts_row(key, row).map(drop), breathe)?;
        self.check_table(|tables| &tables.about, |key, row| about_row(key, row).map(drop), breathe)
    }

    fn check_table<K: Key + 'static>(
        &self,
        table: impl FnOnce(&Tables) -> &ReadOnlyTable<K, &'static [u8]>,
        check: impl for<'a> Fn(K::SelfType<'a>, &[u8]) -> Result<(), LedgerError>,
        breathe: &mut impl FnMut(),
    ) -> Result<(), LedgerError> {
        let (mut found, mut read) = (0, 0);
        let all = self.read(|tables| {
            let table = table(tables);
            for row in table.iter()? {
                let (key, row) = row?;
                check(key.value(), row.value())?;
                found += u64::from(table.get(key.value())?.is_some());
                count(&mut read, breathe);
            }
            Ok(table.len()?)
        })?;
        if found == all { Ok(()) } else { Err(self.damaged("rows in it cannot be found")) }
    }

    fn damaged(&self, problem: impl Into<String>) -> LedgerError {
        LedgerError::Damaged { path: self.path.to_path_buf(), problem: problem.into() }
    }
}

fn count(read: &mut u64, breathe: &mut impl FnMut()) {
    *read += 1;
    if read.is_multiple_of(BREATH) {
        breathe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_undoes_trust_but_not_damage() {
        let verdict = Verdict::default();
        assert_eq!(verdict.get(), Soundness::Unknown);
        for (known, doubted) in [
            (Soundness::Unknown, Soundness::Unknown),
            (Soundness::Sound, Soundness::Unknown),
            (Soundness::Damaged, Soundness::Damaged),
        ] {
            verdict.set(known);
            assert_eq!(verdict.get(), known);
            verdict.doubt();
            assert_eq!(verdict.get(), doubted);
        }
    }
}
