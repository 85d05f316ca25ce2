//! `docs/format.md` is enough to read a mirror: a program that was written from it, and from nothing else, finds in the
//! packs what the ledger knows, and in bundles what they carry, and notices when they are damaged. That program is `tests/format_reader.py`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crateferry_store::{Mirror, StoreLimits, SystemDisk};
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

use common::gap::{Gap, generation, volumes};
use common::{Ferry, flip_bit};

/// A mirror with sealed packs and an open one, names that do not fit a tar header, and names that occur twice.
fn mirror_with_a_history() -> Ferry {
    let registry = Registry::new();
    let long = format!("1.0.0-{}", "x".repeat(110));
    registry.releases(20).release(&"long-name-".repeat(6), &long).release("serde", "1.0.0").release("gone", "1.0.0");
    registry.release_with("large", "1.0.0", Release::sized(40_000));
    let ferry = Ferry::git(&registry);
    ferry.configure("store", "pack-size = \"16 kB\"");
    ferry.sync(&["--all"]).expect(0);

    registry
        .yank("c00000", "1.0.0")
        .delete_crate("gone")
        .release("serde", "1.0.1")
        .republish("serde", "1.0.0", b"other");
    registry.commit();
    ferry.sync(&[]).expect(0);
    registry.release("serde", "1.0.2").commit();
    ferry.sync(&[]).expect(0);
    ferry
}

fn read_by_the_page(mirror: &Path) -> Output {
    read_all_by_the_page(&[mirror])
}

fn read_all_by_the_page(mirror_and_bundle: &[&Path]) -> Output {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format_reader.py");
    Command::new("python3").arg(reader).args(mirror_and_bundle).output().expect("python3 is installed")
}

#[track_caller]
fn found_in_packs(ferry: &Ferry) -> Value {
    let output = read_by_the_page(&ferry.mirror());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every release whose bytes are held, as the reader prints them.
fn held_by_the_ledger(ferry: &Ferry) -> Vec<Value> {
    let mirror = Mirror::open(&ferry.mirror(), StoreLimits::default(), Arc::new(SystemDisk)).unwrap();
    let mut held = Vec::new();
    mirror
        .ledger()
        .reader()
        .unwrap()
        .each_release(|release, row| {
            if let Some(place) = row.place {
                held.push(json!({
                    "name": release.id.name.lower(),
                    "version": release.id.version,
                    "sha256": release.checksum,
                    "pack": place.pack,
                    "offset": place.offset,
                    "length": place.length,
                }));
            }
            Ok(())
        })
        .unwrap();
    held
}

#[test]
fn a_stranger_who_knows_the_format_page_finds_in_the_packs_what_the_ledger_knows() {
    let ferry = mirror_with_a_history();
    let found = found_in_packs(&ferry);
    let status = ferry.status();

    assert_eq!(found["held"].as_array().unwrap(), &held_by_the_ledger(&ferry));
    assert_eq!(found["mirror"], status["mirror_id"]);
    assert_eq!(found["generation"]["number"], status["generation"]);
    assert_eq!(found["generation"]["digest"], status["generation_digest"]);
    assert_eq!(found["generation"]["counts"], json!({ "crates": status["crates"], "rows": status["rows"] }));
    let count = |key: &str| found[key].as_u64().unwrap();
    assert!(count("sealed") >= 1 && count("packs") > count("sealed"), "{} of {}", found["sealed"], found["packs"]);
    assert!(count("fallback_names") >= 1, "a name that is too long was abbreviated");
}

#[test]
fn a_stranger_notices_one_changed_bit_in_any_part_of_a_sealed_pack() {
    let ferry = mirror_with_a_history();
    let length = std::fs::metadata(ferry.file("packs/000001.tar")).unwrap().len();
    for part in 0..8 {
        let copy = ferry.copy();
        let byte = part * length / 8 + part;
        flip_bit(&copy.file("packs/000001.tar"), byte * 8 + part % 8);
        let output = read_by_the_page(&copy.mirror());
        assert_eq!(output.status.code(), Some(1), "byte {byte}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_stranger_who_knows_the_format_page_reads_bundles_and_what_a_replica_makes_of_them() {
    let long = format!("1.0.0-{}", "x".repeat(110));
    let registry = Registry::new();
    registry.releases(20).release(&"long-name-".repeat(6), &long).release("serde", "1.0.0").release("serde", "1.0.1");
    registry.release_with("noise", "1.0.0", Release::of_bytes(vec![7; 3000]));
    let gap = Gap::of(registry, &["--all"]);
    let mut made = vec![gap.create("first", &["--full", "--level", "none", "--volume-size", "20kB"])];
    gap.registry.release("serde", "1.0.2").commit();
    gap.origin.sync(&[]).expect(0);
    gap.change(0);
    made.push(gap.create("delta", &["--since", &generation(&made[0].1)]));
    made.push(gap.create("whole", &["--full"]));
    let read = |bundle: &Path| {
        let output = read_all_by_the_page(&[&gap.origin.mirror(), bundle]);
        assert!(output.status.success(), "{}: {}", bundle.display(), String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["bundle"].take()
    };
    for (bundle, made) in &made {
        let read = read(bundle);
        for key in ["bundle", "releases", "index_files", "removed", "raw"] {
            assert_eq!(read[key], made[key], "{key} of {}", bundle.display());
        }
        assert_eq!(read["facts"], made["releases"], "also of what is no crate file");
    }
    assert!(read(&made[1].0)["bases"].as_u64().unwrap() >= 2, "frames against what the far side holds");
    assert!(read(&made[1].0)["lines"]["withdrawn"] == 1);

    // The delta comes too early, waits, and follows when the first one is there.
    gap.apply("far", &made[1].0).expect(1);
    gap.apply("far", &made[0].0).expect(0);
    gap.is_the_same("far");
    let output = read_by_the_page(&gap.origin.beside("far"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["generation"]["digest"], gap.origin.digest());
    assert_eq!((&found["events"]["bundle"], &found["events"]["publish"]), (&json!(2), &json!(2)));
    assert_eq!(found["events"]["arrived"], found["events"]["staged"], "each text came in a bundle");
    // One changed bit anywhere is noticed.
    let volume = volumes(&made[2].0).remove(0);
    let length = volume.metadata().unwrap().len();
    for part in 0..4 {
        flip_bit(&volume, (part * length / 4 + part) * 8);
        let output = read_all_by_the_page(&[&gap.origin.mirror(), &made[2].0]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        flip_bit(&volume, (part * length / 4 + part) * 8);
    }
}
