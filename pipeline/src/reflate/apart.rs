//! Taking a crate file apart, and putting it together again.

use super::encoder::Encoder;
use super::gzip::{Gzip, TRAILER, trailer};

/// The longest content that is taken out of a crate file. A longer one stays as it is.
pub const MAX_CONTENT: usize = 512 << 20;

/// A wrong encoder is told by the first bytes that it writes, so these are compared before more are made.
const FIRST_LOOK: usize = 16 << 10;

/// How much more is looked at each time, so that what is encoded again and again stays a small part of the whole.
const LOOK_FURTHER: usize = 16;

/// How to make a crate file of its content again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The content is the crate file itself.
    Raw,
    /// The content is gzip'd.
    Encoded {
        /// What gives the deflate data.
        encoder: Encoder,
        /// The gzip header.
        header: Vec<u8>,
        /// The last bytes of the deflate data, if they are not those of the encoder: it differs in a detail from the one that was used.
        tail: Vec<u8>,
    },
}

/// A crate file that was taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// How it is put together.
    pub recipe: Recipe,
    /// The tar archive, or the crate file as it is.
    pub content: Vec<u8>,
}

/// Takes a crate file apart, whatever it is. The encoder with the lowest number that gives it again is taken; if there is none, the
/// one that agrees the longest, for more than nine tenths; else it stays as it is. [`Recipe::rebuild`] gives the same bytes again.
pub fn take_apart(file: &[u8]) -> Apart {
    take_apart_within(file, MAX_CONTENT)
}

/// The same, where contents above a limit stay as they are.
pub fn take_apart_within(file: &[u8], limit: usize) -> Apart {
    let raw = || Apart { recipe: Recipe::Raw, content: file.to_vec() };
    let Some(gzip) = Gzip::read(file, limit.min(MAX_CONTENT)) else { return raw() };
    if gzip.body.len() > longest_body(gzip.content.len()) {
        return raw();
    }
    let Some((encoder, agreed)) = closest(&gzip) else { return raw() };
    let (header, tail) = (gzip.header.to_vec(), gzip.body[agreed..].to_vec());
    Apart { recipe: Recipe::Encoded { encoder, header, tail }, content: gzip.content }
}

/// More than an encoder makes of what cannot be compressed: who reads need not make room for more.
fn longest_body(content: usize) -> usize {
    content.saturating_add(content / 8).saturating_add(4096)
}

/// The encoder to take, and for how many bytes.
fn closest(gzip: &Gzip) -> Option<(Encoder, usize)> {
    let mut buffer = Vec::new();
    let mut best = None;
    for encoder in Encoder::ALL {
        let agreed = agreement(encoder, gzip, &mut buffer);
        if agreed == gzip.body.len() {
            return Some((encoder, agreed));
        }
        if best.is_none_or(|(_, most)| agreed > most) {
            best = Some((encoder, agreed));
        }
    }
    best.filter(|(_, agreed)| *agreed as u64 * 10 > gzip.body.len() as u64 * 9)
}

/// How many bytes of the deflate data an encoder gives. All of them only if it has no more to give.
fn agreement(encoder: Encoder, gzip: &Gzip, buffer: &mut Vec<u8>) -> usize {
    // One more byte than there should be tells an encoder that goes on.
    let (body, room) = (gzip.body, gzip.body.len() + 1);
    let mut look = FIRST_LOOK;
    loop {
        let length = look.min(room);
        buffer.resize(buffer.len().max(length), 0);
        let written = encoder.deflate(&gzip.content, &mut buffer[..length]);
        let same = buffer[..written].iter().zip(body).take_while(|(ours, theirs)| ours == theirs).count();
        if same == length && length < room {
            look = look.saturating_mul(LOOK_FURTHER);
        } else if written > body.len() {
            return same.min(body.len() - 1);
        } else {
            return same;
        }
    }
}

/// Why a crate file cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// The lengths contradict each other.
    #[error("its lengths do not fit each other")]
    Lengths,
    /// The encoder stopped before.
    #[error("encoder {} gives {gives} bytes where {needs} are needed", encoder.id())]
    Short {
        /// Which.
        encoder: Encoder,
        /// So many.
        gives: usize,
        /// So many.
        needs: usize,
    },
}

impl Recipe {
    /// The encoder that is needed.
    pub fn encoder(&self) -> Option<Encoder> {
        match self {
            Recipe::Raw => None,
            Recipe::Encoded { encoder, .. } => Some(*encoder),
        }
    }

    /// Makes a crate file of so many bytes of its content. Whether they are the right ones is for the caller to check.
    pub fn rebuild(&self, content: &[u8], length: usize) -> Result<Vec<u8>, RebuildError> {
        let Recipe::Encoded { encoder, header, tail } = self else {
            let fits = content.len() == length;
            return fits.then(|| content.to_vec()).ok_or(RebuildError::Lengths);
        };
        let body = length.checked_sub(header.len() + TRAILER).filter(|body| *body <= longest_body(content.len()));
        let needs = body.and_then(|body| body.checked_sub(tail.len())).ok_or(RebuildError::Lengths)?;
        let mut file = Vec::with_capacity(length);
        file.extend_from_slice(header);
        file.resize(header.len() + needs, 0);
        let gives = encoder.deflate(content, &mut file[header.len()..]);
        if gives != needs {
            return Err(RebuildError::Short { encoder: *encoder, gives, needs });
        }
        file.extend_from_slice(tail);
        file.extend_from_slice(&trailer(content));
        Ok(file)
    }
}
