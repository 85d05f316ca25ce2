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
//! The whole history of the branch is fetched, though only its tip is read: hosts ask that clones be not shallow,
//! since each update of a shallow one costs them more than all that it saves. A squash then brings one commit
//! from a server that keeps reachability bitmaps, and one whole tree from one that does not.
//!
//! Only this module and `gauge` know gix, whose calls block; they run on a blocking thread.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::iter::successors;
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
use tokio_util::sync::CancellationToken;

use super::gauge::Gauge;
use super::{
    Change, Comparison, DEPTH, IndexLimits, Kind, Mark, Means, Phase, Problem, Progress, RegistryConfig, Scope,
};
use super::{UpstreamError, blocking, index_name, is_furniture};
use crate::net::{self, Network, Retry};

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
    retry: Arc<Retry>,
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
    List(#[source] gix::Error),
    /// An empty repository.
    #[error("it has no branch master, and HEAD points to nothing")]
    NoBranch,
    /// The transfer failed.
    #[error("cannot receive its objects")]
    Receive(#[source] gix::Error),
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

impl GitError {
    fn is_transient(&self) -> bool {
        match self {
            GitError::List(source) | GitError::Receive(source) => is_transient(source),
            _ => false,
        }
    }
}

/// Whether another try may end otherwise. What git has no class for comes from the network, or from the disk.
fn is_transient(error: &gix::Error) -> bool {
    let mut causes = successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source());
    match error.dominant_class() {
        Some(class) => class == Class::Retryable,
        None => causes.all(|cause| {
            let status = cause.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status);
            let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            status.is_none_or(net::is_transient) && !kind.is_some_and(is_of_the_disk)
        }),
    }
}

fn is_of_the_disk(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

impl GitIndex {
    /// The index at `url`, cloned into the folder that `means` name.
    pub fn new(url: impl Into<String>, means: &Means) -> Self {
        let Means { network, retry, clone_folder, limits, .. } = means;
        let (network, retry) = (network.clone(), retry.clone());
        GitIndex { url: url.into(), folder: clone_folder.clone(), limits: *limits, network, retry }
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads `config.json` at the tip of the branch, if it is there. Asks the upstream where its tip is.
    pub async fn config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let never = CancellationToken::new();
        let bytes = self.at_tip(Arc::new(()), &never, GitIndex::read_config).await?;
        let config = bytes.map(RegistryConfig::parse).transpose();
        config.map_err(|source| UpstreamError::Config { place: self.url.clone(), source })
    }

    /// See [`Upstream::changes`](super::Upstream::changes).
    pub async fn changes(&self, comparison: Comparison) -> Result<Mark, UpstreamError> {
        let (progress, stop) = (comparison.progress.clone(), comparison.stop.clone());
        self.at_tip(progress, &stop, move |index, tip| index.compare(&comparison, tip)).await
    }

    /// Works on the upstream's tip, and once more in a new clone if this one turns out to be damaged.
    async fn at_tip<T: Send + 'static>(
        &self,
        progress: Arc<dyn Progress>,
        stop: &CancellationToken,
        work: impl Fn(&GitIndex, &Tip) -> Result<T, UpstreamError> + Send + Sync + 'static,
    ) -> Result<T, UpstreamError> {
        let work = Arc::new(work);
        let mut clone = Clone::Held;
        loop {
            let tip = self.tip(&progress, stop, clone).await?;
            let (index, work) = (self.clone(), work.clone());
            match blocking(move || work(&index, &tip)).await {
                Err(UpstreamError::Git { source: GitError::Damaged { .. }, .. }) if clone == Clone::Held => {
                    clone = Clone::Afresh;
                }
                result => return result,
            }
        }
    }

    /// Brings the clone up to date, and tries again where that may help.
    async fn tip(
        &self,
        progress: &Arc<dyn Progress>,
        stop: &CancellationToken,
        clone: Clone,
    ) -> Result<Tip, UpstreamError> {
        let mut retry = 0;
        loop {
            let error = match self.tip_unless_stopped(progress.clone(), stop, clone).await {
                Err(UpstreamError::Git { source, .. }) if source.is_transient() => self.broken(source),
                result => return result,
            };
            let Some(delay) = self.retry.delay(retry, None) else { return Err(error) };
            retry += 1;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Err(UpstreamError::Interrupted),
            }
        }
    }

    async fn tip_unless_stopped(
        &self,
        progress: Arc<dyn Progress>,
        stop: &CancellationToken,
        clone: Clone,
    ) -> Result<Tip, UpstreamError> {
        let interrupt = Arc::new(AtomicBool::new(false));
        let pull = Pull { index: self.clone(), progress, interrupt: interrupt.clone() };
        let work = blocking(move || pull.run(clone).map_err(|source| pull.index.broken(source)));
        tokio::pin!(work);
        tokio::select! {
            biased;
            () = stop.cancelled() => interrupt.store(true, Ordering::Relaxed),
            result = &mut work => return result,
        }
        // A silent server can hold the thread until its timeout; nobody has to wait for that.
        let _given_up = tokio::time::timeout(PATIENCE, work).await;
        Err(UpstreamError::Interrupted)
    }

    fn read_config(&self, tip: &Tip) -> Result<Option<Vec<u8>>, UpstreamError> {
        let bytes = tip.file("config.json").and_then(|id| id.map(|id| tip.blob(id)).transpose());
        bytes.map_err(|source| self.broken(source))
    }

    fn compare(&self, comparison: &Comparison, tip: &Tip) -> Result<Mark, UpstreamError> {
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

    /// The clone as it is, if it is of any use.
    fn open(&self) -> Option<gix::Repository> {
        sweep(&self.folder);
        let options = Self::options().open_path_as_is(true);
        let repo = gix::ThreadSafeRepository::open_opts(&self.folder, options).ok()?.to_thread_local();
        let held = repo.find_reference(BRANCH).ok()?.peel_to_commit().and_then(|commit| commit.tree().map(drop));
        held.is_ok().then_some(repo)
    }

    /// The clone's own configuration alone counts, not the user's or the machine's.
    fn options() -> gix::open::Options {
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
    fn transport(&self) -> http::Options {
        let network = self.network.clone();
        let silence = network.config().header_timeout;
        let client = move |client| Ok(network.configure_blocking(client).timeout(silence));
        let agent: HeaderValue = self.user_agent().parse().expect("the network has checked its User-Agent");
        let request = move |request: &mut reqwest::blocking::Request| {
            request.headers_mut().insert(USER_AGENT, agent.clone());
            Ok(())
        };
        let backend = http::reqwest::Options {
            configure_client: Some(Box::new(client)),
            configure_request: Some(Box::new(request)),
        };
        http::Options { backend: Some(Arc::new(Mutex::new(backend))), ..http::Options::default() }
    }

    /// Some servers speak git only to programs whose name begins like git's own.
    fn user_agent(&self) -> String {
        format!("git/2.0 ({})", self.network.config().user_agent())
    }
}

/// Which clone to work in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clone {
    /// The one that is there, if it is of any use.
    Held,
    /// A new one.
    Afresh,
}

