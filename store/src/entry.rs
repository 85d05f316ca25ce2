//! Index files, line by line.
//!
//! Only the few fields that a mirror needs are read; a row is always kept and served as the bytes it came as. Unknown
//! fields and an unknown `v` are none of our business. Field meanings: the registry index chapter of the Cargo book.

use std::borrow::Cow;

use serde::Deserialize;

use crate::id::{CrateName, Sha256, Version};

/// One row of an index file: one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The row's bytes, without the line feed.
    pub line: &'a [u8],
    /// The line's number, from 1 on.
    pub number: u64,
    /// The crate as this row spells it.
    pub name: CrateName,
    /// The version.
    pub version: Version,
    /// The SHA-256 that the row promises for the crate file.
    pub checksum: Sha256,
    /// Whether the release is yanked.
    pub yanked: bool,
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The line's number, from 1 on.
    pub number: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What was read of an index file.
#[derive(Clone, Debug, Default)]
pub struct IndexFile<'a> {
    /// The usable rows in their order; of several rows for one version the first alone.
    pub entries: Vec<Entry<'a>>,
    /// The others.
    pub bad: Vec<BadRow>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    vers: Cow<'a, str>,
    #[serde(borrow)]
    cksum: Cow<'a, str>,
    #[serde(default)]
    yanked: Option<bool>,
}

/// Reads the index file of the crate `name`.
pub fn parse_index_file<'a>(name: &CrateName, text: &'a [u8]) -> IndexFile<'a> {
    let mut file = IndexFile::default();
    let mut seen = std::collections::HashMap::new();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row = parse_row(name, line, number).and_then(|entry| match seen.get(&entry.version) {
            None => Ok(entry),
            Some(&(first, checksum)) => Err(duplicate(&entry, first, checksum)),
        });
        match row {
            Ok(entry) => {
                seen.insert(entry.version.clone(), (number, entry.checksum));
                file.entries.push(entry);
            }
            Err(problem) => file.bad.push(BadRow { number, problem }),
        }
    }
    file
}

fn parse_row<'a>(name: &CrateName, line: &'a [u8], number: u64) -> Result<Entry<'a>, String> {
    let fields: Fields<'_> = serde_json::from_slice(line).map_err(|error| describe(&error))?;
    let spelled: CrateName = fields.name.parse().map_err(|error: crate::NameError| error.to_string())?;
    if !spelled.as_str().eq_ignore_ascii_case(name.as_str()) {
        return Err(format!("it is a row of crate {spelled}, in the file of crate {name}"));
    }
    let version = fields.vers.parse().map_err(|error: crate::NameError| error.to_string())?;
    let checksum = fields.cksum.parse().map_err(|error: crate::NameError| error.to_string())?;
    Ok(Entry { line, number, name: spelled, version, checksum, yanked: fields.yanked.unwrap_or(false) })
}

fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line").next().unwrap_or_default();
    format!("it is not an index row: {what} (column {})", error.column())
}

fn duplicate(entry: &Entry<'_>, first: u64, checksum: Sha256) -> String {
    if entry.checksum == checksum {
        format!("version {} stands in line {first} already", entry.version)
    } else {
        format!("version {} stands in line {first} already, with another checksum; the first row counts", entry.version)
    }
}

impl Entry<'_> {
    /// The row with `yanked` set as given and nothing else changed.
    pub fn line_with_yanked(&self, yanked: bool) -> Vec<u8> {
        if self.yanked == yanked {
            return self.line.to_vec();
        }
        replace_yanked(self.line, yanked).unwrap_or_else(|| self.line.to_vec())
    }
}

fn replace_yanked(line: &[u8], yanked: bool) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Yanked<'a> {
        #[serde(borrow)]
        yanked: &'a serde_json::value::RawValue,
    }
    let field: Yanked<'_> = serde_json::from_slice(line).ok()?;
    let value = field.yanked.get();
    let at = value.as_ptr() as usize - line.as_ptr() as usize;
    let mut changed = line[..at].to_vec();
    changed.extend_from_slice(if yanked { b"true" } else { b"false" });
    changed.extend_from_slice(&line[at + value.len()..]);
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, version: &str, extra: &str) -> String {
        let checksum = Sha256::of(version.as_bytes());
        format!(
            r#"{{"name":"{name}","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":false{extra}}}"#
        )
    }

    fn read(text: &[u8]) -> (Vec<String>, Vec<u64>) {
        let file = parse_index_file(&"serde".parse().unwrap(), text);
        let versions = file.entries.iter().map(|entry| entry.version.to_string()).collect();
        (versions, file.bad.iter().map(|bad| bad.number).collect())
    }

    #[test]
    fn good_rows_are_read_and_kept_byte_for_byte() {
        let text = format!("{}\n{}", row("serde", "1.0.0", r#","v":9,"new":[{}]"#), row("Serde", "1.0.1+x", ""));
        let file = parse_index_file(&"serde".parse().unwrap(), text.as_bytes());
        assert_eq!(
            file.entries.iter().map(|entry| entry.line).collect::<Vec<_>>(),
            text.as_bytes().split(|&b| b == b'\n').collect::<Vec<_>>()
        );
        assert!(file.bad.is_empty());
    }

    #[test]
    fn bad_rows_are_reported_by_line_and_the_rest_is_read() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let bad: Vec<Vec<u8>> = vec![
            b"not json".to_vec(),
            [b"\xef\xbb\xbf".as_slice(), row("serde", "2.0.0", "").as_bytes()].concat(),
            b"{\"name\":\"serde\"}".to_vec(),
            row("other", "1.0.0", "").into_bytes(),
            row("serde", "../x", "").into_bytes(),
            row("serde", "1.0.0\\u0000", "").into_bytes(),
            b"\xff\xfe".to_vec(),
            row("serde", "1.0.0", "").into_bytes(),
            row("serde", "3.0.0", r#","vers":"3.0.1""#).into_bytes(),
            b"{\"name\":\"serde\",\"vers\":\"4.0.0\",\"cksum\":\"xyz\"}".to_vec(),
            deep.into_bytes(),
            b" x".repeat(1 << 16),
        ];
        let mut text = row("serde", "1.0.0", "").into_bytes();
        for line in &bad {
            text.push(b'\n');
            text.extend_from_slice(line);
        }
        text.extend_from_slice(format!("\r\n\n{}\r\n", row("serde", "1.0.9", "")).as_bytes());
        let (versions, lines) = read(&text);
        assert_eq!(versions, ["1.0.0", "1.0.9"]);
        assert_eq!(lines, (2..2 + bad.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_can_be_yanked_without_touching_another_byte() {
        let text = row("serde", "1.0.0", r#", "yanked_not" : false"#);
        let file = parse_index_file(&"serde".parse().unwrap(), text.as_bytes());
        let yanked = file.entries[0].line_with_yanked(true);
        assert_eq!(String::from_utf8(yanked).unwrap(), text.replacen("\"yanked\":false", "\"yanked\":true", 1));
    }

    #[test]
    fn odd_but_usable_rows_are_used() {
        let (versions, lines) = read(
            row("serde", "1.0.0", r#","deps2":[{"kind":null}]"#)
                .replace("\"yanked\":false", "\"yanked\":null")
                .as_bytes(),
        );
        assert_eq!((versions.len(), lines.len()), (1, 0));
    }
}
