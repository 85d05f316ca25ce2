//! Noticing that the upstream is gone.
//!
//! When a host is out of reach, every release would use up its own tries; with millions of them that takes days,
//! and all of them end as holes. Once nothing has come for long enough, although it was tried often, the flow
//! stops instead. Nothing is lost: all that was not fetched stays wanted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long nothing but silence has come from the upstream.
#[derive(Debug)]
pub struct Outage {
    tries: u32,
    time: Duration,
    origin: Instant,
    /// Tries since the last sensible answer.
    failed: AtomicU32,
    /// When the first of them failed, in milliseconds after `origin`.
    since: AtomicU64,
}

impl Outage {
    /// An outage is when at least `tries` tries failed, and none succeeded, over at least `time`.
    pub fn after(tries: u32, time: Duration) -> Self {
        let (failed, since) = (AtomicU32::new(0), AtomicU64::new(0));
        Outage { tries, time, origin: Instant::now(), failed, since }
    }

    /// A sensible answer came.
    pub(super) fn over(&self) {
        if self.failed.load(Ordering::Relaxed) != 0 {
            self.failed.store(0, Ordering::Relaxed);
        }
    }

    /// One more try met silence; if that makes an outage, how long it has lasted.
    pub(super) fn one_more(&self) -> Option<Duration> {
        let now = self.origin.elapsed();
        let before = self.failed.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.since.store(now.as_millis() as u64, Ordering::Relaxed);
        }
        let lasted = now.saturating_sub(Duration::from_millis(self.since.load(Ordering::Relaxed)));
        (before + 1 >= self.tries && lasted >= self.time).then_some(lasted)
    }
}

impl Default for Outage {
    fn default() -> Self {
        Outage::after(30, Duration::from_secs(300))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_must_be_both_long_and_often_tried_to_be_an_outage() {
        let outage = Outage::after(3, Duration::from_secs(60));
        for _ in 0..10 {
            assert_eq!(outage.one_more(), None, "often, but not long");
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(outage.one_more(), Some(Duration::from_secs(61)));
        outage.over();
        assert_eq!(outage.one_more(), None, "one answer is enough");
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(outage.one_more(), None, "long, but not often");
        assert_eq!(outage.one_more(), Some(Duration::from_secs(600)));
    }
}
