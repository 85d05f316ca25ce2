//! Making parity: recovery blocks of each row, the digests of all blocks, and volumes that hold them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateEncoder, RateEncoder as _};
use sha2::Digest as _;

use super::super::manifest::{Sum, VolumeSummary};
use super::geometry::{Geometry, Reach};
use super::layout::Layout;
use super::rows::Share;
use super::shelf::Shelf;
use super::{DIGEST, Parity, ParityError, ParityVolume, Which};
use crate::id::{Blake3, Sha256};

/// So much of a parity volume is hashed at once.
const BUFFER: usize = 1 << 20;

/// The parity that a bundle is to have.
#[derive(Debug)]
pub struct ParityPlan {
    geometry: Geometry,
    layouts: Vec<Layout>,
}

impl ParityPlan {
    /// Parity of so many percent over these volumes, in volumes of at most so many bytes.
    pub fn new(volumes: &[VolumeSummary], percent: u8, size: u64) -> Result<ParityPlan, ParityError> {
        let lengths: Vec<u64> = volumes.iter().map(|volume| volume.length).collect();
        let geometry = Geometry::plan(&lengths, percent).map_err(ParityError::Shape)?;
        let table = geometry.all_blocks() * DIGEST;
        let layouts = Layout::split(table, geometry.block, geometry.recovery_blocks(), size)
            .map_err(|needs| ParityError::TooSmall { size, needs })?;
        Ok(ParityPlan { geometry, layouts })
    }

    /// How many parity volumes there are.
    pub fn volumes(&self) -> usize {
        self.layouts.len()
    }

    /// What it will mend.
    pub fn reach(&self) -> Reach {
        self.geometry.reach()
    }

