//! A body on its way: where its bytes go, how many there may be, and how long they may take.

use std::time::Duration;

use crateferry_store::{Body, BodyBuilder};
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap};
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use super::{Fault, FetchLimits};
use crate::net::Share;
use crate::upstream::crates::Rest;

/// A cut body is worth continuing from this size on.
const WORTH_CONTINUING: u64 = 1024 * 1024;
/// Every body may be this many times faster than the least rate before its size gives it more time.
const ABOVE_LEAST_RATE: u64 = 16;

/// Where the next try puts its bytes.
pub(super) enum Place {
    /// Where their announced length says.
    Fresh,
    /// To the spool, whatever is announced.
    File,
    /// After those that came already.
    Part(Box<Part>),
}

/// A spooled body that was cut and can be continued.
pub(super) struct Part {
    pub(super) body: BodyBuilder,
    pub(super) total: u64,
    pub(super) rest: Rest,
}

impl Place {
    pub(super) fn rest(&self) -> Option<&Rest> {
        match self {
            Place::Part(part) => Some(&part.rest),
            Place::Fresh | Place::File => None,
        }
    }

    pub(super) fn without_bytes(&self) -> Place {
        match self {
            Place::Fresh => Place::Fresh,
            Place::File | Place::Part(_) => Place::File,
        }
    }

    /// Whether a partial answer is exactly the rest that was asked for.
    pub(super) fn continues_with(&self, headers: &HeaderMap) -> bool {
        let Place::Part(part) = self else { return false };
        let expected = format!("bytes {}-{}/{}", part.rest.from, part.total - 1, part.total);
        headers.get(CONTENT_RANGE).is_some_and(|range| range == expected.as_str())
            && headers.get(ETAG).is_none_or(|etag| etag == part.rest.etag)
    }
}

/// A body on its way, with its room.
pub(super) struct Incoming {
    pub(super) body: BodyBuilder,
    pub(super) share: Share,
    pub(super) announced: Option<u64>,
    pub(super) most: u64,
    pub(super) spooled: bool,
}

impl Incoming {
    pub(super) fn push(&mut self, chunk: &[u8], object: u64) -> Result<(), Fault> {
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

    pub(super) fn check_length(&self) -> Result<(), Fault> {
        match self.announced {
            Some(announced) if announced != self.body.length() => {
                Err(Fault::Length { received: self.body.length(), announced })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn cut(&self, source: reqwest::Error) -> Fault {
        Fault::Cut { received: self.body.length(), announced: self.announced, source: source.without_url() }
    }

    pub(super) fn finish(mut self) -> Body {
        if self.announced.is_none() {
            self.share.shrink(self.body.length());
        }
        self.body.finish(Some(Box::new(self.share)))
    }

    /// What is worth keeping for the next try: a large part of a file whose version the server can name.
    pub(super) fn keep(self, response: &Response, fault: &Fault) -> Option<Place> {
        let total = self.announced?;
        let etag = response.headers().get(ETAG)?.clone();
        let by_ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || response.headers().get(ACCEPT_RANGES).is_some_and(|unit| unit == "bytes");
        let from = self.body.length();
        let worth_it = fault.passes() && (WORTH_CONTINUING..total).contains(&from);
        let strong = etag.as_bytes().starts_with(b"\"");
        if !(self.spooled && worth_it && by_ranges && strong) {
            return None;
        }
        // Where it cannot be written, the next try will say so.
        let body = self.body.set_aside().ok()?;
        Some(Place::Part(Box::new(Part { body, total, rest: Rest { from, etag } })))
    }
}

/// Watches over one body's time. Pure: the time comes as an argument.
pub(super) struct Watch {
    window: Duration,
    min_rate: u64,
    began: Instant,
    total: Duration,
    seen: u64,
    seen_at: Instant,
}

impl Watch {
    pub(super) fn begin(limits: &FetchLimits, incoming: &Incoming, now: Instant) -> Self {
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
    pub(super) fn next(&self) -> Instant {
        (self.seen_at + self.window).min(self.began + self.total)
    }

    pub(super) fn check(&mut self, received: u64, now: Instant) -> Result<(), Fault> {
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
