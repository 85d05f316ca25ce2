//! Into the pack, and on only when it is durable and the ledger knows it.

use std::sync::Arc;

use crateferry_store::Writer;

use crate::failure::{Disposition, Failure};
use crate::flow::Stage;
use crate::item::{Described, Stored};

/// Stores crate files.
#[derive(Clone, Debug)]
pub struct Store {
    /// The mirror's one writer.
    pub writer: Arc<Writer>,
}

impl Stage for Store {
    type In = Described;
    type Out = Stored;

    async fn run(&self, described: Described) -> Result<Stored, Failure> {
        let Described { release, bytes, facts: _, attempt } = described;
        match self.writer.store(&release, bytes).await {
            Ok(place) => Ok(Stored { release, place, attempt }),
            Err(error) => {
                let (stage, disposition) = ("store", Disposition::Halt);
                Err(Failure { release, stage, disposition, attempt, body: None, source: Box::new(error) })
            }
        }
    }
}
