//! Why a crate file did not come, and what follows from that.

use std::error::Error;
use std::time::Duration;

use crateferry_store::BodyError;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

use crate::failure::Disposition;
use crate::net::{Forbidden, is_transient};

/// Why a crate file did not come.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another answer than the file.
    #[error("the server answered {status}")]
    Status {
        /// Which.
        status: StatusCode,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer at all.
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    /// No headers in time.
    #[error("no answer within {} s (limit: `[network] header-timeout`)", .0.as_secs_f64())]
    NoAnswer(Duration),
    /// The rules about hosts forbid it.
    #[error("the request is not permitted")]
    Forbidden(#[source] Forbidden),
    /// Bytes that are not the file's own.
    #[error("the body is encoded as {0:?}, which was not asked for")]
    Encoded(String),
    /// The connection ended within the body.
    #[error("the body was cut after {received} bytes{}", of(*announced))]
    Cut {
        /// How many bytes came.
        received: u64,
        /// How many were announced.
        announced: Option<u64>,
        /// Why.
        source: reqwest::Error,
    },
    /// More or fewer bytes than announced.
    #[error("the body has {received} bytes where {announced} were announced")]
    Length {
        /// How many bytes came.
        received: u64,
        /// How many were announced.
        announced: u64,
    },
    /// Nearly nothing comes.
    #[error("the body came with less than {0} bytes a second (limit: `[network] min-rate`)")]
    TooSlow(u64),
    /// Something comes, but without end.
    #[error("the body took longer than {} s (limit: `[network] total-timeout`)", .0.as_secs())]
    TooLong(Duration),
    /// Larger than any crate file should be.
    #[error("the object is larger than {limit} bytes (limit: object size)")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A body of unknown length outgrew its room in memory, or cannot be continued where it was cut.
    #[error("the body has to be asked for afresh, into a file")]
    StartOver,
    /// The spool failed.
    #[error("a large body cannot be kept")]
    Spool(#[source] BodyError),
    /// The signal to stop came.
    #[error("the sync was stopped before the crate file had come")]
    Stopped,
    /// Nothing succeeds any more.
    #[error("nothing could be fetched for {} s: the upstream is out of reach", .0.as_secs())]
    Outage(Duration, #[source] Box<Fault>),
}

fn of(announced: Option<u64>) -> String {
    announced.map(|announced| format!(" of {announced}")).unwrap_or_default()
}

impl Fault {
    /// Whether asking again within this run may help.
    pub(super) fn passes(&self) -> bool {
        match self {
            Fault::Status { status, .. } => is_transient(*status),
            Fault::Request(_) | Fault::NoAnswer(_) | Fault::TooSlow(_) | Fault::TooLong(_) => true,
            other => other.is_about_the_body(),
        }
    }

    /// Whether a body came, but not the announced one.
    fn is_about_the_body(&self) -> bool {
        matches!(self, Fault::Cut { .. } | Fault::Length { .. })
    }

    /// Whether the server gave no sensible answer: all releases may meet the same.
    pub(super) fn is_silence(&self) -> bool {
        self.passes() && !self.is_about_the_body()
    }

    /// Whether it is a reason to ask for less at once.
    pub(super) fn is_trouble(&self) -> bool {
        match self {
            Fault::Status { status, .. } => wants_quiet(*status),
            Fault::Request(source) => source.is_connect() || source.is_timeout(),
            Fault::NoAnswer(_) | Fault::TooSlow(_) | Fault::TooLong(_) => true,
            _ => false,
        }
    }

    /// What becomes of the release once no try is left.
    pub(super) fn disposition(&self) -> Disposition {
        match self {
            Fault::Status { status, .. } if !is_transient(*status) => Disposition::RetryLater,
            Fault::Encoded(_) | Fault::Cut { .. } | Fault::Length { .. } => Disposition::RetryLater,
            Fault::Forbidden(_) | Fault::TooLarge { .. } => Disposition::Refuse,
            Fault::Spool(_) | Fault::Outage(..) => Disposition::Halt,
            Fault::Stopped => Disposition::Stopped,
            _ => Disposition::RetrySoon,
        }
    }

    /// How long the host asked to be left alone, if it did.
    pub(super) fn asked(&self) -> Option<Duration> {
        match self {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the host, and not only this object, wants to be left alone.
    pub(super) fn speaks_for_the_host(&self) -> bool {
        match self {
            Fault::Status { status, retry_after } => {
                *status == StatusCode::TOO_MANY_REQUESTS || (wants_quiet(*status) && retry_after.is_some())
            }
            _ => false,
        }
    }
}

fn wants_quiet(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        match forbidden(&error) {
            Some(forbidden) => Fault::Forbidden(forbidden),
            None => Fault::Request(error.without_url()),
        }
    }
}

/// A redirect that the HTTP library cannot follow.
pub(super) fn nowhere(location: &HeaderValue) -> Fault {
    Fault::Forbidden(Forbidden::Scheme(String::from_utf8_lossy(location.as_bytes()).chars().take(200).collect()))
}

/// The rule that forbade a request, from deep within the HTTP library's error.
fn forbidden(error: &reqwest::Error) -> Option<Forbidden> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(forbidden) = source.downcast_ref::<Forbidden>() {
            return Some(forbidden.clone());
        }
        cause = source.source();
    }
    None
}
