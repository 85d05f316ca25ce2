//! An index in a folder, compared by content; and the names that operators give to upstreams.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is an answer, and files are made"
)]

mod upstream_rig;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use crateferry_pipeline::upstream::{FolderIndex, Scope, Upstream, UpstreamError, UpstreamSpec};
use tempfile::TempDir;
use upstream_rig::*;

fn three() -> Repo {
    let repo = Repo::new();
    repo.release("a", "1.0.0").release("Serde", "1.0.0").release("syn", "1.0.0");
    repo
}

fn upstream(repo: &Repo) -> Upstream {
    Upstream::Folder(FolderIndex::new(repo.path(), 1999))
}

#[tokio::test]
async fn a_folder_brings_what_is_new_changed_and_gone() {
    let repo = three();
    let ledger: Arc<Ledger> = Arc::default();
    compare(&upstream(&repo), Scope::All, &ledger, None).await.expect(&["+a", "+serde", "+syn"]);
    compare(&upstream(&repo), Scope::All, &ledger, None).await.expect(&[]);
    repo.write("se/rd/serde", &line("Serde", "1.0.0", true));
    repo.release("tokio", "1.0.0").delete("syn");
    compare(&upstream(&repo), Scope::All, &ledger, None).await.expect(&["+serde", "+tokio", "-syn"]);
    assert_eq!(ledger.names(), ["a", "serde", "tokio"]);
}

#[tokio::test]
async fn a_selection_looks_at_its_own_files_only() {
    let repo = three();
    let ledger: Arc<Ledger> = Arc::default();
    compare(&upstream(&repo), names(&["syn", "nosuch"]), &ledger, None).await.expect(&["+syn", "!no/su/nosuch"]);
    repo.delete("syn");
    compare(&upstream(&repo), names(&["syn"]), &ledger, None).await.expect(&["-syn"]);
}

#[tokio::test]
async fn links_are_not_followed_in_any_part_of_a_path() {
    let repo = three();
    let outside = TempDir::new().unwrap();
    fs::create_dir(outside.path().join("io")).unwrap();
    fs::write(outside.path().join("io/rayon"), line("rayon", "1.0.0", false)).unwrap();
    symlink(outside.path().join("io"), repo.path().join("io")).unwrap();
    fs::create_dir_all(repo.path().join("li/nk")).unwrap();
    symlink("/etc/passwd", repo.path().join("li/nk/link")).unwrap();
    symlink(outside.path(), repo.path().join("ra")).unwrap();
    let ledger: Arc<Ledger> = Arc::default();
    let all = compare(&upstream(&repo), Scope::All, &ledger, None).await;
    all.expect(&["+a", "+serde", "+syn", "!io", "!li/nk/link", "!ra"]);
    let named = compare(&upstream(&repo), names(&["rayon", "link"]), &ledger, None).await;
    named.expect(&["!ra/yo/rayon", "!li/nk/link"]);
}

#[tokio::test]
async fn hostile_names_and_large_files_are_reported_and_the_rest_goes_on() {
    let repo = three();
    repo.commit();
    repo.write("README.md", "an index");
    repo.write("se/rd/nul", "{}");
    repo.write("xx/yy/tokio", "{}");
    repo.write("to/ki/tokio/deep/deeper", "{}");
    repo.write("la/rg/large", &"x".repeat(2000));
    fs::create_dir(repo.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"))).unwrap();
    let outcome = compare(&upstream(&repo), Scope::All, &Arc::default(), None).await;
    let odd = "!\u{fffd}\u{fffd}";
    outcome.expect(&["+a", "+serde", "+syn", "!se/rd/nul", "!xx/yy/tokio", "!to/ki/tokio", "!la/rg/large", odd]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_deletes_nothing() {
    let ledger: Arc<Ledger> = Arc::default();
    ledger.put("syn", b"{}", None);
    let upstream = Upstream::Folder(FolderIndex::new("/nonexistent/index", 1999));
    for scope in [Scope::All, names(&["syn"])] {
        let outcome = compare(&upstream, scope, &ledger, None).await;
        outcome.expect(&[]);
        assert!(matches!(outcome.mark, Err(UpstreamError::Folder { .. })));
    }
    assert!(matches!(config_of(&upstream).await, Err(UpstreamError::Folder { .. })));
}

#[tokio::test]
async fn a_folder_may_have_a_configuration() {
    let repo = three();
    assert_eq!(config_of(&upstream(&repo)).await.unwrap().unwrap().dl, "https://registry.test/dl");
    fs::remove_file(repo.path().join("config.json")).unwrap();
    assert_eq!(config_of(&upstream(&repo)).await.unwrap(), None);
    repo.write("config.json", "{}");
    let error = config_of(&upstream(&repo)).await.unwrap_err();
    assert!(crateferry_pipeline::error_chain(&error).contains("dl"), "{error:?}");
}

#[test]
fn upstreams_are_named_as_people_write_them() {
    let parse = |text: &str| text.parse::<UpstreamSpec>();
    assert_eq!(parse("crates-io").unwrap(), UpstreamSpec::CratesIo);
    assert!(matches!(parse("sparse+https://registry.test/index/").unwrap(), UpstreamSpec::Sparse(_)));
    assert!(matches!(parse("https://registry.test/index.git").unwrap(), UpstreamSpec::Git(_)));
    assert!(matches!(parse("file:///srv/index").unwrap(), UpstreamSpec::Git(_)));
    for bad in ["", "sparse+file:///x", "sparse+", "ssh://git@registry.test/x", "https://", "sparse+https://"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    for text in ["crates-io", "sparse+https://registry.test/index/", "https://registry.test/index.git", "file:///srv/x"]
    {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_bare_repository_is_read_by_git_and_a_checkout_as_files() {
    let repo = three();
    repo.commit();
    let text = repo.path().to_str().unwrap();
    assert_eq!(text.parse::<UpstreamSpec>().unwrap(), UpstreamSpec::Folder(repo.path().to_owned()));
    let bare = repo.path().join(".git");
    assert!(matches!(bare.to_str().unwrap().parse::<UpstreamSpec>().unwrap(), UpstreamSpec::Git(_)));
}

#[test]
fn crates_io_is_read_by_git_for_all_and_by_its_sparse_index_for_a_selection() {
    let url = |scope: &Scope| UpstreamSpec::CratesIo.url(scope).unwrap();
    assert_eq!(url(&Scope::All).path(), "/rust-lang/crates.io-index");
    assert_eq!(url(&names(&["a"])).scheme(), "https");
    assert_ne!(url(&names(&["a"])).host_str(), url(&Scope::All).host_str());
}
