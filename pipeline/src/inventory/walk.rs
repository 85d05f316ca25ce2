//! A folder as a source.
//!
//! What is held is one listing for each folder on the way to where the walk is. Sorting each listing with a `/` after the names of
//! folders gives the byte order of whole paths: `a-b` comes before `a/b`, though `a` comes before `a-b`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::name::FileName;
use super::source::{Content, Found, Problem, Source, What};

/// All that lies in a folder and in the folders below it.
#[derive(Debug)]
pub struct Walk {
    left_out: HashSet<FileName>,
    /// The folders on the way, outermost first.
    folders: Vec<Folder>,
    /// The file that was found last.
    file: Option<(PathBuf, State)>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    name: FileName,
    /// What is yet to come, the next one last.
    entries: Vec<Listed>,
}

#[derive(Debug)]
enum Listed {
    Entry {
        name: OsString,
        is_folder: bool,
    },
    /// The listing ended early.
    Broken(Problem),
}

impl Listed {
    /// The name's bytes, with a `/` behind those of a folder.
    fn sort_key(&self) -> impl Iterator<Item = u8> {
        let (name, is_folder) = match self {
            Listed::Entry { name, is_folder } => (name.as_encoded_bytes(), *is_folder),
            Listed::Broken(_) => (&[][..], false),
        };
        name.iter().copied().chain(is_folder.then_some(b'/'))
    }
}

impl Walk {
    /// Begins at a folder; a symbolic link to one is followed. The files of these names are not looked at.
    pub fn new(root: &Path, left_out: impl IntoIterator<Item = FileName>) -> io::Result<Walk> {
        let entries = list(root)?;
        let folders = vec![Folder { path: root.to_owned(), name: FileName::new([]), entries }];
        Ok(Walk { left_out: left_out.into_iter().collect(), folders, file: None })
    }

    fn look(&mut self, path: PathBuf) -> Result<What, Problem> {
        let metadata = fs::symlink_metadata(&path).map_err(Problem::refused("look at it"))?;
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(Problem::refused("read the link"))?;
            return Ok(What::Link { target: FileName::new(target.as_os_str().as_encoded_bytes()) });
        }
        if metadata.is_dir() {
            return Err(Problem::Changed("it became a folder".to_owned()));
        }
        if !metadata.is_file() {
            return Ok(What::Special);
        }
        let state = State::of(&metadata);
        self.file = Some((path, state));
        Ok(What::File { size: state.size, modified: state.modified })
    }
}

impl Source for Walk {
    fn next(&mut self) -> Option<Found> {
        loop {
            let folder = self.folders.last_mut()?;
            let (listed, is_folder) = match folder.entries.pop() {
                None => {
                    self.folders.pop();
                    continue;
                }
                Some(Listed::Broken(problem)) => {
                    return Some(Found { name: folder.name.as_folder(), what: What::Unread(problem) });
                }
                Some(Listed::Entry { name, is_folder }) => (name, is_folder),
            };
            let path = folder.path.join(&listed);
            let name = folder.name.join(listed.as_encoded_bytes());
            if is_folder {
                match list(&path) {
                    Ok(entries) => self.folders.push(Folder { path, name, entries }),
                    Err(source) => {
                        let what = What::Unread(Problem::Refused { step: "list", source });
                        return Some(Found { name: name.as_folder(), what });
                    }
                }
            } else if !self.left_out.contains(&name) {
                let what = self.look(path).unwrap_or_else(What::Unread);
                return Some(Found { name, what });
            }
        }
    }

    fn open(&mut self) -> Result<Box<dyn Content + '_>, Problem> {
        let (path, state) = self.file.take().expect("a file was found");
        let file = File::open(path).map_err(Problem::refused("open"))?;
        // Whether something else has taken the file's place since it was looked at is seen when it settles.
        Ok(Box::new(OpenFile { file, state }))
    }
}

/// What is in a folder, the first one last.
fn list(path: &Path) -> io::Result<Vec<Listed>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let listed = entry.and_then(|entry| Ok((entry.file_type()?.is_dir(), entry.file_name())));
        match listed {
            Ok((is_folder, name)) => entries.push(Listed::Entry { name, is_folder }),
            Err(source) => entries.push(Listed::Broken(Problem::Refused { step: "list", source })),
        }
    }
    entries.sort_unstable_by(|one, other| other.sort_key().cmp(one.sort_key()));
    Ok(entries)
}

/// By what a change is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    size: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(metadata: &Metadata) -> State {
        State { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

struct OpenFile {
    file: File,
    /// As it was when it was found.
    state: State,
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Content for OpenFile {
    fn settle(&mut self) -> Result<(), Problem> {
        let now = State::of(&self.file.metadata().map_err(Problem::refused("look at it"))?);
        if now.size != self.state.size {
            return Err(Problem::Changed(format!("its size was {}, now {}", self.state.size, now.size)));
        }
        if now != self.state {
            return Err(Problem::Changed("its modification time is another now".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "somebody has to write the files that are found")]
mod tests {
    use super::*;

    fn names(root: &Path, left_out: &[&str]) -> Vec<String> {
        let mut walk = Walk::new(root, left_out.iter().map(|name| FileName::new(*name))).unwrap();
        std::iter::from_fn(|| walk.next()).map(|found| found.name.to_string()).collect()
    }

    #[test]
    fn files_come_in_byte_order_of_their_whole_path() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/b", "a-b", "a.b", "a0", "a/c/d", "B", "\u{e9}", "empty/deeper/none"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::remove_file(root.path().join("empty/deeper/none")).unwrap();
        let found = names(root.path(), &[]);
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!(found, ["B", "a-b", "a.b", "a/b", "a/c/d", "a0", "\u{e9}"]);
    }

    #[test]
    fn what_is_left_out_is_so_by_its_whole_path() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        for name in ["out.yaml", "in/out.yaml"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        assert_eq!(names(root.path(), &["out.yaml"]), ["in/out.yaml"]);
    }

    #[test]
    fn a_file_that_changed_since_it_was_found_does_not_settle() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut walk = Walk::new(root.path(), []).unwrap();
        walk.next().unwrap();
        fs::write(&path, "three").unwrap();
        let problem = walk.open().unwrap().settle().unwrap_err().to_string();
        assert_eq!(problem, "changed while it was read: its size was 3, now 5");
    }
}
