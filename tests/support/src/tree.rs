//! A registry as plain files, for benchmarks that want an ordinary web server in front of them.
//!
//! `crates/NAME/NAME-VERSION.crate`, `index/` (the sparse index, `config.json` included) and `index.git` (the
//! same as a bare repository). The same settings give the same files.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::bulk::Bulk;
use crate::folder;
use crate::git::GitIndex;
use crate::routes::Manners;
use crate::shelf::{Held, Shelf};

/// A tree of files that a web server can serve as a registry.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it is written; the folder is made.
    pub out: PathBuf,
    /// What is in it.
    pub bulk: Bulk,
    /// The download URL for `config.json`.
    pub dl: String,
}

/// What a tree came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The number of crate files.
    pub releases: usize,
    /// Their size together.
    pub bytes: u64,
    /// The number of index files.
    pub index_files: usize,
}

impl Tree {
    /// Writes it all.
    pub fn write(&self) -> Written {
        let held = self.bulk.make();
        let bytes = write_crate_files(&self.out.join("crates"), &held);
        let releases = held.len();
        let mut shelf = Shelf::default();
        shelf.put_all(held);
        Written { releases, bytes, index_files: self.write_index(&mut shelf) }
    }

    fn write_index(&self, shelf: &mut Shelf) -> usize {
        let config = Manners::new(self.dl.clone()).config(None);
        let mut files = shelf.take_uncommitted();
        let count = files.len();
        folder::write(&self.out.join("index"), &config, present(&files));
        files.push(("config.json".to_owned(), Some(config)));
        GitIndex::create(&self.out.join("index.git")).commit("Update index", &files);
        count
    }
}

fn present(files: &[(String, Option<Bytes>)]) -> impl Iterator<Item = (String, Bytes)> {
    files.iter().filter_map(|(path, bytes)| Some((path.clone(), bytes.clone()?)))
}

/// Writes crate files with as many threads as there are processors, and gives their size together.
fn write_crate_files(folder: &Path, held: &[Held]) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = held.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = held.chunks(share).map(|part| scope.spawn(|| write_share(folder, part))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

fn write_share(folder: &Path, held: &[Held]) -> u64 {
    held.iter().map(|held| write_crate_file(folder, held)).sum()
}

fn write_crate_file(folder: &Path, held: &Held) -> u64 {
    let folder = folder.join(&held.name);
    std::fs::create_dir_all(&folder).unwrap();
    let body = held.body();
    std::fs::write(folder.join(format!("{}-{}.crate", held.name, held.version)), &body).unwrap();
    body.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_crate_files_an_index_and_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        let bulk = Bulk { mean_size: Some(2_000), ..Bulk::of(20) };
        let written = Tree { out: folder.path().to_owned(), bulk, dl: "http://127.0.0.1/crates".to_owned() }.write();
        assert_eq!((written.releases, written.index_files), (20, 3));
        assert!(folder.path().join("crates/c00001/c00001-1.0.3.crate").exists());
        assert!(folder.path().join("index/config.json").exists());
        let row = std::fs::read_to_string(folder.path().join("index/c0/00/c00000")).unwrap();
        assert_eq!(row.lines().count(), 7);
        assert!(folder.path().join("index.git/refs/heads/master").exists());
    }
}
