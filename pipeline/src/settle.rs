//! The end of a sync's flow: what became of each release is recorded, counted and told.

use std::error::Error;
use std::sync::Arc;

use crateferry_store::{
    AuditLog, AuditRecord, Batch, Event, Ledger, LedgerError, Quarantine, Release, Writer, next_due,
};

use crate::clock::Clock;
use crate::failure::{Disposition, Failure};
use crate::flow::Settle;
use crate::item::{Attempt, Stored};

/// How many releases left the flow, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Stored.
    pub stored: u64,
    /// Bytes of the crate files stored.
    pub bytes: u64,
    /// Asked for again within this run.
    pub retries: u64,
    /// Did not come; asked for again by later syncs.
    pub failed: u64,
    /// Kept out by a rule.
    pub refused: u64,
}

/// Who is told of each release that left the flow.
pub trait Witness: Send {
    /// A release is stored.
    fn stored(&mut self, stored: &Stored);
    /// A release is not stored.
    fn failed(&mut self, failure: &Failure, reason: &str);
}

/// Records what becomes of each release.
pub struct Record {
    /// The mirror's one writer.
    pub writer: Arc<Writer>,
    /// How often a release was tried before.
    pub ledger: Arc<Ledger>,
    /// One line for each attempt.
    pub audit: AuditLog,
    /// Where wrong bytes go.
    pub quarantine: Quarantine,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The last generation when the run began.
    pub generation: u64,
    /// Who is told.
    pub witness: Box<dyn Witness>,
    /// What was counted.
    pub outcome: Outcome,
}

type AnyError = Box<dyn Error + Send + Sync>;

impl Settle for Record {
    type Item = Stored;

    fn done(&mut self, stored: Stored) -> Result<(), AnyError> {
        self.outcome.stored += 1;
        self.outcome.bytes += stored.place.length;
        self.outcome.retries += u64::from(stored.attempt.retries);
        self.witness.stored(&stored);
        let path = format!("packs/{:06}.tar:{}", stored.place.pack, stored.place.offset);
        let audit = self.audit_record(&stored.attempt, stored.release.checksum.to_string());
        Ok(self.audit.append(&AuditRecord { path, size: stored.place.length, ok: true, ..audit })?)
    }

    fn failed(&mut self, failure: &mut Failure) -> Result<(), AnyError> {
        if failure.disposition == Disposition::Stopped {
            return Ok(());
        }
        let reason = failure.reason();
        self.outcome.retries += u64::from(failure.attempt.retries);
        self.witness.failed(failure, &reason);
        self.keep_bytes(failure);
        let event = self.event(failure, &reason)?;
        let audit = self.audit_record(&failure.attempt, failure.release.checksum.to_string());
        self.audit.append(&AuditRecord { error: Some(&reason), ..audit })?;
        if let Some(event) = event {
            let mut batch = Batch::default();
            batch.add(event);
            // It becomes durable with the next group; a failure that is lost is only tried again.
            drop(self.writer.submit(batch));
        }
        Ok(())
    }
}

impl Record {
    /// Hands the audit record to the operating system.
    pub fn finish(&mut self) -> Result<(), crateferry_store::AuditError> {
        self.audit.flush()
    }

    fn event(&mut self, failure: &Failure, reason: &str) -> Result<Option<Event>, LedgerError> {
        let (release, reason, at) = (failure.release.clone().into(), reason.to_owned(), self.clock.now());
        Ok(match failure.disposition {
            Disposition::RetrySoon => {
                self.outcome.failed += 1;
                Some(Event::Tried { release, reason, at, due: 0 })
            }
            Disposition::RetryLater => {
                self.outcome.failed += 1;
                Some(Event::Tried { release, reason, at, due: next_due(self.tries(&failure.release)?, at) })
            }
            Disposition::Refuse => {
                self.outcome.refused += 1;
                Some(Event::Refused { release, reason, at })
            }
            Disposition::Halt | Disposition::Stopped => None,
        })
    }

    /// How often earlier syncs asked for the release in vain.
    fn tries(&self, release: &Release) -> Result<u16, LedgerError> {
        let known = self.ledger.reader()?.releases_at(&release.id)?;
        Ok(known.iter().find(|(known, _)| known.checksum == release.checksum).map_or(0, |(_, row)| row.tries))
    }

    fn keep_bytes(&self, failure: &mut Failure) {
        let Some(body) = failure.body.take() else { return };
        match self.quarantine.keep(body) {
            Ok(Some(path)) => {
                tracing::info!(release = %failure.release, path = %path.display(), "kept wrong bytes for a look");
            }
            Ok(None) => tracing::info!(release = %failure.release, "wrong bytes were too many to keep"),
            // The bytes are worth a look, not the sync.
            Err(error) => tracing::warn!(error = crate::error_chain(&error), "could not keep wrong bytes for a look"),
        }
    }

    fn audit_record<'a>(&self, attempt: &'a Attempt, sha256: String) -> AuditRecord<'a> {
        AuditRecord {
            schema_version: 1,
            url: &attempt.url,
            path: String::new(),
            size: attempt.size.unwrap_or(0),
            sha256,
            started_at: rfc3339(attempt.started_at),
            finished_at: rfc3339(self.clock.now()),
            ok: false,
            error: None,
            retries: attempt.retries,
            status: attempt.status,
            generation: self.generation,
        }
    }
}

/// A time in seconds since 1970 as RFC 3339, UTC.
pub fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
