//! A volume: a ustar archive whose first member is the table of what follows.
//!
//! All of the archive follows from the table: the headers are made anew and compared, never read. So no name, size or flag in it means
//! anything, and what is not as it should be is damage, whoever made it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::Digest as _;

use super::contents::{ContentsError, Line, Lines};
use super::manifest::{Sum, VolumeSummary};
use crate::id::{Blake3, Sha256};
use crate::pack::{BLOCK, padded, tar_header};

/// The first member.
const CONTENTS: &str = "contents.jsonl.zst";

/// The longest table of contents, compressed: of some millions of releases.
const LONGEST_CONTENTS: u64 = 1 << 30;

/// How much an archive has behind its last member.
pub(super) const END: u64 = 2 * BLOCK;

/// What a volume has beside the members that its table lists.
pub(super) fn frame_of(contents: u64) -> u64 {
    BLOCK + padded(contents) + END
}

/// What a member occupies.
pub(super) fn member_size(length: u64) -> u64 {
    BLOCK + padded(length)
}

/// Writes a volume, and hashes it as it is written.
pub(super) struct VolumeWriter<W> {
    out: Hashing<W>,
    contents: Sum,
}

impl<W: Write> VolumeWriter<W> {
    pub(super) fn begin(out: W, contents: &[u8]) -> io::Result<Self> {
        let mut out = Hashing { inner: out, sha256: sha2::Sha256::new(), blake3: blake3::Hasher::new(), length: 0 };
        let length = contents.len() as u64;
        out.write_all(&tar_header(CONTENTS, length, &Sha256([0; 32])))?;
        out.write_all(contents)?;
        pad(&mut out, length)?;
        Ok(VolumeWriter { out, contents: Sum { length, blake3: Blake3::of(contents) } })
    }

    pub(super) fn member(&mut self, line: &Line, mut bytes: impl Read) -> io::Result<()> {
        let (Some(piece), Some(name)) = (line.piece(), line.member_name()) else { return Ok(()) };
        self.out.write_all(&tar_header(&name, piece.length, &line.fallback()))?;
        let copied = io::copy(&mut (&mut bytes).take(piece.length), &mut self.out)?;
        if copied != piece.length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} ends after {copied} bytes")));
        }
        pad(&mut self.out, piece.length)
    }

    pub(super) fn finish(mut self) -> io::Result<(W, VolumeSummary)> {
        self.out.write_all(&[0; END as usize])?;
        self.out.inner.flush()?;
        let Hashing { inner, sha256, blake3, length } = self.out;
        let (sha256, blake3) = (Sha256(sha256.finalize().into()), Blake3(blake3.finalize().into()));
        Ok((inner, VolumeSummary { length, sha256, blake3, contents: self.contents }))
    }
}

fn pad(out: &mut impl Write, length: u64) -> io::Result<()> {
    out.write_all(&[0; BLOCK as usize][..(padded(length) - length) as usize])
}

struct Hashing<W> {
    inner: W,
    sha256: sha2::Sha256,
    blake3: blake3::Hasher,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.blake3.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A volume that is not what the manifest says.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It cannot be read, or is shorter than it should be.
    #[error("cannot read it at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A header, the fill behind a member, or the end is not what follows from the table of contents.
    #[error("it is damaged at offset {offset}: {what} is not as it should be")]
    Layout {
        /// Where.
        offset: u64,
        /// What.
        what: &'static str,
    },
    /// The table of contents is another.
    #[error("its table of contents has BLAKE3 {found}, should have {promised}")]
    Contents {
        /// What it has.
        found: Blake3,
        /// What the manifest says.
        promised: Blake3,
    },
    /// More than is read.
    #[error("its table of contents has {0} bytes, more than this program reads")]
    TooLong(u64),
    /// More than is read of a piece at once.
    #[error("the piece at offset {offset} has {length} bytes, more than this program reads")]
    PieceTooLong {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] ContentsError),
    /// A piece is another.
    #[error("the piece at offset {offset} has BLAKE3 {found}, should have {promised}")]
    Piece {
        /// Where.
        offset: u64,
        /// What it has.
        found: Blake3,
        /// What its table says.
        promised: Blake3,
    },
    /// All was as it should be but for the digest.
    #[error("it has BLAKE3 {found}, should have {promised}")]
    Digest {
        /// What it has.
        found: Blake3,
        /// What the manifest says.
        promised: Blake3,
    },
}

/// Reads a volume once, from its beginning to its end.
pub struct VolumeReader<R> {
    input: R,
    summary: VolumeSummary,
    hasher: blake3::Hasher,
    at: u64,
    /// Where members begin.
    body: u64,
    contents: Vec<u8>,
}

