//! Answers that say what is wrong, in the form that cargo shows to people.

use std::error::Error;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What keeps a request from being answered.
#[derive(Debug)]
pub enum Problem {
    /// There is no such thing.
    Absent,
    /// The request cannot be understood.
    Bad(&'static str),
    /// The mirror holds it and does not give it out, for this reason.
    Withheld(String),
    /// The answer depends on a catalog that is still to be checked, or derived again.
    NotYet,
    /// The mirror cannot give what it holds.
    Broken(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for Problem {
    fn from(error: E) -> Self {
        Problem::Broken(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Problem::Absent => say(StatusCode::NOT_FOUND, "the mirror does not hold this"),
            Problem::Bad(why) => say(StatusCode::BAD_REQUEST, why),
            Problem::Withheld(why) => say(StatusCode::FORBIDDEN, &why),
            Problem::NotYet => {
                let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, "the mirror's catalog is being brought in order");
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
                answer
            }
            Problem::Broken(error) => {
                tracing::error!(error = crateferry_pipeline::error_chain(error.as_ref()), "a request failed");
                say(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the mirror cannot read what it holds; its operator's log says why",
                )
            }
        }
    }
}

/// An answer in the JSON of a registry's web API: `{"errors":[{"detail":"..."}]}`. No cache keeps it.
pub fn say(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "errors": [{ "detail": detail }] }).to_string();
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}
