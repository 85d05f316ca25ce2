//! What real clients read from the fake registry: cargo, git and curl.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod client;

use client::{Curl, cargo, git_clone, lines};
use crateferry_test_support::{Bulk, Registry, Release, sha256};

#[test]
fn cargo_builds_a_project_against_the_sparse_index() {
    let registry = Registry::new();
    registry
        .release("inner", "0.3.1")
        .release_with("outer", "1.2.0", Release::depending_on(&[("inner", "^0.3")]))
        .release_with("outer", "1.3.0", Release { yanked: true, ..Release::default() });
    let lock = cargo(&registry, &registry.sparse_url(), "outer = \"1\"", "build");
    assert!(lock.contains(&registry.checksum("outer", "1.2.0")), "{lock}");
    assert_eq!((registry.requests_for("inner", "0.3.1"), registry.requests_for("outer", "1.3.0")), (1, 0));
}

#[test]
fn cargo_finds_crate_files_without_markers_in_the_download_url() {
    let registry = Registry::builder().download_url("{base}/downloads").start();
    registry.release("serde", "1.0.0+meta");
    cargo(&registry, &registry.sparse_url(), "serde = \"1\"", "fetch");
    assert_eq!(registry.requests_for("serde", "1.0.0+meta"), 1);
    assert_eq!(registry.requests_matching(|request| request.path == "/downloads/serde/1.0.0+meta/download"), 1);
}

#[test]
fn cargo_reads_the_git_index_over_https() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    cargo(&registry, &registry.git_https_url(), "serde = \"1\"", "fetch");
    assert_eq!((registry.requests_for("serde", "1.0.0"), registry.index_requests("se/rd/serde")), (1, 0));
}

#[test]
fn git_clones_the_index_over_https() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("a", "0.1.0").commit();
    let clone = git_clone(&registry, &registry.git_https_url());
    let row = std::fs::read_to_string(clone.path().join("se/rd/serde")).unwrap();
    assert_eq!(row, registry.row("serde", "1.0.0"));
    assert!(clone.path().join("1/a").exists() && clone.path().join("config.json").exists());
    assert!(registry.git_requests() >= 2);
}

#[test]
fn git_clones_the_index_from_a_file_url() {
    let registry = Registry::new();
    registry.releases(700);
    let clone = git_clone(&registry, &registry.git_file_url());
    assert_eq!(lines(&clone.path().join("c0/00/c00042")), 7);
}

#[test]
fn a_commit_holds_what_changed_and_what_is_gone() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("old", "1.0.0").commit();
    registry.yank("serde", "1.0.0").delete_crate("old").commit();
    assert!(registry.git(&["show", "master:se/rd/serde"]).contains(r#""yanked":true"#));
    assert_eq!(registry.git(&["ls-tree", "-r", "--name-only", "master"]), "config.json\nse/rd/serde");
    assert_eq!(registry.git(&["rev-list", "--count", "master"]), "2");
}

#[test]
fn a_squash_keeps_the_tree_and_no_parent() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").commit().release("serde", "1.0.1").commit();
    let (old, tree) = (registry.git_head(), registry.git(&["rev-parse", "master^{tree}"]));
    registry.squash();
    assert_eq!(registry.git(&["rev-parse", "master^{tree}"]), tree);
    assert_eq!(registry.git(&["rev-list", "--count", "master"]), "1");
    assert_eq!(registry.git(&["for-each-ref", "--format=%(objectname)", "refs/heads/snapshot-*"]), old);
    registry.release("serde", "1.0.2").commit();
    assert_eq!(registry.git(&["rev-list", "--count", "master"]), "2");
}

#[test]
fn a_commit_after_a_forced_push_brings_everything_again() {
    let registry = Registry::new();
    registry.release("a", "1.0.0").commit().release("b", "1.0.0").commit();
    registry.force_push_older(1);
    assert!(!registry.git(&["ls-tree", "-r", "--name-only", "master"]).contains("1/b"));
    registry.commit();
    assert!(registry.git(&["ls-tree", "-r", "--name-only", "master"]).contains("1/b"));
}

#[test]
fn hostile_paths_reach_the_git_tree_and_no_folder() {
    let registry = Registry::new();
    registry.raw_index_file("../evil", "{}\n").raw_index_file(".git/hooks/x", "{}\n").commit();
    let names = registry.git(&["ls-tree", "-r", "--name-only", "master"]);
    assert_eq!(names, "../evil\n.git/hooks/x\nconfig.json");
    let folder = tempfile::tempdir().unwrap();
    registry.write_folder(&folder.path().join("index"));
    assert!(!folder.path().join("evil").exists());
}

#[test]
fn a_folder_is_a_checkout_of_the_index() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("serde", "1.0.1");
    let folder = tempfile::tempdir().unwrap();
    registry.write_folder(folder.path());
    let file = std::fs::read(folder.path().join("se/rd/serde")).unwrap();
    assert_eq!(file, registry.index_file("se/rd/serde").unwrap());
    assert_eq!(lines(&folder.path().join("se/rd/serde")), 2);
}

#[test]
fn an_unchanged_index_file_is_answered_with_304() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let url = registry.index_file_url("se/rd/serde");
    let first = Curl::new(&registry).get(&url);
    let etag = first.header("etag").unwrap();
    let date = first.header("last-modified").unwrap();
    let with = |name: &str, value: &str| Curl::new(&registry).header(name, value).get(&url).status;
    assert_eq!((with("if-none-match", &etag), with("if-modified-since", &date)), (304, 304));
    registry.yank("serde", "1.0.0");
    assert_eq!((with("if-none-match", &etag), with("if-modified-since", &date)), (200, 200));
}

#[test]
fn an_index_file_that_is_not_there_is_answered_with_404() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").delete("serde", "1.0.0");
    assert_eq!(Curl::new(&registry).get(&registry.index_file_url("se/rd/serde")).status, 404);
    assert_eq!(registry.index_requests("se/rd/serde"), 1);
}

#[test]
fn an_index_file_is_compressed_for_those_who_ask() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").gzip_index();
    let url = registry.index_file_url("se/rd/serde");
    let answer = Curl::new(&registry).option("--compressed").get(&url);
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(answer.body, registry.index_file("se/rd/serde").unwrap());
    assert_eq!(Curl::new(&registry).get(&url).header("content-encoding"), None);
}

#[test]
fn republishing_changes_bytes_and_checksum() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let before = registry.checksum("serde", "1.0.0");
    registry.republish("serde", "1.0.0", b"other");
    let body = Curl::new(&registry).get(&registry.crate_url("serde", "1.0.0")).body;
    assert_ne!(before, registry.checksum("serde", "1.0.0"));
    assert_eq!(sha256(&body), registry.checksum("serde", "1.0.0"));
}

#[test]
fn bulk_releases_have_the_bytes_that_their_rows_promise() {
    let registry = Registry::new();
    registry.releases(30).bulk(Bulk { mean_size: Some(5_000), ..Bulk::of(7) });
    for (name, version) in [("c00000", "1.0.3"), ("c00003", "1.0.6")] {
        let body = Curl::new(&registry).get(&registry.crate_url(name, version)).body;
        assert_eq!(sha256(&body), registry.checksum(name, version));
    }
}

#[test]
fn a_body_can_be_fetched_from_its_middle() {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let whole = registry.crate_bytes("serde", "1.0.0");
    let part = Curl::new(&registry).header("range", "bytes=100-").get(&registry.crate_url("serde", "1.0.0"));
    assert_eq!((part.status, part.body.as_slice()), (206, &whole[100..]));
}
