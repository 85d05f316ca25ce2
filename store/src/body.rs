//! Bytes on probation, and bytes that were proven.
//!
//! A body is hashed while it arrives, so that its bytes are read once while they are still in the processor's
//! cache. Small bodies stay in memory; large ones go to a file in `tmp/`, which the ledger never refers to and
//! which is emptied each time a mirror is opened for writing. The only way from a [`Body`] to
//! [`VerifiedBytes`], and so into a pack, is [`Body::prove`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::id::Sha256;

/// Something that is held as long as the bytes occupy memory, and dropped once they are in a pack.
pub type Lease = Box<dyn Send + Sync>;

/// A file of the spool that could not be made or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} a large body in {}", dir.display())]
pub struct BodyError {
    step: &'static str,
    dir: PathBuf,
    source: io::Error,
}

/// Bytes whose SHA-256 is not the promised one.
#[derive(Debug, thiserror::Error)]
#[error("checksum mismatch: promised {promised}, received {computed} ({length} bytes)")]
pub struct Mismatch {
    /// What the index promised.
    pub promised: Sha256,
    /// What the bytes hash to.
    pub computed: Sha256,
    /// How many bytes there were.
    pub length: u64,
    /// The bytes themselves, for the quarantine.
    pub body: Body,
}

/// The folder for large bodies.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// Bytes of a large body that are gathered in memory before they are written.
    pub const GATHERED: usize = 256 << 10;

    /// Bodies in this folder.
    pub fn new(dir: &Path) -> Self {
        Spool { dir: dir.to_owned() }
    }

    /// Begins a body that is kept in a file without a name.
    pub fn begin(&self) -> Result<BodyBuilder, BodyError> {
        let file = crate::os::anonymous_file(&self.dir).map_err(cannot("begin", &self.dir))?;
        Ok(BodyBuilder { hasher: sha2::Sha256::new(), length: 0, kept: Kept::File(file.into()), dir: self.dir.clone() })
    }
}

/// A body that is still arriving.
#[derive(Debug)]
pub struct BodyBuilder {
    hasher: sha2::Sha256,
    length: u64,
    kept: Kept,
    dir: PathBuf,
}

#[derive(Debug)]
enum Kept {
    Memory(Vec<u8>),
    File(Gathering),
}

/// A file that takes small pieces and is written in large ones. What was gathered last stays in memory: nobody needs
/// it on the disk.
#[derive(Debug)]
struct Gathering {
    file: File,
    written: u64,
    gathered: Vec<u8>,
}

impl From<File> for Gathering {
    fn from(file: File) -> Self {
        Gathering { file, written: 0, gathered: Vec::new() }
    }
}

impl Gathering {
    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.gathered.len() + chunk.len() > Spool::GATHERED {
            self.write_out()?;
        }
        self.gathered.extend_from_slice(chunk);
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        crate::os::write_all_at(&self.file, &self.gathered, self.written)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn each_piece(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.written {
            let want = buffer.len().min(usize::try_from(self.written - at).unwrap_or(usize::MAX));
            crate::os::read_exact_at(&self.file, &mut buffer[..want], at)?;
            take(&buffer[..want])?;
            at += want as u64;
        }
        take(&self.gathered)
    }
}

impl BodyBuilder {
    /// Begins a body in memory; `expected` bytes are reserved.
    pub fn in_memory(expected: usize) -> Self {
        BodyBuilder {
            hasher: sha2::Sha256::new(),
            length: 0,
            kept: Kept::Memory(Vec::with_capacity(expected)),
            dir: PathBuf::new(),
        }
    }

    /// Takes the next bytes: keeps and hashes them. What cannot be kept is not hashed, so the digest is always that of
    /// the bytes that are there.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        match &mut self.kept {
            Kept::Memory(bytes) => bytes.extend_from_slice(chunk),
            Kept::File(file) => file.push(chunk).map_err(cannot("write", &self.dir))?,
        }
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }

    /// Gives back the memory that a large body holds, until its next bytes come: what was gathered is written.
    pub fn set_aside(mut self) -> Result<Self, BodyError> {
        if let Kept::File(file) = &mut self.kept {
            file.write_out().map_err(cannot("write", &self.dir))?;
            file.gathered = Vec::new();
        }
        Ok(self)
    }

    /// How many bytes have arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the body. `lease` is dropped when its bytes have been appended to a pack.
    pub fn finish(self, lease: Option<Lease>) -> Body {
        let digest = Sha256(self.hasher.finalize().into());
        Body { digest, bytes: Bytes { length: self.length, kept: self.kept, _lease: lease } }
    }
}

