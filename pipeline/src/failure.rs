//! The second exit of every stage.
//!
//! What becomes of a failed item is decided where the cause is known: the stage that saw it chooses the
//! [`Disposition`]. Nothing is dropped silently: every `Failure` is recorded in the ledger or ends the flow.

use std::error::Error;

use crateferry_store::{Body, Release};

use crate::item::Attempt;

/// What becomes of an item that a stage could not pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Something passing: the network, a busy server. The next sync asks again at once.
    RetrySoon,
    /// Upstream has no such object, or other bytes: the release becomes a hole, asked for again with back-off.
    RetryLater,
    /// A rule forbids it: the release is refused until `--retry-failed`.
    Refuse,
    /// The sync was asked to stop before it came: nothing happened to it.
    Stopped,
    /// Nothing can go on, the disk is full or broken: the flow drains and stops.
    Halt,
}

/// A release that left the flow before it was stored.
#[derive(Debug)]
pub struct Failure {
    /// Which release.
    pub release: Release,
    /// The stage that gave up.
    pub stage: &'static str,
    /// What becomes of it.
    pub disposition: Disposition,
    /// How it was asked for.
    pub attempt: Attempt,
    /// Bytes that failed their check, for the quarantine.
    pub body: Option<Body>,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// The cause with all its sources, in one line.
    pub fn reason(&self) -> String {
        crate::error_chain(self.source.as_ref())
    }
}
