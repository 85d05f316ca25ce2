//! The threads that hash, and how work is shared among them.
//!
//! A hash takes its bytes in order, so the digest of a whole folder is one long chain of blocks for each algorithm, and so is that of a
//! file that is larger than a block. Small files that were read into one block are independent of each other. A thread takes one
//! block's worth of work at a time: of a chain, the block that is next; then the chain goes back, and whichever chain has the most work
//! waiting is taken next. So the slow algorithms are always under way, the fast ones fill the gaps, and nothing has to be shared out beforehand.
//!
//! Memory is bounded by the number of blocks. A block goes back to the reader when the last chain has taken it in.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::algorithm::{Algorithm, Digest, Hasher};

/// How many bytes are handed over at a time: so few that all blocks together stay in a processor's last cache while they are hashed. Fewer in
/// unit tests, which are not optimized.
pub(super) const BLOCK: usize = if cfg!(test) { 1 << 16 } else { 1 << 19 };

/// A lock that a panicking thread left behind is taken as it is: the panic itself ends the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory for all blocks.
pub(super) struct Blocks {
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Blocks {
    pub(super) fn new(count: usize) -> Self {
        let (home, free) = bounded(count);
        // The memory is not touched before it is used, so a small folder takes little of it.
        (0..count).for_each(|_| drop(home.try_send(vec![0; BLOCK])));
        Blocks { free, home }
    }

    /// A block to fill; waits until one is free.
    pub(super) fn take(&self) -> Block {
        let bytes = self.free.recv().expect("the way home is open as long as this is");
        Block { bytes, filled: 0, home: self.home.clone() }
    }
}

/// Some bytes that were read.
pub(super) struct Block {
    bytes: Vec<u8>,
    filled: usize,
    home: Sender<Vec<u8>>,
}

impl Block {
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Says that so many more bytes were put into the room.
    pub(super) fn fill(&mut self, more: usize) {
        self.filled += more;
    }

    /// Forgets what was put in after so many bytes.
    pub(super) fn cut(&mut self, filled: usize) {
        self.filled = filled;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        drop(self.home.try_send(std::mem::take(&mut self.bytes)));
    }
}

/// Digests of some files that are awaited together: by algorithm, then by file.
pub(super) struct Digests {
    state: Mutex<(Vec<Vec<Digest>>, usize)>,
    complete: Condvar,
}

impl Digests {
    /// Waits for the digests of so many algorithms.
    pub(super) fn of(algorithms: usize) -> Arc<Self> {
        Arc::new(Digests { state: Mutex::new((vec![Vec::new(); algorithms], algorithms)), complete: Condvar::new() })
    }

    fn deliver(&self, index: usize, digests: Vec<Digest>) {
        let mut state = lock(&self.state);
        state.0[index] = digests;
        state.1 -= 1;
        self.complete.notify_all();
    }

    /// All of them, when the last one is there.
    pub(super) fn wait(&self) -> Vec<Vec<Digest>> {
        let mut state = lock(&self.state);
        while state.1 > 0 {
            state = self.complete.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.0)
    }
}

/// A chain of blocks through one algorithm.
pub(super) struct Chain {
    algorithm: Algorithm,
    state: Mutex<ChainState>,
    digests: Arc<Digests>,
    index: usize,
    /// A chain that begins with the bytes of this one.
    heir: Option<Arc<Chain>>,
}

struct ChainState {
    /// Blocks, and the end, that are to be taken in.
    queue: VecDeque<Option<Arc<Block>>>,
    /// What took in all so far; none while a thread has it, or an heir does not have it yet.
    hasher: Option<Hasher>,
}

impl Chain {
    /// A chain whose digest is delivered at this index.
    pub(super) fn new(algorithm: Algorithm, digests: &Arc<Digests>, index: usize) -> Self {
        let state = ChainState { queue: VecDeque::new(), hasher: Some(algorithm.hasher()) };
        Chain { algorithm, state: Mutex::new(state), digests: Arc::clone(digests), index, heir: None }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Lets another chain of the same algorithm, which has seen nothing, go on where this one ends: bytes that both begin with
    /// are hashed once.
    pub(super) fn bequeath_to(mut self, heir: &Arc<Chain>) -> Self {
        lock(&heir.state).hasher = None;
        self.heir = Some(Arc::clone(heir));
        self
    }
}

enum Task {
    /// The next step of a chain.
    Step(Arc<Chain>),
    /// Whole files that lie one after the other in a block.
    Files { algorithm: Algorithm, block: Arc<Block>, sizes: Arc<[usize]>, digests: Arc<Digests>, index: usize },
}

impl Task {
    /// About how much work waits here.
    fn weight(&self) -> u64 {
        match self {
            Task::Step(chain) => chain.algorithm.cost() * (1 + lock(&chain.state).queue.len() as u64),
            Task::Files { algorithm, .. } => algorithm.cost(),
        }
    }
}

/// What is to be done by whoever has time.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct PoolState {
    ready: Vec<Task>,
    /// How many threads have a task in hand, which may make more.
    busy: usize,
    closed: bool,
}

impl Pool {
    /// Gives a chain its next block; none is its end.
    pub(super) fn feed(&self, chain: &Arc<Chain>, block: Option<Arc<Block>>) {
        let mut state = lock(&chain.state);
        state.queue.push_back(block);
        // With more in the queue it is ready already; without its hasher it is in hand, and whoever has it puts it back.
        let is_ready = state.queue.len() == 1 && state.hasher.is_some();
        drop(state);
        if is_ready {
            self.add(Task::Step(Arc::clone(chain)));
        }
    }

