//! What each generation brought, for feed readers: [JSON Feed 1.1](https://www.jsonfeed.org/version/1.1/) and Atom (RFC 4287).
//!
//! An entry has the same id wherever its generation is served, on an origin and on its replicas, and never changes.

use askama::Template;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{Generation, Named, News, ReleaseId, TOLD};
use serde_json::json;

use super::super::answer::Problem;
use super::super::conditional;
use super::super::registry::{ASK_AGAIN, quoted};
use super::visit::Visit;
use crate::report::{count, grouped};

/// A feed of either form.
struct Feed {
    status: StatusCode,
    tag: String,
    cache: HeaderValue,
    kind: &'static str,
    text: String,
}

impl Feed {
    fn of(visit: &Visit, headers: &HeaderMap, kind: &'static str, text: String) -> Feed {
        let tag = blake3::hash(text.as_bytes()).to_hex().to_string();
        // Another client may know the server by another name, and then gets other links.
        let cache =
            if visit.app.public_url.is_fixed() { ASK_AGAIN } else { HeaderValue::from_static("private, no-cache") };
        if conditional::is_known(headers, &tag) {
            return Feed { status: StatusCode::NOT_MODIFIED, tag, cache, kind, text: String::new() };
        }
        Feed { status: StatusCode::OK, tag, cache, kind, text }
    }
}

impl IntoResponse for Feed {
    fn into_response(self) -> Response {
        let about = [(ETAG, quoted(&self.tag)), (CACHE_CONTROL, self.cache)];
        if self.status == StatusCode::NOT_MODIFIED {
            return (self.status, about).into_response();
        }
        let kind = [
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (self.status, about, kind, self.text).into_response()
    }
}

#[derive(Template)]
#[template(path = "feed.xml")]
struct Atom {
    id: String,
    title: String,
    updated: String,
    root: String,
    items: Vec<Item>,
}

/// A generation.
struct Item {
    id: String,
    title: String,
    url: String,
    published: String,
    html: String,
}

/// What an entry says.
#[derive(Template)]
#[template(path = "feed_entry.html")]
struct Told {
    lists: [List; 5],
    further: u64,
    crates: String,
    rows: String,
    digest: String,
}

/// Releases of one kind.
struct List {
    words: &'static str,
    count: u64,
    by_crate: Vec<(String, String)>,
    beyond: u64,
}

/// `/feed.json`
pub async fn json(visit: Visit, headers: HeaderMap) -> Response {
    visit
        .answer(move |visit| {
            let root = root(visit);
            let items = items(visit, &root)?.into_iter().map(|item| {
                json!({
                    "id": item.id,
                    "url": item.url,
                    "title": item.title,
                    "content_html": item.html,
                    "date_published": item.published,
                })
            });
            let feed = json!({
                "version": "https://jsonfeed.org/version/1.1",
                "title": title(visit),
                "home_page_url": format!("{root}generations"),
                "feed_url": format!("{root}feed.json"),
                "language": "en",
                "items": items.collect::<Vec<_>>(),
            });
            Ok(Feed::of(visit, &headers, "application/feed+json", feed.to_string()))
        })
        .await
}

/// `/feed.xml`
pub async fn atom(visit: Visit, headers: HeaderMap) -> Response {
    visit
        .answer(move |visit| {
            let root = root(visit);
            let items = items(visit, &root)?;
            let updated = items.first().map_or_else(|| rfc3339(0), |item| item.published.clone());
            let id = format!("crateferry:{}", visit.summary().mirror);
            let feed = Atom { id, title: title(visit), updated, root, items }.render()?;
            Ok(Feed::of(visit, &headers, "application/atom+xml", feed))
        })
        .await
}

/// What links begin with: readers of feeds do not agree on what a relative one means.
fn root(visit: &Visit) -> String {
    visit.server.as_ref().map_or_else(|| "/".to_owned(), |server| format!("{server}/"))
}

fn title(visit: &Visit) -> String {
    format!("Generations of mirror {}", visit.summary().mirror)
}

/// The last generations, the newest first.
fn items(visit: &Visit, root: &str) -> Result<Vec<Item>, Problem> {
    let catalog = &visit.view.mirror.catalog;
    let mirror = &visit.summary().mirror;
    let generations = catalog.generations_before(u64::MAX, TOLD)?;
    let item = |generation: Generation| {
        let Generation { number, epoch, published_at, .. } = generation;
        let news = catalog.news(number)?.unwrap_or_default();
        Ok(Item {
            id: format!("crateferry:{mirror}:{epoch}:{number}"),
            title: format!("Generation {number}: {}", headline(&news)),
            url: format!("{root}generations/{number}"),
            published: rfc3339(published_at),
            html: told(&generation, &news).render()?,
        })
    };
    generations.into_iter().map(item).collect()
}

fn told(generation: &Generation, news: &News) -> Told {
    Told {
        lists: [
            list("New", &news.new),
            list("Yanked", &news.yanked),
            list("No longer yanked", &news.unyanked),
            list("Withdrawn", &news.withdrawn),
            list("Served with another checksum", &news.exchanged),
        ],
        further: news.further,
        crates: grouped(generation.counts.crates),
        rows: grouped(generation.counts.rows),
        digest: generation.digest.to_string(),
    }
}

fn list(words: &'static str, releases: &Named) -> List {
    let same_crate = |one: &ReleaseId, other: &ReleaseId| one.name == other.name;
    let by_crate = releases.first.chunk_by(same_crate).map(|releases| {
        let versions: Vec<&str> = releases.iter().map(|release| release.version.as_str()).collect();
        (releases[0].name.to_string(), versions.join(", "))
    });
    List { words, count: releases.count, by_crate: by_crate.collect(), beyond: releases.beyond() }
}

/// What a generation brought in one line: `3 new releases, 1 yanked`.
fn headline(news: &News) -> String {
    let kinds = [
        (news.yanked.count, "yanked"),
        (news.unyanked.count, "no longer yanked"),
        (news.withdrawn.count, "withdrawn"),
        (news.exchanged.count, "with another checksum"),
    ];
    let mut parts = Vec::new();
    if news.new.count > 0 {
        parts.push(count(news.new.count, "new release"));
    }
    parts.extend(
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{} {words}", grouped(*count))),
    );
    if news.further > 0 {
        parts.push(count(news.further, "further changed crate"));
    }
    if parts.is_empty() { "other changes".to_owned() } else { parts.join(", ") }
}
