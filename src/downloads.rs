//! Who took which crate file from a server, if that is to be known: lines in files of the mirror's log folder.
//!
//! It is off unless somebody wants it, since it tells who works with what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{CrateName, Layout, ReleaseId, Version};
use serde::Serialize;

use crate::cli::Rotation;
use crate::logging::LogFile;

/// A file ends at this size, and so many older ones are kept: some millions of downloads.
const SIZE: u64 = 64 << 20;
const KEPT: usize = 8;

/// Where a server writes downloads down.
pub struct Downloads(LogFile);

/// What somebody took of a crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Which release.
    pub version: Version,
    /// The name of a token, or an address.
    pub by: String,
    /// How often.
    pub times: u64,
    /// The first time, as RFC 3339 has it.
    pub first: String,
    /// The last time.
    pub last: String,
}

impl Downloads {
    /// Opens the file of a mirror.
    pub fn open(layout: &Layout) -> io::Result<Downloads> {
        let rotate = Rotation { size: Some(SIZE), daily: false };
        LogFile::open(&layout.downloads(), rotate, KEPT, |problem| tracing::error!("{problem}")).map(Downloads)
    }

    /// Writes down that somebody takes a crate file, or a part of it. `by` has no spaces.
    pub fn note(&self, release: &ReleaseId, by: &str) {
        let (time, ReleaseId { name, version }) = (rfc3339(SystemClock.now()), release);
        self.0.append(format!("{time} {} {version} {by}\n", name.lower()).as_bytes());
    }
}

/// Who took a crate, or a release of it, as far as it was written down; by version, then name.
pub fn of(layout: &Layout, name: &CrateName, version: Option<&Version>) -> io::Result<Vec<Taken>> {
    let name = name.lower();
    let mut taken: BTreeMap<(Version, String), Taken> = BTreeMap::new();
    for path in files(layout)? {
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = line?;
            let Some((time, of, by)) = std::str::from_utf8(&line).ok().and_then(parse) else { continue };
            if of.name != name || version.is_some_and(|version| of.version != *version) {
                continue;
            }
            let key = (of.version, by.to_owned());
            let entry = taken.entry(key).or_insert_with_key(|(version, by)| Taken {
                version: version.clone(),
                by: by.clone(),
                times: 0,
                first: time.to_owned(),
                last: time.to_owned(),
            });
            entry.times += 1;
            time.clone_into(&mut entry.last);
        }
    }
    Ok(taken.into_values().collect())
}

/// A line's time, release and who took it.
fn parse(line: &str) -> Option<(&str, ReleaseId, &str)> {
    let mut words = line.split(' ');
    let (time, name, version, by) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some((time, ReleaseId { name: name.parse().ok()?, version: version.parse().ok()? }, by))
}

/// All files, the oldest first: renamed ones have their time behind the name.
fn files(layout: &Layout) -> io::Result<Vec<std::path::PathBuf>> {
    let current = layout.downloads();
    let begins = format!("{}.", current.file_name().unwrap_or_default().to_string_lossy());
    let mut files = Vec::new();
    match std::fs::read_dir(layout.log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => {
            for entry in entries? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&begins) {
                    files.push(entry.path());
                }
            }
        }
    }
    files.sort();
    files.extend(current.is_file().then_some(current));
    Ok(files)
}
