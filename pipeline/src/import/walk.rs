//! All that lies below a folder, in parts.
//!
//! A folder may have millions of files in it, so a listing is not held as a whole: so much of it is read at a time, sorted and
//! gone through. Links are not followed, and so no walk goes in circles.

use std::fs::{self, FileType, ReadDir};
use std::io;
use std::path::{Path, PathBuf};

use super::LeftOut;

/// Entries of one folder that are held and sorted together.
const LISTED: usize = 8192;
/// Folders below each other; each has a part of its listing in memory and a handle open.
const DEPTH: usize = 64;

/// Goes through a folder and those below it.
#[derive(Debug)]
pub(super) struct Walk {
    /// The folders on the way, outermost first.
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    listing: ReadDir,
    /// What was read of the listing, the next entry last.
    entries: Vec<(PathBuf, FileType)>,
    /// What went wrong with the listing.
    broken: Option<io::Error>,
}

/// Something that was found.
#[derive(Debug)]
pub(super) enum Found {
    /// A file with bytes.
    File(PathBuf),
    /// A symbolic link.
    Link(PathBuf),
    /// What cannot be looked at, or into.
    Unread(PathBuf, LeftOut),
}

impl Walk {
    /// Begins at a folder.
    pub(super) fn new(root: &Path) -> io::Result<Walk> {
        Ok(Walk { folders: vec![Folder::open(root.to_owned())?] })
    }

    /// The next files, at most `count`; none at the end.
    pub(super) fn take(&mut self, count: usize) -> Vec<Found> {
        std::iter::from_fn(|| self.next()).take(count).collect()
    }

    fn next(&mut self) -> Option<Found> {
        loop {
            let depth = self.folders.len();
            let folder = self.folders.last_mut()?;
            let Some((path, kind)) = folder.next() else {
                let Folder { path, broken, .. } = self.folders.pop()?;
                match broken {
                    Some(error) => return Some(Found::Unread(path, LeftOut::refused("list")(error))),
                    None => continue,
                }
            };
            if kind.is_symlink() {
                return Some(Found::Link(path));
            }
            if kind.is_file() {
                return Some(Found::File(path));
            }
            if !kind.is_dir() {
                continue; // devices, pipes and sockets have no bytes to give
            }
            if depth == DEPTH {
                return Some(Found::Unread(path, LeftOut::TooDeep(DEPTH)));
            }
            match Folder::open(path.clone()) {
                Ok(folder) => self.folders.push(folder),
                Err(error) => return Some(Found::Unread(path, LeftOut::refused("list")(error))),
            }
        }
    }
}

impl Folder {
    fn open(path: PathBuf) -> io::Result<Folder> {
        Ok(Folder { listing: fs::read_dir(&path)?, path, entries: Vec::new(), broken: None })
    }

    fn next(&mut self) -> Option<(PathBuf, FileType)> {
        if self.entries.is_empty() && self.broken.is_none() {
            self.list();
        }
        self.entries.pop()
    }

    /// Reads the next part of the listing.
    fn list(&mut self) {
        for entry in self.listing.by_ref().take(LISTED) {
            match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok(entry) => self.entries.push(entry),
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        // Work in the order of names is work in the order of the index.
        self.entries.sort_unstable_by(|(one, _), (other, _)| other.as_os_str().cmp(one.as_os_str()));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "somebody has to write the files that are found")]
mod tests {
    use super::*;

    fn found(root: &Path) -> Vec<String> {
        let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let name = |found| match found {
            Found::File(path) => relative(path),
            Found::Link(path) => format!("link {}", relative(path)),
            Found::Unread(path, problem) => format!("{}: {problem}", relative(path)),
        };
        let mut walk = Walk::new(root).unwrap();
        std::iter::from_fn(|| Some(walk.take(3)).filter(|part| !part.is_empty())).flatten().map(name).collect()
    }

    #[test]
    fn every_file_of_every_folder_comes_once() {
        let root = tempfile::tempdir().unwrap();
        let mut expected: Vec<String> = (0..LISTED + 10).map(|number| format!("many/{number:06}")).collect();
        expected.extend(["a/b/c", "b", "z/1"].map(str::to_owned));
        fs::create_dir_all(root.path().join("empty/deeper")).unwrap();
        for name in &expected {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = found(root.path());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_that_lies_too_deep_is_named() {
        let root = tempfile::tempdir().unwrap();
        let deep = |levels| root.path().join(vec!["d"; levels].join("/"));
        fs::create_dir_all(deep(DEPTH)).unwrap();
        fs::write(deep(DEPTH - 1).join("seen"), "").unwrap();
        fs::write(deep(DEPTH).join("unseen"), "").unwrap();
        let found = found(root.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("64 folders lie above it, more than are gone into"), "{found:?}");
        assert!(found[1].ends_with("/seen"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_named_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("..", root.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink("file", root.path().join("a/same")).unwrap();
        assert_eq!(found(root.path()), ["a/file", "link a/same", "link a/up"]);
    }
}
