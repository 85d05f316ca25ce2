//! How an operator names an upstream.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reqwest::Url;

use super::{FolderIndex, GitIndex, Means, Scope, SparseIndex, Upstream};

/// Where an origin syncs from, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamSpec {
    /// `crates-io`: its git index for all crates, its sparse index for a selection.
    CratesIo,
    /// `https://...`, `http://...` or `file://...`: a git repository.
    Git(Url),
    /// `sparse+https://...`: a sparse index.
    Sparse(Url),
    /// A path: a folder of index files.
    Folder(PathBuf),
}

/// Text that names no upstream.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is not an upstream: it must be crates-io, sparse+https://..., a git URL (https, http or file) or a folder"
)]
pub struct SpecError {
    text: String,
    source: Option<<Url as FromStr>::Err>,
}

impl FromStr for UpstreamSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = |source| SpecError { text: text.to_owned(), source };
        let url = |text: &str| Url::parse(text).map_err(|source| wrong(Some(source)));
        if text == "crates-io" {
            return Ok(UpstreamSpec::CratesIo);
        }
        if let Some(address) = text.strip_prefix("sparse+") {
            let url = url(address)?;
            return if is_http(&url) { Ok(UpstreamSpec::Sparse(url)) } else { Err(wrong(None)) };
        }
        if text.contains("://") {
            let url = url(text)?;
            let known = is_http(&url) || url.scheme() == "file";
            return if known { Ok(UpstreamSpec::Git(url)) } else { Err(wrong(None)) };
        }
        if text.is_empty() { Err(wrong(None)) } else { Ok(of_path(Path::new(text))) }
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http") && url.has_host()
}

/// A bare git repository is read by git, a folder of files as it lies there, with or without a `.git`.
fn of_path(path: &Path) -> UpstreamSpec {
    let bare = path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir();
    let url = || Url::from_directory_path(path.canonicalize().ok()?).ok();
    match url().filter(|_| bare) {
        Some(url) => UpstreamSpec::Git(url),
        None => UpstreamSpec::Folder(path.to_owned()),
    }
}

impl fmt::Display for UpstreamSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamSpec::CratesIo => f.write_str("crates-io"),
            UpstreamSpec::Git(url) => url.fmt(f),
            UpstreamSpec::Sparse(url) => write!(f, "sparse+{url}"),
            UpstreamSpec::Folder(path) => path.display().fmt(f),
        }
    }
}

impl UpstreamSpec {
    /// The URL that is asked for this scope; folders have none.
    pub fn url(&self, scope: &Scope) -> Option<Url> {
        match self.settle(scope) {
            UpstreamSpec::Git(url) | UpstreamSpec::Sparse(url) => Some(url),
            UpstreamSpec::Folder(_) | UpstreamSpec::CratesIo => None,
        }
    }

    /// Makes the upstream that serves this scope best.
    pub fn open(&self, scope: &Scope, means: &Means) -> Upstream {
        match self.settle(scope) {
            UpstreamSpec::Sparse(url) => Upstream::Sparse(SparseIndex::new(url, means)),
            UpstreamSpec::Git(url) => Upstream::Git(GitIndex::new(url, means)),
            UpstreamSpec::Folder(path) => Upstream::Folder(FolderIndex::new(path, means.limits.file)),
            UpstreamSpec::CratesIo => unreachable!("settle has chosen one of its indexes"),
        }
    }

    /// Chooses between the indexes of crates.io: it asks mirrors of everything to use git, and all others not to.
    fn settle(&self, scope: &Scope) -> UpstreamSpec {
        let constant = |text: &str| Url::parse(text).expect("a constant URL");
        match (self, scope) {
            (UpstreamSpec::CratesIo, Scope::All) => UpstreamSpec::Git(constant(tame_index::CRATES_IO_INDEX)),
            (UpstreamSpec::CratesIo, Scope::Names(_)) => {
                let url = tame_index::CRATES_IO_HTTP_INDEX;
                UpstreamSpec::Sparse(constant(url.strip_prefix("sparse+").unwrap_or(url)))
            }
            (other, _) => other.clone(),
        }
    }
}
