//! What a bundle is made of, until it is known how its volumes are split.
//!
//! Frames are appended to one file, and a line for each piece to another. Then the volumes are cut, as even as the pieces allow, and
//! each is written once: its table of contents, then its pieces, from here or from the packs.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::contents::{ContentsBuilder, Line, Piece};
use super::manifest::{BundleId, VolumeSummary};
use super::volume::{VolumeWriter, frame_of, member_size};
use crate::Place;
use crate::id::Sha256;
use crate::layout::Layout;
use crate::pack::PackReader;

/// A bundle that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The folder for bundles in the making cannot be written or read.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A piece does not fit into a volume.
    #[error("volumes of {size} bytes are too small: one piece alone needs {needs}")]
    TooSmall {
        /// What they may have.
        size: u64,
        /// What is needed.
        needs: u64,
    },
    /// A volume cannot be written.
    #[error("cannot write volume {number}")]
    Volume {
        /// Which.
        number: u32,
        /// Why.
        source: io::Error,
    },
}

/// A line and where its bytes are.
#[derive(Debug, Serialize, Deserialize)]
struct Staged {
    line: Line,
    /// In a pack; else in the staging file, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(u32, u64, u64)>,
}

/// A bundle in the making.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    body: BufWriter<File>,
    lines: BufWriter<File>,
    /// The largest piece, with all that it needs beside it.
    largest: u64,
    carried: u64,
}

