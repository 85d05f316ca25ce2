//! A database dump that is named by a URL: fetched when it has changed, and kept beside the mirror's packs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use crateferry_pipeline::net::{Network, Retry, is_transient};
use reqwest::header::{ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// The dump, and what is known of it.
const DUMP: &str = "db-dump.tar.gz";
const NOTE: &str = "db-dump.json";

/// The URL, if a dump is named by one and not by a path.
pub fn url(name: &str) -> Option<Url> {
    Url::parse(name).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// The dump that was fetched last, if one was.
pub fn last(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(DUMP);
    path.is_file().then_some(path)
}

/// Where a dump came from, and how to ask whether it is still that.
#[derive(Deserialize, Serialize)]
struct Note {
    url: String,
    etag: Option<String>,
    modified: Option<String>,
}

/// What came of one attempt.
enum Attempt {
    Done,
    /// It may end otherwise in a while.
    Failed(anyhow::Error),
}

/// Brings the dump into a folder, unless that one is there already. One that cannot be had is no reason to do without the one that was
/// fetched before.
pub async fn fetch(
    network: &Network,
    retry: &Retry,
    url: &Url,
    folder: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<PathBuf> {
    let path = folder.join(DUMP);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let note = std::fs::read(folder.join(NOTE)).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    let known = note.filter(|note| note.url == url.as_str() && path.is_file());
    let mut tries = 0;
    loop {
        let attempt = tokio::select! {
            attempt = attempt(network, url, known.as_ref(), folder) => attempt?,
            () = stop.cancelled() => bail!("interrupted"),
        };
        let Attempt::Failed(error) = attempt else { return Ok(path) };
        let Some(delay) = retry.delay(tries, None) else {
            if known.is_none() {
                return Err(error);
            }
            tracing::warn!("the database dump is as old as it was: {error:#}");
            return Ok(path);
        };
        tries += 1;
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => bail!("interrupted"),
        }
    }
}

async fn attempt(network: &Network, url: &Url, known: Option<&Note>, folder: &Path) -> anyhow::Result<Attempt> {
    let failed = || format!("cannot fetch the database dump {url}");
    let mut request = network.file_client()?.get(url.clone());
    let condition = known.and_then(|note| match (&note.etag, &note.modified) {
        (Some(etag), _) => Some((IF_NONE_MATCH, etag)),
        (None, Some(modified)) => Some((IF_MODIFIED_SINCE, modified)),
        (None, None) => None,
    });
    if let Some((name, value)) = condition {
        request = request.header(name, HeaderValue::from_str(value)?);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Ok(Attempt::Failed(anyhow::Error::from(error).context(failed()))),
    };
    match answer.status() {
        StatusCode::NOT_MODIFIED if known.is_some() => Ok(Attempt::Done),
        StatusCode::OK => take(answer, url, folder).await,
        status if is_transient(status) => Ok(Attempt::Failed(anyhow::anyhow!("{}: {status}", failed()))),
        status => bail!("{}: the answer was {status}", failed()),
    }
}

/// Writes the dump under another name until it is whole.
async fn take(mut answer: Response, url: &Url, folder: &Path) -> anyhow::Result<Attempt> {
    let header = |name: HeaderName| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
    let note = Note { url: url.to_string(), etag: header(ETAG), modified: header(LAST_MODIFIED) };
    let part = folder.join(format!("{DUMP}.part"));
    let writing = || format!("cannot write {}", part.display());
    let mut file = std::fs::File::create(&part).with_context(writing)?;
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => file.write_all(&bytes).with_context(writing)?,
            Ok(None) => break,
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("cannot fetch the database dump {url}"));
                return Ok(Attempt::Failed(error));
            }
        }
    }
    // A note of the dump before must not stand beside this one.
    drop(std::fs::remove_file(folder.join(NOTE)));
    std::fs::rename(&part, folder.join(DUMP)).with_context(writing)?;
    std::fs::write(folder.join(NOTE), serde_json::to_vec(&note)?).with_context(writing)?;
    Ok(Attempt::Done)
}
