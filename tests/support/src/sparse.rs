//! How a sparse index file is answered: validators, conditions, and lies about both.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

use crate::crate_file::sha256;
use crate::payload::Source;
use crate::routes::Answer;
use crate::shelf::IndexFile;

/// The date of revision 0; each revision is a second later, so that no two of a file share a date.
const FIRST_REVISION: i64 = 1_700_000_000;

/// What the `ETag` of an index file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Etags {
    /// It follows from the content.
    #[default]
    Honest,
    /// There is none, only a `Last-Modified`.
    Absent,
    /// It is always the same, whatever the content is: a client that believes it never sees a change.
    Constant,
    /// It is another one in every answer.
    Random,
    /// Every answer is a 304, even to clients that never had the file.
    AlwaysUnchanged,
}

/// The answer to a request for this index file.
pub(crate) fn answer(file: &IndexFile, etags: Etags, asked: &HeaderMap) -> Answer {
    let mut headers = HeaderMap::new();
    let etag = etag(&file.bytes, etags);
    let modified = http_date(FIRST_REVISION + i64::try_from(file.revision).unwrap_or(0));
    if let Some(etag) = &etag {
        headers.insert(header::ETAG, etag.parse().unwrap());
    }
    headers.insert(header::LAST_MODIFIED, modified.parse().unwrap());
    headers.insert(header::CACHE_CONTROL, "public,max-age=600".parse().unwrap());
    if etags == Etags::AlwaysUnchanged || is_unchanged(asked, etag.as_deref(), file.revision) {
        return Answer { status: StatusCode::NOT_MODIFIED, headers, source: Source::Bytes(Bytes::new()) };
    }
    headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    Answer { status: StatusCode::OK, headers, source: Source::Bytes(file.bytes.clone()) }
}

fn etag(bytes: &[u8], etags: Etags) -> Option<String> {
    static ANSWERS: AtomicU64 = AtomicU64::new(0);
    match etags {
        Etags::Absent => None,
        Etags::Honest | Etags::AlwaysUnchanged => Some(format!("\"{}\"", &sha256(bytes)[..32])),
        Etags::Constant => Some("\"always-the-same\"".to_owned()),
        Etags::Random => Some(format!("\"never-the-same-{}\"", ANSWERS.fetch_add(1, Ordering::Relaxed))),
    }
}

/// `If-None-Match` decides where there is one; else `If-Modified-Since`.
fn is_unchanged(asked: &HeaderMap, etag: Option<&str>, revision: u64) -> bool {
    if let Some(known) = text(asked, &header::IF_NONE_MATCH) {
        return known.split(',').any(|known| {
            let known = known.trim();
            known == "*" || Some(known.trim_start_matches("W/")) == etag
        });
    }
    let since =
        text(asked, &header::IF_MODIFIED_SINCE).and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    since.is_some_and(|since| since.as_second() >= FIRST_REVISION + i64::try_from(revision).unwrap_or(0))
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A date as HTTP writes it.
fn http_date(second: i64) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::from_second(second).unwrap()).unwrap()
}
