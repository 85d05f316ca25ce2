//! Archives of crate files: `bundle-0000.tar.zst`, `bundle-0001.tar.zst` and so on.
//!
//! Crate files come in the order of the catalog, each as one member in a zstd frame of its own, so that an archive's length is
//! known to the byte before a member is put into it, and several threads compress. Frames one after another are what any zstd
//! unpacks as one stream. Headers have no time and no owner: the same crate files give the same archives, on any machine.
//!
//! What is there already is read first, member by member. An archive stays if it is whole, not larger than it may be, and
//! nothing is to be removed from it; crate files that no such archive has come into new ones. So a second export writes what is
//! new and nothing else, and archives that were carried away are not written again.

mod shelf;

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zstd::bulk::Compressor;
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use self::shelf::{Shelf, mark};
use super::target::{Found, Writing};
use super::{Cause, Export, ExportError, Exported, Object, crate_files, is_promised};
use crate::id::{ReleaseId, Sha256};
use crate::ledger::Held;

/// Crate files are gzip already: more work finds next to nothing.
const LEVEL: i32 = 3;
/// Releases that are looked at together.
const STEP: usize = 1024;
/// Bytes of crate files that are in memory together.
const STEP_BYTES: u64 = 16 << 20;
/// Larger crate files go from pack to archive piece by piece.
const IN_MEMORY: u64 = 4 << 20;
const BLOCK: u64 = 512;

pub(super) fn export(export: &Export<'_>, size: u64) -> Result<Exported, ExportError> {
    let twins = crate_files::twins(export)?;
    let shelf = Shelf::look(export, size, &twins)?;
    let mut bundles = Bundles::beside(export, shelf, size)?;
    let mut after = None;
    loop {
        let held = export.mirror.catalog.held_after(after.as_ref(), STEP)?;
        let Some(last) = held.last() else { break };
        after = Some(last.release.clone());
        bundles.step(held, &twins)?;
    }
    bundles.finish()
}

struct Bundles<'a> {
    export: &'a Export<'a>,
    size: u64,
    shelf: Shelf,
    exported: Exported,
    /// The next number that may be free.
    number: u32,
    open: Option<Open>,
    /// What every archive ends with.
    end: Vec<u8>,
}

/// The archive that is being written.
struct Open {
    number: u32,
    file: Writing,
    crate_files: u64,
    bytes: u64,
}

/// What is to be done about a release.
enum Made {
    /// Nothing.
    Nothing,
    There,
    /// Its member.
    Frame(Held, Vec<u8>),
    /// It is too large to be kept in memory.
    Large(Held),
}

impl<'a> Bundles<'a> {
    fn beside(export: &'a Export<'a>, shelf: Shelf, size: u64) -> Result<Self, ExportError> {
        let cannot = |source| ExportError::Write { path: PathBuf::from(shelf::name(0)), source };
        let end =
            compressor().and_then(|mut compressor| compressor.compress(&[0; 2 * BLOCK as usize])).map_err(cannot)?;
        let exported = Exported { bundles_unchanged: shelf.kept(), ..Exported::default() };
        Ok(Bundles { export, size, shelf, exported, number: 0, open: None, end })
    }

