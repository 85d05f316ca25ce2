//! Reading a volume once, from its beginning to its end: each object compared with what the signed manifest promises of it.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use crateferry_store::bundle::{Carried, Document, InboxError, Line, VolumeError, VolumeReader};
use crateferry_store::{
    AdvisoryDb, Blake3, Body, BodyBuilder, BodyError, Facts, LedgerError, ReadError, Release, ReleaseId, ReleaseRef,
    Sha256, VerifiedBytes, WriteError,
};
use rayon::prelude::*;

use super::memory::Memory;
use crate::reflate::{Base, Frame, FrameError, Member};

/// A frame's compressed bytes.
const LONGEST_FRAME: u64 = 192 << 20;

/// A piece of texts or facts, compressed or not.
pub const LONGEST_TEXTS: u64 = 64 << 20;

/// A volume that was not taken in as a whole.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The volume is damaged where nothing behind it can be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The ledger cannot be read.
    #[error("cannot read what is held")]
    Ledger(#[from] LedgerError),
    /// The packs or the ledger cannot be written.
    #[error("cannot store what the volume holds")]
    Write(#[from] WriteError),
    /// A large crate file cannot be kept on its way.
    #[error("cannot take in a large crate file")]
    Body(#[from] BodyError),
    /// A held crate file cannot be read.
    #[error("cannot read the crate file that a frame builds upon")]
    Read(#[from] ReadError),
    /// What is known of the bundle cannot be kept or read.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// Files cannot be written.
    #[error("cannot write {what}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Something of a volume that is not what the manifest promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// From which byte of the volume's body.
    pub offset: u64,
    /// What: the releases or files.
    pub what: String,
    /// What is wrong.
    pub problem: String,
}

/// What came of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Crate files given to the receiver.
    pub releases: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Crate files that were held before.
    pub there: u64,
    /// What could not be taken because it is damaged.
    pub damaged: Vec<Damage>,
    /// Crate files that are not held, and that others in the volume build upon.
    pub bases: Vec<ReleaseId>,
    /// Frames that were put aside until what they build upon is there.
    pub waiting: u64,
}

impl Taken {
    /// Nothing of the volume is lacking.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.bases.is_empty()
    }

    /// Counts another volume to this one.
    pub fn add(&mut self, other: Taken) {
        self.releases += other.releases;
        self.bytes += other.bytes;
        self.there += other.there;
        self.damaged.extend(other.damaged);
        self.bases.extend(other.bases);
        self.waiting += other.waiting;
    }
}

/// Who gets what a volume holds.
pub trait Receiver {
    /// Whether a crate file is there already, and need not come.
    fn holds(&mut self, release: &Release) -> Result<bool, TakeError>;

    /// The content of a crate file that others build upon. None if it is not there.
    fn base(&mut self, release: &Release) -> Result<Option<Vec<u8>>, TakeError>;

    /// Keeps a frame until what it builds upon is there; says whether it did.
    fn put_aside(&mut self, blake3: Blake3, frame: &[u8]) -> Result<bool, TakeError>;

    /// Begins a crate file of so many bytes.
    fn begin(&mut self, length: u64) -> Result<BodyBuilder, BodyError>;

    /// Takes a crate file that has its checksum.
    fn crate_file(&mut self, release: &Release, bytes: VerifiedBytes) -> Result<(), TakeError>;

    /// Takes an index file that has its digests.
    fn text(&mut self, document: &Document, text: &[u8]) -> Result<(), TakeError>;

    /// Takes facts.
    fn facts(&mut self, release: &Release, facts: &Facts) -> Result<(), TakeError>;

    /// Takes the archive of an advisory database that has its checksum.
    fn advisories(&mut self, database: &AdvisoryDb, archive: Vec<u8>) -> Result<(), TakeError>;
}

/// Reads volumes.
pub struct Unpacking<'a> {
    /// How much memory may be used.
    pub memory: Memory,
    /// Counts bytes of pieces that were read.
    pub done: &'a AtomicU64,
    /// Asks to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Unpacking<'_> {
    /// Reads a volume and gives what is right of it to the receiver.
    pub fn volume<R: Read>(&self, volume: VolumeReader<R>, receiver: &mut dyn Receiver) -> Result<Taken, TakeError> {
        let mut unpack = Unpack { unpacking: self, receiver, taken: Taken::default() };
        unpack.volume(volume)?;
        Ok(unpack.taken)
    }

    /// Reads a frame that was put aside.
    pub fn frame(&self, line: &Line, bytes: &[u8], receiver: &mut dyn Receiver) -> Result<Taken, TakeError> {
        let mut unpack = Unpack { unpacking: self, receiver, taken: Taken::default() };
        match line {
            Line::Frame { piece, blake3, base, crates } if Blake3::of(bytes) == *blake3 => {
                unpack.frame(bytes, piece.offset, base.as_ref(), crates)?;
            }
            line => unpack.damaged(0, describe(line), "what was put aside of it is damaged"),
        }
        Ok(unpack.taken)
    }
}

