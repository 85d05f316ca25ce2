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
//! Only this module and those below it know gix, whose calls block; they run on a blocking thread.

mod clone;
mod files;
mod gauge;
mod walk;

use std::error::Error;
use std::io;
use std::iter::successors;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crateferry_store::BlobId;
use gix::error::Class;
use tokio_util::sync::CancellationToken;

use self::clone::{Cache, Pull};
pub use self::files::Checkout;
use self::walk::{Tip, Walk};
use super::{Comparison, IndexLimits, Kind, Mark, Means, Progress, RegistryConfig, UpstreamError, blocking};
use crate::net::{self, Network, Retry};

/// How long a conversation that was told to stop may take before it is left alone.
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
    /// Its files are not what they should be.
    #[error("its files are of no use")]
    Files(#[source] crate::advisories::FilesError),
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
        let Means { network, retry, clone, limits, .. } = means;
        let (network, retry) = (network.clone(), retry.clone());
        GitIndex { url: url.into(), folder: clone.clone(), limits: *limits, network, retry }
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads `config.json` at the tip of the branch, if it is there. Asks the upstream where its tip is.
    pub async fn config(&self, stop: &CancellationToken) -> Result<Option<RegistryConfig>, UpstreamError> {
        let bytes = self.at_tip(Arc::new(()), stop, GitIndex::read_config).await?;
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
        let mut clone = Cache::Kept;
        loop {
            let tip = self.tip(&progress, stop, clone).await?;
            let (index, work) = (self.clone(), work.clone());
            match blocking(move || work(&index, &tip)).await {
                Err(UpstreamError::Git { source: GitError::Damaged { .. }, .. }) if clone == Cache::Kept => {
                    clone = Cache::Anew;
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
        clone: Cache,
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
        clone: Cache,
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
            Walk::new(self, tip, comparison).run(seen)?;
        }
        let (commit, tree) = (Some(tip.commit.to_string()), Some(tip.tree.to_string()));
        Ok(Mark { commit, tree, ..comparison.mark(Kind::Git, self.url.clone(), true) })
    }

    fn broken(&self, source: GitError) -> UpstreamError {
        UpstreamError::Git { place: self.url.clone(), source }
    }

    fn damaged(&self, cause: impl Into<Cause>) -> GitError {
        GitError::Damaged { folder: self.folder.clone(), source: cause.into() }
    }
}
