//! Bringing the advisory database along, and withdrawing what it says is malware.

use crateferry_pipeline::advisories::{Advisories, Advisory, AdvisoryKind};
use crateferry_pipeline::error_chain;
use crateferry_pipeline::upstream::Checkout;
use crateferry_store::{Batch, Cause, Event, LedgerReader, Release, ReleaseId, Row, State, wait};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Sync;
use crate::session;

/// What became of the advisory database.
#[derive(Debug, Default)]
pub struct Advised {
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
    /// What was withdrawn.
    pub malware: Vec<Malware>,
}

/// A release that was withdrawn because an advisory says that it is malware.
#[derive(Debug, Serialize)]
pub struct Malware {
    #[serde(flatten)]
    pub release: ReleaseId,
    /// The advisory's name.
    pub advisory: String,
}

impl Sync {
    /// Brings the advisory database along, if there is to be one. What is wrong with it is told, and keeps nothing else back.
    /// What a new advisory says is malware is withdrawn in the same commit.
    pub(super) async fn advisories(&self, offline: bool, stop: &CancellationToken) -> anyhow::Result<Advised> {
        let Some(repository) = self.session.advisories.as_ref().filter(|_| !offline) else {
            return Ok(Advised::default());
        };
        let as_old = |cause: String| Advised {
            problem: Some(format!("the advisory database is as old as it was: {cause}")),
            malware: Vec::new(),
        };
        let Checkout { commit, committed_at, files } = match repository.checkout(stop).await {
            Ok(checkout) => checkout,
            Err(error) => return Ok(as_old(error_chain(&error))),
        };
        let ledger = self.mirror.ledger().reader()?;
        if ledger.next_advisories()?.is_some_and(|known| known.commit == commit) {
            return Ok(Advised::default());
        }
        let pack = move || (Advisories::readable(&files), files.pack(&commit, committed_at));
        let ((read, unread), packed) = self.session.cpu.run(pack).await;
        let (archive, database) = match packed {
            Ok(packed) => packed,
            Err(error) => return Ok(as_old(error.to_string())),
        };
        let mut batch = Batch::default();
        let place = ledger.advisories(&database.sha256)?;
        // One that was superseded may have been collected.
        match place.filter(|place| self.mirror.packs().advisories(*place, database.sha256).is_ok()) {
            Some(_) => batch.add(Event::Advisories { database }),
            None => batch.add_advisories(archive, database),
        }
        let malware = self.withdraw_malware(&read, &ledger, &mut batch)?;
        let pending = self.writer.submit(batch);
        wait(self.writer.flush())?;
        wait(pending)?;
        Ok(Advised { problem: unread.map(|error| error_chain(&error)), malware })
    }

    /// Withdraws what is malware by an advisory that was not there before. An older advisory changes nothing: its releases are
    /// withdrawn already, or an operator took that back.
    fn withdraw_malware(
        &self,
        advisories: &Advisories,
        ledger: &LedgerReader,
        batch: &mut Batch,
    ) -> anyhow::Result<Vec<Malware>> {
        let before = session::advisory_files(&self.mirror)?.map(|files| Advisories::readable(&files).0);
        let known_before = |release: &ReleaseId, advisory: &Advisory| {
            let before = before.iter().flat_map(|before| before.about(&release.name, &release.version));
            before.filter(|known| known.kind == AdvisoryKind::Malware).any(|known| known.id == advisory.id)
        };
        let mut withdrawn = Vec::new();
        for name in advisories.malware() {
            for (release, _) in ledger.releases_of(name)?.into_iter().filter(may_be_served) {
                let mut about = advisories.about(name, &release.id.version).into_iter();
                let is_new = |of: &Advisory| of.kind == AdvisoryKind::Malware && !known_before(&release.id, of);
                let Some(advisory) = about.find(is_new) else { continue };
                let because = format!("malware, {}: {}", advisory.id, advisory.title);
                withdrawn.push(Malware { release: release.id.clone(), advisory: advisory.id });
                let cause = Cause { because, by_operator: true };
                batch.add(Event::Withdrawn { release: release.into(), at: self.session.clock.now(), cause });
            }
        }
        Ok(withdrawn)
    }
}

/// Whether a release is served, or may come to be.
fn may_be_served((_, row): &(Release, Row)) -> bool {
    row.state != State::Withdrawn || !row.by_operator
}
