//! The clone: made, brought up to date, made anew.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use gix::ObjectId;
use gix::error::Class;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::Direction;
use reqwest::header::{HeaderValue, USER_AGENT};

use super::gauge::Gauge;
use super::walk::Tip;
use super::{GitError, GitIndex};
use crate::upstream::{Phase, Progress};

/// Where the clone keeps the upstream's branch.
const BRANCH: &str = "refs/remotes/origin/master";
/// The upstream's branch: the first of these that is there.
const REFSPECS: [&str; 2] = ["+refs/heads/master:refs/remotes/origin/master", "+HEAD:refs/remotes/origin/master"];

/// Which clone to work in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// The one that is there, if it is of any use.
    Kept,
    /// A new one.
    Anew,
}

/// One conversation with the upstream.
pub(super) struct Pull {
    pub(super) index: GitIndex,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) interrupt: Arc<AtomicBool>,
}

impl Pull {
    /// Brings the clone up to date, if the upstream's tip is not in it yet.
    pub(super) fn run(&self, clone: Cache) -> Result<Tip, GitError> {
        match clone {
            Cache::Anew => self.clone_afresh(),
            Cache::Kept => match self.update() {
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
        let repo = gix::ThreadSafeRepository::init_opts(&new, kind, options, self.index.options()).map_err(make)?;
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
            prepared.receive(gauge, &self.interrupt).map_err(|source| self.not_received(repo, source))?;
        }
        Ok(Some(commit))
    }

    /// A base that an old clone lacks or cannot read looks like a failed transfer; a new clone settles it.
    fn not_received(&self, repo: &gix::Repository, source: gix::Error) -> GitError {
        let is_old = repo.find_reference(BRANCH).is_ok();
        match source.dominant_class() {
            Some(Class::NotFound | Class::Corruption) if is_old => self.index.damaged(source),
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

impl GitIndex {
    /// The clone as it is, if it is of any use.
    fn open(&self) -> Option<gix::Repository> {
        sweep(&self.folder);
        let options = self.options().open_path_as_is(true);
        let repo = gix::ThreadSafeRepository::open_opts(&self.folder, options).ok()?.to_thread_local();
        let held = repo.find_reference(BRANCH).ok()?.peel_to_commit().and_then(|commit| commit.tree().map(drop));
        held.is_ok().then_some(repo)
    }

    /// The clone's own configuration alone counts, not the user's or the machine's.
    fn options(&self) -> gix::open::Options {
        gix::open::Options::isolated().config_overrides([
            "gitoxide.userAgent=crateferry".to_owned(),
            "gitoxide.committer.nameFallback=crateferry".to_owned(),
            "gitoxide.committer.emailFallback=crateferry".to_owned(),
            format!("gitoxide.objects.allocLimit={}", self.limits.object),
        ])
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
