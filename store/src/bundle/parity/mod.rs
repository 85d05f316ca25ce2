//! Parity: what a bundle carries so that a volume that is lost or scratched is made again from the others.
//!
//! All volumes are cut in blocks ([`geometry`]). A Reed-Solomon code over each row of blocks makes recovery blocks, which lie in
//! volumes of their own ([`layout`]). [`ParityPlan`] writes them; [`Mending`] finds the blocks that are wrong, by their digests, and
//! makes them again. Work goes row by row and slice by slice, so that memory depends on neither the volumes' lengths nor the
//! blocks'.

mod encode;
mod geometry;
mod layout;
mod mend;
mod rows;
mod shelf;

use std::io;

use serde::{Deserialize, Serialize};

use super::manifest::{Sum, VolumeSummary};
use crate::id::{Blake3, Sha256};
use geometry::Geometry;
use layout::Layout;

pub use encode::ParityPlan;
pub use geometry::Reach;
pub use mend::{Losses, Mending};
pub use shelf::{Open, Shelf};

/// How many bytes a digest has in the table.
const DIGEST: u64 = 32;

/// A parity volume, as the manifest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParityVolume {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256, for `sha256sum`.
    pub sha256: Sha256,
    /// Its BLAKE3.
    pub blake3: Blake3,
    /// How many recovery blocks it holds.
    pub blocks: u64,
}

/// The parity of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// The length of a block.
    pub block: u64,
    /// How many rows the blocks of each volume are spread over.
    pub rows: u64,
    /// How many recovery shards each row has.
    pub recovery: u64,
    /// The digests of all blocks, as they lie in each parity volume.
    pub table: Sum,
    /// The parity volumes, the first of which has number 1.
    pub volumes: Vec<ParityVolume>,
}

impl Parity {
    /// What it mends of these volumes; or how it contradicts itself or them.
    pub fn reach(&self, volumes: &[VolumeSummary]) -> Result<Reach, &'static str> {
        self.shape(volumes).map(|(geometry, _)| geometry.reach())
    }

    fn shape(&self, volumes: &[VolumeSummary]) -> Result<(Geometry, Vec<Layout>), &'static str> {
        let lengths: Vec<u64> = volumes.iter().map(|volume| volume.length).collect();
        let geometry = Geometry::new(&lengths, self.block, self.rows, self.recovery)?;
        if self.table.length != geometry.all_blocks() * DIGEST {
            return Err("parity has a table that is not as long as its blocks are many");
        }
        let mut layouts = Vec::with_capacity(self.volumes.len());
        let mut first = 0;
        for volume in &self.volumes {
            // No volume can hold more than there are of all, so no sum of them overflows.
            let blocks = volume.blocks;
            if blocks == 0 || blocks > geometry.recovery_blocks() - first {
                return Err("parity has volumes that hold other blocks than there are");
            }
            let layout = Layout { table: self.table.length, block: self.block, first, blocks };
            if layout.length() != volume.length {
                return Err("parity has a volume whose length is not that of its blocks");
            }
            first += blocks;
            layouts.push(layout);
        }
        if first != geometry.recovery_blocks() {
            return Err("parity has volumes that hold other blocks than there are");
        }
        Ok((geometry, layouts))
    }
}

/// Which of the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One that carries something.
    Volume(u32),
    /// One of parity.
    Parity(u32),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Volume(number) => write!(f, "volume {number}"),
            Which::Parity(number) => write!(f, "parity volume {number}"),
        }
    }
}

impl Which {
    /// From an index.
    fn volume(index: usize) -> Which {
        Which::Volume(index as u32 + 1)
    }

    fn parity(index: usize) -> Which {
        Which::Parity(index as u32 + 1)
    }
}

/// Parity that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// There is no such parity over these volumes.
    #[error("there can be no parity over these volumes: {0}")]
    Shape(&'static str),
    /// A recovery block does not fit into a volume.
    #[error("volumes of {size} bytes are too small for parity: one block alone needs {needs}")]
    TooSmall {
        /// What they may have.
        size: u64,
        /// What is needed.
        needs: u64,
    },
    /// A volume cannot be read.
    #[error("cannot read {which} at offset {offset}")]
    Read {
        /// Which.
        which: Which,
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// What is made cannot be written.
    #[error("cannot write {which}")]
    Write {
        /// Which.
        which: Which,
        /// Why.
        source: io::Error,
    },
    /// It was right a moment ago.
    #[error("block {block} of volume {number} did not come out as the table says: a volume changes while it is read")]
    Changed {
        /// The volume.
        number: u32,
        /// The block.
        block: u64,
    },
    /// The code refuses its shape, which was checked before.
    #[error("the code refuses")]
    Code(#[from] reed_solomon_simd::Error),
    /// Somebody wants it to end.
    #[error("interrupted")]
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(length: u64) -> VolumeSummary {
        let nothing = Sum { length: 1, blake3: Blake3::of(b"") };
        VolumeSummary { length, sha256: Sha256::of(b""), blake3: Blake3::of(b""), contents: nothing }
    }

    #[test]
    fn parity_that_contradicts_itself_has_no_reach() {
        let volumes = [volume(100_000), volume(50_000)];
        let table = Sum { length: (25 + 13 + 2 * 5) * 32, blake3: Blake3::of(b"") };
        let of = |blocks| {
            let length = Layout { table: table.length, block: 4096, first: 0, blocks }.length();
            ParityVolume { length, sha256: Sha256::of(b""), blake3: Blake3::of(b""), blocks }
        };
        let good = Parity { block: 4096, rows: 5, recovery: 2, table, volumes: vec![of(6), of(4)] };
        assert_eq!(good.reach(&volumes).unwrap().lost_volumes, 0);
        let bad = |change: fn(&mut Parity)| {
            let mut parity = good.clone();
            change(&mut parity);
            parity.reach(&volumes).unwrap_err()
        };
        bad(|parity| parity.block = 8192);
        bad(|parity| parity.rows = 0);
        bad(|parity| parity.rows = u64::MAX);
        bad(|parity| parity.recovery = u64::MAX);
        bad(|parity| parity.recovery = 3);
        bad(|parity| parity.table.length = u64::MAX);
        bad(|parity| parity.table.length += 32);
        bad(|parity| parity.volumes.truncate(1));
        bad(|parity| parity.volumes.clear());
        bad(|parity| parity.volumes[0].blocks = u64::MAX);
        bad(|parity| parity.volumes[1].blocks = 0);
        bad(|parity| parity.volumes[1].length += 1);
        bad(|parity| parity.volumes.push(parity.volumes[0]));
        assert!(good.reach(&volumes[..1]).is_err());
        assert!(good.reach(&[]).is_err());
    }
}
