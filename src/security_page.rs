//! The page about security says what the code says: its table of limits is made from the code, and the tests that it names
//! are there.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crateferry_pipeline::limits::Limits;
use crateferry_pipeline::upstream::IndexLimits;
use crateferry_store::StoreLimits;

use crate::serve::{PageLimits, ServeLimits};

/// Between these lines the table stands.
const MARKS: [&str; 2] = ["<!-- limits -->\n", "<!-- end of limits -->\n"];

/// What counts bytes, by the ends of its names.
const BYTES: [&str; 8] = ["bytes", "cache", "buffer", "preallocate", "chunk", "unsent", "file", "object"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names and values of a struct's fields, as its `Debug` tells them.
fn fields(limits: &impl Debug) -> Vec<(String, String)> {
    let text = format!("{limits:?}");
    let inner = text.split_once('{').unwrap().1.trim().strip_suffix('}').unwrap();
    let (mut fields, mut depth, mut begin) = (Vec::new(), 0_i32, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                fields.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&inner[begin..]);
    let pair =
        |field: &str| field.split_once(": ").map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    fields.into_iter().filter_map(pair).collect()
}

/// What the comment above a field says, in the code of its struct.
fn comment(code: &str, name: &str) -> String {
    let field = format!("    pub {name}: ");
    let before = code.split_once(&field).unwrap_or_else(|| panic!("no field {name}")).0;
    let mut lines: Vec<&str> = before.lines().rev().map_while(|line| line.trim().strip_prefix("///")).collect();
    lines.reverse();
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn value(name: &str, value: &str) -> String {
    let bytes = value.parse::<u64>().ok().filter(|_| BYTES.iter().any(|end| name.ends_with(end)));
    match bytes {
        Some(bytes) if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        Some(bytes) if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        Some(bytes) if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        _ => value.to_owned(),
    }
}

fn rows(of: &str, limits: &impl Debug, file: &str) -> String {
    let code = std::fs::read_to_string(root().join(file)).unwrap();
    let code = code.split_once(&format!("pub struct {of} {{")).unwrap().1;
    let plain = fields(limits).into_iter().filter(|(_, value)| !value.ends_with('}'));
    plain.map(|(name, limit)| format!("| {} | {} |\n", comment(code, &name), value(&name, &limit))).collect()
}

fn table() -> String {
    let mut table = String::from("\n| limit | value |\n|---|---|\n");
    table += &rows("StoreLimits", &StoreLimits::default(), "store/src/limits.rs");
    table += &rows("Limits", &Limits::default(), "pipeline/src/limits.rs");
    table += &rows("IndexLimits", &IndexLimits::default(), "pipeline/src/upstream/mod.rs");
    table += &rows("ServeLimits", &ServeLimits::default(), "src/serve/limits.rs");
    table += &rows("PageLimits", &PageLimits::default(), "src/serve/limits.rs");
    table + "\n"
}

fn page() -> (PathBuf, String) {
    let path = root().join("docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let (path, text) = page();
    let (before, rest) = text.split_once(MARKS[0]).unwrap();
    let (told, after) = rest.split_once(MARKS[1]).unwrap();
    if told != table() && std::env::var_os("CRATEFERRY_WRITE_PAGES").is_some() {
        std::fs::write(&path, [before, MARKS[0], &table(), MARKS[1], after].concat()).unwrap();
        return;
    }
    assert_eq!(told, table(), "CRATEFERRY_WRITE_PAGES=1 cargo test --bin crateferry security_page writes it");
}

#[test]
fn the_tests_that_stand_for_promises_are_there() {
    let (_, text) = page();
    let named = text
        .split('`')
        .filter_map(|word| word.split_once("::"))
        .filter(|(file, _)| Path::new(file).extension().is_some_and(|end| end == "rs"));
    let mut count = 0;
    for (file, test) in named {
        let code = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(code.contains(&format!("fn {test}(")), "{file} has no {test}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
