//! What moves through the flow: one type per link, so that a stage cannot be given what is not ready for it.

use crateferry_store::{Body, Facts, Place, Release, VerifiedBytes};

/// How a release was asked for: the audit record grows with it from stage to stage.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// The URL that was asked.
    pub url: String,
    /// The last HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How often it was asked again within this run.
    pub retries: u32,
    /// Seconds since 1970 at the first request.
    pub started_at: u64,
    /// Bytes received, if a body came.
    pub size: Option<u64>,
}

/// A release that the selection wants and the mirror does not hold.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The release and its promised checksum.
    pub release: Release,
}

/// A body that came for a wanted release; nothing is known of it yet.
#[derive(Debug)]
pub struct Fetched {
    /// What was asked for.
    pub wanted: Wanted,
    /// What came.
    pub body: Body,
    /// How it was asked for.
    pub attempt: Attempt,
}

/// A release with the bytes that its checksum promises.
#[derive(Debug)]
pub struct Verified {
    /// The release.
    pub release: Release,
    /// Its crate file.
    pub bytes: VerifiedBytes,
    /// How it was asked for.
    pub attempt: Attempt,
}

/// A verified release with the facts from its crate file.
#[derive(Debug)]
pub struct Described {
    /// The release.
    pub release: Release,
    /// Its crate file.
    pub bytes: VerifiedBytes,
    /// What the crate file tells, if it was read.
    pub facts: Option<Facts>,
    /// How it was asked for.
    pub attempt: Attempt,
}

/// A release whose bytes are durable and known to the ledger.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The release.
    pub release: Release,
    /// Where its bytes lie.
    pub place: Place,
    /// How it was asked for.
    pub attempt: Attempt,
}
