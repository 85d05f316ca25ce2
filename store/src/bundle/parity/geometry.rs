//! Which block of which volume lies in which shard of which row.
//!
//! Neighbouring blocks lie in neighbouring rows. So a scratch over many of them costs every row the same few shards, and a volume
//! that is lost costs each row as many shards as it has there.

use serde::Serialize;

/// The limits of a block: smaller ones have larger tables, larger ones lose more to one flipped bit.
const BLOCKS: (u64, u64) = (4 << 10, 1 << 20);

/// With so many blocks a table is small, and blocks are not made larger.
const FEW: u64 = 1 << 14;

/// So many data shards a row has at least, if there are as many blocks: with fewer, a percentage would be a coarse measure.
const WIDE: u64 = 64;

/// The most data shards of a row, and so the most volumes: work on a row needs memory for each.
pub(super) const MOST_SHARDS: u64 = 1 << 13;

/// The most blocks of a table: 32 MiB of digests, for 1 TiB in the largest blocks.
const MOST_BLOCKS: u64 = 1 << 20;

/// The shape of the code over the volumes of a bundle. Volumes, blocks, rows, shards and columns are counted from 0 here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub block: u64,
    pub rows: u64,
    /// Recovery shards of each row.
    pub recovery: u64,
    lengths: Vec<u64>,
    /// The first data shard of each volume in a row, and how many there are.
    shards: Vec<u64>,
    /// The first block of each volume among all of them, and how many there are.
    blocks: Vec<u64>,
}

/// What is lost at most of what the parity of a bundle mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Any so many volumes.
    pub lost_volumes: u64,
    /// Bytes of one scratch.
    pub scratch: u64,
    /// The parity in percent that mends one lost volume, whichever it is.
    pub percent_for_a_volume: u64,
}

