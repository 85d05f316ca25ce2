//! What a crate file tells of itself, as a document that lies in the packs.
//!
//! Facts are a function of the crate file's bytes alone: what an index says of a release, and what changes, is not among
//! them. They are read from the beginning of a crate file, as far as that is cheap, or from all of it.

use serde::{Deserialize, Serialize};

use crate::id::Sha256;

/// What a crate file tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of what is read, and how: [`Facts::VERSION`].
    pub version: u32,
    /// Nothing more can be learnt from the crate file.
    pub complete: bool,
    /// Why the crate file, or a part of it, could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What its `Cargo.toml` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// The commit that it was packaged from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The folder of the package in its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_in_repository: Option<String>,
    /// How many files there are; known once all was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The bytes of all files together; known once all was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked_size: Option<u64>,
}

/// What a `Cargo.toml` says of its package. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// An SPDX expression, in whatever form the author wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The file with the licence's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_file: Option<String>,
    /// What the package is, in its author's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where its home is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Where its documentation is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// Where its source is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// The registry's categories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// The edition: 2015 if the manifest names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// The oldest Rust that builds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rust_version: Option<String>,
    /// The native library that it links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<String>,
    /// Runs code when it is built; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_script: Option<bool>,
    /// Runs code in the compiler.
    pub proc_macro: bool,
    /// The programs that it builds; absent while they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binaries: Option<Vec<String>>,
}

impl Facts {
    /// Grows when more is read, or in another way.
    pub const VERSION: u32 = 1;

    /// The document's text.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields")
    }
}

/// Where the facts of a release lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FactsPlace {
    /// Nothing more can be learnt from the crate file.
    pub complete: bool,
    /// Where the document lies.
    pub place: crate::Place,
    /// The SHA-256 of the document.
    pub sha256: Sha256,
}

/// What is shown of a crate where many are listed, from the facts of its highest release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What the crate is, in one line.
    pub description: String,
    /// Words to find it by, with spaces between them.
    pub keywords: String,
    /// Its licence.
    pub license: String,
}

impl About {
    /// Longest description in bytes.
    const DESCRIPTION: usize = 300;
    /// Longest licence, and all keywords together, in bytes.
    const WORDS: usize = 120;

    /// What a manifest says, without line breaks and cut to a length that fits a list.
    pub fn of(manifest: &Manifest) -> About {
        let text = |text: Option<&String>, limit| one_line(text.map_or("", |text| text), limit);
        let license = manifest.license.clone().or_else(|| manifest.license_file.as_ref().map(|_| "see file".into()));
        About {
            description: text(manifest.description.as_ref(), About::DESCRIPTION),
            keywords: one_line(&manifest.keywords.join(" "), About::WORDS),
            license: text(license.as_ref(), About::WORDS),
        }
    }
}

/// Words with one space between them, at most `limit` bytes.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > limit {
            line.truncate(line.floor_char_boundary(limit - '…'.len_utf8()));
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_what_it_writes_and_leaves_out_what_is_not_known() {
        let manifest = Manifest { license: Some("MIT".into()), binaries: Some(vec![]), ..Manifest::default() };
        let facts = Facts { version: 1, manifest: Some(manifest), ..Facts::default() };
        let text = facts.to_text();
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"version":1,"complete":false,"manifest":{"license":"MIT","proc_macro":false,"binaries":[]}}"#
        );
        assert_eq!(serde_json::from_slice::<Facts>(&text).unwrap(), facts);
    }

    #[test]
    fn a_description_becomes_one_short_line() {
        assert_eq!(one_line("  a\n\tb \u{7} c\r\n", 300), "a b c");
        let long = one_line(&"wörter ".repeat(100), 300);
        assert!(long.len() <= 300 && long.ends_with('…'), "{long}");
        assert_eq!(one_line(&"x".repeat(1000), 120).len(), 120);
    }
}
