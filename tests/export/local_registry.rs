//! `--layout local-registry`, as cargo reads it from a disk.

use crate::project::Project;
use crate::{export, graph, mirrored, sync};

#[test]
fn cargo_builds_from_it_without_a_network() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    let project = Project::of(&format!("local-registry = {:?}", ferry.beside("out")));
    project.cargo("generate-lockfile --offline");
    assert_eq!(project.run_locked(" --offline"), "1.1.0 0.3.0");
    let locked = ["leaf-one", "extra", "a"].map(|name| project.locked(name));
    assert_eq!(locked, ["1.2.3+build.7", "2.0.0", "1.0.0"]);
    let lock = std::fs::read_to_string(project.file("Cargo.lock")).unwrap();
    assert!(!lock.contains("out"), "the lock file names crates.io alone: {lock}");
}

#[test]
fn a_yanked_release_goes_on_for_who_has_locked_it() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    let project = Project::of(&format!("local-registry = {:?}", ferry.beside("out")));
    project.cargo("generate-lockfile --offline");
    registry.yank("alpha", "1.1.0");
    sync(&ferry, &registry);
    let said = export(&ferry, "local-registry").expect(0).json();
    assert_eq!((&said["written"], &said["index"]["written"]), (&0.into(), &1.into()), "{said}");
    let project = project.with_new_home();
    assert_eq!(project.run_locked(" --offline"), "1.1.0 0.3.0");
    std::fs::remove_file(project.file("Cargo.lock")).unwrap();
    project.cargo("generate-lockfile --offline");
    assert_eq!(project.locked("alpha"), "1.0.0", "nobody else gets it");
}
