//! `docs/format.md` is enough to read a mirror: a program that was written from it, and from nothing else, finds in the
//! packs what the ledger knows, and notices when they are damaged. That program is `tests/format_reader.py`.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crateferry_store::{Mirror, StoreLimits, SystemDisk};
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

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
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format_reader.py");
    Command::new("python3").arg(reader).arg(mirror).output().expect("python3 is installed")
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
