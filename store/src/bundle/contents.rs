//! A volume's table of contents: what lies in it, and what else the bundle says.
//!
//! JSON Lines under zstd. A line of a *piece* stands for one member of the archive, in the archive's order; the other lines have no
//! bytes of their own.

use std::io::{self, BufRead as _, Read, Write as _};

use serde::{Deserialize, Serialize};

use super::manifest::BundleId;
use crate::id::{Blake3, CrateName, Sha256, Version};
use crate::pack::{AdvisoryDb, Cause, MemberName, ReleaseRef, TextRef};

/// The longest line: a frame of 128 MiB cannot hold more releases than this has room for.
const LONGEST_LINE: u64 = 64 << 20;

/// The level of zstd for tables; they are mostly digests.
const LEVEL: i32 = 9;

/// A crate file in a frame: name, version, SHA-256, length in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried(pub CrateName, pub Version, pub Sha256, pub u64);

/// A text in a piece of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The crate's name in lower case.
    pub name: CrateName,
    /// The text.
    pub text: TextRef,
    /// Its length in bytes.
    pub length: u64,
    /// How many rows it has.
    pub rows: u64,
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its first byte, counted from the end of the table of contents' own member.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first line of each table.
    Volume {
        /// The bundle.
        bundle: BundleId,
        /// The volume's number, from 1 on.
        number: u32,
    },
    /// Crate files, recompressed together.
    Frame {
        /// Where.
        #[serde(flatten)]
        piece: Piece,
        /// Its BLAKE3.
        blake3: Blake3,
        /// The crate file that the receiver must hold to read it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<ReleaseRef>,
        /// What is in it, in its order.
        crates: Vec<Carried>,
    },
    /// A crate file as it is.
    Crate {
        /// Where.
        #[serde(flatten)]
        piece: Piece,
        /// Which.
        release: ReleaseRef,
    },
    /// Index files, one after the other under one zstd.
    Texts {
        /// Where.
        #[serde(flatten)]
        piece: Piece,
        /// Its BLAKE3.
        blake3: Blake3,
        /// What is in it, in its order.
        texts: Vec<Document>,
    },
    /// Facts, one document after the other under one zstd.
    Facts {
        /// Where.
        #[serde(flatten)]
        piece: Piece,
        /// Its BLAKE3.
        blake3: Blake3,
        /// Whose: the releases, in order.
        releases: Vec<ReleaseRef>,
        /// How long each is, in bytes.
        lengths: Vec<u64>,
    },
    /// The archive of the advisory database, as it lies in a pack.
    Advisories {
        /// Where.
        #[serde(flatten)]
        piece: Piece,
        /// Its BLAKE3.
        blake3: Blake3,
        /// Which.
        database: AdvisoryDb,
    },
    /// An index file that is no longer served.
    Removed {
        /// The crate's name in lower case.
        name: CrateName,
    },
    /// A tombstone.
    Withdrawn {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Seconds since 1970.
        at: u64,
        /// Why, and by whose word.
        #[serde(flatten)]
        cause: Cause,
    },
    /// A release that the origin wants and lacks.
    Hole {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Why.
        reason: String,
        /// A rule keeps it out.
        refused: bool,
        /// Seconds since 1970 when it was last asked for.
        at: u64,
    },
}

impl Line {
    /// Where its bytes lie, if it has some.
    pub fn piece(&self) -> Option<&Piece> {
        match self {
            Line::Frame { piece, .. }
            | Line::Crate { piece, .. }
            | Line::Texts { piece, .. }
            | Line::Facts { piece, .. }
            | Line::Advisories { piece, .. } => Some(piece),
            _ => None,
        }
    }

    pub(super) fn piece_mut(&mut self) -> Option<&mut Piece> {
        match self {
            Line::Frame { piece, .. }
            | Line::Crate { piece, .. }
            | Line::Texts { piece, .. }
            | Line::Facts { piece, .. }
            | Line::Advisories { piece, .. } => Some(piece),
            _ => None,
        }
    }

    /// What its member is called in the archive, if it has one. The name says nothing that the line does not say, and is only
    /// ever compared.
    pub(super) fn member_name(&self) -> Option<String> {
        match self {
            Line::Frame { blake3, .. } => Some(format!("frames/{blake3}.cfrf")),
            Line::Texts { blake3, .. } => Some(format!("index/{blake3}.zst")),
            Line::Facts { blake3, .. } => Some(format!("facts/{blake3}.zst")),
            Line::Advisories { database, .. } => Some(MemberName::Advisories(database.sha256).to_string()),
            Line::Crate { release, .. } => {
                let ReleaseRef { name, version, .. } = release.clone();
                Some(MemberName::Crate(crate::ReleaseId { name, version }).to_string())
            }
            _ => None,
        }
    }

    /// The BLAKE3 of its bytes, if it has one; a crate file as it is has its checksum.
    pub fn blake3(&self) -> Option<Blake3> {
        match self {
            Line::Frame { blake3, .. }
            | Line::Texts { blake3, .. }
            | Line::Facts { blake3, .. }
            | Line::Advisories { blake3, .. } => Some(*blake3),
            _ => None,
        }
    }

    /// What a name that does not fit is replaced by.
    pub(super) fn fallback(&self) -> Sha256 {
        match self {
            Line::Crate { release, .. } => release.checksum,
            _ => Sha256([0; 32]),
        }
    }

    /// How many bytes the line has.
    pub(super) fn length(&self) -> u64 {
        serde_json::to_vec(self).map_or(0, |text| text.len() as u64 + 1)
    }
}

/// Makes a table, line by line.
pub(super) struct ContentsBuilder(zstd::stream::write::Encoder<'static, Vec<u8>>);

impl ContentsBuilder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(ContentsBuilder(zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?))
    }

    pub(super) fn push(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It does not unpack, or has a line that is too long.
    #[error("the table of contents cannot be unpacked")]
    Unpack(#[source] io::Error),
    /// A line is not what it should be.
    #[error("line {line} of the table of contents is damaged")]
    Line {
        /// The line, from 1 on.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
}

/// The lines of a table, in order.
pub struct Lines<R: Read> {
    text: io::BufReader<zstd::stream::read::Decoder<'static, io::BufReader<R>>>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// Reads a table as it lies in a volume.
    pub fn read(contents: R) -> Result<Lines<R>, ContentsError> {
        let mut text = zstd::stream::read::Decoder::new(contents).map_err(ContentsError::Unpack)?;
        text.window_log_max(27).map_err(ContentsError::Unpack)?;
        Ok(Lines { text: io::BufReader::new(text), number: 0 })
    }

    fn line(&mut self) -> Result<Option<Line>, ContentsError> {
        let mut line = Vec::new();
        self.text.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(ContentsError::Unpack)?;
        self.number += 1;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => {
                let damaged = |source| ContentsError::Line { line: self.number, source };
                serde_json::from_slice(&line).map(Some).map_err(damaged)
            }
            Some(_) => {
                let problem = format!("line {} has no end within {LONGEST_LINE} bytes", self.number);
                Err(ContentsError::Unpack(io::Error::new(io::ErrorKind::InvalidData, problem)))
            }
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Line, ContentsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().transpose()
    }
}
