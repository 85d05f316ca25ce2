//! The reader: the one thread that reads, in path order.
//!
//! Files that fit go into a block together, which is handed over when it is full. A larger file is handed over block by block.

use std::io::ErrorKind;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::algorithm::Algorithm;
use super::hashing::{BLOCK, Block, Blocks, Chain, Digests, Pool};
use super::name::FileName;
use super::source::{Content, Found, Problem, Source, What};
use super::{Gauge, Plan};

/// How many names are handed over together at most, however small the files are.
const NAMES: usize = 1024;
/// Blocks in memory, whatever the number of threads.
const BLOCKS: usize = 4;
/// And for each thread that hashes.
const BLOCKS_PER_WORKER: usize = 4;

/// Some of what was found, in path order, and the digests of those files that were hashed.
pub(super) struct Group {
    pub(super) held: Vec<Held>,
    pub(super) digests: Arc<Digests>,
}

/// Something that was found.
pub(super) struct Held {
    pub(super) name: FileName,
    pub(super) what: What,
    /// Whether its bytes went to the hashers.
    pub(super) is_hashed: bool,
}

/// What is being filled.
#[derive(Default)]
struct Filling {
    held: Vec<Held>,
    block: Option<Block>,
    /// Of the files in the block.
    sizes: Vec<usize>,
    /// Those of a file that was handed over by itself, and is the only one here.
    digests: Option<Arc<Digests>>,
}

/// Reads all of a source.
pub(super) struct Reader<'a> {
    plan: &'a Plan,
    gauge: &'a Gauge,
    pool: &'a Pool,
    blocks: Blocks,
    /// Those of the whole, by algorithm.
    chains: Vec<Arc<Chain>>,
    groups: Sender<Group>,
    filling: Filling,
    /// Whether the chains of the whole have seen something.
    has_begun: bool,
}

/// Nobody wants to know more.
struct Gone;

