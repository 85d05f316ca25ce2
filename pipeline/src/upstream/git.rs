//! An index in a git repository, seen through a bare clone of one branch.
//!
//! The clone is a cache and nothing else: it may be deleted at any time, and is, when it is damaged, half made
//! or scattered over too many packs. A new one grows in a folder beside it and takes its place when it is whole.
//!
//! Two trees are compared, never two histories: a squashed or force-pushed branch costs what differs in content.
//! If the tree of the last complete comparison is still in the clone, only the paths that differ from it are
//! looked at; even then the identities that the mirror holds decide what is a change. Every text is hashed again
//! before it is passed on, so a damaged clone cannot pass a wrong one.
//!
//! Only this module knows gix, whose calls block; they run on a blocking thread.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crateferry_store::{BlobId, CrateName, Identity};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::error::Class;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::Direction;
use reqwest::header::{HeaderValue, USER_AGENT};

use super::gauge::Gauge;
use super::{Change, Comparison, DEPTH, IndexLimits, Kind, Mark, Phase, Problem, Progress, RegistryConfig, Scope};
use super::{UpstreamError, blocking, index_name, is_furniture};
use crate::net::Network;

/// Where the clone keeps the upstream's branch.
const BRANCH: &str = "refs/remotes/origin/master";
/// The upstream's branch: the first of these that is there.
const REFSPECS: [&str; 2] = ["+refs/heads/master:refs/remotes/origin/master", "+HEAD:refs/remotes/origin/master"];
/// How long a comparison that was told to stop may take before it is left alone.
const PATIENCE: Duration = Duration::from_secs(3);

/// What lies under an error of git's.
type Cause = Box<dyn Error + Send + Sync>;

/// An index in a git repository.
#[derive(Clone, Debug)]
pub struct GitIndex {
    url: String,
    folder: PathBuf,
    limits: IndexLimits,
    network: Arc<Network>,
}

