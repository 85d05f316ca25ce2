//! The advisory database as a git repository, for programs that look crates up in it: `/advisory-db`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use crateferry_pipeline::advisories::{Files, Repository};
use crateferry_store::{Place, Sha256};
use serde::Deserialize;

use super::answer::Problem;
use super::app::App;
use super::body::Share;
use super::registry::{NOT_KEPT, blocking};
use super::view::View;

/// The only service of git's that there is.
const SERVICE: &str = "git-upload-pack";

/// The longest request: a client tells what it has in far less.
const LONGEST: usize = 1 << 20;

/// The routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/advisory-db/info/refs", get(references))
        .route("/advisory-db/git-upload-pack", post(upload_pack))
}

/// The repository of the database that was asked for last.
#[derive(Default)]
pub struct Shelf(Mutex<Option<(Sha256, Arc<Repository>)>>);

impl Shelf {
    /// The repository of what is served; made anew if that is another database than the last time.
    fn repository(&self, view: &View) -> Result<Arc<Repository>, Problem> {
        let generation = view.summary.generation.as_ref();
        let database = generation.and_then(|generation| generation.advisories.as_ref());
        let (Some(database), Some((pack, offset, length))) = (database, view.summary.advisories) else {
            return Err(Problem::Absent);
        };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, repository)) = last.as_ref().filter(|(of, _)| *of == database.sha256) {
            return Ok(repository.clone());
        }
        let archive = view.mirror.packs.advisories(Place { pack, offset, length }, database.sha256)?;
        let files = Files::unpack(&archive)?;
        let repository = Repository::new(&files, &database.commit, database.committed_at)?;
        let repository = Arc::new(repository);
        *last = Some((database.sha256, repository.clone()));
        Ok(repository)
    }
}

#[derive(Deserialize)]
struct Asked {
    service: Option<String>,
}

/// `/advisory-db/info/refs?service=git-upload-pack`
async fn references(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    if asked.service.as_deref() != Some(SERVICE) {
        return Err(Problem::Bad(
            "this repository is fetched by git's smart protocol, and nothing can be pushed to it",
        ));
    }
    let repository = repository(&app, &share).await?;
    Ok(answer("application/x-git-upload-pack-advertisement", repository.advertisement()?))
}

/// `/advisory-db/git-upload-pack`
async fn upload_pack(
    State(app): State<Arc<App>>,
    Extension(share): Extension<Share>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let is_gzipped = request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() == b"gzip");
    let body = to_bytes(request.into_body(), LONGEST).await.map_err(|_| Problem::Bad("the request is too long"))?;
    let repository = repository(&app, &share).await?;
    let packed = repository.answer(&body, is_gzipped).map_err(|error| {
        tracing::debug!("{error}");
        Problem::Bad("this is not how git asks for a pack")
    })?;
    Ok(answer("application/x-git-upload-pack-result", packed))
}

async fn repository(app: &Arc<App>, share: &Share) -> Result<Arc<Repository>, Problem> {
    let view = app.views.checked().await;
    let app = app.clone();
    blocking(share, move || app.advisories.repository(&view)).await?
}

fn answer(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] =
        [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, NOT_KEPT)];
    (headers, body.into()).into_response()
}