impl<'a> Reader<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        gauge: &'a Gauge,
        pool: &'a Pool,
        whole: &Arc<Digests>,
        groups: Sender<Group>,
    ) -> Self {
        let chain = |(index, algorithm): (usize, &Algorithm)| Arc::new(Chain::new(*algorithm, whole, index));
        let chains = plan.whole.as_slice().iter().enumerate().map(chain).collect();
        let blocks = Blocks::new(BLOCKS + BLOCKS_PER_WORKER * plan.workers.get());
        Reader { plan, gauge, pool, blocks, chains, groups, filling: Filling::default(), has_begun: false }
    }

    /// Reads to the end, or until nobody listens any more. The chains of the whole are ended in any case.
    pub(super) fn run(mut self, source: &mut dyn Source) {
        drop(self.read(source));
        self.chains.iter().for_each(|chain| self.pool.feed(chain, None));
        self.pool.close();
    }

    fn read(&mut self, source: &mut dyn Source) -> Result<(), Gone> {
        let mut is_over = false;
        while !is_over && let Some(Found { name, what }) = source.next() {
            let held = match what {
                What::File { size, .. } if size > BLOCK as u64 => {
                    self.hand_over()?;
                    self.large(Held { name, what, is_hashed: true }, size, source)
                }
                What::File { size, .. } => {
                    self.make_room(size as usize)?;
                    self.small(Held { name, what, is_hashed: true }, size as usize, source)
                }
                what => Held { name, what, is_hashed: false },
            };
            is_over = self.plan.fail_fast && matches!(held.what, What::Unread(_));
            self.filling.held.push(held);
            if self.filling.is_full() {
                self.hand_over()?;
            }
        }
        self.hand_over()
    }

    /// Sees to it that there is a block with room for a file.
    fn make_room(&mut self, size: usize) -> Result<(), Gone> {
        let has_room = |block: &mut Block| block.room().len() >= size;
        if !self.filling.block.as_mut().is_none_or(has_room) {
            self.hand_over()?;
        }
        if self.filling.block.is_none() {
            self.filling.block = Some(self.blocks.take());
        }
        Ok(())
    }

    /// Reads a file that fits into the block. If something is wrong with it, its bytes do not stay there.
    fn small(&mut self, mut held: Held, size: usize, source: &mut dyn Source) -> Held {
        let block = self.filling.block.as_mut().expect("room was made");
        let before = block.filled().len();
        let read = source.open().and_then(|mut content| {
            let count = read_full(&mut *content, &mut block.room()[..size])?;
            block.fill(count);
            finish(&mut *content, size as u64, (block.filled().len() - before) as u64)
        });
        match read {
            Ok(()) => {
                self.gauge.add(1, size as u64);
                self.filling.sizes.push(size);
            }
            Err(problem) => {
                block.cut(before);
                held = Held { what: What::Unread(problem), is_hashed: false, ..held };
            }
        }
        held
    }

    /// Hands over what was filled.
    fn hand_over(&mut self) -> Result<(), Gone> {
        let Filling { held, block, sizes, digests } = std::mem::take(&mut self.filling);
        if held.is_empty() {
            return Ok(());
        }
        let digests = digests.unwrap_or_else(|| {
            let hashed = if sizes.is_empty() { &[] } else { self.plan.per_file.as_slice() };
            let digests = Digests::of(hashed.len());
            if let Some(block) = block {
                let block = Arc::new(block);
                self.pool.files(hashed, &block, &sizes.into(), &digests);
                self.feed_whole(&block);
            }
            digests
        });
        self.groups.send(Group { held, digests }).map_err(|_| Gone)
    }

    fn feed_whole(&mut self, block: &Arc<Block>) {
        if block.filled().is_empty() {
            return;
        }
        self.has_begun = true;
        self.chains.iter().for_each(|chain| self.pool.feed(chain, Some(Arc::clone(block))));
    }

    /// Reads a file block by block, through chains of its own.
    fn large(&mut self, mut held: Held, size: u64, source: &mut dyn Source) -> Held {
        let digests = Digests::of(self.plan.per_file.as_slice().len());
        let (own, whole) = self.chains_of_a_file(&digests);
        let read = source.open().and_then(|mut content| {
            let mut read = 0;
            while read < size {
                let mut block = self.blocks.take();
                let wanted = (size - read).min(BLOCK as u64) as usize;
                let count = read_full(&mut *content, &mut block.room()[..wanted])?;
                block.fill(count);
                read += count as u64;
                self.gauge.add(0, count as u64);
                let block = Arc::new(block);
                own.iter().chain(&whole).for_each(|chain| self.pool.feed(chain, Some(Arc::clone(&block))));
                if count < wanted {
                    break;
                }
            }
            finish(&mut *content, size, read)
        });
        own.iter().for_each(|chain| self.pool.feed(chain, None));
        self.gauge.add(1, 0);
        self.has_begun = true;
        self.filling.digests = Some(digests);
        if let Err(problem) = read {
            held.what = What::Unread(problem);
        }
        held
    }

    /// The chains of a file, and those of the whole that its bytes go to as well. If the file is what the whole begins with, the whole goes on where
    /// the file's own chains end, and its bytes are hashed once.
    fn chains_of_a_file(&self, digests: &Arc<Digests>) -> (Vec<Arc<Chain>>, Vec<Arc<Chain>>) {
        let mut whole = self.chains.clone();
        let own = self.plan.per_file.as_slice().iter().enumerate().map(|(index, algorithm)| {
            let chain = Chain::new(*algorithm, digests, index);
            let heir = whole.iter().position(|chain| chain.algorithm() == *algorithm).filter(|_| !self.has_begun);
            Arc::new(match heir {
                Some(at) => chain.bequeath_to(&whole.swap_remove(at)),
                None => chain,
            })
        });
        (own.collect(), whole)
    }
}

impl Filling {
    fn is_full(&self) -> bool {
        self.held.len() >= NAMES || self.digests.is_some()
    }
}

/// Fills the buffer, unless the file ends before.
fn read_full(content: &mut dyn Content, buffer: &mut [u8]) -> Result<usize, Problem> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(Problem::Refused { step: "read", source }),
        }
    }
    Ok(filled)
}

/// Says whether a file was read from its beginning to its end, and was one and the same all the time.
fn finish(content: &mut dyn Content, size: u64, read: u64) -> Result<(), Problem> {
    content.settle()?;
    if read < size {
        return Err(Problem::Changed(format!("it ends after {read} of {size} bytes")));
    }
    if read_full(content, &mut [0])? > 0 {
        return Err(Problem::Changed(format!("it goes on after {size} bytes")));
    }
    Ok(())
}
