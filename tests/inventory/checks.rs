//! `--check`: every difference is named, of a folder and of an archive.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::bench::{Place, said};

/// A folder with one of each kind.
fn one_of_each() -> Place {
    let large = vec![6; 2_000_000];
    let files: [(&[u8], &[u8]); 6] =
        [(b"a", b"one"), (b"b", b"two"), (b"c", b"three"), (b"d/e", b"four"), (b"f", &large), (b"g", b"five")];
    let place = Place::with(&files);
    symlink("a", place.files().join("link")).unwrap();
    place
}

/// Spoils one of each kind, and says what should be told.
fn spoil(place: &Place) -> Value {
    let files = place.files();
    fs::write(files.join("a"), "0ne").unwrap();
    fs::write(files.join("b"), "twotwo").unwrap();
    fs::remove_file(files.join("c")).unwrap();
    fs::write(files.join("d/extra"), "").unwrap();
    let mut large = fs::read(files.join("f")).unwrap();
    large[1_500_000] ^= 1;
    fs::write(files.join("f"), large).unwrap();
    fs::remove_file(files.join("g")).unwrap();
    symlink("a", files.join("g")).unwrap();
    fs::remove_file(files.join("link")).unwrap();
    symlink("b", files.join("link")).unwrap();
    let both = json!(["sha256", "xxh64"]);
    json!([
        {"path": "a", "difference": "digest", "algorithms": both},
        {"path": "b", "difference": "size", "expected": 3, "found": 6},
        {"path": "c", "difference": "missing"},
        {"path": "d/extra", "difference": "extra"},
        {"path": "f", "difference": "digest", "algorithms": both},
        {"path": "g", "difference": "type", "expected": "file", "found": "link"},
        {"path": "link", "difference": "target", "expected": "a", "found": "b"},
        {"difference": "digest", "algorithms": ["sha256"]},
    ])
}

const HASHES: [&str; 4] = ["--hashes", "sha256,xxh64", "--whole", "sha256"];

#[test]
fn a_folder_that_is_as_it_was_passes_and_one_that_is_not_has_each_difference_named() {
    let place = one_of_each();
    place.inventory(&HASHES).expect(0);
    assert!(place.check(&[]).expect(0).stdout.contains("all of it is as the inventory says"));
    let differences = spoil(&place);
    assert_eq!(place.check(&["files", "--json"]).expect(5).json()["differences"], differences);
    let said = place.check(&[]).expect(5).stdout;
    for line in [
        "a: other bytes: sha256, xxh64 differ",
        "b: its size was 3, now 6",
        "c: missing",
        "d/extra: extra: the inventory does not have it",
        "g: it was a file, now it is a link",
        "link: the link said a, now b",
        "all contents together: other bytes: sha256 differ",
    ] {
        assert!(said.contains(line), "{line:?} is not said: {said}");
    }
}

#[test]
fn an_archive_is_compared_in_whatever_way_and_order_it_was_made() {
    let place = one_of_each();
    fs::hard_link(place.files().join("a"), place.files().join("zz")).unwrap();
    place.inventory(&HASHES).expect(0);
    let tar = |arguments: &[&str]| {
        let (root, archive) = (place.path("").into_os_string(), place.path("x.tar").into_os_string());
        let mut all = vec!["-C".as_ref(), root.as_os_str(), "-cf".as_ref(), archive.as_os_str()];
        all.extend(arguments.iter().map(std::ffi::OsStr::new));
        said("tar", "tar", &all);
    };
    let forms: [&[&str]; 5] = [
        &["files"],
        &["-C", "files", "."],
        &["--format=posix", "files"],
        &["--format=gnu", "files"],
        &["-C", "files", "zz", "f", "link", "g", "d/e", "a", "c", "b"],
    ];
    for form in forms {
        tar(form);
        let said = place.check(&["x.tar", "--json"]).expect(0).json();
        assert_eq!((&said["files"], &said["whole"]), (&json!(7), &json!(["sha256"])), "{form:?}");
    }
    let differences = spoil(&place);
    // The hard link goes with what it was linked to.
    fs::write(place.files().join("zz"), "one").unwrap();
    tar(&["files"]);
    let without = |mut differences: Value, paths: &[&str]| {
        differences.as_array_mut().unwrap().retain(|entry| !paths.iter().any(|path| entry["path"] == **path));
        differences
    };
    let found = place.check(&["x.tar", "--json"]).expect(5).json()["differences"].take();
    assert_eq!(without(found, &["a", "zz"]), without(differences, &["a"]));
}

