//! An index in a folder: a checkout of a git index, or a tree of files that came in some other way.
//!
//! Every file in scope is read and hashed, because nothing else about a file in a folder can be trusted. Links
//! are never followed, in no part of a path: what they point to is not part of the index.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crateferry_store::{BlobId, CrateName, Identity};

use super::{Change, Comparison, DEPTH, Kind, Mark, Phase, Problem, RegistryConfig, Scope, UpstreamError};

/// An index in a folder.
#[derive(Clone, Debug)]
pub struct FolderIndex {
    folder: PathBuf,
    limit: u64,
}

/// A part of an index folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

impl FolderIndex {
    /// The index in `folder`, whose files have at most `limit` bytes.
    pub fn new(folder: impl Into<PathBuf>, limit: u64) -> Self {
        FolderIndex { folder: folder.into(), limit }
    }

    /// Reads `config.json`, if there is one.
    pub async fn config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let index = self.clone();
        super::blocking(move || index.read_config()).await
    }

    /// See [`Upstream::changes`](super::Upstream::changes).
    pub async fn changes(&self, comparison: Comparison) -> Result<Mark, UpstreamError> {
        let index = self.clone();
        super::blocking(move || Walk { index, comparison, files: 0, known: 0, complete: true }.run()).await
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn read_config(&self) -> Result<Option<RegistryConfig>, UpstreamError> {
        let path = self.folder.join("config.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check_folder().map(|()| None),
            Err(source) => return Err(self.broken(path, source)),
        };
        let config = RegistryConfig::parse(bytes);
        config.map(Some).map_err(|source| UpstreamError::Config { place: self.place(), source })
    }

    /// A folder that is not mounted must not look like an empty index.
    fn check_folder(&self) -> Result<(), UpstreamError> {
        fs::read_dir(&self.folder).map(drop).map_err(|source| self.broken(self.folder.clone(), source))
    }

    fn broken(&self, path: PathBuf, source: io::Error) -> UpstreamError {
        UpstreamError::Folder { folder: self.folder.clone(), source: FolderError { path, source } }
    }

    /// What lies at a path within the index, without following a link on the way.
    fn look(&self, path: &str) -> Result<Entry, UpstreamError> {
        let mut at = self.folder.clone();
        let mut entry = Entry::Folder;
        for part in path.split('/') {
            if !matches!(entry, Entry::Folder) {
                break;
            }
            at.push(part);
            entry = Entry::at(&at).map_err(|source| self.broken(at.clone(), source))?;
        }
        Ok(entry)
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Nothing,
    Folder,
    File,
    Other,
}

impl Entry {
    fn at(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(data) => Ok(Entry::of(data.file_type())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::Nothing),
            Err(error) => Err(error),
        }
    }

    fn of(kind: fs::FileType) -> Self {
        if kind.is_dir() {
            Entry::Folder
        } else if kind.is_file() {
            Entry::File
        } else {
            Entry::Other
        }
    }
}

/// Why an index file gave no text.
enum Unread {
    Unusable(Problem),
    Failed(FolderError),
}

struct Walk {
    index: FolderIndex,
    comparison: Comparison,
    /// Index files seen.
    files: u64,
    /// Those of them that the mirror knows.
    known: u64,
    complete: bool,
}

impl Walk {
    fn run(mut self) -> Result<Mark, UpstreamError> {
        self.index.check_folder()?;
        match self.comparison.scope.clone() {
            Scope::All => self.all()?,
            Scope::Names(names) => names.iter().try_for_each(|name| self.one(name))?,
        }
        Ok(self.comparison.mark(Kind::Folder, self.index.place(), self.complete))
    }

    fn all(&mut self) -> Result<(), UpstreamError> {
        let known = self.comparison.known.count().map_err(UpstreamError::Known)?;
        self.folder("", 0)?;
        if self.known == known {
            return Ok(());
        }
        self.comparison.sweep(|name| Ok(!matches!(self.index.look(&name.index_path())?, Entry::Nothing)))
    }

    fn one(&mut self, name: &CrateName) -> Result<(), UpstreamError> {
        let path = name.index_path();
        match self.index.look(&path)? {
            Entry::Nothing => self.comparison.put(self.comparison.absent(name.clone())?),
            Entry::File => self.file(name.clone(), &path),
            Entry::Folder | Entry::Other => self.unusable(path, Problem::NotAFile),
        }
    }

    /// Walks a folder of the index, in order.
    fn folder(&mut self, path: &str, depth: usize) -> Result<(), UpstreamError> {
        for (name, entry) in self.list(path)? {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.comparison.go_on()?;
            self.entry(path, entry, depth)?;
        }
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<(String, Entry)>, UpstreamError> {
        let folder = self.index.folder.join(path);
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let kind = Entry::of(entry.file_type()?);
            // A name that is not text cannot be opened by the text that stands for it in a report.
            Ok(match entry.file_name().into_string() {
                Ok(name) => (name, kind),
                Err(name) => (name.to_string_lossy().into_owned(), Entry::Other),
            })
        };
        let list: io::Result<Vec<_>> = fs::read_dir(&folder).and_then(|entries| entries.map(read).collect());
        let mut list = list.map_err(|source| self.index.broken(folder, source))?;
        list.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(list)
    }

    fn entry(&mut self, path: String, entry: Entry, depth: usize) -> Result<(), UpstreamError> {
        if super::is_furniture(&path) {
            return Ok(());
        }
        match (entry, super::index_name(&path)) {
            (Entry::Folder, _) if depth < DEPTH => self.folder(&path, depth + 1),
            (Entry::File, Ok(name)) => self.file(name, &path),
            (Entry::File, Err(problem)) => self.unusable(path, problem),
            _ => self.unusable(path, Problem::NotAFile),
        }
    }

    fn file(&mut self, name: CrateName, path: &str) -> Result<(), UpstreamError> {
        self.files += 1;
        self.comparison.progress.at(Phase::Comparing, self.files, None);
        let known = self.comparison.identity(&name)?;
        self.known += u64::from(known.is_some());
        let text = match self.read(path) {
            Ok(text) => text,
            Err(Unread::Unusable(problem)) => return self.unusable(path.to_owned(), problem),
            Err(Unread::Failed(error)) => return self.failed(name, error),
        };
        let identity = Identity { blob: BlobId::of(&text), etag: None };
        if known.is_some_and(|known| known.blob == identity.blob) {
            return Ok(());
        }
        self.comparison.put(Change::Updated { name, identity, text })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Unread> {
        let path = self.index.folder.join(path);
        let limit = self.index.limit;
        let failed = |source| Unread::Failed(FolderError { path: path.clone(), source });
        let file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut text = Vec::new();
        if size <= limit {
            file.take(limit + 1).read_to_end(&mut text).map_err(failed)?;
        }
        let size = size.max(text.len() as u64);
        if size > limit { Err(Unread::Unusable(Problem::TooLarge { size, limit })) } else { Ok(text) }
    }

    fn unusable(&self, path: String, problem: Problem) -> Result<(), UpstreamError> {
        self.comparison.put(Change::Unusable { path, problem })
    }

    fn failed(&mut self, name: CrateName, error: FolderError) -> Result<(), UpstreamError> {
        self.complete = false;
        self.comparison.put(Change::Failed { name, problem: Box::new(error), transient: false })
    }
}
