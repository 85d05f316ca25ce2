//! CPU profiles: where this process spends its time, in the form that `go tool pprof` and speedscope read.
//!
//! The system interrupts the process a hundred times for each second of processor time that it uses, and the place where
//! it was is counted. An idle process has an empty profile.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

/// How long a profile may take.
pub const LONGEST: Duration = Duration::from_secs(60);
/// How long it takes if nobody says.
const USUAL: u64 = 30;

/// How long a profile takes for which so many seconds are asked; none if they are too few or too many.
pub fn time(seconds: Option<u64>) -> Option<Duration> {
    let seconds = seconds.unwrap_or(USUAL);
    (1..=LONGEST.as_secs()).contains(&seconds).then_some(Duration::from_secs(seconds))
}

/// No profile was taken.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be here.
    #[cfg_attr(all(unix, feature = "profiling"), expect(dead_code, reason = "here it can"))]
    #[error(
        "this build takes no CPU profiles: it is not for a Unix system, or was made without the feature `profiling`"
    )]
    Unsupported,
    /// It was tried.
    #[cfg_attr(not(all(unix, feature = "profiling")), expect(dead_code, reason = "nothing is tried that could fail"))]
    #[error("no profile could be taken: {0}")]
    Failed(String),
}

impl ProfileError {
    /// How HTTP says so.
    pub fn status(&self) -> StatusCode {
        match self {
            ProfileError::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ProfileError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(all(unix, feature = "profiling"))]
pub use sampled::cpu;

#[cfg(all(unix, feature = "profiling"))]
mod sampled {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use pprof::protos::Message as _;
    use pprof::{ProfilerGuard, ProfilerGuardBuilder};

    use super::{Duration, OwnedSemaphorePermit, ProfileError};

    /// Samples for each second of processor time. A prime, so as not to keep step with what happens regularly.
    const FREQUENCY: i32 = 97;

    /// Takes a profile: gzipped protobuf. `alone` is held to the end, also if nobody waits for it any more.
    pub async fn cpu(time: Duration, alone: OwnedSemaphorePermit) -> Result<Vec<u8>, ProfileError> {
        let sampling = begin().map_err(failed)?;
        tokio::time::sleep(time).await;
        let finished = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            finish(&sampling)
        });
        finished.await.map_err(failed).flatten()
    }

    /// Within the C library and the unwinder a thread may hold what the sampler needs, so no samples are taken there.
    fn begin() -> pprof::Result<ProfilerGuard<'static>> {
        let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY);
        #[cfg(any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "loongarch64"
        ))]
        let builder = builder.blocklist(&["libc", "libgcc", "pthread", "vdso"]);
        builder.build()
    }

    fn finish(sampling: &ProfilerGuard<'_>) -> Result<Vec<u8>, ProfileError> {
        let profile = sampling.report().build().and_then(|report| report.pprof()).map_err(failed)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&profile.encode_to_vec()).and_then(|()| gzip.finish()).map_err(failed)
    }

    fn failed(error: impl std::fmt::Display) -> ProfileError {
        ProfileError::Failed(error.to_string())
    }
}

/// There are none here.
#[cfg(not(all(unix, feature = "profiling")))]
pub async fn cpu(_time: Duration, _alone: OwnedSemaphorePermit) -> Result<Vec<u8>, ProfileError> {
    Err(ProfileError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_takes_a_minute_at_most() {
        assert_eq!(time(None), Some(Duration::from_secs(30)));
        assert_eq!(time(Some(1)), Some(Duration::from_secs(1)));
        assert_eq!(time(Some(60)), Some(LONGEST));
        assert_eq!([time(Some(0)), time(Some(61))], [None; 2]);
    }
}
