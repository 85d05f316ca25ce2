//! The archives that lie in the folder already.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::Digest as _;

use super::super::target::{self, PART};
use super::super::{Cause, Export, ExportError, Object, crate_files};
use crate::id::{Release, ReleaseId, Sha256};

/// Half a digest over a release: enough to tell it from all others, and small, since all that archives have is remembered.
pub(super) type Mark = u128;

pub(super) fn mark(release: &Release) -> Mark {
    let mut hasher = blake3::Hasher::new();
    hasher.update(release.id.lower().name.as_str().as_bytes()).update(b"\0");
    hasher.update(release.id.version.as_str().as_bytes()).update(b"\0").update(&release.checksum.0);
    let (half, _) =
        hasher.finalize().as_bytes().split_first_chunk().map(|(half, rest)| (*half, rest.len())).expect("32 bytes");
    Mark::from_le_bytes(half)
}

/// What an archive is called.
pub(super) fn name(number: u32) -> String {
    format!("bundle-{number:04}.tar.zst")
}

fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("bundle-")?.strip_suffix(".tar.zst")?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// What is to become of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Kept,
    /// Something of it is to be removed: what else it has comes into new archives.
    Outdated,
    /// It is not whole, or larger than it may be.
    Unusable(String),
}

pub(super) struct Shelf {
    archives: BTreeMap<u32, Fate>,
    /// What the kept ones have, sorted.
    marks: Vec<Mark>,
}

impl Shelf {
    /// Reads all archives of the folder.
    pub(super) fn look(export: &Export<'_>, size: u64, twins: &HashSet<ReleaseId>) -> Result<Shelf, ExportError> {
        let numbers = numbers(export)?;
        let look = |number: u32| -> Result<(u32, Fate, Vec<Mark>), ExportError> {
            let contents = read(export, &export.target.path(Path::new(&name(number))), size, twins)?;
            Ok(match contents {
                Ok(Contents { marks, has_gone, has_foreign }) => {
                    let is_outdated = export.options.delete && has_gone && !has_foreign;
                    if is_outdated { (number, Fate::Outdated, Vec::new()) } else { (number, Fate::Kept, marks) }
                }
                Err(problem) => (number, Fate::Unusable(problem), Vec::new()),
            })
        };
        let looked: Vec<_> = numbers.into_par_iter().map(look).collect::<Result<_, ExportError>>()?;
        let mut shelf = Shelf { archives: BTreeMap::new(), marks: Vec::new() };
        for (number, fate, marks) in looked {
            if let Fate::Unusable(problem) = &fate {
                tracing::warn!(archive = name(number), problem, "it is made anew");
            }
            shelf.archives.insert(number, fate);
            shelf.marks.extend(marks);
        }
        shelf.marks.sort_unstable();
        Ok(shelf)
    }

    /// Whether an archive that stays has a release.
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.binary_search(&mark).is_ok()
    }

    /// How many archives stay.
    pub(super) fn kept(&self) -> u64 {
        self.archives.values().filter(|fate| **fate == Fate::Kept).count() as u64
    }

    pub(super) fn keeps(&self, number: u32) -> bool {
        self.archives.get(&number) == Some(&Fate::Kept)
    }

    /// Whether a new archive of this number takes another one's place.
    pub(super) fn replaces(&self, number: u32) -> bool {
        self.archives.contains_key(&number)
    }

    /// A new archive has this number.
    pub(super) fn replaced(&mut self, number: u32) {
        self.archives.insert(number, Fate::Kept);
    }

    /// Removes archives that are outdated and that no new one took the place of; tells of others that are of no use.
    pub(super) fn clear(&self, export: &Export<'_>) -> Result<u64, ExportError> {
        let mut removed = 0;
        for (number, fate) in &self.archives {
            let (object, path) = (|| Object::Bundle(name(*number)), export.target.path(Path::new(&name(*number))));
            match fate {
                Fate::Kept => {}
                Fate::Outdated => {
                    removed += u64::from(export.settled(target::remove(&path), object)? == Some(true));
                }
                Fate::Unusable(problem) => {
                    let source = io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!("what lies there is of no use: {problem}"),
                    );
                    export.failed(object(), Cause::Write { path, source })?;
                }
            }
        }
        Ok(removed)
    }
}

/// The numbers of the archives that are there. What a killed export left of one goes.
fn numbers(export: &Export<'_>) -> Result<Vec<u32>, ExportError> {
    let root = export.target.path(Path::new(""));
    let failed = |source| ExportError::Write { path: root.clone(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&root).map_err(failed)? {
        let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
        if let Some(number) = number(&name) {
            numbers.push(number);
        } else if let Some(whole) = name.strip_suffix(PART)
            && number(whole).is_some()
        {
            export.settled(target::remove(&root.join(&name)), || Object::Bundle(whole.to_owned()))?;
        }
    }
    Ok(numbers)
}

/// What is in an archive.
#[derive(Default)]
struct Contents {
    marks: Vec<Mark>,
    /// Something that the mirror holds and exports no more.
    has_gone: bool,
    /// Something that the mirror does not know.
    has_foreign: bool,
}

/// Reads an archive as a whole; an error says why it is of no use.
fn read(
    export: &Export<'_>,
    path: &PathBuf,
    size: u64,
    twins: &HashSet<ReleaseId>,
) -> Result<Result<Contents, String>, ExportError> {
    let files = match File::open(path).and_then(|file| list(export, &file, size)) {
        Ok(files) => files,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut contents = Contents::default();
    for release in files {
        let held = match &release {
            Some(release) => export.mirror.catalog.held(release)?,
            None => None,
        };
        match held {
            None => contents.has_foreign = true,
            Some(held) => {
                contents.has_gone |= matches!(crate_files::is_exported(export, &held, twins)?, Ok(false));
                contents.marks.push(mark(&held.release));
            }
        }
    }
    Ok(Ok(contents))
}

/// The releases that an archive has, by the names and the bytes of its members; none for a member that is no crate file.
fn list(export: &Export<'_>, file: &File, size: u64) -> io::Result<Vec<Option<Release>>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > size {
        return Err(io::Error::other(format!("it has {} bytes, more than {size}", metadata.len())));
    }
    let mut archive =
        tar::Archive::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(256 << 10, file))?);
    let mut files = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let id = entry.path().ok().and_then(|path| id(export, &path));
        let checksum = hash(&mut entry)?;
        files.push(id.map(|id| Release { id, checksum }));
    }
    // Each frame tells at its end whether it is whole. The last one has two blocks of zeros, of which one was read.
    if io::copy(&mut archive.into_inner(), &mut io::sink())? < super::BLOCK {
        return Err(io::Error::other("its end is missing"));
    }
    Ok(files)
}

fn id(export: &Export<'_>, path: &Path) -> Option<ReleaseId> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".crate")?;
    ReleaseId::readings(stem).into_iter().find(|id| (export.path_of)(id) == path)
}

fn hash(content: &mut impl Read) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_are_numbers() {
        assert_eq!(number(&name(7)), Some(7));
        assert_eq!(number("bundle-12345.tar.zst"), Some(12345));
        for other in
            ["bundle-7.tar.zst", "bundle-00007.tar.zst", "bundle-0007.tar.zst.part", "bundle-+007.tar.zst", "x"]
        {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