fn cannot(step: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> BodyError {
    move |source| BodyError { step, dir: dir.to_owned(), source }
}

/// Bytes that arrived and were hashed, but that nobody has compared with a promise.
#[derive(Debug)]
pub struct Body {
    digest: Sha256,
    bytes: Bytes,
}

impl Body {
    /// A body whose bytes are all there. `lease` is dropped when they have been appended to a pack.
    pub fn in_memory(bytes: Vec<u8>, lease: Option<Lease>) -> Body {
        let (digest, length) = (Sha256::of(&bytes), bytes.len() as u64);
        Body { digest, bytes: Bytes { length, kept: Kept::Memory(bytes), _lease: lease } }
    }

    /// How many bytes arrived.
    pub fn length(&self) -> u64 {
        self.bytes.length
    }

    /// What the bytes hash to, which nobody has promised.
    pub fn computed(&self) -> Sha256 {
        self.digest
    }

    /// Compares the digest of the bytes with the promise: the one way to [`VerifiedBytes`].
    pub fn prove(self, promised: Sha256) -> Result<VerifiedBytes, Box<Mismatch>> {
        if self.digest == promised {
            return Ok(VerifiedBytes { digest: promised, bytes: self.bytes });
        }
        Err(Box::new(Mismatch { promised, computed: self.digest, length: self.bytes.length, body: self }))
    }

    /// The bytes as they are, for the quarantine.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Bytes with a known SHA-256. Only [`Body::prove`] makes them.
#[derive(Debug)]
pub struct VerifiedBytes {
    digest: Sha256,
    bytes: Bytes,
}

impl VerifiedBytes {
    /// The SHA-256 of the bytes.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.bytes.length
    }

    /// Reads the bytes from their beginning.
    pub fn reader(&self) -> impl io::Read + '_ {
        BytesReader { bytes: &self.bytes, at: 0 }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Reads bytes from wherever they are.
struct BytesReader<'a> {
    bytes: &'a Bytes,
    at: u64,
}

impl io::Read for BytesReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bytes.read_at(self.at, buffer)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Where bytes are before they are in a pack.
pub(crate) struct Bytes {
    pub(crate) length: u64,
    kept: Kept,
    /// Only held: it is dropped with the bytes.
    _lease: Option<Lease>,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

impl Bytes {
    /// Bytes of our own making, in memory.
    pub(crate) fn own(bytes: Vec<u8>) -> Self {
        Bytes { length: bytes.len() as u64, kept: Kept::Memory(bytes), _lease: None }
    }

    /// Fills `buffer` as far as it can at once from byte `at` on; 0 at the end.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (kept, from) = match &self.kept {
            Kept::Memory(bytes) => (bytes, at),
            Kept::File(file) if at < file.written => {
                let want = buffer.len().min(usize::try_from(file.written - at).unwrap_or(usize::MAX));
                crate::os::read_exact_at(&file.file, &mut buffer[..want], at)?;
                return Ok(want);
            }
            Kept::File(file) => (&file.gathered, at - file.written),
        };
        let rest = &kept[usize::try_from(from).map_or(kept.len(), |from| from.min(kept.len()))..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Calls `take` with consecutive pieces of the bytes.
    pub(crate) fn each_piece(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match &self.kept {
            Kept::Memory(bytes) => take(bytes),
            Kept::File(file) => file.each_piece(take),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_promised_bytes_become_verified_bytes() {
        let mut body = BodyBuilder::in_memory(3);
        body.push(b"ab").unwrap();
        body.push(b"c").unwrap();
        let verified = body.finish(None).prove(Sha256::of(b"abc")).unwrap();
        assert_eq!(verified.length(), 3);
        let mut bytes = Vec::new();
        verified
            .into_bytes()
            .each_piece(|piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(bytes, b"abc");

        let mut body = BodyBuilder::in_memory(3);
        body.push(b"abd").unwrap();
        let mismatch = body.finish(None).prove(Sha256::of(b"abc")).unwrap_err();
        assert_eq!(mismatch.computed, Sha256::of(b"abd"));
        assert!(mismatch.to_string().contains(&Sha256::of(b"abc").to_string()));
    }

    fn bytes(length: u32) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    fn read_back(body: Body, promised: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        let keep = |piece: &[u8]| {
            back.extend_from_slice(piece);
            Ok(())
        };
        let verified = body.prove(Sha256::of(promised)).unwrap();
        let mut read = Vec::new();
        io::Read::read_to_end(&mut verified.reader(), &mut read).unwrap();
        assert!(read == promised);
        verified.into_bytes().each_piece(keep).unwrap();
        back
    }

    #[test]
    fn a_spooled_body_is_hashed_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = bytes(1_300_000);
        for piece in [1009, 10_007, Spool::GATHERED, 400_000] {
            let mut body = Spool::new(dir.path()).begin().unwrap();
            for chunk in bytes.chunks(piece) {
                body.push(chunk).unwrap();
            }
            assert!(read_back(body.finish(None), &bytes) == bytes, "in pieces of {piece}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_spooled_body_that_was_set_aside_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = bytes(700_000);
        let mut body = Spool::new(dir.path()).begin().unwrap();
        for part in bytes.chunks(300_000) {
            part.chunks(10_007).for_each(|chunk| body.push(chunk).unwrap());
            body = body.set_aside().unwrap();
        }
        assert!(read_back(body.finish(None), &bytes) == bytes);
    }

    /// A body in a file that takes nothing: writing to it fails, whatever came before.
    fn unwritable(dir: &Path) -> BodyBuilder {
        let path = dir.join("file");
        std::fs::write(&path, "").unwrap();
        let mut body = Spool::new(dir).begin().unwrap();
        body.kept = Kept::File(File::open(path).unwrap().into());
        body
    }

    #[test]
    fn small_pieces_are_gathered_and_a_failure_to_write_them_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let pieces = Spool::GATHERED / 1024;
        let gathered = || {
            let mut body = unwritable(dir.path());
            (0..pieces).for_each(|_| body.push(&[0; 1024]).unwrap());
            body
        };
        let mut one_more = gathered();
        let failed = [one_more.push(&[1]).unwrap_err(), gathered().set_aside().unwrap_err()];
        assert!(failed.iter().all(|error| error.to_string().contains("cannot write a large body in")));
        let zeros = vec![0; Spool::GATHERED];
        assert!(read_back(one_more.finish(None), &zeros) == zeros, "what could not be kept is not hashed either");
    }
}
