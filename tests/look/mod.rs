//! What a mirror serves, lacks and keeps, seen as any other reader sees it.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crateferry_store::{Held, MirrorReader, Release, ReleaseId, StoreLimits};
use crateferry_test_support::Registry;
use serde_json::Value;

use crate::common::{Ferry, Ran};

/// Settings under which a test does not wait long: two retries, at once.
pub const HASTY: &str = "retries = 2\nretry-base = \"5ms\"\nretry-max = \"10ms\"\nretry-after-cap = \"1s\"\n\
                         header-timeout = \"2s\"\nrate-window = \"500ms\"";

/// A mirror of the registry's sparse index that exists and does not wait long.
pub fn hasty(registry: &Registry) -> Ferry {
    let ferry = Ferry::sparse(registry);
    ferry.init().configure("network", HASTY);
    ferry
}

fn reader(ferry: &Ferry) -> MirrorReader {
    MirrorReader::open(&ferry.mirror(), StoreLimits::default()).unwrap()
}

/// The index file that is served for a crate, if there is one.
pub fn served_bytes(ferry: &Ferry, name: &str) -> Option<Vec<u8>> {
    let reader = reader(ferry);
    let text = reader.catalog.index_file(&name.parse().unwrap()).unwrap()?;
    Some(reader.packs.text(text.place, text.digests.blake3).unwrap())
}

/// The index file that is served for a crate; empty if there is none.
pub fn served(ferry: &Ferry, name: &str) -> String {
    String::from_utf8(served_bytes(ferry, name).unwrap_or_default()).unwrap()
}

/// The rows of these versions, as the registry has them now.
pub fn rows(registry: &Registry, name: &str, versions: &[&str]) -> String {
    versions.iter().map(|version| registry.row(name, version)).collect()
}

/// The crate file of a release, as it lies in the packs.
pub fn held_bytes(ferry: &Ferry, name: &str, version: &str, checksum: &str) -> Option<Vec<u8>> {
    let reader = reader(ferry);
    let held = held(&reader, name, version, checksum)?;
    Some(reader.packs.read(held.place).unwrap())
}

fn held(reader: &MirrorReader, name: &str, version: &str, checksum: &str) -> Option<Held> {
    let id = ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() };
    reader.catalog.held(&Release { id, checksum: checksum.parse().unwrap() }).unwrap()
}

/// What `holes --json` lists.
pub fn holes(ferry: &Ferry) -> Vec<Value> {
    let ran = ferry.run("holes", &["--json"]);
    let holes = ran.json().as_array().unwrap().clone();
    let expected = i32::from(!holes.is_empty());
    ran.expect(expected);
    holes
}

/// What `status --json` reports of the index: path, line, problem.
pub fn reports(ferry: &Ferry) -> Vec<(String, u64, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |report: &Value| (text(&report["path"]), report["line"].as_u64().unwrap(), text(&report["problem"]));
    ferry.status()["reports"].as_array().unwrap().iter().map(one).collect()
}

/// The files in the quarantine.
pub fn quarantine(ferry: &Ferry) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(ferry.file("quarantine")).unwrap();
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// Everything that is held and served is as it should be.
pub fn verify(ferry: &Ferry) -> Ran {
    ferry.run("verify", &["--json"]).expect(0)
}

/// Every path below a folder, with the bytes of the files.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// The names in the folder that the mirror lies in, without the outputs that the test itself keeps there.
pub fn neighbours(ferry: &Ferry) -> BTreeSet<String> {
    let entries = std::fs::read_dir(ferry.beside("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".stdout") && !name.ends_with(".stderr")).collect()
}
