//! Asking for what the mirror lacks: a lock file is given, and what of it is not here is noted.
//!
//! Whoever may read pages may do that. A form that another site sends in a reader's name is not taken: browsers say where a form
//! comes from. Programs do not, and nobody sends those unawares.

use std::time::Duration;

use askama::Template;
use axum::extract::Multipart;
use axum::extract::multipart::MultipartRejection;
use axum::http::header::{ORIGIN, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use cargo_lock::Lockfile;
use crateferry_store::Wish;

use super::super::answer::Problem;
use super::super::wishes::is_held;
use super::visit::{Frame, Tab, Visit};
use super::{ProblemPage, Sheet};
use crate::report::count;

/// The longest lock file that is read, and what a form may have around it.
pub const LONGEST: usize = 4 << 20;
const AROUND: usize = 64 << 10;

/// The most bytes of a request.
pub const LONGEST_REQUEST: usize = LONGEST + AROUND;

/// How long a lock file may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many releases a page lists.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "wishes.html")]
struct WishesPage {
    frame: Frame,
    noted: Option<Noted>,
}

/// What became of a lock file.
struct Noted {
    /// How many packages of the registry it names.
    packages: String,
    lacking: Vec<String>,
    /// How many more there are than are listed.
    more: usize,
    /// Those that may not be asked for.
    barred: usize,
}

/// `/wishes`
pub async fn show(visit: Visit) -> Response {
    from_here(visit.answer(|visit| page(visit, None)).await)
}

/// `/wishes`, by POST: a form with a lock file.
pub async fn take(visit: Visit, headers: HeaderMap, form: Result<Multipart, MultipartRejection>) -> Response {
    let frame = visit.frame(Some(Tab::Wishes));
    let refuse = |problem| from_here(ProblemPage::response(frame, problem));
    if visit.app.wishes.is_none() {
        return refuse(Problem::Absent);
    }
    if !is_sent_from_here(&headers, visit.server.as_deref()) {
        return refuse(Problem::Bad("This form was sent by another site."));
    }
    let desk = visit.desk.clone();
    let _room = desk.uploads.acquire().await.expect("the semaphore is never closed");
    let read = async { lock_file(form.map_err(|_| NO_FORM)?).await };
    match tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err("The lock file took too long to come.")) {
        Err(why) => refuse(Problem::Bad(why)),
        Ok(text) => from_here(visit.answer(move |visit| page(visit, Some(note(visit, &text)?))).await),
    }
}

const NO_FORM: &str = "A lock file is expected, in a form's field `lock`.";

async fn lock_file(mut form: Multipart) -> Result<String, &'static str> {
    while let Some(field) = form.next_field().await.map_err(|_| NO_FORM)? {
        if field.name() == Some("lock") {
            let bytes = field.bytes().await.map_err(|_| "The lock file is too long, or did not come whole.")?;
            return match String::from_utf8(bytes.into()) {
                Ok(text) if text.len() <= LONGEST => Ok(text),
                Ok(_) => Err("The lock file is too long."),
                Err(_) => Err("This is no lock file: it is no text."),
            };
        }
    }
    Err(NO_FORM)
}

/// Notes what a lock file names of the registry and the mirror lacks. It is written when this returns.
fn note(visit: &Visit, text: &str) -> Result<Noted, Problem> {
    let book = visit.app.wishes.as_ref().ok_or(Problem::Absent)?;
    let lock: Lockfile = text.parse().map_err(|_| Problem::Bad("This is no Cargo.lock."))?;
    let ours = lock
        .packages
        .iter()
        .filter(|package| package.source.as_ref().is_some_and(cargo_lock::package::SourceId::is_default_registry));
    let (mut packages, mut lacking, mut barred) = (0, Vec::new(), 0);
    for package in ours {
        packages += 1;
        let (Ok(name), Ok(version)) = (package.name.as_str().parse(), package.version.to_string().parse()) else {
            continue;
        };
        let wish = Wish::new(&name, Some(version));
        match is_held(&visit.view.mirror, &wish)? {
            true => {}
            false if book.note(wish.clone()) => lacking.push(wish.to_string()),
            false => barred += 1,
        }
    }
    book.write(&visit.view.mirror)?;
    let more = lacking.len().saturating_sub(SHOWN);
    lacking.truncate(SHOWN);
    Ok(Noted { packages: count(packages, "package"), lacking, more, barred })
}

fn page(visit: &Visit, noted: Option<Noted>) -> Result<Sheet, Problem> {
    if visit.app.wishes.is_none() {
        return Err(Problem::Absent);
    }
    Ok(Sheet { kept: false, ..Sheet::of(&WishesPage { frame: visit.frame(Some(Tab::Wishes)), noted })? })
}

/// Lets a browser say that a form comes from here; it says nothing of where a reader goes.
fn from_here(mut answer: Response) -> Response {
    answer.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

/// Whether no other site made a browser send this.
fn is_sent_from_here(headers: &HeaderMap, server: Option<&str>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = |url: &str| url.split_once("://")?.1.split('/').next().map(str::to_ascii_lowercase);
    let (origin, server) = (origin.to_str().ok().and_then(host), server.and_then(host));
    origin.is_some() && origin == server
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_form_of_another_site_is_not_taken() {
        let sent = |headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_sent_from_here(&headers.collect(), Some("http://mirror:8080/crates"))
        };
        assert!(sent(&[]), "a program");
        assert!(sent(&[("origin", "https://Mirror:8080")]));
        assert!(sent(&[("sec-fetch-site", "same-origin"), ("origin", "https://other-name")]));
        for origin in ["http://mirror", "http://mirror:8080.evil", "http://evil", "null", ""] {
            assert!(!sent(&[("origin", origin)]), "{origin}");
        }
        assert!(!sent(&[("sec-fetch-site", "cross-site"), ("origin", "http://mirror:8080")]));
        assert!(!sent(&[("sec-fetch-site", "same-site")]));
    }
}
