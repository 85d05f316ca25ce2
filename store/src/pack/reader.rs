//! Reading bytes out of packs by their place.
//!
//! The reader needs of a pack only that it can be read at an offset, so that packs may one day lie elsewhere than on a
//! local disk. A pack keeps its number when it is sealed; only its name changes.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Place;
use crate::disk::{Disk, DiskFile};
use crate::id::{Blake3, Sha256};
use crate::layout::Layout;

/// Bytes that could not be read from a pack.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The pack's file cannot be read.
    #[error("cannot read {} bytes at offset {} of {}", place.length, place.offset, path.display())]
    Io {
        /// Where the bytes should be.
        place: Place,
        /// The pack.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A text that does not unpack to what it should be.
    #[error("the index text at offset {} of pack {} is damaged: {problem}", place.offset, place.pack)]
    Text {
        /// Where the text lies.
        place: Place,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads from the packs of one mirror; clones share their open files.
#[derive(Clone, Debug)]
pub struct PackReader {
    disk: Arc<dyn Disk>,
    layout: Layout,
    text_limit: u64,
    files: Arc<Mutex<HashMap<u32, Arc<dyn DiskFile>>>>,
}

/// Packs that are kept open for reading.
const OPEN_PACKS: usize = 64;

impl PackReader {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, text_limit: u64) -> Self {
        PackReader { disk, layout, text_limit, files: Arc::default() }
    }

    /// The bytes at a place.
    pub fn read(&self, place: Place) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; place.length as usize];
        self.read_into(place, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buffer` from `skip` bytes behind the beginning of a place.
    pub fn read_into(&self, place: Place, skip: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.file(place.pack)
            .and_then(|file| file.read_exact_at(buffer, place.offset + skip))
            .map_err(|source| ReadError::Io { place, path: self.path(place.pack), source })
    }

    /// The index text at a place, unpacked and checked against its BLAKE3.
    pub fn text(&self, place: Place, blake3: Blake3) -> Result<Vec<u8>, ReadError> {
        let packed = self.read(place)?;
        let damaged = |problem: String| ReadError::Text { place, problem };
        let text = unpack(&packed, self.text_limit).map_err(|error| damaged(error.to_string()))?;
        let found = Blake3::of(&text);
        if found != blake3 {
            return Err(damaged(format!("BLAKE3 is {found}, should be {blake3}")));
        }
        Ok(text)
    }

    /// The SHA-256 of the bytes at a place.
    pub fn hash(&self, place: Place) -> Result<Sha256, ReadError> {
        self.file(place.pack)
            .and_then(|file| super::scan::hash_range(file.as_ref(), place.offset, place.length))
            .map_err(|source| ReadError::Io { place, path: self.path(place.pack), source })
    }

    fn file(&self, pack: u32) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&pack) {
            return Ok(file.clone());
        }
        if files.len() >= OPEN_PACKS {
            files.clear();
        }
        let file = self.open(pack)?;
        files.insert(pack, file.clone());
        Ok(file)
    }

    fn open(&self, pack: u32) -> io::Result<Arc<dyn DiskFile>> {
        match self.disk.open_read(&self.layout.sealed_pack(pack)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match self.disk.open_read(&self.layout.open_pack(pack)) {
            // It may have been sealed between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.open_read(&self.layout.sealed_pack(pack))
            }
            other => other,
        }
    }

    fn path(&self, pack: u32) -> PathBuf {
        let sealed = self.layout.sealed_pack(pack);
        if sealed.exists() { sealed } else { self.layout.open_pack(pack) }
    }
}

/// An index text as it lies in a pack: gzip with fixed settings.
pub(crate) fn pack_text(text: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer =
        flate2::write::GzEncoder::new(Vec::with_capacity(text.len() / 4 + 64), flate2::Compression::new(6));
    packer.write_all(text).expect("memory takes every write");
    packer.finish().expect("memory takes every write")
}

fn unpack(packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(packed.len() * 4);
    flate2::read::GzDecoder::new(packed).take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
    }
    Ok(text)
}