/// What went wrong with a git index.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Not a URL that can be cloned.
    #[error("its URL cannot be used: only https, http and file URLs can")]
    Url(#[source] Option<Cause>),
    /// The clone could not be made.
    #[error("cannot make a clone in {}", folder.display())]
    Make {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: Cause,
    },
    /// No answer, or not git's.
    #[error("cannot list its branches")]
    List(#[source] Cause),
    /// An empty repository.
    #[error("it has no branch master, and HEAD points to nothing")]
    NoBranch,
    /// The transfer failed.
    #[error("cannot receive its objects")]
    Receive(#[source] Cause),
    /// The clone lacks something, or holds it changed.
    #[error("the clone in {} is damaged", folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// How.
        source: Cause,
    },
    /// An object that is not the one its name promises.
    #[error("object {wanted} has the content of {found}")]
    Content {
        /// Asked for.
        wanted: BlobId,
        /// Got.
        found: BlobId,
    },
    /// A file of the clone could not be moved or deleted.
    #[error("cannot replace {}", path.display())]
    Replace {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GitIndex {
    /// The index at `url`, cloned into `folder`.
    pub fn new(url: impl Into<String>, folder: impl Into<PathBuf>, limits: IndexLimits, network: Arc<Network>) -> Self {
        GitIndex { url: url.into(), folder: folder.into(), limits, network }
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads `config.json` at the tip of the branch, if it is there. Asks the upstream where its tip is.
    pub async fn config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let index = self.clone();
        blocking(move || index.read_config()).await
    }

    /// See [`Upstream::changes`](super::Upstream::changes).
    pub async fn changes(&self, comparison: Comparison) -> Result<Mark, UpstreamError> {
        let (index, stop) = (self.clone(), comparison.stop.clone());
        let interrupt = Arc::new(AtomicBool::new(false));
        let flag = interrupt.clone();
        let work = blocking(move || index.compare(&comparison, &flag));
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = stop.cancelled() => interrupt.store(true, Ordering::Relaxed),
        }
        // A silent server can hold the thread until its timeout; nobody has to wait for that.
        tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(UpstreamError::Interrupted))
    }

    fn read_config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let pull = Pull { index: self, progress: Arc::new(()), interrupt: &AtomicBool::new(false) };
        let read = |tip: &Tip| match tip.file("config.json")? {
            Some(id) => tip.blob(id).map(Some),
            None => Ok(None),
        };
        let bytes = self.with_tip(&pull, |tip| read(tip).map_err(|source| self.broken(source)))?;
        let config = bytes.map(RegistryConfig::parse).transpose();
        config.map_err(|source| UpstreamError::Config { place: self.url.clone(), source })
    }

    fn compare(&self, comparison: &Comparison, interrupt: &AtomicBool) -> Result<Mark, UpstreamError> {
        let pull = Pull { index: self, progress: comparison.progress.clone(), interrupt };
        match self.with_tip(&pull, |tip| self.compare_tip(comparison, tip)) {
            Err(UpstreamError::Git { .. }) if comparison.stop.is_cancelled() => Err(UpstreamError::Interrupted),
            result => result,
        }
    }

    fn compare_tip(&self, comparison: &Comparison, tip: &Tip) -> Result<Mark, UpstreamError> {
        let last = comparison.last.as_ref().filter(|last| last.covers(Kind::Git, &self.url, &comparison.scope));
        let seen = last.and_then(|last| last.tree.as_deref()).and_then(|id| tip.tree_if_held(id));
        if seen != Some(tip.tree) {
            Walk { index: self, tip, comparison, files: 0, known: 0, shelf: None }.run(seen)?;
        }
        let (commit, tree) = (Some(tip.commit.to_string()), Some(tip.tree.to_string()));
        Ok(Mark { commit, tree, ..comparison.mark(Kind::Git, self.url.clone(), true) })
    }

    fn broken(&self, source: GitError) -> UpstreamError {
        UpstreamError::Git { place: self.url.clone(), source }
    }

    /// Works on the upstream's tip, and once more in a new clone if this one turns out to be damaged.
    fn with_tip<T>(
        &self,
        pull: &Pull<'_>,
        work: impl Fn(&Tip) -> Result<T, UpstreamError>,
    ) -> Result<T, UpstreamError> {
        let broken = |source| self.broken(source);
        match self.tip(pull).map_err(broken).and_then(|tip| work(&tip)) {
            Err(UpstreamError::Git { source: GitError::Damaged { .. }, .. }) if !pull.interrupted() => {
                self.clone_afresh(pull).map_err(broken).and_then(|tip| work(&tip))
            }
            result => result,
        }
    }

    /// Brings the clone up to date, if the upstream's tip is not in it yet.
    fn tip(&self, pull: &Pull<'_>) -> Result<Tip, GitError> {
        if let Some(repo) = self.open() {
            let room = packs(&self.folder) < self.limits.packs;
            if let Some(tip) = pull.tip(&repo, room)? {
                return Ok(tip);
            }
        }
        self.clone_afresh(pull)
    }

    /// The clone as it is, if it is of any use.
    fn open(&self) -> Option<gix::Repository> {
        sweep(&self.folder);
        let options = self.options().open_path_as_is(true);
        let repo = gix::ThreadSafeRepository::open_opts(&self.folder, options).ok()?.to_thread_local();
        let held = repo.find_reference(BRANCH).ok()?.peel_to_commit().and_then(|commit| commit.tree().map(drop));
        held.is_ok().then_some(repo)
    }

    fn clone_afresh(&self, pull: &Pull<'_>) -> Result<Tip, GitError> {
        let new = self.folder.with_extension("new");
        remove(&new)?;
        let make = |source: gix::Error| GitError::Make { folder: new.clone(), source: source.into() };
        let kind = gix::create::Kind::Bare;
        let repo = gix::ThreadSafeRepository::init_opts(&new, kind, gix::create::Options::default(), self.options());
        let repo = repo.map_err(make)?.to_thread_local();
        pull.tip(&repo, true)?;
        drop(repo);
        remove(&self.folder)?;
        fs::rename(&new, &self.folder).map_err(|source| GitError::Replace { path: self.folder.clone(), source })?;
        let repo = self.open().ok_or_else(|| self.damaged("it cannot be opened"))?;
        pull.tip(&repo, false)?.ok_or_else(|| self.damaged("it lacks what was just received"))
    }

    /// The clone's own configuration alone counts, not the user's or the machine's.
    fn options(&self) -> gix::open::Options {
        gix::open::Options::isolated().config_overrides([
            "gitoxide.userAgent=crateferry",
            "gitoxide.committer.nameFallback=crateferry",
            "gitoxide.committer.emailFallback=crateferry",
        ])
    }

    fn damaged(&self, cause: impl Into<Cause>) -> GitError {
        GitError::Damaged { folder: self.folder.clone(), source: cause.into() }
    }

    /// The network's own certificates, proxy, limits and rules for git's HTTP client. As it has a configured
    /// request header, it follows no redirect: only the operator says who is asked.
    fn transport(&self) -> Result<http::Options, GitError> {
        let network = self.network.clone();
        let silence = network.config().header_timeout;
        let client = move |client| Ok(network.configure_blocking(client).timeout(silence));
        let agent = self.user_agent().parse::<HeaderValue>().map_err(|source| GitError::List(source.into()))?;
        let request = move |request: &mut reqwest::blocking::Request| {
            request.headers_mut().insert(USER_AGENT, agent.clone());
            Ok(())
        };
        let backend = http::reqwest::Options {
            configure_client: Some(Box::new(client)),
            configure_request: Some(Box::new(request)),
        };
        Ok(http::Options { backend: Some(Arc::new(Mutex::new(backend))), ..http::Options::default() })
    }

    /// Some servers speak git only to programs whose name begins like git's own.
    fn user_agent(&self) -> String {
        format!("git/2.0 ({})", self.network.config().user_agent())
    }
}

