//! Where files come from: a folder or an archive of one, in path order, each read once.

use std::io;
use std::time::SystemTime;

use super::name::FileName;

/// Files in path order: byte order of their names.
pub trait Source: Send {
    /// What comes next; none at the end. One thing that cannot be looked at does not end it.
    fn next(&mut self) -> Option<Found>;

    /// Opens the file that [`next`](Source::next) gave last.
    fn open(&mut self) -> Result<Box<dyn Content + '_>, Problem>;
}

/// The bytes of a file.
pub trait Content: io::Read {
    /// Says after the last read whether these were the bytes of one and the same state of the file.
    fn settle(&mut self) -> Result<(), Problem>;
}

/// Something that has a name.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: FileName,
    /// What it is.
    pub what: What,
}

/// What a name stands for. Folders are not listed: they are in the names.
#[derive(Debug)]
pub enum What {
    /// Bytes.
    File {
        /// How many.
        size: u64,
        /// When they were last changed, if the source tells.
        modified: Option<SystemTime>,
    },
    /// A symbolic link. It is not followed.
    Link {
        /// What it says, byte for byte.
        target: FileName,
    },
    /// A device, a pipe, a socket: nothing that has bytes to keep.
    Special,
    /// It could not be looked at.
    Unread(Problem),
}

/// Why something is not in an inventory.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refused.
    #[error("cannot {step}: {source}")]
    Refused {
        /// What was tried: `open`, `read`, `list`.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it was when it was found.
    #[error("changed while it was read: {0}")]
    Changed(String),
    /// An archive has it in a form that is not understood.
    #[error("{0}")]
    NotUnderstood(&'static str),
}

impl Problem {
    pub(super) fn refused(step: &'static str) -> impl Fn(io::Error) -> Problem {
        move |source| Problem::Refused { step, source }
    }
}
