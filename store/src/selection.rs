//! What a mirror wants, as it is stored in the mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{CrateName, Version};

/// The releases that a mirror wants. Selections are added up; a bare `sync` refreshes what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// The whole registry.
    pub all: bool,
    /// Yanked releases too.
    pub include_yanked: bool,
    /// What is wanted under no name.
    #[serde(flatten)]
    pub own: Set,
    /// What is wanted under a name, each by a project or a team.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<SetName, Set>,
}

/// Some releases, and roots that stand for all that they need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Set {
    /// Crates by lower-case name, each with the requirements on its version; any one of them lets a release in.
    pub crates: BTreeMap<CrateName, BTreeSet<String>>,
    /// Exact releases by lower-case crate name, wanted whether yanked or not.
    pub releases: BTreeMap<CrateName, BTreeSet<Version>>,
    /// Dependencies that are wanted with all that they depend on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roots: BTreeSet<Root>,
}

/// A dependency of a project, or a crate that any project may come to depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root {
    /// The crate, in lower case.
    pub name: CrateName,
    /// The requirement on its version.
    pub requirement: String,
    /// How much of what matches is wanted.
    pub closure: Closure,
    /// Which of its features may be asked for.
    #[serde(default)]
    pub features: Features,
    /// The target that it is a dependency on, as a manifest has it; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The targets that its own dependencies are wanted for; none for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub targets: BTreeSet<String>,
    /// What its tests and benchmarks need too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}

/// How many of the releases that fit a dependency are wanted with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closure {
    /// All that any resolution could pick.
    Full,
    /// The newest of each range of compatible versions.
    Newest,
}

/// Features of a crate that may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Features {
    /// Any.
    #[default]
    All,
    /// These.
    Named {
        /// The feature that is called `default` too.
        default: bool,
        /// The others.
        names: BTreeSet<String>,
    },
}

/// The name of a set: letters, digits, dashes, underscores and dots, not longer than 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName(String);

impl FromStr for SetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with(['-', '.']) {
            return Ok(SetName(text.to_owned()));
        }
        Err(format!("{text:?} is no name for a set: it may have letters, digits, '-', '_' and '.', up to 64 of them"))
    }
}

impl TryFrom<String> for SetName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SetName> for String {
    fn from(name: SetName) -> String {
        name.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Selection {
    /// Nothing is selected.
    pub fn is_empty(&self) -> bool {
        !self.all && self.every_set().all(Set::is_empty)
    }

    /// Adds what another selection wants. A set takes the place of the one that had its name.
    pub fn add(&mut self, other: &Selection) {
        self.all |= other.all;
        self.include_yanked |= other.include_yanked;
        self.own.add(&other.own);
        self.sets.extend(other.sets.iter().map(|(name, set)| (name.clone(), set.clone())));
    }

    /// The crates that are selected by name, in lower case and in order.
    pub fn names(&self) -> Vec<CrateName> {
        let names = self.every_set().flat_map(Set::names);
        names.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    /// Whether something is wanted with all that it depends on, so that what is wanted depends on more than names.
    pub fn has_roots(&self) -> bool {
        !self.all && self.every_set().any(|set| !set.roots.is_empty())
    }

    /// What is wanted under no name, and then each set.
    pub fn every_set(&self) -> impl Iterator<Item = &Set> {
        std::iter::once(&self.own).chain(self.sets.values())
    }
}

impl Set {
    /// Nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.crates.is_empty() && self.releases.is_empty() && self.roots.is_empty()
    }

    /// Adds what another set wants.
    pub fn add(&mut self, other: &Set) {
        for (name, requirements) in &other.crates {
            self.crates.entry(name.clone()).or_default().extend(requirements.iter().cloned());
        }
        for (name, versions) in &other.releases {
            self.releases.entry(name.clone()).or_default().extend(versions.iter().cloned());
        }
        self.roots.extend(other.roots.iter().cloned());
    }

    fn names(&self) -> impl Iterator<Item = &CrateName> {
        let roots = self.roots.iter().map(|root| &root.name);
        self.crates.keys().chain(self.releases.keys()).chain(roots)
    }
}
