//! `--layout tar-zst`: archives of at most a size, read by the real tar and zstd.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crateferry_test_support::{Registry, Release, sha256};
use serde_json::json;

use crate::common::{Ferry, Ran, flip_bit};
use crate::folder::{files, in_pack};
use crate::{graph, mirrored, sync};

fn archive(ferry: &Ferry, size: &str, more: &[&str]) -> Ran {
    archive_into(ferry, &ferry.beside("out"), size, more)
}

fn archive_into(ferry: &Ferry, to: &Path, size: &str, more: &[&str]) -> Ran {
    let to = to.display().to_string();
    ferry.run("export", &[&["--to", &to, "--layout", "tar-zst", "--size", size, "--json"], more].concat())
}

/// So many releases of mean 30 KB that do not compress, and one above what is kept in memory.
fn many() -> Registry {
    let registry = Registry::new();
    for number in 0..40 {
        registry.release_with(&format!("crate-{number:02}"), "1.0.0", Release::sized(30_000));
    }
    registry.release_with("large", "1.0.0", Release::sized(5 << 20)).release("abc", "1.0.0");
    registry
}

/// What tar says is in the archives of a folder: path and SHA-256, by archive. All of it is whole, and no archive is larger.
#[track_caller]
fn unpacked(folder: &Path, size: u64) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut archives = BTreeMap::new();
    for (name, bytes) in files(folder) {
        assert!(bytes.len() as u64 <= size, "{name} has {} bytes", bytes.len());
        let path = folder.join(&name);
        let tested = Command::new("zstd").args(["-qt"]).arg(&path).status();
        assert!(tested.is_ok_and(|status| status.success()), "zstd -t {name}");
        let to = tempfile::tempdir().unwrap();
        let output = Command::new("tar").arg("--zstd").arg("-xf").arg(&path).arg("-C").arg(to.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let members = files(to.path()).into_iter().map(|(path, bytes)| (path, sha256(&bytes)));
        archives.insert(name, members.collect());
    }
    archives
}

/// The archives have these releases, each once.
#[track_caller]
fn have(ferry: &Ferry, size: u64, releases: &[(String, String)], registry: &Registry) {
    let all: Vec<(String, String)> = unpacked(&ferry.beside("out"), size).into_values().flatten().collect();
    let mut names: Vec<String> = all.iter().map(|(path, _)| path.rsplit('/').next().unwrap().to_owned()).collect();
    names.sort();
    let mut expected: Vec<String> = releases.iter().map(|(name, version)| format!("{name}-{version}.crate")).collect();
    expected.sort();
    assert_eq!(names, expected);
    for (name, version) in releases {
        let file = format!("{name}-{version}.crate");
        let (_, digest) = all.iter().find(|(path, _)| path.ends_with(&file)).unwrap();
        assert_eq!(*digest, registry.checksum(name, version), "{file}");
    }
}

#[test]
fn archives_roll_at_their_size_and_tar_lists_the_earlier_tools_paths() {
    let registry = many();
    let ferry = mirrored(&registry);
    let said = archive(&ferry, "6MB", &[]).expect(0).json();
    assert_eq!((&said["written"], &said["bundles"]["written"]), (&json!(42), &json!(2)), "{said}");
    have(&ferry, 6_000_000, &registry.release_ids(), &registry);
    let archives = unpacked(&ferry.beside("out"), 6_000_000);
    assert_eq!(archives.keys().collect::<Vec<_>>(), ["bundle-0000.tar.zst", "bundle-0001.tar.zst"]);
    let listed =
        Command::new("tar").args(["--zstd", "-tvf"]).arg(ferry.beside("out/bundle-0000.tar.zst")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().next().unwrap().starts_with("-rw-r--r-- 0/0"), "{listed}");
    for path in ["abc/abc-1.0.0.crate", "c/ra/crate-00-1.0.0.crate"] {
        assert!(archives["bundle-0000.tar.zst"].contains_key(path), "{path}: {archives:?}");
    }
}

#[test]
fn the_same_mirror_makes_the_same_archives() {
    let registry = many();
    let ferry = mirrored(&registry);
    let (one, other) = (ferry.beside("one"), ferry.beside("other"));
    archive_into(&ferry, &one, "6MB", &[]).expect(0);
    let mut command =
        ferry.command("export", &["--to", other.to_str().unwrap(), "--layout", "tar-zst", "--size", "6MB"]);
    command.env("RAYON_NUM_THREADS", "1");
    ferry.start(command).wait().expect(0);
    assert!(files(&one) == files(&other));
}