/// One conversation with the upstream.
struct Pull<'a> {
    index: &'a GitIndex,
    progress: Arc<dyn Progress>,
    interrupt: &'a AtomicBool,
}

impl Pull<'_> {
    /// The upstream's tip, received if it has to be; `None` if it has to be and may not.
    fn tip(&self, repo: &gix::Repository, may_receive: bool) -> Result<Option<Tip>, GitError> {
        for branch in REFSPECS {
            if let Some(commit) = self.branch(repo, branch, may_receive)? {
                return Tip::read(self.index, repo.clone(), commit);
            }
        }
        Err(GitError::NoBranch)
    }

    /// The commit that a branch points to, with its objects received if they have to be and may.
    fn branch(&self, repo: &gix::Repository, branch: &str, may_receive: bool) -> Result<Option<ObjectId>, GitError> {
        self.progress.at(Phase::Listing, 0, None);
        let remote = self.remote(repo, branch)?;
        let connection = remote.connect(Direction::Fetch).map_err(list)?;
        let connection =
            connection.with_credentials(|_| Ok(None)).with_transport_options(Box::new(self.index.transport()?));
        let gauge = Gauge::new(self.progress.clone());
        let prepared = connection.prepare_fetch(gauge.clone(), Default::default()).map_err(list)?;
        let commit = prepared.ref_map().mappings.iter().find_map(|mapping| mapping.remote.as_id());
        let Some(commit) = commit.map(ToOwned::to_owned) else { return Ok(None) };
        if may_receive && !repo.has_object(commit) {
            prepared.receive(gauge, self.interrupt).map_err(|source| self.not_received(source))?;
        }
        Ok(Some(commit))
    }

    /// A base that the clone lacks or cannot read looks like a failed transfer; a new clone settles it.
    fn not_received(&self, source: gix::Error) -> GitError {
        match source.dominant_class() {
            Some(Class::NotFound | Class::Corruption) => self.index.damaged(source),
            _ => GitError::Receive(source.into()),
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    fn remote<'r>(&self, repo: &'r gix::Repository, branch: &str) -> Result<gix::Remote<'r>, GitError> {
        let wrong = |source: gix::Error| GitError::Url(Some(source.into()));
        let url = gix::url::parse(self.index.url.as_str()).map_err(wrong)?;
        if !matches!(url.scheme, gix::url::Scheme::Https | gix::url::Scheme::Http | gix::url::Scheme::File) {
            return Err(GitError::Url(None));
        }
        let remote = repo.remote_at_without_url_rewrite(url).map_err(wrong)?;
        let remote = remote.with_fetch_tags(gix::remote::fetch::Tags::None);
        remote.with_refspecs([branch], Direction::Fetch).map_err(wrong)
    }
}

fn list(source: gix::Error) -> GitError {
    GitError::List(source.into())
}

/// One entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryKind,
    id: ObjectId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Tree,
    File,
    Other,
}

type Entries = BTreeMap<BString, Entry>;

/// The upstream's branch, as it lies in the clone.
struct Tip {
    repo: gix::Repository,
    folder: PathBuf,
    commit: ObjectId,
    tree: ObjectId,
}

impl Tip {
    /// `None` if the clone has no such commit.
    fn read(index: &GitIndex, mut repo: gix::Repository, commit: ObjectId) -> Result<Option<Self>, GitError> {
        if !repo.has_object(commit) {
            return Ok(None);
        }
        repo.object_cache_size_if_unset(4 << 20);
        let tree = repo.find_commit(commit).and_then(|commit| commit.tree_id().map(gix::Id::detach));
        let tree = tree.map_err(|source| index.damaged(source))?;
        Ok(Some(Tip { repo, folder: index.folder.clone(), commit, tree }))
    }

