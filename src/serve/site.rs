//! Who answers on an address.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tower_service::Service as _;

use super::answer::say;
use super::app::App;
use super::body::Share;
use super::files::{self, File};
use super::{advisories, pages, registry, sidecar, tokens};

/// Files, which are found without a detour, and whatever a router leads to.
#[derive(Clone)]
pub struct Site {
    app: Option<Arc<App>>,
    router: Router,
}

impl From<Router> for Site {
    /// A site without files.
    fn from(router: Router) -> Site {
        Site { app: None, router }
    }
}

impl From<Arc<App>> for Site {
    /// All that is served to cargo and to people.
    fn from(app: Arc<App>) -> Site {
        let router = registry::routes().merge(sidecar::routes()).merge(advisories::routes()).merge(pages::routes());
        Site { router: router.with_state(app.clone()), app: Some(app) }
    }
}

impl Site {
    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>, share: Share) -> Response {
        let is_head = request.method() == Method::HEAD;
        let Some(app) = &self.app else { return Box::pin(self.route(request, share)).await };
        let refusal = app.tokens.as_ref().and_then(|tokens| tokens::refusal(tokens, request.headers()));
        let answer = match (refusal, File::at(request.uri().path())) {
            (Some(refusal), _) => refusal,
            (None, None) => return Box::pin(self.route(request, share)).await,
            (None, Some(file)) if is_head || request.method() == Method::GET => {
                let (request, _) = request.into_parts();
                let note = app.downloads.as_ref().filter(|_| !is_head).and_then(|downloads| {
                    let release = file.release()?.clone();
                    let name = app.tokens.as_ref().and_then(|tokens| tokens.name_of(&request.headers));
                    Some((downloads, release, name.unwrap_or_else(|| share.peer().to_string())))
                });
                let answer = files::answer(app, file, request.headers, &share).await;
                let answer = answer.unwrap_or_else(IntoResponse::into_response);
                if let Some((downloads, release, by)) = note.filter(|_| answer.status().is_success()) {
                    downloads.note(&release, &by);
                }
                answer
            }
            (None, Some(_)) => {
                let mut answer = say(StatusCode::METHOD_NOT_ALLOWED, "a file can be asked for by GET and HEAD");
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
                answer
            }
        };
        if is_head { without_body(answer) } else { answer }
    }

    async fn route(&self, mut request: Request<Incoming>, share: Share) -> Response {
        request.extensions_mut().insert(share);
        match self.router.clone().call(request.map(Body::new)).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// The same answer to HEAD: it says how long the body is that it does not have.
fn without_body(mut answer: Response) -> Response {
    if let Some(length) = answer.body().size_hint().exact() {
        answer.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
    answer.map(|_| Body::empty())
}
