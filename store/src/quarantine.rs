//! Bytes that failed their check, kept for a look.
//!
//! The folder is bounded: the oldest files make room for new ones. Files are named by the SHA-256 that the bytes have,
//! not by the one they should have; nothing ever reads them back.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::body::Body;
use crate::layout::Layout;

/// The folder for bytes that failed their check.
#[derive(Clone, Debug)]
pub struct Quarantine {
    dir: PathBuf,
    limit: u64,
}

/// Bytes that could not be kept in the quarantine.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep bytes in {}", dir.display())]
pub struct QuarantineError {
    dir: PathBuf,
    source: io::Error,
}

impl Quarantine {
    /// The quarantine of a mirror, which keeps at most `limit` bytes.
    pub fn new(layout: &Layout, limit: u64) -> Self {
        Quarantine { dir: layout.quarantine(), limit }
    }

    /// Keeps a body; returns where. None if it is larger than the whole quarantine.
    pub fn keep(&self, body: Body) -> Result<Option<PathBuf>, QuarantineError> {
        let length = body.length();
        if length > self.limit {
            return Ok(None);
        }
        self.store(body, length).map(Some).map_err(|source| QuarantineError { dir: self.dir.clone(), source })
    }

    fn store(&self, body: Body, length: u64) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        self.make_room(length)?;
        let path = self.dir.join(format!("{}.bin", body.computed()));
        let mut file = fs::File::create(&path)?;
        body.into_bytes().each_piece(|piece| file.write_all(piece))?;
        Ok(path)
    }

    fn make_room(&self, length: u64) -> io::Result<()> {
        let mut files = list(&self.dir)?;
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total + length <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

fn list(dir: &Path) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyBuilder;

    fn body(content: &[u8]) -> Body {
        let mut body = BodyBuilder::in_memory(content.len());
        body.push(content).unwrap();
        body.finish(None)
    }

    #[test]
    fn the_quarantine_keeps_the_newest_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(&Layout::new(dir.path()), 10);
        let first = quarantine.keep(body(b"123456")).unwrap().unwrap();
        let second = quarantine.keep(body(b"abcdef")).unwrap().unwrap();
        assert!(!first.exists());
        assert_eq!(fs::read(second).unwrap(), b"abcdef");
        assert_eq!(quarantine.keep(body(b"far too long for it")).unwrap(), None);
    }
}