    fn damaged(&self, source: impl Into<Cause>) -> GitError {
        GitError::Damaged { folder: self.folder.clone(), source: source.into() }
    }

    fn tree_if_held(&self, id: &str) -> Option<ObjectId> {
        let id = ObjectId::from_hex(id.as_bytes()).ok()?;
        self.repo.has_object(id).then_some(id)
    }

    fn entries(&self, tree: ObjectId) -> Result<Entries, GitError> {
        let tree = self.repo.find_tree(tree).map_err(|source| self.damaged(source))?;
        let mut entries = Entries::new();
        for entry in tree.iter() {
            let entry = entry.map_err(|source| self.damaged(source))?;
            let kind = match entry.kind() {
                gix::objs::tree::EntryKind::Tree => EntryKind::Tree,
                gix::objs::tree::EntryKind::Blob | gix::objs::tree::EntryKind::BlobExecutable => EntryKind::File,
                _ => EntryKind::Other,
            };
            entries.insert(entry.filename().to_owned(), Entry { kind, id: entry.object_id() });
        }
        Ok(entries)
    }

    /// The entries of the folder at `path`, or none if there is no such folder.
    fn folder(&self, path: &str) -> Result<Entries, GitError> {
        let mut entries = self.entries(self.tree)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match entries.get(part.as_bytes().as_bstr()) {
                Some(Entry { kind: EntryKind::Tree, id }) => entries = self.entries(*id)?,
                _ => return Ok(Entries::new()),
            }
        }
        Ok(entries)
    }

    /// A file in the topmost folder.
    fn file(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let entry = self.entries(self.tree)?.get(name.as_bytes().as_bstr()).copied();
        Ok(entry.filter(|entry| entry.kind == EntryKind::File).map(|entry| entry.id))
    }

    fn size(&self, id: ObjectId) -> Result<u64, GitError> {
        self.repo.find_header(id).map(|header| header.size()).map_err(|source| self.damaged(source))
    }

    fn blob(&self, id: ObjectId) -> Result<Vec<u8>, GitError> {
        let text = self.repo.find_blob(id).map(|mut blob| blob.take_data()).map_err(|source| self.damaged(source))?;
        let (wanted, found) = (blob_id(id), BlobId::of(&text));
        if wanted == found { Ok(text) } else { Err(self.damaged(GitError::Content { wanted, found })) }
    }
}

fn blob_id(id: ObjectId) -> BlobId {
    BlobId(id.as_slice().try_into().expect("the clone is a SHA-1 repository"))
}

/// One walk through the tip.
struct Walk<'a> {
    index: &'a GitIndex,
    tip: &'a Tip,
    comparison: &'a Comparison,
    /// Index files seen.
    files: u64,
    /// Those of them that the mirror knows.
    known: u64,
    /// The folder that was looked into last.
    shelf: Option<(String, Entries)>,
}

