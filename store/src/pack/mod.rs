//! Packs: the log of a mirror, as tar archives.
//!
//! A pack is a ustar archive to which members are only ever appended. What is made durable together, a *group*, ends
//! with a *group record*: it lists the group's members with their SHA-256 and every change of state that came with
//! them, and names the BLAKE3 of the record before it. So a pack can be read with `tar`, a torn tail is told from a
//! whole group without any database, and ledger and catalog can be made again from the packs alone.
//!
//! A sealed pack ends with a table of contents, which lists the groups and the BLAKE3 of all bytes before it.

mod member;
mod proven;
mod reader;
mod record;
mod scan;
mod writer;

pub(crate) use member::{MemberName, tar_header};
pub(crate) use reader::pack_text;
pub use reader::{PackReader, ReadError, TextReader};
pub use record::{
    AdvisoryDb, Cause, Counts, Event, Generation, GroupRecord, Header, Member, Point, ReleaseRef, TextRef,
};
pub(crate) use scan::{Group, Scan, ScanError, Tail, hash_range, last_record, prove_members};
pub use writer::AppendError;
pub(crate) use writer::{Closed, ContentsLine, PackWriter, digest_prefix, sealing};

pub(crate) const BLOCK: u64 = 512;

/// What a member occupies in the archive after its header.
pub(crate) fn padded(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}
