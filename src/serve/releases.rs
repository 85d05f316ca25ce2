//! The releases of a crate, as its served index file lists them, for people and for search.

use crateferry_store::{CrateName, LedgerError, MirrorReader, ReadError};
use serde::Deserialize;

/// What is served of a crate.
pub struct Releases {
    /// In the order of the index file.
    pub all: Vec<IndexRow>,
}

/// The fields of an index row that people are shown. Rows that are served may lack any but the first three.
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
    /// What it depends on.
    #[serde(default)]
    pub deps: Vec<Dependency>,
    /// What can be switched on, and what that brings.
    #[serde(default)]
    pub features: std::collections::BTreeMap<String, Vec<String>>,
    /// More of these.
    #[serde(default)]
    pub features2: Option<std::collections::BTreeMap<String, Vec<String>>>,
    /// Taken back by its author.
    #[serde(default)]
    pub yanked: Option<bool>,
    /// The oldest Rust that builds it.
    #[serde(default)]
    pub rust_version: Option<String>,
    /// When it was published.
    #[serde(default)]
    pub pubtime: Option<String>,
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
}

impl Releases {
    /// The highest version that is not yanked and no pre-release; failing that, the highest of what there is.
    pub fn newest(&self) -> Option<&IndexRow> {
        self.all.iter().max_by_key(|row| {
            let version = semver::Version::parse(&row.version).ok();
            let stable = version.as_ref().is_some_and(|version| version.pre.is_empty());
            (row.yanked != Some(true), stable, version)
        })
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
    let rows = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(Some(Releases { all: rows.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_neither_yanked_nor_a_pre_release_if_there_is_a_choice() {
        let row = |version: &str, yanked: bool| {
            let json =
                format!(r#"{{"name":"a","vers":"{version}","cksum":"","yanked":{yanked},"deps":[],"kind":null}}"#);
            serde_json::from_str::<IndexRow>(&json).unwrap()
        };
        let newest = |all: Vec<IndexRow>| Releases { all }.newest().map(|row| row.version.clone());
        assert_eq!(newest(vec![row("1.2.0", false), row("1.10.0", false), row("2.0.0", true)]).unwrap(), "1.10.0");
        assert_eq!(newest(vec![row("1.0.0", false), row("2.0.0-rc.1", false)]).unwrap(), "1.0.0");
        assert_eq!(newest(vec![row("2.0.0-rc.1", false), row("1.0.0", true)]).unwrap(), "2.0.0-rc.1");
        assert_eq!(newest(vec![row("1.0", true)]).unwrap(), "1.0");
        assert!(newest(Vec::new()).is_none());
    }
}
