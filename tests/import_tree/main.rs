//! Folders of crate files that are taken over: every layout, every reason to leave a file out, the earlier tool's log, and an
//! import that is stopped. Nothing is ever fetched, and the folder stays as it was.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../look/mod.rs"]
mod look;

mod layouts;
mod left_out;
mod manifest;
mod names;
mod refusals;
mod stopping;

use std::path::{Path, PathBuf};

use common::{Ferry, Ran};
use crateferry_test_support::{Registry, Release};

/// Crates with what is awkward in it: dashes and digits, build metadata, upper case, short names, one that is large.
fn graph() -> Registry {
    let registry = Registry::new();
    registry
        .release("alpha", "1.0.0")
        .release("alpha", "1.1.0-rc.1+build-2.3")
        .release("md-5", "0.10.6")
        .release("Mixed_Case", "0.3.0")
        .release("a", "1.0.0")
        .release("Ab", "1.0.0")
        .release("abc", "1.0.0")
        .release_with("large", "1.0.0", Release::sized(5 << 20));
    registry
}

/// A mirror that knows the registry's index, wants all of it and holds nothing.
fn wanting(registry: &Registry) -> Ferry {
    let ferry = look::hasty(registry);
    read_index(&ferry, registry);
    ferry
}

/// Reads the index, and fetches nothing.
fn read_index(ferry: &Ferry, registry: &Registry) {
    let mut names: Vec<String> = registry.release_ids().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ferry.sync(&[&["--limit", "0", "--crate"], &names[..]].concat()).expect(0);
    registry.reset_counters();
}

/// Where a folder to be taken over is.
fn tree(ferry: &Ferry) -> PathBuf {
    ferry.beside("tree")
}

/// Writes a file of the folder.
fn put(ferry: &Ferry, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
    let path = tree(ferry).join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Writes all crate files of a registry.
fn put_all(ferry: &Ferry, registry: &Registry, path_of: impl Fn(&str, &str) -> String) -> usize {
    let ids = registry.release_ids();
    for (name, version) in &ids {
        put(ferry, path_of(name, version), &registry.crate_bytes(name, version));
    }
    ids.len()
}

/// `NAME-VERSION.crate`
fn file_name(name: &str, version: &str) -> String {
    format!("{name}-{version}.crate")
}

/// `crateferry import-tree` of the folder, with `--json`. Whatever comes of it, the folder stays as it was.
#[track_caller]
fn import(ferry: &Ferry, arguments: &[&str]) -> Ran {
    let before = contents(&tree(ferry));
    let from = tree(ferry).display().to_string();
    let ran = ferry.run("import-tree", &[&[from.as_str(), "--json"], arguments].concat());
    assert!(contents(&tree(ferry)) == before, "the folder is another one now");
    ran
}

/// Every file with its bytes, where it can be read.
fn contents(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(contents(&entry.path()));
        } else {
            let bytes = if kind.is_file() { std::fs::read(entry.path()).ok() } else { None };
            found.push((entry.path(), bytes));
        }
    }
    found.sort();
    found
}

/// The mirror holds, serves and proves all of the registry, and asked it for no crate file.
#[track_caller]
fn holds_all(ferry: &Ferry, registry: &Registry) {
    let status = ferry.status();
    assert_eq!(status["releases"]["held"], registry.release_ids().len(), "{status}");
    let mut names: Vec<String> = registry.release_ids().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    for name in names {
        let rows: String = registry
            .release_ids()
            .iter()
            .filter(|(of, _)| *of == name)
            .map(|(name, version)| registry.row(name, version))
            .collect();
        assert_eq!(look::served(ferry, &name), rows);
    }
    look::verify(ferry);
    ferry.sync(&[]).expect(0);
    assert_eq!(registry.crate_file_requests(), 0, "nothing was fetched");
}
