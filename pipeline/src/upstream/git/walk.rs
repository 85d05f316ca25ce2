//! The upstream's branch as it lies in the clone, and one walk through it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crateferry_store::{BlobId, CrateName, Identity};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use super::{Cause, GitError, GitIndex};
use crate::upstream::{Change, Comparison, DEPTH, Phase, Problem, Scope, UpstreamError, index_name, is_furniture};

/// One entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryKind,
    id: ObjectId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Tree,
    File,
    Other,
}

type Entries = BTreeMap<BString, Entry>;

/// The upstream's branch, as it lies in the clone.
pub(super) struct Tip {
    repo: gix::Repository,
    folder: PathBuf,
    pub(super) commit: ObjectId,
    pub(super) tree: ObjectId,
}

impl Tip {
    /// `None` if the clone has no such commit.
    pub(super) fn read(
        index: &GitIndex,
        mut repo: gix::Repository,
        commit: ObjectId,
    ) -> Result<Option<Self>, GitError> {
        if !repo.has_object(commit) {
            return Ok(None);
        }
        repo.object_cache_size_if_unset(4 << 20);
        let tree = repo.find_commit(commit).and_then(|commit| commit.tree_id().map(gix::Id::detach));
        let tree = tree.map_err(|source| index.damaged(source))?;
        Ok(Some(Tip { repo, folder: index.folder.clone(), commit, tree }))
    }

    fn damaged(&self, source: impl Into<Cause>) -> GitError {
        GitError::Damaged { folder: self.folder.clone(), source: source.into() }
    }

    pub(super) fn tree_if_held(&self, id: &str) -> Option<ObjectId> {
        let id = ObjectId::from_hex(id.as_bytes()).ok()?;
        self.repo.has_object(id).then_some(id)
    }

    fn entries(&self, id: ObjectId) -> Result<Entries, GitError> {
        let tree = self.repo.find_tree(id).map_err(|source| self.damaged(source))?;
        let found = gix::objs::compute_hash(self.repo.object_hash(), gix::objs::Kind::Tree, &tree.data);
        self.check(id, blob_id(found.map_err(|source| self.damaged(source))?))?;
        let mut entries = Entries::new();
        for entry in tree.iter() {
            let entry = entry.map_err(|source| self.damaged(source))?;
            let kind = match entry.kind() {
                gix::objs::tree::EntryKind::Tree => EntryKind::Tree,
                gix::objs::tree::EntryKind::Blob | gix::objs::tree::EntryKind::BlobExecutable => EntryKind::File,
                _ => EntryKind::Other,
            };
            entries.insert(entry.filename().to_owned(), Entry { kind, id: entry.object_id() });
        }
        Ok(entries)
    }

    /// The entries of the folder at `path`, or none if there is no such folder.
    fn folder(&self, path: &str) -> Result<Entries, GitError> {
        let mut entries = self.entries(self.tree)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match entries.get(part.as_bytes().as_bstr()) {
                Some(Entry { kind: EntryKind::Tree, id }) => entries = self.entries(*id)?,
                _ => return Ok(Entries::new()),
            }
        }
        Ok(entries)
    }

    /// The names in a folder: of folders, and of files with their ids.
    pub(super) fn listing(&self, folder: &str) -> Result<Vec<(String, Option<ObjectId>)>, GitError> {
        let entries = self.folder(folder)?.into_iter().filter(|(_, entry)| entry.kind != EntryKind::Other);
        let listed = entries.map(|(name, Entry { kind, id })| {
            (name.to_str_lossy().into_owned(), Some(id).filter(|_| kind == EntryKind::File))
        });
        Ok(listed.collect())
    }

    /// When it was committed, in seconds since 1970.
    pub(super) fn committed_at(&self) -> Result<u64, GitError> {
        let time = self.repo.find_commit(self.commit).and_then(|commit| commit.time());
        Ok(time.map_err(|source| self.damaged(source))?.seconds.max(0).cast_unsigned())
    }

    /// A file in the topmost folder.
    pub(super) fn file(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let entry = self.entries(self.tree)?.get(name.as_bytes().as_bstr()).copied();
        Ok(entry.filter(|entry| entry.kind == EntryKind::File).map(|entry| entry.id))
    }

    fn size(&self, id: ObjectId) -> Result<u64, GitError> {
        self.repo.find_header(id).map(|header| header.size()).map_err(|source| self.damaged(source))
    }

    pub(super) fn blob(&self, id: ObjectId) -> Result<Vec<u8>, GitError> {
        let text = self.repo.find_blob(id).map(|mut blob| blob.take_data()).map_err(|source| self.damaged(source))?;
        self.check(id, BlobId::of(&text))?;
        Ok(text)
    }

    /// Whether an object has the content that its name promises.
    fn check(&self, id: ObjectId, found: BlobId) -> Result<(), GitError> {
        let wanted = blob_id(id);
        if wanted == found { Ok(()) } else { Err(self.damaged(GitError::Content { wanted, found })) }
    }
}

fn blob_id(id: ObjectId) -> BlobId {
    BlobId(id.as_slice().try_into().expect("the clone is a SHA-1 repository"))
}

