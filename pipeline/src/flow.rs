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
//!
//! How full each stage is can be seen from outside, by [`Gauges`]. They read what the links count anyway, so watching
//! costs the items next to nothing.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// What gauges call it.
    const NAME: &'static str;
    /// The next item; none at the end. May read a little from the ledger, but must not wait for the network.
    fn next(&mut self) -> Result<Option<Self::Item>, AnyError>;
}

/// One step of the flow. Its fields are all that it may touch; running it again with the same item is safe.
pub trait Stage: Send + Sync + 'static {
    /// What comes in.
    type In: Send + 'static;
    /// What goes on to the next stage.
    type Out: Send + 'static;
    /// What gauges and failures call it.
    const NAME: &'static str;
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
    gauges: Vec<Gauge>,
    /// What waits in `outlet`, and how much may.
    inbox: Inbox,
}

impl<T: Send + 'static> Flow<T> {
    /// Begins with a source. It ends when the source does, or when `stop` is given. At most `failures` failures wait to
    /// be settled.
    pub fn from<S: Source<Item = T>>(source: S, limit: StageLimit, failures: usize, stop: CancellationToken) -> Self {
        let (out, outlet) = mpsc::channel(limit.queue);
        let (failures, failed) = mpsc::channel(failures);
        let mut tasks = JoinSet::new();
        let (hand, inbox) = (Arc::new(AtomicUsize::new(0)), Inbox::of(&out));
        tasks.spawn(draw(source, out, hand.clone(), stop.clone()));
        let gauges = vec![Gauge { stage: S::NAME, at_once: 1, hand: Hand::OneByOne(hand), inbox: Inbox::none() }];
        Flow { tasks, outlet, failures, failed, stop, gauges, inbox }
    }

    /// Adds a stage.
    #[must_use]
    pub fn then<S: Stage<In = T>>(mut self, stage: S, limit: StageLimit) -> Flow<S::Out> {
        let (out, outlet) = mpsc::channel(limit.queue);
        let inbox = Inbox::of(&out);
        let link = Link { inbox: self.outlet, out, failures: self.failures.clone() };
        let hand = if limit.at_once == 1 {
            let hand = Arc::new(AtomicUsize::new(0));
            self.tasks.spawn(one_by_one(stage, link, hand.clone()));
            Hand::OneByOne(hand)
        } else {
            let places = Arc::new(Semaphore::new(limit.at_once));
            self.tasks.spawn(many_at_once(Arc::new(stage), link, places.clone()));
            Hand::ManyAtOnce(places)
        };
        self.gauges.push(Gauge { stage: S::NAME, at_once: limit.at_once, hand, inbox: self.inbox });
        let Flow { tasks, failures, failed, stop, gauges, .. } = self;
        Flow { tasks, outlet, failures, failed, stop, gauges, inbox }
    }

    /// How full the stages are, from now on and until the flow has ended.
    pub fn gauges(&self) -> Gauges {
        Gauges(self.gauges.clone().into())
    }

    /// Lets everything flow until it has drained.
    pub async fn run(self, settle: &mut impl Settle<Item = T>) -> Result<(), FlowError> {
        let Flow { mut tasks, mut outlet, failures, mut failed, stop, .. } = self;
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

async fn draw<S: Source>(
    mut source: S,
    out: mpsc::Sender<S::Item>,
    hand: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Result<(), AnyError> {
    while !stop.is_cancelled() {
        let Some(item) = source.next()? else { break };
        hand.store(1, Ordering::Relaxed);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            sent = out.send(item) => if sent.is_err() { break },
        }
        hand.store(0, Ordering::Relaxed);
    }
    hand.store(0, Ordering::Relaxed);
    Ok(())
}

async fn one_by_one<S: Stage>(stage: S, mut link: Link<S::In, S::Out>, hand: Arc<AtomicUsize>) -> Result<(), AnyError> {
    let mut count = 0;
    while let Some(item) = link.inbox.recv().await {
        count += 1;
        hand.store(1, Ordering::Relaxed);
        pass(stage.run(item).await, &link.out, &link.failures).await;
        hand.store(0, Ordering::Relaxed);
    }
    stage.no_more(count);
    Ok(())
}

async fn many_at_once<S: Stage>(
    stage: Arc<S>,
    mut link: Link<S::In, S::Out>,
    places: Arc<Semaphore>,
) -> Result<(), AnyError> {
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

/// How full one stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The stage's name.
    pub stage: &'static str,
    /// Items that it works on, or that wait for room in the next stage's inbox.
    pub in_hand: usize,
    /// The most that it may have in hand.
    pub at_once: usize,
    /// Items in its inbox. What waits there once the stage before has ended is not seen.
    pub queued: usize,
    /// The most that its inbox holds; 0 for a source, which has none.
    pub queue: usize,
}

/// How full the stages of a flow are, for whoever wants to know while it runs. They keep nothing of it alive.
#[derive(Clone, Default)]
pub struct Gauges(Arc<[Gauge]>);

impl Gauges {
    /// All stages in their order, the source first.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        self.0.iter().map(Gauge::level)
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.levels()).finish()
    }
}

