//! Are these the bytes that the index promises?
//!
//! They were hashed while they arrived, so this is a comparison. It is also the only way to
//! [`VerifiedBytes`](crateferry_store::VerifiedBytes), and nothing else can be stored.

use crateferry_store::Sha256;

use crate::failure::{Disposition, Failure};
use crate::flow::Stage;
use crate::item::{Fetched, Verified};

/// Compares what came with what was promised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verify;

/// A crate file that is not the one its index promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksum mismatch: promised {promised}, received {computed} ({length} bytes)")]
pub struct WrongBytes {
    /// What the index promises.
    pub promised: Sha256,
    /// What came.
    pub computed: Sha256,
    /// How many bytes came.
    pub length: u64,
}

impl Stage for Verify {
    type In = Fetched;
    type Out = Verified;
    const NAME: &'static str = "verify";

    async fn run(&self, fetched: Fetched) -> Result<Verified, Failure> {
        let Fetched { wanted, body, attempt } = fetched;
        let release = wanted.release;
        match body.prove(release.checksum) {
            Ok(bytes) => Ok(Verified { release, bytes, attempt }),
            Err(mismatch) => {
                let wrong =
                    WrongBytes { promised: mismatch.promised, computed: mismatch.computed, length: mismatch.length };
                let (stage, disposition) = (Self::NAME, Disposition::RetryLater);
                let (body, source) = (Some(mismatch.body), Box::new(wrong));
                Err(Failure { release, stage, disposition, attempt, body, source })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Attempt, Wanted};
    use crateferry_store::{BodyBuilder, Release, ReleaseId};

    fn fetched(bytes: &[u8], promised: Sha256) -> Fetched {
        let id = ReleaseId { name: "serde".parse().unwrap(), version: "1.0.0".parse().unwrap() };
        let mut body = BodyBuilder::in_memory(bytes.len());
        body.push(bytes).unwrap();
        let attempt = Attempt { retries: 2, ..Attempt::default() };
        Fetched { wanted: Wanted { release: Release { id, checksum: promised } }, body: body.finish(None), attempt }
    }

    #[tokio::test]
    async fn the_promised_bytes_go_on_with_the_story_of_their_fetch() {
        let verified = Verify.run(fetched(b"abc", Sha256::of(b"abc"))).await.unwrap();
        assert_eq!(verified.bytes.digest(), Sha256::of(b"abc"));
        assert_eq!(verified.attempt.retries, 2);
    }

    #[tokio::test]
    async fn other_bytes_leave_for_the_quarantine_and_the_reason_shows_both_checksums() {
        let (promised, sent) = (Sha256::of(b"abc"), Sha256::of(b"abd"));
        let failure = Verify.run(fetched(b"abd", promised)).await.unwrap_err();
        assert_eq!(failure.disposition, Disposition::RetryLater);
        assert_eq!(failure.body.as_ref().map(crateferry_store::Body::length), Some(3));
        assert_eq!(failure.attempt.retries, 2);
        let reason = failure.reason();
        assert!(reason.contains(&promised.to_string()) && reason.contains(&sent.to_string()), "{reason}");
    }
}
