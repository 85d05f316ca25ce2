//! What a mirror wants, as it is stored in the mirror.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Crates by lower-case name, each with the requirements on its version; any one of them lets a release in.
    pub crates: BTreeMap<CrateName, BTreeSet<String>>,
    /// Exact releases by lower-case crate name, wanted whether yanked or not.
    pub releases: BTreeMap<CrateName, BTreeSet<Version>>,
}

impl Selection {
    /// Nothing is selected.
    pub fn is_empty(&self) -> bool {
        !self.all && self.crates.is_empty() && self.releases.is_empty()
    }

    /// Adds what another selection wants.
    pub fn add(&mut self, other: &Selection) {
        self.all |= other.all;
        self.include_yanked |= other.include_yanked;
        for (name, requirements) in &other.crates {
            self.crates.entry(name.clone()).or_default().extend(requirements.iter().cloned());
        }
        for (name, versions) in &other.releases {
            self.releases.entry(name.clone()).or_default().extend(versions.iter().cloned());
        }
    }

    /// The crates that are selected by name, in lower case and in order.
    pub fn names(&self) -> Vec<CrateName> {
        self.crates.keys().chain(self.releases.keys()).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}
