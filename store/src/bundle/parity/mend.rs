//! Mending: which blocks are wrong, whether the parity that is here suffices, and making a volume again.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder as _};
use serde::Serialize;

use super::super::manifest::VolumeSummary;
use super::encode::{place, read_slice};
use super::geometry::Geometry;
use super::layout::Layout;
use super::rows::Share;
use super::shelf::Shelf;
use super::{DIGEST, Parity, ParityError, Which};
use crate::id::Blake3;
use crate::os;

/// The volumes of a bundle, side by side, and what is known of each of their blocks.
pub struct Mending<'a> {
    geometry: Geometry,
    layouts: Vec<Layout>,
    volumes: Shelf<'a>,
    parity: Shelf<'a>,
    table: Vec<u8>,
    /// By the place of their digests in the table: which blocks are as they should be.
    right: Vec<bool>,
}

/// What is lost of the volumes, and what of it the parity that is here mends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// Blocks that are not as they should be, of all volumes but those of parity.
    pub blocks: u64,
    /// How many there are.
    pub of: u64,
    /// The same of parity.
    pub recovery_blocks: u64,
    /// Of the row that lacks most: blocks that it lost, and how many it may lose with the parity that is here.
    pub worst: (u64, u64),
    /// Volumes with lost blocks that can be made again.
    pub mendable: Vec<u32>,
    /// Volumes with lost blocks that cannot.
    pub beyond: Vec<u32>,
}

impl<'a> Mending<'a> {
    /// Looks at every block that is here. None if no parity volume here has a table that can be read.
    pub fn survey(
        parity: &Parity,
        summaries: &[VolumeSummary],
        volumes: Shelf<'a>,
        parity_volumes: Shelf<'a>,
        done: &AtomicU64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Mending<'a>>, ParityError> {
        let (geometry, layouts) = parity.shape(summaries).map_err(ParityError::Shape)?;
        let Some(table) = table(parity, &layouts, &parity_volumes) else { return Ok(None) };
        let mut mending = Mending { geometry, layouts, volumes, parity: parity_volumes, table, right: Vec::new() };
        mending.right = mending.present();
        let Losses { mendable, beyond, .. } = mending.losses();
        if mendable.is_empty() && !beyond.is_empty() {
            return Ok(Some(mending)); // so much is not here that nothing has to be read
        }
        let look = |buffer: &mut Vec<u8>, index: u64| {
            if stop() {
                return Err(ParityError::Interrupted);
            }
            let is_right = mending.is_right(index, buffer);
            done.fetch_add(mending.geometry.block, Ordering::Relaxed);
            Ok(is_right)
        };
        let blocks = 0..mending.geometry.all_blocks() as usize;
        let looked =
            blocks.into_par_iter().with_min_len(16).map_init(Vec::new, |buffer, index| look(buffer, index as u64));
        mending.right = looked.collect::<Result<Vec<bool>, ParityError>>()?;
        Ok(Some(mending))
    }

    /// The blocks whose volumes are here.
    fn present(&self) -> Vec<bool> {
        let of =
            |number: usize, blocks: u64, shelf: &Shelf<'_>| std::iter::repeat_n(shelf.has(number), blocks as usize);
        let data =
            (0..self.geometry.volumes()).flat_map(|number| of(number, self.geometry.blocks_of(number), &self.volumes));
        let parity =
            self.layouts.iter().enumerate().flat_map(|(number, layout)| of(number, layout.blocks, &self.parity));
        data.chain(parity).collect()
    }

    /// Whether a block is here, and as it should be. What cannot be read is not.
    fn is_right(&self, index: u64, buffer: &mut Vec<u8>) -> bool {
        let (shelf, number, offset, length) = match self.geometry.data_block(index) {
            Some((volume, block)) => {
                let length = self.geometry.block_length(volume, block);
                (&self.volumes, volume, block * self.geometry.block, length)
            }
            None => {
                let (number, offset) = place(&self.layouts, index - self.geometry.data_blocks());
                (&self.parity, number, offset, self.geometry.block)
            }
        };
        buffer.resize(length as usize, 0);
        shelf.read(number, buffer, offset).is_ok() && Blake3::of(buffer) == self.digest(index)
    }

    fn digest(&self, index: u64) -> Blake3 {
        let mut digest = [0; DIGEST as usize];
        let at = (index * DIGEST) as usize;
        digest.copy_from_slice(&self.table[at..at + DIGEST as usize]);
        Blake3(digest)
    }

    fn is_lost(&self, volume: usize, block: u64) -> bool {
        !self.right[self.geometry.index(volume, block) as usize]
    }

    /// The data shards that a row lost.
    fn lost_shards(&self, row: u64) -> Vec<u64> {
        let is_lost =
            |shard: &u64| self.geometry.at(row, *shard).is_some_and(|(volume, block)| self.is_lost(volume, block));
        (0..self.geometry.data()).filter(is_lost).collect()
    }

