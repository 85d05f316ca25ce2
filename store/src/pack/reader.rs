//! Reading bytes out of packs by their place.
//!
//! The reader needs of a pack only that it can be read at an offset, so that packs may one day lie elsewhere than on a
//! local disk. A pack keeps its number when it is sealed; only its name changes.
//!
//! Who serves bytes has them [proven](PackReader::is_proven) first: what lies at a place is compared with its digest the
//! first time that a process reads it, so that a disk's bit rot is never handed on, and not again, so that it costs nothing.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::proven::Proven;
use crate::Place;
use crate::disk::{Disk, DiskFile};
use crate::facts::{Facts, FactsPlace};
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
    /// Facts that are not what was stored.
    #[error("the facts at offset {} of pack {} are damaged: {problem}; run `crateferry verify`", place.offset, place.pack)]
    Facts {
        /// Where they lie.
        place: Place,
        /// What is wrong with them.
        problem: String,
    },
    /// An archive of an advisory database that is not what was stored.
    #[error("the advisory database at offset {} of pack {} is damaged: {problem}; run `crateferry verify`", place.offset, place.pack)]
    Advisories {
        /// Where it lies.
        place: Place,
        /// What is wrong with it.
        problem: String,
    },
    /// The bytes of a crate file that are not those that were stored.
    #[error("the crate file at offset {} of pack {} is damaged: {problem}; run `crateferry verify`", place.offset, place.pack)]
    Object {
        /// Where the bytes lie.
        place: Place,
        /// What is wrong with them.
        problem: String,
    },
}

/// Reads from the packs of one mirror. A clone is the same reader.
#[derive(Clone, Debug)]
pub struct PackReader(Arc<Packs>);

#[derive(Debug)]
struct Packs {
    disk: Arc<dyn Disk>,
    layout: Layout,
    text_limit: u64,
    files: Mutex<HashMap<u32, Arc<dyn DiskFile>>>,
    proven: Proven,
}

/// Packs that are kept open for reading.
const OPEN_PACKS: usize = 512;

impl PackReader {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, text_limit: u64) -> Self {
        let (files, proven) = (Mutex::default(), Proven::default());
        PackReader(Arc::new(Packs { disk, layout, text_limit, files, proven }))
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

    /// Copies the bytes at a place to a new file, inside the kernel where it does that; says how many it copied. What it left is
    /// to be read and written, and what it did to be looked at: it compares with nothing.
    pub(crate) fn copy_in_kernel(&self, place: Place, to: &std::fs::File) -> u64 {
        self.file(place.pack).map_or(0, |file| file.copy_in_kernel(place.offset, to, 0, place.length))
    }

    /// Fills `buffer` like [`read_into`](Self::read_into), if that needs no waiting for a disk; says whether it did. May
    /// always say no.
    pub fn read_now(&self, place: Place, skip: u64, buffer: &mut [u8]) -> Result<bool, ReadError> {
        self.file(place.pack)
            .and_then(|file| file.read_now_at(buffer, place.offset + skip))
            .map_err(|source| ReadError::Io { place, path: self.path(place.pack), source })
    }

    /// Whether the bytes at a place were found right since this process runs. May forget.
    pub fn is_proven(&self, place: Place) -> bool {
        self.0.proven.has(place)
    }

    /// Reads the crate file at a place and compares it with its SHA-256.
    pub fn prove(&self, place: Place, promised: Sha256) -> Result<(), ReadError> {
        let found = self.hash(place)?;
        if found != promised {
            let problem = format!("SHA-256 is {found}, should be {promised}");
            return Err(ReadError::Object { place, problem });
        }
        self.0.proven.add(place);
        Ok(())
    }

    /// Reads the index text at a place and compares it with its BLAKE3.
    pub fn prove_text(&self, place: Place, blake3: Blake3) -> Result<(), ReadError> {
        self.text(place, blake3)?;
        self.0.proven.add(place);
        Ok(())
    }

