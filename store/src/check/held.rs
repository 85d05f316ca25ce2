//! Held releases, each at the place that the catalog knows.

use rayon::prelude::*;

use super::{CHUNK, CheckError, Verification};
use crate::id::Release;
use crate::ledger::Held;
use crate::mirror::MirrorReader;

/// Every held release that lies in one of these packs must be a sound member that was just read. If the numbers agree,
/// each one is; else each place is read again to name those that are not.
pub(super) fn check_releases(
    mirror: &MirrorReader,
    (from, until): (u32, u32),
    matched: u64,
    verification: &mut Verification,
) -> Result<(), CheckError> {
    let is_meant = |held: &Held| (from..until).contains(&held.place.pack);
    let mut count = mirror.catalog.counts()?.1;
    if (from, until) != (0, u32::MAX) {
        count = 0;
        each_held(mirror, |held| count += held.iter().filter(|held| is_meant(held)).count() as u64)?;
    }
    verification.releases = count;
    if count == matched {
        return Ok(());
    }
    each_held(mirror, |held| {
        let meant = held.par_iter().filter(|held| is_meant(held));
        verification.lose(meant.filter_map(|held| check_place(mirror, held)).collect());
    })
}

/// Reads one of so many held releases.
pub(super) fn check_sample(
    mirror: &MirrorReader,
    (one_of, first): (u64, u64),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let (mut verification, mut at) = (Verification::default(), 0);
    each_held(mirror, |held| {
        let picked: Vec<&Held> =
            (at..).zip(held).filter(|(at, _)| at % one_of == first).map(|(_, held)| held).collect();
        at += held.len() as u64;
        let look = |held: &&Held| {
            let found = check_place(mirror, held);
            progress(held.place.length);
            found
        };
        verification.releases += picked.len() as u64;
        verification.objects += picked.len() as u64;
        verification.bytes += picked.iter().map(|held| held.place.length).sum::<u64>();
        verification.lose(picked.par_iter().filter_map(look).collect());
    })?;
    Ok(verification)
}

/// Calls `look` with all held releases, some at a time.
fn each_held(mirror: &MirrorReader, mut look: impl FnMut(&[Held])) -> Result<(), CheckError> {
    let mut after: Option<Release> = None;
    loop {
        let held = mirror.catalog.held_after(after.as_ref(), CHUNK)?;
        let Some(last) = held.last() else { return Ok(()) };
        after = Some(last.release.clone());
        look(&held);
    }
}

/// What is wrong with the bytes of a held release.
fn check_place(mirror: &MirrorReader, held: &Held) -> Option<(Release, String)> {
    let place = held.place;
    let problem = match mirror.packs.hash(place) {
        Ok(found) if found == held.release.checksum => return None,
        Ok(found) => {
            format!("its bytes should be in pack {} at offset {}, where SHA-256 is {found}", place.pack, place.offset)
        }
        Err(error) => error.to_string(),
    };
    Some((held.release.clone(), problem))
}