/// One conversation with the upstream.
struct Pull {
    index: GitIndex,
    progress: Arc<dyn Progress>,
    interrupt: Arc<AtomicBool>,
}

impl Pull {
    /// Brings the clone up to date, if the upstream's tip is not in it yet.
    fn run(&self, clone: Clone) -> Result<Tip, GitError> {
        match clone {
            Clone::Afresh => self.clone_afresh(),
            Clone::Held => match self.update() {
                Ok(Some(tip)) => Ok(tip),
                Ok(None) | Err(GitError::Damaged { .. }) => self.clone_afresh(),
                Err(error) => Err(error),
            },
        }
    }

    /// The tip in the clone as it is; `None` if there is none, or none that may still grow.
    fn update(&self) -> Result<Option<Tip>, GitError> {
        let room = packs(&self.index.folder) < self.index.limits.packs;
        self.index.open().map_or(Ok(None), |repo| self.tip(&repo, room))
    }

    /// Makes a clone beside the old one, and puts it in its place when it is whole.
    fn clone_afresh(&self) -> Result<Tip, GitError> {
        let folder = &self.index.folder;
        let new = folder.with_extension("new");
        remove(&new)?;
        let make = |source: gix::Error| GitError::Make { folder: new.clone(), source: source.into() };
        let (kind, options) = (gix::create::Kind::Bare, gix::create::Options::default());
        let repo = gix::ThreadSafeRepository::init_opts(&new, kind, options, GitIndex::options()).map_err(make)?;
        let commit = self.tip(&repo.to_thread_local(), true)?.map(|tip| tip.commit);
        remove(folder)?;
        fs::rename(&new, folder).map_err(|source| GitError::Replace { path: folder.clone(), source })?;
        let repo = self.index.open().ok_or_else(|| self.index.damaged("it cannot be opened"))?;
        let tip = commit.map_or(Ok(None), |commit| Tip::read(&self.index, repo, commit))?;
        tip.ok_or_else(|| self.index.damaged("it lacks what was just received"))
    }

    /// The upstream's tip, received if it has to be; `None` if it has to be and may not.
    fn tip(&self, repo: &gix::Repository, may_receive: bool) -> Result<Option<Tip>, GitError> {
        for branch in REFSPECS {
            if let Some(commit) = self.branch(repo, branch, may_receive)? {
                return Tip::read(&self.index, repo.clone(), commit);
            }
        }
        Err(GitError::NoBranch)
    }

    /// The commit that a branch points to, with its objects received if they have to be and may.
    fn branch(&self, repo: &gix::Repository, branch: &str, may_receive: bool) -> Result<Option<ObjectId>, GitError> {
        self.progress.at(Phase::Listing, 0, None);
        let remote = self.remote(repo, branch)?;
        let connection = remote.connect(Direction::Fetch).map_err(GitError::List)?;
        let connection =
            connection.with_credentials(|_| Ok(None)).with_transport_options(Box::new(self.index.transport()));
        let gauge = Gauge::new(self.progress.clone());
        let prepared = connection
            .prepare_fetch(gauge.clone(), gix::remote::ref_map::Options::default())
            .map_err(GitError::List)?;
        let commit = prepared.ref_map().mappings.iter().find_map(|mapping| mapping.remote.as_id());
        let Some(commit) = commit.map(ToOwned::to_owned) else { return Ok(None) };
        if may_receive && !repo.has_object(commit) {
            prepared.receive(gauge, &self.interrupt).map_err(|source| self.not_received(source))?;
        }
        Ok(Some(commit))
    }

    /// A base that the clone lacks or cannot read looks like a failed transfer; a new clone settles it.
    fn not_received(&self, source: gix::Error) -> GitError {
        match source.dominant_class() {
            Some(Class::NotFound | Class::Corruption) => self.index.damaged(source),
            _ => GitError::Receive(source),
        }
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
