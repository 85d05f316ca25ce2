//! What a plan says, and whether that is what the sync then does.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fmt::Write as _;
use std::fs::File;

use common::Ferry;
use crateferry_test_support::{Dep, Registry, Release};
use serde_json::{Value, json};

fn plan(ferry: &Ferry, arguments: &[&str]) -> Value {
    ferry.run("plan", &[arguments, &["--json"]].concat()).json()
}

/// A dump that tells the length of each of the registry's crate files but those of `but`.
fn dump_of(registry: &Registry, but: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db-dump.tar.gz");
    let ids = registry.release_ids();
    let mut names: Vec<&str> = ids.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let id_of = |name: &str| names.iter().position(|known| *known == name).unwrap();
    let mut crates = "id,name\n".to_owned();
    for name in &names {
        writeln!(crates, "{},{name}", id_of(name)).unwrap();
    }
    let mut versions = "crate_id,num,crate_size,license,created_at\n".to_owned();
    for (name, version) in ids.iter().filter(|(name, _)| name != but) {
        let length = registry.crate_bytes(name, version).len();
        writeln!(versions, "{},{version},{length},MIT,2024-05-01 00:00:00+00", id_of(name)).unwrap();
    }
    let tables = [
        ("crates", crates.as_str()),
        ("versions", &versions),
        ("crate_downloads", "crate_id,downloads\n"),
        ("crate_owners", "crate_id,owner_id,owner_kind\n"),
        ("users", "id,gh_login\n"),
        ("teams", "id,login\n"),
    ];
    let file = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(file);
    for (table, text) in tables {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("2026-01-01/data/{table}.csv"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn registry() -> Registry {
    let registry = Registry::new();
    let sized = |size: usize, pubtime: &str| Release {
        size_hint: Some(size),
        pubtime: Some(format!("{pubtime}T00:00:00Z")),
        ..Release::default()
    };
    for minor in 0..12 {
        let month = minor + 1;
        registry.release_with(
            "alpha",
            &format!("1.{minor}.0"),
            sized(20_000 + 500 * minor, &format!("2025-{month:02}-15")),
        );
    }
    registry.release_with("beta", "0.1.0", sized(300_000, "2024-02-01"));
    registry.release_with("gamma", "0.1.0", sized(5_000, "2026-02-01"));
    registry
}

#[test]
fn a_plan_is_exact_where_lengths_are_known_and_equals_what_the_sync_does() {
    let registry = registry();
    let (_folder, dump) = dump_of(&registry, "");
    for line in [&["--all"][..], &["--all", "--newest", "2"], &["--all", "--published-after", "2025-06-01"]] {
        let ferry = Ferry::git(&registry);
        let planned = plan(&ferry, &[line, &["--dump", &dump, "--volume-size", "50kB", "--rate", "1MB"]].concat());
        let costs = &planned["costs"];
        let said = ferry.sync(line).expect(0).json();
        assert_eq!(planned["fetch"], said["releases"]["stored"], "{line:?}");
        assert_eq!(costs["crate_files"], json!({"bytes": said["releases"]["bytes"], "margin": 0}), "{line:?}");
        assert_eq!(costs["known"], planned["fetch"]);
        let bytes = said["releases"]["bytes"].as_u64().unwrap();
        assert_eq!(costs["volumes"].as_u64(), Some(bytes.div_ceil(50_000)));
        assert_eq!(costs["fits"], true);
        assert!((costs["seconds"].as_f64().unwrap() - bytes as f64 / 1e6).abs() < 1e-6);
        // And then there is nothing left to do.
        let again = plan(&ferry, line);
        assert_eq!((&again["fetch"], &again["costs"]["crate_files"]["bytes"]), (&json!(0), &json!(0)), "{line:?}");
        assert_eq!(again["held"], said["releases"]["stored"]);
    }
}

#[test]
fn what_is_not_known_is_estimated_with_a_margin_and_from_held_releases_of_the_same_crate() {
    let registry = registry();
    let (_folder, dump) = dump_of(&registry, "alpha");
    let ferry = Ferry::git(&registry);
    let planned = plan(&ferry, &["--all", "--dump", &dump]);
    assert_eq!((&planned["fetch"], &planned["costs"]["known"]), (&json!(14), &json!(2)));
    assert!(planned["costs"]["crate_files"]["margin"].as_u64().unwrap() > 0, "{planned}");

    ferry.sync(&["--crate", "alpha@<1.6"]).expect(0);
    let planned = plan(&ferry, &["--crate", "alpha"]);
    let estimate = &planned["costs"]["crate_files"];
    let truth: u64 = (6..12).map(|minor| registry.crate_bytes("alpha", &format!("1.{minor}.0")).len() as u64).sum();
    let (bytes, margin) = (estimate["bytes"].as_u64().unwrap(), estimate["margin"].as_u64().unwrap());
    assert!(bytes.abs_diff(truth) <= margin && bytes.abs_diff(truth) < truth / 5, "{estimate} of {truth}");
}

#[test]
fn growth_is_told_by_month() {
    let registry = registry();
    let (_folder, dump) = dump_of(&registry, "");
    let ferry = Ferry::git(&registry);
    let growth = &plan(&ferry, &["--all", "--dump", &dump])["growth"];
    let length = registry.crate_bytes("beta", "0.1.0").len();
    assert_eq!(growth["2024-02"], json!([1, length]), "{growth}");
    assert_eq!(growth.as_object().unwrap().len(), 14);
    let shown = ferry.run("plan", &["--all", "--dump", &dump]).expect(0).stdout;
    assert!(shown.contains("2026-02   1 release") && !shown.contains("2024-02"), "the last twelve months: {shown}");
}

#[test]
fn a_plan_proves_that_what_is_kept_can_be_resolved_or_names_what_cannot() {
    let registry = Registry::new();
    let with = |deps: Vec<Dep>| Release { deps, ..Release::default() };
    registry.release_with("app", "1.0.0", with(vec![Dep::on("lib", "^1"), Dep::optional("extra", "^1")]));
    registry.release_with("app", "2.0.0", with(vec![Dep::on("lib", "^2")]));
    registry.release_with(
        "odd",
        "1.0.0",
        with(vec![Dep { registry: Some("https://other".into()), ..Dep::on("far", "^1") }]),
    );
    registry.release("lib", "1.0.0").release("lib", "2.0.0").release("extra", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.init();
    let before = ferry.packs();
    let closed = ferry.run("plan", &["--crate", "app", "--closure", "full", "--prove"]).expect(0);
    assert!(closed.stdout.contains("proven      each of 5 releases can be resolved"), "{}", closed.stdout);

    let ran = ferry.run("plan", &["--crate", "app", "lib@^1", "odd", "--prove", "--json"]).expect(1);
    let proof = &ran.json()["proof"];
    let found = |list: &str| -> Vec<String> {
        let lines = proof[list].as_array().unwrap().iter();
        lines.map(|line| format!("{} {} {}", line["name"], line["needs"], line["why"]).replace('"', "")).collect()
    };
    assert_eq!(
        found("lacking"),
        ["app lib none of its 1 kept releases fits", "odd far it is of another registry, https://other"]
    );
    assert_eq!(found("without_features"), ["app extra no release of it is kept"]);
    assert_eq!(ferry.packs(), before, "a plan records nothing");
}

#[test]
fn a_sync_that_cannot_fit_is_not_begun_unless_it_is_told_to() {
    // A small disk of its own takes a namespace of its own.
    let is_possible =
        std::process::Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    assert!(is_possible.is_ok_and(|status| status.success()), "unshare cannot make namespaces here");
    let registry = Registry::new();
    let large = |at: usize| Release { size_hint: Some(8_000_000 + at), ..Release::default() };
    for at in 0..12 {
        registry.release_with("large", &format!("1.{at}.0"), large(at));
    }
    let (_folder, dump) = dump_of(&registry, "");
    let ferry = Ferry::sparse(&registry);
    let script = "mount -t tmpfs -o size=80M none \"$1\" || exit 99; mirror=$1/mirror; shift; \
                  \"$0\" sync \"$mirror\" \"$@\" --json; echo first $?; \
                  \"$0\" sync \"$mirror\" --json --dump \"$DUMP\" --limit 1; echo second $?; \
                  \"$0\" sync \"$mirror\" --json --force-space --limit 1; echo third $?";
    let mount = tempfile::tempdir().unwrap();
    let program = common::program();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(program.get_program())
        .arg(mount.path())
        .args(["--crate", "large", "--dump", &dump, "--upstream", &registry.sparse_url(), "--ca-file"])
        .arg(registry.ca_file())
        .env("DUMP", &dump)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("first 3") && stderr.contains("nothing was fetched"), "{stdout}\n{stderr}");
    assert!(stdout.contains("second 0") && stdout.contains("third 0"), "a part fits: {stdout}\n{stderr}");
    drop(ferry);
}
