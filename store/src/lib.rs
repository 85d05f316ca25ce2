//! What a mirror holds and what is known of it.
mod body;
mod id;
mod os;

pub use body::{Body, BodyBuilder, BodyError, Lease, Mismatch, Spool, VerifiedBytes};
pub use id::{Blake3, BlobId, CrateName, Identity, NameError, Release, ReleaseId, Sha256, Version};

/// Where bytes lie: in which pack, from which offset, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack's number.
    pub pack: u32,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}
