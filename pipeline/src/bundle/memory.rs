//! How much memory the making or taking in of a bundle uses.
//!
//! What goes into a frame never depends on it, so that the same mirror gives the same volumes everywhere: a smaller limit has fewer
//! crate files in work at once, down to one frame at a time.

use crateferry_store::{PackReader, Place, ReadError};

use crate::reflate::Level;

/// What is there beside frames: the program, the databases' caches, index texts, crate files on their way to the writer.
const BESIDE: u64 = 144 << 20;

/// What a finished frame takes while it is written, beside its contents.
const WRITTEN: u64 = 64 << 20;

/// A limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    share: u64,
}

/// A limit that is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} MiB of memory are not enough for one frame of recompressed crate files; {} MiB are", .0 >> 20, Memory::LEAST >> 20)]
pub struct TooLittleMemory(u64);

impl Default for Memory {
    fn default() -> Self {
        Memory { share: Memory::DEFAULT - BESIDE }
    }
}

impl Memory {
    /// What is used if nobody says anything.
    pub const DEFAULT: u64 = 512 << 20;

    /// What the largest frame needs, one at a time.
    pub const LEAST: u64 = 400 << 20;

    /// So many bytes.
    pub fn new(bytes: u64) -> Result<Memory, TooLittleMemory> {
        if bytes < Memory::LEAST { Err(TooLittleMemory(bytes)) } else { Ok(Memory { share: bytes - BESIDE }) }
    }

    /// What frames, and what they are made of, may have together.
    pub fn share(self) -> u64 {
        self.share
    }

    /// What is left while so many bytes of content wait to be compressed, and a frame is.
    pub fn beside(self, contents: u64, level: Level) -> u64 {
        self.share.saturating_sub(contents + WRITTEN + zstd_memory(level, u64::MAX))
    }
}

/// What zstd takes for so much content: tables that are smaller for less.
pub fn zstd_memory(level: Level, content: u64) -> u64 {
    let most = match level {
        Level::Fast => 64 << 20,
        Level::Max => 128 << 20,
    };
    content.saturating_mul(8).min(most)
}

/// What a crate file says that its content has, in its last bytes. One that says what is wrong is not taken apart.
pub fn announced_content(packs: &PackReader, place: Place) -> Result<u64, ReadError> {
    let mut length = [0; 4];
    let Some(skip) = place.length.checked_sub(length.len() as u64) else { return Ok(0) };
    packs.read_into(place, skip, &mut length)?;
    Ok(u32::from_le_bytes(length).into())
}
