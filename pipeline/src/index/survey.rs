//! What a sync would bring, crate by crate: how many bytes, when they were published, and whether it could be resolved.
//!
//! The length of a crate file is in no index. It is known exactly of what is held and of what a registry's dump tells. Else it
//! is estimated: from the held releases of the same crate, and without any from all that are held. The margin is two standard
//! deviations of what was seen, with releases of one crate taken to err alike, and the mean of a small sample to err as such
//! means do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crateferry_store::{CrateName, IndexFile, Release, Row, Sha256, State, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::rows::Rows;
use super::select::CrateChoice;

/// What is assumed of crate files before some were seen: crates.io has about 500 GB of them for 3 million releases, and a few
/// very large ones.
const BEFOREHAND: Sample = Sample { count: 1e4, sum: 1e4 * 167e3, squares: 1e4 * (167e3 * 167e3 + 1e12) };

/// As many held releases count for more than what is assumed.
const ENOUGH: f64 = 100.0;

/// Looks at every crate that is planned for.
#[derive(Debug, Default)]
pub struct Survey {
    depth: Depth,
    seen: Mutex<Seen>,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Crates whose index files changed.
    #[default]
    Changes,
    /// Every crate that is selected.
    All,
    /// Every crate, and its rows are kept for a [proof](super::proof).
    Rows,
}

#[derive(Debug, Default)]
struct Seen {
    brought: Brought,
    /// Lengths of all that is held.
    held: Sample,
    /// Deviations from the mean of their crate, of crates with several held releases.
    within: Sample,
    /// Releases of unknown length, of crates with held ones: how many, what they come to, and the squares of the numbers.
    like_others: (u64, f64, f64),
    /// Releases of unknown length of other crates.
    alone: u64,
    kept: Vec<(CrateName, Rows)>,
}

/// Numbers, as far as mean and deviation are concerned.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sample {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn variance(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean() * self.mean()).max(0.0)
    }
}

/// What a sync would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Brought {
    /// Crate files that would be fetched.
    pub releases: u64,
    /// Of these, those whose length is known.
    pub known: u64,
    /// The lengths of these together.
    pub known_bytes: u64,
    /// Index files of crates that have any wanted release.
    pub index_files: u64,
    /// Bytes of these.
    pub index_bytes: u64,
    /// All that is selected, held or not, by the month that it was published in, `YYYY-MM`: releases, and bytes of those whose
    /// length is known.
    pub months: BTreeMap<String, (u64, u64)>,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// The number, or the middle of where it may be.
    pub bytes: u64,
    /// How far it may be off; 0 if it is exact.
    pub margin: u64,
}

impl Survey {
    /// Has seen nothing yet.
    pub fn new(depth: Depth) -> Survey {
        Survey { depth, ..Survey::default() }
    }

    /// How much it looks at.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Looks at a crate. `held` are the releases that the ledger knows of it.
    pub(super) fn see(
        &self,
        name: &CrateName,
        file: &IndexFile<'_>,
        held: &[(Release, Row)],
        choice: &CrateChoice,
        policy: &Policy,
    ) {
        let about = policy.dump().and_then(|dump| dump.about(name));
        let lengths: Vec<f64> =
            held.iter().filter(|(_, row)| row.state == State::Stored).filter_map(|(_, row)| length(row)).collect();
        let row_of = |version: &Version, checksum: &Sha256| {
            held.iter().find(|(release, _)| release.id.version == *version && release.checksum == *checksum)
        };
        let (mut seen, mut unknown, mut is_wanted) =
            (self.seen.lock().unwrap_or_else(PoisonError::into_inner), 0, false);
        let mut kept = Vec::new();
        for (at, entry) in file.entries.iter().enumerate() {
            let row = row_of(&entry.version, &entry.checksum).map(|(_, row)| row);
            let is_held = row.is_some_and(|row| row.state == State::Stored);
            let is_left = row.is_some_and(|row| row.state == State::Excluded && row.by_operator);
            if !is_held && (is_left || !choice.wants(at, entry)) {
                continue;
            }
            is_wanted = true;
            kept.push(entry);
            let told = about.and_then(|about| about.versions.get(entry.version.as_str()));
            let bytes = row.and_then(|row| row.place).map(|place| place.length).or_else(|| told.map(|told| told.size));
            let published = published(entry.line).or_else(|| told.and_then(|told| told.created));
            if let Some(month) = published.and_then(month) {
                let month = seen.brought.months.entry(month).or_default();
                month.0 += 1;
                month.1 += bytes.unwrap_or_default();
            }
            if is_held {
                continue;
            }
            seen.brought.releases += 1;
            match bytes {
                Some(bytes) => {
                    seen.brought.known += 1;
                    seen.brought.known_bytes += bytes;
                }
                None => unknown += 1,
            }
        }
        if is_wanted {
            seen.brought.index_files += 1;
            seen.brought.index_bytes += file.entries.iter().map(|entry| entry.line.len() as u64 + 1).sum::<u64>();
        }
        seen.lengths(&lengths, unknown);
        if self.depth == Depth::Rows && !kept.is_empty() {
            let rows = Rows::read(kept);
            seen.kept.push((name.clone(), rows));
        }
    }

