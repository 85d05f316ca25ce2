//! Where an origin syncs from, as *changes against what the mirror already knows*.
//!
//! An upstream's history is never believed: it is squashed, rewritten and pushed by force, and a server's
//! validators may lie. Every index file is recognised by its content, its git blob id, and whatever differs
//! from the identity that the mirror holds is a [`Change`]. So git, sparse index and folder can be exchanged
//! at any time, a sync that was cut short loses nothing but time, and nothing that was seen can be forgotten.
//!
//! A [`Mark`] of the last complete comparison only allows to do less: not to fetch an unchanged git index, and
//! to walk the difference of two trees instead of a whole one.
//!
//! The git and folder walks are blocking and run on tokio's blocking threads, from where they send into the
//! channel they were given; they are the one place beside `flow` that starts something. They end when the stop
//! signal is given or when the receiver is dropped. A call that hangs, of the network or of the disk, keeps its
//! thread for longer: whoever waits is told that it was interrupted, and must not wait for the thread.

pub mod crates;
mod folder;
mod git;
mod sparse;
mod spec;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use crateferry_store::{Blake3, CrateName, Identity, NameError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::net::{Network, Retry};

pub use folder::{FolderError, FolderIndex};
pub use git::{Checkout, GitError, GitIndex};
pub use sparse::{SparseError, SparseIndex};
pub use spec::{SpecError, UpstreamSpec};

/// Why the mirror's own record of the index cannot be read.
pub type KnownError = Box<dyn Error + Send + Sync>;

/// What the mirror already knows of the upstream's index files. All names are in lower case.
///
/// A comparison looks up each name before it sends that name's change, so an implementation may show what was
/// recorded since the comparison began or hide it, as it likes.
pub trait Known: Send + Sync {
    /// What was last recorded for this name's index file.
    fn identity(&self, name: &CrateName) -> Result<Option<Identity>, KnownError>;
    /// At most `limit` of the names that have an identity, in order, from the first one after `after`.
    fn names_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<CrateName>, KnownError>;
    /// How many names have an identity.
    fn count(&self) -> Result<u64, KnownError>;
}

/// Which index files a sync looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that the upstream lists.
    All,
    /// These: in lower case, sorted, each once. [`Scope::names`] makes them so.
    Names(Arc<[CrateName]>),
}

impl Scope {
    /// The index files of these crates.
    pub fn names(names: impl IntoIterator<Item = CrateName>) -> Self {
        let mut names: Vec<CrateName> = names.into_iter().map(|name| name.lower()).collect();
        names.sort();
        names.dedup();
        Scope::Names(names.into())
    }

    /// A short text that is equal for equal scopes.
    pub fn digest(&self) -> String {
        match self {
            Scope::All => "all".to_owned(),
            Scope::Names(names) => {
                let list: Vec<&str> = names.iter().map(CrateName::as_str).collect();
                Blake3::of(list.join("\n").as_bytes()).to_string()
            }
        }
    }
}

/// The ways to read an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A git repository.
    Git,
    /// Files over HTTP.
    Sparse,
    /// Files in a folder.
    Folder,
}

/// The upstream's own state when it was last compared to the end. It only allows to do less, and never decides
/// what is new: record it after the last change of its comparison, or later, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// How it was read.
    pub kind: Kind,
    /// Where: a URL or a path.
    pub place: String,
    /// The git commit that was compared.
    pub commit: Option<String>,
    /// The git tree of that commit.
    pub tree: Option<String>,
    /// [`Scope::digest`] of what was looked at.
    pub scope: String,
    /// False if an index file could not be read ([`Change::Failed`]): the next comparison looks at all again.
    pub complete: bool,
}

impl Mark {
    /// Whether this is the mark of a complete comparison of the same index, seen through the same scope.
    fn covers(&self, kind: Kind, place: &str, scope: &Scope) -> bool {
        self.complete && self.kind == kind && self.place == place && self.scope == scope.digest()
    }
}

/// How an upstream's index differs from what the mirror knows.
#[derive(Debug)]
pub enum Change {
    /// A new index file, or other bytes than before.
    Updated {
        /// The name, in lower case, as the file's path gives it.
        name: CrateName,
        /// What to remember of the file.
        identity: Identity,
        /// The whole file.
        text: Vec<u8>,
    },
    /// The bytes that are known, with another validator.
    Renewed {
        /// The name, in lower case.
        name: CrateName,
        /// What to remember of the file.
        identity: Identity,
    },
    /// Known, in scope, and no longer there.
    Gone {
        /// The name, in lower case.
        name: CrateName,
    },
    /// Something that lies in the index, or was asked for, and can never become an index file. What was known
    /// under the same name stays as it was.
    Unusable {
        /// The path within the index, with whatever it holds.
        path: String,
        /// Why.
        problem: Problem,
    },
    /// An index file that could not be read this time; it will be asked for again.
    Failed {
        /// The name, in lower case.
        name: CrateName,
        /// Why.
        problem: Box<dyn Error + Send + Sync>,
        /// Whether it looks like something that passes by itself.
        transient: bool,
    },
}

