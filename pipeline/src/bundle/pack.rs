//! From the plan of a bundle to its pieces.
//!
//! What goes into a frame depends on the order of crates and versions and on lengths alone, so that the same plan gives the same
//! frames on any machine. A crate of which the receiver holds a version gets frames of its own against that version; all other crates
//! follow each other in solid frames.

use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};

use crateferry_store::bundle::{
    Carried, Change, Document, Held, Line, New, Piece, Plan, PlanError, Staging, StagingError, Totals,
};
use crateferry_store::{
    Blake3, LedgerError, LedgerReader, PackReader, Place, ReadError, Release, ReleaseId, Sha256, State,
};
use rayon::prelude::*;

use super::memory::{Memory, announced_content, zstd_memory};
use crate::reflate::{Apart, Base, Encoders, FrameBuilder, FrameError, Level, Recipe, take_apart_within};

/// A frame has at most so much content.
const FULL: usize = 64 << 20;

/// So many versions of a crate are kept together beyond that, up to twice as much, so that they have something to share.
const TOGETHER: usize = 4;

/// A larger crate file, or one with more content, travels as it is.
const LARGEST: u64 = 32 << 20;
const LARGEST_CONTENT: usize = 96 << 20;

/// Bytes of crate files that are taken apart together.
const BATCH: u64 = 8 << 20;

/// Bytes of texts and facts in one piece.
const TEXTS: u64 = 16 << 20;

/// How a bundle's crate files travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompression {
    /// As they are.
    None,
    /// zstd's level 12.
    Fast,
    /// zstd's level 19.
    Max,
}

impl Recompression {
    fn frames(self) -> Option<Level> {
        match self {
            Recompression::None => None,
            Recompression::Fast => Some(Level::Fast),
            Recompression::Max => Some(Level::Max),
        }
    }

    fn texts(self) -> i32 {
        if self == Recompression::Max { 19 } else { 12 }
    }
}

