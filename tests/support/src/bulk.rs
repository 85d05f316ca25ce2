//! Registries of any size, the same each time.
//!
//! Names count up (`c00000`, `c00001`, ...), each crate has the same number of versions, and sizes are drawn
//! as those of crates.io lie: log-normal, with a median of 15 KB and a mean that a few large files pull up.

use crate::noise::Noise;
use crate::shelf::Held;

/// The middle size of crate files, in bytes, if their mean is larger.
const MEDIAN: f64 = 15_000.0;

/// How many releases to make, and how large.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    /// The number of releases.
    pub releases: usize,
    /// How many versions each crate has.
    pub versions_per_crate: usize,
    /// The mean size of the crate files, which then are no archives; `None` makes small real ones.
    pub mean_size: Option<usize>,
}

impl Bulk {
    /// Small real crates of seven versions each.
    pub fn of(releases: usize) -> Self {
        Bulk { releases, versions_per_crate: 7, mean_size: None }
    }

    /// The name and version of each release, in index order.
    pub fn ids(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let each = self.versions_per_crate.max(1);
        (0..self.releases).map(move |number| (format!("c{:05}", number / each), format!("1.0.{}", number % each)))
    }

    /// The size of each crate file, if sizes were asked for.
    pub(crate) fn sizes(&self) -> Option<Vec<usize>> {
        Some(sizes(self.releases, self.mean_size? as f64))
    }

    /// The releases; their checksums are computed by as many threads as there are processors.
    pub(crate) fn make(&self) -> Vec<Held> {
        let ids: Vec<_> = self.ids().collect();
        let sizes = self.sizes();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = ids.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = ids
                .chunks(share)
                .enumerate()
                .map(|(part, ids)| {
                    let sizes = sizes.as_ref().map(|sizes| &sizes[part * share..]);
                    scope.spawn(move || held(ids, sizes))
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    }
}

fn held(ids: &[(String, String)], sizes: Option<&[usize]>) -> Vec<Held> {
    let one = |(place, (name, version)): (usize, &(String, String))| match sizes {
        Some(sizes) => Held::opaque(name.clone(), version.clone(), sizes[place]),
        None => Held::small(name.clone(), version.clone()),
    };
    ids.iter().enumerate().map(one).collect()
}

/// Log-normal sizes, scaled so that their mean is the one asked for, however the few largest fell.
#[expect(clippy::cast_sign_loss, reason = "sizes are clamped to what is positive")]
fn sizes(count: usize, mean: f64) -> Vec<usize> {
    let median = MEDIAN.min(mean);
    let spread = (2.0 * (mean / median).ln()).sqrt();
    let mut noise = Noise::of(&[b"sizes", &count.to_le_bytes()]);
    let drawn: Vec<f64> = (0..count).map(|_| median * (spread * noise.normal()).exp()).collect();
    let scale = mean * count as f64 / drawn.iter().sum::<f64>();
    drawn.iter().map(|size| (size * scale).clamp(1.0, 64e6) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_mean_that_was_asked_for() {
        let mut sizes = sizes(20_000, 90_000.0);
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((85_000..92_000).contains(&mean), "mean {mean}");
        sizes.sort_unstable();
        assert!((12_000..18_000).contains(&sizes[10_000]), "median {}", sizes[10_000]);
    }

    #[test]
    fn each_crate_has_seven_versions() {
        let ids: Vec<_> = Bulk::of(15).ids().collect();
        assert_eq!(ids[6], ("c00000".to_owned(), "1.0.6".to_owned()));
        assert_eq!(ids[14], ("c00002".to_owned(), "1.0.0".to_owned()));
    }
}