#[test]
fn a_second_export_writes_what_is_new_into_new_archives() {
    let registry = many();
    let ferry = mirrored(&registry);
    archive(&ferry, "6MB", &[]).expect(0);
    let before = files(&ferry.beside("out"));
    let said = archive(&ferry, "6MB", &[]).expect(0).json();
    assert_eq!((&said["written"], &said["unchanged"]), (&json!(0), &json!(42)), "{said}");
    assert_eq!(said["bundles"], json!({ "written": 0, "unchanged": 2, "removed": 0 }));
    registry.release("alpha", "1.0.0");
    sync(&ferry, &registry);
    let said = archive(&ferry, "6MB", &[]).expect(0).json();
    assert_eq!((&said["written"], &said["bundles"]["written"]), (&json!(1), &json!(1)), "{said}");
    let after = files(&ferry.beside("out"));
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes), "what was there is as it was");
    assert_eq!(unpacked(&ferry.beside("out"), 6_000_000)["bundle-0002.tar.zst"].len(), 1);
    have(&ferry, 6_000_000, &registry.release_ids(), &registry);
}

#[test]
fn what_is_not_whole_or_too_large_is_made_anew() {
    let registry = many();
    let ferry = mirrored(&registry);
    archive(&ferry, "6MB", &[]).expect(0);
    let whole = files(&ferry.beside("out"));
    let first = ferry.beside("out/bundle-0000.tar.zst");
    let length = whole["bundle-0000.tar.zst"].len();
    let spoils: [&dyn Fn(); 5] = [
        &|| flip_bit(&first, length as u64 * 4),
        &|| std::fs::File::options().write(true).open(&first).unwrap().set_len(length as u64 / 2).unwrap(),
        &|| std::fs::File::options().write(true).open(&first).unwrap().set_len(length as u64 - 23).unwrap(),
        &|| std::fs::File::options().append(true).open(&first).unwrap().write_all(b"more").unwrap(),
        &|| std::fs::write(&first, "").unwrap(),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        spoil();
        let said = archive(&ferry, "6MB", &[]).expect(0).json();
        assert_eq!(
            (&said["bundles"]["written"], &said["bundles"]["unchanged"]),
            (&json!(1), &json!(1)),
            "{number}: {said}"
        );
        assert!(files(&ferry.beside("out")) == whole, "{number}");
    }
    std::fs::remove_dir_all(ferry.beside("out")).unwrap();
    assert_eq!(archive(&ferry, "7MB", &[]).expect(0).json()["bundles"]["written"], 1);
    let said = archive(&ferry, "6MB", &[]).expect(0).json();
    assert_eq!(said["bundles"], json!({ "written": 2, "unchanged": 0, "removed": 0 }), "{said}");
    assert!(files(&ferry.beside("out")) == whole);
}

#[test]
fn a_release_that_was_withdrawn_leaves_its_archive_when_that_is_asked_for() {
    let registry = many();
    let ferry = mirrored(&registry);
    archive(&ferry, "6MB", &[]).expect(0);
    let all = registry.release_ids();
    let checksum = registry.checksum("crate-07", "1.0.0");
    registry.delete_crate("crate-07");
    sync(&ferry, &registry);
    let said = archive(&ferry, "6MB", &[]).expect(0).json();
    assert_eq!(said["bundles"], json!({ "written": 0, "unchanged": 2, "removed": 0 }), "{said}");
    let there: Vec<String> =
        unpacked(&ferry.beside("out"), 6_000_000).into_values().flatten().map(|(_, digest)| digest).collect();
    assert!(there.contains(&checksum) && there.len() == all.len());
    let said = archive(&ferry, "6MB", &["--delete"]).expect(0).json();
    assert_eq!(said["bundles"], json!({ "written": 1, "unchanged": 1, "removed": 0 }), "{said}");
    have(&ferry, 6_000_000, &registry.release_ids(), &registry);

    for name in registry.release_ids() {
        registry.delete_crate(&name.0);
    }
    registry.release("only", "1.0.0");
    sync(&ferry, &registry);
    let said = archive(&ferry, "6MB", &["--delete"]).expect(0).json();
    assert_eq!(said["bundles"], json!({ "written": 1, "unchanged": 0, "removed": 1 }), "{said}");
    have(&ferry, 6_000_000, &registry.release_ids(), &registry);
}

