//! Facts from crate files, and the documents that describe releases, by the real program.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Ferry, flip_bit, wait_until};
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

/// The documents in a folder, by path.
fn documents(folder: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            found.insert(name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
        }
    }
    found
}

/// `sidecars --to` with this folder and more.
fn write(ferry: &Ferry, to: &Path, more: &[&str]) -> Value {
    let fixed = ["--json", "--to", to.to_str().unwrap(), "--download-url", "https://h.example/{crate}-{version}.crate"];
    ferry.run("sidecars", &[&fixed[..], more].concat()).expect(0).json()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_document_is_the_line_of_the_index_and_what_the_crate_file_tells() {
    let registry = Registry::new();
    let files = vec![("src/main.rs".to_owned(), b"fn main() {}".to_vec()), ("big".to_owned(), noise(300_000))];
    let row = Release { links: Some("z".into()), rust_version: Some("1.70".into()), files, ..Release::default() };
    registry.release_with("Demo", "1.0.0+meta", row);
    registry.release("abc", "0.1.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "demo", "abc"]).expect(0);
    let to = tempfile::tempdir().unwrap();

    let said = write(&ferry, to.path(), &[]);
    assert_eq!(
        (&said["releases"], &said["learnt"], &said["written"], &said["left"]),
        (&json!(2), &json!(1), &json!(2), &json!(0))
    );
    let found = documents(to.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["abc/abc-0.1.0.crate.json", "d/em/Demo-1.0.0+meta.crate.json"]);
    let mut document = found["d/em/Demo-1.0.0+meta.crate.json"].clone();
    let facts = document.as_object_mut().unwrap().remove("facts").unwrap();
    let index: Value = serde_json::from_str(&registry.row("Demo", "1.0.0+meta")).unwrap();
    let mut expected = index;
    expected["sidecar_version"] = json!(1);
    expected["crate_file"] = json!("Demo-1.0.0+meta.crate");
    expected["crate_url"] = json!("https://h.example/Demo-1.0.0%2Bmeta.crate");
    expected["index_path"] = json!("de/mo/demo");
    assert_eq!(document, expected);
    assert_eq!(facts["complete"], json!(true));
    assert_eq!(facts["files"], json!(4));
    let manifest = json!({
        "license": "MIT", "description": "A crate made for a test", "edition": "2021", "rust_version": "1.70",
        "links": "z", "build_script": false, "proc_macro": false, "binaries": ["Demo"],
    });
    assert_eq!(facts["manifest"], manifest);
}

#[test]
fn documents_keep_to_their_schema() {
    let registry = Registry::new();
    registry.release("plain", "1.0.0").release_with("noise", "1.0.0", Release::of_bytes(noise(1000)));
    registry.release_with("large", "1.0.0", Release::sized(300_000));
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "plain", "noise", "large"]).expect(0);
    let (to, bare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&ferry, to.path(), &[]);
    ferry.top("sidecars = \"index\"");
    write(&ferry, bare.path(), &[]);

    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sidecar.schema.json");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let schema = compiler.compile(schema.to_str().unwrap(), &mut schemas).unwrap();
    let all: Vec<Value> = [to, bare].iter().flat_map(|folder| documents(folder.path()).into_values()).collect();
    assert_eq!(all.len(), 6);
    for document in &all {
        schemas.validate(document, schema).unwrap_or_else(|error| panic!("{error:#}\n{document:#}"));
    }
    let mut bad = all[0].clone();
    bad["facts"]["more"] = json!(1);
    assert!(schemas.validate(&bad, schema).is_err());
}

#[test]
fn a_second_run_writes_what_changed_and_asks_for_no_crate_file() {
    let registry = Registry::new();
    registry.release("one", "1.0.0").release("one", "2.0.0").release("two", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "one", "two"]).expect(0);
    let to = tempfile::tempdir().unwrap();
    assert_eq!(write(&ferry, to.path(), &[])["written"], json!(3));
    let said = write(&ferry, to.path(), &[]);
    assert_eq!((&said["written"], &said["unchanged"], &said["learnt"]), (&json!(0), &json!(3), &json!(0)));

    registry.yank("one", "1.0.0");
    let asked = registry.requests();
    ferry.sync(&[]).expect(0);
    let said = write(&ferry, to.path(), &["--include-yanked"]);
    assert_eq!((&said["written"], &said["unchanged"]), (&json!(1), &json!(2)));
    let document = &documents(to.path())["one/one-1.0.0.crate.json"];
    assert_eq!((&document["yanked"], &document["facts"]["complete"]), (&json!(true), &json!(true)));
    assert!(registry.requests() - asked <= 3, "the index alone was asked for");
    assert_eq!(write(&ferry, to.path(), &[])["releases"], json!(2), "a yanked release is not asked for");
}

