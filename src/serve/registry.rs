//! What cargo asks for: the sparse index, crate files, and the search API.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crateferry_store::{
    CrateName, Held, MirrorReader, PackReader, Place, ReadError, Release, ReleaseId, parse_index_file,
};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinError;

use super::answer::{Problem, say};
use super::app::App;
use super::body::{PackBody, Share, UnpackedBody};
use super::conditional::{self, Part};
use crate::cli::DownloadBy;

/// Index files may change with every generation; asking again costs a 304.
pub(super) const ASK_AGAIN: HeaderValue = HeaderValue::from_static("public, no-cache");
/// What is named by its checksum, or by a version whose bytes never change.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/index/config.json", get(config))
        .route("/index/{*path}", get(index_file))
        .route("/crates/{crate}/{file}", get(crate_by_file))
        .route("/crates/{crate}/{version}/{checksum}", get(crate_by_checksum))
        .route("/api/v1/crates/{crate}/{version}/download", get(crate_by_version))
        .route("/api/v1/crates", get(search))
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
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("application/gzip");
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

pub(super) fn quoted(tag: &str) -> HeaderValue {
    format!("\"{tag}\"").parse().expect("tags are hexadecimal")
}

/// An index file, gzipped as it lies in its pack, or unpacked for who does not take gzip.
async fn index_file(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = index_name(&path).ok_or(Problem::Absent)?;
    let found = app.views.find(|view| {
        let text = view.mirror.catalog.index_file(&name)?;
        Ok(text.map(|text| (text, view.mirror.packs.clone())))
    });
    let (text, packs) = found.await?.ok_or(Problem::Absent)?;
    let tag = text.digests.blake3.to_string();
    let gzip = conditional::takes_gzip(&headers);
    let etag = if gzip { quoted(&format!("{tag}-gz")) } else { quoted(&tag) };
    let about = [(ETAG, etag), (CACHE_CONTROL, ASK_AGAIN), (VARY, BY_ENCODING)];
    if conditional::is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let unreadable = |source| Unreadable::IndexFile(name.clone(), source);
    let proven = first_look(&share, &packs, text.place, move |packs| packs.prove_text(text.place, text.digests.blake3));
    proven.await?.map_err(unreadable)?;
    if gzip {
        let length = text.place.length;
        let body = PackBody::new(&packs, text.place, (0, length), &share);
        let gzipped = [(CONTENT_ENCODING, HeaderValue::from_static("gzip")), (CONTENT_TYPE, TEXT)];
        return Ok((about, gzipped, [(CONTENT_LENGTH, HeaderValue::from(length))], Body::new(body)).into_response());
    }
    let length = packs.text_length(text.place).map_err(unreadable)?;
    let body = UnpackedBody::new(&packs, text.place, length, &share);
    let more = [(CONTENT_LENGTH, HeaderValue::from(length)), (CONTENT_TYPE, TEXT)];
    Ok((about, more, Body::new(body)).into_response())
}

/// The crate whose index file lies at a path, in any case.
fn index_name(path: &str) -> Option<CrateName> {
    let name: CrateName = path.rsplit('/').next()?.parse().ok()?;
    path.eq_ignore_ascii_case(&name.index_path()).then_some(name)
}

/// `/crates/NAME/VERSION/SHA256`: these very bytes, or nothing.
async fn crate_by_checksum(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Path((name, version, checksum)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = release_id(&name, &version)?;
    let release = Release { id, checksum: checksum.parse().map_err(|_| Problem::Absent)? };
    let found = app.views.find(|view| {
        let held = view.mirror.catalog.held(&release)?;
        Ok(held.map(|held| (held, view.mirror.packs.clone())))
    });
    let (held, packs) = found.await?.ok_or(Problem::Absent)?;
    send(&packs, &held, &share, &headers).await
}

/// `/crates/NAME/NAME-VERSION.crate`: what the index serves for this version.
async fn crate_by_file(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (head, rest) = file.split_at_checked(name.len()).ok_or(Problem::Absent)?;
    let version = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(".crate"));
    if !head.eq_ignore_ascii_case(&name) {
        return Err(Problem::Absent);
    }
    by_version(&app, &share, release_id(&name, version.ok_or(Problem::Absent)?)?, &headers).await
}

/// `/api/v1/crates/NAME/VERSION/download`: the same, as the registry's web API has it.
async fn crate_by_version(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    by_version(&app, &share, release_id(&name, &version)?, &headers).await
}