/// Why something in an index is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its file name is not a crate's.
    #[error("its name cannot be a crate's")]
    Name(#[source] NameError),
    /// An index file that another path belongs to.
    #[error("the index file of this crate belongs at {0}")]
    Misplaced(String),
    /// A link, a folder in a file's place, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Too large.
    #[error("it has {size} bytes, and an index file may have {limit} (limit: index file)")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Too large; where it ends was not waited for.
    #[error("it has more than the {limit} bytes that an index file may have (limit: index file)")]
    Unbounded {
        /// The limit.
        limit: u64,
    },
    /// It was asked for by name, is not known to the mirror and not there.
    #[error("the upstream has no crate of this name")]
    NoSuchCrate,
}

/// What one upstream can be asked to compare, and where the answer goes.
#[derive(Clone)]
pub struct Comparison {
    /// Which index files.
    pub scope: Scope,
    /// What the mirror knows of them.
    pub known: Arc<dyn Known>,
    /// The mark of an earlier comparison.
    pub last: Option<Mark>,
    /// Where changes go.
    pub out: mpsc::Sender<Change>,
    /// Who is told how far it is.
    pub progress: Arc<dyn Progress>,
    /// The signal to stop.
    pub stop: CancellationToken,
}

/// Limits of reading an index.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// The largest index file, in bytes.
    pub file: u64,
    /// The largest object that git may unpack, in bytes: one above it ends the transfer.
    pub object: u64,
    /// Requests to a sparse index that are under way at a time.
    pub requests: usize,
    /// Index files in a row that may fail before a sparse index counts as out of reach.
    pub failures: usize,
    /// Packs that a git clone may consist of before it is made afresh.
    pub packs: usize,
}

impl Default for IndexLimits {
    fn default() -> Self {
        IndexLimits { file: 64 << 20, object: 256 << 20, requests: 32, failures: 64, packs: 100 }
    }
}

/// What upstreams are made with.
#[derive(Clone)]
pub struct Means {
    /// The way to the network.
    pub network: Arc<Network>,
    /// When to ask again.
    pub retry: Arc<Retry>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The folder for a git clone. A new clone grows beside it, under the same name with `.new` at its end.
    pub clone: PathBuf,
    /// The limits.
    pub limits: IndexLimits,
}

/// What a comparison is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asking a git upstream where it stands.
    Listing,
    /// Receiving objects: counted in objects.
    Receiving,
    /// Resolving deltas: counted in objects.
    Resolving,
    /// Comparing index files: counted in files.
    Comparing,
    /// Looking for deleted crates: counted in known names.
    Missing,
}

/// Who is told how far a comparison is.
pub trait Progress: Send + Sync {
    /// `done` of `total` are done in this phase. Called often: be quick.
    fn at(&self, phase: Phase, done: u64, total: Option<u64>);
}

/// Nobody.
impl Progress for () {
    fn at(&self, _: Phase, _: u64, _: Option<u64>) {}
}

/// What a registry says of itself in `config.json`. Unknown keys are ignored, and kept in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The download URL, or its template.
    pub dl: String,
    /// The URL of the web API.
    pub api: Option<String>,
    /// Whether every request needs a token.
    pub auth_required: bool,
    /// The file as it was.
    pub bytes: Vec<u8>,
}

/// A `config.json` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("config.json is not a registry's")]
pub struct ConfigError(#[source] serde_json::Error);

impl RegistryConfig {
    /// Reads `config.json`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Wire {
            dl: String,
            api: Option<String>,
            #[serde(rename = "auth-required", default)]
            auth_required: bool,
        }
        let Wire { dl, api, auth_required } = serde_json::from_slice(&bytes).map_err(ConfigError)?;
        Ok(RegistryConfig { dl, api, auth_required, bytes })
    }
}

/// Why an upstream could not be compared, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The stop signal came, or nobody listens any more.
    #[error("the comparison with the upstream was interrupted")]
    Interrupted,
    /// The mirror's own record failed.
    #[error("what the mirror knows of the upstream's index cannot be read")]
    Known(#[source] KnownError),
    /// The git repository cannot be read.
    #[error("the git index {place} cannot be read")]
    Git {
        /// Its URL.
        place: String,
        /// Why.
        source: GitError,
    },
    /// The sparse index cannot be read.
    #[error("the sparse index {place} cannot be read")]
    Sparse {
        /// Its URL.
        place: String,
        /// Why.
        source: SparseError,
    },
    /// All was asked for where nothing lists all.
    #[error("the sparse index {place} has no list of its crates: name a selection, or use the registry's git index")]
    NoList {
        /// Its URL.
        place: String,
    },
    /// The folder cannot be read.
    #[error("the index folder {} cannot be read", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: FolderError,
    },
    /// `config.json` is there and useless.
    #[error("the upstream {place} cannot be used")]
    Config {
        /// Which.
        place: String,
        /// Why.
        source: ConfigError,
    },
}

