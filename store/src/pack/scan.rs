//! Reading a pack group by group, without any database.
//!
//! A group is whole if its record can be read, names exactly the members that lie before it, and follows the record
//! before it. Whether the members' bytes are what their digests say is a separate question, asked of the groups that
//! no ledger has vouched for: after a power cut a record may be on the disk while a member before it is not.

use std::io;

use super::member::MemberName;
use super::record::{GroupRecord, Member, RecordError};
use super::{BLOCK, padded};
use crate::disk::DiskFile;
use crate::id::{Blake3, Sha256};

/// A place in a pack where reading groups ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("cannot read the pack at offset {at}")]
    Io { at: u64, source: io::Error },
    #[error("no tar header at offset {at}")]
    Header { at: u64 },
    #[error("the pack ends within a group that begins at offset {at}")]
    Unfinished { at: u64 },
    #[error("the group record at offset {at} does not list the members before it")]
    Members { at: u64 },
    #[error("the group record at offset {at} cannot be read")]
    Record { at: u64, source: RecordError },
    #[error("the group record at offset {at} is {length} bytes long, more than any may be")]
    TooLong { at: u64, length: u64 },
    #[error("member {name} at offset {at} has SHA-256 {found}, its record says {recorded}")]
    Member { name: String, at: u64, recorded: Sha256, found: Sha256 },
}

/// A whole group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) record: GroupRecord,
    /// The BLAKE3 of the record.
    pub(crate) digest: Blake3,
    pub(crate) record_offset: u64,
    pub(crate) record_length: u64,
    /// Where the next group begins.
    pub(crate) end: u64,
}

/// How a pack ends behind its last whole group.
#[derive(Debug)]
pub(crate) enum Tail {
    /// Nothing follows.
    Clean,
    /// A table of contents follows: the pack is sealed. It says how many bytes come before it and their BLAKE3.
    Sealed { bytes: u64, blake3: Blake3 },
    /// Something follows that is not a whole group.
    Torn(ScanError),
}

/// Reads the groups of a pack from a group boundary on.
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    end: u64,
    record_limit: u64,
    seal: Option<(u64, Blake3)>,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, at: u64, end: u64, record_limit: u64) -> Self {
        Scan { file, at, end, record_limit, seal: None }
    }

    /// Where the last whole group ended.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next group; none at the end of the pack or at its table of contents.
    pub(crate) fn next_group(&mut self) -> Result<Option<Group>, ScanError> {
        let begin = self.at;
        let mut at = begin;
        let mut members = Vec::new();
        while at < self.end {
            let (name, length) = self.header(at, begin)?;
            let data = at + BLOCK;
            let room = self.end.saturating_sub(data);
            if length > room || padded(length) > room {
                return Err(ScanError::Unfinished { at: begin });
            }
            at = data + padded(length);
            match MemberName::parse(&name) {
                Some(MemberName::Group(_)) => return self.group(members, data, length, at).map(Some),
                Some(MemberName::Contents) if members.is_empty() => {
                    self.seal = Some(self.read_seal(data, length)?);
                    return Ok(None);
                }
                _ => members.push((data, length)),
            }
        }
        if members.is_empty() { Ok(None) } else { Err(ScanError::Unfinished { at: begin }) }
    }

    /// Calls `take` with every group that is left and says how the pack ends.
    pub(crate) fn for_each<E>(mut self, mut take: impl FnMut(Group) -> Result<(), E>) -> Result<(u64, Tail), E> {
        loop {
            match self.next_group() {
                Ok(Some(group)) => take(group)?,
                Ok(None) => return Ok((self.at, self.tail())),
                Err(error) => return Ok((self.at, Tail::Torn(error))),
            }
        }
    }

    fn tail(&self) -> Tail {
        match self.seal {
            Some((bytes, blake3)) => Tail::Sealed { bytes, blake3 },
            None => Tail::Clean,
        }
    }

    fn group(&mut self, before: Vec<(u64, u64)>, at: u64, length: u64, end: u64) -> Result<Group, ScanError> {
        let text = self.text(at, length)?;
        let record = GroupRecord::parse(&text).map_err(|source| ScanError::Record { at, source })?;
        let listed = record.members.iter().map(|member| (member.offset, member.length));
        if !listed.eq(before) {
            return Err(ScanError::Members { at });
        }
        self.at = end;
        Ok(Group { record, digest: Blake3::of(&text), record_offset: at, record_length: length, end })
    }

    fn read_seal(&self, at: u64, length: u64) -> Result<(u64, Blake3), ScanError> {
        #[derive(serde::Deserialize)]
        struct Seal {
            bytes: u64,
            blake3: Blake3,
        }
        let text = self.text(at, length)?;
        let last = text.split(|&b| b == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
        let seal: Seal = serde_json::from_slice(last)
            .map_err(|source| ScanError::Record { at, source: RecordError::Line { line: 0, source } })?;
        Ok((seal.bytes, seal.blake3))
    }

    fn text(&self, at: u64, length: u64) -> Result<Vec<u8>, ScanError> {
        if length > self.record_limit {
            return Err(ScanError::TooLong { at, length });
        }
        let mut text = vec![0; length as usize];
        self.file.read_exact_at(&mut text, at).map_err(|source| ScanError::Io { at, source })?;
        Ok(text)
    }

    fn header(&self, at: u64, begin: u64) -> Result<(String, u64), ScanError> {
        if at + BLOCK > self.end {
            return Err(ScanError::Unfinished { at: begin });
        }
        let mut block = [0; BLOCK as usize];
        self.file.read_exact_at(&mut block, at).map_err(|source| ScanError::Io { at, source })?;
        parse_header(&block).ok_or(ScanError::Header { at })
    }
}