/// One walk through the tip.
pub(super) struct Walk<'a> {
    index: &'a GitIndex,
    tip: &'a Tip,
    comparison: &'a Comparison,
    /// Index files seen.
    files: u64,
    /// Those of them that the mirror knows.
    known: u64,
    /// The folder that was looked into last.
    shelf: Option<(String, Entries)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(index: &'a GitIndex, tip: &'a Tip, comparison: &'a Comparison) -> Self {
        Walk { index, tip, comparison, files: 0, known: 0, shelf: None }
    }

    pub(super) fn run(mut self, last: Option<ObjectId>) -> Result<(), UpstreamError> {
        match &self.comparison.scope {
            Scope::Names(names) => names.iter().try_for_each(|name| self.one(name)),
            Scope::All if last.is_some() => self.differ("", 0, last, Some(self.tip.tree)),
            Scope::All => self.all(),
        }
    }

    fn all(&mut self) -> Result<(), UpstreamError> {
        let known = self.comparison.known.count().map_err(UpstreamError::Known)?;
        self.differ("", 0, None, Some(self.tip.tree))?;
        if self.known == known { Ok(()) } else { self.comparison.sweep(|name| Ok(self.find(name)?.is_some())) }
    }

    fn one(&mut self, name: &CrateName) -> Result<(), UpstreamError> {
        self.comparison.go_on()?;
        match self.find(name)? {
            None => self.comparison.put(self.comparison.absent(name.clone())?),
            Some(Entry { kind: EntryKind::File, id }) => self.file(name.clone(), id),
            Some(_) => self.unusable(name.index_path(), Problem::NotAFile),
        }
    }

    /// What lies at the path of a crate's index file. Names in order mostly share the folder of the one before.
    fn find(&mut self, name: &CrateName) -> Result<Option<Entry>, UpstreamError> {
        let path = name.index_path();
        let (folder, file) = path.rsplit_once('/').expect("an index path has a folder");
        if self.shelf.as_ref().is_none_or(|(held, _)| held != folder) {
            let entries = self.tip.folder(folder).map_err(|source| self.index.broken(source))?;
            self.shelf = Some((folder.to_owned(), entries));
        }
        Ok(self.shelf.as_ref().and_then(|(_, entries)| entries.get(file.as_bytes().as_bstr()).copied()))
    }

    /// Walks what differs between an old folder and a new one; without an old one, all of the new one.
    fn differ(
        &mut self,
        path: &str,
        depth: usize,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<(), UpstreamError> {
        let mut before = self.entries(old)?;
        for (name, entry) in self.entries(new)? {
            self.comparison.go_on()?;
            let was = before.remove(&name);
            if was != Some(entry) {
                self.entry(join(path, &name), depth, was, Some(entry))?;
            }
        }
        for (name, was) in before {
            self.entry(join(path, &name), depth, Some(was), None)?;
        }
        Ok(())
    }

    fn entries(&self, tree: Option<ObjectId>) -> Result<Entries, UpstreamError> {
        let entries = tree.map_or(Ok(Entries::new()), |tree| self.tip.entries(tree));
        entries.map_err(|source| self.index.broken(source))
    }

    fn entry(
        &mut self,
        path: String,
        depth: usize,
        was: Option<Entry>,
        is: Option<Entry>,
    ) -> Result<(), UpstreamError> {
        if is_furniture(&path) {
            return Ok(());
        }
        let folder = |entry: Option<Entry>| {
            let entry = entry.filter(|entry| entry.kind == EntryKind::Tree && depth < DEPTH)?;
            Some(entry.id)
        };
        let (old, new) = (folder(was), folder(is));
        if old.is_some() || new.is_some() {
            self.differ(&path, depth + 1, old, new)?;
        }
        match is.filter(|_| new.is_none()) {
            None if is.is_none() => self.deleted(&path),
            None => Ok(()),
            Some(entry) => self.present(path, entry),
        }
    }

    fn present(&mut self, path: String, entry: Entry) -> Result<(), UpstreamError> {
        match (entry.kind, index_name(&path)) {
            (EntryKind::File, Ok(name)) => self.file(name, entry.id),
            (EntryKind::File, Err(problem)) => self.unusable(path, problem),
            _ => self.unusable(path, Problem::NotAFile),
        }
    }

    fn deleted(&self, path: &str) -> Result<(), UpstreamError> {
        match index_name(path) {
            Ok(name) if self.comparison.identity(&name)?.is_some() => self.comparison.put(Change::Gone { name }),
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: CrateName, id: ObjectId) -> Result<(), UpstreamError> {
        self.files += 1;
        self.comparison.progress.at(Phase::Comparing, self.files, None);
        let known = self.comparison.identity(&name)?;
        self.known += u64::from(known.is_some());
        let identity = Identity { blob: blob_id(id), etag: None };
        if known.is_some_and(|known| known.blob == identity.blob) {
            return Ok(());
        }
        let size = self.tip.size(id).map_err(|source| self.index.broken(source))?;
        if size > self.index.limits.file {
            return self.unusable(name.index_path(), Problem::TooLarge { size, limit: self.index.limits.file });
        }
        let text = self.tip.blob(id).map_err(|source| self.index.broken(source))?;
        self.comparison.put(Change::Updated { name, identity, text })
    }

    fn unusable(&self, path: String, problem: Problem) -> Result<(), UpstreamError> {
        self.comparison.put(Change::Unusable { path, problem })
    }
}

fn join(path: &str, name: &BString) -> String {
    if path.is_empty() { name.to_str_lossy().into_owned() } else { format!("{path}/{}", name.to_str_lossy()) }
}
