//! A parity volume: a ustar archive of the table of digests, of recovery blocks, and of the table again.
//!
//! Where each byte lies follows from the manifest. The table lies at both ends, so that no one scratch takes it.

use super::super::volume::{END, member_size};
use crate::id::Sha256;
use crate::pack::{BLOCK, padded, tar_header};

/// The table's two members.
const TABLE: [&str; 2] = ["table.blake3", "table-copy.blake3"];

/// The most bytes of blocks in a member: a tar header has no room for lengths of 8 GiB.
const MEMBER: u64 = 1 << 30;

/// What lies where in a parity volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The length of the table.
    pub table: u64,
    /// The length of a block.
    pub block: u64,
    /// The number of the first recovery block in it.
    pub first: u64,
    /// How many recovery blocks it holds.
    pub blocks: u64,
}

impl Layout {
    /// The layouts of parity volumes of at most so many bytes, as few and as even as they can be; or what one block alone needs.
    pub fn split(table: u64, block: u64, blocks: u64, size: u64) -> Result<Vec<Layout>, u64> {
        let of = |first, blocks| Layout { table, block, first, blocks };
        if of(0, 1).length() > size {
            return Err(of(0, 1).length());
        }
        let mut volumes = blocks.saturating_mul(block).div_ceil(size).max(1);
        while of(0, blocks.div_ceil(volumes)).length() > size {
            volumes += 1;
        }
        let mut first = 0;
        let layouts = (0..volumes).map(|number| {
            let layout = of(first, blocks / volumes + u64::from(number < blocks % volumes));
            first += layout.blocks;
            layout
        });
        Ok(layouts.collect())
    }

    fn members(&self) -> u64 {
        self.blocks.div_ceil(self.per_member())
    }

    fn per_member(&self) -> u64 {
        MEMBER / self.block
    }

    /// Where a block lies: the first one of the volume is 0.
    pub fn offset(&self, block: u64) -> u64 {
        member_size(self.table) + (block / self.per_member() + 1) * BLOCK + block * self.block
    }

    /// Where the bytes of the table lie: twice.
    pub fn tables(&self) -> [u64; 2] {
        let copy = member_size(self.table) + self.members() * BLOCK + self.blocks * self.block;
        [BLOCK, copy + BLOCK]
    }

    /// How long the volume is.
    pub fn length(&self) -> u64 {
        self.tables()[1] + padded(self.table) + END
    }

    /// All but the blocks, each part with its offset.
    pub fn frame(&self, table: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let none = Sha256([0; 32]);
        let mut parts = Vec::new();
        for (at, name) in self.tables().into_iter().zip(TABLE) {
            let mut member = tar_header(name, self.table, &none).to_vec();
            member.extend_from_slice(table);
            member.resize(member_size(self.table) as usize, 0);
            parts.push((at - BLOCK, member));
        }
        for member in 0..self.members() {
            let begin = member * self.per_member();
            let blocks = self.per_member().min(self.blocks - begin);
            let name = format!("recovery/{:08}.parity", self.first + begin);
            parts.push((self.offset(begin) - BLOCK, tar_header(&name, blocks * self.block, &none).to_vec()));
        }
        parts.push((self.length() - END, vec![0; END as usize]));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_few_and_even_and_have_each_byte_once() {
        for (table, block, blocks, size) in [
            (3200, 4096, 70, 40_000),
            (64, 4096, 1, 9000),
            (1 << 20, 1 << 20, 5000, 4_690_000_000),
            (96, 4096, 7, 1 << 40),
        ] {
            let layouts = Layout::split(table, block, blocks, size).unwrap();
            assert_eq!(layouts.iter().map(|layout| layout.blocks).sum::<u64>(), blocks);
            let fewer = blocks.div_ceil(layouts.len() as u64 - u64::from(layouts.len() > 1));
            assert!(layouts.len() == 1 || Layout { blocks: fewer, ..layouts[0] }.length() > size);
            for layout in &layouts {
                assert!(layout.length() <= size && layouts[0].blocks - layout.blocks <= 1);
                let mut parts: Vec<(u64, u64)> =
                    layout.frame(&vec![7; table as usize]).iter().map(|(at, part)| (*at, part.len() as u64)).collect();
                parts.extend((0..layout.blocks).map(|number| (layout.offset(number), block)));
                parts.sort_unstable();
                let mut end = 0;
                for (at, length) in parts {
                    assert_eq!(at, end);
                    end = at + length;
                }
                assert_eq!(end, layout.length());
            }
        }
        assert_eq!(Layout::split(3200, 4096, 70, 9000), Err(512 * 3 + 2 * 3584 + 4096 + 1024));
    }
}