fn parse_header(block: &[u8; BLOCK as usize]) -> Option<(String, u64)> {
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
    if header.cksum().ok()? != sum {
        return None;
    }
    let name = String::from_utf8(header.path_bytes().into_owned()).ok()?;
    Some((name, header.entry_size().ok()?))
}

/// Reads every member of a group and compares it with its digest.
pub(crate) fn prove_members(file: &dyn DiskFile, members: &[Member]) -> Result<(), ScanError> {
    members.iter().try_for_each(|member| prove_member(file, member))
}

fn prove_member(file: &dyn DiskFile, member: &Member) -> Result<(), ScanError> {
    let found =
        hash_range(file, member.offset, member.length).map_err(|source| ScanError::Io { at: member.offset, source })?;
    if found == member.sha256 {
        return Ok(());
    }
    Err(ScanError::Member { name: member.name.clone(), at: member.offset, recorded: member.sha256, found })
}

/// The SHA-256 of a range of a file.
pub(crate) fn hash_range(file: &dyn DiskFile, mut at: u64, length: u64) -> io::Result<Sha256> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
    let end = at + length;
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(Sha256(hasher.finalize().into()))
}

/// The highest sequence number of a group record's header anywhere in a range, whatever lies between: tells a torn tail
/// from damage before sound groups.
pub(crate) fn last_record(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<Option<u64>> {
    let mut last = None;
    let mut window = vec![0; 1 << 20];
    let mut at = from.next_multiple_of(BLOCK);
    while at + BLOCK <= end {
        let want = window.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut window[..want], at)?;
        let sequences = window[..want].chunks_exact(BLOCK as usize).filter_map(sequence_of);
        last = last.max(sequences.max());
        at += want as u64;
    }
    Ok(last)
}

fn sequence_of(block: &[u8]) -> Option<u64> {
    if !block.starts_with(b"groups/") {
        return None;
    }
    let (name, _) = parse_header(block.try_into().ok()?)?;
    match MemberName::parse(&name)? {
        MemberName::Group(sequence) => Some(sequence),
        MemberName::Crate(_)
        | MemberName::Index(_)
        | MemberName::Facts { .. }
        | MemberName::Advisories(_)
        | MemberName::Contents => None,
    }
}