impl Geometry {
    /// The shape for volumes of these lengths.
    pub fn plan(lengths: &[u64], percent: u8) -> Result<Geometry, &'static str> {
        let total = lengths.iter().fold(0u64, |sum, length| sum.saturating_add(*length));
        let (smallest, largest) = BLOCKS;
        let block = total.div_ceil(FEW).clamp(smallest, largest).next_power_of_two();
        let longest = lengths.iter().max().map_or(0, |length| length.div_ceil(block));
        let per_volume = WIDE.div_ceil(lengths.len().max(1) as u64);
        let rows = longest.div_ceil(per_volume).max(1);
        let shards = lengths.iter().map(|length| length.div_ceil(block).div_ceil(rows)).sum::<u64>();
        Geometry::new(lengths, block, rows, (shards * u64::from(percent)).div_ceil(100))
    }

    /// The shape that a manifest tells, or why there is no such shape.
    pub fn new(lengths: &[u64], block: u64, rows: u64, recovery: u64) -> Result<Geometry, &'static str> {
        let (smallest, largest) = BLOCKS;
        if !block.is_power_of_two() || !(smallest..=largest).contains(&block) {
            return Err("parity has blocks of a size that no blocks have");
        }
        let of = |length: &u64| length.div_ceil(block);
        if lengths.contains(&0) || rows == 0 || rows > lengths.iter().map(of).max().unwrap_or(0) {
            return Err("parity has a number of rows that volumes of these lengths cannot have");
        }
        let blocks = running(lengths.iter().map(of));
        let shards = running(lengths.iter().map(|length| of(length).div_ceil(rows)));
        let geometry = Geometry { block, rows, recovery, lengths: lengths.to_vec(), shards, blocks };
        if geometry.data() > MOST_SHARDS {
            return Err("parity is over more volumes than it can be; larger volumes are fewer");
        }
        if recovery == 0 || recovery > geometry.data() {
            return Err("parity has a number of recovery shards that no percentage gives");
        }
        if geometry.all_blocks() > MOST_BLOCKS {
            return Err("parity is over more bytes than it can be: volumes of 1 TiB, itself included");
        }
        Ok(geometry)
    }

    /// How many data shards a row has.
    pub fn data(&self) -> u64 {
        self.shards.last().copied().unwrap_or(0)
    }

    pub fn volumes(&self) -> usize {
        self.lengths.len()
    }

    pub fn length(&self, volume: usize) -> u64 {
        self.lengths[volume]
    }

    /// How many blocks a volume has.
    pub fn blocks_of(&self, volume: usize) -> u64 {
        self.blocks[volume + 1] - self.blocks[volume]
    }

    /// How many blocks the volumes have together.
    pub fn data_blocks(&self) -> u64 {
        self.blocks.last().copied().unwrap_or(0)
    }

    /// How many recovery blocks there are.
    pub fn recovery_blocks(&self) -> u64 {
        self.rows.saturating_mul(self.recovery)
    }

    /// How many blocks have a digest in the table.
    pub fn all_blocks(&self) -> u64 {
        self.data_blocks().saturating_add(self.recovery_blocks())
    }

    /// Where a data block's digest is among those of the table.
    pub fn index(&self, volume: usize, block: u64) -> u64 {
        self.blocks[volume] + block
    }

    /// The volume and the block in it of a digest's place, if it is a data block's.
    pub fn data_block(&self, index: u64) -> Option<(usize, u64)> {
        let volume = self.blocks.partition_point(|first| *first <= index).checked_sub(1)?;
        (volume < self.lengths.len()).then(|| (volume, index - self.blocks[volume]))
    }

    /// Where a recovery block's digest is.
    pub fn recovery_index(&self, row: u64, column: u64) -> u64 {
        self.data_blocks() + self.recovery_block(row, column)
    }

    /// A recovery block's number: column by column, so that neighbours lie in neighbouring rows.
    pub fn recovery_block(&self, row: u64, column: u64) -> u64 {
        column * self.rows + row
    }

    /// How many bytes a block of a volume has: the last one may be shorter.
    pub fn block_length(&self, volume: usize, block: u64) -> u64 {
        self.block.min(self.lengths[volume] - block * self.block)
    }

    /// The row and the shard of a block.
    pub fn shard(&self, volume: usize, block: u64) -> (u64, u64) {
        (block % self.rows, self.shards[volume] + block / self.rows)
    }

    /// The volume and the block in it that is this shard of this row; none if the shard is zeros, because its volume has ended.
    pub fn at(&self, row: u64, shard: u64) -> Option<(usize, u64)> {
        let volume = self.shards.partition_point(|first| *first <= shard).checked_sub(1)?;
        let block = row + (shard - self.shards[volume]) * self.rows;
        (volume < self.lengths.len() && block < self.blocks_of(volume)).then_some((volume, block))
    }

    /// What it mends.
    pub fn reach(&self) -> Reach {
        let mut widths: Vec<u64> = self.shards.windows(2).map(|pair| pair[1] - pair[0]).collect();
        widths.sort_unstable_by(|one, other| other.cmp(one));
        let widest = widths.first().copied().unwrap_or(0);
        let costs = running(widths.into_iter());
        let lost_volumes = costs.iter().skip(1).filter(|cost| **cost <= self.recovery).count() as u64;
        // A scratch begins and ends within blocks.
        let scratch = (self.recovery_blocks() - 1) * self.block + 1;
        let percent_for_a_volume = (widest.saturating_sub(1) * 100) / self.data() + 1;
        Reach { lost_volumes, scratch, percent_for_a_volume }
    }
}

