//! What this server was asked for in vain, noted until the mirror's operator takes it across the gap.
//!
//! Names that no index file answered to, and releases of lock files that people gave to the page for that. No request waits for a
//! disk because of it: names are kept in memory and written now and then, those of lock files before their page is answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crateferry_store::{CrateName, Layout, LedgerError, MirrorReader, OpenError, ReleaseId, Wish, Wishes};

use crate::wishes::{WishRules, spellings};

/// The wishes of a mirror that a server knows.
pub struct WishBook {
    layout: Layout,
    rules: WishRules,
    /// Those that are not written yet.
    new: Mutex<Wishes>,
    /// One thread at a time writes.
    writing: Mutex<()>,
    is_told: AtomicBool,
}

impl WishBook {
    /// A book for a mirror.
    pub fn new(layout: Layout, rules: WishRules) -> WishBook {
        let (new, writing, is_told) = (Mutex::default(), Mutex::default(), AtomicBool::default());
        WishBook { layout, rules, new, writing, is_told }
    }

    /// Notes that there is no index file of this name.
    pub fn missed(&self, name: &CrateName) {
        self.note(Wish::new(name, None));
    }

    /// Notes a wish, if it may be and there is room. Says whether it may be.
    pub fn note(&self, wish: Wish) -> bool {
        let may_be = self.rules.allow(&wish);
        if may_be {
            self.new.lock().expect("nothing panics with it").add(wish, self.rules.limits);
        }
        may_be
    }

    /// Writes what was noted since, without what the mirror has by now. Blocks on the disk. What cannot be written is kept.
    pub fn write(&self, mirror: &MirrorReader) -> Result<(), WishError> {
        let _one = self.writing.lock().expect("nothing panics with it");
        let new = std::mem::take(&mut *self.new.lock().expect("nothing panics with it"));
        if new.is_empty() {
            return Ok(());
        }
        let written = self.merge(mirror, &new);
        if written.is_err() {
            for wish in new.iter() {
                self.note(wish.clone());
            }
        }
        written
    }

    /// The file may have been edited, and other servers may write it too: it counts, and what is new is added.
    fn merge(&self, mirror: &MirrorReader, new: &Wishes) -> Result<(), WishError> {
        let mut all = Wishes::read(&self.layout, self.rules.limits)?;
        let mut problem = None;
        let before = all.clone();
        all.retain(|wish| !is_held(mirror, wish).unwrap_or_else(|error| problem.replace(error).is_some()));
        for wish in new.iter() {
            if !is_held(mirror, wish)? {
                all.add(wish.clone(), self.rules.limits);
            }
        }
        match problem {
            Some(problem) => Err(problem.into()),
            None if all == before => Ok(()),
            None => Ok(all.write(&self.layout)?),
        }
    }

    /// The same, where nobody waits for it; a failure is told once.
    pub fn write_or_tell(&self, mirror: &MirrorReader) {
        match self.write(mirror) {
            Ok(()) => self.is_told.store(false, Ordering::Relaxed),
            Err(error) if !self.is_told.swap(true, Ordering::Relaxed) => {
                let problem = crateferry_pipeline::error_chain(&error);
                tracing::warn!("wishes cannot be written, and are kept in memory: {problem}");
            }
            Err(_) => {}
        }
    }
}

/// Wishes that are not written.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// Their file cannot be read or written.
    #[error("cannot keep wishes")]
    File(#[from] OpenError),
    /// It cannot be told what the mirror holds.
    #[error("cannot look up what the mirror holds")]
    Catalog(#[from] LedgerError),
}

/// Whether the mirror serves what is wished for, in any spelling.
pub fn is_held(mirror: &MirrorReader, wish: &Wish) -> Result<bool, LedgerError> {
    for name in spellings(wish.name()) {
        let held = match wish.version() {
            None => mirror.catalog.index_file(&name)?.is_some(),
            Some(version) => {
                let held = mirror.catalog.held_at(&ReleaseId { name, version: version.clone() })?;
                held.iter().any(|held| !held.withdrawn)
            }
        };
        if held {
            return Ok(true);
        }
    }
    Ok(false)
}