async fn by_version(app: &App, share: &Share, id: ReleaseId, headers: &HeaderMap) -> Result<Response, Problem> {
    let found = app.views.find(|view| {
        let held = held_at(&view.mirror, &id)?;
        Ok(held.map(|held| (held, view.mirror.packs.clone())))
    });
    let (held, packs) = found.await?.ok_or(Problem::Absent)?;
    send(&packs, &held, share, headers).await
}

/// What the index serves for a version.
fn held_at(mirror: &MirrorReader, id: &ReleaseId) -> Result<Option<Held>, Problem> {
    let mut held = mirror.catalog.held_at(id)?;
    if held.iter().any(|held| !held.withdrawn) {
        // One that was withdrawn is there only for who read its row in the generation before.
        held.retain(|held| !held.withdrawn);
    }
    if held.len() > 1 {
        // The version came again with other bytes: the index says which ones are served.
        let served = served_checksum(mirror, id)?;
        held.retain(|held| Some(held.release.checksum) == served);
    }
    Ok(held.pop())
}

fn served_checksum(mirror: &MirrorReader, id: &ReleaseId) -> Result<Option<crateferry_store::Sha256>, Problem> {
    let Some(file) = mirror.catalog.index_file(&id.name)? else { return Ok(None) };
    let text = mirror.packs.text(file.place, file.digests.blake3)?;
    let rows = parse_index_file(&id.name, &text).entries;
    Ok(rows.iter().find(|row| row.version == id.version).map(|row| row.checksum))
}

pub(super) fn release_id(name: &str, version: &str) -> Result<ReleaseId, Problem> {
    let absent = |_| Problem::Absent;
    Ok(ReleaseId { name: name.parse().map_err(absent)?, version: version.parse().map_err(absent)? })
}

/// Sends a crate file, whole or in part.
async fn send(packs: &PackReader, held: &Held, share: &Share, headers: &HeaderMap) -> Result<Response, Problem> {
    let (place, checksum) = (held.place, held.release.checksum);
    let tag = checksum.to_string();
    let about = [(ETAG, quoted(&tag)), (CACHE_CONTROL, FOR_EVER), (ACCEPT_RANGES, HeaderValue::from_static("bytes"))];
    if conditional::is_known(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let (status, (from, to)) = match conditional::part(headers, place.length, &tag) {
        Part::Whole => (StatusCode::OK, (0, place.length)),
        Part::Bytes(from, to) => (StatusCode::PARTIAL_CONTENT, (from, to)),
        Part::Unsatisfiable => {
            let mut answer = say(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter than this range");
            answer.headers_mut().insert(CONTENT_RANGE, range_value(&format!("*/{}", place.length)));
            return Ok(answer);
        }
    };
    let proven = first_look(share, packs, place, move |packs| packs.prove(place, checksum)).await?;
    proven.map_err(|source| Unreadable::CrateFile(held.release.id.clone(), source))?;
    let mut answer = (status, about, Body::new(PackBody::new(packs, place, (from, to), share))).into_response();
    let more = answer.headers_mut();
    more.insert(CONTENT_TYPE, GZIP);
    more.insert(CONTENT_LENGTH, HeaderValue::from(to - from));
    if status == StatusCode::PARTIAL_CONTENT {
        more.insert(CONTENT_RANGE, range_value(&format!("{from}-{}/{}", to - 1, place.length)));
    }
    Ok(answer)
}

fn range_value(range: &str) -> HeaderValue {
    format!("bytes {range}").parse().expect("ranges are digits")
}

/// What is served but cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("cannot serve crate file {0}")]
    CrateFile(ReleaseId, #[source] ReadError),
    #[error("cannot serve the index file of crate {0}")]
    IndexFile(CrateName, #[source] ReadError),
}

/// Has a place's bytes proven, once for all who wait for it.
async fn first_look(
    share: &Share,
    packs: &PackReader,
    place: Place,
    prove: impl FnOnce(&PackReader) -> Result<(), ReadError> + Send + 'static,
) -> Result<Result<(), ReadError>, JoinError> {
    if packs.is_proven(place) {
        return Ok(Ok(()));
    }
    let packs = packs.clone();
    blocking(share, move || if packs.is_proven(place) { Ok(()) } else { prove(&packs) }).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_path_is_that_of_its_name_in_any_case() {
        for path in ["1/a", "2/Ab", "3/a/ABC", "se/rd/serde", "Se/rD/SERDE_json"] {
            assert!(index_name(path).is_some(), "{path}");
        }
        for path in ["a", "1/ab", "se/rd/", "se/re/serde", "../serde", "se/rd/serde/", "se/rd/serde.json", "se//serde"]
        {
            assert!(index_name(path).is_none(), "{path}");
        }
    }
}
