//! What the upstream tests share: a ledger in memory, a git repository made by `git`, and one comparison.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crateferry_pipeline::clock::SystemClock;
use crateferry_pipeline::net::{Network, NetworkConfig, Retry};
use crateferry_pipeline::upstream::{
    Change, Comparison, IndexLimits, Known, KnownError, Mark, Means, RegistryConfig, Scope, Upstream, UpstreamError,
};
use crateferry_store::{BlobId, CrateName, Identity};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a mirror knows, in memory.
#[derive(Default)]
pub struct Ledger {
    rows: Mutex<BTreeMap<CrateName, Identity>>,
    fail: bool,
}

impl Ledger {
    /// One that fails at every question.
    pub fn broken() -> Self {
        Ledger { fail: true, ..Ledger::default() }
    }

    pub fn apply(&self, change: &Change) {
        let mut rows = self.rows.lock().unwrap();
        match change {
            Change::Updated { name, identity, .. } | Change::Renewed { name, identity } => {
                rows.insert(name.clone(), identity.clone());
            }
            Change::Gone { name } => {
                rows.remove(name);
            }
            Change::Unusable { .. } | Change::Failed { .. } => {}
        }
    }

    pub fn put(&self, name: &str, text: &[u8], etag: Option<&str>) {
        let identity = Identity { blob: BlobId::of(text), etag: etag.map(Into::into) };
        self.rows.lock().unwrap().insert(self::name(name), identity);
    }

    pub fn etag(&self, name: &str) -> Option<String> {
        self.rows.lock().unwrap()[&self::name(name)].etag.as_deref().map(str::to_owned)
    }

    pub fn names(&self) -> Vec<String> {
        self.rows.lock().unwrap().keys().map(ToString::to_string).collect()
    }
}

impl Known for Ledger {
    fn identity(&self, name: &CrateName) -> Result<Option<Identity>, KnownError> {
        if self.fail { Err("a row is damaged".into()) } else { Ok(self.rows.lock().unwrap().get(name).cloned()) }
    }

    fn names_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<CrateName>, KnownError> {
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        let rows = self.rows.lock().unwrap();
        Ok(rows.range((from, Bound::Unbounded)).take(limit).map(|(name, _)| name.clone()).collect())
    }

    fn count(&self) -> Result<u64, KnownError> {
        if self.fail { Err("a row is damaged".into()) } else { Ok(self.rows.lock().unwrap().len() as u64) }
    }
}

/// What an upstream at `url` is made with: a network that trusts these CA files and is in a hurry.
pub fn means(ca_files: &[PathBuf], url: &str, clone: PathBuf, limits: IndexLimits) -> Means {
    let config = NetworkConfig {
        ca_files: ca_files.to_vec(),
        retry_base: Duration::from_millis(5),
        retries: 2,
        ..NetworkConfig::default()
    };
    let url = reqwest::Url::parse(url).ok();
    let network = Arc::new(Network::new(&config, url.as_ref()).unwrap());
    let retry = Arc::new(Retry::new(&config, fastrand::Rng::with_seed(7)));
    Means { network, retry, clock: Arc::new(SystemClock), clone, limits }
}

pub fn name(text: &str) -> CrateName {
    text.parse().unwrap()
}

pub fn names(texts: &[&str]) -> Scope {
    Scope::names(texts.iter().map(|text| name(text)))
}

/// What one comparison brought.
pub struct Outcome {
    pub changes: Vec<Change>,
    pub mark: Result<Mark, UpstreamError>,
}

impl Outcome {
    /// The changes as sorted words: `+serde` updated, `~serde` renewed, `-serde` gone, `!path` unusable, `?serde` failed.
    pub fn words(&self) -> BTreeSet<String> {
        self.changes.iter().map(word).collect()
    }

    #[track_caller]
    pub fn expect(&self, words: &[&str]) -> &Self {
        assert_eq!(self.words(), words.iter().map(ToString::to_string).collect(), "mark: {:?}", self.mark);
        assert_eq!(self.changes.len(), words.len(), "a change came twice");
        self
    }

    #[track_caller]
    pub fn mark(&self) -> Mark {
        self.mark.as_ref().unwrap_or_else(|error| panic!("{}", crateferry_pipeline::error_chain(error))).clone()
    }
}

fn word(change: &Change) -> String {
    match change {
        Change::Updated { name, identity, text } => {
            assert_eq!(identity.blob, BlobId::of(text));
            format!("+{name}")
        }
        Change::Renewed { name, .. } => format!("~{name}"),
        Change::Gone { name } => format!("-{name}"),
        Change::Unusable { path, .. } => format!("!{path}"),
        Change::Failed { name, .. } => format!("?{name}"),
    }
}

/// What the upstream says of itself, with nobody to stop it.
pub async fn config_of(upstream: &Upstream) -> Result<Option<RegistryConfig>, UpstreamError> {
    upstream.config(&CancellationToken::new()).await
}

/// Compares and records every change as it comes.
pub async fn compare(upstream: &Upstream, scope: Scope, ledger: &Arc<Ledger>, last: Option<Mark>) -> Outcome {
    let (out, mut changes) = mpsc::channel(8);
    let known: Arc<dyn Known> = ledger.clone();
    let stop = CancellationToken::new();
    let comparison = Comparison { scope, known, last, out, progress: Arc::new(()), stop };
    let record = async {
        let mut list = Vec::new();
        while let Some(change) = changes.recv().await {
            ledger.apply(&change);
            list.push(change);
        }
        list
    };
    let (mark, changes) = tokio::join!(upstream.changes(comparison), record);
    Outcome { changes, mark }
}

/// An index entry's line.
pub fn line(name: &str, version: &str, yanked: bool) -> String {
    let checksum = "ab".repeat(32);
    format!(
        r#"{{"name":"{name}","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":{yanked}}}"#
    ) + "\n"
}

/// A git repository with a work tree, driven by the `git` program.
pub struct Repo {
    folder: TempDir,
}

impl Repo {
    pub fn new() -> Self {
        Repo::with_branch("master")
    }

    pub fn with_branch(branch: &str) -> Self {
        let repo = Repo { folder: TempDir::new().unwrap() };
        repo.git(&["init", "--quiet", &format!("--initial-branch={branch}")]);
        repo.write("config.json", r#"{"dl":"https://registry.test/dl","api":"https://registry.test","x":1}"#);
        repo
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=registry", "-c", "user.email=registry@registry.test", "-c", "gc.auto=0"])
            .args(arguments)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the index file of a crate with one release.
    pub fn release(&self, name: &str, version: &str) -> &Self {
        self.write(&self::name(name).index_path(), &line(name, version, false));
        self
    }

    pub fn delete(&self, name: &str) -> &Self {
        fs::remove_file(self.path().join(self::name(name).index_path())).unwrap();
        self
    }

    pub fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Replaces the history with one commit without parents.
    pub fn squash(&self) {
        let commit = self.git(&["commit-tree", "HEAD^{tree}", "-m", "squash"]);
        self.git(&["reset", "--quiet", "--hard", &commit]);
    }
}

/// How many packs lie in a clone.
pub fn packs(clone: &Path) -> usize {
    files(&clone.join("objects/pack")).iter().filter(|path| path.extension().is_some_and(|end| end == "pack")).count()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}
