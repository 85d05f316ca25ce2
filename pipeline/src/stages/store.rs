//! Into the pack, and on only when it is durable and the ledger knows it.
//!
//! The writer keeps a group open for a while, because more may come. Only the flow knows when nothing can: then the
//! last crate file that is handed over ends the group, and so the flow does not wait for a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crateferry_store::Writer;

use crate::failure::{Disposition, Failure};
use crate::flow::Stage;
use crate::item::{Described, Stored};

/// Stores crate files.
#[derive(Debug)]
pub struct Store {
    writer: Arc<Writer>,
    /// How many crate files the writer was given.
    given: AtomicU64,
    /// How many it is to be given in all, once that is known.
    all: AtomicU64,
}

impl Store {
    /// Stores with the mirror's one writer.
    pub fn new(writer: Arc<Writer>) -> Self {
        Store { writer, given: AtomicU64::new(0), all: AtomicU64::new(u64::MAX) }
    }

    /// Ends the open group if the writer was given all. Whoever counts the last one up and whoever says how many there
    /// are both look, each after its own word, so one of them sees it; if both do, the second has no group to end.
    fn end_if_given_all(&self, given: u64, all: u64) {
        if given == all {
            // Each crate file has its own answer.
            drop(self.writer.flush());
        }
    }
}

impl Stage for Store {
    type In = Described;
    type Out = Stored;
    const NAME: &'static str = "store";

    async fn run(&self, described: Described) -> Result<Stored, Failure> {
        let Described { release, bytes, facts, attempt } = described;
        let stored = self.writer.store(&release, bytes, facts.as_ref());
        let given = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        self.end_if_given_all(given, self.all.load(Ordering::SeqCst));
        match stored.await {
            Ok(place) => Ok(Stored { release, place, attempt }),
            Err(error) => {
                let (stage, disposition) = (Self::NAME, Disposition::Halt);
                Err(Failure { release, stage, disposition, attempt, body: None, source: Box::new(error) })
            }
        }
    }

    fn no_more(&self, items: u64) {
        self.all.store(items, Ordering::SeqCst);
        self.end_if_given_all(self.given.load(Ordering::SeqCst), items);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use crateferry_store::{BodyBuilder, Mirror, Release, ReleaseId, Sha256, StoreLimits};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::flow::{Flow, Settle, Source};
    use crate::item::Attempt;
    use crate::limits::Limits;

    type AnyError = Box<dyn std::error::Error + Send + Sync>;

    /// Crate files that differ.
    struct CrateFiles(std::ops::Range<u32>);

    impl Source for CrateFiles {
        type Item = Described;
        const NAME: &'static str = "crate files";
        fn next(&mut self) -> Result<Option<Described>, AnyError> {
            let Some(number) = self.0.next() else { return Ok(None) };
            let (content, version) = (number.to_le_bytes(), format!("1.0.{number}"));
            let id = ReleaseId { name: "many".parse()?, version: version.parse()? };
            let release = Release { id, checksum: Sha256::of(&content) };
            let mut body = BodyBuilder::in_memory(content.len());
            body.push(&content)?;
            let bytes = body.finish(None).prove(release.checksum)?;
            Ok(Some(Described { release, bytes, facts: None, attempt: Attempt::default() }))
        }
    }

    struct Count(u64);

    impl Settle for Count {
        type Item = Stored;
        fn done(&mut self, _: Stored) -> Result<(), AnyError> {
            self.0 += 1;
            Ok(())
        }
        fn failed(&mut self, failure: &mut Failure) -> Result<(), AnyError> {
            Err(failure.reason().into())
        }
    }

    /// Groups and syncs that it takes to store so many crate files, when groups have 100 members and wait for them as
    /// long as it takes.
    async fn work_for(crate_files: u32) -> [u64; 2] {
        let folder = tempfile::tempdir().unwrap();
        let limits =
            StoreLimits { group_members: 100, group_delay: Duration::from_secs(3600), ..StoreLimits::default() };
        let mirror = Mirror::create(folder.path(), &"0".repeat(32), "format = 1\n", limits).unwrap();
        let writer = Arc::new(mirror.writer().unwrap());
        let (limits, mut count) = (Limits::default(), Count(0));
        let source = CrateFiles(0..crate_files);
        let flow = Flow::from(source, limits.work, limits.failures, CancellationToken::new())
            .then(Store::new(writer.clone()), limits.store)
            .run(&mut count);
        tokio::time::timeout(Duration::from_secs(60), flow).await.expect("it does not wait for the group").unwrap();
        assert_eq!(count.0, u64::from(crate_files));
        [&writer.work().groups, &writer.work().syncs].map(|count| count.load(Ordering::Relaxed))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_group_ends_with_the_flow() {
        assert_eq!(work_for(1).await, [1; 2]);
        assert_eq!(work_for(64).await, [1; 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_group_but_the_last_ends_before_it_is_full() {
        assert_eq!(work_for(1000).await, [10; 2]);
        assert_eq!(work_for(1050).await, [11; 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flow_without_crate_files_makes_no_group() {
        assert_eq!(work_for(0).await, [0; 2]);
    }
}
