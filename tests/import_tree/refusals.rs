//! What import-tree does not begin.

use crateferry_test_support::{Fault, Registry};

use crate::common::{Ferry, Ran};
use crate::{graph, look, put, wanting};

fn import_from(ferry: &Ferry, from: &str) -> Ran {
    ferry.run("import-tree", &[from])
}

#[test]
fn a_mirror_is_no_source_for_itself() {
    let registry = graph();
    let ferry = wanting(&registry);
    let path = |name: &str| ferry.beside(name).display().to_string();
    import_from(&ferry, &path("mirror")).expect_error(2, "is the mirror itself");
    import_from(&ferry, &path("mirror/packs")).expect_error(2, "lies in the mirror");
    import_from(&ferry, &path("")).expect_error(2, "has the mirror in it");
    std::os::unix::fs::symlink(ferry.mirror(), ferry.beside("link")).unwrap();
    import_from(&ferry, &path("link")).expect_error(2, "is the mirror itself");
    import_from(&ferry, &path("link/../mirror/log")).expect_error(2, "lies in the mirror");
}

#[test]
fn a_folder_that_is_not_there_or_none_is_named() {
    let ferry = wanting(&graph());
    let path = |name: &str| ferry.beside(name).display().to_string();
    import_from(&ferry, &path("nowhere")).expect_error(2, "cannot find");
    let file = put(&ferry, "file", b"x").display().to_string();
    import_from(&ferry, &file).expect_error(2, "is no folder");
    let tree = path("tree");
    ferry.run("import-tree", &[&tree, "--manifest", &path("none.jsonl")]).expect_error(2, "none.jsonl");
    ferry.run("import-tree", &[&tree, "--manifest", &tree]).expect_error(2, "is a folder");
}

#[test]
fn a_mirror_that_knows_no_index_says_how_to_read_one() {
    let registry = graph();
    let ferry = look::hasty(&registry);
    put(&ferry, "abc-1.0.0.crate", &registry.crate_bytes("abc", "1.0.0"));
    let tree = ferry.beside("tree").display().to_string();
    import_from(&ferry, &tree).expect_error(2, "--all --limit 0");
    ferry.sync(&["--crate", "abc", "--limit", "0"]).expect(0);
    import_from(&ferry, &tree).expect(0);
    assert_eq!(look::served(&ferry, "abc"), registry.row("abc", "1.0.0"));
}

#[test]
fn where_no_mirror_is_none_is_made() {
    let registry = Registry::new();
    let ferry = Ferry::sparse(&registry);
    put(&ferry, "abc-1.0.0.crate", b"x");
    import_from(&ferry, &ferry.beside("tree").display().to_string()).expect_error(2, "there is no mirror in");
    assert!(!ferry.mirror().exists());
}

#[test]
fn a_mirror_that_a_sync_writes_is_named_as_locked() {
    let registry = graph();
    registry.fault("abc", "1.0.0", Fault::held());
    let ferry = Ferry::sparse(&registry);
    let running = ferry.start_sync(&["--crate", "abc"]);
    registry.wait_for(1, |request| request.path.ends_with("abc-1.0.0.crate"));
    put(&ferry, "abc-1.0.0.crate", b"x");
    let locked = format!("locked by process {}", running.id());
    import_from(&ferry, &ferry.beside("tree").display().to_string()).expect_error(4, &locked);
    registry.let_go();
    running.wait().expect(0);
}
