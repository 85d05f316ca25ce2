//! What a running sync counts, for all who show it: bars, log lines, `run.json`, metrics.
//!
//! Whoever does something counts it here, by an atomic and nothing more; whoever shows it reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_pipeline::failure::{Disposition, Failure};
use crateferry_pipeline::flow::{Gauges, Level};
use crateferry_pipeline::index::record::Recorded;
use crateferry_pipeline::item::Stored;

use super::{Phase, Reason, RunStatus, StageStatus};

/// Over what time rates are measured.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The counts of one run.
#[derive(Debug)]
pub struct Run {
    started_at: u64,
    begun: Instant,
    phase: AtomicU8,
    /// Index files, or what else the index is made of, that were looked at; and how many there are, or 0.
    index: [AtomicU64; 2],
    total: AtomicU64,
    stored: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    reasons: [AtomicU64; Reason::ALL.len()],
    changes: Mutex<IndexChanges>,
    gauges: Mutex<Gauges>,
    rates: Mutex<Rates>,
}

/// How the upstream's index differed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexChanges {
    /// Index files that are new or have other bytes.
    pub changed: u64,
    /// Index files that the upstream has no more.
    pub removed: u64,
    /// Index files that could not be read.
    pub failed: u64,
    /// Releases that are newly wanted.
    pub wanted: u64,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            started_at: SystemClock.now(),
            begun: Instant::now(),
            phase: AtomicU8::new(Phase::Index as u8),
            index: Default::default(),
            total: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reasons: Default::default(),
            changes: Mutex::default(),
            gauges: Mutex::default(),
            rates: Mutex::default(),
        }
    }
}

/// Who counts.
impl Run {
    /// The run does something else now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        lock(&self.rates).clear();
    }

    /// So much of the index was looked at.
    pub fn index_at(&self, done: u64, total: Option<u64>) {
        self.index[0].store(done, Relaxed);
        self.index[1].store(total.unwrap_or(0), Relaxed);
    }

    /// The upstream's changes were recorded.
    pub fn recorded(&self, recorded: &Recorded) {
        let &Recorded { changed, removed, wanted, .. } = recorded;
        *lock(&self.changes) = IndexChanges { changed, removed, wanted, failed: recorded.failed.len() as u64 };
    }

    /// So many releases are to be fetched.
    pub fn fetches(&self, total: u64) {
        self.total.store(total, Relaxed);
        self.enter(Phase::Fetch);
    }

    /// The flow that fetches them can be looked at.
    pub fn watch(&self, gauges: Gauges) {
        *lock(&self.gauges) = gauges;
    }

    /// A release was stored.
    pub fn stored(&self, stored: &Stored) {
        self.stored.fetch_add(1, Relaxed);
        self.bytes.fetch_add(stored.place.length, Relaxed);
        self.retries.fetch_add(u64::from(stored.attempt.retries), Relaxed);
    }

    /// A release was not stored.
    pub fn failed(&self, failure: &Failure) {
        let count = if failure.disposition == Disposition::Refuse { &self.refused } else { &self.failed };
        count.fetch_add(1, Relaxed);
        self.retries.fetch_add(u64::from(failure.attempt.retries), Relaxed);
        self.reasons[Reason::of(failure) as usize].fetch_add(1, Relaxed);
    }
}

/// Who shows.
impl Run {
    /// What it is doing.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Releases to fetch.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Releases stored.
    pub fn ok(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Releases that did not come, and those that were refused.
    pub fn not_ok(&self) -> [u64; 2] {
        [self.failed.load(Relaxed), self.refused.load(Relaxed)]
    }

    /// Bytes of the crate files stored.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Requests that were made again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// How many releases were not stored for each reason.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.reasons.iter().map(|count| count.load(Relaxed)))
    }

    /// How the upstream's index differed.
    pub fn index_changes(&self) -> IndexChanges {
        *lock(&self.changes)
    }

    /// How full the flow's stages are.
    pub fn levels(&self) -> Vec<Level> {
        lock(&self.gauges).levels().collect()
    }

    /// Since the run began.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// All of it, as others read it.
    pub fn status(&self) -> RunStatus {
        let phase = self.phase();
        let (errors, bytes) = (self.not_ok().iter().sum(), self.bytes());
        let (processed, total) = match phase {
            Phase::Index => (self.index[0].load(Relaxed), self.index[1].load(Relaxed)),
            _ => (self.ok() + errors, self.total()),
        };
        let [rate_per_sec, bytes_per_sec] = lock(&self.rates).at(Sample { at: Instant::now(), processed, bytes });
        let left = total.saturating_sub(processed);
        RunStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            updated_at: SystemClock.now(),
            phase: phase.name().to_owned(),
            total,
            processed,
            ok: self.ok(),
            errors,
            retries: self.retries(),
            bytes,
            uptime_sec: self.uptime().as_secs(),
            rate_per_sec,
            bytes_per_sec,
            left_sec: (total > 0 && rate_per_sec > 0.0).then(|| (left as f64 / rate_per_sec).ceil() as u64),
            stages: self.levels().iter().map(StageStatus::from).collect(),
        }
    }
}

impl From<&Level> for StageStatus {
    fn from(level: &Level) -> Self {
        StageStatus {
            name: level.stage.to_owned(),
            in_hand: level.in_hand as u64,
            at_once: level.at_once as u64,
            queued: level.queued as u64,
            queue: level.queue as u64,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was done by a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    processed: u64,
    bytes: u64,
}

/// The last few moments at which somebody looked, from which rates follow.
#[derive(Debug, Default)]
struct Rates(VecDeque<Sample>);

impl Rates {
    fn clear(&mut self) {
        self.0.clear();
    }

    /// What is processed a second, and the bytes, up to this moment.
    fn at(&mut self, now: Sample) -> [f64; 2] {
        let seconds = |since: &Sample| now.at.saturating_duration_since(since.at).as_secs_f64();
        // The oldest that stays is at least as old as the window, so that the rate is over all of it.
        while self.0.get(1).is_some_and(|next| seconds(next) >= RATE_WINDOW.as_secs_f64()) {
            self.0.pop_front();
        }
        let rates = self.0.front().filter(|first| seconds(first) > 0.0).map(|first| {
            let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds(first);
            [per_second(now.processed, first.processed), per_second(now.bytes, first.bytes)]
        });
        // However often somebody looks, a few moments a second are enough to remember.
        if self.0.back().is_none_or(|last| seconds(last) >= 0.25) {
            self.0.push_back(now);
        }
        rates.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_ten_seconds() {
        let (mut rates, begun) = (Rates::default(), Instant::now());
        let mut look = |second: u64, processed| {
            let sample = Sample { at: begun + Duration::from_secs(second), processed, bytes: processed * 10 };
            rates.at(sample).map(|rate| rate.round() as u64)
        };
        assert_eq!(look(0, 0), [0; 2]);
        assert_eq!(look(1, 5), [5, 50]);
        for second in 2..=20 {
            look(second, 5);
        }
        assert_eq!(look(21, 5), [0; 2], "what was done long ago is forgotten");
        assert_eq!(look(22, 25), [2, 20]);
        assert!(rates.0.len() <= 12);
    }

    #[test]
    fn a_status_is_of_its_phase() {
        let run = Run::default();
        run.index_at(3, Some(9));
        let status = run.status();
        assert_eq!((status.phase.as_str(), status.processed, status.total), ("index", 3, 9));
        run.fetches(100);
        let status = run.status();
        assert_eq!((status.phase.as_str(), status.processed, status.total), ("fetch", 0, 100));
        assert_eq!(status.left_sec, None, "nobody knows yet");
    }
}