    /// Reads the volumes, and writes the parity volumes into files that are open for reading and writing.
    pub fn write(
        &self,
        volumes: &Shelf<'_>,
        parity: &Shelf<'_>,
        done: &AtomicU64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Parity, ParityError> {
        let table = self.code(volumes, parity, done, stop)?;
        let numbers: Vec<usize> = (0..self.layouts.len()).collect();
        let summaries = numbers.par_iter().map(|number| self.close(*number, parity, &table, stop));
        let volumes = summaries.collect::<Result<Vec<ParityVolume>, ParityError>>()?;
        let Geometry { block, rows, recovery, .. } = self.geometry;
        let table = Sum { length: table.len() as u64, blake3: Blake3::of(&table) };
        Ok(Parity { block, rows, recovery, table, volumes })
    }

    /// Writes the recovery blocks; gives the digests of all blocks.
    fn code(
        &self,
        volumes: &Shelf<'_>,
        parity: &Shelf<'_>,
        done: &AtomicU64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<u8>, ParityError> {
        let geometry = &self.geometry;
        let share = Share::of(geometry, rayon::current_num_threads());
        let table = Mutex::new(vec![0; (geometry.all_blocks() * DIGEST) as usize]);
        let note = |index: u64, hasher: &blake3::Hasher| {
            let at = (index * DIGEST) as usize;
            let mut table = table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            table[at..at + DIGEST as usize].copy_from_slice(hasher.finalize().as_bytes());
        };
        let (data, recovery) = (geometry.data(), geometry.recovery);
        let worker = || {
            let encoder = HighRateEncoder::new(
                data as usize,
                recovery as usize,
                share.slice as usize,
                DefaultEngine::new(),
                None,
            )?;
            Ok((encoder, vec![0; share.slice as usize]))
        };
        let rows: Vec<u64> = (0..geometry.rows).collect();
        share.each_row(&rows, worker, |(encoder, buffer), row| {
            let mut hashers = vec![blake3::Hasher::new(); (data + recovery) as usize];
            for (at, length) in share.slices(geometry.block) {
                if stop() {
                    return Err(ParityError::Interrupted);
                }
                encoder.reset(data as usize, recovery as usize, length)?;
                for shard in 0..data {
                    let slice = &mut buffer[..length];
                    let read = read_slice(geometry, volumes, (row, shard), at, slice)?;
                    hashers[shard as usize].update(&slice[..read]);
                    done.fetch_add(read as u64, Ordering::Relaxed);
                    encoder.add_original_shard(&slice)?;
                }
                let made = encoder.encode()?;
                for (column, slice) in (0..).zip(made.recovery_iter()) {
                    hashers[(data + column) as usize].update(slice);
                    let (number, offset) = place(&self.layouts, geometry.recovery_block(row, column));
                    let failed = |source| ParityError::Write { which: Which::parity(number), source };
                    parity.write(number, slice, offset + at).map_err(failed)?;
                }
            }
            for (shard, hasher) in (0..).zip(&hashers) {
                match shard {
                    shard if shard >= data => note(geometry.recovery_index(row, shard - data), hasher),
                    shard => {
                        if let Some((volume, block)) = geometry.at(row, shard) {
                            note(geometry.index(volume, block), hasher);
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(table.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Writes what a parity volume has beside its blocks, and reads it once for its digests.
    fn close(
        &self,
        number: usize,
        parity: &Shelf<'_>,
        table: &[u8],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<ParityVolume, ParityError> {
        let layout = &self.layouts[number];
        let which = Which::parity(number);
        for (offset, part) in layout.frame(table) {
            parity.write(number, &part, offset).map_err(|source| ParityError::Write { which, source })?;
        }
        let (mut sha256, mut blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
        let mut buffer = vec![0; BUFFER];
        for offset in (0..layout.length()).step_by(BUFFER) {
            if stop() {
                return Err(ParityError::Interrupted);
            }
            let part = &mut buffer[..(layout.length() - offset).min(BUFFER as u64) as usize];
            parity.read(number, part, offset).map_err(|source| ParityError::Read { which, offset, source })?;
            sha256.update(&part);
            blake3.update(part);
        }
        let (sha256, blake3) = (Sha256(sha256.finalize().into()), Blake3(blake3.finalize().into()));
        Ok(ParityVolume { length: layout.length(), sha256, blake3, blocks: layout.blocks })
    }
}

/// The parity volume of a recovery block, and where it lies there.
pub(super) fn place(layouts: &[Layout], block: u64) -> (usize, u64) {
    let number = layouts.partition_point(|layout| layout.first <= block).saturating_sub(1);
    (number, layouts[number].offset(block - layouts[number].first))
}

/// Fills a slice with what a data shard has from `at` on, and with zeros beyond its end; says how many bytes it has there.
pub(super) fn read_slice(
    geometry: &Geometry,
    volumes: &Shelf<'_>,
    (row, shard): (u64, u64),
    at: u64,
    slice: &mut [u8],
) -> Result<usize, ParityError> {
    let Some((volume, block)) = geometry.at(row, shard) else {
        slice.fill(0);
        return Ok(0);
    };
    let there = geometry.block_length(volume, block).saturating_sub(at).min(slice.len() as u64) as usize;
    let offset = block * geometry.block + at;
    let failed = |source| ParityError::Read { which: Which::volume(volume), offset, source };
    volumes.read(volume, &mut slice[..there], offset).map_err(failed)?;
    slice[there..].fill(0);
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The element with these coordinates in the Cantor basis, in the field of polynomials over GF(2) modulo x^16+x^5+x^3+x^2+1.
    fn element(coordinates: u16) -> u32 {
        let basis = [
            0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8,
            0xFB34, 0xFF38, 0x991E,
        ];
        (0..16).filter(|bit| coordinates >> bit & 1 == 1).fold(0, |sum, bit| sum ^ basis[bit])
    }

    fn times(one: u32, other: u32) -> u32 {
        let product = (0..16).filter(|bit| other >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (one << bit));
        (16..32)
            .rev()
            .fold(product, |rest, bit| if rest >> bit & 1 == 1 { rest ^ (0x1_002D << (bit - 16)) } else { rest })
    }

    /// What `docs/format.md` says of the code, computed without the library.
    #[test]
    fn the_code_is_the_one_that_is_documented() {
        for (data, recovery) in [(1usize, 1usize), (3, 1), (5, 2), (64, 8), (70, 4), (16, 16)] {
            let chunk = recovery.next_power_of_two();
            assert_eq!(chunk, recovery, "all elements of the first chunk are seen");
            let mut encoder = HighRateEncoder::new(data, recovery, 128, DefaultEngine::new(), None).unwrap();
            let shards: Vec<Vec<u8>> =
                (0..data).map(|shard| (0..128).map(|at| (shard * 31 + at * 17 + at * shard) as u8).collect()).collect();
            shards.iter().for_each(|shard| encoder.add_original_shard(shard).unwrap());
            let made = encoder.encode().unwrap();
            let word = |shard: &[u8], at: usize| {
                let (unit, lane) = (at / 32 * 64, at % 32);
                element(u16::from_le_bytes([shard[unit + lane], shard[unit + 32 + lane]]))
            };
            for at in [0, 1, 31, 32, 63] {
                let first = made.recovery_iter().enumerate().map(|(column, shard)| (column, word(shard, at)));
                let rest = shards.iter().enumerate().map(|(shard, bytes)| (chunk + shard, word(bytes, at)));
                let values: Vec<(u32, u32)> =
                    first.chain(rest).map(|(point, value)| (element(point as u16), value)).collect();
                let mut powers: Vec<u32> = vec![1; values.len()];
                for power in 0..chunk {
                    let sum =
                        values.iter().zip(&powers).fold(0, |sum, ((_, value), power)| sum ^ times(*value, *power));
                    assert_eq!(sum, 0, "{data} {recovery} {at} {power}");
                    powers.iter_mut().zip(&values).for_each(|(power, (point, _))| *power = times(*power, *point));
                }
            }
        }
    }

    /// So that no later version of the library makes other volumes unnoticed.
    #[test]
    fn recovery_shards_are_those_of_earlier_versions() {
        let mut encoder = HighRateEncoder::new(65, 13, 4096, DefaultEngine::new(), None).unwrap();
        let shard = |number: usize| (0..4096).map(|at| (number * 7 + at * at) as u8).collect::<Vec<u8>>();
        (0..65).for_each(|number| encoder.add_original_shard(shard(number)).unwrap());
        let made: Vec<u8> = encoder.encode().unwrap().recovery_iter().flatten().copied().collect();
        assert_eq!(Blake3::of(&made).to_string(), "b09169eb2f0e47c5a9ff0f2091936c7518a417451fcde10617590e370fd171a6");
    }
}