/// Where an origin syncs from.
#[derive(Debug)]
pub enum Upstream {
    /// A git repository.
    Git(GitIndex),
    /// A sparse index.
    Sparse(SparseIndex),
    /// A folder of index files.
    Folder(FolderIndex),
}

impl Upstream {
    /// The registry's own configuration, if the index has one.
    pub async fn config(&self, stop: &CancellationToken) -> Result<Option<RegistryConfig>, UpstreamError> {
        match self {
            Upstream::Git(index) => index.config(stop).await,
            Upstream::Sparse(index) => unless_stopped(stop, index.config()).await,
            Upstream::Folder(index) => unless_stopped(stop, index.config()).await,
        }
    }

    /// Sends every change against what is known, and returns the mark of what was seen, once all of it was.
    ///
    /// A change may come twice, if a damaged git clone was replaced on the way.
    pub async fn changes(&self, comparison: Comparison) -> Result<Mark, UpstreamError> {
        match self {
            Upstream::Git(index) => index.changes(comparison).await,
            Upstream::Sparse(index) => index.changes(comparison).await,
            Upstream::Folder(index) => index.changes(comparison).await,
        }
    }
}

/// The crate whose index file lies at this path.
fn index_name(path: &str) -> Result<CrateName, Problem> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name: CrateName = file.parse().map_err(Problem::Name)?;
    let own = name.index_path();
    if own == path { Ok(name) } else { Err(Problem::Misplaced(own)) }
}

/// `config.json`, `README.md`, `.github/` and the like, which stand beside the index files.
fn is_furniture(path: &str) -> bool {
    let top = path.split('/').next().unwrap_or(path);
    let alone = top.len() == path.len();
    let well_known = ["config.json", ".cargo-ok", ".last-updated"].contains(&path);
    let about =
        alone && ["README", "LICENSE", "CODE_OF_CONDUCT", "CONTRIBUTING"].iter().any(|word| top.starts_with(word));
    well_known || about || top == ".git" || top == ".github" || (alone && top.starts_with(".git"))
}

/// How many folders lie above an index file at most.
const DEPTH: usize = 2;
/// How many known names are looked at in one go.
const PAGE: usize = 4096;

impl Comparison {
    fn mark(&self, kind: Kind, place: String, complete: bool) -> Mark {
        Mark { kind, place, commit: None, tree: None, scope: self.scope.digest(), complete }
    }

    fn identity(&self, name: &CrateName) -> Result<Option<Identity>, UpstreamError> {
        self.known.identity(name).map_err(UpstreamError::Known)
    }

    /// What it means that this name is not there.
    fn absent(&self, name: CrateName) -> Result<Change, UpstreamError> {
        Ok(match self.identity(&name)? {
            Some(_) => Change::Gone { name },
            None => Change::Unusable { path: name.index_path(), problem: Problem::NoSuchCrate },
        })
    }

    /// Sends `Gone` for each known name that `is_there` denies.
    fn sweep(&self, mut is_there: impl FnMut(&CrateName) -> Result<bool, UpstreamError>) -> Result<(), UpstreamError> {
        let total = self.known.count().map_err(UpstreamError::Known)?;
        let (mut done, mut last) = (0, None);
        loop {
            let page = self.known.names_after(last.as_ref(), PAGE).map_err(UpstreamError::Known)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.clone());
            done += page.len() as u64;
            self.progress.at(Phase::Missing, done, Some(total));
            for name in page {
                if !is_there(&name)? {
                    self.put(Change::Gone { name })?;
                }
                self.go_on()?;
            }
        }
    }

    /// Fails when the stop signal was given.
    fn go_on(&self) -> Result<(), UpstreamError> {
        if self.stop.is_cancelled() { Err(UpstreamError::Interrupted) } else { Ok(()) }
    }

    /// Sends a change from a blocking thread.
    fn put(&self, change: Change) -> Result<(), UpstreamError> {
        self.go_on()?;
        self.out.blocking_send(change).map_err(|_| UpstreamError::Interrupted)
    }

    /// Sends a change from a task.
    async fn send(&self, change: Change) -> Result<(), UpstreamError> {
        self.go_on()?;
        self.out.send(change).await.map_err(|_| UpstreamError::Interrupted)
    }
}

/// Waits for something, but not beyond the signal to stop.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(UpstreamError::Interrupted),
        result = work => result,
    }
}

/// Runs blocking work to its end on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpstreamError> + Send + 'static,
) -> Result<T, UpstreamError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => Err(UpstreamError::Interrupted),
    }
}
