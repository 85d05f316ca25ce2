//! What is known of bundles whose generation is not served yet: their manifests, the tables of the volumes that were taken in, and
//! frames that cannot be read before another bundle is applied.
//!
//! A file is written when all that it stands for is durable, so that a volume that has its table here need not be read again.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::contents::{ContentsError, Lines};
use super::manifest::{BundleId, Manifest};
use crate::id::Blake3;
use crate::layout::Layout;
use crate::mirror::write_durably;
use crate::open_error::OpenError;

/// A file of a bundle that cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// It cannot be written.
    #[error("cannot keep what is known of a bundle")]
    Write(#[source] Box<OpenError>),
    /// It cannot be read or removed.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A table that was kept is damaged.
    #[error("what is kept of volume {number} is damaged; apply the bundle again")]
    Contents {
        /// The volume.
        number: u32,
        /// Why.
        source: ContentsError,
    },
}

/// The part of `incoming/` that belongs to one bundle.
#[derive(Clone, Debug)]
pub struct Inbox {
    dir: PathBuf,
}

impl Inbox {
    /// That of a bundle.
    pub fn of(layout: &Layout, bundle: &BundleId) -> Inbox {
        Inbox { dir: layout.incoming().join(bundle.as_str()) }
    }

    /// The bundles that wait, in order of their ids.
    pub fn waiting(layout: &Layout) -> Result<Vec<BundleId>, InboxError> {
        let path = layout.incoming();
        let failed = |source| InboxError::Io { path: path.clone(), source };
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Keeps a manifest whose signature was checked.
    pub fn keep_manifest(&self, text: &[u8]) -> Result<(), InboxError> {
        self.keep("manifest.json", text)
    }

    /// The manifest that was kept.
    pub fn manifest(&self) -> Result<Option<Vec<u8>>, InboxError> {
        self.read("manifest.json")
    }

    /// Keeps the table of a volume of which all is durable.
    pub fn keep_contents(&self, number: u32, contents: &[u8]) -> Result<(), InboxError> {
        self.keep(&contents_name(number), contents)
    }

    /// Whether a volume was taken in.
    pub fn has_taken(&self, manifest: &Manifest, number: u32) -> Result<bool, InboxError> {
        let Some(summary) = manifest.volume(number) else { return Ok(false) };
        let contents = self.read(&contents_name(number))?;
        Ok(contents.is_some_and(|contents| Blake3::of(&contents) == summary.contents.blake3))
    }

    /// The volumes that are not taken in yet.
    pub fn lacking(&self, manifest: &Manifest) -> Result<Vec<u32>, InboxError> {
        let mut lacking = Vec::new();
        for number in 1..=manifest.volumes.len() as u32 {
            if !self.has_taken(manifest, number)? {
                lacking.push(number);
            }
        }
        Ok(lacking)
    }

    /// The lines of a volume that was taken in.
    pub fn lines(&self, number: u32) -> Result<Lines<BufReader<File>>, InboxError> {
        let path = self.dir.join(contents_name(number));
        let file = File::open(&path).map_err(|source| InboxError::Io { path, source })?;
        Lines::read(BufReader::new(file)).map_err(|source| InboxError::Contents { number, source })
    }

    /// Keeps a frame that builds upon what is not held yet.
    pub fn keep_frame(&self, blake3: Blake3, frame: &[u8]) -> Result<(), InboxError> {
        self.keep(&frame_name(blake3), frame)
    }

    /// Whether a frame was kept.
    pub fn has_frame(&self, blake3: Blake3) -> bool {
        self.dir.join(frame_name(blake3)).is_file()
    }

    /// Bytes of the frames that were kept.
    pub fn frames_length(&self) -> Result<u64, InboxError> {
        length_of(&self.dir, |name| name.ends_with(FRAME))
    }

    /// Bytes of all that waits in a mirror.
    pub fn occupied(layout: &Layout) -> Result<u64, InboxError> {
        let of = |bundle: &BundleId| length_of(&Inbox::of(layout, bundle).dir, |_| true);
        Inbox::waiting(layout)?.iter().map(of).sum()
    }

    /// A frame that was kept, if it was.
    pub fn frame(&self, blake3: Blake3) -> Result<Option<Vec<u8>>, InboxError> {
        self.read(&frame_name(blake3))
    }

    /// A file for a volume that is made again. Whatever was left of it by a run that was killed is gone.
    pub fn rebuilding(&self, number: u32) -> Result<Rebuilding, InboxError> {
        let path = self.dir.join(format!("rebuilding-{number:04}.tar"));
        let failed = |source| InboxError::Io { path: path.clone(), source };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
        Ok(Rebuilding { file, path })
    }

    /// Forgets the bundle: it is served.
    pub fn remove(&self) -> Result<(), InboxError> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(InboxError::Io { path: self.dir.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), InboxError> {
        std::fs::create_dir_all(&self.dir).map_err(|source| InboxError::Io { path: self.dir.clone(), source })?;
        write_durably(&self.dir.join(name), bytes).map_err(|error| InboxError::Write(Box::new(error)))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, InboxError> {
        let path = self.dir.join(name);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(InboxError::Io { path, source }),
        }
    }
}

/// Bytes of the files in a folder that have such names; none if there is no such folder.
fn length_of(dir: &Path, counts: impl Fn(&str) -> bool) -> Result<u64, InboxError> {
    let failed = |source| InboxError::Io { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut length = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(&counts) {
            length += entry.metadata().map_err(failed)?.len();
        }
    }
    Ok(length)
}

const FRAME: &str = ".cfrf";

/// A volume that is made again, as long as somebody needs it.
#[derive(Debug)]
pub struct Rebuilding {
    /// Open for reading and writing.
    pub file: File,
    path: PathBuf,
}

impl Drop for Rebuilding {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn frame_name(blake3: Blake3) -> String {
    format!("frame-{blake3}{FRAME}")
}

fn contents_name(number: u32) -> String {
    format!("contents-{number:04}.jsonl.zst")
}
