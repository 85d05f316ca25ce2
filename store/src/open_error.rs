//! Why a mirror cannot be made or opened.

use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::LedgerError;

/// The format of the folder that this program makes, and the newest that it opens.
pub const MIRROR_FORMAT: u32 = 1;

/// A mirror that cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing.
    #[error("there is no mirror in {}; `crateferry init` or `crateferry sync` makes one", .0.display())]
    Missing(PathBuf),
    /// It is a file.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It holds something else.
    #[error("{} is not a mirror and not empty; name an empty or new folder", .0.display())]
    NotEmpty(PathBuf),
    /// There is a mirror already.
    #[error("there is a mirror in {} already", .0.display())]
    Exists(PathBuf),
    /// A newer program made it.
    #[error("{} has format {found}, this program knows formats up to {MIRROR_FORMAT}; use a newer crateferry", path.display())]
    Newer {
        /// The mirror.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its configuration does not say which format it has.
    #[error("cannot read the format from {}", path.display())]
    Config {
        /// The configuration.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// Another process writes.
    #[error("{} is locked by {}", path.display(), holder(*.pid))]
    Locked {
        /// The mirror.
        path: PathBuf,
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// A part of the mirror is lost or damaged.
    #[error("{}: {problem}; `crateferry rebuild {}` makes its databases again from the packs", path.display(), path.display())]
    Damaged {
        /// The mirror.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A database could not be opened or read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}

impl OpenError {
    /// Whether something that is held is lost or not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::Damaged { .. } => true,
            OpenError::Ledger(error) => !matches!(error, LedgerError::Open { .. }),
            _ => false,
        }
    }

    pub(crate) fn io<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| OpenError::Io { step, path: path.to_owned(), source }
    }
}
