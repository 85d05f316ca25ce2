//! Index files and crate files: what cargo asks for by the thousand.
//!
//! Their paths are read here, before any router looks at them, so that a request which is answered from memory passes
//! through few hands. A path becomes a name, a version and a checksum, and never leads anywhere by itself.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use crateferry_store::{
    CrateName, Held, Mask, MirrorReader, PackReader, Place, ReadError, Release, ReleaseId, Sha256, parse_index_file,
};
use percent_encoding::percent_decode_str;

use super::answer::{Problem, say};
use super::app::App;
use super::body::{PackBody, Share, UnpackedBody};
use super::conditional::{self, Part};
use super::registry::{ASK_AGAIN, blocking, quoted};
use super::view::View;
use crateferry_pipeline::settle::rfc3339;

/// What is named by its checksum, or by a version whose bytes never change.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("application/gzip");
const GZIPPED: HeaderValue = HeaderValue::from_static("gzip");
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");
const IN_BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// A file, as a path names it.
#[derive(Debug, PartialEq, Eq)]
pub enum File {
    /// The index file of a crate: `/index/SE/RD/SERDE`, in any case.
    Index(CrateName),
    /// These very bytes: `/crates/NAME/VERSION/SHA256`.
    Exact(Release),
    /// What the index serves for a version: `/crates/NAME/NAME-VERSION.crate`, or, as the registry's web API has it,
    /// `/api/v1/crates/NAME/VERSION/download`.
    OfVersion(ReleaseId),
    /// None that there could be.
    Nothing,
}

impl File {
    /// The release whose crate file it is, if it is one.
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            File::Exact(release) => Some(&release.id),
            File::OfVersion(id) => Some(id),
            File::Index(_) | File::Nothing => None,
        }
    }

    /// The file that a path names; none if it is a path of something else.
    pub fn at(path: &str) -> Option<File> {
        let file = if let Some(path) = path.strip_prefix("/index/") {
            if path == "config.json" {
                return None;
            }
            index_name(path).map(File::Index)
        } else if let Some(path) = path.strip_prefix("/crates/") {
            let (name, rest) = path.split_once('/')?;
            match rest.split_once('/') {
                None => named(name, rest).map(File::OfVersion),
                Some((version, checksum)) => exact(name, version, checksum).map(File::Exact),
            }
        } else {
            let path = path.strip_prefix("/api/v1/crates/")?.strip_suffix("/download")?;
            let (name, version) = path.split_once('/')?;
            release_id(&decoded(name)?, &decoded(version)?).map(File::OfVersion)
        };
        Some(file.unwrap_or(File::Nothing))
    }
}

/// A part of a path, with its escapes undone.
fn decoded(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}

/// The crate whose index file lies at a path, in any case.
fn index_name(path: &str) -> Option<CrateName> {
    let path = decoded(path)?;
    let (folder, name) = path.rsplit_once('/')?;
    let name: CrateName = name.parse().ok()?;
    name.is_in_folder(folder).then_some(name)
}

/// The release whose crate file is called `NAME-VERSION.crate`.
fn named(name: &str, file: &str) -> Option<ReleaseId> {
    let (name, file) = (decoded(name)?, decoded(file)?);
    let (head, rest) = file.split_at_checked(name.len())?;
    let version = rest.strip_prefix('-')?.strip_suffix(".crate")?;
    if head.eq_ignore_ascii_case(&name) { release_id(&name, version) } else { None }
}

fn exact(name: &str, version: &str, checksum: &str) -> Option<Release> {
    let id = release_id(&decoded(name)?, &decoded(version)?)?;
    Some(Release { id, checksum: decoded(checksum)?.parse().ok()? })
}

fn release_id(name: &str, version: &str) -> Option<ReleaseId> {
    Some(ReleaseId { name: name.parse().ok()?, version: version.parse().ok()? })
}

/// Answers with a file.
pub async fn answer(app: &App, file: File, headers: HeaderMap, share: &Share) -> Result<Response, Problem> {
    match file {
        File::Index(name) => index_file(app, &name, headers, share).await,
        File::Exact(release) => crate_file(app, headers, share, |view| Ok(view.mirror.catalog.held(&release)?)).await,
        File::OfVersion(id) => crate_file(app, headers, share, |view| held_at(&view.mirror, &id)).await,
        File::Nothing => Err(Problem::Absent),
    }
}

