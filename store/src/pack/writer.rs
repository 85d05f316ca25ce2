//! Appending to the open pack.
//!
//! Bytes are gathered until they make a large write; bodies above [`DIRECT`] are written from where they lie. The
//! BLAKE3 that seals a pack is computed as bytes are written; for a pack that an earlier process began it is computed
//! from the file when the pack is sealed. Nothing here is durable before [`DiskFile::sync`], which belongs to the
//! caller.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::member::{MemberName, tar_header};
use super::record::{Event, GroupRecord, Header, Member};
use super::scan::{Group, Scan};
use super::{BLOCK, padded};
use crate::body::Bytes;
use crate::disk::{Disk, DiskFile};
use crate::id::{Blake3, Sha256};
use crate::layout::Layout;
use crate::limits::StoreLimits;

/// Bodies of at least this many bytes are not copied into the write buffer.
const DIRECT: usize = 64 << 10;

/// Something that could not be appended to a pack.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} pack {}", path.display())]
pub struct AppendError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A group that is complete in the pack, but not yet durable.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) file: Arc<dyn DiskFile>,
    /// The pack's file is new to this process: its folder may not know it durably.
    pub(crate) new_file: bool,
    pub(crate) record: GroupRecord,
    /// The BLAKE3 of the record.
    pub(crate) digest: Blake3,
    /// The pack's length with this group.
    pub(crate) end: u64,
}

/// One line of a table of contents.
#[derive(Debug, Serialize)]
pub(crate) struct ContentsLine {
    record: String,
    offset: u64,
    length: u64,
    members: usize,
    blake3: Blake3,
}

impl ContentsLine {
    /// The line of a group that was read from a pack.
    pub(crate) fn of(group: &Group) -> Self {
        ContentsLine {
            record: MemberName::Group(group.record.header.sequence).to_string(),
            offset: group.record_offset,
            length: group.record_length,
            members: group.record.members.len(),
            blake3: group.digest,
        }
    }
}

/// The last line of a table of contents.
#[derive(Debug, Serialize)]
struct Seal {
    bytes: u64,
    blake3: Blake3,
}

/// The open pack.
#[derive(Debug)]
pub(crate) struct PackWriter {
    disk: Arc<dyn Disk>,
    layout: Layout,
    limits: StoreLimits,
    number: u32,
    file: Arc<dyn DiskFile>,
    new_file: bool,
    buffer: Vec<u8>,
    /// What is in the file already; the buffer follows.
    written: u64,
    reserved: u64,
    /// None if this process did not write the pack's beginning.
    hasher: Option<blake3::Hasher>,
    names: HashSet<u64>,
    contents: Vec<ContentsLine>,
    members: Vec<Member>,
}

