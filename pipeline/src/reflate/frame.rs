//! Crate files that belong together, compressed as one: the versions of a crate, or many small crates.
//!
//! Each frame can be read alone, but for a base, if it has one: the content of a crate file that the reader holds, which zstd takes as
//! if it came before. A frame is written by one call on one thread, so that it does not depend on the number of cores.

use std::ops::Range;

use crateferry_store::{Release, Sha256};
use zstd::zstd_safe::{
    self, CCtx, CParameter, DCtx, compress_bound, find_frame_compressed_size, get_error_name, get_frame_content_size,
};

use super::apart::{Apart, MAX_CONTENT};
use super::encoder::{Encoder, Encoders};
use super::record::Member;

const MAGIC: [u8; 4] = *b"cfrf";
const VERSION: u8 = 1;
const HEAD: usize = 64;

/// How far back zstd looks, as a power of two: 128 MiB.
const WINDOW_LOG: u32 = 27;

/// The longest table, inflated. A record has about 100 bytes, but a tail can be long.
const MAX_TABLE: u64 = 64 << 20;

/// A table takes up to so many times its length in memory: itself, and what is read of it.
const TABLE_COST: u64 = 8;

/// The level of tables: they are small, and mostly digests.
const TABLE_LEVEL: i32 = 12;

/// The version of zstd that frames are written with. The same version writes the same frames.
pub fn zstd_version() -> &'static str {
    zstd_safe::version_string()
}

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// zstd's 12.
    Fast,
    /// zstd's 19: somewhat smaller, fifteen times slower.
    Max,
}

impl Level {
    fn number(self) -> i32 {
        match self {
            Level::Fast => 12,
            Level::Max => 19,
        }
    }
}

/// What a reader is known to hold.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// The SHA-256 of the crate file.
    pub checksum: Sha256,
    /// Its content, as [`take_apart`](super::take_apart) gives it.
    pub content: &'a [u8],
}

/// Why a frame cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not one of ours.
    #[error("this is no frame of recompressed crate files")]
    NotAFrame,
    /// Made by a later version.
    #[error("this frame has version {0}, which this program does not know; a newer one will")]
    UnknownVersion(u8),
    /// Made by a later version.
    #[error("this frame needs encoder {0}, which this program does not have; a newer one will")]
    UnknownEncoder(u8),
    /// More than the reader allows, or than the format does.
    #[error("the {what} of this frame has {length} bytes, and {limit} are allowed")]
    TooLong {
        /// What of it.
        what: &'static str,
        /// What it says.
        length: u64,
        /// What may be.
        limit: u64,
    },
    /// The bytes contradict themselves.
    #[error("this frame is damaged: {0}")]
    Damaged(&'static str),
    /// Another base is needed, one at all, or none.
    #[error("this frame was made against {}, and {} was given", base(.needs.as_ref()), base(.given.as_ref()))]
    WrongBase {
        /// What the frame says.
        needs: Option<Sha256>,
        /// What the caller has.
        given: Option<Sha256>,
    },
    /// zstd says so.
    #[error("zstd cannot {0} this frame: {1}")]
    Zstd(&'static str, &'static str),
}

fn check(what: &'static str, length: u64, limit: u64) -> Result<(), FrameError> {
    if length > limit { Err(FrameError::TooLong { what, length, limit }) } else { Ok(()) }
}

fn base(checksum: Option<&Sha256>) -> String {
    checksum.map_or_else(|| "no crate file".to_owned(), |checksum| format!("the crate file {checksum}"))
}

/// Takes crate files that were taken apart, and makes a frame of them.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    members: u32,
    encoders: Encoders,
    table: Vec<u8>,
    contents: Vec<u8>,
}

impl FrameBuilder {
    /// A frame of nothing.
    pub fn new() -> FrameBuilder {
        FrameBuilder::default()
    }

    /// Adds a crate file of so many bytes. The order counts: what is alike should be near.
    pub fn push(&mut self, release: Release, length: u64, apart: Apart) {
        let Apart { recipe, content } = apart;
        if let Some(encoder) = recipe.encoder() {
            self.encoders.insert(encoder);
        }
        Member { release, length, content: content.len() as u64, recipe }.write(&mut self.table);
        self.members += 1;
        self.contents.extend_from_slice(&content);
    }

    /// The encoders that a reader needs.
    pub fn encoders(&self) -> Encoders {
        self.encoders
    }

    /// How many bytes of content there are. They are in memory, and the frame and zstd's own memory come to them.
    pub fn contents(&self) -> usize {
        self.contents.len()
    }

    /// The frame.
    pub fn finish(self, level: Level, base: Option<Base>) -> Result<Vec<u8>, FrameError> {
        check("table", self.table.len() as u64, MAX_TABLE)?;
        let table = compress(&self.table, TABLE_LEVEL, None)?;
        let contents = compress(&self.contents, level.number(), base.map(|base| base.content))?;
        let mut frame = Vec::with_capacity(HEAD + table.len() + contents.len());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&[VERSION, base.is_some().into(), 0, 0]);
        frame.extend_from_slice(&self.encoders.0.to_le_bytes());
        frame.extend_from_slice(&self.members.to_le_bytes());
        frame.extend_from_slice(&(table.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(self.table.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(self.contents.len() as u64).to_le_bytes());
        frame.extend_from_slice(&base.map_or([0; 32], |base| base.checksum.0));
        frame.extend_from_slice(&table);
        frame.extend_from_slice(&contents);
        Ok(frame)
    }
}

fn compress(bytes: &[u8], level: i32, prefix: Option<&[u8]>) -> Result<Vec<u8>, FrameError> {
    let failed = |code| FrameError::Zstd("write", get_error_name(code));
    let mut zstd = CCtx::create();
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(true),
    ];
    for parameter in parameters {
        zstd.set_parameter(parameter).map_err(failed)?;
    }
    if let Some(prefix) = prefix {
        zstd.ref_prefix(prefix).map_err(failed)?;
    }
    let mut out = Vec::with_capacity(compress_bound(bytes.len()));
    zstd.compress2(&mut out, bytes).map_err(failed)?;
    Ok(out)
}

