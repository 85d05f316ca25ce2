//! What a test says about a release, and the index row that follows from it.
//!
//! The row has the fields that crates.io writes, in its order, because mirrors keep rows byte for byte and
//! cargo reads them: an invented layout would test nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

/// How a release differs from the plainest one. `Release::default()` is a small library without dependencies.
#[derive(Debug, Clone, Default)]
pub struct Release {
    /// What it depends on.
    pub deps: Vec<Dep>,
    /// Its features, as `Cargo.toml` has them.
    pub features: BTreeMap<String, Vec<String>>,
    /// Features in the newer syntax (`dep:`, `?/`); a row that has them wants `v: Some(2)`.
    pub features2: Option<BTreeMap<String, Vec<String>>>,
    /// Whether it is yanked from the start.
    pub yanked: bool,
    /// The native library it links.
    pub links: Option<String>,
    /// The oldest Rust it builds with.
    pub rust_version: Option<String>,
    /// When it was published, as `YYYY-MM-DDThh:mm:ssZ`.
    pub pubtime: Option<String>,
    /// Its licence; `MIT` if nothing is said.
    pub license: Option<String>,
    /// The version of the row's own format.
    pub v: Option<u32>,
    /// More files for the crate file: path below the crate's own folder, and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// About how large the crate file shall be, in bytes; what is missing is filled with noise.
    pub size_hint: Option<usize>,
    /// The whole crate file, if it shall not be a made one.
    pub body: Option<Bytes>,
    /// A checksum for the row that is not that of the body.
    pub cksum: Option<String>,
}

impl Release {
    /// A release that depends on these crates, given as name and requirement.
    pub fn depending_on(deps: &[(&str, &str)]) -> Self {
        Release { deps: deps.iter().map(|(name, req)| Dep::on(name, req)).collect(), ..Release::default() }
    }

    /// A release whose crate file has about this many bytes.
    pub fn sized(bytes: usize) -> Self {
        Release { size_hint: Some(bytes), ..Release::default() }
    }

    /// A release whose crate file is these bytes, with the checksum that belongs to them.
    pub fn of_bytes(body: impl Into<Bytes>) -> Self {
        Release { body: Some(body.into()), ..Release::default() }
    }
}

/// One dependency of a release, as an index row writes it.
#[derive(Debug, Clone, Serialize)]
pub struct Dep {
    /// The name that the dependent uses for it.
    pub name: String,
    /// The version requirement.
    pub req: String,
    /// Which of its features are wanted.
    pub features: Vec<String>,
    /// Whether a feature must ask for it.
    pub optional: bool,
    /// Whether its default features are wanted.
    pub default_features: bool,
    /// The platform it is limited to.
    pub target: Option<String>,
    /// `normal`, `build` or `dev`.
    pub kind: String,
    /// The index of another registry that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Its true name, if the dependent renames it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

impl Dep {
    /// An ordinary dependency.
    pub fn on(name: &str, req: &str) -> Self {
        Dep {
            name: name.to_owned(),
            req: req.to_owned(),
            features: Vec::new(),
            optional: false,
            default_features: true,
            target: None,
            kind: "normal".to_owned(),
            registry: None,
            package: None,
        }
    }

    /// A dependency of the tests alone.
    pub fn dev(name: &str, req: &str) -> Self {
        Dep { kind: "dev".to_owned(), ..Dep::on(name, req) }
    }

    /// A dependency of the build script.
    pub fn build(name: &str, req: &str) -> Self {
        Dep { kind: "build".to_owned(), ..Dep::on(name, req) }
    }

    /// A dependency that a feature must ask for.
    pub fn optional(name: &str, req: &str) -> Self {
        Dep { optional: true, ..Dep::on(name, req) }
    }
}

/// An index row; the order of the fields is the order in the line.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) vers: &'a str,
    pub(crate) deps: &'a [Dep],
    pub(crate) cksum: &'a str,
    pub(crate) features: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) features2: Option<&'a BTreeMap<String, Vec<String>>>,
    pub(crate) yanked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) links: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rust_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pubtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) v: Option<u32>,
}

impl Row<'_> {
    /// The row as a line, with its newline.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap();
        line.push('\n');
        line
    }
}

/// The path of a crate's index file: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcd`, in lower case.
pub fn index_path(name: &str) -> String {
    let name = name.to_lowercase();
    format!("{}/{name}", index_folder(&name))
}

/// The folder part of an index path, in the case of the name it is given.
pub(crate) fn index_folder(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    match letters.as_slice() {
        [] => "0".to_owned(),
        [_] => "1".to_owned(),
        [_, _] => "2".to_owned(),
        [a, _, _] => format!("3/{a}"),
        [a, b, c, d, ..] => format!("{a}{b}/{c}{d}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_row_reads_like_one_of_crates_io() {
        let features = BTreeMap::new();
        let deps = [Dep::on("itoa", "^1")];
        let row = Row {
            name: "serde",
            vers: "1.0.0",
            deps: &deps,
            cksum: "00",
            features: &features,
            features2: None,
            yanked: false,
            links: None,
            rust_version: None,
            pubtime: None,
            v: None,
        };
        assert_eq!(
            row.line(),
            concat!(
                r#"{"name":"serde","vers":"1.0.0","deps":[{"name":"itoa","req":"^1","features":[],"optional":false,"#,
                r#""default_features":true,"target":null,"kind":"normal"}],"cksum":"00","features":{},"yanked":false}"#,
                "\n"
            )
        );
    }

    #[test]
    fn index_paths_follow_the_length_of_the_name() {
        assert_eq!(["a", "AB", "abc", "Serde"].map(index_path), ["1/a", "2/ab", "3/a/abc", "se/rd/serde"]);
    }
}