impl Staging {
    /// Begins a bundle; what was staged for one before is gone.
    pub fn begin(layout: &Layout, bundle: &BundleId) -> Result<Staging, StagingError> {
        let dir = layout.outgoing().join(bundle.as_str());
        let failed = |source| StagingError::Io { path: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let create =
            |name: &str| File::options().read(true).write(true).create(true).truncate(true).open(dir.join(name));
        let (body, lines) = (create("body").map_err(failed)?, create("lines.jsonl").map_err(failed)?);
        let (body, lines) = (BufWriter::with_capacity(1 << 20, body), BufWriter::new(lines));
        Ok(Staging { dir, body, lines, largest: 0, carried: 0 })
    }

    /// Adds a line without bytes.
    pub fn note(&mut self, line: Line) -> Result<(), StagingError> {
        self.push(&Staged { line, place: None })
    }

    /// Adds a piece; where it lies in its volume is found later.
    pub fn piece(&mut self, mut line: Line, bytes: &[u8]) -> Result<(), StagingError> {
        self.measure(&mut line, bytes.len() as u64);
        self.body.write_all(bytes).map_err(|source| failed(&self.dir, source))?;
        self.push(&Staged { line, place: None })
    }

    /// Adds a crate file that travels as it lies in its pack.
    pub fn crate_file(&mut self, mut line: Line, place: Place) -> Result<(), StagingError> {
        self.measure(&mut line, place.length);
        self.push(&Staged { line, place: Some((place.pack, place.offset, place.length)) })
    }

    fn measure(&mut self, line: &mut Line, length: u64) {
        if let Some(piece) = line.piece_mut() {
            *piece = Piece { offset: 0, length };
        }
        self.carried += length;
        self.largest = self.largest.max(frame_of(0) + member_size(length) + line.length());
    }

    fn push(&mut self, staged: &Staged) -> Result<(), StagingError> {
        let wrote = serde_json::to_writer(&mut self.lines, staged).map_err(io::Error::from);
        wrote.and_then(|()| self.lines.write_all(b"\n")).map_err(|source| failed(&self.dir, source))
    }

    /// How many bytes of pieces there are.
    pub fn carried(&self) -> u64 {
        self.carried
    }

    /// Cuts the volumes: as few as fit into `size` bytes each, and as even as the pieces allow.
    pub fn cut(mut self, bundle: BundleId, size: u64) -> Result<Cut, StagingError> {
        let io = |source| failed(&self.dir, source);
        self.body.flush().map_err(io)?;
        self.lines.flush().map_err(io)?;
        let room = |of: u32| frame_of(0) + Line::Volume { bundle: bundle.clone(), number: of }.length() + 4096;
        let needs = self.largest + room(1);
        if needs > size {
            return Err(StagingError::TooSmall { size, needs });
        }
        let mut weights = Vec::new();
        each_line(&self.dir, |staged| {
            weights.push(weight(&staged.line));
            Ok(())
        })?;
        let counts = spread(&weights, size - room(1));
        let Staging { dir, body, lines, .. } = self;
        drop((body, lines));
        let open = |name: &str| File::open(dir.join(name)).map_err(|source| failed(&dir, source));
        let lines = [BufReader::new(open("lines.jsonl")?), BufReader::new(open("lines.jsonl")?)];
        let body = open("body")?;
        let [table, pieces] = lines;
        Ok(Cut { bundle, counts, next: 0, table, pieces, body, dir })
    }
}

/// How many of these weights come into each volume: as few volumes as hold them in their order, and as even as it goes.
fn spread(weights: &[u64], capacity: u64) -> Vec<u64> {
    let total: u64 = weights.iter().sum();
    let mut volumes = total.div_ceil(capacity).max(1);
    loop {
        let counts = fill(weights, capacity, volumes, total.div_ceil(volumes));
        if counts.len() as u64 <= volumes {
            return counts;
        }
        volumes += 1;
    }
}

/// Fills volumes up to `even`, or beyond it where that is nearer, but not beyond `capacity`; the last one takes what is left.
fn fill(weights: &[u64], capacity: u64, volumes: u64, even: u64) -> Vec<u64> {
    let (mut counts, mut filled, mut count) = (Vec::new(), 0, 0);
    for &weight in weights {
        let after = filled + weight;
        let is_last = counts.len() as u64 + 1 >= volumes;
        let is_nearer_without = !is_last && after > even && after - even > even.saturating_sub(filled);
        if count > 0 && (after > capacity || is_nearer_without) {
            counts.push(std::mem::take(&mut count));
            filled = 0;
        }
        (filled, count) = (filled + weight, count + 1);
    }
    counts.push(count);
    counts
}

/// What a line and its bytes take in a volume, at most: tables are compressed.
fn weight(line: &Line) -> u64 {
    line.length() + line.piece().map_or(0, |piece| member_size(piece.length))
}

fn failed(dir: &Path, source: io::Error) -> StagingError {
    StagingError::Io { path: dir.to_owned(), source }
}

fn each_line(dir: &Path, mut take: impl FnMut(Staged) -> Result<(), StagingError>) -> Result<(), StagingError> {
    let file = File::open(dir.join("lines.jsonl")).map_err(|source| failed(dir, source))?;
    let mut lines = BufReader::new(file);
    while let Some(staged) = next_line(&mut lines).map_err(|source| failed(dir, source))? {
        take(staged)?;
    }
    Ok(())
}

fn next_line(lines: &mut BufReader<File>) -> io::Result<Option<Staged>> {
    let mut line = Vec::new();
    if lines.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// A bundle whose volumes are to be written, one after the other.
#[derive(Debug)]
pub struct Cut {
    bundle: BundleId,
    counts: Vec<u64>,
    next: usize,
    table: BufReader<File>,
    pieces: BufReader<File>,
    body: File,
    dir: PathBuf,
}

impl Cut {
    /// How many volumes there are.
    pub fn volumes(&self) -> u32 {
        self.counts.len() as u32
    }

    /// Writes the next volume. None if there are no more.
    pub fn write<W: io::Write>(
        &mut self,
        packs: &PackReader,
        out: W,
    ) -> Result<Option<(W, VolumeSummary)>, StagingError> {
        let Some(&count) = self.counts.get(self.next) else { return Ok(None) };
        self.next += 1;
        let number = self.next as u32;
        self.write_volume(packs, out, number, count).map(Some).map_err(|source| StagingError::Volume { number, source })
    }

    fn write_volume<W: io::Write>(
        &mut self,
        packs: &PackReader,
        out: W,
        number: u32,
        count: u64,
    ) -> io::Result<(W, VolumeSummary)> {
        let mut table = ContentsBuilder::new()?;
        table.push(&Line::Volume { bundle: self.bundle.clone(), number })?;
        let mut offset = 0;
        for _ in 0..count {
            let mut staged = next_line(&mut self.table)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            place(&mut staged.line, &mut offset);
            table.push(&staged.line)?;
        }
        let mut volume = VolumeWriter::begin(out, &table.finish()?)?;
        for _ in 0..count {
            let staged = next_line(&mut self.pieces)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match staged.place {
                Some((pack, offset, length)) => {
                    let reader = packs.reader(Place { pack, offset, length });
                    let mut proving = Proving { reader, hasher: sha2::Sha256::new() };
                    volume.member(&staged.line, &mut proving)?;
                    proving.prove(staged.line.fallback())?;
                }
                None => volume.member(&staged.line, &mut self.body)?,
            }
        }
        volume.finish()
    }

    /// Removes what was staged.
    pub fn remove(self) -> Result<(), StagingError> {
        let Cut { dir, body, table, pieces, .. } = self;
        drop((body, table, pieces));
        std::fs::remove_dir_all(&dir).map_err(|source| failed(&dir, source))
    }
}

/// Hashes what passes through, since packs are not proven as they are read.
struct Proving<R> {
    reader: R,
    hasher: sha2::Sha256,
}

impl<R: Read> Read for Proving<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R> Proving<R> {
    fn prove(self, promised: Sha256) -> io::Result<()> {
        let found = Sha256(self.hasher.finalize().into());
        if found == promised {
            return Ok(());
        }
        let problem = format!("a crate file has SHA-256 {found}, should have {promised}; run `crateferry verify`");
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }
}

/// Gives a piece its place in its volume.
fn place(line: &mut Line, end: &mut u64) {
    let Some(piece) = line.piece_mut() else { return };
    piece.offset = *end + crate::pack::BLOCK;
    *end += member_size(piece.length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_few_and_even() {
        assert_eq!(spread(&[], 10), [0]);
        assert_eq!(spread(&[10], 10), [1]);
        assert_eq!(spread(&[1; 12], 5), [4, 4, 4]);
        assert_eq!(spread(&[6, 6, 6, 6], 10), [1, 1, 1, 1]);
        assert_eq!(spread(&[3, 3, 3, 3, 3], 9), [3, 2]);
        assert_eq!(spread(&[41, 41, 41, 41, 2, 1], 100), [2, 4]);
        for seed in 0..200 {
            let mut rng = seed;
            let mut next = |below: u64| {
                rng = (rng * 6_364_136_223_846_793_005u128 + 1_442_695_040_888_963_407) % (1 << 64);
                (rng >> 33) as u64 % below
            };
            let weights: Vec<u64> = (0..next(60)).map(|_| 1 + next(100)).collect();
            let counts = spread(&weights, 100);
            assert_eq!(counts.iter().sum::<u64>(), weights.len() as u64);
            let mut rest = weights.as_slice();
            for count in counts {
                let (volume, after) = rest.split_at(count as usize);
                assert!(volume.iter().sum::<u64>() <= 100);
                rest = after;
            }
        }
    }
}
