//! Source, stages, flow: the only place that spawns tasks or makes channels.
//!
//! ```text
//! source ──▶ stage ──▶ stage ──▶ … ──▶ settle
//!              │         │               ▲
//!              └─────────┴── failures ───┘
//! ```
//!
//! Links are bounded channels, so a slow stage slows the source down and nothing piles up. Every item has two exits: on
//! to the next stage, or out as a [`Failure`]; both end in the one [`Settle`], so that nothing is dropped silently.
//! A flow ends by draining: the source stops, each stage finishes what it has and closes its link, the settler sees both
//! of its inlets closed. A halt and a signal to stop only stop the source.

use std::error::Error;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::{Disposition, Failure};
use crate::limits::StageLimit;

type AnyError = Box<dyn Error + Send + Sync>;

/// The head of a flow.
pub trait Source: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;
    /// The next item; none at the end. May read a little from the ledger, but must not wait for the network.
    fn next(&mut self) -> Result<Option<Self::Item>, AnyError>;
}

/// One step of the flow. Its fields are all that it may touch; running it again with the same item is safe.
pub trait Stage: Send + Sync + 'static {
    /// What comes in.
    type In: Send + 'static;
    /// What goes on to the next stage.
    type Out: Send + 'static;
    /// Passes an item on, or out.
    fn run(&self, item: Self::In) -> impl Future<Output = Result<Self::Out, Failure>> + Send;
    /// Hears that nothing more comes: so many items came in, and some of them may not have begun to run yet.
    fn no_more(&self, _items: u64) {}
}

/// The end of a flow: hears of every item once.
pub trait Settle: Send {
    /// What the last stage gives.
    type Item: Send + 'static;
    /// An item came through.
    fn done(&mut self, item: Self::Item) -> Result<(), AnyError>;
    /// An item left on the way. Those that halt the flow are heard of too.
    fn failed(&mut self, failure: &mut Failure) -> Result<(), AnyError>;
}