struct Unpack<'a> {
    unpacking: &'a Unpacking<'a>,
    receiver: &'a mut dyn Receiver,
    taken: Taken,
}

/// What was made of a crate file in a frame.
type Rebuilt = Result<VerifiedBytes, String>;

impl Unpack<'_> {
    fn volume<R: Read>(&mut self, mut volume: VolumeReader<R>) -> Result<(), TakeError> {
        for line in volume.lines()? {
            if (self.unpacking.stop)() {
                return Err(TakeError::Interrupted);
            }
            let line = line.map_err(VolumeError::Table)?;
            match &line {
                Line::Crate { piece, release } => {
                    let release = Release::from(release.clone());
                    self.crate_file(&mut volume, &line, piece.length, &release)?;
                }
                Line::Frame { piece, base, crates, blake3 } => {
                    if let Some(bytes) = self.piece(
                        &mut volume,
                        &line,
                        piece.length.min(LONGEST_FRAME.min(self.unpacking.memory.share() / 2)),
                    )? {
                        let taken_before = self.taken.bases.len();
                        self.frame(&bytes, piece.offset, base.as_ref(), crates)?;
                        let lacks_base = self.taken.bases.len() > taken_before;
                        if lacks_base && self.receiver.put_aside(*blake3, &bytes)? {
                            self.taken.bases.truncate(taken_before);
                            self.taken.waiting += 1;
                        }
                    }
                }
                Line::Texts { piece, texts, .. } => {
                    if let Some(bytes) = self.piece(&mut volume, &line, piece.length.min(LONGEST_TEXTS))? {
                        self.texts(&bytes, piece.offset, texts)?;
                    }
                }
                Line::Facts { piece, releases, lengths, .. } => {
                    if let Some(bytes) = self.piece(&mut volume, &line, piece.length.min(LONGEST_TEXTS))? {
                        self.facts(&bytes, piece.offset, releases, lengths)?;
                    }
                }
                Line::Advisories { piece, database, .. } => {
                    if let Some(bytes) = self.piece(&mut volume, &line, piece.length.min(LONGEST_TEXTS))? {
                        if Sha256::of(&bytes) == database.sha256 {
                            self.receiver.advisories(database, bytes)?;
                        } else {
                            self.damaged(piece.offset, describe(&line), "its SHA-256 is another");
                        }
                    }
                }
                Line::Volume { .. } | Line::Removed { .. } | Line::Withdrawn { .. } | Line::Hole { .. } => {}
            }
            if let Some(piece) = line.piece() {
                self.unpacking.done.fetch_add(piece.length, Ordering::Relaxed);
            }
        }
        match volume.finish() {
            // What has no digest of its own in the table is not worth a second look, but the volume is not what it should be.
            Err(error @ (VolumeError::Digest { .. } | VolumeError::Layout { .. })) if self.taken.damaged.is_empty() => {
                Err(error.into())
            }
            Err(VolumeError::Digest { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    fn damaged(&mut self, offset: u64, what: impl Into<String>, problem: impl std::fmt::Display) {
        self.taken.damaged.push(Damage { offset, what: what.into(), problem: problem.to_string() });
    }

    /// Reads a piece into memory and compares it with its digest. None if it is damaged.
    fn piece<R: Read>(
        &mut self,
        volume: &mut VolumeReader<R>,
        line: &Line,
        longest: u64,
    ) -> Result<Option<Vec<u8>>, TakeError> {
        let mut bytes = Vec::new();
        let read = volume.member(line, |chunk| {
            if (bytes.len() as u64) < longest {
                bytes.extend_from_slice(chunk);
            }
        });
        let offset = line.piece().map_or(0, |piece| piece.offset);
        match read {
            Err(VolumeError::Layout { what, .. }) => {
                self.damaged(offset, describe(line), format!("{what} is not as it should be"));
            }
            other => {
                other?;
                let found = Blake3::of(&bytes);
                if line.blake3() == Some(found) {
                    return Ok(Some(bytes));
                }
                self.damaged(offset, describe(line), format!("BLAKE3 is {found}"));
            }
        }
        Ok(None)
    }

    fn crate_file<R: Read>(
        &mut self,
        volume: &mut VolumeReader<R>,
        line: &Line,
        length: u64,
        release: &Release,
    ) -> Result<(), TakeError> {
        let is_held = self.receiver.holds(release)?;
        let mut body = self.receiver.begin(if is_held { 0 } else { length })?;
        let mut failed = Ok(());
        let read = volume.member(line, |chunk| {
            if !is_held && failed.is_ok() {
                failed = body.push(chunk);
            }
        });
        failed?;
        let offset = line.piece().map_or(0, |piece| piece.offset);
        match read {
            Err(VolumeError::Layout { what, .. }) => {
                self.damaged(offset, release.id.to_string(), format!("{what} is not as it should be"));
                return Ok(());
            }
            other => other?,
        }
        if is_held {
            self.taken.there += 1;
            return Ok(());
        }
        match body.finish(None).prove(release.checksum) {
            Ok(bytes) => self.store(release, bytes),
            Err(mismatch) => {
                let problem = format!("SHA-256 is {}, should be {}", mismatch.computed, mismatch.promised);
                self.damaged(offset, release.id.to_string(), problem);
                Ok(())
            }
        }
    }

    fn store(&mut self, release: &Release, bytes: VerifiedBytes) -> Result<(), TakeError> {
        self.taken.releases += 1;
        self.taken.bytes += bytes.length();
        self.receiver.crate_file(release, bytes)
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        offset: u64,
        base: Option<&ReleaseRef>,
        crates: &[Carried],
    ) -> Result<(), TakeError> {
        let releases: Vec<Release> = crates.iter().map(release_of).collect();
        let mut held = Vec::with_capacity(releases.len());
        for release in &releases {
            held.push(self.receiver.holds(release)?);
        }
        self.taken.there += held.iter().filter(|held| **held).count() as u64;
        if held.iter().all(|held| *held) {
            return Ok(());
        }
        let what = || {
            crates.iter().map(|Carried(name, version, ..)| format!("{name}@{version}")).collect::<Vec<_>>().join(" ")
        };
        let base = match base.cloned().map(Release::from) {
            None => None,
            Some(base) => {
                let Some(content) = self.receiver.base(&base)? else {
                    self.taken.bases.push(base.id);
                    return Ok(());
                };
                Some((base.checksum, content))
            }
        };
        match self.members((bytes, offset), base, &releases, &held)? {
            Ok(()) => {}
            Err(problem) => self.damaged(offset, what(), problem),
        }
        Ok(())
    }

    /// Makes the crate files of a frame that are not held, and gives them to the receiver: so many at once as there is memory for.
    fn members(
        &mut self,
        (bytes, offset): (&[u8], u64),
        base: Option<(Sha256, Vec<u8>)>,
        releases: &[Release],
        held: &[bool],
    ) -> Result<Result<(), FrameError>, TakeError> {
        let of_base = base.as_ref().map_or(0, |(_, content)| content.len());
        let memory = self.unpacking.memory.share().saturating_sub((bytes.len() + of_base) as u64);
        let unpacked = Frame::read(bytes, memory).and_then(|frame| {
            if !frame.members().iter().map(|member| &member.release).eq(releases) {
                return Err(FrameError::Damaged("its members are not those that the table of contents names"));
            }
            let given = base.as_ref().map(|(checksum, content)| Base { checksum: *checksum, content });
            let contents = frame.contents(given)?;
            Ok((frame, contents))
        });
        let (frame, contents) = match unpacked {
            Ok(unpacked) => unpacked,
            Err(problem) => return Ok(Err(problem)),
        };
        drop(base);
        let parts: Vec<&[u8]> = contents.iter().collect();
        let room = memory.saturating_sub(parts.iter().map(|part| part.len() as u64).sum());
        let (mut group, mut bytes) = (Vec::new(), 0);
        let members = frame.members().iter().zip(parts).zip(held).filter(|(_, held)| !**held);
        for ((member, part), _) in members {
            if !group.is_empty() && member.length.saturating_add(bytes) > room {
                self.rebuilt(std::mem::take(&mut group), offset)?;
                bytes = 0;
            }
            bytes = member.length.saturating_add(bytes);
            group.push((member, part));
        }
        self.rebuilt(group, offset).map(Ok)
    }

    fn rebuilt(&mut self, group: Vec<(&Member, &[u8])>, offset: u64) -> Result<(), TakeError> {
        let rebuilt: Vec<_> = group.par_iter().map(|(member, part)| rebuild(member, part)).collect();
        for ((member, _), rebuilt) in group.into_iter().zip(rebuilt) {
            match rebuilt {
                Ok(bytes) => self.store(&member.release, bytes)?,
                Err(problem) => self.damaged(offset, member.release.id.to_string(), problem),
            }
        }
        Ok(())
    }

    fn texts(&mut self, packed: &[u8], offset: u64, texts: &[Document]) -> Result<(), TakeError> {
        let parts = match texts_in(packed, texts) {
            Ok(parts) => parts,
            Err(problem) => {
                let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
                self.damaged(offset, names.join(" "), problem);
                return Ok(());
            }
        };
        for (document, part) in texts.iter().zip(parts) {
            match part {
                Some(part) => self.receiver.text(document, &part)?,
                None => self.damaged(offset, document.name.to_string(), "its digest is another"),
            }
        }
        Ok(())
    }

    fn facts(&mut self, packed: &[u8], offset: u64, releases: &[ReleaseRef], lengths: &[u64]) -> Result<(), TakeError> {
        let parts = match facts_in(packed, releases, lengths) {
            Ok(parts) => parts,
            Err(problem) => {
                self.damaged(offset, "facts", problem);
                return Ok(());
            }
        };
        for (release, facts) in releases.iter().zip(parts) {
            if let Some(facts) = facts {
                self.receiver.facts(&release.clone().into(), &facts)?;
            }
        }
        Ok(())
    }
}

/// The index files in a piece of them, in its order. None for one whose digest is another.
pub fn texts_in(packed: &[u8], texts: &[Document]) -> Result<Vec<Option<Vec<u8>>>, String> {
    let parts = unpack(packed, texts.iter().map(|text| text.length))?;
    let is_right = |document: &Document, part: &[u8]| {
        Sha256::of(part) == document.text.sha256 && Blake3::of(part) == document.text.blake3
    };
    Ok(texts.iter().zip(parts).map(|(document, part)| is_right(document, &part).then_some(part)).collect())
}

/// The facts in a piece of them, in the order of its releases. What is not as expected is left out, since it can be read again from
/// the crate file.
pub fn facts_in(packed: &[u8], releases: &[ReleaseRef], lengths: &[u64]) -> Result<Vec<Option<Facts>>, String> {
    let parts = unpack(packed, lengths.iter().copied())?;
    if parts.len() != releases.len() {
        return Err("there are more or fewer than releases".to_owned());
    }
    Ok(parts.iter().map(|part| serde_json::from_slice(part).ok()).collect())
}

fn release_of(Carried(name, version, checksum, _): &Carried) -> Release {
    Release { id: ReleaseId { name: name.clone(), version: version.clone() }, checksum: *checksum }
}

/// What a piece holds, in short.
fn describe(line: &Line) -> String {
    match line {
        Line::Frame { crates, .. } => {
            crates.iter().map(|Carried(name, version, ..)| format!("{name}@{version}")).collect::<Vec<_>>().join(" ")
        }
        Line::Texts { texts, .. } => {
            let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
            format!("index files of {}", names.join(" "))
        }
        Line::Advisories { .. } => "the advisory database".to_owned(),
        _ => "facts".to_owned(),
    }
}

/// Makes a crate file of its content, and compares it with its checksum.
fn rebuild(member: &Member, content: &[u8]) -> Rebuilt {
    let bytes = member.rebuild(content).map_err(|error| error.to_string())?;
    let proven = Body::in_memory(bytes, None).prove(member.release.checksum);
    proven.map_err(|mismatch| format!("SHA-256 is {}, should be {}", mismatch.computed, mismatch.promised))
}

/// Unpacks texts that lie one after the other.
fn unpack(packed: &[u8], lengths: impl Iterator<Item = u64> + Clone) -> Result<Vec<Vec<u8>>, String> {
    let total = lengths.clone().fold(0u64, u64::saturating_add);
    let capacity = usize::try_from(total).ok().filter(|_| total <= LONGEST_TEXTS);
    let capacity = capacity.ok_or_else(|| format!("it unpacks to {total} bytes, and {LONGEST_TEXTS} are allowed"))?;
    let all = zstd::bulk::decompress(packed, capacity).map_err(|error| error.to_string())?;
    if all.len() != capacity {
        return Err(format!("it unpacks to {} bytes, should be {capacity}", all.len()));
    }
    let mut rest = all.as_slice();
    let cut = lengths.map(|length| {
        let (part, after) = rest.split_at(length as usize);
        rest = after;
        part.to_vec()
    });
    Ok(cut.collect())
}