impl PackWriter {
    /// Begins a new pack.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        layout: Layout,
        limits: StoreLimits,
        number: u32,
    ) -> Result<Self, AppendError> {
        let path = layout.open_pack(number);
        let file = disk.create(&path).map_err(|source| AppendError { step: "begin", path, source })?;
        let mut pack = Self::over(disk, layout, limits, number, file);
        pack.new_file = true;
        pack.hasher = Some(blake3::Hasher::new());
        Ok(pack)
    }

    /// Goes on with the open pack that ends at `end`; what lies beyond is cut off.
    pub(crate) fn resume(
        disk: Arc<dyn Disk>,
        layout: Layout,
        limits: StoreLimits,
        number: u32,
        end: u64,
    ) -> Result<Self, AppendError> {
        let path = layout.open_pack(number);
        let failed = |step| {
            let path = path.clone();
            move |source| AppendError { step, path, source }
        };
        let file = disk.open(&path).map_err(failed("open"))?;
        file.set_length(end).map_err(failed("cut the torn tail of"))?;
        let mut pack = Self::over(disk, layout, limits, number, file);
        // Whoever made the file may have been killed before the folder knew it durably.
        pack.new_file = true;
        pack.recall(end).map_err(failed("read"))?;
        Ok(pack)
    }

    fn over(disk: Arc<dyn Disk>, layout: Layout, limits: StoreLimits, number: u32, file: Arc<dyn DiskFile>) -> Self {
        PackWriter {
            buffer: Vec::with_capacity(limits.write_buffer),
            disk,
            layout,
            limits,
            number,
            file,
            new_file: false,
            written: 0,
            reserved: 0,
            hasher: None,
            names: HashSet::new(),
            contents: Vec::new(),
            members: Vec::new(),
        }
    }

    /// Reads which names and groups the pack has already.
    fn recall(&mut self, end: u64) -> io::Result<()> {
        let file = self.file.clone();
        let mut scan = Scan::new(file.as_ref(), 0, end, self.limits.record_bytes);
        while let Some(group) = scan.next_group().map_err(io::Error::other)? {
            self.names.extend(group.record.members.iter().map(|member| fingerprint(&member.name)));
            self.contents.push(ContentsLine::of(&group));
        }
        self.written = end;
        Ok(())
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The pack's length with all that was appended.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The members of the group that is open.
    pub(crate) fn open_members(&self) -> usize {
        self.members.len()
    }

    /// Appends a member to the open group.
    pub(crate) fn append(&mut self, name: &MemberName, sha256: Sha256, bytes: &Bytes) -> Result<Member, AppendError> {
        let text = name.to_string();
        let header = if self.names.insert(fingerprint(&text)) {
            tar_header(&text, bytes.length, &sha256)
        } else {
            tar_header(&format!("objects/{sha256}"), bytes.length, &sha256)
        };
        self.put(&header)?;
        let member = Member { name: text, offset: self.end(), length: bytes.length, sha256 };
        let path = self.path();
        bytes
            .each_piece(|piece| self.put(piece).map_err(io::Error::other))
            .map_err(|source| unwrap_append(source, path))?;
        self.pad(bytes.length)?;
        self.members.push(member.clone());
        Ok(member)
    }

    /// Ends the open group with its record.
    pub(crate) fn close_group(&mut self, header: Header, events: Vec<Event>) -> Result<Closed, AppendError> {
        let record = GroupRecord { header, members: std::mem::take(&mut self.members), events };
        let text = record.to_text();
        let digest = Blake3::of(&text);
        let name = MemberName::Group(record.header.sequence).to_string();
        self.put(&tar_header(&name, text.len() as u64, &Sha256([0; 32])))?;
        let offset = self.end();
        self.put(&text)?;
        self.pad(text.len() as u64)?;
        self.flush()?;
        let line = ContentsLine {
            record: name,
            offset,
            length: text.len() as u64,
            members: record.members.len(),
            blake3: digest,
        };
        self.contents.push(line);
        let new_file = std::mem::take(&mut self.new_file);
        Ok(Closed { file: self.file.clone(), new_file, record, digest, end: self.written })
    }

    /// Ends the pack: table of contents, sync, final name, read-only. All its groups must be durable.
    pub(crate) fn seal(mut self) -> Result<(), AppendError> {
        let (bytes, blake3) = (self.end(), self.whole_digest()?);
        self.put(&sealing(&self.contents, bytes, blake3))?;
        self.flush()?;
        self.finish_file().map_err(|source| self.error("seal", source))
    }

    fn finish_file(&self) -> io::Result<()> {
        self.file.set_length(self.written)?;
        self.file.sync()?;
        let sealed = self.layout.sealed_pack(self.number);
        self.disk.rename(&self.path(), &sealed)?;
        self.disk.sync_folder(&self.layout.packs())?;
        self.disk.make_read_only(&sealed)
    }

    fn whole_digest(&mut self) -> Result<Blake3, AppendError> {
        self.flush()?;
        if let Some(hasher) = &self.hasher {
            return Ok(Blake3(*hasher.finalize().as_bytes()));
        }
        digest_prefix(self.file.as_ref(), self.written).map_err(|source| self.error("read", source))
    }

    fn put(&mut self, piece: &[u8]) -> Result<(), AppendError> {
        if self.buffer.len() + piece.len() > self.limits.write_buffer {
            self.flush()?;
        }
        if piece.len() >= DIRECT.min(self.limits.write_buffer) {
            self.flush()?;
            return self.write(piece);
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    fn pad(&mut self, length: u64) -> Result<(), AppendError> {
        let missing = (padded(length) - length) as usize;
        self.put(&[0; BLOCK as usize][..missing])
    }

    fn flush(&mut self) -> Result<(), AppendError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.write(&buffer)?;
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), AppendError> {
        let end = self.written + piece.len() as u64;
        if end > self.reserved {
            self.reserved = self.reserve(end).map_err(|source| self.error("reserve space for", source))?;
        }
        self.file.write_all_at(piece, self.written).map_err(|source| self.error("write to", source))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        self.written = end;
        Ok(())
    }

    /// Reserves room up to `end` and some more, if there is more; says how far.
    fn reserve(&self, end: u64) -> io::Result<u64> {
        let ahead = end + self.limits.preallocate;
        match self.file.reserve(self.written, ahead - self.written) {
            Ok(()) => Ok(ahead),
            // What makes room on a full disk has to write a little first.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.file.reserve(self.written, end - self.written).map(|()| end)
            }
            Err(error) => Err(error),
        }
    }

    fn path(&self) -> PathBuf {
        self.layout.open_pack(self.number)
    }

    fn error(&self, step: &'static str, source: io::Error) -> AppendError {
        AppendError { step, path: self.path(), source }
    }
}

/// All that a sealed pack has behind its first `bytes` bytes: its table of contents as a member, and the archive's end.
pub(crate) fn sealing(contents: &[ContentsLine], bytes: u64, blake3: Blake3) -> Vec<u8> {
    let mut text = Vec::new();
    for line in contents {
        serde_json::to_writer(&mut text, line).expect("plain fields");
        text.push(b'\n');
    }
    serde_json::to_writer(&mut text, &Seal { bytes, blake3 }).expect("plain fields");
    text.push(b'\n');
    let header = tar_header(&MemberName::Contents.to_string(), text.len() as u64, &Sha256([0; 32]));
    let mut sealing = [header.as_slice(), &text].concat();
    sealing.resize(padded(sealing.len() as u64) as usize + 2 * BLOCK as usize, 0);
    sealing
}

/// The BLAKE3 of the first `length` bytes of a file.
pub(crate) fn digest_prefix(file: &dyn DiskFile, length: u64) -> io::Result<Blake3> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let want = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(Blake3(*hasher.finalize().as_bytes()))
}

fn fingerprint(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// An append error that passed through a reader of pieces comes back as itself.
fn unwrap_append(error: io::Error, path: PathBuf) -> AppendError {
    match error.downcast::<AppendError>() {
        Ok(inner) => inner,
        Err(source) => AppendError { step: "read a spooled body for", path, source },
    }
}