/// Why a flow ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// Nothing could go on: a stage said so.
    #[error("{} stopped the sync at release {}", .0.stage, .0.release)]
    Halted(Box<Failure>, #[source] Cause),
    /// The source could not be read.
    #[error("cannot read what is to be done")]
    Source(#[source] AnyError),
    /// What happened could not be recorded.
    #[error("cannot record what happened")]
    Settle(#[source] AnyError),
}

/// A failure's cause, told once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

/// A chain of stages under construction, whose last one gives `T`.
pub struct Flow<T> {
    tasks: JoinSet<Result<(), AnyError>>,
    outlet: mpsc::Receiver<T>,
    failures: mpsc::Sender<Failure>,
    failed: mpsc::Receiver<Failure>,
    stop: CancellationToken,
}

impl<T: Send + 'static> Flow<T> {
    /// Begins with a source. It ends when the source does, or when `stop` is given. At most `failures` failures wait to
    /// be settled.
    pub fn from<S: Source<Item = T>>(source: S, limit: StageLimit, failures: usize, stop: CancellationToken) -> Self {
        let (out, outlet) = mpsc::channel(limit.queue);
        let (failures, failed) = mpsc::channel(failures);
        let mut tasks = JoinSet::new();
        tasks.spawn(draw(source, out, stop.clone()));
        Flow { tasks, outlet, failures, failed, stop }
    }

    /// Adds a stage.
    #[must_use]
    pub fn then<S: Stage<In = T>>(mut self, stage: S, limit: StageLimit) -> Flow<S::Out> {
        let (out, outlet) = mpsc::channel(limit.queue);
        let link = Link { inbox: self.outlet, out, failures: self.failures.clone() };
        if limit.at_once == 1 {
            self.tasks.spawn(one_by_one(stage, link));
        } else {
            self.tasks.spawn(many_at_once(Arc::new(stage), link, limit.at_once));
        }
        Flow { tasks: self.tasks, outlet, failures: self.failures, failed: self.failed, stop: self.stop }
    }

    /// Lets everything flow until it has drained.
    pub async fn run(self, settle: &mut impl Settle<Item = T>) -> Result<(), FlowError> {
        let Flow { mut tasks, mut outlet, failures, mut failed, stop } = self;
        drop(failures);
        let mut ending = Ok(());
        loop {
            let settled = tokio::select! {
                Some(item) = outlet.recv() => settle.done(item).map_err(FlowError::Settle),
                Some(failure) = failed.recv() => settle_failure(settle, failure),
                else => break,
            };
            if let Err(error) = settled {
                stop.cancel();
                ending = ending.and(Err(error));
            }
        }
        while let Some(task) = tasks.join_next().await {
            match task {
                Ok(Ok(())) => {}
                Ok(Err(error)) => ending = ending.and(Err(FlowError::Source(error))),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        ending
    }
}

fn settle_failure(settle: &mut impl Settle, mut failure: Failure) -> Result<(), FlowError> {
    settle.failed(&mut failure).map_err(FlowError::Settle)?;
    if failure.disposition == Disposition::Halt {
        let cause = Cause(failure.reason());
        return Err(FlowError::Halted(Box::new(failure), cause));
    }
    Ok(())
}

/// What one stage is linked to.
struct Link<I, O> {
    inbox: mpsc::Receiver<I>,
    out: mpsc::Sender<O>,
    failures: mpsc::Sender<Failure>,
}

async fn draw<S: Source>(mut source: S, out: mpsc::Sender<S::Item>, stop: CancellationToken) -> Result<(), AnyError> {
    while !stop.is_cancelled() {
        let Some(item) = source.next()? else { break };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = out.send(item) => if sent.is_err() { break },
        }
    }
    Ok(())
}

async fn one_by_one<S: Stage>(stage: S, mut link: Link<S::In, S::Out>) -> Result<(), AnyError> {
    let mut count = 0;
    while let Some(item) = link.inbox.recv().await {
        count += 1;
        pass(stage.run(item).await, &link.out, &link.failures).await;
    }
    stage.no_more(count);
    Ok(())
}

async fn many_at_once<S: Stage>(stage: Arc<S>, mut link: Link<S::In, S::Out>, at_once: usize) -> Result<(), AnyError> {
    let places = Arc::new(Semaphore::new(at_once));
    let mut items = JoinSet::new();
    let mut count = 0;
    while let Some(item) = link.inbox.recv().await {
        count += 1;
        let place = places.clone().acquire_owned().await?;
        let (stage, out, failures) = (stage.clone(), link.out.clone(), link.failures.clone());
        items.spawn(async move {
            let result = stage.run(item).await;
            pass(result, &out, &failures).await;
            drop(place);
        });
        while let Some(finished) = items.try_join_next() {
            finished?;
        }
    }
    stage.no_more(count);
    while let Some(finished) = items.join_next().await {
        finished?;
    }
    Ok(())
}

/// One of the two exits. The settler outlives all stages, so both are open as long as anything flows.
async fn pass<T>(result: Result<T, Failure>, out: &mpsc::Sender<T>, failures: &mpsc::Sender<Failure>) {
    match result {
        Ok(item) => drop(out.send(item).await),
        Err(failure) => drop(failures.send(failure).await),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use crateferry_store::{Release, ReleaseId, Sha256};

    use super::*;
    use crate::item::Attempt;

    struct Count(u64, u64);

    impl Source for Count {
        type Item = u64;
        fn next(&mut self) -> Result<Option<u64>, AnyError> {
            self.0 += 1;
            Ok((self.0 <= self.1).then_some(self.0))
        }
    }

    fn failure(disposition: Disposition) -> Failure {
        let id = ReleaseId { name: "serde".parse().unwrap(), version: "1.0.0".parse().unwrap() };
        let release = Release { id, checksum: Sha256([0; 32]) };
        let source = Box::new(Cause("the disk is full".into()));
        Failure { release, stage: "test", disposition, attempt: Attempt::default(), body: None, source }
    }

    /// Waits a while, remembers the most at once, and fails some.
    struct Worker {
        now: AtomicUsize,
        most: Arc<AtomicUsize>,
        halt_at: u64,
    }

    impl Stage for Worker {
        type In = u64;
        type Out = u64;
        async fn run(&self, item: u64) -> Result<u64, Failure> {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(item % 7)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            match item {
                n if n == self.halt_at => Err(failure(Disposition::Halt)),
                n if n % 10 == 0 => Err(failure(Disposition::RetrySoon)),
                n => Ok(n),
            }
        }
    }

    #[derive(Default)]
    struct Heard {
        done: Vec<u64>,
        failed: usize,
    }

    impl Settle for Heard {
        type Item = u64;
        fn done(&mut self, item: u64) -> Result<(), AnyError> {
            self.done.push(item);
            Ok(())
        }
        fn failed(&mut self, _: &mut Failure) -> Result<(), AnyError> {
            self.failed += 1;
            Ok(())
        }
    }

    fn flow(items: u64, halt_at: u64, stop: &CancellationToken) -> (Flow<u64>, Arc<AtomicUsize>) {
        let most = Arc::new(AtomicUsize::new(0));
        let worker = |at_once| {
            let stage = Worker { now: AtomicUsize::new(0), most: most.clone(), halt_at };
            (stage, StageLimit { at_once, queue: 2 })
        };
        let (first, many) = worker(5);
        let (second, one) = worker(1);
        let source = Flow::from(Count(0, items), StageLimit { at_once: 1, queue: 2 }, 2, stop.clone());
        (source.then(first, many).then(second, one), most)
    }

    #[tokio::test(start_paused = true)]
    async fn every_item_leaves_by_one_of_two_exits() {
        let mut heard = Heard::default();
        let (flow, most) = flow(1000, 0, &CancellationToken::new());
        flow.run(&mut heard).await.unwrap();
        heard.done.sort_unstable();
        assert_eq!(heard.done.len(), 900);
        assert_eq!(heard.failed, 100);
        assert_eq!(most.load(Ordering::SeqCst), 5, "no stage has more in hand than its limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_halt_stops_the_source_and_lets_the_rest_drain() {
        let mut heard = Heard::default();
        let (flow, _) = flow(1_000_000, 555, &CancellationToken::new());
        let error = flow.run(&mut heard).await.unwrap_err();
        assert!(matches!(error, FlowError::Halted(..)));
        assert!(crate::error_chain(&error).contains("the disk is full"));
        assert!(heard.done.len() < 600 && heard.done.contains(&554), "what was under way came through");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_to_stop_drains() {
        let stop = CancellationToken::new();
        let (flow, _) = flow(1_000_000, 0, &stop);
        let mut heard = Heard::default();
        let signal = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        };
        let (result, ()) = tokio::join!(flow.run(&mut heard), signal);
        result.unwrap();
        assert!(!heard.done.is_empty() && heard.done.len() < 10_000);
    }
}
