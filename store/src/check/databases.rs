//! The databases, and whether they agree.

use super::{CheckError, Verification, means};
use crate::ledger::{Ledger, LedgerError, guarded};
use crate::mirror::{Lock, MirrorReader};

/// Every row of the catalog, every page of the ledger, and whether they agree about what is held. The ledger takes being
/// the mirror's writer for that long; where another process is it, or nothing may be written, it is not looked at.
pub(super) fn check_databases(mirror: &MirrorReader, verification: &mut Verification) -> Result<(), CheckError> {
    if let Err(error) = mirror.catalog.check(|| {}) {
        verification.find("catalog", text_of(&error), means::CATALOG);
        return Ok(());
    }
    let _lock = match Lock::take(&mirror.layout) {
        Ok(lock) => lock,
        Err(error) => {
            verification.ledger_not_read = Some(text_of(&error));
            return Ok(());
        }
    };
    let newer = mirror.catalog.newer()?;
    let catalog = newer.as_ref().unwrap_or(&mirror.catalog);
    let compare = |verification: &mut Verification| -> Result<(), LedgerError> {
        let database = Ledger::open_checked(mirror.disk.as_ref(), &mirror.layout.ledger(), mirror.limits.ledger_cache)?;
        let ledger = database.reader()?;
        // A writer that was killed leaves the catalog behind; the next one brings it along.
        let is_behind = catalog.summary()?.is_none_or(|summary| Ok(summary.tally) != ledger.tally().map_err(drop));
        // It need not have what no index file of a generation promised.
        let mut known = 0;
        ledger.each_release(|release, row| {
            let Some(held) = catalog.held(&release)? else { return Ok(()) };
            known += 1;
            if !is_behind && row.place != Some(held.place) {
                let problem = format!("it has {release} at another place than the ledger");
                verification.find("catalog", problem, means::CATALOG);
            }
            Ok(())
        })?;
        let all = catalog.counts()?.1;
        if !is_behind && known != all {
            let problem = format!("of its {all} held releases the ledger knows {known}");
            verification.find("catalog", problem, means::CATALOG);
        }
        Ok(())
    };
    if let Err(error) = guarded(&mirror.layout.ledger(), || compare(verification)) {
        verification.find("ledger", text_of(&error), means::LEDGER);
    }
    Ok(())
}

/// An error and its causes in one line.
fn text_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
