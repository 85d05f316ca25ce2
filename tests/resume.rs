//! A sync that is killed goes on where it was.

mod common;

use common::Ferry;
use crateferry_test_support::Registry;

#[test]
fn a_restart_with_nothing_left_asks_for_nothing() {
    let registry = Registry::new();
    registry.releases(20);
    let ferry = Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    registry.reset_counters();
    let said = ferry.sync(&[]).expect(0).json();
    assert_eq!(said["held"], 20);
    assert_eq!(registry.requests(), 0);
    ferry.configure("network", "retry-base = \"1ms\"");
    assert_eq!(ferry.digest(), ferry.copy().digest());
}
