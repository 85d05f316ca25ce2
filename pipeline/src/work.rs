//! The source of a sync: the ledger's work table, in its order.
//!
//! The order is that of crate names, then of version texts, whatever the concurrency; so `--limit` takes the same
//! releases each time, and ledger keys arrive nearly sorted.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use crateferry_store::{Ledger, Release};

use crate::flow::Source;
use crate::item::Wanted;

/// Gives the releases that are wanted and due.
pub struct Work {
    ledger: Arc<Ledger>,
    now: u64,
    left: u64,
    step: usize,
    after: Option<Release>,
    next: VecDeque<Release>,
}

impl Work {
    /// The work that is due at `now`, at most `limit` releases of it, read `step` at a time.
    pub fn new(ledger: Arc<Ledger>, now: u64, limit: Option<u64>, step: usize) -> Self {
        Work { ledger, now, left: limit.unwrap_or(u64::MAX), step, after: None, next: VecDeque::new() }
    }
}

impl Source for Work {
    type Item = Wanted;
    const NAME: &'static str = "work";

    fn next(&mut self) -> Result<Option<Wanted>, Box<dyn Error + Send + Sync>> {
        if self.next.is_empty() && self.left > 0 {
            let work = self.ledger.reader()?.work_after(self.after.as_ref(), self.step, self.now)?;
            self.next.extend(work.into_iter().map(|work| work.release));
            self.after = self.next.back().cloned().or(self.after.take());
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(self.next.pop_front().map(|release| Wanted { release }))
    }
}
