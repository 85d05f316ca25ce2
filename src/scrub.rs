//! Reading the packs a part at a time: where that goes on, and a server that does it in the background.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crateferry_store::{Layout, MirrorReader, StoreLimits, verify_packs, write_scrub_file};
use serde::{Deserialize, Serialize};

/// How long a server waits after it read all packs, or could not, before it begins anew.
const REST: Duration = Duration::from_secs(60);

#[derive(Default, Serialize, Deserialize)]
struct Progress {
    next_pack: u32,
}

/// The pack to go on with. What cannot be read, or nobody wrote, means the beginning.
pub fn begins_at(layout: &Layout) -> u32 {
    let text = std::fs::read(layout.scrub()).unwrap_or_default();
    serde_json::from_slice::<Progress>(&text).unwrap_or_default().next_pack
}

/// Notes the pack to go on with; none for the first.
pub fn go_on_at(layout: &Layout, next_pack: Option<u32>) -> io::Result<()> {
    let progress = Progress { next_pack: next_pack.unwrap_or(0) };
    write_scrub_file(layout, &serde_json::to_vec(&progress).expect("a number"))
}

/// What a server read in the background.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Bytes that were hashed.
    pub bytes: AtomicU64,
    /// Findings, all in all.
    pub findings: AtomicU64,
}

/// Reads the packs of a mirror one after the other, for ever, at so many bytes a second. Each finding is told to the log. The
/// thread ends with the process.
pub fn begin(mirror: &Path, rate: u64, scrubbed: Arc<Scrubbed>) -> anyhow::Result<()> {
    let (layout, turn) = (Layout::new(mirror), Turn::new(mirror, rate, scrubbed)?);
    let scrub = move || {
        let mut from = begins_at(&layout);
        loop {
            let next = turn.take(from).unwrap_or_else(|error| {
                tracing::error!("the packs cannot be read in the background: {error:#}");
                None
            });
            // Where nothing may be written, a server begins with the first pack when it starts.
            drop(go_on_at(&layout, next));
            from = next.unwrap_or(0);
            if next.is_none() {
                std::thread::sleep(REST);
            }
        }
    };
    std::thread::Builder::new().name("scrub".into()).spawn(scrub).context("cannot start a thread")?;
    Ok(())
}

struct Turn {
    mirror: Layout,
    /// Bytes a second.
    rate: u64,
    scrubbed: Arc<Scrubbed>,
    /// One thread of its own, so that nobody waits for what waits here.
    pool: rayon::ThreadPool,
}

impl Turn {
    fn new(mirror: &Path, rate: u64, scrubbed: Arc<Scrubbed>) -> anyhow::Result<Turn> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "scrub-0".into()).build();
        Ok(Turn { mirror: Layout::new(mirror), rate, scrubbed, pool: pool.context("cannot start a thread")? })
    }

    /// Reads one pack; says which is the next, if it was not the last.
    fn take(&self, from: u32) -> anyhow::Result<Option<u32>> {
        let mirror = MirrorReader::open(self.mirror.root(), StoreLimits::default())?;
        let (begun, read) = (Instant::now(), AtomicU64::new(0));
        let progress = |bytes: u64| {
            self.scrubbed.bytes.fetch_add(bytes, Relaxed);
            let read = read.fetch_add(bytes, Relaxed) + bytes;
            let due = Duration::from_secs_f64(read as f64 / self.rate as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        };
        let verification = self.pool.install(|| verify_packs(&mirror, from, &progress))?;
        for finding in &verification.findings {
            tracing::error!(object = finding.object, problem = finding.problem, "damaged: {}", finding.means);
        }
        self.scrubbed.findings.fetch_add(verification.findings.len() as u64, Relaxed);
        Ok(verification.next_pack)
    }
}