    /// The recovery shards that a row has.
    fn recovery(&self, row: u64) -> impl Iterator<Item = u64> + '_ {
        (0..self.geometry.recovery)
            .filter(move |column| self.right[self.geometry.recovery_index(row, *column) as usize])
    }

    /// What is lost.
    pub fn losses(&self) -> Losses {
        let (data, _) = self.right.split_at(self.geometry.data_blocks() as usize);
        let lost = |blocks: &[bool]| blocks.iter().filter(|is_right| !**is_right).count() as u64;
        let of_rows: Vec<(u64, u64)> = (0..self.geometry.rows)
            .map(|row| (self.lost_shards(row).len() as u64, self.recovery(row).count() as u64))
            .collect();
        let worst = of_rows.iter().copied().max_by_key(|(lost, may)| (lost.saturating_sub(*may), *lost));
        let mut losses = Losses {
            blocks: lost(data),
            of: data.len() as u64,
            recovery_blocks: lost(&self.right[data.len()..]),
            worst: worst.unwrap_or_default(),
            ..Losses::default()
        };
        for volume in 0..self.geometry.volumes() {
            let rows = self.lost_blocks(volume).map(|block| self.geometry.shard(volume, block).0);
            let suffices = |row: u64| of_rows[row as usize].0 <= of_rows[row as usize].1;
            let mut is_mendable = rows.map(suffices).peekable();
            if is_mendable.peek().is_some() {
                let list = if is_mendable.all(|suffices| suffices) { &mut losses.mendable } else { &mut losses.beyond };
                list.push(volume as u32 + 1);
            }
        }
        losses
    }

    fn lost_blocks(&self, volume: usize) -> impl Iterator<Item = u64> + '_ {
        (0..self.geometry.blocks_of(volume)).filter(move |block| self.is_lost(volume, *block))
    }

    /// Makes a volume again: right blocks are copied, lost ones made from the other volumes. Each is compared with its digest.
    pub fn rebuild(
        &self,
        number: u32,
        out: &File,
        done: &AtomicU64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<u64, ParityError> {
        let volume = number as usize - 1;
        let failed = |source| ParityError::Write { which: Which::Volume(number), source };
        out.set_len(self.geometry.length(volume)).map_err(failed)?;
        let kept: Vec<u64> =
            (0..self.geometry.blocks_of(volume)).filter(|block| !self.is_lost(volume, *block)).collect();
        kept.into_par_iter().with_min_len(16).try_for_each_init(Vec::new, |buffer, block| {
            if stop() {
                return Err(ParityError::Interrupted);
            }
            if !self.is_right(self.geometry.index(volume, block), buffer) {
                return Err(ParityError::Changed { number, block });
            }
            done.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            os::write_all_at(out, buffer, block * self.geometry.block).map_err(failed)
        })?;
        let mut rows: Vec<u64> = self.lost_blocks(volume).map(|block| self.geometry.shard(volume, block).0).collect();
        rows.sort_unstable();
        rows.dedup();
        let (data, recovery) = (self.geometry.data() as usize, self.geometry.recovery as usize);
        let share = Share::of(&self.geometry, rayon::current_num_threads());
        let slice = share.slice as usize;
        let worker = || {
            let decoder = HighRateDecoder::new(data, recovery, slice, DefaultEngine::new(), None)?;
            Ok((decoder, vec![0; slice]))
        };
        share.each_row(&rows, worker, |(decoder, buffer), row| {
            let lost = self.lost_shards(row);
            let wanted: Vec<(u64, u64)> = lost
                .iter()
                .filter_map(|shard| self.geometry.at(row, *shard).map(|(of, block)| (*shard, of, block)))
                .filter_map(|(shard, of, block)| (of == volume).then_some((shard, block)))
                .collect();
            let mut hashers = vec![blake3::Hasher::new(); wanted.len()];
            for (at, length) in share.slices(self.geometry.block) {
                if stop() {
                    return Err(ParityError::Interrupted);
                }
                decoder.reset(data, recovery, length)?;
                let slice = &mut buffer[..length];
                for shard in (0..self.geometry.data()).filter(|shard| lost.binary_search(shard).is_err()) {
                    let read = read_slice(&self.geometry, &self.volumes, (row, shard), at, slice)?;
                    done.fetch_add(read as u64, Ordering::Relaxed);
                    decoder.add_original_shard(shard as usize, &slice)?;
                }
                for column in self.recovery(row).take(lost.len()) {
                    let (number, offset) = place(&self.layouts, self.geometry.recovery_block(row, column));
                    let offset = offset + at;
                    let failed = |source| ParityError::Read { which: Which::parity(number), offset, source };
                    self.parity.read(number, slice, offset).map_err(failed)?;
                    decoder.add_recovery_shard(column as usize, &slice)?;
                }
                let made = decoder.decode()?;
                for ((shard, block), hasher) in wanted.iter().zip(&mut hashers) {
                    let whole = made.restored_original(*shard as usize).unwrap_or_default();
                    let there = self.geometry.block_length(volume, *block).saturating_sub(at).min(whole.len() as u64);
                    let bytes = &whole[..there as usize];
                    hasher.update(bytes);
                    os::write_all_at(out, bytes, block * self.geometry.block + at).map_err(failed)?;
                }
            }
            for ((_, block), hasher) in wanted.iter().zip(&hashers) {
                if Blake3(hasher.finalize().into()) != self.digest(self.geometry.index(volume, *block)) {
                    return Err(ParityError::Changed { number, block: *block });
                }
            }
            Ok(())
        })?;
        Ok(self.lost_blocks(volume).count() as u64)
    }
}

/// The table, from the first place where it is as the manifest says.
fn table(parity: &Parity, layouts: &[Layout], volumes: &Shelf<'_>) -> Option<Vec<u8>> {
    let mut table = vec![0; parity.table.length as usize];
    let places = (0..volumes.count()).flat_map(|number| layouts[number].tables().map(|offset| (number, offset)));
    for (number, offset) in places {
        if volumes.read(number, &mut table, offset).is_ok() && Blake3::of(&table) == parity.table.blake3 {
            return Some(table);
        }
    }
    None
}