/// A frame that is read.
#[derive(Debug)]
pub struct Frame<'a> {
    base: Option<Sha256>,
    members: Vec<Member>,
    contents: usize,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads what a frame says of itself; its contents stay compressed. All the memory that this and [`Frame::contents`] take is within
    /// `limit` bytes and a few hundred KiB.
    pub fn read(bytes: &'a [u8], limit: u64) -> Result<Frame<'a>, FrameError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(FrameError::NotAFrame)?;
        let head = Head::read(head)?;
        check("table", head.table, MAX_TABLE.min(limit / TABLE_COST))?;
        check("contents", head.contents, limit - head.table * TABLE_COST)?;
        let split = usize::try_from(head.packed_table).ok().and_then(|length| rest.split_at_checked(length));
        let (table, payload) = split.ok_or(FrameError::Damaged("it ends too early"))?;
        let table = decompress(table, head.table, None)?;
        let members = read_table(&table, &head)?;
        let contents = usize::try_from(head.contents).map_err(|_| FrameError::Damaged("it is too long"))?;
        Ok(Frame { base: head.base, members, contents, payload })
    }

    /// The crate file whose content is needed to read this one.
    pub fn base(&self) -> Option<&Sha256> {
        self.base.as_ref()
    }

    /// The crate files, in the order of the frame.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Decompresses the contents of all crate files.
    pub fn contents(&self, base: Option<Base>) -> Result<Contents, FrameError> {
        let given = base.map(|base| base.checksum);
        if given != self.base {
            return Err(FrameError::WrongBase { needs: self.base, given });
        }
        let bytes = decompress(self.payload, self.contents as u64, base.map(|base| base.content))?;
        let mut begin = 0;
        let part = |member: &Member| {
            let part = begin..begin + member.content as usize;
            begin = part.end;
            part
        };
        Ok(Contents { parts: self.members.iter().map(part).collect(), bytes })
    }
}

/// The contents of a frame's members.
#[derive(Debug)]
pub struct Contents {
    bytes: Vec<u8>,
    parts: Vec<Range<usize>>,
}

impl Contents {
    /// That of each member, in the order of the frame.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|part| &self.bytes[part.clone()])
    }
}

/// The first bytes of a frame.
struct Head {
    base: Option<Sha256>,
    encoders: Encoders,
    members: u32,
    packed_table: u32,
    table: u64,
    contents: u64,
}

impl Head {
    fn read(head: &[u8; HEAD]) -> Result<Head, FrameError> {
        let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if head[..4] != MAGIC {
            return Err(FrameError::NotAFrame);
        }
        if head[4] != VERSION {
            return Err(FrameError::UnknownVersion(head[4]));
        }
        let checksum = Sha256(head[32..].first_chunk().copied().unwrap_or_default());
        let base = match head[5..8] {
            [0, 0, 0] if checksum.0 == [0; 32] => None,
            [1, 0, 0] => Some(checksum),
            _ => return Err(FrameError::Damaged("its flags are none")),
        };
        let encoders = Encoders(word(8));
        let unknown = encoders.unknown();
        if !unknown.is_empty() {
            return Err(FrameError::UnknownEncoder(unknown.0.trailing_zeros() as u8 + 1));
        }
        let contents = u64::from(word(24)) | u64::from(word(28)) << 32;
        Ok(Head { base, encoders, members: word(12), packed_table: word(16), table: word(20).into(), contents })
    }
}

fn read_table(mut table: &[u8], head: &Head) -> Result<Vec<Member>, FrameError> {
    let (mut members, mut encoders, mut contents) = (Vec::new(), Encoders::default(), 0u64);
    for _ in 0..head.members {
        let member = Member::read(&mut table)?;
        if member.recipe.encoder().is_some() {
            check("content of a crate file", member.content, MAX_CONTENT as u64)?;
        }
        contents = contents.saturating_add(member.content);
        member.recipe.encoder().into_iter().for_each(|encoder: Encoder| encoders.insert(encoder));
        members.push(member);
    }
    if !table.is_empty() || contents != head.contents || encoders != head.encoders {
        return Err(FrameError::Damaged("its table does not fit its head"));
    }
    Ok(members)
}

/// Exactly one frame of zstd that says that it has so many bytes, and has them.
fn decompress(packed: &[u8], length: u64, prefix: Option<&[u8]>) -> Result<Vec<u8>, FrameError> {
    let failed = |code| FrameError::Zstd("read", get_error_name(code));
    if find_frame_compressed_size(packed).map_err(failed)? != packed.len() {
        return Err(FrameError::Damaged("something follows what it has"));
    }
    let says = get_frame_content_size(packed).map_err(|_| FrameError::Damaged("it does not say how long it is"))?;
    let wrong = FrameError::Damaged("its lengths do not fit each other");
    let capacity = usize::try_from(length).ok().filter(|_| says == Some(length)).ok_or(wrong.clone())?;
    let mut zstd = DCtx::create();
    if let Some(prefix) = prefix {
        zstd.ref_prefix(prefix).map_err(failed)?;
    }
    let mut out = Vec::with_capacity(capacity);
    zstd.decompress(&mut out, packed).map_err(failed)?;
    if out.len() == capacity { Ok(out) } else { Err(wrong) }
}