    /// Hashes files that lie one after the other in a block, each by itself.
    pub(super) fn files(
        &self,
        algorithms: &[Algorithm],
        block: &Arc<Block>,
        sizes: &Arc<[usize]>,
        digests: &Arc<Digests>,
    ) {
        for (index, algorithm) in algorithms.iter().copied().enumerate() {
            let (block, sizes, digests) = (Arc::clone(block), Arc::clone(sizes), Arc::clone(digests));
            self.add(Task::Files { algorithm, block, sizes, digests, index });
        }
    }

    fn add(&self, task: Task) {
        lock(&self.state).ready.push(task);
        self.changed.notify_one();
    }

    /// Nothing comes any more but what tasks make.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// What a thread does: it works until all is done.
    pub(super) fn work(&self) {
        while let Some(task) = self.next() {
            match task {
                Task::Step(chain) => self.step(&chain),
                Task::Files { algorithm, block, sizes, digests, index } => {
                    digests.deliver(index, each(algorithm, block.filled(), &sizes));
                }
            }
            let mut state = lock(&self.state);
            state.busy -= 1;
            if state.closed && state.busy == 0 {
                self.changed.notify_all();
            }
        }
    }

    /// The heaviest task, so that what takes longest never waits.
    fn next(&self) -> Option<Task> {
        let mut state = lock(&self.state);
        loop {
            let weights = state.ready.iter().map(Task::weight).enumerate();
            if let Some((at, _)) = weights.max_by_key(|(_, weight)| *weight) {
                state.busy += 1;
                return Some(state.ready.swap_remove(at));
            }
            if state.closed && state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&self, chain: &Arc<Chain>) {
        let mut state = lock(&chain.state);
        let block = state.queue.pop_front().expect("a chain that is ready has something to do");
        let mut hasher = state.hasher.take().expect("a chain that is ready has its hasher");
        drop(state);
        match block {
            Some(block) => {
                hasher.update(block.filled());
                self.hand_back(chain, hasher);
            }
            None => {
                if let Some(heir) = &chain.heir {
                    self.hand_back(heir, hasher.clone());
                }
                chain.digests.deliver(chain.index, vec![hasher.finish()]);
            }
        }
    }

    /// Puts a hasher back where it belongs; what has come meanwhile is done next.
    fn hand_back(&self, chain: &Arc<Chain>, hasher: Hasher) {
        let mut state = lock(&chain.state);
        state.hasher = Some(hasher);
        let is_ready = !state.queue.is_empty();
        drop(state);
        if is_ready {
            self.add(Task::Step(Arc::clone(chain)));
        }
    }
}

fn each(algorithm: Algorithm, mut bytes: &[u8], sizes: &[usize]) -> Vec<Digest> {
    let mut next = |size: &usize| {
        let (file, rest) = bytes.split_at(*size);
        bytes = rest;
        algorithm.digest(file)
    };
    sizes.iter().map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(blocks: &Blocks, bytes: &[u8]) -> Arc<Block> {
        let mut block = blocks.take();
        block.room()[..bytes.len()].copy_from_slice(bytes);
        block.fill(bytes.len());
        Arc::new(block)
    }

    #[test]
    fn an_heir_begins_where_the_other_chain_ends_though_its_blocks_come_first() {
        let (pool, blocks) = (Pool::default(), Blocks::new(4));
        let digests = Digests::of(2);
        let heir = Arc::new(Chain::new(Algorithm::Sha256, &digests, 1));
        let first = Arc::new(Chain::new(Algorithm::Sha256, &digests, 0).bequeath_to(&heir));
        pool.feed(&heir, Some(block(&blocks, b"two")));
        pool.feed(&heir, None);
        pool.feed(&first, Some(block(&blocks, b"one")));
        pool.feed(&first, None);
        pool.close();
        pool.work();
        let expected = [b"one".as_slice(), b"onetwo"].map(|bytes| vec![Algorithm::Sha256.digest(bytes)]);
        assert_eq!(digests.wait(), expected);
    }

    #[test]
    fn blocks_come_back_when_nobody_has_them_any_more() {
        let blocks = Blocks::new(1);
        for _ in 0..3 {
            drop(block(&blocks, b"bytes"));
        }
        assert_eq!(blocks.free.len(), 1);
    }
}
