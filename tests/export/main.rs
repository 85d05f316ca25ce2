//! Folders that other programs read: each layout of `export` as the real cargo sees it, from a disk and from nginx, and what
//! becomes of an export that something goes wrong with.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../look/mod.rs"]
mod look;

mod bundles;
mod damage;
mod delete;
mod folder;
mod link_dest;
mod local_registry;
mod nginx;
mod project;
mod refresh;
mod static_files;
mod usage;

use common::{Ferry, Ran};
use crateferry_test_support::{Dep, Registry, Release};

/// A small graph with what is awkward in it: build metadata, upper case, an underscore, names of one to three letters, a
/// renamed dependency and one that only a feature brings.
fn graph() -> Registry {
    let registry = Registry::new();
    let renamed = Dep { name: "renamed".into(), package: Some("Mixed_Case".into()), ..Dep::on("", "^0.3") };
    let alpha = Release {
        deps: vec![Dep::on("leaf-one", "^1.2"), renamed, Dep::on("a", "1"), Dep::optional("extra", "^2")],
        features2: Some([("more".to_owned(), vec!["dep:extra".to_owned()])].into()),
        v: Some(2),
        ..Release::default()
    };
    registry
        .release_with("alpha", "1.0.0", alpha.clone())
        .release_with("alpha", "1.1.0", alpha)
        .release("leaf-one", "1.2.3+build.7")
        .release("Mixed_Case", "0.3.0")
        .release("extra", "2.0.0")
        .release("a", "1.0.0")
        .release("Ab", "1.0.0")
        .release("abc", "1.0.0");
    registry
}

/// Mirrors all that the registry has now.
fn sync(ferry: &Ferry, registry: &Registry) {
    let mut names: Vec<String> = registry.release_ids().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ferry.sync(&[&["--crate"], &names[..], &["--include-yanked", "--accept-shrink"]].concat()).expect(0);
}

fn mirrored(registry: &Registry) -> Ferry {
    let ferry = look::hasty(registry);
    sync(&ferry, registry);
    ferry
}

/// `crateferry export` into the folder `out` beside the mirror, with `--json`.
fn export(ferry: &Ferry, layout: &str) -> Ran {
    let to = ferry.beside("out").display().to_string();
    let url: &[&str] = if layout == "static" { &["--public-url", "http://127.0.0.1:1"] } else { &[] };
    ferry.run("export", &[&["--to", &to, "--layout", layout, "--json"], url].concat())
}
