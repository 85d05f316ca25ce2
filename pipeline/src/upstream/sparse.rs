//! A sparse index: one file per crate over HTTP, and no list of what there is.
//!
//! A validator only saves bytes. It is sent back to the index it came from and to no other, and 304 is
//! believed only where it can be true. A 200 is hashed, and its content decides: an `ETag` that stayed while the
//! content changed, or that two different files share, is not used again.
//!
//! `config.json` is asked for first, each time. A wrong URL, a login page or a server that answers 404 to all
//! must not look like a registry from which every crate was deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crateferry_store::{BlobId, CrateName, Identity};
use futures::stream::{self, TryStreamExt};
use reqwest::header::{
    CACHE_CONTROL, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use serde::de::IgnoredAny;

use super::{
    Change, Comparison, ConfigError, IndexLimits, Kind, Mark, Means, Phase, Problem, RegistryConfig, Scope,
    UpstreamError, unless_stopped,
};
use crate::clock::Clock;
use crate::net::{Network, Pause, Retry, is_transient, retry_after};

/// What marks a date in the place of an `ETag`.
const DATE: &str = "last-modified: ";

/// A sparse index.
#[derive(Clone)]
pub struct SparseIndex {
    url: Url,
    limits: IndexLimits,
    network: Arc<Network>,
    retry: Arc<Retry>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SparseIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SparseIndex").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What went wrong with a request to a sparse index.
#[derive(Debug, thiserror::Error)]
pub enum SparseError {
    /// No whole answer came.
    #[error("no whole answer came")]
    Request(#[source] reqwest::Error),
    /// Not even an answer's headers came.
    #[error("no answer came within {0:?} (limit: header-timeout)")]
    Silent(Duration),
    /// Another answer than an index file.
    #[error("the answer was {0}")]
    Status(StatusCode),
    /// Nothing in it looks like an index entry.
    #[error("the answer is not an index file")]
    NotAnIndex,
    /// The server says that what it never sent has not changed.
    #[error("the answer was 304 to a request without a condition")]
    NeverSent,
    /// Too large, after decompression.
    #[error("the answer is larger than an index file may be ({0} bytes)")]
    TooLarge(u64),
    /// No index can be at this URL.
    #[error("there is no registry at this URL")]
    NotARegistry(#[source] Option<ConfigError>),
    /// Too many requests failed one after the other.
    #[error("{0} index files in a row could not be read")]
    GivenUp(usize, #[source] Box<SparseError>),
}

impl SparseError {
    fn is_transient(&self) -> bool {
        match self {
            SparseError::Request(_) | SparseError::Silent(_) => true,
            SparseError::Status(status) => is_transient(*status),
            SparseError::GivenUp(_, cause) => cause.is_transient(),
            _ => false,
        }
    }
}

/// What an index said about one file.
enum Answer {
    /// What the validator stands for.
    Unchanged,
    Found {
        text: Vec<u8>,
        validator: Option<Box<str>>,
    },
    Absent,
}

impl SparseIndex {
    /// The index below `url`.
    pub fn new(mut url: Url, means: &Means) -> Self {
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let Means { network, retry, clock, limits, .. } = means;
        let (network, retry, clock) = (network.clone(), retry.clone(), clock.clone());
        SparseIndex { url, limits: *limits, network, retry, clock }
    }

    /// The URL, with its final slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads `config.json`, past all caches.
    pub async fn config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let answer = self.ask("config.json", None).await.map_err(|source| self.broken(source))?;
        let Answer::Found { text, .. } = answer else { return Err(self.broken(SparseError::NotARegistry(None))) };
        let config = RegistryConfig::parse(text);
        config.map(Some).map_err(|source| self.broken(SparseError::NotARegistry(Some(source))))
    }

    /// See [`Upstream::changes`](super::Upstream::changes).
    pub async fn changes(&self, comparison: Comparison) -> Result<Mark, UpstreamError> {
        let Scope::Names(names) = comparison.scope.clone() else {
            return Err(UpstreamError::NoList { place: self.url.to_string() });
        };
        let stop = comparison.stop.clone();
        unless_stopped(&stop, self.compare(&names, comparison)).await
    }

    async fn compare(&self, names: &[CrateName], comparison: Comparison) -> Result<Mark, UpstreamError> {
        self.config().await?;
        let walk = Walk {
            index: self,
            validators: Validators::new(self, names, &comparison)?,
            done: AtomicU64::new(0),
            total: names.len() as u64,
            failed_in_a_row: AtomicUsize::new(0),
            complete: AtomicBool::new(true),
            comparison,
        };
        let requests = self.limits.requests;
        stream::iter(names.iter().map(Ok)).try_for_each_concurrent(requests, |name| walk.one(name)).await?;
        Ok(walk.comparison.mark(Kind::Sparse, self.url.to_string(), walk.complete.into_inner()))
    }

    fn broken(&self, source: SparseError) -> UpstreamError {
        UpstreamError::Sparse { place: self.url.to_string(), source }
    }

    /// Asks for a file, and again where that may help.
    async fn ask(&self, path: &str, condition: Option<(HeaderName, HeaderValue)>) -> Result<Answer, SparseError> {
        let url = self.url.join(path).expect("an index path is a relative URL");
        let pause = self.network.pause(self.url.host_str().unwrap_or_default());
        let mut condition = condition;
        let mut retry = 0;
        loop {
            pause.over().await;
            let error = match self.ask_once(&url, condition.as_ref(), &pause).await {
                Err(SparseError::NeverSent) if condition.take().is_some() => continue,
                Err(error) if error.is_transient() || matches!(error, SparseError::NeverSent) => error,
                result => return result,
            };
            let Some(delay) = self.retry.delay(retry, None) else { return Err(error) };
            tokio::time::sleep(delay).await;
            retry += 1;
        }
    }

    async fn ask_once(
        &self,
        url: &Url,
        condition: Option<&(HeaderName, HeaderValue)>,
        pause: &Pause,
    ) -> Result<Answer, SparseError> {
        let request = self.network.index_client().get(url.clone());
        let request = match condition {
            Some((name, value)) => request.header(name, value),
            None => request.header(CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        };
        let silence = self.network.config().header_timeout;
        let response = tokio::time::timeout(silence, request.send()).await;
        let response = response.map_err(|_| SparseError::Silent(silence))?.map_err(SparseError::Request)?;
        self.heed(&response, pause);
        match response.status() {
            StatusCode::OK => self.read(response).await,
            StatusCode::NOT_MODIFIED if can_be_true(condition, response.headers()) => Ok(Answer::Unchanged),
            StatusCode::NOT_MODIFIED => Err(SparseError::NeverSent),
            StatusCode::NOT_FOUND => Ok(Answer::Absent),
            status => Err(SparseError::Status(status)),
        }
    }

    /// Takes note when the server wants to be left alone for a while.
    fn heed(&self, response: &Response, pause: &Pause) {
        let asked = response.headers().get(RETRY_AFTER).filter(|_| is_transient(response.status()));
        if let Some(time) = asked.and_then(|value| retry_after(value, self.clock.now())) {
            pause.extend(self.retry.policy().capped(time));
        }
    }

    async fn read(&self, mut response: Response) -> Result<Answer, SparseError> {
        let validator = validator(response.headers());
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(SparseError::Request)? {
            if (text.len() + piece.len()) as u64 > self.limits.file {
                return Err(SparseError::TooLarge(self.limits.file));
            }
            text.extend_from_slice(&piece);
        }
        Ok(Answer::Found { text, validator })
    }
}

/// The validator of an answer: its `ETag`, or else its date.
fn validator(headers: &HeaderMap) -> Option<Box<str>> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let date = || text(LAST_MODIFIED).map(|date| format!("{DATE}{date}").into());
    text(ETAG).map(Into::into).or_else(date)
}

/// The header that sends a validator back.
fn condition(validator: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match validator.strip_prefix(DATE) {
        Some(date) => (IF_MODIFIED_SINCE, date),
        None => (IF_NONE_MATCH, validator),
    };
    Some((name, HeaderValue::from_str(text).ok()?))
}

/// Whether a 304 can answer this condition: there was one, and no other `ETag` comes with the answer.
fn can_be_true(condition: Option<&(HeaderName, HeaderValue)>, headers: &HeaderMap) -> bool {
    let strong = |value: &HeaderValue| value.as_bytes().strip_prefix(b"W/").unwrap_or(value.as_bytes()).to_vec();
    match (condition, headers.get(ETAG)) {
        (Some((name, sent)), Some(came)) if *name == IF_NONE_MATCH => strong(sent) == strong(came),
        (sent, _) => sent.is_some(),
    }
}

/// Whether this could be an index file: at least one of its lines is a JSON object.
fn is_index(text: &[u8]) -> bool {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| line.starts_with(b"{")).any(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok())
}

/// Which validators are worth sending.
struct Validators {
    /// Whether those that are known came from this index.
    from_here: bool,
    /// `ETag`s that stand for more than one content.
    shared: HashSet<Box<str>>,
}

impl Validators {
    fn new(index: &SparseIndex, names: &[CrateName], comparison: &Comparison) -> Result<Self, UpstreamError> {
        let here = |last: &Mark| last.kind == Kind::Sparse && last.place == index.url.as_str();
        let from_here = comparison.last.as_ref().is_some_and(here);
        let shared = if from_here { shared_etags(names, comparison)? } else { HashSet::new() };
        Ok(Validators { from_here, shared })
    }

    fn condition(&self, known: Option<&Identity>) -> Option<(HeaderName, HeaderValue)> {
        let validator = known?.etag.as_deref()?;
        if self.from_here && !self.shared.contains(validator) { condition(validator) } else { None }
    }
}

/// `ETag`s that are known for files of different content: whoever gives them does not look at the content.
fn shared_etags(names: &[CrateName], comparison: &Comparison) -> Result<HashSet<Box<str>>, UpstreamError> {
    let mut seen: HashMap<Box<str>, BlobId> = HashMap::new();
    let mut shared = HashSet::new();
    for name in names {
        let Some(Identity { blob, etag: Some(etag) }) = comparison.identity(name)? else { continue };
        let stands_for_another = *seen.entry(etag.clone()).or_insert(blob) != blob;
        if stands_for_another && !etag.starts_with(DATE) {
            shared.insert(etag);
        }
    }
    Ok(shared)
}

/// One pass over the names of a scope.
struct Walk<'a> {
    index: &'a SparseIndex,
    comparison: Comparison,
    validators: Validators,
    done: AtomicU64,
    total: u64,
    failed_in_a_row: AtomicUsize,
    complete: AtomicBool,
}

impl Walk<'_> {
    async fn one(&self, name: &CrateName) -> Result<(), UpstreamError> {
        let known = self.comparison.identity(name)?;
        let condition = self.validators.condition(known.as_ref());
        let answer = self.index.ask(&name.index_path(), condition).await;
        if let Some(change) = self.change(name, known, answer)? {
            self.comparison.send(change).await?;
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.comparison.progress.at(Phase::Comparing, done, Some(self.total));
        Ok(())
    }

    fn change(
        &self,
        name: &CrateName,
        known: Option<Identity>,
        answer: Result<Answer, SparseError>,
    ) -> Result<Option<Change>, UpstreamError> {
        let change = match answer {
            Ok(Answer::Unchanged) => None,
            Ok(Answer::Absent) => Some(self.comparison.absent(name.clone())?),
            Ok(Answer::Found { text, .. }) if !is_index(&text) => {
                return self.failed(name, SparseError::NotAnIndex).map(Some);
            }
            Ok(Answer::Found { text, validator }) => found(name, known, text, validator),
            Err(SparseError::TooLarge(limit)) => {
                Some(Change::Unusable { path: name.index_path(), problem: Problem::Unbounded { limit } })
            }
            Err(error) => return self.failed(name, error).map(Some),
        };
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        Ok(change)
    }

    /// Notes that a file could not be read; many in a row mean that the index cannot be.
    fn failed(&self, name: &CrateName, error: SparseError) -> Result<Change, UpstreamError> {
        self.complete.store(false, Ordering::Relaxed);
        let failed = self.failed_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if failed >= self.index.limits.failures {
            return Err(self.index.broken(SparseError::GivenUp(failed, Box::new(error))));
        }
        let transient = error.is_transient();
        Ok(Change::Failed { name: name.clone(), problem: Box::new(error), transient })
    }
}

/// What a file means that came whole.
fn found(name: &CrateName, known: Option<Identity>, text: Vec<u8>, validator: Option<Box<str>>) -> Option<Change> {
    let name = name.clone();
    let identity = Identity { blob: BlobId::of(&text), etag: validator };
    match known {
        Some(known) if known == identity => None,
        Some(known) if known.blob == identity.blob => Some(Change::Renewed { name, identity }),
        // The same validator for another content: it cannot be trusted.
        Some(known) if known.etag == identity.etag => {
            Some(Change::Updated { name, identity: Identity { etag: None, ..identity }, text })
        }
        _ => Some(Change::Updated { name, identity, text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_json_object_on_a_line_is_an_index_file() {
        for good in ["{\"name\":\"a\"}\n", "\n\n{}", "rubbish\n{\"name\":\"a\"}\n", "{}\r\n"] {
            assert!(is_index(good.as_bytes()), "{good:?}");
        }
        for bad in ["", "\n", "<!doctype html><p>{}</p>", "{\"name\":", "null", "404: Not Found"] {
            assert!(!is_index(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_304_is_believed_only_where_it_can_be_true() {
        let headers = |etag: &'static str| HeaderMap::from_iter([(ETAG, HeaderValue::from_static(etag))]);
        let sent = condition("\"a\"");
        assert!(can_be_true(sent.as_ref(), &headers("\"a\"")));
        assert!(can_be_true(sent.as_ref(), &headers("W/\"a\"")));
        assert!(can_be_true(sent.as_ref(), &HeaderMap::new()));
        assert!(!can_be_true(sent.as_ref(), &headers("\"b\"")));
        assert!(!can_be_true(None, &headers("\"a\"")));
        assert!(can_be_true(condition("last-modified: yesterday").as_ref(), &headers("\"b\"")));
    }

    #[test]
    fn a_validator_goes_back_in_the_header_it_belongs_to() {
        assert_eq!(condition("\"a\"").unwrap().0, IF_NONE_MATCH);
        let (name, value) = condition("last-modified: Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!((name, value.to_str().unwrap()), (IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(condition("a\nb").is_none());
    }
}
