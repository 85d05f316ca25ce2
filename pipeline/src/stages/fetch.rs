//! Brings the bytes of a wanted release into reach, and says nothing about whether they are the right ones.
//!
//! Guarantees: a request goes only where the rules about hosts permit; a body takes its room in memory before
//! its first byte, or goes to the spool; every object has a limit in size, time, slowness and tries. What is
//! passing is asked for again here, with back-off; what the server plainly denies is not. Each way out says
//! what becomes of the release, because only here is it known why.
//!
//! Room in memory is awaited while the answer's headers are there and its body is not read. That is safe
//! because all streams of a connection fit its window together: a body that waits keeps no other from coming.
//! It is also why a body never keeps memory between two tries; only a file of the spool is kept.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crateferry_store::{Body, BodyBuilder, BodyError, Release, Spool};
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::failure::{Disposition, Failure};
use crate::flow::Stage;
use crate::item::{Attempt, Fetched, Wanted};
use crate::net::{Answerer, Budget, Forbidden, Gate, NetworkConfig, Retry, Share, is_transient, retry_after};
use crate::upstream::crates::{CrateFiles, Rest, request};

/// What a spooled body holds of the budget: the pieces that are on their way to the file.
const SPOOLED_SHARE: u64 = 64 * 1024;
/// A cut body is worth continuing from this size on.
const WORTH_CONTINUING: u64 = 1024 * 1024;
/// Every body may be this many times faster than the least rate before its size gives it more time.
const ABOVE_LEAST_RATE: u64 = 16;

/// Asks the registry for crate files.
pub struct Fetch {
    /// Where they come from.
    pub files: CrateFiles,
    /// How many requests run at once.
    pub gate: Arc<Gate>,
    /// How much memory bodies may occupy.
    pub budget: Budget,
    /// Where large bodies go.
    pub spool: Spool,
    /// When to ask again.
    pub retry: Arc<Retry>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How large, how long, how slow.
    pub limits: FetchLimits,
    /// Whether anything succeeds at all.
    pub outage: Outage,
    /// The signal to stop: waits end at once, bodies under way get a little longer.
    pub stop: CancellationToken,
}

/// The bounds of one object, and of patience.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    /// The largest object, in bytes.
    pub object: u64,
    /// The largest object that is kept in memory, in bytes.
    pub in_memory: u64,
    /// How long an answer's headers may take.
    pub header_timeout: Duration,
    /// How long a body may take, whatever its size.
    pub total_timeout: Duration,
    /// The least bytes a second.
    pub min_rate: u64,
    /// Over what time the least rate is measured.
    pub rate_window: Duration,
    /// HTTP/1.1 connections to the host.
    pub max_conns_per_host: usize,
    /// How long a body under way may go on after the signal to stop.
    pub stop_grace: Duration,
}

