//! A folder of crate files with the index that names them: what is served, and nothing else.
//!
//! Crates go in steps of a few hundred. Each step writes crate files, makes them durable and gives them their names; then it
//! does the same with the index files that name them. A row whose crate file could not be written is left out. At the end,
//! index files go whose crate is served no more; crate files that no row names any more stay, unless
//! they are to be removed.

use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::target::{self, Found};
use super::{Cause, Export, ExportError, Exported, IndexFolder, Made, Object, Part, crate_files, sweep};
use crate::entry::{Entry, parse_index_file};
use crate::id::{CrateName, Release, ReleaseId, Version};
use crate::ledger::{Held, LedgerError, Text};

/// Crates that become durable together.
const STEP: usize = 256;

/// The index's folder.
const INDEX: &str = "index";

pub(super) fn export(export: &Export<'_>, index: &IndexFolder) -> Result<Exported, ExportError> {
    let folder = export.target.path(Path::new(INDEX));
    let mut registry = Registry { export, index: folder, exported: Exported::default() };
    registry.prepare(index.config.as_deref())?;
    let mut step = Vec::new();
    export.mirror.catalog.each_index_file(|name, text| {
        step.push((name, text));
        if step.len() == STEP { registry.step(&mem::take(&mut step)) } else { Ok(()) }
    })?;
    registry.step(&step)?;
    registry.sweep()?;
    if export.options.delete {
        export.target.sync(&[])?; // their rows leave before they do
        let is_gone = |held: &Held| {
            let is_masked = export.masks.of(&held.release.id).is_some();
            Ok(is_masked || matches!(crate_files::is_served(export, &held.release)?, Ok(false)))
        };
        registry.exported.removed = sweep::crate_files(export, is_gone)?;
    }
    Ok(registry.exported)
}

struct Registry<'a> {
    export: &'a Export<'a>,
    index: PathBuf,
    exported: Exported,
}

/// A crate whose crate files are written, and whose index file is not.
struct Begun {
    name: CrateName,
    text: Text,
    parts: Vec<(ReleaseId, Part)>,
    /// Versions that are left out.
    lacking: HashSet<Version>,
    unchanged: u64,
}

/// What is to be done about an index file.
enum IndexFile {
    Made(Made),
    /// It has no rows.
    Empty,
}

