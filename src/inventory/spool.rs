//! Entries in a file that has no name: one line of JSON each.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::path::Path;

use super::document::Entry;

/// Takes entries in.
pub struct Spool(BufWriter<File>);

impl Spool {
    /// An empty one, on the disk that a folder lies on.
    pub fn new(dir: &Path) -> io::Result<Spool> {
        Ok(Spool(BufWriter::new(tempfile::tempfile_in(dir)?)))
    }

    /// Takes the next one.
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, entry)?;
        self.0.write_all(b"\n")
    }

    /// There are no more.
    pub fn finish(self) -> io::Result<Spooled> {
        Ok(Spooled(self.0.into_inner()?))
    }
}

/// Gives entries out, as often as is asked.
pub struct Spooled(File);

impl Spooled {
    /// All of them, in the order in which they came.
    pub fn entries(&mut self) -> io::Result<impl Iterator<Item = io::Result<Entry>> + '_> {
        self.0.rewind()?;
        let lines = BufReader::new(&self.0).split(b'\n');
        Ok(lines.map(|line| Ok(serde_json::from_slice(&line?)?)))
    }
}
