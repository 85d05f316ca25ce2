//! The ledger as what upstreams are compared with.

use std::sync::Arc;

use crateferry_store::{CrateName, Identity, Ledger};

use crate::upstream::{Known, KnownError};

/// Answers from the ledger as it is at the moment of the question.
pub struct LedgerKnown(pub Arc<Ledger>);

impl Known for LedgerKnown {
    fn identity(&self, name: &CrateName) -> Result<Option<Identity>, KnownError> {
        let row = self.0.reader()?.path(name)?;
        Ok(row.and_then(|row| row.upstream).map(|(identity, _)| identity))
    }

    fn names_after(&self, after: Option<&CrateName>, limit: usize) -> Result<Vec<CrateName>, KnownError> {
        Ok(self.0.reader()?.upstream_names_after(after, limit)?)
    }

    fn count(&self) -> Result<u64, KnownError> {
        Ok(self.0.reader()?.path_count()?)
    }
}
