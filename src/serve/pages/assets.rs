//! Style, script and icon: part of the program, so that a page needs nothing from anywhere else.
//!
//! Their URL holds the digest of them all. Another release of the program has other URLs, so that clients may keep
//! them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::super::answer::Problem;
use super::super::conditional;
use super::guarded;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset { name: "style.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("static/style.css") },
    Asset { name: "page.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("static/page.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("static/icon.svg") },
];

/// The digest of all assets, as their URLs have it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for asset in &ASSETS {
        hasher.update(asset.bytes);
    }
    hasher.finalize().to_hex()[..16].to_owned()
});

/// Where an asset lies, from the root of the pages on.
pub fn path(name: &str) -> String {
    format!("assets/{}/{name}", *VERSION)
}

/// `/assets/VERSION/NAME`
pub async fn send(path: Result<Path<(String, String)>, PathRejection>, headers: HeaderMap) -> Response {
    let is_meant =
        |asset: &&Asset| path.as_ref().is_ok_and(|Path((version, name))| *version == *VERSION && asset.name == name);
    let asset = ASSETS.iter().find(is_meant);
    let Some(asset) = asset else { return Problem::Absent.into_response() };
    let tag = blake3::hash(asset.bytes).to_hex();
    let etag: HeaderValue = format!("\"{tag}\"").parse().expect("digests are hexadecimal");
    let about = [(ETAG, etag), (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"))];
    if conditional::is_known(&headers, &tag) {
        return guarded((StatusCode::NOT_MODIFIED, about).into_response());
    }
    guarded((about, [(CONTENT_TYPE, HeaderValue::from_static(asset.kind))], asset.bytes).into_response())
}