impl<R: Read> VolumeReader<R> {
    /// Reads and checks the table of contents.
    pub fn open(input: R, summary: VolumeSummary) -> Result<Self, VolumeError> {
        let length = summary.contents.length;
        if length > LONGEST_CONTENTS {
            return Err(VolumeError::TooLong(length));
        }
        let hasher = blake3::Hasher::new();
        let mut reader =
            VolumeReader { input, summary, hasher, at: 0, body: BLOCK + padded(length), contents: Vec::new() };
        reader.expect(&tar_header(CONTENTS, length, &Sha256([0; 32])), "the table of contents' header")?;
        // As much as there is, not as much as is promised.
        let mut contents = Vec::new();
        let offset = reader.at;
        let read = reader.input.by_ref().take(length).read_to_end(&mut contents);
        read.and_then(|read| if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) })
            .map_err(|source| VolumeError::Read { offset, source })?;
        reader.took(&contents);
        let found = Blake3::of(&contents);
        if found != summary.contents.blake3 {
            return Err(VolumeError::Contents { found, promised: summary.contents.blake3 });
        }
        reader.fill(length)?;
        reader.contents = contents;
        Ok(reader)
    }

    /// The table of contents as it lies in the volume.
    pub fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Its lines.
    pub fn lines(&self) -> Result<Lines<io::Cursor<Vec<u8>>>, VolumeError> {
        Ok(Lines::read(io::Cursor::new(self.contents.clone()))?)
    }

    /// Lets pieces be read in any order, without the others. Who does so has not seen the volume as a whole.
    pub fn into_pieces(self) -> Pieces<R> {
        Pieces { input: self.input, body: self.body }
    }

    /// Takes the next member, piece by piece: the one that this line of the table stands for. A line without bytes has none.
    pub fn member(&mut self, line: &Line, mut take: impl FnMut(&[u8])) -> Result<(), VolumeError> {
        let (Some(piece), Some(name)) = (line.piece().copied(), line.member_name()) else { return Ok(()) };
        if self.at.checked_sub(self.body).and_then(|at| at.checked_add(BLOCK)) != Some(piece.offset) {
            return Err(VolumeError::Layout { offset: self.at, what: "where the next member begins" });
        }
        self.expect(&tar_header(&name, piece.length, &line.fallback()), "a member's header")?;
        let mut buffer = vec![0; 256 << 10];
        let mut left = piece.length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.exactly(part, &mut buffer)?;
            take(&buffer[..part]);
            left -= part as u64;
        }
        self.fill(piece.length)
    }

    /// Reads the end, and compares the digest of the whole.
    pub fn finish(mut self) -> Result<(), VolumeError> {
        self.expect(&[0; END as usize], "the end")?;
        let offset = self.at;
        let more = self.input.read(&mut [0]).map_err(|source| VolumeError::Read { offset, source })?;
        if more > 0 {
            return Err(VolumeError::Layout { offset, what: "the end, behind which there is more," });
        }
        let (found, promised) = (Blake3(self.hasher.finalize().into()), self.summary.blake3);
        if self.at != self.summary.length {
            return Err(VolumeError::Layout { offset: self.at, what: "its length" });
        }
        if found == promised { Ok(()) } else { Err(VolumeError::Digest { found, promised }) }
    }

    fn exactly(&mut self, length: usize, buffer: &mut [u8]) -> Result<(), VolumeError> {
        let offset = self.at;
        self.input.read_exact(&mut buffer[..length]).map_err(|source| VolumeError::Read { offset, source })?;
        self.took(&buffer[..length]);
        Ok(())
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
    }

    fn fill(&mut self, length: u64) -> Result<(), VolumeError> {
        self.expect(&[0; BLOCK as usize][..(padded(length) - length) as usize], "the fill behind a member")
    }

    fn expect(&mut self, bytes: &[u8], what: &'static str) -> Result<(), VolumeError> {
        let (mut found, offset) = (vec![0; bytes.len()], self.at);
        self.exactly(bytes.len(), &mut found)?;
        if found == bytes { Ok(()) } else { Err(VolumeError::Layout { offset, what }) }
    }
}

/// The pieces of a volume, each read where its table says that it lies and compared with its digest.
pub struct Pieces<R> {
    input: R,
    body: u64,
}

impl<R: Read + Seek> Pieces<R> {
    /// The piece of a line, if the line has one with a digest. A longer one than `longest` is not read.
    pub fn read(&mut self, line: &Line, longest: u64) -> Result<Option<Vec<u8>>, VolumeError> {
        let (Some(piece), Some(promised)) = (line.piece(), line.blake3()) else { return Ok(None) };
        let offset = self.body.saturating_add(piece.offset);
        if piece.length > longest {
            return Err(VolumeError::PieceTooLong { offset, length: piece.length });
        }
        let mut bytes = Vec::new();
        let seen = self.input.seek(SeekFrom::Start(offset));
        seen.and_then(|_| self.input.by_ref().take(piece.length).read_to_end(&mut bytes))
            .map_err(|source| VolumeError::Read { offset, source })?;
        let found = Blake3::of(&bytes);
        if found == promised { Ok(Some(bytes)) } else { Err(VolumeError::Piece { offset, found, promised }) }
    }
}
