//! The order of operations: bytes are durable before anything names them, in whatever order power is lost.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod rig;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crateferry_store::{Extent, Mirror, MirrorReader, Release, Shrink, StoreLimits, WriteError, publish, verify, wait};
use rig::disk::{Call, Loss, TestDisk};
use rig::{NOW, answer, crate_name, held, hold, new_mirror, open, open_on, release, settle, store, wanted};
use tempfile::TempDir;

const VERSIONS: [&str; 4] = ["0.1.0", "0.2.0", "1.0.0", "1.0.1"];

/// Small groups and packs, so that much happens.
fn small() -> StoreLimits {
    StoreLimits {
        group_members: 8,
        group_delay: Duration::from_millis(1),
        pack_bytes: 200_000,
        write_buffer: 4096,
        ..StoreLimits::default()
    }
}

/// What was promised to whoever wrote.
#[derive(Clone, Debug, Default)]
struct Promised {
    stored: Vec<Release>,
    generation: u64,
}

/// What a power cut left, and what had been promised before it.
struct Wreck {
    root: TempDir,
    promised: Promised,
    /// Goes on where power was not lost, only the process killed.
    disk: TestDisk,
}

/// Writes crates and publishes after each few; before each sync, power is lost in one way after the other.
fn wrecks(crates: usize) -> Vec<Wreck> {
    let root = new_mirror(&small());
    let wrecks: Arc<Mutex<Vec<Wreck>>> = Arc::default();
    let promised: Arc<Mutex<Promised>> = Arc::default();
    let (from, kept, known) = (root.path().to_owned(), Arc::clone(&wrecks), Arc::clone(&promised));
    let disk = TestDisk::new().before_sync(move |disk| {
        let promised = known.lock().unwrap().clone();
        let mut wrecks = kept.lock().unwrap();
        let root = tempfile::tempdir().unwrap();
        let losses = [Loss::Killed, Loss::Zeros, Loss::Cut, Loss::EveryOther];
        disk.lose_power(&from, root.path(), losses[wrecks.len() % losses.len()]);
        let disk = disk.going_on(&from, root.path());
        wrecks.push(Wreck { root, promised, disk });
    });
    let mirror = open_on(root.path(), &small(), Arc::new(disk)).unwrap();
    let writer = mirror.writer().unwrap();
    for number in 0..crates {
        let name = crate_name(number);
        settle(&writer, wanted(&name, &VERSIONS)).unwrap();
        let answers: Vec<_> = VERSIONS.iter().map(|version| store(&writer, &name, version)).collect();
        for (stored, version) in answers.into_iter().zip(VERSIONS) {
            answer(stored).unwrap();
            promised.lock().unwrap().stored.push(release(&name, version));
        }
        if number % 3 == 2 {
            let published = publish(&mirror, &writer, Shrink::WithinLimit, NOW).unwrap();
            promised.lock().unwrap().generation = published.generation.unwrap().number;
        }
    }
    drop((writer, mirror));
    std::mem::take(&mut *wrecks.lock().unwrap())
}

/// All that was promised is there, and every row that is served has its bytes.
fn check(mirror: &Mirror, promised: &Promised, which: &str) {
    let held = held(mirror);
    for release in &promised.stored {
        assert!(held.contains(release), "{which}: {release} was acknowledged");
    }
    let reader = mirror.ledger().reader().unwrap();
    let generation = reader.generation().unwrap().map_or(0, |generation| generation.number);
    assert!(generation >= promised.generation, "{which}: generation {generation} of {}", promised.generation);
}

fn check_served(root: &Path, which: &str) {
    let reader = MirrorReader::open(root, small()).unwrap();
    let verification = verify(&reader, Extent::All, &|_| {}).unwrap();
    assert_eq!(verification.findings, [], "{which}");
}

#[test]
fn a_power_cut_before_any_sync_loses_nothing_that_was_promised() {
    let wrecks = wrecks(18);
    assert!(wrecks.len() > 40, "{} syncs", wrecks.len());
    for (number, wreck) in wrecks.iter().enumerate() {
        let which = format!("sync {number}");
        let mirror = open(wreck.root.path(), &small()).unwrap_or_else(|error| panic!("{which}: {error:?}"));
        check(&mirror, &wreck.promised, &which);
        // It goes on: the torn tail is cut and the next crate is stored behind it.
        hold(&mirror.writer().unwrap(), "next", &VERSIONS);
        publish(&mirror, &mirror.writer().unwrap(), Shrink::WithinLimit, NOW).unwrap();
        drop(mirror);
        check_served(wreck.root.path(), &which);
    }
}

#[test]
fn what_is_adopted_after_a_kill_survives_a_power_cut_at_once() {
    for (number, wreck) in wrecks(12).iter().enumerate().step_by(4) {
        let which = format!("sync {number}");
        let mirror = open_on(wreck.root.path(), &small(), Arc::new(wreck.disk.clone())).unwrap();
        let adopted = Promised { stored: held(&mirror), ..wreck.promised.clone() };
        drop(mirror);
        for loss in [Loss::Zeros, Loss::Cut] {
            let later = tempfile::tempdir().unwrap();
            wreck.disk.lose_power(wreck.root.path(), later.path(), loss);
            let mirror = open(later.path(), &small()).unwrap_or_else(|error| panic!("{which}, {loss:?}: {error:?}"));
            check(&mirror, &adopted, &which);
        }
    }
}

