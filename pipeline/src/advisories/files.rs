//! The files of an advisory database, and the archive that they are kept as.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use crateferry_store::{AdvisoryDb, Sha256};

/// Where the advisories about crates lie.
const CRATES: &str = "crates/";

/// The real database has a thousand advisories and 4 MiB; what has more than this means harm.
const MOST_FILES: usize = 100_000;
const LONGEST_FILE: u64 = 1 << 20;
const MOST_BYTES: u64 = 64 << 20;

/// The level of zstd: archives are small, and made once.
const LEVEL: i32 = 19;

/// Files that are no advisory database, or none of a size that any has.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Something cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Larger than any.
    #[error(
        "it has more than {MOST_FILES} files, or a file of more than {LONGEST_FILE} bytes, or more than {MOST_BYTES} bytes"
    )]
    Large,
    /// A path that no file of a database has.
    #[error("it has a file {0:?}, which no checkout could have")]
    Path(String),
    /// No advisories.
    #[error("it has no advisories: no `crates/NAME/*.md`")]
    None,
}

/// Files by path, with `/` between its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    by_path: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl Files {
    /// Adds a file. Its path comes from elsewhere, and is used as a name only.
    pub fn add(&mut self, path: &str, content: Vec<u8>) -> Result<(), FilesError> {
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
        if path.contains(['\0', '\\']) || path.len() > 1024 || !path.split('/').all(is_part) {
            return Err(FilesError::Path(path.to_owned()));
        }
        self.bytes += content.len() as u64;
        if content.len() as u64 > LONGEST_FILE || self.bytes > MOST_BYTES || self.by_path.len() >= MOST_FILES {
            return Err(FilesError::Large);
        }
        self.by_path.insert(path.to_owned(), content);
        Ok(())
    }

    /// The advisories among the files of a folder.
    pub fn of_folder(folder: &Path) -> Result<Files, FilesError> {
        let mut files = Files::default();
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| FilesError::Read { path, source }
        };
        let list = |path: &Path| -> Result<Vec<std::fs::DirEntry>, FilesError> {
            std::fs::read_dir(path).and_then(Iterator::collect).map_err(failed(path))
        };
        for package in list(&folder.join(CRATES))?.into_iter().filter(|entry| entry.path().is_dir()) {
            for file in list(&package.path())?.into_iter().filter(|entry| entry.path().is_file()) {
                let mut content = Vec::new();
                let open = std::fs::File::open(file.path()).map_err(failed(&file.path()))?;
                open.take(LONGEST_FILE + 1).read_to_end(&mut content).map_err(failed(&file.path()))?;
                let (package, name) = (package.file_name(), file.file_name());
                files.add(&format!("{CRATES}{}/{}", package.to_string_lossy(), name.to_string_lossy()), content)?;
            }
        }
        Ok(files)
    }

    /// All of them, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.by_path.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// The advisories about crates.
    pub fn advisories(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let is_advisory = |path: &str| path.strip_prefix(CRATES).and_then(|rest| rest.strip_suffix(".md")).is_some();
        self.iter().filter(move |(path, _)| is_advisory(path))
    }

    /// Their archive, and what is to be known of it. The same files give the same bytes.
    pub fn pack(&self, commit: &str, committed_at: u64) -> Result<(Vec<u8>, AdvisoryDb), FilesError> {
        let advisories = self.advisories().count() as u64;
        if advisories == 0 {
            return Err(FilesError::None);
        }
        let packed = self.archive().map_err(|source| FilesError::Read { path: "the archive".to_owned(), source })?;
        let (sha256, commit) = (Sha256::of(&packed), commit.to_owned());
        Ok((packed, AdvisoryDb { sha256, commit, committed_at, advisories }))
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in self.iter() {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_entry_type(tar::EntryType::Regular);
            archive.append_data(&mut header, path, content)?;
        }
        zstd::bulk::compress(&archive.into_inner()?, LEVEL)
    }

    /// What lies in an archive that [`pack`](Self::pack) made.
    pub fn unpack(archive: &[u8]) -> Result<Files, FilesError> {
        let failed = |source| FilesError::Read { path: "the archive".to_owned(), source };
        let text = zstd::stream::read::Decoder::new(archive).map_err(failed)?;
        // Headers and fill are as much again, at most.
        let mut archive = tar::Archive::new(text.take(2 * MOST_BYTES + 1024 * MOST_FILES as u64));
        let mut files = Files::default();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.by_ref().take(LONGEST_FILE + 1).read_to_end(&mut content).map_err(failed)?;
            files.add(&path, content)?;
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_gives_back_its_files_and_is_the_same_each_time() {
        let mut files = Files::default();
        let long = format!("crates/{}/RUSTSEC-2026-0001.md", "n".repeat(200));
        for path in ["crates/a/RUSTSEC-2026-0002.md", "support.toml", ".duplicate-id-guard", &long] {
            files.add(path, path.as_bytes().to_vec()).unwrap();
        }
        let (packed, database) = files.pack("c0ffee", 7).unwrap();
        assert_eq!((database.advisories, database.sha256), (2, Sha256::of(&packed)));
        assert_eq!(Files::unpack(&packed).unwrap(), files);
        assert_eq!(files.pack("c0ffee", 7).unwrap().0, packed);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let mut files = Files::default();
        for path in ["../x", "/etc/passwd", "a//b", "a/.git/config", "a/.GIT", "a\\b", "", "a/\0", &"x/".repeat(600)] {
            assert!(matches!(files.add(path, Vec::new()), Err(FilesError::Path(_))), "{path:?}");
        }
        assert!(matches!(files.add("long", vec![0; 1 + (1 << 20)]), Err(FilesError::Large)));
        let mut many = Files::default();
        let mut add = (0..100).map(|number| many.add(&number.to_string(), vec![0; 1 << 20]));
        assert!(matches!(add.find(Result::is_err), Some(Err(FilesError::Large))));
        assert!(matches!(Files::default().pack("c0ffee", 0), Err(FilesError::None)));
        assert!(Files::unpack(b"no archive").is_err());
    }
}
