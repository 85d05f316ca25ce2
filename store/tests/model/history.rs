//! Histories: what may be asked of a store, in any order, and where power is lost.

use crateferry_store::Shrink;
use proptest::collection::vec;
use proptest::prelude::*;

use super::disk::Loss;
use super::world::{CRATES, RELEASES};

/// One thing that a group records. Releases and crates are numbers of the `world`.
#[derive(Clone, Debug)]
pub enum Act {
    Store {
        release: usize,
        is_described: bool,
    },
    Describe {
        release: usize,
    },
    /// The upstream's index file: (version, its other checksum, yanked).
    Index {
        name: usize,
        rows: Vec<(usize, bool, bool)>,
    },
    IndexGone {
        name: usize,
    },
    Validator {
        name: usize,
        etag: u8,
    },
    Want {
        release: usize,
    },
    Try {
        release: usize,
    },
    Refuse {
        release: usize,
    },
    Retry {
        release: usize,
    },
    Lose {
        release: usize,
    },
    Exclude {
        release: usize,
        by_operator: bool,
    },
    Withdraw {
        release: usize,
        by_operator: bool,
    },
    Back {
        release: usize,
    },
    Alarm {
        release: usize,
    },
    Mask {
        name: usize,
        version: Option<usize>,
    },
    Unmask {
        name: usize,
        version: Option<usize>,
    },
    Report {
        name: usize,
        line: u64,
        lacking: bool,
    },
    Clear {
        name: usize,
    },
    Select {
        all: bool,
    },
    Mark {
        number: u8,
    },
    Advisories {
        number: u8,
    },
}

/// Power is lost at a call of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub call: u64,
    pub loss: Loss,
    pub seed: u64,
}

/// What is done with a store.
#[derive(Clone, Debug)]
pub enum Step {
    /// A group, waited for.
    Group(Vec<Act>),
    /// Groups asked for at once; the first is not durable before the last is written.
    Burst {
        groups: Vec<Vec<Act>>,
        cut: Option<(Loss, u64)>,
    },
    Publish(Shrink),
    /// Power will be lost; and once more while the mirror is opened after that.
    Cut {
        cut: Cut,
        again: Option<Cut>,
    },
    /// Power is lost, or the process killed, between two calls.
    Stop {
        loss: Loss,
        seed: u64,
        again: Option<Cut>,
    },
    /// Closed and opened.
    Reopen {
        without_catalog: bool,
    },
    /// Closed, and the databases made again; the old ones may be lost.
    Rebuild {
        without_ledger: bool,
        without_catalog: bool,
        new_epoch: bool,
    },
    Collect,
    /// Everything is read.
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    let release = || 0..RELEASES;
    let name = || 0..CRATES;
    let version = || proptest::option::of(0_usize..3);
    let row = (0_usize..3, prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    prop_oneof![
        8 => (release(), any::<bool>()).prop_map(|(release, is_described)| Act::Store { release, is_described }),
        2 => release().prop_map(|release| Act::Describe { release }),
        6 => (name(), vec(row, 0..5)).prop_map(|(name, rows)| Act::Index { name, rows }),
        1 => name().prop_map(|name| Act::IndexGone { name }),
        1 => (name(), any::<u8>()).prop_map(|(name, etag)| Act::Validator { name, etag }),
        1 => release().prop_map(|release| Act::Want { release }),
        2 => release().prop_map(|release| Act::Try { release }),
        1 => release().prop_map(|release| Act::Refuse { release }),
        1 => release().prop_map(|release| Act::Retry { release }),
        1 => release().prop_map(|release| Act::Lose { release }),
        1 => (release(), any::<bool>()).prop_map(|(release, by_operator)| Act::Exclude { release, by_operator }),
        2 => (release(), any::<bool>()).prop_map(|(release, by_operator)| Act::Withdraw { release, by_operator }),
        1 => release().prop_map(|release| Act::Back { release }),
        1 => release().prop_map(|release| Act::Alarm { release }),
        1 => (name(), version()).prop_map(|(name, version)| Act::Mask { name, version }),
        1 => (name(), version()).prop_map(|(name, version)| Act::Unmask { name, version }),
        1 => (name(), 0_u64..3, any::<bool>()).prop_map(|(name, line, lacking)| Act::Report { name, line, lacking }),
        1 => name().prop_map(|name| Act::Clear { name }),
        1 => any::<bool>().prop_map(|all| Act::Select { all }),
        1 => any::<u8>().prop_map(|number| Act::Mark { number }),
        1 => (0_u8..4).prop_map(|number| Act::Advisories { number }),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![Just(Loss::Killed), Just(Loss::Dropped), Just(Loss::Reordered), Just(Loss::Torn)]
}

/// Most losses are soon: a group is about ten calls.
fn cut() -> impl Strategy<Value = Cut> {
    let call = prop_oneof![4 => 1_u64..15, 2 => 1_u64..50, 1 => 1_u64..150];
    (call, loss(), any::<u64>()).prop_map(|(call, loss, seed)| Cut { call, loss, seed })
}

fn step() -> impl Strategy<Value = Step> {
    let group = || vec(act(), 1..6);
    let again = || proptest::option::weighted(0.3, cut());
    let shrink = prop_oneof![Just(Shrink::WithinLimit), Just(Shrink::Accept), Just(Shrink::Keep)];
    prop_oneof![
        10 => group().prop_map(Step::Group),
        2 => (vec(group(), 2..4), proptest::option::of((loss(), any::<u64>())))
            .prop_map(|(groups, cut)| Step::Burst { groups, cut }),
        5 => shrink.prop_map(Step::Publish),
        5 => (cut(), again()).prop_map(|(cut, again)| Step::Cut { cut, again }),
        1 => (loss(), any::<u64>(), again()).prop_map(|(loss, seed, again)| Step::Stop { loss, seed, again }),
        1 => prop::bool::weighted(0.3).prop_map(|without_catalog| Step::Reopen { without_catalog }),
        1 => (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(without_ledger, without_catalog, new_epoch)| Step::Rebuild { without_ledger, without_catalog, new_epoch }
        ),
        1 => Just(Step::Collect),
        1 => Just(Step::Read),
    ]
}

/// A history of 10 to 40 steps.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 10..40)
}