/// An index file, gzipped as it lies in its pack, or unpacked for who does not take gzip.
async fn index_file(app: &App, name: &CrateName, headers: HeaderMap, share: &Share) -> Result<Response, Problem> {
    let found = app.views.find(|view| {
        let text = view.mirror.catalog.index_file(name)?;
        Ok(text.map(|text| (text, view.mirror.packs.clone())))
    });
    let Some((text, packs)) = found.await? else {
        app.wishes.iter().for_each(|wishes| wishes.missed(name));
        return Err(Problem::Absent);
    };
    let (place, blake3, gzip) = (text.place, text.digests.blake3, conditional::takes_gzip(&headers));
    let tag = blake3.to_string();
    let etag = if gzip { quoted(&format!("{tag}-gz")) } else { quoted(&tag) };
    if conditional::is_known(&headers, &tag) {
        let headers = [(ETAG, etag), (CACHE_CONTROL, ASK_AGAIN), (VARY, BY_ENCODING)];
        return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty()));
    }
    let unreadable = |source| Unreadable::IndexFile(name.clone(), source);
    first_look(share, &packs, place, move |packs| packs.prove_text(place, blake3)).await?.map_err(unreadable)?;
    let (length, body) = if gzip {
        (place.length, packed(&packs, place, (0, place.length), share))
    } else {
        let length = packs.text_length(place).map_err(unreadable)?;
        (length, Body::new(UnpackedBody::new(&packs, place, length, share)))
    };
    let about = [
        (ETAG, etag),
        (CACHE_CONTROL, ASK_AGAIN),
        (VARY, BY_ENCODING),
        (CONTENT_TYPE, TEXT),
        (CONTENT_LENGTH, length.into()),
    ];
    let mut answer = respond(StatusCode::OK, about, body);
    if gzip {
        answer.headers_mut().insert(CONTENT_ENCODING, GZIPPED);
    }
    Ok(answer)
}

/// A crate file, whole or in part, of a release that is to be found.
async fn crate_file(
    app: &App,
    headers: HeaderMap,
    share: &Share,
    held: impl Fn(&View) -> Result<Option<Held>, Problem>,
) -> Result<Response, Problem> {
    let found = app.views.find(|view| {
        let Some(held) = held(view)?.filter(|held| !held.barred) else { return Ok(None) };
        let mask = view.summary.masks.of(&held.release.id).cloned();
        Ok(Some((held, mask, view.mirror.packs.clone())))
    });
    let (held, mask, packs) = found.await?.ok_or(Problem::Absent)?;
    if let Some(mask) = mask {
        return Err(withheld(&held.release.id, &mask));
    }
    let (place, checksum) = (held.place, held.release.checksum);
    let tag = checksum.to_string();
    let etag = quoted(&tag);
    if conditional::is_known(&headers, &tag) {
        let headers = [(ETAG, etag), (CACHE_CONTROL, FOR_EVER), (ACCEPT_RANGES, IN_BYTES)];
        return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty()));
    }
    let part = conditional::part(&headers, place.length, &tag);
    let (from, to) = match part {
        Part::Whole => (0, place.length),
        Part::Bytes(from, to) => (from, to),
        Part::Unsatisfiable => {
            let mut answer = say(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter than this range");
            answer.headers_mut().insert(CONTENT_RANGE, range_value(&format!("*/{}", place.length)));
            return Ok(answer);
        }
    };
    let unreadable = |source| Unreadable::CrateFile(held.release.id.clone(), source);
    first_look(share, &packs, place, move |packs| packs.prove(place, checksum)).await?.map_err(unreadable)?;
    let body = packed(&packs, place, (from, to), share);
    let about = [
        (ETAG, etag),
        (CACHE_CONTROL, FOR_EVER),
        (ACCEPT_RANGES, IN_BYTES),
        (CONTENT_TYPE, GZIP),
        (CONTENT_LENGTH, (to - from).into()),
    ];
    if part == Part::Whole {
        return Ok(respond(StatusCode::OK, about, body));
    }
    let mut answer = respond(StatusCode::PARTIAL_CONTENT, about, body);
    let range = range_value(&format!("{from}-{}/{}", to - 1, place.length));
    answer.headers_mut().insert(CONTENT_RANGE, range);
    Ok(answer)
}