#[derive(Clone)]
struct Gauge {
    stage: &'static str,
    at_once: usize,
    hand: Hand,
    inbox: Inbox,
}

impl Gauge {
    fn level(&self) -> Level {
        let in_hand = match &self.hand {
            Hand::OneByOne(items) => items.load(Ordering::Relaxed),
            Hand::ManyAtOnce(places) => self.at_once - places.available_permits().min(self.at_once),
        };
        let queued = (self.inbox.waiting)();
        Level { stage: self.stage, in_hand, at_once: self.at_once, queued, queue: self.inbox.room }
    }
}

/// Who knows how much a stage has in hand.
#[derive(Clone)]
enum Hand {
    /// A stage that takes one item after the other says so itself.
    OneByOne(Arc<AtomicUsize>),
    /// The places that its items take.
    ManyAtOnce(Arc<Semaphore>),
}

/// A look at a link, whatever moves on it.
#[derive(Clone)]
struct Inbox {
    waiting: Arc<dyn Fn() -> usize + Send + Sync>,
    room: usize,
}

impl Inbox {
    fn none() -> Inbox {
        Inbox { waiting: Arc::new(|| 0), room: 0 }
    }

    /// Asks the channel itself. A weak handle, since a stage ends when all senders into its inbox are gone.
    fn of<T: Send + 'static>(out: &mpsc::Sender<T>) -> Inbox {
        let (room, out) = (out.max_capacity(), out.downgrade());
        let waiting = move || out.upgrade().map_or(0, |out| room - out.capacity());
        Inbox { waiting: Arc::new(waiting), room }
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
        const NAME: &'static str = "count";
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
        const NAME: &'static str = "worker";
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

    /// Holds what it is given until it is told to let go.
    struct Held(Arc<Semaphore>);

    impl Stage for Held {
        type In = u64;
        type Out = u64;
        const NAME: &'static str = "held";
        async fn run(&self, item: u64) -> Result<u64, Failure> {
            drop(self.0.acquire().await.unwrap());
            Ok(item)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gauges_show_how_full_each_stage_is_and_do_not_keep_the_flow_from_ending() {
        let [first, second] = [0; 2].map(|places| Arc::new(Semaphore::new(places)));
        let limit = |at_once, queue| StageLimit { at_once, queue };
        let flow = Flow::from(Count(0, 1000), limit(1, 3), 2, CancellationToken::new())
            .then(Held(first.clone()), limit(5, 2))
            .then(Held(second.clone()), limit(1, 4));
        let gauges = flow.gauges();
        let mut heard = Heard::default();
        let look = async {
            let level = |stage, in_hand, at_once, queued, queue| Level { stage, in_hand, at_once, queued, queue };
            tokio::time::sleep(Duration::from_secs(1)).await;
            let levels: Vec<Level> = gauges.levels().collect();
            assert_eq!(levels, [level("count", 1, 1, 0, 0), level("held", 5, 5, 3, 3), level("held", 0, 1, 0, 2)]);
            first.add_permits(1);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let levels: Vec<Level> = gauges.levels().collect();
            assert_eq!(levels, [level("count", 1, 1, 0, 0), level("held", 5, 5, 3, 3), level("held", 1, 1, 2, 2)]);
            second.add_permits(1);
        };
        let (result, ()) = tokio::join!(flow.run(&mut heard), look);
        result.unwrap();
        assert_eq!(heard.done.len(), 1000);
        assert!(gauges.levels().all(|level| level.in_hand == 0 && level.queued == 0));
    }
}
