//! Requests that two servers could read in two ways.
//!
//! Where a proxy stands in front, whoever can make it and this server disagree on where a request ends, or for whom it
//! is, can put words into the mouths of others. Such requests are refused, and their connection ends with them.

use axum::http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Request, StatusCode, Version};
use axum::response::Response;

use super::answer::say;

/// The refusal of a request that is not clear.
pub fn refusal<B>(request: &Request<B>) -> Option<Response> {
    let why = ambiguity(request)?;
    let mut answer = say(StatusCode::BAD_REQUEST, why);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(answer)
}

fn ambiguity<B>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    match headers.get_all(HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => return Some("a request names its host"),
        0 | 1 => {}
        _ => return Some("a request names one host"),
    }
    // Nothing here takes a body. Of length and chunks together the web server shows only the chunks.
    headers.contains_key(TRANSFER_ENCODING).then_some("a request has no body in chunks")
}
