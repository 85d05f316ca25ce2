//! How many bytes of bodies lie in memory, across all stages together.
//!
//! A body takes its whole share before its first byte is read and gives it back when its bytes have been
//! appended to a pack. It never waits for a second share while it holds one, so two bodies cannot wait for each
//! other. Shares are handed out in the order they were asked for: a large body is not overtaken for ever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shares are counted in pieces of this size.
const PIECE: u64 = 1024;

/// The room for bodies in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    room: Arc<Semaphore>,
    pieces: u32,
}

impl Budget {
    /// What bodies may occupy unless the operator says otherwise: 32 MiB.
    pub const DEFAULT: u64 = 32 * 1024 * 1024;

    /// Room for `bytes` bytes, rounded up to whole KiB.
    pub fn new(bytes: u64) -> Self {
        let pieces = pieces(bytes);
        Budget { room: Arc::new(Semaphore::new(pieces as usize)), pieces }
    }

    /// Waits for room for `bytes` bytes. What is more than the whole budget gets all of it.
    pub async fn share(&self, bytes: u64) -> Share {
        let pieces = pieces(bytes).min(self.pieces);
        let room = Arc::clone(&self.room);
        Share(room.acquire_many_owned(pieces).await.expect("the semaphore is never closed"))
    }

    /// Room for `bytes` bytes, if it is there.
    pub fn try_share(&self, bytes: u64) -> Option<Share> {
        let pieces = pieces(bytes).min(self.pieces);
        Arc::clone(&self.room).try_acquire_many_owned(pieces).ok().map(Share)
    }

    /// The whole budget in bytes.
    pub fn total(&self) -> u64 {
        u64::from(self.pieces) * PIECE
    }

    /// How many bytes are handed out.
    pub fn in_use(&self) -> u64 {
        self.total() - self.room.available_permits() as u64 * PIECE
    }
}

/// A body's room in memory, given back when it is dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Share {
    /// Keeps room for `bytes` bytes and gives the rest back.
    pub fn shrink(&mut self, bytes: u64) {
        let rest = self.0.num_permits().saturating_sub(pieces(bytes) as usize);
        drop(self.0.split(rest));
    }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_returns_when_it_is_dropped_and_partly_when_it_shrinks() {
        let budget = Budget::new(8 * 1024);
        let mut share = budget.share(5000).await;
        assert_eq!(budget.in_use(), 5 * 1024);
        share.shrink(1);
        assert_eq!(budget.in_use(), 1024);
        share.shrink(1 << 30);
        assert_eq!(budget.in_use(), 1024, "a share never grows");
        drop(share);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_body_larger_than_the_budget_takes_all_of_it_instead_of_waiting_for_ever() {
        let budget = Budget::new(4096);
        let share = budget.share(u64::MAX).await;
        assert_eq!(budget.in_use(), 4096);
        drop(share);
    }

    #[tokio::test]
    async fn a_small_body_does_not_overtake_a_large_one_that_waits() {
        let budget = Budget::new(4096);
        let first = budget.share(1024).await;
        let mut large = Box::pin(budget.share(4096));
        let mut small = Box::pin(budget.share(1024));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(futures::poll!(&mut small).is_pending());
        drop(first);
        let large = large.await;
        assert!(futures::poll!(&mut small).is_pending());
        drop(large);
        small.await;
    }
}
