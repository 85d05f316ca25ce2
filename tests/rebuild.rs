//! Ledger and catalog lost: `rebuild` brings back all that was known, from the packs alone.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use common::{Ferry, Knowledge, chance, wait_until};
use crateferry_store::State;
use crateferry_test_support::{Fault, Registry, Release};

/// A mirror with a past.
struct Past {
    registry: Registry,
    ferry: Ferry,
}

impl Past {
    /// 210 releases in packs of 50 kB or a little more, the last of them open.
    fn begin() -> Past {
        let registry = Registry::new();
        registry.releases(210);
        let ferry = Ferry::git(&registry);
        ferry.configure("store", "pack-size = \"50 kB\"").configure("network", "retry-base = \"1ms\"");
        // A pack ends where a group does, so several syncs make several packs.
        for _ in 0..3 {
            ferry.sync(&["--all", "--limit", "70"]).expect(0);
        }
        assert!(ferry.packs().len() > 2, "{:?}", ferry.packs());
        Past { registry, ferry }
    }

    fn sync(&self, arguments: &[&str], code: i32) -> &Self {
        self.registry.commit();
        self.ferry.sync(arguments).expect(code);
        self
    }

    /// Holes, one of them accepted, and a crate file that is refused.
    fn fail_some(&self) -> &Self {
        for name in ["hole-a", "hole-b"] {
            self.registry.release(name, "1.0.0").fault(name, "1.0.0", Fault::status(404));
        }
        self.registry.release("away", "1.0.0").fault("away", "1.0.0", Fault::redirect("http://127.0.0.1:9/"));
        self.sync(&[], 1);
        self.ferry.run("holes", &["accept", "hole-b@1.0.0"]).expect(1);
        self
    }

    /// Yanks, a deletion, another checksum for a version, a bad row.
    fn change_some(&self) -> &Self {
        self.registry
            .yank("c00003", "1.0.1")
            .delete("c00004", "1.0.2")
            .delete_crate("c00005")
            .republish("c00006", "1.0.0", b"other")
            .release_with("late", "0.1.0", Release::default())
            .raw_index_rows("c0/00/c00007", b"this is no row\n");
        self.sync(&["--accept-shrink"], 0)
    }

    /// Deletions that are held for approval.
    fn lose_many(&self) -> &Self {
        for number in 10..14 {
            self.registry.delete_crate(&format!("c{number:05}"));
        }
        self.sync(&[], 1)
    }

    /// Loses the databases, rebuilds, and compares; what the mirror knows then.
    #[track_caller]
    fn check_rebuild(&self) -> Knowledge {
        let mut before = self.ferry.knowledge();
        let status = self.ferry.status();
        lose_databases(&self.ferry);
        let said = self.ferry.run("rebuild", &["--json"]).expect(0).json();
        assert_eq!((&said["problems"], &said["new_epoch"]), (&serde_json::json!([]), &false.into()));
        let mut after = self.ferry.knowledge();
        // No record says that a crate was composed and found to be as it is served; so that is done once more.
        let still_dirty = std::mem::take(&mut before.dirty);
        assert!(still_dirty.iter().all(|dirty| after.dirty.contains(dirty)));
        after.dirty.clear();
        assert_same(&before, &after);
        assert_eq!(self.ferry.status(), status);
        self.ferry.run("verify", &[]).expect(0);
        after
    }
}

fn lose_databases(ferry: &Ferry) {
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::remove_file(ferry.file(database)).unwrap();
    }
}

#[track_caller]
fn assert_same(before: &Knowledge, after: &Knowledge) {
    // Releases first and one by one, so that a difference can be read.
    for (before, after) in before.releases.iter().zip(&after.releases) {
        assert_eq!(before, after);
    }
    for (before, after) in before.paths.iter().zip(&after.paths) {
        assert_eq!(before, after);
    }
    for (before, after) in before.work.iter().zip(&after.work) {
        assert_eq!(before, after);
    }
    assert_eq!(before, after);
}

#[test]
fn a_mirror_of_many_packs_is_rebuilt() {
    let past = Past::begin();
    let known = past.check_rebuild();
    assert_eq!(known.in_state(State::Stored).len(), 210);
}

#[test]
fn holes_accepted_holes_and_refusals_are_rebuilt() {
    let past = Past::begin();
    let known = past.fail_some().check_rebuild();
    assert_eq!(known.holes.len(), 2);
    assert_eq!(known.in_state(State::Excluded).len(), 1);
    assert_eq!(known.in_state(State::Refused).len(), 1);
}

#[test]
fn yanks_tombstones_alarms_and_reports_are_rebuilt() {
    let past = Past::begin();
    let known = past.change_some().check_rebuild();
    assert_eq!(known.in_state(State::Withdrawn).len(), 8);
    assert_eq!((known.alarms.len(), known.reports.len()), (1, 1));
    let twice = known.releases.iter().filter(|(release, _)| release.id.to_string() == "c00006 1.0.0");
    assert_eq!(twice.count(), 2, "both checksums are known");
}

