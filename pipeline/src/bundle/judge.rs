//! Whether a bundle may be applied: pure but for looking into the ledger.

use crateferry_store::bundle::Manifest;
use crateferry_store::{LedgerError, LedgerReader, Point};

/// What is to be done with a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it leads to is part of what is served.
    Applied,
    /// All that it needs is there.
    Applies,
    /// It leads from a generation that is not served yet: its objects may be taken in, and the switch waits.
    Waits {
        /// The generation that is missing.
        from: Point,
    },
    /// It must not be applied.
    Refused(Refusal),
}

/// Why a bundle must not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It belongs to another mirror.
    #[error("the bundle is of mirror {bundle}, and this is mirror {mine}; apply it to a folder of its own")]
    OtherMirror {
        /// The bundle's.
        bundle: String,
        /// This one.
        mine: String,
    },
    /// Two histories have the same number for different things.
    #[error(
        "generation {number} of epoch {epoch} is {theirs} in the bundle and {mine} here: the origin's history was rewritten, \
         as by a restored backup; on the online side, `crateferry rebuild --new-epoch` begins a new epoch, whose bundles apply"
    )]
    Fork {
        /// The generation's number.
        number: u64,
        /// Its epoch.
        epoch: u32,
        /// The bundle's digest.
        theirs: String,
        /// Ours.
        mine: String,
    },
    /// It leads backwards.
    #[error(
        "the bundle leads to generation {to} of epoch {to_epoch}, and generation {served} of epoch {served_epoch} is served: a mirror \
         never goes back"
    )]
    Rollback {
        /// Where it leads.
        to: u64,
        /// In which epoch.
        to_epoch: u32,
        /// What is served.
        served: u64,
        /// In which epoch.
        served_epoch: u32,
    },
    /// It leads from something older that was never served here, and does not pass by what is served.
    #[error(
        "the bundle leads from generation {from}, which was never served here, past generation {served}, which is: take a bundle made \
         with `--since {served}`, `--for` a receipt of this mirror, or `--full`"
    )]
    Apart {
        /// Where it begins.
        from: u64,
        /// What is served.
        served: u64,
    },
}

/// Compares a bundle whose signature was checked with the mirror's history.
pub fn judge(manifest: &Manifest, ledger: &LedgerReader) -> Result<Verdict, LedgerError> {
    let mine = ledger.mirror()?;
    if manifest.mirror != mine {
        let bundle = manifest.mirror.clone();
        return Ok(Verdict::Refused(Refusal::OtherMirror { bundle, mine }));
    }
    for point in manifest.through.iter().chain(&manifest.from) {
        if let Some(known) = ledger.digest_of(point.epoch, point.generation)?.filter(|known| *known != point.digest) {
            let (theirs, mine) = (point.digest.to_string(), known.to_string());
            let (number, epoch) = (point.generation, point.epoch);
            return Ok(Verdict::Refused(Refusal::Fork { number, epoch, theirs, mine }));
        }
    }
    let to = manifest.to.point();
    if ledger.digest_of(to.epoch, to.generation)?.is_some() {
        return Ok(Verdict::Applied);
    }
    let served = ledger.generation()?.map(|generation| generation.point());
    if let Some(served) = served.filter(|served| to.order() <= served.order()) {
        return Ok(Verdict::Refused(Refusal::Rollback {
            to: to.generation,
            to_epoch: to.epoch,
            served: served.generation,
            served_epoch: served.epoch,
        }));
    }
    let Some(from) = manifest.from else { return Ok(Verdict::Applies) };
    if ledger.digest_of(from.epoch, from.generation)?.is_some() {
        return Ok(Verdict::Applies);
    }
    match served {
        Some(served) if manifest.through.contains(&served) => Ok(Verdict::Applies),
        Some(served) if from.order() < served.order() => {
            Ok(Verdict::Refused(Refusal::Apart { from: from.generation, served: served.generation }))
        }
        _ => Ok(Verdict::Waits { from }),
    }
}
