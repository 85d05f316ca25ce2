//! How the work on rows is divided: over all cores, and so that a limit of memory holds.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::ParityError;
use super::geometry::Geometry;

/// What work on rows may hold at once, whatever the shape.
const MEMORY: u64 = 48 << 20;

/// What a hasher of a block holds, about.
const HASHER: u64 = 2 << 10;

/// A shorter slice of a block is not worth a read.
const SHORT: u64 = 4 << 10;

/// The code works on pieces of this length.
const UNIT: u64 = 64;

/// How many rows are worked on at once, and how many bytes of each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    tasks: u64,
    pub slice: u64,
}

impl Share {
    pub fn of(geometry: &Geometry, threads: usize) -> Share {
        let shards = (geometry.recovery.next_power_of_two() + geometry.data()).next_power_of_two();
        let most = (MEMORY / (shards * (SHORT + HASHER))).max(1);
        let tasks = most.min(threads as u64).min(geometry.rows);
        let slice = (MEMORY / tasks / shards).saturating_sub(HASHER).clamp(UNIT, geometry.block);
        Share { tasks, slice: slice / UNIT * UNIT }
    }

    /// Does the work for each row, with a worker for each task, until one fails.
    pub fn each_row<W>(
        &self,
        rows: &[u64],
        worker: impl Fn() -> Result<W, ParityError> + Sync,
        work: impl Fn(&mut W, u64) -> Result<(), ParityError> + Sync,
    ) -> Result<(), ParityError> {
        let failed = AtomicBool::new(false);
        let tasks = self.tasks as usize;
        (0..tasks).into_par_iter().with_max_len(1).try_for_each(|task| {
            let mut worker = worker()?;
            for row in rows.iter().skip(task).step_by(tasks) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                work(&mut worker, *row).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        })
    }

    /// The slices of a block: where each begins, and its length.
    pub fn slices(&self, block: u64) -> impl Iterator<Item = (u64, usize)> + use<> {
        let slice = self.slice;
        (0..block).step_by(slice as usize).map(move |at| (at, slice.min(block - at) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::MOST_SHARDS;
    use super::*;

    #[test]
    fn memory_has_a_limit_whatever_the_shape() {
        for volumes in [1, 5, 64, 100, 1000, MOST_SHARDS] {
            for percent in [1, 10, 50, 100] {
                for length in [1, 4096 * 100, 700_000_000] {
                    let lengths = vec![length; volumes as usize];
                    let Ok(geometry) = Geometry::plan(&lengths, percent) else { continue };
                    for threads in [1, 2, 16, 256] {
                        let share = Share::of(&geometry, threads);
                        let shards = (geometry.recovery.next_power_of_two() + geometry.data()).next_power_of_two();
                        let hashers = (geometry.data() + geometry.recovery) * HASHER;
                        let holds = share.tasks * (shards * share.slice + hashers);
                        assert!(holds <= MEMORY + (16 << 20), "{volumes} {percent} {length} {threads}: {holds}");
                        assert!(share.slice.is_multiple_of(UNIT) && share.slice > 0 && share.tasks > 0);
                        let covered: u64 = share.slices(geometry.block).map(|(_, length)| length as u64).sum();
                        assert_eq!(covered, geometry.block);
                    }
                }
            }
        }
    }
}
