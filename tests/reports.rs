//! What a report tells of releases, licences and advisories, and what advisories keep out.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::Path;

use common::Ferry;
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

/// An advisory database in the form of the real one: a folder for each crate, an advisory a file, TOML before Markdown.
fn write_advisories(folder: &Path, list: &[(&str, &str, &str, &str)]) {
    for (id, package, fields, versions) in list {
        let text = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2026-02-03\"\n{fields}\n\
             [versions]\n{versions}\n```\n\n# What {id} is about\n\nMore <b>words</b>.\n"
        );
        let folder = folder.join("crates").join(package);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{id}.md")), text).unwrap();
    }
}

const ADVISORIES: [(&str, &str, &str, &str); 4] = [
    ("RUSTSEC-2026-0001", "parser", "", "patched = [\">= 1.2.0\"]\nunaffected = [\"< 1.0.0\"]"),
    ("RUSTSEC-2026-0002", "parser", "informational = \"unmaintained\"", "patched = []"),
    ("RUSTSEC-2026-0003", "tool", "withdrawn = \"2026-02-04\"", "patched = []"),
    ("RUSTSEC-2026-0004", "unknown-here", "", "patched = []"),
];

fn registry() -> Registry {
    let registry = Registry::new();
    let of = |license: &str| Release { license: Some(license.to_owned()), ..Release::default() };
    registry.release_with("parser", "0.9.0", of("MIT"));
    registry.release_with("parser", "1.1.0", of("MIT/Apache-2.0"));
    registry.release_with("parser", "1.2.0+build", of("MIT OR Apache-2.0"));
    registry.release_with("tool", "1.0.0", of("Our own \"licence\""));
    registry.release("bare", "1.0.0");
    registry
}

fn report(ferry: &Ferry, arguments: &[&str]) -> Value {
    let ran = ferry.run("report", &[arguments, &["--format", "json"]].concat()).expect(0);
    ran.json()
}

fn names(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| format!("{} {}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap())).collect()
}

#[test]
fn a_report_tells_releases_licences_advisories_and_what_is_new() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    let advisories = ferry.beside("advisory-db");
    write_advisories(&advisories, &ADVISORIES);
    let db = advisories.to_str().unwrap();

    let told = report(&ferry, &["--advisory-db", db]);
    assert_eq!(
        names(&told["releases"]),
        ["bare 1.0.0", "parser 0.9.0", "parser 1.1.0", "parser 1.2.0+build", "tool 1.0.0"]
    );
    assert_eq!(told["advisories"], json!({"unmaintained": 3, "vulnerability": 1}));
    let of = |at: usize| -> Vec<&str> {
        told["releases"][at]["advisories"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
    };
    assert_eq!(of(1), ["RUSTSEC-2026-0002"]);
    assert_eq!(of(2), ["RUSTSEC-2026-0001", "RUSTSEC-2026-0002"]);
    assert_eq!(of(4), [""; 0], "a withdrawn advisory is none");
    assert_eq!(told["licences"]["MIT/Apache-2.0"], 1);
    let shown = ferry.run("report", &["--advisory-db", db]).expect(0).stdout;
    assert!(
        shown.contains("parser 1.1.0: RUSTSEC-2026-0001, vulnerability: What RUSTSEC-2026-0001 is about"),
        "{shown}"
    );

    registry.release("later", "0.1.0").yank("parser", "0.9.0").delete_crate("tool").commit();
    ferry.sync(&["--all", "--accept-shrink", "--include-yanked"]).expect(0);
    let told = report(&ferry, &["--since", "1"]);
    assert_eq!(names(&told["releases"]), ["later 0.1.0"]);
    assert_eq!((&told["yanked"], &told["withdrawn"]), (&json!(["parser 0.9.0"]), &json!(["tool 1.0.0"])));
    assert_eq!(told["has_advisories"], false);
    let shown = ferry.run("report", &["--since", "1"]).expect(0).stdout;
    assert!(shown.contains("not looked at") && shown.contains("later 0.1.0"), "{shown}");
    ferry.run("report", &["--since", "9"]).expect_error(2, "generation 9 is not one of this mirror's");
    ferry.run("report", &["--advisory-db", "/nowhere"]).expect_error(3, "/nowhere is no advisory database");
}

#[test]
fn a_bill_of_materials_names_components_licences_and_vulnerabilities_and_is_the_same_for_the_same() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    let advisories = ferry.beside("advisory-db");
    write_advisories(&advisories, &ADVISORIES);
    ferry.configure("policy", &format!("advisory-db = {:?}", advisories.to_str().unwrap()));
    let materials = || ferry.run("report", &["--format", "cyclonedx"]).expect(0).json();
    let told = materials();
    assert_eq!((&told["bomFormat"], &told["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    assert_eq!(told["serialNumber"], materials()["serialNumber"]);
    let component = &told["components"][3];
    assert_eq!(component["purl"], "pkg:cargo/parser@1.2.0%2Bbuild");
    assert_eq!(component["hashes"][0]["content"], registry.checksum("parser", "1.2.0+build"));
    let licences: Vec<&Value> = (0..5).map(|at| &told["components"][at]["licenses"]).collect();
    assert_eq!(*licences[0], registry_licence());
    assert_eq!(*licences[2], json!([{"expression": "MIT OR Apache-2.0"}]), "as SPDX writes it");
    assert_eq!(*licences[4], json!([{"license": {"name": "Our own \"licence\""}}]));
    let vulnerability = &told["vulnerabilities"][0];
    assert_eq!(vulnerability["id"], "RUSTSEC-2026-0001");
    assert_eq!(vulnerability["affects"], json!([{"ref": "pkg:cargo/parser@1.1.0"}]));
}

/// What a release has that the registry makes without being told more.
fn registry_licence() -> Value {
    json!([{"expression": "MIT"}])
}

#[test]
fn what_advisories_are_about_does_not_enter() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    let advisories = ferry.beside("advisory-db");
    write_advisories(&advisories, &ADVISORIES);
    let db = advisories.to_str().unwrap();
    ferry.sync(&["--all", "--advisories", "vulnerable"]).expect_error(2, "name one with advisory-db");
    ferry.configure("policy", &format!("advisory-db = {db:?}")).configure("policy", "advisories = \"vulnerable\"");
    let said = ferry.sync(&["--all"]).expect(0).json();
    assert_eq!(said["index"]["kept_out"], json!({"advisories": 1}));
    let why = ferry.run("why", &["parser@1.1.0"]).expect(1).stdout;
    assert!(why.contains("out: the policy's rule advisories"), "{why}");
    let said = ferry.run("plan", &["--advisories", "any", "--json"]).json();
    assert_eq!(said["index"]["kept_out"], json!({"advisories": 3}));

    // The database changes, and the index does not.
    let fixed = ADVISORIES[0].1;
    fs::remove_file(advisories.join("crates").join(fixed).join("RUSTSEC-2026-0001.md")).unwrap();
    let said = ferry.sync(&[]).expect(0).json();
    assert_eq!((&said["releases"]["stored"], &said["index"]["kept_out"]), (&json!(1), &json!({})));
}
