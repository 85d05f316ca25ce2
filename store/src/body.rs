//! Bytes on probation, and bytes that were proven.
//!
//! A body is hashed while it arrives, so that its bytes are read once while they are still in the processor's
//! cache. Small bodies stay in memory; large ones go to a file in `tmp/`, which the ledger never refers to and
//! which is emptied each time a mirror is opened for writing. The only way from a [`Body`] to
//! [`VerifiedBytes`], and so into a pack, is [`Body::prove`].

use std::fs::File;
use std::io::{self, Write};
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
    pub(crate) fn new(dir: &Path) -> Self {
        Spool { dir: dir.to_owned() }
    }

    /// Begins a body that is kept in a file without a name.
    pub fn begin(&self) -> Result<BodyBuilder, BodyError> {
        let file = crate::os::anonymous_file(&self.dir).map_err(|source| self.error("begin", source))?;
        Ok(BodyBuilder { hasher: sha2::Sha256::new(), length: 0, kept: Kept::File(file), dir: self.dir.clone() })
    }

    fn error(&self, step: &'static str, source: io::Error) -> BodyError {
        BodyError { step, dir: self.dir.clone(), source }
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
    File(File),
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

    /// Takes the next bytes: hashes and keeps them.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        match &mut self.kept {
            Kept::Memory(bytes) => bytes.extend_from_slice(chunk),
            Kept::File(file) => {
                file.write_all(chunk).map_err(|source| BodyError { step: "write", dir: self.dir.clone(), source })?;
            }
        }
        Ok(())
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

/// Bytes that arrived and were hashed, but that nobody has compared with a promise.
#[derive(Debug)]
pub struct Body {
    digest: Sha256,
    bytes: Bytes,
}

impl Body {
    /// How many bytes arrived.
    pub fn length(&self) -> u64 {
        self.bytes.length
    }

    /// What the bytes hash to, which nobody has promised.
    pub(crate) fn computed(&self) -> Sha256 {
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

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
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

    /// Calls `take` with consecutive pieces of the bytes.
    pub(crate) fn each_piece(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match &self.kept {
            Kept::Memory(bytes) => take(bytes),
            Kept::File(file) => {
                let mut buffer = vec![0; 256 * 1024];
                let mut at = 0;
                while at < self.length {
                    let want = buffer.len().min(usize::try_from(self.length - at).unwrap_or(usize::MAX));
                    crate::os::read_exact_at(file, &mut buffer[..want], at)?;
                    take(&buffer[..want])?;
                    at += want as u64;
                }
                Ok(())
            }
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

    #[test]
    fn a_spooled_body_is_hashed_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut body = Spool::new(dir.path()).begin().unwrap();
        let bytes: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        for chunk in bytes.chunks(10_007) {
            body.push(chunk).unwrap();
        }
        let verified = body.finish(None).prove(Sha256::of(&bytes)).unwrap();
        let mut back = Vec::new();
        verified
            .into_bytes()
            .each_piece(|piece| {
                back.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert!(back == bytes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }
}