/// How a mirror's writer took a failure of its disk.
struct Broken {
    root: TempDir,
    disk: TestDisk,
    /// What was answered to each release that was to be stored.
    answers: Vec<(Release, Result<(), WriteError>)>,
}

/// Stores crates one after the other until the disk fails, and a few beyond.
fn broken_by(call: Call, number: usize, kind: ErrorKind) -> Broken {
    let root = new_mirror(&small());
    let disk = TestDisk::new().fail(call, number, kind);
    let mirror = open_on(root.path(), &small(), Arc::new(disk.clone())).unwrap();
    let writer = mirror.writer().unwrap();
    let mut answers = Vec::new();
    for number in 0..10 {
        let name = crate_name(number);
        drop(settle(&writer, wanted(&name, &VERSIONS)));
        for version in VERSIONS {
            let stored = store(&writer, &name, version);
            drop(wait(writer.flush()));
            answers.push((release(&name, version), answer(stored).map(drop)));
        }
    }
    drop((writer, mirror));
    Broken { root, disk, answers }
}

/// The writer stopped at the failure; the mirror opens again with all that was acknowledged, also if power is lost at
/// once; what was not acknowledged can be stored.
#[track_caller]
fn check_broken(broken: &Broken, named: &str) {
    let stopped = broken.answers.iter().position(|(_, answer)| answer.is_err()).expect("the disk failed");
    let (before, after) = broken.answers.split_at(stopped);
    assert!(after.iter().all(|(_, answer)| answer.is_err()), "the writer does not go on after a failure");
    let error = after[0].1.as_ref().unwrap_err();
    let chain = format!("{error}: {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default());
    assert!(chain.contains(named), "{named:?} in {chain}");

    let promised = Promised { stored: before.iter().map(|(release, _)| release.clone()).collect(), generation: 0 };
    let later = tempfile::tempdir().unwrap();
    broken.disk.lose_power(broken.root.path(), later.path(), Loss::Zeros);
    let mirror = open_on(broken.root.path(), &small(), Arc::new(broken.disk.clone())).unwrap();
    check(&mirror, &promised, "after the failure");
    let adopted = Promised { stored: held(&mirror), generation: 0 };
    hold(&mirror.writer().unwrap(), "next", &VERSIONS);
    drop(mirror);
    check(&open(later.path(), &small()).unwrap(), &promised, "after the failure and a power cut");
    let later = tempfile::tempdir().unwrap();
    broken.disk.lose_power(broken.root.path(), later.path(), Loss::Zeros);
    check(&open(later.path(), &small()).unwrap(), &adopted, "after the failure, a start and a power cut");
}

#[test]
fn a_failed_sync_stops_the_writer_and_is_not_asked_for_again() {
    for number in [1, 2, 7, 20] {
        let broken = broken_by(Call::Sync, number, ErrorKind::Other);
        assert_eq!(broken.disk.syncs_after_failure(), 0, "no sync follows the one that failed");
        check_broken(&broken, "durable");
    }
}

#[test]
fn a_failed_sync_of_the_folder_stops_the_writer() {
    let broken = broken_by(Call::SyncFolder, 1, ErrorKind::Other);
    check_broken(&broken, "durable");
}

#[test]
fn a_full_disk_is_named_and_the_mirror_opens_again() {
    for number in [1, 2, 5, 17, 40] {
        check_broken(&broken_by(Call::Write, number, ErrorKind::StorageFull), "cannot write to pack");
    }
}

#[test]
fn a_disk_that_cannot_reserve_room_is_named() {
    check_broken(&broken_by(Call::Reserve, 1, ErrorKind::Other), "cannot reserve space for pack");
}

#[test]
fn a_disk_without_room_to_reserve_ahead_is_written_to_while_it_has_some() {
    let tight = broken_by(Call::Reserve, 1, ErrorKind::StorageFull);
    assert!(tight.answers.iter().all(|(_, answer)| answer.is_ok()));
    assert!(tight.disk.calls(Call::Reserve) > 1, "room was reserved for the bytes themselves");
}

/// Groups, syncs and commits that it took to store so many releases, all asked for at once.
fn work_for(releases: usize) -> [u64; 3] {
    let limits = StoreLimits { group_delay: Duration::from_secs(60), ..StoreLimits::default() };
    let root = new_mirror(&limits);
    let mirror = open(root.path(), &limits).unwrap();
    let writer = mirror.writer().unwrap();
    let versions: Vec<String> = (0..releases).map(|number| format!("1.0.{number}")).collect();
    let answers: Vec<_> = versions.iter().map(|version| store(&writer, "many", version)).collect();
    wait(writer.flush()).unwrap();
    for stored in answers {
        answer(stored).unwrap();
    }
    let work = writer.work();
    [&work.groups, &work.syncs, &work.commits].map(|count| count.load(Ordering::Relaxed))
}

#[test]
fn ten_thousand_small_objects_cost_three_commits() {
    assert_eq!(work_for(10_000), [3; 3]);
}

#[test]
fn one_object_costs_one_commit() {
    assert_eq!(work_for(1), [1; 3]);
}