    fn step(&mut self, held: Vec<Held>, twins: &HashSet<ReleaseId>) -> Result<(), ExportError> {
        let mut rest = held.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(held) = rest.next_if(|_| bytes < STEP_BYTES) {
                bytes += held.place.length.min(IN_MEMORY);
                part.push(held);
            }
            let make = |compressor: &mut Option<Compressor<'static>>, held| self.make(compressor, held, twins);
            let made: Vec<Made> = part.into_par_iter().map_init(|| None, make).collect::<Result<_, ExportError>>()?;
            made.into_iter().try_for_each(|made| self.take(made))?;
        }
        Ok(())
    }

    fn make(
        &self,
        compressor: &mut Option<Compressor<'static>>,
        held: Held,
        twins: &HashSet<ReleaseId>,
    ) -> Result<Made, ExportError> {
        let object = || Object::CrateFile(held.release.id.clone());
        self.export.witness.done(held.place.length);
        self.export.leaves_out_held(&held);
        if self.export.settled(crate_files::is_exported(self.export, &held, twins)?, object)? != Some(true) {
            return Ok(Made::Nothing);
        }
        if self.shelf.has(mark(&held.release)) {
            return Ok(Made::There);
        }
        if held.place.length > IN_MEMORY {
            return Ok(Made::Large(held));
        }
        let frame = self.export.settled(self.frame(compressor, &held), object)?;
        Ok(frame.map_or(Made::Nothing, |frame| Made::Frame(held, frame)))
    }

    /// The member of a crate file as a zstd frame.
    fn frame(&self, context: &mut Option<Compressor<'static>>, held: &Held) -> Result<Vec<u8>, Cause> {
        let failed = |source| Cause::Write { path: (self.export.path_of)(&held.release.id), source };
        let mut member = head(&(self.export.path_of)(&held.release.id), held.place.length).map_err(failed)?;
        let at = member.len();
        member.resize(at + held.place.length.next_multiple_of(BLOCK) as usize, 0);
        let content = &mut member[at..at + held.place.length as usize];
        self.export.mirror.packs.read_into(held.place, 0, content)?;
        is_promised(Sha256::of(content), held.release.checksum)?;
        if context.is_none() {
            *context = Some(compressor().map_err(failed)?);
        }
        let compressor = context.as_mut().expect("it was just made");
        compressor.compress(&member).map_err(failed)
    }

    fn take(&mut self, made: Made) -> Result<(), ExportError> {
        match made {
            Made::Nothing => Ok(()),
            Made::There => {
                self.exported.unchanged += 1;
                Ok(())
            }
            Made::Frame(held, frame) => {
                let put = |open: &mut Open| open.file.write(&frame);
                self.put(&held, frame.len() as u64, put)
            }
            Made::Large(held) => {
                // What it may come to, since what it will come to is known too late.
                let most = zstd::zstd_safe::compress_bound(held.place.length as usize + 4 * BLOCK as usize) as u64;
                let (export, at_most) = (self.export, most.min(self.size - self.size.min(self.end.len() as u64)));
                self.put(&held, at_most, |open| stream(export, &held, &mut open.file))
            }
        }
    }

    /// Puts a crate file into the open archive, or into the next one, if it has not so many bytes left.
    fn put(
        &mut self,
        held: &Held,
        length: u64,
        put: impl FnOnce(&mut Open) -> Result<(), Cause>,
    ) -> Result<(), ExportError> {
        let object = || Object::CrateFile(held.release.id.clone());
        let (size, end) = (self.size, self.end.len() as u64);
        if length + end > size {
            return self.export.failed(object(), Cause::TooLarge { length: length + end, size });
        }
        if self.open.as_ref().is_some_and(|open| open.file.length() + length + end > size) {
            self.close()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let before = open.file.length();
        let mut result = put(&mut open);
        if result.is_ok() && open.file.length() + end > size {
            result = Err(Cause::TooLarge { length: open.file.length() - before + end, size });
        }
        if self.export.settled(result, object)?.is_some() {
            open.crate_files += 1;
            open.bytes += held.place.length;
        } else if let Err(Cause::Write { path, source }) = open.file.cut(before) {
            return Err(ExportError::Write { path, source });
        }
        if open.crate_files > 0 {
            self.open = Some(open);
        } else {
            self.number = open.number; // nothing came into it, so it gets no name
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Open, ExportError> {
        while self.shelf.keeps(self.number) {
            self.number += 1;
        }
        let number = self.number;
        self.number += 1;
        let path = self.export.target.path(Path::new(&shelf::name(number)));
        let begun =
            self.export.target.begin(path, if self.shelf.replaces(number) { Found::Other } else { Found::Nothing });
        match begun {
            Ok(file) => Ok(Open { number, file, crate_files: 0, bytes: 0 }),
            Err(Cause::Write { path, source }) => Err(ExportError::Write { path, source }),
            Err(_) => unreachable!("beginning a file only writes"),
        }
    }

    /// Ends the open archive and gives it its name.
    fn close(&mut self) -> Result<(), ExportError> {
        let Some(Open { number, mut file, crate_files, bytes }) = self.open.take() else { return Ok(()) };
        let ended = file.write(&self.end).map(|()| file.finish());
        let object = || Object::Bundle(shelf::name(number));
        let Some(part) = self.export.settled(ended, object)? else { return Ok(()) };
        self.export.target.sync(&[part.unnamed()])?;
        if self.export.settled(part.name(), object)?.is_some() {
            self.exported.written += crate_files;
            self.exported.bytes += bytes;
            self.exported.bundles_written += 1;
            self.shelf.replaced(number);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Exported, ExportError> {
        self.close()?;
        self.export.target.sync(&[])?; // what others have now is there before these go
        self.exported.bundles_removed = self.shelf.clear(self.export)?;
        Ok(self.exported)
    }
}

/// Compresses a large crate file piece by piece.
fn stream(export: &Export<'_>, held: &Held, file: &mut Writing) -> Result<(), Cause> {
    let path = file.path().to_owned();
    let failed = |source| Cause::Write { path: path.clone(), source };
    let head = head(&(export.path_of)(&held.release.id), held.place.length).map_err(failed)?;
    let padding = vec![0; (held.place.length.next_multiple_of(BLOCK) - held.place.length) as usize];
    let mut encoder = Encoder::new(file, LEVEL).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    let length = head.len() as u64 + held.place.length + padding.len() as u64;
    encoder.set_pledged_src_size(Some(length)).map_err(failed)?;
    encoder.write_all(&head).map_err(failed)?;
    export.each_piece(held, |piece| encoder.write_all(piece).map_err(failed))?;
    encoder.write_all(&padding).map_err(failed)?;
    encoder.finish().map(drop).map_err(failed)
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// What an archive has before the content of a member: its header, and before that its name, if the header has no room for it.
fn head(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, path, io::empty())?;
    Ok(std::mem::take(archive.get_mut()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_header_and_a_long_name_comes_before_it() {
        assert_eq!(head(Path::new("s/er/serde-1.0.0.crate"), 7).unwrap().len(), 512);
        let long = format!("x/yz/{}.crate", "x".repeat(120));
        let head = head(Path::new(&long), 7).unwrap();
        assert_eq!(head.len(), 3 * 512);
        let mut archive = tar::Archive::new(io::Cursor::new([head, vec![0; 3 * 512]].concat()));
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((entry.path().unwrap().to_str(), entry.size()), (Some(long.as_str()), 7));
    }
}
