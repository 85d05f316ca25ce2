//! Every number that bounds the flow, in one place.

use std::time::Duration;

use crateferry_store::StoreLimits;

use crate::upstream::IndexLimits;

/// How much one stage may have in hand.
#[derive(Clone, Copy, Debug)]
pub struct StageLimit {
    /// Items that it works on at once. With one, items pass in order and no task is made for each.
    pub at_once: usize,
    /// Items that may wait before the next stage.
    pub queue: usize,
}

impl StageLimit {
    const fn new(at_once: usize, queue: usize) -> Self {
        StageLimit { at_once, queue }
    }
}

/// The limits of a sync.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of bodies in memory, across all stages together.
    pub body_bytes: u64,
    /// Releases that may wait before fetch.
    pub work: StageLimit,
    /// Releases whose checksum is compared with the operator's list.
    pub enforce: StageLimit,
    /// Releases that fetch has in hand; how many requests run is the gate's business.
    pub fetch: StageLimit,
    /// Bodies that are compared.
    pub verify: StageLimit,
    /// Crate files that are read for facts.
    pub describe: StageLimit,
    /// Releases that wait for their group to become durable: more than a group has members, so that one can close.
    pub store: StageLimit,
    /// Failures that may wait to be recorded.
    pub failures: usize,
    /// Changed index files that are planned and recorded together.
    pub index_step: usize,
    /// Bytes of index files that are planned and recorded together; a larger file goes alone.
    pub index_step_bytes: usize,
    /// Recorded index files that may wait for their group to become durable: more than a group has members.
    pub index_unsettled: usize,
    /// Changed index files that may wait to be planned.
    pub index_queue: usize,
    /// Releases that the source reads from the ledger at a time.
    pub work_step: usize,
    /// A long sync publishes at least this often.
    pub publish_every: Duration,
    /// Tries in a row that must fail, and over what time, before the upstream counts as out of reach.
    pub outage: (u32, Duration),
    /// Reading an index.
    pub index: IndexLimits,
    /// Packs, groups, caches.
    pub store_limits: StoreLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 32 << 20,
            work: StageLimit::new(1, 64),
            enforce: StageLimit::new(1, 64),
            fetch: StageLimit::new(1024, 64),
            verify: StageLimit::new(1, 64),
            describe: StageLimit::new(4, 64),
            store: StageLimit::new(8192, 64),
            failures: 64,
            index_step: 1024,
            index_step_bytes: 16 << 20,
            index_queue: 64,
            index_unsettled: 8192,
            work_step: 256,
            publish_every: Duration::from_secs(600),
            outage: (30, Duration::from_secs(60)),
            index: IndexLimits::default(),
            store_limits: StoreLimits::default(),
        }
    }
}
