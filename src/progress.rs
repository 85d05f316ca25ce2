//! Progress for people: bars on a terminal, a log line an interval elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crateferry_pipeline::failure::Failure;
use crateferry_pipeline::item::Stored;
use crateferry_pipeline::settle::Witness;
use crateferry_pipeline::upstream::{Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::{bytes, count};

/// The bars of this process: one terminal has one set of them.
pub fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)))
}

fn bar(template: &str, length: Option<u64>) -> ProgressBar {
    let bar = bars().add(ProgressBar::no_length());
    if let Some(length) = length {
        bar.set_length(length);
    }
    bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("=> "));
    bar
}

/// The index phase.
pub struct IndexProgress {
    bar: ProgressBar,
    interval: Duration,
    told: std::sync::Mutex<Instant>,
}

impl IndexProgress {
    pub fn new(interval: Duration) -> Self {
        let bar = bar("{spinner} {msg}  {human_pos}{prefix}", None);
        IndexProgress { bar, interval, told: std::sync::Mutex::new(Instant::now()) }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn is_time(&self) -> bool {
        let Ok(mut told) = self.told.try_lock() else { return false };
        let due = told.elapsed() >= self.interval;
        if due {
            *told = Instant::now();
        }
        due
    }
}

impl Progress for IndexProgress {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let what = match phase {
            Phase::Listing => "asking the upstream",
            Phase::Receiving => "receiving the index",
            Phase::Resolving => "resolving the index",
            Phase::Comparing => "comparing index files",
            Phase::Missing => "looking for deleted crates",
        };
        if let Some(total) = total {
            self.bar.set_length(total);
            self.bar.set_prefix(format!(" of {total}"));
        }
        self.bar.set_message(what);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.is_time() {
            tracing::info!(done, total, "{what}");
        }
    }
}

/// What the fetch phase has done; shared between those who count and those who show.
#[derive(Debug)]
pub struct Tally {
    total: u64,
    done: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    begun: Instant,
}

/// The fetch phase.
#[derive(Clone)]
pub struct FetchProgress {
    tally: Arc<Tally>,
    bar: ProgressBar,
}

impl FetchProgress {
    pub fn new(total: u64) -> Self {
        let template = "{bar:30} {human_pos}/{human_len} releases  {msg}  {eta} left";
        let tally = Tally {
            total,
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: Instant::now(),
        };
        FetchProgress { tally: Arc::new(tally), bar: bar(template, Some(total)) }
    }

    /// Writes a log line every `interval`, for ever, unless there is a terminal that shows bars.
    pub async fn tell_every(self, interval: Duration) {
        if std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(interval.max(Duration::from_millis(100))).await;
            let (done, failed) = (self.tally.done.load(Ordering::Relaxed), self.tally.failed.load(Ordering::Relaxed));
            let received = self.tally.bytes.load(Ordering::Relaxed);
            let seconds = self.tally.begun.elapsed().as_secs_f64();
            let rate = done as f64 / seconds.max(0.001);
            let left = self.tally.total.saturating_sub(done + failed) as f64 / rate.max(0.001);
            let left = humantime::format_duration(Duration::from_secs(left.min(1e9) as u64)).to_string();
            let (received, per_second) = (bytes(received), bytes((received as f64 / seconds.max(0.001)) as u64));
            tracing::info!(done, failed, total = self.tally.total, received, per_second, left, "fetching");
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn advance(&self) {
        let received = self.tally.bytes.load(Ordering::Relaxed);
        let seconds = self.tally.begun.elapsed().as_secs_f64().max(0.001);
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            let failed = self.tally.failed.load(Ordering::Relaxed);
            let problems = if failed > 0 { format!("  {}", count(failed, "problem")) } else { String::new() };
            let rate = bytes((received as f64 / seconds) as u64);
            self.bar.set_message(format!("{} {rate}/s{problems}", bytes(received)));
        }
    }
}

impl Witness for FetchProgress {
    fn stored(&mut self, stored: &Stored) {
        self.tally.done.fetch_add(1, Ordering::Relaxed);
        self.tally.bytes.fetch_add(stored.place.length, Ordering::Relaxed);
        self.advance();
    }

    fn failed(&mut self, failure: &Failure, reason: &str) {
        self.tally.failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(release = %failure.release, stage = failure.stage, reason, "not stored");
        self.advance();
    }
}

/// A bar over bytes, for scrubs and exports.
pub fn byte_bar(total: u64) -> ProgressBar {
    bar("{bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left", Some(total))
}