impl FetchLimits {
    /// The limits that a configuration describes.
    pub fn new(config: &NetworkConfig) -> Self {
        FetchLimits {
            object: 512 * 1024 * 1024,
            in_memory: 4 * 1024 * 1024,
            header_timeout: config.header_timeout,
            total_timeout: config.total_timeout,
            min_rate: config.min_rate,
            rate_window: config.rate_window,
            max_conns_per_host: config.max_conns_per_host,
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// How many releases in a row were given up although each was tried again and again.
///
/// When a host is gone, every release would use up its own tries; with millions of them that takes days. After
/// so many without one success between them the flow stops instead. Nothing is lost: all stay wanted.
#[derive(Debug)]
pub struct Outage {
    in_a_row: AtomicU32,
    most: u32,
}

impl Outage {
    /// An outage after `most` releases.
    pub fn after(most: u32) -> Self {
        Outage { in_a_row: AtomicU32::new(0), most }
    }

    fn over(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    fn one_more(&self) -> bool {
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= self.most
    }
}

impl Default for Outage {
    fn default() -> Self {
        Outage::after(1000)
    }
}

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
    #[error("{0} releases in a row could not be fetched: the upstream seems to be out of reach")]
    Outage(u32, #[source] Box<Fault>),
}

fn of(announced: Option<u64>) -> String {
    announced.map(|announced| format!(" of {announced}")).unwrap_or_default()
}

impl Fault {
    /// Whether asking again within this run may help.
    fn passes(&self) -> bool {
        match self {
            Fault::Status { status, .. } => is_transient(*status),
            Fault::Request(_) | Fault::NoAnswer(_) | Fault::Cut { .. } | Fault::Length { .. } => true,
            Fault::TooSlow(_) | Fault::TooLong(_) => true,
            _ => false,
        }
    }

    /// Whether it is a reason to ask for less at once.
    fn is_trouble(&self) -> bool {
        match self {
            Fault::Status { status, .. } => wants_quiet(*status),
            Fault::Request(source) => source.is_connect() || source.is_timeout(),
            Fault::NoAnswer(_) | Fault::TooSlow(_) | Fault::TooLong(_) => true,
            _ => false,
        }
    }

    /// What becomes of the release once no try is left.
    fn disposition(&self) -> Disposition {
        match self {
            Fault::Status { status, .. } if !is_transient(*status) => Disposition::RetryLater,
            Fault::Encoded(_) | Fault::Cut { .. } | Fault::Length { .. } => Disposition::RetryLater,
            Fault::Forbidden(_) | Fault::TooLarge { .. } => Disposition::Refuse,
            Fault::Spool(_) | Fault::Outage(..) => Disposition::Halt,
            Fault::Status { .. } | Fault::Request(_) | Fault::NoAnswer(_) | Fault::TooSlow(_) => Disposition::RetrySoon,
            Fault::TooLong(_) | Fault::StartOver | Fault::Stopped => Disposition::RetrySoon,
        }
    }

    /// How long the host asked to be left alone, if it did.
    fn asked(&self) -> Option<Duration> {
        match self {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the host, and not only this object, wants to be left alone.
    fn speaks_for_the_host(&self) -> bool {
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
fn nowhere(location: &HeaderValue) -> Fault {
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

impl Stage for Fetch {
    type In = Wanted;
    type Out = Fetched;

    async fn run(&self, wanted: Wanted) -> Result<Fetched, Failure> {
        let mut attempt = Attempt { started_at: self.clock.now(), ..Attempt::default() };
        let fetched = tokio::select! {
            biased;
            fetched = self.fetch(&wanted.release, &mut attempt) => fetched,
            () = self.long_stopped() => Err(Fault::Stopped),
        };
        match fetched {
            Ok(body) => Ok(Fetched { wanted, body, attempt }),
            Err(fault) => {
                let (release, disposition) = (wanted.release, fault.disposition());
                Err(Failure { release, stage: "fetch", disposition, attempt, body: None, source: Box::new(fault) })
            }
        }
    }
}

impl Fetch {
    /// Asks until the body is there, the server denies it, or no try is left.
    async fn fetch(&self, release: &Release, attempt: &mut Attempt) -> Result<Body, Fault> {
        let url = self.files.url(release);
        attempt.url = url.to_string();
        let mut place = Place::Fresh;
        loop {
            let fault = match self.once(&url, &mut place, attempt).await {
                Ok(body) => {
                    self.outage.over();
                    return Ok(body);
                }
                Err(Fault::StartOver) => {
                    place = Place::File;
                    continue;
                }
                Err(fault) if fault.passes() => fault,
                Err(fault) => return Err(fault),
            };
            let Some(wait) = self.retry.delay(attempt.retries, fault.asked()) else {
                return Err(self.given_up(fault));
            };
            if fault.speaks_for_the_host() {
                self.files.pause().extend(wait);
            }
            attempt.retries += 1;
            tracing::debug!(url = attempt.url, %fault, ?wait, "asking again");
            self.unless_stopped(tokio::time::sleep(wait)).await?;
        }
    }

    fn given_up(&self, fault: Fault) -> Fault {
        if self.outage.one_more() { Fault::Outage(self.outage.most, Box::new(fault)) } else { fault }
    }

    /// One try, when the gate and the host permit it.
    async fn once(&self, url: &Url, place: &mut Place, attempt: &mut Attempt) -> Result<Body, Fault> {
        let pass = self.unless_stopped(self.gate.enter()).await?;
        self.unless_stopped(self.files.pause().over()).await?;
        let brought = self.exchange(url, place, attempt).await;
        match &brought {
            Ok(body) => pass.finished(body.length()),
            Err(fault) if fault.is_trouble() => pass.troubled(),
            Err(_) => drop(pass),
        }
        brought
    }

    /// One request and its answer.
    async fn exchange(&self, url: &Url, place: &mut Place, attempt: &mut Attempt) -> Result<Body, Fault> {
        (attempt.status, attempt.size) = (None, None);
        let mut lane = self.unless_stopped(self.files.enter()).await?;
        let limit = self.limits.header_timeout;
        let answer = tokio::time::timeout(limit, lane.send(request(url.clone(), place.rest()))).await;
        let mut response = answer.map_err(|_| Fault::NoAnswer(limit))??;
        attempt.status = Some(response.status().as_u16());
        if self.files.answerer() == Answerer::Http1 {
            self.gate.cap(self.limits.max_conns_per_host);
        }
        self.check_answer(&response, place)?;
        let mut incoming = self.begin(&response, std::mem::replace(place, place.without_bytes())).await?;
        let received = self.receive(&mut response, &mut incoming).await;
        attempt.size = Some(incoming.body.length());
        match received {
            Ok(()) => Ok(incoming.finish()),
            Err(fault) => {
                if let Some(kept) = incoming.keep(&response, &fault) {
                    *place = kept;
                }
                Err(fault)
            }
        }
    }

    /// Whether the answer is a crate file, or the rest of the one that was begun.
    fn check_answer(&self, response: &Response, place: &mut Place) -> Result<(), Fault> {
        let (status, headers) = (response.status(), response.headers());
        match status {
            StatusCode::OK => *place = place.without_bytes(),
            StatusCode::PARTIAL_CONTENT if place.continues_with(headers) => {}
            // The server does not go on where it was asked to: the next try starts over.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if place.rest().is_some() => {
                *place = place.without_bytes();
                return Err(Fault::StartOver);
            }
            _ if status.is_redirection() && headers.contains_key(LOCATION) => return Err(nowhere(&headers[LOCATION])),
            _ => {
                let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value, self.clock.now()));
                return Err(Fault::Status { status, retry_after });
            }
        }
        match headers.get(CONTENT_ENCODING) {
            Some(encoding) if encoding != "identity" => {
                Err(Fault::Encoded(String::from_utf8_lossy(encoding.as_bytes()).into_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Waits for room for the whole body.
    async fn begin(&self, response: &Response, place: Place) -> Result<Incoming, Fault> {
        let announced = response.content_length();
        if let Place::Part(part) = place {
            let share = self.budget.share(SPOOLED_SHARE).await;
            return Ok(Incoming {
                body: part.body,
                share,
                announced: Some(part.total),
                most: part.total,
                spooled: true,
            });
        }
        let Limits { object, in_memory } = self.sizes();
        if announced.is_some_and(|announced| announced > object) {
            return Err(Fault::TooLarge { limit: object });
        }
        match (announced, place) {
            (Some(length), Place::Fresh) if length <= in_memory => {
                let share = self.budget.share(length).await;
                let body = BodyBuilder::in_memory(usize::try_from(length).unwrap_or_default());
                Ok(Incoming { body, share, announced, most: length, spooled: false })
            }
            (None, Place::Fresh) => {
                let share = self.budget.share(in_memory).await;
                let body = BodyBuilder::in_memory(0);
                Ok(Incoming { body, share, announced, most: in_memory, spooled: false })
            }
            _ => {
                let share = self.budget.share(SPOOLED_SHARE).await;
                let body = self.spool.begin().map_err(Fault::Spool)?;
                Ok(Incoming { body, share, announced, most: announced.unwrap_or(object), spooled: true })
            }
        }
    }

    fn sizes(&self) -> Limits {
        let object = self.limits.object;
        Limits { object, in_memory: self.limits.in_memory.min(self.budget.total()).min(object) }
    }

    /// Takes the body's pieces as they come, within its bounds.
    async fn receive(&self, response: &mut Response, incoming: &mut Incoming) -> Result<(), Fault> {
        let mut watch = Watch::begin(&self.limits, incoming, Instant::now());
        let alarm = tokio::time::sleep_until(watch.next());
        tokio::pin!(alarm);
        loop {
            tokio::select! {
                biased;
                chunk = response.chunk() => match chunk {
                    Ok(Some(chunk)) => incoming.push(&chunk, self.limits.object)?,
                    Ok(None) => return incoming.check_length(),
                    Err(source) => return Err(incoming.cut(source)),
                },
                () = &mut alarm => {
                    watch.check(incoming.body.length(), Instant::now())?;
                    alarm.as_mut().reset(watch.next());
                }
            }
        }
    }

    /// Waits for something, but not beyond the signal to stop.
    async fn unless_stopped<T>(&self, wait: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Fault::Stopped),
            done = wait => Ok(done),
        }
    }

    /// Returns when the signal to stop was given and the grace after it is over.
    async fn long_stopped(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(self.limits.stop_grace).await;
    }
}

struct Limits {
    object: u64,
    in_memory: u64,
}

/// Where the next try puts its bytes.
enum Place {
    /// Where their announced length says.
    Fresh,
    /// To the spool, whatever is announced.
    File,
    /// After those that came already.
    Part(Part),
}

/// A spooled body that was cut and can be continued.
struct Part {
    body: BodyBuilder,
    total: u64,
    rest: Rest,
}

impl Place {
    fn rest(&self) -> Option<&Rest> {
        match self {
            Place::Part(part) => Some(&part.rest),
            Place::Fresh | Place::File => None,
        }
    }

    fn without_bytes(&self) -> Place {
        match self {
            Place::Fresh => Place::Fresh,
            Place::File | Place::Part(_) => Place::File,
        }
    }

    /// Whether a partial answer is exactly the rest that was asked for.
    fn continues_with(&self, headers: &HeaderMap) -> bool {
        let Place::Part(part) = self else { return false };
        let expected = format!("bytes {}-{}/{}", part.rest.from, part.total - 1, part.total);
        headers.get(CONTENT_RANGE).is_some_and(|range| range == expected.as_str())
            && headers.get(ETAG).is_none_or(|etag| etag == part.rest.etag)
    }
}

/// A body on its way, with its room.
struct Incoming {
    body: BodyBuilder,
    share: Share,
    announced: Option<u64>,
    most: u64,
    spooled: bool,
}

impl Incoming {
    fn push(&mut self, chunk: &[u8], object: u64) -> Result<(), Fault> {
        let received = self.body.length() + chunk.len() as u64;
        if received > self.most {
            return Err(match self.announced {
                Some(announced) => Fault::Length { received, announced },
                None if self.most == object => Fault::TooLarge { limit: object },
                None => Fault::StartOver,
            });
        }
        self.body.push(chunk).map_err(Fault::Spool)
    }

    fn check_length(&self) -> Result<(), Fault> {
        match self.announced {
            Some(announced) if announced != self.body.length() => {
                Err(Fault::Length { received: self.body.length(), announced })
            }
            _ => Ok(()),
        }
    }

    fn cut(&self, source: reqwest::Error) -> Fault {
        Fault::Cut { received: self.body.length(), announced: self.announced, source: source.without_url() }
    }

    fn finish(mut self) -> Body {
        if self.announced.is_none() {
            self.share.shrink(self.body.length());
        }
        self.body.finish(Some(Box::new(self.share)))
    }

    /// What is worth keeping for the next try: a large part of a file whose version the server can name.
    fn keep(self, response: &Response, fault: &Fault) -> Option<Place> {
        let total = self.announced?;
        let etag = response.headers().get(ETAG)?.clone();
        let by_ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || response.headers().get(ACCEPT_RANGES).is_some_and(|unit| unit == "bytes");
        let from = self.body.length();
        let worth_it = fault.passes() && (WORTH_CONTINUING..total).contains(&from);
        let strong = etag.as_bytes().starts_with(b"\"");
        (self.spooled && worth_it && by_ranges && strong)
            .then(|| Place::Part(Part { body: self.body, total, rest: Rest { from, etag } }))
    }
}

/// Watches over one body's time. Pure: the time comes as an argument.
struct Watch {
    window: Duration,
    min_rate: u64,
    began: Instant,
    total: Duration,
    seen: u64,
    seen_at: Instant,
}

impl Watch {
    fn begin(limits: &FetchLimits, incoming: &Incoming, now: Instant) -> Self {
        let by_size = incoming.announced.unwrap_or_default() / (ABOVE_LEAST_RATE * limits.min_rate.max(1));
        Watch {
            window: limits.rate_window,
            min_rate: limits.min_rate,
            began: now,
            total: limits.total_timeout + Duration::from_secs(by_size),
            seen: incoming.body.length(),
            seen_at: now,
        }
    }

    /// When to check next.
    fn next(&self) -> Instant {
        (self.seen_at + self.window).min(self.began + self.total)
    }

    fn check(&mut self, received: u64, now: Instant) -> Result<(), Fault> {
        if now >= self.began + self.total {
            return Err(Fault::TooLong(self.total));
        }
        let least = self.min_rate as f64 * (now - self.seen_at).as_secs_f64();
        if ((received - self.seen) as f64) < least {
            return Err(Fault::TooSlow(self.min_rate));
        }
        (self.seen, self.seen_at) = (received, now);
        Ok(())
    }
}
