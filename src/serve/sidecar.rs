//! The documents that describe releases, for programs that ask a server.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use crateferry_store::{Blake3, MirrorReader, Release, ReleaseId, parse_index_file};

use super::answer::Problem;
use super::app::App;
use super::body::Share;
use super::conditional;
use super::registry::{ASK_AGAIN, JSON, NOT_KEPT, blocking, quoted, release_id};
use crate::sidecar::Beside;

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/v1/crates/{crate}/{version}/sidecar", get(sidecar))
}

/// `/api/v1/crates/NAME/VERSION/sidecar`: the row that the index serves, and what the crate file tells.
async fn sidecar(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let id = release_id(&name, &version)?;
    let url = app.public_url.of(&parts).ok_or(Problem::Bad("the Host header is no host"))?;
    let view = app.views.checked().await;
    let document = blocking(&share, move || document(&view.mirror, &id, &url)).await??.ok_or(Problem::Absent)?;
    let tag = Blake3::of(&document).to_string();
    // What it says of the server's own URL depends on the request, unless that is fixed.
    let kept = if app.public_url.is_fixed() { ASK_AGAIN } else { NOT_KEPT };
    let headers = [(ETAG, quoted(&tag)), (CACHE_CONTROL, kept), (CONTENT_TYPE, JSON)];
    if conditional::is_known(&parts.headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, document).into_response())
}

/// The document of a release that is served; its crate file is at `url`.
fn document(mirror: &MirrorReader, id: &ReleaseId, url: &str) -> Result<Option<Vec<u8>>, Problem> {
    let Some(file) = mirror.catalog.index_file(&id.name)? else { return Ok(None) };
    let text = mirror.packs.text(file.place, file.digests.blake3)?;
    let rows = parse_index_file(&id.name, &text).entries;
    let Some(row) = rows.into_iter().find(|row| row.version == id.version) else { return Ok(None) };
    let release = Release { id: ReleaseId { name: row.name, version: row.version }, checksum: row.checksum };
    let facts = mirror.catalog.facts(&release)?.map(|place| mirror.packs.facts(&place)).transpose()?;
    let version = release.id.version.as_str().replace('+', "%2B");
    let url = format!("{url}/crates/{}/{version}/{}", release.id.name, release.checksum);
    Ok(Some(Beside::new(&release, url, facts.as_ref()).behind(row.line)))
}
