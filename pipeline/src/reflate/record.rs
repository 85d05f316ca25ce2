//! What a frame says of each crate file, to the byte. `docs/format.md` has the table.

use crateferry_store::{CrateName, Release, ReleaseId, Sha256, Version};

use super::apart::{RebuildError, Recipe};
use super::encoder::Encoder;
use super::frame::FrameError;
use super::gzip::MAX_HEADER;

/// The number for [`Recipe::Raw`], which no encoder has.
const RAW: u8 = 0;

/// A crate file in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which release, and the SHA-256 that the crate file is to have.
    pub release: Release,
    /// The length of the crate file.
    pub length: u64,
    /// The length of its content in the frame.
    pub content: u64,
    /// How the one is made of the other.
    pub recipe: Recipe,
}

impl Member {
    /// Makes the crate file of its content. **Its SHA-256 is for the caller to check**, against [`Member::release`].
    pub fn rebuild(&self, content: &[u8]) -> Result<Vec<u8>, RebuildError> {
        if content.len() as u64 != self.content {
            return Err(RebuildError::Lengths);
        }
        let length = usize::try_from(self.length).map_err(|_| RebuildError::Lengths)?;
        self.recipe.rebuild(content, length)
    }

    /// Appends the record.
    pub(super) fn write(&self, table: &mut Vec<u8>) {
        let ReleaseId { name, version } = &self.release.id;
        for text in [name.as_str(), version.as_str()] {
            number(table, text.len() as u64);
            table.extend_from_slice(text.as_bytes());
        }
        table.extend_from_slice(&self.release.checksum.0);
        number(table, self.length);
        number(table, self.content);
        match &self.recipe {
            Recipe::Raw => table.push(RAW),
            Recipe::Encoded { encoder, header, tail } => {
                table.push(encoder.id());
                for bytes in [header, tail] {
                    number(table, bytes.len() as u64);
                    table.extend_from_slice(bytes);
                }
            }
        }
    }

    /// Takes the first record off a table.
    pub(super) fn read(table: &mut &[u8]) -> Result<Member, FrameError> {
        let name: CrateName = text(table)?.parse().map_err(|_| FrameError::Damaged("a crate's name is none"))?;
        let version: Version = text(table)?.parse().map_err(|_| FrameError::Damaged("a version is none"))?;
        let checksum = Sha256(*table.split_off(..32).and_then(<[u8]>::first_chunk).ok_or(SHORT)?);
        let (length, content) = (read_number(table)?, read_number(table)?);
        let recipe = match *table.split_off_first().ok_or(SHORT)? {
            RAW => Recipe::Raw,
            id => {
                let encoder = Encoder::from_id(id).ok_or(FrameError::UnknownEncoder(id))?;
                let (header, tail) = (bytes(table)?.to_vec(), bytes(table)?.to_vec());
                if header.len() > MAX_HEADER {
                    return Err(FrameError::Damaged("a gzip header is too long"));
                }
                Recipe::Encoded { encoder, header, tail }
            }
        };
        let release = Release { id: ReleaseId { name, version }, checksum };
        Ok(Member { release, length, content, recipe })
    }
}

const SHORT: FrameError = FrameError::Damaged("its table ends too early");

fn text<'a>(table: &mut &'a [u8]) -> Result<&'a str, FrameError> {
    str::from_utf8(bytes(table)?).map_err(|_| FrameError::Damaged("a name is no text"))
}

fn bytes<'a>(table: &mut &'a [u8]) -> Result<&'a [u8], FrameError> {
    let length = usize::try_from(read_number(table)?).map_err(|_| SHORT)?;
    table.split_off(..length).ok_or(SHORT)
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn number(table: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        table.push(number as u8 | 0x80);
        number >>= 7;
    }
    table.push(number as u8);
}

fn read_number(table: &mut &[u8]) -> Result<u64, FrameError> {
    let mut number = 0;
    for place in (0..u64::BITS).step_by(7) {
        let byte = *table.split_off_first().ok_or(SHORT)?;
        let bits = u64::from(byte & 0x7f);
        if bits << place >> place != bits || (byte == 0 && place > 0) {
            break;
        }
        number |= bits << place;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(FrameError::Damaged("a number in its table is too large or not written the short way"))
}