#[test]
fn what_others_put_there_stays() {
    let registry = graph();
    let ferry = mirrored(&registry);
    archive(&ferry, "1MB", &[]).expect(0);
    let out = ferry.beside("out");
    // An archive with something in it that the mirror does not know.
    std::fs::write(ferry.beside("note"), "mine").unwrap();
    let made = Command::new("tar")
        .arg("--zstd")
        .arg("-cf")
        .arg(out.join("bundle-0007.tar.zst"))
        .arg("-C")
        .arg(ferry.beside(""))
        .arg("note")
        .status();
    assert!(made.unwrap().success());
    let others = ["bundle-7.tar.zst", "bundle-0000.tar", "README", "bundle-0000.tar.zst.asc"];
    others.iter().for_each(|name| std::fs::write(out.join(name), "mine").unwrap());
    std::fs::write(out.join("bundle-0009.tar.zst.part"), "left by a killed export").unwrap();
    let before = files(&out);
    registry.delete_crate("extra");
    sync(&ferry, &registry);
    let said = archive(&ferry, "1MB", &["--delete"]).expect(0).json();
    assert_eq!(said["bundles"], json!({ "written": 1, "unchanged": 1, "removed": 0 }), "{said}");
    let after = files(&out);
    assert!(others.iter().chain(&["bundle-0007.tar.zst"]).all(|name| after[*name] == before[*name]));
    assert!(!after.contains_key("bundle-0009.tar.zst.part"));
}

#[test]
fn a_crate_file_that_is_damaged_or_too_large_is_left_out_and_named() {
    let registry = many();
    let ferry = mirrored(&registry);
    let ran = archive(&ferry, "1MB", &[]).expect(1);
    let said = ran.json();
    assert_eq!((&said["written"], &said["failure_count"]), (&json!(41), &json!(1)), "{said}");
    assert_eq!(said["failures"][0]["object"], "crate file large 1.0.0");
    assert_eq!(said["failures"][0]["next"], "give a larger --size");
    let mut ids = registry.release_ids();
    ids.retain(|(name, _)| name != "large");
    have(&ferry, 1_000_000, &ids, &registry);

    for name in ["crate-03", "large"] {
        let bytes = registry.crate_bytes(name, "1.0.0");
        let (pack, at) = in_pack(&ferry, &bytes);
        flip_bit(&pack, (at + bytes.len() as u64 / 2) * 8);
    }
    std::fs::remove_dir_all(ferry.beside("out")).unwrap();
    let said = archive(&ferry, "6MB", &[]).expect(5).json();
    assert_eq!((&said["written"], &said["failure_count"]), (&json!(40), &json!(2)), "{said}");
    ids.retain(|(name, _)| name != "crate-03");
    have(&ferry, 6_000_000, &ids, &registry);
}

#[test]
fn the_longest_names_are_read_by_tar() {
    let registry = Registry::new();
    let (name, version) = ("n".repeat(64), format!("1.0.0-{}", "v".repeat(100)));
    registry.release(&name, &version);
    let ferry = mirrored(&registry);
    archive(&ferry, "1MB", &[]).expect(0);
    have(&ferry, 1_000_000, &[(name, version)], &registry);
    assert_eq!(archive(&ferry, "1MB", &[]).expect(0).json()["unchanged"], 1);
}

#[test]
fn archives_need_a_size_and_nothing_else_takes_one() {
    let ferry = mirrored(&graph());
    let to = ferry.beside("out").display().to_string();
    let export = |more: &[&str]| ferry.run("export", &[&["--to", &to], more].concat());
    export(&["--layout", "tar-zst"]).expect_error(2, "--layout tar-zst needs --size");
    export(&["--layout", "cargo", "--size", "1MB"]).expect_error(2, "--size is for --layout tar-zst alone");
    for size in ["0", "-1", "large", ""] {
        export(&["--layout", "tar-zst", &format!("--size={size}")]).expect_error(2, "--size");
    }
    assert!(!ferry.beside("out").exists());
    let said = export(&["--layout", "tar-zst", "--size", "1MiB"]).expect(0).stdout;
    assert!(said.contains("archives    wrote 1 archive, removed 0; 0 there already"), "{said}");
}