#[test]
fn deletions_that_are_held_for_approval_are_rebuilt() {
    let past = Past::begin();
    let known = past.lose_many().check_rebuild();
    assert_eq!(known.gone.len(), 28);
    past.ferry.run("approve", &[]).expect(0);
    assert_eq!(past.check_rebuild().in_state(State::Withdrawn).len(), 28);
}

#[test]
fn everything_at_once_is_rebuilt_and_a_sync_goes_on_without_fetching_again() {
    let past = Past::begin();
    past.fail_some().change_some_with_holes().lose_many_with_holes();
    past.check_rebuild();
    past.registry.heal().reset_counters().release("new", "1.0.0").commit();
    past.ferry.sync(&["--retry-failed"]).expect(1); // the deletions are still held
    assert_eq!(past.registry.requests_for("new", "1.0.0"), 1);
    assert_eq!(past.registry.crate_file_requests(), 3, "the new one, the hole and the refused one");
}

impl Past {
    fn change_some_with_holes(&self) -> &Self {
        self.registry.yank("c00003", "1.0.1").delete("c00004", "1.0.2").republish("c00006", "1.0.0", b"other");
        self.sync(&[], 1)
    }

    fn lose_many_with_holes(&self) -> &Self {
        self.lose_many()
    }
}

#[test]
fn a_sync_that_was_killed_is_rebuilt_and_goes_on() {
    let (seed, mut random) = chance();
    for _ in 0..5 {
        let past = Past::begin();
        past.registry.releases(900).commit().reset_counters();
        past.registry.fault_crate_files(Fault::delay(std::time::Duration::from_millis(10)));
        let more = random.usize(1..600);
        let mut sync = past.ferry.start_sync(&["--concurrency", "16"]);
        wait_until("requests", || past.registry.crate_file_requests() >= more || sync.has_ended());
        sync.kill();
        // Opening adopts the tail; the writer of the next sync cuts what is torn. So a rebuild at once may find it torn.
        let before = past.ferry.copy().knowledge();
        lose_databases(&past.ferry);
        past.ferry.run("rebuild", &[]).expect(0);
        let after = past.ferry.knowledge();
        assert_eq!(before.releases, after.releases, "seed {seed}");
        assert_eq!(before.work, after.work, "seed {seed}");
        assert_eq!(before.generations, after.generations, "seed {seed}");
        let held = after.in_state(State::Stored).len();
        past.registry.heal().reset_counters();
        past.ferry.sync(&[]).expect(0);
        assert_eq!(past.registry.crate_file_requests(), 900 - held, "seed {seed}");
        past.ferry.run("verify", &[]).expect(0);
    }
}

/// The epoch after a rebuild of what this left.
#[track_caller]
fn epoch_after(damage: impl FnOnce(&Ferry), arguments: &[&str]) -> u64 {
    let past = Past::begin();
    damage(&past.ferry);
    past.ferry.run("rebuild", arguments).expect(0);
    let status = past.ferry.status();
    past.registry.release("new", "1.0.0").commit();
    let said = past.ferry.sync(&[]).json();
    assert_eq!(said["generation"]["epoch"], status["epoch"], "the next generation is of that epoch");
    status["epoch"].as_u64().unwrap()
}

fn open_pack(ferry: &Ferry) -> std::path::PathBuf {
    ferry.file("packs").join(&ferry.packs().last().unwrap().0)
}

#[test]
fn an_unbroken_chain_keeps_the_epoch() {
    assert_eq!(epoch_after(lose_databases, &[]), 0);
}

#[test]
fn a_new_epoch_can_be_asked_for_and_the_packs_remember_it() {
    assert_eq!(epoch_after(|_| {}, &["--new-epoch"]), 1);
    let twice = |ferry: &Ferry| {
        ferry.run("rebuild", &["--new-epoch"]).expect(0);
        lose_databases(ferry);
    };
    assert_eq!(epoch_after(twice, &[]), 1);
}

#[test]
fn a_torn_last_pack_begins_a_new_epoch() {
    let tear = |ferry: &Ferry| {
        let length = ferry.packs().last().unwrap().1;
        std::fs::OpenOptions::new().write(true).open(open_pack(ferry)).unwrap().set_len(length - 700).unwrap();
    };
    assert_eq!(epoch_after(tear, &[]), 1);
}

#[test]
fn a_lost_pack_begins_a_new_epoch() {
    let lose = |ferry: &Ferry| {
        std::fs::remove_file(ferry.file("packs").join(&ferry.packs()[1].0)).unwrap();
        lose_databases(ferry);
    };
    assert_eq!(epoch_after(lose, &[]), 1);
}
