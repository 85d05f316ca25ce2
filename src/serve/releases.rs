//! The releases of a crate, as its served index file lists them, for people and for search.
//!
//! A crate may have thousands of releases with dozens of dependencies each. Of all rows only the head is read; what
//! stands behind it is read of the one release that somebody looks at.

use std::collections::BTreeMap;
use std::ops::Range;

use crateferry_store::{CrateName, LedgerError, MirrorReader, ReadError};
use serde::Deserialize;

/// What is served of a crate.
#[derive(Debug, Default)]
pub struct Releases {
    /// In the order of the index file.
    pub all: Vec<IndexRow>,
    /// Rows that are served, but of a form that is not known here.
    pub unreadable: usize,
    text: Vec<u8>,
}

/// The head of an index row. Rows that are served may lack any field but the first three.
#[derive(Debug, Deserialize)]
pub struct IndexRow {
    /// As this row spells it.
    pub name: String,
    /// The version.
    #[serde(rename = "vers")]
    pub version: String,
    /// SHA-256 of the crate file.
    #[serde(rename = "cksum")]
    pub checksum: String,
    /// Taken back by its author.
    #[serde(default)]
    pub yanked: Option<bool>,
    /// The oldest Rust that builds it.
    #[serde(default)]
    pub rust_version: Option<String>,
    /// When it was published.
    #[serde(default)]
    pub pubtime: Option<String>,
    /// Where its line lies in the text.
    #[serde(skip)]
    line: Range<usize>,
}

/// The rest of an index row.
#[derive(Debug, Default, Deserialize)]
pub struct Detail {
    /// What it depends on.
    #[serde(default)]
    pub deps: Vec<Dependency>,
    /// What can be switched on, and what that brings.
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
    /// More of these.
    #[serde(default)]
    features2: Option<BTreeMap<String, Vec<String>>>,
    /// The native library that it links.
    #[serde(default)]
    pub links: Option<String>,
}

/// A dependency of a release.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// What it is called in the crate that depends.
    pub name: String,
    /// Which versions will do.
    pub req: String,
    /// Only with a feature.
    #[serde(default)]
    pub optional: bool,
    /// `normal`, `build` or `dev`.
    #[serde(default)]
    pub kind: Option<String>,
    /// Only for this target.
    #[serde(default)]
    pub target: Option<String>,
    /// The crate, where it is called otherwise.
    #[serde(default)]
    pub package: Option<String>,
    /// Another registry that it comes from.
    #[serde(default)]
    pub registry: Option<String>,
}

impl Releases {
    fn parse(text: Vec<u8>) -> Releases {
        let mut releases = Releases::default();
        let mut from = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let range = from..from + line.len();
            from = range.end + 1;
            match serde_json::from_slice(line) {
                Ok(row) => releases.all.push(IndexRow { line: range, ..row }),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => releases.unreadable += 1,
            }
        }
        Releases { text, ..releases }
    }

    /// The highest version that is not yanked and no pre-release; failing that, the highest of what there is.
    pub fn newest(&self) -> Option<&IndexRow> {
        self.all.iter().max_by_key(|row| {
            let version = semver::Version::parse(&row.version).ok();
            let stable = version.as_ref().is_some_and(|version| version.pre.is_empty());
            (!row.is_yanked(), stable, version)
        })
    }

    /// All rows, the highest version first; what is no semver version comes last.
    pub fn newest_first(&self) -> Vec<&IndexRow> {
        let mut rows: Vec<&IndexRow> = self.all.iter().collect();
        rows.sort_by_cached_key(|row| std::cmp::Reverse((semver::Version::parse(&row.version).ok(), &row.version)));
        rows
    }

    /// The rest of a row, if it can be read.
    pub fn detail(&self, row: &IndexRow) -> Option<Detail> {
        serde_json::from_slice(self.text.get(row.line.clone())?).ok()
    }
}

impl IndexRow {
    /// Taken back by its author.
    pub fn is_yanked(&self) -> bool {
        self.yanked == Some(true)
    }
}

impl Detail {
    /// The features in order of their names, `default` first.
    pub fn features(&self) -> Vec<(&str, &[String])> {
        let both = self.features.iter().chain(self.features2.iter().flatten());
        let mut features: Vec<(&str, &[String])> = both.map(|(name, brings)| (&**name, &**brings)).collect();
        features.sort_by_key(|(name, _)| (*name != "default", *name));
        features
    }
}

