//! What a running sync tells others of itself.
//!
//! It is written into the mirror once a second, so that a server in another process can show how far the sync is. Whoever
//! reads it takes it for what it is: a few seconds old at most, or of a run that has ended. The last one says so, so that
//! nobody waits for more.

mod board;
mod reason;
mod telling;

use std::time::Duration;

use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_store::Layout;
use serde::{Deserialize, Serialize};

pub use board::{IndexChanges, Run};
pub use reason::Reason;
pub use telling::Telling;

/// What a sync is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Comparing the upstream's index and recording what changed.
    Index,
    /// Fetching releases.
    Fetch,
    /// Making what is held the next generation.
    Publish,
    /// Nothing any more.
    Done,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Phase; 4] = [Phase::Index, Phase::Fetch, Phase::Publish, Phase::Done];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Index => "index",
            Phase::Fetch => "fetch",
            Phase::Publish => "publish",
            Phase::Done => "done",
        }
    }
}

/// A run that has not told anything for this long has ended, however it did.
const SILENCE: Duration = Duration::from_secs(10);
/// The phase of such a run.
const LOST: &str = "lost";

/// How far a sync is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The process.
    pub pid: u32,
    /// crateferry's version.
    pub version: String,
    /// Seconds since 1970.
    pub started_at: u64,
    /// Seconds since 1970; when this was written.
    pub updated_at: u64,
    /// What it is doing: `index`, `fetch` or `publish`; `done` once it has ended. Who reads it finds `lost` for a run
    /// that ended without a word.
    pub phase: String,
    /// Releases to fetch in this run; index files in phase `index`, if their number is known.
    pub total: u64,
    /// Of these, how many have been dealt with.
    pub processed: u64,
    /// Stored.
    pub ok: u64,
    /// Not stored.
    pub errors: u64,
    /// Requests that were made again.
    pub retries: u64,
    /// Bytes of the crate files stored.
    pub bytes: u64,
    /// Seconds since the run began.
    pub uptime_sec: u64,
    /// How many of them a second, over the last ten seconds.
    pub rate_per_sec: f64,
    /// Bytes a second, over the last ten seconds.
    pub bytes_per_sec: f64,
    /// Seconds left at this rate, if it can be told.
    pub left_sec: Option<u64>,
    /// The stages of the flow, in their order.
    pub stages: Vec<StageStatus>,
}

/// How full a stage is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Items that it works on.
    pub in_hand: u64,
    /// The most that it may work on at once.
    pub at_once: u64,
    /// Items that wait before it.
    pub queued: u64,
    /// The most that may wait.
    pub queue: u64,
}

impl RunStatus {
    /// The run that is under way, if one is.
    pub fn read(layout: &Layout) -> Option<RunStatus> {
        RunStatus::last(layout).filter(|last| last.phase != Phase::Done.name() && last.phase != LOST)
    }

    /// The run that told of itself last, whether it is under way or not.
    pub fn last(layout: &Layout) -> Option<RunStatus> {
        let text = std::fs::read(layout.run()).ok()?;
        let mut status: RunStatus = serde_json::from_slice(&text).ok()?;
        let silent_for = SystemClock.now().saturating_sub(status.updated_at);
        if silent_for > SILENCE.as_secs() && status.phase != Phase::Done.name() {
            LOST.clone_into(&mut status.phase);
        }
        Some(status)
    }
}