impl Registry<'_> {
    /// Makes the index's folder, which cargo wants even if it is empty, and says where crate files are.
    fn prepare(&self, config: Option<&str>) -> Result<(), ExportError> {
        let failed = |source| ExportError::Write { path: self.index.clone(), source };
        std::fs::create_dir_all(&self.index).map_err(failed)?;
        let Some(config) = config else { return Ok(()) };
        let made = self.make_text(self.index.join("config.json"), config.as_bytes());
        let Some(Made::Part(part)) = self.export.settled(made, || Object::Config)? else { return Ok(()) };
        self.export.target.sync(&[part.unnamed()])?;
        self.export.settled(part.name(), || Object::Config).map(drop)
    }

    fn step(&mut self, crates: &[(CrateName, Text)]) -> Result<(), ExportError> {
        let begun: Vec<Option<Begun>> =
            crates.par_iter().map(|(name, text)| self.begin(name, *text)).collect::<Result<_, _>>()?;
        let mut begun: Vec<Begun> = begun.into_iter().flatten().collect();
        let folders = self.name_crate_files(&mut begun)?;
        let made: Vec<Option<IndexFile>> =
            begun.par_iter().map(|begun| self.index_file(begun)).collect::<Result<_, _>>()?;
        let names = begun.into_iter().map(|begun| begun.name);
        let made = names.zip(made).filter_map(|(name, made)| Some((name, made?)));
        self.name_index_files(made.collect(), &folders)
    }

    /// Writes the crate files of a crate; none if its rows cannot be read. An index file from an earlier export stays then,
    /// and so do the crate files that it names.
    fn begin(&self, name: &CrateName, text: Text) -> Result<Option<Begun>, ExportError> {
        let Some(bytes) = self.read(name, text)? else { return Ok(None) };
        let entries = parse_index_file(name, &bytes).entries;
        let made: Vec<Option<Made>> =
            entries.par_iter().map(|entry| self.make(entry)).collect::<Result<_, ExportError>>()?;
        let mut begun = Begun { name: name.clone(), text, parts: Vec::new(), lacking: HashSet::new(), unchanged: 0 };
        for (entry, made) in entries.into_iter().zip(made) {
            begun.take(ReleaseId { name: entry.name, version: entry.version }, made);
        }
        self.unpromised(begun)
    }

    /// The crate, when no row promises what is to be replaced: its index file comes again with the new crate files. One
    /// that stays keeps them out.
    fn unpromised(&self, begun: Begun) -> Result<Option<Begun>, ExportError> {
        if !begun.parts.iter().any(|(_, part)| part.replaces) {
            return Ok(Some(begun));
        }
        let removed = target::remove(&self.index.join(begun.name.index_path()));
        let removed = self.export.settled(removed, || Object::IndexFile(begun.name.clone()))?;
        Ok(removed.map(|_| begun))
    }

    fn read(&self, name: &CrateName, text: Text) -> Result<Option<Vec<u8>>, ExportError> {
        let bytes = self.export.mirror.packs.text(text.place, text.digests.blake3);
        self.export.settled(bytes.map_err(Cause::from), || Object::IndexFile(name.clone()))
    }

    fn make(&self, entry: &Entry<'_>) -> Result<Option<Made>, ExportError> {
        let id = ReleaseId { name: entry.name.clone(), version: entry.version.clone() };
        if self.export.leaves_out(&id) {
            return Ok(None);
        }
        let release = Release { id, checksum: entry.checksum };
        let held = self.export.mirror.catalog.held(&release)?;
        let made = match &held {
            Some(held) => self.export.make(&release.id, held),
            None => Err(Cause::NotHeld),
        };
        self.export.witness.done(held.map_or(0, |held| held.place.length));
        self.export.settled(made, || Object::CrateFile(release.id))
    }

    /// Makes crate files durable and gives them their names; returns the folders of those names.
    fn name_crate_files(&mut self, crates: &mut [Begun]) -> Result<Vec<PathBuf>, ExportError> {
        let parts = || crates.iter().flat_map(|begun| &begun.parts).map(|(_, part)| part);
        let folders: HashSet<PathBuf> = parts().map(|part| part.folder().to_owned()).collect();
        let paths: Vec<&Path> = parts().map(Part::unnamed).collect();
        if !paths.is_empty() {
            self.export.target.sync(&paths)?;
        }
        for begun in crates {
            self.exported.unchanged += begun.unchanged;
            for (id, part) in mem::take(&mut begun.parts) {
                self.name_crate_file(id, part, &mut begun.lacking)?;
            }
        }
        Ok(folders.into_iter().collect())
    }

    fn name_crate_file(
        &mut self,
        id: ReleaseId,
        part: Part,
        lacking: &mut HashSet<Version>,
    ) -> Result<(), ExportError> {
        match self.export.settled(part.name(), || Object::CrateFile(id.clone()))? {
            Some(named) => self.exported.add(named),
            None => drop(lacking.insert(id.version)),
        }
        Ok(())
    }

    /// Writes an index file, without the rows that lack their crate file.
    fn index_file(&self, begun: &Begun) -> Result<Option<IndexFile>, ExportError> {
        let Some(served) = self.read(&begun.name, begun.text)? else { return Ok(None) };
        let text = if begun.lacking.is_empty() { served } else { begun.rows(&served) };
        if text.is_empty() {
            return Ok(Some(IndexFile::Empty));
        }
        let made = self.make_text(self.index.join(begun.name.index_path()), &text);
        let made = self.export.settled(made, || Object::IndexFile(begun.name.clone()))?;
        Ok(made.map(IndexFile::Made))
    }

    fn make_text(&self, path: PathBuf, text: &[u8]) -> Result<Made, Cause> {
        match target::look_for_text(&path, text) {
            Found::Same => Ok(Made::There),
            other => self.export.target.part(path, other, |file| file.write(text)).map(Made::Part),
        }
    }

    /// Makes index files durable, and before all the names in `folders` that they rely on; then gives them theirs.
    fn name_index_files(&mut self, made: Vec<(CrateName, IndexFile)>, folders: &[PathBuf]) -> Result<(), ExportError> {
        let parts = made.iter().filter_map(|(_, made)| match made {
            IndexFile::Made(Made::Part(part)) => Some(part.unnamed()),
            _ => None,
        });
        let paths: Vec<&Path> = parts.chain(folders.iter().map(PathBuf::as_path)).collect();
        if !paths.is_empty() {
            self.export.target.sync(&paths)?;
        }
        made.into_iter().try_for_each(|(name, made)| self.name_index_file(name, made))
    }

    fn name_index_file(&mut self, name: CrateName, made: IndexFile) -> Result<(), ExportError> {
        let (export, path) = (self.export, self.index.join(name.index_path()));
        let settled = |result| export.settled(result, || Object::IndexFile(name));
        match made {
            IndexFile::Made(Made::There) => self.exported.index_unchanged += 1,
            IndexFile::Made(Made::Part(part)) => {
                let named = settled(part.name().map(|_| true))?;
                self.exported.index_written += u64::from(named.is_some());
            }
            IndexFile::Empty => {
                let removed = settled(target::remove(&path))?;
                self.exported.index_removed += u64::from(removed == Some(true));
            }
        }
        Ok(())
    }

    /// Removes index files whose crate is served no more.
    fn sweep(&mut self) -> Result<(), ExportError> {
        let is_served = |name: &CrateName| -> Result<bool, LedgerError> {
            Ok(self.export.mirror.catalog.index_file(name)?.is_some())
        };
        for (name, path) in sweep::unserved(&self.index, is_served)? {
            let removed = self.export.settled(target::remove(&path), || Object::IndexFile(name))?;
            self.exported.index_removed += u64::from(removed == Some(true));
        }
        Ok(())
    }
}

impl Begun {
    /// Takes in what became of a crate file.
    fn take(&mut self, id: ReleaseId, made: Option<Made>) {
        match made {
            Some(Made::There) => self.unchanged += 1,
            Some(Made::Part(part)) => self.parts.push((id, part)),
            None => drop(self.lacking.insert(id.version)),
        }
    }

    /// The rows that have their crate file, as they are served.
    fn rows(&self, served: &[u8]) -> Vec<u8> {
        let entries = parse_index_file(&self.name, served).entries;
        let whole = entries.iter().filter(|entry| !self.lacking.contains(&entry.version));
        whole.flat_map(|entry| [entry.line, b"\n"].concat()).collect()
    }
}
