//! What lies in an exported folder.

use std::collections::BTreeMap;
use std::path::Path;

use crateferry_store::{CrateName, parse_index_file};
use crateferry_test_support::sha256;

use crate::common::Ferry;
use crate::look;

/// The files of a folder, by their path in it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = look::contents(folder);
    found.retain(|(path, _)| path.is_file());
    let relative = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(|(path, bytes)| (relative(&path), bytes)).collect()
}

/// Every row in the folder's index has its crate file; returns how many rows there are.
#[track_caller]
pub fn expect_whole(folder: &Path, crate_file: fn(&str, &str) -> String) -> usize {
    let files = files(folder);
    let mut rows = 0;
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("index/")) {
        let Some(name) = path.rsplit('/').next().and_then(|name| name.parse::<CrateName>().ok()) else { continue };
        for entry in parse_index_file(&name, text).entries {
            let file = crate_file(entry.name.as_str(), entry.version.as_str());
            let digest = files.get(&file).map(|bytes| sha256(bytes));
            assert_eq!(digest, Some(entry.checksum.to_string()), "the row of {file} is there");
            rows += 1;
        }
    }
    rows
}

/// Whether a file has not its name yet.
pub fn is_part(path: &str) -> bool {
    path.strip_suffix(".part").is_some()
}

/// Where the layout `local-registry` has a crate file.
pub fn local(name: &str, version: &str) -> String {
    format!("{name}-{version}.crate")
}

/// Where the layout `static` has a crate file.
pub fn served(name: &str, version: &str) -> String {
    format!("crates/{name}/{name}-{version}.crate")
}

/// Where in which pack a crate file begins.
pub fn in_pack(ferry: &Ferry, bytes: &[u8]) -> (std::path::PathBuf, u64) {
    ferry
        .packs()
        .iter()
        .find_map(|(pack, _)| {
            let path = ferry.file("packs").join(pack);
            let all = std::fs::read(&path).unwrap();
            let at = all.windows(bytes.len()).position(|window| window == bytes)?;
            Some((path, at as u64))
        })
        .expect("it is held")
}
