//! One member of gzip (RFC 1952), which a crate file is.

use zlib_rs_06::crc32::crc32;
use zlib_rs_06::{Inflate, InflateFlush, Status};

use super::encoder::RAW;

/// The longest header that is kept: it is short unless somebody wants it long.
pub(super) const MAX_HEADER: usize = 4096;

/// CRC-32 and length of what was encoded, both little-endian.
pub(super) const TRAILER: usize = 8;

const FIXED_HEADER: usize = 10;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// How much is inflated at once.
const STEP: usize = 1 << 20;

/// A crate file, inflated.
pub(super) struct Gzip<'a> {
    pub header: &'a [u8],
    /// The deflate data.
    pub body: &'a [u8],
    pub content: Vec<u8>,
}

impl<'a> Gzip<'a> {
    /// None if it is not one member and nothing more, its trailer is wrong, or it is longer than `limit` when inflated.
    pub fn read(file: &'a [u8], limit: usize) -> Option<Gzip<'a>> {
        let (header, rest) = file.split_at_checked(header_length(file)?)?;
        let (body, trailer) = rest.split_at_checked(rest.len().checked_sub(TRAILER)?)?;
        // What goes on beyond what the trailer says is wrong, so no memory is spent on it.
        let announced = trailer.last_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let content = if announced <= limit { inflate(body, announced)? } else { return None };
        (trailer == self::trailer(&content)).then_some(Gzip { header, body, content })
    }
}

/// What follows the deflate data.
pub(super) fn trailer(content: &[u8]) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..4].copy_from_slice(&crc32(0, content).to_le_bytes());
    trailer[4..].copy_from_slice(&(content.len() as u32).to_le_bytes());
    trailer
}

fn header_length(file: &[u8]) -> Option<usize> {
    let head = file.get(..FIXED_HEADER)?;
    let flags = head[3];
    if head[..3] != MAGIC || flags & RESERVED != 0 {
        return None;
    }
    let mut length = FIXED_HEADER;
    if flags & FEXTRA != 0 {
        let extra = file.get(length..)?.first_chunk()?;
        length += 2 + usize::from(u16::from_le_bytes(*extra));
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            length += file.get(length..)?.iter().take(MAX_HEADER).position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        length += 2;
    }
    (length <= MAX_HEADER).then_some(length)
}

/// All of it, and nothing may be left over.
fn inflate(body: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut state = Inflate::new(false, RAW.unsigned_abs() as u8);
    let mut content = Vec::new();
    loop {
        let (read, begin) = (state.total_in() as usize, content.len());
        // One byte beyond the limit tells that there is more.
        content.resize((begin + STEP).min(limit + 1), 0);
        let status = state.decompress(&body[read..], &mut content[begin..], InflateFlush::NoFlush).ok()?;
        let length = state.total_out() as usize;
        if length > limit {
            return None;
        }
        content.truncate(length);
        match status {
            Status::StreamEnd => return (state.total_in() as usize == body.len()).then_some(content),
            // Neither read nor written: it is cut.
            _ if length == begin && state.total_in() as usize == read => return None,
            Status::Ok | Status::BufError => {}
        }
    }
}
