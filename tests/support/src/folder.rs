//! An index as a folder of files: what a checkout of the git index is, and what a plain web server can serve.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

/// Writes `config.json` and these index files below `root`.
pub(crate) fn write(root: &Path, config: &[u8], files: impl Iterator<Item = (String, Bytes)>) {
    let mut made = BTreeSet::new();
    std::fs::create_dir_all(root).unwrap();
    std::fs::write(root.join("config.json"), config).unwrap();
    for (path, bytes) in files.filter(|(path, _)| stays_inside(path)) {
        let file = root.join(path);
        let folder = file.parent().unwrap().to_owned();
        if made.insert(folder.clone()) {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(file, bytes).unwrap();
    }
}

/// Hostile index paths are for the wire alone: nothing is written outside the folder that a test gave.
fn stays_inside(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
}
