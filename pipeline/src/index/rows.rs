//! What resolution looks at in an index file: versions, dependencies and features, as the registry index chapter of the
//! Cargo book has them.
//!
//! Most releases of a crate need what the one before it needed, so each different list is read and kept once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crateferry_store::{CrateName, Entry};
use semver::{Version, VersionReq};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The newest format of rows that cargo reads; it passes over newer ones.
const NEWEST_FORMAT: u32 = 2;

/// The releases of a crate that cargo could pick.
#[derive(Debug, Default)]
pub struct Rows {
    /// In the order of the file.
    pub releases: Vec<RowRelease>,
}

/// A release, as resolution sees it.
#[derive(Debug)]
pub struct RowRelease {
    /// Its version, as the index spells it.
    pub spelled: crateferry_store::Version,
    /// Its version.
    pub version: Version,
    /// Whether only a lock file can pick it.
    pub yanked: bool,
    /// What it depends on.
    pub needs: Arc<Needs>,
}

/// Dependencies and features of a release.
#[derive(Debug, Default)]
pub struct Needs {
    /// Dependencies on crates of the same registry, those for tests too.
    pub dependencies: Vec<Dependency>,
    /// Dependencies on crates of other registries, as registry and name.
    pub foreign: Vec<(String, String)>,
    /// Features, in order of their names, each with what it turns on.
    features: Vec<(Box<str>, Vec<Turns>)>,
}

/// A dependency on a crate.
#[derive(Debug)]
pub struct Dependency {
    /// What the manifest calls it.
    pub alias: Box<str>,
    /// The crate, in lower case.
    pub name: CrateName,
    /// The requirement on its version.
    pub requirement: VersionReq,
    /// Features of it that are asked for.
    pub features: Box<[Box<str>]>,
    /// Whether its default features are.
    pub default_features: bool,
    /// Whether it takes a feature to need it.
    pub optional: bool,
    /// Whether only tests, examples and benchmarks need it.
    pub dev: bool,
    /// The platform that it is for.
    pub target: Option<Box<str>>,
}

/// What a feature turns on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turns {
    /// Another feature, or an optional dependency by its name.
    Feature(Box<str>),
    /// An optional dependency.
    Dependency(Box<str>),
    /// A feature of a dependency, and the dependency. Cargo's resolution does not tell `a?/b` from `a/b`.
    Of(Box<str>, Box<str>),
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    deps: Option<&'a RawValue>,
    #[serde(borrow, default)]
    features: Option<&'a RawValue>,
    #[serde(borrow, default)]
    features2: Option<&'a RawValue>,
    #[serde(default)]
    v: Option<u32>,
}

#[derive(Deserialize)]
struct WireDependency<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    req: Cow<'a, str>,
    #[serde(default)]
    features: Vec<Box<str>>,
    #[serde(default)]
    optional: bool,
    #[serde(default = "yes")]
    default_features: bool,
    #[serde(borrow, default)]
    target: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    registry: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    package: Option<Cow<'a, str>>,
}

fn yes() -> bool {
    true
}

/// The lists of a row as they are written, to recognise them by.
type Written<'a> = (&'a str, &'a str, &'a str);

impl Rows {
    /// Reads rows of an index file. Those that cargo passes over are left out: other formats, versions and requirements that are
    /// not semver.
    pub fn read<'a>(entries: impl IntoIterator<Item = &'a Entry<'a>>) -> Rows {
        let mut seen: HashMap<Written<'_>, Option<Arc<Needs>>> = HashMap::new();
        let releases = entries.into_iter().filter_map(|entry| {
            let version = Version::parse(entry.version.as_str()).ok()?;
            let wire: Wire<'_> = serde_json::from_slice(entry.line).ok()?;
            if wire.v.is_some_and(|format| format > NEWEST_FORMAT) {
                return None;
            }
            let written = (raw(wire.deps), raw(wire.features), raw(wire.features2));
            let needs = seen.entry(written).or_insert_with(|| Needs::read(written).map(Arc::new)).clone()?;
            Some(RowRelease { spelled: entry.version.clone(), version, yanked: entry.yanked, needs })
        });
        Rows { releases: releases.collect() }
    }
}

fn raw(value: Option<&RawValue>) -> &str {
    value.map_or("null", RawValue::get)
}

impl Needs {
    fn read((dependencies, features, more): Written<'_>) -> Option<Needs> {
        let mut needs = Needs::default();
        let wire: Option<Vec<WireDependency<'_>>> = serde_json::from_str(dependencies).ok()?;
        for dependency in wire.into_iter().flatten() {
            needs.add(dependency)?;
        }
        let mut table: BTreeMap<Box<str>, Vec<Turns>> = BTreeMap::new();
        for text in [features, more] {
            let part: Option<BTreeMap<Box<str>, Vec<Cow<'_, str>>>> = serde_json::from_str(text).ok()?;
            for (name, values) in part.into_iter().flatten() {
                table.entry(name).or_default().extend(values.iter().map(|value| Turns::read(value)));
            }
        }
        needs.features = table.into_iter().collect();
        Some(needs)
    }