/// The sums of what comes before each, and of all.
fn running(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sums = vec![0u64];
    let mut sum = 0u64;
    sums.extend(counts.map(|count| {
        sum = sum.saturating_add(count);
        sum
    }));
    sums
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shape_follows_from_the_volumes() {
        let plan = |lengths: &[u64], percent| Geometry::plan(lengths, percent).unwrap();
        let one = plan(&[4_690_000_000], 10);
        assert_eq!((one.block, one.rows, one.data(), one.recovery), (512 << 10, 140, 64, 7));
        let reach = one.reach();
        assert_eq!((reach.lost_volumes, reach.percent_for_a_volume), (0, 99));
        assert_eq!(reach.scratch, (140 * 7 - 1) * (512 << 10) + 1);
        let ten = plan(&[25_000_000_000; 10], 10);
        assert_eq!((ten.block, ten.data(), ten.recovery, ten.reach().lost_volumes), (1 << 20, 70, 7, 1));
        assert_eq!(plan(&[25_000_000_000; 5], 10).reach().percent_for_a_volume, 19);
        assert_eq!(plan(&[25_000_000_000; 5], 19).reach().lost_volumes, 1);
        assert_eq!(plan(&[25_000_000_000; 5], 18).reach().lost_volumes, 0);
        assert_eq!(plan(&[1_000_000; 200], 3).reach().lost_volumes, 6);
        assert_eq!(plan(&[1], 1), Geometry::new(&[1], 4096, 1, 1).unwrap());
        assert_eq!(plan(&[7, 9000], 100).recovery, plan(&[7, 9000], 100).data());
    }

    #[test]
    fn what_no_volumes_have_is_no_shape() {
        let lengths = [100_000, 50_000];
        assert!(Geometry::new(&lengths, 4096, 5, 2).is_ok());
        for (block, rows, recovery) in [
            (0, 5, 2),
            (4095, 5, 2),
            (2048, 5, 2),
            (2 << 20, 1, 1),
            (4096, 0, 2),
            (4096, 26, 2),
            (4096, u64::MAX, 2),
            (4096, 5, 0),
            (4096, 5, 9),
            (4096, 5, u64::MAX),
        ] {
            assert!(Geometry::new(&lengths, block, rows, recovery).is_err(), "{block} {rows} {recovery}");
        }
        assert!(Geometry::new(&[], 4096, 1, 1).is_err());
        assert!(Geometry::new(&[0], 4096, 1, 1).is_err());
        assert!(Geometry::new(&[u64::MAX; 3], 4096, 1, 1).is_err());
        assert!(Geometry::new(&[u64::MAX; 3], 1 << 20, 1 << 40, 1).is_err());
        assert!(Geometry::plan(&vec![4096; 8193], 1).is_err());
        assert!(Geometry::plan(&[2 << 40], 1).is_err());
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_shard(
            lengths in proptest::collection::vec(1u64..400_000, 1..90), percent in 1u8..=100,
        ) {
            let geometry = Geometry::plan(&lengths, percent).unwrap();
            prop_assert!(geometry.recovery * 100 >= geometry.data() * u64::from(percent));
            let (mut seen, mut indexes) = (HashSet::new(), HashSet::new());
            for (volume, length) in lengths.iter().enumerate() {
                let mut bytes = 0;
                for block in 0..geometry.blocks_of(volume) {
                    let (row, shard) = geometry.shard(volume, block);
                    prop_assert!(row < geometry.rows && shard < geometry.data());
                    prop_assert!(seen.insert((row, shard)));
                    prop_assert_eq!(geometry.at(row, shard), Some((volume, block)));
                    prop_assert!(indexes.insert(geometry.index(volume, block)));
                    prop_assert_eq!(geometry.data_block(geometry.index(volume, block)), Some((volume, block)));
                    bytes += geometry.block_length(volume, block);
                }
                prop_assert_eq!(bytes, *length);
            }
            for row in 0..geometry.rows {
                for shard in 0..geometry.data() {
                    prop_assert_eq!(geometry.at(row, shard).is_some(), seen.contains(&(row, shard)));
                }
                prop_assert_eq!(geometry.at(row, geometry.data()), None);
                for column in 0..geometry.recovery {
                    prop_assert!(indexes.insert(geometry.recovery_index(row, column)));
                    prop_assert_eq!(geometry.data_block(geometry.recovery_index(row, column)), None);
                }
            }
            prop_assert_eq!(indexes.len() as u64, geometry.all_blocks());
            prop_assert!(indexes.iter().all(|index| *index < geometry.all_blocks()));
        }

        #[test]
        fn a_scratch_within_the_reach_costs_no_row_more_than_it_can_lose(
            lengths in proptest::collection::vec(1u64..400_000, 1..30), percent in 1u8..=100, at: u64,
        ) {
            let geometry = Geometry::plan(&lengths, percent).unwrap();
            let scratch = geometry.reach().scratch;
            for (volume, length) in lengths.iter().enumerate() {
                let begin = at % length;
                let end = (begin + scratch - 1).min(length - 1);
                let mut lost = vec![0; geometry.rows as usize];
                for block in begin / geometry.block..=end / geometry.block {
                    lost[geometry.shard(volume, block).0 as usize] += 1;
                }
                prop_assert!(lost.iter().all(|lost| *lost <= geometry.recovery), "{:?}", lost);
            }
        }
    }
}
