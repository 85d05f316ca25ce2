//! Mirrors and bundles that earlier versions of the format left, as `tests/data` keeps them: they are opened for ever.
//!
//! `CRATEFERRY_WRITE_GOLDEN=1` writes those of the format that this program writes, where there are none yet.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::gap::{Gap, generation};
use common::{Knowledge, copy_folder, program};
use crateferry_store::MIRROR_FORMAT;
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

fn archive(format: u32) -> PathBuf {
    Path::new(DATA).join(format!("format-{format}.tar.zst"))
}

fn told(format: u32) -> PathBuf {
    Path::new(DATA).join(format!("format-{format}.json"))
}

fn tar(arguments: &[&str], folder: &Path, archive: &Path) {
    let output = Command::new("tar").args(arguments).arg(archive).arg("-C").arg(folder).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What is known of a mirror, as far as no version may tell it otherwise.
fn known(mirror: &Path) -> Value {
    let known = Knowledge::of(mirror);
    let releases = known.releases.iter().map(|(release, row)| {
        let place = row.place.map(|place| (place.pack, place.offset, place.length));
        json!([release.id.to_string(), release.checksum.to_string(), format!("{:?}", row.state), place])
    });
    json!({
        "mirror": known.mirror, "record": known.chain.sequence, "epoch": known.chain.epoch, "digest": known.digest(),
        "generations": known.generations.len(), "releases": releases.collect::<Vec<_>>(), "holes": known.holes.len(),
        "masks": known.masks, "selection": known.selection,
    })
}

/// A mirror with something of everything, in several packs; a replica of it, two bundles, and the key.
fn write() {
    let registry = Registry::new();
    registry.releases(12);
    registry.release_with("large", "1.0.0", Release::sized(30_000));
    let gap = Gap::of(registry, &["--all"]);
    gap.origin.configure("store", "pack-size = \"20 kB\"");
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    gap.change(0);
    gap.origin.run("withdraw", &["large", "--reason", "malware"]).expect(0);
    let (name, _) = gap.registry.release_ids()[1].clone();
    gap.origin.run("quarantine", &[&name, "--reason", "looked at"]).expect(0);
    gap.origin.run("gc", &["--grace", "0s"]).expect(0);
    gap.change(1);
    let (delta, _) = gap.create("delta", &["--since", &generation(&made), "--level", "fast"]);
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);
    for (from, name) in
        [(gap.origin.mirror(), "mirror"), (gap.origin.beside("far"), "replica"), (full, "full"), (delta, "delta")]
    {
        copy_folder(&from, &to(name));
    }
    let passing = |name: &str| ["upstream", "tmp", "quarantine", "log", "lock", "reading"].contains(&name);
    for entry in ["mirror", "replica"].iter().flat_map(|mirror| fs::read_dir(to(mirror)).unwrap()) {
        let entry = entry.unwrap();
        if passing(entry.file_name().to_str().unwrap()) {
            if entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    fs::copy(gap.trust(), to("key.pub")).unwrap();
    fs::create_dir_all(DATA).unwrap();
    tar(&["--zstd", "--sort=name", "--owner=0", "--group=0", "-cf"], folder.path(), &archive(MIRROR_FORMAT));
    let text = serde_json::to_string_pretty(&json!({
        "mirror": known(&gap.origin.mirror()), "replica": known(&gap.origin.beside("far")),
    }));
    fs::write(told(MIRROR_FORMAT), text.unwrap() + "\n").unwrap();
}

/// Runs the program; it ends with 0.
#[track_caller]
fn run(arguments: &[&str], paths: &[&Path]) -> Value {
    let output = program().args(arguments).args(paths).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The formats that there are, each unpacked.
fn formats() -> Vec<(u32, tempfile::TempDir, Value)> {
    if std::env::var_os("CRATEFERRY_WRITE_GOLDEN").is_some() && !archive(MIRROR_FORMAT).exists() {
        write();
    }
    let unpacked = |format| {
        let folder = tempfile::tempdir().unwrap();
        let output =
            Command::new("tar").args(["--zstd", "-xf"]).arg(archive(format)).arg("-C").arg(folder.path()).output();
        assert!(output.unwrap().status.success());
        (format, folder, serde_json::from_slice(&fs::read(told(format)).unwrap()).unwrap())
    };
    (1..=MIRROR_FORMAT).map(unpacked).collect()
}

#[test]
fn mirrors_of_every_format_open_and_tell_what_they_told() {
    for (format, folder, told) in formats() {
        for name in ["mirror", "replica"] {
            let mirror = folder.path().join(name);
            run(&["status"], &[&mirror]);
            let scrub = run(&["verify"], &[&mirror]);
            assert_eq!(scrub["findings"], json!([]), "format {format}");
            assert!(scrub["releases"].as_u64().unwrap() > 10);
            assert_eq!(known(&mirror), told[name], "format {format}, {name}");
        }
    }
}

#[test]
fn databases_of_every_format_are_made_again_from_its_packs() {
    for (format, folder, told) in formats() {
        for name in ["mirror", "replica"] {
            let mirror = folder.path().join(name);
            for database in ["ledger.redb", "catalog.redb"] {
                fs::remove_file(mirror.join(database)).unwrap();
            }
            run(&["rebuild"], &[&mirror]);
            assert_eq!(known(&mirror), told[name], "format {format}, {name}");
            assert_eq!(run(&["verify"], &[&mirror])["findings"], json!([]));
        }
    }
}

#[test]
fn bundles_of_every_format_bring_a_replica_to_where_their_mirror_was() {
    for (format, folder, told) in formats() {
        let at = |name: &str| folder.path().join(name);
        let serves = |name: &str| run(&["status"], &[&at(name)])["generation_digest"].clone();
        let key = at("key.pub");
        let trust = ["bundle", "apply", "--trust", key.to_str().unwrap()];
        run(&trust, &[&at("replica"), &at("delta")]);
        assert_eq!(serves("replica"), told["mirror"]["digest"], "format {format}");
        run(&trust, &[&at("new"), &at("full")]);
        assert_eq!(serves("new"), told["replica"]["digest"], "format {format}");
        run(&trust, &[&at("new"), &at("delta")]);
        assert_eq!(serves("new"), told["mirror"]["digest"], "format {format}");
        assert_eq!(run(&["verify"], &[&at("new")])["findings"], json!([]));
    }
}

#[test]
fn what_every_format_wrote_is_exported_and_read_by_the_reader_of_the_format() {
    for (format, folder, told) in formats() {
        let (mirror, to) = (folder.path().join("mirror"), folder.path().join("to"));
        run(&["export", "--layout", "download", "--to", to.to_str().unwrap()], &[&mirror]);
        let stored = told["mirror"]["releases"].as_array().unwrap().iter().filter(|release| release[2] == "Stored");
        assert!(stored.count() > 10, "format {format}");
        let reader = Command::new("python3").arg("tests/format_reader.py").arg(&mirror).output().unwrap();
        assert!(reader.status.success(), "{}", String::from_utf8_lossy(&reader.stderr));
        let read: Value = serde_json::from_slice(&reader.stdout).unwrap();
        assert_eq!(read["generation"]["digest"], told["mirror"]["digest"], "format {format}");
    }
}
