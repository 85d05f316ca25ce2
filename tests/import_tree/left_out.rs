//! Files that do not come into the mirror, each with its reason.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::common::Ran;
use crate::{graph, holds_all, import, look, put, put_all, tree, wanting};

/// The files that were left out: path, kind and problem.
fn left_out(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let said = ran.json();
    let files = said["left_out_files"].as_array().unwrap();
    files.iter().map(|left| (text(&left["path"]), (text(&left["kind"]), text(&left["problem"])))).collect()
}

#[track_caller]
fn is_left_out(ran: &Ran, path: &str, kind: &str, problem: &str) {
    let left = left_out(ran);
    let (of, why) = &left.get(path).unwrap_or_else(|| panic!("{path} is not listed: {left:?}"));
    assert!(of == kind && why.contains(problem), "{path}: {of}: {why}");
}

#[test]
fn each_file_that_is_left_out_is_named_with_its_reason() {
    let registry = graph();
    registry.release("alpha", "0.9.0").yank("alpha", "0.9.0");
    let ferry = wanting(&registry);
    let wrong = put(&ferry, "alpha-1.0.0.crate", b"other bytes");
    put(&ferry, "a/alpha-0.9.0.crate", &registry.crate_bytes("alpha", "0.9.0"));
    put(&ferry, "a/alpha-7.0.0.crate", b"x");
    put(&ferry, "b/beta-1.0.0.crate", b"x");
    put(&ferry, "c/nonsense.crate", b"x");
    put(&ferry, "README.md", b"\x1f\x8b but no crate file");
    put(&ferry, "index/config.json", b"{}");
    symlink(&wrong, tree(&ferry).join("abc-1.0.0.crate")).unwrap();
    symlink("..", tree(&ferry).join("c/up")).unwrap();
    put(&ferry, "good-as-named/a-1.0.0.crate", &registry.crate_bytes("a", "1.0.0"));

    let ran = import(&ferry, &[]).expect(1);
    is_left_out(&ran, "alpha-1.0.0.crate", "other-bytes", &registry.checksum("alpha", "1.0.0"));
    is_left_out(&ran, "a/alpha-0.9.0.crate", "not-wanted", "yanked");
    is_left_out(&ran, "a/alpha-7.0.0.crate", "unknown", "no such version");
    is_left_out(&ran, "b/beta-1.0.0.crate", "unknown", "no such crate");
    is_left_out(&ran, "c/nonsense.crate", "unknown", "no release in the index has these bytes");
    is_left_out(&ran, "abc-1.0.0.crate", "link", "not followed");
    let said = ran.json();
    let kinds = json!({ "other-bytes": 1, "not-wanted": 1, "unknown": 3, "link": 1 });
    assert_eq!((&said["left_out"], &said["left_out_by_kind"]), (&json!(6), &kinds));
    assert_eq!((&said["placed"], &said["others"], &said["files"]), (&json!(1), &json!(3), &json!(10)), "{said}");
    assert!(ran.stderr.contains("left out") && ran.stderr.contains("b/beta-1.0.0.crate"), "{}", ran.stderr);
    assert_eq!(look::served(&ferry, "alpha"), "");
    look::verify(&ferry);
}

#[test]
fn people_see_some_lines_and_the_counts() {
    let registry = graph();
    let ferry = wanting(&registry);
    for number in 0..15 {
        put(&ferry, format!("none-1.0.{number}.crate"), b"x");
    }
    let from = tree(&ferry).display().to_string();
    let said = ferry.run("import-tree", &[&from]).expect(1).stdout;
    for words in
        ["placed      0 crate files", "LEFT OUT    15 files (15 unknown):", "and 5 more", "wanted      8 releases"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.matches("no such crate").count(), 10, "{said}");
}

#[test]
fn a_file_of_a_held_release_with_another_length_is_another_file() {
    let registry = graph();
    let ferry = wanting(&registry);
    put_all(&ferry, &registry, crate::file_name);
    import(&ferry, &[]).expect(0);
    put(&ferry, "abc-1.0.0.crate", b"short");
    let ran = import(&ferry, &[]).expect(1);
    is_left_out(&ran, "abc-1.0.0.crate", "other-bytes", "they are 5, and those of the release");
    holds_all(&ferry, &registry);
}

#[test]
fn an_accepted_hole_stays_left_out() {
    let registry = graph();
    registry.fault("abc", "1.0.0", crateferry_test_support::Fault::status(404));
    let ferry = wanting(&registry);
    ferry.sync(&[]).expect(1);
    ferry.run("holes", &["accept", "abc@1.0.0"]).expect(0);
    let bytes = registry.crate_bytes("abc", "1.0.0");
    put(&ferry, "abc-1.0.0.crate", &bytes);
    put(&ferry, "nameless.crate", &bytes);
    let ran = import(&ferry, &[]).expect(1);
    is_left_out(&ran, "abc-1.0.0.crate", "not-wanted", "left out for good");
    is_left_out(&ran, "nameless.crate", "not-wanted", "left out for good");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_comes() {
    let registry = graph();
    let ferry = wanting(&registry);
    put_all(&ferry, &registry, crate::file_name);
    let locked = tree(&ferry).join("abc-1.0.0.crate");
    let folder = tree(&ferry).join("closed");
    std::fs::create_dir(&folder).unwrap();
    for (path, mode) in [(&locked, 0o000), (&folder, 0o000)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let is_permitted = File::open(&locked).is_ok();
    let from = tree(&ferry).display().to_string();
    let ran = ferry.run("import-tree", &[&from, "--json"]);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    if is_permitted {
        eprintln!("SKIPPED: this user may read everything");
        return;
    }
    let ran = ran.expect(1);
    is_left_out(&ran, "abc-1.0.0.crate", "unreadable", "cannot open it");
    is_left_out(&ran, "closed", "unreadable", "cannot list it");
    assert_eq!(ran.json()["placed"], 7);
}

#[test]
fn a_file_that_is_too_large_for_a_crate_file_is_not_read() {
    let registry = graph();
    let ferry = wanting(&registry);
    std::fs::create_dir(tree(&ferry)).unwrap();
    for name in ["abc-1.0.0.crate", "nonsense.crate", "disk.img"] {
        File::create(tree(&ferry).join(name)).unwrap().set_len(600 << 20).unwrap();
    }
    let from = tree(&ferry).display().to_string();
    let ran = ferry.run("import-tree", &[&from, "--json"]).expect(1);
    is_left_out(&ran, "abc-1.0.0.crate", "too-large", "629145600 bytes");
    is_left_out(&ran, "nonsense.crate", "too-large", "629145600 bytes");
    assert_eq!(ran.json()["others"], 1);
}
