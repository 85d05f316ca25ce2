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

mod fault;
mod incoming;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use crateferry_store::{Body, BodyBuilder, Release, Spool};
use reqwest::header::{CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::fault::nowhere;
use self::incoming::{Incoming, Place, Watch};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::flow::Stage;
use crate::item::{Attempt, Fetched, Wanted};
use crate::net::{Answerer, Budget, Gate, NetworkConfig, Retry, retry_after};
use crate::upstream::crates::{CrateFiles, request};

pub use self::fault::Fault;
pub use self::outage::Outage;

/// What a spooled body holds of the budget: what is gathered for the file, and the pieces that are on their way there.
const SPOOLED_SHARE: u64 = Spool::GATHERED as u64 + 64 * 1024;

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
    /// Whether the upstream is there at all.
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

impl Stage for Fetch {
    type In = Wanted;
    type Out = Fetched;
    const NAME: &'static str = "fetch";

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
                Err(Failure { release, stage: Self::NAME, disposition, attempt, body: None, source: Box::new(fault) })
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
            match self.once(&url, &mut place, attempt).await {
                Ok(body) => {
                    self.outage.over();
                    return Ok(body);
                }
                Err(Fault::StartOver) => place = Place::File,
                Err(fault) => self.before_next_try(fault, attempt).await?,
            }
        }
    }

    /// Waits until it makes sense to ask again; gives the fault back if it does not.
    async fn before_next_try(&self, fault: Fault, attempt: &mut Attempt) -> Result<(), Fault> {
        let fault = self.heed_outage(fault)?;
        if !fault.passes() {
            return Err(fault);
        }
        let Some(wait) = self.retry.delay(attempt.retries, fault.asked()) else { return Err(fault) };
        if fault.speaks_for_the_host() {
            self.files.pause().extend(wait);
        }
        attempt.retries += 1;
        tracing::debug!(url = attempt.url, %fault, ?wait, "asking again");
        self.unless_stopped(tokio::time::sleep(wait)).await
    }

    fn heed_outage(&self, fault: Fault) -> Result<Fault, Fault> {
        if !fault.is_silence() {
            if !matches!(fault, Fault::Stopped) {
                self.outage.over();
            }
            return Ok(fault);
        }
        match self.outage.one_more() {
            Some(lasted) => Err(Fault::Outage(lasted, Box::new(fault))),
            None => Ok(fault),
        }
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
        let object = self.limits.object;
        let in_memory = self.limits.in_memory.min(self.budget.total()).min(object);
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