impl Walk<'_> {
    fn run(mut self, last: Option<ObjectId>) -> Result<(), UpstreamError> {
        match &self.comparison.scope {
            Scope::Names(names) => names.iter().try_for_each(|name| self.one(name)),
            Scope::All if last.is_some() => self.differ("", 0, last, Some(self.tip.tree)),
            Scope::All => self.all(),
        }
    }

    fn all(&mut self) -> Result<(), UpstreamError> {
        let known = self.comparison.known.count().map_err(UpstreamError::Known)?;
        self.differ("", 0, None, Some(self.tip.tree))?;
        if self.known == known { Ok(()) } else { self.comparison.sweep(|name| Ok(self.find(name)?.is_some())) }
    }

    fn one(&mut self, name: &CrateName) -> Result<(), UpstreamError> {
        self.comparison.go_on()?;
        match self.find(name)? {
            None => self.comparison.put(self.comparison.absent(name.clone())?),
            Some(Entry { kind: EntryKind::File, id }) => self.file(name.clone(), id),
            Some(_) => self.unusable(name.index_path(), Problem::NotAFile),
        }
    }

    /// What lies at the path of a crate's index file. Names in order mostly share the folder of the one before.
    fn find(&mut self, name: &CrateName) -> Result<Option<Entry>, UpstreamError> {
        let path = name.index_path();
        let (folder, file) = path.rsplit_once('/').expect("an index path has a folder");
        if self.shelf.as_ref().is_none_or(|(held, _)| held != folder) {
            let entries = self.tip.folder(folder).map_err(|source| self.index.broken(source))?;
            self.shelf = Some((folder.to_owned(), entries));
        }
        Ok(self.shelf.as_ref().and_then(|(_, entries)| entries.get(file.as_bytes().as_bstr()).copied()))
    }

    /// Walks what differs between an old folder and a new one; without an old one, all of the new one.
    fn differ(
        &mut self,
        path: &str,
        depth: usize,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<(), UpstreamError> {
        let mut before = self.entries(old)?;
        for (name, entry) in self.entries(new)? {
            self.comparison.go_on()?;
            let was = before.remove(&name);
            if was != Some(entry) {
                self.entry(join(path, &name), depth, was, Some(entry))?;
            }
        }
        for (name, was) in before {
            self.entry(join(path, &name), depth, Some(was), None)?;
        }
        Ok(())
    }

    fn entries(&self, tree: Option<ObjectId>) -> Result<Entries, UpstreamError> {
        let entries = tree.map_or(Ok(Entries::new()), |tree| self.tip.entries(tree));
        entries.map_err(|source| self.index.broken(source))
    }

    fn entry(
        &mut self,
        path: String,
        depth: usize,
        was: Option<Entry>,
        is: Option<Entry>,
    ) -> Result<(), UpstreamError> {
        if is_furniture(&path) {
            return Ok(());
        }
        let folder = |entry: Option<Entry>| {
            let entry = entry.filter(|entry| entry.kind == EntryKind::Tree && depth < DEPTH)?;
            Some(entry.id)
        };
        let (old, new) = (folder(was), folder(is));
        if old.is_some() || new.is_some() {
            self.differ(&path, depth + 1, old, new)?;
        }
        match is.filter(|_| new.is_none()) {
            None if is.is_none() => self.deleted(&path),
            None => Ok(()),
            Some(entry) => self.present(path, entry),
        }
    }

    fn present(&mut self, path: String, entry: Entry) -> Result<(), UpstreamError> {
        match (entry.kind, index_name(&path)) {
            (EntryKind::File, Ok(name)) => self.file(name, entry.id),
            (EntryKind::File, Err(problem)) => self.unusable(path, problem),
            _ => self.unusable(path, Problem::NotAFile),
        }
    }

    fn deleted(&self, path: &str) -> Result<(), UpstreamError> {
        match index_name(path) {
            Ok(name) if self.comparison.identity(&name)?.is_some() => self.comparison.put(Change::Gone { name }),
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: CrateName, id: ObjectId) -> Result<(), UpstreamError> {
        self.files += 1;
        self.comparison.progress.at(Phase::Comparing, self.files, None);
        let known = self.comparison.identity(&name)?;
        self.known += u64::from(known.is_some());
        let identity = Identity { blob: blob_id(id), etag: None };
        if known.is_some_and(|known| known.blob == identity.blob) {
            return Ok(());
        }
        let size = self.tip.size(id).map_err(|source| self.index.broken(source))?;
        if size > self.index.limits.file {
            return self.unusable(name.index_path(), Problem::TooLarge { size, limit: self.index.limits.file });
        }
        let text = self.tip.blob(id).map_err(|source| self.index.broken(source))?;
        self.comparison.put(Change::Updated { name, identity, text })
    }

    fn unusable(&self, path: String, problem: Problem) -> Result<(), UpstreamError> {
        self.comparison.put(Change::Unusable { path, problem })
    }
}

fn join(path: &str, name: &BString) -> String {
    if path.is_empty() { name.to_str_lossy().into_owned() } else { format!("{path}/{}", name.to_str_lossy()) }
}

/// How many packs the clone has.
fn packs(folder: &Path) -> usize {
    let files = fs::read_dir(folder.join("objects/pack")).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pack")).count()
}

/// Deletes what a killed run left in the clone: locks, which nobody else holds, and half received packs.
fn sweep(folder: &Path) {
    for inner in ["", "refs/remotes/origin", "objects/pack"] {
        for file in fs::read_dir(folder.join(inner)).into_iter().flatten().flatten() {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let part = inner == "objects/pack" && !name.starts_with("pack-");
            if part || name.ends_with(".lock") {
                // What cannot be deleted shows itself as soon as it is in the way.
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

fn remove(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(GitError::Replace { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
