//! What is new is what is touched, whatever the history of the index did. Counted, not timed.
//!
//! The default is a registry of 20,000 releases, which a debug build mirrors in half a minute; `CRATEFERRY_RELEASES=100000`
//! asks for the whole size, best with `--release`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeSet;

use common::{Ferry, Knowledge};
use crateferry_store::State;
use crateferry_test_support::{Bulk, Registry};
use serde_json::Value;

const NEW: usize = 500;
const YANKED: usize = 20;

fn size() -> usize {
    std::env::var("CRATEFERRY_RELEASES").map_or(20_000, |releases| releases.parse().unwrap())
}

/// A mirror that is up to date with its registry.
fn mirrored(releases: usize) -> (Registry, Ferry) {
    let registry = Registry::new();
    registry.bulk(Bulk { releases, versions_per_crate: 10, mean_size: Some(200) });
    let ferry = Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    (registry, ferry)
}

/// The name of a crate of the registry.
fn name(number: usize) -> String {
    format!("c{:05}", number % (size() / 10))
}

/// 500 new releases of as many crates, 20 yanked ones, one deleted, one with other bytes. Says which crates that concerns.
fn change(registry: &Registry) -> BTreeSet<String> {
    let mut concerned = BTreeSet::new();
    for number in 0..NEW {
        registry.release(&name(number * 3), "2.0.0");
        concerned.insert(name(number * 3));
    }
    for number in 0..YANKED {
        registry.yank(&name(number * 7 + 1), "1.0.3");
        concerned.insert(name(number * 7 + 1));
    }
    registry.delete(&name(1_601), "1.0.4").republish(&republished(), "1.0.5", b"other bytes").commit();
    concerned.extend([name(1_601), republished()]);
    concerned
}

/// A sync touches nothing: no request, no byte in the packs, no generation.
#[track_caller]
fn expect_nothing_to_do(registry: &Registry, ferry: &Ferry) {
    let (packs, digest) = (ferry.packs(), ferry.digest());
    registry.reset_counters();
    let said = ferry.sync(&[]).expect(0).json();
    assert_eq!(touched(&said), [0; 5]);
    assert_eq!((registry.requests(), &said["published"]), (0, &false.into()));
    assert_eq!((ferry.packs(), ferry.digest()), (packs, digest));
}

/// A sync after [`change`] touches what changed and nothing else.
#[track_caller]
fn expect_changes(registry: &Registry, ferry: &Ferry, concerned: &BTreeSet<String>, before: &Knowledge) {
    registry.reset_counters();
    let said = ferry.sync(&[]).expect(0).json();
    let new = NEW as u64 + 1;
    assert_eq!(touched(&said), [concerned.len() as u64, new, 1, 1, new]);
    assert_eq!(registry.crate_file_requests(), NEW + 1, "the new ones and the other bytes");

    let after = ferry.knowledge();
    let (generation, feed) = after.feed.last().unwrap();
    let changed: BTreeSet<String> = feed.iter().map(ToString::to_string).collect();
    // The crate with other bytes for a known version goes on being served as it was.
    let served: BTreeSet<String> = concerned.iter().filter(|name| **name != republished()).cloned().collect();
    assert_eq!((*generation, changed), (before.generations.len() as u64 + 1, served));
    assert_eq!(rows_touched(before, &after), NEW + 2, "the new ones, the other bytes, the deleted one");
    assert_eq!(after.in_state(State::Withdrawn).len(), 1);
    assert_eq!(after.generations.last().unwrap().counts.rows, (size() + NEW - 1) as u64);
}

fn republished() -> String {
    name(1_604)
}

/// Index files changed, releases newly wanted, gone, alarms, releases stored.
fn touched(said: &Value) -> [u64; 5] {
    let index = ["changed", "wanted", "gone", "alarms"].map(|key| said["index"][key].as_u64().unwrap());
    let [changed, wanted, gone, alarms] = index;
    [changed, wanted, gone, alarms, said["releases"]["stored"].as_u64().unwrap()]
}

/// Release rows of the ledger that are not as they were.
fn rows_touched(before: &Knowledge, after: &Knowledge) -> usize {
    let mut old = before.releases.iter().peekable();
    let mut same = 0;
    for (release, row) in &after.releases {
        while old.next_if(|(known, _)| known < release).is_some() {}
        same += usize::from(old.next_if(|known| (&known.0, &known.1) == (release, row)).is_some());
    }
    assert!(old.next().is_none(), "no row is lost");
    after.releases.len() - same
}

#[test]
fn nothing_new_is_nothing_done() {
    let (registry, ferry) = mirrored(size());
    expect_nothing_to_do(&registry, &ferry);
    registry.squash();
    let length = ferry.packs()[0].1;
    let said = ferry.sync(&[]).expect(0).json();
    assert_eq!(touched(&said), [0; 5], "after a squash");
    assert!(ferry.packs()[0].1 - length <= 4096, "the new commit is noted, and nothing else");
    expect_nothing_to_do(&registry, &ferry);
}

#[test]
fn what_is_new_is_what_is_touched_whatever_the_history_did() {
    let (registry, ferry) = mirrored(size());
    let before = ferry.knowledge();
    let concerned = change(&registry);
    let histories: [fn(&Registry); 3] = [
        |_| {},
        |registry| {
            registry.force_push_older(1).commit();
        },
        |registry| {
            registry.squash();
        },
    ];
    for history in histories {
        history(&registry);
        let ferry = ferry.copy();
        expect_changes(&registry, &ferry, &concerned, &before);
        expect_nothing_to_do(&registry, &ferry);
    }
}

/// What a mirror holds after a sync of at most so many releases.
fn held_after_limit(registry: &Registry, limit: &str, at_once: &str) -> BTreeSet<(String, String)> {
    let ferry = Ferry::git(registry);
    let said = ferry.sync(&["--all", "--limit", limit, "--concurrency", at_once]).expect(0).json();
    assert_eq!(said["pending"], 700 - said["held"].as_u64().unwrap());
    ferry.knowledge().in_state(State::Stored).into_iter().collect()
}

#[test]
fn a_limit_takes_the_first_releases_however_many_requests_run() {
    let registry = Registry::new();
    registry.releases(700);
    let first: BTreeSet<_> = registry.release_ids().into_iter().take(230).collect();
    assert_eq!(held_after_limit(&registry, "230", "1"), first);
    assert_eq!(held_after_limit(&registry, "230", "64"), first);
}

#[test]
fn another_kind_of_index_with_the_same_content_changes_nothing() {
    let registry = Registry::new();
    registry.releases(70);
    let mut ferry = Ferry::git(&registry);
    let crates: Vec<String> = (0..10).map(|number| format!("c{number:05}")).collect();
    let arguments: Vec<&str> = ["--crate"].into_iter().chain(crates.iter().map(String::as_str)).collect();
    ferry.sync(&arguments).expect(0);
    let before = ferry.knowledge();
    for upstream in [registry.sparse_url(), registry.git_file_url(), registry.git_https_url(), registry.sparse_url()] {
        ferry.switch_to(&upstream);
        registry.reset_counters();
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!(touched(&said), [0; 5], "{upstream}");
        assert_eq!(registry.crate_file_requests(), 0, "{upstream}");
        let after = ferry.knowledge();
        assert_eq!((&after.generations, &after.releases), (&before.generations, &before.releases), "{upstream}");
    }
}