/// Why a crate file is not given out: cargo shows it to who asked for it.
fn withheld(id: &ReleaseId, mask: &Mask) -> Problem {
    let (since, reason) = (rfc3339(mask.at), &mask.reason);
    Problem::Withheld(format!("{id} is in quarantine on this mirror since {since}: {reason}"))
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

fn served_checksum(mirror: &MirrorReader, id: &ReleaseId) -> Result<Option<Sha256>, Problem> {
    let Some(file) = mirror.catalog.index_file(&id.name)? else { return Ok(None) };
    let text = mirror.packs.text(file.place, file.digests.blake3)?;
    let rows = parse_index_file(&id.name, &text).entries;
    Ok(rows.iter().find(|row| row.version == id.version).map(|row| row.checksum))
}

/// Bytes of a pack.
fn packed(packs: &PackReader, place: Place, part: (u64, u64), share: &Share) -> Body {
    Body::new(PackBody::new(packs, place, part, share))
}

fn respond<const N: usize>(status: StatusCode, headers: [(HeaderName, HeaderValue); N], body: Body) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let mut all = HeaderMap::with_capacity(N + 1); // the date comes too
    all.extend(headers);
    *answer.headers_mut() = all;
    answer
}

fn range_value(range: &str) -> HeaderValue {
    format!("bytes {range}").try_into().expect("ranges are digits")
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
) -> Result<Result<(), ReadError>, Problem> {
    if packs.is_proven(place) {
        return Ok(Ok(()));
    }
    let packs = packs.clone();
    let looked = blocking(share, move || if packs.is_proven(place) { Ok(()) } else { prove(&packs) });
    Ok(Box::pin(looked).await?) // in a box, as it is rare and large
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_path_is_that_of_its_name_in_any_case() {
        for path in ["1/a", "2/Ab", "3/a/ABC", "se/rd/serde", "Se/rD/SERDE_json", "se/rd/%73erde"] {
            assert!(matches!(File::at(&format!("/index/{path}")), Some(File::Index(_))), "{path}");
        }
        for path in [
            "",
            "a",
            "1/ab",
            "se/rd/",
            "se/re/serde",
            "../serde",
            "se/rd/serde/",
            "se/rd/serde.json",
            "se//serde",
            "3/b/abc",
            "2/a",
            "%ff/rd/serde",
            "x/se/rd/serde",
        ] {
            assert_eq!(File::at(&format!("/index/{path}")), Some(File::Nothing), "{path}");
        }
    }

    #[test]
    fn crate_files_have_three_kinds_of_paths() {
        let id = |version: &str| ReleaseId { name: "a-b".parse().unwrap(), version: version.parse().unwrap() };
        let sum = "00".repeat(32);
        for (path, file) in [
            ("/crates/a-b/a-b-1.0.0.crate", File::OfVersion(id("1.0.0"))),
            ("/crates/a-b/A-b-1.0.0+c.crate", File::OfVersion(id("1.0.0+c"))),
            ("/crates/a-b/a-b-1.0.0%2Bc.crate", File::OfVersion(id("1.0.0+c"))),
            ("/api/v1/crates/a-b/1.0.0/download", File::OfVersion(id("1.0.0"))),
            (&*format!("/crates/a-b/1.0.0/{sum}"), File::Exact(Release { id: id("1.0.0"), checksum: Sha256([0; 32]) })),
        ] {
            assert_eq!(File::at(path), Some(file), "{path}");
        }
        for path in [
            "/crates/a-b/",
            "/crates/a/b-1.0.0.crate",
            "/crates/a-b/a-b-1.0.0",
            "/crates//1.0.0/00",
            "/crates/a/1.0.0/00",
            "/crates/a/1.0.0/00/",
            "/crates/../a/b",
            "/crates/a%2Fb/a%2Fb-1.0.0.crate",
            "/api/v1/crates/a/1/x/download",
        ] {
            assert_eq!(File::at(path), Some(File::Nothing), "{path}");
        }
        for path in ["/", "/crates/a", "/index/config.json", "/index", "/api/v1/crates", "/api/v1/crates/a/1.0.0", "/x"]
        {
            assert_eq!(File::at(path), None, "{path}");
        }
    }
}