impl Dependency {
    /// The crate that is meant.
    pub fn crate_name(&self) -> &str {
        self.package.as_ref().unwrap_or(&self.name)
    }
}

/// A crate's index file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReleasesError {
    /// The catalog cannot be read.
    #[error("cannot look up crate {0}")]
    Catalog(CrateName, #[source] LedgerError),
    /// The text cannot be read.
    #[error("cannot read the index file of crate {0}")]
    Text(CrateName, #[source] ReadError),
}

/// Reads what is served of a crate; none if nothing is.
pub fn read(mirror: &MirrorReader, name: &CrateName) -> Result<Option<Releases>, ReleasesError> {
    let file = mirror.catalog.index_file(name).map_err(|error| ReleasesError::Catalog(name.clone(), error))?;
    let Some(file) = file else { return Ok(None) };
    let text = mirror.packs.text(file.place, file.digests.blake3);
    let text = text.map_err(|error| ReleasesError::Text(name.clone(), error))?;
    Ok(Some(Releases::parse(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(rows: &[(&str, bool)]) -> Releases {
        let row = |(version, yanked): &(&str, bool)| {
            format!("{{\"name\":\"a\",\"vers\":\"{version}\",\"cksum\":\"\",\"yanked\":{yanked},\"deps\":[]}}\n")
        };
        Releases::parse(rows.iter().map(row).collect::<String>().into_bytes())
    }

    #[test]
    fn the_newest_is_neither_yanked_nor_a_pre_release_if_there_is_a_choice() {
        let newest = |rows: &[(&str, bool)]| releases(rows).newest().map(|row| row.version.clone());
        assert_eq!(newest(&[("1.2.0", false), ("1.10.0", false), ("2.0.0", true)]).unwrap(), "1.10.0");
        assert_eq!(newest(&[("1.0.0", false), ("2.0.0-rc.1", false)]).unwrap(), "1.0.0");
        assert_eq!(newest(&[("2.0.0-rc.1", false), ("1.0.0", true)]).unwrap(), "2.0.0-rc.1");
        assert_eq!(newest(&[("1.0", true)]).unwrap(), "1.0");
        assert!(newest(&[]).is_none());
    }

    #[test]
    fn versions_are_ordered_as_versions_and_not_as_texts() {
        let releases = releases(&[("1.2.0", false), ("1.10.0", true), ("odd", false), ("1.10.0-rc.1", false)]);
        let order: Vec<&str> = releases.newest_first().iter().map(|row| &*row.version).collect();
        assert_eq!(order, ["1.10.0", "1.10.0-rc.1", "1.2.0", "odd"]);
    }

    #[test]
    fn rows_of_unknown_form_are_counted() {
        let releases =
            Releases::parse(b"{\"name\":1}\n\n{\"name\":\"a\",\"vers\":\"1.0.0\",\"cksum\":\"\"}\nx".to_vec());
        assert_eq!((releases.all.len(), releases.unreadable), (1, 2));
    }

    #[test]
    fn the_rest_of_a_row_is_read_from_its_own_line() {
        let text = concat!(
            "{\"name\":\"a\",\"vers\":\"1.0.0\",\"cksum\":\"\",\"features\":{\"b\":[],\"default\":[\"b\"]},\"kind\":null}\n",
            "{\"name\":\"a\",\"vers\":\"2.0.0\",\"cksum\":\"\",\"deps\":0}\n",
            "{\"name\":\"a\",\"vers\":\"3.0.0\",\"cksum\":\"\",\"deps\":[{\"name\":\"x\",\"package\":\"y\",\"req\":\"^1\",\
             \"kind\":null}],\"features2\":{\"a\":[\"dep:x\"]}}\n",
        );
        let releases = Releases::parse(text.into());
        let detail = |at: usize| releases.detail(&releases.all[at]);
        let features =
            |detail: &Detail| detail.features().iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(features(&detail(0).unwrap()), ["default", "b"]);
        assert!(detail(1).is_none(), "its dependencies are of a form that is not known");
        let third = detail(2).unwrap();
        assert_eq!((third.deps[0].crate_name(), features(&third)), ("y", vec!["a".to_owned()]));
    }
}
