//! What cargo asks for beside [files](super::files): `config.json` and the search API.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crateferry_store::{CrateName, MirrorReader, ReleaseId};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinError;

use super::answer::Problem;
use super::app::App;
use super::body::Share;
use super::conditional;
use crate::cli::DownloadBy;

/// Index files may change with every generation; asking again costs a 304.
pub(super) const ASK_AGAIN: HeaderValue = HeaderValue::from_static("public, no-cache");
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/index/config.json", get(config)).route("/api/v1/crates", get(search))
}

/// `config.json`: where crate files and the API are.
async fn config(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(url) = app.public_url.of(&parts) else {
        return Problem::Bad("the Host header is no host; the server may be given --public-url").into_response();
    };
    let dl = match app.download_by {
        DownloadBy::Checksum => format!("{url}/crates/{{crate}}/{{version}}/{{sha256-checksum}}"),
        DownloadBy::Name => format!("{url}/crates/{{crate}}/{{crate}}-{{version}}.crate"),
    };
    let mut config = json!({ "dl": dl, "api": url });
    if app.tokens.is_some() {
        config["auth-required"] = true.into();
    }
    let body = config.to_string();
    let tag = blake3::hash(body.as_bytes()).to_hex();
    if !app.public_url.is_fixed() {
        return ([(CONTENT_TYPE, JSON), (CACHE_CONTROL, NOT_KEPT)], body).into_response();
    }
    let headers = [(ETAG, quoted(&tag)), (CACHE_CONTROL, ASK_AGAIN), (CONTENT_TYPE, JSON)];
    if conditional::is_known(&parts.headers, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body).into_response()
}

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn quoted(tag: &str) -> HeaderValue {
    format!("\"{tag}\"").try_into().expect("tags are hexadecimal")
}

pub(super) fn release_id(name: &str, version: &str) -> Result<ReleaseId, Problem> {
    let absent = |_| Problem::Absent;
    Ok(ReleaseId { name: name.parse().map_err(absent)?, version: version.parse().map_err(absent)? })
}

/// Does what takes a while, or waits for a disk, where that harms nobody.
pub(super) async fn blocking<T: Send + 'static>(
    share: &Share,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let turn = share.turn().await;
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    })
    .await
}

#[derive(Deserialize)]
struct Sought {
    #[serde(default)]
    q: String,
    #[serde(default = "ten")]
    per_page: usize,
    #[serde(default = "one")]
    page: usize,
}

fn ten() -> usize {
    10
}

fn one() -> usize {
    1
}

/// The most results of one page, as the registry's own API has it.
const MAX_PER_PAGE: usize = 100;

/// Bytes of what is sought: several words of the length that names have.
const MAX_SOUGHT: usize = 256;

/// `cargo search` and `cargo info`.
async fn search(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    query: Result<Query<Sought>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(sought) = query.map_err(|_| Problem::Bad("q is text, per_page and page are numbers"))?;
    if sought.q.len() > MAX_SOUGHT {
        return Err(Problem::Bad("no name is as long as q"));
    }
    if !(1..=MAX_PER_PAGE).contains(&sought.per_page) || sought.page == 0 {
        return Err(Problem::Bad("per_page goes from 1 to 100, page from 1 on"));
    }
    let view = app.views.checked().await;
    let found = blocking(&share, move || {
        let skip = (sought.page - 1).saturating_mul(sought.per_page);
        let (total, names) = view.names.find(&sought.q, skip, sought.per_page);
        let crates = names.iter().map(|name| describe(&view.mirror, name)).collect::<Result<Vec<_>, Problem>>()?;
        Ok::<_, Problem>(json!({ "crates": crates, "meta": { "total": total } }))
    });
    let headers: [(HeaderName, HeaderValue); 2] = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, NOT_KEPT)];
    Ok((headers, found.await??.to_string()).into_response())
}

/// A crate as the search API describes it.
fn describe(mirror: &MirrorReader, name: &CrateName) -> Result<serde_json::Value, Problem> {
    let (found, about) = (super::releases::read(mirror, name)?, mirror.catalog.about(name)?);
    let newest = found.as_ref().and_then(super::releases::Releases::newest);
    let name = newest.map_or_else(|| name.to_string(), |release| release.name.clone());
    let version = newest.map(|release| release.version.clone()).unwrap_or_default();
    let description = about.map(|about| about.description).filter(|description| !description.is_empty());
    Ok(json!({ "name": name, "max_version": version, "description": description }))
}