#[test]
fn long_names_in_archives_are_compared_whole() {
    let long = [b"l/".repeat(80), vec![b'n'; 250]].concat();
    let place = Place::with(&[(&long, b"content")]);
    place.inventory(&HASHES).expect(0);
    for format in ["--format=posix", "--format=gnu"] {
        let (root, archive) = (place.path(""), place.path("x.tar"));
        let arguments =
            ["-C".as_ref(), root.as_os_str(), format.as_ref(), "-cf".as_ref(), archive.as_os_str(), "files".as_ref()];
        said("tar", "tar", &arguments);
        place.check(&["x.tar"]).expect(0);
    }
}

#[test]
fn a_member_that_leads_out_of_an_archive_is_an_error_and_nothing_is_touched() {
    let place = Place::small();
    place.inventory(&HASHES).expect(0);
    fs::write(place.path("outside"), "x").unwrap();
    let (files, archive) = (place.files(), place.path("x.tar"));
    let arguments = [
        "-C".as_ref(),
        files.as_os_str(),
        "-P".as_ref(),
        "-cf".as_ref(),
        archive.as_os_str(),
        ".".as_ref(),
        "../outside".as_ref(),
    ];
    said("tar", "tar", &arguments);
    let said = place.check(&["x.tar", "--json"]).expect(3).json();
    assert_eq!(said["problems"][0]["path"], "../outside");
}

#[test]
fn what_is_no_archive_or_no_inventory_is_said_so() {
    let place = Place::small();
    place.inventory(&HASHES).expect(0);
    fs::write(place.path("x.tar"), [b'x'; 2000]).unwrap();
    place.check(&["x.tar"]).expect_error(3, "as a tar archive");
    place.check(&["nowhere"]).expect_error(2, "nowhere");
    let document = String::from_utf8(place.read("files.yaml")).unwrap();
    let spoiled = [
        document.replace("schemaVersion: 1", "schemaVersion: 2"),
        document.replace("schemaVersion: 1\n", ""),
        document.replace("complete:", "surprise:"),
        document.replace("- path: a\n", "- path: z\n"),
        document.replace("in/b", "a"),
        document.replace("  size: 3\n", ""),
        document.replace("    xxh64: ", "    md5: "),
        document.replacen("    xxh64: ", "    # ", 1),
        document.replace("    xxh64: ", "    xxh64: 00"),
        document[..document.len() / 2].to_owned(),
        String::new(),
        "[".repeat(100_000),
        "a: &a [1]\nb: *a".to_owned(),
    ];
    for (number, spoiled) in spoiled.iter().enumerate() {
        assert_ne!(*spoiled, document, "{number}");
        fs::write(place.path("files.yaml"), spoiled).unwrap();
        let ran = place.check(&[]);
        assert!(
            ran.code == Some(3) && ran.stderr.contains("cannot read files.yaml as an inventory"),
            "{number}: {ran:?}"
        );
    }
}

#[test]
fn an_inventory_that_could_not_read_something_passes_nothing_for_it() {
    let place = Place::small();
    place.inventory(&["--hashes", "sha256"]).expect(0);
    let document = String::from_utf8(place.read("files.yaml")).unwrap();
    let end = document.find("files:\n").unwrap();
    let unread = "- path: a\n  type: unread\n  problem: gone\n";
    let rest = document.find("- path: in/b").unwrap();
    fs::write(place.path("files.yaml"), format!("{}files:\n{unread}{}", &document[..end], &document[rest..])).unwrap();
    let said = place.check(&["--json"]).expect(5).json();
    assert_eq!(said["differences"][0], json!({"path": "a", "difference": "notInventoried"}));
}