#[test]
fn a_limit_takes_the_first_in_the_order_of_the_index() {
    let registry = Registry::new();
    registry.release("b", "1.0.0").release("b", "0.9.0").release("a", "1.0.0").release("c", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "a", "b", "c"]).expect(0);
    for (limit, names) in [
        ("0", &[][..]),
        ("2", &["a/a-1.0.0", "b/b-1.0.0"]),
        ("9", &["a/a-1.0.0", "b/b-0.9.0", "b/b-1.0.0", "c/c-1.0.0"]),
    ] {
        let to = tempfile::tempdir().unwrap();
        write(&ferry, to.path(), &["--limit", limit]);
        let found: Vec<String> = documents(to.path()).into_keys().collect();
        let expected: Vec<String> = names.iter().map(|name| format!("{name}.crate.json")).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn documents_lie_where_an_export_puts_the_crate_files() {
    let registry = Registry::new();
    registry.release("ab", "1.0.0").release("a-bcd", "1.0.0").release("serde", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "ab", "a-bcd", "serde"]).expect(0);
    for layout in ["download", "cargo", "sharded"] {
        let (files, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        ferry.run("export", &["--to", files.path().to_str().unwrap(), "--layout", layout]).expect(0);
        write(&ferry, to.path(), &["--layout", layout]);
        for name in documents(to.path()).keys() {
            assert!(files.path().join(name.strip_suffix(".json").unwrap()).exists(), "{layout}: {name}");
        }
    }
}

#[test]
fn facts_that_a_sync_left_out_are_read_later() {
    let registry = Registry::new();
    registry.release("one", "1.0.0").release("two", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "one", "two", "--sidecars", "index"]).expect(0);
    let known = ferry.knowledge();
    assert_eq!((known.facts.len(), known.undescribed.len()), (0, 2));
    let said = ferry.run("sidecars", &["--json", "--limit", "1"]).expect(0).json();
    assert_eq!((&said["learnt"], &said["left"], &said["written"]), (&json!(1), &json!(1), &json!(0)));
    let said = ferry.run("sidecars", &["--json"]).expect(0).json();
    assert_eq!((&said["learnt"], &said["left"]), (&json!(1), &json!(0)));

    let known = ferry.knowledge();
    assert_eq!((known.facts.len(), known.undescribed.len()), (2, 0));
    assert!(known.facts.iter().all(|(_, facts)| facts.complete));
    ferry.run("verify", &[]).expect(0);
    ferry.run("rebuild", &[]).expect(0);
    assert_eq!(ferry.knowledge(), known, "the packs alone tell it again");
}

#[test]
fn a_crate_file_that_cannot_be_read_has_a_document_that_says_so() {
    let registry = Registry::new();
    registry.release_with("noise", "1.0.0", Release::of_bytes(noise(5000)));
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "noise"]).expect(0);
    let to = tempfile::tempdir().unwrap();
    let said = write(&ferry, to.path(), &[]);
    assert_eq!((&said["unreadable"], &said["left"], &said["learnt"]), (&json!(1), &json!(0), &json!(0)));
    let document = &documents(to.path())["n/oi/noise-1.0.0.crate.json"];
    assert!(document["facts"]["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{document}");
    assert_eq!(ferry.status()["releases"]["held"], json!(1), "it is held like any other");
}

#[test]
fn nothing_is_learnt_from_damaged_bytes() {
    let registry = Registry::new();
    registry.release_with("large", "1.0.0", Release::sized(300_000)).release("small", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "large", "small"]).expect(0);
    let (release, place) = ferry.knowledge().undescribed.remove(0);
    assert_eq!(release.id.to_string(), "large 1.0.0");
    flip_bit(&ferry.file("packs/000001.tar.open"), (place.offset + 200_000) * 8);
    let to = tempfile::tempdir().unwrap();
    let ran =
        ferry.run("sidecars", &["--json", "--to", to.path().to_str().unwrap(), "--download-url", "https://h.example/"]);
    let said = ran.expect(5).json();
    assert_eq!((&said["learnt"], &said["left"], &said["written"]), (&json!(0), &json!(1), &json!(2)));
    assert!(said["damaged"][0].as_str().unwrap().contains("large 1.0.0"), "{said}");
    let found = documents(to.path());
    assert!(found["l/ar/large-1.0.0.crate.json"].get("facts").is_none());
    assert!(found["s/ma/small-1.0.0.crate.json"].get("facts").is_some());
}

