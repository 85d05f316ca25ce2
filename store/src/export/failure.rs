//! What could not be exported, and why.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::id::{CrateName, ReleaseId, Sha256};
use crate::pack::ReadError;

/// A file that an export left out.
#[derive(Debug, thiserror::Error)]
#[error("{object} is not exported")]
pub struct Failure {
    /// Which.
    pub object: Object,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// What is exported as one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A crate file.
    CrateFile(ReleaseId),
    /// An index file.
    IndexFile(CrateName),
    /// The index's `config.json`.
    Config,
    /// An archive of crate files.
    Bundle(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::CrateFile(release) => write!(f, "crate file {release}"),
            Object::IndexFile(name) => write!(f, "index file {name}"),
            Object::Config => write!(f, "index file config.json"),
            Object::Bundle(name) => write!(f, "archive {name}"),
        }
    }
}

/// Why a file is left out.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Its bytes cannot be read in the mirror.
    #[error("it cannot be read in the mirror")]
    Read(#[from] ReadError),
    /// Its bytes are not those that were stored.
    #[error("it is damaged: SHA-256 is {found}, should be {promised}")]
    Damaged {
        /// What the index promises.
        promised: Sha256,
        /// What was read.
        found: Sha256,
    },
    /// The index has a row for it, but nobody knows where its bytes are.
    #[error("the index promises it, but it is not held")]
    NotHeld,
    /// Its archive would be larger than archives may be.
    #[error("an archive of it alone has {length} bytes, and an archive may have {size}")]
    TooLarge {
        /// How long the archive would be.
        length: u64,
        /// How long it may be.
        size: u64,
    },
    /// The file system refuses this one file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause {
    /// Whether something is wrong with the mirror, and not with the folder.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Cause::Write { .. } | Cause::TooLarge { .. })
    }
}

/// Whether an error says something of one path: that something else lies there, or that its name cannot be. All others,
/// a full or broken disk first of all, would come again with the next file.
pub(super) fn is_of_one_file(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AlreadyExists, DirectoryNotEmpty, FileTooLarge, InvalidFilename, InvalidInput, IsADirectory, NotADirectory,
        PermissionDenied,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | DirectoryNotEmpty
            | FileTooLarge
            | InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | PermissionDenied
    )
}
