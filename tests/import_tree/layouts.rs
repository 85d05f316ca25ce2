//! Folders as other programs arrange them.

use serde_json::json;

use crate::common::Ferry;
use crate::{file_name, graph, holds_all, import, look, put, put_all, read_index, tree, wanting};

/// The folder on the way to a crate in many layouts.
fn prefix(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.len() {
        length @ (1 | 2) => length.to_string(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

#[track_caller]
fn is_taken_over(path_of: impl Fn(&str, &str) -> String) {
    let registry = graph();
    let ferry = wanting(&registry);
    let files = put_all(&ferry, &registry, path_of);
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!((&said["placed"], &said["files"]), (&json!(files), &json!(files)), "{said}");
    assert_eq!((&said["held"], &said["left_out"], &said["still_wanted"]), (&json!(0), &json!(0), &json!(0)), "{said}");
    holds_all(&ferry, &registry);
}

#[test]
fn one_folder_of_crate_files_as_cargo_and_local_registries_have_it() {
    is_taken_over(file_name);
}

#[test]
fn the_earlier_tools_folders() {
    is_taken_over(|name, version| format!("{}/{}", prefix(name), file_name(name, version)));
}

#[test]
fn panamaxs_folders() {
    is_taken_over(|name, version| format!("crates/{}/{name}/{version}/{}", prefix(name), file_name(name, version)));
}

#[test]
fn a_download_hosts_folders() {
    is_taken_over(|name, version| format!("crates/{name}/{}", file_name(name, version)));
}

#[test]
fn the_paths_of_an_api() {
    is_taken_over(|name, version| format!("api/v1/crates/{name}/{version}/download"));
}

#[test]
fn versions_in_a_folder_of_their_crate() {
    is_taken_over(|name, version| format!("{name}/{version}.crate"));
}

#[test]
fn names_that_tell_nothing() {
    is_taken_over(|name, version| format!("objects/{}", look_alike(name, version)));
}

fn look_alike(name: &str, version: &str) -> String {
    crateferry_test_support::sha256(format!("{name} {version}").as_bytes())
}

#[test]
fn what_export_wrote_makes_a_mirror_with_the_same_digest() {
    for layout in ["download", "cargo", "sharded", "local-registry"] {
        let registry = graph();
        let fetched = wanting(&registry);
        fetched.sync(&[]).expect(0);
        let to = fetched.beside("out").display().to_string();
        fetched.run("export", &["--to", &to, "--layout", layout]).expect(0);
        let taken_over = wanting(&registry);
        taken_over.run("import-tree", &[&to]).expect(0);
        assert_eq!(taken_over.digest(), fetched.digest(), "{layout}");
        holds_all(&taken_over, &registry);
    }
}

#[test]
fn what_is_held_already_is_not_taken_again() {
    let registry = graph();
    let ferry = wanting(&registry);
    let files = put_all(&ferry, &registry, file_name);
    import(&ferry, &[]).expect(0);
    let packs = ferry.packs();
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!((&said["placed"], &said["held"]), (&json!(0), &json!(files)), "{said}");
    assert_eq!(ferry.packs(), packs, "nothing was written");
}

#[test]
fn a_file_that_is_there_twice_is_taken_once() {
    let registry = graph();
    let ferry = wanting(&registry);
    let files = put_all(&ferry, &registry, file_name);
    put_all(&ferry, &registry, |name, version| format!("again/{}", file_name(name, version)));
    put_all(&ferry, &registry, |name, version| format!("nameless/{}", look_alike(name, version)));
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!((&said["placed"], &said["held"]), (&json!(files), &json!(2 * files)), "{said}");
    let packs: u64 = ferry.packs().iter().map(|(_, length)| length).sum();
    assert!(packs < 6 << 20, "{packs} bytes: the large one is there once");
    holds_all(&ferry, &registry);
}

#[test]
fn a_sync_fetches_the_rest() {
    let registry = graph();
    let ferry = wanting(&registry);
    put(&ferry, "alpha-1.0.0.crate", &registry.crate_bytes("alpha", "1.0.0"));
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!((&said["placed"], &said["still_wanted"]), (&json!(1), &json!(7)), "{said}");
    assert_eq!(look::served(&ferry, "alpha"), registry.row("alpha", "1.0.0"));
    ferry.sync(&[]).expect(0);
    assert_eq!((registry.crate_file_requests(), registry.requests_for("alpha", "1.0.0")), (7, 0));
}

#[test]
fn a_release_that_could_not_be_fetched_is_a_hole_no_more() {
    let registry = graph();
    registry.fault("abc", "1.0.0", crateferry_test_support::Fault::status(404));
    let ferry = wanting(&registry);
    ferry.sync(&[]).expect(1);
    put(&ferry, "abc-1.0.0.crate", &registry.crate_bytes("abc", "1.0.0"));
    import(&ferry, &[]).expect(0);
    assert_eq!(look::holes(&ferry), [] as [serde_json::Value; 0]);
}

#[test]
fn of_a_version_that_changed_its_checksum_the_bytes_that_are_promised_now_come() {
    let registry = graph();
    let ferry = wanting(&registry);
    let first = registry.crate_bytes("abc", "1.0.0");
    registry.republish("abc", "1.0.0", b"other");
    read_index(&ferry, &registry);
    put(&ferry, "old/abc-1.0.0.crate", &first);
    put(&ferry, "new/abc-1.0.0.crate", &registry.crate_bytes("abc", "1.0.0"));
    let said = import(&ferry, &[]).json();
    assert_eq!((&said["placed"], &said["left_out_by_kind"]), (&json!(1), &json!({ "not-wanted": 1 })), "{said}");
    assert!(look::held_bytes(&ferry, "abc", "1.0.0", &registry.checksum("abc", "1.0.0")).is_some(), "{said}");
    look::verify(&ferry);
}

#[test]
fn the_audit_record_says_where_each_crate_file_came_from() {
    let registry = graph();
    let ferry = wanting(&registry);
    let path = put(&ferry, "odd #1/alpha-1.0.0.crate", &registry.crate_bytes("alpha", "1.0.0"));
    import(&ferry, &[]).expect(0);
    let log = std::fs::read_to_string(ferry.file("log/manifest.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let folder = path.parent().unwrap().parent().unwrap().canonicalize().unwrap();
    assert_eq!(line["url"], format!("file://{}/odd%20%231/alpha-1.0.0.crate", folder.display()));
    assert_eq!((&line["ok"], &line["sha256"]), (&json!(true), &json!(registry.checksum("alpha", "1.0.0"))));
}

#[test]
fn an_empty_folder_is_taken_over_at_once() {
    let registry = graph();
    let ferry: Ferry = wanting(&registry);
    std::fs::create_dir(tree(&ferry)).unwrap();
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!((&said["files"], &said["still_wanted"]), (&json!(0), &json!(8)));
}