    /// The archive of an advisory database at a place, compared with its SHA-256.
    pub fn advisories(&self, place: Place, promised: Sha256) -> Result<Vec<u8>, ReadError> {
        let bytes = self.read(place)?;
        let found = Sha256::of(&bytes);
        if found == promised {
            return Ok(bytes);
        }
        Err(ReadError::Advisories { place, problem: format!("SHA-256 is {found}, should be {promised}") })
    }

    /// The index text at a place, unpacked and checked against its BLAKE3.
    pub fn text(&self, place: Place, blake3: Blake3) -> Result<Vec<u8>, ReadError> {
        let packed = self.read(place)?;
        let damaged = |problem: String| ReadError::Text { place, problem };
        let text = unpack(&packed, self.0.text_limit).map_err(|error| damaged(error.to_string()))?;
        let found = Blake3::of(&text);
        if found != blake3 {
            return Err(damaged(format!("BLAKE3 is {found}, should be {blake3}")));
        }
        Ok(text)
    }

    /// The facts at a place, checked against their document's SHA-256.
    pub fn facts(&self, place: &FactsPlace) -> Result<Facts, ReadError> {
        let damaged = |problem: String| ReadError::Facts { place: place.place, problem };
        let text = self.read(place.place)?;
        let found = Sha256::of(&text);
        if found != place.sha256 {
            return Err(damaged(format!("SHA-256 is {found}, should be {}", place.sha256)));
        }
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
    }

    /// The bytes at a place, to be read piece by piece.
    pub fn reader(&self, place: Place) -> impl io::Read + Send + use<> {
        PlaceReader { packs: self.clone(), place, at: 0 }
    }

    /// How long the index text at a place is, in bytes.
    pub fn text_length(&self, place: Place) -> Result<u64, ReadError> {
        // RFC 1952: the last four bytes of a gzip member are the length of what was packed.
        let mut trailer = [0; 4];
        self.read_into(place, place.length.saturating_sub(4), &mut trailer)?;
        Ok(u32::from_le_bytes(trailer).into())
    }

    /// The index text at a place, to be unpacked piece by piece.
    pub fn text_reader(&self, place: Place) -> TextReader {
        let packed = PlaceReader { packs: self.clone(), place, at: 0 };
        TextReader(flate2::bufread::GzDecoder::new(io::BufReader::new(packed)))
    }

    /// The SHA-256 of the bytes at a place.
    pub fn hash(&self, place: Place) -> Result<Sha256, ReadError> {
        self.file(place.pack)
            .and_then(|file| super::scan::hash_range(file.as_ref(), place.offset, place.length))
            .map_err(|source| ReadError::Io { place, path: self.path(place.pack), source })
    }

    fn file(&self, pack: u32) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&pack) {
            return Ok(file.clone());
        }
        if files.len() >= OPEN_PACKS {
            files.clear();
        }
        let file = match self.open(pack) {
            // There may be fewer descriptors than packs.
            Err(_) if !files.is_empty() => {
                files.clear();
                self.open(pack)?
            }
            other => other?,
        };
        files.insert(pack, file.clone());
        Ok(file)
    }

    fn open(&self, pack: u32) -> io::Result<Arc<dyn DiskFile>> {
        match self.0.disk.open_read(&self.0.layout.sealed_pack(pack)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match self.0.disk.open_read(&self.0.layout.open_pack(pack)) {
            // It may have been sealed between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.0.disk.open_read(&self.0.layout.sealed_pack(pack))
            }
            other => other,
        }
    }

    fn path(&self, pack: u32) -> PathBuf {
        let sealed = self.0.layout.sealed_pack(pack);
        if sealed.exists() { sealed } else { self.0.layout.open_pack(pack) }
    }
}

/// An index text that is unpacked as it is read, with little memory.
pub struct TextReader(flate2::bufread::GzDecoder<io::BufReader<PlaceReader>>);

impl io::Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Reads a place from its beginning to its end.
struct PlaceReader {
    packs: PackReader,
    place: Place,
    at: u64,
}

impl io::Read for PlaceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.place.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        self.packs.read_into(self.place, self.at, &mut buffer[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
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