    fn add(&mut self, wire: WireDependency<'_>) -> Option<()> {
        let name = wire.package.as_ref().unwrap_or(&wire.name);
        if let Some(registry) = wire.registry {
            self.foreign.push((registry.into_owned(), name.clone().into_owned()));
            return Some(());
        }
        let name: CrateName = name.parse().ok()?;
        self.dependencies.push(Dependency {
            name: name.lower(),
            alias: wire.name.into(),
            requirement: wire.req.parse().ok()?,
            features: wire.features.into(),
            default_features: wire.default_features,
            optional: wire.optional,
            dev: wire.kind.is_some_and(|kind| kind == "dev"),
            target: wire.target.map(Into::into),
        });
        Some(())
    }

    /// The features' number.
    pub fn count(&self) -> usize {
        self.features.len()
    }

    /// What the feature with this number turns on.
    pub fn turns(&self, feature: usize) -> &[Turns] {
        &self.features[feature].1
    }

    /// The number of a feature.
    pub fn feature(&self, name: &str) -> Option<usize> {
        self.features.binary_search_by(|(known, _)| (**known).cmp(name)).ok()
    }

    /// The places of the dependencies that the manifest calls so.
    pub fn called<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_called = move |(at, dependency): (usize, &Dependency)| (*dependency.alias == *alias).then_some(at);
        self.dependencies.iter().enumerate().filter_map(is_called)
    }

    /// Whether somebody can ask for a feature of this name.
    pub fn offers(&self, feature: &str) -> bool {
        feature == "default"
            || self.feature(feature).is_some()
            || self.called(feature).any(|at| self.dependencies[at].optional)
    }
}

impl Turns {
    fn read(text: &str) -> Turns {
        if let Some(dependency) = text.strip_prefix("dep:") {
            return Turns::Dependency(dependency.into());
        }
        match text.split_once('/') {
            Some((dependency, feature)) => {
                Turns::Of(dependency.strip_suffix('?').unwrap_or(dependency).into(), feature.into())
            }
            None => Turns::Feature(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crateferry_store::parse_index_file;

    use super::*;

    fn rows(lines: &[&str]) -> Rows {
        let text: Vec<String> = lines.iter().map(|line| line.replace("CK", &"0".repeat(64))).collect();
        let text = text.join("\n");
        Rows::read(&parse_index_file(&"a".parse().unwrap(), text.as_bytes()).entries)
    }

    #[test]
    fn a_row_tells_its_dependencies_and_features() {
        let rows = rows(&[
            r#"{"name":"a","vers":"1.0.0","cksum":"CK","yanked":true,"deps":[{"name":"renamed","package":"Real_Name","req":"^1","features":["f"],"optional":true,"default_features":false,"target":"cfg(unix)","kind":"normal"},{"name":"t","req":"*","kind":"dev"},{"name":"o","req":"*","registry":"https://other"}],"features":{"default":["one"],"one":["renamed/x","renamed?/y"]},"features2":{"two":["dep:renamed"]},"v":2}"#,
        ]);
        let [release] = &rows.releases[..] else { panic!("{rows:?}") };
        let needs = &release.needs;
        assert!(release.yanked && needs.dependencies[1].dev && !needs.dependencies[0].default_features);
        assert_eq!(needs.dependencies[0].name.as_str(), "real_name");
        assert_eq!(needs.foreign, [("https://other".to_owned(), "o".to_owned())]);
        let of = |feature: &str| Turns::Of("renamed".into(), feature.into());
        assert_eq!(needs.turns(needs.feature("one").unwrap()), [of("x"), of("y")]);
        assert_eq!(needs.turns(needs.feature("two").unwrap()), [Turns::Dependency("renamed".into())]);
        assert!(needs.offers("default") && needs.offers("renamed") && !needs.offers("three"));
    }

    #[test]
    fn what_cargo_passes_over_is_left_out_and_equal_lists_are_kept_once() {
        let rows = rows(&[
            r#"{"name":"a","vers":"1.0.0","cksum":"CK","deps":[],"features":{},"v":3}"#,
            r#"{"name":"a","vers":"not.semver","cksum":"CK","deps":[],"features":{}}"#,
            r#"{"name":"a","vers":"1.0.1","cksum":"CK","deps":[{"name":"b","req":"rubbish"}],"features":{}}"#,
            r#"{"name":"a","vers":"1.0.2","cksum":"CK","deps":[{"name":"b","req":"1"}],"features":null}"#,
            r#"{"name":"a","vers":"1.0.3","cksum":"CK","deps":[{"name":"b","req":"1"}],"features":null}"#,
            r#"{"name":"a","vers":"1.0.4","cksum":"CK"}"#,
        ]);
        let spelled: Vec<&str> = rows.releases.iter().map(|release| release.spelled.as_str()).collect();
        assert_eq!(spelled, ["1.0.2", "1.0.3", "1.0.4"]);
        assert!(Arc::ptr_eq(&rows.releases[0].needs, &rows.releases[1].needs));
    }
}
