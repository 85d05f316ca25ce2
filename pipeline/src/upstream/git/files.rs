//! All files of the upstream's branch, for a repository that is no index.

use tokio_util::sync::CancellationToken;

use super::walk::Tip;
use super::{GitError, GitIndex};
use crate::advisories::{Files, FilesError};
use crate::upstream::UpstreamError;

/// The files of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The commit, in hexadecimal digits.
    pub commit: String,
    /// When it was committed, in seconds since 1970.
    pub committed_at: u64,
    /// Its files. Links are left out.
    pub files: Files,
}

impl GitIndex {
    /// The files of the branch as the upstream has it now.
    pub async fn checkout(&self, stop: &CancellationToken) -> Result<Checkout, UpstreamError> {
        self.at_tip(std::sync::Arc::new(()), stop, |index, tip| {
            let mut files = Files::default();
            index.add_files(tip, "", &mut files)?;
            let committed_at = tip.committed_at().map_err(|source| index.broken(source))?;
            Ok(Checkout { commit: tip.commit.to_string(), committed_at, files })
        })
        .await
    }

    fn add_files(&self, tip: &Tip, folder: &str, files: &mut Files) -> Result<(), UpstreamError> {
        for (name, id) in tip.listing(folder).map_err(|source| self.broken(source))? {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let Some(id) = id else {
                self.add_files(tip, &path, files)?;
                continue;
            };
            let content = tip.blob(id).map_err(|source| self.broken(source))?;
            files.add(&path, content).map_err(|source| self.refused(source))?;
        }
        Ok(())
    }

    fn refused(&self, source: FilesError) -> UpstreamError {
        self.broken(GitError::Files(source))
    }
}