    /// Begins anew.
    pub(super) fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// What was seen.
    pub fn brought(&self) -> Brought {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).brought.clone()
    }

    /// The crate files that would be fetched, together, if they are so many: some may be wanted from before, and of fewer
    /// than were seen nothing says which.
    pub fn bytes(&self, releases: u64) -> Estimate {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let all = seen.brought.releases;
        if releases >= all {
            return seen.estimate(releases - all);
        }
        let bytes = (seen.estimate(0).bytes as f64 / all as f64 * releases as f64) as u64;
        Estimate { bytes, margin: bytes }
    }

    /// The rows that were kept.
    pub fn into_kept(self) -> Vec<(CrateName, Rows)> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner).kept
    }
}

impl Seen {
    fn lengths(&mut self, held: &[f64], unknown: u64) {
        let mut own = Sample::default();
        held.iter().for_each(|length| {
            own.add(*length);
            self.held.add(*length);
        });
        if held.len() > 1 {
            held.iter().for_each(|length| self.within.add(length - own.mean()));
        }
        if unknown == 0 {
        } else if held.is_empty() {
            self.alone += unknown;
        } else {
            let (count, bytes, squares) = &mut self.like_others;
            *count += unknown;
            *bytes += unknown as f64 * own.mean();
            *squares += (unknown * unknown) as f64;
        }
    }

    /// What was seen, and so many more releases of which nothing is known.
    fn estimate(&self, more: u64) -> Estimate {
        let sample = if self.held.count >= ENOUGH { self.held } else { BEFOREHAND };
        let within = if self.within.count >= ENOUGH { self.within.variance() } else { sample.variance() };
        let (_, like_others, squares) = self.like_others;
        let alone = (self.alone + more) as f64;
        let variance = squares * within + alone * sample.variance() + alone * alone * sample.variance() / sample.count;
        Estimate {
            bytes: self.brought.known_bytes + (like_others + alone * sample.mean()) as u64,
            margin: (2.0 * variance.sqrt()) as u64,
        }
    }
}

fn length(row: &Row) -> Option<f64> {
    row.place.map(|place| place.length as f64)
}

/// When the row says that its release was published, in seconds since 1970.
fn published(line: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Published<'a> {
        #[serde(borrow, default)]
        pubtime: Option<std::borrow::Cow<'a, str>>,
    }
    let row: Published<'_> = serde_json::from_slice(line).ok()?;
    Some(row.pubtime?.parse::<Timestamp>().ok()?.as_second())
}

fn month(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::UTC);
    Some(format!("{:04}-{:02}", time.year(), time.month()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_exact_where_all_is_known_and_says_how_far_it_may_be_off_where_not() {
        let mut seen =
            Seen { brought: Brought { known: 2, known_bytes: 500, ..Brought::default() }, ..Seen::default() };
        assert_eq!(seen.estimate(0), Estimate { bytes: 500, margin: 0 });
        // Crates whose releases are alike, and one more release of each of ten of them.
        for at in 0..50 {
            let length = f64::from(1000 + 100 * at);
            seen.lengths(&[length, length + 2.0, length - 2.0], u64::from(at < 10));
        }
        let Estimate { bytes, margin } = seen.estimate(0);
        assert_eq!(bytes, 500 + (0..10).map(|at| 1000 + 100 * at).sum::<u64>());
        assert!((5..20).contains(&margin), "two deviations of about 1.6 for ten independent crates: {margin}");
        // Of crates that are new, much less is known.
        seen.lengths(&[], 100);
        let wide = seen.estimate(0);
        assert!(wide.margin > 100 * margin && wide.bytes > bytes + 300_000, "{wide:?}");
    }

    #[test]
    fn estimates_hold_for_lengths_that_chance_makes() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut inside = 0;
        for _ in 0..200 {
            let mut seen = Seen::default();
            let mut draw = || f64::from(2u32.pow(rng.u32(4..14)));
            (0..400).for_each(|_| seen.lengths(&[draw()], 0));
            let truth: f64 = (0..300).map(|_| draw()).sum();
            (0..300).for_each(|_| seen.lengths(&[], 1));
            let Estimate { bytes, margin } = seen.estimate(0);
            inside += usize::from((bytes as f64 - truth).abs() <= margin as f64);
        }
        assert!(inside >= 180, "two deviations hold 95 of 100 times; {inside} of 200 did");
    }
}
