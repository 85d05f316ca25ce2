//! What a mirror holds and what is known of it. Synchronous: no network, no tasks.
//!
//! [`Mirror`] is a mirror open for writing, [`MirrorReader`] one that is read beside its writer. Crate files and index
//! texts lie in [packs](PackReader); the [`Ledger`] follows the packs' group records; the catalog follows the ledger.

mod adoption;
mod audit;
mod body;
pub mod bundle;
mod check;
mod collect;
mod disk;
mod entry;
mod export;
mod facts;
mod generation;
mod id;
mod key_files;
mod layout;
mod ledger;
mod limits;
mod mask;
mod mirror;
mod news;
mod open_error;
mod os;
mod pack;
mod quarantine;
mod reading;
mod rebuild;
mod run_file;
mod selection;
mod space;
mod state;
mod wishes;
mod writer;

pub use audit::{AuditError, AuditLog, AuditRecord};
pub use body::{Body, BodyBuilder, BodyError, Lease, Mismatch, Spool, VerifiedBytes};
pub use check::{CheckError, Extent, Finding, Verification, verify, verify_packs};
pub use collect::{CollectError, Collected, Garbage, Members, PackShare, collect, find_garbage};
pub use disk::{Disk, DiskFile, SystemDisk};
pub use entry::{BadRow, Entry, IndexFile, parse_index_file};
pub use export::{
    Cause as ExportCause, ExportError, ExportOptions, Exported, Failure as ExportFailure, FolderKind, FolderLayout,
    IndexFolder, Object as ExportObject, PathOf, Witness as ExportWitness, export,
};
pub use facts::{About, Facts, FactsPlace, Manifest};
pub use generation::{PublishError, Published, Shrink, exceeds_shrink_limit, publish};
pub use id::{Blake3, BlobId, CrateName, Identity, NameError, Release, ReleaseId, Sha256, Version};
pub use key_files::{remove_key_file, write_key_file};
pub use layout::Layout;
pub use ledger::{
    Alarm, CatalogReader, Chain, Change, Held, Hole, Ledger, LedgerError, LedgerReader, PathRow, Report, RowError,
    Soundness, Summary, TOLD, Tally, Text, Work, is_caught,
};
pub use limits::StoreLimits;
pub use mask::{Mask, Masks};
pub use mirror::{Mirror, MirrorReader};
pub use news::{Named, News};
pub use open_error::{MIRROR_FORMAT, OpenError};
pub use os::DiskSpace;
pub use os::{FileId, file_id, make_names_durable, open_files_allowed, open_locked, replace_file};
pub use pack::{
    AdvisoryDb, AppendError, Cause, Counts, Event, Generation, PackReader, Point, ReadError, ReleaseRef, TextReader,
    TextRef,
};
pub use quarantine::{Quarantine, QuarantineError};
pub use rebuild::{RebuildError, Rebuilt, rebuild};
pub use run_file::{write_plan_file, write_run_file, write_scrub_file};
pub use selection::{Closure, Features, Root, Selection, Set, SetName};
pub use space::disk_space;
pub use state::{Happening, Row, State, next_due, step};
pub use wishes::{NoWish, Wish, WishLimits, Wishes, one_spelling};
pub use writer::{Batch, Pending, Work as WorkDone, WriteError, Writer, wait};

/// Where bytes lie: in which pack, from which offset, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The pack's number.
    pub pack: u32,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}
