//! Imports that end early: what was placed stays, and the same command goes on.

use std::time::{Duration, Instant};

use crateferry_test_support::{Bulk, Registry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::{Ferry, Running, chance, wait_until};
use crate::{file_name, holds_all, look, put_all, read_index, tree};

/// What a stop may take: ten seconds, five times over for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(50);

/// A folder of so many files that an import takes a while.
fn many() -> (Registry, Ferry, usize) {
    let registry = Registry::new();
    registry.bulk(Bulk { releases: 6000, versions_per_crate: 1000, mean_size: None });
    let ferry = Ferry::sparse(&registry);
    read_index(&ferry, &registry);
    let files = put_all(&ferry, &registry, file_name);
    (registry, ferry, files)
}

fn start(ferry: &Ferry) -> Running {
    let from = tree(ferry).display().to_string();
    ferry.start(ferry.command("import-tree", &[&from, "--json", "--progress-interval", "100ms"]))
}

#[test]
fn a_signal_ends_it_with_what_is_whole_published() {
    let (registry, ferry, files) = many();
    let mut running = start(&ferry);
    wait_until("it has begun", || running.stderr().contains("importing") || running.has_ended());
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGINT).unwrap();
    let sent = Instant::now();
    while !running.has_ended() {
        assert!(sent.elapsed() < PATIENCE, "it goes on: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = running.wait().expect(130);
    let said = ran.json();
    let placed = said["placed"].as_u64().unwrap();
    assert!(placed < files as u64, "{said}");
    assert_eq!(ferry.status()["releases"]["held"], placed);
    look::verify(&ferry);

    let said = start(&ferry).wait().expect(0).json();
    assert_eq!((&said["held"], &said["placed"]), (&json!(placed), &json!(files as u64 - placed)));
    holds_all(&ferry, &registry);
}

#[test]
fn a_killed_import_goes_on_where_it_was() {
    let (registry, ferry, files) = many();
    let (seed, mut rng) = chance();
    for _ in 0..8 {
        let running = start(&ferry);
        std::thread::sleep(Duration::from_millis(rng.u64(20..300)));
        running.kill();
    }
    let said = start(&ferry).wait().expect(0).json();
    let (held, placed) = (said["held"].as_u64().unwrap(), said["placed"].as_u64().unwrap());
    assert_eq!(held + placed, files as u64, "seed {seed}");
    holds_all(&ferry, &registry);
}