/// A bundle that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It cannot be staged.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// What it needs cannot be read.
    #[error("cannot read {id}")]
    Read {
        /// Of which release.
        id: Box<ReleaseId>,
        /// Why.
        source: ReadError,
    },
    /// A crate file is not what it was.
    #[error("the crate file of {id} has SHA-256 {found}, should have {promised}; run `crateferry verify`")]
    Damaged {
        /// Which.
        id: Box<ReleaseId>,
        /// What it has.
        found: Sha256,
        /// What it should have.
        promised: Sha256,
    },
    /// The advisory database is not held.
    #[error("the advisory database is not held; run `crateferry rebuild`")]
    NoAdvisories,
    /// The advisory database cannot be read.
    #[error("cannot read the advisory database")]
    Advisories(#[source] ReadError),
    /// A frame cannot be written.
    #[error("cannot recompress crate files")]
    Frame(#[from] FrameError),
    /// Texts cannot be compressed.
    #[error("cannot compress texts")]
    Texts(#[source] std::io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<LedgerError> for PackError {
    fn from(error: LedgerError) -> Self {
        PackError::Plan(error.into())
    }
}

/// What a bundle is made from.
pub struct Packing<'a> {
    /// What is known.
    pub ledger: &'a LedgerReader,
    /// The bytes.
    pub packs: &'a PackReader,
    /// What is to be carried.
    pub plan: &'a Plan,
    /// How.
    pub recompression: Recompression,
    /// How much memory may be used.
    pub memory: Memory,
    /// The most bytes of a volume: pieces are made so that they fit, several into each.
    pub volume_size: u64,
    /// Counts bytes of crate files that were dealt with.
    pub done: &'a AtomicU64,
    /// Asks to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// What was staged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Staged {
    /// What the bundle carries.
    pub totals: Totals,
    /// The encoders that its receiver needs.
    pub encoders: Encoders,
}

/// What was made of one crate file.
enum Ready {
    Apart(New, Box<Apart>),
    /// It travels as it is.
    Raw(New),
}

/// A frame that is being filled.
#[derive(Default)]
struct Filling {
    builder: FrameBuilder,
    crates: Vec<Carried>,
    /// What comes behind it as it is.
    raw: Vec<New>,
}

/// Crates whose frames are made at once.
#[derive(Default)]
struct Batch {
    work: Vec<(Change, Held)>,
    /// Bytes of their crate files.
    bytes: u64,
    /// What they take in memory.
    cost: u64,
}

/// A frame that was compressed.
struct Made {
    bytes: Vec<u8>,
    crates: Vec<Carried>,
    base: Option<Release>,
    encoders: Encoders,
}

impl Packing<'_> {
    /// Stages all that the bundle carries.
    pub fn run(&self, staging: &mut Staging) -> Result<Staged, PackError> {
        let mut staged = Staged::default();
        match self.recompression.frames() {
            Some(level) => {
                self.against_bases(level, staging, &mut staged)?;
                self.solid(level, staging, &mut staged)?;
            }
            None => self.as_they_are(staging, &mut staged)?,
        }
        self.texts(staging, &mut staged)?;
        self.facts(staging)?;
        self.advisories(staging)?;
        self.holes(staging)?;
        staged.totals.carried = staging.carried();
        Ok(staged)
    }

    fn advisories(&self, staging: &mut Staging) -> Result<(), PackError> {
        let Some(database) = self.plan.advisories().cloned() else { return Ok(()) };
        let place = self.ledger.advisories(&database.sha256)?.ok_or(PackError::NoAdvisories)?;
        let archive = self.packs.advisories(place, database.sha256).map_err(PackError::Advisories)?;
        let line = Line::Advisories { piece: NOWHERE, blake3: Blake3::of(&archive), database };
        Ok(staging.piece(line, &archive)?)
    }

    /// How much content a frame may have.
    fn full(&self) -> usize {
        usize::try_from(self.volume_size / 2).unwrap_or(usize::MAX).min(FULL)
    }

    fn texts_together(&self) -> u64 {
        (self.volume_size / 4).min(TEXTS)
    }

    fn each(&self, mut take: impl FnMut(Change) -> Result<(), PackError>) -> Result<(), PackError> {
        self.plan.each(self.ledger, self.packs, |change| {
            if (self.stop)() {
                return Err(PackError::Interrupted);
            }
            take(change)
        })
    }

    fn as_they_are(&self, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        self.each(|change| change.new.into_iter().try_for_each(|new| self.raw(new, staging, staged)))
    }

    /// Stages a crate file as it is.
    fn raw(&self, new: New, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        staged.totals.releases += 1;
        staged.totals.bytes += new.place.length;
        staged.totals.raw += 1;
        self.done.fetch_add(new.place.length, Ordering::Relaxed);
        Ok(staging.crate_file(Line::Crate { piece: NOWHERE, release: new.release.into() }, new.place)?)
    }

    /// The crates of which the receiver holds a version.
    fn against_bases(&self, level: Level, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        let mut batch = Batch::default();
        self.each(|change| {
            let Some(base) = self.base_of(&change)? else { return Ok(()) };
            let bytes = change.new.iter().map(|new| new.place.length).sum::<u64>() + base.place.length;
            let cost = self.cost_against(level, &change, &base)?;
            if batch.bytes > 0 && (batch.bytes + bytes > BATCH || batch.cost + cost > self.memory.share()) {
                self.based_batch(level, std::mem::take(&mut batch), staging, staged)?;
            }
            batch.bytes += bytes;
            batch.cost += cost;
            batch.work.push((change, base));
            Ok(())
        })?;
        self.based_batch(level, batch, staging, staged)
    }

    /// What the frames of a crate take in memory: the base, the contents of one of them and what it is written into, the
    /// content that comes next, and those that are written.
    fn cost_against(&self, level: Level, change: &Change, base: &Held) -> Result<u64, PackError> {
        let (mut contents, mut largest, mut written) = (0, 0, 0);
        for new in &change.new {
            let content = self.content_of(&new.release, new.place)?.unwrap_or(0);
            contents += content;
            largest = largest.max(content + new.place.length.min(LARGEST));
            written += new.place.length.min(LARGEST);
        }
        let base = base.place.length + self.content_of(&base.release, base.place)?.unwrap_or(0);
        let frame = contents.min(2 * FULL as u64);
        Ok(base + frame + written + largest + zstd_memory(level, frame + base))
    }

    /// The length of a crate file's content, as far as it is going to be taken apart.
    fn content_of(&self, release: &Release, place: Place) -> Result<Option<u64>, PackError> {
        let announced = announced_content(self.packs, place)
            .map_err(|source| PackError::Read { id: Box::new(release.id.clone()), source })?;
        Ok(Some(announced).filter(|content| place.length <= LARGEST && *content <= LARGEST_CONTENT as u64))
    }

    /// The version that the receiver holds and that is nearest below the first it lacks; else the last that it holds.
    fn base_of(&self, change: &Change) -> Result<Option<Held>, PackError> {
        let Some(base) = base_of(change) else { return Ok(None) };
        Ok(self.content_of(&base.release, base.place)?.map(|_| base))
    }

    fn based_batch(
        &self,
        level: Level,
        batch: Batch,
        staging: &mut Staging,
        staged: &mut Staged,
    ) -> Result<(), PackError> {
        let made = batch.work.into_par_iter().map(|(change, base)| self.based(level, change, &base));
        for (frames, raw) in made.collect::<Result<Vec<_>, PackError>>()? {
            frames.into_iter().try_for_each(|made| self.stage_frame(made, staging, staged))?;
            raw.into_iter().try_for_each(|new| self.raw(new, staging, staged))?;
        }
        Ok(())
    }

    /// The frames of one crate against a version that the receiver holds.
    fn based(&self, level: Level, change: Change, base: &Held) -> Result<(Vec<Made>, Vec<New>), PackError> {
        let content = self.take_apart(&base.release, base.place)?.content;
        let given = Some((&base.release, content.as_slice()));
        let (mut filling, mut frames, mut raw) = (Filling::default(), Vec::new(), Vec::new());
        for new in change.new {
            match self.ready(new)? {
                Ready::Apart(new, apart) => {
                    if !filling.takes(&new, &apart, self.full()) {
                        frames.push(std::mem::take(&mut filling).finish(level, given)?);
                    }
                    filling.push(new, *apart);
                }
                Ready::Raw(new) => raw.push(new),
            }
        }
        if !filling.crates.is_empty() {
            frames.push(filling.finish(level, given)?);
        }
        Ok((frames, raw))
    }

    /// All other crates: while one frame is compressed, the next crate files are taken apart.
    fn solid(&self, level: Level, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        let mut solid = Solid { packing: self, level, filling: Filling::default(), full: None, staging, staged };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        self.each(|change| {
            if self.base_of(&change)?.is_some() {
                return Ok(());
            }
            for new in change.new {
                bytes += new.place.length.min(LARGEST);
                batch.push(new);
                if bytes >= BATCH {
                    bytes = 0;
                    solid.take(std::mem::take(&mut batch))?;
                }
            }
            Ok(())
        })?;
        solid.take(batch)?;
        solid.finish()
    }

    fn ready(&self, new: New) -> Result<Ready, PackError> {
        if new.place.length > LARGEST {
            return Ok(Ready::Raw(new));
        }
        let apart = self.take_apart(&new.release, new.place)?;
        let stays = apart.recipe == Recipe::Raw || apart.content.len() > LARGEST_CONTENT;
        Ok(if stays { Ready::Raw(new) } else { Ready::Apart(new, Box::new(apart)) })
    }

    fn take_apart(&self, release: &Release, place: Place) -> Result<Apart, PackError> {
        let bytes = self.packs.read(place);
        let bytes = bytes.map_err(|source| PackError::Read { id: Box::new(release.id.clone()), source })?;
        let (found, promised) = (Sha256::of(&bytes), release.checksum);
        if found != promised {
            return Err(PackError::Damaged { id: Box::new(release.id.clone()), found, promised });
        }
        Ok(take_apart_within(&bytes, LARGEST_CONTENT))
    }

    fn stage_frame(&self, made: Made, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        let bytes = made.crates.iter().map(|Carried(.., length)| length).sum();
        staged.encoders.add(made.encoders);
        staged.totals.releases += made.crates.len() as u64;
        staged.totals.bytes += bytes;
        self.done.fetch_add(bytes, Ordering::Relaxed);
        let (blake3, base) = (Blake3::of(&made.bytes), made.base.map(Into::into));
        let line = Line::Frame { piece: NOWHERE, blake3, base, crates: made.crates };
        Ok(staging.piece(line, &made.bytes)?)
    }

    fn texts(&self, staging: &mut Staging, staged: &mut Staged) -> Result<(), PackError> {
        let (mut bytes, mut texts) = (Vec::new(), Vec::new());
        let end = |bytes: &mut Vec<u8>, texts: &mut Vec<Document>, staging: &mut Staging| {
            if texts.is_empty() {
                return Ok(());
            }
            let packed = self.compress(&std::mem::take(bytes))?;
            let line = Line::Texts { piece: NOWHERE, blake3: Blake3::of(&packed), texts: std::mem::take(texts) };
            Ok(staging.piece(line, &packed)?)
        };
        self.each(|Change { name, text, withdrawn, .. }| {
            for (release, at, cause) in withdrawn {
                staging.note(Line::Withdrawn { release: release.into(), at, cause })?;
            }
            let Some((text, rows)) = text else {
                staged.totals.removed += 1;
                return Ok(staging.note(Line::Removed { name })?);
            };
            staged.totals.index_files += 1;
            let read = self.packs.text(text.place, text.digests.blake3);
            let read = read.map_err(|source| PlanError::Text { name: name.clone(), source })?;
            texts.push(Document { name, text: text.digests, length: read.len() as u64, rows });
            bytes.extend_from_slice(&read);
            if bytes.len() as u64 >= self.texts_together() { end(&mut bytes, &mut texts, staging) } else { Ok(()) }
        })?;
        end(&mut bytes, &mut texts, staging)
    }

    fn facts(&self, staging: &mut Staging) -> Result<(), PackError> {
        let (mut bytes, mut releases, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let end = |bytes: &mut Vec<u8>, releases: &mut Vec<_>, lengths: &mut Vec<u64>, staging: &mut Staging| {
            if releases.is_empty() {
                return Ok(());
            }
            let packed = self.compress(&std::mem::take(bytes))?;
            let (releases, lengths) = (std::mem::take(releases), std::mem::take(lengths));
            let line = Line::Facts { piece: NOWHERE, blake3: Blake3::of(&packed), releases, lengths };
            Ok::<_, PackError>(staging.piece(line, &packed)?)
        };
        self.each(|change| {
            for New { release, facts, .. } in change.new {
                // What cannot be read can be read again from the crate file, by the receiver too.
                let Some(text) = facts.and_then(|facts| self.packs.read(facts.place).ok()) else { continue };
                lengths.push(text.len() as u64);
                bytes.extend_from_slice(&text);
                releases.push(release.into());
            }
            if bytes.len() as u64 >= self.texts_together() {
                end(&mut bytes, &mut releases, &mut lengths, staging)
            } else {
                Ok(())
            }
        })?;
        end(&mut bytes, &mut releases, &mut lengths, staging)
    }

    fn holes(&self, staging: &mut Staging) -> Result<(), PackError> {
        for (release, row) in self.ledger.holes()? {
            let refused = row.state == State::Refused;
            staging.note(Line::Hole { release: release.into(), reason: row.reason, refused, at: row.last })?;
        }
        Ok(())
    }

    fn compress(&self, bytes: &[u8]) -> Result<Vec<u8>, PackError> {
        zstd::bulk::compress(bytes, self.recompression.texts()).map_err(PackError::Texts)
    }
}

/// Where a piece lies is found when volumes are cut.
const NOWHERE: Piece = Piece { offset: 0, length: 0 };

/// The base to take if it is not too long.
fn base_of(change: &Change) -> Option<Held> {
    let version = |release: &Release| semver::Version::parse(release.id.version.as_str()).ok();
    let first = change.new.first()?;
    if first.place.length > LARGEST {
        return None;
    }
    let fits = |held: &&Held| held.place.length <= LARGEST;
    let limit = version(&first.release);
    let below = change.held.iter().filter(fits).filter(|held| version(&held.release) < limit);
    let nearest = below.max_by_key(|held| version(&held.release));
    nearest.or_else(|| change.held.iter().rfind(fits)).cloned()
}

impl Filling {
    fn takes(&self, new: &New, apart: &Apart, full: usize) -> bool {
        let (contents, more) = (self.builder.contents(), apart.content.len());
        let is_same = |carried: &Carried| carried.0.lower() == new.release.id.name.lower();
        let same = self.crates.iter().rev().take_while(|carried| is_same(carried)).count();
        let keeps_together = same == self.crates.len() && same < TOGETHER;
        self.crates.is_empty()
            || contents + more <= full
            || (keeps_together && contents + more <= full.saturating_mul(2))
    }

    fn push(&mut self, new: New, apart: Apart) {
        let (release, length) = (new.release, new.place.length);
        let (name, version) = (release.id.name.clone(), release.id.version.clone());
        self.crates.push(Carried(name, version, release.checksum, length));
        self.builder.push(release, length, apart);
    }

    /// The frame, and what comes behind it.
    fn finish_solid(mut self, level: Level) -> Result<(Made, Vec<New>), FrameError> {
        let raw = std::mem::take(&mut self.raw);
        Ok((self.finish(level, None)?, raw))
    }

    fn finish(self, level: Level, base: Option<(&Release, &[u8])>) -> Result<Made, FrameError> {
        let given = base.map(|(release, content)| Base { checksum: release.checksum, content });
        let encoders = self.builder.encoders();
        let bytes = self.builder.finish(level, given)?;
        Ok(Made { bytes, crates: self.crates, base: base.map(|(release, _)| release.clone()), encoders })
    }
}

/// Crates in frames that they share.
struct Solid<'a, 'p> {
    packing: &'a Packing<'p>,
    level: Level,
    filling: Filling,
    /// One that is full and not yet compressed.
    full: Option<Filling>,
    staging: &'a mut Staging,
    staged: &'a mut Staged,
}

impl Solid<'_, '_> {
    fn take(&mut self, batch: Vec<New>) -> Result<(), PackError> {
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            let group = self.group(&mut batch)?;
            let (packing, level, full) = (self.packing, self.level, self.full.take());
            let (made, ready) = rayon::join(
                || full.map(|full| full.finish_solid(level)).transpose(),
                || group.into_par_iter().map(|new| packing.ready(new)).collect::<Result<Vec<_>, PackError>>(),
            );
            if let Some(made) = made? {
                self.stage(made)?;
            }
            ready?.into_iter().try_for_each(|ready| self.fill(ready))?;
        }
        Ok(())
    }

    /// As many of the next crate files as there is memory for, beside what is in work already; at least one.
    fn group(&mut self, batch: &mut Peekable<impl Iterator<Item = New>>) -> Result<Vec<New>, PackError> {
        let (mut group, mut cost) = (Vec::new(), 0);
        while let Some(New { release, place, .. }) = batch.peek() {
            let content = self.packing.content_of(release, *place)?.unwrap_or(0);
            cost += content + place.length.min(LARGEST);
            if cost > self.room() {
                if !group.is_empty() {
                    break;
                }
                self.compress_full()?;
            }
            group.extend(batch.next());
        }
        Ok(group)
    }

    fn room(&self) -> u64 {
        let contents = |filling: &Filling| filling.builder.contents() as u64;
        self.packing.memory.beside(contents(&self.filling) + self.full.as_ref().map_or(0, contents), self.level)
    }

    /// Where something lies in the bundle depends on the order alone, and not on how much is in work at once.
    fn fill(&mut self, ready: Ready) -> Result<(), PackError> {
        match ready {
            Ready::Apart(new, apart) => {
                if !self.filling.takes(&new, &apart, self.packing.full()) {
                    self.compress_full()?;
                    self.full = Some(std::mem::take(&mut self.filling));
                }
                self.filling.push(new, *apart);
                Ok(())
            }
            Ready::Raw(new) if self.filling.crates.is_empty() => {
                self.compress_full()?;
                self.packing.raw(new, self.staging, self.staged)
            }
            Ready::Raw(new) => {
                self.filling.raw.push(new);
                Ok(())
            }
        }
    }

    fn stage(&mut self, (made, raw): (Made, Vec<New>)) -> Result<(), PackError> {
        self.packing.stage_frame(made, self.staging, self.staged)?;
        raw.into_iter().try_for_each(|new| self.packing.raw(new, self.staging, self.staged))
    }

    fn compress_full(&mut self) -> Result<(), PackError> {
        let Some(full) = self.full.take() else { return Ok(()) };
        let made = full.finish_solid(self.level)?;
        self.stage(made)
    }

    fn finish(mut self) -> Result<(), PackError> {
        self.compress_full()?;
        if !self.filling.crates.is_empty() {
            self.full = Some(std::mem::take(&mut self.filling));
            self.compress_full()?;
        }
        Ok(())
    }
}
