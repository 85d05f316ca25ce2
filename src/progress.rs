//! Progress for people: bars on a terminal, a log line an interval elsewhere. What is shown is what the [`Run`] counts.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crateferry_pipeline::failure::Failure;
use crateferry_pipeline::import::Gauge as Importing;
use crateferry_pipeline::inventory::Gauge;
use crateferry_pipeline::item::Stored;
use crateferry_pipeline::settle::Witness;
use crateferry_pipeline::upstream::{Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::{bytes, count, grouped};
use crate::run::Run;

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
    run: Arc<Run>,
}

impl IndexProgress {
    pub fn new(interval: Duration, run: Arc<Run>) -> Self {
        let bar = bar("{spinner} {msg}  {human_pos}{prefix}", None);
        IndexProgress { bar, interval, told: std::sync::Mutex::new(Instant::now()), run }
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
        self.run.index_at(done, total);
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

/// The fetch phase.
#[derive(Clone)]
pub struct FetchProgress {
    run: Arc<Run>,
    begun: Instant,
    bar: ProgressBar,
}

impl FetchProgress {
    /// Shows a run that begins to fetch now.
    pub fn new(run: Arc<Run>) -> Self {
        let template = "{bar:30} {human_pos}/{human_len} releases  {msg}  {eta} left";
        let bar = bar(template, Some(run.total()));
        FetchProgress { run, begun: Instant::now(), bar }
    }

    /// Writes a log line every `interval`, for ever, unless there is a terminal that shows bars.
    pub async fn tell_every(self, interval: Duration) {
        if std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(interval.max(Duration::from_millis(100))).await;
            let (done, failed) = (self.run.ok(), self.failed());
            let (received, total) = (self.run.bytes(), self.run.total());
            let seconds = self.begun.elapsed().as_secs_f64();
            let rate = done as f64 / seconds.max(0.001);
            let left = total.saturating_sub(done + failed) as f64 / rate.max(0.001);
            let left = humantime::format_duration(Duration::from_secs(left.min(1e9) as u64)).to_string();
            let (received, per_second) = (bytes(received), bytes((received as f64 / seconds.max(0.001)) as u64));
            tracing::info!(done, failed, total, received, per_second, left, "fetching");
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn failed(&self) -> u64 {
        self.run.not_ok().iter().sum()
    }

    fn advance(&self) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            let (received, failed) = (self.run.bytes(), self.failed());
            let problems = if failed > 0 { format!("  {}", count(failed, "problem")) } else { String::new() };
            let rate = bytes((received as f64 / self.begun.elapsed().as_secs_f64().max(0.001)) as u64);
            self.bar.set_message(format!("{} {rate}/s{problems}", bytes(received)));
        }
    }
}

impl Witness for FetchProgress {
    fn stored(&mut self, stored: &Stored) {
        self.run.stored(stored);
        self.advance();
    }

    fn failed(&mut self, failure: &Failure, reason: &str) {
        self.run.failed(failure);
        tracing::warn!(release = %failure.release, stage = failure.stage, reason, "not stored");
        self.advance();
    }
}

/// Progress over releases that are looked at one by one, from any thread.
pub struct ReleaseProgress {
    bar: ProgressBar,
    what: &'static str,
    interval: Duration,
    told: std::sync::Mutex<Instant>,
}

impl ReleaseProgress {
    pub fn new(what: &'static str, total: u64, interval: Duration) -> Self {
        let bar = bar("{bar:30} {human_pos}/{human_len} releases  {per_sec}  {eta} left", Some(total));
        ReleaseProgress { bar, what, interval, told: std::sync::Mutex::new(Instant::now()) }
    }

    pub fn advance(&self) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            return;
        }
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() >= self.interval {
            *told = Instant::now();
            tracing::info!(done = self.bar.position(), total = self.bar.length(), "{}", self.what);
        }
    }
}

impl Drop for ReleaseProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over bytes, for scrubs and exports.
pub fn byte_bar(total: u64) -> ProgressBar {
    bar("{bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left", Some(total))
}

/// Shows how far hashing is while `work` does it: on a thread that waits for nothing but time and the end, since a single file may take hours.
pub fn hashing<T>(gauge: &Gauge, interval: Duration, work: impl FnOnce() -> T) -> T {
    let bar = bar("{spinner} {decimal_bytes} hashed, {decimal_bytes_per_sec}  {msg}", None);
    let (ended, end) = sync_channel::<()>(0);
    std::thread::scope(|threads| {
        let show = move || show_hashing(&bar, gauge, interval, &end);
        let shown = std::thread::Builder::new().name("progress".into()).spawn_scoped(threads, show);
        drop(shown.inspect_err(|error| tracing::debug!(%error, "nobody will be told how far this is")));
        let done = work();
        drop(ended);
        done
    })
}

/// Shows how far an import is, for ever: as a bar on a terminal, else as a log line every `interval`.
pub async fn importing(gauge: &Importing, interval: Duration) -> Infallible {
    let bar = bar("{spinner} {human_pos} files  {msg}", None);
    let _cleared = Cleared(&bar);
    let begun = Instant::now();
    let tick = if bar.is_hidden() { interval.max(Duration::from_millis(100)) } else { Duration::from_millis(200) };
    loop {
        tokio::time::sleep(tick).await;
        let (files, placed, read) = (gauge.files(), gauge.placed(), gauge.bytes());
        let per_second = bytes((read as f64 / begun.elapsed().as_secs_f64()) as u64);
        if bar.is_hidden() {
            tracing::info!(files, placed, read = bytes(read), per_second, "importing");
        } else {
            bar.set_position(files);
            bar.set_message(format!("{} placed  {} read, {per_second}/s", grouped(placed), bytes(read)));
        }
    }
}

/// Shows how many bytes something has dealt with, for ever.
pub async fn moving(what: &'static str, done: &AtomicU64, interval: Duration) -> Infallible {
    let bar = bar("{spinner} {decimal_bytes}, {decimal_bytes_per_sec}  {msg}", None).with_message(what);
    let _cleared = Cleared(&bar);
    let tick = if bar.is_hidden() { interval.max(Duration::from_millis(100)) } else { Duration::from_millis(200) };
    loop {
        tokio::time::sleep(tick).await;
        let done = done.load(Ordering::Relaxed);
        if bar.is_hidden() {
            tracing::info!(bytes = bytes(done), "{what}");
        } else {
            bar.set_position(done);
        }
    }
}

/// A bar that goes when this does.
struct Cleared<'a>(&'a ProgressBar);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn show_hashing(bar: &ProgressBar, gauge: &Gauge, interval: Duration, end: &Receiver<()>) {
    let begun = Instant::now();
    let tick = if bar.is_hidden() { interval.max(Duration::from_millis(100)) } else { Duration::from_millis(200) };
    while end.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let (files, read) = (gauge.files(), gauge.bytes());
        if bar.is_hidden() {
            let per_second = bytes((read as f64 / begun.elapsed().as_secs_f64()) as u64);
            tracing::info!(files, bytes = bytes(read), per_second, "hashing");
        } else {
            bar.set_position(read);
            bar.set_message(count(files, "file"));
        }
    }
    bar.finish_and_clear();
}