#[test]
fn an_interrupted_run_is_gone_on_with() {
    let registry = Registry::new();
    registry.releases(600);
    let ferry = Ferry::git(&registry);
    registry.commit();
    ferry.sync(&["--all", "--sidecars", "index"]).expect(0);
    let all = ferry.knowledge().undescribed.len();
    let running = ferry.start(ferry.command("sidecars", &[]));
    wait_until("it runs", || {
        std::fs::read_to_string(ferry.file("lock")).is_ok_and(|pid| pid.trim() == running.id().to_string())
    });
    running.kill();
    ferry.run("sidecars", &[]).expect(0);
    let known = ferry.knowledge();
    assert_eq!((known.facts.len(), known.undescribed.len()), (all, 0));
    ferry.run("verify", &[]).expect(0);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let registry = Registry::new();
    registry.release("one", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "one"]).expect(0);
    let inside = ferry.file("documents");
    ferry.run("sidecars", &["--to", inside.to_str().unwrap()]).expect_error(2, "inside the mirror");
    assert!(!inside.exists());
    let file = ferry.beside("file");
    fs::write(&file, "").unwrap();
    let arguments = ["--to", file.to_str().unwrap(), "--download-url", "https://h.example/"];
    ferry.run("sidecars", &arguments).expect_error(3, "cannot make");
    ferry.run("sidecars", &["--layout", "cargo"]).expect_error(2, "--to");
    ferry.top("sidecars = \"off\"");
    ferry.run("sidecars", &[]).expect_error(2, "sidecars are off");
    ferry.sync(&[]).expect(0);
}

#[test]
fn facts_that_come_late_are_shown_by_a_server_that_runs() {
    let registry = Registry::new();
    registry.release("one", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "one", "--sidecars", "index"]).expect(0);
    let server = ferry.serve(&[]);
    let search = |words: &str| -> Value {
        let answer = reqwest::blocking::get(server.url(&format!("/api/v1/crates?q={words}"))).unwrap();
        serde_json::from_slice(&answer.bytes().unwrap()).unwrap()
    };
    assert_eq!(search("one")["crates"][0]["description"], Value::Null);
    assert_eq!(search("made+for+a+test")["meta"]["total"], json!(0));
    ferry.run("sidecars", &[]).expect(0);
    wait_until("the search knows the description", || search("made+for+a+test")["meta"]["total"] == json!(1));
    assert_eq!(search("one")["crates"][0]["description"], json!("A crate made for a test"));
    let page = reqwest::blocking::get(server.url("/crates/one")).unwrap().text().unwrap();
    assert!(page.contains("A crate made for a test") && page.contains("MIT"), "{page}");
}

#[test]
fn a_server_has_the_document_of_each_release() {
    let registry = Registry::new();
    registry.release("demo", "1.0.0+a").release("demo", "1.0.1");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "demo"]).expect(0);
    let server = ferry.serve(&[]);
    let get = |version: &str| {
        let path = format!("/api/v1/crates/Demo/{version}/sidecar");
        reqwest::blocking::get(server.url(&path)).unwrap()
    };
    let answer = get("1.0.0%2Ba");
    assert_eq!(answer.status(), 200);
    let tag = answer.headers()["etag"].clone();
    let document: Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
    assert_eq!((&document["vers"], &document["facts"]["manifest"]["license"]), (&json!("1.0.0+a"), &json!("MIT")));
    let file = reqwest::blocking::get(document["crate_url"].as_str().unwrap()).unwrap().bytes().unwrap();
    assert_eq!(file, registry.crate_bytes("demo", "1.0.0+a"));
    assert_eq!(get("9.9.9").status(), 404);

    let url = server.url("/api/v1/crates/demo/1.0.0%2Ba/sidecar");
    let again = reqwest::blocking::Client::new().get(url).header("if-none-match", tag).send().unwrap();
    assert_eq!(again.status(), 304);
    let page = reqwest::blocking::get(server.url("/crates/demo?version=1.0.0%2Ba")).unwrap().text().unwrap();
    assert!(page.contains("api/v1/crates/demo/1.0.0%2Ba/sidecar"), "{page}");
}
