//! Making a mirror, and opening what is left of one.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

use crateferry_store::{Mirror, OpenError, StoreLimits};

const CONFIG: &str = "format = 1\nmirror = \"0\"\n";

fn made_over(left_behind: &[&str]) -> Result<(), OpenError> {
    let root = tempfile::tempdir().unwrap();
    for name in left_behind {
        std::fs::write(root.path().join(name), "some of it").unwrap();
    }
    Mirror::create(root.path(), "0", CONFIG, StoreLimits::default()).map(drop)
}

#[test]
fn a_mirror_is_made_over_what_an_interrupted_making_left() {
    made_over(&["lock"]).unwrap();
    made_over(&["lock", "ledger.redb", "catalog.redb"]).unwrap();
    made_over(&["lock", "ledger.redb", "catalog.redb", "crateferry.part"]).unwrap();
}

#[test]
fn a_mirror_is_not_made_over_anything_else() {
    assert!(matches!(made_over(&["thesis.txt"]), Err(OpenError::NotEmpty(_))));
    assert!(matches!(made_over(&["crateferry.toml"]), Err(OpenError::Exists(_))));
}
