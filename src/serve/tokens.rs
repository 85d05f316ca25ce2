//! Tokens: who may use the server, if not everybody.
//!
//! The file has a line `NAME SHA256` for each token, so that it tells nobody a token. The tokens that `crateferry token`
//! makes have 256 random bits, which no dictionary holds, so one pass of SHA-256 is enough.
//!
//! The file is only ever replaced as a whole, by one process at a time, and keeps its owner and mode: a server that may
//! read it must be able to read it after a token was removed, or the removed one would stay valid.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use arc_swap::ArcSwap;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crateferry_store::{FileId, Sha256, file_id, open_locked, replace_file};
use subtle::{Choice, ConstantTimeEq};

use super::answer::say;
use super::pages::prefers_html;
use crate::report::usage;

/// What the tokens that we make begin with, so that people and scanners know one when they see it.
const PREFIX: &str = "cfy_";
const LONGEST_NAME: usize = 64;

/// The tokens of a file, as it is now.
pub struct Tokens {
    path: PathBuf,
    known: ArcSwap<Vec<Entry>>,
    seen: Mutex<Option<Seen>>,
}

/// What shows that a file changed: when it was written, how long it is, and which file it is.
type Seen = (Option<SystemTime>, u64, Option<FileId>);

impl Tokens {
    /// Reads the file.
    pub fn read(path: &Path) -> anyhow::Result<Tokens> {
        let seen = Mutex::new(seen(path));
        let known = ArcSwap::from_pointee(entries(path)?);
        Ok(Tokens { path: path.to_owned(), known, seen })
    }

    /// Reads the file again if it changed; one that cannot be used leaves the old tokens valid.
    pub fn follow(&self) {
        let now = seen(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        drop(seen);
        match entries(&self.path) {
            Ok(entries) => {
                tracing::info!(tokens = entries.len(), "the tokens changed");
                self.known.store(Arc::new(entries));
            }
            Err(error) => tracing::warn!("{error:#}; the old tokens stay valid"),
        }
    }

    /// Whether this is one of the tokens. Takes as long whichever it is, and if it is none.
    fn holds(&self, token: &str) -> bool {
        let sought = Sha256::of(token.as_bytes());
        let known = self.known.load();
        let found = known.iter().fold(Choice::from(0), |found, known| found | known.hash.0.ct_eq(&sought.0));
        found.into()
    }

    /// The name of the token that a request shows, which was let in.
    pub fn name_of(&self, request: &HeaderMap) -> Option<String> {
        let sought = Sha256::of(token(request)?.as_bytes());
        self.known.load().iter().find(|known| known.hash == sought).map(|known| known.name.clone())
    }
}

fn seen(path: &Path) -> Option<Seen> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len(), file_id(path)))
}

fn entries(path: &Path) -> anyhow::Result<Vec<Entry>> {
    TokenFile::read(path)?.entries()
}

/// The text of a token file.
pub struct TokenFile {
    path: PathBuf,
    text: String,
}

/// One token, as its file knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is.
    pub name: String,
    /// The SHA-256 of the token.
    pub hash: Sha256,
}

impl TokenFile {
    /// Reads a file that is there.
    pub fn read(path: &Path) -> anyhow::Result<TokenFile> {
        let text = std::fs::read_to_string(path).map_err(|error| unusable(path, &error))?;
        Ok(TokenFile { path: path.to_owned(), text })
    }

    /// Its tokens, in order. Empty lines and those that begin with `#` are nothing.
    pub fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let lines = self.text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
        let entries = lines.map(|(line, number)| {
            let broken = || usage(format!("tokens {}: line {number} is not a name and a SHA-256", self.path.display()));
            let (name, hash) = line.trim().split_once(char::is_whitespace).ok_or_else(broken)?;
            Ok(Entry { name: name.to_owned(), hash: hash.trim().parse().map_err(|_| broken())? })
        });
        entries.collect()
    }

    /// Adds a new token for a name that has none; makes the file if it is not there. Gives the token, which nobody can
    /// tell again.
    pub fn add(path: &Path, name: &str) -> anyhow::Result<String> {
        if !is_plain(name) {
            let rule = format!("1 to {LONGEST_NAME} letters, digits, `.`, `_` or `-`, the first a letter or digit");
            return Err(usage(format!("a token's name is {rule}: {name:?} is not")));
        }
        let token = new_token()?;
        change(path, true, |file| {
            if file.entries()?.iter().any(|entry| entry.name == name) {
                return Err(usage(format!("tokens {}: there is a token of {name} already", path.display())));
            }
            let before = if file.text.is_empty() || file.text.ends_with('\n') { "" } else { "\n" };
            Ok(format!("{}{before}{name} {}\n", file.text, Sha256::of(token.as_bytes())))
        })?;
        Ok(token)
    }

    /// Removes the token of a name.
    pub fn remove(path: &Path, name: &str) -> anyhow::Result<()> {
        change(path, false, |file| {
            if !file.entries()?.iter().any(|entry| entry.name == name) {
                return Err(usage(format!("tokens {}: there is no token of {name}", path.display())));
            }
            let others = file.text.split_inclusive('\n');
            Ok(others.filter(|line| line.split_whitespace().next() != Some(name)).collect())
        })
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn new_token() -> anyhow::Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("the operating system gives no random bytes")?;
    Ok(random.iter().fold(PREFIX.to_owned(), |token, byte| format!("{token}{byte:02x}")))
}

