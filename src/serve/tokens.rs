//! Tokens: who may use the server, if not everybody.
//!
//! The file has a line `NAME SHA256` for each token, so that it tells nobody a token. The tokens that `crateferry token`
//! makes have 256 random bits, which no dictionary holds, so one pass of SHA-256 is enough.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crateferry_store::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::answer::say;
use crate::report::usage;

/// The tokens of a file, as it is now.
pub struct Tokens {
    path: PathBuf,
    known: ArcSwap<Vec<Sha256>>,
    seen: Mutex<Option<SystemTime>>,
}

impl Tokens {
    /// Reads the file.
    pub fn read(path: &Path) -> anyhow::Result<Tokens> {
        let seen = Mutex::new(modified(path));
        let known = ArcSwap::from_pointee(hashes(path)?);
        Ok(Tokens { path: path.to_owned(), known, seen })
    }

    /// Reads the file again if it changed; one that cannot be used leaves the old tokens valid.
    pub fn follow(&self) {
        let now = modified(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        drop(seen);
        match hashes(&self.path) {
            Ok(hashes) => self.known.store(Arc::new(hashes)),
            Err(error) => tracing::warn!("{error:#}; the old tokens stay valid"),
        }
    }

    /// Whether this is one of the tokens. Takes as long whichever it is, and if it is none.
    fn holds(&self, token: &str) -> bool {
        let sought = Sha256::of(token.as_bytes());
        let known = self.known.load();
        let found = known.iter().fold(Choice::from(0), |found, known| found | known.0.ct_eq(&sought.0));
        found.into()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn hashes(path: &Path) -> anyhow::Result<Vec<Sha256>> {
    let text = std::fs::read_to_string(path).map_err(|error| usage(format!("tokens {}: {error}", path.display())))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
    let hashes = lines.map(|(line, number)| {
        let hash = line.split_whitespace().nth(1).and_then(|hash| hash.parse().ok());
        hash.ok_or_else(|| usage(format!("tokens {}: line {number} is not a name and a SHA-256", path.display())))
    });
    hashes.collect()
}

/// Lets only those in who show a token.
pub async fn require(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    if token(request.headers()).is_some_and(|token| tokens.holds(&token)) {
        return next.run(request).await;
    }
    let mut answer = say(StatusCode::UNAUTHORIZED, "this mirror wants a token; its operator has one for you");
    let headers = answer.headers_mut();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Cargo"));
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"crateferry\", charset=\"UTF-8\""));
    answer
}

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
    fn a_token_is_found_in_every_form() {
        for form in ["secret", "Bearer secret", "bearer  secret", "Basic Y2FyZ286c2VjcmV0", "basic OnNlY3JldA=="] {
            assert_eq!(shown(form).as_deref(), Some("secret"), "{form}");
        }
        for form in ["Digest secret", "Basic ???", "Basic c2VjcmV0"] {
            assert_eq!(shown(form), None, "{form}");
        }
    }
}
