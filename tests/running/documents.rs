//! What the documents say, as data.

use std::path::{Path, PathBuf};

/// The top of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document, by its path from the top.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// The code blocks of a document in this language, in their order.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| Some(block.strip_prefix(&format!("{language}\n"))?.to_owned())).collect()
}

/// The rows of all tables, without their heads: the cells, trimmed.
pub fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut in_body = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            in_body = false;
            continue;
        };
        if row.chars().all(|letter| matches!(letter, '-' | '|' | ' ')) {
            in_body = true;
        } else if in_body {
            let row = row.replace("\\|", "\u{0}");
            rows.push(row.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect());
        }
    }
    rows
}

/// What stands between backquotes.
pub fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