fn unusable(path: &Path, error: &io::Error) -> anyhow::Error {
    usage(format!("tokens {}: {error}", path.display()))
}

/// Puts another text in the place of a file's, whole or not at all; whoever else wants to change it waits.
fn change(path: &Path, make: bool, edit: impl FnOnce(&TokenFile) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let mut held = open_locked(path, make).map_err(|error| unusable(path, &error))?;
    let mut text = String::new();
    held.read_to_string(&mut text).map_err(|error| unusable(path, &error))?;
    let text = edit(&TokenFile { path: path.to_owned(), text })?;
    replace_file(path, &held, text.as_bytes()).with_context(|| format!("cannot write the tokens {}", path.display()))
}

/// The refusal of a request that shows no token. Browsers then ask for a password; who gives none sees a page.
pub fn refusal(tokens: &Tokens, request: &HeaderMap) -> Option<Response> {
    if token(request).is_some_and(|token| tokens.holds(&token)) {
        return None;
    }
    let mut answer = if prefers_html(request) {
        let headers = [(CONTENT_SECURITY_POLICY, "default-src 'none'"), (CACHE_CONTROL, "no-store")];
        (StatusCode::UNAUTHORIZED, headers, Html(PAGE)).into_response()
    } else {
        say(StatusCode::UNAUTHORIZED, "this mirror wants a token; its operator has one for you")
    };
    let headers = answer.headers_mut();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Cargo"));
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"crateferry\", charset=\"UTF-8\""));
    Some(answer)
}

/// It stands alone, since styles and pictures want a token too.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>This mirror wants a token</title>
<h1>This mirror wants a token</h1>
<p>Its operator has one for you. Load this page again and give the token as the password; the user name does not matter.</p>
<p>Cargo asks for it with <code>cargo login --registry NAME</code>, where NAME is what your configuration calls this mirror.</p>
</html>
"#;

/// The token that a request shows: as cargo sends it, as a bearer token, or as the password that a browser asks for.
fn token(headers: &HeaderMap) -> Option<String> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    match shown.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim().to_owned()),
        Some((scheme, pair)) if scheme.eq_ignore_ascii_case("basic") => {
            let pair = String::from_utf8(BASE64.decode(pair.trim()).ok()?).ok()?;
            Some(pair.split_once(':')?.1.to_owned())
        }
        Some(_) => None,
        None => Some(shown.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(authorization: &str) -> Option<String> {
        token(&HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())]))
    }

    #[test]
    fn names_are_plain() {
        for name in ["a", "ci-runner_2.x", "0", &"n".repeat(64)] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "-a", "#a", "a b", "a\n", "\u{e9}", ".a", "_a", &"n".repeat(65)] {
            assert!(!is_plain(name), "{name}");
        }
    }

    #[test]
    fn no_two_new_tokens_are_alike() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert!(one != two && one.len() == 68 && one.starts_with("cfy_"), "{one} {two}");
    }

    #[test]
    fn a_token_is_found_in_every_form() {
        for form in ["secret", "Bearer secret", "bearer  secret", "Basic Y2FyZ286c2VjcmV0", "basic OnNlY3JldA=="] {
            assert_eq!(shown(form).as_deref(), Some("secret"), "{form}");
        }
        for form in ["Digest secret", "Basic ???", "Basic c2VjcmV0"] {
            assert_eq!(shown(form), None, "{form}");
        }
    }
}
