//! One server's wish for quiet, shared by all who ask it.
//!
//! A server that answers 429 or 503 with a date speaks to the whole program, not to the one request it
//! happened to answer: until then nobody asks it for anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Until when a host wants to be left alone.
#[derive(Debug)]
pub struct Pause {
    origin: Instant,
    /// Milliseconds after `origin`.
    until: AtomicU64,
}

impl Pause {
    /// A host that may be asked now.
    pub fn new() -> Self {
        Pause { origin: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Nobody asks for `duration` from now; a longer pause that is already running stays.
    pub fn extend(&self, duration: Duration) {
        let until = (self.origin.elapsed() + duration).as_millis();
        self.until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits until the pause is over, also one that begins meanwhile.
    pub async fn over(&self) {
        loop {
            let until = self.until.load(Ordering::Relaxed);
            if until == 0 {
                return;
            }
            let end = self.origin + Duration::from_millis(until);
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Default for Pause {
    fn default() -> Self {
        Pause::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_until_its_longest_wish_is_over() {
        let pause = Pause::new();
        let start = Instant::now();
        pause.over().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pause.extend(Duration::from_secs(20));
        pause.extend(Duration::from_secs(5));
        tokio::join!(pause.over(), pause.over());
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_grows_while_somebody_waits_is_waited_for_too() {
        let pause = Pause::new();
        let start = Instant::now();
        pause.extend(Duration::from_secs(2));
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pause.extend(Duration::from_secs(9));
        };
        tokio::join!(pause.over(), later);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
